"""Timing: the right bytes at the wrong time, or never. Durations are recorded time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
import numpy as np

from harness.actions import Action, Send, Span, Wire
from harness.faults.base import (
    Context,
    Duration,
    Fault,
    Strike,
    change_manners,
    changed,
    frames_held,
    withheld,
)
from harness.faults.payload_fields import with_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.timeline import Timeline


# --- Silence --------------------------------------------------------------------------------------------


def silence(
    actions: list[Action], strike: Strike, context: Context, *, last: int, streams: tuple[str, ...]
) -> list[Action]:
    """Nothing of some streams, or of all, behind the struck frame."""
    return context.over(
        actions, strike.frame + 1, last, lambda piece: withheld(piece, strike, context, streams=streams)
    )


class Silence(Fault, frozen=True, tag="timing.silence"):
    """
    The feed goes mute: open, pings answered, no data.

    Behind frame N nothing comes, as if the market had stopped. Every client we measured waits for ever.
    """

    lasts: ClassVar[bool] = True

    duration: Duration | None = None
    """How long; for ever when left out. What was due meanwhile is lost on the wire."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            actions = silence(actions, strike, context, last=last, streams=context.streams)
        return actions


class SilenceAll(Fault, frozen=True, tag="timing.silence_all"):
    """
    The server's process hangs: no data, no pings, no pongs, and the socket stays open.

    Behind frame N nothing comes at all.
    """

    lasts: ClassVar[bool] = True

    duration: Duration | None = None
    """How long; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        quiet = {"control.ping": False, "control.pong": "withhold"}
        actions = change_manners(actions, context, quiet, duration=self.duration)
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            actions = silence(actions, strike, context, last=last, streams=context.streams)
        return actions


class SilenceFromStart(Fault, frozen=True, tag="timing.silence_from_start"):
    """
    A subscription that never starts: open, pings answered, and not one frame.

    The first frame is missing already; a connection made later is fine.
    """

    lasts: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    duration: Duration | None = None
    """How long; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes[:1]:
            last = context.end_of(strike, self.duration)
            actions = context.over(
                actions, strike.frame, last, lambda piece: withheld(piece, strike, context, streams=context.streams)
            )
        return actions


class PartialSilence(Fault, frozen=True, tag="timing.partial_silence"):
    """
    One of several streams on a connection dies, the others flow (UBWA#45, #216).

    A watchdog per connection sees nothing.
    """

    lasts: ClassVar[bool] = True

    stream: str = ""
    """The stream that goes mute; that of frame N when left out."""
    duration: Duration | None = None
    """How long; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            wanted = self.stream or context.tape.stream_of(strike.frame)
            streams = tuple(name for name in context.tape.streams if wanted in (name, name.partition("@")[0]))
            last = context.end_of(strike, self.duration)
            if streams:
                actions = silence(actions, strike, context, last=last, streams=streams)
        return actions


class Trickle(Fault, frozen=True, tag="timing.trickle"):
    """
    A dying feed lets one message through now and then: just enough for a naive watchdog.

    Behind frame N, one frame per interval; the rest are lost.
    """

    lasts: ClassVar[bool] = True

    interval: Duration = Duration("25s")
    """Between two frames that come."""
    duration: Duration | None = None
    """How long; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last, due_ns = context.end_of(strike, self.duration), strike.due_ns
            kept: set[int] = set()
            frames = np.asarray(context.of_streams(range(strike.frame + 1, last)), dtype=np.int64)
            times = context.tape.due_ns[frames]
            while (place := int(np.searchsorted(times, due_ns + max(self.interval, 1)))) < len(frames):
                kept.add(int(frames[place]))
                due_ns = int(times[place])
            edges = sorted(kept | {frame + 1 for frame in kept})

            def make(
                piece: Action, strike: Strike = strike, kept: set[int] = kept, edges: list[int] = edges
            ) -> list[Action]:
                made: list[Action] = []
                for part in context.cut(piece, edges):
                    held = frames_held(part)
                    comes = held is not None and held[0] in kept
                    made += [part] if comes else withheld(part, strike, context, streams=context.streams)
                return made

            actions = context.over(actions, strike.frame + 1, last, make)
        return actions


