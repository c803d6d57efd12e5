"""The only reader of real time, and the one place that knows how durations are written.

Everywhere else time is an argument: integer nanoseconds, named `..._ns`.
"""

from __future__ import annotations

import re
import time

from harness.errors import UsageError

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

# The real functions, bound at import: a subject that freezes or patches `time` (freezegun
# does) must not stop the observer's clock.
_time_ns = time.time_ns
_monotonic_ns = time.monotonic_ns

_UNITS_NS = {
    "ns": 1,
    "us": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)")


def wall_ns() -> int:
    """Nanoseconds since 1970 by the machine's clock; it may step."""
    return _time_ns()


def monotonic_ns() -> int:
    """Nanoseconds since some fixed moment; never steps back."""
    return _monotonic_ns()


TICK_NS = 1 << 12
"""What `both_ns` counts in, 4 us: a process is woken later than bytes arrive by more, each time by another."""
DRIFT_NS_MAX = 10 * NS_PER_US
"""How far `both_ns` lets its wall time be from the machine's, besides a tick."""

# The wall clock when this process began. Of several readings the largest had the least between its two clocks.
_origin_ns = max(_time_ns() - _monotonic_ns() for _ in range(5))
_distance_ns = 0


def steady_ns() -> int:
    """
    Nanoseconds since 1970 by the wall clock of when this process began; never steps back.

    For what is recorded: wherever the wall clock was not set, it tells the same time, which a recording stores once.
    """
    return _monotonic_ns() + _origin_ns


def both_ns() -> tuple[int, int]:
    """
    Wall and steady time of one moment, in ticks of `TICK_NS`.

    Two clocks cannot be read at once; what lies between the two readings is noise, different each time. The wall time
    here is the steady one plus a distance, 0 at first, that is kept until the wall clock has certainly moved away from
    it by more than `DRIFT_NS_MAX`, be it slewed or set.
    """
    global _distance_ns  # noqa: PLW0603 - one clock for all connections of a process
    before, wall, after = steady_ns(), wall_ns(), steady_ns()
    if not before - DRIFT_NS_MAX <= wall - _distance_ns <= after + DRIFT_NS_MAX:
        _distance_ns = (wall - before) // TICK_NS * TICK_NS
    now = before // TICK_NS * TICK_NS
    return now + _distance_ns, now


def parse_duration_ns(text: str | float) -> int:
    """
    Read a duration: `500ms`, `2s`, `1.5h`, or a plain number of seconds.

    Returns:
        The duration in nanoseconds, zero or more.

    Raises:
        UsageError: the text is not a duration.
    """
    if isinstance(text, (int, float)):
        text = str(text)
    found = _DURATION.fullmatch(text.strip())
    unit = found["unit"] or "s" if found else ""
    if not found or unit not in _UNITS_NS:
        raise UsageError(f"{text!r} is not a duration; write for example 500ms, 2s, 10m, 1h or plain seconds")
    whole, _, fraction = found["number"].partition(".")
    # Exact integer arithmetic: 0.1s must be 100 000 000 ns on every machine.
    scale = _UNITS_NS[unit]
    return int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)


def format_duration(duration_ns: int) -> str:
    """Write a duration as `parse_duration_ns` reads it, in the largest unit that keeps it whole."""
    if duration_ns == 0:
        return "0s"
    for unit in ("h", "m", "s", "ms", "us"):
        if duration_ns % _UNITS_NS[unit] == 0:
            return f"{duration_ns // _UNITS_NS[unit]}{unit}"
    return f"{duration_ns}ns"
