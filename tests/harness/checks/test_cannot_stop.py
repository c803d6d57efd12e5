"""Cannot stop."""

from __future__ import annotations

from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def test_a_stop_that_hangs_is_found():
    story = Story().connect().deliver(0, 50).note(41, "stop hung", "stop() did not return within 10 s")
    finding = only(story.judge())
    assert (finding.check, finding.signalled) == ("cannot_stop", False)
