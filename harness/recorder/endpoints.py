"""Where streams are, what a connection asks for, and which words of a URL nobody else may see.

Facts about the exchange are from its published documentation: base URLs and the split of the USD-M paths, URL
forms, limits of a connection and of a SUBSCRIBE message.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from harness.errors import UsageError

Market = Literal["spot", "um", "cm"]

ENDPOINTS: dict[str, str] = {
    "spot": "wss://stream.binance.com:9443",
    "um": "wss://fstream.binance.com",
    "cm": "wss://dstream.binance.com",
}
_REST = {
    "stream.binance.com": "https://api.binance.com",
    "data-stream.binance.vision": "https://data-api.binance.vision",
    "fstream.binance.com": "https://fapi.binance.com",
    "dstream.binance.com": "https://dapi.binance.com",
    "stream.binance.us": "https://api.binance.us",
    "stream.testnet.binance.vision": "https://testnet.binance.vision",
}
REST_PREFIX = {"spot": "/api/v3", "um": "/fapi/v1", "cm": "/dapi/v1"}

STREAMS_PER_CONNECTION_MAX = 1024
SUBSCRIBE_BYTES_MAX = 4096
"""A longer SUBSCRIBE, counted on the wire, is answered by silence: no acknowledgement, no data, no error."""
SUBSCRIBE_INTERVAL_NS = 250_000_000
"""The limit is 5 messages in a rolling second, strictly; one per 250 ms is known to be safe, pongs included."""
URL_BYTES_MAX = 2000
"""Longer lists of streams are subscribed by message: URLs of 8 000 characters have been refused."""

_UM_PUBLIC = re.compile(r"(!bookTicker|.*@(bookTicker|depth.*|rpiDepth.*|trade))$")
"""USD-M streams of the `/public` path; everything else public is on `/market`, and the wrong path stays mute."""
_STREAM = re.compile(r"[^\s/@?#\x00-\x1f]+(@[^\s/?#\x00-\x1f]+)+|![^\s/?#\x00-\x1f]+")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection carries."""

    url: str
    streams: tuple[str, ...]
    subscribe: tuple[bytes, ...] = ()
    """SUBSCRIBE messages to send once the connection is open; empty when the URL names the streams."""
    combined: bool = False
    """Frames arrive wrapped in `{"stream":...,"data":...}`."""


def stream_names(symbols: list[str], channels: list[str]) -> tuple[str, ...]:
    """
    Name the streams for symbols and channels.

    Args:
        symbols: `btcusdt`, or whole streams such as `ethusdt@trade` and `!miniTicker@arr`.
        channels: for example `aggTrade`, `depth@100ms`.

    Returns:
        Names in the order asked for, each once. The symbol part is lower case, as the exchange wants it.

    Raises:
        UsageError: no symbol, or one that no exchange can have.
    """
    names: list[str] = []
    for symbol in symbols:
        if "@" in symbol or symbol.startswith("!"):
            head, at, rest = symbol.partition("@")
            names.append(symbol if symbol.startswith("!") else head.lower() + at + rest)
        else:
            names += [f"{symbol.lower()}@{channel}" for channel in channels]
    if not names:
        raise UsageError("no symbol to record; write for example: harness record btcusdt")
    for name in names:
        if not _STREAM.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a stream name; write a symbol such as btcusdt, or a stream as btcusdt@trade"
            )
    return tuple(dict.fromkeys(names))


def check_endpoint(endpoint: str) -> str:
    """
    Read the address of an exchange.

    Returns:
        The address without a trailing slash.

    Raises:
        UsageError: it is not a ws:// or wss:// URL.
    """
    parts = urlsplit(endpoint)
    try:
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        port_is_fine = False
    if parts.scheme not in {"ws", "wss"} or not parts.hostname or not port_is_fine:
        raise UsageError(
            f"{public_url(endpoint)!r} is not an endpoint; write for example wss://stream.binance.com:9443"
        )
    return endpoint.rstrip("/")


