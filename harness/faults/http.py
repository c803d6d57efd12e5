"""The HTTP upgrade: everything that can come instead of a clean 101."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.actions import Reply
from harness.faults.base import Context, Duration, Greeting
from harness.faults.wire import PING, ws_frame

_PHRASES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 410: "Gone",
    418: "I'm a teapot", 426: "Upgrade Required", 429: "Too Many Requests", 451: "Unavailable For Legal Reasons",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    200: "OK", 301: "Moved Permanently", 302: "Found", 307: "Temporary Redirect", 308: "Permanent Redirect",
}  # fmt: skip

# The bodies of binance-protocol, section 6: JSON from the exchange, HTML from what stands before it.
_JSON_BODIES = {
    418: b'{"code":-1003,"msg":"Way too much request weight used; IP banned until 1893456000000. '
    b'Please use WebSocket Streams for live updates to avoid bans."}',
    429: b'{"code":-1003,"msg":"Too much request weight used; current limit is 6000 request weight per 1 MINUTE. '
    b'Please use WebSocket Streams for live updates to avoid polling the API."}',
    451: b'{"code":0,"msg":"Service unavailable from a restricted location according to \'b. Eligibility\' in '
    b'https://www.binance.com/en/terms. Please contact customer service if you believe you received this in error."}',
}
HTML_PAGE = (
    b"<!DOCTYPE html><html><head><title>%s</title></head><body><center><h1>%s</h1></center><hr>"
    b"<center>cloudfront</center></body></html>"
)

Status = Annotated[int, msgspec.Meta(ge=200, le=599)]


def reply(code: int, *, body: str, retry_after: Duration | None = None) -> Reply:
    """An answer as the exchange, or what stands before it, words it."""
    phrase = _PHRASES.get(code, "Status")
    headers: list[tuple[str, str]] = []
    content = b""
    if body == "json":
        content = _JSON_BODIES.get(code, b'{"code":-1000,"msg":"%s"}' % phrase.encode())
        headers.append(("Content-Type", "application/json;charset=UTF-8"))
    elif body == "html":
        title = f"{code} {phrase}".encode()
        content = HTML_PAGE % (title, title)
        headers.append(("Content-Type", "text/html"))
    if retry_after is not None:
        # Whole seconds, rounded up (RFC 9110, section 10.2.3).
        headers.append(("Retry-After", str(-(-int(retry_after) // 1_000_000_000))))
    return Reply(status=code, reason=phrase, headers=tuple(headers), body=content)


# --- Refusals -----------------------------------------------------------------------------------


class Refusal(Greeting, frozen=True, tag="http.status"):
    """
    The exchange, or a gateway before it, refuses the upgrade.

    Any status, with a body of the kind that clients choke on.
    """

    code: Status = 503
    """HTTP status."""
    retry_after: Duration | None = None
    """Sent as `Retry-After`, in seconds."""
    body: Literal["json", "html", "empty"] = "html"
    """What the body looks like."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.reply": reply(self.code, body=self.body, retry_after=self.retry_after)}


class _Status(Greeting, frozen=True):
    code: ClassVar[int] = 503
    body: ClassVar[str] = "html"
    wait: ClassVar[str] = ""

    def changes(self, context: Context) -> dict[str, Any]:
        wait = Duration(self.wait) if self.wait else None
        return {"upgrade.reply": reply(self.code, body=self.body, retry_after=wait)}


class Status400(_Status, frozen=True, tag="http.status_400"):
    """A malformed upgrade, or a URL that names too many streams."""

    code: ClassVar[int] = 400


class Status401(_Status, frozen=True, tag="http.status_401"):
    """A gateway that wants a key which the client does not send."""

    code: ClassVar[int] = 401
    body: ClassVar[str] = "json"


class Status403(_Status, frozen=True, tag="http.status_403"):
    """The CDN's firewall blocks the address: an HTML page, no JSON."""

    code: ClassVar[int] = 403


class Status404(_Status, frozen=True, tag="http.status_404"):
    """The path was retired or mistyped."""

    code: ClassVar[int] = 404


class Status405(_Status, frozen=True, tag="http.status_405"):
    """A proxy that lets only some methods and paths through."""

    code: ClassVar[int] = 405


class Status410(_Status, frozen=True, tag="http.status_410"):
    """The old host says that it is gone for good."""

    code: ClassVar[int] = 410


class Status418(_Status, frozen=True, tag="http.status_418"):
    """The address is banned for going on after 429, for minutes to days."""

    code: ClassVar[int] = 418
    body: ClassVar[str] = "json"
    wait: ClassVar[str] = "120s"


