"""Gap: trades in the middle are missing, and later ones were accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.checks._from_loss import incident, of_kind

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident
    from harness.checks.loss import Loss
    from harness.checks.stages import Place


RUN_GAP = 8
"""Good trades that end a run of gaps: what loses every third trade is one incident, not a thousand."""


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of missing trades, or for each run of them."""
    runs: list[list[tuple[Loss, Place]]] = []
    for loss, where in of_kind(case, "gap"):
        if runs and _continues(runs[-1][-1], (loss, where)):
            runs[-1].append((loss, where))
        else:
            runs.append([(loss, where)])
    return [_of_run(case, run) for run in runs]


def _continues(one: tuple[Loss, Place], other: tuple[Loss, Place]) -> bool:
    same = one[0].symbol == other[0].symbol and one[1].stage == other[1].stage == "callback"
    return same and other[0].frames[0] - one[0].frames[-1] <= RUN_GAP


def _of_run(case: Case, run: list[tuple[Loss, Place]]) -> Incident:
    first, last = incident(case, *run[0]), incident(case, *run[-1])
    if len(run) == 1 or first.ids is None or last.ids is None:
        return first
    lost = sum(len(loss.frames) - loss.unobtainable for loss, _ in run)
    return msgspec.structs.replace(
        first,
        until_ns=last.until_ns,
        lost=lost,
        ids=(first.ids[0], last.ids[1]),
        cause=f"{lost} trades between ids {first.ids[0]} and {last.ids[1]}, in {len(run)} places, were sent on an open "
        "connection and never accepted: dropped between socket and history",
    )
