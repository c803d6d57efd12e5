"""Normalised trades: archive CSV, other recorders' CSV, REST answers. The frames are rendered, and say so."""

from __future__ import annotations

import csv
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from harness.clock import NS_PER_MS, NS_PER_US
from harness.errors import RecordingError
from harness.frames import AggTrade, Frame, render_agg_trade
from harness.sources import files
from harness.sources.lines import parse_instant_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.sources.capture import Tally

RENDERED = "frames are rendered in the spot layout from columns; they are not bytes that an exchange sent"
NO_EVENT_TIME = "event time is the trade time: the source has no other"
_SYMBOL = re.compile(r"([A-Z0-9]{5,}(?:_PERP|_\d{6})?)(?=[-_.])")
_TRUE = {"true": True, "false": False}
MICROSECOND_DIGITS = 16
"""Digits of a time in microseconds, as in spot archives from 2025-01-01 (binance-protocol, section 9)."""


def symbol_of(path: Path) -> str | None:
    """The symbol that a file's name begins with, as in the public archive; None when there is none."""
    found = _SYMBOL.match(path.name) or re.search(r"([A-Z0-9]{2,}(?:USDT|USDC|BTC|USD))", path.name)
    return found[1] if found else None


class Renderer:
    """Makes frames of trades in order of the file, and marks holes in the ids."""

    def __init__(self, symbol: str, tally: Tally) -> None:
        self.connection = 1
        self._symbol = symbol
        self._tally = tally
        self._last_ns = 0
        self._last_ids: dict[str, int] = {}
        tally.remark(RENDERED)
        tally.remark(NO_EVENT_TIME)

    def trade(
        self,
        at_ns: int,
        number: int,
        price: str,
        quantity: str,
        first: int,
        last: int,
        *,
        maker: bool,
        trade_ns: int | None = None,
        symbol: str | None = None,
    ) -> Iterator[Frame]:
        """
        One trade; before it, a `gap` row where ids are missing.

        Args:
            at_ns: when it was received.
            number: its aggregate id.
            price: exact decimal.
            quantity: exact decimal.
            first: id of its first single trade.
            last: id of its last.
            maker: the buyer was the maker.
            trade_ns: when it happened; None for when it was received.
            symbol: None for the source's own.
        """
        symbol = symbol or self._symbol
        trade_ms = (at_ns if trade_ns is None else trade_ns) // NS_PER_MS
        last_id = self._last_ids.get(symbol, number)
        if number > last_id + 1:
            yield self.mark("gap", at_ns, f"{symbol.lower()}@aggTrade: ids {last_id + 1} to {number - 1} missing")
        self._last_ids[symbol] = number
        trade = AggTrade(
            event_ms=trade_ms,
            symbol=symbol,
            agg_trade_id=number,
            price=Decimal(price),
            quantity=Decimal(quantity),
            first_trade_id=first,
            last_trade_id=last,
            trade_ms=trade_ms,
            is_buyer_maker=maker,
        )
        self._tally.taken += 1
        yield self._frame("text", at_ns, render_agg_trade(trade), "")

    def mark(self, kind: str, at_ns: int, detail: str) -> Frame:
        """A row that is no frame of the exchange."""
        return self._frame(kind, at_ns, b"", detail)

    def _frame(self, kind: Any, at_ns: int, data: bytes, detail: str) -> Frame:
        # Times of the source may step back; a tape never does.
        self._last_ns = max(self._last_ns, at_ns)
        return Frame(
            connection=self.connection,
            kind=kind,
            received_at_ns=at_ns,
            monotonic_ns=self._last_ns,
            data=data,
            detail=detail,
        )


def archive(path: Path, tally: Tally, symbol: str) -> Iterator[Frame]:
    """Files of the public archive: spot (8 columns) or futures (7), header or none, ms or us."""
    renderer = Renderer(symbol, tally)
    for number, row in _rows(path):
        if not row:
            continue
        if not row[0].isdigit():
            tally.skip("the header", number)
            continue
        try:
            at = int(row[5])
            at_ns = at * (NS_PER_US if len(row[5]) >= MICROSECOND_DIGITS else NS_PER_MS)
            maker = _TRUE[row[6].strip().lower()]
            trade = renderer.trade(at_ns, int(row[0]), row[1], row[2], int(row[3]), int(row[4]), maker=maker)
            yield from trade
        except (IndexError, ValueError, KeyError, InvalidOperation) as cause:
            raise _no_row(
                path, number, row, "agg id, price, qty, first id, last id, timestamp, is buyer maker"
            ) from cause
        if len(row[5]) >= MICROSECOND_DIGITS:
            tally.remark("times have microseconds in the file; the frames carry milliseconds")


