"""Continuity: every message once, every hole told."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.frames import Frame
from harness.frames.packed import Packed
from harness.recorder.endpoints import Line
from harness.recorder.sieve import HOLD_NS_MAX, Ended, Filled, Hole, Missed, Opened, Sieve
from harness.recording.journal import Run

STREAM = "btcusdt@aggTrade"
RAW = Line(url="wss://x/ws/" + STREAM, streams=(STREAM,))
BOTH = Line(url="wss://x/stream", streams=(STREAM, "ethusdt@aggTrade"), combined=True)


def payload(number: int) -> bytes:
    return b'{"e":"aggTrade","s":"BTCUSDT","a":%d,"p":"1.0","q":"1.0"}' % number


def run(connection: int, *numbers: int) -> Run:
    return Run(connection, "text", 10, 20, [payload(n) for n in numbers])


def ended(connection: int) -> Ended:
    return Ended(connection, 30, 40)


def told(items: list[Run | Frame]) -> list[object]:
    """Ids of the messages, and the words of the rows."""
    out: list[object] = []
    for item in items:
        if isinstance(item, Run):
            out += [int(p.split(b'"a":')[1].split(b",")[0]) for p in item.payloads]
        else:
            out.append(item.detail or item.data)
    return out


@settings(deadline=None)
@given(runs=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), max_size=6))
def test_one_connection_alone_is_recorded_as_it_came(runs: list[list[int]]) -> None:
    """Whatever an exchange repeats or reorders on a connection is what happened, and nothing of it is left out."""
    sieve = Sieve()
    out = sieve.take([Opened(1, RAW), *(run(1, *numbers) for numbers in runs)])
    kept = [p for item in out if isinstance(item, Run) for p in item.payloads]
    assert kept == [payload(n) for numbers in runs for n in numbers]
    assert sieve.duplicate_count == 0


def test_after_a_crash_the_first_message_shows_what_was_missed_meanwhile() -> None:
    sieve = Sieve({STREAM: 5})
    assert told(sieve.take([Opened(1, RAW), run(1, 9, 10)])) == [f"{STREAM}: ids 6 to 8 missing", 9, 10]
    assert sieve.holes() == [Hole(stream=STREAM, first=6, last=8)]
    assert told(Sieve({STREAM: 5}).take([Opened(1, RAW), run(1, 6, 7)])) == [6, 7]


def test_an_exchange_that_counts_anew_after_a_crash_has_no_hole_of_the_old_count() -> None:
    sieve = Sieve({STREAM: 500})
    out = told(sieve.take([Opened(1, RAW), run(1, 498), run(1, 499, 500, 503)]))
    assert out == [f"{STREAM}: ids went back from 500 to 498", 498, 499, 500, f"{STREAM}: ids 501 to 502 missing", 503]


@given(first=st.integers(0, 100), count=st.integers(1, 100), most=st.integers(1, 40))
def test_a_hole_in_parts_is_the_hole(first: int, count: int, most: int) -> None:
    hole = Hole(stream=STREAM, first=first, last=first + count - 1)
    parts = hole.parts(most)
    assert len(hole) == sum(map(len, parts)) == count
    assert [i for part in parts for i in range(part.first, part.last + 1)] == list(range(first, first + count))
    assert max(map(len, parts)) <= most


@settings(deadline=None)
@given(withheld=st.sets(st.integers(2, 40)), cuts=st.lists(st.integers(1, 40), max_size=5))
def test_holes_are_exactly_the_ids_that_never_came(withheld: set[int], cuts: list[int]) -> None:
    ids = [n for n in range(1, 50) if n not in withheld]
    edges = [0, *sorted(c for c in cuts if c < len(ids)), len(ids)]
    sieve = Sieve()
    sieve.take([Opened(1, RAW)])
    for a, b in pairwise(edges):
        if a < b:
            sieve.take([run(1, *ids[a:b])])
    holes = [n for hole in sieve.holes() for n in range(hole.first, hole.last + 1)]
    assert holes == sorted(withheld)
    assert sieve.missing_count == len(withheld)


@settings(deadline=None)
@given(
    data=st.data(),
    old_last=st.integers(5, 20),
    new_first=st.integers(2, 21),
    new_last=st.integers(21, 30),
)
def test_a_hand_over_keeps_every_id_once_and_tells_what_neither_brought(
    data: st.DataObject, old_last: int, new_first: int, new_last: int
) -> None:
    old, new = list(range(1, old_last + 1)), list(range(new_first, new_last + 1))
    before = data.draw(st.integers(1, len(old)), "of the old, before the new is open")
    sieve = Sieve()
    out = sieve.take([Opened(1, RAW), run(1, *old[:before]), Opened(2, RAW)])
    rest = [(1, n) for n in old[before:]], [(2, n) for n in new]
    while any(rest):
        side = data.draw(st.sampled_from([r for r in rest if r]), "next to arrive")
        connection, number = side.pop(0)
        out += sieve.take([run(connection, number)])
    out += sieve.take([ended(1)])
    ids = [n for n in told(out) if isinstance(n, int)]
    assert ids == sorted(set(old) | set(new)), "in order, however the connections raced"
    missing = sorted(set(range(1, new_last + 1)) - set(ids))
    assert [n for hole in sieve.holes() for n in range(hole.first, hole.last + 1)] == missing
    assert out == [*out, *sieve.take([])]
    after = sieve.take([run(2, new_last + 1), run(2, new_last + 3)])
    assert told(after) == [new_last + 1, f"{STREAM}: ids {new_last + 2} to {new_last + 2} missing", new_last + 3]


def test_in_a_hand_over_what_is_ahead_waits_but_not_for_long() -> None:
    sieve = Sieve()
    sieve.take([Opened(1, RAW), run(1, 1), Opened(2, RAW)])
    assert told(sieve.take([run(2, 4), run(2, 5)], now_ns=20)) == []
    assert told(sieve.take([run(1, 2)], now_ns=21)) == [2]
    late = sieve.take([], now_ns=20 + HOLD_NS_MAX + 1)
    assert told(late) == [f"{STREAM}: ids 3 to 3 missing", 4, 5]
    assert told(sieve.take([run(1, 3), run(1, 4), run(2, 6)], now_ns=10**9)) == [3, 6]
    assert sieve.missing_count == 0


def test_a_message_that_waited_bears_the_time_of_its_turn() -> None:
    sieve = Sieve()
    sieve.take([Opened(1, RAW), run(1, 1), Opened(2, RAW)])
    ahead = Run(2, "text", 100, 200, [payload(3)])
    behind = Run(1, "text", 103, 203, [payload(2)])
    out = sieve.take([ahead, behind])
    assert [(r.received_at_ns, r.monotonic_ns) for r in out if isinstance(r, Run)] == [(103, 203), (103, 203)]


def test_a_gap_row_stands_before_the_message_that_showed_it() -> None:
    sieve = Sieve()
    out = sieve.take([Opened(1, RAW), run(1, 1, 2, 5, 6)])
    assert told(out) == [1, 2, f"{STREAM}: ids 3 to 4 missing", 5, 6]
    gap = out[1]
    assert isinstance(gap, Frame)
    assert (gap.kind, gap.connection, gap.received_at_ns, gap.monotonic_ns) == ("gap", 1, 10, 20)
    assert sieve.holes() == [Hole(stream=STREAM, first=3, last=4)]
    assert sieve.holes() == []


def test_what_was_missed_while_away_is_a_gap_of_the_new_connection() -> None:
    sieve = Sieve()
    out = sieve.take([Opened(1, RAW), run(1, 1, 2), ended(1), Opened(2, RAW), run(2, 9)])
    assert told(out) == [1, 2, f"{STREAM}: ids 3 to 8 missing", 9]


def test_a_tape_that_starts_again_is_no_flood_of_duplicates() -> None:
    sieve = Sieve()
    out = sieve.take([Opened(1, RAW), run(1, 50_000, 50_001), run(1, 1, 2, 4)])
    rewind = f"{STREAM}: ids went back from 50001 to 1"
    assert told(out) == [50_000, 50_001, rewind, 1, 2, f"{STREAM}: ids 3 to 3 missing", 4]


def test_fetched_messages_fill_a_hole_but_not_what_came_late_by_itself() -> None:
    sieve = Sieve()
    sieve.take([Opened(1, RAW), run(1, 1, 5), run(1, 3)])
    (hole,) = sieve.holes()
    found = {n: payload(n) for n in (2, 3, 4)}
    note = Frame(connection=1, kind="gap", received_at_ns=5, monotonic_ns=6, detail="not filled")
    out = sieve.take([Filled(hole, found, note)])
    like = Frame(connection=1, received_at_ns=5, monotonic_ns=6, detail="backfilled")
    assert out == [msgspec.structs.replace(like, data=payload(n)) for n in (2, 4)]
    assert (sieve.backfilled_count, sieve.missing_count) == (2, 0)


def test_a_hole_that_stays_open_is_told_again() -> None:
    sieve = Sieve()
    sieve.take([Opened(1, RAW), run(1, 1, 5)])
    (hole,) = sieve.holes()
    note = Frame(connection=1, kind="gap", detail="not filled")
    assert sieve.take([Filled(hole, {}, note)]) == [note]
    assert sieve.missing_count == 3


def test_ids_that_the_exchange_has_and_a_mute_stream_never_brought_are_a_hole() -> None:
    sieve = Sieve()
    sieve.take([Opened(1, RAW), run(1, 7)])
    out = sieve.take([Missed(STREAM, (0, 9), ended(1))])
    assert told(out) == [f"{STREAM}: ids 8 to 9 missing"]
    assert sieve.holes() == [Hole(stream=STREAM, first=8, last=9)]
    assert told(sieve.take([run(1, 10)])) == [10]


def test_a_stream_that_never_spoke_is_blind_from_the_id_that_was_known() -> None:
    sieve = Sieve()
    out = sieve.take([Opened(1, RAW), Missed(STREAM, (5, 9), ended(1)), run(1, 10)])
    assert told(out) == [f"{STREAM}: ids 6 to 9 missing", 10]


def test_streams_of_a_combined_connection_are_counted_apart() -> None:
    def wrapped(stream: str, number: int) -> bytes:
        return b'{"stream":"%s","data":%s}' % (stream.encode(), payload(number))

    messages = [
        wrapped(STREAM, 1),
        wrapped("ethusdt@aggTrade", 100),
        wrapped(STREAM, 2),
        wrapped("ethusdt@aggTrade", 103),
    ]
    sieve = Sieve()
    sieve.take([Opened(1, BOTH), Run(1, "text", 1, 1, [b'{"result":null,"id":1}', *messages])])
    assert sieve.holes() == [Hole(stream="ethusdt@aggTrade", first=101, last=102)]
    assert sieve.tracks[STREAM].last_id == 2


def test_streams_without_ids_pass_once_in_a_hand_over() -> None:
    line = Line(url="x", streams=("btcusdt@depth",))
    sieve = Sieve()
    first, second, third = (Run(c, "text", 1, 1, [b'{"u":%d}' % n]) for c, n in ((1, 1), (2, 1), (2, 2)))
    out = sieve.take([Opened(1, line), Opened(2, line), first, second, third, ended(1)])
    assert [item.payloads for item in out if isinstance(item, Run)] == [first.payloads, third.payloads]


def test_an_announced_shutdown_is_noticed_raw_and_wrapped() -> None:
    sieve = Sieve()
    raw = b'{"e":"serverShutdown","E":1770123456789}'
    wrapped = b'{"stream":"!serverShutdown","data":' + raw + b"}"
    sieve.take(
        [Opened(1, RAW), run(1, 1), Run(1, "text", 1, 1, [raw]), Opened(2, BOTH), Run(2, "text", 1, 1, [wrapped])]
    )
    assert sieve.shutdown_notices == [1, 2]


LAYOUTS = (
    b'{"e":"aggTrade","s":"BTCUSDT","a":%d,"p":"1.0"}',
    b'{"e":"aggTrade","s":"BTCUSDT","a":%d ,"p":"1.0"}',
    b'{"e":"aggTrade","s":"BTCUSDT","a": %d,"p":"1.0"}',
    b'{"a":%d,"e":"aggTrade","s":"BTCUSDT"}',
    b'{"e":"aggTrade","s":"BTCUSDT","b":%d,"p":"1.0"}',
    b'{"e":"aggTrade","s":"BTCUSDT","a":%d',
)


@settings(deadline=None)
@given(
    start=st.sampled_from([5, 95, 998, 3_120_000_000, 10**17 - 3, 10**19 - 3]),
    steps=st.lists(st.tuples(st.sampled_from([1] * 12 + [0, 2, 10, -1]), st.sampled_from([0] * 12 + [*range(6)]))),
    in_one_block=st.booleans(),
)
def test_many_messages_of_one_read_are_followed_as_if_each_came_alone(start, steps, in_one_block) -> None:
    number, payloads = start, [LAYOUTS[0] % start]
    for step, layout in steps:
        number = max(0, number + step)
        payloads.append(LAYOUTS[layout] % number)
    together, apart = Sieve(), Sieve()
    for sieve in (together, apart):
        sieve.take([Opened(1, RAW), Run(1, "text", 10, 20, [LAYOUTS[0] % (start - 1)])])
    one = together.take([Run(1, "text", 10, 20, Packed.of(payloads) if in_one_block else list(payloads))])
    each = apart.take([Run(1, "text", 10, 20, [payload]) for payload in payloads])

    def plain(items: list[Run | Frame]) -> list[object]:
        return [what for i in items for what in (i.payloads if isinstance(i, Run) else [i])]

    assert plain(one) == plain(each)
    for name in ("last_id", "last_payload", "message_count", "holes"):
        assert getattr(together.tracks[STREAM], name) == getattr(apart.tracks[STREAM], name)
    assert together.holes() == apart.holes()
