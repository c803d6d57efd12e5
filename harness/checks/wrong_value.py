"""Wrong value: a trade was accepted with another price, quantity, time or side than sent, or an impossible one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_takes import Odd, incidents
from harness.checks.case import NEVER
from harness.checks.tape import is_plausible, same_number

if TYPE_CHECKING:
    from harness.checks.case import Case, Take
    from harness.checks.incident import Incident
    from harness.checks.tape import Trade

SLACK_MS = 1
"""Times kept as seconds in a float lose the last millisecond."""
UNITS = (1, 1_000, 1_000_000)
"""Milliseconds, microseconds, nanoseconds: how subjects keep times."""


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades with wrong values."""
    unit = _unit(case)
    odd = []
    for index, take in enumerate(case.takes):
        recorded = case.tape.trade(take.frame) if take.frame >= 0 else take.sent
        if recorded is None:
            continue
        wrong = _wrong(take, recorded, unit)
        if wrong and take.sent is not None and is_plausible(take.sent, recorded):
            wrong = _wrong(take, take.sent, unit)
        if wrong:
            sent_ns = int(case.sent_ns[take.frame]) if take.frame >= 0 else take.entry.at_ns
            struck_ns = sent_ns if sent_ns != NEVER else take.entry.at_ns
            odd.append(Odd(index=index, take=take, struck_ns=struck_ns, what=wrong))
    return incidents(
        case,
        odd,
        check="wrong_value",
        stage="parse",
        count="wrong",
        cause=_cause,
        suggestion="validate: price and quantity positive and finite, no default for a missing field, exact numbers",
    )


def _wrong(take: Take, right: Trade, unit: int) -> str:
    entry = take.entry
    if not same_number(entry.price, right.price):
        return f"price {entry.price or 'nothing'}, sent {right.price}"
    if entry.quantity and not same_number(entry.quantity, right.quantity):
        return f"quantity {entry.quantity}, sent {right.quantity}"
    if entry.is_buyer_maker is not None and right.is_buyer_maker not in (None, entry.is_buyer_maker):
        sides = {True: "sell", False: "buy"}
        return f"side {sides[entry.is_buyer_maker]}, sent {sides[bool(right.is_buyer_maker)]}"
    if unit and entry.trade_time is not None and not _same_time(entry.trade_time, right, unit):
        return f"time {entry.trade_time}, sent {right.time}"
    return ""


def _same_time(time: int, right: Trade, unit: int) -> bool:
    # Whether a subject keeps the trade's or the event's time is its own choice.
    known = [t for t in (right.time, right.event_time) if t is not None]
    return not known or any(abs(time / unit - t) <= SLACK_MS for t in known)


def _unit(case: Case) -> int:
    # In which unit, and of which time, the subject keeps times: learnt from the trades that went out
    # untouched. 0 when it fits none (the time of receipt, say), and then times are not compared.
    plain = [t for t in case.takes if t.frame >= 0 and t.sent is None and t.entry.trade_time is not None][:50]
    if not plain:
        return 1
    for unit in UNITS:
        fitting = 0
        for take in plain:
            trade = case.tape.trade(take.frame)
            fitting += trade is not None and _same_time(take.entry.trade_time or 0, trade, unit)
        if fitting * 2 >= len(plain):
            return unit
    return 0


def _cause(case: Case, run: list[Odd]) -> str:
    take = run[0].take
    faults = [case.fault_name(fault) for _, _, fault in case.changed.get(take.frame, ())]
    origin = f" ({faults[-1]})" if faults and faults[-1] else ""
    number = "" if take.entry.trade_id is None else f" {take.entry.trade_id}"
    if len(run) == 1:
        return f"trade{number} was accepted with {run[0].what}{origin}"
    return f"{len(run)} trades were accepted with wrong values{origin}, the first{number} with {run[0].what}"
