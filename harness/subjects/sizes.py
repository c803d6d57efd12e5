"""How big the subject's containers are: what grows without bound, grows here."""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.clock import monotonic_ns
from harness.ledger import MetricsRead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.ledger import AnyEntry

DEPTH = 4
WIDTH = 40
"""Attributes looked at per object."""
MIN_SIZE = 50
"""Smaller containers are not worth a line."""


def poll(subject: Any, write: Callable[[AnyEntry], None]) -> None:
    """Write the size of every container that hangs on a subject."""
    now_ns = monotonic_ns()
    for name, size in _sizes(subject, "", 0, set()):
        write(MetricsRead(at_ns=now_ns, name=f"size {name}", value=str(size), before_ns=now_ns))


def _sizes(thing: Any, path: str, depth: int, seen: set[int]) -> Iterator[tuple[str, int]]:
    if depth > DEPTH or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, (asyncio.Queue, queue.Queue)):
        if thing.qsize() >= MIN_SIZE:
            yield f"{path} (queue)", thing.qsize()
        return
    if isinstance(thing, (list, deque, set)):
        # What is bounded by its own make cannot leak.
        if len(thing) >= MIN_SIZE and getattr(thing, "maxlen", None) is None:
            yield path, len(thing)
        return
    if isinstance(thing, Mapping):
        if len(thing) >= MIN_SIZE:
            yield path, len(thing)
            return
        for key, value in list(thing.items())[:WIDTH]:
            yield from _sizes(value, f"{path}[{key!r}]", depth + 1, seen)
        return
    fields = getattr(thing, "__dict__", None)
    if (
        isinstance(fields, dict)
        and not isinstance(thing, type)
        and type(thing).__module__ not in ("builtins", "logging", "asyncio")
    ):
        for name, value in list(fields.items())[:WIDTH]:
            yield from _sizes(value, f"{path}.{name}".lstrip("."), depth + 1, seen)
