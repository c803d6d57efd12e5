"""One TCP connection in memory: the client's transport at one end, the exchange's `Pipe` at the other.

    protocol ◀─ Transport ◀── received ◀──(WIRE_NS)── Cable ◀── Pipe ◀── ExchangeConnection
    protocol ─▶ Transport ──▶ sent     ───(WIRE_NS)─▶ Cable ──▶ Pipe ──▶ ExchangeConnection

Both directions are queues of constant delay, so nothing overtakes anything. What is left out of TCP:
segments, retransmission, windows that grow, Nagle. A FIN, an RST and a reader that does not read
do what they do on loopback sockets.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.exchange.commands import Fin, Reset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.exchange.commands import Outgoing
    from harness.transports.pipe import Pipe
    from harness.transports.sim.net import Network
    from harness.transports.sim.transport import Transport

NS = 1_000_000_000
WIRE_NS = 100_000
"""One way, without any fault: some time, so that cause and effect have different times."""
DOWN_BYTES_MAX = 4 * 1024 * 1024
"""What is on its way to a client that does not read; about what the buffers of a loopback connection grow to."""
UP_BYTES_MAX = 256 * 1024
"""The same towards the exchange: more than that waits in the client's own buffer."""
TURNS = 8
"""How often one connection may produce before others get their turn."""


