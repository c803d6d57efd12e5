"""What the figures of a subject may be, worked out a second time from the trades that it took.

A figure is read from another thread while trades arrive, so it gets bounds and no value: between the trades
surely in its window at the time of the call and those possibly in it. How a figure is meant (base or quote
currency, a window or all since the start) is the subject's choice: each meaning has its own bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.clock import NS_PER_MS

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK_MS = 150
"""Between the exchange's clock, the subject's and ours, and for threads that are late, on a busy machine."""
WHALE_NOTIONAL = 100_000.0
"""What the report's system calls a medium order, in quote currency."""
LOPSIDED = 0.2
"""From this share of the volume on, bought minus sold, one side leads whatever a subject calls balanced."""
MIN_CURVE = 10
"""Fewer trades have no slope worth an argument."""
CURVE_POINTS = 30
ANYTHING = (-np.inf, np.inf)

Bounds = tuple[float, float]


class Meaning(msgspec.Struct, frozen=True):
    """One way to read a figure: the bounds of a right value, in one reading."""

    bounds: Bounds
    mistake: str = ""
    """What is wrong with a figure that fits here; empty: it is right."""


class Taken:
    """
    Accepted trades of a symbol as columns, by exchange time.

    Args:
        rows: for each trade when it was taken, its exchange time, notional, quantity, and whether the taker sold.
    """

    def __init__(self, rows: list[tuple[int, int, float, float, bool]]) -> None:
        ordered = sorted(rows, key=lambda row: row[1])
        self.at_ns = np.array([row[0] for row in ordered], dtype=np.int64)
        self.time_ms = np.array([row[1] for row in ordered], dtype=np.int64)
        self.notional = np.array([row[2] for row in ordered], dtype=np.float64)
        self.quantity = np.array([row[3] for row in ordered], dtype=np.float64)
        self.sign = np.array([-1.0 if row[4] else 1.0 for row in ordered], dtype=np.float64)

    def window(self, *, after_ms: int, upto_ms: int, taken_by_ns: int) -> NDArray[np.int64]:
        """Which trades lie in a window of exchange time and had been taken by then."""
        first = int(np.searchsorted(self.time_ms, after_ms, side="right"))
        last = int(np.searchsorted(self.time_ms, upto_ms, side="right"))
        rows = np.arange(first, max(first, last))
        return rows[self.at_ns[rows] <= taken_by_ns]

    def by(self, taken_by_ns: int) -> NDArray[np.int64]:
        """Which trades had been taken by then, however old."""
        return np.flatnonzero(self.at_ns <= taken_by_ns)


class Sides(msgspec.Struct, frozen=True):
    """Bounds of what was bought and sold, in one currency."""

    buy: Bounds
    sell: Bounds

    @property
    def net(self) -> Bounds:
        """Bought minus sold."""
        return self.buy[0] - self.sell[1], self.buy[1] - self.sell[0]

    @property
    def gross(self) -> Bounds:
        """Bought and sold together."""
        return self.buy[0] + self.sell[0], self.buy[1] + self.sell[1]

    @property
    def ratio(self) -> Bounds:
        """Bought minus sold by both together, from -1 to 1."""
        if not self.gross[1]:
            return 0.0, 0.0
        if not self.gross[0]:
            return -1.0, 1.0
        low = (self.buy[0] - self.sell[1]) / (self.buy[0] + self.sell[1])
        return low, (self.buy[1] - self.sell[0]) / (self.buy[1] + self.sell[0])


