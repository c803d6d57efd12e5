"""What the subject says: log records that reach a handler, and, as evidence, everything else.

`logging.Logger.callHandlers` is where a record goes to its handlers: a handler of our own on the root
logger would miss `propagate = False`, `dictConfig` would remove it, and a record factory would
count what filters drop. A record that no handler takes told nobody.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Self, TextIO

from harness.clock import monotonic_ns
from harness.ledger import Logged, Noted
from harness.subjects.other_logs import OtherLogs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from harness.ledger import AnyEntry

    Heard = Callable[[str, int, str, str, Any], None]

INFO = logging.INFO
TEXT_MAX = 400


class Speech:
    """
    Writes down what is logged, printed and left uncaught, while the context lasts.

    Args:
        write: takes the entries.
        ignored_threads: names of threads that are ours; by prefix.
        echo: also pass on what is printed.
    """

    def __init__(
        self, write: Callable[[AnyEntry], None], *, ignored_threads: tuple[str, ...], echo: bool = False
    ) -> None:
        self._write = write
        self._ignored = ignored_threads
        self._echo = echo
        self._inside = threading.local()
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._listen_to_logging()
        others = OtherLogs(self._hear, self._speaking)
        others.begin()
        self._undo.append(others.end)
        self._listen_to_streams()
        self._listen_to_hooks()
        # What a program around the subject would have: INFO records are made at all. No handler is
        # added, since that would make every record reach one.
        root = logging.getLogger()
        level = root.level
        if level in (logging.NOTSET, logging.WARNING):
            root.setLevel(INFO)
            self._undo.append(lambda: root.setLevel(level))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        while self._undo:
            self._undo.pop()()

    def _ours(self) -> bool:
        return threading.current_thread().name.startswith(self._ignored)

    # --- Logging ------------------------------------------------------------------------------------

    def _listen_to_logging(self) -> None:
        call, handle = logging.Logger.callHandlers, logging.Handler.handle

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            inside = self._inside
            elsewhere, outer = getattr(inside, "other", False), getattr(inside, "asked", None)
            inside.asked = {}
            try:
                with self._speaking(other=False):
                    call(logger, record)
                reached = any(inside.asked.values()) or _is_taken_otherwise(logger, record, inside.asked)
            finally:
                inside.asked = outer
            # What another library leads on to `logging` is written down as that library's.
            if reached and not elsewhere and record.levelno >= INFO and not self._ours():
                self._write(_entry(record))

        def handle_record(handler: logging.Handler, record: logging.LogRecord) -> Any:
            # Filters are asked once, by the handler itself: one that lets something pass now and then keeps count.
            taken = handle(handler, record)
            asked = getattr(self._inside, "asked", None)
            if asked is not None:
                asked[id(handler)] = bool(taken)
            return taken

        logging.Logger.callHandlers = call_handlers  # type: ignore[assignment,method-assign] # the one place all records pass
        logging.Handler.handle = handle_record  # type: ignore[assignment,method-assign] # and where one is taken, or not
        self._undo.append(lambda: setattr(logging.Logger, "callHandlers", call))
        self._undo.append(lambda: setattr(logging.Handler, "handle", handle))

    @contextlib.contextmanager
    def _speaking(self, *, other: bool = True) -> Iterator[bool]:
        # A record is being written: what appears on a stream meanwhile was heard already.
        before = getattr(self._inside, "logging", False), getattr(self._inside, "other", False)
        self._inside.logging, self._inside.other = True, other
        try:
            yield not before[0]
        finally:
            self._inside.logging, self._inside.other = before

    def _hear(self, logger: str, level: int, level_name: str, text: str, problem: Any) -> None:
        if not self._ours():
            self._write(_logged(logger, level, level_name, text, text, problem))

    # --- What is only printed -----------------------------------------------------------------------

    def _listen_to_streams(self) -> None:
        for name, what in (("stdout", "print"), ("stderr", "stderr")):
            before = getattr(sys, name)
            setattr(sys, name, _Tee(before if self._echo else None, functools.partial(self._printed, what)))
            self._undo.append(lambda name=name, before=before: setattr(sys, name, before))  # type: ignore[misc] # bound now

    def _printed(self, what: str, line: str) -> None:
        # A handler that writes a record to stderr was heard as a record already.
        if not getattr(self._inside, "logging", False) and not self._ours():
            self._write(Noted(at_ns=monotonic_ns(), what=what, text=line[:TEXT_MAX]))

    # --- What nobody caught -------------------------------------------------------------------------

    def _listen_to_hooks(self) -> None:
        def in_thread(args: threading.ExceptHookArgs) -> None:
            name = args.thread.name if args.thread else "?"
            if not name.startswith(self._ignored):
                text = f"thread {name} died of {_brief(args.exc_type, args.exc_value, args.exc_traceback)}"
                self._write(Noted(at_ns=monotonic_ns(), what="thread", text=text))

        def unraisable(args: Any) -> None:
            text = (
                f"{args.err_msg or 'exception ignored in'} {args.object!r}: {args.exc_type.__name__}: {args.exc_value}"
            )
            self._write(Noted(at_ns=monotonic_ns(), what="interpreter", text=text[:TEXT_MAX]))

        for owner, name, value in ((threading, "excepthook", in_thread), (sys, "unraisablehook", unraisable)):
            before = getattr(owner, name)
            setattr(owner, name, value)
            self._undo.append(lambda owner=owner, name=name, before=before: setattr(owner, name, before))  # type: ignore[misc] # bound now


class _Tee:
    """Stands in for a standard stream and hands on whole lines."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, behind: TextIO | None, line: Callable[[str], None]) -> None:
        self._behind = behind
        self._line = line
        self._rest = ""

    def write(self, text: str) -> int:
        if self._behind is not None:
            self._behind.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._line(line)
        return len(text)

    def flush(self) -> None:
        if self._behind is not None:
            with contextlib.suppress(ValueError, OSError):
                self._behind.flush()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("this stream is listened to, and has no file")


def _is_taken_otherwise(logger: logging.Logger, record: logging.LogRecord, asked: dict[int, bool]) -> bool:
    # By a handler with a way of its own to handle records; and INFO that nobody read is kept as context (the last
    # words). WARNING without any handler went to logging's last resort, as in a program that set up none.
    current: logging.Logger | None = logger
    handlers: list[logging.Handler] = []
    while current is not None:
        handlers += current.handlers
        current = current.parent if current.propagate else None
    own = [h for h in handlers if id(h) not in asked and not isinstance(h, logging.NullHandler)]
    return any(record.levelno >= h.level for h in own) or (not handlers and record.levelno < logging.WARNING)


def _entry(record: logging.LogRecord) -> Logged:
    try:
        text = record.getMessage()
    except Exception:
        text = str(record.msg)
    return _logged(record.name, record.levelno, record.levelname, str(record.msg), text, record.exc_info)


def _logged(logger: str, level: int, level_name: str, template: str, text: str, problem: Any) -> Logged:
    # A problem is what `sys.exc_info()` gives: kind, value, traceback.
    if problem and problem[0] is not None:
        text += f" [{problem[0].__name__}: {problem[1]}]"
    return Logged(
        at_ns=monotonic_ns(),
        logger=logger,
        level=level,
        level_name=level_name,
        template=template[:TEXT_MAX],
        text=text[:TEXT_MAX],
    )


def _brief(kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> str:
    place = traceback.extract_tb(trace)[-1:] if trace else []
    where = f" at {place[0].filename}:{place[0].lineno}" if place else ""
    return f"{kind.__name__ if kind else 'an exception'}: {value}{where}"
