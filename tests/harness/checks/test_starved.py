"""Starved, and stale: alive and behind."""

from __future__ import annotations

from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def test_trades_that_come_ever_later_are_starved():
    story = Story(count=100, deadline_s=2, end_s=40).connect().send(0, 100)
    for frame in range(100):
        story.accept(frame, 0.3 * frame + 0.01)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("starved", "callback")


def test_a_backlog_that_is_still_being_worked_off_at_the_end_is_starved_not_stopped():
    story = Story(count=100, deadline_s=5, end_s=20).connect().send(0, 100)
    for frame in range(40):
        story.accept(frame, 0.5 * frame)
    assert only(story.judge()).check == "starved"
