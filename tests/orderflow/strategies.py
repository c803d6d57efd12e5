"""Hypothesis: trades as an exchange may report them."""

from __future__ import annotations

from hypothesis import strategies as st

from orderflow.trade import Trade, parse_units

START_MS = 1_767_000_000_000


def decimals(minimum=1, maximum=10**14):
    """Decimal strings above zero with up to eight places, as sent."""
    return st.integers(minimum, maximum).map(_decimal)


def make_trade(
    number, *, price="100.00000000", quantity="1.00000000", at_ms=START_MS, sold=False, first_id=3_120_000_000
):
    trade_id = first_id + number
    return Trade(
        symbol="BTCUSDT",
        agg_trade_id=trade_id,
        price_text=price,
        quantity_text=quantity,
        price_units=parse_units(price),
        quantity_units=parse_units(quantity),
        first_trade_id=trade_id,
        last_trade_id=trade_id,
        time_ms=at_ms,
        event_time_ms=at_ms,
        is_buyer_maker=sold,
    )


def trade_runs(min_size=0, max_size=30, disorder_ms=0):
    """Trades with rising ids; times stand still, rise, leap, and fall back by up to `disorder_ms`."""
    steps = st.integers(-disorder_ms, 5) | st.integers(0, 20_000)
    one = st.tuples(steps, st.integers(10**6, 10**13), st.integers(1, 10**11), st.booleans())
    return st.lists(one, min_size=min_size, max_size=max_size).map(_run)


def _run(drawn):
    trades, at_ms = [], START_MS
    for number, (step_ms, price, quantity, sold) in enumerate(drawn):
        at_ms = max(START_MS - 1000, at_ms + step_ms)
        trades.append(make_trade(number, price=_decimal(price), quantity=_decimal(quantity), at_ms=at_ms, sold=sold))
    return trades


def _decimal(units):
    return f"{units // 10**8}.{units % 10**8:08d}"
