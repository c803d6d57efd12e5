"""`host.closed_loop`: `asyncio.run(service.start())`; the loop is closed as soon as start() returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.hosts import await_
from harness.hosts.base import start

if TYPE_CHECKING:
    from harness.hosts.base import Ride


def run(ride: Ride) -> None:
    """Run start() to its end; `asyncio.run` cancels what it left and closes the loop."""
    if not ride.start_is_async:
        await_.run(ride)
        return
    asyncio.run(start(ride))
    ride.over.wait()
