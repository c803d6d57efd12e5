"""Metrics: figures worked out a second time, between what was surely and what was possibly in the window."""

from __future__ import annotations

import json

import pytest

from harness.ledger import MetricsRead
from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only

WALL = 1_790_000_000_000


def read(story, seconds, name="pressure BTCUSDT 2", **figures):
    now_ms = WALL + round(seconds * 1000)
    value = json.dumps({**figures, "from_ms": now_ms, "to_ms": now_ms})
    return story.add(seconds, MetricsRead, name=name, value=value, before_ns=story.at(seconds))


def true_volumes(seconds, window_s=2.0, count=50, unit="notional"):
    """By the tape of the stories: even frames are sells."""
    sums = {"buy": 0.0, "sell": 0.0}
    for frame in range(count):
        if seconds - window_s < frame / 10 <= seconds and frame / 10 + 0.001 <= seconds:
            sums["sell" if frame % 2 == 0 else "buy"] += (91_350.1 + frame) * 0.5 if unit == "notional" else 0.5
    return sums


@pytest.mark.parametrize("unit", ["notional", "quantity"])
def test_right_figures_in_either_currency_are_right(unit):
    story = Story().connect().deliver(0, 50)
    for tenth in range(3, 60, 2):
        read(story, tenth / 10 + 0.05, **true_volumes(tenth / 10 + 0.05, unit=unit))
    assert story.judge().intact, str(story.judge())


def test_the_pressure_of_old_trades_shown_as_that_of_now_is_wrong():
    story = Story().connect().deliver(0, 50)
    old = true_volumes(4.95)
    for second in (8, 9, 10):
        read(story, second, **old)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("metrics", "metrics")
    assert "get_pressure(BTCUSDT, 2 s)" in finding.cause


def test_sides_turned_round_are_wrong():
    story = Story().connect().deliver(0, 50)
    for second in (2.05, 2.35, 2.65):
        right = true_volumes(second)
        read(story, second, buy=right["sell"] * 3, sell=right["buy"] / 3)
    assert only(story.judge()).check == "metrics"


def test_one_wrong_reading_may_have_fallen_into_an_update():
    story = Story().connect().deliver(0, 50)
    read(read(story, 8, buy=1e9, sell=0.0), 9, buy=0.0, sell=0.0)
    assert story.judge().intact


@pytest.mark.parametrize(("count", "right"), [(0.0, True), (7.0, False)])
def test_large_orders_are_counted_again(count, right):
    story = Story().connect().deliver(0, 50)
    for second in (2, 3, 4):
        read(story, second, "whales BTCUSDT 2", count=count)
    assert story.judge().intact is right


@pytest.mark.parametrize("price", ["nan", "", "1,5", "inf"])
def test_an_impossible_price_that_was_taken_does_not_stop_the_judge(price):
    story = Story().connect().send(0, 50).take(0, 20).accept(20, price=price).take(21, 50)
    read(story, 8, buy=0.0, sell=0.0)
    assert "wrong_value" in [finding.check for finding in story.judge().findings]
