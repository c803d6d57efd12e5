"""An event loop of virtual time: asyncio's own, whose selector waits for the world instead of for sockets."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import socket
import weakref
from asyncio import base_events, sslproto
from typing import TYPE_CHECKING, Any, NoReturn

from harness.transports.sim.transport import Transport
from harness.transports.sim.world import NS, Strand, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from harness.transports.sim.net import Network

# Private parts of asyncio are the seam, so types end here.
_BaseEventLoop: Any = base_events.BaseEventLoop
_TimerHandle: Any = asyncio.TimerHandle
_Task: Any = asyncio.Task
_SSLProtocol: Any = sslproto.SSLProtocol
_numbers = itertools.count(1)
_FENCED = {
    "create_server": "servers of the subject's own",
    "create_unix_connection": "Unix sockets",
    "create_unix_server": "Unix sockets",
    "create_datagram_endpoint": "datagrams",
    "connect_accepted_socket": "sockets accepted elsewhere",
    "sock_recv": "raw sockets",
    "sock_recv_into": "raw sockets",
    "sock_recvfrom": "raw sockets",
    "sock_sendall": "raw sockets",
    "sock_sendto": "raw sockets",
    "sock_accept": "raw sockets",
    "sock_sendfile": "raw sockets",
    "connect_read_pipe": "pipes",
    "connect_write_pipe": "pipes",
    "subprocess_shell": "child processes",
    "subprocess_exec": "child processes",
}
"""Asynchronous methods that need the real machine."""


class _Timer(_TimerHandle):  # type: ignore[misc]
    """Equal times in the order in which they were asked for; the stock heap leaves that open."""

    __slots__ = ("_number",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._number = next(_numbers)

    def __lt__(self, other: Any) -> bool:
        if self._when == other._when:
            return bool(self._number < other._number)
        return bool(self._when < other._when)


class Task(_Task):  # type: ignore[misc]
    """A task that is ordered in sets by when it was made, not by where it is in memory."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        self = super().__new__(cls)
        self._number = next(_numbers)  # before anything may ask for its hash
        return self

    def __hash__(self) -> int:
        return int(self._number)


class _Selector:
    """What `BaseEventLoop` waits in."""

    def __init__(self, loop: SimLoop, world: World) -> None:
        self._loop = loop
        self._world = world
        self.waiting: Strand | None = None

    def select(self, timeout: float | None) -> tuple[()]:
        world = self._world
        if timeout is not None and timeout <= 0:
            world.breathe()
            return ()
        due_ns = None if timeout is None else round(self._loop.first_due_s * NS)
        self.waiting = world.current
        try:
            world.park(due_ns, "something to happen in its event loop")
        finally:
            self.waiting = None
        return ()


class SimLoop(_BaseEventLoop):  # type: ignore[misc]
    """
    The loop that `asyncio.run` and `asyncio.new_event_loop` give to a simulated program.

    Args:
        world: keeps the time.
        network: where connections lead.
    """

    def __init__(self, world: World, network: Network) -> None:
        super().__init__()
        self._world = world
        self._network = network
        self._selector = _Selector(self, world)
        self._clock_resolution = 1e-9
        self._task_factory = _make_task
        self._dialled: weakref.WeakKeyDictionary[socket.socket, Any] = weakref.WeakKeyDictionary()
        self.set_debug(False)

    # --- What BaseEventLoop asks for ---------------------------------------------------------------

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._world.now_ns / NS

    @property
    def first_due_s(self) -> float:
        """When the first timer is due."""
        return float(self._scheduled[0]._when)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        """Call back at a moment."""
        self._check_closed()
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        """Call back after a while."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _process_events(self, _: object) -> None:
        pass

    def _write_to_self(self) -> None:
        if self._selector.waiting is not None:
            self._world.wake(self._selector.waiting)

    def deliver(self, callback: Callable[[], object], context: Any = None) -> None:
        """Call back on this loop, from the world; a loop that is closed hears nothing any more."""
        if not self.is_closed():
            self._ready.append(asyncio.Handle(callback, (), self, context))
            self._write_to_self()

    # --- Names and connections -----------------------------------------------------------------------

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Name an address: nothing here has another name than its number."""
        return str(sockaddr[0]), str(sockaddr[1])

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, ssl: Any = None, family: int = 0,
        proto: int = 0, flags: int = 0, sock: Any = None, local_addr: Any = None, server_hostname: Any = None,
        ssl_handshake_timeout: float | None = None, ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None, interleave: int | None = None, all_errors: bool = False,
    ) -> Any:  # fmt: skip
        """Connect in memory."""
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host
        if sock is not None:
            cable = self._dialled.pop(sock, None)
            if cable is None:
                raise self._world.fence("sockets that were connected elsewhere")
            sock.close()  # it named the connection, and has done its part
        elif host is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            cable = await self._dial(host, port, family, proto)
        protocol = protocol_factory()
        waiter = self.create_future()
        if ssl:
            context = None if isinstance(ssl, bool) else ssl
            secure = _SSLProtocol(
                self, protocol, context, waiter, False, server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
            )  # fmt: skip
            Transport(self, cable, secure)
            transport: Any = secure._app_transport
        else:
            transport = Transport(self, cable, protocol, waiter)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _dial(self, host: Any, port: Any, family: int, proto: int) -> Any:
        found = await self.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, proto=proto)
        problems = []
        for *_, address in found:
            try:
                return await self._network.connect(self, address)
            except OSError as problem:
                problems.append(problem)
        raise problems[0]

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect a socket in memory; `create_connection(sock=...)` then uses it. Nothing else can."""
        self._dialled[sock] = await self._network.connect(self, address)

    # --- What has no meaning here ----------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Accept a handler: no signal is ever sent to a simulated program."""

    def remove_signal_handler(self, sig: int) -> bool:
        """Take a handler back."""
        return True

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise self._world.fence("file descriptors to watch")

    add_reader = remove_reader = add_writer = remove_writer = _refuse
    _add_reader = _remove_reader = _add_writer = _remove_writer = _refuse


def _fenced(what: str) -> Callable[..., Coroutine[Any, Any, NoReturn]]:
    async def refuse(self: SimLoop, *_: Any, **__: Any) -> NoReturn:
        raise self._world.fence(what)

    return refuse


for _name, _what in _FENCED.items():
    setattr(SimLoop, _name, _fenced(_what))


def _make_task(loop: Any, coroutine: Any, **options: Any) -> Any:
    return Task(coroutine, loop=loop, **options)
