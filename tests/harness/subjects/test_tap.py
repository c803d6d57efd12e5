"""The tap: found where it is, watched without being felt."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import queue
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.subjects import Tap

RAW = {"s": "BTCUSDT", "a": 7, "p": "91350.10", "q": "0.5", "T": 1790000000000, "m": True}


def watched(subject, path=None):
    entries = []
    tap = Tap(entries.append, path)
    assert tap.attach(subject)
    return tap, entries


class Method:
    def __init__(self):
        self.got = []

    def accepted(self, symbol, trade):
        self.got.append(trade)
        return "kept"


def test_a_method_is_watched_and_does_what_it_did():
    subject = Method()
    tap, entries = watched(subject)
    assert subject.accepted("BTCUSDT", RAW) == "kept"
    assert subject.got == [RAW]
    assert (tap.found, entries[0].trade_id) == ("accepted", 7)


def test_attaching_again_does_not_count_twice():
    subject = Method()
    tap, entries = watched(subject)
    tap.attach(subject)
    subject.accepted("BTCUSDT", RAW)
    assert len(entries) == 1


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    callback: object


class Captured(Method):
    def __init__(self):
        super().__init__()
        self.callback = self.accepted
        self.handlers = [self.accepted]
        accepted = self.accepted
        self.closure = lambda trade: accepted("BTCUSDT", trade)
        self.stream = Stream(self.accepted)
        self.listeners = {self.accepted}
        self.pair = (("aggTrade", self.accepted),)
        self.bound = functools.partial(self.accepted, "BTCUSDT")
        self.wrapper = functools.partial(lambda take, trade: take("BTCUSDT", trade), self.accepted)
        self.buffer = deque([self.accepted])


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.callback("BTCUSDT", RAW),
        lambda s: s.handlers[0]("BTCUSDT", RAW),
        lambda s: s.closure(RAW),
        lambda s: s.stream.callback("BTCUSDT", RAW),
        lambda s: next(iter(s.listeners))("BTCUSDT", RAW),
        lambda s: s.pair[0][1]("BTCUSDT", RAW),
        lambda s: s.bound(RAW),
        lambda s: s.wrapper(RAW),
        lambda s: s.buffer[0]("BTCUSDT", RAW),
    ],
    ids=["attribute", "list", "closure", "slots", "set", "tuples", "partial", "argument", "deque"],
)
def test_references_handed_out_before_are_watched_too(call):
    subject = Captured()
    _, entries = watched(subject)
    call(subject)
    assert len(entries) == 1
    assert len(subject.got) == 1


class Raises:
    def accepted(self, trade):
        raise ValueError("no")


def test_a_tap_that_raises_took_nothing():
    subject = Raises()
    _, entries = watched(subject)
    with pytest.raises(ValueError, match="no"):
        subject.accepted(RAW)
    assert not entries


class Refuses:
    def accepted(self, trade):
        return False


def test_a_tap_that_answers_false_took_nothing():
    subject = Refuses()
    _, entries = watched(subject)
    assert subject.accepted(RAW) is False
    assert not entries


class Asynchronous:
    async def accepted(self, trade):
        await asyncio.sleep(0)
        return "kept"


async def test_an_asynchronous_tap_counts_when_it_is_done():
    subject = Asynchronous()
    _, entries = watched(subject)
    assert asyncio.iscoroutinefunction(subject.accepted)
    waiting = subject.accepted(RAW)
    assert not entries
    assert await waiting == "kept"
    assert len(entries) == 1


class Slotted:
    __slots__ = ("got",)

    def __init__(self):
        self.got = []

    def accepted(self, trade):
        self.got.append(trade)


def test_slots_are_no_obstacle_and_other_instances_are_left_alone():
    class Own(Slotted):
        __slots__ = ()

        def accepted(self, trade):
            self.got.append(trade)

    subject, other = Own(), Own()
    _, entries = watched(subject)
    subject.accepted(RAW)
    other.accepted(RAW)
    assert len(entries) == 1


@pytest.mark.parametrize("make", [list, deque, functools.partial(deque, maxlen=3)], ids=["list", "deque", "bounded"])
def test_a_container_is_watched_for_growth(make):
    class Holder:
        def __init__(self):
            self.accepted = make()

    subject = Holder()
    tap, entries = watched(subject)
    for number in range(6):
        subject.accepted.append(RAW | {"a": number})
        tap.poll()
    assert [entry.trade_id for entry in entries] == list(range(6))


def test_a_history_by_symbol_is_watched():
    class Holder:
        def __init__(self):
            self.trade_history = {}

    subject = Holder()
    tap, entries = watched(subject, "trade_history")
    subject.trade_history["BTCUSDT"] = deque([{"a": 1, "p": "1", "q": "1"}], maxlen=2)
    tap.poll()
    subject.trade_history["BTCUSDT"].append({"a": 2, "p": "1", "q": "1"})
    tap.poll()
    assert [(entry.symbol, entry.trade_id) for entry in entries] == [("BTCUSDT", 1), ("BTCUSDT", 2)]


class Shelf:
    def __init__(self):
        self.accepted = {}


def test_trades_kept_by_id_are_watched():
    subject = Shelf()
    tap, entries = watched(subject)
    subject.accepted[7] = RAW
    tap.poll()
    subject.accepted.update({7: RAW, 8: RAW | {"a": 8}})
    tap.poll()
    assert [(entry.symbol, entry.trade_id) for entry in entries] == [("BTCUSDT", 7), ("BTCUSDT", 8)]


def test_trades_kept_by_symbol_and_id_are_watched():
    subject = Shelf()
    tap, entries = watched(subject)
    subject.accepted["ETHUSDT"] = {}
    tap.poll()
    subject.accepted["ETHUSDT"][7] = RAW
    tap.poll()
    assert [(entry.symbol, entry.trade_id) for entry in entries] == [("ETHUSDT", 7)]


@given(
    st.lists(st.sampled_from(["append", "look", "hand on", "prune"]), max_size=30),
    st.sampled_from([list, deque]),
    st.booleans(),
)
def test_a_container_that_is_replaced_loses_and_repeats_nothing(steps, make, by_symbol):
    # By symbol the containers are looked into one level down, and are replaced there.
    subject = Shelf()
    shelf, place = (subject.accepted, "BTCUSDT") if by_symbol else (vars(subject), "accepted")
    shelf[place] = make()
    tap, entries = watched(subject)
    tap.poll()  # what nobody has looked at before it was replaced, nobody can know of
    count = 0
    for step in steps:
        if step == "append":
            shelf[place].append(RAW | {"a": count})
            count += 1
            continue
        if step == "hand on":
            shelf[place] = make()
        elif step == "prune":
            shelf[place] = make(list(shelf[place])[-2:])
        tap.attach(subject)
        tap.poll()
    tap.attach(subject)
    tap.poll()
    assert [entry.trade_id for entry in entries] == list(range(count))


def test_what_a_blocking_queue_is_given_by_put_is_heard():
    class Holder:
        def __init__(self):
            self.accepted = queue.Queue()

    subject = Holder()
    _, entries = watched(subject)
    subject.accepted.put(RAW, timeout=1)
    subject.accepted.put_nowait(RAW | {"a": 8})
    assert [entry.trade_id for entry in entries] == [7, 8]


async def test_what_an_asynchronous_queue_is_given_by_put_is_heard_once():
    class Holder:
        def __init__(self):
            self.accepted = asyncio.Queue()

    subject = Holder()
    _, entries = watched(subject)
    await subject.accepted.put(RAW)
    assert [entry.trade_id for entry in entries] == [7]


def test_a_queue_that_nobody_can_listen_to_is_no_tap():
    class Holder:
        def __init__(self):
            self.accepted = queue.SimpleQueue()

    assert not Tap([].append).attach(Holder())


@pytest.mark.parametrize("make", [queue.Queue, asyncio.Queue])
def test_a_queue_is_watched_where_things_are_put(make):
    class Holder:
        def __init__(self):
            self.accepted = make()

    subject = Holder()
    _, entries = watched(subject)
    subject.accepted.put_nowait(("BTCUSDT", RAW))
    assert entries[0].trade_id == 7


def test_an_empty_callback_slot_is_filled():
    class Holder:
        on_trade = None

    subject = Holder()
    tap, entries = watched(subject)
    subject.on_trade(RAW)
    assert (tap.found, len(entries)) == ("on_trade", 1)


def test_the_order_of_the_usual_places_holds():
    class Detector:
        def update(self, symbol, trade):
            pass

    class Analyzer:
        def __init__(self):
            self.whale_detector = Detector()

        def update_trade(self, symbol, trade):
            self.whale_detector.update(symbol, trade)

    class Service:
        def __init__(self):
            self.analyzer = Analyzer()

    subject = Service()
    tap, entries = watched(subject)
    subject.analyzer.update_trade("BTCUSDT", RAW)
    assert (tap.found, len(entries)) == ("analyzer.whale_detector.update", 1)


def test_a_tap_that_comes_with_start_is_found_later():
    class Late:
        pass

    subject = Late()
    tap = Tap([].append)
    assert not tap.attach(subject)
    subject.accepted = []
    assert tap.attach(subject)
