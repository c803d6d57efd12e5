"""The subject as its host sees it: start, stop, and notes of what went wrong."""

from __future__ import annotations

import inspect
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from harness.checks.case import STOP_CALLED
from harness.clock import monotonic_ns
from harness.ledger import Noted, Raised
from harness.subjects import anatomy, load
from harness.subjects.loading import ITERATOR_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.ledger import AnyEntry
    from harness.subjects import Anatomy, Tap, TaskWatch

LEAVING_S = 1.0
TURN_S = 0.05


class SubjectRide:
    """
    One subject on its way through one host.

    Args:
        spec: `module:attribute`.
        path: folder to import from.
        symbols: passed to start().
        write: takes entries.
        tap: watches where trades are taken.
        tasks: knows what is left behind.
        tap_path: `--tap`.
        settings: of the host.
    """

    def __init__(
        self,
        spec: str,
        path: str,
        *,
        symbols: tuple[str, ...],
        write: Callable[[AnyEntry], None],
        tap: Tap,
        tasks: TaskWatch,
        tap_path: str | None,
        settings: Any,
    ) -> None:
        self._spec, self._path, self._tap_path = spec, path, tap_path
        self._symbols = list(symbols)
        self._write = write
        self._tap = tap
        self._tasks = tasks
        self.settings = settings
        self.over = threading.Event()
        self.begun = threading.Event()
        self.finished = threading.Event()
        self.started_ns = 0
        self.start_returned = False
        """Whether the call is over. What it gave back may still be awaited, on a loop that is not held up."""
        self.starts = 0
        self._strong: Any = None
        self._weak: weakref.ref[Any] | None = None
        self.anatomy: Anatomy
        self.renew()

    @property
    def subject(self) -> Any:
        """The subject; None when nobody holds it any more."""
        return self._strong if self._strong is not None else (self._weak() if self._weak else None)

    @property
    def start_is_async(self) -> bool:
        """Whether start() must be awaited."""
        method = getattr(self.subject, self.anatomy.start)
        return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)

    @property
    def can_stop(self) -> bool:
        """Whether the subject has a way to be stopped."""
        return bool(self.anatomy.stop)

    def renew(self) -> None:
        """Make a fresh subject and watch it."""
        self._strong = load(self._spec, self._path, on_import=self._tasks.take_stock)
        self.anatomy = anatomy(self._strong, self._tap_path)
        self._tap.attach(self._strong)

    def start(self) -> Any:
        """Call the subject's start with the symbols, as far as it wants them."""
        if not self.starts:
            self.started_ns = monotonic_ns()
            self.begun.set()
        self.starts += 1
        if self.anatomy.start in ITERATOR_NAMES:
            self.start_returned = True
            return self._iterate()
        method = getattr(self.subject, self.anatomy.start)
        result = method(*_arguments(method, self._symbols))
        self.start_returned = True
        if inspect.isasyncgen(result):
            return self._consume(result)
        return result if inspect.isawaitable(result) else None

    def stop(self) -> Any:
        """Call the subject's stop; None when it has none."""
        if self.subject is None or not self.anatomy.stop:
            return None
        result = getattr(self.subject, self.anatomy.stop)()
        return result if inspect.isawaitable(result) else None

    def drop_unrun_tasks(self) -> bool:
        """Whether start() left tasks on this thread's loop, which has never run; they are cancelled."""
        return self._tasks.drop_unrun()

    def let_go(self) -> None:
        """Hold the subject by a weak reference."""
        try:
            self._weak = weakref.ref(self._strong)
        except TypeError:
            return  # slots without __weakref__: it stays
        self._strong = None

    def failed(self, where: str, problem: BaseException) -> None:
        """Note an exception that reached the caller."""
        self._write(Raised(at_ns=monotonic_ns(), where=where, type=type(problem).__name__, text=str(problem)[:400]))

    def stopping(self) -> None:
        """Note that stop() is about to be called."""
        self._write(Noted(at_ns=monotonic_ns(), what="stop", text=STOP_CALLED))

    def stopped(self) -> None:
        """Note that stop() returned, and what is still alive."""
        now_ns = monotonic_ns()
        self._write(Noted(at_ns=now_ns, what="stop", text="stop() returned"))
        patience_s = LEAVING_S
        while (left := self._tasks.left_behind()) and patience_s > 0:
            # A library's thread may still be on its way out.
            time.sleep(TURN_S)
            patience_s -= TURN_S
        for text in left if self.can_stop else ():
            self._write(Noted(at_ns=now_ns, what="left behind", text=text))
        self.finished.set()

    def say(self, text: str) -> None:
        """Note what the host did."""
        self._write(Noted(at_ns=monotonic_ns(), what="host", text=text))

    def slow_down(self, delay_ns: int) -> None:
        """Pause after every trade."""
        self._tap.delay_ns = delay_ns

    def setting(self, name: str, default: Any) -> Any:
        """A setting of the host, or the default."""
        return getattr(self.settings, name, default)

    async def _iterate(self) -> None:
        method = getattr(self.subject, self.anatomy.start)
        iterator = method(*_arguments(method, self._symbols))
        if inspect.isawaitable(iterator):
            iterator = await iterator
        await self._consume(iterator)

    async def _consume(self, iterator: Any) -> None:
        async for item in iterator:
            self._tap.take(item)


def _arguments(method: Any, symbols: list[str]) -> list[Any]:
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        return [symbols]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    if not positional:
        return []
    first, *rest = positional
    # One symbol as text where the parameter says so; otherwise the list, as the contract has it.
    wants_text = first.annotation in (str, "str") or first.name == "symbol"
    required = [p for p in rest if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if first.kind is first.VAR_POSITIONAL:
        return [*symbols]
    return [symbols[0] if wants_text else symbols, *(True for _ in required)]
