"""What a check returns, and what a run is asked."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Stage = Literal[
    "schedule",
    "resolve",
    "connect",
    "tls",
    "upgrade",
    "subscribe",
    "receive",
    "parse",
    "callback",
    "history",
    "metrics",
]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""The way of one trade, in order."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is judged against."""

    symbols: tuple[str, ...]
    """Symbols asked for, upper case."""
    deadline_ns: int
    """How long after it began an incident may stay untold."""
    started_ns: int
    """When `start()` was called, monotonic."""
    closed_ns: int
    """When the observation was closed, or now while it is open. Nothing later counts as data or signal."""
    clock_ns: int | None = None
    """When tape time 0 was due, monotonic; None: the clock never started, or look at the first subscription."""
    speed: float = 1.0
    """Tape time per real time; 0 for as fast as it goes."""
    host: str = "host.await"
    faults: tuple[str, ...] = ()
    """Kinds of the faults in the plan, by index: what an entry's `fault` points at."""
    negative_control: bool = False
    """Nothing in this run is reason for alarm: quiet markets, a sound host. Not the run without faults: it is what
    others are measured by."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of lost, wrong, late or stale data, or a promise of `stop()` broken."""

    check: str
    stage: Stage
    start_ns: int
    """Monotonic time of the last good trade before it, or when it struck."""
    latest_ns: int
    """A signal after this is too late."""
    until_ns: int | None = None
    """Monotonic time of the first good trade after it; None: to the end."""
    symbol: str = ""
    """Upper case; empty when it concerns all."""
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    ids: tuple[int, int] | None = None
    """First and last agg trade id concerned."""
    cause: str
    """One sentence that a tired person understands."""
    untold: str = ""
    """What belongs to the sentence only when nobody was told."""
    suggestion: str = ""
    evidence: tuple[str, ...] = ()
    at_stop: bool = False
    """A promise of `stop()`: what is said while it runs, after the observation, tells of it."""
    excusable: bool = True
    """False: no signal is expected (a false alarm), so the incident cannot be silent."""
