"""One signal out of pressure, large orders and volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.whale_detector import WhaleDetector, WhaleOrder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.trade import Trade

# A share of one side below this is no direction.
_NEUTRAL_BELOW = 0.2


class OrderFlowAnalyzer:
    """
    Turns trades into a signal.

    Args:
        whale_detector: where trades are kept; None for a new one.
    """

    def __init__(self, whale_detector: WhaleDetector | None = None) -> None:
        self.whale_detector = whale_detector or WhaleDetector()

    def update_trade(self, symbol: str, trade: Trade | Mapping[str, Any]) -> WhaleOrder | None:
        """Take in a trade; see `WhaleDetector.update`."""
        return self.whale_detector.update(symbol, trade)

    def get_order_flow_signal(
        self, symbol: str, window_s: float = 60.0, *, now_ms: int | None = None
    ) -> dict[str, Any]:
        """
        Say where takers push.

        Args:
            symbol: in any case.
            window_s: seconds of exchange time.
            now_ms: the end of the window, exchange time; None for now.

        Returns:
            `signal` (`BULLISH`, `BEARISH`, `NEUTRAL`; None when it cannot be told), `strength` (0 to 1), `pressure`,
            `whales`, `volume_spike`, and `reason` (why there is none, or why it rests on less than was asked
            for; else None).
        """
        detector = self.whale_detector
        now = detector.now_ms(symbol) if now_ms is None else now_ms
        pressure = detector.get_pressure(symbol, window_s, now_ms=now)
        whales = detector.get_recent_whales(symbol, "medium", window_s, now_ms=now)
        spike = detector.get_volume_spike(symbol, now_ms=now)
        share = pressure["pressure"]
        if share is None:
            signal, strength = None, 0.0
        elif abs(share) < _NEUTRAL_BELOW:
            signal, strength = "NEUTRAL", abs(share)
        else:
            signal, strength = ("BULLISH" if share > 0 else "BEARISH"), abs(share)
        return {
            "symbol": symbol.upper(),
            "signal": signal,
            "strength": strength,
            "pressure": pressure,
            "whales": whales,
            "volume_spike": spike,
            "reason": pressure["reason"],
        }
