"""Trade history, large orders, pressure and volume spikes, by exchange time.

A market that stands still must not look alive: every question is answered as of *now*, and an answer that rests on
too little says so in `reason`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from orderflow.trade import NOTIONAL_UNIT, UNIT, Trade, as_trade
from orderflow.window import Sums, TradeWindow

logger = logging.getLogger(__name__)

SIZES: dict[str, int] = {"small": 50_000, "medium": 100_000, "large": 500_000, "whale": 1_000_000}
"""From how many dollars on an order is called so."""
# Sizes are in dollars, so they mean something only where the quote currency is worth one.
DOLLARS = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD", "USD1")
_NEVER = 1 << 200


class WhaleOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A large order."""

    symbol: str
    size: str
    """`small`, `medium`, `large` or `whale`."""
    side: str
    """What the taker did: `BUY` or `SELL`."""
    usd_value: float
    price: float
    quantity: float
    time_ms: int
    """Exchange time, milliseconds since 1970."""
    agg_trade_id: int


class Pressure(msgspec.Struct, frozen=True):
    """
    What takers bought and sold in a window; worked out when read. It reads like a mapping too: `pressure["trades"]`.

    The sums are exact; volumes are in the quote currency.
    """

    symbol: str
    """Upper case."""
    window_s: float
    """The length asked for, seconds of exchange time."""
    as_of_ms: int
    """The end of the window, exchange time."""
    bought_units: int
    """In 1e-16."""
    sold_units: int
    """In 1e-16."""
    trades: int
    """How many are in the window."""
    since_ms: int | None
    """From when on trades are known; None when none ever came."""
    last_ms: int | None
    """Time of the newest trade."""
    hint: str = ""

    @property
    def buy_volume(self) -> float:
        """What takers bought for."""
        return self.bought_units / NOTIONAL_UNIT

    @property
    def sell_volume(self) -> float:
        """What takers sold for."""
        return self.sold_units / NOTIONAL_UNIT

    @property
    def net_volume(self) -> float:
        """Bought minus sold."""
        return (self.bought_units - self.sold_units) / NOTIONAL_UNIT

    @property
    def total_volume(self) -> float:
        """Bought plus sold."""
        return (self.bought_units + self.sold_units) / NOTIONAL_UNIT

    @property
    def pressure(self) -> float | None:
        """From -1, all sold, to 1, all bought; None without trades."""
        bought, sold = self.bought_units, self.sold_units
        total = bought + sold
        return (bought - sold) / total if total else None

    @property
    def dominant_side(self) -> str | None:
        """`BUY`, `SELL` or `NEUTRAL`; None without trades."""
        if not self.trades:
            return None
        net = self.bought_units - self.sold_units
        return "BUY" if net > 0 else "SELL" if net < 0 else "NEUTRAL"

    @property
    def covered_s(self) -> float:
        """How much of the window lies after the first trade that is known."""
        if self.since_ms is None:
            return 0.0
        return min(max((self.as_of_ms - self.since_ms) / 1000, 0.0), self.window_s)

    @property
    def last_trade_age_s(self) -> float | None:
        """Age of the newest trade at the end of the window; None when none ever came."""
        return None if self.last_ms is None else (self.as_of_ms - self.last_ms) / 1000

    @property
    def complete(self) -> bool:
        """The answer is for the whole window."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why there are no figures, or why they are not for the whole window; else None."""
        if self.last_ms is None:
            return f"no trade of {self.symbol} has been received ({self.hint})"
        if not self.trades:
            age_s = self.last_trade_age_s
            return f"no trade of {self.symbol} in the last {self.window_s:g} s; the newest is {age_s:.1f} s old"
        if self.covered_s < self.window_s:
            return f"{self.window_s:g} s were asked for, trades are known for {self.covered_s:.1f} s"
        return None

    def __getitem__(self, key: str) -> Any:
        if key not in _PRESSURE_KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(_PRESSURE_KEYS)

    def __len__(self) -> int:
        return len(_PRESSURE_KEYS)

    def __contains__(self, key: object) -> bool:
        return key in _PRESSURE_KEYS

    def keys(self) -> tuple[str, ...]:
        """What can be asked for."""
        return _PRESSURE_KEYS

    def values(self) -> list[Any]:
        """In the order of `keys()`."""
        return [self[key] for key in _PRESSURE_KEYS]

    def items(self) -> list[tuple[str, Any]]:
        """In the order of `keys()`."""
        return [(key, self[key]) for key in _PRESSURE_KEYS]

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` when there is no such key."""
        return getattr(self, key) if key in _PRESSURE_KEYS else default


_PRESSURE_KEYS = (
    "symbol",
    "window_s",
    "as_of_ms",
    "buy_volume",
    "sell_volume",
    "net_volume",
    "total_volume",
    "pressure",
    "dominant_side",
    "trades",
    "covered_s",
    "complete",
    "last_trade_age_s",
    "reason",
)
Mapping.register(Pressure)


class _Book(msgspec.Struct):
    # All that is kept of one symbol.
    symbol: str
    history: deque[Trade]
    window: TradeWindow
    whales: deque[WhaleOrder]
    since_ms: int
    large_from: int


class WhaleDetector:
    """
    Keeps trades and answers questions about them.

    Args:
        sizes: names and thresholds in dollars.
        max_age_s: how long trades are kept, in seconds of exchange time.
        max_trades: how many are kept for each symbol, at most.
        whales_max: how many large orders are kept for each symbol.
    """

    def __init__(
        self,
        *,
        sizes: Mapping[str, int] | None = None,
        max_age_s: float = 3600.0,
        max_trades: int = 200_000,
        whales_max: int = 10_000,
    ) -> None:
        self.trade_history: dict[str, deque[Trade]] = {}
        """By symbol, upper case; oldest first."""
        self._max_age_ms = int(max_age_s * 1000)
        self._max_trades = max_trades
        self._whales_max = whales_max
        self._sizes = sorted(((usd * NOTIONAL_UNIT, name) for name, usd in (sizes or SIZES).items()), reverse=True)
        self._rank = {name: rank for rank, (_, name) in enumerate(reversed(self._sizes))}
        self._smallest = self._sizes[-1][0] if self._sizes else 0
        self._books: dict[str, _Book] = {}

    def update(self, symbol: str, trade: Trade | Mapping[str, Any]) -> WhaleOrder | None:
        """
        Take in a trade; they must come in order.

        Args:
            symbol: in any case.
            trade: a `Trade`, or a mapping with the exchange's keys or readable ones.

        Returns:
            The large order that it is, if it is one.

        Raises:
            InvalidTradeError: the trade cannot be read, or is impossible.
        """
        book = self._books.get(symbol)
        if book is None or type(trade) is not Trade:
            symbol = symbol.upper()
            trade = as_trade(symbol, trade)
            book = self._books.get(symbol) or self._open(symbol, trade)
        history, time_ms, quantity = book.history, trade.time_ms, trade.quantity_units
        notional = trade.price_units * quantity
        history.append(trade)
        book.window.add(time_ms, notional, quantity, trade.is_buyer_maker)
        if len(history) > self._max_trades or history[0].time_ms < time_ms - self._max_age_ms:
            self._prune(history, time_ms - self._max_age_ms)
        if notional >= book.large_from:
            return self._on_large(book, trade, notional)
        return None

    def _open(self, symbol: str, trade: Trade) -> _Book:
        # Sizes are in dollars: a symbol quoted in something else has no large orders, and that is said.
        dollars = symbol.split("_", 1)[0].endswith(DOLLARS)
        if not dollars:
            logger.warning("%s is not quoted in dollars: its orders cannot be sorted by size", symbol)
        book = _Book(
            symbol=symbol,
            history=deque(),
            window=TradeWindow(self._max_age_ms, self._max_trades),
            whales=deque(maxlen=self._whales_max),
            since_ms=trade.time_ms,
            large_from=self._smallest if dollars else _NEVER,
        )
        self._books[symbol] = book
        self.trade_history[symbol] = book.history
        return book

    def _prune(self, history: deque[Trade], oldest_ms: int) -> None:
        while len(history) > self._max_trades or (history and history[0].time_ms < oldest_ms):
            history.popleft()

    def _on_large(self, book: _Book, trade: Trade, notional: int) -> WhaleOrder:
        size = next(name for threshold, name in self._sizes if notional >= threshold)
        order = WhaleOrder(
            symbol=book.symbol,
            size=size,
            side=trade.side,
            usd_value=notional / NOTIONAL_UNIT,
            price=trade.price_units / UNIT,
            quantity=trade.quantity_units / UNIT,
            time_ms=trade.time_ms,
            agg_trade_id=trade.agg_trade_id,
        )
        book.whales.append(order)
        level = logging.INFO if self._rank[size] >= 1 else logging.DEBUG
        if logger.isEnabledFor(level):
            value = f"${order.usd_value:,.0f}"
            logger.log(level, f"🐋 {size.upper()} order detected: {book.symbol} {order.side} {value} @ {_price(trade)}")
        return order

    # --- Questions ---------------------------------------------------------------------------

    def now_ms(self, symbol: str) -> int:
        """
        The exchange's time, as well as it can be known here.

        That is our wall clock, or the time of the newest trade where that is later: a clock that runs slow must not
        cut off the newest trades.
        """
        book = self._book(symbol)
        return max(time.time_ns() // 1_000_000, (book.window.last_ms or 0) if book else 0)

    def _book(self, symbol: str) -> _Book | None:
        return self._books.get(symbol) or self._books.get(symbol.upper())

    def get_recent_whales(
        self, symbol: str, min_size: str = "medium", window_s: float = 60.0, *, now_ms: int | None = None
    ) -> list[WhaleOrder]:
        """
        List the large orders of the last seconds, oldest first.

        Args:
            symbol: in any case.
            min_size: `small`, `medium`, `large` or `whale`.
            window_s: seconds of exchange time.
            now_ms: the end of the window, exchange time; None for now.

        Raises:
            ValueError: there is no such size.
        """
        if min_size not in self._rank:
            raise ValueError(f"no size is called {min_size!r}; there are: {', '.join(self._rank)}")
        book = self._book(symbol)
        now = self.now_ms(symbol) if now_ms is None else now_ms
        after_ms, rank = now - int(window_s * 1000), self._rank[min_size]
        return [
            order
            for order in (book.whales if book else ())
            if after_ms < order.time_ms <= now and self._rank[order.size] >= rank
        ]

    def sums(self, symbol: str, window_s: float, now_ms: int) -> Sums:
        """Add up the trades of `(now - window, now]`, exactly; zeros for a symbol that was never seen."""
        book = self._book(symbol)
        return book.window.sums(int(window_s * 1000), now_ms) if book else Sums(0, 0, 0, 0, 0)

    def get_pressure(self, symbol: str, window_s: float = 60.0, *, now_ms: int | None = None) -> Pressure:
        """
        Compare what takers bought and sold in the last seconds.

        Args:
            symbol: in any case.
            window_s: seconds of exchange time.
            now_ms: the end of the window, exchange time; None for now.

        Returns:
            The figures, and in `reason` why there are none, or why they are not for the whole window.
        """
        book = self._books.get(symbol) or self._book(symbol)
        now = self.now_ms(symbol) if now_ms is None else now_ms
        if book is None:
            known = ", ".join(self.trade_history) or "none"
            return Pressure(symbol.upper(), window_s, now, 0, 0, 0, None, None, f"symbols with trades: {known}")
        before, upto, count, first_ms, last_ms = book.window.bounds(int(window_s * 1000), now)
        return Pressure(
            book.symbol,
            window_s,
            now,
            upto[0] - before[0],
            upto[1] - before[1],
            count,
            max(book.since_ms, first_ms),
            last_ms,
        )

    def get_volume_spike(
        self,
        symbol: str,
        window_s: float = 10.0,
        baseline_s: float = 300.0,
        *,
        threshold: float = 3.0,
        now_ms: int | None = None,
    ) -> dict[str, Any]:
        """
        Compare the volume of the last seconds with what was usual before.

        Args:
            symbol: in any case.
            window_s: the last seconds.
            baseline_s: the seconds before them.
            threshold: how many times the usual volume makes a spike.
            now_ms: the end of the window, exchange time; None for now.

        Returns:
            `spike` (bool, None when it cannot be told), `ratio` (to the usual volume, None when there was
            none), `volume`,
            `usual_volume` (quote currency, for `window_s`) and `reason`.
        """
        now = self.now_ms(symbol) if now_ms is None else now_ms
        recent = self.get_pressure(symbol, window_s, now_ms=now)
        both = self.get_pressure(symbol, window_s + baseline_s, now_ms=now)
        volume = recent.bought_units + recent.sold_units
        base = both.bought_units + both.sold_units - volume
        reason, covered_s = both.reason, max(both.covered_s - window_s, 0.0)
        if covered_s < min(window_s, baseline_s) or not base:
            reason = reason or f"nothing was traded in the {baseline_s:g} s before"
            ratio = usual = None
        else:
            usual = base / NOTIONAL_UNIT * window_s / covered_s
            ratio = volume / NOTIONAL_UNIT / usual
        return {
            "symbol": recent.symbol,
            "spike": None if ratio is None else ratio >= threshold,
            "ratio": ratio,
            "volume": volume / NOTIONAL_UNIT,
            "usual_volume": usual,
            "reason": reason,
        }

    def get_cvd(self, symbol: str, window_s: float, points: int, *, now_ms: int) -> list[float]:
        """
        Cumulative volume delta over a window, at evenly spaced times, from 0 at its beginning.

        Args:
            symbol: in any case.
            window_s: seconds.
            points: how many steps; the list has one more.
            now_ms: the end of the window, exchange time.

        Returns:
            Bought minus sold quantity (base currency) up to each time.
        """
        start = self._delta_quantity(symbol, window_s, now_ms)
        curve = []
        for step in range(points + 1):
            left_s = window_s * (points - step) / points
            curve.append((start - self._delta_quantity(symbol, left_s, now_ms)) / UNIT)
        return curve

    def _delta_quantity(self, symbol: str, window_s: float, now_ms: int) -> int:
        sums = self.sums(symbol, window_s, now_ms)
        return sums.bought_quantity - sums.sold_quantity


def _price(trade: Trade) -> str:
    # Two places where that shows the price, all of them for coins worth less than one.
    value = trade.price
    return f"{value:,.2f}" if value >= 1 else format(value.normalize(), "f")
