"""Runs of odd acceptances as incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from harness.checks.case import Take  # noqa: TC001 - msgspec reads the annotation at run time
from harness.checks.incident import Incident

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.case import Case
    from harness.checks.incident import Stage


class Odd(msgspec.Struct, frozen=True, kw_only=True):
    """An acceptance that should not have been, or not so."""

    index: int
    """Its place among all acceptances."""
    take: Take
    struck_ns: int
    """When what provoked it was sent; a signal may come from then on."""
    what: str


def incidents(
    case: Case,
    odd: list[Odd],
    *,
    check: str,
    stage: Stage,
    count: Literal["duplicated", "wrong"],
    cause: Callable[[Case, list[Odd]], str],
    suggestion: str,
) -> list[Incident]:
    """
    Make one incident of each run of odd acceptances of a symbol.

    A run goes on while fewer than `RUN_GAP` good ones lie between: two connections that
    deliver everything twice are one incident, not a thousand.
    """
    found = []
    for symbol in dict.fromkeys(item.take.symbol for item in odd):
        mine = [item for item in odd if item.take.symbol == symbol]
        for run in _runs(mine):
            first, last = run[0], run[-1]
            numbers = [item.take.entry.trade_id for item in run if item.take.entry.trade_id is not None]
            start_ns = min(first.struck_ns, first.take.entry.at_ns)
            found.append(
                Incident(
                    check=check,
                    stage=stage,
                    start_ns=start_ns,
                    latest_ns=first.take.entry.at_ns + case.question.deadline_ns,
                    until_ns=_next_good(case, last, symbol),
                    symbol=symbol,
                    ids=(numbers[0], numbers[-1]) if numbers else None,
                    cause=cause(case, run),
                    suggestion=suggestion,
                    duplicated=len(run) if count == "duplicated" else 0,
                    wrong=len(run) if count == "wrong" else 0,
                )
            )
    return found


RUN_GAP = 8
"""Good acceptances that end a run of odd ones."""


def _runs(odd: list[Odd]) -> list[list[Odd]]:
    runs: list[list[Odd]] = []
    for item in odd:
        if runs and item.index - runs[-1][-1].index <= RUN_GAP:
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _next_good(case: Case, last: Odd, symbol: str) -> int | None:
    # By place: a slice would copy the rest of the run for each stretch.
    for index in range(last.index + 1, len(case.takes)):
        take = case.takes[index]
        if take.symbol == symbol and take.frame >= 0:
            return take.entry.at_ns
    return None
