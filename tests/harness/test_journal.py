"""The journal: whole blocks or nothing, whatever happens to the file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import RecordingError
from harness.frames import Frame
from harness.frames.packed import Packed
from harness.recording import journal as journal_module
from harness.recording import open_recording
from harness.recording.journal import Header, Journal, Run, Tail, read_header, read_journal
from harness.recording.recovery import compact, recover

HEADER = Header(target="a.parquet", identity="one", endpoint="wss://example.invalid", symbols=("BTCUSDT",))


def trade(number: int, at_ns: int = 0) -> bytes:
    return (
        f'{{"e":"aggTrade","E":{1_700_000_000_000 + number},"s":"BTCUSDT","a":{number},"p":"91350.00000000",'
        f'"q":"0.50000000","f":{number},"l":{number},"T":{1_700_000_000_000 + number},"m":true,"M":true}}'
    ).encode()


def make_frames(count: int, first: int = 1) -> list[Frame]:
    return [
        Frame(connection=1, received_at_ns=1_700_000_000_000_000_000 + n, monotonic_ns=n, data=trade(n))
        for n in range(first, first + count)
    ]


frames_strategy = st.lists(
    st.builds(
        Frame,
        connection=st.integers(1, 5),
        direction=st.sampled_from(["received", "sent"]),
        kind=st.sampled_from(["text", "binary", "ping", "pong", "close", "open", "lost", "gap"]),
        received_at_ns=st.integers(0, 2**62),
        monotonic_ns=st.integers(0, 2**62),
        data=st.binary(max_size=40),
        close_code=st.none() | st.integers(0, 65535),
        detail=st.text(max_size=10),
    ),
    max_size=8,
)


@given(blocks=st.lists(frames_strategy, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_what_is_read_is_what_was_appended(tmp_path: Path, blocks: list[list[Frame]]) -> None:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.journal"
    with Journal(path, HEADER) as journal:
        for block in blocks:
            journal.append(block)
    tail = Tail()
    assert list(read_journal(path, tail)) == [frame for block in blocks for frame in block]
    assert (tail.torn_bytes, tail.problem) == (0, "")
    assert read_header(path) == HEADER


def test_a_run_is_the_same_as_its_frames(tmp_path: Path) -> None:
    run = Run(2, "binary", 7, 8, [b"one", b"", b"three"])
    with Journal(tmp_path / "a.journal", HEADER) as journal:
        assert journal.append([run, *make_frames(1)]) == 4
    read = list(read_journal(tmp_path / "a.journal"))
    assert read == [*run.frames(), *make_frames(1)]
    assert [frame.data for frame in read[:3]] == [b"one", b"", b"three"]


def test_messages_left_in_their_block_are_appended_as_those_cut_out_of_it(tmp_path: Path) -> None:
    payloads = [b"one", b"", b"three", b"\xc3\xa4" * 99]
    block = Packed.of([b"before", *payloads, b"behind"])[1:-1]
    run, single = Run(2, "text", 7, 8, block), Run(3, "text", 9, 10, [b"alone"])
    frames = make_frames(2)
    with Journal(tmp_path / "a.journal", HEADER) as journal:
        assert journal.append([single, run, run, frames[0], single, frames[1]]) == 12
    wanted = [*single.frames(), *run.frames(), *run.frames(), frames[0], *single.frames(), frames[1]]
    assert list(read_journal(tmp_path / "a.journal")) == wanted
    assert [frame.data for frame in wanted[1:5]] == payloads


@pytest.mark.slow
def test_a_tail_torn_at_any_byte_of_the_last_block_costs_only_itself(tmp_path: Path) -> None:
    path, torn = tmp_path / "a.journal", tmp_path / "torn.journal"
    with Journal(path, HEADER) as journal:
        journal.append(make_frames(5))
        before = journal.size_bytes
        journal.append([*make_frames(5, first=6), Frame(connection=1, kind="close", close_code=1000, detail="end")])
    whole = path.read_bytes()
    for length in range(before, len(whole)):
        torn.write_bytes(whole[:length])
        tail = Tail()
        assert list(read_journal(torn, tail)) == make_frames(5), length
        assert tail.torn_bytes == length - before


@pytest.mark.slow
@pytest.mark.parametrize("damage", [0x00, 0xFF, None])
def test_a_last_block_of_which_bytes_never_reached_the_disk_costs_only_itself(
    tmp_path: Path, damage: int | None
) -> None:
    """A power cut leaves a file with its length, but not all of its pages."""
    path, torn = tmp_path / "a.journal", tmp_path / "torn.journal"
    with Journal(path, HEADER) as journal:
        journal.append(make_frames(3))
        before = journal.size_bytes
        journal.append(make_frames(3, first=4))
    whole = path.read_bytes()
    for at in range(before, len(whole), 3):
        content = bytearray(whole)
        content[at : at + 16] = bytes([content[at] ^ 0x41 if damage is None else damage]) * len(content[at : at + 16])
        torn.write_bytes(content)
        read = list(read_journal(torn))
        # Padding between buffers may change without any frame being other than it was.
        assert read in (make_frames(3), make_frames(6)), at


def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.journal"
    path.write_text("Dear diary, " * 10)
    outcomes = []
    assert recover(tmp_path, report=outcomes.append) == []
    assert "no journal that this harness can read" in outcomes[0].problem
    assert path.exists()


@pytest.mark.parametrize("length", [0, 1, 40, 400])
def test_a_journal_torn_inside_its_header_held_nothing_and_goes(tmp_path: Path, length: int) -> None:
    Journal(tmp_path / "a.journal", HEADER).close()
    content = (tmp_path / "a.journal").read_bytes()
    (tmp_path / "a.journal").write_bytes(content[:length])
    assert recover(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_whole_blocks_and_the_same_frames_can_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "a.journal", HEADER)
    journal.append(make_frames(3))
    room = [100]

    def write(descriptor: int, data: memoryview) -> int:
        # A nearly full disk takes a part, then refuses.
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part, room[0] = min(room[0], len(data)), 0
        return os.write(descriptor, data[:part])

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "_write", write)
        with pytest.raises(OSError, match="No space left"):
            journal.append(make_frames(3, first=4))
        assert list(read_journal(journal.path)) == make_frames(3)
    journal.append(make_frames(3, first=4))
    journal.close()
    tail = Tail()
    assert list(read_journal(journal.path, tail)) == make_frames(6)
    assert tail.torn_bytes == 0


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.journal").write_bytes(b"mine")
    with pytest.raises(RecordingError, match="nothing recorded is ever overwritten"):
        Journal(tmp_path / "a.journal", HEADER)
    assert (tmp_path / "a.journal").read_bytes() == b"mine"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="is no folder to write to: "):
        Journal(tmp_path / "file" / "a.journal", HEADER)


def test_recovery_makes_a_recording_and_removes_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.parquet.journal", HEADER) as journal:
        journal.append(make_frames(10))
    assert recover(tmp_path) == [tmp_path / "a.parquet"]
    assert list(open_recording(tmp_path / "a.parquet").frames()) == make_frames(10)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_a_journal_that_a_running_recorder_holds_is_not_touched(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.parquet.journal", HEADER) as journal:
        journal.append(make_frames(2))
        outcomes = []
        assert recover(tmp_path, report=outcomes.append) == []
        assert outcomes[0].problem == "a running recorder holds it"
        journal.append(make_frames(2, first=3))
    assert recover(tmp_path) == [tmp_path / "a.parquet"]
    assert list(open_recording(tmp_path / "a.parquet").frames()) == make_frames(4)


def test_what_a_compaction_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.parquet.journal", HEADER) as journal:
        journal.append(make_frames(10))
    (tmp_path / ".a.parquet.4711.part").write_bytes(b"half of it")
    (tmp_path / ".another.parquet.4711.part").write_bytes(b"somebody's")
    assert recover(tmp_path) == [tmp_path / "a.parquet"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".another.parquet.4711.part", "a.parquet"]


def test_recovery_does_not_overwrite_a_recording_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"somebody's own")
    with Journal(tmp_path / "a.parquet.journal", HEADER) as journal:
        journal.append(make_frames(2))
    assert recover(tmp_path) == [tmp_path / "a-2.parquet"]
    assert (tmp_path / "a.parquet").read_bytes() == b"somebody's own"


def test_a_crash_between_recording_and_journal_does_not_double_the_recording(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.parquet.journal", HEADER) as journal:
        journal.append(make_frames(3))
    left = journal.path.read_bytes()
    recover(tmp_path)
    journal.path.write_bytes(left)
    assert recover(tmp_path) == [tmp_path / "a.parquet"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_a_disk_that_refuses_the_recording_leaves_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "a.parquet.journal", HEADER) as journal:
        journal.append(make_frames(3))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import harness.recording

    with monkeypatch.context() as patch:
        patch.setattr(harness.recording.RecordingWriter, "close", refuse)
        with pytest.raises(OSError, match="No space left"):
            compact(journal.path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet.journal"]
    assert recover(tmp_path) == [tmp_path / "a.parquet"]


def test_a_day_that_rolls_over_becomes_two_partitions(tmp_path: Path) -> None:
    midnight_ns = 1_700_006_400_000_000_000
    frames = [
        Frame(connection=1, kind="open", received_at_ns=midnight_ns - 2),
        Frame(connection=1, received_at_ns=midnight_ns - 1, data=trade(1)),
        Frame(connection=1, received_at_ns=midnight_ns, data=trade(2)),
    ]
    header = Header(target="a.parquet", identity="x", endpoint="", symbols=("BTCUSDT",), partitioned=True)
    with Journal(tmp_path / "a.parquet.journal", header) as journal:
        journal.append(frames)
    made = recover(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in made] == [
        "symbol=BTCUSDT/date=2023-11-14/a.parquet",
        "symbol=BTCUSDT/date=2023-11-15/a.parquet",
    ]
    assert list(open_recording(made[0]).frames()) == frames[:2]
    assert list(open_recording(made[1]).frames()) == frames[2:]


def test_partitions_know_their_symbols_and_where_the_connection_was_lost(tmp_path: Path) -> None:
    at = 1_700_000_000_000_000_000
    eth = b'{"stream":"ethusdt@depth","data":{"e":"depthUpdate","s":"ETHUSDT"}}'
    frames = [
        Frame(connection=1, received_at_ns=at, data=b'{"stream":"btcusdt@aggTrade","data":' + trade(1) + b"}"),
        Frame(connection=1, received_at_ns=at, data=eth),
        Frame(connection=1, received_at_ns=at, kind="gap", detail="ethusdt@aggTrade: ids 1 to 2 missing"),
        Frame(connection=1, received_at_ns=at, kind="lost", detail="reset by peer"),
    ]
    header = Header(target="a.parquet", identity="x", endpoint="", symbols=("BTCUSDT", "ETHUSDT"), partitioned=True)
    with Journal(tmp_path / "a.parquet.journal", header) as journal:
        journal.append(frames)
    made = {p.parent.parent.name: list(open_recording(p).frames()) for p in recover(tmp_path)}
    assert made == {"symbol=BTCUSDT": [frames[0], frames[3]], "symbol=ETHUSDT": frames[1:]}


def test_any_arrow_reader_opens_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.journal", HEADER) as journal:
        journal.append(make_frames(3))
    with pa.OSFile(str(tmp_path / "a.journal")) as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == 3


@pytest.mark.slow
def test_what_was_appended_survives_the_death_of_its_process(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_journal import HEADER, make_frames
from harness.recording.journal import Journal
journal = Journal(Path({str(tmp_path)!r}) / "a.parquet.journal", HEADER)
journal.append(make_frames(1000))
journal.sync()
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -9
    assert recover(tmp_path) == [tmp_path / "a.parquet"]
    assert list(open_recording(tmp_path / "a.parquet").frames()) == make_frames(1000)


def test_two_recoveries_at_once_make_each_recording_once(tmp_path: Path) -> None:
    for number in range(8):
        header = Header(target=f"{number}.parquet", identity=str(number), endpoint="")
        with Journal(tmp_path / f"{number}.parquet.journal", header) as journal:
            journal.append(make_frames(50, first=number * 100))
    threads = [threading.Thread(target=recover, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{n}.parquet" for n in range(8)]
    for number in range(8):
        frames = list(open_recording(tmp_path / f"{number}.parquet").frames())
        assert frames == make_frames(50, first=number * 100)
