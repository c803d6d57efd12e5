"""Durations are read exactly, and written as they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import clock
from harness.clock import format_duration, parse_duration_ns
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("500ms", 500_000_000),
        ("2s", 2_000_000_000),
        ("1h", 3_600_000_000_000),
        ("1.5m", 90_000_000_000),
        ("0.1s", 100_000_000),
        ("7", 7_000_000_000),
        (0.25, 250_000_000),
        ("3us", 3_000),
        ("1 d", 86_400_000_000_000),
    ],
)
def test_durations_are_read_to_the_nanosecond(text, nanoseconds):
    assert parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1w", "1e3", "s", "1s2", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="500ms"):
        parse_duration_ns(text)


@given(st.integers(0, 10**18))
def test_a_written_duration_reads_back_as_itself(nanoseconds):
    assert parse_duration_ns(format_duration(nanoseconds)) == nanoseconds


class Clocks:
    """The machine's two clocks, set by hand; reading either takes 70 ns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 5 * clock.NS_PER_S
        self.ahead_ns = 1_700_000_000 * clock.NS_PER_S
        monkeypatch.setattr(clock, "_monotonic_ns", self._monotonic)
        monkeypatch.setattr(clock, "_time_ns", lambda: self._monotonic() + self.ahead_ns)
        monkeypatch.setattr(clock, "_origin_ns", self.ahead_ns)
        monkeypatch.setattr(clock, "_distance_ns", 0)

    def _monotonic(self) -> int:
        return self.skip(70)

    def skip(self, passed_ns: int) -> int:
        """Let time pass."""
        self.now_ns += passed_ns
        return self.now_ns


def test_both_clocks_are_one_while_the_wall_clock_is_only_read_a_little_later(monkeypatch):
    clocks = Clocks(monkeypatch)
    for _ in range(100):
        wall, now = clock.both_ns()
        assert wall == now
        assert wall % clock.TICK_NS == 0
        assert 0 <= clocks.now_ns + clocks.ahead_ns - wall < clock.TICK_NS + 4 * 70


def test_a_process_that_sleeps_between_the_two_readings_does_not_part_the_clocks(monkeypatch):
    clocks = Clocks(monkeypatch)
    slow = iter([0, 5 * clock.NS_PER_MS, 0])
    monkeypatch.setattr(clock, "_time_ns", lambda: clocks.skip(next(slow)) + clocks.ahead_ns)
    for _ in range(3):
        wall, now = clock.both_ns()
        assert wall == now


@pytest.mark.parametrize("step_ns", [-3600 * clock.NS_PER_S, 3600 * clock.NS_PER_S, 11_000])
def test_both_clocks_follow_a_wall_clock_that_was_set(monkeypatch, step_ns):
    clocks = Clocks(monkeypatch)
    first, began = clock.both_ns()
    clocks.ahead_ns += step_ns
    wall, now = clock.both_ns()
    assert abs(wall - now - step_ns) <= clock.TICK_NS + 70
    assert wall % clock.TICK_NS == now % clock.TICK_NS == 0
    assert 0 <= now - began <= clock.TICK_NS
    assert abs(wall - first - step_ns) <= 2 * clock.TICK_NS


@given(st.lists(st.integers(-9_000, 9_000), min_size=1, max_size=200))
def test_the_wall_time_told_is_never_further_from_the_machines_than_it_says(slews_ns):
    with pytest.MonkeyPatch.context() as patch:
        clocks = Clocks(patch)
        for slew_ns in slews_ns:
            clocks.ahead_ns += slew_ns
            wall, _ = clock.both_ns()
            true = clocks.now_ns + clocks.ahead_ns
            assert abs(true - wall) <= clock.DRIFT_NS_MAX + clock.TICK_NS + 4 * 70
