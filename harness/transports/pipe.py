"""One connection as the network sees it: exchange, TLS, link, in one sans-I/O object.

socket ──▶ link (up) ──▶ TLS ──▶ ExchangeConnection
socket ◀── link (down) ◀─ TLS ◀──┘
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from harness.exchange.commands import Below, Fin, Relink, Reset

if TYPE_CHECKING:
    from harness.actions import Tls
    from harness.exchange.commands import Outgoing, Produced, Pushed
    from harness.exchange.connection import ExchangeConnection
    from harness.transports.authority import Authority

_RECORD = 16 * 1024
PLAINTEXT = (
    b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<html><body>The plain HTTP request was sent to HTTPS port</body></html>\r\n"
)


class TlsSide:
    """
    The server side of TLS over memory buffers, in every manner of `actions.Tls`.

    Args:
        manners: how to behave.
        authority: makes the certificates.
    """

    def __init__(self, manners: Tls, authority: Authority) -> None:
        self._manners = manners
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object: ssl.SSLObject | None = None
        if manners.handshake == "ok":
            context = authority.context(manners)
            self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            context.sni_callback = _remember_name
        self.ready = False
        self.server_name = ""
        self.failed = ""
        """Why the handshake ended, or how it was made to fail."""
        self._answered = False

    def receive(self, data: bytes) -> tuple[bytes, list[Outgoing]]:
        """Take bytes from below; return plain text, and what the handshake itself sends."""
        if self._object is None:
            return b"", self._misbehave()
        self._incoming.write(data)
        plain: list[bytes] = []
        try:
            if not self.ready:
                self._object.do_handshake()
                self.ready = True
                self.server_name = getattr(self._object, "harness_name", "")
            while True:
                piece = self._object.read(256 * 1024)
                if not piece:
                    self.ended = True  # close_notify, before anything of ours: read() answers it with nothing
                    break
                plain.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self.failed = error.reason or str(error)
        return b"".join(plain), self._drain()

    ended = False
    """The client said close_notify."""

    def _misbehave(self) -> list[Outgoing]:
        if self._answered:
            return []
        self._answered = True
        how = self._manners.handshake
        self.failed = how
        if how == "abort":
            return [Fin(ragged=True)]
        if how == "reset":
            return [Reset()]
        if how == "plaintext":
            return [PLAINTEXT, Fin(ragged=True)]
        if how == "alert":
            # A fatal alert record (RFC 8446, sections 5.1 and 6).
            return [bytes((21, 3, 3, 0, 2, 2, self._manners.alert)), Fin(ragged=True)]
        return []  # stall

    def send(self, data: bytes | memoryview) -> list[Outgoing]:
        """Encrypt."""
        if self._object is None or not self.ready:
            return []
        try:
            view = memoryview(data)
            while view:
                view = view[self._object.write(view) :]
        except ssl.SSLError as error:
            self.failed = error.reason or str(error)
        return self._drain()

    def farewell(self) -> list[Outgoing]:
        """Say close_notify, unless the manners forbid."""
        if self._object is None or not self.ready or self._manners.farewell == "ragged":
            return []
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it waits for the client's own close_notify, which need not come
        return self._drain()

    def _drain(self) -> list[Outgoing]:
        data = self._outgoing.read()
        return [data] if data else []


def _remember_name(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    tls.harness_name = name or ""  # type: ignore[attr-defined]


class Pipe:
    """
    What a transport drives; the verbs are those of `ExchangeConnection`.

    Args:
        connection: the exchange's side.
        tls: None on a plain connection.
    """

    def __init__(self, connection: ExchangeConnection, tls: TlsSide | None) -> None:
        self.connection = connection
        self.link = connection.link
        self._tls = tls
        self._told_failure = False
        self._eof_given = False

    @property
    def reading(self) -> bool:
        """False while the socket must not be read."""
        return self.link.reading

    def set_writable(self, writable: bool) -> None:
        """Say whether the socket takes more."""
        self.connection.writable = writable and self.link.room

    def receive_data(self, data: bytes, now_ns: int) -> None:
        """Take what the socket gave."""
        self._up(self.link.receive(data, now_ns), now_ns)

    def _up(self, data: bytes, now_ns: int) -> None:
        # Behind our own end nobody listens: what still comes, an alert about that end for example, is thrown away.
        if not data or self.connection.state == "over":
            return
        tls = self._tls
        if tls is None:
            self.connection.receive_data(data, now_ns)
            return
        was_ready = tls.ready
        plain, answer = tls.receive(data)
        self.link.push(answer, now_ns)
        if tls.ready and not was_ready:
            self.connection.secured(tls.server_name, now_ns)
        if plain:
            self.connection.receive_data(plain, now_ns)
        if tls.failed and not self._told_failure:
            self._told_failure = True
            if tls.ready:
                self.connection.receive_reset(now_ns)
                self.link.push([Reset()], now_ns)
            else:
                self.connection.refused("tls", tls.failed, now_ns)
                if not any(isinstance(item, (Fin, Reset)) for item in answer) and tls.failed != "stall":
                    self.link.push([Fin(ragged=True)], now_ns)
        if tls.ended and not self._eof_given:
            self.receive_eof(now_ns)

    def receive_eof(self, now_ns: int) -> None:
        """The socket gave FIN."""
        if self._eof_given:
            return
        self._eof_given = True
        self._note_lost_handshake(now_ns)
        self.connection.receive_eof(now_ns)

    def receive_reset(self, now_ns: int) -> None:
        """The socket is gone."""
        self._note_lost_handshake(now_ns)
        self.connection.receive_reset(now_ns)

    def _note_lost_handshake(self, now_ns: int) -> None:
        # Most clients that do not like a certificate just hang up.
        if self._tls is not None and not self._tls.ready and not self._told_failure:
            self._told_failure = True
            certificate = self.connection.manners.tls.certificate
            self.connection.refused("tls", "hung up" if certificate == "good" else certificate, now_ns)

    def advance_to(self, now_ns: int) -> None:
        """Do what is due."""
        self._up(self.link.released(), now_ns)
        self.connection.advance_to(now_ns)

    def data_to_send(self, now_ns: int) -> list[Outgoing]:
        """Return what the socket must send now, in order."""
        items = self.connection.data_to_send()
        if items:
            self.link.push(self._sealed(items), now_ns)
        ready = self.link.ready(now_ns)
        if self.link.ended_by and self.connection.state != "over":
            self.connection.lost(self.link.ended_by, now_ns)
        return ready

    def _sealed(self, items: list[Produced]) -> list[Pushed]:
        tls = self._tls
        sealed: list[Pushed] = []
        for item in items:
            if isinstance(item, Below):
                sealed.append(item.data)
            elif tls is None or isinstance(item, (Relink, Reset)):
                sealed.append(item)
            elif isinstance(item, Fin):
                if not item.ragged:
                    sealed.extend(tls.farewell())
                sealed.append(item)
            else:
                sealed.extend(tls.send(item))
        return sealed

    def next_due_ns(self) -> int | None:
        """When to call `advance_to` next, or None."""
        due = [moment for moment in (self.connection.next_due_ns(), self.link.next_due_ns()) if moment is not None]
        return min(due, default=None)