class FirstMessageDelay(Fault, frozen=True, tag="timing.first_message_delay"):
    """
    A cold start: the first data comes long after the subscription.

    Each connection misses what is due in its first moments.
    """

    every_connection: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    delay: Duration = Duration("5s")
    """From the subscription on."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        return mute_start(actions, context, self.delay)


def mute_start(actions: list[Action], context: Context, delay: Duration) -> list[Action]:
    """A connection gets nothing of what is due in its first moments."""
    if not context.strikes:
        return actions
    first, last = context.tape.frame_at(context.from_ns), context.tape.frame_at(context.from_ns + delay)
    if first >= last:
        return actions
    return context.over(
        actions, first, last, lambda piece: withheld(piece, context.strikes[0], context, streams=context.streams)
    )


# --- Late ----------------------------------------------------------------------------------------------


def moved(piece: Action, strike: Strike, context: Context, *, not_before_ns: int = 0, shift_ns: int = 0) -> Action:
    """The same, later."""
    if isinstance(piece, Span):
        return msgspec.structs.replace(
            piece,
            not_before_ns=max(piece.not_before_ns, not_before_ns),
            shift_ns=piece.shift_ns + shift_ns,
            fault=context.index,
            strike=strike.number,
        )
    if isinstance(piece, (Send, Wire)):
        return msgspec.structs.replace(piece, due_ns=max(piece.due_ns + shift_ns, not_before_ns))
    return piece


class StallThenBurst(Fault, frozen=True, tag="timing.stall_then_burst"):
    """
    A garbage collection or a bloated buffer: nothing, and then everything at once.

    What is due in the time behind frame N is held, and comes in one burst.
    """

    lasts: ClassVar[bool] = True

    duration: Duration | None = Duration("5s")
    """How long it is held."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            until_ns = strike.due_ns + (self.duration or context.tape.length_ns)
            actions = context.over(
                actions,
                strike.frame + 1,
                last,
                lambda piece, until_ns=until_ns: [moved(piece, strike, context, not_before_ns=until_ns)],  # type: ignore[misc]
            )
        return actions


