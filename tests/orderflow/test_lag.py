from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orderflow.lag import LagMeter

MS = 1_000_000
START = 1_767_000_000_000


@given(st.integers(-5_000, 5_000), st.lists(st.integers(0, 200), min_size=1))
def test_a_clock_that_is_wrong_all_the_time_is_no_relative_lag(skew_ms, delays):
    meter = LagMeter()
    for number, delay_ms in enumerate(delays):
        meter.measure(
            START + number * 10, (number * 10 + delay_ms) * MS, (START + number * 10 + delay_ms + skew_ms) * MS
        )
    assert meter.relative_ms == delays[-1] - min(delays)


def test_data_that_falls_behind_is_seen_whatever_the_wall_clock_says():
    meter = LagMeter()
    assert meter.measure(START, 0, (START - 60_000) * MS) == 0
    assert meter.measure(START + 1_000, 21_000 * MS, (START - 39_000) * MS) == 20_000


def test_data_that_was_late_from_the_first_trade_on_is_seen_by_the_wall_clock():
    assert LagMeter().measure(START, 0, (START + 15_000) * MS) == 15_000


def test_forgetting_begins_anew():
    meter = LagMeter()
    meter.measure(START, 0, START * MS)
    meter.forget()
    meter.measure(START - 50_000, 0, START * MS)
    assert meter.relative_ms == 0