def lines(endpoint: str, streams: tuple[str, ...], market: Market = "spot") -> tuple[Line, ...]:
    """
    Spread streams over connections, within the exchange's limits.

    A single stream is recorded raw, several are recorded combined, as they then come wrapped in their names.

    Args:
        endpoint: scheme, host and perhaps a path; `/ws` or `/stream` at its end is taken off.
        streams: what to record.
        market: decides which path a USD-M stream is on.
    """
    parts = urlsplit(endpoint)
    path = re.sub(r"/(ws|stream)$", "", parts.path.rstrip("/"))
    groups: dict[str, list[str]] = {}
    for stream in streams:
        groups.setdefault(_path(path, stream, market), []).append(stream)
    found: list[Line] = []
    for base, names in groups.items():
        for first in range(0, len(names), STREAMS_PER_CONNECTION_MAX):
            chosen = tuple(names[first : first + STREAMS_PER_CONNECTION_MAX])
            found.append(_line(urlunsplit((parts.scheme, parts.netloc, base, parts.query, "")), chosen))
    return tuple(found)


def _path(base: str, stream: str, market: Market) -> str:
    if market != "um" or base.endswith(("/public", "/market", "/private")):
        return base
    return f"{base}/public" if _UM_PUBLIC.fullmatch(stream) else f"{base}/market"


def _line(base: str, streams: tuple[str, ...]) -> Line:
    root, question, query = base.partition("?")
    if len(streams) == 1:
        return Line(url=f"{root}/ws/{streams[0]}{question}{query}", streams=streams)
    named = f"{root}/stream?streams={'/'.join(streams)}{'&' if query else ''}{query}"
    if len(named.encode()) <= URL_BYTES_MAX:
        return Line(url=named, streams=streams, combined=True)
    url = f"{root}/stream{question}{query}"
    return Line(url=url, streams=streams, combined=True, subscribe=subscribe_messages(streams))


def subscribe_messages(streams: tuple[str, ...]) -> tuple[bytes, ...]:
    """Split a subscription into messages that the exchange answers, ids from 1."""
    # A client frame has up to 8 bytes of header for this size.
    limit = SUBSCRIBE_BYTES_MAX - 8
    messages: list[bytes] = []
    chosen: list[str] = []
    for stream in streams:
        if chosen and len(_subscribe([*chosen, stream], len(messages) + 1)) > limit:
            messages.append(_subscribe(chosen, len(messages) + 1))
            chosen = []
        chosen.append(stream)
    return (*messages, _subscribe(chosen, len(messages) + 1))


def _subscribe(streams: list[str], number: int) -> bytes:
    # Numbers are the only ids that every market accepts.
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": streams, "id": number})


def rest_base(endpoint: str) -> str:
    """Where the REST interface that belongs to a stream endpoint is: known hosts by name, others on the same origin."""
    parts = urlsplit(endpoint)
    known = _REST.get(parts.hostname or "")
    return known or f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc.rpartition('@')[2]}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine; such endpoints never go through a proxy."""
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or host.startswith("127.")


# --- Secrets -----------------------------------------------------------------------------------

HIDDEN = "***"
_OPEN_QUERY = {"streams", "timeunit", "events", "symbol", "fromid", "limit", "starttime", "endtime"}
_OPEN_QUERY |= {"scheme", "region", "endpoint_override"}  # of an object store
# A listen key is 60 or more letters and digits; nothing else in a path is, and tokens look alike.
_KEY = re.compile(r"[A-Za-z0-9_\-.~+=]{32,}")


def public_url(url: str) -> str:
    """
    A URL as it may be shown: no user, no password, no listen key, no token.

    Query parameters are hidden unless they are known to hold no secret.
    """
    try:
        parts = urlsplit(url)
        query = [(k, public_text(v) if k.lower() in _OPEN_QUERY else HIDDEN) for k, v in parse_qsl(parts.query, True)]
    except ValueError:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, public_text(parts.path), urlencode(query, safe="/@!*,"), ""))


def public_text(text: str) -> str:
    """Text with everything hidden that looks like a listen key or a token."""
    return _KEY.sub(HIDDEN, text)
