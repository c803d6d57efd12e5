"""Log records that do not pass through `logging`: those of loguru, and of structlog where it writes by itself.

Either is what alerts are made of, as much as `logging` is. As there, only what gets past level and filter to where it
is written counts. Both are hooked when the subject imports them, and never imported by us.
"""

from __future__ import annotations

import functools
import importlib.abc
import logging
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from harness.subjects.speech import Heard

LOGURU_SINKS = {
    "loguru._simple_sinks": ("StreamSink", "StandardSink", "CallableSink", "AsyncSink"),
    "loguru._file_sink": ("FileSink",),
}
"""Where loguru's records go, a handler of `logging` (`StandardSink`) among them: it is given them past its logger."""
SINKS_BEHIND = 50
"""Records of loguru by which one of its sinks may lag behind another."""
STRUCTLOG_LEVELS = {
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
    "failure": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
STRUCTLOG_OUTPUTS = ("PrintLogger", "WriteLogger", "BytesLogger")
"""Where structlog writes by itself. With its `stdlib` loggers the records pass through `logging`."""


class OtherLogs:
    """
    Hears loguru and structlog from when they are imported.

    Args:
        heard: takes what reached a sink: logger, level, its name, the message, and its exception as `sys.exc_info()`
            gives it, or None.
        speaking: entered around the writing; says whether this record is the outermost, since each of them may be
            led on to another, or to `logging`.
    """

    def __init__(self, heard: Heard, speaking: Callable[[], AbstractContextManager[bool]]) -> None:
        self._heard = heard
        self._speaking = speaking
        self._event = threading.local()
        self._said: deque[tuple[Any, int, str]] = deque(maxlen=SINKS_BEHIND)
        self._undo: list[Callable[[], None]] = []
        self._arrival = _Arrival(
            {
                **dict.fromkeys(LOGURU_SINKS, self._hear_loguru),
                "structlog._base": self._hear_structlog_events,
                "structlog._output": self._hear_structlog_outputs,
            }
        )

    def begin(self) -> None:
        """Hook what is there, and what comes."""
        self._arrival.begin()

    def end(self) -> None:
        """Take everything back."""
        self._arrival.end()
        while self._undo:
            self._undo.pop()()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))

    def _hear_loguru(self, module: ModuleType) -> None:
        for sink in (getattr(module, name, None) for name in LOGURU_SINKS[module.__name__]):
            if sink is not None:
                self._replace(sink, "write", self._sunk(sink.write))

    def _sunk(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def write(sink: Any, message: Any) -> Any:
            with self._speaking() as outermost:
                result = original(sink, message)
            record = getattr(message, "record", None)
            if record is None or not outermost or record["level"].no < logging.INFO:
                return result
            # One record goes to every sink, to some in a thread of their own, and is one record all the same.
            said = record["time"], record["level"].no, record["message"]
            if said not in self._said:
                self._said.append(said)
                level = record["level"]
                self._heard(str(record["name"]), level.no, level.name, str(record["message"]), record["exception"])
            return result

        return write

    def _hear_structlog_events(self, module: ModuleType) -> None:
        original = module.BoundLoggerBase._proxy_to_logger  # noqa: SLF001 - what the filtering methods call by this name

        @functools.wraps(original)
        def proxy(logger: Any, method_name: str, event: Any = None, *args: Any, **kwargs: Any) -> Any:
            # What is written is rendered, times and all; what was said is known only here.
            self._event.text = event
            return original(logger, method_name, event, *args, **kwargs)

        self._replace(module.BoundLoggerBase, "_proxy_to_logger", proxy)

    def _hear_structlog_outputs(self, module: ModuleType) -> None:
        for output in (getattr(module, name) for name in STRUCTLOG_OUTPUTS):
            for method, level in STRUCTLOG_LEVELS.items():
                if hasattr(output, method):
                    self._replace(output, method, self._written(getattr(output, method), level))

    def _written(self, original: Callable[..., Any], level: int) -> Callable[..., Any]:
        @functools.wraps(original)
        def write(output: Any, message: Any) -> Any:
            with self._speaking() as outermost:
                result = original(output, message)
            if outermost:
                event = getattr(self._event, "text", None)
                text = str(message if event is None else event)
                self._heard("structlog", level, logging.getLevelName(level), text, None)
            return result

        return write


class _Arrival(importlib.abc.MetaPathFinder):
    """Calls back when a module has been imported, at once where it is there already; finds nothing by itself."""

    def __init__(self, wanted: dict[str, Callable[[ModuleType], None]]) -> None:
        self._wanted = wanted

    def begin(self) -> None:
        for name, then in self._wanted.items():
            if name in sys.modules:
                then(sys.modules[name])
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        then = self._wanted.get(fullname)
        if then is None:
            return None
        spec = next(_found(fullname, path, target, self), None)
        if spec is not None and spec.loader is not None:
            # On the one loader of this module, so that it stays of its own kind for who asks.
            spec.loader.exec_module = _and_then(spec.loader.exec_module, then)  # type: ignore[assignment,method-assign] # of this loader
        return spec


def _found(name: str, path: Sequence[str] | None, target: ModuleType | None, without: _Arrival) -> Iterator[ModuleSpec]:
    for finder in sys.meta_path:
        if finder is not without and (spec := finder.find_spec(name, path, target)) is not None:
            yield spec


def _and_then(
    execute: Callable[[ModuleType], None], then: Callable[[ModuleType], None]
) -> Callable[[ModuleType], None]:
    def both(module: ModuleType) -> None:
        execute(module)
        then(module)

    return both
