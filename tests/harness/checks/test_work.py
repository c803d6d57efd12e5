"""How much work judging is: it grows with the tape, and not with its square."""

from __future__ import annotations

import json
import sys

import pytest

from tests.harness.checks.case_builder import FIRST_ID, Story, payload


def calls(action):
    """How many functions were called, generators resumed included."""
    count = 0

    def seen(_frame, event, _arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def untouched(story, count):
    story.deliver(0, count)


def filled(story, count):
    """Every frame is changed into nonsense, fetched one by one, and so taken behind its place."""
    for frame in range(0, count, 2):
        story.change(frame, b"{").answer(story.due(frame) + 0.02, frame, frame)
        story.send(frame + 1, frame + 2).take(frame + 1, frame + 2).accept(frame, seconds=story.due(frame) + 0.15)


def holed(story, count):
    """Every twelfth trade is missing, with a warning each time."""
    for frame in range(0, count, 12):
        story.send(frame, frame + 12).take(frame, frame + 11)
        story.warn(story.due(frame + 12), f"lost trade {FIRST_ID + frame}", template="lost trade %d")


def haunted(story, count):
    """Every trade has an invented one beside it, and is taken twice."""
    story.deliver(0, count).take(0, count, late=0.01)
    for frame in range(count):
        story.extra(story.due(frame), payload(frame, p="0"))
        story.accept(frame, seconds=story.due(frame) + 0.02, trade_id=17 + frame)


def spooked(story, count):
    """Now and then a trade out of nowhere is taken, behind a message that is none."""
    story.deliver(0, count)
    for frame in range(0, count, 12):
        story.extra(story.due(frame), b'{"error":1}')
        story.accept(frame, seconds=story.due(frame) + 0.02, trade_id=17 + frame)


def measured(story, count):
    """Figures are read all the time."""
    story.deliver(0, count)
    for frame in range(0, count, 3):
        now_ms = 1_790_000_000_000 + frame * 100
        value = json.dumps({"cvd": 1.0, "buy": 1.0, "sell": 1.0, "from_ms": now_ms, "to_ms": now_ms})
        story.metric(story.due(frame), "metrics BTCUSDT 60", value)


@pytest.mark.parametrize("tell", [untouched, filled, holed, haunted, spooked, measured], ids=lambda tell: tell.__name__)
def test_twice_the_tape_is_twice_the_work(tell):
    def work(count):
        story = Story(count=count, end_s=count / 10 + 20).connect()
        tell(story, count)
        return calls(story.judge)

    work(24)  # imports and caches
    assert work(1920) < 2.6 * work(960)
