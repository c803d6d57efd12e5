from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import orderflow.window
from orderflow.window import Sums, TradeWindow
from tests.orderflow.strategies import START_MS, trade_runs


def fill(window, trades):
    for trade in trades:
        window.add(trade.time_ms, trade.notional_units, trade.quantity_units, trade.is_buyer_maker)


def naive(trades, window_ms, now_ms):
    inside = [trade for trade in trades if now_ms - window_ms < trade.time_ms <= now_ms]
    bought = [trade for trade in inside if not trade.is_buyer_maker]
    sold = [trade for trade in inside if trade.is_buyer_maker]
    return Sums(
        sum(trade.notional_units for trade in bought),
        sum(trade.notional_units for trade in sold),
        sum(trade.quantity_units for trade in bought),
        sum(trade.quantity_units for trade in sold),
        len(inside),
    )


questions = st.lists(
    st.tuples(st.sampled_from([1, 500, 5_000, 30_000, 400_000]), st.integers(-30_000, 60_000)), max_size=8
)


@given(trades=trade_runs(disorder_ms=3_000), asked=questions, data=st.data())
def test_sums_equal_a_recount_whatever_the_order_of_times_and_questions(trades, asked, data):
    window = TradeWindow(max_age_ms=10**9, max_count=10**6)
    cut = data.draw(st.integers(0, len(trades)))
    fill(window, trades[:cut])
    newest = max((trade.time_ms for trade in trades), default=START_MS)
    for window_ms, offset_ms in asked:
        assert window.sums(window_ms, newest + offset_ms) == naive(trades[:cut], window_ms, newest + offset_ms)
    fill(window, trades[cut:])
    for window_ms, offset_ms in asked:
        assert window.sums(window_ms, newest + offset_ms) == naive(trades, window_ms, newest + offset_ms)


@given(trades=trade_runs(min_size=1, max_size=40), max_count=st.integers(1, 20), max_age_ms=st.integers(1, 40_000))
def test_what_is_forgotten_is_what_is_old_or_too_much(trades, max_count, max_age_ms):
    compact_at, orderflow.window._COMPACT_AT = orderflow.window._COMPACT_AT, 4
    try:
        window = TradeWindow(max_age_ms=max_age_ms, max_count=max_count)
        for count, trade in enumerate(trades, 1):
            fill(window, [trade])
            newest = trade.time_ms
            kept = [old for old in trades[:count] if old.time_ms >= newest - max_age_ms][-max_count:]
            assert len(window) == len(kept)
            assert window.first_ms == kept[0].time_ms
            for window_ms in (1, 1_000, max_age_ms, 10**9):
                assert window.sums(window_ms, newest) == naive(kept, window_ms, newest)
    finally:
        orderflow.window._COMPACT_AT = compact_at


def test_an_empty_window_has_nothing():
    window = TradeWindow(1000, 10)
    assert (len(window), window.first_ms, window.last_ms) == (0, None, None)
    assert window.sums(1000, START_MS) == Sums(0, 0, 0, 0, 0)


def test_lengths_made_up_by_a_caller_do_not_fill_memory():
    window = TradeWindow(10**9, 100)
    window.add(START_MS, 1, 1, False)
    for length in range(1, 1000):
        assert window.sums(length, START_MS).count == 1
    assert len(window._begins) <= 64
