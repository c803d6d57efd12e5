from __future__ import annotations

import pytest

from orderflow import registry
from orderflow.btc_order_flow_metrics import BTCOrderFlowMetrics
from orderflow.order_flow_service import OrderFlowService
from tests.orderflow.strategies import START_MS, make_trade


@pytest.fixture
def service():
    service = OrderFlowService()
    for number in range(301):
        service.analyzer.update_trade(
            "BTCUSDT", make_trade(number, at_ms=START_MS + number * 1000, quantity="0.50000000", sold=number % 4 == 0)
        )
    return service


def test_the_figures_of_a_steady_market(service):
    told = BTCOrderFlowMetrics(service).get_metrics(now_ms=START_MS + 300_000)
    assert told["available"] is True
    assert told["trades"] == 300
    assert told["delta_volume"] == (225 - 75) * 50
    assert told["cvd"] == (225 - 75) * 0.5
    assert told["cvd_slope"] == pytest.approx(0.25, rel=0.02)
    assert (told["dominant_side"], told["pressure"]) == ("BUY", 0.5)


def test_that_the_stream_does_not_run_is_said_beside_the_figures(service):
    assert "not started" in BTCOrderFlowMetrics(service).get_metrics(now_ms=START_MS + 300_000)["reason"]


def test_without_trades_the_reason_is_given_and_logged(caplog):
    told = BTCOrderFlowMetrics(OrderFlowService()).get_metrics()
    assert (told["available"], told["cvd"], told["dominant_side"]) == (False, None, None)
    assert (
        told["reason"] == "no trade of BTCUSDT has been received (symbols with trades: none); the stream: not started"
    )
    assert told["reason"] in caplog.text


def test_without_a_service_the_reason_is_given():
    registry.clear()
    assert "no order flow service is registered" in BTCOrderFlowMetrics().get_metrics()["reason"]


def test_the_registered_service_is_asked(service):
    registry.order_flow_service = service
    try:
        assert BTCOrderFlowMetrics().get_metrics("btcusdt", 60, now_ms=START_MS + 300_000)["trades"] == 60
    finally:
        registry.clear()
