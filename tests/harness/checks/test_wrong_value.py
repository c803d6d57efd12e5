"""Wrong value: not what was sent, or what cannot be."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest

from tests.harness.checks.case_builder import Story, payload
from tests.harness.checks.test_never_connected import only


def changed(frame=20, accepted=None, **changes):
    story = Story(faults=["payload.fault"]).connect().deliver(0, frame)
    story.change(frame, payload(frame, **changes))
    return story.accept(frame, **(accepted or {})).deliver(frame + 1, 50)


def test_a_price_of_zero_accepted_as_a_trade_is_wrong():
    finding = only(changed(p="0.00000000", accepted={"price": "0.00000000"}).judge())
    assert (finding.check, finding.stage) == ("wrong_value", "parse")
    assert "price 0" in finding.cause


def test_a_plausible_change_accepted_as_sent_is_right():
    assert changed(p="91377.10000000", accepted={"price": "91377.1"}).judge().intact


def test_a_refused_change_made_good_with_the_true_trade_is_right():
    assert changed(p="0").judge().intact


@pytest.mark.parametrize("spelling", ["91370.1", "91370.10", "91370.10000000", str(Decimal("91370.10"))])
def test_the_same_number_in_another_spelling_is_right(spelling):
    story = Story().connect().send(0, 50).take(0, 20).accept(20, price=spelling).take(21, 50)
    assert story.judge().intact


def test_a_price_that_went_through_32_bits_is_wrong():
    (narrow,) = struct.unpack("f", struct.pack("f", 91370.1))
    story = Story().connect().send(0, 50).take(0, 20).accept(20, price=str(narrow)).take(21, 50)
    assert only(story.judge()).check == "wrong_value"


def test_a_side_turned_round_is_wrong():
    story = Story().connect().send(0, 50).take(0, 20).accept(20, is_buyer_maker=False).take(21, 50)
    assert "side buy, sent sell" in only(story.judge()).cause


def test_microseconds_taken_for_milliseconds_are_wrong():
    us = (1_790_000_000_000 + 2000) * 1000
    assert only(changed(T=us, accepted={"trade_time": us}).judge()).check == "wrong_value"


def test_a_subject_may_keep_microseconds_throughout():
    story = Story().connect().send(0, 50)
    for frame in range(50):
        story.accept(frame, trade_time=(1_790_000_000_000 + frame * 100) * 1000)
    assert story.judge().intact


@pytest.mark.parametrize("off_ms", [37, -7_200_000], ids=["time of receipt", "local time"])
def test_a_subject_may_keep_a_time_of_its_own(off_ms):
    story = Story().connect().send(0, 50)
    for frame in range(50):
        story.accept(frame, trade_time=1_790_000_000_000 + frame * 100 + off_ms)
    assert story.judge().intact
