"""Names of recordings: told apart by people, and legal on every file system."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.clock import NS_PER_S
from harness.frames import Frame, wrap
from harness.recorder.settings import make_settings
from harness.recording import RecordingWriter
from harness.recording.journal import SUFFIX, Header, Journal
from harness.recording.names import partition, recording_name, stream_of
from harness.recording.recovery import recover
from harness.sources import synth

if TYPE_CHECKING:
    from pathlib import Path

AT_NS = 1_767_512_473 * NS_PER_S
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
words = st.text(max_size=300)


def assert_legal(name: str) -> None:
    # https://learn.microsoft.com/windows/win32/fileio/naming-a-file
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
    assert not name.endswith((".", " "))
    assert name.partition(".")[0].lower() not in RESERVED
    assert len(f".{name}{SUFFIX}.4194304.long.part".encode()) <= 255
    assert PureWindowsPath(name).name == name


@given(words, st.lists(words, max_size=5), st.lists(words, max_size=5), st.integers(0, 4_000_000_000))
def test_any_words_make_a_name_that_is_legal_on_windows(source, symbols, channels, seconds):
    name = recording_name(source, symbols, channels, seconds * NS_PER_S)
    assert_legal(name)
    assert re.fullmatch(r"[^_]*_[^_]*_[^_]*_\d{8}T\d{6}Z\.parquet", name)


@given(words, st.integers(0, 4_000_000_000))
def test_any_symbol_makes_a_folder_that_is_legal_and_leads_nowhere_else(symbol, seconds):
    first, second = partition(symbol, seconds * NS_PER_S).split("/")
    assert_legal(first)
    assert re.fullmatch(r"date=\d{4}-\d\d-\d\d", second)


@pytest.mark.parametrize(
    ("symbols", "channels", "market", "name"),
    [
        (["btcusdt"], ["aggTrade"], "spot", "binance_btcusdt_aggTrade_20260104T074113Z.parquet"),
        (["btcusdt", "ethusdt"], ["trade"], "um", "binance-um_btcusdt-ethusdt_trade_20260104T074113Z.parquet"),
        (["a", "b", "c", "d"], ["trade"], "spot", "binance_a-b-2more_trade_20260104T074113Z.parquet"),
        (["btcusdt"], ["depth@100ms", "trade"], "spot", "binance_btcusdt_depth-100ms-trade_20260104T074113Z.parquet"),
        (["!miniTicker@arr"], ["trade"], "spot", "binance_all_-miniTicker-arr_20260104T074113Z.parquet"),
    ],
)
def test_what_a_recorder_calls_its_recordings(symbols, channels, market, name):
    assert make_settings(symbols, channels=channels, market=market).name(AT_NS) == name


@pytest.mark.parametrize(
    ("data", "stream"),
    [
        (b'{"stream":"btcusdt@depth","data":{}}', "btcusdt@depth"),
        (b'{"e":"aggTrade","E":1,"s":"BTCUSDT"}', "btcusdt@aggTrade"),
        (wrap("ethusdt@aggTrade", b'{"e":"aggTrade","s":"ETHUSDT"}'), "ethusdt@aggTrade"),
        (b'{"result":null,"id":1}', ""),
        (b"\xff\xfe", ""),
    ],
)
def test_the_stream_a_frame_names(data, stream):
    assert stream_of(data) == stream


def test_an_import_into_a_folder_is_named_after_what_it_holds(tmp_path: Path, capsys) -> None:
    tape = tmp_path / "tape.parquet"
    with RecordingWriter(tape) as writer:
        writer.write(synth.make("normal", symbol="ethusdt", frames=50, seed=3))
    lines = tmp_path / "my_capture.jsonl"
    assert main(["export", str(tape), "--to", "jsonl", "--out", str(lines)]) == 0
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["import", str(lines), "--out", str(out)]) == 0
    name = "my-capture_ethusdt_aggTrade_20260104T074113Z.parquet"
    assert [path.name for path in out.iterdir()] == [name]
    assert capsys.readouterr().out.startswith(f"{out / name}\n")
    before = (out / name).read_bytes()
    assert main(["import", str(lines), "--out", str(out)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_bytes() == before


def test_a_symbol_that_looks_like_a_path_stays_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tapes"
    folder.mkdir()
    header = Header(target="a.parquet", identity="a", endpoint="", symbols=("A", "B"), partitioned=True)
    journal = Journal(folder / f"a.parquet{SUFFIX}", header)
    journal.append([Frame(connection=1, received_at_ns=AT_NS, data=b'{"e":"trade","s":"/../../../evil"}')])
    journal.close()
    (made,) = recover(folder)
    assert made == folder / "symbol=-EVIL" / "date=2026-01-04" / "a.parquet"
    assert [path.name for path in tmp_path.iterdir()] == ["tapes"]
