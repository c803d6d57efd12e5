"""Disconnects that a recording remembers, re-enacted: the client sees what the recorder saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.actions import Abort, Close, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.actions import Action
    from harness.timeline import Mark, Timeline

RECORDED = -2
"""`fault` of a re-enacted mark: its ticket is `(RECORDED, number of the mark)`, so it happens once."""


def with_marks(actions: Sequence[Action], timeline: Timeline) -> Sequence[Action]:
    """
    Put the recording's own disconnects between the actions of a script.

    A mark behind the last frame is the end of the recording and no event of the market; one that does
    not fall into an untouched span is left out, because there the plan decides what happens.
    """
    marks = [
        (number, mark)
        for number, mark in enumerate(timeline.marks)
        if mark.kind in {"close", "lost"} and 0 < mark.frame < len(timeline)
    ]
    if not marks:
        return actions
    result: list[Action] = []
    for action in actions:
        if not isinstance(action, Span):
            result.append(action)
            continue
        first = action.first
        for number, mark in marks:
            if first < mark.frame < action.last or (first == mark.frame and first > action.first):
                if mark.frame > first:
                    result.append(msgspec.structs.replace(action, first=first, last=mark.frame))
                result.append(_ending(mark, number))
                first = mark.frame
        result.append(msgspec.structs.replace(action, first=first))
    return result


def _ending(mark: Mark, number: int) -> Action:
    if mark.kind == "close" and mark.close_code is not None:
        code = mark.close_code
        # These two are never on the wire (RFC 6455, section 7.4.1): they say how it looked to the recorder.
        if code not in {1005, 1006}:
            reason = mark.detail.encode()[:123]
            return Close(due_ns=mark.due_ns, fault=RECORDED, code=code, reason=reason, strike=number)
    return Abort(due_ns=mark.due_ns, fault=RECORDED, strike=number)