class Status426(_Status, frozen=True, tag="http.status_426"):
    """A proxy stripped the Upgrade header from the request."""

    code: ClassVar[int] = 426
    body: ClassVar[str] = "empty"


class Status429(_Status, frozen=True, tag="http.status_429"):
    """Too many connection attempts; the answer says how long to wait."""

    code: ClassVar[int] = 429
    body: ClassVar[str] = "json"
    wait: ClassVar[str] = "30s"


class Status451(_Status, frozen=True, tag="http.status_451"):
    """The server runs in a location that the exchange does not serve."""

    code: ClassVar[int] = 451
    body: ClassVar[str] = "json"


class Status500(_Status, frozen=True, tag="http.status_500"):
    """The exchange's front end fails."""

    code: ClassVar[int] = 500


class Status502(_Status, frozen=True, tag="http.status_502"):
    """The gateway has no server behind it."""

    code: ClassVar[int] = 502


class Status503(_Status, frozen=True, tag="http.status_503"):
    """Maintenance: the exchange is down on purpose, for minutes to hours."""

    code: ClassVar[int] = 503


class Status504(_Status, frozen=True, tag="http.status_504"):
    """The gateway waited for a server and gave up."""

    code: ClassVar[int] = 504


class Redirect(Greeting, frozen=True, tag="http.redirect"):
    """
    The domain moves, and the old one points to the new.

    Many WebSocket clients do not follow, or follow for ever.
    """

    code: Literal[301, 302, 307, 308] = 301
    """HTTP status."""
    location: str = "/moved"
    """Where it points."""

    def changes(self, context: Context) -> dict[str, Any]:
        headers = (("Location", self.location),)
        return {"upgrade.reply": Reply(status=self.code, reason=_PHRASES[self.code], headers=headers)}


class RedirectLoop(Greeting, frozen=True, tag="http.redirect_loop"):
    """
    Two proxies each believe that the other one serves the path.

    302 to the very stream that was asked for.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        headers = (("Location", "/ws/btcusdt@aggTrade"),)
        return {"upgrade.reply": Reply(status=302, reason=_PHRASES[302], headers=headers)}


class RedirectAway(Greeting, frozen=True, tag="http.redirect_to_login"):
    """
    A hotel's or company's captive portal sends everybody to its login page.

    302 to another scheme and host.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        headers = (("Location", "http://login.invalid/"),)
        return {"upgrade.reply": Reply(status=302, reason=_PHRASES[302], headers=headers)}


class OkHtml(Greeting, frozen=True, tag="http.ok_html"):
    """
    A captive portal or a firewall's challenge page: 200, and HTML.

    An upgrade that is answered by a web page.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.reply": reply(200, body="html")}


class FailThenOk(Greeting, frozen=True, tag="http.fail_then_ok"):
    """
    Recovery after an outage: the first attempts fail, then all is well.

    Shows whether a client keeps trying, and how it waits.
    """

    failures: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Attempts that fail."""
    code: Status = 503
    """What they get."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.reply": reply(self.code, body="html")} if context.connection <= self.failures else {}


# --- Answers that are not quite 101 -----------------------------------------------------------------


class BadAccept(Greeting, frozen=True, tag="http.bad_accept"):
    """
    A caching proxy answers with somebody else's handshake.

    Sec-WebSocket-Accept does not fit the key; the client must refuse (RFC 6455, section 4.1).
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.accept": "bad"}


class MissingAccept(Greeting, frozen=True, tag="http.missing_accept"):
    """
    A server that does not know WebSocket says 101 anyway.

    Sec-WebSocket-Accept is missing.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.accept": "missing"}


class MissingUpgrade(Greeting, frozen=True, tag="http.missing_upgrade"):
    """
    A reverse proxy strips hop-by-hop headers: no Upgrade.

    101 without the header that says to what.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.drop_headers": ("upgrade",)}


class MissingConnection(Greeting, frozen=True, tag="http.missing_connection"):
    """
    A reverse proxy strips hop-by-hop headers: no Connection.

    101 without `Connection: Upgrade`.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.drop_headers": ("connection",)}


class WrongSubprotocol(Greeting, frozen=True, tag="http.wrong_subprotocol"):
    """
    A server upgrade negotiates a subprotocol that nobody asked for.

    The client must refuse it.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.extra_headers": (("Sec-WebSocket-Protocol", "mqtt"),)}


