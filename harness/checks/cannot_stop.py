"""Cannot stop: stop() hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import ledger as book
from harness.checks.incident import Incident

if TYPE_CHECKING:
    from harness.checks.case import Case


def find(case: Case) -> list[Incident]:
    """At most one incident: there is one stop."""
    for entry in case.afterwards:
        if isinstance(entry, book.Noted) and entry.what == "stop hung":
            return [
                Incident(
                    check="cannot_stop",
                    stage="schedule",
                    start_ns=(start_ns := case.stop_called_ns(entry)),
                    latest_ns=start_ns + case.question.deadline_ns,
                    at_stop=True,
                    cause=entry.text,
                    suggestion="cancel the tasks, close the connections with a timeout, and wait for both with a limit",
                )
            ]
    return []