def recorder_csv(path: Path, tally: Tally, symbol: str) -> Iterator[Frame]:
    """CSV with header `timestamp,price,quantity,side,tradeId`; the id is the aggregate one."""
    renderer = Renderer(symbol, tally)
    tally.remark("first and last trade id are the aggregate id: the source has no other")
    for number, row in _rows(path):
        if number == 1 or not row:
            continue
        try:
            at_ns, price, quantity, side, trade_id = (
                int(row[0]) * NS_PER_MS,
                row[1],
                row[2],
                row[3].lower(),
                int(row[4]),
            )
            maker = {"buy": False, "sell": True}[side]
            yield from renderer.trade(at_ns, trade_id, price, quantity, trade_id, trade_id, maker=maker)
        except (IndexError, ValueError, KeyError, InvalidOperation) as cause:
            raise _no_row(path, number, row, "timestamp, price, quantity, side, tradeId") from cause


class _Item(msgspec.Struct):
    """An item of `GET /api/v3/aggTrades` (binance-protocol, section 8)."""

    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the exchange's own key
    T: int
    m: bool


def rest(path: Path, tally: Tally, symbol: str) -> Iterator[Frame]:
    """A recorded REST `aggTrades` answer: one JSON array."""
    renderer = Renderer(symbol, tally)
    with files.opened(path) as stream:
        try:
            items = msgspec.json.decode(stream.read(), type=list[_Item])
        except msgspec.MsgspecError as cause:
            raise RecordingError(path, f"is no REST aggTrades answer: {cause}") from cause
    for item in items:
        yield from renderer.trade(item.T * NS_PER_MS, item.a, item.p, item.q, item.f, item.l, maker=item.m)


def normalised(path: Path, tally: Tally, symbol: str) -> Iterator[Frame]:
    """
    A normalised feed with `Reconnecting` markers (barter-rs); each becomes `lost` and `open` rows.

    The file numbers its instruments and does not name them: `symbol` does, separated by commas, in the order in which
    they come. Trades of those without a name are left out.
    """
    symbols = [name.strip() for name in symbol.split(",")]
    renderer = Renderer(symbols[0], tally)
    known: dict[Any, str] = {}
    tally.remark("trade ids are single trades, not aggregates")
    with files.opened(path) as stream:
        try:
            items = msgspec.json.decode(stream.read(), type=list[dict[str, Any]])
        except msgspec.MsgspecError as cause:
            raise RecordingError(path, f"is no list of normalised events: {cause}") from cause
    at_ns = 0
    for number, item in enumerate(items, start=1):
        if "Reconnecting" in item:
            yield renderer.mark("lost", at_ns, "reconnecting")
            renderer.connection += 1
            yield renderer.mark("open", at_ns, "")
            continue
        event = item.get("Item", {}).get("Ok", {})
        trade = event.get("kind", {}).get("Trade")
        if trade is None:
            tally.skip("no trade", number)
            continue
        instrument = event.get("instrument")
        if instrument not in known and len(known) < len(symbols):
            known[instrument] = symbols[len(known)]
        if instrument not in known:
            tally.skip(f"a trade of instrument {instrument}, which has no name; give --symbol A,B in order", number)
            continue
        at_ns = parse_instant_ns(event["time_received"])
        trade_id, maker = int(trade["id"]), trade["side"] == "Sell"
        price, quantity = str(trade["price"]), format(Decimal(str(trade["amount"])), "f")
        trade_ns = parse_instant_ns(event["time_exchange"])
        yield from renderer.trade(
            at_ns,
            trade_id,
            price,
            quantity,
            trade_id,
            trade_id,
            maker=maker,
            trade_ns=trade_ns,
            symbol=known[instrument],
        )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    with files.opened(path) as stream:
        yield from enumerate(csv.reader(line.decode("utf-8", "replace") for line in stream), start=1)


def _no_row(path: Path, number: int, row: list[str], expected: str) -> RecordingError:
    return RecordingError(f"{path}:{number}", f"found {','.join(row)[:80]!r}, expected {expected}")


NORMALISED: dict[str, Callable[[Path, Tally, str], Iterator[Frame]]] = {
    "archive CSV": archive,
    "recorder CSV": recorder_csv,
    "REST aggTrades": rest,
    "normalised events": normalised,
}