class Cable:
    """
    The far end, and the way there.

    Args:
        network: what it is part of.
        pipe: the exchange's side of this connection.
    """

    def __init__(self, network: Network, pipe: Pipe) -> None:
        self._network = network
        self._world = network.world
        self.pipe = pipe
        self.transport: Transport | None = None
        self.hung = False
        """Accepted, and never served."""
        self.delayed_until_ns = 0
        self._early: list[Any] = []  # arrived before the client's transport was there
        self._up: deque[bytes] = deque()
        self._up_bytes = 0
        self._down_bytes = 0
        self._timer_ns = 0
        self._doom_ns = 0
        self._eof = False
        self._fin_sent = False
        self._gone = False  # the client's end is closed
        self.dropped = False

    # --- Called by the client's transport ------------------------------------------------------------

    def attach(self, transport: Transport) -> None:
        """Take the client's end; what arrived meanwhile follows."""
        self.transport = transport
        early, self._early = self._early, []
        for item in early:
            transport.receive(item)

    @property
    def room(self) -> int:
        """Bytes that the client may send now."""
        return UP_BYTES_MAX - self._up_bytes

    def send(self, data: bytes) -> None:
        """Send towards the exchange."""
        self._up_bytes += len(data)
        self._world.at(self._world.now_ns + WIRE_NS, partial(self._reach, data))

    def consumed(self, size: int) -> None:
        """Note that the client has read."""
        was_full = self._down_bytes >= DOWN_BYTES_MAX
        self._down_bytes -= size
        if was_full and self._down_bytes < DOWN_BYTES_MAX:
            self._world.at(self._world.now_ns + WIRE_NS, self.service)

    def finish(self) -> None:
        """Send FIN; the client still reads."""
        self._world.at(self._world.now_ns + WIRE_NS, partial(self._ended, reset=False, closed=False))

    def hang_up(self, *, reset: bool) -> None:
        """Close the client's end: FIN, or RST when it left something unread."""
        self._world.at(self._world.now_ns + WIRE_NS, partial(self._ended, reset=reset, closed=True))

    # --- At the exchange -----------------------------------------------------------------------------

    def _reach(self, data: bytes) -> None:
        self._up.append(data)
        self.service()

    def _ended(self, *, reset: bool, closed: bool) -> None:
        self._gone = self._gone or closed
        if self.dropped or (self._eof and not reset):
            return
        self._eof = True
        if self.hung:
            self.drop(reset=False)
        elif reset:
            self.pipe.receive_reset(self._world.now_ns)
            self.drop(reset=False)
        else:
            self._take_up()
            self.pipe.receive_eof(self._world.now_ns)
            self.service()

    def _take_up(self) -> None:
        # As a server that stops reading when it may not, or while its own answers pile up.
        freed = 0
        while self._up and self.pipe.reading and self._down_bytes < DOWN_BYTES_MAX:
            data = self._up.popleft()
            freed += len(data)
            self.pipe.receive_data(data, self._world.now_ns)
        if freed:
            self._up_bytes -= freed
            if self.transport is not None and self.transport.waits_for_room:
                self._world.at(self._world.now_ns + WIRE_NS, self.transport.flush)

    def service(self) -> None:
        """Do what is due, and come back when something is."""
        if self.dropped:
            return
        try:
            self._serve()
        except Exception as error:
            # A mistake of ours in one connection must not take the others with it; it is raised at the end.
            self._network.bugs.append(error)
            self.drop(reset=True)
        self._network.keep_time()

    def _serve(self) -> None:
        now = self._world.now_ns
        if self.hung:
            return
        if now < self.delayed_until_ns:
            self._schedule(self.delayed_until_ns)
            return
        pipe, due = self.pipe, None
        for _ in range(TURNS):
            self._take_up()
            pipe.set_writable(self._down_bytes < DOWN_BYTES_MAX)
            pipe.advance_to(now)
            items = pipe.data_to_send(now)
            self._emit(items)
            if self.dropped:
                return
            due = pipe.next_due_ns()
            if not items or due is None or due > now:
                break
        pipe.set_writable(self._down_bytes < DOWN_BYTES_MAX)
        due = pipe.next_due_ns()
        if self._finished(now):
            return
        if self._doom_ns:
            due = self._doom_ns if due is None else min(due, self._doom_ns)
        self._schedule(due)

    def _finished(self, now: int) -> bool:
        # The same rules as the live transport's.
        if self.pipe.connection.state != "over":
            return False
        if self._fin_sent and self._eof:
            self.drop(reset=False)
            return True
        link = self.pipe.connection.manners.link
        if not self._doom_ns:
            self._doom_ns = now + self._network.exchange.settings.close_wait_ns + link.close_delay_ns + NS
        elif now >= self._doom_ns:
            if not link.mute_down or self._eof:
                self.drop(reset=True)
                return True
            self._doom_ns = now + 60 * NS
        return False

    def _schedule(self, due_ns: int | None) -> None:
        if due_ns is None or (self._timer_ns and self._timer_ns <= due_ns):
            return
        self._timer_ns = due_ns
        self._world.at(due_ns, partial(self._timer, due_ns))

    def _timer(self, due_ns: int) -> None:
        if self._timer_ns == due_ns:
            self._timer_ns = 0
            self.service()

    def _emit(self, items: Iterable[Outgoing]) -> None:
        pieces: list[Any] = []
        for item in items:
            if isinstance(item, (Fin, Reset)):
                self._put(pieces)
                pieces = []
                if isinstance(item, Reset):
                    self.drop(reset=True)
                    return
                if not self._fin_sent:
                    self._fin_sent = True
                    self._land_later(item)
            else:
                pieces.append(item)
        self._put(pieces)

    def _put(self, pieces: list[Any]) -> None:
        if pieces and not self._fin_sent:
            data = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
            self._down_bytes += len(data)
            self._land_later(data)

    def _land_later(self, item: Any) -> None:
        self._world.at(self._world.now_ns + WIRE_NS, partial(self._land, item))

    def _land(self, item: Any) -> None:
        if self._gone:
            # A closed socket answers data with RST.
            if isinstance(item, bytes):
                self._down_bytes -= len(item)
                if not self.dropped:
                    self.pipe.receive_reset(self._world.now_ns)
                    self.drop(reset=False)
        elif self.transport is None:
            self._early.append(item)
        else:
            self.transport.receive(item)

    def drop(self, *, reset: bool) -> None:
        """End the exchange's side."""
        if self.dropped:
            return
        self.dropped = True
        self._network.cables.pop(self, None)
        connection = self.pipe.connection
        if connection.state != "over":
            connection.receive_reset(self._world.now_ns)
        if reset:
            self._land_later(Reset())
        elif not self._fin_sent:
            self._land_later(Fin())
