"""`host.await`: one loop that runs all the time, as `asyncio.run(main())` gives it. Sound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.hosts.base import live, run_sync

if TYPE_CHECKING:
    from harness.hosts.base import Ride


def run(ride: Ride) -> None:
    """Run the subject until the observation is closed, then stop it."""
    if ride.start_is_async:
        asyncio.run(live(ride))
    else:
        run_sync(ride)
