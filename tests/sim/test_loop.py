"""asyncio in virtual time: order, timers, threads, fences."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from harness.errors import SubjectError


@pytest.fixture(autouse=True)
def _exchange(stage):
    stage()


def test_timers_of_one_moment_run_in_the_order_in_which_they_were_asked_for():
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        when = loop.time() + 1
        for number in range(50):
            loop.call_at(when, seen.append, number)
        await asyncio.sleep(2)

    asyncio.run(main())
    assert seen == list(range(50))


def test_an_hour_passes_at_once():
    async def main():
        began = time.time(), time.monotonic(), asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        assert (time.time(), time.monotonic(), asyncio.get_running_loop().time()) == tuple(t + 3600 for t in began)

    asyncio.run(main())


def test_wait_for_times_out_in_virtual_time():
    async def main():
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 40)
        assert time.monotonic() - before == pytest.approx(40)

    asyncio.run(main())


def test_a_blocking_sleep_blocks_the_loop_and_nothing_else():
    seen = []

    def other():
        for _ in range(3):
            time.sleep(1)
            seen.append("thread")

    async def main():
        threading.Thread(target=other).start()
        asyncio.get_running_loop().call_later(0.5, seen.append, "loop")
        time.sleep(2.5)  # noqa: ASYNC251 - the point
        await asyncio.sleep(1)

    asyncio.run(main())
    assert seen == ["thread", "thread", "loop", "thread"]


def test_work_in_an_executor_goes_on_beside_the_loop():
    async def main():
        loop = asyncio.get_running_loop()
        before = time.monotonic()
        working = loop.run_in_executor(None, time.sleep, 2)
        await asyncio.sleep(1)
        assert not working.done()
        await working
        assert time.monotonic() - before == pytest.approx(2)

    asyncio.run(main())


def test_a_loop_in_a_thread_of_its_own_takes_work_from_others():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def work():
        await asyncio.sleep(3)
        return threading.current_thread()

    before = time.monotonic()
    assert asyncio.run_coroutine_threadsafe(work(), loop).result(10) is thread
    assert time.monotonic() - before == pytest.approx(3)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_tasks_in_sets_are_in_the_order_of_their_making():
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(1), name=str(number)) for number in range(8)]
        done, _ = await asyncio.wait(tasks)
        return [int(task.get_name()) for task in done]

    first, second = asyncio.run(main()), asyncio.run(main())
    assert sorted(first) == list(range(8))
    assert [(n + second[0] - first[0]) % 8 for n in first] == second or first == second


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("servers of the subject's own", lambda loop: asyncio.start_server(print, "127.0.0.1", 0)),
        ("child processes", lambda loop: asyncio.create_subprocess_exec("true")),
        ("datagrams", lambda loop: loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))),
        (
            "127.0.0.1:6379, nor anything else but the exchange, in its network",
            lambda loop: asyncio.open_connection("127.0.0.1", 6379),
        ),
    ],
)  # fmt: skip
def test_what_only_reality_has_is_refused_and_noted(simulation, what, asked):
    async def main():
        await asked(asyncio.get_running_loop())

    with pytest.raises(SubjectError, match=what):
        asyncio.run(main())
    assert simulation.world.fences == [f"the simulation has no {what}; run this subject with --mode live"]


def test_file_descriptors_are_refused(simulation):
    async def main():
        asyncio.get_running_loop().add_reader(0, print)

    with pytest.raises(SubjectError, match="file descriptors"):
        asyncio.run(main())
