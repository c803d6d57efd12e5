"""Locks and threads that keep virtual time; the rest of `threading`, `queue`, `concurrent.futures` is built on them.

Threads are real, and take turns: see `world`. A lock that was made before the simulation began stays
real, which is harmless as long as nobody waits while holding it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from harness.transports.sim.clocks import real_sleep
from harness.transports.sim.world import NS, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.transports.sim.patches import Patches
    from harness.transports.sim.world import Strand

_worlds: list[World] = []
"""The one world there is, while there is one: locks outlive it."""


def deadline(world: World, timeout: float | None) -> int | None:
    """Turn a timeout in seconds into a moment; None and negative ones mean for ever."""
    return None if timeout is None or timeout < 0 else world.now_ns + round(timeout * NS)


class Lock:
    """Stands in for `threading.Lock`."""

    __slots__ = ("__weakref__", "_held", "_waiters")

    def __init__(self) -> None:
        self._held = False
        self._waiters: deque[Strand] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._held:
            self._held = True
            return True
        if not blocking or not _worlds:
            return False
        world = _worlds[0]
        if world.mine() is None:
            return self._acquire_from_outside(timeout)
        until = deadline(world, timeout)
        me = world.current
        while self._held:
            self._waiters.append(me)
            woken = False
            try:
                woken = world.park(until, "a lock")
            finally:
                if not woken and me in self._waiters:
                    self._waiters.remove(me)
            if not woken and self._held:
                return False
        self._held = True
        return True

    def _acquire_from_outside(self, timeout: float) -> bool:
        # A thread from before the simulation, which lives in real time and cannot take turns.
        waited_s = 0.0
        while self._held:
            if 0 <= timeout <= waited_s:
                return False
            real_sleep(0.001)
            waited_s += 0.001
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        if self._waiters and _worlds:
            _worlds[0].wake(self._waiters.popleft())

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._held = False
        self._waiters.clear()


class RLock:
    """Stands in for `threading.RLock`."""

    __slots__ = ("__weakref__", "_count", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = Lock()
        self._owner: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = threading.get_ident()
        if self._owner == me:
            self._count += 1
            return True
        if self._lock.acquire(blocking, timeout):
            self._owner, self._count = me, 1
            return True
        return False

    def release(self) -> None:
        if self._owner != threading.get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    # What `threading.Condition` asks of a lock that it waits on.

    def _is_owned(self) -> bool:
        return self._owner == threading.get_ident()

    def _release_save(self) -> tuple[int, int | None]:
        saved = (self._count, self._owner)
        self._count, self._owner = 0, None
        self._lock.release()
        return saved

    def _acquire_restore(self, saved: tuple[int, int | None]) -> None:
        self._lock.acquire()
        self._count, self._owner = saved

    def _recursion_count(self) -> int:
        return self._count if self._is_owned() else 0

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()
        self._owner, self._count = None, 0


def install(world: World, patches: Patches) -> None:
    """Make the threads of this process take turns. `patches.undo()` takes it back."""
    _worlds.append(world)
    patches.then(_worlds.clear)
    for name in ("Lock", "_allocate_lock"):
        patches.set(threading, name, Lock)
    patches.set(threading, "RLock", RLock)
    patches.set(queue, "SimpleQueue", queue._PySimpleQueue)  # type: ignore[attr-defined]
    _patch_starts(world, patches)
    _patch_thread(world, patches)


def _patch_starts(world: World, patches: Patches) -> None:
    for name in ("_start_new_thread", "_start_joinable_thread"):
        original = getattr(threading, name, None)
        if original is None:
            continue

        def start(function: Callable[..., object], *args: Any, original: Any = original, **kwargs: Any) -> Any:
            owner = getattr(function, "__self__", None)
            strand = world.enter(getattr(owner, "name", "a thread"))
            if owner is not None:
                owner._harness_strand = strand
            given = args[0] if args and isinstance(args[0], tuple) else ()
            rest = args[1:] if given or (args and args[0] == ()) else args

            def body(*_: object) -> None:
                world.run(strand, lambda: function(*given))

            return original(body, (), *rest, **kwargs) if args else original(body, **kwargs)

        patches.set(threading, name, start)


def _patch_thread(world: World, patches: Patches) -> None:
    join, is_alive = threading.Thread.join, threading.Thread.is_alive

    def virtual_join(self: threading.Thread, timeout: float | None = None) -> None:
        strand = getattr(self, "_harness_strand", None)
        if strand is None or self is threading.current_thread():
            join(self, timeout)
            return
        world.wait_for_end(strand, deadline(world, None if timeout is None else max(timeout, 0.0)))
        if strand.ended:
            join(self)  # it is at its very end: a moment

    def virtual_is_alive(self: threading.Thread) -> bool:
        # The interpreter's own answer lags a little behind, by real time.
        strand = getattr(self, "_harness_strand", None)
        return is_alive(self) if strand is None else not strand.ended

    patches.set(threading.Thread, "join", virtual_join)
    patches.set(threading.Thread, "is_alive", virtual_is_alive)
