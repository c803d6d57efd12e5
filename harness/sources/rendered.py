"""Frames of trades that somebody has normalised: rendered in the spot layout, holes in the ids marked."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_MS
from harness.errors import RecordingError
from harness.frames import AggTrade, Frame, render_agg_trade
from harness.frames.trades import Trades

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.frames.columns import TradeColumns
    from harness.sources.capture import Tally

RENDERED = "frames are rendered in the spot layout from columns; they are not bytes that an exchange sent"
NO_EVENT_TIME = "event time is the trade time: the source has no other"


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
            yield self._gap(symbol, at_ns, last_id, number)
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

    def trades(self, columns: TradeColumns, at_ns: NDArray[np.int64]) -> Iterator[Frame | Trades]:
        """
        The same for many trades of the source's own symbol, each received when it happened.

        Args:
            columns: one trade or more, all `renderable`.
            at_ns: when each was received.
        """
        ids = columns.agg_trade_id
        before = np.concatenate(([self._last_ids.get(self._symbol, int(ids[0]))], ids[:-1]))
        steady = np.maximum(np.maximum.accumulate(at_ns), self._last_ns)
        every = Trades(self.connection, at_ns, steady, columns)
        holes = np.flatnonzero(ids > before + 1).tolist()
        for first, last in pairwise([*sorted({0, *holes}), len(ids)]):
            if ids[first] > before[first] + 1:
                yield self._gap(self._symbol, int(at_ns[first]), int(before[first]), int(ids[first]))
            yield every[first:last]
        self._last_ids[self._symbol] = int(ids[-1])
        self._last_ns = int(steady[-1])
        self._tally.taken += len(ids)

    def _gap(self, symbol: str, at_ns: int, last_id: int, number: int) -> Frame:
        return self.mark("gap", at_ns, f"{symbol.lower()}@aggTrade: ids {last_id + 1} to {number - 1} missing")

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


def no_row(path: Path, number: int, row: list[str], expected: str) -> RecordingError:
    """One sentence about a row that is none of its kind."""
    return RecordingError(f"{path}:{number}", f"found {','.join(row)[:80]!r}, expected {expected}")
