"""Metrics: what the subject computes disagrees with the trades that it accepted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from harness import ledger as book
from harness.checks._figures import SLACK_MS, Meaning, Taken, meanings
from harness.checks.incident import Incident
from harness.checks.tape import is_plausible, to_float
from harness.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from harness.checks.case import Case, Take
    from harness.checks.tape import Trade

TOLERANCE = 1e-6
"""Relative; doubles added up in another order."""
MIN_READS = 2
"""Wrong readings in a row: a single one may have fallen into the middle of an update."""
MIN_FITS = 3
"""Readings in a row that show how a figure is meant."""
DECIMALS_MAX = 8
"""A figure that shows more of them is not rounded."""

ROUNDING_MAX = 0.02
"""Of the largest figure: nobody rounds a pressure of 0.7 to 1."""

METHODS = {"pressure": "get_pressure", "whales": "get_recent_whales", "metrics": "get_metrics", "cvd": "get_cvd"}
WORDS = {
    "buy": "a buy volume of {}",
    "sell": "a sell volume of {}",
    "delta": "a delta volume of {}",
    "cvd": "a CVD of {}",
    "slope": "a CVD slope of {}",
    "pressure": "a pressure of {}",
    "count": "{} large orders",
}
PLAIN = frozenset({"buy", "sell", "count", "side", "slope"})
"""Figures that can be meant in one way only, or in either currency; for the others a subject may have its own idea."""
WINDOWS = "windows by exchange time that end now, exact numbers, a history as long as the window"
SIGNS = "bought minus sold, each trade once and oldest first; `m` true means that the taker sold"


class _Reading(msgspec.Struct, frozen=True):
    """One figure as it was read, and what it may be."""

    entry: book.MetricsRead
    claim: float
    meanings: list[Meaning]


class _Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """A run of wrong readings of one figure."""

    what: tuple[str, str]
    """Question and figure."""
    symbol: str
    start_ns: int
    until_ns: int | None
    count: int
    cause: str
    suggestion: str


def find(case: Case) -> list[Incident]:
    """One incident for each stretch in which figures of a symbol are off."""
    if case.question.speed != 1.0 or not case.takes:
        return []  # windows are by exchange time, which then is not the subject's
    wrong = [
        stretch for (name, figure), series in _series(case).items() for stretch in _stretches(name, figure, series)
    ]
    return _merged(case, sorted(wrong, key=lambda one: (one.symbol, one.start_ns)))


def _series(case: Case) -> dict[tuple[str, str], list[_Reading]]:
    taken: dict[str, Taken] = {}
    series: dict[tuple[str, str], list[_Reading]] = {}
    for entry in case.entries:
        if not isinstance(entry, book.MetricsRead) or entry.name.split(" ", 1)[0] not in METHODS:
            continue
        taken = taken or {symbol: Taken(rows) for symbol, rows in _rows(case).items()}
        read = msgspec.json.decode(entry.value)
        for figure, ways in _meanings(case, taken, entry, read).items():
            if isinstance(read[figure], (int, float)):
                series.setdefault((entry.name, figure), []).append(_Reading(entry, read[figure], ways))
    return series


def _meanings(
    case: Case, taken: dict[str, Taken], entry: book.MetricsRead, read: dict[str, Any]
) -> dict[str, list[Meaning]]:
    key = (entry.name, entry.at_ns)
    known = case.tape.readings.get(key)
    if known is not None:
        return known
    kind, symbol, window_s = entry.name.split()
    span_ns = (entry.before_ns, entry.at_ns)
    found = meanings(kind, read, taken.get(symbol, Taken([])), window_s=int(window_s), span_ns=span_ns)
    if entry.at_ns + SLACK_MS * NS_PER_MS < case.question.closed_ns:
        case.tape.readings[key] = found
    return found


def _rows(case: Case) -> dict[str, list[tuple[int, int, float, float, bool]]]:
    found: dict[str, list[tuple[int, int, float, float, bool]]] = {}
    for take in case.takes:
        # What the subject took, right or wrong: whether that was right is other checks' business.
        sent = _as_taken(case, take)
        price, quantity = to_float(take.entry.price), to_float(take.entry.quantity)
        if sent is None or sent.time is None or price is None or quantity is None:
            continue
        if math.isfinite(price) and math.isfinite(quantity):
            row = (take.entry.at_ns, sent.time, price * quantity, quantity, bool(sent.is_buyer_maker))
            found.setdefault(take.symbol, []).append(row)
    return found


def _as_taken(case: Case, take: Take) -> Trade | None:
    # A frame that was changed on the wire may have been fetched as it was: what the subject shows tells which it took.
    recorded = case.tape.trade(take.frame) if take.frame >= 0 else None
    shown, changed = take.entry, take.sent
    if changed is None or (recorded is not None and not is_plausible(changed, recorded)):
        return recorded
    other_side = shown.is_buyer_maker not in (None, changed.is_buyer_maker)
    other_time = shown.trade_time not in (None, changed.time)
    return recorded if recorded is not None and (other_side or other_time) else changed


# --- One figure ---------------------------------------------------------------------------------


def _stretches(name: str, figure: str, series: list[_Reading]) -> list[_Wrong]:
    rounding = _rounding(series)
    fits = [[_fits(reading.claim, way, rounding) for way in reading.meanings] for reading in series]
    ways = range(len(series[0].meanings))
    right = [way for way in ways if not series[0].meanings[way].mistake]
    understood = [way for way in right if figure in PLAIN or _shown(series, fits, way)]
    # A mistake is one only where nothing else explains the figure.
    odd = [[fit and not any(row[way] for way in right) for fit in row] for row in fits]
    mistakes = [way for way in ways if way not in right and _shown(series, odd, way)]
    if understood:
        # One meaning holds for the whole run: the one that excuses most.
        meant = max(understood, key=lambda way: sum(row[way] for row in fits))
        bad = [not row[meant] for row in fits]
        return _runs(name, figure, series, bad, meant)
    if mistakes:
        meant = max(mistakes, key=lambda way: sum(row[way] for row in fits))
        return _runs(
            name, figure, series, [row[meant] and bool(r.claim) for row, r in zip(fits, series, strict=True)], meant
        )
    return []


def _fits(claim: float, way: Meaning, rounding: float) -> bool:
    low, high = way.bounds
    slack = TOLERANCE * max(abs(bound) for bound in (*way.bounds, 1.0) if math.isfinite(bound)) + rounding
    return low - slack <= claim <= high + slack


def _shown(series: list[_Reading], fits: list[list[bool]], way: int) -> bool:
    # Whether this is what a figure means: it fitted several times in a row where it could have been contradicted.
    in_a_row = 0
    for reading, row in zip(series, fits, strict=True):
        low, high = reading.meanings[way].bounds
        if low > 0 or high < 0:
            in_a_row = in_a_row + 1 if row[way] else 0
            if in_a_row == MIN_FITS:
                return True
    return False


def _rounding(series: list[_Reading]) -> float:
    # How much a subject that rounds may be off: by half of its last decimal, as long as that is little.
    largest = max(abs(r.claim) for r in series)
    decimals = max(len(f"{r.claim:.10f}".rstrip("0").partition(".")[2]) for r in series)
    return 0.0 if decimals > DECIMALS_MAX else min(0.5 * 10.0**-decimals, ROUNDING_MAX * largest)


def _runs(name: str, figure: str, series: list[_Reading], bad: list[bool], meant: int) -> list[_Wrong]:
    found, first = [], 0
    while first < len(series):
        last = first
        while last < len(series) and bad[last]:
            last += 1
        if last - first >= MIN_READS:
            found.append(_wrong(name, figure, series[first:last], series[last] if last < len(series) else None, meant))
        first = last + 1
    return found


def _wrong(name: str, figure: str, run: list[_Reading], after: _Reading | None, meant: int) -> _Wrong:
    kind, symbol, window_s = name.split()
    seconds = (run[-1].entry.at_ns - run[0].entry.before_ns) / NS_PER_S
    way = run[0].meanings[meant]
    return _Wrong(
        what=(kind, figure),
        symbol=symbol,
        start_ns=run[0].entry.before_ns,
        until_ns=after.entry.at_ns if after is not None else None,
        count=len(run),
        cause=f"{METHODS[kind]}({symbol}, {window_s} s) said {_said(figure, run[0].claim, way)}; "
        f"off for {seconds:.1f} s",
        suggestion=SIGNS if figure in ("delta", "cvd", "slope", "side") else WINDOWS,
    )


def _said(figure: str, claim: float, way: Meaning) -> str:
    if figure == "side":
        sides = ("buyers", "sellers") if claim > 0 else ("sellers", "buyers")
        return "that {} lead, and by the trades accepted in that window {} do".format(*sides)
    said = WORDS[figure].format(_number(claim))
    if figure == "slope":
        return f"{said}, and the trades accepted in that window {'fall' if claim > 0 else 'rise'}"
    if way.mistake:
        return f"{said}: {way.mistake}"
    return f"{said}, and the trades accepted make {_between(*way.bounds)}"


def _between(low: float, high: float) -> str:
    return _number(low) if _number(low) == _number(high) else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:,.3g}"


# --- All figures ----------------------------------------------------------------------------------


def _merged(case: Case, wrong: list[_Wrong]) -> list[Incident]:
    # Figures of one symbol that are off at the same time have one cause.
    groups: list[list[_Wrong]] = []
    end_ns = 0
    for one in wrong:
        if groups and groups[-1][0].symbol == one.symbol and one.start_ns <= end_ns:
            groups[-1].append(one)
        else:
            groups.append([one])
            end_ns = 0
        end_ns = max(end_ns, case.question.closed_ns if one.until_ns is None else one.until_ns)
    return [_incident(case, group) for group in groups]


def _incident(case: Case, group: list[_Wrong]) -> Incident:
    first = group[0]
    # The same figure in a longer window says nothing new.
    others = list({one.what: one.cause for one in reversed(group) if one.what != first.what}.values())[::-1]
    ends = [one.until_ns for one in group]
    also = f" (and {len(others)} more figures)" if len(others) > 1 else " (and one more figure)" if others else ""
    return Incident(
        check="metrics",
        stage="metrics",
        start_ns=first.start_ns,
        latest_ns=first.start_ns + case.question.deadline_ns,
        until_ns=None if None in ends else max(end for end in ends if end is not None),
        symbol=first.symbol,
        wrong=sum(one.count for one in group),
        cause=first.cause + also,
        suggestion=first.suggestion,
        evidence=tuple(others[:5]),
    )
