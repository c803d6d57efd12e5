"""Equal columns share their pages: smaller, and the same to every reader."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RecordingError
from harness.recording import RecordingWriter, open_recording
from harness.recording.sharing import SEAL, is_intact, share_equal_chunks
from harness.recording.verify import verify
from harness.sources import synth

if TYPE_CHECKING:
    from pathlib import Path


def parquet(table: pa.Table, **options: object) -> io.BytesIO:
    out = io.BytesIO()
    pq.write_table(table, out, **{"use_dictionary": False, **options})
    return out


def shared(whole: io.BytesIO) -> tuple[io.BytesIO, int]:
    out = io.BytesIO()
    saved = share_equal_chunks(whole, out)
    return out, saved


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none() | st.text(max_size=5)), max_size=60),
    st.integers(1, 20),
    st.integers(1, 25),
    st.booleans(),
)
def test_a_copy_holds_the_same_in_fewer_bytes(rows, copies, group_rows, dictionary):
    numbers, flags, words = ([row[column] for row in rows] for column in range(3))
    columns = {f"n{place}": pa.array(numbers, pa.int64()) for place in range(copies)}
    table = pa.table({**columns, "flag": pa.array(flags, pa.bool_()), "word": pa.array(words, pa.string())})
    table = table.replace_schema_metadata({"who": "it was"})
    whole = parquet(table, row_group_size=group_rows, use_dictionary=dictionary, write_page_checksum=True)
    copy, saved = shared(whole)
    again = pq.read_table(copy, page_checksum_verification=True)
    assert again.equals(table, check_metadata=True)
    assert is_intact(copy)
    seal = len(SEAL) + 32
    left_out = len(whole.getvalue()) + seal - saved - len(copy.getvalue())
    assert left_out >= 0
    if int(pa.__version__.partition(".")[0]) >= 18:  # before, what the footer says of a chunk stood behind it too
        assert left_out <= 16 * (copies + 3) * (len(rows) + 1), "offsets may take a byte fewer each, no more"
    assert (saved > 0) >= (copies > 1 and bool(rows))


def test_every_reader_reads_columns_that_share_their_pages(tmp_path: Path) -> None:
    frames = list(synth.make("normal", frames=3000, seed=3))
    path = tmp_path / "a.parquet"
    with RecordingWriter(path) as writer:
        writer.write(frames)
    recording = open_recording(path)
    sizes = recording.parts[0].column_bytes(0)
    assert sizes["received_at"] > 0
    assert sizes["monotonic_ns"] == 0
    assert sum(sizes.values()) < path.stat().st_size
    assert list(recording.frames()) == frames
    expected = [frame.received_at_ns for frame in frames]
    frame = pl.read_parquet(path)
    assert frame["monotonic_ns"].to_list() == frame["received_at"].cast(pl.Int64).to_list() == expected
    found = duckdb.sql(f"SELECT epoch_ns(received_at), monotonic_ns FROM '{path}' ORDER BY agg_trade_id").fetchall()
    assert found == [(at, at) for at in expected]
    assert verify(path) == []


def test_clocks_that_differ_are_kept_exact_each(tmp_path: Path) -> None:
    frames = list(synth.make("normal", frames=500, seed=3))
    frames[250:] = [
        msgspec.structs.replace(frame, received_at_ns=frame.received_at_ns - 3_600_000_000_001)
        for frame in frames[250:]
    ]
    with RecordingWriter(tmp_path / "a.parquet") as writer:
        writer.write(frames)
    recording = open_recording(tmp_path / "a.parquet")
    assert recording.parts[0].column_bytes(0)["monotonic_ns"] > 0
    assert list(recording.frames()) == frames


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "a.parquet"
    with RecordingWriter(path) as writer:
        writer.write(synth.make("normal", frames=300, seed=3))
    return path


@given(st.data())
def test_whatever_byte_is_damaged_verify_says_so(recorded, data):
    whole = recorded.read_bytes()
    seal = whole.index(SEAL)
    places = st.integers(0, len(whole) - 1).filter(lambda place: not seal <= place < seal + len(SEAL))
    place = data.draw(places)
    damaged = bytearray(whole)
    damaged[place] ^= data.draw(st.integers(1, 255))
    path = recorded.with_name("damaged.parquet")
    path.write_bytes(damaged)
    try:
        problems = verify(path)
    except RecordingError:
        return  # it does not even open, and says why
    assert [problem.severity for problem in problems][:1] == ["broken"]


def test_damage_is_told_with_its_rows_and_its_column(recorded: Path) -> None:
    about = pq.ParquetFile(recorded).metadata.row_group(0)
    price = next(about.column(n) for n in range(about.num_columns) if about.column(n).path_in_schema == "price")
    damaged = bytearray(recorded.read_bytes())
    damaged[price.data_page_offset + price.total_compressed_size - 1] ^= 1
    path = recorded.with_name("price.parquet")
    path.write_bytes(damaged)
    (problem,) = verify(path)
    assert problem.row == 1
    assert problem.text == "row group 0 (rows 1 to 300) is damaged in price"
    with pytest.raises(RecordingError, match="row group 0 is damaged"):
        list(open_recording(path).frames())
