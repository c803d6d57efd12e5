"""Stale: the exchange delivers late, and the subject takes it as current."""

from __future__ import annotations

from harness.ledger import Sent
from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def lagging(lag_s, **kwargs):
    story = Story(deadline_s=60, end_s=60, **kwargs).connect()
    for frame in range(50):
        late = lag_s if frame >= 20 else 0
        story.add(story.due(frame) + late, Sent, connection=1, first=frame, last=frame + 1, late=bool(late))
        story.accept(frame, story.due(frame) + late + 0.001)
    return story


def test_old_trades_taken_as_current_are_stale():
    finding = only(lagging(15).judge())
    assert (finding.check, finding.stage) == ("stale", "receive")


def test_a_lag_of_a_moment_is_nothing():
    assert lagging(1).judge().intact


def test_a_subject_that_says_so_is_loud():
    assert lagging(15).warn(20, "data is 15 s old").judge().loud


def test_a_quiet_market_is_not_stale():
    assert lagging(15, control=True).judge().intact


def test_the_last_trade_delivered_again_and_again_is_stale():
    story = Story().connect().deliver(0, 20)
    for second in range(3, 13):
        story.take(19, 20, at=second)
    findings = {finding.check: finding for finding in story.judge().findings}
    assert set(findings) == {"stale", "stopped"}
    assert findings["stale"].stage == "callback"
    assert "10 times more" in findings["stale"].cause


def test_one_repetition_is_a_duplicate_and_not_stale():
    story = Story().connect().deliver(0, 20).take(19, 20, at=2.0).deliver(20, 50)
    assert [finding.check for finding in story.judge().findings] == ["duplicate"]


def test_a_lag_that_returns_after_the_deadline_must_be_told_again():
    story = Story(count=300, deadline_s=5, end_s=60).connect()
    for frame in range(300):
        late = 6 if 20 <= frame < 30 or 40 <= frame < 50 or 200 <= frame < 210 else 0
        story.add(story.due(frame) + late, Sent, connection=1, first=frame, last=frame + 1, late=bool(late))
        story.accept(frame, story.due(frame) + late + 0.001)
    story.warn(8.1, "BTCUSDT: trades arrive 6 s late")
    told = {round(f.since_s): f.signalled for f in story.judge().findings if f.check == "stale"}
    assert told == {8: True, 26: False}
