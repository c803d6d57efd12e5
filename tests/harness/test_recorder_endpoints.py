"""Where streams are, how they are spread, and what nobody else may see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.recorder.endpoints import (
    STREAMS_PER_CONNECTION_MAX,
    SUBSCRIBE_BYTES_MAX,
    check_endpoint,
    lines,
    public_url,
    rest_base,
    stream_names,
    subscribe_messages,
)

SPOT = "wss://stream.binance.com:9443"


def test_symbols_become_streams_in_the_exchange_s_spelling() -> None:
    assert stream_names(["BTCUSDT", "ethusdt@trade", "!miniTicker@arr", "btcusdt"], ["aggTrade", "depth@100ms"]) == (
        "btcusdt@aggTrade",
        "btcusdt@depth@100ms",
        "ethusdt@trade",
        "!miniTicker@arr",
    )


@pytest.mark.parametrize("symbol", ["", "btc usdt", "btc/usdt", "a?b", "@aggTrade"])
def test_what_is_no_symbol_is_one_sentence(symbol: str) -> None:
    with pytest.raises(UsageError, match="write a symbol"):
        stream_names([symbol], ["aggTrade"])


@pytest.mark.parametrize("endpoint", ["stream.binance.com", "http://x", "wss://", "ws://x:port", "ws://x:0"])
def test_what_is_no_endpoint_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(UsageError, match="is not an endpoint"):
        check_endpoint(endpoint)


def test_one_stream_is_recorded_raw_and_several_combined() -> None:
    (raw,) = lines(SPOT, ("btcusdt@aggTrade",))
    assert (raw.url, raw.combined) == (f"{SPOT}/ws/btcusdt@aggTrade", False)
    (both,) = lines(SPOT, ("btcusdt@aggTrade", "ethusdt@aggTrade"))
    assert (both.url, both.combined) == (f"{SPOT}/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade", True)


def test_usd_m_streams_are_asked_for_on_the_path_that_delivers_them() -> None:
    """On the wrong path they are acknowledged and never deliver one frame."""
    found = lines("wss://fstream.binance.com", ("btcusdt@aggTrade", "btcusdt@depth@100ms", "ethusdt@kline_1m"), "um")
    assert [line.url for line in found] == [
        "wss://fstream.binance.com/market/stream?streams=btcusdt@aggTrade/ethusdt@kline_1m",
        "wss://fstream.binance.com/public/ws/btcusdt@depth@100ms",
    ]
    assert lines("wss://dstream.binance.com", ("btcusd_perp@aggTrade",), "cm")[0].url.endswith(
        "/ws/btcusd_perp@aggTrade"
    )


@settings(deadline=None)
@given(count=st.integers(2, 2600), width=st.integers(1, 20))
def test_many_streams_stay_within_the_limits_of_the_exchange(count: int, width: int) -> None:
    streams = tuple(f"{'x' * width}{n}usdt@aggTrade" for n in range(count))
    found = lines(SPOT, streams)
    assert tuple(s for line in found for s in line.streams) == streams
    for line in found:
        assert len(line.streams) <= STREAMS_PER_CONNECTION_MAX
        assert len(line.url) <= 2100
        named = "streams=" in line.url or "/ws/" in line.url
        assert named != bool(line.subscribe)


@settings(deadline=None)
@given(count=st.integers(1, 1024))
def test_no_subscription_is_longer_than_the_exchange_answers(count: int) -> None:
    import msgspec

    from harness.recorder.deframer import client_frame

    streams = tuple(f"symbol{n}usdt@aggTrade" for n in range(count))
    messages = subscribe_messages(streams)
    asked = [msgspec.json.decode(m) for m in messages]
    assert [s for m in asked for s in m["params"]] == list(streams)
    assert [m["id"] for m in asked] == list(range(1, len(messages) + 1))
    assert max(len(client_frame(1, m)) for m in messages) <= SUBSCRIBE_BYTES_MAX


KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"


@pytest.mark.parametrize(
    "url",
    [
        f"wss://stream.binance.com:9443/ws/{KEY}",
        f"wss://fstream.binance.com/private?listenKey={KEY}&events=ORDER_TRADE_UPDATE",
        f"wss://user:{KEY}@example.com/ws",
        f"wss://example.com/ws/btcusdt@aggTrade?token={KEY[:12]}",
        f"s3://{KEY}:{KEY}@bucket/path?secret_key={KEY}",
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str) -> None:
    shown = public_url(url)
    assert KEY[:12] not in shown
    assert shown


def test_a_url_without_secrets_is_shown_as_it_is() -> None:
    url = f"{SPOT}/stream?streams=btcusdt@aggTrade/ethusdt@depth@100ms&timeUnit=MICROSECOND"
    assert public_url(url) == url


def test_rest_is_where_the_stream_s_market_has_it() -> None:
    assert rest_base(SPOT) == "https://api.binance.com"
    assert rest_base("wss://fstream.binance.com/market") == "https://fapi.binance.com"
    assert rest_base("ws://127.0.0.1:9000/ws") == "http://127.0.0.1:9000"
    assert rest_base("wss://localhost:9000") == "https://localhost:9000"
