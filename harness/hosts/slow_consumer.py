"""`host.slow_consumer`: whatever the program does with each trade takes too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.clock import NS_PER_MS
from harness.hosts import await_

if TYPE_CHECKING:
    from harness.hosts.base import Ride

DELAY_NS = 100 * NS_PER_MS


def run(ride: Ride) -> None:
    """Run it as usual, with a pause after every accepted trade."""
    ride.slow_down(ride.setting("delay", DELAY_NS))
    await_.run(ride)
