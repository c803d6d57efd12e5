from __future__ import annotations

import pytest

from orderflow.order_flow_analyzer import OrderFlowAnalyzer
from tests.orderflow.strategies import START_MS, make_trade


@pytest.mark.parametrize(
    ("sold", "signal"),
    [([False] * 9 + [True], "BULLISH"), ([True] * 9 + [False], "BEARISH"), ([True, False], "NEUTRAL")],
)
def test_the_signal_follows_who_pushes(sold, signal):
    analyzer = OrderFlowAnalyzer()
    for number, one in enumerate(sold):
        analyzer.update_trade("BTCUSDT", make_trade(number, sold=one))
    assert analyzer.get_order_flow_signal("btcusdt", now_ms=START_MS + 1)["signal"] == signal


def test_without_trades_there_is_no_signal_but_a_reason():
    told = OrderFlowAnalyzer().get_order_flow_signal("BTCUSDT")
    assert (told["signal"], told["strength"]) == (None, 0.0)
    assert "no trade of BTCUSDT has been received" in told["reason"]


def test_old_trades_give_no_signal():
    analyzer = OrderFlowAnalyzer()
    analyzer.update_trade("BTCUSDT", make_trade(0))
    told = analyzer.get_order_flow_signal("BTCUSDT", now_ms=START_MS + 3_600_000)
    assert told["signal"] is None
    assert "the newest is 3600.0 s old" in told["reason"]
