"""What the link does to bytes: delayed, sliced, capped, muted, never invented, never reordered."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from harness.actions import Link
from harness.exchange.commands import Fin, Relink, Reset
from harness.exchange.link import ROOM_BYTES, Shaper
from tests.harness.exchange.talk import MS, S


class Line:
    def __init__(self, **manners):
        self.manners = Link(**manners)
        self.shaper = Shaper(self.manners, Random(1), 0)

    def until(self, now):
        """Everything that arrives until then, with its time."""
        arrived = []
        at = 0
        while True:
            items = self.shaper.ready(at)
            arrived.extend((at, item if isinstance(item, (Fin, Reset)) else bytes(item)) for item in items)
            due = self.shaper.next_due_ns()
            if due is None or due > now:
                return arrived
            at = max(at, due)


def bytes_of(arrived):
    return b"".join(item for _, item in arrived if isinstance(item, bytes))


manners = st.fixed_dictionaries(
    {},
    optional={
        "latency_ns": st.integers(0, S), "jitter_ns": st.integers(0, S), "bytes_per_s": st.integers(0, 5000),
        "slice_bytes": st.integers(0, 50), "slice_delay_ns": st.integers(0, S),
    },
)  # fmt: skip


@given(manners=manners, blocks=st.lists(st.binary(min_size=1, max_size=100), max_size=10))
def test_whatever_it_does_the_same_bytes_arrive_in_order(manners, blocks):
    line = Line(**manners)
    line.shaper.push([*blocks, Fin()], 0)
    arrived = line.until(10**15)
    assert bytes_of(arrived) == b"".join(blocks)
    assert arrived[-1][1] == Fin()
    assert [at for at, _ in arrived] == sorted(at for at, _ in arrived)


@given(blocks=st.lists(st.binary(max_size=50), max_size=10), limit=st.integers(0, 200))
def test_a_limit_lets_exactly_so_many_bytes_pass(blocks, limit):
    line = Line(limit_bytes=limit)
    line.shaper.push(list(blocks), 0)
    whole = b"".join(blocks)
    arrived = line.until(S)
    assert bytes_of(arrived) == whole[:limit]
    assert (line.shaper.ended_by == "limit") is (len(whole) > limit)


def test_latency_delays_and_keeps_the_distance():
    line = Line(latency_ns=100 * MS)
    line.shaper.push([b"one"], 0)
    line.shaper.push([b"two"], 50 * MS)
    assert line.until(S) == [(100 * MS, b"one"), (150 * MS, b"two")]


def test_a_cap_takes_as_long_as_the_bytes_need():
    line = Line(bytes_per_s=1000)
    line.shaper.push([b"x" * 500], 0)
    assert line.until(10 * S)[-1][0] == 500 * MS


def test_slices_are_written_one_by_one_with_pauses():
    line = Line(slice_bytes=2, slice_delay_ns=10 * MS)
    line.shaper.push([b"abcde"], 0)
    assert line.until(S) == [(0, b"ab"), (10 * MS, b"cd"), (20 * MS, b"e")]


def test_a_mute_link_holds_back_and_lets_go_later():
    line = Line(mute_down=True)
    line.shaper.push([b"held", Fin()], 0)
    assert line.until(S) == []
    line.shaper.push([Relink(Link())], 0)
    assert line.until(S) == [(0, b"held"), (0, Fin())]


def test_a_mute_link_that_lost_bytes_never_comes_back():
    """A send buffer that overflowed cannot go on in the middle of a frame: TCP would have given up."""
    line = Line(mute_down=True)
    for _ in range(20):
        line.shaper.push([b"x" * (ROOM_BYTES // 8)], 0)
    assert line.shaper.room, "time goes on for the exchange"
    line.shaper.push([Relink(Link())], 0)
    assert line.until(S)[-1][1] == Reset()
    assert line.shaper.ended_by == "lost"


def test_what_the_client_sends_into_a_mute_link_arrives_when_it_ends():
    line = Line(mute_up=True)
    assert line.shaper.receive(b"one", 0) == b""
    assert line.shaper.released() == b""
    line.shaper.push([Relink(Link())], 0)
    assert line.shaper.receive(b"two", 0) == b"onetwo"


@given(data=st.binary(min_size=200, max_size=500))
def test_corruption_flips_bits_and_keeps_the_length(data):
    line = Line(corrupt_per_million=1_000_000)
    line.shaper.push([data], 0)
    spoiled = bytes_of(line.until(S))
    assert len(spoiled) == len(data)
    assert all((a ^ b).bit_count() == 1 for a, b in zip(spoiled, data, strict=True))


def test_an_idle_link_is_reset():
    line = Line(idle_kill_ns=S)
    line.shaper.push([b"x"], 0)
    assert line.until(2 * S) == [(0, b"x"), (S, Reset())]
    assert line.shaper.ended_by == "idle"


def test_a_slow_close_delays_the_fin_only():
    line = Line(close_delay_ns=S)
    line.shaper.push([b"x", Fin()], 0)
    assert line.until(5 * S) == [(0, b"x"), (S, Fin())]


def test_a_change_of_the_link_leaves_alone_what_was_sent_before_it():
    line = Line()
    line.shaper.push([b"before", Relink(Link(mute_down=True)), b"behind"], 0)
    assert line.until(S) == [(0, b"before")]
    slow = Line()
    slow.shaper.push([b"before", Relink(Link(latency_ns=S // 2)), b"behind"], 0)
    assert slow.until(S) == [(0, b"before"), (S // 2, b"behind")]
