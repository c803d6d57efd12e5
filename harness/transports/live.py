"""The exchange on real loopback sockets: a thread of its own, a loop of its own.

Nothing the subject does can block it, and nothing here sleeps for a frame: the loop waits for a socket or for
the next absolute deadline, then sends what is due in one go.

A selector loop is written out here instead of taken from asyncio because it has to do what no event
loop offers: reset instead of close, stop reading, hang after accept, speak broken TLS.
"""

from __future__ import annotations

import heapq
import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar

from harness import clock
from harness.errors import HarnessBug, UsageError
from harness.exchange.core import Exchange
from harness.ledger import Ledger
from harness.transports.authority import Authority
from harness.transports.client import Client, has_left, reset_socket
from harness.transports.gate import Gate
from harness.transports.pipe import Pipe, TlsSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from harness.exchange.settings import ExchangeSettings
    from harness.faults.plan import Plan
    from harness.ledger import AnyEntry
    from harness.timeline import Timeline

T = TypeVar("T")

NS = 1_000_000_000
LEFT_CHECK_NS = NS // 4
"""How often a connection that is not read is asked whether its client is still there."""
READ_BYTES = 64 * 1024
OUT_BYTES_MAX = 512 * 1024
"""Above this a connection produces nothing more, and is not read, until its socket has taken some."""
FD_SETSIZE = 1024
"""select() takes no descriptor from here on."""
ACCEPTS = 256
"""How many connections are taken in before those that are open get their turn."""
TURNS = 8
"""How often one connection may fill its socket before the others get their turn; when many want to, they share that."""

_Epoll: Any = getattr(selectors, "EpollSelector", ())


