"""`host.started_twice`: start() is called twice on the same object, by two parts of a program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.hosts import await_
from harness.hosts.base import live, start

if TYPE_CHECKING:
    from harness.hosts.base import Ride

PAUSE_S = 0.2


def run(ride: Ride) -> None:
    """Start it, and a moment later start it again."""
    if not ride.start_is_async:
        await_.run(ride)
        return
    asyncio.run(live(ride, _again(ride)))


async def _again(ride: Ride) -> None:
    await asyncio.sleep(PAUSE_S)
    ride.say("start() was called a second time")
    await start(ride)
