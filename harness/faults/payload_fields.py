"""Payloads, field by field: identity, clocks and values. Frame N itself is struck, and nothing else in it changes."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated, ClassVar

import msgspec

from harness.faults.base import Context, Duration, Edit, Strike
from harness.faults.fields import add_field, as_int, as_text, drop_field, get_value, rename_field, set_value

# --- Fields -----------------------------------------------------------------------------------------


class MissingField(Edit, frozen=True, tag="payload.missing_field"):
    """
    An API change takes a field away.

    `KeyError`, or worse: a default.
    """

    field: str = "p"
    """Key to leave out."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return drop_field(payload, self.field)


class NullField(Edit, frozen=True, tag="payload.null_field"):
    """
    A server has no value and says so.

    A field is `null`.
    """

    field: str = "p"
    """Key to void."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return set_value(payload, self.field, b"null")


class EmptyField(Edit, frozen=True, tag="payload.empty_field"):
    """
    A server writes an empty string for a value that it does not have.

    `float("")` raises.
    """

    field: str = "p"
    """Key to empty."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return set_value(payload, self.field, b'""')


class ExtraField(Edit, frozen=True, tag="payload.extra_field"):
    """
    New keys appear without notice (`nq`, `st` on USD-M in 2026).

    Legal; strict parsers refuse.
    """

    field: str = "nq"
    """New key."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return add_field(payload, json.dumps(self.field).encode() + b':"0.123"')


class RenamedField(Edit, frozen=True, tag="payload.renamed_field"):
    """
    An API version spells a key in another way.

    A field has another name.
    """

    field: str = "p"
    """Key as it was."""
    new: str = "price"
    """Key as it is now."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return rename_field(payload, self.field, self.new)


class WrongType(Edit, frozen=True, tag="payload.wrong_type"):
    """
    A JSON writer changes a string into a number, or a number into a string.

    `"91350.00"` becomes `91350.00`; arithmetic on strings goes wrong quietly.
    """

    field: str = "p"
    """Key whose type changes."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        value = get_value(payload, self.field)
        if value is None:
            return None
        plain = as_text(value)
        if plain is None:
            return set_value(payload, self.field, b'"' + value + b'"')
        # A text that is no number becomes the number that broken writers make of it.
        return set_value(payload, self.field, plain.encode() if _is_decimal(plain) else b"0")


class StringFlag(Edit, frozen=True, tag="payload.string_flag"):
    """
    A JSON writer quotes booleans.

    `"m":"false"`, which is true in Python: every sale counts as the other side.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        value = get_value(payload, "m")
        return set_value(payload, "m", b'"' + value + b'"') if value in (b"true", b"false") else None


class Precision(Edit, frozen=True, tag="payload.precision"):
    """
    A JSON writer prints doubles: `91350.000000000015`.

    The price has more digits than its tick allows.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        price = as_text(get_value(payload, "p"))
        return set_value(payload, "p", f'"{price}000000015"'.encode()) if price and "." in price else None


class Scientific(Edit, frozen=True, tag="payload.scientific"):
    """
    A JSON writer prints small quantities as `1E-8`.

    The same value in scientific notation.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        quantity = as_text(get_value(payload, "q"))
        return (
            set_value(payload, "q", f'"{Decimal(quantity):E}"'.encode()) if _is_decimal(quantity) and quantity else None
        )


class LocaleDecimal(Edit, frozen=True, tag="payload.locale_decimal"):
    """
    A server with a European locale: `91350,00`.

    A comma where the point was; `float` raises.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        price = as_text(get_value(payload, "p"))
        return set_value(payload, "p", f'"{price.replace(".", ",")}"'.encode()) if price else None


def _is_decimal(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


# --- Identity -------------------------------------------------------------------------------------------


class SymbolCase(Edit, frozen=True, tag="payload.symbol_case"):
    """
    A server writes symbols in lower case.

    A dictionary by symbol gets a second, unread entry.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        value = get_value(payload, "s")
        return set_value(payload, "s", value.lower()) if value else None


class WrongSymbol(Edit, frozen=True, tag="payload.wrong_symbol"):
    """
    A routing fault: another market's trade on this stream.

    The symbol is not the one that was asked for.
    """

    symbol: str = "ETHBTC"
    """What it says instead."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return set_value(payload, "s", json.dumps(self.symbol).encode())


class RenameSymbol(Edit, frozen=True, tag="payload.rename_symbol"):
    """
    A coin is renamed or delisted, and its market gets another name.

    The symbol gets a suffix; filters by name drop the trade.
    """

    suffix: str = "OLD"
    """Behind the name."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        symbol = as_text(get_value(payload, "s"))
        return set_value(payload, "s", json.dumps(symbol + self.suffix).encode()) if symbol else None


# --- Clocks ----------------------------------------------------------------------------------------------


def with_times(payload: bytes, change: int, *, factor: int = 1, keys: tuple[str, ...] = ("E", "T")) -> bytes | None:
    """Times moved by `change` milliseconds, or written in a finer unit."""
    made: bytes | None = None
    for key in keys:
        value = as_int(get_value(payload, key))
        if value is not None:
            unit = 1000 if value > 10**14 else 1
            payload = made = set_value(payload, key, str((value + change * unit) * factor).encode()) or payload
    return made


