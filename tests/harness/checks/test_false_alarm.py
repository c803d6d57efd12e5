"""False alarm: a signal and no loss."""

from __future__ import annotations

from harness.checks import Noise
from tests.harness.checks.case_builder import Story


def test_a_warning_in_a_run_where_nothing_was_amiss_is_a_false_alarm_and_the_verdict_stays_intact():
    verdict = Story(control=True).connect().deliver(0, 50).warn(2.0, "stalled?").judge()
    assert verdict.intact
    assert [f.check for f in verdict.findings] == ["false_alarm"]
    assert "stalled?" in verdict.findings[0].cause


def test_a_reconnect_survived_without_loss_may_be_mentioned():
    verdict = Story(faults=["tcp.reset_peer"]).connect().deliver(0, 50).warn(2.0, "reconnected").judge()
    assert verdict.intact
    assert not verdict.findings


def test_what_a_sound_run_says_too_is_no_alarm():
    noise = Noise(templates=("log bot WARNING using defaults",))
    verdict = Story(control=True).connect().deliver(0, 50).warn(2.0, "using defaults").judge(noise)
    assert not verdict.findings
