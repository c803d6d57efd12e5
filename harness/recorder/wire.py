"""One connection to an exchange, as a recorder needs it: every message at the moment its bytes came.

A client library hands out data messages when the program asks for the next one; pings, the closing
handshake and the moment of arrival stay hidden. So the recorder reads frames itself, and turns what one read of the
socket brought into one `Run`. Compression is not offered: it halves the rate of the feed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harness import clock
from harness.errors import NetworkError
from harness.frames import Frame
from harness.recorder import deframer as ws
from harness.recorder.endpoints import is_loopback, public_text, public_url
from harness.recording.journal import Run

if TYPE_CHECKING:
    from harness.frames import Kind
    from harness.recorder.endpoints import Line

HEAD_BYTES_MAX = 64 << 10
"""An answer to the upgrade whose head is longer is no HTTP."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
Take = Callable[[Run | Frame, int], None]
"""Gets an event, and how many bytes of memory it holds."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Wire(asyncio.Protocol):
    """
    An open connection. Made by `connect`.

    Args:
        number: of the connection, from 1.
        line: what it carries.
        take: gets everything that happened, in order, in the loop's thread.
    """

    def __init__(self, number: int, line: Line, take: Take) -> None:
        self.number = number
        self.line = line
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the connection is over."""
        self.last_bytes_ns = clock.steady_ns()
        """Monotonic time of the last byte, whatever it was."""
        self.opened_ns = self.last_bytes_ns
        self.pinged_ns = 0
        self.data_count = 0
        self._take = take
        self._head = b""
        self._deframer = ws.Deframer()
        self._transport: asyncio.Transport | None = None
        self._key = base64.b64encode(os.urandom(16))
        self._close_sent = False
        self._farewell = ""
        self._paused = False
        self._open = False
        self._closed = False
        self._at: tuple[int, int] | None = None

    # --- The loop's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = transport  # type: ignore[assignment]
        parts = urlsplit(self.line.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        default = 443 if parts.scheme == "wss" else 80
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        host += f":{parts.port}" if parts.port and parts.port != default else ""
        head = (
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\nSec-WebSocket-Version: 13\r\n"
            "User-Agent: aggtrade-harness\r\n\r\n"
        )
        self._write(head.encode())

    def data_received(self, data: bytes) -> None:
        """Take what one read brought."""
        self._at = wall, now = clock.both_ns()
        self.last_bytes_ns = now
        try:
            self._read(data, wall, now)
        finally:
            self._at = None

    def eof_received(self) -> None:
        """The exchange sends no more."""
        if not self._farewell:
            self._farewell = "ended without a close frame"

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if not self.upgraded.done():
            self.upgraded.set_exception(exc or NetworkError(self._stranger("ended the connection before answering")))
        if isinstance(exc, ConnectionResetError):
            self._farewell = self._farewell or "reset by peer"
        elif exc is not None:
            self._farewell = self._farewell or public_text(str(exc) or type(exc).__name__)
        self._finish()

    # --- What the recorder asks for ---

    def send_text(self, data: bytes) -> None:
        """Send a control message of the exchange's protocol; it is recorded as sent."""
        self._send(ws.TEXT, data)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._send(ws.PING, b"")

    def set_reading(self, reading: bool) -> None:
        """Stop or go on reading the socket, so that a slow disk is felt by the exchange."""
        if self._transport and reading == self._paused:
            self._paused = not reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    async def close(self, why: str) -> None:
        """Close politely; what comes in before the exchange answers is still recorded."""
        self._farewell = self._farewell or why
        self._closed = True
        self.set_reading(True)
        self._send_close(1000)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), CLOSE_TIMEOUT_S)
        self.abort()

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport:
            self._transport.abort()
        self._finish()

    def give_up(self, why: str) -> None:
        """Drop the connection because the exchange is not there any more."""
        self._farewell = self._farewell or why
        self.abort()

    @property
    def closed_by_exchange(self) -> bool:
        """A close frame came."""
        return self._farewell.startswith("closed by the exchange")

    # --- Inside ---

    def _read(self, data: bytes, wall: int, now: int) -> None:
        if not self.upgraded.done():
            self._head += data
            data = self._read_head()
            if not data:
                return
        size = len(data)  # the whole read, since its block stays in memory as long as one message does
        for opcode, payloads in self._deframer.receive_data(data):
            if opcode <= ws.BINARY:
                self.data_count += len(payloads)
                self._take(Run(self.number, ws.KINDS[opcode], wall, now, payloads), size)
                size = 0
            else:
                self._control(opcode, payloads)
        if self._deframer.broken and not self._farewell:
            self._farewell = f"the exchange broke the protocol: {self._deframer.broken}"
            self._send_close(1002)
            self.abort()

    def _finish(self) -> None:
        if self.ended.done():
            return
        why = self._farewell or "ended without a close frame"
        if self._open and not self._closed:
            self._note("lost", text=why)
        self.ended.set_result(why)

    def _control(self, opcode: int, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            code, reason = ws.close_parts(payload) if opcode == ws.CLOSE else (None, "")
            self._note(ws.KINDS[opcode], payload, code=code, text=reason)
            if opcode == ws.PING:
                self._send(ws.PONG, payload)  # the exchange wants its own payload back
            elif opcode == ws.CLOSE:
                words = f" {code}" if code is not None else ""
                self._closed = True
                self._farewell = self._farewell or f"closed by the exchange{words}{f' ({reason})' if reason else ''}"
                self._send_close(None, payload)
                if self._transport:
                    # The server ends TCP first (RFC 6455, section 7.1.1); one that does not is not waited for.
                    asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)

    def _send(self, opcode: int, payload: bytes, code: int | None = None) -> None:
        self._write(ws.client_frame(opcode, payload))
        self._note(ws.KINDS[opcode], payload, sent=True, code=code)

    def _send_close(self, code: int | None, payload: bytes = b"") -> None:
        if not self._close_sent:
            self._close_sent = True
            self._send(
                ws.CLOSE, payload if code is None else code.to_bytes(2, "big"), code or ws.close_parts(payload)[0]
            )

    def _note(
        self, kind: Kind, data: bytes = b"", *, sent: bool = False, code: int | None = None, text: str = ""
    ) -> None:
        # What answers a read bears its time, so that rows are in order of time.
        wall, now = self._at or clock.both_ns()
        self._take(
            Frame(
                connection=self.number,
                direction="sent" if sent else "received",
                kind=kind,
                received_at_ns=wall,
                monotonic_ns=now,
                data=data,
                close_code=code,
                detail=text,
            ),
            len(data) + len(text),
        )

    def _write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def _read_head(self) -> bytes:
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not self._head.startswith(b"HTTP/1."[: len(self._head)]) or len(head) > HEAD_BYTES_MAX:
            self._refuse("does not speak HTTP")
            return b""
        if not found:
            return b""
        status_line, *header_lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in header_lines)}
        words = status_line.split(" ", 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest()).decode()
        if status != 101:
            self._refuse(_status_words(status, headers), retry_after=headers.get("retry-after", ""))
        elif headers.get("sec-websocket-accept") != accept:
            self._refuse("answered 101 without a valid Sec-WebSocket-Accept: it is no WebSocket server")
        else:
            self._open = True
            self.upgraded.set_result(None)
            self.opened_ns = self.last_bytes_ns
            self._note("open", text=public_url(self.line.url))
            return rest
        return b""

    def _refuse(self, what: str, retry_after: str = "") -> None:
        refusal = NetworkError(self._stranger(what))
        refusal.retry_after = retry_after  # type: ignore[attr-defined]
        self.upgraded.set_exception(refusal)
        self.abort()

    def _stranger(self, what: str) -> str:
        return f"{place(self.line.url)} {what}"


