"""Left behind: tasks, threads or connections of the subject are alive after stop() returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import ledger as book
from harness.checks.incident import Incident

if TYPE_CHECKING:
    from harness.checks.case import Case


def find(case: Case) -> list[Incident]:
    """At most one incident, which names all that was left."""
    left = [entry for entry in case.afterwards if isinstance(entry, book.Noted) and entry.what == "left behind"]
    if not left:
        return []
    start_ns = case.stop_called_ns(left[0])
    more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    return [
        Incident(
            check="left_behind",
            stage="schedule",
            start_ns=start_ns,
            latest_ns=start_ns + case.question.deadline_ns,
            at_stop=True,
            cause=f"after stop() returned, {left[0].text}{more}",
            suggestion="keep a reference to every task and thread, and end them all in stop()",
            evidence=tuple(entry.text for entry in left[1:6]),
        )
    ]
