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


def true_volumes(seconds, window_s=2.0, count=50, unit="notional", every=False):
    """By the tape of the stories: even frames are sells, unless every one was bought."""
    sums = {"buy": 0.0, "sell": 0.0}
    for frame in range(count):
        if seconds - window_s < frame / 10 <= seconds and frame / 10 + 0.001 <= seconds:
            sums["buy" if frame % 2 or every else "sell"] += (91_350.1 + frame) * 0.5 if unit == "notional" else 0.5
    return sums


def rising(seconds, count=50):
    return 0.5 * sum(frame / 10 + 0.001 <= seconds for frame in range(count))


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


def one_sided(story):
    """Every trade was bought."""
    for index, entry in enumerate(story.tape.timeline.store.payloads):
        story.tape.timeline.store.payloads[index] = entry.replace(b'"m": true', b'"m": false')
    return story


METRICS = "metrics BTCUSDT 60"


@pytest.mark.parametrize(
    ("meant", "wrong"),
    [
        (rising, ""),
        (lambda seconds: true_volumes(seconds, 60, every=True)["buy"], ""),
        (lambda seconds: -rising(seconds), "sign"),
        (lambda seconds: 2 * rising(seconds), "twice"),
    ],
    ids=["base currency", "quote currency", "sign turned round", "counted twice"],
)
def test_a_cvd_is_known_by_what_it_means(meant, wrong):
    story = one_sided(Story()).connect().deliver(0, 50)
    for tenth in range(10, 80, 3):
        read(story, tenth / 10 + 0.05, METRICS, cvd=meant(tenth / 10 + 0.05))
    verdict = story.judge()
    assert wrong in only(verdict).cause if wrong else verdict.intact, str(verdict)


def test_a_cvd_that_goes_astray_is_off_from_then_on():
    story = one_sided(Story()).connect().deliver(0, 50)
    for tenth in range(10, 80, 3):
        seconds = tenth / 10 + 0.05
        read(story, seconds, METRICS, cvd=rising(seconds) + (8 if seconds > 3 else 0))
    finding = only(story.judge())
    assert finding.since_s == pytest.approx(3.15)
    assert "get_metrics(BTCUSDT, 60 s) said a CVD of 24, and the trades accepted make" in finding.cause


def test_a_cvd_of_another_idea_is_not_judged():
    story = one_sided(Story()).connect().deliver(0, 50)
    for tenth in range(10, 80, 3):
        read(story, tenth / 10 + 0.05, METRICS, cvd=1e6 + rising(tenth / 10 + 0.05))
    assert story.judge().intact


@pytest.mark.parametrize(
    ("figures", "right"),
    [
        ({"side": 1.0}, True),
        ({"side": -1.0}, False),
        ({"slope": 0.5}, True),
        ({"slope": -0.5}, False),
        ({"pressure": 1.0}, True),
        ({"pressure": 100.0}, True),
    ],
    ids=str,
)
def test_where_everything_was_bought_buyers_lead_and_the_curve_rises(figures, right):
    story = one_sided(Story()).connect().deliver(0, 50)
    for tenth in range(20, 80, 3):
        read(story, tenth / 10 + 0.05, METRICS, **figures)
    assert story.judge().intact is right


def test_a_balanced_market_has_no_dominant_side_to_be_wrong_about():
    story = Story().connect().deliver(0, 50)
    for tenth in range(20, 80, 3):
        read(story, tenth / 10 + 0.05, METRICS, side=-1.0, slope=-1.0)
    assert story.judge().intact


def test_a_pressure_that_was_understood_and_then_stands_still_is_wrong():
    story = one_sided(Story()).connect().deliver(0, 50)
    for tenth in range(10, 120, 3):
        read(story, tenth / 10 + 0.05, "metrics BTCUSDT 2", pressure=1.0)
    finding = only(story.judge())
    assert finding.since_s > 6.9
    assert "a pressure of 1" in finding.cause


def test_a_rounded_figure_is_right():
    story = one_sided(Story()).connect().deliver(0, 50)
    for tenth in range(10, 80, 3):
        read(story, tenth / 10 + 0.05, METRICS, cvd=round(rising(tenth / 10 + 0.05)))
    assert story.judge().intact


def test_figures_that_are_off_together_are_one_incident():
    story = Story().connect().deliver(0, 50)
    for second in (8, 9, 10):
        old = true_volumes(4.95)
        read(story, second, **old)
        read(story, second + 0.1, "pressure BTCUSDT 60", buy=1e9, sell=1e9)
        read(story, second + 0.2, "whales BTCUSDT 2", count=7.0)
    finding = only(story.judge())
    assert finding.cause.endswith("(and 2 more figures)")
    assert len(finding.evidence) == 2
