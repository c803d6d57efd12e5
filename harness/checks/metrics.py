"""Metrics: what the subject computes disagrees with the trades that it accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:  # noqa: ARG001 - the signature that all checks share
    """One incident for each metric that is off."""
    return []
