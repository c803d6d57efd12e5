"""`host.cancelled`: the program cancels the subject's tasks, as a reload or a timeout around it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.hosts import await_
from harness.hosts.base import live

if TYPE_CHECKING:
    from harness.hosts.base import Ride

AFTER_NS = 3 * NS_PER_S


def run(ride: Ride) -> None:
    """Cancel everything that the subject has running, once data flows."""
    if not ride.start_is_async:
        await_.run(ride)
        return
    asyncio.run(_cancelled(ride))


async def _cancelled(ride: Ride) -> None:
    ours = asyncio.current_task()

    async def strike() -> None:
        before = {ours, asyncio.current_task()}
        await asyncio.sleep(ride.setting("after", AFTER_NS) / NS_PER_S)
        victims = [task for task in asyncio.all_tasks() if task not in before and not _is_hosts(task)]
        for task in victims:
            task.cancel()
        ride.say(f"the program cancelled {len(victims)} tasks")

    await live(ride, strike())


def _is_hosts(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "hosts" in code.co_filename and "harness" in code.co_filename
