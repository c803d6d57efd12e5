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
        monkeypatch.setattr(clock, "_distance_ns", self.ahead_ns)

    def _monotonic(self) -> int:
        self.now_ns += 70
        return self.now_ns


def test_both_clocks_keep_their_distance_while_the_wall_clock_is_only_read_a_little_later(monkeypatch):
    clocks = Clocks(monkeypatch)
    for _ in range(100):
        wall, now = clock.both_ns()
        assert wall - now == clocks.ahead_ns


@pytest.mark.parametrize("step_ns", [-3600 * clock.NS_PER_S, 3600 * clock.NS_PER_S, 11_000])
def test_both_clocks_follow_a_wall_clock_that_was_set(monkeypatch, step_ns):
    clocks = Clocks(monkeypatch)
    clock.both_ns()
    clocks.ahead_ns += step_ns
    wall, now = clock.both_ns()
    assert abs(wall - now - clocks.ahead_ns) <= 70


@given(st.lists(st.integers(-9_000, 9_000), min_size=1, max_size=200))
def test_the_wall_time_told_is_never_further_from_the_machines_than_it_says(slews_ns):
    with pytest.MonkeyPatch.context() as patch:
        clocks = Clocks(patch)
        for slew_ns in slews_ns:
            clocks.ahead_ns += slew_ns
            wall, now = clock.both_ns()
            assert abs(wall - now - clocks.ahead_ns) <= clock.DRIFT_NS_MAX + 70
