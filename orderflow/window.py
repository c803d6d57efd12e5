"""Sums over time windows, exact, at a cost that does not grow with the window.

Running totals are kept beside the times of the trades. The sum over a window is the difference of two totals;
where the window begins is remembered for each length asked for, and only moves forward as time does. So a trade costs
the same with a thousand or a hundred thousand trades in the window, and integers make it exact.

    times    | t0  t1  t2  t3  t4  t5 |
    bought   | b0  b1  b2  b3  b4  b5 |    sum over (t2, t5] = b5 - b2
                        └─ begin of the 30 s window, moves right
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

# Dropped trades are removed from the lists in blocks, so that removal costs next to nothing for each.
_COMPACT_AT = 4096


class Sums(msgspec.Struct, frozen=True):
    """What was traded in a window."""

    bought_notional: int
    """By takers who bought, price times quantity in 1e-16."""
    sold_notional: int
    bought_quantity: int
    """In 1e-8."""
    sold_quantity: int
    count: int


class TradeWindow:
    """
    The trades of one symbol by time, for sums over any window.

    Args:
        max_age_ms: trades older than the newest by more than this are forgotten.
        max_count: and all beyond so many.
    """

    def __init__(self, max_age_ms: int, max_count: int) -> None:
        self._max_age_ms = max_age_ms
        self._max_count = max_count
        self._times: list[int] = []
        # Totals up to and including each trade; [i] belongs to _times[i].
        self._bought_notional: list[int] = []
        self._sold_notional: list[int] = []
        self._bought_quantity: list[int] = []
        self._sold_quantity: list[int] = []
        self._dropped = 0  # entries at the front that are forgotten but not yet removed; their totals serve as base
        self._removed = 0  # entries removed since the start: positions of begins are counted from there
        self._base = (0, 0, 0, 0)  # totals before the first entry in the lists
        self._begins: dict[int, tuple[int, int]] = {}  # window -> (threshold it was computed for, absolute position)

    def __len__(self) -> int:
        return len(self._times) - self._dropped

    @property
    def first_ms(self) -> int | None:
        """Time of the oldest trade kept; None when there is none."""
        return self._times[self._dropped] if len(self) else None

    @property
    def last_ms(self) -> int | None:
        """Time of the newest trade; None when there is none."""
        return self._times[-1] if len(self) else None

    def add(self, time_ms: int, notional: int, quantity: int, *, bought: bool) -> None:
        """
        Take in a trade.

        Args:
            time_ms: exchange time. Ids, not times, order trades, so a time may lie a little before the last one.
            notional: price times quantity in 1e-16, zero or more.
            quantity: in 1e-8, zero or more.
            bought: the taker bought.
        """
        times = self._times
        if times and time_ms < times[-1]:
            self._insert(time_ms, notional, quantity, bought=bought)
        else:
            if times:
                totals = self._totals(len(times))
            else:
                totals = self._base
            times.append(time_ms)
            if bought:
                self._bought_notional.append(totals[0] + notional)
                self._sold_notional.append(totals[1])
                self._bought_quantity.append(totals[2] + quantity)
                self._sold_quantity.append(totals[3])
            else:
                self._bought_notional.append(totals[0])
                self._sold_notional.append(totals[1] + notional)
                self._bought_quantity.append(totals[2])
                self._sold_quantity.append(totals[3] + quantity)
        self._forget(times[-1] - self._max_age_ms)

    def _insert(self, time_ms: int, notional: int, quantity: int, *, bought: bool) -> None:
        at = bisect_right(self._times, time_ms)
        if at < self._dropped or (at == 0 and self._removed):
            return  # older than all that is kept
        before = self._totals(at)
        self._times.insert(at, time_ms)
        self._bought_notional.insert(at, before[0])
        self._sold_notional.insert(at, before[1])
        self._bought_quantity.insert(at, before[2])
        self._sold_quantity.insert(at, before[3])
        money, amount = (
            (self._bought_notional, self._bought_quantity) if bought else (self._sold_notional, self._sold_quantity)
        )
        for index in range(at, len(self._times)):
            money[index] += notional
            amount[index] += quantity
        self._begins.clear()

    def _totals(self, position: int) -> tuple[int, int, int, int]:
        # Totals of everything before the entry at this position.
        if position == 0:
            return self._base
        at = position - 1
        return (
            self._bought_notional[at], self._sold_notional[at], self._bought_quantity[at], self._sold_quantity[at]
        )  # fmt: skip

    def _forget(self, until_ms: int) -> None:
        times, dropped = self._times, self._dropped
        if times[dropped] >= until_ms and len(times) - dropped <= self._max_count:
            return
        while times[dropped] < until_ms or len(times) - dropped > self._max_count:
            dropped += 1
        self._dropped = dropped
        if dropped >= _COMPACT_AT and dropped * 2 >= len(times):
            self._base = self._totals(dropped)
            for column in (
                times, self._bought_notional, self._sold_notional, self._bought_quantity, self._sold_quantity
            ):  # fmt: skip
                del column[:dropped]
            self._removed += dropped
            self._dropped = 0

    def sums(self, window_ms: int, now_ms: int) -> Sums:
        """
        Add up the trades with `now_ms - window_ms < time <= now_ms`.

        Args:
            window_ms: length, milliseconds.
            now_ms: exchange time at which the window ends.
        """
        times = self._times
        end = len(times) if not times or now_ms >= times[-1] else bisect_right(times, now_ms)
        begin = min(self._begin(window_ms, now_ms - window_ms), end)
        upto, before = self._totals(end), self._totals(begin)
        return Sums(upto[0] - before[0], upto[1] - before[1], upto[2] - before[2], upto[3] - before[3], end - begin)

    def _begin(self, window_ms: int, threshold_ms: int) -> int:
        # The first entry later than the threshold.
        times = self._times
        known = self._begins.get(window_ms)
        if known is None or known[0] > threshold_ms:
            begin = bisect_right(times, threshold_ms)
            if len(self._begins) >= 64:  # lengths asked for are few; a caller who makes them up must not fill memory
                self._begins.clear()
        else:
            begin = max(known[1] - self._removed, 0)
            if begin < len(times) and times[begin] <= threshold_ms:
                begin = self._advance(begin, threshold_ms)
        begin = max(begin, self._dropped)
        self._begins[window_ms] = (threshold_ms, begin + self._removed)
        return begin

    def _advance(self, begin: int, threshold_ms: int) -> int:
        # Usually a step or two; after a long pause between questions, halve instead of walking.
        times = self._times
        for _ in range(32):
            begin += 1
            if begin >= len(times) or times[begin] > threshold_ms:
                return begin
        return bisect_right(times, threshold_ms, begin)
