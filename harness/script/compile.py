"""What one connection will do, exactly: a plan with its seed, compiled against the tape.

Faults are compiled from the tape outwards, so that each works on what the one before it made:

    tape ─▶ payload ─▶ sequence ─▶ exchange ─▶ timing ─▶ ws ─▶ http ─▶ tls ─▶ tcp ─▶ dns ─▶ client

Within a layer, in the order of the plan. Each fault keeps its own luck: it is named after its kind and
its place among its like, so that adding, removing or moving another fault changes no draw of it.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.actions import Action, Manners, Span
from harness.errors import PlanError
from harness.faults.base import Context, Habit, Strike
from harness.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from harness.faults.plan import Plan, PlannedFault
    from harness.timeline import Timeline

COMPILE_ORDER = ("payload", "sequence", "exchange", "timing", "ws", "http", "tls", "tcp", "dns", "host")
"""From the tape to the client."""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What happens on one connection, in list order; each action is due at its own time or when it is reached."""

    actions: tuple[Action, ...]


def compile_market(timeline: Timeline, plan: Plan) -> Timeline:
    """
    Let the faults that change the market itself change the tape, for everybody.

    Called once, when the clock starts and before any script is compiled. A plan without such faults
    gives the same timeline back.
    """
    for index, planned, nth in _in_order(plan):
        if planned.fault.control:
            timeline = planned.fault.market(
                timeline, _context(plan, planned, index, nth, connection=1, timeline=timeline)
            )
    return timeline


def compile_manners(plan: Plan, *, connection: int) -> Manners:
    """
    How the exchange will behave towards one connection.

    Args:
        plan: the faults and the seed.
        connection: from 1, in order of the attempts; a REST connection has a negative number, and
            meets only faults of REST.
    """
    manners = Manners()
    for index, planned, nth in _in_order(plan):
        if (planned.from_start or planned.fault.every_connection or planned.fault.greets) and _meets(
            plan, planned, nth, connection
        ):
            manners = planned.fault.manners(manners, _context(plan, planned, index, nth, connection=abs(connection)))
    return manners


def compile_script(
    timeline: Timeline, plan: Plan, *, connection: int, manners: Manners | None = None, from_ns: int = 0
) -> Script:
    """
    What will happen on one connection, once it has subscribed.

    Args:
        timeline: the tape, with the times that it will be played with.
        plan: the faults and the seed.
        connection: from 1.
        manners: how the connection began; what a passing change goes back to.
        from_ns: tape time of the first subscription.

    Returns:
        A script for the whole tape. Every frame is held by exactly one action: sent in a span, withheld,
        or stood in for.
    """
    actions: list[Action] = [Span(first=0, last=len(timeline))] if len(timeline) else []
    began = compile_manners(plan, connection=connection) if manners is None else manners
    for index, planned, nth in _in_order(plan):
        only = planned.condition.connection
        if planned.fault.control or (only is not None and not only.covers(connection)):
            continue
        if planned.from_start and not (isinstance(planned.fault, Habit) and _meets(plan, planned, nth, connection)):
            continue
        context = _context(
            plan, planned, index, nth, connection=connection, timeline=timeline, manners=began, from_ns=from_ns
        )
        if planned.from_start and isinstance(planned.fault, Habit):
            actions = planned.fault.release(actions, context)
        elif context.strikes:
            actions = planned.fault.apply(actions, context)
    return Script(actions=tuple(merged(actions)))


def check(plan: Plan, timeline: Timeline) -> None:
    """
    Refuse a plan whose moments are not on this tape: it would pass for harmless.

    Raises:
        PlanError: a fault would never strike; names the place.
    """
    for index, planned in enumerate(plan.faults):
        condition, place = planned.condition, f"faults[{index}]"
        if condition.frame is not None and condition.frame > len(timeline):
            raise PlanError(
                f"{place}.frame",
                f"{condition.frame} is past the end of the recording, which has {len(timeline)} frames",
            )
        if condition.id is not None and timeline.frame_of_id(condition.id) is None:
            raise PlanError(f"{place}.id", f"the recording has no agg trade id {condition.id}")
        if condition.at is not None and condition.at > timeline.length_ns:
            raise PlanError(
                f"{place}.at",
                f"{condition.at} is past the end of the recording, which lasts {timeline.length_ns / 1e9:.3f}s",
            )
        if condition.stream and not _codes(timeline, condition.stream):
            raise PlanError(
                f"{place}.stream",
                f"no stream {condition.stream!r} in the recording; it has {', '.join(timeline.streams)}",
            )


def merged(actions: Sequence[Action]) -> list[Action]:
    """The same with spans joined that follow each other alike: a cut that changed nothing leaves no trace."""
    made: list[Action] = []
    for action in actions:
        last = made[-1] if made else None
        if (
            isinstance(action, Span)
            and isinstance(last, Span)
            and last.last == action.first
            and msgspec.structs.replace(last, first=0, last=0) == msgspec.structs.replace(action, first=0, last=0)
        ):
            made[-1] = msgspec.structs.replace(last, last=action.last)
        else:
            made.append(action)
    return made


