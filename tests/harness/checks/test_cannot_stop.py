"""Cannot stop."""

from __future__ import annotations

from harness.checks import Case, noise_of
from harness.checks.case import STOP_CALLED
from tests.harness.checks.case_builder import Story
from tests.harness.checks.test_never_connected import only


def test_a_stop_that_hangs_is_found():
    story = Story().connect().deliver(0, 50).note(41, "stop hung", "stop() did not return within 10 s")
    finding = only(story.judge())
    assert (finding.check, finding.signalled) == ("cannot_stop", False)


def hung():
    story = Story().connect().deliver(0, 50).note(31, "stop", STOP_CALLED)
    return story.note(41, "stop hung", "stop() did not return within 10 s")


def test_a_warning_while_stop_hangs_tells_of_it():
    finding = only(hung().warn(36, "the reader does not end").judge())
    assert (finding.since_s, finding.signalled, finding.told_after_s) == (31, True, 5)


def test_what_a_sound_run_says_too_when_it_is_stopped_tells_of_nothing():
    stopping = Story().connect().deliver(0, 50).note(31, "stop", STOP_CALLED).warn(31.1, "the stream ended")
    noise = noise_of(Case(stopping.tape, stopping.entries, stopping.question()))
    assert hung().warn(31.1, "the stream ended").judge(noise).silent
    assert Story().connect().deliver(0, 20).warn(2.0, "the stream ended").judge(noise).loud


def test_what_was_said_before_stop_or_is_said_in_it_excuses_nothing_of_the_other():
    assert hung().warn(20, "the reader does not end").judge().silent
    lost = Story(deadline_s=60).connect().deliver(0, 20).note(31, "stop", STOP_CALLED).warn(31.1, "the stream ended")
    assert lost.judge().silent
