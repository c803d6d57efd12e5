"""Where a connection is in its script: list order, each item due at the later of its own time and its predecessor's.

The cursor knows times and order only. What to do with a step is the connection's business.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from harness.actions import NO_FAULT, NO_FRAME, Abort, Change, Close, Eof, Send, Span, Wire, Withhold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.actions import Action
    from harness.timeline import Timeline


class Frames(msgspec.Struct, frozen=True):
    """Recorded frames `first` to `last` (exclusive) are due, untouched."""

    first: int
    last: int
    late: bool
    fault: int = NO_FAULT
    strike: int = 0


class Act(msgspec.Struct, frozen=True):
    """Something else than untouched frames is due."""

    action: Withhold | Send | Wire | Close | Abort | Eof | Change


Step = Frames | Act


class Permit(Protocol):
    """Whether an action may strike this connection."""

    def __call__(self, action: Action, *, claim: bool) -> bool:
        """
        Ask for the ticket of an action.

        Args:
            action: whose ticket.
            claim: take it; False only looks.
        """
        ...


class Cursor:
    """
    A position in a script.

    Args:
        actions: the script.
        timeline: what its frame numbers mean.
        permit: asked before a fault strikes.
        tape_ns: items due before this are not this connection's business.
        frame: nor are frames before this, and actions that belong to them.
        resume: what was due at exactly `tape_ns` was done already, apart from frames.
    """

    def __init__(
        self,
        actions: Sequence[Action],
        timeline: Timeline,
        permit: Permit,
        *,
        tape_ns: int,
        frame: int,
        resume: bool = False,
    ) -> None:
        self._actions = actions
        self._timeline = timeline
        self._permit = permit
        self._index = 0
        self._instead: deque[Action] = deque()  # what a refused ticket left to do
        self._frame = -1  # next frame inside the present action
        self._due_ns = tape_ns
        self.next_frame = frame
        """The first recorded frame that has not been passed."""
        self._seek(tape_ns, frame, resume=resume)

    @property
    def done_ns(self) -> int:
        """Tape time of what was done last."""
        return self._due_ns

    @property
    def ended(self) -> bool:
        """Nothing is left to do."""
        return self._present() is None

    def next_due_ns(self) -> int | None:
        """Tape time of the next item; None at the end."""
        action = self._present()
        return None if action is None else max(self._due_ns, self._own_due(action))

    def take(self, tape_ns: int, frames_max: int) -> Step | None:
        """
        Return the next step that is due at `tape_ns`, or None.

        Args:
            tape_ns: tape time now.
            frames_max: at most so many frames in one step.
        """
        action = self._present()
        if action is None or max(self._due_ns, self._own_due(action)) > tape_ns:
            return None
        if action.fault != NO_FAULT and not self._permit(action, claim=True):
            self._refuse(action)
            return self.take(tape_ns, frames_max)
        if isinstance(action, Span):
            return self._take_span(action, tape_ns, frames_max)
        if isinstance(action, Withhold):
            return self._take_withhold(action, tape_ns, frames_max)
        self._due_ns = max(self._due_ns, action.due_ns)
        if action.frame != NO_FRAME:
            self.next_frame = max(self.next_frame, action.frame + 1)
        self._step_over()
        return Act(action)

    def _take_span(self, span: Span, tape_ns: int, frames_max: int) -> Frames:
        first = self._frame
        last = min(_due_until(self._timeline, span, first, tape_ns), first + frames_max)
        assert first < last <= span.last, "a span that is due has a frame that is due"
        self._due_ns = max(self._due_ns, _span_due(self._timeline, span, last - 1))
        self._advance_to(last, span.last)
        late = bool(span.shift_ns or span.not_before_ns > int(self._timeline.due_ns[first]) or span.stretch != 1.0)
        return Frames(first, last, late, span.fault, span.strike)

    def _take_withhold(self, withhold: Withhold, tape_ns: int, frames_max: int) -> Step:
        first = self._frame
        if not withhold.streams:
            self._due_ns = max(self._due_ns, withhold.due_ns)
            self._advance_to(withhold.last, withhold.last)
            return Act(msgspec.structs.replace(withhold, first=first))
        # The other streams of the range are sent on time, so the range is walked like a span.
        last = min(
            _due_until(self._timeline, Span(first=first, last=withhold.last), first, tape_ns), first + frames_max
        )
        self._due_ns = max(self._due_ns, int(self._timeline.due_ns[last - 1]))
        self._advance_to(last, withhold.last)
        return Act(msgspec.structs.replace(withhold, first=first, last=last))

    def _advance_to(self, frame: int, last: int) -> None:
        self._frame = frame
        self.next_frame = max(self.next_frame, frame)
        if frame >= last:
            self._step_over()

    def _present(self) -> Action | None:
        while True:
            if self._instead:
                action = self._instead[0]
            elif self._index < len(self._actions):
                action = self._actions[self._index]
            else:
                return None
            if isinstance(action, (Span, Withhold)):
                self._frame = max(self._frame, action.first)
                if self._frame >= action.last:
                    self._step_over()
                    continue
            # A ticket that is gone is noticed on arrival, since what is left to do may be due earlier.
            if action.fault != NO_FAULT and not self._permit(action, claim=False):
                self._refuse(action)
                continue
            return action

    def _step_over(self) -> None:
        self._frame = -1
        if self._instead:
            self._instead.popleft()
        else:
            self._index += 1

    def _refuse(self, action: Action) -> None:
        # Actions of one strike that stand together are undone together: frames that they
        # reordered go out in the recorded order.
        ticket = (action.fault, action.strike)
        frames: list[tuple[int, int]] = []
        present: Action | None = action
        start = self._frame
        while present is not None and (present.fault, present.strike) == ticket:
            frames.extend(_frames_of(present, start))
            start = -1
            if self._instead:
                self._instead.popleft()
            else:
                self._index += 1
            if self._instead:
                present = self._instead[0]
            else:
                present = self._actions[self._index] if self._index < len(self._actions) else None
        self._frame = -1
        self._instead.extendleft(Span(first=a, last=b) for a, b in reversed(_merged(frames)))

    def _own_due(self, action: Action) -> int:
        if isinstance(action, Span):
            return _span_due(self._timeline, action, self._frame)
        if isinstance(action, Withhold) and action.streams:
            return int(self._timeline.due_ns[self._frame])
        return action.due_ns

    def _seek(self, tape_ns: int, frame: int, *, resume: bool) -> None:
        while self._index < len(self._actions):
            action = self._actions[self._index]
            if isinstance(action, Span):
                self._frame = max(frame, action.first, _first_due(self._timeline, action, tape_ns))
                if self._frame < action.last:
                    return
            elif isinstance(action, Withhold):
                self._frame = max(frame, action.first)
                if self._frame < action.last:
                    return
            elif action.due_ns >= tape_ns + resume and not (NO_FRAME < action.frame < frame):
                break
            self._index += 1
        self._frame = -1


def _frames_of(action: Action, start: int) -> list[tuple[int, int]]:
    if isinstance(action, (Span, Withhold)):
        return [(max(action.first, start), action.last)]
    # A late message holds no frame: the hold that it was taken out of sends it in its place.
    if isinstance(action, Send) and action.change in {"none", "changed"} and action.frame != NO_FRAME:
        return [(action.frame, action.frame + 1)]
    if isinstance(action, Wire) and action.frame != NO_FRAME:
        return [(action.frame, action.frame + 1)]
    return []


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _span_due(timeline: Timeline, span: Span, frame: int) -> int:
    due = int(timeline.due_ns[frame])
    if span.stretch != 1.0:
        due = span.pivot_ns + int((due - span.pivot_ns) * span.stretch)
    return max(span.not_before_ns, due + span.shift_ns)


def _recorded(span: Span, tape_ns: int) -> int:
    # The recorded time whose frame is sent at `tape_ns`.
    tape_ns -= span.shift_ns
    if span.stretch == 1.0:
        return tape_ns
    if span.stretch == 0:
        return 1 << 62 if tape_ns >= span.pivot_ns else -1
    return span.pivot_ns + int((tape_ns - span.pivot_ns) / span.stretch)


def _due_until(timeline: Timeline, span: Span, first: int, tape_ns: int) -> int:
    found = int(np.searchsorted(timeline.due_ns[first : span.last], _recorded(span, tape_ns), side="right"))
    # Division may round a frame that is due out of the range; the first one is known to be due.
    return first + max(1, found)


def _first_due(timeline: Timeline, span: Span, tape_ns: int) -> int:
    if tape_ns <= span.not_before_ns:
        return span.first
    due = timeline.due_ns[span.first : span.last]
    return span.first + int(np.searchsorted(due, _recorded(span, tape_ns), side="left"))
