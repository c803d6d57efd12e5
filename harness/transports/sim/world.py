"""Virtual time, and who may run in it.

All threads of a simulated process are real threads, of which one runs at a time: the one that holds the
baton. It gives it up when it waits (`park`). When nobody can run, time moves to the next thing that is due,
so waiting costs nothing, and equal runs go through equal steps.

    a thread waits ──▶ another can run? ──yes──▶ it gets the baton, first come first served
                              │ no
                              ▼
                    next event of (due_ns, seq) ──▶ now_ns moves ──▶ a callback, or a thread whose time is up

What computing costs is not modelled: code that runs takes no virtual time.
"""

from __future__ import annotations

import _thread
import heapq
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessBug, SubjectError

if TYPE_CHECKING:
    from collections.abc import Callable

NS = 1_000_000_000

READS_AT_ONE_MOMENT = 10_000
"""A program that reads the clock so often while nothing moves waits for it in a loop: let it move, ever faster."""
READ_NS = 1_000
TURNS_AT_ONE_MOMENT = 1_000
"""The same for an event loop that turns without pause (`await asyncio.sleep(0)` until something happens)."""
TURN_NS = 50_000
NOTHING_NS = 10_000
"""What `time.sleep(0)` takes."""

# Bound at import, before anything is replaced by what keeps virtual time.
_real_lock = _thread.allocate_lock
_real_ident = _thread.get_ident


