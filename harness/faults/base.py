"""What every fault is made of: its settings, the families, and the cuts through a list of actions.

A fault is settings plus one method. Which method says when it strikes:

    Greeting   before the first data frame, on every connection: how a client is let in
    Habit      how the exchange or the link behaves; from the start, or from a moment of the tape on
    Edit       frame N itself: other bytes, or other frames, in its place
    Cut        right behind frame N: a close, a reset, bytes that nobody asked for
    Fault      anything else, by its own `apply`
"""

from __future__ import annotations

import bisect
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from harness.actions import NO_FRAME, Change, Manners, Send, Span, Wire, Withhold
from harness.clock import format_duration, parse_duration_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from harness.actions import Action
    from harness.timeline import Timeline

    Make = Callable[[Action], Sequence[Action]]
    """Turns the action that holds one frame, or a piece of several, into what happens instead."""


class Duration(int):
    """Nanoseconds, written as `500ms`, `2s`, `1h`, or plain seconds."""

    def __new__(cls, written: str | float) -> Self:
        return cls.of_ns(written if isinstance(written, Duration) else parse_duration_ns(written))

    @classmethod
    def of_ns(cls, duration_ns: int) -> Self:
        """Make a duration of so many nanoseconds."""
        return int.__new__(cls, duration_ns)

    def __str__(self) -> str:
        return format_duration(int(self))

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


class Strike(msgspec.Struct, frozen=True):
    """One time that a fault strikes."""

    number: int
    """From 0. With the fault it is the ticket that one connection takes."""
    frame: int
    """Index of the frame that is struck."""
    due_ns: int
    """Recorded time of that frame."""


