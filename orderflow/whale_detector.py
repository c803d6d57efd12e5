"""Trade history, large orders, pressure and volume spikes, by exchange time.

A market that stands still must not look alive: every question is answered as of *now*, and an answer that rests on
too little says so in `reason`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from orderflow.trade import NOTIONAL_UNIT, UNIT, Trade, as_trade
from orderflow.window import Sums, TradeWindow

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

SIZES: dict[str, int] = {"small": 50_000, "medium": 100_000, "large": 500_000, "whale": 1_000_000}
"""From how many dollars on an order is called so."""
# Sizes are in dollars, so they mean something only where the quote currency is worth one.
DOLLARS = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD", "USD1")
_PERPETUAL = "_PERP"


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
        self._windows: dict[str, TradeWindow] = {}
        self._whales: dict[str, deque[WhaleOrder]] = {}
        self._since_ms: dict[str, int] = {}
        self._counts_dollars: dict[str, bool] = {}

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
        symbol = symbol.upper()
        trade = as_trade(symbol, trade)
        history = self.trade_history.get(symbol)
        if history is None:
            history = self._open(symbol, trade)
        history.append(trade)
        notional = trade.price_units * trade.quantity_units
        self._windows[symbol].add(trade.time_ms, notional, trade.quantity_units, bought=not trade.is_buyer_maker)
        self._prune(history, trade.time_ms)
        if notional >= self._smallest and self._counts_dollars[symbol]:
            return self._on_large(symbol, trade, notional)
        return None

    def _open(self, symbol: str, trade: Trade) -> deque[Trade]:
        self._windows[symbol] = TradeWindow(self._max_age_ms, self._max_trades)
        self._whales[symbol] = deque(maxlen=self._whales_max)
        self._since_ms[symbol] = trade.time_ms
        name = symbol.split("_", 1)[0]
        self._counts_dollars[symbol] = name.endswith(DOLLARS)
        if not self._counts_dollars[symbol]:
            logger.warning("%s is not quoted in dollars: its orders cannot be sorted by size", symbol)
        self.trade_history[symbol] = deque()
        return self.trade_history[symbol]

    def _prune(self, history: deque[Trade], now_ms: int) -> None:
        oldest_ms = now_ms - self._max_age_ms
        while len(history) > self._max_trades or (history and history[0].time_ms < oldest_ms):
            history.popleft()

    def _on_large(self, symbol: str, trade: Trade, notional: int) -> WhaleOrder:
        size = next(name for threshold, name in self._sizes if notional >= threshold)
        order = WhaleOrder(
            symbol=symbol,
            size=size,
            side=trade.side,
            usd_value=notional / NOTIONAL_UNIT,
            price=trade.price_units / UNIT,
            quantity=trade.quantity_units / UNIT,
            time_ms=trade.time_ms,
            agg_trade_id=trade.agg_trade_id,
        )
        self._whales[symbol].append(order)
        level = logging.INFO if self._rank[size] >= 1 else logging.DEBUG
        if logger.isEnabledFor(level):
            value = f"${order.usd_value:,.0f}"
            logger.log(level, f"🐋 {size.upper()} order detected: {symbol} {order.side} {value} @ {_price(trade)}")
        return order

    # --- Questions ---------------------------------------------------------------------------

    def now_ms(self, symbol: str) -> int:
        """
        The exchange's time, as well as it can be known here.

        That is our wall clock, or the time of the newest trade where that is later: a clock that runs slow must not
        cut off the newest trades.
        """
        window = self._windows.get(symbol.upper())
        return max(time.time_ns() // 1_000_000, (window.last_ms or 0) if window else 0)

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
        symbol = symbol.upper()
        now = self.now_ms(symbol) if now_ms is None else now_ms
        after_ms, rank = now - int(window_s * 1000), self._rank[min_size]
        return [
            order
            for order in self._whales.get(symbol, ())
            if after_ms < order.time_ms <= now and self._rank[order.size] >= rank
        ]

    def sums(self, symbol: str, window_s: float, now_ms: int) -> Sums:
        """Add up the trades of `(now - window, now]`, exactly; zeros for a symbol that was never seen."""
        window = self._windows.get(symbol.upper())
        return window.sums(int(window_s * 1000), now_ms) if window else Sums(0, 0, 0, 0, 0)

    def get_pressure(self, symbol: str, window_s: float = 60.0, *, now_ms: int | None = None) -> dict[str, Any]:
        """
        Compare what takers bought and sold in the last seconds.

        Args:
            symbol: in any case.
            window_s: seconds of exchange time.
            now_ms: the end of the window, exchange time; None for now.

        Returns:
            `buy_volume`, `sell_volume`, `net_volume`, `total_volume` (quote currency), `pressure` (from -1 all
            sold to 1 all
            bought; None without trades), `dominant_side` (`BUY`, `SELL`, `NEUTRAL`; None without trades), `trades`,
            `window_s`, `covered_s` (how much of the window lies after the first trade known), `complete`,
            `last_trade_age_s` and
            `reason` (why the answer is none, or is not for the whole window; else None).
        """
        symbol = symbol.upper()
        now = self.now_ms(symbol) if now_ms is None else now_ms
        sums = self.sums(symbol, window_s, now)
        total = sums.bought_notional + sums.sold_notional
        net = sums.bought_notional - sums.sold_notional
        reason, covered_s, age_s = self._coverage(symbol, window_s, now, sums.count)
        return {
            "symbol": symbol,
            "window_s": window_s,
            "as_of_ms": now,
            "buy_volume": sums.bought_notional / NOTIONAL_UNIT,
            "sell_volume": sums.sold_notional / NOTIONAL_UNIT,
            "net_volume": net / NOTIONAL_UNIT,
            "total_volume": total / NOTIONAL_UNIT,
            "pressure": net / total if total else None,
            "dominant_side": None if not total else "BUY" if net > 0 else "SELL" if net < 0 else "NEUTRAL",
            "trades": sums.count,
            "covered_s": covered_s,
            "complete": reason is None,
            "last_trade_age_s": age_s,
            "reason": reason,
        }

    def _coverage(
        self, symbol: str, window_s: float, now_ms: int, count: int
    ) -> tuple[str | None, float, float | None]:
        # Why the window is not fully known; how much of it is; how old the newest trade is.
        window = self._windows.get(symbol)
        if window is None or window.last_ms is None:
            known = ", ".join(self.trade_history) or "none"
            return f"no trade of {symbol} has been received (symbols with trades: {known})", 0.0, None
        age_s = (now_ms - window.last_ms) / 1000
        # Trades are known from the first one on, and as far back as they are kept.
        first_ms = window.first_ms or window.last_ms
        since_ms = max(self._since_ms[symbol], first_ms)
        covered_s = min(max((now_ms - since_ms) / 1000, 0.0), window_s)
        if count == 0:
            return f"no trade of {symbol} in the last {window_s:g} s; the newest is {age_s:.1f} s old", covered_s, age_s
        if covered_s < window_s:
            return f"{window_s:g} s were asked for, trades are known for {covered_s:.1f} s", covered_s, age_s
        return None, covered_s, age_s

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
        symbol = symbol.upper()
        now = self.now_ms(symbol) if now_ms is None else now_ms
        recent = self.sums(symbol, window_s, now)
        before = self.sums(symbol, baseline_s, now - int(window_s * 1000))
        volume = recent.bought_notional + recent.sold_notional
        base = before.bought_notional + before.sold_notional
        reason, covered_s, _ = self._coverage(symbol, window_s + baseline_s, now, recent.count + before.count)
        covered_s = max(covered_s - window_s, 0.0)
        if covered_s < min(window_s, baseline_s) or not base:
            reason = reason or f"nothing was traded in the {baseline_s:g} s before"
            ratio = usual = None
        else:
            usual = base / NOTIONAL_UNIT * window_s / covered_s
            ratio = volume / NOTIONAL_UNIT / usual
        return {
            "symbol": symbol,
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
