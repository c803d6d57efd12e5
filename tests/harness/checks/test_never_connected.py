"""Never connected: no subscription at all."""

from __future__ import annotations

from harness.ledger import Attempted, Refused
from tests.harness.checks.case_builder import Story


def only(verdict):
    assert len(verdict.findings) == 1, str(verdict)
    return verdict.findings[0]


def test_a_loop_that_stopped_is_named_with_the_stage_schedule():
    story = Story().note(29.9, "loop", "the event loop of MainThread that start() ran on stopped running 2 ms after "
                         "start() was called and was not run again")  # fmt: skip
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("never_connected", "schedule")
    assert "not run again" in finding.cause
    assert "no connection was attempted" in finding.cause
    assert not finding.signalled


def test_the_whole_recording_counts_as_lost_when_nothing_was_ever_subscribed():
    verdict = Story(count=50).judge()
    assert (verdict.outcome, verdict.lost, verdict.obtainable, verdict.sent) == ("silent", 50, 50, 0)


def test_a_name_that_never_resolves_is_lost_at_resolve():
    story = Story()
    for second in (0, 1, 3):
        story.add(second, Attempted, host="stream.binance.com", port=9443, outcome="fail")
    finding = only(story.judge())
    assert finding.stage == "resolve"
    assert "3 attempts" in finding.cause


def test_a_handshake_that_stalls_is_lost_at_tls():
    story = Story().add(0, Attempted, host="stream.binance.com", port=9443, outcome="ok")
    from harness.ledger import Opened

    story.add(0, Opened, connection=1, secure=True)
    assert only(story.judge()).stage == "tls"


def test_a_refused_upgrade_is_lost_at_upgrade_and_says_how():
    story = Story().connect(subscribe=False)
    story.entries = [entry for entry in story.entries if type(entry).__name__ != "Upgraded"]
    story.add(0.1, Refused, connection=1, stage="upgrade", how="451")
    finding = only(story.judge())
    assert finding.stage == "upgrade"
    assert "451" in finding.cause


def test_a_connection_without_a_subscription_is_lost_at_subscribe():
    assert only(Story().connect(subscribe=False).judge()).stage == "subscribe"


def test_one_warning_and_then_nothing_for_ever_is_loud_and_not_recovered():
    finding = only(Story().warn(1.0).judge())
    assert finding.signalled
    assert not finding.recovered
    assert finding.told_after_s == 1.0


def test_a_look_up_that_is_never_answered_is_lost_at_resolve():
    finding = only(Story().note(0.1, "look-up", "stream.binance.com:9443").judge())
    assert finding.stage == "resolve"
    assert "stream.binance.com:9443" in finding.cause
