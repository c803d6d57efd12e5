"""Gap: trades in the middle are missing, and later ones were accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_loss import incident, of_kind

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each maximal stretch of missing trades."""
    return [incident(case, loss, where) for loss, where in of_kind(case, "gap")]
