"""Progress on standard error while rows are read or written; nothing at all for what is quick."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

PATIENCE_S = 2.0
"""What takes longer shows progress."""


class RowProgress:
    """
    Counts rows.

    Args:
        title: what is being done.
        total: how many rows there will be; None when nobody knows.
    """

    def __init__(self, title: str, total: int | None = None) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._begun = self._next = time.perf_counter() + PATIENCE_S
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, rows: int) -> None:
        """Count rows that are done."""
        self._done += rows
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + (0.1 if sys.stderr.isatty() else 10.0)
        if not sys.stderr.isatty():
            of = f" of {self._total:,}" if self._total else ""
            print(f"  {self._title}: {self._done:,}{of} rows", file=sys.stderr)
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total)
        self._bar.update(self._task, completed=self._done)