class Context(msgspec.Struct, kw_only=True, frozen=True):
    """What a fault may know when it is compiled for one connection."""

    index: int
    """Place of the fault in the plan; actions carry it."""
    connection: int
    rng: Random
    """The fault's own luck. One luck for all connections when it strikes once across them."""
    timeline: Timeline | None = None
    """None while manners are compiled: nobody has subscribed yet."""
    strikes: tuple[Strike, ...] = ()
    streams: tuple[str, ...] = ()
    """Names of the streams that the plan restricts the fault to; empty for all."""
    manners: Manners = Manners()
    """How this connection began; what a change goes back to."""
    from_ns: int = 0
    """Tape time at which the connection subscribed."""
    once: bool = True
    """Each strike happens once across all connections."""
    everyone: bool = True
    """The plan names no connections, or all of them: what is withheld from everywhere is withheld from REST too."""

    @property
    def tape(self) -> Timeline:
        """The timeline, where there must be one."""
        assert self.timeline is not None, "actions are compiled with a timeline"
        return self.timeline

    def end_of(self, strike: Strike, duration: Duration | None) -> int:
        """First frame that is due `duration` or more after a strike; the end of the tape when that is None."""
        if duration is None:
            return len(self.tape)
        return max(self.tape.frame_at(strike.due_ns + duration), strike.frame + 1)

    def carve(self, actions: list[Action], frames: Sequence[int], make: Make) -> list[Action]:
        """
        Cut single frames out of the list and make something else of them.

        Args:
            actions: the script so far.
            frames: indices, rising.
            make: gets the action that holds one of the frames and that frame alone.
        """
        made: list[Action] = []
        struck = 0
        for action in actions:
            held = frames_held(action)
            if held is None:
                made.append(action)
                continue
            at, last = held
            while struck < len(frames) and frames[struck] < at:
                struck += 1  # held by no action of the list, or named twice
            while struck < len(frames) and frames[struck] < last:
                frame = frames[struck]
                if at < frame:
                    made.append(self.piece(action, at, frame))
                made.extend(make(self.piece(action, frame, frame + 1)))
                at = frame + 1
                while struck < len(frames) and frames[struck] < at:
                    struck += 1
            if at < last:
                made.append(self.piece(action, at, last))
        return made

    def over(self, actions: list[Action], first: int, last: int, make: Make) -> list[Action]:
        """
        Make something else of all that happens from frame `first` to frame `last`, exclusive.

        `make` gets each piece that holds frames of that range, and every message in between that holds none.
        """
        cut: list[Action] = []
        for action in actions:
            cut.extend(self.cut(action, (first, last)))
        inside = [place for place, action in enumerate(cut) if _is_within(action, first, last)]
        if not inside:
            return actions
        made: list[Action] = []
        for place, action in enumerate(cut):
            between = inside[0] <= place <= inside[-1]
            if between and (_is_within(action, first, last) or (frames_held(action) is None and is_message(action))):
                made.extend(make(action))
            else:
                made.append(action)
        return made

    def cut(self, action: Action, edges: Sequence[int]) -> list[Action]:
        """An action in pieces, cut before each frame of `edges` (rising); whole when it holds none of them."""
        held = frames_held(action)
        if held is None:
            return [action]
        inner = edges[bisect.bisect_right(edges, held[0]) : bisect.bisect_left(edges, held[1])]
        bounds = [held[0], *inner, held[1]]
        return [self.piece(action, a, b) for a, b in pairwise(bounds)]

    def insert_at(self, actions: list[Action], tape_ns: int, new: Sequence[Action]) -> list[Action]:
        """Let something happen at a time of the tape: before the first frame that is due then."""
        frame = self.tape.frame_at(tape_ns)
        if frame == 0:
            return [*new, *actions]
        return self.carve(actions, [frame - 1], lambda piece: [piece, *new])

    def piece(self, action: Action, first: int, last: int) -> Action:
        """The part of a span or hold from `first` to `last`; other actions hold one frame and stay whole."""
        if isinstance(action, Span):
            return msgspec.structs.replace(action, first=first, last=last)
        if isinstance(action, Withhold):
            due_ns = max(action.due_ns, int(self.tape.due_ns[first]))
            return msgspec.structs.replace(action, first=first, last=last, due_ns=due_ns)
        return action

    def due_of(self, action: Action) -> int:
        """When a piece that holds frames begins."""
        return span_due_ns(action, int(self.tape.due_ns[action.first])) if isinstance(action, Span) else action.due_ns

    def singly(self, action: Action) -> Send | None:
        """The message of a piece that holds one frame; None when it does not go out as a message."""
        if isinstance(action, Send):
            return action
        if not isinstance(action, Span):
            return None
        assert action.last == action.first + 1
        return Send(
            due_ns=self.due_of(action),
            payload=self.tape.payload(action.first),
            frame=action.first,
            change="none",
            stream=int(self.tape.stream_codes[action.first]),
            fault=action.fault,
            strike=action.strike,
        )

    def of_streams(self, frames: range) -> Sequence[int]:
        """Those of some frames whose streams the plan names; all of them when it names none."""
        if not self.streams:
            return frames
        codes = {code for code, name in enumerate(self.tape.streams) if name in self.streams}
        return [frame for frame in frames if int(self.tape.stream_codes[frame]) in codes]

    def preceding(self, frame: int, count: int) -> list[int]:
        """The last `count` frames of the same stream before `frame`, in order; fewer at the start of the tape."""
        code = self.tape.stream_codes[frame]
        found: list[int] = []
        while frame > 0 and len(found) < count:
            frame -= 1
            if self.tape.stream_codes[frame] == code:
                found.append(frame)
        return found[::-1]

    def following(self, frame: int, count: int) -> list[int]:
        """The next `count` frames of the same stream behind `frame`; fewer at the end of the tape."""
        code = self.tape.stream_codes[frame]
        found: list[int] = []
        at = frame + 1
        while at < len(self.tape) and len(found) < count:
            if self.tape.stream_codes[at] == code:
                found.append(at)
            at += 1
        return found


def frames_held(action: Action) -> tuple[int, int] | None:
    """
    Which frames an action answers for, as `(first, last)`, exclusive; None for none.

    Every frame of the tape is held by exactly one action of a script. A late message holds none:
    the hold that it was taken out of does.
    """
    if isinstance(action, (Span, Withhold)):
        return action.first, action.last
    if isinstance(action, Send) and action.change in ("none", "changed") and action.frame != NO_FRAME:
        return action.frame, action.frame + 1
    if isinstance(action, Wire) and action.frame != NO_FRAME:
        return action.frame, action.frame + 1
    return None


def is_message(action: Action) -> bool:
    """Whether the action puts something of its own on the wire: a message, or bytes."""
    return isinstance(action, (Send, Wire))


def span_due_ns(span: Span, due_ns: int) -> int:
    """When a frame of a span goes out, by the frame's recorded time."""
    moved = span.pivot_ns + int((due_ns - span.pivot_ns) * span.stretch) if span.stretch != 1.0 else due_ns
    return max(span.not_before_ns, moved + span.shift_ns)


def _is_within(action: Action, first: int, last: int) -> bool:
    held = frames_held(action)
    return held is not None and first <= held[0] and held[1] <= last


