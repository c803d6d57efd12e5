"""What the network does to bytes, below TLS: sans-I/O, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from harness.exchange.commands import Fin, Relink, Reset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from harness.actions import Link
    from harness.exchange.commands import Outgoing, Pushed

NS = 1_000_000_000

ROOM_BYTES = 256 * 1024
"""What a muted or slow link holds, as the send buffer of a real server would."""


class Shaper:
    """
    Delays, cuts, mutes and spoils what passes.

    Args:
        link: the link's manners; a `Relink` that is pushed changes them.
        rng: for jitter and corruption.
        now_ns: time of the first byte that could pass.
    """

    def __init__(self, link: Link, rng: Random, now_ns: int) -> None:
        self._link = link
        self._rng = rng
        self._down: deque[tuple[int, Pushed]] = deque()
        self._held_bytes = 0
        self._up: list[bytes] = []
        self._up_bytes = 0
        self._free_ns = now_ns  # when the link has passed on what it took so far
        self._last_due_ns = now_ns
        self._passed_bytes = 0
        self._traffic_ns = now_ns
        self._broken = False  # bytes were lost: nothing after them makes sense
        self._over = False
        self._muted = link.mute_down
        self.ended_by = ""
        """`limit`, `idle` or `lost` once the link itself has ended the connection."""

    def _relink(self, change: Relink, now_ns: int) -> None:
        was_mute = self._link.mute_down
        self._link = change.link
        if not change.link.mute_down:
            self._muted = False
            self._down = deque(item for item in self._down if not isinstance(item[1], Relink))
        elif not was_mute:
            # Mute from this place on: what was sent before still comes.
            self._muted = False
            self._append(max(now_ns, self._last_due_ns), change)

    @property
    def room(self) -> bool:
        """True while more may be pushed."""
        return self._held_bytes < ROOM_BYTES or self._broken

    @property
    def reading(self) -> bool:
        """False while the exchange must not read its socket."""
        return self._link.reading

    def push(self, items: Sequence[Pushed], now_ns: int) -> None:
        """Take what the exchange sends."""
        for item in items:
            if self._over:
                return
            if isinstance(item, Relink):
                self._relink(item, now_ns)
            elif isinstance(item, (Fin, Reset)):
                delay = self._link.close_delay_ns if isinstance(item, Fin) else 0
                self._append(max(now_ns, self._last_due_ns) + delay, item)
            else:
                self._push_bytes(item, now_ns)

    def _push_bytes(self, data: bytes | memoryview, now_ns: int) -> None:
        manners = self._link
        if manners.limit_bytes >= 0:
            left = max(0, manners.limit_bytes - self._passed_bytes)
            if len(data) > left:
                self._shape(memoryview(data)[:left], now_ns, manners)
                self._append(max(now_ns, self._last_due_ns), Fin(ragged=True))
                self._over, self.ended_by = True, "limit"
                return
        self._shape(data, now_ns, manners)

    def _shape(self, data: bytes | memoryview, now_ns: int, manners: Link) -> None:
        if not len(data):
            return
        if manners.mute_down and self._held_bytes + len(data) > ROOM_BYTES:
            self._broken = True  # as a send buffer that is full: the rest is never sent
        if self._broken:
            return
        self._passed_bytes += len(data)
        if manners.corrupt_per_million:
            data = self._spoiled(data, manners.corrupt_per_million)
        if not (manners.latency_ns or manners.jitter_ns or manners.bytes_per_s or manners.slice_bytes):
            self._append(max(now_ns, self._last_due_ns), data)
            return
        size = manners.slice_bytes or len(data)
        if manners.bytes_per_s:
            # Ten milliseconds' worth at a time, so that the cap is smooth.
            size = min(size, max(1, manners.bytes_per_s // 100))
        view = memoryview(data)
        for start in range(0, len(data), size):
            piece = view[start : start + size]
            self._free_ns = max(self._free_ns, now_ns)
            if manners.bytes_per_s:
                self._free_ns += len(piece) * NS // manners.bytes_per_s
            elif start and manners.slice_delay_ns:
                self._free_ns += manners.slice_delay_ns
            wait = manners.latency_ns
            if manners.jitter_ns:
                wait += self._rng.randint(-manners.jitter_ns, manners.jitter_ns)
            self._append(max(self._free_ns + max(0, wait), self._last_due_ns), piece)

    def _spoiled(self, data: bytes | memoryview, per_million: int) -> bytes:
        spoiled = bytearray(data)
        # Jump from one bad byte to the next instead of drawing for every byte.
        chance = min(per_million, 1_000_000) / 1_000_000
        position = 0
        while True:
            position += 1 if chance >= 1 else int(self._rng.expovariate(1) / chance) + 1
            if position > len(spoiled):
                return bytes(spoiled)
            spoiled[position - 1] ^= 1 << self._rng.randrange(8)

    def _append(self, due_ns: int, item: Pushed) -> None:
        self._last_due_ns = max(self._last_due_ns, due_ns)
        self._down.append((due_ns, item))
        if not isinstance(item, (Fin, Reset, Relink)):
            self._held_bytes += len(item)

    def ready(self, now_ns: int) -> list[Outgoing]:
        """What reaches the client's side now."""
        manners = self._link
        if manners.idle_kill_ns and now_ns >= self._traffic_ns + manners.idle_kill_ns and not self._over:
            self._over, self.ended_by = True, "idle"
            self._down.clear()
            return [Reset()]
        if not self._down:
            return []
        if self._muted:
            return []  # FIN and RST do not pass a muted link either
        items: list[Outgoing] = []
        while self._down and self._down[0][0] <= now_ns:
            item = self._down.popleft()[1]
            if isinstance(item, Relink):
                self._muted = True
                break
            if isinstance(item, (Fin, Reset)):
                items.append(item)
                continue
            if self._broken:
                continue
            self._held_bytes -= len(item)
            self._traffic_ns = now_ns
            items.append(item)
            if manners.slice_bytes and self._down and self._down[0][0] <= now_ns:
                break  # one slice a write; the next is due at once
        if self._broken and not self._over and items == []:
            # The link came back after bytes were lost; TCP would have given up.
            self._over, self.ended_by = True, "lost"
            items.append(Reset())
        return items

    def receive(self, data: bytes, now_ns: int) -> bytes:
        """Take what the client sent; return what the exchange sees of it."""
        self._traffic_ns = now_ns
        if not self._link.mute_up:
            return self.released() + data
        if self._up_bytes + len(data) <= ROOM_BYTES:
            self._up.append(data)
            self._up_bytes += len(data)
        else:
            self._broken = True
        return b""

    def released(self) -> bytes:
        """What was held back on its way up and may pass now."""
        if not self._up or self._link.mute_up:
            return b""
        held, self._up, self._up_bytes = b"".join(self._up), [], 0
        return held

    def next_due_ns(self) -> int | None:
        """When `ready` has something to say next, or None."""
        manners = self._link
        due = [self._traffic_ns + manners.idle_kill_ns] if manners.idle_kill_ns and not self._over else []
        if self._down and not self._muted:
            due.append(self._down[0][0])
        return min(due, default=None)
