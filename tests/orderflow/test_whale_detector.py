from __future__ import annotations

import logging
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.trade import UNIT, InvalidTradeError
from orderflow.whale_detector import WhaleDetector
from tests.orderflow.strategies import START_MS, make_trade, trade_runs

BTC = "BTCUSDT"


def detector_with(trades, **settings):
    detector = WhaleDetector(**settings)
    for trade in trades:
        detector.update("btcusdt", trade)
    return detector


def test_the_line_of_the_report_word_for_word(caplog):
    caplog.set_level(logging.INFO)
    detector_with([make_trade(0, price="91350.00000000", quantity="1.36836344")])
    assert caplog.messages == ["🐋 MEDIUM order detected: BTCUSDT BUY $125,000 @ 91,350.00"]


def test_trade_history_is_a_deque_by_symbol():
    trade = make_trade(0)
    assert {symbol: list(trades) for symbol, trades in detector_with([trade]).trade_history.items()} == {BTC: [trade]}


@pytest.mark.parametrize(
    ("dollars", "size"),
    [
        (49_999, None),
        (50_000, "small"),
        (99_999, "small"),
        (100_000, "medium"),
        (500_000, "large"),
        (1_000_000, "whale"),
    ],
)
def test_sizes(dollars, size):
    order = WhaleDetector().update(BTC, make_trade(0, price="1.00000000", quantity=f"{dollars}.00000000"))
    assert (order.size if order else None) == size


def test_what_is_not_quoted_in_dollars_is_not_sorted_by_size_and_this_is_said(caplog):
    fields = {"p": "0.05", "q": "100000000", "T": START_MS, "m": False}
    assert WhaleDetector().update("ETHBTC", fields) is None
    assert "not quoted in dollars" in caplog.text


def test_cheap_coins_are_shown_with_all_their_places(caplog):
    caplog.set_level(logging.INFO)
    WhaleDetector().update("PEPEUSDT", {"p": "0.00001234", "q": "10000000000", "T": START_MS, "m": True})
    assert caplog.messages == ["🐋 MEDIUM order detected: PEPEUSDT SELL $123,400 @ 0.00001234"]


@given(trades=trade_runs(disorder_ms=500), window_s=st.sampled_from([1, 10, 60, 300]), offset_ms=st.integers(0, 90_000))
def test_pressure_equals_a_recount(trades, window_s, offset_ms):
    detector = detector_with(trades)
    now = max((trade.time_ms for trade in trades), default=START_MS) + offset_ms
    told = detector.get_pressure("btcusdt", window_s, now_ms=now)
    inside = [trade for trade in trades if now - window_s * 1000 < trade.time_ms <= now]
    bought = sum((trade.notional for trade in inside if trade.side == "BUY"), Decimal(0))
    sold = sum((trade.notional for trade in inside if trade.side == "SELL"), Decimal(0))
    assert (told["buy_volume"], told["sell_volume"], told["trades"]) == (float(bought), float(sold), len(inside))
    if inside:
        assert told["dominant_side"] == ("BUY" if bought > sold else "SELL" if sold > bought else "NEUTRAL")
    else:
        assert (told["pressure"], told["dominant_side"]) == (None, None)
        assert told["reason"]


def test_a_market_that_stands_still_does_not_look_alive():
    detector = detector_with([make_trade(number) for number in range(5)])
    told = detector.get_pressure(BTC, 60, now_ms=START_MS + 61_000)
    assert (told["trades"], told["pressure"]) == (0, None)
    assert told["reason"] == "no trade of BTCUSDT in the last 60 s; the newest is 61.0 s old"


def test_without_being_asked_for_a_time_the_present_counts():
    told = detector_with([make_trade(0)]).get_pressure(BTC)
    assert told["trades"] == 0
    assert "the newest is" in told["reason"]


def test_a_symbol_never_seen_is_answered_with_the_ones_that_were():
    assert detector_with([make_trade(0)]).get_pressure("ethusdt")["reason"] == (
        "no trade of ETHUSDT has been received (symbols with trades: BTCUSDT)"
    )


def test_a_long_window_of_a_short_history_says_so():
    detector = detector_with([make_trade(0), make_trade(1, at_ms=START_MS + 10_000)])
    told = detector.get_pressure(BTC, 300, now_ms=START_MS + 10_000)
    assert (told["complete"], told["covered_s"]) == (False, 10.0)
    assert told["reason"] == "300 s were asked for, trades are known for 10.0 s"
    assert detector.get_pressure(BTC, 10, now_ms=START_MS + 10_000)["complete"] is True


def test_a_window_longer_than_what_is_kept_says_so():
    detector = detector_with([make_trade(n, at_ms=START_MS + n * 1000) for n in range(100)], max_trades=10)
    told = detector.get_pressure(BTC, 60, now_ms=START_MS + 99_000)
    assert told["trades"] == 10
    assert told["reason"] == "60 s were asked for, trades are known for 9.0 s"


@given(trade_runs(max_size=40))
def test_history_is_bounded_by_age_and_number(trades):
    detector = detector_with(trades, max_age_s=20, max_trades=15)
    history = detector.trade_history.get(BTC, [])
    assert len(history) <= 15
    assert all(trade.time_ms >= trades[-1].time_ms - 20_000 for trade in history)
    assert list(history) == trades[len(trades) - len(history) :]


def test_recent_whales_are_those_in_the_window_of_the_size_or_above():
    trades = [
        make_trade(n, price="1.00000000", quantity=f"{usd}.00000000", at_ms=START_MS + n * 10_000)
        for n, usd in enumerate([2_000_000, 60_000, 150_000, 600_000])
    ]
    detector = detector_with(trades)
    now = START_MS + 30_000
    assert [order.size for order in detector.get_recent_whales(BTC, "medium", 25, now_ms=now)] == ["medium", "large"]
    assert [order.size for order in detector.get_recent_whales(BTC, "small", 60, now_ms=now)] == [
        "whale", "small", "medium", "large",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="there are: small, medium, large, whale"):
        detector.get_recent_whales(BTC, "huge")


def test_a_volume_spike_is_told_from_the_usual():
    trades = [make_trade(n, at_ms=START_MS + n * 1000) for n in range(310)]
    burst = [make_trade(310 + n, at_ms=START_MS + 309_500, quantity="10.00000000") for n in range(10)]
    now = START_MS + 310_000
    calm = detector_with(trades).get_volume_spike(BTC, now_ms=now)
    wild = detector_with(trades + burst).get_volume_spike(BTC, now_ms=now)
    assert (calm["spike"], calm["reason"]) == (False, None)
    assert calm["ratio"] == pytest.approx(0.9, abs=0.11)
    assert wild["spike"] is True


def test_a_volume_spike_cannot_be_told_from_nothing():
    told = detector_with([make_trade(0)]).get_volume_spike(BTC, now_ms=START_MS + 1000)
    assert told["spike"] is None
    assert told["reason"]


def test_cvd_begins_at_zero_and_ends_at_the_delta():
    trades = [make_trade(n, at_ms=START_MS + n * 1000, sold=n % 3 == 0, quantity="0.10000000") for n in range(60)]
    curve = detector_with(trades).get_cvd(BTC, 60, 6, now_ms=START_MS + 59_000)
    assert curve[0] == 0
    assert curve[-1] == sum(-1 if n % 3 == 0 else 1 for n in range(60)) * (UNIT // 10) / UNIT


def test_an_impossible_trade_is_refused():
    with pytest.raises(InvalidTradeError):
        WhaleDetector().update(BTC, {"p": "0", "q": "1", "T": START_MS, "m": True})