class Strand:
    """A thread as the world sees it."""

    __slots__ = (
        "deadline_ns", "ended", "error", "lock", "name", "parked", "timed_out", "timer_ns", "turns", "waiters", "why",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = _real_lock()
        self.lock.acquire()
        self.parked = False
        self.why = ""
        """What it waits for, in words."""
        self.deadline_ns: int | None = None
        self.timer_ns: int | None = None
        """When its entry in the heap is due; one entry each, however often it waits."""
        self.timed_out = False
        self.turns = 0
        """How often its event loop has turned since it last waited."""
        self.ended = False
        self.error: BaseException | None = None
        """To be raised where it waits."""
        self.waiters: deque[Strand] = deque()
        """Who waits for its end."""


class World:
    """
    One simulated process.

    Args:
        start_ns: monotonic time at which it begins. Not zero: real clocks are far from it, and programs
            take zero for "never".
        wall_ns: nanoseconds since 1970 at that moment.
    """

    def __init__(self, *, start_ns: int = 100_000 * NS, wall_ns: int = 0) -> None:
        self.now_ns = start_ns
        self.wall_offset_ns = wall_ns - start_ns
        self.fences: list[str] = []
        """What the subject asked for and the simulation does not have."""
        self.over = False
        self._heap: list[tuple[int, int, Any]] = []
        self._seq = 0
        self._runnable: deque[Strand] = deque()
        self._strands: dict[int, Strand] = {_real_ident(): Strand("main")}
        self.main = self.current = self._strands[_real_ident()]
        self._reads = 0

    # --- Time -----------------------------------------------------------------------------------

    def read_ns(self) -> int:
        """The monotonic clock, as programs read it."""
        self._reads += 1
        if self._reads > READS_AT_ONE_MOMENT:
            self.now_ns += READ_NS * (self._reads // READS_AT_ONE_MOMENT)
        return self.now_ns

    def wall_ns(self) -> int:
        """The wall clock, as programs read it."""
        return self.read_ns() + self.wall_offset_ns

    def at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Call back at a moment; equal moments in the order in which they were asked for."""
        self._seq += 1
        heapq.heappush(self._heap, (due_ns, self._seq, callback))

    @property
    def idle(self) -> bool:
        """Nothing is due any more, ever."""
        return not self._heap and not self._runnable

    # --- Waiting ---------------------------------------------------------------------------------

    def park(self, deadline_ns: int | None, why: str) -> bool:
        """
        Wait until somebody calls `wake`, or until a moment.

        Args:
            deadline_ns: None waits for ever.
            why: what for, in words, for the report when nothing can ever run again.

        Returns:
            Whether it was woken; False when the time was up.
        """
        me = self.current
        if self._strands.get(_real_ident()) is not me:
            raise HarnessBug(f"a thread that the simulation does not know waits ({why})")
        if me.parked:
            # Time is being moved in its name, and somebody called back, a finalizer for example, wants to wait.
            raise self.fence("finalizers that wait")
        self._raise_for(me)
        me.why, me.deadline_ns, me.timed_out = why, deadline_ns, False
        me.turns = self._reads = 0
        if deadline_ns is not None and (me.timer_ns is None or deadline_ns < me.timer_ns):
            self._time(me, deadline_ns)
        me.parked = True
        self._pass_on(me)
        self._raise_for(me)
        return not me.timed_out

    def wake(self, strand: Strand) -> None:
        """Let a waiting thread run when its turn comes."""
        if strand.parked:
            strand.parked = False
            self._runnable.append(strand)

    def sleep(self, duration_ns: int) -> None:
        """Wait for a while. Nothing takes no time: what sleeps for zero lets others run, and a little pass."""
        until = self.now_ns + (duration_ns or NOTHING_NS)
        while self.now_ns < until:
            self.park(until, "time.sleep()")

    def breathe(self) -> None:
        """Let others run, and what is due happen; for loops that have more to do at once."""
        me = self.current
        me.turns += 1
        turns = me.turns
        if turns > TURNS_AT_ONE_MOMENT:
            self.park(self.now_ns + TURN_NS * (turns // TURNS_AT_ONE_MOMENT), "the next turn of its event loop")
            me.turns = turns  # that was no rest
            return
        if self._heap and self._heap[0][0] <= self.now_ns:
            self._move()
        if self._runnable:
            me.deadline_ns, me.why = None, "its turn"
            self._runnable.append(me)
            self._pass_on(me)
            self._raise_for(me)

    def _raise_for(self, me: Strand) -> None:
        error = me.error
        if error is not None:
            if me is self.main:
                me.error = None  # told once; other threads are to end, whatever they do
            raise error

    def _time(self, strand: Strand, due_ns: int) -> None:
        strand.timer_ns = due_ns
        self._seq += 1
        heapq.heappush(self._heap, (due_ns, self._seq, strand))

    def _pass_on(self, me: Strand) -> None:
        """Give the baton to whoever is next, and come back with it."""
        while not self._runnable:
            self._move()
        chosen = self._runnable.popleft()
        if chosen is not me:
            self.current = chosen
            chosen.lock.release()
            me.lock.acquire()
        # Only the one who runs may have been here: `current` is me again.

    def _move(self) -> None:
        """Let time go on to the next thing that is due, and do all that is due then."""
        heap, happened = self._heap, False
        while heap:
            due_ns, _, what = heap[0]
            if happened and due_ns > self.now_ns:
                return
            heapq.heappop(heap)
            if type(what) is Strand:
                if what.timer_ns != due_ns:
                    continue  # overtaken by an earlier one
                what.timer_ns = None
                if not what.parked or what.deadline_ns is None:
                    continue
                if what.deadline_ns > due_ns:
                    self._time(what, what.deadline_ns)
                    continue
                what.timed_out = True
                self._go_to(due_ns)
                self.wake(what)
            else:
                self._go_to(due_ns)
                what()
            happened = True
        if not self._runnable:
            self._despair()

    def _go_to(self, due_ns: int) -> None:
        self.now_ns = max(self.now_ns, due_ns)

    def _despair(self) -> None:
        waiting = "; ".join(f"{strand.name} waits for {strand.why}" for strand in self._alive() if strand.parked)
        self.main.error = SubjectError(f"nothing can ever run again, and no timer is left: {waiting}")
        if not self.main.parked:
            raise self.main.error
        self.wake(self.main)

    def _alive(self) -> list[Strand]:
        return [strand for strand in self._strands.values() if not strand.ended]

    # --- Threads ---------------------------------------------------------------------------------

    def enter(self, name: str) -> Strand:
        """Announce a thread that is about to be started. It runs when its turn comes."""
        strand = Strand(name)
        self._runnable.append(strand)
        return strand

    def run(self, strand: Strand, function: Callable[[], object]) -> None:
        """Be a thread: called first thing by the new thread itself."""
        strand.lock.acquire()
        self._strands[_real_ident()] = strand
        try:
            if strand.error is None:
                function()
        finally:
            self.leave(strand)

    def leave(self, strand: Strand) -> None:
        """End a thread, and hand the baton on for good."""
        strand.ended = True
        self._strands.pop(_real_ident(), None)
        while strand.waiters:
            self.wake(strand.waiters.popleft())
        while not self._runnable:
            self._move()
        self.current = self._runnable.popleft()
        self.current.lock.release()

    def mine(self) -> Strand | None:
        """The strand of the calling thread; None for a thread that does not belong to this world."""
        return self._strands.get(_real_ident())

    def wait_for_end(self, strand: Strand, deadline_ns: int | None) -> None:
        """Wait until another thread has ended."""
        while not strand.ended:
            strand.waiters.append(self.current)
            if not self.park(deadline_ns, f"the end of thread {strand.name}"):
                strand.waiters.remove(self.current)
                return

    def end(self) -> None:
        """Let every other thread leave: each gets `SystemExit` where it waits. Time stands still meanwhile."""
        self.over = True
        self._heap.clear()
        hook = threading.excepthook
        threading.excepthook = lambda args: None if args.exc_type is SystemExit else hook(args)
        try:
            self._dismiss()
        finally:
            threading.excepthook = hook

    def _dismiss(self) -> None:
        for _ in range(100):
            others = [strand for strand in (*self._alive(), *self._runnable) if strand is not self.main]
            if not others:
                return
            for strand in others:
                strand.error = SystemExit()
                self.wake(strand)
            # The last of them finds nobody else to run, and comes back here.
            if self.main not in self._runnable:
                self._runnable.append(self.main)
            self._pass_on(self.main)

    # --- Fences ------------------------------------------------------------------------------------

    def fence(self, what: str) -> SubjectError:
        """Note that the subject wants something that only reality has; the caller raises the answer."""
        text = f"the simulation has no {what}; run this subject with --mode live"
        if text not in self.fences:
            self.fences.append(text)
        return SubjectError(text)
