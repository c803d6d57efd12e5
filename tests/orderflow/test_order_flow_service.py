from __future__ import annotations

import logging

import pytest

from orderflow.order_flow_service import OrderFlowService
from tests.orderflow.conftest import quick, until, warnings
from tests.orderflow.scripted_exchange import frame, sends

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]


async def test_trades_reach_the_history_and_large_ones_the_log(exchange, caplog):
    caplog.set_level(logging.INFO)
    exchange.connections = [sends(frame(0), frame(1, price="91350.00000000", quantity="1.36836344"))]
    service = OrderFlowService(settings=quick(stream_url=exchange.stream_url, rest_url=exchange.rest_url))
    assert (await service.start(["btcusdt"]))["ok"] is True
    history = service.analyzer.whale_detector.trade_history
    await until(lambda: len(history["BTCUSDT"]) == 2)
    expected = [
        "🚀 Starting aggTrades streams for 1 symbols",
        "🔌 Attempting to connect to BTCUSDT aggTrades stream...",
        "🐋 Connected to BTCUSDT aggTrades stream",
        "🐋 MEDIUM order detected: BTCUSDT BUY $125,000 @ 91,350.00",
    ]
    assert [text for text in caplog.messages if text in expected] == expected
    assert service.running
    await service.aclose()
    assert not service.running
    assert warnings(caplog) == []


async def test_before_it_is_started_health_says_so():
    service = OrderFlowService()
    assert service.health() == {
        "ok": False, "status": "stopped", "reasons": ["not started"], "symbols": {}, "loop": "none", "running": False,
    }  # fmt: skip


async def test_the_default_addresses_are_those_of_the_exchange():
    settings = OrderFlowService().trades_stream.settings
    assert (settings.stream_url, settings.rest_url) == ("wss://stream.binance.com:9443/ws", "https://api.binance.com")
