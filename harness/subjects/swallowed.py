"""Exceptions that the subject's own code caught: which, where, how often.

Python 3.12 tells of them through `sys.monitoring`, at no cost while nothing is raised; older versions would
need tracing, which slows every line of the subject, so there we do without.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.clock import monotonic_ns
from harness.ledger import Noted
from harness.subjects.tasks import OURS, is_library

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from harness.ledger import AnyEntry

TOOL = 4
"""One of the two numbers that `sys.monitoring` leaves to anybody."""
ORDINARY = (StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError)
"""Caught all the time, as part of the language."""
MAX_PLACES = 50


class Swallowed:
    """
    Collects what the subject caught, while the context lasts.

    Args:
        write: takes the entries, at the end.
        ignored_threads: name prefixes of our own threads.
    """

    def __init__(self, write: Callable[[AnyEntry], None], *, ignored_threads: tuple[str, ...]) -> None:
        self._write = write
        self._ignored = ignored_threads
        self._caught: dict[tuple[str, str, str], int] = {}
        self._listening = False

    def __enter__(self) -> Self:
        """Begin to listen, where the interpreter can tell and nobody else is listening."""
        if sys.version_info >= (3, 12) and sys.monitoring.get_tool(TOOL) is None:
            monitoring = sys.monitoring
            monitoring.use_tool_id(TOOL, "harness")
            monitoring.register_callback(TOOL, monitoring.events.EXCEPTION_HANDLED, self._handled)
            monitoring.set_events(TOOL, monitoring.events.EXCEPTION_HANDLED)
            self._listening = True
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        if sys.version_info >= (3, 12) and self._listening:
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.free_tool_id(TOOL)
            self._listening = False

    def _handled(self, code: CodeType, offset: int, problem: BaseException) -> Any:
        if (
            isinstance(problem, ORDINARY)
            or is_library(code.co_filename)
            or code.co_filename.startswith(OURS)
            or len(self._caught) > MAX_PLACES
        ):
            return
        if threading.current_thread().name.startswith(self._ignored):
            return
        path = Path(code.co_filename)
        line = next((number for start, end, number in code.co_lines() if start <= offset < end), None)
        place = f"{'/'.join(path.parts[-2:])}:{line or code.co_firstlineno} in {code.co_name}"
        key = (place, type(problem).__name__, str(problem)[:120])
        self._caught[key] = self._caught.get(key, 0) + 1

    def note(self) -> None:
        """Write down what was caught, the most frequent first."""
        now_ns = monotonic_ns()
        for (place, kind, text), count in sorted(self._caught.items(), key=lambda item: -item[1]):
            times = f", {count} times" if count > 1 else ""
            what = f"{kind}: {text}" if text else kind
            self._write(Noted(at_ns=now_ns, what="swallowed", text=f"{what} was caught at {place}{times}"))