class LiveExchange:
    """
    A running exchange; a context manager.

    Args:
        timeline: the tape to play, or an `Exchange` made elsewhere.
        plan: what goes wrong.
        settings: pace, dialect, limits.
        write: takes ledger entries, from the exchange's thread; None keeps them in `ledger`.
        bind: address to listen on; loopback unless asked otherwise.
        port: of ws and http; 0 for any free one.
        tls: listen for wss and https too, with a certificate of the session's CA.
        tls_port: of wss and https; 0 for any free one.

    Raises:
        UsageError: a port is in use, or the address is not ours.
    """

    def __init__(
        self,
        timeline: Timeline | Exchange,
        plan: Plan | None = None,
        *,
        settings: ExchangeSettings | None = None,
        write: Callable[[AnyEntry], None] | None = None,
        bind: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        tls_port: int = 0,
    ) -> None:
        self.ledger = Ledger(clock.monotonic_ns())
        if isinstance(timeline, Exchange):
            self.exchange = timeline
        else:
            self.exchange = Exchange(
                timeline, plan, settings=settings, write=write or self.ledger.write,
                wall_offset_ns=clock.wall_ns() - clock.monotonic_ns(),
            )  # fmt: skip
        self._bind, self._port, self._tls_port = bind, port, tls_port
        self._tls = tls
        self.authority: Authority | None = None
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, Client] = {}
        self._timers: list[tuple[int, int]] = []
        self._ready: dict[int, None] = {}
        self._turns = TURNS
        self._calls: deque[Callable[[], None]] = deque()
        self._listeners: dict[str, socket.socket] = {}
        self._numbers_lock = threading.Lock()
        self._gate = Gate(self.exchange, self._numbers_lock, self._find_port)
        self._stopping = False
        self._accepting_from_ns = 0
        self._thread: threading.Thread | None = None
        self._bugs: list[BaseException] = []
        self._waker, self._woken = socket.socketpair()

    # --- Life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.raise_bugs()

    def start(self) -> Self:
        """Listen, and serve from a thread of its own."""
        try:
            self._listen("ws", self._port)
            if self._tls:
                self.authority = Authority()
                self._listen("wss", self._tls_port)
                # Hosts that have only REST come to an origin of their own, so they take no numbers.
                self._listen("https", 0)
        except BaseException:
            self._release()
            raise
        for sock in (self._waker, self._woken):
            sock.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="harness-exchange", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Close every connection and listener and wait for the thread. May be called twice."""
        if self._thread is not None:
            self._stopping = True
            self._wake()
            self._thread.join()
            self._thread = None
        self._release()

    def raise_bugs(self) -> None:
        """Raise what went wrong inside the exchange itself, if anything did."""
        if self._bugs:
            bugs, self._bugs = self._bugs, []
            raise HarnessBug(f"the exchange failed while serving: {bugs[0]!r}") from bugs[0]

    def _release(self) -> None:
        for sock in self._listeners.values():
            sock.close()
        self._listeners.clear()
        self._gate.close()
        if self._selector.get_map() is not None:
            self._selector.close()
        self._waker.close()
        self._woken.close()
        if self.authority is not None:
            self.authority.close()

    def _listen(self, name: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in self._bind else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._listeners[name] = sock
        if os.name == "posix":
            # Elsewhere this option would let two servers share a port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._bind, port))
            sock.listen(1024)
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise UsageError(
                f"cannot listen on {self._bind}:{port}: {problem}; choose another --port, or 0 for any free one"
            ) from error
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, name)

    # --- Addresses ---------------------------------------------------------------------------------

    def _find_port(self, name: str) -> int | None:
        return self._port_of(name) if name in self._listeners else None

    def _port_of(self, name: str) -> int:
        return int(self._listeners[name].getsockname()[1])

    @property
    def urls(self) -> dict[str, str | None]:
        """Where it listens: `ws`, `http`, `wss`, `https`, `cafile`; the last three are None without TLS."""
        host = "localhost" if self._bind in {"0.0.0.0", "::"} else self._bind
        host = f"[{host}]" if ":" in host else host
        plain = f"{host}:{self._port_of('ws')}"
        urls: dict[str, str | None] = {"ws": f"ws://{plain}", "http": f"http://{plain}"}
        if self.authority is None:
            return urls | {"wss": None, "https": None, "cafile": None}
        secure = f"{host}:{self._port_of('wss')}"
        return urls | {"wss": f"wss://{secure}", "https": f"https://{secure}", "cafile": str(self.authority.cafile)}

    @property
    def cafile(self) -> Path | None:
        """The CA that clients of wss and https must trust."""
        return None if self.authority is None else self.authority.cafile

    def gate(self, host: str, port: int) -> tuple[str, int]:
        """
        Resolve one of the real hosts on behalf of the subject, as the manners of its next connection say.

        Called from the subject's own thread, where it may sleep. Faults of name resolution and of connecting
        strike the hosts that have streams; the hosts that have only REST always resolve.

        Args:
            host: the name the subject asked for.
            port: the port it wants; 80 and 8080 are plain, every other one is TLS.

        Returns:
            The address to connect to.

        Raises:
            OSError: `socket.gaierror`, when the name is made not to resolve.
        """
        return self._gate(host, port)

    # --- From other threads -------------------------------------------------------------------------

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the exchange's thread and return its result; reading state elsewhere is a race."""
        done = threading.Event()
        box: list[Any] = []

        def run() -> None:
            try:
                box.append((function(), None))
            except BaseException as error:
                box.append((None, error))
            done.set()

        if self._thread is None:
            run()
        else:
            self._calls.append(run)
            self._wake()
            while not done.wait(0.5):
                if not self._thread.is_alive():
                    raise HarnessBug("the exchange's thread is gone")
        result, error = box[0]
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _wake(self) -> None:
        try:
            self._waker.send(b"!")
        except OSError:
            pass  # full: it is awake already; closed: it is gone

    # --- The loop ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            self._say_goodbye()
        except BaseException as error:
            self._bugs.append(error)
        finally:
            for client in list(self._clients.values()):
                self._drop(client, reset=True)

    def _turn(self) -> None:
        for key, mask in self._wait():
            if isinstance(key.data, Client):
                if mask & selectors.EVENT_READ:
                    self._read(key.data)
                if mask & selectors.EVENT_WRITE:
                    self._ready[key.fd] = None
            elif key.data is None:
                self._run_calls()
            else:
                self._accept(key.data)
        now = clock.monotonic_ns()
        due = self.exchange.timers.next_due_ns()
        if due is not None and due <= now:
            self.exchange.advance_to(now)
            self._ready.update(dict.fromkeys(self._clients))
        while self._timers and self._timers[0][0] <= now:
            due, fd = heapq.heappop(self._timers)
            client = self._clients.get(fd)
            if client is not None and client.timer_ns == due:
                client.timer_ns = 0
                self._ready[fd] = None
        ready, self._ready = self._ready, {}
        self._turns = max(1, TURNS // max(1, len(ready)))
        self._guard_each(ready, self._service)
        if not self._ready:
            self._guard_each(ready, _prepare)

    def _guard_each(self, descriptors: Iterable[int], step: Callable[[Client], None]) -> None:
        for fd in descriptors:
            client = self._clients.get(fd)
            if client is not None:
                self._guarded(step, client)

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        timeout_s = self._timeout_s()
        if timeout_s and isinstance(self._selector, _Epoll) and self._selector.fileno() < FD_SETSIZE:
            # epoll counts in milliseconds, and up; select() counts in microseconds, and takes an epoll for a file.
            select.select([self._selector], [], [], timeout_s)
            timeout_s = 0
        return self._selector.select(timeout_s)

    def _timeout_s(self) -> float | None:
        if self._ready or self._stopping:
            return 0
        due = self.exchange.timers.next_due_ns()
        if self._timers and (due is None or self._timers[0][0] < due):
            due = self._timers[0][0]
        return None if due is None else max(0, due - clock.monotonic_ns()) / NS

    def _run_calls(self) -> None:
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass
        while self._calls:
            self._calls.popleft()()
            # Whatever was changed may be due at once.
            self._ready.update(dict.fromkeys(self._clients))

    def _guarded(self, step: Callable[[Client], None], client: Client) -> None:
        # A mistake of ours in one connection must not take the others with it; it is raised at the end.
        try:
            step(client)
        except Exception as error:
            self._bugs.append(error)
            self._drop(client, reset=True)

    def _accept(self, name: str) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._listeners[name].accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                # Out of descriptors: wait for one to come back instead of spinning.
                time.sleep(0.01)
                return
            try:
                self._welcome(sock, name)
            except Exception as error:
                self._bugs.append(error)
                self._clients.pop(sock.fileno(), None)
                reset_socket(sock)

    def _welcome(self, sock: socket.socket, name: str) -> None:
        now = clock.monotonic_ns()
        if len(self._clients) >= self.exchange.settings.connections_max:
            reset_socket(sock)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = name in {"wss", "https"}
        with self._numbers_lock:
            connection = self.exchange.connection(secure=secure, now_ns=now, rest_only=name == "https")
        manners = connection.manners
        tls = TlsSide(manners.tls, self.authority) if secure and self.authority is not None else None
        client = Client(sock, Pipe(connection, tls))
        self._clients[sock.fileno()] = client
        if manners.dial.accept != "ok":
            client.hung = connection.turn_away(manners.dial.accept, now)
        client.delayed_until_ns = now + manners.dial.accept_delay_ns
        self._ready[sock.fileno()] = None

    def _read(self, client: Client) -> None:
        try:
            data = client.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            client.pipe.receive_reset(clock.monotonic_ns())
            self._drop(client, reset=True)
            return
        self._ready[client.sock.fileno()] = None
        if client.hung:
            if not data:
                self._drop(client, reset=False)
            return
        self._guarded(lambda c: self._take(c, data), client)

    def _take(self, client: Client, data: bytes) -> None:
        now = clock.monotonic_ns()
        if data:
            client.pipe.receive_data(data, now)
        else:
            client.eof = True
            client.pipe.receive_eof(now)

    def _service(self, client: Client) -> None:
        now = clock.monotonic_ns()
        if client.hung or now < client.delayed_until_ns:
            self._set_interest(client, selectors.EVENT_READ if client.hung else 0)
            self._schedule(client, None if client.hung else client.delayed_until_ns)
            return
        pipe = client.pipe
        due: int | None = None
        for _ in range(self._turns):
            pipe.set_writable(client.out_bytes < OUT_BYTES_MAX)
            pipe.advance_to(now)
            items = pipe.data_to_send(now)
            client.queue(items)
            fate = client.flush(now)
            if fate != "open":
                if fate == "lost":
                    pipe.receive_reset(now)
                self._drop(client, reset=True)
                return
            due = pipe.next_due_ns()
            if not items or client.out or due is None or due > now:
                break
        pipe.set_writable(client.out_bytes < OUT_BYTES_MAX)
        due = pipe.next_due_ns()
        if self._finished(client, now):
            return
        interest = 0
        # Behind our FIN everything is read and thrown away: closing with bytes unread would turn it into RST.
        reading = pipe.reading or client.fin_sent
        if not client.eof and reading and client.out_bytes < OUT_BYTES_MAX:
            interest |= selectors.EVENT_READ
        if client.out and not client.reset_by_ns:
            interest |= selectors.EVENT_WRITE
        self._set_interest(client, interest)
        if not reading:
            # Nobody reads the socket, so whether the client is still there must be asked.
            if has_left(client.sock):
                pipe.receive_reset(now)
                self._drop(client, reset=True)
                return
            due = min(due or now + LEFT_CHECK_NS, now + LEFT_CHECK_NS)
        if client.reset_by_ns:
            due = now + NS // 1000
        if client.doom_ns:
            due = client.doom_ns if due is None else min(due, client.doom_ns)
        self._schedule(client, due)

    def _finished(self, client: Client, now: int) -> bool:
        if client.pipe.connection.state != "over":
            return False
        if client.fin_sent and client.eof and not client.out:
            self._drop(client, reset=False)
            return True
        if not client.doom_ns:
            wait = self.exchange.settings.close_wait_ns + client.pipe.connection.manners.link.close_delay_ns
            client.doom_ns = now + wait + NS
        elif now >= client.doom_ns:
            # On a dead link the client must not see how it ends; its own FIN ends it.
            if not client.pipe.connection.manners.link.mute_down or client.eof:
                self._drop(client, reset=True)
                return True
            client.doom_ns = now + 60 * NS
        return False

    def _set_interest(self, client: Client, interest: int) -> None:
        if interest == client.interest:
            return
        if not client.interest:
            self._selector.register(client.sock, interest, client)
        elif not interest:
            self._selector.unregister(client.sock)
        else:
            self._selector.modify(client.sock, interest, client)
        client.interest = interest

    def _schedule(self, client: Client, due: int | None) -> None:
        if due is None or (client.timer_ns and client.timer_ns <= due):
            return
        client.timer_ns = due
        heapq.heappush(self._timers, (due, client.sock.fileno()))
        if len(self._timers) > 64 + 8 * len(self._clients):
            # Timers that were overtaken stay in the heap; keep that bounded.
            self._timers = [(c.timer_ns, fd) for fd, c in self._clients.items() if c.timer_ns]
            heapq.heapify(self._timers)

    def _drop(self, client: Client, *, reset: bool) -> None:
        if self._clients.pop(client.sock.fileno(), None) is None:
            return
        self._set_interest(client, 0)
        connection = client.pipe.connection
        if connection.state != "over":
            connection.receive_reset(clock.monotonic_ns())
        if reset:
            reset_socket(client.sock)
        else:
            client.sock.close()

    def _say_goodbye(self) -> None:
        for listener in self._listeners.values():
            self._selector.unregister(listener)
        for client in list(self._clients.values()):
            client.pipe.connection.shut_down(clock.monotonic_ns())
            self._ready[client.sock.fileno()] = None
        # A moment for the farewells; a client that does not read them is cut off.
        end = clock.monotonic_ns() + NS // 4
        self._stopping = False
        while self._clients and clock.monotonic_ns() < end:
            if not self._timers and not self._ready:
                self._timers.append((end, -1))
            self._timers.append((end, -1))
            heapq.heapify(self._timers)
            self._turn()
        self._stopping = True


def _prepare(client: Client) -> None:
    client.pipe.connection.prepare()
