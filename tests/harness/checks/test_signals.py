"""What counts as a signal, for which incident."""

from __future__ import annotations

import pytest

from harness.checks import Noise
from harness.checks.signals import folded
from harness.ledger import Exited, Raised
from tests.harness.checks.case_builder import Story


def dead(**kwargs):
    return Story(**kwargs).connect().deliver(0, 20).cut(1.95)


def test_info_is_no_signal():
    assert dead().warn(2.0, level=20).judge().silent


@pytest.mark.parametrize(
    "text",
    ["Task was destroyed but it is pending!", "Task exception was never retrieved", "Exception in callback f()"],
)
def test_what_the_interpreter_says_by_accident_is_evidence_and_no_signal(text):
    verdict = dead().warn(2.0, text, logger="asyncio", level=40).judge()
    assert verdict.silent
    assert any(text in line for line in verdict.findings[0].evidence)


def test_prints_and_stderr_are_evidence():
    verdict = dead().note(2.0, "stderr", "oops").judge()
    assert verdict.silent
    assert any("oops" in line for line in verdict.findings[0].evidence)


def test_an_exception_to_the_caller_is_a_signal():
    assert dead().add(2.0, Raised, where="start", type="ConnectionError", text="gone").judge().loud


@pytest.mark.parametrize(("code", "outcome"), [(0, "silent"), (1, "loud")])
def test_only_a_non_zero_exit_is_a_signal(code, outcome):
    assert dead().add(2.0, Exited, code=code).judge().outcome == outcome


def test_health_that_turns_unhealthy_is_a_signal():
    assert dead().health(0.1, True).health(3.0, False).judge().loud


def test_health_that_turned_after_the_deadline_is_too_late():
    assert dead(end_s=40).health(0.1, True).health(20.0, False).judge().silent


def test_health_that_was_bad_from_the_first_counts_by_lasting_where_a_sound_run_reads_healthy():
    story = Story().health(0.0, False)
    assert story.judge(Noise(healthy_names=("health()",))).loud
    assert story.judge(Noise(healthy_names=())).silent


def test_noise_of_a_sound_run_excuses_nothing():
    noise = Noise(templates=("log bot WARNING reconnecting in # s",))
    assert dead().warn(2.0, "reconnecting in 3 s").judge(noise).silent
    assert dead().warn(2.0, "gave up after 3 s").judge(noise).loud


def test_a_warning_about_another_symbol_does_not_excuse_this_one():
    story = Story(symbols=("BTCUSDT", "ETHUSDT")).connect().deliver(0, 20).cut(1.95).warn(2.0, "ETHUSDT stalled")
    assert {f.symbol: f.signalled for f in story.judge().findings} == {"BTCUSDT": False, "ETHUSDT": True}


def test_numbers_are_folded_out_of_templates():
    assert folded("retry 3 in 1.5 s at 0x7f00") == folded("retry 11 in 30 s at 0x1")
