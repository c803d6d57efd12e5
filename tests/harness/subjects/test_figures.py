"""Asking a subject for its figures, in the shapes in which subjects answer."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from harness.subjects.figures import Figures


def asked(subject):
    """What was read, by question and window."""
    entries = []
    Figures(entries.append, ("BTCUSDT",)).poll(subject)
    found = {entry.name: json.loads(entry.value) for entry in entries}
    return {
        name: {key: value for key, value in read.items() if not key.endswith("_ms")} for name, read in found.items()
    }


def answering(method, answer):
    return SimpleNamespace(**{method: lambda *_: answer})


FULL = {
    "delta_volume": 5,
    "cvd": -2.5,
    "cvd_slope": 0.25,
    "buy_volume": 10.0,
    "sell_volume": 5.0,
    "pressure": 0.5,
    "dominant_side": "buyers",
}
READ = {"delta": 5.0, "cvd": -2.5, "slope": 0.25, "buy": 10.0, "sell": 5.0, "pressure": 0.5, "side": 1.0}


@pytest.mark.parametrize("answer", [FULL, SimpleNamespace(**FULL)], ids=["mapping", "object"])
def test_all_figures_are_read_from_a_mapping_or_an_object(answer):
    subject = SimpleNamespace(metrics=answering("get_metrics", answer))
    assert asked(subject)["metrics BTCUSDT 10"] == READ


def test_every_window_is_asked_for():
    windows = []
    asked(SimpleNamespace(get_pressure=lambda symbol, window_s: windows.append((symbol, window_s))))
    assert windows == [("BTCUSDT", 2), ("BTCUSDT", 10), ("BTCUSDT", 60)]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {**FULL, "reason": "covers 3 s of 60"},
        {**FULL, "window_s": 300.0},
        {**FULL, "symbol": "ETHUSDT"},
        {"cvd": float("nan")},
        {"dominant_side": "balanced"},
        {"cvd": "many"},
    ],
    ids=str,
)
def test_an_answer_that_excuses_itself_or_is_about_something_else_is_no_figure(answer):
    assert not asked(answering("get_metrics", answer))


@pytest.mark.parametrize(("answer", "value"), [(2.5, 2.5), ([0.0, 1.0, 2.5], 2.5)])
def test_a_cvd_is_a_number_or_the_curve_that_leads_to_it(answer, value):
    assert asked(answering("get_cvd", answer))["cvd BTCUSDT 2"] == {"cvd": value}


def test_whoever_wants_other_arguments_or_raises_gives_no_figure():
    def get_metrics():
        return FULL

    def get_pressure(symbol, window_s):
        raise KeyError(symbol)

    assert not asked(SimpleNamespace(get_metrics=get_metrics, get_pressure=get_pressure))


def test_large_orders_are_counted():
    assert asked(answering("get_recent_whales", [1, 2, 3]))["whales BTCUSDT 60"] == {"count": 3.0}
