"""Tasks, loops and threads of the subject: who made them, where they wait, what they died of.

Tasks are registered as loops create them; loops as they run. Nothing here is asked of a loop from
inside it, so that a loop that is blocked, stopped or closed can be described as well.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import sysconfig
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from harness.clock import NS_PER_S, monotonic_ns
from harness.ledger import Noted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from harness.ledger import AnyEntry

_LIBRARIES = tuple(
    {str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {"<frozen"}
)
OURS = str(Path(__file__).resolve().parent.parent)
BLOCKED_NS = NS_PER_S
"""A loop that spends so long in one callback is blocked, and its keepalives with it."""


class TaskRecord(msgspec.Struct):
    """A task and where it was made."""

    task: weakref.ref[Any]
    made_at: str
    loop: weakref.ref[Any]
    name: str
    ours: bool
    ended: bool = False
    """It came to its end without an exception; kept here, since the task itself may be collected by then."""


class LoopRecord(msgspec.Struct):
    """A loop and when it ran."""

    loop: weakref.ref[Any]
    thread: str
    thread_id: int
    first_ns: int
    stopped_ns: int | None = None
    runs: int = 0
    tasks: int = 0


class TaskWatch:
    """
    Registers tasks and loops while the context lasts.

    Args:
        write: takes the entries.
        ignored_threads: name prefixes of our own threads.
    """

    def __init__(self, write: Callable[[AnyEntry], None], *, ignored_threads: tuple[str, ...]) -> None:
        self._write = write
        self._ignored = ignored_threads
        self.tasks: list[TaskRecord] = []
        self.loops: dict[int, LoopRecord] = {}
        self._undo: list[Callable[[], None]] = []
        self._busy: dict[int, tuple[str, int]] = {}
        self._noted_blocked: set[str] = set()
        self._threads = set(threading.enumerate())

    def __enter__(self) -> Self:
        """Begin to register."""
        create, run = asyncio.BaseEventLoop.create_task, asyncio.BaseEventLoop.run_forever
        make = asyncio.BaseEventLoop.__init__

        def init(loop: Any) -> None:
            make(loop)
            if not self._ours():
                self._loop(loop)

        def create_task(loop: Any, *args: Any, **kwargs: Any) -> Any:
            task = create(loop, *args, **kwargs)
            if not self._ours():
                self._register(task, loop)
            return task

        def run_forever(loop: Any) -> None:
            if self._ours():
                return run(loop)
            record = self._loop(loop)
            record.runs, record.stopped_ns = record.runs + 1, None
            try:
                return run(loop)
            finally:
                record.stopped_ns = monotonic_ns()

        asyncio.BaseEventLoop.create_task = create_task  # type: ignore[assignment,method-assign] # all tasks pass here
        asyncio.BaseEventLoop.run_forever = run_forever  # type: ignore[assignment,method-assign] # and all loops here
        asyncio.BaseEventLoop.__init__ = init  # type: ignore[assignment,method-assign] # even one that will never run
        self._undo += [
            lambda: setattr(asyncio.BaseEventLoop, "__init__", make),
            lambda: setattr(asyncio.BaseEventLoop, "create_task", create),
            lambda: setattr(asyncio.BaseEventLoop, "run_forever", run),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop registering."""
        while self._undo:
            self._undo.pop()()

    def _ours(self) -> bool:
        return threading.current_thread().name.startswith(self._ignored)

    def _loop(self, loop: Any) -> LoopRecord:
        thread = threading.current_thread()
        record = self.loops.get(id(loop))
        if record is None or record.loop() is not loop:
            record = LoopRecord(
                loop=weakref.ref(loop), thread=thread.name, thread_id=thread.ident or 0, first_ns=monotonic_ns()
            )
            self.loops[id(loop)] = record
        record.thread, record.thread_id = thread.name, thread.ident or 0
        return record

    def _register(self, task: Any, loop: Any) -> None:
        site, ours = creation_site()
        try:
            made = TaskRecord(
                task=weakref.ref(task), made_at=site, loop=weakref.ref(loop), name=_coroutine_name(task), ours=ours
            )
        except TypeError:
            return  # a foreign kind of task without weak references
        self.tasks.append(made)
        task.add_done_callback(functools.partial(_note_end, made))
        record = self.loops.get(id(loop))
        if record is None or record.loop() is not loop:
            # A task on a loop that has not run yet, and perhaps never will.
            record = self._loop(loop)
        record.tasks += not ours

    # --- During the run -----------------------------------------------------------------------------

    def poll(self) -> None:
        """Look whether a loop is blocked; call a few times a second."""
        frames = sys._current_frames()  # noqa: SLF001 - the documented way to see other threads
        now_ns = monotonic_ns()
        for key, record in list(self.loops.items()):
            loop, frame = record.loop(), frames.get(record.thread_id)
            if loop is None or frame is None or not loop.is_running() or _is_waiting(frame):
                self._busy.pop(key, None)
                continue
            place = where(frame)
            before = self._busy.get(key)
            if before is None or before[0] != place:
                self._busy[key] = (place, now_ns)
            elif now_ns - before[1] >= BLOCKED_NS and place not in self._noted_blocked:
                self._noted_blocked.add(place)
                text = (
                    f"the loop of {record.thread} is blocked since {(now_ns - before[1]) / NS_PER_S:.1f} s at {place}"
                )
                self._write(Noted(at_ns=now_ns, what="blocked", text=text))

    # --- At the end of the observation ----------------------------------------------------------------

    def note(self, started_ns: int) -> None:
        """Write down what every loop and task of the subject is doing."""
        now_ns = monotonic_ns()
        for text in [*self._about_loops(started_ns), *(f"{text}" for text in self._blocked_now(now_ns))]:
            self._write(Noted(at_ns=now_ns, what="loop", text=text))
        for record in self.tasks:
            text = describe(record)
            if text and not record.ours:
                self._write(Noted(at_ns=now_ns, what="task", text=text))
            elif text := ended(record):
                self._write(Noted(at_ns=now_ns, what="ended", text=text))

    def _about_loops(self, started_ns: int) -> list[str]:
        found = []
        loops = [(record, record.loop()) for record in self.loops.values()]
        running = any(loop is not None and loop.is_running() for _, loop in loops)
        for record, loop in loops:
            if loop is None or loop.is_running():
                continue
            waiting = len(getattr(loop, "_ready", ())) + sum(
                bool(_pending(task)) for task in self.tasks if task.loop() is loop and not task.ours
            )
            if running and not waiting:
                continue  # one that did its work and went
            if not record.runs:
                found += [f"an event loop was made in {record.thread}, given work, and never run"] if waiting else []
                continue
            when = ((record.stopped_ns or record.first_ns) - started_ns) / NS_PER_S
            state = "was closed" if loop is None or loop.is_closed() else "stopped running"
            found.append(
                f"the event loop of {record.thread} that start() ran on {state} {_after(when)} and was not run again"
            )
        return found

    def _blocked_now(self, now_ns: int) -> list[str]:
        return [
            f"the loop of {self.loops[key].thread} is blocked since {(now_ns - since) / NS_PER_S:.1f} s at {place}"
            for key, (place, since) in self._busy.items()
            if now_ns - since >= BLOCKED_NS and key in self.loops
        ]

    def drop_unrun(self) -> bool:
        """Cancel what waits on the calling thread's own loop, if that has never run; whether there was anything."""
        if not any(record.tasks and not record.runs for record in self.loops.values()):
            return False  # asking for the thread's loop might make one
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            return False
        record = self.loops.get(id(loop))
        waiting = asyncio.all_tasks(loop)
        if record is None or record.runs or not waiting:
            return False
        for task in waiting:
            task.cancel()  # before its first step, so that none of its code runs
        loop.run_until_complete(asyncio.wait(waiting))
        loop.close()
        asyncio.set_event_loop(None)
        self.loops.pop(id(loop))
        self.tasks[:] = [made for made in self.tasks if made.loop() is not loop]
        return True

    def running_loop(self) -> Any:
        """A loop of the subject's that runs at this moment; None when there is none."""
        loops = [record.loop() for record in self.loops.values()]
        return next((loop for loop in loops if loop is not None and loop.is_running()), None)

    def main_place(self) -> str:
        """Where the subject's tasks wait, for a stop() that does not return."""
        # The host's own task is the one that waits in stop(): where, is of interest, and who made it is not.
        waiting = [_named("it", record) if record.ours else _pending(record) for record in self.tasks]
        return "; ".join([text for text in waiting if text][:2])

    def take_stock(self) -> None:
        """Threads that are there now (of a library that was imported, say) are not the subject's to end."""
        self._threads.update(threading.enumerate())

    def left_behind(self) -> list[str]:
        """Tasks and threads of the subject that are still alive."""
        found = [text for record in self.tasks if not record.ours and (text := _pending(record))]
        for thread in threading.enumerate():
            # The thread that asks is the host's own: it is about to end.
            mine = (
                thread in self._threads
                or thread is threading.current_thread()
                or thread.name.startswith((*self._ignored, "asyncio_", "ThreadPoolExecutor"))
            )
            if not mine and thread is not threading.main_thread():
                frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - as above
                found.append(f"thread {thread.name} is still running" + (f" at {where(frame)}" if frame else ""))
        return found


