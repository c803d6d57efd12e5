"""Metrics: what the subject computes disagrees with the trades that it accepted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from harness import ledger as book
from harness.checks.incident import Incident
from harness.checks.tape import to_float
from harness.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from harness.checks.case import Case

SLACK_MS = 150
"""Between the exchange's clock, the subject's and ours, and for threads that are late, on a busy machine."""
TOLERANCE = 1e-6
"""Relative; doubles added up in another order."""
MIN_READS = 2
"""Wrong readings in a row: a single one may have fallen into the middle of an update."""
WHALE_NOTIONAL = 100_000.0
"""What the report's system calls a medium order, in quote currency."""


class _Taken(msgspec.Struct, frozen=True):
    """An accepted trade, as far as figures need it."""

    at_ns: int
    time_ms: int
    notional: float
    quantity: float
    sold: bool


class _Reading(msgspec.Struct, frozen=True):
    """One figure, and the bounds between which it must lie."""

    entry: book.MetricsRead
    wrong: str
    """In words; empty when it is right."""


def find(case: Case) -> list[Incident]:
    """One incident for each figure that is off, from its first wrong reading to the next right one."""
    if case.question.speed != 1.0 or not case.takes:
        return []  # windows are by exchange time, which then is not the subject's
    taken = _taken(case)
    series: dict[str, list[_Reading]] = {}
    for entry in case.entries:
        if isinstance(entry, book.MetricsRead) and entry.name.startswith(("pressure ", "whales ")):
            kind, symbol, window_s = entry.name.split()
            wrong = _wrong(kind, taken.get(symbol, []), entry, int(window_s))
            series.setdefault(entry.name, []).append(_Reading(entry, wrong))
    return [incident for name, readings in series.items() for incident in _incidents(case, name, readings)]


def _taken(case: Case) -> dict[str, list[_Taken]]:
    found: dict[str, list[_Taken]] = {}
    for take in case.takes:
        # What the subject took, right or wrong: whether that was right is other checks' business.
        recorded = case.tape.trade(take.frame) if take.frame >= 0 else take.sent
        price, quantity = to_float(take.entry.price), to_float(take.entry.quantity)
        maker = take.entry.is_buyer_maker if recorded is None else recorded.is_buyer_maker
        if recorded is None or recorded.time is None or price is None or quantity is None:
            continue
        if not (math.isfinite(price) and math.isfinite(quantity)):
            continue
        taken = _Taken(take.entry.at_ns, recorded.time, price * quantity, quantity, bool(maker))
        found.setdefault(take.symbol, []).append(taken)
    return found


def _wrong(kind: str, taken: list[_Taken], entry: book.MetricsRead, window_s: int) -> str:
    read = msgspec.json.decode(entry.value)
    slack_ns = SLACK_MS * NS_PER_MS
    length_ms = window_s * 1000
    # Surely in the window at the time of the call, and possibly.
    sure = [
        t
        for t in taken
        if t.at_ns <= entry.before_ns - slack_ns
        and read["to_ms"] - length_ms + SLACK_MS < t.time_ms <= read["from_ms"] - SLACK_MS
    ]
    possible = [
        t
        for t in taken
        if t.at_ns <= entry.at_ns + slack_ns
        and read["from_ms"] - length_ms - SLACK_MS < t.time_ms <= read["to_ms"] + SLACK_MS
    ]
    if kind == "whales":
        low, high = (sum(t.notional >= WHALE_NOTIONAL for t in trades) for trades in (sure, possible))
        return (
            ""
            if low <= read["count"] <= high
            else f"{read['count']:.0f} large orders, {_bounds(low, high)} were accepted"
        )
    # Quote or base currency is the subject's choice, as long as it is one.
    by_notional = _off(read, sure, possible, quote=True)
    return by_notional and _off(read, sure, possible, quote=False) and by_notional


def _off(read: dict[str, float], sure: list[_Taken], possible: list[_Taken], *, quote: bool) -> str:
    for side, sold in (("buy", False), ("sell", True)):
        low, high = (
            sum((t.notional if quote else t.quantity) for t in trades if t.sold == sold) for trades in (sure, possible)
        )
        if not low * (1 - TOLERANCE) - TOLERANCE <= read[side] <= high * (1 + TOLERANCE) + TOLERANCE:
            return f"a {side} volume of {read[side]:,.0f}, {_bounds(low, high)} was accepted"
    return ""


def _bounds(low: float, high: float) -> str:
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"


def _incidents(case: Case, name: str, readings: list[_Reading]) -> list[Incident]:
    kind, symbol, window_s = name.split()
    found: list[Incident] = []
    run: list[_Reading] = []
    for reading in [*readings, None]:
        if reading is not None and reading.wrong:
            run.append(reading)
            continue
        if len(run) >= MIN_READS:
            first = run[0].entry
            seconds = (run[-1].entry.at_ns - first.before_ns) / NS_PER_S
            what = "get_pressure" if kind == "pressure" else "get_recent_whales"
            found.append(
                Incident(
                    check="metrics",
                    stage="metrics",
                    start_ns=first.before_ns,
                    latest_ns=first.before_ns + case.question.deadline_ns,
                    until_ns=reading.entry.at_ns if reading is not None else None,
                    symbol=symbol,
                    wrong=len(run),
                    cause=f"{what}({symbol}, {window_s} s) said {run[0].wrong} in that window; off for {seconds:.1f} s",
                    suggestion="windows by exchange time that end now, exact numbers, a history as long as the window",
                )
            )
        run = []
    return found
