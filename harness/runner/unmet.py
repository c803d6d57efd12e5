"""Faults that never came into play: of a fault that nobody met, a run says nothing, however intact it is.

Only what is certain is said. Of a fault that holds for a whole connection it is enough that there was one: whether the
subject noticed is the verdict's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.case import LOOK_UP
from harness.faults.base import Fault
from harness.ledger import Answered, Noted, Opened, Refused, Struck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.faults.plan import Plan, PlannedFault
    from harness.ledger import AnyEntry


def unmet(plan: Plan, entries: Sequence[AnyEntry]) -> tuple[str, ...]:
    """
    Find the faults of a plan that never came into play.

    Args:
        plan: what was to go wrong.
        entries: the ledger of the run.

    Returns:
        For each of them its short form and, behind a colon, why.
    """
    struck = {entry.fault for entry in entries if isinstance(entry, Struck)}
    found = []
    for index, planned in enumerate(plan.faults):
        why = "" if index in struck else _why(planned, entries)
        if why:
            found.append(f"{planned}: {why}")
    return tuple(found)


def _why(planned: PlannedFault, entries: Sequence[AnyEntry]) -> str:
    kind = type(planned.fault)
    if kind.control or kind.market is not Fault.market:
        return ""  # it is the market's own doing, which everybody meets
    if kind.rest:
        return "" if any(isinstance(entry, Answered) for entry in entries) else "nothing was asked over REST"
    numbers = _numbers(entries)
    wanted = planned.condition.connection
    if any(number >= kind.from_connection and (wanted is None or wanted.covers(number)) for number in numbers):
        return "" if planned.from_start else "its moment on the tape did not come: no connection carried that frame"
    if not numbers:
        return "no connection was attempted"
    return f"there was no connection {max(kind.from_connection, wanted.first if wanted else 1)}"


def _numbers(entries: Sequence[AnyEntry]) -> set[int]:
    # Connections that were made or refused, and the one that was only asked for by name.
    numbers = {entry.connection for entry in entries if isinstance(entry, (Opened, Refused)) and entry.connection > 0}
    asked = sum(isinstance(entry, Noted) and entry.what == LOOK_UP and "stream" in entry.text for entry in entries)
    return numbers | {max(numbers, default=0) + 1} if asked > len(numbers) else numbers
