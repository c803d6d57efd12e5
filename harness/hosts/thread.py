"""`host.thread`: the loop runs in a thread of its own, beside a main program that does something else. Sound."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.hosts import await_

if TYPE_CHECKING:
    from harness.hosts.base import Ride


def run(ride: Ride) -> None:
    """Run the subject in a thread; the main thread waits."""
    thread = threading.Thread(target=await_.run, args=(ride,), name="subject", daemon=True)
    thread.start()
    thread.join()
