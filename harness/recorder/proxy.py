"""The recording proxy: between a program of somebody else's and the exchange it names.

The program is redirected here (`gate`); we dial the exchange for it, with the machine's own trust, and pass bytes
on as they come, before anything looks at them. What happened, both ways, goes into a recording; an ending is passed
on as it was: a close, the end of the stream, a reset.

    program ──TLS (session CA)──▶ proxy ──TLS (verified)──▶ exchange
                                    └── tap ── journal ── recording
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from harness import clock
from harness.errors import HarnessError
from harness.recorder.endpoints import public_url
from harness.recorder.scribe import Scribe
from harness.recorder.settings import Settings
from harness.recorder.tap import Tap
from harness.recorder.wire import explain, trust, tunnel
from harness.recording.journal import Header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

log = logging.getLogger(__name__)

THREADS = "harness-proxy"
"""What the names of our threads begin with."""
HELLO_TIMEOUT_S = 30.0
"""A program that connects and says nothing for so long is hung up on."""
RESET_PATIENCE_S = 0.25
"""A reset waits so long for the bytes before it to be on their way."""
_TLS_HANDSHAKE = 0x16
_SIOCOUTQ = 0x5411  # bytes the other side has not acknowledged (linux/sockios.h)


class RecordingProxy:
    """
    A proxy on loopback, with a thread of its own.

    Use as a context manager, or `start` and `stop`. Give `gate` to the redirect that leads the program here.

    Args:
        out: a folder, or one `.parquet` file, for what is recorded.
        context: what the program meets when it speaks TLS; its certificate must carry the real hosts' names.
        cafile: authority of the exchange; None for the machine's own trust.
        upstream: where to dial for the host and port that the program named; None dials just that.
        interval_ns: how often frames are made durable.

    Raises:
        RecordingError: the folder cannot be written.
    """

    def __init__(
        self,
        out: Path,
        *,
        context: ssl.SSLContext | None,
        cafile: str | None = None,
        upstream: Callable[[str, int], tuple[str, int]] | None = None,
        interval_ns: int = 250 * clock.NS_PER_MS,
    ) -> None:
        file = out.name if out.suffix == ".parquet" else ""
        settings = Settings(streams=(), folder=out.parent if file else out, file=file)
        self._context = context
        self._trust = trust(cafile)
        self._proxies = urllib.request.getproxies()  # a redirect of this process takes them out of the environment
        self._upstream = upstream or (lambda host, port: (host, port))
        self._ports: dict[tuple[str, int], int] = {}
        self._servers: list[asyncio.Server | socket.socket] = []
        self._pairs: set[_Pair] = set()
        self._reading = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self.unreached = ""
        """Why the exchange could not be reached for the program, the last time that it could not."""
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        # Look-ups are made on threads of these, which have our name as well: see `dials`.
        self._loop.set_default_executor(ThreadPoolExecutor(4, thread_name_prefix=THREADS))
        self._thread = threading.Thread(target=self._run, name=THREADS, daemon=True)
        self._scribe = Scribe(
            settings.folder,
            Header(target="", identity="", endpoint="proxy", source="proxy"),
            lambda wall_ns: settings.file or settings.name(wall_ns).replace("binance_", "proxy_", 1),
            interval_ns=interval_ns,
            on_pressure=lambda pressed: self._call(self._press, pressed),
        )

    # --- What its users call, from any thread ---

    def start(self) -> Self:
        """Begin to listen and to write."""
        self._scribe.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """
        Hang up, and finish the recording.

        Raises:
            RecordingError: the disk did not take everything.
        """
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._scribe.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @staticmethod
    def dials() -> bool:
        """Whether the calling thread is one that dials the exchange itself, and must not be led back here."""
        return threading.current_thread().name.startswith(THREADS)

    def gate(self, host: str, port: int) -> tuple[str, int]:
        """
        Where a program that wants `host:port` has to dial.

        Returns:
            Address and port of a listener that belongs to that host and port alone.
        """
        with self._lock:
            if (host, port) not in self._ports:
                opened = asyncio.run_coroutine_threadsafe(self._listen(host, port), self._loop)
                self._ports[host, port] = opened.result(timeout=10)
            return "127.0.0.1", self._ports[host, port]

    @property
    def paths(self) -> list[Path]:
        """Finished recordings; known after `stop`."""
        return self._scribe.paths

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return self._scribe.frame_count

    @property
    def connection_count(self) -> int:
        """Connections that became WebSocket connections, or tried."""
        return self._numbers

    # --- In the proxy's thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def _call(self, call: Callable[..., Any], *values: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *values)

    async def _listen(self, host: str, port: int) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setblocking(False)
        self._servers.append(listener)
        self._keep(self._accept_forever(listener, host, port))
        return int(listener.getsockname()[1])

    def _keep(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept_forever(self, listener: socket.socket, host: str, port: int) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._keep(self._serve(sock, host, port))

    async def _serve(self, sock: socket.socket, host: str, port: int) -> None:
        try:
            secure = await self._is_tls(sock)
        except (OSError, TimeoutError):
            sock.close()
            return
        origin = f"{'wss' if secure else 'ws'}://{host}" + ("" if port in {80, 443} else f":{port}")
        pair = _Pair(Tap(origin, self._next_number, self._scribe.take), sock)
        try:
            address, dial = self._upstream(host, port)
            through = await tunnel(address, dial, secure=secure, proxies=self._proxies)
            where: dict[str, Any] = {"sock": through} if through else {"host": address, "port": dial}
            await self._loop.create_connection(
                lambda: pair.upstream,
                **where,
                ssl=self._trust if secure else None,
                server_hostname=host if secure else None,
            )
        except (OSError, HarnessError) as problem:
            words = str(problem) if isinstance(problem, HarnessError) else explain(problem, host, port, reached=False)
            log.warning("The program cannot be connected: %s", words)
            self.unreached = words
            pair.tap.unreachable(words)
            _linger(sock)
            sock.close()
            return
        try:
            await self._loop.connect_accepted_socket(lambda: pair.program, sock, ssl=self._context if secure else None)
        except OSError as problem:  # it does not trust us: the redirect did not reach its trust
            log.warning("The program does not talk TLS with us for %s: %s", public_url(origin), problem)
            pair.upstream.abort()
            return
        pair.begin(reading=self._reading)
        self._pairs.add(pair)
        await pair.over
        self._pairs.discard(pair)

    async def _is_tls(self, sock: socket.socket) -> bool:
        sock.setblocking(False)
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            ready = self._loop.create_future()
            self._loop.add_reader(sock, _settle, ready)
            try:
                await ready
            finally:
                self._loop.remove_reader(sock)
        first = sock.recv(1, socket.MSG_PEEK)
        return bool(first) and first[0] == _TLS_HANDSHAKE and self._context is not None

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _press(self, pressed: bool) -> None:
        self._reading = not pressed
        for pair in self._pairs:
            pair.set_reading(not pressed)

    async def _hang_up(self) -> None:
        for listener in self._servers:
            listener.close()
        for pair in list(self._pairs):
            pair.tap.lost("the proxy was stopped", by_program=True)
            pair.program.abort()
            pair.upstream.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Pair:
    """The two connections that are one for the program and the exchange."""

    def __init__(self, tap: Tap, sock: socket.socket) -> None:
        self.tap = tap
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.program = _Side(self, tap.up, by_program=True)
        self.upstream = _Side(self, tap.down, by_program=False)
        self.program.other, self.upstream.other = self.upstream, self.program
        self.program.sock = sock

    def begin(self, *, reading: bool) -> None:
        for side in (self.program, self.upstream):
            side.begin()
        self.set_reading(reading)

    def set_reading(self, reading: bool) -> None:
        self.upstream.hold("disk", held=not reading)
        self.program.hold("disk", held=not reading)

    def ended(self) -> None:
        if self.program.is_lost and self.upstream.is_lost and not self.over.done():
            self.over.set_result(None)


class _Side(asyncio.Protocol):
    """One of the two: passes on what it reads, then lets the tap look at it."""

    other: _Side

    def __init__(self, pair: _Pair, tap: Callable[[bytes], None], *, by_program: bool) -> None:
        self.is_lost = False
        self.sock: socket.socket | None = None
        self._pair = pair
        self._tap = tap
        self._by_program = by_program
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._begun = False
        self._has_ended = False
        self._ended_early: Exception | str | None = ""
        self._holds: set[str] = set()
        self._resetting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.sock = transport.get_extra_info("socket")
        if self.sock is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        """Both sides are there."""
        self._begun = True
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self._ended_early != "":
            self.connection_lost(self._ended_early)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._early.append(data)
            return
        self.other.write(data)
        self._tap(data)

    def eof_received(self) -> bool:
        # A half-closed connection stays so: the answer to a last request may still be on its way.
        if not self._begun:
            return False
        self._has_ended = True
        self._tell("ended without a close frame")
        if self.other.write_eof() and not self.other.has_ended:
            return True
        asyncio.get_running_loop().call_soon(self.other.close)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._begun:
            self._ended_early = exc
            return
        if self.is_lost:
            return
        self.is_lost = True
        if not self.other.is_lost:
            if isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError):
                self._tell("reset by peer" if isinstance(exc, ConnectionResetError) else str(exc))
                self.other.reset()
            else:
                self._tell("ended without a close frame")
                self.other.close()
        self._pair.ended()

    @property
    def has_ended(self) -> bool:
        """It sends no more."""
        return self._has_ended or self.is_lost

    def _tell(self, why: str) -> None:
        self._pair.tap.lost(f"the program: {why}" if self._by_program else why, by_program=self._by_program)

    def pause_writing(self) -> None:
        self.other.hold("slow", held=True)

    def resume_writing(self) -> None:
        self.other.hold("slow", held=False)

    def hold(self, why: str, *, held: bool) -> None:
        """Stop reading while there is a reason to."""
        before = bool(self._holds)
        (self._holds.add if held else self._holds.discard)(why)
        if self._transport and before != bool(self._holds) and not self._transport.is_closing():
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> bool:
        if self._transport and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            return True
        return False

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def reset(self) -> None:
        """RST, once what was passed on before it has left."""
        # The loop itself keeps no task alive.
        self._resetting = asyncio.get_running_loop().create_task(self._reset_later())

    async def _reset_later(self) -> None:
        deadline_ns = clock.steady_ns() + int(RESET_PATIENCE_S * clock.NS_PER_S)
        while self._on_its_way() and clock.steady_ns() < deadline_ns:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)
        if self.sock is not None:
            _linger(self.sock)
        self.abort()

    def _on_its_way(self) -> int:
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        if sys.platform == "linux" and self.sock is not None and self.sock.fileno() >= 0:
            import fcntl  # noqa: PLC0415 - there is none on Windows

            with contextlib.suppress(OSError):
                waiting += struct.unpack("i", fcntl.ioctl(self.sock.fileno(), _SIOCOUTQ, b"\0" * 4))[0]
        return waiting


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _linger(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