class Flap(Fault, frozen=True, tag="timing.flap"):
    """
    Short stalls, again and again, each shorter than any watchdog.

    Behind frame N, what is due in the first part of every period is held until that part is over.
    """

    lasts: ClassVar[bool] = True

    stall: Duration = Duration("1s")
    """Length of each stall."""
    period: Duration = Duration("3s")
    """From the start of one stall to the start of the next."""
    duration: Duration | None = None
    """How long it goes on; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        tape = context.tape
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            held_until: list[tuple[int, int, int]] = []
            start_ns = strike.due_ns
            while (first := tape.frame_at(start_ns)) < last:
                end_ns = start_ns + self.stall
                held_until.append((max(first, strike.frame + 1), min(tape.frame_at(end_ns), last), end_ns))
                start_ns += max(int(self.period), int(self.stall), 1)
            edges = sorted({edge for first, end, _ in held_until for edge in (first, end)})

            def make(
                piece: Action,
                strike: Strike = strike,
                windows: Sequence[tuple[int, int, int]] = held_until,
                edges: list[int] = edges,
            ) -> list[Action]:
                return [_held(part, windows, strike, context) for part in context.cut(piece, edges)]

            actions = context.over(actions, strike.frame + 1, last, make)
        return actions


def _held(piece: Action, windows: Iterable[tuple[int, int, int]], strike: Strike, context: Context) -> Action:
    held = frames_held(piece)
    for first, last, until_ns in windows:
        if held is not None and first <= held[0] < last:
            return moved(piece, strike, context, not_before_ns=until_ns)
    return piece


class Burst(Fault, frozen=True, tag="timing.burst"):
    """
    The storm of an open or a liquidation: queues overflow (python-binance's holds 100).

    What is due in the time behind frame N waits, and then comes at `factor` times its pace.
    """

    lasts: ClassVar[bool] = True

    factor: Annotated[float, msgspec.Meta(gt=1.0)] = 50.0
    """Times the recorded pace."""
    duration: Duration | None = Duration("5s")
    """The time whose frames come in the storm, which ends with it."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            end_ns = min(strike.due_ns + (self.duration or context.tape.length_ns), context.tape.length_ns)

            # Towards the end of the time, never before a frame's own due: trades do not come from the future.
            def make(piece: Action, strike: Strike = strike, end_ns: int = end_ns) -> list[Action]:
                if not isinstance(piece, Span):
                    return (
                        [moved(piece, strike, context, not_before_ns=end_ns - (end_ns - context.due_of(piece)) // 50)]
                        if isinstance(piece, (Send, Wire))
                        else [piece]
                    )
                return [
                    msgspec.structs.replace(
                        piece, pivot_ns=end_ns, stretch=1 / self.factor, fault=context.index, strike=strike.number
                    )
                ]

            actions = context.over(actions, strike.frame + 1, last, make)
        return actions


class LagConstant(Fault, frozen=True, tag="timing.lag_constant"):
    """
    A relay that is always behind: alive, complete, and old.

    Behind frame N everything comes late by the same time; the times inside say so.
    """

    lasts: ClassVar[bool] = True

    lag: Duration = Duration("5s")
    """How late."""
    duration: Duration | None = None
    """How long it goes on; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            actions = context.over(
                actions, strike.frame + 1, last, lambda piece: [moved(piece, strike, context, shift_ns=int(self.lag))]
            )
        return actions


class LagGrowing(Fault, frozen=True, tag="timing.lag_growing"):
    """
    A consumer or a relay that is a little too slow: older with every minute.

    Behind frame N time runs slower on the wire than in the market.
    """

    lasts: ClassVar[bool] = True

    rate: Annotated[float, msgspec.Meta(gt=0.0, le=10.0)] = 0.5
    """Seconds of lag gained per second."""
    duration: Duration | None = None
    """How long it goes on; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)

            def make(piece: Action, strike: Strike = strike) -> list[Action]:
                if isinstance(piece, Span):
                    return [
                        msgspec.structs.replace(
                            piece,
                            pivot_ns=strike.due_ns,
                            stretch=1 + self.rate,
                            fault=context.index,
                            strike=strike.number,
                        )
                    ]
                behind_ns = int(max(0, context.due_of(piece) - strike.due_ns) * self.rate)
                return [moved(piece, strike, context, shift_ns=behind_ns)]

            actions = context.over(actions, strike.frame + 1, last, make)
        return actions


class ClockStep(Fault, frozen=True, tag="timing.clock_step"):
    """
    The exchange's clock is stepped by NTP, or a virtual machine resumes.

    Behind frame N the times inside the frames jump, and stay so.
    """

    lasts: ClassVar[bool] = True

    step: Duration = Duration("1h")
    """How far."""
    back: bool = False
    """Into the past instead of the future."""
    duration: Duration | None = None
    """How long it goes on; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        step_ms = int(self.step) // 1_000_000 * (-1 if self.back else 1)
        for strike in context.strikes:
            frames = context.of_streams(range(strike.frame + 1, context.end_of(strike, self.duration)))

            def make(piece: Action, strike: Strike = strike) -> list[Action]:
                sent = context.singly(piece)
                payload = with_times(sent.payload, step_ms) if sent else None
                return [piece] if sent is None or payload is None else [changed(sent, strike, context, payload=payload)]

            actions = context.carve(actions, frames, make)
        return actions


# --- Negative controls ---------------------------------------------------------------------------------


class _Pause(Fault, frozen=True):
    """The market itself pauses: what follows happens later, and says so."""

    control: ClassVar[bool] = True

    def pause_ns(self) -> int:
        raise NotImplementedError

    def market(self, timeline: Timeline, context: Context) -> Timeline:
        for strike in reversed(context.strikes):
            timeline = timeline.paused(strike.frame + 1, self.pause_ns())
        return timeline


class QuietMarket(_Pause, frozen=True, tag="timing.quiet_market"):
    """
    A small coin at night: nobody trades. Not a fault.

    Behind frame N the market pauses; no id is missing. Whoever raises an alarm cries wolf.
    """

    lasts: ClassVar[bool] = True

    duration: Duration = Duration("20s")
    """How long nobody trades."""

    def pause_ns(self) -> int:
        return int(self.duration)


class JustUnder(_Pause, frozen=True, tag="timing.just_under"):
    """
    A pause just shorter than the watchdog's limit. Not a fault.

    Behind frame N the market pauses for nine tenths of the threshold.
    """

    threshold: Duration = Duration("30s")
    """The watchdog's limit."""

    def pause_ns(self) -> int:
        return int(self.threshold) * 9 // 10
