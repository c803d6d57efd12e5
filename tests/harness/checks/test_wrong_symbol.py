"""Wrong symbol: filed under another than its own."""

from __future__ import annotations

from tests.harness.checks.case_builder import Story, payload
from tests.harness.checks.test_never_connected import only


def test_a_trade_of_another_symbol_filed_under_ours_is_found():
    story = Story(faults=["payload.wrong_symbol"]).connect().deliver(0, 20)
    story.change(20, payload(20, s="ETHUSDT")).accept(20, symbol="BTCUSDT").deliver(21, 50)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("wrong_symbol", "parse")
    assert "ETHUSDT" in finding.cause


def test_the_spelling_of_a_symbol_is_the_subjects_own_business():
    story = Story().connect().send(0, 50)
    for frame in range(50):
        story.accept(frame, symbol="btc/usdt")
    assert story.judge().intact
