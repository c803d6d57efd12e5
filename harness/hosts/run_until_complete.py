"""`host.run_until_complete`: the loop runs start() and never again; what start() left on it waits for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.hosts import await_
from harness.hosts.base import start

if TYPE_CHECKING:
    from harness.hosts.base import Ride


def run(ride: Ride) -> None:
    """Run start() to its end, and nothing after it."""
    if not ride.start_is_async:
        await_.run(ride)
        return
    # Held by this frame, so that the tasks are pending and not collected, as in the program that it is taken from.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(start(ride))
    ride.over.wait()
