"""Stale: old data went on as current: late from the exchange, or the last trade delivered again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.checks.case import NEVER
from harness.checks.incident import Incident
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.checks.case import Case

MIN_STALE_NS = 10 * NS_PER_S
"""Younger data than this may pass as current whatever the deadline; real feeds lag by a few seconds in bursts."""


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades that were old when they were sent, and accepted all the same."""
    if case.question.negative_control or not case.subscribed or not case.question.speed:
        return repeated(case)
    at_ns, tape_ns = case.clock
    due_ns = at_ns + ((case.tape.timeline.due_ns - tape_ns) / case.question.speed).astype(np.int64)
    limit_ns = max(min(MIN_STALE_NS, case.question.deadline_ns), 1)
    age_ns = np.where(case.sent_ns != NEVER, case.sent_ns - due_ns, 0)
    stale = np.flatnonzero(case.obtainable & case.sent_late & (age_ns > limit_ns) & (case.accepted_ns != NEVER))
    found = repeated(case)
    symbols = {symbol: [f for f in stale.tolist() if case.tape.symbol(f) == symbol] for symbol in case.question.symbols}
    for symbol, mine in [(symbol, run) for symbol, frames in symbols.items() for run in _runs(case, frames)]:
        first, last = mine[0], mine[-1]
        start_ns = int(case.sent_ns[first])
        ids = case.tape.timeline.trade_ids
        found.append(
            Incident(
                check="stale",
                stage="receive",
                start_ns=start_ns,
                latest_ns=start_ns + case.question.deadline_ns,
                until_ns=_fresh_after(case, last, symbol),
                symbol=symbol,
                wrong=len(mine),
                ids=(int(ids[first]), int(ids[last])),
                cause=f"{len(mine)} trades were up to {age_ns[mine].max() / NS_PER_S:.0f} s old when they came, "
                "and were taken as current",
                suggestion="compare each trade's own time with the clock, and warn when it lags",
            )
        )
    return found


MIN_REPEATS = 3
"""The same trade so many times more in a row, without anything having been sent: no duplicate, but a stuck value."""


def stuck(case: Case) -> list[tuple[int, int]]:
    """Stretches of acceptances, half open, in which one old trade was taken again and again."""
    found = []
    first = 0
    takes = case.takes
    for index in range(1, len(takes) + 1):
        if index < len(takes) and takes[index].frame >= 0 and takes[index].frame == takes[first].frame:
            continue
        if index - first > MIN_REPEATS and not case.resent.get(takes[first].frame):
            found.append((first + 1, index))
        first = index
    return found


def repeated(case: Case) -> list[Incident]:
    """One incident for each trade that was delivered again and again while nothing arrived."""
    found = []
    for first, last in stuck(case):
        one, end = case.takes[first], case.takes[last - 1].entry
        seconds = (end.at_ns - one.entry.at_ns) / NS_PER_S
        number = one.entry.trade_id
        found.append(
            Incident(
                check="stale",
                stage="callback",
                start_ns=one.entry.at_ns,
                latest_ns=one.entry.at_ns + case.question.deadline_ns,
                until_ns=case.takes[last].entry.at_ns if last < len(case.takes) else None,
                symbol=one.symbol,
                wrong=last - first,
                ids=None if number is None else (number, number),
                cause=f"the last trade was delivered {last - first} times more in {seconds:.1f} s, nothing arriving, "
                "as if it were new",
                suggestion="deliver a trade once; when nothing arrives say so, instead of repeating the last value",
            )
        )
    return found


def _runs(case: Case, frames: list[int]) -> list[list[int]]:
    # A lag that comes and goes is one; so long after it that what was said then is out of date, it is another.
    runs: list[list[int]] = []
    for frame in frames:
        pause_ns = case.sent_ns[frame] - case.sent_ns[runs[-1][-1]] if runs else 0
        if runs and (pause_ns <= case.question.deadline_ns or not _fresh_between(case, runs[-1][-1], frame)):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _fresh_between(case: Case, one: int, other: int) -> bool:
    fresh = _fresh_after(case, one, case.tape.symbol(one))
    return fresh is not None and fresh < case.accepted_ns[other]


def _fresh_after(case: Case, last: int, symbol: str) -> int | None:
    for frame in range(last + 1, len(case.sent_ns)):
        if case.tape.symbol(frame) == symbol and case.accepted_ns[frame] != NEVER:
            return int(case.accepted_ns[frame])
    return None
