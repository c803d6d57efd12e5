"""What counts as a signal, for which incident."""

from __future__ import annotations

import pytest

from harness.checks import Case, Noise, noise_of
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


@pytest.mark.parametrize(
    ("text", "logger", "outcome"),
    [
        ("WBTCUSDT stalled", "bot", "silent"),
        ("WBTC/USDT stalled", "bot", "silent"),
        ("stalled", "bot.feed.wbtcusdt", "silent"),
        ("BTC/USDT stalled", "bot", "loud"),
        ("btcusdt_feed and wbtcusdt_feed stalled", "bot", "loud"),
        ("a feed stalled", "bot", "loud"),
    ],
)
def test_a_symbol_within_another_is_not_named_by_it(text, logger, outcome):
    story = Story(symbols=("BTCUSDT", "WBTCUSDT")).connect().send(0, 50)
    for frame in range(50):
        if frame < 20 or frame % 2:
            story.accept(frame)
    assert story.warn(2.5, text, logger=logger).judge().outcome == outcome


def test_a_warning_about_another_symbol_does_not_excuse_this_one():
    story = Story(symbols=("BTCUSDT", "ETHUSDT")).connect().deliver(0, 20).cut(1.95).warn(2.0, "ETHUSDT stalled")
    findings = story.judge().findings
    assert {f.symbol: f.signalled for f in findings} == {"BTCUSDT": False, "ETHUSDT": True}
    assert findings[0].evidence[0] == "does not count, about another symbol: ETHUSDT stalled"


def test_numbers_are_folded_out_of_templates():
    assert folded("retry 3 in 1.5 s at 0x7f00") == folded("retry 11 in 30 s at 0x1")


def test_templates_that_are_all_placeholder_go_by_their_text():
    noise = Noise(templates=("log bot WARNING cache is cold",))
    assert dead().warn(2.0, "cache is cold", template="%s").judge(noise).silent
    assert dead().warn(2.0, "stream is dead", template="%s").judge(noise).loud


def chatting(until_s, every_s=0.4, then_every_s=0.4):
    story, seconds = dead(), 0.1
    while seconds < until_s:
        story.warn(seconds, "cache is cold")
        seconds += every_s if seconds < 1.9 else then_every_s
    return story


def test_what_is_said_out_of_habit_does_not_excuse_a_loss():
    verdict = chatting(10).judge()
    assert verdict.silent
    assert verdict.findings[0].evidence[0] == "does not count, said all the time: cache is cold"


def test_a_habit_that_quickens_says_something():
    assert chatting(10, then_every_s=0.1).judge().loud


def test_what_was_said_once_or_twice_before_may_be_an_alarm_now():
    assert dead().warn(0.5, "slow").warn(1.0, "slow").warn(2.0, "slow").judge().loud


def test_a_habit_hides_no_other_remark():
    assert chatting(10).warn(2.0, "connection lost").judge().loud


@pytest.mark.parametrize(("until_s", "outcome"), [(2.4, "silent"), (5.0, "loud")])
def test_health_that_flickers_without_faults_says_something_only_by_lasting(until_s, outcome):
    noise = Noise(healthy_names=("health()",), flickers_ns={"health()": 400_000_000})
    story = dead().health(0.1, True).health(2.0, False).health(until_s, True)
    assert story.judge(noise).outcome == outcome


def test_how_long_health_flickers_is_learnt_from_the_sound_run():
    story = Story().connect().deliver(0, 50).health(0.0, False).health(0.1, True).health(1.0, False).health(1.3, True)
    case = Case(story.tape, story.entries, story.question())
    assert noise_of(case).flickers_ns == {"health()": 300_000_000}


def test_what_a_run_without_faults_says_is_neither_signal_nor_false_alarm():
    plain = Story().connect().deliver(0, 50).warn(1.0, "cache is cold").health(0.1, True).health(1.0, False)
    plain.health(1.2, True)
    noise = noise_of(Case(plain.tape, plain.entries, plain.question()))
    assert not plain.judge().findings

    quiet = Story(control=True).connect().deliver(0, 50).warn(2.0, "cache is cold").health(0.1, True)
    quiet.health(2.0, False).health(2.2, True)
    assert not quiet.judge(noise).findings
    assert not quiet.judge(noise).signals
    assert [finding.check for finding in quiet.judge().findings] == ["false_alarm"]

    lost = dead().warn(2.0, "cache is cold").health(0.1, True).health(2.0, False).health(2.2, True)
    assert lost.judge(noise).silent
