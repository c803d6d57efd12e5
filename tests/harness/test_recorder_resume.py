"""Who goes on after a crash, and from where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.frames import Frame
from harness.recorder.resume import RESUME_NS_MAX, cut_off, go_on
from harness.recorder.settings import Settings
from harness.recording import RecordingWriter
from harness.recording.recovery import Recovered
from harness.sources.synth import make

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = "wss://stream.binance.com:9443"
STREAM = "btcusdt@aggTrade"
ROWS = list(make(frames=50))
LAST_ID, END_NS = 3_120_000_050, ROWS[-1].received_at_ns


def left(path: Path, rows: list[Frame], endpoint: str = ENDPOINT) -> Recovered:
    with RecordingWriter(path) as writer:
        writer.write(rows)
    return Recovered(journal=path, recordings=[path], endpoint=endpoint)


def settings(*streams: str) -> Settings:
    return Settings(streams=streams or (STREAM,), endpoint=ENDPOINT)


def test_a_recorder_goes_on_after_the_newest_id_that_a_crash_left(tmp_path: Path) -> None:
    """A backfilled trade stands last and is not the newest; the newest may stand in another recording."""
    older = left(tmp_path / "a.parquet", [*ROWS[:10], *ROWS[12:20], *ROWS[10:12]])
    newer = left(tmp_path / "b.parquet", [*ROWS[20:40], *ROWS[41:], ROWS[40]])
    for found in ([older, newer], [newer, older]):
        assert go_on(settings(), found, now_ns=END_NS).after == {STREAM: LAST_ID}


def test_only_streams_that_are_recorded_again_are_gone_on_with(tmp_path: Path) -> None:
    both = [*ROWS, *make(symbol="ETHUSDT", frames=5)]
    found = [left(tmp_path / "a.parquet", both)]
    assert set(cut_off(tmp_path / "a.parquet")) == {"BTCUSDT", "ETHUSDT"}
    assert go_on(settings(STREAM, "btcusdt@trade"), found, now_ns=END_NS).after == {STREAM: LAST_ID}


def test_another_exchange_or_a_crash_of_long_ago_is_not_gone_on_with(tmp_path: Path) -> None:
    here = left(tmp_path / "a.parquet", ROWS)
    there = left(tmp_path / "b.parquet", ROWS, endpoint="wss://stream.testnet.binance.vision")
    assert go_on(settings(), [there], now_ns=END_NS).after == {}
    assert go_on(settings(), [here], now_ns=END_NS + RESUME_NS_MAX).after == {STREAM: LAST_ID}
    assert go_on(settings(), [here], now_ns=END_NS + RESUME_NS_MAX + 1).after == {}


def test_a_recorder_that_closed_its_connection_was_stopped_and_is_over(tmp_path: Path) -> None:
    """A connection closed in a hand-over is none: its successor carries the symbol."""
    close = Frame(
        connection=1, kind="close", direction="sent", monotonic_ns=ROWS[20].monotonic_ns,
        received_at_ns=ROWS[20].received_at_ns,
    )  # fmt: skip
    left(tmp_path / "stopped.parquet", [*ROWS[:20], close, ROWS[20]])
    assert cut_off(tmp_path / "stopped.parquet") == {}
    second = [Frame(**{name: getattr(row, name) for name in row.__struct_fields__} | {"connection": 2}) for row in ROWS]
    left(tmp_path / "handed.parquet", [*ROWS[:20], second[20], close, *second[21:]])
    assert cut_off(tmp_path / "handed.parquet") == {"BTCUSDT": (LAST_ID, END_NS)}
