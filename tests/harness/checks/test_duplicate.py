"""Duplicate: accepted more than once."""

from __future__ import annotations

from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def test_a_trade_accepted_twice_is_one_duplicate():
    story = Story().connect().deliver(0, 50).accept(10, 2.0)
    verdict = story.judge()
    finding = only(verdict)
    assert (finding.check, finding.stage, verdict.duplicated, verdict.lost) == ("duplicate", "history", 1, 0)


def test_a_repeat_that_the_subject_drops_is_nothing():
    assert Story().connect().deliver(0, 50).send(10, 11, at=2.0).judge().intact


def test_two_connections_that_carry_everything_twice_are_one_incident():
    story = Story().connect().connect(0.0, number=2).deliver(0, 50).send(0, 50, number=2).take(0, 50, late=0.002)
    finding = only(story.judge())
    assert "2 connections" in finding.cause


def test_a_warning_between_the_repeat_and_its_acceptance_counts():
    story = Story().connect().deliver(0, 50).send(10, 11, at=8.0).warn(8.001, "repeated id").accept(10, 8.2)
    assert story.judge().loud
