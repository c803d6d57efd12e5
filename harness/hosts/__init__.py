"""How the program around the subject runs it; one file per `host.*`.

A host is a module with `run(ride)`: it runs in the worker's main thread, starts the subject its own
way, and stops it, where it can, once `ride.over` is set. The kinds are declared in `faults.host`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError, nearest
from harness.hosts import (
    await_,
    blocked_loop,
    cancelled,
    closed_loop,
    collected,
    run_until_complete,
    slow_consumer,
    started_twice,
    thread,
)

if TYPE_CHECKING:
    from types import ModuleType

HOSTS: dict[str, ModuleType] = {
    "host.await": await_,
    "host.thread": thread,
    "host.run_until_complete": run_until_complete,
    "host.closed_loop": closed_loop,
    "host.started_twice": started_twice,
    "host.blocked_loop": blocked_loop,
    "host.cancelled": cancelled,
    "host.collected": collected,
    "host.slow_consumer": slow_consumer,
}

SOUND = frozenset({"host.await", "host.thread"})
"""Hosts that do nothing wrong: under these the subject must also be able to stop."""


def find(kind: str) -> ModuleType:
    """
    The module of a host.

    Raises:
        UsageError: there is no such host.
    """
    if kind not in HOSTS:
        raise UsageError(nearest(kind, HOSTS, noun="host"))
    return HOSTS[kind]
