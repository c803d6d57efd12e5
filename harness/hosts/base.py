"""What a host is given, and the two sound ways to run a subject that the others bend."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Awaitable

POLL_S = 0.05
WIND_DOWN_S = 0.5
"""After stop(), a moment for closing handshakes before anything counts as left behind."""


class Ride(Protocol):
    """A subject as its host sees it."""

    over: threading.Event
    """Set when the observation is closed: the host should stop the subject."""
    start_is_async: bool
    can_stop: bool
    settings: Any
    """Settings of the `host.*` fault; None when it has none."""

    def start(self) -> Awaitable[Any] | None:
        """Call the subject's start; an awaitable comes back when it is asynchronous."""
        ...

    def stop(self) -> Awaitable[Any] | None:
        """Call the subject's stop, if it has one."""
        ...

    def drop_unrun_tasks(self) -> bool:
        """Whether start() left tasks on this thread's loop, which has never run; they are cancelled."""
        ...

    def renew(self) -> None:
        """Make a fresh subject: the first one was started where it cannot run."""
        ...

    def let_go(self) -> None:
        """Hold the subject no longer."""
        ...

    def failed(self, where: str, problem: BaseException) -> None:
        """Note an exception that the subject let out."""
        ...

    def stopping(self) -> None:
        """Note that stop() is about to be called."""
        ...

    def stopped(self) -> None:
        """Note that stop() returned, and take stock of what is left."""
        ...

    def say(self, text: str) -> None:
        """Note what the host did to the subject, as evidence."""
        ...

    def slow_down(self, delay_ns: int) -> None:
        """Let every accepted trade take so much longer."""
        ...

    def setting(self, name: str, default: Any) -> Any:
        """A setting of the host, or the default."""
        ...


async def start(ride: Ride) -> None:
    """Let the subject begin, and wait until it has returned."""
    try:
        result = ride.start()
        if result is not None:
            await result
    except Exception as problem:
        ride.failed("start", problem)


async def until_over(ride: Ride) -> None:
    """Let the loop run until the observation is closed."""
    while not ride.over.is_set():  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(POLL_S)


async def stop(ride: Ride) -> None:
    """Stop the subject."""
    ride.stopping()
    try:
        result = ride.stop()
        if result is not None:
            await result
    except (Exception, asyncio.CancelledError) as problem:
        # `task.cancel(); await task` hands its CancelledError on: nobody has cancelled us.
        ride.failed("stop", problem)
    await asyncio.sleep(WIND_DOWN_S)
    ride.stopped()


async def live(ride: Ride, meanwhile: Awaitable[Any] | None = None) -> None:
    """
    Start, run, stop, on one loop that runs all the time.

    Args:
        ride: the subject.
        meanwhile: something that happens to it in the meantime.
    """
    # A start that never returns (`await gather(*tasks)`) is as good as one that does.
    starting = asyncio.ensure_future(start(ride))
    other = asyncio.ensure_future(meanwhile) if meanwhile is not None else None
    await until_over(ride)
    if ride.can_stop:
        await stop(ride)
    for task in (starting, other):
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
    if not ride.can_stop:
        # Cancelling is then the way to stop it.
        await stop(ride)


def run_sync(ride: Ride) -> None:
    """Run a subject whose start() is an ordinary function; it may block, or keep threads of its own."""
    try:
        result = ride.start()
    except RuntimeError as problem:
        if "event loop" not in str(problem):
            ride.failed("start", problem)
            ride.over.wait()
            return
        # It needs a running loop although it is no coroutine: give it one.
        ride.renew()
        asyncio.run(live(ride))
        return
    except Exception as problem:
        ride.failed("start", problem)
        ride.over.wait()
        return
    if result is not None:
        asyncio.run(_finish(ride, result))
        return
    if ride.drop_unrun_tasks():
        # The same need: up to Python 3.13 `get_event_loop()` makes a loop where none runs.
        ride.renew()
        asyncio.run(live(ride))
        return
    ride.over.wait()
    ride.stopping()
    try:
        result = ride.stop()
        if result is not None:
            asyncio.run(awaited(result))
    except (Exception, asyncio.CancelledError) as problem:
        ride.failed("stop", problem)
    ride.stopped()


async def _finish(ride: Ride, result: Awaitable[Any]) -> None:
    starting = asyncio.ensure_future(_started(ride, result))
    await until_over(ride)
    await stop(ride)
    starting.cancel()


async def _started(ride: Ride, result: Awaitable[Any]) -> None:
    try:
        await result
    except Exception as problem:
        ride.failed("start", problem)


async def awaited(result: Awaitable[Any]) -> None:
    """Wait for whatever can be awaited: a loop runs coroutines only."""
    await result
