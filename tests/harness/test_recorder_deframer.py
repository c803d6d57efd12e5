"""WebSocket bytes to messages, against the library that everybody uses."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode

from harness.frames.packed import Packed
from harness.recorder import deframer as module
from harness.recorder.deframer import MESSAGE_BYTES_MAX, Deframer, client_frame, close_parts, unmask

messages = st.lists(
    st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=300)).filter(lambda m: m[0] < 8 or len(m[1]) < 126),
    max_size=12,
)


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def read(deframer: Deframer, pieces: list[bytes]) -> list[tuple[int, bytes]]:
    return [(o, p) for piece in pieces for o, payloads in deframer.receive_data(piece) for p in payloads]


@settings(deadline=None)
@given(wanted=messages, cuts=st.lists(st.integers(0, 5000), max_size=8), mask=st.booleans())
def test_messages_are_the_same_however_the_bytes_arrive(
    wanted: list[tuple[int, bytes]], cuts: list[int], mask: bool
) -> None:
    data = b"".join(TheirFrame(Opcode(o), p).serialize(mask=mask) for o, p in wanted)
    deframer = Deframer()
    assert read(deframer, chop(data, cuts)) == wanted
    assert (deframer.broken, deframer.pending_bytes) == ("", 0)


looks_like_a_header = st.builds(
    lambda before, after: before + b"\x81\x7e\x00\x80" + after,
    st.binary(max_size=140),
    st.binary(min_size=130, max_size=140),
)
bulk = st.lists(
    st.tuples(st.just(1), st.binary(min_size=126, max_size=140) | looks_like_a_header)
    | st.tuples(st.sampled_from([1, 2, 9]), st.binary(max_size=125)),
    max_size=30,
)


@settings(deadline=None)
@given(wanted=bulk, cuts=st.lists(st.integers(0, 5000), max_size=4), mask=st.booleans())
def test_messages_found_all_at_once_are_those_found_one_by_one(
    wanted: list[tuple[int, bytes]], cuts: list[int], mask: bool
) -> None:
    data = b"".join(TheirFrame(Opcode(o), p).serialize(mask=mask) for o, p in wanted)
    with mock.patch.object(module, "BULK_BYTES_MIN", 0):
        deframer = Deframer()
        assert read(deframer, chop(data, cuts)) == wanted
    assert (deframer.broken, deframer.pending_bytes) == ("", 0)


def test_a_burst_stays_in_the_block_in_which_it_came() -> None:
    payloads = [b'{"n":%0150d}' % n for n in range(100)]
    data = b"".join(TheirFrame(Opcode.TEXT, p).serialize(mask=False) for p in payloads)
    deframer = Deframer()
    ((opcode, whole),) = deframer.receive_data(data[:-1])
    ((_, last),) = deframer.receive_data(data[-1:])
    assert isinstance(whole, Packed)
    assert whole.block == data[:-1]
    assert (opcode, [*whole, *last]) == (1, payloads)


@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=50), min_size=2, max_size=5), cuts=st.lists(st.integers(0, 500), max_size=4))
def test_fragments_are_put_together_and_a_ping_may_come_between(parts: list[bytes], cuts: list[int]) -> None:
    frames = [TheirFrame(Opcode.TEXT if n == 0 else Opcode.CONT, p, fin=False) for n, p in enumerate(parts)]
    frames[-1].fin = True
    frames.insert(1, TheirFrame(Opcode.PING, b"beat"))
    data = b"".join(f.serialize(mask=False) for f in frames)
    assert read(Deframer(), chop(data, cuts)) == [(9, b"beat"), (1, b"".join(parts))]


@settings(deadline=None)
@given(wanted=st.lists(st.binary(max_size=200), max_size=6), keep=st.booleans())
def test_deflated_messages_are_inflated(wanted: list[bytes], keep: bool) -> None:
    sender = PerMessageDeflate(False, not keep, 15, 15)
    data = b"".join(TheirFrame(Opcode.TEXT, p).serialize(mask=False, extensions=[sender]) for p in wanted)
    assert read(Deframer(inflate=True, keep_context=keep), [data]) == [(1, p) for p in wanted]


@settings(deadline=None)
@given(data=st.binary(max_size=400))
def test_no_bytes_at_all_raise(data: bytes) -> None:
    deframer = Deframer(inflate=True)
    deframer.receive_data(data)
    assert deframer.broken or deframer.pending_bytes <= len(data)


@settings(deadline=None)
@given(opcode=st.sampled_from([1, 2, 8, 9, 10]), payload=st.binary(max_size=70_000))
def test_what_a_client_sends_is_masked_and_reads_back(opcode: int, payload: bytes) -> None:
    payload = payload if opcode < 8 else payload[:125]
    frame = client_frame(opcode, payload)
    assert frame[1] & 0x80
    assert read(Deframer(), [frame]) == [(opcode, payload)]


@settings(deadline=None)
@given(payload=st.binary(max_size=100), mask=st.binary(min_size=4, max_size=4))
def test_unmasking_twice_is_nothing(payload: bytes, mask: bytes) -> None:
    assert unmask(unmask(payload, mask), mask) == payload


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x83\x00", "opcode 3 is out of place"),
        (b"\xc1\x01a", "reserved bit"),
        (b"\x80\x00", "opcode 0 is out of place"),
        (b"\x01\x01a\x81\x01b", ""),
        (b"\x09\x00", "control frame"),
        (b"\x81\x7f" + (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big"), "claims"),
    ],
)
def test_a_broken_stream_says_what_is_wrong_with_it(data: bytes, words: str) -> None:
    deframer = Deframer()
    deframer.receive_data(data)
    assert words in deframer.broken


def test_whole_messages_before_a_broken_frame_are_kept() -> None:
    deframer = Deframer()
    assert deframer.receive_data(b"\x81\x01a\x81\x01b\x83\x00") == [(1, [b"a", b"b"])]
    assert deframer.broken


def test_close_frames_are_read_whatever_they_hold() -> None:
    assert close_parts(b"") == (None, "")
    assert close_parts(b"\x03\xe9going away") == (1001, "going away")
    assert close_parts(b"\x03\xe8\xff") == (1000, "\ufffd")
