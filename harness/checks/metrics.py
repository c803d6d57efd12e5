"""Metrics: what the subject computes disagrees with the trades that it accepted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness import ledger as book
from harness.checks.incident import Incident
from harness.checks.tape import to_float
from harness.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.checks.case import Case

SLACK_MS = 150
"""Between the exchange's clock, the subject's and ours, and for threads that are late, on a busy machine."""
TOLERANCE = 1e-6
"""Relative; doubles added up in another order."""
MIN_READS = 2
"""Wrong readings in a row: a single one may have fallen into the middle of an update."""
WHALE_NOTIONAL = 100_000.0
"""What the report's system calls a medium order, in quote currency."""


class _Taken:
    """Accepted trades of a symbol as columns, by exchange time."""

    def __init__(self, rows: list[tuple[int, int, float, float, bool]]) -> None:
        ordered = sorted(rows, key=lambda row: row[1])
        self.at_ns = np.array([row[0] for row in ordered], dtype=np.int64)
        self.time_ms = np.array([row[1] for row in ordered], dtype=np.int64)
        self.notional = np.array([row[2] for row in ordered], dtype=np.float64)
        self.quantity = np.array([row[3] for row in ordered], dtype=np.float64)
        self.sold = np.array([row[4] for row in ordered], dtype=bool)

    def window(self, *, after_ms: int, upto_ms: int, taken_by_ns: int) -> NDArray[np.int64]:
        """Which trades lie in a window of exchange time and had been taken by then."""
        first = int(np.searchsorted(self.time_ms, after_ms, side="right"))
        last = int(np.searchsorted(self.time_ms, upto_ms, side="right"))
        rows = np.arange(first, max(first, last))
        return rows[self.at_ns[rows] <= taken_by_ns]


class _Reading(msgspec.Struct, frozen=True):
    """One figure, and the bounds between which it must lie."""

    entry: book.MetricsRead
    wrong: str
    """In words; empty when it is right."""


def find(case: Case) -> list[Incident]:
    """One incident for each figure that is off, from its first wrong reading to the next right one."""
    if case.question.speed != 1.0 or not case.takes:
        return []  # windows are by exchange time, which then is not the subject's
    taken = {symbol: _Taken(rows) for symbol, rows in _taken(case).items()}
    series: dict[str, list[_Reading]] = {}
    for entry in case.entries:
        if isinstance(entry, book.MetricsRead) and entry.name.startswith(("pressure ", "whales ")):
            wrong = _concluded(case, taken, entry)
            series.setdefault(entry.name, []).append(_Reading(entry, wrong))
    return [incident for name, readings in series.items() for incident in _incidents(case, name, readings)]


def _concluded(case: Case, taken: dict[str, _Taken], entry: book.MetricsRead) -> str:
    key = (entry.name, entry.at_ns)
    known = case.tape.readings.get(key)
    if known is not None:
        return known
    kind, symbol, window_s = entry.name.split()
    wrong = _wrong(kind, taken.get(symbol, _Taken([])), entry, int(window_s))
    if entry.at_ns + SLACK_MS * NS_PER_MS < case.question.closed_ns:
        case.tape.readings[key] = wrong
    return wrong


def _taken(case: Case) -> dict[str, list[tuple[int, int, float, float, bool]]]:
    found: dict[str, list[tuple[int, int, float, float, bool]]] = {}
    for take in case.takes:
        # What the subject took, right or wrong: whether that was right is other checks' business.
        recorded = case.tape.trade(take.frame) if take.frame >= 0 else take.sent
        price, quantity = to_float(take.entry.price), to_float(take.entry.quantity)
        maker = take.entry.is_buyer_maker if recorded is None else recorded.is_buyer_maker
        if recorded is None or recorded.time is None or price is None or quantity is None:
            continue
        if math.isfinite(price) and math.isfinite(quantity):
            row = (take.entry.at_ns, recorded.time, price * quantity, quantity, bool(maker))
            found.setdefault(take.symbol, []).append(row)
    return found


def _wrong(kind: str, taken: _Taken, entry: book.MetricsRead, window_s: int) -> str:
    read = msgspec.json.decode(entry.value)
    slack_ns = SLACK_MS * NS_PER_MS
    length_ms = window_s * 1000
    # Surely in the window at the time of the call, and possibly.
    sure = taken.window(
        after_ms=read["to_ms"] - length_ms + SLACK_MS,
        upto_ms=read["from_ms"] - SLACK_MS,
        taken_by_ns=entry.before_ns - slack_ns,
    )
    possible = taken.window(
        after_ms=read["from_ms"] - length_ms - SLACK_MS,
        upto_ms=read["to_ms"] + SLACK_MS,
        taken_by_ns=entry.at_ns + slack_ns,
    )
    if kind == "whales":
        low, high = (int((taken.notional[rows] >= WHALE_NOTIONAL).sum()) for rows in (sure, possible))
        return (
            ""
            if low <= read["count"] <= high
            else f"{read['count']:.0f} large orders, {_bounds(low, high)} were accepted"
        )
    # Quote or base currency is the subject's choice, as long as it is one.
    by_notional = _off(read, taken, taken.notional, sure, possible)
    return by_notional and _off(read, taken, taken.quantity, sure, possible) and by_notional


def _off(
    read: dict[str, float],
    taken: _Taken,
    volume: NDArray[np.float64],
    sure: NDArray[np.int64],
    possible: NDArray[np.int64],
) -> str:
    for side, sold in (("buy", False), ("sell", True)):
        low, high = (float(volume[rows][taken.sold[rows] == sold].sum()) for rows in (sure, possible))
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
