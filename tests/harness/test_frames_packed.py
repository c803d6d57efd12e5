"""Payloads in one block: a sequence like any other, and framed without a look at each."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.exchange import wire
from harness.frames import columns, move_times
from harness.frames.packed import ROOM, Packed
from tests.frame_strategies import agg_trades

payloads = st.lists(st.binary(max_size=40) | st.binary(min_size=120, max_size=200), max_size=12)


@given(payloads, st.slices(12), st.integers(-14, 14))
def test_a_packed_sequence_is_the_sequence(some, part, index):
    packed = Packed.of(some)
    assert (list(packed), len(packed), packed.sizes.tolist()) == (some, len(some), list(map(len, some)))
    assert list(packed[part]) == some[part]
    if -len(some) <= index < len(some):
        assert packed[index] == some[index]


@given(st.lists(payloads, min_size=1, max_size=4), st.integers(0, 5))
def test_joined_are_all_of_them_in_order(some, cut):
    parts = [Packed.of(each)[cut:] for each in some]
    assert list(Packed.joined(parts)) == [payload for each in some for payload in each[cut:]]


@given(payloads | st.lists(st.binary(min_size=126, max_size=300), max_size=12), st.booleans(), st.integers(0, 5))
def test_frames_of_many_are_the_frames_of_each(some, squeezed, cut):
    framed, sizes = wire.texts(Packed.of(some)[cut:], rsv1=squeezed)
    each = [wire.header(wire.TEXT, len(payload), rsv1=squeezed) + payload for payload in some[cut:]]
    assert (bytes(framed), sizes.tolist()) == (b"".join(each), list(map(len, each)))


@given(payloads | st.lists(st.binary(min_size=126, max_size=300), max_size=12), st.slices(12))
def test_headers_in_the_room_leave_the_payloads_alone_and_need_no_copy(some, part):
    headed = Packed.of(some).with_heads()
    assert list(headed) == some
    assert list(headed[part]) == some[part]
    if headed.headed:
        framed, sizes = wire.texts(headed)
        assert bytes(framed) == bytes(headed.block) == b"".join(wire.frame(wire.TEXT, each) for each in some)
        assert sizes.tolist() == [len(each) + ROOM for each in some]


def test_a_payload_too_long_for_the_room_is_framed_all_the_same():
    long = bytes(70_000)
    framed, _ = wire.texts(Packed.of([long]))
    assert bytes(framed) == wire.frame(wire.TEXT, long)


@given(st.lists(agg_trades(), min_size=1, max_size=20), st.integers(-(10**11), 10**11))
def test_times_moved_in_columns_are_the_times_moved_in_the_bytes(frames, offset_ms):
    read = columns.read(frames)
    rows = columns.renderable(read).nonzero()[0]
    still, bounds = columns.render(read, rows)
    moved, offsets = columns.render(columns.move_times(read, offset_ms), rows, room=ROOM)
    expected = [move_times(still[first:last], offset_ms) for first, last in pairwise(bounds.tolist())]
    assert list(Packed(moved, offsets)) == expected
