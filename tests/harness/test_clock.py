"""Durations are read exactly, and written as they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
