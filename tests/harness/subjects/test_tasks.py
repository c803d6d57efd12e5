"""Tasks and loops: described from outside, whatever state they are in."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from harness.clock import monotonic_ns
from harness.subjects import TaskWatch
from harness.subjects.tasks import place_of


async def waits_for_ever():
    await asyncio.Event().wait()


async def begins(keep):
    keep.append(asyncio.create_task(waits_for_ever()))


async def dies():
    raise LookupError("no such stream")


def notes(watch, entries):
    watch.note(monotonic_ns())
    return [(entry.what, entry.text) for entry in entries]


def in_thread(function):
    box = []
    thread = threading.Thread(target=lambda: box.append(function()), name="subject")
    thread.start()
    thread.join()
    return box[0]


def test_a_loop_that_ran_once_and_never_again_is_named_with_its_task():
    entries, keep = [], []
    with TaskWatch(entries.append, ignored_threads=("harness-",)) as watch:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begins(keep))
        said = notes(watch, entries)
        assert any(what == "loop" and "was not run again" in text for what, text in said)
        assert any(what == "task" and "waits_for_ever" in text and "test_tasks.py" in text for what, text in said)
        keep[0].cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_loop_that_was_given_work_and_never_ran_is_named():
    entries = []
    with TaskWatch(entries.append, ignored_threads=("harness-",)) as watch:
        loop = asyncio.new_event_loop()
        loop.call_soon_threadsafe(lambda: None)
        assert any("never run" in text for _, text in notes(watch, entries))
        loop.close()


def on_a_loop_of_its_thread(watch, run):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    if run:
        loop.run_until_complete(asyncio.sleep(0))
    task = loop.create_task(waits_for_ever())
    dropped = watch.drop_unrun()
    ended = task.cancelled()
    if not dropped:
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
    return dropped, ended


@pytest.mark.parametrize("run", [False, True])
def test_only_tasks_of_a_loop_that_never_ran_are_dropped_for_a_second_start(run):
    found = []
    with TaskWatch([].append, ignored_threads=()) as watch:
        found.append(in_thread(lambda: on_a_loop_of_its_thread(watch, run)))
        assert found == [(not run, not run)]
        assert bool(watch.left_behind()) is False


def test_a_thread_without_tasks_is_given_no_loop():
    with TaskWatch([].append, ignored_threads=()) as watch:
        assert in_thread(watch.drop_unrun) is False
        assert watch.loops == {}


def test_a_stop_that_does_not_return_is_placed_in_the_subject_and_not_in_its_host():
    async def host(watch):
        watch.tasks[0].ours = True  # as the host's own task is
        task = asyncio.create_task(waits_for_ever())
        await asyncio.sleep(0)
        said = watch.main_place()
        task.cancel()
        return said

    with TaskWatch(lambda _: None, ignored_threads=("harness-",)) as watch:
        first, second = asyncio.run(host(watch)).split("; ")
    assert first.startswith("it waits at subjects/test_tasks.py:")
    assert second.startswith("task waits_for_ever (made at subjects/test_tasks.py:")


def test_a_place_in_an_installed_package_is_named_from_the_package_on():
    """`asyncio/connection.py` would be looked for in the standard library."""
    frame = type("Frame", (), {"f_lineno": 8})()
    frame.f_code = type("Code", (), {"co_name": "keepalive"})()
    frame.f_code.co_filename = str(Path("/v/lib/site-packages/websockets/asyncio/connection.py"))
    assert place_of(frame) == "websockets/asyncio/connection.py:8 in keepalive"
    frame.f_code.co_filename = str(Path("/home/me/bot/stream.py"))
    assert place_of(frame) == "bot/stream.py:8 in keepalive"


def test_what_a_task_died_of_is_told_without_hushing_the_interpreter():
    entries = []

    async def main():
        task = asyncio.create_task(dies())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        said = notes(watch, entries)
        assert task._log_traceback  # asking for the exception would have cleared this
        assert task.exception()
        return said

    with TaskWatch(entries.append, ignored_threads=("harness-",)) as watch:
        said = asyncio.run(main())
    assert any("ended with LookupError: no such stream" in text for _, text in said)


def test_a_thread_of_an_imported_library_is_not_the_subject_s_to_end():
    end = threading.Event()
    with TaskWatch([].append, ignored_threads=()) as watch:
        threading.Thread(target=end.wait, name="metrics of a library").start()
        watch.take_stock()
        threading.Thread(target=end.wait, name="of the subject").start()
        (left,) = watch.left_behind()
        end.set()
    assert left.startswith("thread of the subject is still running")


def test_what_is_left_behind_is_listed_and_what_ended_is_not():
    async def main():
        task = asyncio.create_task(waits_for_ever())
        before = watch.left_behind()
        task.cancel()
        await asyncio.sleep(0)
        return before, watch.left_behind()

    with TaskWatch([].append, ignored_threads=("harness-",)) as watch:
        before, after = asyncio.run(main())
    assert any("waits_for_ever" in text for text in before)
    assert not any("waits_for_ever" in text for text in after)


def test_everything_is_taken_back():
    before = (asyncio.BaseEventLoop.create_task, asyncio.BaseEventLoop.run_forever, asyncio.BaseEventLoop.__init__)
    with TaskWatch([].append, ignored_threads=()):
        pass
    assert before == (
        asyncio.BaseEventLoop.create_task, asyncio.BaseEventLoop.run_forever, asyncio.BaseEventLoop.__init__,
    )  # fmt: skip
