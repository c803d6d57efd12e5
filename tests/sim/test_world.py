"""Virtual time: order, waiting, turns."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SubjectError
from harness.transports.sim.world import NS, World


@given(st.lists(st.integers(min_value=0, max_value=5), max_size=30))
def test_what_is_due_happens_in_order_of_time_and_then_of_asking(delays):
    world, happened = World(), []
    start = world.now_ns
    for number, delay in enumerate(delays):
        world.at(start + delay, lambda number=number, delay=delay: happened.append((delay, number, world.now_ns)))
    world.park(start + 10, "the end")
    assert happened == [
        (delay, number, start + delay) for delay, number in sorted(zip(delays, range(99), strict=False))
    ]


@given(st.lists(st.integers(min_value=0, max_value=3_600 * NS), max_size=10))
def test_waiting_takes_exactly_as_long_as_asked(waits):
    world = World()
    for wait in waits:
        before = world.now_ns
        assert not world.park(before + wait, "a while")
        assert world.now_ns == before + wait


def test_time_stands_still_while_code_runs(world):
    before = world.now_ns
    for _ in range(1000):
        assert world.read_ns() == before


def test_a_program_that_waits_by_reading_the_clock_sees_it_move(world):
    """Otherwise it would wait for ever."""
    until = world.now_ns + 1_000_000
    while world.read_ns() < until:
        pass


def test_when_nothing_can_ever_run_the_world_says_who_waits_for_what(world):
    ended = threading.Event()
    threading.Thread(target=ended.wait, name="reader", daemon=True).start()
    with pytest.raises(SubjectError, match=r"main waits for a lock.*reader waits for a lock"):
        queue.Queue().get()


def test_threads_take_turns_in_virtual_time(world):
    seen = []

    def tick(name, period_ns):
        for _ in range(3):
            world.sleep(period_ns)
            seen.append((name, (world.now_ns - start) // NS))

    start = world.now_ns
    threads = [threading.Thread(target=tick, args=(name, period * NS)) for name, period in (("a", 2), ("b", 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [("a", 2), ("b", 3), ("a", 4), ("b", 6), ("a", 6), ("b", 9)]


def test_an_event_that_is_waited_for_with_a_timeout_takes_the_timeout(world):
    before, event = world.now_ns, threading.Event()
    assert event.wait(1.5) is False
    assert world.now_ns - before == round(1.5 * NS)


def test_setting_an_event_wakes_who_waits(world):
    event = threading.Event()
    threading.Thread(target=lambda: (world.sleep(NS), event.set())).start()
    before = world.now_ns
    assert event.wait(60)
    assert world.now_ns - before == NS


def test_a_join_with_a_timeout_gives_up(world):
    thread = threading.Thread(target=lambda: world.sleep(10 * NS))
    thread.start()
    thread.join(1)
    assert thread.is_alive()
    thread.join()
    assert not thread.is_alive()


def test_a_lock_is_handed_on_and_a_reentrant_one_may_be_taken_twice(world):
    lock, order = threading.RLock(), []

    def take(name):
        with lock, lock:
            order.append(name)
            world.sleep(NS)

    threads = [threading.Thread(target=take, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c"]


def test_a_pool_of_threads_works_side_by_side(world):
    before = world.now_ns
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda n: (world.sleep(n * NS), n)[1], [3, 2, 1])) == [3, 2, 1]
    assert world.now_ns - before == 3 * NS


def test_an_exception_in_a_thread_reaches_its_hook(world, monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert isinstance(seen[0], ZeroDivisionError)


def test_at_the_end_no_thread_is_left(world):
    threads = [threading.Thread(target=threading.Event().wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    world.end()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
