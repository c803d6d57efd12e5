"""Reading health in whatever shape a subject offers it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from harness.clock import monotonic_ns
from harness.ledger import HealthRead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.ledger import AnyEntry

GOOD = frozenset(
    [
        "ok",
        "healthy",
        "up",
        "running",
        "connected",
        "live",
        "alive",
        "streaming",
        "good",
        "green",
        "pass",
        "passing",
        "ready",
        "active",
        "open",
        "true",
        "yes",
    ]
)
BAD = frozenset(
    [
        "stale",
        "down",
        "error",
        "failed",
        "failing",
        "failure",
        "unhealthy",
        "stopped",
        "disconnected",
        "degraded",
        "dead",
        "critical",
        "red",
        "stalled",
        "lagging",
        "lagged",
        "closed",
        "silent",
        "bad",
        "false",
        "no",
        "fail",
        "offline",
        "lost",
        "broken",
    ]
)
KEYS = ("ok", "healthy", "is_healthy", "status", "state", "connected", "running", "alive", "live")
"""Keys and attributes that say it, the plainest first."""
SHOWN = 160


class HealthPoller:
    """
    Polls one subject and writes an entry whenever something new is said.

    Args:
        write: takes the entries.
        running_loop: gives the loop that the subject runs on, or None.
    """

    def __init__(
        self,
        write: Callable[[AnyEntry], None],
        running_loop: Callable[[], asyncio.AbstractEventLoop | None] | None = None,
    ) -> None:
        self._write = write
        self._running_loop = running_loop or (lambda: None)
        self._last: dict[str, tuple[bool | None, str]] = {}
        self._names: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What was read so far."""
        return tuple(self._names)

    def poll(self, subject: Any, names: tuple[str, ...]) -> None:
        """Read every name once, those of earlier calls among them: a property that raises may look like none."""
        self._names |= dict.fromkeys(names)
        loop = self._running_loop()
        for name in self._names:
            shown_name = name
            try:
                with _as_if_on(loop):
                    value = getattr(subject, name)
                    if callable(value):
                        shown_name = f"{name}()"
                        value = _settled(value())
            except Exception as problem:
                # A monitor that asks for health and gets an exception has been told.
                self._note(shown_name, False, f"raised {type(problem).__name__}: {problem}")
                continue
            self._note(shown_name, verdict_of(value), _shown(value))

    def _note(self, name: str, healthy: bool | None, text: str) -> None:
        before = self._last.get(name)
        if before is None or before[0] is not healthy:
            self._last[name] = (healthy, text)
            self._write(HealthRead(at_ns=monotonic_ns(), name=name, value=text, healthy=healthy))


@contextlib.contextmanager
def _as_if_on(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    # A monitor in the same program asks on the subject's loop, and health may ask that for the time. The loop itself
    # is not entered: it may be blocked, and would blind us.
    before = asyncio._get_running_loop()  # noqa: SLF001 - how a loop of another make tells its thread that it runs
    asyncio._set_running_loop(loop or before)  # noqa: SLF001 - as above
    try:
        yield
    finally:
        asyncio._set_running_loop(before)  # noqa: SLF001 - as above


def verdict_of(value: Any, depth: int = 0) -> bool | None:
    """
    Whether a value says healthy.

    Returns:
        None when it says neither, for example `starting`.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        value = value.value if isinstance(value.value, str) else value.name
    if isinstance(value, str):
        return _of_word(value)
    if value is None or depth > 2 or isinstance(value, (int, float)):
        return None
    if isinstance(value, Mapping):
        return _of_fields(value.get, depth)
    if isinstance(value, tuple) and value and isinstance(value[0], bool):
        return value[0]
    return _of_fields(lambda key: getattr(value, key, None), depth)


def _of_fields(get: Callable[[str], Any], depth: int) -> bool | None:
    # Any field that says no makes it no: {"running": True, "status": "stale"} is not well.
    said = [verdict_of(found, depth + 1) for found in map(get, KEYS) if found is not None and not callable(found)]
    if False in said:
        return False
    return True if True in said else None


def _of_word(text: str) -> bool | None:
    words = text.lower().replace("_", " ").replace("-", " ").split()
    if any(word.strip(".,:;!") in BAD for word in words[:4]) or words[:1] == ["not"]:
        return False
    return True if any(word.strip(".,:;!") in GOOD for word in words[:2]) else None


def _settled(value: Any) -> Any:
    # Most asynchronous health methods await nothing: step them by hand, outside the subject's loop.
    if not inspect.iscoroutine(value):
        return value
    try:
        value.send(None)
    except StopIteration as done:
        return done.value
    value.close()
    return None


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
