"""Leak: what grows without bound."""

from __future__ import annotations

from harness.ledger import MetricsRead
from tests.harness.checks.case_builder import Story


def test_a_queue_that_only_grows_is_a_leak():
    story = Story().connect().deliver(0, 50)
    for second in range(10):
        story.add(second, MetricsRead, name="size inbox (queue)", value=str(100 * second), before_ns=story.at(second))
    assert [f.check for f in story.judge().findings] == ["leak"]


def test_connections_that_are_never_closed_are_a_leak():
    story = Story().connect().deliver(0, 50)
    for number in range(2, 8):
        story.connect(number / 10, number=number)
    assert "7 connections" in next(f for f in story.judge().findings if f.check == "leak").cause


def test_a_short_run_says_nothing_about_a_history():
    story = Story().connect().deliver(0, 50)
    for second in range(10):
        story.add(second, MetricsRead, name="size history", value=str(5 * second), before_ns=story.at(second))
    assert story.judge().intact
