"""The public archive by the block: what comes of it is what its lines give one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import RecordingError
from harness.frames.trades import Trades
from harness.recording import RecordingWriter, open_recording
from harness.recording import writer as writer_module
from harness.sources import archive, import_file

if TYPE_CHECKING:
    from pathlib import Path

    from harness.frames import Frame
    from harness.sources import Capture

HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
decimals = st.decimals(min_value=0, max_value=10**7, places=8).map("{:.8f}".format) | st.sampled_from(
    ["1", "0.1", "9999999999.99999999", "10000000000", "0.000000001", "1e-05", "-1.5"]
)
times = st.integers(10**12, 2**63 // 10**6) | st.integers(10**15, 2**63 // 10**3)
rows = st.tuples(
    st.sampled_from([1] * 6 + [0, 2, 500, -3]), decimals, decimals, st.integers(-1, 10**9), times,
    st.sampled_from(["True", "False", "true", "false", "TRUE", " True"]),
)  # fmt: skip


def text_of(steps: list[tuple], *, header: bool, spot: bool) -> str:
    # A file is recognised by its first line.
    number, lines = (
        3_000_000_000,
        [HEADER if header else f"2999999999,1.0,1.0,1,1,{10**12},True{',True' if spot else ''}"],
    )
    for step, price, quantity, first, at, maker in steps:
        number += step
        lines.append(f"{number},{price},{quantity},{first},{first + 3},{at},{maker}{',True' if spot else ''}")
    return "\n".join(lines) + "\n"


def account(capture: Capture) -> tuple[list[Frame], int, dict[str, int], list[str]]:
    frames = list(capture.frames)
    return frames, capture.tally.taken, capture.tally.skipped, sorted(capture.tally.remarks)


@given(
    steps=st.lists(rows, min_size=1, max_size=30), header=st.booleans(), spot=st.booleans(), block=st.integers(1, 600)
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_of_lines_become_the_frames_that_the_lines_become(tmp_path, steps, header, spot, block) -> None:
    path = tmp_path / "BTCUSDT-aggTrades-2026-01-04.csv"
    path.write_text(text_of(steps, header=header, spot=spot))
    with mock.patch.object(archive, "BLOCK_BYTES", block):
        found = account(import_file(path))
    with mock.patch.object(archive, "_columns", lambda *_: None):
        assert found == account(import_file(path))


@pytest.mark.parametrize("bad", ["1,2,3", "x,1.0,1.0,1,1,1498793709153,True,True", "2,one,1.0,1,1,1498793709153,True"])
def test_a_bad_line_is_named_by_its_number_whatever_block_it_is_in(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "BTCUSDT-aggTrades-2026-01-04.csv"
    lines = [f"{n},1.0,1.0,{n},{n},1498793709153,True,True" for n in range(100)]
    path.write_text("\n".join([*lines[:60], bad, *lines[60:]]))
    with mock.patch.object(archive, "BLOCK_BYTES", 300):
        if bad.startswith("x"):  # nothing but a header begins with a letter
            capture = import_file(path)
            assert len(list(capture.frames)) == 100
            assert capture.tally.first_place == {"the header": 61}
        else:
            with pytest.raises(RecordingError, match=r"04\.csv:61: found "):
                list(import_file(path).frames)


@given(sizes=st.lists(st.integers(0, 40), max_size=8), group=st.integers(20, 60))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_trades_in_columns_are_written_as_the_frames_that_they_are(tmp_path, sizes, group) -> None:
    """Blocks and single frames by turns, across the borders of row groups."""
    count = sum(sizes) + 1
    source = tmp_path / "BTCUSDT-aggTrades-2026-01-04.csv"
    source.write_text("".join(f"{n},1.{n:04},2.0,{n},{n},{1498793709153 + n},True\n" for n in range(count)))
    (every,) = import_file(source).pieces
    assert isinstance(every, Trades)
    pieces: list[Frame | Trades] = []
    for size in sizes:
        part, every = every[:size], every[size:]
        pieces += [part] if size % 2 else part.frames()
    pieces.append(every)
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
    with mock.patch.object(writer_module, "ROW_GROUP", group), RecordingWriter(path) as writer:
        writer.write(pieces)
    recording = open_recording(path)
    assert list(recording.frames()) == list(import_file(source).frames)
    assert [part.group_rows(number) for part, number in recording.groups()][:-1] == [group] * ((count - 1) // group)
    assert recording.metadata.frame_count == count