def place(url: str) -> str:
    """Host and port of a URL, for people."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'wss' else 80)}"


def _status_words(status: int, headers: dict[str, str]) -> str:
    known = {
        404: "no such path; is it the right endpoint?",
        403: "forbidden: a firewall rule, or this address is blocked",
        418: "this address is banned for a while",
        429: "too many requests",
        451: "not offered in this location",
    }
    hint = f" ({known[status]})" if status in known else ""
    wait = f", retry after {headers['retry-after']} s" if "retry-after" in headers else ""
    return f"answers the WebSocket upgrade with HTTP {status}{hint}{wait}"


async def connect(number: int, line: Line, take: Take, *, cafile: str | None = None) -> Wire:
    """
    Open a connection and upgrade it.

    Args:
        number: of the connection, from 1.
        line: what it shall carry.
        take: gets everything that happens on it.
        cafile: trust only this authority; None for the machine's.

    Raises:
        NetworkError: one sentence that says how far it got.
    """
    parts = urlsplit(line.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    context = trust(cafile) if parts.scheme == "wss" else None
    wire: Wire | None = None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            through = await tunnel(host, port, secure=context is not None)
            where = {"sock": through} if through else {"host": host, "port": port}
            _, wire = await asyncio.get_running_loop().create_connection(
                lambda: Wire(number, line, take),
                ssl=context,
                server_hostname=host if context else None,
                **where,
            )
            await wire.upgraded
    except BaseException as problem:
        if wire is not None:
            wire.abort()
            wire.upgraded.cancel()
            with contextlib.suppress(BaseException):
                wire.upgraded.exception()  # looked at, or asyncio would complain that nobody did
        if isinstance(problem, (OSError, TimeoutError, ssl.SSLError)):
            raise NetworkError(explain(problem, host, port, reached=wire is not None)) from problem
        raise
    return wire


def trust(cafile: str | None) -> ssl.SSLContext:
    """The trust of a connection: one authority, or the machine's."""
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ssl.SSLError) as problem:
        raise NetworkError(f"{cafile}: cannot read the certificates there: {problem}") from problem