def describe(record: TaskRecord) -> str:
    """One clause on the state of a task; empty for one that ended well or is gone."""
    task = record.task()
    if task is None:
        return ""
    name = f"task {record.name} (made at {record.made_at})"
    if not task.done():
        return f"{name} {_waiting(task)}"
    if task.cancelled():
        return f"{name} was cancelled"
    # The attribute, not `exception()`: asking would mark it as retrieved and hush the interpreter.
    problem = getattr(task, "_exception", None)
    return f"{name} ended with {type(problem).__name__}: {problem}" if problem is not None else ""


def ended(record: TaskRecord) -> str:
    """One clause on a task of the subject that came to its end as if its work were done; empty for every other."""
    if record.ours or not record.ended:
        return ""
    return f"task {record.name} (made at {record.made_at}) ran to its end, without an exception"


def _note_end(record: TaskRecord, task: Any) -> None:
    # The attribute, not `exception()`: asking would mark it as retrieved and hush the interpreter.
    record.ended = not task.cancelled() and getattr(task, "_exception", None) is None


def _pending(record: TaskRecord) -> str:
    return _named(f"task {record.name} (made at {record.made_at})", record)


def _named(name: str, record: TaskRecord) -> str:
    task = record.task()
    return "" if task is None or task.done() else f"{name} {_waiting(task)}"


