"""Left behind."""

from __future__ import annotations

from harness.checks.case import STOP_CALLED
from harness.ledger import Raised
from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def test_what_lives_on_after_stop_is_named():
    story = Story().connect().deliver(0, 50)
    story.note(31, "left behind", "task connect waits at stream.py:3").note(31, "left behind", "thread x is running")
    finding = only(story.judge())
    assert finding.check == "left_behind"
    assert "stream.py:3" in finding.cause
    assert "1 more" in finding.cause


def test_a_stop_that_raises_has_told_its_caller():
    story = Story().connect().deliver(0, 50).note(31, "stop", STOP_CALLED)
    story.add(31.1, Raised, where="stop", type="OSError", text="no farewell").note(31.7, "left behind", "task connect")
    finding = only(story.judge())
    assert (finding.check, finding.signalled) == ("left_behind", True)
    assert finding.signals[0].text == "stop() raised OSError: no farewell"
