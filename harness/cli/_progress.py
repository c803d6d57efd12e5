"""Progress of many runs on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from harness.runner import RunResult

LINE_S = 10.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """
    Shows how far a batch has come.

    Args:
        total: runs.
        at_a_time: runs at a time.
    """

    def __init__(self, total: int, at_a_time: int) -> None:
        self._total = total
        self._at_a_time = at_a_time
        self._done = 0
        self._silent = 0
        self._bar: Any = None
        self._task: Any = None
        self._next = 0.0

    def __enter__(self) -> Self:
        """Begin to show."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._title(), total=self._total)
        elif self._total > 1:
            print(self._title(), file=sys.stderr)
            self._next = time.perf_counter() + LINE_S
        return self

    def __exit__(self, *_: object) -> None:
        """Clear the bar."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, result: RunResult) -> None:
        """Count one run that is done."""
        self._done += 1
        self._silent += result.verdict.silent
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=self._title())
        elif self._total > 1 and (time.perf_counter() >= self._next or self._done == self._total):
            self._next = time.perf_counter() + LINE_S
            print(f"  {self._done}/{self._total} runs, {self._silent} silent so far", file=sys.stderr)

    def _title(self) -> str:
        if self._total == 1:
            return "1 run"
        return f"{self._total} runs, {self._at_a_time} at a time" + (f", {self._silent} silent" if self._silent else "")
