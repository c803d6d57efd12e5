"""Stopped: from some moment on, or from the first, no trade was accepted any more, to the end of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_loss import incident, of_kind

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each symbol whose trades stopped."""
    return [incident(case, loss, where) for loss, where in of_kind(case, "stopped")]