def explain(problem: BaseException, host: str, port: int, *, reached: bool) -> str:
    """One sentence about a connection that did not come about."""
    where = f"{host}:{port}"
    if isinstance(problem, socket.gaierror):
        return f"{where} cannot be reached: the name cannot be resolved ({problem.strerror}); is there a network?"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"{where} cannot be trusted: {problem.verify_message}; --cafile names another authority"
    if isinstance(problem, ssl.SSLError):
        return f"{where} does not speak TLS ({problem.reason or problem}); is it a ws:// endpoint?"
    if isinstance(problem, TimeoutError):
        stage = "accepts connections but does not answer" if reached else "does not answer"
        return f"{where} {stage}: nothing within {OPEN_TIMEOUT_S:g} s"
    if isinstance(problem, ConnectionRefusedError):
        return f"{where} refuses connections: nothing listens there"
    if isinstance(problem, ConnectionResetError):
        return f"{where} reset the connection before the upgrade was answered"
    return f"{where} cannot be reached: {getattr(problem, 'strerror', None) or problem}"


async def tunnel(host: str, port: int, *, secure: bool, proxies: dict[str, str] | None = None) -> socket.socket | None:
    """
    Ask the machine's proxy, if it has one (HTTPS_PROXY), for a way to the world.

    This machine itself is never behind one, though client libraries try.

    Args:
        host: what is to be reached.
        port: of it.
        secure: which of the machine's proxies is asked.
        proxies: those proxies, by scheme; None for what the environment says now.

    Returns:
        A connected socket; None when the host is to be dialled directly.

    Raises:
        NetworkError: the proxy does not let us through.
    """
    there = urllib.request.getproxies() if proxies is None else proxies
    known = {} if is_loopback(host) else there
    found = known.get("https" if secure else "http") or known.get("all")
    if not found or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(found if "//" in found else f"http://{found}")
    if parts.scheme != "http":
        raise NetworkError(f"a proxy of kind {parts.scheme}:// is not supported; only http:// is")
    loop = asyncio.get_running_loop()
    address = (await loop.getaddrinfo(parts.hostname or "", parts.port or 80, type=socket.SOCK_STREAM))[0]
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address[4])
        request = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            request += f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"
        await loop.sock_sendall(sock, (request + "\r\n").encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = await loop.sock_recv(sock, 1)  # not a byte too many: the rest is TLS
            if not part or len(answer) > HEAD_BYTES_MAX:
                raise NetworkError(f"the proxy {parts.hostname} ended the connection")
            answer += part
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            status = answer.partition(b"\r\n")[0].decode("latin-1")
            raise NetworkError(f"the proxy {parts.hostname} does not let us through to {host}:{port}: {status}")
    except BaseException:
        sock.close()
        raise
    return sock
