"""Order: not as the market made them."""

from __future__ import annotations

from tests.harness.checks.case_builder import FIRST_ID, Story, payload
from tests.harness.checks.test_never_connected import only


def test_trades_accepted_in_the_order_they_were_sent_are_out_of_order_when_that_was_wrong():
    story = Story().connect().deliver(0, 20).send(20, 22)
    story.accept(21, 2.11).accept(20, 2.12).deliver(22, 50)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("order", "history")
    assert str(FIRST_ID + 20) in finding.cause


def test_what_rest_brought_may_come_behind_newer_trades():
    story = Story().connect().deliver(0, 20).withhold(20, 22).deliver(22, 50).answer(4.0, 20, 21)
    assert story.take(20, 22, at=5.2).judge().intact


def test_ids_that_start_again_are_not_followed_without_a_word():
    story = Story(faults=["sequence.id_reset"]).connect().deliver(0, 20)
    story.change(20, payload(20, a=7)).accept(20, trade_id=7).deliver(21, 50)
    finding = only(story.judge())
    assert finding.check == "order"
    assert "jumped to 7" in finding.cause
