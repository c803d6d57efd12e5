"""One recorded WebSocket event, and the aggTrade payload: columns to bytes and back."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

import msgspec

Direction = Literal["received", "sent"]
Kind = Literal["text", "binary", "ping", "pong", "close", "open", "lost", "gap"]
DATA_KINDS = frozenset({"text", "binary"})


class Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One WebSocket event as received, or one of the recorder's own marks."""

    connection: int
    """From 1, in order of opening."""
    direction: Direction = "received"
    kind: Kind = "text"
    received_at_ns: int = 0
    """Wall time, nanoseconds since 1970."""
    monotonic_ns: int = 0
    data: bytes = b""
    """The payload, exactly as received; of a combined connection still wrapped."""
    close_code: int | None = None
    detail: str = ""


class AggTrade(msgspec.Struct, frozen=True, kw_only=True):
    """The aggTrade payload (binance-protocol, section 7.1), numbers exact."""

    event_ms: int
    symbol: str
    agg_trade_id: int
    price: Decimal
    quantity: Decimal
    first_trade_id: int
    last_trade_id: int
    trade_ms: int
    is_buyer_maker: bool


_WRAPPED = re.compile(rb'\{"stream":"([^"\\]+)","data":(.*)\}', re.DOTALL)


class _Wrapper(msgspec.Struct):
    stream: str
    data: msgspec.Raw


_unwrap = msgspec.json.Decoder(_Wrapper).decode


def split_wrapped(data: bytes) -> tuple[str | None, bytes]:
    """
    Take a combined-stream message apart.

    Returns:
        The stream name and the payload bytes; None and the data itself when it is not wrapped. For what the exchange
        wraps, `wrap` undoes it; a wrapper in another layout (white space, order of keys) loses that layout.
    """
    found = _WRAPPED.fullmatch(data)
    try:
        if found:
            return found[1].decode(), found[2]
        if b'"stream"' in data and b'"data"' in data:
            wrapper = _unwrap(data)
            if wrapper.stream:
                return wrapper.stream, bytes(wrapper.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return None, data


def wrap(stream: str, payload: bytes) -> bytes:
    """Wrap a payload as data of a stream, as combined connections do."""
    return b'{"stream":"' + stream.encode() + b'","data":' + payload + b"}"


TIME_MS = range(10**12, 10**13)
"""Times in milliseconds, 2001 to 2286: what has 13 digits. In microseconds they have 16."""
_TIMES = re.compile(rb'("[ET]"\s*:\s*)(\d{16}|\d{13})(?!\d)')


def move_times(payload: bytes, offset_ms: int) -> bytes:
    """Move the times inside payloads (`E`, `T`), within `TIME_MS`; all other bytes, and the length, stay."""
    if not offset_ms:
        return payload
    pieces = _TIMES.split(payload)
    # In threes: what is between, a key, its digits.
    for place in range(2, len(pieces), 3):
        scale = 1 if len(pieces[place]) == 13 else 1000
        time = int(pieces[place]) + offset_ms * scale
        pieces[place] = b"%d" % min(max(time, TIME_MS.start * scale), TIME_MS.stop * scale - 1)
    return b"".join(pieces)


class Wire(msgspec.Struct):
    """The aggTrade object as it is on the wire; keys beyond these are left alone."""

    E: int
    s: str
    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the exchange's own key
    T: int
    m: bool
    e: Literal["aggTrade"]


_decode = msgspec.json.Decoder(Wire).decode


def parse_agg_trade(payload: bytes) -> AggTrade | None:
    """Read an aggTrade of any market; None for everything else, malformed ones included."""
    try:
        wire = _decode(payload)
        price, quantity = Decimal(wire.p), Decimal(wire.q)
    except (msgspec.MsgspecError, ArithmeticError, UnicodeDecodeError):
        return None
    if not (price.is_finite() and quantity.is_finite()):
        return None
    return AggTrade(
        event_ms=wire.E,
        symbol=wire.s,
        agg_trade_id=wire.a,
        price=price,
        quantity=quantity,
        first_trade_id=wire.f,
        last_trade_id=wire.l,
        trade_ms=wire.T,
        is_buyer_maker=wire.m,
    )


def render_agg_trade(trade: AggTrade) -> bytes:
    """Write the spot layout, which is the canonical one: eight decimals, keys in the order of the wire."""
    return (
        f'{{"e":"aggTrade","E":{trade.event_ms},"s":"{trade.symbol}","a":{trade.agg_trade_id},"p":"{trade.price:.8f}",'
        f'"q":"{trade.quantity:.8f}","f":{trade.first_trade_id},"l":{trade.last_trade_id},"T":{trade.trade_ms},'
        f'"m":{"true" if trade.is_buyer_maker else "false"},"M":true}}'
    ).encode()
