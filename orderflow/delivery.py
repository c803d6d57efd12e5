"""Handing over: each trade that is in order to the callback, once; and how late that is.

A callback that is slow is waited for (reading pauses), one that fails is logged, and neither ends anything.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from typing import TYPE_CHECKING

from orderflow.lag import LagMeter

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable

    from orderflow.settings import StreamSettings
    from orderflow.trade import Trade

    TradeCallback = Callable[[str, Trade], Awaitable[None] | None]
    Say = Callable[..., None]

logger = logging.getLogger("orderflow.symbol_feed")

# A synchronous callback may keep the event loop for so long before others get their turn.
_TURN_NS = 20_000_000
# Being late lasts; it is told again this often.
_LATE_REMARK_S = 30.0


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Delivery:
    """
    Hands the trades of one symbol over.

    Args:
        symbol: upper case.
        callback: called with the symbol and each trade, in order; may be a coroutine function.
        ready: where the trades that are in order wait.
        settings: the limits.
        say: logs with the rate limit: level, kind, message, arguments.
    """

    def __init__(
        self, symbol: str, callback: TradeCallback, ready: deque[Trade], settings: StreamSettings, say: Say
    ) -> None:
        self.symbol = symbol
        self._callback = callback
        self._ready = ready
        self._settings = settings
        self._say = say
        self.first_trade = asyncio.Event()
        """Set by the first trade of the stream; those that REST stands in with are no stream."""
        self.delivered = 0
        self.last_trade_ms: int | None = None
        """When the newest of them was traded, milliseconds since 1970."""
        self.callback_errors = 0
        self.callback_error_at_s: float | None = None
        self.busy_since_s: float | None = None
        """Since when the callback has one trade; None between two."""
        self.lag = LagMeter()
        self.lag_ms = 0
        self.late_since_s: float | None = None
        self._next_late_remark_s = 0.0
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def wake(self) -> None:
        """Look at what is ready."""
        self._wake.set()

    @property
    def full(self) -> bool:
        """So much waits for the callback that nothing more should be read."""
        return len(self._ready) >= self._settings.backlog_max

    @property
    def paused(self) -> bool:
        """Somebody waits for room."""
        return not self._drained.is_set()

    async def room(self) -> None:
        """Wait until the callback has taken most of what is ready, where that is too much."""
        if self.full:
            self._drained.clear()
            await self._drained.wait()

    async def run(self) -> None:
        """Call the callback for each trade, in order, until cancelled."""
        ready = self._ready
        resume_at = self._settings.backlog_max // 2
        while True:
            turn_ends_ns = time.monotonic_ns() + _TURN_NS
            while ready:
                trade = ready.popleft()
                self.busy_since_s = time.monotonic()
                try:
                    result = self._callback(self.symbol, trade)
                    if result is not None and inspect.isawaitable(result):
                        await result
                except asyncio.CancelledError:
                    if _cancelling():
                        raise
                    self._on_callback_error(trade)  # something within the callback was cancelled, not we
                except Exception:
                    self._on_callback_error(trade)
                self.busy_since_s = None
                self._on_delivered(trade)
                if len(ready) <= resume_at:
                    self._drained.set()
                if time.monotonic_ns() >= turn_ends_ns:
                    await asyncio.sleep(0)
                    turn_ends_ns = time.monotonic_ns() + _TURN_NS
            self._drained.set()
            self._wake.clear()
            await self._wake.wait()

    def _on_delivered(self, trade: Trade) -> None:
        self.delivered += 1
        self.last_trade_ms = trade.time_ms
        if trade.event_time_ms is None:
            return  # fetched over REST: late by nature, and said so already
        self.first_trade.set()
        self.lag_ms = self.lag.measure(trade.event_time_ms, time.monotonic_ns(), time.time_ns())
        max_ms = self._settings.max_lag_s * 1000
        if self.lag_ms > max_ms:
            self._on_late()
        elif self.late_since_s is not None and self.lag_ms < max_ms / 2:
            logger.info("%s: trades are on time again (%.1f s behind)", self.symbol, self.lag_ms / 1000)
            self.late_since_s = None

    def _on_late(self) -> None:
        now_s = time.monotonic()
        if self.late_since_s is None:
            self.late_since_s = self._next_late_remark_s = now_s
        if now_s < self._next_late_remark_s:
            return
        self._next_late_remark_s = now_s + _LATE_REMARK_S
        backlog = len(self._ready)
        if backlog > 100:
            why = f"the callback is too slow, {backlog} trades wait for it"
        elif self.lag.relative_ms < self.lag.absolute_ms / 2:
            why = "they have been since the first one; or the clock of this machine is wrong"
        else:
            why = "the exchange or the network has fallen behind, or this program is too slow to read"
        logger.warning("⚠️ %s: trades are %.1f s behind the market: %s", self.symbol, self.lag_ms / 1000, why)

    def _on_callback_error(self, trade: Trade) -> None:
        self.callback_errors += 1
        now_s = time.monotonic()
        first = self.callback_error_at_s is None or now_s - self.callback_error_at_s >= self._settings.remark_interval_s
        self.callback_error_at_s = now_s
        if first:
            logger.exception("❌ %s: the callback failed on trade %d", self.symbol, trade.agg_trade_id)  # noqa: LOG004
        else:
            self._say(
                logging.ERROR, "callback", "❌ %s: the callback failed on trade %d", self.symbol, trade.agg_trade_id
            )
