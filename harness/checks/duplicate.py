"""Duplicate: a trade was accepted more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_takes import Odd, incidents
from harness.checks.case import NEVER
from harness.checks.stale import stuck

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades accepted twice."""
    seen: set[int] = set()
    odd = []
    others = {index for first, last in stuck(case) for index in range(first, last)}
    for index, take in enumerate(case.takes):
        if take.frame < 0 or index in others:
            continue
        if take.frame in seen:
            copies = [at_ns for at_ns in case.resent.get(take.frame, ()) if at_ns <= take.entry.at_ns]
            first_ns = int(case.sent_ns[take.frame])
            struck_ns = copies[-1] if copies else min(take.entry.at_ns, first_ns if first_ns != NEVER else NEVER)
            odd.append(Odd(index=index, take=take, struck_ns=struck_ns, what="twice"))
        seen.add(take.frame)
    return incidents(
        case,
        odd,
        check="duplicate",
        stage="history",
        count="duplicated",
        cause=_cause,
        suggestion="drop ids that are not greater than the last one accepted, and count what was dropped",
    )


def _cause(case: Case, run: list[Odd]) -> str:
    trades = f"{len(run)} trade{'s' * (len(run) != 1)}"
    symbol = run[0].take.symbol
    both = [c for c in case.connections.values() if symbol in c.symbols and _open_at(c, run[0].take.entry.at_ns)]
    if len(both) > 1:
        return f"{trades} accepted twice: {len(both)} connections carry {symbol} at the same time"
    return f"{trades} accepted twice: repeated ids are not recognised"


def _open_at(connection: object, at_ns: int) -> bool:
    closed = connection.closed  # type: ignore[attr-defined] # a Connection; imported for no other reason
    return closed is None or closed.at_ns >= at_ns
