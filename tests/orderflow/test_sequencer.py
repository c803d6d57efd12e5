from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orderflow.sequencer import Hole, Sequencer
from orderflow.trade import Void
from tests.orderflow.strategies import START_MS, make_trade

FIRST = 3_120_000_000


def trade(number, **changes):
    return make_trade(number, at_ms=changes.pop("at_ms", START_MS + number), **changes)


def numbers(sequencer):
    return [ready.agg_trade_id - FIRST for ready in sequencer.ready]


@given(st.permutations(range(12)), st.integers(0, 3))
def test_any_disorder_behind_the_first_trade_is_put_right(order, repeats):
    sequencer = Sequencer()
    sequencer.offer(trade(0), 0)
    for number in [*order, *order[:repeats]]:
        sequencer.offer(trade(number), 0)
    assert numbers(sequencer) == list(range(12))
    assert sequencer.hole() is None
    assert sequencer.held_count == 0


@given(st.sets(st.integers(1, 30)), st.data())
def test_whatever_is_missing_rest_fills_in_order_without_repeats(missing, data):
    sequencer = Sequencer()
    arrived = [number for number in range(31) if number not in missing]
    for number in arrived:
        sequencer.offer(trade(number), 0)
    while (hole := sequencer.hole()) is not None:
        assert hole.first not in (FIRST + number for number in arrived)
        length = data.draw(st.integers(1, 10))
        start = hole.first - FIRST
        sequencer.fill([trade(number) for number in range(start, min(start + length, 31))], 0)
    assert len(numbers(sequencer)) > max(arrived)
    assert numbers(sequencer) == list(range(len(numbers(sequencer))))


@given(st.sets(st.integers(1, 30)))
def test_what_is_given_up_is_named_exactly(missing):
    sequencer = Sequencer()
    arrived = [number for number in range(32) if number not in missing]
    for number in arrived:
        sequencer.offer(trade(number), 0)
    lost = []
    while (hole := sequencer.give_up(0)) is not None:
        lost += range(hole.first - FIRST, hole.last - FIRST + 1)
    assert numbers(sequencer) == arrived
    assert lost == sorted(missing)


def test_a_hole_is_the_first_range_of_missing_ids():
    sequencer = Sequencer()
    for number in (0, 5, 9):
        sequencer.offer(trade(number), 0)
    assert sequencer.hole() == Hole(FIRST + 1, FIRST + 4)
    assert str(sequencer.hole()) == f"{FIRST + 1} to {FIRST + 4} (4)"


def test_a_repeat_is_a_duplicate_and_not_ready_again():
    sequencer = Sequencer()
    assert [sequencer.offer(trade(number), 0) for number in (0, 0, 2, 2)] == ["ready", "duplicate", "held", "duplicate"]
    assert sequencer.duplicates == 2


def test_a_void_id_is_passed_over():
    sequencer = Sequencer()
    for number in (0, 2):
        sequencer.offer(trade(number), 0)
    sequencer.fill([Void(FIRST + 1)], 0)
    assert numbers(sequencer) == [0, 2]


def test_a_suspect_price_waits_for_rest_and_is_replaced_by_what_rest_says():
    sequencer = Sequencer(max_price_jump=0.2)
    assert sequencer.offer(trade(0, price="100.00000000"), 0) == "ready"
    assert sequencer.offer(trade(1, price="121.00000000"), 0) == "suspect"
    assert sequencer.offer(trade(2, price="100.00000000"), 0) == "held"
    assert sequencer.hole() == Hole(FIRST + 1, FIRST + 1)
    sequencer.fill([trade(1, price="101.00000000")], 0)
    assert [ready.price_text for ready in sequencer.ready] == ["100.00000000", "101.00000000", "100.00000000"]


def test_after_a_suspect_that_nobody_could_check_its_level_counts_as_plausible():
    sequencer = Sequencer()
    sequencer.offer(trade(0, price="100.00000000"), 0)
    sequencer.offer(trade(1, price="50.00000000"), 0)
    sequencer.give_up(0)
    assert sequencer.offer(trade(2, price="51.00000000"), 0) == "ready"


def test_a_time_that_leaps_ahead_of_the_clock_is_suspect_and_one_that_keeps_with_it_is_not():
    sequencer = Sequencer(max_time_jump_ms=1000)
    sequencer.offer(trade(0), 0)
    assert sequencer.offer(trade(1, at_ms=START_MS + 60_000), 60 * 10**9) == "ready"
    assert sequencer.offer(trade(2, at_ms=START_MS + 180_000), 61 * 10**9) == "suspect"


def test_one_id_from_elsewhere_changes_nothing():
    sequencer = Sequencer()
    sequencer.offer(trade(0), 0)
    assert sequencer.offer(trade(0, first_id=5, at_ms=START_MS + 10), 0) == "backwards"
    assert sequencer.offer(trade(0, first_id=FIRST + 10**7, at_ms=START_MS + 11), 0) == "far"
    sequencer.offer(trade(1, at_ms=START_MS + 12), 0)
    assert numbers(sequencer) == [0, 1]


def test_three_ids_in_a_row_from_elsewhere_are_a_new_numbering():
    sequencer = Sequencer()
    sequencer.offer(trade(0), 0)
    outcomes = [sequencer.offer(trade(n, first_id=5, at_ms=START_MS + 10 + n), 0) for n in range(4)]
    assert outcomes == ["backwards", "backwards", "reset", "ready"]
    assert [ready.agg_trade_id for ready in sequencer.ready] == [FIRST, 5, 6, 7, 8]


def test_while_holding_the_oldest_of_all_comes_first():
    sequencer = Sequencer()
    sequencer.holding = True
    assert sequencer.offer(trade(3), 0) == "held"
    sequencer.fill([trade(1), trade(2)], 0)
    sequencer.release(0)
    assert numbers(sequencer) == [1, 2, 3]


def test_rest_that_begins_later_than_the_stream_takes_nothing_away():
    sequencer = Sequencer()
    sequencer.holding = True
    for number in (3, 4):
        sequencer.offer(trade(number), 0)
    assert sequencer.fill([trade(4), trade(5)], 0) == 0
    sequencer.release(0)
    assert numbers(sequencer) == [3, 4]


def test_releasing_without_help_begins_with_what_is_held():
    sequencer = Sequencer()
    sequencer.holding = True
    sequencer.offer(trade(3), 0)
    sequencer.offer(trade(4), 0)
    sequencer.release(0)
    assert numbers(sequencer) == [3, 4]


def test_it_says_when_no_more_can_be_held():
    sequencer = Sequencer(held_max=2)
    for number in (0, 2, 3):
        sequencer.offer(trade(number), 0)
    assert sequencer.full
