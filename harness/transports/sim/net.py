"""The exchange in memory: the same core, script and TLS as the live one, reached without sockets.

    name ──▶ Gate ──▶ address ──▶ Network.connect ──▶ Cable ──▶ Pipe ──▶ ExchangeConnection

Addresses stand for what the live exchange has ports for, so that resolvers and happy eyeballs, which pass them
around, need to know nothing.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from harness import clock
from harness.errors import HarnessBug
from harness.exchange.core import Exchange
from harness.ledger import Ledger
from harness.transports.authority import Authority
from harness.transports.gate import Gate
from harness.transports.pipe import Pipe, TlsSide
from harness.transports.sim.wire import WIRE_NS, Cable
from harness.transports.sim.world import NS, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from harness.exchange.settings import ExchangeSettings
    from harness.faults.plan import Plan
    from harness.ledger import AnyEntry
    from harness.timeline import Timeline
    from harness.transports.sim.loop import SimLoop

T = TypeVar("T")

ADDRESSES = {"ws": "127.0.18.1", "wss": "127.0.18.2", "https": "127.0.18.3"}
"""Each origin has an address of its own, not a port: some clients keep the port they asked for."""
PORTS = {"ws": 80, "wss": 443, "https": 443}
REFUSING, BLACKHOLE = "127.0.18.4", "127.0.18.5"
CONNECT_LIMIT_NS = 127 * NS
"""How long Linux tries to reach an address that never answers (tcp_syn_retries = 6)."""


_PLACES = (*ADDRESSES.values(), REFUSING, BLACKHOLE)


class _SimGate(Gate):
    """The same, with nothing to hold: where it leads is an address, which nobody else has."""

    def __init__(self, exchange: Exchange) -> None:
        places = {name: _PLACES.index(address) for name, address in ADDRESSES.items()}
        super().__init__(exchange, threading.Lock(), places.get)

    def __call__(self, host: str, port: int) -> tuple[str, int]:
        """Resolve a name."""
        _, place = super().__call__(host, port)
        return _PLACES[place], port

    def _refusing(self) -> int:
        return _PLACES.index(REFUSING)

    def _blackhole(self) -> int:
        return _PLACES.index(BLACKHOLE)


class Network:
    """
    What connections lead to.

    Args:
        world: keeps the time.
        exchange: who answers.
        authority: makes the certificates; None when only `ws` is served.
    """

    def __init__(self, world: World, exchange: Exchange, authority: Authority | None) -> None:
        self.world = world
        self.exchange = exchange
        self.authority = authority
        self.cables: dict[Cable, None] = {}
        self.bugs: list[BaseException] = []
        self._timer_ns = 0

    async def connect(self, loop: SimLoop, address: Any) -> Cable:
        """
        Connect to an address.

        Raises:
            OSError: nobody listens there.
            SubjectError: it is not one of the exchange's.
        """
        host, port = address[0], int(address[1])
        answer = loop.create_future()
        if host == BLACKHOLE:
            self.world.at(
                self.world.now_ns + CONNECT_LIMIT_NS,
                partial(self._answer, loop, answer, TimeoutError, errno.ETIMEDOUT, address),
            )
        elif host == REFUSING:
            self.world.at(
                self.world.now_ns + 2 * WIRE_NS,
                partial(self._answer, loop, answer, ConnectionRefusedError, errno.ECONNREFUSED, address),
            )
        elif host in ADDRESSES.values():
            name = next(name for name, address in ADDRESSES.items() if address == host)
            self.world.at(self.world.now_ns + WIRE_NS, partial(self._accept, loop, answer, name))
        else:
            raise self.world.fence(f"{host}:{port}, nor anything else but the exchange, in its network")
        try:
            cable: Cable = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result().hang_up(reset=False)
            raise
        return cable

    @staticmethod
    def _answer(loop: SimLoop, answer: Any, kind: type[OSError], number: int, address: Any) -> None:
        def fail() -> None:
            if not answer.done():
                answer.set_exception(kind(number, f"Connect call failed {address}"))

        loop.deliver(fail)

    def _accept(self, loop: SimLoop, answer: Any, name: str) -> None:
        now = self.world.now_ns
        secure = name != "ws"
        connection = self.exchange.connection(secure=secure, now_ns=now, rest_only=name == "https")
        manners = connection.manners
        tls = TlsSide(manners.tls, self.authority) if secure and self.authority is not None else None
        cable = Cable(self, Pipe(connection, tls))
        self.cables[cable] = None
        cable.delayed_until_ns = now + manners.dial.accept_delay_ns
        self.world.at(now + WIRE_NS, partial(self._connected, loop, answer, cable))
        if manners.dial.accept != "ok":
            cable.hung = connection.turn_away(manners.dial.accept, now)
        cable.service()

    @staticmethod
    def _connected(loop: SimLoop, answer: Any, cable: Cable) -> None:
        def succeed() -> None:
            if answer.done():
                cable.hang_up(reset=False)
            else:
                answer.set_result(cable)

        loop.deliver(succeed)

    def keep_time(self) -> None:
        """Come back when something is due for the exchange itself."""
        due_ns = self.exchange.timers.next_due_ns()
        if due_ns is not None and (not self._timer_ns or due_ns < self._timer_ns):
            self._timer_ns = due_ns
            self.world.at(due_ns, partial(self._timer, due_ns))

    def _timer(self, due_ns: int) -> None:
        if self._timer_ns != due_ns:
            return
        self._timer_ns = 0
        self.exchange.advance_to(self.world.now_ns)
        for cable in list(self.cables):
            cable.service()
        self.keep_time()


class SimExchange:
    """
    A running exchange in memory; what `LiveExchange` is on loopback, with the same face.

    Args:
        world: keeps the time.
        timeline: the tape to play.
        plan: what goes wrong.
        settings: pace, dialect, limits.
        write: takes ledger entries; None keeps them in `ledger`.
        authority: makes the certificates, RSA: the signatures of other kinds vary in length, and
            with them the times of a link of limited bandwidth. None makes one.
    """

    def __init__(
        self,
        world: World,
        timeline: Timeline,
        plan: Plan | None = None,
        *,
        settings: ExchangeSettings | None = None,
        write: Callable[[AnyEntry], None] | None = None,
        authority: Authority | None = None,
    ) -> None:
        self.ledger = Ledger(world.now_ns)
        self.world = world
        self.exchange = Exchange(
            timeline, plan, settings=settings, write=write or self.ledger.write, wall_offset_ns=world.wall_offset_ns
        )
        self._own = authority is None
        self.authority = authority or Authority(rsa=True)
        self.network = Network(world, self.exchange, self.authority)
        self.gate = _SimGate(self.exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.raise_bugs()

    def close(self) -> None:
        """Forget the keys. May be called twice."""
        if self._own:
            self.authority.close()

    def raise_bugs(self) -> None:
        """Raise what went wrong inside the exchange itself, if anything did."""
        if self.network.bugs:
            bugs, self.network.bugs = self.network.bugs, []
            raise HarnessBug(f"the exchange failed while serving: {bugs[0]!r}") from bugs[0]

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the exchange's own time, which is everybody's here."""
        result = function()
        for cable in list(self.network.cables):
            cable.service()
        return result

    @property
    def urls(self) -> dict[str, str | None]:
        """Where it is, for clients inside the simulation."""
        found: dict[str, str | None] = {name: f"{name}://{ADDRESSES[name]}:{port}" for name, port in PORTS.items()}
        return found | {"http": f"http://{ADDRESSES['ws']}:{PORTS['ws']}", "cafile": str(self.authority.cafile)}

    @property
    def cafile(self) -> Path:
        """The CA that clients of wss and https must trust."""
        return self.authority.cafile


def lookup(gate: Callable[[str, int], tuple[str, int]], host: Any, port: Any) -> tuple[str, int]:
    """Where a name leads; addresses lead to themselves."""
    name = host.decode("idna") if isinstance(host, (bytes, bytearray)) else (host or "127.0.0.1")
    number = int(port) if port is not None and str(port).isdigit() else socket.getservbyname(port) if port else 0
    if name == "localhost" or name.startswith("127.") or name in {"::1", "0.0.0.0", "::"}:
        return (name if name.startswith("127.") else "127.0.0.1"), number
    return gate(name, number)


assert clock.NS_PER_S == NS
