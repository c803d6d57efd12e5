"""Never connected: the subject was started and never got as far as subscribing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_loss import incident, of_kind

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each symbol that was asked for and never subscribed."""
    return [incident(case, loss, where) for loss, where in of_kind(case, "never_connected")]
