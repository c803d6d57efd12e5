from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from orderflow.remarks import Remarks


class Collector(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []
        self.levels = []

    def emit(self, record):
        self.texts.append(record.getMessage())
        self.levels.append(record.levelno)


def make(interval_s=1.0):
    logger, collector = logging.Logger("remarks"), Collector()  # noqa: LOG001 - of its own for each test
    logger.addHandler(collector)
    return Remarks(logger, interval_s), collector


def test_the_first_is_written_at_once_and_the_rest_of_a_burst_as_a_number():
    remarks, collector = make()
    for number in range(10):
        remarks.say(0.0, logging.WARNING, "kind", "trouble %d", number)
    assert collector.texts == ["trouble 0"]
    remarks.flush(0.5)
    assert len(collector.texts) == 1
    remarks.flush(1.0)
    assert collector.texts == ["trouble 0", "trouble 9 (and 8 more like it)"]


def test_kinds_do_not_silence_each_other():
    remarks, collector = make()
    remarks.say(0.0, logging.WARNING, "BTCUSDT gap", "one")
    remarks.say(0.0, logging.WARNING, "ETHUSDT gap", "two")
    assert collector.texts == ["one", "two"]


def test_the_worst_level_is_kept():
    remarks, collector = make()
    for level in (logging.WARNING, logging.ERROR, logging.WARNING):
        remarks.say(0.0, level, "kind", "trouble")
    remarks.flush(0.0, everything=True)
    assert collector.levels == [logging.WARNING, logging.ERROR]


@given(st.lists(st.floats(0, 20), max_size=60).map(sorted))
def test_every_remark_is_accounted_for(times):
    remarks, collector = make()
    for at_s in times:
        remarks.say(at_s, logging.WARNING, "kind", "trouble")
    remarks.flush(0.0, everything=True)
    extra = sum(int(text.split("(and ")[1].split()[0]) for text in collector.texts if "(and" in text)
    assert len(collector.texts) + extra == len(times)
