"""Stopped: data came, or was promised, and from some moment on nothing was accepted."""

from __future__ import annotations

from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def cut_at_20(**kwargs):
    return Story(**kwargs).connect().deliver(0, 20).cut(1.95)


def test_a_reset_without_a_new_attempt_is_lost_at_receive():
    finding = only(cut_at_20().judge())
    assert (finding.check, finding.stage, finding.lost) == ("stopped", "receive", 30)
    assert "no new attempt" in finding.cause
    assert finding.until_s is None


def test_the_incident_begins_with_the_last_good_trade():
    assert only(cut_at_20().judge()).since_s == 1.9


def test_silence_on_an_open_connection_is_lost_at_receive():
    finding = only(Story().connect().deliver(0, 20).withhold(20, 50).judge())
    assert (finding.check, finding.stage) == ("stopped", "receive")
    assert "connection open" in finding.cause


def test_an_acknowledged_subscription_that_brings_nothing_has_stopped_from_the_first():
    finding = only(Story().connect().withhold(0, 50).judge())
    assert (finding.check, finding.stage, finding.since_s) == ("stopped", "receive", 0.0)
    assert "no data at all" in finding.cause


def test_frames_sent_and_never_accepted_are_lost_at_the_callback():
    finding = only(Story().connect().deliver(0, 20).send(20, 50).judge())
    assert (finding.check, finding.stage) == ("stopped", "callback")


def test_a_malformed_frame_that_ends_everything_is_lost_at_parse():
    story = Story(faults=["payload.truncated"]).connect().deliver(0, 20).change(20, b'{"e":"aggTra').send(21, 50)
    finding = only(story.judge())
    assert finding.stage == "parse"
    assert "payload.truncated" in finding.cause


def test_refused_reconnects_are_lost_where_they_are_refused():
    from harness.ledger import Attempted

    story = cut_at_20()
    for second in (3, 5, 9):
        story.add(second, Attempted, host="stream.binance.com", port=9443, outcome="refuse")
    finding = only(story.judge())
    assert finding.stage == "connect"
    assert "3 attempts" in finding.cause


def test_a_signal_on_the_deadline_counts_and_one_after_it_does_not():
    assert cut_at_20(end_s=60).warn(11.8).judge().loud
    assert cut_at_20(end_s=60).warn(12.2).judge().silent


def test_a_warning_before_the_incident_excuses_nothing():
    assert cut_at_20().warn(1.2).judge().silent


def test_a_worked_off_queue_does_not_make_the_warning_come_too_early():
    """The reader knew of the cut, and said so, while the consumer was still busy with what came before."""
    story = Story().connect().send(0, 20).take(0, 20, late=1.0).cut(1.95).warn(1.96)
    assert story.judge().loud
