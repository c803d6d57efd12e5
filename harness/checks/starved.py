"""Starved: trades were accepted, but later than the deadline after they were sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.checks._from_loss import incident, of_kind
from harness.checks.case import NEVER
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades that came too late, or were still queued at the end."""
    found = []
    for loss, where in of_kind(case, "starved"):
        frames = np.array(loss.frames)
        taken = case.accepted_ns[frames]
        late_ns = taken - case.expected_ns[frames]
        late_ns = late_ns[taken != NEVER]
        worst = (
            f"came up to {late_ns.max() / NS_PER_S:.0f} s after they were sent"
            if len(late_ns)
            else "still wait at the end"
        )
        # A link that is slow is not the subject's work; that it falls behind must be told all the same.
        link = any(name.startswith("tcp.") for name in case.question.faults)
        who = "the link delivers ever later" if link else "the subject falls behind"
        blocked = [note for note in case.notes_about("loop", "blocked") if "blocked" in note]
        found.append(
            msgspec.structs.replace(
                incident(case, loss, where),
                stage="receive" if link else "callback",
                cause=f"{len(frames)} trades {worst}: {who} while everything looks alive",
                suggestion="measure the time from a trade's own time to its acceptance, and warn when it grows",
                evidence=tuple(blocked[:2]) + where.evidence,
            )
        )
    return found
