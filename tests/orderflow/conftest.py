"""Fixtures of the production system's tests."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, settings

from orderflow.binance_aggtrades_stream import BinanceAggTradesStream
from orderflow.settings import StreamSettings
from tests.orderflow.scripted_exchange import ScriptedExchange

# How long an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

MS = 0.001
"""All durations in the tests are multiples of this."""


def quick(**changes):
    """Settings with which everything that takes seconds takes milliseconds."""
    values = {
        "open_timeout_s": 10_000 * MS, "start_timeout_s": 10_000 * MS, "stop_timeout_s": 1000 * MS,
        "close_timeout_s": 100 * MS,
        "stall_timeout_s": 60_000 * MS, "quiet_timeout_s": 90_000 * MS, "callback_timeout_s": 100 * MS,
        "backoff_first_s": 5 * MS, "backoff_max_s": 20 * MS, "reorder_grace_s": 10 * MS,
        "backfill_timeout_s": 10_000 * MS, "loop_timeout_s": 20_000 * MS, "remark_interval_s": 50 * MS,
    }  # fmt: skip
    return StreamSettings(**{**values, **changes})


@pytest.fixture
async def exchange():
    async with ScriptedExchange() as exchange:
        yield exchange


@pytest.fixture
async def start(exchange):
    """Start a stream on the exchange; it is stopped at the end. Returns the stream and the trades it passes on."""
    streams = []

    async def started(symbols=("btcusdt",), callback=None, **changes):
        trades = []
        stream = BinanceAggTradesStream(
            callback or (lambda symbol, trade: trades.append(trade)),
            settings=quick(**{"stream_url": exchange.stream_url, "rest_url": exchange.rest_url, **changes}),
        )
        streams.append(stream)
        await stream.start(symbols)
        return stream, trades

    yield started
    for stream in streams:
        await stream.stop()


async def until(condition, timeout_s=10.0):
    """Wait for a condition, and fail when it does not come true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(2 * MS)


def warnings(caplog):
    """The text of all our records at WARNING or above; the exchange's own are not ours."""
    return [record.getMessage() for record in caplog.records if record.levelno >= 30 and record.name[:9] == "orderflow"]