def _waiting(task: Any) -> str:
    frame = _innermost(task.get_coro())
    if frame is None:
        return "never ran"
    loop = task.get_loop()
    if frame.f_lasti <= 0 or frame.f_lineno == frame.f_code.co_firstlineno:
        return "was created and never began to run" if not loop.is_running() else "has not begun to run"
    return f"waits at {place_of(frame)}"


def _innermost(coroutine: Any) -> FrameType | None:
    """The innermost frame of the subject's own code that a coroutine waits in."""
    best = None
    for _ in range(50):
        frame = (
            getattr(coroutine, "cr_frame", None)
            or getattr(coroutine, "gi_frame", None)
            or getattr(coroutine, "ag_frame", None)
        )
        if frame is None:
            break
        if best is None or not is_library(frame.f_code.co_filename):
            best = frame
        coroutine = (
            getattr(coroutine, "cr_await", None)
            or getattr(coroutine, "gi_yieldfrom", None)
            or getattr(coroutine, "ag_await", None)
        )
        if coroutine is None:
            break
    return best


def creation_site() -> tuple[str, bool]:
    """Where in foreign code the current call comes from, and whether that is the harness itself."""
    frame: FrameType | None = sys._getframe(3)  # noqa: SLF001 - who called the patched create_task
    nearest_library = ""
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(OURS):
            return nearest_library or place_of(frame), not nearest_library
        if not is_library(filename):
            return place_of(frame), False
        if "asyncio" not in filename:
            nearest_library = nearest_library or place_of(frame)
        frame = frame.f_back
    # Made by a library on its own, say the keepalive of a connection: it belongs to the subject.
    return nearest_library or "?", False


def where(frame: FrameType) -> str:
    """The innermost place of foreign code in a stack."""
    current: FrameType | None = frame
    while current is not None:
        if not is_library(current.f_code.co_filename) and not current.f_code.co_filename.startswith(OURS):
            return place_of(current)
        current = current.f_back
    return place_of(frame)


def place_of(frame: FrameType) -> str:
    """`stream.py:120 in connect`, with the folder before it; of an installed package, its whole path inside it."""
    parts = Path(frame.f_code.co_filename).parts
    inside = len(parts) - 1 - parts[::-1].index("site-packages") if "site-packages" in parts else 0
    return f"{'/'.join(parts[inside + 1 :] if inside else parts[-2:])}:{frame.f_lineno} in {frame.f_code.co_name}"


def is_library(filename: str) -> bool:
    """Whether a file belongs to the standard library or an installed package."""
    return filename.startswith(_LIBRARIES) or "site-packages" in filename


def _is_waiting(frame: FrameType) -> bool:
    # In the selector, or a moment away from it: the loop has nothing to do.
    return frame.f_code.co_name in ("select", "_run_once", "poll", "run_forever") and is_library(
        frame.f_code.co_filename
    )


def _coroutine_name(task: Any) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", None) or type(coroutine).__name__)


def _after(seconds: float) -> str:
    if seconds < 0:
        return "before start() was called"
    return (
        f"{seconds * 1000:.0f} ms after start() was called"
        if seconds < 1
        else f"{seconds:.1f} s after start() was called"
    )
