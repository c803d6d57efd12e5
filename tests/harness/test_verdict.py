"""The verdict: the worst incident decides, and waiting ends when nothing can change it."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checks import Noise
from harness.ledger import Attempted
from harness.verdict import Verdict, settled, unjudged
from tests.harness.checks.case_builder import Story


def test_a_ledger_of_an_honest_run_has_no_findings():
    verdict = Story().connect().deliver(0, 50).judge()
    assert verdict.intact
    assert (verdict.sent, verdict.obtainable, verdict.accepted, verdict.lost) == (50, 50, 50, 0)
    assert all(passed for _, passed in verdict.stages)


def test_an_attempt_whose_name_is_not_found_passed_no_stage_after_the_schedule():
    story = Story().add(0.1, Attempted, host="stream.binance.com", port=9443, outcome="fail")
    verdict = story.cut(0.1, how="refused", by="exchange").judge()
    assert [stage for stage, passed in verdict.stages if passed] == ["schedule"]


@settings(deadline=None)
@given(order=st.permutations(range(60)))
def test_the_order_in_which_threads_wrote_does_not_matter(order):
    story = Story(count=18).connect().deliver(0, 9).cut(0.85).warn(1.0)
    expected = story.judge()
    entries = story.entries
    story.entries = [entries[i] for i in order if i < len(entries)]
    assert story.judge() == expected


NOTHING = {"trade_id": None, "price": "", "quantity": "", "trade_time": None, "is_buyer_maker": None}


def test_a_tap_whose_trades_nobody_can_read_is_not_judged():
    story = Story().connect().send(0, 50)
    for frame in range(50):
        story.accept(frame, **NOTHING | {"price": "91350.1"})
    verdict = story.judge()
    assert verdict.outcome == "unjudged"
    assert "50 times" in verdict.reason
    assert settled(story.tape, story.entries, story.question(end_s=5), None)


def test_what_is_no_trade_among_trades_is_judged():
    story = Story().connect().deliver(0, 20).send(20, 50)
    for frame in range(20, 50):
        story.accept(frame, **NOTHING)
    assert {finding.check for finding in story.judge().findings} == {"phantom", "stopped"}


def test_a_price_with_its_quantity_reads_as_a_trade():
    story = Story().connect().send(0, 50)
    for frame in range(50):
        story.accept(frame, trade_id=None)
    assert story.judge().intact


def test_the_last_words_before_a_silence_are_kept():
    verdict = Story().connect().warn(0.1, "streams running", level=20).deliver(0, 20).cut(1.95).judge()
    assert [word.text for word in verdict.last_words] == ["streams running"]


def test_a_verdict_travels_as_json():
    verdict = Story().connect().deliver(0, 20).cut(1.95).judge()
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


def test_an_unjudged_run_gives_its_reason():
    assert unjudged("no tap").outcome == "unjudged"
    assert "no tap" in str(unjudged("no tap"))


class TestSettled:
    def test_an_untold_incident_keeps_the_run_going_until_its_deadline(self):
        story = Story().connect().deliver(0, 20).cut(1.95)
        assert not settled(story.tape, story.entries, story.question(end_s=6), Noise())
        assert settled(story.tape, story.entries, story.question(end_s=12.1), Noise())

    def test_a_told_incident_ends_it(self):
        story = Story().connect().deliver(0, 20).cut(1.95).warn(2.5)
        assert settled(story.tape, story.entries, story.question(end_s=6), Noise())

    def test_no_signal_is_final_while_the_run_without_faults_goes_on(self):
        story = Story().connect().deliver(0, 20).cut(1.95).warn(2.5)
        assert not settled(story.tape, story.entries, story.question(end_s=6), None)

    def test_nothing_lost_ends_it(self):
        story = Story().connect().deliver(0, 50)
        assert settled(story.tape, story.entries, story.question(end_s=6), None)
