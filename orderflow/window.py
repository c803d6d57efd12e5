"""Sums over time windows, exact, at a cost that does not grow with the window.

Running totals are kept beside the times of the trades. The sum over a window is the difference of two totals;
where the window begins is remembered for each length asked for, and only moves forward as time does. So a trade costs
the same with a thousand or a hundred thousand trades in the window, and integers make it exact.

    times       t0  t1  t2  t3  t4  t5
    totals    0   b0  b1  b2  b3  b4  b5      sum over (t2, t5] = b5 - b2
                            └─ where the 30 s window begins; moves right
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

import msgspec

# Dropped trades are removed from the lists in blocks, so that removal costs next to nothing for each.
_COMPACT_AT = 4096
# Lengths asked for are few; a caller who makes them up must not fill memory.
_BEGINS_MAX = 64


Totals = tuple[int, int, int, int]
"""Bought and sold notional (price times quantity in 1e-16), bought and sold quantity (in 1e-8)."""


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
        self._times = array("q")  # side by side in memory: at 100 000 trades, objects would cost a cache miss each
        # _totals[i] is everything before _times[i], so the last entry is everything.
        self._totals: list[Totals] = [(0, 0, 0, 0)]
        self._dropped = 0  # entries at the front that are forgotten but not yet removed
        self._removed = 0  # entries removed since the start: positions of begins are counted from there
        self._begins: dict[int, list[int]] = {}  # window -> [threshold it was found for, absolute position]

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

    def add(self, time_ms: int, notional: int, quantity: int, sold: bool) -> None:
        """
        Take in a trade.

        Args:
            time_ms: exchange time. Ids, not times, order trades, so a time may lie a little before the last one.
            notional: price times quantity in 1e-16, zero or more.
            quantity: in 1e-8, zero or more.
            sold: the taker sold.
        """
        times = self._times
        if times and time_ms < times[-1]:
            self._insert(time_ms, notional, quantity, sold)
            newest_ms = times[-1]
        else:
            times.append(time_ms)
            self._totals.append(_plus(self._totals[-1], notional, quantity, sold))
            newest_ms = time_ms
        dropped = self._dropped
        if times[dropped] < newest_ms - self._max_age_ms or len(times) - dropped > self._max_count:
            self._forget(newest_ms - self._max_age_ms)

    def _insert(self, time_ms: int, notional: int, quantity: int, sold: bool) -> None:
        at = bisect_right(self._times, time_ms)
        if at < self._dropped or (at == 0 and self._removed):
            return  # older than all that is kept
        totals = self._totals
        self._times.insert(at, time_ms)
        totals.insert(at, totals[at])
        for index in range(at + 1, len(totals)):
            totals[index] = _plus(totals[index], notional, quantity, sold)
        self._begins.clear()

    def _forget(self, until_ms: int) -> None:
        times, dropped = self._times, self._dropped
        while times[dropped] < until_ms or len(times) - dropped > self._max_count:
            dropped += 1
        self._dropped = dropped
        if dropped >= _COMPACT_AT and dropped * 2 >= len(times):
            del times[:dropped]
            del self._totals[:dropped]
            self._removed += dropped
            self._dropped = 0

    def bounds(self, window_ms: int, now_ms: int) -> tuple[Totals, Totals, int, int, int]:
        """
        Find the trades with `now_ms - window_ms < time <= now_ms`.

        Args:
            window_ms: length, milliseconds.
            now_ms: exchange time at which the window ends.

        Returns:
            The totals before them, the totals including them, their number, and the times of the oldest and the newest
            trade kept (0 when there is none).
        """
        times, totals, dropped = self._times, self._totals, self._dropped
        end = len(times)
        if not end:
            return totals[0], totals[0], 0, 0, 0
        newest_ms = times[-1]
        if now_ms < newest_ms:
            end = bisect_right(times, now_ms)
        threshold_ms = now_ms - window_ms
        mark = self._begins.get(window_ms)
        if mark is None or mark[0] > threshold_ms:
            mark = self._mark(window_ms)
            begin = max(bisect_right(times, threshold_ms), dropped)
        else:
            begin = mark[1] - self._removed
            if begin < dropped:  # noqa: PLR1730 - this is asked after every trade, and calling max() costs a tenth of it
                begin = dropped
            if begin < end and times[begin] <= threshold_ms:
                # Asked after every trade, it moves by one; after a pause, searching beats walking.
                begin += 1
                if begin < end and times[begin] <= threshold_ms:
                    begin = bisect_right(times, threshold_ms, begin, end)
        mark[0] = threshold_ms
        mark[1] = begin + self._removed
        if begin > end:  # noqa: PLR1730 - likewise
            begin = end
        return totals[begin], totals[end], end - begin, times[dropped], newest_ms

    def _mark(self, window_ms: int) -> list[int]:
        if len(self._begins) >= _BEGINS_MAX:
            self._begins.clear()
        return self._begins.setdefault(window_ms, [0, 0])

    def sums(self, window_ms: int, now_ms: int) -> Sums:
        """Add up the trades with `now_ms - window_ms < time <= now_ms`."""
        before, upto, count, _, _ = self.bounds(window_ms, now_ms)
        return Sums(upto[0] - before[0], upto[1] - before[1], upto[2] - before[2], upto[3] - before[3], count)


def _plus(totals: Totals, notional: int, quantity: int, sold: bool) -> Totals:
    bought_notional, sold_notional, bought_quantity, sold_quantity = totals
    if sold:
        return bought_notional, sold_notional + notional, bought_quantity, sold_quantity + quantity
    return bought_notional + notional, sold_notional, bought_quantity + quantity, sold_quantity
