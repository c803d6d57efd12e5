"""What a connection hands to its transport besides bytes, and the timers that both sides of it keep."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

from harness.actions import Link  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Callable


class Fin(msgspec.Struct, frozen=True):
    """Send FIN when all bytes before it are sent; go on reading until the client's own FIN."""

    ragged: bool = False
    """Over TLS, without a close_notify before it."""


class Reset(msgspec.Struct, frozen=True):
    """Send RST when all bytes before it have left; the connection is over."""


class Below(msgspec.Struct, frozen=True):
    """Bytes for the socket itself: below TLS, without encryption."""

    data: bytes


class Relink(msgspec.Struct, frozen=True):
    """From this place in the output on, the link behaves so: what was sent before is not touched by it."""

    link: Link


Command = Fin | Reset
Outgoing = bytes | memoryview | Fin | Reset
"""What comes out of the link."""
Pushed = bytes | memoryview | Fin | Reset | Relink
"""What goes into it."""
Produced = bytes | memoryview | Fin | Reset | Below | Relink
"""What a connection makes."""


class Timers:
    """Callbacks by `(due_ns, seq)`: equal times run in the order in which they were asked for."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[int], None]]] = []
        self._seq = 0
        self._gone: set[int] = set()

    def at(self, due_ns: int, callback: Callable[[int], None]) -> int:
        """Call `callback(now_ns)` at `due_ns` or soon after; the answer is for `cancel`."""
        self._seq += 1
        heapq.heappush(self._heap, (due_ns, self._seq, callback))
        return self._seq

    def cancel(self, timer: int) -> None:
        """Forget a timer; one that has run, or was cancelled, or 0, is no mistake."""
        if any(seq == timer for _, seq, _ in self._heap):
            self._gone.add(timer)

    def clear(self) -> None:
        """Forget all timers."""
        self._heap.clear()
        self._gone.clear()

    def next_due_ns(self) -> int | None:
        """Time of the next timer, or None."""
        while self._heap and self._heap[0][1] in self._gone:
            self._gone.discard(heapq.heappop(self._heap)[1])
        return self._heap[0][0] if self._heap else None

    def run(self, now_ns: int) -> None:
        """Run what is due."""
        while (due := self.next_due_ns()) is not None and due <= now_ns:
            _, _, callback = heapq.heappop(self._heap)
            callback(now_ns)
