"""`host.collected`: nobody keeps a reference to the subject, and garbage is collected."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.hosts import await_
from harness.hosts.base import start, until_over

if TYPE_CHECKING:
    from harness.hosts.base import Ride

PERIOD_S = 0.25


def run(ride: Ride) -> None:
    """Start it, forget it, and collect garbage all the time."""
    if not ride.start_is_async:
        await_.run(ride)
        return
    asyncio.run(_forgotten(ride))


async def _forgotten(ride: Ride) -> None:
    await start(ride)
    await asyncio.sleep(ride.setting("after", 0) / NS_PER_S)
    ride.let_go()
    ride.say("the program kept no reference to the subject, and collected garbage")
    collecting = asyncio.ensure_future(_collect())
    await until_over(ride)
    collecting.cancel()


async def _collect() -> None:
    while True:
        gc.collect()
        await asyncio.sleep(PERIOD_S)