# --- Who is struck, and when ------------------------------------------------------------------


def _in_order(plan: Plan) -> Iterator[tuple[int, PlannedFault, int]]:
    """Place in the plan, fault, and how many of its kind are before it; in the order of compilation."""
    seen: dict[str, int] = {}
    numbered = []
    for index, planned in enumerate(plan.faults):
        nth = seen[planned.name] = seen.get(planned.name, -1) + 1
        numbered.append((COMPILE_ORDER.index(planned.layer), index, planned, nth))
    numbered.sort(key=lambda item: item[:2])
    for _, index, planned, nth in numbered:
        yield index, planned, nth


def _luck(plan: Plan, planned: PlannedFault, nth: int, connection: int, *names: str) -> Random:
    # A strike that happens once has one luck for all connections, so that they agree on which frame it is.
    mine = 0 if planned.once else connection
    return derive(plan.seed, "fault", planned.name, nth, "connection", mine, *names)


def _context(
    plan: Plan,
    planned: PlannedFault,
    index: int,
    nth: int,
    *,
    connection: int,
    timeline: Timeline | None = None,
    manners: Manners | None = None,
    from_ns: int = 0,
) -> Context:
    strikes: tuple[Strike, ...] = ()
    streams: tuple[str, ...] = ()
    if timeline is not None:
        chance = _luck(plan, planned, nth, connection, "when")
        strikes = tuple(
            Strike(number, frame, int(timeline.due_ns[frame]))
            for number, frame in enumerate(_struck(planned, timeline, chance))
        )
        codes = _codes(timeline, planned.condition.stream)
        streams = tuple(timeline.streams[code] for code in codes) if planned.condition.stream else ()
    return Context(
        index=index,
        connection=connection,
        rng=_luck(plan, planned, nth, connection),
        timeline=timeline,
        strikes=strikes,
        streams=streams,
        manners=manners or Manners(),
        from_ns=from_ns,
        once=planned.once,
        everyone=planned.condition.connection in (None, "1-"),
    )


def _meets(plan: Plan, planned: PlannedFault, nth: int, connection: int) -> bool:
    """Whether a fault that is in force from the start is in force for this connection."""
    if planned.fault.rest != (connection < 0):
        return False
    condition, number = planned.condition, abs(connection)
    only = condition.connection
    first = only.first if only is not None else 1

    def struck(one: int) -> bool:
        if only is not None and not only.covers(one):
            return False
        if condition.every is not None and (one - first) % (condition.every.frames or 1):
            return False
        return condition.probability >= 1.0 or _luck(plan, planned, nth, one, "when").random() < condition.probability

    if not struck(number):
        return False
    return condition.count is None or sum(map(struck, range(first, number))) < condition.count


def _codes(timeline: Timeline, stream: str) -> list[int]:
    """Codes of the streams that a condition names: one stream, or all of a symbol."""
    if not stream:
        return list(range(len(timeline.streams)))
    return [code for code, name in enumerate(timeline.streams) if stream in (name, name.partition("@")[0])]


def _struck(planned: PlannedFault, timeline: Timeline, chance: Random) -> list[int]:
    """Frames that a fault strikes, rising."""
    condition = planned.condition
    first = _first_frame(planned, timeline)
    if first is None:
        return []
    last = len(timeline)
    if condition.duration is not None:
        last = max(timeline.frame_at(int(timeline.due_ns[first]) + condition.duration), first + 1)
    candidates: list[int] | range = range(first, last)
    if condition.stream:
        ours = np.isin(timeline.stream_codes[first:last], _codes(timeline, condition.stream))
        candidates = [int(frame) for frame in np.flatnonzero(ours) + first]
    if not condition.widens:
        return list(candidates[:1])
    if condition.every is not None:
        candidates = _spaced(candidates, condition.every.frames, condition.every.duration_ns, timeline)
    if condition.probability < 1.0:
        # Drawn for every frame of the tape, so that moving the start leaves the fate of each frame as it was.
        lucky = [chance.random() < condition.probability for _ in range(len(timeline))]
        candidates = [frame for frame in candidates if lucky[frame]]
    return list(candidates[: condition.count])


def _first_frame(planned: PlannedFault, timeline: Timeline) -> int | None:
    condition = planned.condition
    if condition.frame is not None:
        first: int | None = condition.frame - 1
    elif condition.id is not None:
        first = timeline.frame_of_id(condition.id)
    else:
        first = timeline.frame_at(condition.at or 0)
    return first if first is not None and first < len(timeline) else None


def _spaced(candidates: list[int] | range, frames: int | None, interval_ns: int, timeline: Timeline) -> list[int]:
    if frames is not None:
        return list(candidates[::frames])
    chosen: list[int] = []
    due = [int(timeline.due_ns[frame]) for frame in candidates]
    place = 0
    while place < len(due):
        chosen.append(candidates[place])
        place = bisect.bisect_left(due, due[place] + interval_ns, place + 1)
    return chosen
