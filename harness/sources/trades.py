"""Normalised trades: other recorders' CSV, REST answers, events of libraries. The frames are rendered, and say so."""

from __future__ import annotations

import csv
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from harness.clock import NS_PER_MS
from harness.errors import RecordingError
from harness.sources import files
from harness.sources.archive import archive
from harness.sources.lines import parse_instant_ns
from harness.sources.rendered import Renderer, no_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.frames import Frame
    from harness.frames.trades import Trades
    from harness.sources.capture import Tally

_SYMBOL = re.compile(r"([A-Z0-9]{5,}(?:_PERP|_\d{6})?)(?=[-_.])")


def symbol_of(path: Path) -> str | None:
    """The symbol that a file's name begins with, as in the public archive; None when there is none."""
    found = _SYMBOL.match(path.name) or re.search(r"([A-Z0-9]{2,}(?:USDT|USDC|BTC|USD))", path.name)
    return found[1] if found else None


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
            raise no_row(path, number, row, "timestamp, price, quantity, side, tradeId") from cause


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
    for number, item in enumerate(items, start=1):
        try:
            yield from renderer.trade(item.T * NS_PER_MS, item.a, item.p, item.q, item.f, item.l, maker=item.m)
        except InvalidOperation as cause:
            text = f"price {item.p!r} or quantity {item.q!r} is no number"
            raise RecordingError(path, f"item {number}: {text}") from cause


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
        try:
            at_ns, trade_ns = (parse_instant_ns(event[name]) for name in ("time_received", "time_exchange"))
            trade_id, maker = int(trade["id"]), trade["side"] == "Sell"
            price, quantity = (format(Decimal(str(trade[name])), "f") for name in ("price", "amount"))
        except (ArithmeticError, KeyError, TypeError, ValueError) as cause:
            words = f"{type(cause).__name__}: {cause}"
            raise RecordingError(path, f"item {number}: is no trade that can be read ({words})") from cause
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


NORMALISED: dict[str, Callable[[Path, Tally, str], Iterator[Frame | Trades]]] = {
    "archive CSV": archive,
    "recorder CSV": recorder_csv,
    "REST aggTrades": rest,
    "normalised events": normalised,
}
