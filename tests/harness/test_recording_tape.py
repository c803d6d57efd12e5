"""Where frames lie on the tape: distances by the steady clock, the beginning by the wall clock."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from harness.clock import NS_PER_S
from harness.exchange import wire
from harness.exchange.tape import Shape, Tape
from harness.frames import AggTrade, Frame, move_times, render_agg_trade, wrap
from harness.recording import RecordingWriter, load_timeline, store
from harness.recording import writer as writer_module
from harness.recording.verify import verify
from harness.strategies import recordings

if TYPE_CHECKING:
    from pathlib import Path

    from harness.timeline import Mark

WALL = 1_767_512_473 * NS_PER_S


def trade(number: int, *, connection: int = 1, wall_s: float = 0.0, steady_s: float = 0.0, detail: str = "") -> Frame:
    """One trade, received so long after the beginning by each clock."""
    payload = render_agg_trade(
        AggTrade(
            event_ms=(WALL + int(wall_s * NS_PER_S)) // 1_000_000,
            symbol="BTCUSDT",
            agg_trade_id=number,
            price=Decimal("91350.02"),
            quantity=Decimal("0.001"),
            first_trade_id=number,
            last_trade_id=number,
            trade_ms=(WALL + int(wall_s * NS_PER_S)) // 1_000_000,
            is_buyer_maker=False,
        )
    )
    return Frame(
        connection=connection,
        received_at_ns=WALL + int(wall_s * NS_PER_S),
        monotonic_ns=int(steady_s * NS_PER_S),
        data=payload,
        detail=detail,
    )


def tape(folder: Path, *frames: Frame) -> list[tuple[int, float]]:
    """Ids and due times in seconds."""
    writer = RecordingWriter(folder / "a.parquet")
    writer.write(frames)
    writer.close()
    timeline = load_timeline([folder / "a.parquet"])
    return list(zip(timeline.trade_ids.tolist(), (timeline.due_ns / NS_PER_S).tolist(), strict=True))


def test_a_wall_clock_that_was_set_back_does_not_tear_the_tape(tmp_path: Path):
    frames = [trade(1), trade(2, wall_s=-3600, steady_s=1), trade(3, wall_s=-3599, steady_s=2)]
    assert tape(tmp_path, *frames) == [(1, 0.0), (2, 1.0), (3, 2.0)]


def test_connections_under_one_steady_clock_keep_the_order_in_which_they_were_received(tmp_path: Path):
    """The new connection of a hand-over is placed by the same clock, however far the wall clock has drifted."""
    frames = [
        trade(1, steady_s=5),
        trade(2, wall_s=1, steady_s=6),
        trade(3, connection=2, wall_s=1.2, steady_s=7),
        trade(4, wall_s=3, steady_s=8),
    ]
    assert tape(tmp_path, *frames) == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]


def test_a_connection_under_a_steady_clock_of_its_own_begins_where_the_wall_clock_says(tmp_path: Path):
    """Two captures imported into one recording: the second one's clock begins again."""
    frames = [
        trade(1),
        trade(2, wall_s=10, steady_s=10),
        trade(3, connection=1001, wall_s=60),
        trade(4, connection=1001, wall_s=61.5, steady_s=1.5),
    ]
    assert tape(tmp_path, *frames) == [(1, 0.0), (2, 10.0), (3, 60.0), (4, 61.5)]


@pytest.mark.parametrize("apart_s", [0.5, 3600])
def test_the_next_file_of_a_folder_may_come_from_another_machine(tmp_path: Path, apart_s: float):
    for name, frames in {
        "a": [trade(1, steady_s=100), trade(2, wall_s=1, steady_s=101)],
        "b": [trade(3, wall_s=1 + apart_s, steady_s=7), trade(4, wall_s=2 + apart_s, steady_s=8)],
    }.items():
        with RecordingWriter(tmp_path / f"{name}.parquet") as writer:
            writer.write(frames)
    timeline = load_timeline([tmp_path])
    assert timeline.trade_ids.tolist() == [1, 2, 3, 4]
    assert (timeline.due_ns / NS_PER_S).tolist() == [0.0, 1.0, 1.0 + apart_s, 2.0 + apart_s]


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(rows=recordings(size_max=25))
def test_a_sound_recording_verifies_and_its_tape_is_its_data_frames_on_time(tmp_path: Path, rows: list[Frame]):
    path = tmp_path / "a.parquet"
    path.unlink(missing_ok=True)
    with RecordingWriter(path) as writer:
        writer.write(rows)
    assert verify(path) == []
    timeline = load_timeline([path])
    data = [row for row in rows if row.kind == "text"]
    assert list(timeline.payloads(0, len(timeline))) == [row.data for row in data]
    assert timeline.due_ns.tolist() == [row.monotonic_ns - data[0].monotonic_ns for row in data]
    for mark in timeline.marks:
        assert mark.frame == sum(row.kind == "text" for row in rows[: rows.index(_row_of(mark.kind, mark, rows))])


def _row_of(kind: str, mark: Mark, rows: list[Frame]) -> Frame:
    return next(row for row in rows if row.kind == kind and row.connection == mark.connection)


