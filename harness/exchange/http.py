"""HTTP/1.1 as the exchange speaks it: requests read by h11, answers rendered."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

import h11
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.actions import Reply

HEAD_BYTES_MAX = 32 * 1024
"""Longest request head; the exchange takes URLs of about 16 000 characters (binance-protocol, section 2)."""
BODY_BYTES_MAX = 64 * 1024


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case; repeated ones are joined by commas."""
    body: bytes = b""
    http_version: str = "1.1"
    sole_key: bool = True
    """False when Sec-WebSocket-Key was repeated."""

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query, percent-decoded; the last of repeated names counts."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def wants_upgrade(self) -> bool:
        """True for a WebSocket upgrade, sound or not."""
        return "websocket" in self.headers.get("upgrade", "").lower()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json;charset=UTF-8"
    first_id: int = -1
    """First and last agg trade id in it, for the ledger; -1 for none."""
    last_id: int = -1


class BadRequest(Exception):  # noqa: N818 - the client's
    """The request cannot be read; answer with `status` and close."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class RequestReader:
    """Reads requests, one after another, from bytes as they arrive."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._bodiless = False

    def receive(self, data: bytes) -> None:
        """Take bytes."""
        if data:  # nothing would mean the end to h11
            self._h11.receive_data(data)

    def next_request(self) -> Request | None:
        """
        Return the next whole request, or None when more bytes are needed.

        Raises:
            BadRequest: it cannot be read, or is too long.
        """
        try:
            return self._next_request()
        except h11.RemoteProtocolError as error:
            raise BadRequest(error.error_status_hint, str(error)) from None

    def _next_request(self) -> Request | None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > BODY_BYTES_MAX:
                    raise BadRequest(413, "request body too long")
            elif isinstance(event, h11.EndOfMessage):
                assert self._head is not None
                request = _request(self._head, bytes(self._body))
                self._bodiless = self._head.method == b"HEAD"
                self._head, self._body = None, bytearray()
                return request
            else:
                return None

    def rest(self) -> bytes:
        """Bytes that came behind an upgrade request."""
        return bytes(self._h11.trailing_data[0])

    def answered(self, answer: Answer, extra: Iterable[tuple[str, str]] = ()) -> tuple[bytes, bool]:
        """
        Render the answer to the request read last.

        Returns:
            The bytes, and whether another request may follow.
        """
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *extra,
            *answer.headers,
        ]
        reason = _reason(answer.status)
        data = self._h11.send(h11.Response(status_code=answer.status, headers=headers, reason=reason.encode()))
        assert data is not None
        if not self._bodiless:  # the answer to HEAD has the length of the body it leaves out
            data += self._h11.send(h11.Data(data=answer.body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        if self._h11.our_state is h11.MUST_CLOSE:
            return data, False
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            return data, True
        return data, False


def _request(head: h11.Request, body: bytes) -> Request:
    headers: dict[str, str] = {}
    keys = 0
    for name, value in head.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        keys += key == "sec-websocket-key"
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return Request(
        method=head.method.decode("latin-1"),
        target=head.target.decode("latin-1"),
        headers=headers,
        body=body,
        http_version=head.http_version.decode("latin-1"),
        sole_key=keys < 2,
    )


def render_head(status: int, headers: Iterable[tuple[str, str]], *, reason: str = "", version: str = "1.1") -> bytes:
    """Render a status line and headers, whatever they are."""
    lines = [f"HTTP/{version} {status} {reason or _reason(status)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def render_reply(reply: Reply) -> bytes:
    """Render an answer in place of 101; the connection is closed behind it."""
    named = {name.lower() for name, _ in reply.headers}
    headers = list(reply.headers)
    if "content-length" not in named and "transfer-encoding" not in named:
        headers.append(("Content-Length", str(len(reply.body))))
    if "connection" not in named:
        headers.append(("Connection", "close"))
    return render_head(reply.status, headers, reason=reply.reason) + reply.body


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
