"""One aggregate trade: parsed strictly, kept exactly.

Prices and quantities arrive as decimal strings with up to eight places (Binance, "Aggregate Trade Streams").
They are kept as the string that was sent and as an integer number of 1e-8 units, so that sums over
any number of trades are exact; a float would drift as trades leave a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

PLACES = 8
UNIT: int = 10**PLACES
"""Units in 1: prices, quantities."""
NOTIONAL_UNIT = UNIT * UNIT
"""Units in 1 of price times quantity."""

# 2001-09-09 to 5138-11-16 in milliseconds; the same digits for micro- and nanoseconds are longer.
_MS_MIN, _MS_MAX = 10**12, 10**14
_US_MAX, _NS_MAX = 10**17, 10**20
# `E - T` is 2 ms on spot and 154 ms on futures (median); the largest seen in real captures is 158 ms.
_EVENT_BEFORE_TRADE_MAX_MS = 1_000
_EVENT_AFTER_TRADE_MAX_MS = 3_600_000


class InvalidTradeError(ValueError):
    """A frame or a mapping is not a trade that may be passed on; `str()` says why."""


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """
    One aggregate trade.

    It reads like a mapping too, with the exchange's own keys, whose values are as sent
    (`trade["p"]` is the string `"91350.00000000"`), and with readable ones (`trade["price"]` is a
    `Decimal`): see `keys()`.
    """

    symbol: str
    """Upper case."""
    agg_trade_id: int
    price_text: str
    """As sent."""
    quantity_text: str
    """As sent."""
    price_units: int
    """In 1e-8."""
    quantity_units: int
    """In 1e-8."""
    first_trade_id: int
    last_trade_id: int
    time_ms: int
    """Exchange time of the trade, milliseconds since 1970."""
    event_time_ms: int | None
    """When the exchange sent the event, milliseconds since 1970; None for a trade fetched over REST."""
    is_buyer_maker: bool
    """True: the taker sold."""
    source: Literal["stream", "rest"] = "stream"

    @property
    def price(self) -> Decimal:
        """Exact."""
        return Decimal(self.price_text)

    @property
    def quantity(self) -> Decimal:
        """Exact."""
        return Decimal(self.quantity_text)

    @property
    def side(self) -> Literal["BUY", "SELL"]:
        """What the taker did."""
        return "SELL" if self.is_buyer_maker else "BUY"

    @property
    def notional_units(self) -> int:
        """Price times quantity, in 1e-16 of the quote currency."""
        return self.price_units * self.quantity_units

    @property
    def notional(self) -> Decimal:
        """Price times quantity, in the quote currency, exact."""
        return Decimal(self.notional_units).scaleb(-2 * PLACES)

    def __getitem__(self, key: str) -> Any:
        value = getattr(self, _KEYS[key])
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in _KEYS and getattr(self, _KEYS[str(key)]) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:
        """The exchange's keys (`a p q f l T E m s`), then the readable ones."""
        return [key for key in _KEYS if key in self]

    def values(self) -> list[Any]:
        """In the order of `keys()`."""
        return [self[key] for key in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """In the order of `keys()`."""
        return [(key, self[key]) for key in self.keys()]

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` when there is none."""
        return self[key] if key in self else default  # noqa: SIM401 - this is that method


_KEYS = {
    "s": "symbol",
    "a": "agg_trade_id",
    "p": "price_text",
    "q": "quantity_text",
    "f": "first_trade_id",
    "l": "last_trade_id",
    "T": "time_ms",
    "E": "event_time_ms",
    "m": "is_buyer_maker",
    "symbol": "symbol",
    "agg_trade_id": "agg_trade_id",
    "price": "price",
    "quantity": "quantity",
    "time": "time_ms",
    "event_time": "event_time_ms",
    "is_buyer_maker": "is_buyer_maker",
    "side": "side",
    "usd_value": "notional",
    "source": "source",
}
Mapping.register(Trade)


class Void(msgspec.Struct, frozen=True):
    """An id that the exchange used for nothing: a voided aggregate (p=0, q=0, f=-1, l=-1), only seen over REST."""

    agg_trade_id: int


class Notice(msgspec.Struct, frozen=True):
    """A frame that is no trade."""

    kind: Literal["reply", "error", "shutdown", "unknown", "invalid"]
    """`reply`: an acknowledgement; harmless. `shutdown`: the exchange will close. All others are trouble."""
    text: str


class _StreamFields(msgspec.Struct):
    # Binance, "Aggregate Trade Streams"; `M` is to be ignored, and new keys appear without notice.
    e: str
    E: int
    s: str
    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the exchange's name
    T: int
    m: bool


class _RestFields(msgspec.Struct):
    # Binance, "Compressed/Aggregate trades list".
    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the exchange's name
    T: int
    m: bool


_stream_decoder = msgspec.json.Decoder(_StreamFields)
_rest_decoder = msgspec.json.Decoder(list[_RestFields])
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What a decoder raises for bytes that are no JSON, for text that is no Unicode, and for a thousand open brackets."""


def parse_units(text: str, name: str = "number") -> int:
    """
    Read a decimal string exactly.

    Args:
        text: digits, with at most one point; no sign, no exponent, no blanks.
        name: what it is, for the message.

    Returns:
        The number in units of 1e-8.

    Raises:
        InvalidTradeError: it is something else, or has more than eight places.
    """
    whole, _, places = text.partition(".")
    digits = whole + places
    if not (digits.isascii() and digits.isdigit() and whole) or len(digits) > 30 or text.endswith("."):
        raise InvalidTradeError(f"{name} {text[:40]!r} is not a decimal number")
    if len(places) > PLACES:
        if places[PLACES:].strip("0"):
            raise InvalidTradeError(f"{name} {text[:40]!r} has more than {PLACES} places")
        places = places[:PLACES]
    return int(whole) * UNIT + int(places.ljust(PLACES, "0"))


def parse_time_ms(value: int, name: str = "time") -> int:
    """
    Read a time in milliseconds, microseconds or nanoseconds since 1970.

    Spot streams send microseconds when `timeUnit=MICROSECOND` is asked for, and archives do since 2025.

    Returns:
        Milliseconds.

    Raises:
        InvalidTradeError: it is no time between 2001 and 5138 in any of the three.
    """
    if _MS_MIN <= value < _MS_MAX:
        return value
    if _MS_MAX <= value < _US_MAX:
        return value // 1_000
    if _US_MAX <= value < _NS_MAX:
        return value // 1_000_000
    raise InvalidTradeError(f"{name} {value} is not a time")


def parse_frame(data: str | bytes, symbol: str) -> Trade | Notice:
    """
    Read one message of an aggTrade stream.

    Args:
        data: the message; text, or text sent in a binary frame.
        symbol: the only symbol that may be inside, upper case.

    Returns:
        A trade that is whole and plausible by itself, or what the message is instead.
    """
    try:
        fields = _stream_decoder.decode(data)
    except _UNREADABLE:
        return _parse_other(data, symbol)
    return _from_stream(fields, symbol)


def _from_stream(fields: _StreamFields, symbol: str) -> Trade | Notice:
    if fields.e != "aggTrade":
        return Notice("unknown", f"event {fields.e[:40]!r} where 'aggTrade' was expected")
    try:
        return _check(
            symbol=fields.s,
            wanted=symbol,
            fields=fields,
            event_time_ms=parse_time_ms(fields.E, "event time E"),
            source="stream",
        )
    except InvalidTradeError as error:
        return Notice("invalid", str(error))


def _check(
    *,
    symbol: str,
    wanted: str,
    fields: _StreamFields | _RestFields,
    event_time_ms: int | None,
    source: Literal["stream", "rest"],
) -> Trade:
    if symbol != wanted:
        raise InvalidTradeError(f"symbol {symbol[:40]!r} on the stream of {wanted}")
    price, quantity = parse_units(fields.p, "price"), parse_units(fields.q, "quantity")
    if price <= 0:
        raise InvalidTradeError(f"price {fields.p} of trade {fields.a} is not above zero")
    if quantity <= 0:
        raise InvalidTradeError(f"quantity {fields.q} of trade {fields.a} is not above zero")
    if fields.a < 0 or not 0 <= fields.f <= fields.l:
        raise InvalidTradeError(f"ids of trade {fields.a} are impossible: first {fields.f}, last {fields.l}")
    time_ms = parse_time_ms(fields.T, "trade time T")
    if event_time_ms is not None and not (
        time_ms - _EVENT_BEFORE_TRADE_MAX_MS <= event_time_ms <= time_ms + _EVENT_AFTER_TRADE_MAX_MS
    ):
        raise InvalidTradeError(f"trade {fields.a} has event time {event_time_ms} and trade time {time_ms}")
    return Trade(
        symbol=symbol,
        agg_trade_id=fields.a,
        price_text=fields.p,
        quantity_text=fields.q,
        price_units=price,
        quantity_units=quantity,
        first_trade_id=fields.f,
        last_trade_id=fields.l,
        time_ms=time_ms,
        event_time_ms=event_time_ms,
        is_buyer_maker=fields.m,
        source=source,
    )


def _parse_other(data: str | bytes, symbol: str) -> Trade | Notice:
    # Off the fast path: say as exactly as possible what came in place of a trade.
    try:
        value = msgspec.json.decode(data)
    except _UNREADABLE as error:
        return Notice("invalid", f"not JSON ({error}): {_shown(data)}")
    if not isinstance(value, dict):
        return Notice("invalid", f"not an object: {_shown(data)}")
    if "stream" in value and isinstance(value.get("data"), dict):
        # The form of a combined stream (Binance, "General WSS information").
        return parse_frame(msgspec.json.encode(value["data"]), symbol)
    if isinstance(value.get("error"), dict) or ("code" in value and "msg" in value):
        # Documented flat, nested on the wire.
        return Notice("error", f"the exchange reports an error: {_shown(data)}")
    if value.get("e") == "serverShutdown":
        return Notice("shutdown", "the exchange announces that it will close this connection")
    if "result" in value and "e" not in value:
        return Notice("reply", f"a reply to a request: {_shown(data)}")
    if value.get("e") != "aggTrade":
        return Notice("unknown", f"event {str(value.get('e'))[:40]!r} where 'aggTrade' was expected: {_shown(data)}")
    try:
        msgspec.convert(value, _StreamFields)
    except msgspec.ValidationError as error:
        return Notice("invalid", f"malformed aggTrade ({error}): {_shown(data)}")
    return Notice("invalid", f"malformed aggTrade: {_shown(data)}")


def _shown(data: str | bytes) -> str:
    shown = data if isinstance(data, str) else data.decode("utf-8", "backslashreplace")
    return repr(shown if len(shown) <= 120 else shown[:117] + "...")


def parse_rest_page(data: bytes, symbol: str) -> list[Trade | Void]:
    """
    Read an answer of `GET /api/v3/aggTrades`.

    Returns:
        Trades by rising id, and the ids that were used for nothing.

    Raises:
        InvalidTradeError: the answer is something else.
    """
    try:
        rows = _rest_decoder.decode(data)
    except _UNREADABLE as error:
        raise InvalidTradeError(f"the answer is not a list of trades ({error}): {_shown(data)}") from error
    page: list[Trade | Void] = []
    for row in rows:
        if row.f == -1 and row.l == -1 and not row.p.strip("0."):
            # Binance, changelog 2022-04-12: voided aggregates stay in the numbering.
            page.append(Void(row.a))
        else:
            page.append(_check(symbol=symbol, wanted=symbol, fields=row, event_time_ms=None, source="rest"))
    page.sort(key=lambda item: item.agg_trade_id)
    return page


def as_trade(symbol: str, value: Trade | Mapping[str, Any]) -> Trade:
    """
    Take a trade as it is, or read one from a mapping with the exchange's keys or the readable ones.

    Args:
        symbol: used where the mapping names none.
        value: prices and quantities are strings, Decimals or integers; floats are taken by their shortest text.

    Raises:
        InvalidTradeError: something is missing or impossible.
    """
    if isinstance(value, Trade):
        return value

    def take(*names: str) -> Any:
        for name in names:
            found = value.get(name)
            if found is not None:
                return found
        raise InvalidTradeError(f"a trade of {symbol} has no {' or '.join(map(repr, names))}")

    maker = take("m", "is_buyer_maker", "side")
    if isinstance(maker, str):
        if maker.upper() not in {"BUY", "SELL"}:
            raise InvalidTradeError(f"side {maker[:40]!r} is neither BUY nor SELL")
        maker = maker.upper() == "SELL"
    elif maker not in (True, False):
        raise InvalidTradeError(f"is_buyer_maker {maker!r} is neither true nor false")
    time_ms = take("T", "time", "timestamp", "time_ms")
    agg_trade_id = value.get("a", value.get("agg_trade_id"))
    try:
        fields = _RestFields(
            a=0 if agg_trade_id is None else int(agg_trade_id),
            p=_text(take("p", "price")),
            q=_text(take("q", "quantity", "qty")),
            f=int(value.get("f", value.get("first_trade_id", 0))),
            l=int(value.get("l", value.get("last_trade_id", value.get("f", value.get("first_trade_id", 0))))),
            T=int(time_ms),
            m=bool(maker),
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidTradeError(f"a trade of {symbol} cannot be read: {error}") from error
    name = str(value.get("s", value.get("symbol", symbol))).upper()
    return _check(symbol=name, wanted=symbol.upper(), fields=fields, event_time_ms=None, source="stream")


def _text(value: object) -> str:
    return value if isinstance(value, str) else format(Decimal(str(value)), "f")
