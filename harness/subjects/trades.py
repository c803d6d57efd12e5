"""Reading the trade out of whatever a subject passes to its tap.

Subjects pass `(symbol, dict)`, a dict, an object, a row of plain arguments, raw JSON, or a list of
those; they keep the exchange's one-letter keys or words of their own.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ID_NAMES = (
    "a",
    "agg_trade_id",
    "aggTradeId",
    "agg_id",
    "aggregate_id",
    "aggregate_trade_id",
    "trade_id",
    "tradeId",
    "tid",
    "id",
)
PRICE_NAMES = ("p", "price", "px")
QUANTITY_NAMES = ("q", "quantity", "qty", "size", "sz", "amount", "volume", "vol")
TIME_NAMES = ("T", "trade_time", "tradeTime", "trade_time_ms", "transact_time", "time_ms", "timestamp", "time", "ts")
MAKER_NAMES = ("m", "is_buyer_maker", "isBuyerMaker", "buyer_maker", "buyer_is_maker", "maker")
SIDE_NAMES = ("side", "aggressor", "taker_side", "direction")
SYMBOL_NAMES = ("s", "symbol", "sym", "market", "pair", "instrument", "ticker")
SIDES = {"buy": False, "b": False, "bid": False, "sell": True, "s": True, "ask": True}
"""By the word for the taker's side: whether the buyer was the maker, since then the seller crossed the spread."""
NO_SYMBOLS = frozenset({*SIDES, "aggtrade", "trade"})
"""Words that are passed beside a trade and are no market's name."""
_LETTERS = re.compile(r"[^\W\d_]{3}")
"""Every market's name has them; prices, ids and ISO times do not."""

SECONDS_BELOW = 100_000_000_000
"""A smaller number is a time in seconds: in milliseconds it would lie before 1973."""


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """A trade as the subject passed it on."""

    symbol: str
    trade_id: int | None
    price: str
    quantity: str
    trade_time: int | None
    is_buyer_maker: bool | None


def read_call(function: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Values]:
    """
    Find the trades in the arguments of a call.

    Args:
        function: what was called, for the names of its parameters; None when they are unknown.
        args: positional arguments, without `self`.
        kwargs: named arguments.

    Returns:
        One entry for each trade; one without values when there is nothing like a trade in the call.
    """
    named, values = _by_parameter(function, args, kwargs), (*args, *kwargs.values())
    symbol = _symbol_in(_get(named, SYMBOL_NAMES), *values)
    for value in values:
        found = list(_trades_in(value))
        if found:
            # A queue is handed its `(symbol, trade)` as one value.
            symbol = symbol or _symbol_in(*value if _is_row(value) else ())
            return [_values(trade, symbol) for trade in found]
    return [_values(named, symbol)]


def read_item(item: Any, symbol: str = "") -> list[Values]:
    """Find the trades in one item of a list or queue: a trade, or a tuple such as `(symbol, trade)`."""
    if _is_row(item):
        return read_call(None, item, {})
    found = list(_trades_in(item))
    return [_values(trade, symbol) for trade in found] or [_values({}, symbol)]


def is_trade(value: Any) -> bool:
    """Whether there is something with a price in it."""
    return any(_get(trade, PRICE_NAMES) is not None for trade in _trades_in(value))


def _is_row(value: object) -> bool:
    return isinstance(value, tuple) and not hasattr(value, "_fields")


def _symbol_in(*values: object) -> str:
    return next((value for value in values if isinstance(value, str) and is_symbol(value)), "")


def is_symbol(text: str) -> bool:
    """Whether a text may be the name of a market, and no price, side, time or payload."""
    if not 2 < len(text) < 40 or text.lstrip().startswith(("{", "[")) or text.lower() in NO_SYMBOLS:
        return False
    return _LETTERS.search(text) is not None and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True  # "Infinity", too


def _trades_in(value: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, (bytes, bytearray, str)):
        if value[:1] in (b"{", "{", b"[", "["):
            try:
                found = msgspec.json.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return  # it is the subject's business, too, and must not become an exception of ours there
            yield from _trades_in(found, depth + 1)
    elif isinstance(value, Mapping) and isinstance(value.get("data"), Mapping):
        yield value["data"]
    elif isinstance(value, Mapping) or _get(value, PRICE_NAMES) is not None:
        yield value
    elif isinstance(value, (list, tuple)) and depth < 2:
        for item in value:
            yield from _trades_in(item, depth + 1)


def _by_parameter(function: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if function is None:
        return dict(kwargs)
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return dict(kwargs)


def _values(trade: Any, symbol: str) -> Values:
    own = _get(trade, SYMBOL_NAMES)
    return Values(
        # The caller's word goes before the payload's: it is what the trade was filed under.
        symbol=symbol or _text(own),
        trade_id=_integer(_get(trade, ID_NAMES)),
        price=_text(_get(trade, PRICE_NAMES)),
        quantity=_text(_get(trade, QUANTITY_NAMES)),
        trade_time=_time(_get(trade, TIME_NAMES)),
        is_buyer_maker=_maker(trade),
    )


def _get(trade: Any, names: tuple[str, ...]) -> Any:
    if isinstance(trade, Mapping):
        return next((trade[name] for name in names if trade.get(name) is not None), None)
    for name in names:
        value = _attribute(trade, name)
        if value is not None and not callable(value):
            return value
    return None


def _attribute(trade: Any, name: str) -> Any:
    try:
        return getattr(trade, name, None)
    except Exception:
        return None  # a property that raises: we are inside a call of the subject, which must not fail for our looking


def _plain(value: Any) -> Any:
    # A 32-bit float prints as if nothing were lost; as a Python float it shows its digits.
    try:
        return value.item() if hasattr(value, "item") else value
    except (TypeError, ValueError):
        return value  # an array of several


def _text(value: Any) -> str:
    if value is None:
        return ""
    value = _plain(value)
    if isinstance(value, Enum):
        value = value.value
    return str(value)


def _integer(value: Any) -> int | None:
    value = _plain(value)
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _time(value: Any) -> int | None:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    try:
        number = float(_plain(value))
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return round(number * 1000) if 0 < number < SECONDS_BELOW else round(number)


def _maker(trade: Any) -> bool | None:
    maker = _get(trade, MAKER_NAMES)
    if isinstance(maker, bool):
        return maker
    return SIDES.get(_text(_get(trade, SIDE_NAMES)).lower())
