"""Gap: trades in the middle are missing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.checks.case_builder import FIRST_ID, Story
from tests.harness.checks.test_never_connected import only


def away(first=20, last=30):
    story = Story().connect().deliver(0, first).cut(first / 10 - 0.05).connect(last / 10 - 0.05, number=2)
    return story.send(last, 50, number=2).take(last, 50)


def test_trades_missed_while_away_and_never_fetched_are_a_gap():
    finding = only(away().judge())
    assert (finding.check, finding.stage, finding.lost, finding.recovered) == ("gap", "receive", 10, True)
    assert f"ids {FIRST_ID + 20} to {FIRST_ID + 29}" in finding.cause


def test_trades_fetched_over_rest_in_time_leave_nothing_to_find():
    story = away().answer(3.1, 20, 29).take(20, 30, at=3.2)
    assert story.judge().intact, str(story.judge())


def test_trades_fetched_after_the_deadline_came_too_late():
    story = away().answer(20, 20, 29).take(20, 30, at=20.0)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("starved", "callback")


def test_a_hole_that_nobody_can_fill_must_still_be_noticed():
    story = Story().connect().deliver(0, 20).withhold(20, 25, everywhere=True).deliver(25, 50)
    finding = only(story.judge())
    assert (finding.check, finding.stage, finding.lost) == ("gap", "history", 0)
    assert story.warn(2.6, "ids jumped").judge().loud


def test_a_hole_at_the_very_end_shows_to_nobody():
    assert Story().connect().deliver(0, 45).withhold(45, 50, everywhere=True).judge().intact


def test_each_incident_needs_its_own_signal():
    story = Story(count=300, deadline_s=5, end_s=40).connect()
    story.deliver(0, 20).withhold(20, 25).deliver(25, 200).withhold(200, 205).deliver(205, 300)
    assert [f.signalled for f in story.warn(2.5).judge().findings] == [True, False]
    assert story.judge().silent
    assert story.warn(20.5).judge().loud


def test_trades_sent_on_an_open_connection_and_dropped_are_lost_at_the_callback():
    story = Story().connect().deliver(0, 20).send(20, 25).deliver(25, 50)
    assert only(story.judge()).stage == "callback"


def test_a_refused_frame_that_is_never_fetched_is_lost_at_parse():
    story = Story(faults=["payload.truncated"]).connect().deliver(0, 20).change(20, b"{").deliver(21, 50)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("gap", "parse")


@settings(deadline=None)
@given(missing=st.sets(st.integers(1, 48), max_size=12))
def test_what_is_lost_is_exactly_what_was_obtainable_and_not_accepted(missing):
    story = Story().connect().send(0, 50)
    for frame in range(50):
        if frame not in missing:
            story.accept(frame)
    verdict = story.judge()
    assert verdict.lost == len(missing)
    assert verdict.intact == (not missing)
    assert all(finding.check == "gap" for finding in verdict.findings)