class TimeUnit(Edit, frozen=True, tag="payload.time_unit"):
    """
    `timeUnit=MICROSECOND`, or a server that changed its default.

    Times have 16 digits: 54 000 years ahead for a client that reads milliseconds.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return with_times(payload, 0, factor=1000)


class TimeZero(Edit, frozen=True, tag="payload.time_zero"):
    """
    A server writes a time that it has not set.

    Event and trade time are 0: 1970.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        first = set_value(payload, "E", b"0")
        return set_value(first or payload, "T", b"0") or first


class TimeFuture(Edit, frozen=True, tag="payload.time_future"):
    """
    A server's clock is ahead.

    Ages come out negative, and windows by time never let the trade go.
    """

    ahead: Duration = Duration("1h")
    """How far."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return with_times(payload, int(self.ahead) // 1_000_000)


class TimePast(Edit, frozen=True, tag="payload.time_past"):
    """
    A server's clock is behind, or the trade waited in a queue.

    Windows by time never count the trade.
    """

    behind: Duration = Duration("1h")
    """How far."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return with_times(payload, -(int(self.behind) // 1_000_000))


class TimeBackwards(Edit, frozen=True, tag="payload.time_backwards"):
    """
    Two servers with different clocks feed one stream.

    One trade's times lie a little before those of the trade before it.
    """

    step: Duration = Duration("1s")
    """How far back."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        # In a quiet market the trade before it may lie further back than the step.
        before = context.preceding(strike.frame, 1)
        pause_ns = strike.due_ns - int(context.tape.due_ns[before[0]]) if before else 0
        return with_times(payload, -max(1, (int(self.step) + pause_ns) // 1_000_000))


class EventBeforeTrade(Edit, frozen=True, tag="payload.event_before_trade"):
    """
    A server sends an event that, by its own times, has not happened yet.

    `E` is earlier than `T`, which a healthy stream never shows.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return with_times(payload, -5000, keys=("E",))


# --- Values -------------------------------------------------------------------------------------------------


def _scaled(payload: bytes, key: str, factor: Decimal) -> bytes | None:
    text = as_text(get_value(payload, key))
    if text is None or not _is_decimal(text):
        return None
    places = len(text.partition(".")[2])
    return set_value(payload, key, f'"{Decimal(text) * factor:.{places}f}"'.encode())


class _Value(Edit, frozen=True):
    key: ClassVar[str] = "p"
    content: ClassVar[bytes] = b'"0"'

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return set_value(payload, self.key, self.content)


class PriceZero(_Value, frozen=True, tag="payload.price_zero"):
    """
    A voided trade, as Binance sent them on 2022-04-12.

    Price 0: a crash to nothing for whoever believes it.
    """

    content: ClassVar[bytes] = b'"0.00000000"'


class PriceNegative(Edit, frozen=True, tag="payload.price_negative"):
    """
    A sign error in a server's arithmetic.

    The price is below zero.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return _scaled(payload, "p", Decimal(-1))


class PriceNan(_Value, frozen=True, tag="payload.price_nan"):
    """
    A server divides by zero and prints the result.

    `float("NaN")` succeeds, and every sum from then on is NaN.
    """

    content: ClassVar[bytes] = b'"NaN"'


class PriceInfinite(_Value, frozen=True, tag="payload.price_infinite"):
    """
    A server divides by zero and prints the result.

    `float("Infinity")` succeeds, and every mean from then on is infinite.
    """

    content: ClassVar[bytes] = b'"Infinity"'


class PriceSpike(Edit, frozen=True, tag="payload.price_spike"):
    """
    A bad tick: one price far from the market.

    Detectors fire on a trade that never was.
    """

    factor: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Times the true price."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return _scaled(payload, "p", Decimal(repr(self.factor)))


class QuantityZero(_Value, frozen=True, tag="payload.quantity_zero"):
    """
    A voided trade; archives hold 200 000 of them.

    Quantity 0: a trade that moves nothing.
    """

    key: ClassVar[str] = "q"
    content: ClassVar[bytes] = b'"0.00000000"'


class QuantityNegative(Edit, frozen=True, tag="payload.quantity_negative"):
    """
    A correction is booked as a trade.

    The quantity is below zero, and volumes shrink.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return _scaled(payload, "q", Decimal(-1))


class QuantityHuge(Edit, frozen=True, tag="payload.quantity_huge"):
    """
    A unit error: base and quote quantity are mixed up.

    A whale that never was.
    """

    factor: Annotated[float, msgspec.Meta(gt=0)] = 1_000_000.0
    """Times the true quantity."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return _scaled(payload, "q", Decimal(repr(self.factor)))


class SideFlip(Edit, frozen=True, tag="payload.side_flip"):
    """
    An API version turns the meaning of `m` round.

    Buys count as sales: every pressure has the wrong sign.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        other = {b"true": b"false", b"false": b"true"}.get(get_value(payload, "m") or b"")
        return set_value(payload, "m", other) if other else None


class SideMissing(Edit, frozen=True, tag="payload.side_missing"):
    """
    A server leaves out flags that are false.

    Without `m`, `trade.get("m")` makes every trade a buy.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return drop_field(payload, "m")


class IdString(Edit, frozen=True, tag="payload.id_string"):
    """
    A JSON writer quotes 64-bit numbers, for the sake of JavaScript.

    `"a":"26129"`: comparing ids compares text.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        value = get_value(payload, "a")
        return set_value(payload, "a", b'"' + value + b'"') if as_int(value) is not None and value else None