# --- The families -------------------------------------------------------------------------------


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One way to misbehave. The first line of a kind's docstring is its cause in the real world."""

    before_data: ClassVar[bool] = False
    """Strikes before the first data frame: every connection, unless the plan names some."""
    holds: ClassVar[bool] = False
    """Lasts: from the start of every connection, unless the plan names a moment."""
    every_connection: ClassVar[bool] = False
    """Strikes each connection anew, not once across all."""
    from_connection: ClassVar[int] = 1
    """The first connection that it concerns; 2 for what goes wrong on coming back."""
    rest: ClassVar[bool] = False
    """Strikes REST requests, not WebSocket connections."""
    control: ClassVar[bool] = False
    """A negative control: nothing is wrong, and nobody should raise an alarm."""
    greets: ClassVar[bool] = False
    """Strikes on the tape, and has a say in how later connections are let in."""
    lasts: ClassVar[bool] = False
    """Has a `duration` setting of its own."""
    default_at: ClassVar[bool] = True
    """Strikes at a frame, so `--faults all` should choose one well inside the tape."""

    def __post_init__(self) -> None:
        # Settings arrive as text from a plan and as text or seconds from Python; inside they are nanoseconds.
        for name in durations_of(type(self)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Duration):
                msgspec.structs.force_setattr(self, name, Duration(value))

    def manners(self, manners: Manners, context: Context) -> Manners:
        """How the exchange behaves towards this connection; called before anything was received."""
        return manners

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        """What happens on the tape; called at the connection's first subscription."""
        return actions

    def market(self, timeline: Timeline, context: Context) -> Timeline:
        """What the market itself did; the tape is changed for everybody, REST too."""
        return timeline


class Greeting(Fault, frozen=True):
    """How a client is let in, or not."""

    before_data: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    def changes(self, context: Context) -> dict[str, Any]:
        """Manners that differ, by their dotted names."""
        raise NotImplementedError

    def manners(self, manners: Manners, context: Context) -> Manners:
        """Let this client in as the settings say."""
        return with_changes(manners, self.changes(context))


class Habit(Fault, frozen=True):
    """How the exchange or the link behaves, from the start or from a moment on."""

    holds: ClassVar[bool] = True
    lasts: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    duration: Duration | None = None
    """How long, in recorded time; for ever when left out."""

    def changes(self) -> dict[str, Any]:
        """Manners that differ, by their dotted names."""
        raise NotImplementedError

    def manners(self, manners: Manners, context: Context) -> Manners:
        """Behave so from the start."""
        return with_changes(manners, self.changes())

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        """Behave so from a moment on, and as before once the duration is over."""
        return change_manners(actions, context, self.changes(), duration=self.duration)

    def release(self, actions: list[Action], context: Context) -> list[Action]:
        """Where it holds from the start of the connection: end it once the duration is over."""
        if self.duration is None or len(context.tape) == 0:
            return actions
        usual, end_ns = Manners(), context.from_ns + self.duration
        back = [
            Change(due_ns=end_ns, field=dotted, value=read_manner(usual, dotted), fault=context.index)
            for dotted in self.changes()
        ]
        return context.insert_at(actions, end_ns, back)


