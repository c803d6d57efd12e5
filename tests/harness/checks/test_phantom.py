"""Phantom: what the market never made."""

from __future__ import annotations

from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def test_an_error_object_accepted_as_a_trade_is_a_phantom():
    story = Story(faults=["payload.error_object"]).connect().deliver(0, 20)
    story.extra(2.0, b'{"error":{"code":2,"msg":"no"},"id":1}')
    story.accept(0, 2.001, trade_id=None, price="0", quantity="0").deliver(20, 50)
    finding = only(story.judge())
    assert (finding.check, finding.stage) == ("phantom", "parse")
    assert '"error"' in finding.cause


def test_the_message_that_is_shown_is_the_last_one_before_it():
    story = Story().connect().deliver(0, 20).change(10, b'{"early":1}').extra(2.0, b'{"late":1}').deliver(20, 50)
    story.accept(0, 2.001, trade_id=None, price="7", quantity="7")
    phantom = next(finding for finding in story.judge().findings if finding.check == "phantom")
    assert '"late"' in phantom.cause
    assert phantom.since_s == 2.0


def test_a_subject_without_ids_is_matched_by_its_values():
    story = Story().connect().send(0, 50)
    for frame in range(50):
        if frame != 30:
            story.accept(frame, trade_id=None)
    verdict = story.judge()
    assert (verdict.lost, only(verdict).check) == (1, "gap")