class UnofferedExtension(Greeting, frozen=True, tag="http.unoffered_extension"):
    """
    A server upgrade switches on an extension that nobody offered.

    The client must refuse it.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.extra_headers": (("Sec-WebSocket-Extensions", "x-webkit-deflate-frame"),)}


class BadDeflateParams(Greeting, frozen=True, tag="http.bad_deflate_params"):
    """
    A server upgrade agrees to compression with parameters that do not exist.

    `server_max_window_bits=99` (RFC 7692, section 7.1.2 allows 8 to 15).
    """

    def changes(self, context: Context) -> dict[str, Any]:
        value = "permessage-deflate; server_max_window_bits=99"
        return {"upgrade.extra_headers": (("Sec-WebSocket-Extensions", value),)}


class HugeHeaders(Greeting, frozen=True, tag="http.huge_headers"):
    """
    A firewall's cookies grow past what HTTP parsers accept.

    A 101 with one very long header.
    """

    size: Annotated[int, msgspec.Meta(ge=1)] = 200_000
    """Bytes of the header's value."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.extra_headers": (("Set-Cookie", "waf=" + "x" * self.size),)}


class DuplicateHeaders(Greeting, frozen=True, tag="http.duplicate_headers"):
    """
    Two proxies both add the handshake's headers.

    Sec-WebSocket-Accept and Upgrade come twice.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {
            "upgrade.extra_headers": (
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            )
        }


class BadStatusLine(Greeting, frozen=True, tag="http.bad_status_line"):
    """
    Something that does not speak HTTP listens on the port.

    The answer to the upgrade is another protocol's banner.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.raw": b"SSH-2.0-OpenSSH_9.6\r\n\r\n"}


class Http10(Greeting, frozen=True, tag="http.http10"):
    """
    An old proxy speaks HTTP/1.0.

    A 101 under a version that has none.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.version": "1.0"}


# --- Answers that do not come, or do not last ---------------------------------------------------------


class Stall(Greeting, frozen=True, tag="http.stall"):
    """
    An overloaded load balancer takes the request and forgets it.

    TCP and TLS are fine, and the upgrade is never answered.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.stall": True}


class UrlTooLong(Greeting, frozen=True, tag="http.url_too_long"):
    """
    A market list too long for one URL: the front server has a limit, seen at about 8 000 characters and at 16 000.

    Shorter requests are served as always.
    """

    limit: Annotated[int, msgspec.Meta(ge=1)] = 8_000
    """Longest target of a request that is served, in bytes."""
    code: Status = 414
    """HTTP status of the answer; some servers say 400."""
    hang: bool = False
    """Never answer instead."""

    def changes(self, context: Context) -> dict[str, Any]:
        answer = {"upgrade.stall": True} if self.hang else {"upgrade.reply": reply(self.code, body="html")}
        return {"upgrade.target_bytes_max": self.limit, **answer}


class Slow(Greeting, frozen=True, tag="http.slow"):
    """
    A cold start: the upgrade is answered, in its own good time.

    101 after a delay.
    """

    delay: Duration = Duration("5s")
    """How long the answer takes."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.delay_ns": int(self.delay)}


class HeadersDribble(Greeting, frozen=True, tag="http.headers_dribble"):
    """
    A proxy under memory pressure passes the answer on byte by byte.

    The 101 takes for ever to arrive.
    """

    delay: Duration = Duration("100ms")
    """Pause behind every byte."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.dribble_ns": int(self.delay)}


class PartialHeaders(Greeting, frozen=True, tag="http.partial_headers"):
    """
    The server dies while it answers the upgrade.

    Part of the 101, then silence.
    """

    size: Annotated[int, msgspec.Meta(ge=0)] = 20
    """Bytes that come."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.cut_after": self.size}


class CloseAfter101(Greeting, frozen=True, tag="http.close_after_101"):
    """
    A connection cap or an authorisation check strikes behind the upgrade.

    101, then FIN.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.after": "close"}


class ResetAfter101(Greeting, frozen=True, tag="http.reset_after_101"):
    """
    The gateway upgrades before it knows that no server is behind it.

    101, then RST.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.after": "reset"}


class FramesWith101(Greeting, frozen=True, tag="http.frames_with_101"):
    """
    A fast server: its first frames ride in the segment of the 101.

    Pings behind the head in one write; parsers that drop the rest of the buffer lose them.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.trailing": ws_frame(PING, b"early-1") + ws_frame(PING, b"early-2")}


class WrongPathAccepted(Greeting, frozen=True, tag="http.wrong_path_accepted"):
    """
    A retired or mistyped path that is still accepted: open, pings, and no data.

    Any path gets 101; nothing is ever delivered.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.any_path": True, "control.deliver": False}
