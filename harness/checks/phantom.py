"""Phantom: something was accepted as a trade that the exchange never sent as one."""

from __future__ import annotations

import bisect
import operator
from typing import TYPE_CHECKING

from harness.checks._from_takes import Odd, incidents

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades out of nowhere."""
    odd = []
    for index, take in enumerate(case.takes):
        number = take.entry.trade_id
        if take.frame >= 0 or take.sent is not None or take.symbol not in case.question.symbols:
            continue  # `wrong_symbol` has the foreign ones
        elsewhere = number is not None and case.tape.symbols_with(number)
        if not elsewhere:
            odd.append(Odd(index=index, take=take, struck_ns=_latest(case, take.entry.at_ns)[0], what="phantom"))
    return incidents(
        case,
        odd,
        check="phantom",
        stage="parse",
        count="wrong",
        cause=_cause,
        suggestion='accept only what has `"e": "aggTrade"` and every field; no defaults for missing ones',
    )


def _latest(case: Case, at_ns: int) -> tuple[int, bytes]:
    # What was sent in place of, or beside, recorded frames most recently, and when.
    place = bisect.bisect_right(case.foreign, at_ns, key=operator.itemgetter(0))
    return case.foreign[place - 1] if place else (at_ns, b"")


def _cause(case: Case, run: list[Odd]) -> str:
    entry = run[0].take.entry
    _, data = _latest(case, entry.at_ns)
    behind = f"; the exchange had sent `{data[:60].decode('utf-8', 'backslashreplace')}`" if data else ""
    what = f"{len(run)} trades were" if len(run) > 1 else "a trade was"
    return f"{what} accepted that the market never made: id {entry.trade_id}, price {entry.price or 'none'}{behind}"
