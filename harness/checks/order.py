"""Order: trades were accepted in another order than the market made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_takes import Odd, incidents
from harness.checks.case import NEVER

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades out of order, or of ids that went astray."""
    furthest: dict[str, int] = {}
    seen: set[int] = set()
    odd = []
    for index, take in enumerate(case.takes):
        number = take.entry.trade_id
        renumbered = take.sent is not None and number is not None and case.tape.frame_of(take.symbol, number) is None
        if take.frame < 0 or (take.frame in seen and not renumbered):
            continue  # phantoms and duplicates are other checks' business
        seen.add(take.frame)
        late = take.frame < furthest.get(take.symbol, -1)
        # What was fetched over REST to fill a hole may come behind newer trades.
        if renumbered or (late and not case.fetched(take.symbol, take.frame, take.entry.at_ns)):
            sent_ns = int(case.sent_ns[take.frame])
            struck_ns = sent_ns if sent_ns != NEVER else take.entry.at_ns
            odd.append(Odd(index=index, take=take, struck_ns=struck_ns, what="renumbered" if renumbered else "late"))
        furthest[take.symbol] = max(take.frame, furthest.get(take.symbol, -1))
    return incidents(
        case,
        odd,
        check="order",
        stage="history",
        count="wrong",
        cause=_cause,
        suggestion="sort by agg trade id before use, or refuse what is older than the last one, and say so",
    )


def _cause(case: Case, run: list[Odd]) -> str:  # noqa: ARG001 - the signature that all causes share
    trades = f"{len(run)} trade{'s' * (len(run) != 1)}"
    number = run[0].take.entry.trade_id
    if run[0].what == "renumbered":
        return f"the ids jumped to {number}, which continues nothing, and {trades} were accepted as if it did"
    return f"{trades} accepted behind newer ones (the first is id {number}): history is not in the order of the market"
