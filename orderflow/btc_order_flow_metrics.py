"""The figures that a trading plan asks for, or why there are none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from orderflow import registry
from orderflow.trade import NOTIONAL_UNIT, UNIT

if TYPE_CHECKING:
    from orderflow.order_flow_service import OrderFlowService

logger = logging.getLogger(__name__)

_CURVE_POINTS = 30
_FIGURES = (
    "delta_volume",
    "cvd",
    "cvd_slope",
    "buy_volume",
    "sell_volume",
    "pressure",
    "dominant_side",
    "last_trade_age_s",
)


class BTCOrderFlowMetrics:
    """
    Figures of one symbol.

    Args:
        order_flow_service: None takes the registered one, when asked.
        symbol: in any case.
    """

    def __init__(self, order_flow_service: OrderFlowService | None = None, symbol: str = "BTCUSDT") -> None:
        self._service = order_flow_service
        self.symbol = symbol.upper()

    def get_metrics(
        self, symbol: str | None = None, window_s: float = 300.0, *, now_ms: int | None = None
    ) -> dict[str, Any]:
        """
        Work out the figures for a window that ends now.

        Args:
            symbol: in any case; None for the one given at first.
            window_s: seconds of exchange time.
            now_ms: the end of the window, exchange time; None for now.

        Returns:
            `available` (bool), `reason` (why there are no figures, or why they rest on less than was asked
            for; else None),
            `delta_volume` and `cvd` (bought minus sold: quote and base currency), `cvd_slope` (base currency a
            second, by least
            squares), `buy_volume`, `sell_volume`, `pressure`, `dominant_side`, `trades`, `missing_trades`
            (lost within the
            window), `covered_s`, `last_trade_age_s` and `as_of_ms`. The figures are None when not available.
        """
        symbol = (symbol or self.symbol).upper()
        try:
            service = self._service or registry.order_flow_service
        except registry.NotRegisteredError as error:
            return self._none(symbol, window_s, str(error))
        detector = service.analyzer.whale_detector
        now = detector.now_ms(symbol) if now_ms is None else now_ms
        pressure = detector.get_pressure(symbol, window_s, now_ms=now)
        health = service.health()
        trouble = "; ".join(health["reasons"])
        if not pressure["trades"]:
            reason = pressure["reason"]
            return self._none(symbol, window_s, f"{reason}; the stream: {trouble}" if trouble else reason)
        sums = detector.sums(symbol, window_s, now)
        missing = self._missing(service, symbol, now - int(window_s * 1000))
        told = [text for text in (pressure["reason"], trouble) if text]
        return {
            "symbol": symbol,
            "available": True,
            "reason": "; ".join(told) or None,
            "window_s": window_s,
            "as_of_ms": now,
            "delta_volume": (sums.bought_notional - sums.sold_notional) / NOTIONAL_UNIT,
            "cvd": (sums.bought_quantity - sums.sold_quantity) / UNIT,
            "cvd_slope": _slope(
                detector.get_cvd(symbol, window_s, _CURVE_POINTS, now_ms=now), window_s / _CURVE_POINTS
            ),
            "buy_volume": pressure["buy_volume"],
            "sell_volume": pressure["sell_volume"],
            "pressure": pressure["pressure"],
            "dominant_side": pressure["dominant_side"],
            "trades": sums.count,
            "missing_trades": missing,
            "covered_s": pressure["covered_s"],
            "last_trade_age_s": pressure["last_trade_age_s"],
        }

    @staticmethod
    def _missing(service: OrderFlowService, symbol: str, after_ms: int) -> int:
        feed = service.trades_stream.feeds.get(symbol)
        if feed is None:
            return 0
        return sum(
            lost.hole.count for lost in list(feed.repair.lost) if lost.time_ms is None or lost.time_ms > after_ms
        )

    def _none(self, symbol: str, window_s: float, reason: str) -> dict[str, Any]:
        logger.warning("⚠️ order flow metrics of %s are not available: %s", symbol, reason)
        return {
            "symbol": symbol,
            "available": False,
            "reason": reason,
            "window_s": window_s,
            "trades": 0,
            **dict.fromkeys(_FIGURES),
        }


def _slope(values: list[float], step_s: float) -> float:
    # Least squares over evenly spaced points.
    count = len(values)
    middle = (count - 1) / 2
    mean = sum(values) / count
    spread = sum((index - middle) ** 2 for index in range(count))
    return sum((index - middle) * (value - mean) for index, value in enumerate(values)) / spread / step_s
