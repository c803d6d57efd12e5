from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.trade import (
    InvalidTradeError,
    Notice,
    Trade,
    Void,
    as_trade,
    parse_frame,
    parse_rest_page,
    parse_time_ms,
    parse_units,
)
from tests.orderflow.strategies import decimals, make_trade

SPOT = (
    '{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT","a":15683430,"p":"0.35280000","q":"58.00000000",'
    '"f":19862790,"l":19862790,"T":1633998523963,"m":false,"M":true}'
)
FUTURES = (
    '{"e":"aggTrade","E":1781416439080,"a":3339472008,"s":"BTCUSDT","p":"64339.20","q":"0.123","nq":"0.123",'
    '"f":7786568797,"l":7786568801,"T":1781416438926,"m":true,"st":1}'
)


def test_a_spot_frame_is_read():
    trade = parse_frame(SPOT, "NKNUSDT")
    assert (trade["p"], trade["price"], trade.price_units) == ("0.35280000", Decimal("0.35280000"), 35_280_000)
    assert (trade["a"], trade["agg_trade_id"], trade["side"]) == (15683430, 15683430, "BUY")
    assert trade["usd_value"] == Decimal("0.35280000") * 58


def test_a_futures_frame_with_another_key_order_and_more_keys_is_read():
    trade = parse_frame(FUTURES.encode(), "BTCUSDT")
    assert (trade["a"], trade["side"], trade["q"]) == (3339472008, "SELL", "0.123")


def test_every_real_frame_is_read(shared_data):
    count = 0
    for line in (shared_data / "frames" / "aggTrade-only.cryptofeed-2021.jsonl").read_text().splitlines():
        text = json.loads(line)
        text = text["raw"] if isinstance(text, dict) and "raw" in text else line
        fields = json.loads(text)
        fields = fields.get("data", fields)
        trade = parse_frame(text, fields["s"])
        assert isinstance(trade, Trade), (text, trade)
        assert {key: trade[key] for key in "sapqflTEm"} == {key: fields[key] for key in "sapqflTEm"}
        count += 1
    assert count == 431


def test_a_trade_reads_like_a_mapping():
    trade = make_trade(0)
    assert isinstance(trade, Mapping)
    assert dict(trade)["p"] == trade["p"] == trade.get("p")
    assert len(trade) == len(list(trade)) == len(trade.items()) == len(trade.values())
    assert "nothing" not in trade
    assert trade.get("nothing", 7) == 7
    with pytest.raises(KeyError):
        trade["nothing"]


def test_a_trade_from_rest_has_no_event_time():
    (trade,) = parse_rest_page(
        b'[{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,"M":true}]',
        "BNBBTC",
    )
    assert "E" not in trade
    assert trade.source == "rest"


def test_a_voided_aggregate_keeps_its_id():
    page = parse_rest_page(
        b'[{"a":5,"p":"0.00000000","q":"0.00000000","f":-1,"l":-1,"T":1498793709153,"m":true,"M":true}]', "BNBBTC"
    )
    assert page == [Void(5)]


@given(decimals(0))
def test_units_are_exact(text):
    assert Decimal(parse_units(text)).scaleb(-8) == Decimal(text)


@given(st.text(max_size=12))
def test_units_are_read_from_nothing_but_plain_decimals(text):
    try:
        units = parse_units(text)
    except InvalidTradeError:
        return
    assert set(text) <= set("0123456789.")
    assert Decimal(units).scaleb(-8) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".5", "-1", "+1", "1e5", "NaN", "1,5", " 1", "0x1", "1.123456789", "١", "1.5.5", "9" * 40]
)
def test_odd_numbers_are_refused(text):
    with pytest.raises(InvalidTradeError):
        parse_units(text)


@pytest.mark.parametrize("value", [1_767_000_000_123, 1_767_000_000_123_456, 1_767_000_000_123_456_789])
def test_times_of_any_unit_become_milliseconds(value):
    assert parse_time_ms(value) == 1_767_000_000_123


@pytest.mark.parametrize("value", [0, -1, 1_767_000_000, 10**21])
def test_impossible_times_are_refused(value):
    with pytest.raises(InvalidTradeError):
        parse_time_ms(value)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_message_makes_the_parser_fail_or_pass_on_rubbish(message):
    assert isinstance(parse_frame(message, "BTCUSDT"), Notice)


@pytest.mark.parametrize("message", ["\ud800", b"[" * 100_000, b'{"stream":"x","data":' * 100_000])
def test_what_no_decoder_gets_through_is_invalid(message):
    assert parse_frame(message, "BTCUSDT").kind == "invalid"


@pytest.mark.parametrize("answer", [b'[{"a":1,"p":"\xff"}]', b"[" * 100_000, b'[{"x":' + b"[" * 100_000])
def test_an_answer_that_no_decoder_gets_through_is_refused(answer):
    with pytest.raises(InvalidTradeError):
        parse_rest_page(answer, "BTCUSDT")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(SPOT))), json_values)
def test_a_field_of_any_other_value_gives_a_whole_trade_or_a_reason(key, value):
    fields = {**json.loads(SPOT), key: value}
    parsed = parse_frame(json.dumps(fields), "NKNUSDT")
    if isinstance(parsed, Trade):
        assert parsed.price_units > 0
        assert parsed.quantity_units > 0
        assert parsed.symbol == "NKNUSDT"
        assert type(parsed.is_buyer_maker) is bool
    else:
        assert parsed.text


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('{"result":null,"id":1}', "reply"),
        ('{"result":["btcusdt@aggTrade"],"id":3}', "reply"),
        ('{"error":{"code":2,"msg":"x"},"id":1}', "error"),
        ('{"code":2,"msg":"x","id":1}', "error"),
        ('{"e":"serverShutdown","E":1770123456789}', "shutdown"),
        ('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}', "shutdown"),
        ('{"e":"kline","s":"NKNUSDT"}', "unknown"),
        ("[]", "invalid"),
        ("Pong timeout", "invalid"),
    ],
)
def test_what_is_no_trade_is_named(message, kind):
    assert parse_frame(message, "NKNUSDT").kind == kind


@pytest.mark.parametrize(
    "value",
    [
        {"price": 91350.0, "quantity": "1.5", "time": 1_767_000_000_000, "is_buyer_maker": True},
        {"p": "91350", "q": Decimal("1.5"), "T": 1_767_000_000_000, "m": True, "a": 7},
        {"price": "91350.00", "quantity": 1.5, "timestamp": 1_767_000_000_000, "side": "sell"},
    ],
)
def test_a_plain_mapping_is_read_too(value):
    trade = as_trade("btcusdt", value | {"s": "BTCUSDT"})
    assert (trade.price, trade.quantity, trade.side) == (91350, Decimal("1.5"), "SELL")


@pytest.mark.parametrize(
    "value", [{}, {"p": "1", "q": "1", "T": 1_767_000_000_000}, {"p": "x", "q": "1", "T": 1, "m": True}]
)
def test_a_mapping_that_is_no_trade_is_refused(value):
    with pytest.raises(InvalidTradeError):
        as_trade("BTCUSDT", value)


@pytest.mark.parametrize(
    "value", [{"m": "false"}, {"m": None, "side": 5}, {"p": {}}, {"p": float("nan")}, {"T": float("inf")}, {"a": "x"}]
)
def test_a_mapping_with_one_impossible_value_is_refused(value):
    sound = {"a": 1, "p": "1", "q": "1", "T": 1_767_000_000_000, "m": True}
    assert as_trade("BTCUSDT", sound).agg_trade_id == 1
    with pytest.raises(InvalidTradeError):
        as_trade("BTCUSDT", sound | value)
