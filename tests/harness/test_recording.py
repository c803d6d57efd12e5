"""Reading a recording gives back exactly what was received."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, RecordingError
from harness.frames import Frame, split_wrapped, wrap
from harness.recording import SCHEMA, RecordingWriter, load_timeline, open_recording
from harness.recording import writer as writer_module
from harness.recording.table import to_frames, to_payloads, to_table
from harness.recording.verify import verify
from harness.sources import import_file
from harness.sources.synth import make
from tests.frame_strategies import frames

COUNT = 3000


def written(path, rows, **about):
    with RecordingWriter(path, **about) as writer:
        writer.write(rows)
    return open_recording(path)


@given(st.lists(frames(), max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_frames_come_back_as_they_were(rows):
    assert to_frames(to_table(rows)) == rows


@given(rows=st.lists(frames(), min_size=1, max_size=20))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_any_frames_come_back_from_a_file(tmp_path, rows):
    path = tmp_path / "any.parquet"
    path.unlink(missing_ok=True)
    recording = written(path, rows)
    assert list(recording.frames()) == rows
    assert recording.metadata.frame_count == len(rows)


def test_raw_is_stored_only_where_the_columns_do_not_render_the_bytes(tmp_path):
    trade = next(make(frames=1)).data
    wrapped = wrap("btcusdt@aggTrade", trade)
    odd = trade.replace(b'","a"', b'", "a"')
    recording = written(tmp_path / "a.parquet", [Frame(connection=1, data=d) for d in (trade, wrapped, odd)])
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["raw"].to_pylist() == [None, None, odd]
    assert table["stream"].to_pylist() == [None, "btcusdt@aggTrade", None]
    assert table["agg_trade_id"].to_pylist() == [3_120_000_001] * 3
    assert [frame.data for frame in recording.frames()] == [trade, wrapped, odd]


def test_other_readers_find_the_columns_of_the_contract(tmp_path):
    written(tmp_path / "a.parquet", make(frames=10), symbols=["btcusdt"], source="synthetic")
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == SCHEMA.names
    assert str(schema.field("received_at").type) == "timestamp[ns, tz=UTC]"
    assert str(schema.field("price").type) == "decimal128(18, 8)"
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_row_groups_are_bounded_and_order_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "ROW_GROUP", 100)
    rows = list(make(frames=250))
    recording = written(tmp_path / "a.parquet", rows)
    assert [part.group_rows(group) for part, group in recording.groups()] == [100, 100, 50]
    assert list(recording.frames()) == rows
    assert verify(tmp_path / "a.parquet") == []


def test_a_recording_is_never_overwritten(tmp_path):
    written(tmp_path / "a.parquet", make(frames=3))
    before = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(RecordingError, match="never overwritten"):
        RecordingWriter(tmp_path / "a.parquet")
    late = RecordingWriter(tmp_path / "b.parquet")
    (tmp_path / "b.parquet").write_bytes(b"somebody else's")
    with pytest.raises(RecordingError, match="appeared meanwhile"):
        late.close()
    assert (tmp_path / "a.parquet").read_bytes() == before
    assert (tmp_path / "b.parquet").read_bytes() == b"somebody else's"


def test_what_is_given_up_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), RecordingWriter(tmp_path / "a.parquet") as writer:
        writer.write(make(frames=3))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_large_frames_make_small_row_groups_so_that_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.recording.writer.ROW_GROUP_BYTES", 10_000)
    rows = list(make("normal", frames=300))
    recording = written(tmp_path / "a.parquet", rows)
    sizes = [sum(map(len, to_payloads(part.read(group)))) for part, group in recording.groups()]
    assert len(sizes) > 3
    assert max(sizes) < 10_000 + 200
    assert list(recording.frames()) == rows
    assert verify(tmp_path / "a.parquet") == []


@pytest.mark.parametrize("cut", [0, 3, 100, 5000, -1])
def test_a_torn_recording_gets_one_clear_sentence(tmp_path, cut):
    written(tmp_path / "a.parquet", make(frames=1000))
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(whole[:cut])
    with pytest.raises(RecordingError) as caught:
        open_recording(tmp_path / "torn.parquet")
    assert "torn.parquet: is " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", range(0, 9000, 450))
def test_damage_anywhere_is_found(tmp_path, place):
    path = tmp_path / "a.parquet"
    written(path, make(frames=1000))
    damaged = bytearray(path.read_bytes())
    damaged[4 + place] ^= 0x10
    path.write_bytes(bytes(damaged))
    try:
        problems = verify(path)
    except HarnessError:
        return
    assert [problem.severity for problem in problems][:1] == ["broken"]
    assert problems[0].row >= 1


def test_verify_tells_holes_apart_by_whether_the_recording_says_so(tmp_path):
    rows = list(make(frames=30))
    gap = Frame(
        connection=1,
        kind="gap",
        received_at_ns=rows[10].received_at_ns,
        monotonic_ns=rows[10].monotonic_ns,
        detail="x: ids 3120000011 to 3120000012 missing",
    )
    written(tmp_path / "a.parquet", [*rows[:10], gap, *rows[12:20], *rows[21:], rows[25]])
    problems = verify(tmp_path / "a.parquet")
    assert [(problem.severity, problem.row) for problem in problems if problem.severity != "broken"] == [
        ("told", 12), ("hole", 20), ("note", 29),
    ]  # fmt: skip
    assert any("3120000026 stands twice" in problem.text for problem in problems)
    assert any("steps back" in problem.text for problem in problems)


def test_a_hole_that_was_filled_in_part_is_told_as_far_as_it_was_told(tmp_path):
    rows = list(make(frames=40))
    words = "btcusdt@aggTrade: ids 3120000011 to 3120000020 missing"
    gap = Frame(connection=1, kind="gap", monotonic_ns=rows[10].monotonic_ns, detail=words)
    other = Frame(connection=1, kind="gap", monotonic_ns=rows[10].monotonic_ns, detail=words.replace("btc", "eth"))
    written(tmp_path / "a.parquet", [*rows[:10], gap, *rows[15:30]])
    written(tmp_path / "b.parquet", [*rows[:10], other, *rows[15:30]])
    assert [(p.severity, p.text[:46]) for p in verify(tmp_path / "a.parquet") if p.severity != "note"] == [
        ("told", "BTCUSDT trades 3120000011 to 3120000015 are mi")
    ]
    assert [p.severity for p in verify(tmp_path / "b.parquet") if p.severity != "note"] == ["hole"]


def test_what_was_traded_between_two_recorders_is_told_and_between_two_files_of_one_it_is_not(tmp_path):
    rows = list(make(frames=30))
    start = Frame(connection=1, kind="open", received_at_ns=rows[15].received_at_ns, monotonic_ns=rows[15].monotonic_ns)
    for folder, second in (("restarted", [start, *rows[15:]]), ("rotated", rows[15:])):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder / "a.parquet", rows[:10])
        written(tmp_path / folder / "b.parquet", second)
    (told,) = verify(tmp_path / "restarted")
    assert (told.severity, told.row) == ("told", 2)
    assert "3120000011 to 3120000015 are missing: nobody recorded between" in told.text
    (hole,) = verify(tmp_path / "rotated")
    assert (hole.severity, hole.row) == ("hole", 1)


def test_a_folder_is_read_in_order_of_time(tmp_path):
    rows = list(make(frames=30))
    for name, part in (("b", rows[:10]), ("a", rows[10:20]), ("date=2026-01-04/c", rows[20:])):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        written(path, part)
    assert list(open_recording(tmp_path).frames()) == rows
    assert verify(tmp_path) == []


class TestTimeline:
    def test_it_is_the_recording_on_time(self, tmp_path):
        rows = list(make(frames=500, seed=3))
        timeline = written(tmp_path / "a.parquet", rows).timeline(["btcusdt"])
        assert timeline.streams == ("btcusdt@aggTrade",)
        assert timeline.due_ns.tolist() == [row.monotonic_ns - rows[0].monotonic_ns for row in rows]
        assert list(timeline.payloads(0, 500)) == [row.data for row in rows]
        assert timeline.start_ms == 1_767_512_473_001

    def test_several_recordings_are_merged_by_wall_time(self, tmp_path):
        btc, eth = list(make(frames=200, seed=1)), list(make(symbol="ETHUSDT", frames=200, seed=2))
        written(tmp_path / "btc.parquet", btc)
        written(tmp_path / "eth.parquet", eth)
        timeline = load_timeline([tmp_path / "btc.parquet", tmp_path / "eth.parquet"])
        expected = [row.data for row in sorted([*btc, *eth], key=lambda row: row.received_at_ns)]
        assert list(timeline.payloads(0, 400)) == expected
        assert set(timeline.streams) == {"btcusdt@aggTrade", "ethusdt@aggTrade"}
        only = load_timeline([tmp_path / "btc.parquet", tmp_path / "eth.parquet"], ["ethusdt"])
        assert list(only.payloads(0, 200)) == [row.data for row in eth]

    def test_it_can_begin_in_the_middle(self, tmp_path):
        rows = list(make("normal", frames=300))
        written(tmp_path / "a.parquet", rows)
        timeline = load_timeline([tmp_path / "a.parquet"], from_ns=rows[100].monotonic_ns - rows[0].monotonic_ns)
        first = next(number for number, row in enumerate(rows) if row.monotonic_ns >= rows[100].monotonic_ns)
        assert timeline.payload(0) == rows[first].data
        assert timeline.due_ns[0] == 0

    def test_marks_stand_before_the_frame_that_follows(self, tmp_path):
        rows = list(make(frames=10))
        lost = Frame(
            connection=1, kind="lost", received_at_ns=rows[4].received_at_ns, monotonic_ns=rows[4].monotonic_ns
        )
        timeline = written(tmp_path / "a.parquet", [*rows[:5], lost, *rows[5:]]).timeline()
        assert [(mark.kind, mark.frame) for mark in timeline.marks] == [("lost", 5)]

    def test_a_trade_that_was_fetched_later_stands_where_it_happened(self, tmp_path):
        rows = list(make(frames=20, rate=5, seed=4))
        late = Frame(
            connection=1,
            received_at_ns=rows[-1].received_at_ns + 10**9,
            monotonic_ns=rows[-1].monotonic_ns + 10**9,
            data=rows[7].data,
            detail="backfilled",
        )
        timeline = written(tmp_path / "a.parquet", [*rows[:7], *rows[8:], late]).timeline()
        assert timeline.trade_ids.tolist() == [3_120_000_001 + n for n in range(20)]

    def test_frames_of_a_raw_connection_are_named_by_what_they_say(self, tmp_path):
        trade = b'{"e":"trade","E":1633998523963,"s":"BNBBTC","t":12345,"p":"0.001"}'
        ack = b'{"result":null,"id":1}'
        rows = [Frame(connection=1, data=d) for d in (ack, trade)]
        timeline = written(tmp_path / "a.parquet", rows).timeline()
        assert (timeline.streams, len(timeline)) == (("bnbbtc@trade",), 1)

    def test_a_recording_without_the_symbol_says_so(self, tmp_path):
        recording = written(tmp_path / "a.parquet", make(frames=3))
        with pytest.raises(RecordingError, match="no data frames for dogeusdt"):
            recording.timeline(["dogeusdt"])

    def test_retiming_moves_the_times_inside_and_nothing_else(self, tmp_path):
        rows = list(make(frames=3))
        timeline = written(tmp_path / "a.parquet", rows).timeline().retimed(1000)
        moved = rows[0].data.replace(b"1767512473001", b"1767512474001").replace(b"1767512473000", b"1767512474000")
        assert timeline.payload(0) == moved


CAPTURES = [
    "cryptofeed/binance-coinm.2021-04-17.ws.txt.gz", "cryptofeed/binance-spot.2021-04-17.ws.txt",
    "cryptofeed/binance-spot.2021-10-12.ws.txt", "cryptofeed/binance-us-spot.2021-04-17.ws.txt",
    "cryptofeed/binance-usdm.2021-04-17.ws.txt", "cryptofeed/binance-usdm.2021-07-22.ws.txt",
    "frames/aggTrade-only.cryptofeed-2021.jsonl", "frames/usdm-4symbols.2021-07-22.frames.jsonl",
    "hftbacktest/cm-btcusd_perp_20240808.gz", "hftbacktest/spot-btcusdt_20240808.gz",
    "hftbacktest/spot-ethusdt_20240808.gz", "hftbacktest/usdm-btcusdt_20240808.gz",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURES)
def test_every_frame_of_every_real_capture_comes_back(shared_data, tmp_path, name):
    rows = list(import_file(shared_data / name).frames)
    recording = written(tmp_path / "a.parquet", rows)
    assert list(recording.frames()) == rows
    assert [p for p in verify(tmp_path / "a.parquet") if p.severity == "broken"] == []
    timeline = recording.timeline()
    assert len(timeline) == len(rows)
    assert list(timeline.payloads(0, 50)) == [split_wrapped(row.data)[1] for row in rows[:50]]