def meanings(
    kind: str, read: dict[str, Any], taken: Taken, *, window_s: int, span_ns: Bounds
) -> dict[str, list[Meaning]]:
    """
    Work out what each figure of one reading may be.

    Args:
        kind: of the question: `pressure`, `whales`, `metrics`, `cvd`.
        read: the figures by name, and the wall times `from_ms` and `to_ms` between which they were read.
        taken: trades of the symbol.
        window_s: that was asked for.
        span_ns: monotonic times between which they were read.
    """
    length_ms, slack_ns = window_s * 1000, SLACK_MS * NS_PER_MS
    sure_ns, possible_ns = int(span_ns[0]) - slack_ns, int(span_ns[1]) + slack_ns
    sure = taken.window(
        after_ms=read["to_ms"] - length_ms + SLACK_MS, upto_ms=read["from_ms"] - SLACK_MS, taken_by_ns=sure_ns
    )
    possible = taken.window(
        after_ms=read["from_ms"] - length_ms - SLACK_MS, upto_ms=read["to_ms"] + SLACK_MS, taken_by_ns=possible_ns
    )
    if kind == "whales":
        low, high = (float((taken.notional[rows] >= WHALE_NOTIONAL).sum()) for rows in (sure, possible))
        return {"count": [Meaning((low, high))]}
    inside = [_sides(taken, volume, sure, possible) for volume in (taken.notional, taken.quantity)]
    found: dict[str, list[Meaning]] = {}
    for name in read:
        if name in ("buy", "sell"):
            found[name] = [Meaning(getattr(sides, name)) for sides in inside]
        elif name == "delta":
            found[name] = _deltas(inside)
        elif name == "cvd":
            rows = taken.by(sure_ns), taken.by(possible_ns)
            since_start = [_sides(taken, volume, *rows) for volume in (taken.notional, taken.quantity)]
            found[name] = _deltas([*since_start, *inside])
        elif name == "pressure":
            found[name] = [Meaning(bounds) for sides in inside for bounds in _pressures(sides)]
        elif name == "side":
            found[name] = [Meaning(_one_sided(_leader(inside)))]
        elif name == "slope":
            found[name] = [Meaning(_one_sided(_trend(taken, possible, read["to_ms"], window_s, _leader(inside))))]
    return found


def _sides(taken: Taken, volume: NDArray[np.float64], sure: NDArray[np.int64], possible: NDArray[np.int64]) -> Sides:
    buy, sell = (
        (
            float(volume[sure][taken.sign[sure] == sign].sum()),
            float(volume[possible][taken.sign[possible] == sign].sum()),
        )
        for sign in (1.0, -1.0)
    )
    return Sides(buy, sell)


def _deltas(ways: list[Sides]) -> list[Meaning]:
    right = [Meaning(sides.net) for sides in ways]
    turned = [Meaning((-sides.net[1], -sides.net[0]), "its sign is turned round: `m` true is a sale") for sides in ways]
    twice = [Meaning((2 * sides.net[0], 2 * sides.net[1]), "every trade counts twice") for sides in ways]
    gross = [Meaning(sides.gross, "what was sold is added, not subtracted") for sides in ways]
    return [*right, *turned, *twice, *gross]


def _pressures(sides: Sides) -> list[Bounds]:
    # From -1 to 1, or the share that was bought; as a fraction or in per cent.
    low, high = sides.ratio
    return [(low, high), (100 * low, 100 * high), ((low + 1) / 2, (high + 1) / 2), (50 * (low + 1), 50 * (high + 1))]


def _leader(ways: list[Sides]) -> int:
    # 1 when more was bought in either currency, -1 when more was sold, 0 when that can be argued.
    for sign in (1, -1):
        if all(min(sign * sides.ratio[0], sign * sides.ratio[1]) > LOPSIDED for sides in ways):
            return sign
    return 0


def _one_sided(sign: int) -> Bounds:
    return {1: (0.0, np.inf), -1: (-np.inf, 0.0)}.get(sign, ANYTHING)


def _trend(taken: Taken, rows: NDArray[np.int64], end_ms: int, window_s: int, leader: int) -> int:
    # There are many ways to draw a line through a curve: only where all agree is there one sign.
    if not leader or len(rows) < MIN_CURVE:
        return 0
    grid = end_ms - window_s * 1000 + np.arange(CURVE_POINTS + 1) * (window_s * 1000 / CURVE_POINTS)
    for volume in (taken.notional, taken.quantity):
        curve = np.cumsum(taken.sign[rows] * volume[rows])
        steps = np.searchsorted(taken.time_ms[rows], grid, side="right")
        timed = np.concatenate(([0.0], curve))[steps]
        if any(_slope(line) * leader <= 0 for line in (curve, timed)):
            return 0
    return leader


def _slope(line: NDArray[np.float64]) -> float:
    places = np.arange(len(line)) - (len(line) - 1) / 2
    return float((places * (line - line.mean())).sum())
