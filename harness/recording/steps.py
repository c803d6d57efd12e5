"""Where the wall clock of a recording steps back: it was set, or captures of different times were joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StepsBack:
    """Finds where times fall, in rows that are given in order, block by block."""

    def __init__(self) -> None:
        self.count = 0
        self.row = 0
        """The first row, from 1, that is earlier than the row before it; 0 while there is none."""
        self.step_ns = 0
        """By how much it is earlier."""
        self._rows = 0
        self._last_ns: int | None = None

    def take(self, wall: NDArray[np.int64]) -> None:
        """Look at the next rows' times, in nanoseconds."""
        if not len(wall):
            return
        before = int(wall[0]) if self._last_ns is None else self._last_ns
        steps = np.diff(np.concatenate(([before], wall)))
        back = np.flatnonzero(steps < 0)
        if len(back) and not self.count:
            self.row, self.step_ns = self._rows + int(back[0]) + 1, -int(steps[back[0]])
        self.count += len(back)
        self._rows += len(wall)
        self._last_ns = int(wall[-1])

    def take_one(self, wall_ns: int) -> None:
        """Look at the next row's time."""
        if self._last_ns is not None and wall_ns < self._last_ns:
            if not self.count:
                self.row, self.step_ns = self._rows + 1, self._last_ns - wall_ns
            self.count += 1
        self._rows += 1
        self._last_ns = wall_ns

    def __str__(self) -> str:
        times = f", the first of {self.count:,} times" if self.count > 1 else ""
        return f"the wall clock steps back by {self.step_ns / NS_PER_S:,.6f} s{times}"