class Edit(Fault, frozen=True):
    """Frame N itself, with other bytes."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        """Other bytes for a payload; None when there is nothing in it that could be changed so."""
        raise NotImplementedError

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        """What goes out in the place of a message."""
        payload = self.edit(sent.payload, strike, context)
        if payload is None or payload == sent.payload:
            return [sent]
        return [changed(sent, strike, context, payload=payload)]

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        """Put something else in the place of each struck frame."""
        strikes = {strike.frame: strike for strike in context.strikes}

        def make(piece: Action) -> Sequence[Action]:
            held = frames_held(piece)
            sent = context.singly(piece)
            if held is None or sent is None:
                return [piece]  # withheld, or already bytes that are no message
            made = self.instead(sent, strikes[held[0]], context)
            return [piece] if list(made) == [sent] else made

        return context.carve(actions, sorted(strikes), make)


class Cut(Fault, frozen=True):
    """Something happens right behind frame N."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        """What happens behind a frame."""
        raise NotImplementedError

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        """Let it happen behind each struck frame."""
        strikes = {strike.frame: strike for strike in context.strikes}

        def make(piece: Action) -> Sequence[Action]:
            held = frames_held(piece)
            assert held is not None
            return [piece, *self.after(strikes[held[0]], context)]

        return context.carve(actions, sorted(strikes), make)


# --- Small tools --------------------------------------------------------------------------------


def changed(sent: Send, strike: Strike, context: Context, **fields: Any) -> Send:
    """A message that stands in for the recorded one."""
    fields = {"change": "changed", "fault": context.index, "strike": strike.number, **fields}
    return msgspec.structs.replace(sent, **fields)


def added(payload: bytes, strike: Strike, context: Context, **fields: Any) -> Send:
    """A message that is not in the recording, due with the struck frame and on its stream."""
    usual = {
        "due_ns": strike.due_ns,
        "stream": int(context.tape.stream_codes[strike.frame]),
        "fault": context.index,
        "strike": strike.number,
    }
    return Send(payload=payload, change="added", **{**usual, **fields})


def withheld(
    piece: Action, strike: Strike, context: Context, *, everywhere: bool = False, streams: tuple[str, ...] = ()
) -> list[Action]:
    """Not sent: recorded frames are withheld, messages of our own left out. `streams` restricts it; empty for all."""
    held = frames_held(piece)
    if streams and isinstance(piece, (Send, Wire)) and not _is_of(piece, streams, context):
        return [piece]
    if held is None:
        return []
    if isinstance(piece, Withhold) and not piece.later:
        # Already withheld. Wider wins: more streams, and from everywhere.
        wider = tuple(dict.fromkeys((*piece.streams, *streams))) if piece.streams and streams else ()
        return [msgspec.structs.replace(piece, streams=wider, everywhere=piece.everywhere or everywhere)]
    hold = Withhold(
        first=held[0],
        last=held[1],
        due_ns=context.due_of(piece),
        fault=context.index,
        strike=strike.number,
        everywhere=everywhere,
        streams=streams if isinstance(piece, Span) else (),
    )
    return [hold]


def _is_of(message: Send | Wire, streams: tuple[str, ...], context: Context) -> bool:
    return message.stream < 0 or context.tape.streams[message.stream] in streams


def wire_behind(data: bytes, strike: Strike, context: Context, **fields: Any) -> Wire:
    """Bytes behind the struck frame, for the connection that carries it."""
    stream = int(context.tape.stream_codes[strike.frame])
    return Wire(due_ns=strike.due_ns, data=data, fault=context.index, stream=stream, strike=strike.number, **fields)


def change_manners(
    actions: list[Action], context: Context, changes: dict[str, Any], *, duration: Duration | None
) -> list[Action]:
    """Change manners behind each struck frame, and change them back once the duration is over."""
    for strike in context.strikes:
        on_ns = strike.due_ns
        if not context.once and on_ns < context.from_ns:
            # What holds for every connection from a moment on holds for one that comes later too.
            if duration is not None and on_ns + duration <= context.from_ns:
                continue
            on_ns = context.from_ns
            on = _changes(changes, strike, context, due_ns=on_ns, frame=NO_FRAME)
            actions = context.insert_at(actions, on_ns, on)
        else:
            on = _changes(changes, strike, context, due_ns=on_ns)
            actions = context.carve(actions, [strike.frame], lambda piece, on=on: [piece, *on])  # type: ignore[misc]
        if duration is None:
            continue
        before = {dotted: read_manner(context.manners, dotted) for dotted in changes}
        off = _changes(before, strike, context, due_ns=strike.due_ns + duration)
        # `end_of` is at least the frame behind the struck one, so the change comes back after it went out.
        last = context.end_of(strike, duration) - 1
        actions = context.carve(actions, [last], lambda piece, off=off: [piece, *off])  # type: ignore[misc]
    return actions


def _changes(
    values: dict[str, Any], strike: Strike, context: Context, *, due_ns: int, frame: int | None = None
) -> list[Change]:
    frame = strike.frame if frame is None else frame
    return [
        Change(due_ns=due_ns, field=dotted, value=value, fault=context.index, frame=frame, strike=strike.number)
        for dotted, value in values.items()
    ]


def read_manner(manners: Manners, dotted: str) -> Any:
    """The value of a manner by its dotted name."""
    part, _, field = dotted.partition(".")
    return getattr(getattr(manners, part), field)


def with_changes(manners: Manners, changes: dict[str, Any]) -> Manners:
    """Manners with other values, by dotted names such as `link.latency_ns`."""
    for dotted, value in changes.items():
        part, _, field = dotted.partition(".")
        manners = msgspec.structs.replace(
            manners, **{part: msgspec.structs.replace(getattr(manners, part), **{field: value})}
        )
    return manners


def durations_of(kind: type[Fault]) -> Iterator[str]:
    """Names of the settings that are durations."""
    return iter(_DURATIONS.setdefault(kind, tuple(_find_durations(kind))))


_DURATIONS: dict[type[Fault], tuple[str, ...]] = {}


def _find_durations(kind: type[Fault]) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if field.type is Duration or Duration in getattr(field.type, "__args__", ()):
            yield field.name
