"""The order flow service: the streams, what is made of them, and how they are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from orderflow.binance_aggtrades_stream import BinanceAggTradesStream
from orderflow.order_flow_analyzer import OrderFlowAnalyzer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from orderflow.settings import StreamSettings
    from orderflow.trade import Trade

logger = logging.getLogger(__name__)


class OrderFlowService:
    """
    Feeds the analyzer from Binance.

    Args:
        settings: limits and addresses of the stream; None for the defaults.
        ssl_context: what to trust; None for the machine's own store.
    """

    def __init__(self, *, settings: StreamSettings | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        self.analyzer = OrderFlowAnalyzer()
        self.trades_stream = BinanceAggTradesStream(self._on_trade_update, settings=settings, ssl_context=ssl_context)

    @property
    def running(self) -> bool:
        """Started, on an event loop that runs, with all tasks alive: never a flag that somebody once set."""
        return self.trades_stream.running

    async def _on_trade_update(self, symbol: str, trade: Trade) -> None:
        self.analyzer.update_trade(symbol, trade)

    async def start(self, symbols: Iterable[str], background: bool = True) -> dict[str, Any]:
        """
        Start the streams and say whether trades flow; see `BinanceAggTradesStream.start`.

        Returns:
            `health()` at that moment.
        """
        health = await self.trades_stream.start(symbols, background=background)
        if health["ok"]:
            logger.info("✅ Order flow service started")
        return self.health()

    async def stop(self) -> None:
        """End everything, in bounded time; see `BinanceAggTradesStream.stop`."""
        await self.trades_stream.stop()

    async def aclose(self) -> None:
        """Do the same as `stop()`."""
        await self.stop()

    def health(self) -> dict[str, Any]:
        """
        Work out how the service is, from clocks, whoever asks and whatever the event loop does.

        Returns:
            `ok`, `status`, `reasons`, `symbols`, `loop` (see `BinanceAggTradesStream.health`) and `running`.
        """
        return {**self.trades_stream.health(), "running": self.running}