@pytest.mark.parametrize(
    "layouts",
    [["typed"], ["raw"], ["wrapped"], ["raw", "typed", "wrapped"], ["short"], ["short", "raw"], ["short", "typed"]],
    ids="-".join,
)
def test_frames_go_out_alike_from_columns_and_from_raw_bytes(tmp_path, layouts):
    """However a frame is kept, the tape moves its times as its bytes say, takes the wrapper off, and frames it."""
    frames, plain = [], []
    for number in range(12):
        frame = trade(number, steady_s=number / 10, wall_s=number / 10)
        layout = layouts[number % len(layouts)]
        data = frame.data if layout == "typed" else frame.data[:-1] + b',"x":1}'
        if layout == "short":
            data = b'{"e":"trade","s":"BTCUSDT","T":1767512473000}'
        plain.append(data)
        frames.append(
            msgspec.structs.replace(frame, data=wrap("btcusdt@aggTrade", data) if layout == "wrapped" else data)
        )
    writer = RecordingWriter(tmp_path / "a.parquet")
    writer.write(frames)
    writer.close()
    timeline = load_timeline([tmp_path / "a.parquet"])
    assert list(timeline.payloads(0, 12)) == plain
    moved = [move_times(data, 5000) for data in plain]
    assert list(timeline.retimed(5000).payloads(0, 12)) == moved
    assert moved[0] != plain[0]
    for tape, payloads in [(timeline, plain), (timeline.retimed(5000), moved)]:
        blocks = Tape(tape, 1).frames(3, 11, Shape())
        assert b"".join(blocks) == b"".join(wire.frame(wire.TEXT, payload) for payload in payloads[3:11])


@pytest.mark.parametrize("layouts", ["r" * 40, "t" * 40, "r" * 20 + "t" * 20, "rt" * 20, "w" * 20 + "r" * 20])
def test_raw_rows_are_the_same_wherever_a_reader_begins_and_goes(tmp_path, monkeypatch, layouts):
    monkeypatch.setattr(store, "BLOCK_ROWS", 4)
    monkeypatch.setattr(store, "RAW_BYTES", 0)
    monkeypatch.setattr(store, "HELD_BYTES", 1)
    monkeypatch.setattr(store, "GROUPS_HELD", 1)
    monkeypatch.setattr(writer_module, "ROW_GROUP", 16)
    plain, frames = [], []
    for number, layout in enumerate(layouts):
        frame = trade(number, steady_s=number, wall_s=number)
        plain.append(frame.data if layout == "t" else frame.data[:-1] + b',"x":1}')
        kept = wrap("btcusdt@aggTrade", plain[-1]) if layout == "w" else plain[-1]
        frames.append(msgspec.structs.replace(frame, data=kept))
    with RecordingWriter(tmp_path / "a.parquet") as writer:
        writer.write(frames)
    timeline = load_timeline([tmp_path / "a.parquet"])
    for first, last in [(0, 40), (0, 7), (7, 20), (30, 40), (3, 5), (39, 40), (12, 36), (0, 1)]:
        assert list(timeline.payloads(first, last)) == plain[first:last]
        assert list(timeline.retimed(5000).payloads(first, last)) == [
            move_times(payload, 5000) for payload in plain[first:last]
        ]


def test_where_recordings_overlap_a_trade_is_on_the_tape_once(tmp_path):
    """Two recorders heard the same market, and one of the files lies there a second time."""
    for name, numbers, late_s in (("a", range(1, 11), 0.0), ("b", range(6, 16), 0.003), ("copy", range(1, 11), 0.0)):
        with RecordingWriter(tmp_path / f"{name}.parquet") as writer:
            writer.write(trade(n, wall_s=n / 10 + late_s, steady_s=n / 10 + late_s) for n in numbers)
    timeline = load_timeline([tmp_path])
    assert timeline.trade_ids.tolist() == list(range(1, 16))
    assert [payload.count(b'"a":') for payload in timeline.payloads(0, 15)] == [1] * 15


def test_what_one_recording_holds_twice_was_received_twice_and_is_played_twice(tmp_path):
    for name, numbers in (("a", (1, 2, 2, 3)), ("b", (3, 4, 4))):
        with RecordingWriter(tmp_path / f"{name}.parquet") as writer:
            writer.write(trade(n, wall_s=n / 10, steady_s=n / 10) for n in numbers)
    assert load_timeline([tmp_path]).trade_ids.tolist() == [1, 2, 2, 3, 4, 4]
    assert load_timeline([tmp_path / "a.parquet"]).trade_ids.tolist() == [1, 2, 2, 3]


def test_trades_of_two_symbols_may_have_the_same_numbers(tmp_path):
    for name in ("BTCUSDT", "ETHUSDT"):
        with RecordingWriter(tmp_path / f"{name}.parquet") as writer:
            rows = (trade(n, wall_s=n / 10, steady_s=n / 10) for n in range(1, 4))
            writer.write(msgspec.structs.replace(row, data=row.data.replace(b"BTCUSDT", name.encode())) for row in rows)
    assert load_timeline([tmp_path]).trade_ids.tolist() == [1, 1, 2, 2, 3, 3]
