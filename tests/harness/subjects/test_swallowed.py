"""Swallowed exceptions: told where the interpreter can tell."""

from __future__ import annotations

import sys

import pytest

from harness.subjects.swallowed import Swallowed


def swallow(problem):
    try:
        raise problem
    except Exception:
        pass


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
def test_what_was_caught_is_told_with_its_place_and_count():
    entries = []
    with Swallowed(entries.append, ignored_threads=("harness-",)) as swallowed:
        for _ in range(3):
            swallow(LookupError("no such stream"))
        swallow(StopIteration())
    swallow(LookupError("after"))
    swallowed.note()
    (note,) = entries
    assert note.what == "swallowed"
    assert note.text.startswith("LookupError: no such stream was caught at ")
    assert note.text.endswith("in swallow, 3 times")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="older interpreters cannot tell")
def test_older_interpreters_say_nothing():
    entries = []
    with Swallowed(entries.append, ignored_threads=()) as swallowed:
        swallow(LookupError("no such stream"))
    swallowed.note()
    assert not entries
