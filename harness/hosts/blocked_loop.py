"""`host.blocked_loop`: something else in the program blocks the loop that the subject runs on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.hosts import await_
from harness.hosts.base import live

if TYPE_CHECKING:
    from harness.hosts.base import Ride

AFTER_NS = 3 * NS_PER_S
SLICE_S = 0.05


def run(ride: Ride) -> None:
    """Block the loop for a while once data flows."""
    if not ride.start_is_async:
        await_.run(ride)
        return
    asyncio.run(live(ride, _block(ride)))


async def _block(ride: Ride) -> None:
    await asyncio.sleep(ride.setting("after", AFTER_NS) / NS_PER_S)
    duration_ns = ride.setting("duration", None)
    how_long = "for ever" if duration_ns is None else f"for {duration_ns / NS_PER_S:g} s"
    ride.say(f"another callback blocks the event loop {how_long}")
    ends = None if duration_ns is None else time.monotonic() + duration_ns / NS_PER_S  # noqa: TID251 - a host is at the edge
    while not ride.over.is_set() and (ends is None or time.monotonic() < ends):  # noqa: TID251 - as above
        time.sleep(SLICE_S)  # noqa: ASYNC251 - blocking the loop is what this host is for
