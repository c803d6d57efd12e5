"""How far behind the market the data is.

Two clocks are compared with the event time of each trade. The monotonic clock, relative to the best that was seen
so far, finds data that falls behind whatever the machine's wall clock says (one real recorder ran 1.27 s slow).
The wall clock finds data that was late from the first trade on.
"""

from __future__ import annotations


class LagMeter:
    """Keeps the best offset between event times and our monotonic clock."""

    def __init__(self) -> None:
        self._best_ms: int | None = None
        self.relative_ms = 0
        """Behind the best seen so far, at the last trade."""
        self.absolute_ms = 0
        """Behind the wall clock, at the last trade; negative when the event time is ahead."""

    def measure(self, event_time_ms: int, monotonic_ns: int, wall_ns: int) -> int:
        """
        Take in the event time of a trade at the moment at which it is handed over.

        Returns:
            The larger of both lags, in milliseconds.
        """
        offset_ms = monotonic_ns // 1_000_000 - event_time_ms
        if self._best_ms is None or offset_ms < self._best_ms:
            self._best_ms = offset_ms
        self.relative_ms = offset_ms - self._best_ms
        self.absolute_ms = wall_ns // 1_000_000 - event_time_ms
        return max(self.relative_ms, self.absolute_ms)

    def forget(self) -> None:
        """Begin anew, after the numbering or the clock of the exchange changed."""
        self._best_ms = None
