"""A stretch of lost trades as an incident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.incident import Incident
from harness.checks.loss import losses
from harness.checks.stages import place

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.loss import Kind, Loss
    from harness.checks.stages import Place


def of_kind(case: Case, kind: Kind) -> list[tuple[Loss, Place]]:
    """The losses of one kind, each with its place."""
    if case.losses is None:
        case.losses = losses(case)  # four checks look at them
    return [(loss, place(case, loss)) for loss in case.losses if loss.kind == kind]


def incident(case: Case, loss: Loss, where: Place) -> Incident:
    """The incident that a loss is."""
    ids = case.tape.timeline.trade_ids
    # The clock of a loss starts with the first trade that could be had and was not; a market that was
    # quiet before is nobody's fault. A hole shows with the trade after it.
    latest_ns = max(loss.start_ns, int(case.expected_ns[loss.frames[0]])) + case.question.deadline_ns
    return Incident(
        check=loss.kind,
        stage=where.stage,
        start_ns=loss.start_ns,
        latest_ns=loss.start_ns + case.question.deadline_ns if loss.before is None else latest_ns,
        until_ns=loss.until_ns,
        symbol=loss.symbol,
        lost=len(loss.frames) - loss.unobtainable,
        ids=(int(ids[loss.frames[0]]), int(ids[loss.frames[-1]])),
        cause=where.cause,
        untold=where.untold,
        suggestion=where.suggestion,
        evidence=where.evidence,
    )
