"""The exchange's WebSocket dialect: what URLs mean, and what control messages are answered.

Section numbers are those of the protocol sheet, binance-protocol.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from harness.exchange.http import Request
    from harness.exchange.settings import ExchangeSettings, Market

NS = 1_000_000_000

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

# `btcusdt@aggTrade`, `btcusdt@kline_1m@+08:00`, `!miniTicker@arr`, and the bare `0` that one client
# library always connects to. Symbols may hold letters outside ASCII (section 2).
_WELL_FORMED = re.compile(r"!?\w[\w.\-]*(@[\w+:.\-]+)*")
_STRING_ID = re.compile(r"[A-Za-z0-9_\-]{1,36}")

# High-frequency book data is on /public, everything else that is public on /market (section 1.1).
_PUBLIC = re.compile(r"(.*@)?(bookTicker|depth.*|rpiDepth.*|trade)(@.*)?|!bookTicker")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers and habits of one market (section 3)."""

    market: Literal["spot", "um", "cm"]
    ping_interval_ns: int
    pong_deadline_ns: int
    message_limit: int
    string_ids: bool
    """False: USD-M and COIN-M want an unsigned integer as id (section 4)."""


RULES = {
    "spot": Rules(market="spot", ping_interval_ns=20 * NS, pong_deadline_ns=60 * NS, message_limit=5, string_ids=True),
    "um": Rules(market="um", ping_interval_ns=180 * NS, pong_deadline_ns=600 * NS, message_limit=10, string_ids=False),
    "cm": Rules(market="cm", ping_interval_ns=180 * NS, pong_deadline_ns=600 * NS, message_limit=10, string_ids=False),
}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL asks for."""

    rules: Rules
    path: Literal["", "public", "market", "private"]
    combined: bool
    streams: tuple[str, ...]
    micro: bool = False
    silent: bool = False
    """Accepted and acknowledged, and no stream is delivered."""

    def delivers(self, stream: str) -> bool:
        """Whether this path delivers a stream; on the wrong USD-M path it is acknowledged and stays silent (1.1)."""
        if self.silent or self.rules.market != "um":
            return not self.silent
        return self.path == ("public" if _PUBLIC.fullmatch(stream) else "market")


def well_formed(stream: str) -> bool:
    """Whether a stream name could be one; an unknown one is accepted and stays silent."""
    return _WELL_FORMED.fullmatch(stream) is not None


def market_of(request: Request, market: Market) -> Literal["spot", "um", "cm"]:
    """Which market a request is for: the setting, or what Host and path say."""
    if market != "auto":
        return market
    host = request.headers.get("host", "").lower()
    first = request.path.strip("/").partition("/")[0]
    if host.startswith(("fstream", "fapi")) or "-fstream" in host or first in {"public", "market", "private", "fapi"}:
        return "um"
    if host.startswith(("dstream", "dapi")) or first == "dapi":
        return "cm"
    return "spot"


def route(request: Request, market: Market) -> Route | None:
    """
    Read the URL of an upgrade request.

    Returns:
        What it asks for, or None for an unknown path, which gets 404.
    """
    rules = RULES[market_of(request, market)]
    parts = request.path.split("/")[1:]
    path: Any = ""
    if rules.market == "um" and parts and parts[0] in {"public", "market", "private"}:
        path = parts.pop(0)
    if not parts:
        return None
    query = request.query
    micro = rules.market == "spot" and query.get("timeUnit", "").upper() == "MICROSECOND"
    head, names = parts[0], parts[1:]
    if head == "ws":
        # `?timeUnit=` may also follow the names with `&`, as some clients write it.
        streams = tuple(name.partition("&")[0] for name in names if name.partition("&")[0])
        return Route(rules=rules, path=path, combined=False, streams=streams, micro=micro)
    if head == "stream" and all(name == "" for name in names):
        streams = tuple(name for name in query.get("streams", "").split("/") if name)
        return Route(rules=rules, path=path, combined=True, streams=streams, micro=micro)
    return None


class Subscribe(msgspec.Struct, frozen=True):
    """Streams to add."""

    streams: tuple[str, ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    """Streams to take off."""

    streams: tuple[str, ...]


class SetCombined(msgspec.Struct, frozen=True):
    """Wrap data from now on, or no longer."""

    combined: bool


class Listing(msgspec.Struct, frozen=True):
    """Which streams are subscribed, or whether data is wrapped."""

    what: Literal["streams", "combined"]


class Failure(msgspec.Struct, frozen=True):
    """An error is the answer."""

    code: int
    msg: str
    closes: bool = False


Wish = Subscribe | Unsubscribe | SetCombined | Listing | Failure

NO_ID = object()
"""The id could not be read."""


def read_control(text: str, rules: Rules, *, any_stream: bool = False) -> tuple[Wish, Any]:
    """
    Read a control message (section 4).

    Args:
        text: the message.
        rules: the market's.
        any_stream: let malformed stream names pass for sound ones.

    Returns:
        What it asks for, and its id, or `NO_ID`.
    """
    try:
        message = json.loads(text)
    except json.JSONDecodeError as error:
        return Failure(3, _json_problem(text, error)), NO_ID
    except (RecursionError, ValueError):
        return Failure(3, "Invalid JSON: recursion limit exceeded at line 1 column 128"), NO_ID
    if not isinstance(message, dict):
        return Failure(2, f"Invalid request: invalid type, expected a map at line 1 column {len(text)}"), NO_ID
    identity = message.get("id", NO_ID)
    if not _good_id(identity, rules):
        return Failure(2, "Invalid request: request ID must be an unsigned integer"), NO_ID
    if "method" not in message:
        return Failure(2, f"Invalid request: missing field `method` at line 1 column {len(text)}"), identity
    method, params = message["method"], message.get("params", [])
    if method not in METHODS:
        known = ", ".join(f"`{name}`" for name in METHODS)
        return Failure(2, f"Invalid request: unknown variant `{method}`, expected one of {known}"), identity
    if params is None:
        params = []
    if not isinstance(params, list):
        return Failure(2, f"Invalid request: invalid type, expected a sequence at line 1 column {len(text)}"), identity
    return _wish(method, params, any_stream=any_stream), identity


def _wish(method: str, params: list[Any], *, any_stream: bool) -> Wish:
    if method == "LIST_SUBSCRIPTIONS":
        return Failure(2, "Invalid request: too many parameters") if params else Listing("streams")
    if method in {"SUBSCRIBE", "UNSUBSCRIBE"}:
        if not all(isinstance(name, str) and (any_stream or well_formed(name)) for name in params):
            return Failure(2, "Invalid request: invalid stream", closes=True)
        return Subscribe(tuple(params)) if method == "SUBSCRIBE" else Unsubscribe(tuple(params))
    if not params or not isinstance(params[0], str):
        return Failure(2, "Invalid request: property name must be a string")
    if len(params) > (2 if method == "SET_PROPERTY" else 1):
        return Failure(2, "Invalid request: too many parameters")
    if params[0] != "combined":
        return Failure(0, "Unknown property")
    if method == "GET_PROPERTY":
        return Listing("combined")
    if len(params) < 2 or not isinstance(params[1], bool):
        return Failure(1, "Invalid value type: expected Boolean")
    return SetCombined(params[1])


def _good_id(identity: Any, rules: Rules) -> bool:
    if identity is NO_ID or isinstance(identity, bool):
        return False
    if isinstance(identity, int):
        return (-(2**63) if rules.string_ids else 0) <= identity < 2**63
    if not rules.string_ids:
        return False
    return identity is None or (isinstance(identity, str) and _STRING_ID.fullmatch(identity) is not None)


def _json_problem(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return "Invalid JSON: EOF while parsing a value at line 1 column 0"
    return f"Invalid JSON: expected value at line {error.lineno} column {error.colno}"


def result(value: Any, identity: Any) -> str:
    """Render a reply; never wrapped, also on a combined connection."""
    return json.dumps({"result": value, "id": identity}, separators=(",", ":"), ensure_ascii=False)


def error(code: int, msg: str, identity: Any, shape: Literal["nested", "flat"]) -> str:
    """Render an error: `nested` is what the wire uses, `flat` what the documentation prints (section 4.1)."""
    inner: dict[str, Any] = {"code": code, "msg": msg}
    known = {} if identity is NO_ID else {"id": identity}
    whole = {**inner, **known} if shape == "flat" else {"error": inner, **known}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def other_id(identity: Any) -> Any:
    """An id that is not the one that was asked with."""
    if isinstance(identity, int):
        return identity + 1
    return "0" if identity is None or identity is NO_ID else f"x{identity}"[:36]


def too_chatty(times_ns: list[int], now_ns: int, limit: int) -> bool:
    """
    Count a message against the strict rolling window of one second (section 3).

    Args:
        times_ns: when the last messages came; updated.
        now_ns: when this one came.
        limit: how many a second are allowed; 0 for any number.
    """
    if not limit:
        return False
    times_ns.append(now_ns)
    while times_ns[0] <= now_ns - NS:
        times_ns.pop(0)
    return len(times_ns) > limit


def dialect_numbers(rules: Rules, settings: ExchangeSettings) -> Rules:
    """The market's rules with what the settings change."""
    changed: dict[str, int] = {}
    for name in ("ping_interval_ns", "pong_deadline_ns", "message_limit"):
        value = getattr(settings, name)
        if value is not None:
            changed[name] = value
    return msgspec.structs.replace(rules, **changed) if changed else rules
