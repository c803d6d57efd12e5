"""Sequence: trades lost, doubled, out of order, or numbered wrong. The wire is fine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from harness.actions import Action, Send, Withhold
from harness.faults.base import (
    Context,
    Duration,
    Edit,
    Fault,
    Strike,
    added,
    changed,
    frames_held,
    withheld,
)
from harness.faults.fields import as_int, get_value, set_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Count = Annotated[int, msgspec.Meta(ge=1)]


class Gap(Fault, frozen=True, tag="sequence.gap"):
    """
    The exchange itself lost trades: the ids pass over them.

    Frame N and those that follow are withheld, from REST too. Nobody can get them; the hole can be noticed.
    """

    count: Count = 1
    """Frames withheld, from frame N on."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        return _withhold(actions, context, self.count, everywhere=context.everyone)


class Drop(Fault, frozen=True, tag="sequence.drop"):
    """
    Frames are lost between the exchange and the client, without a disconnect.

    Frame N and those that follow do not come; REST has them.
    """

    count: Count = 1
    """Frames withheld, from frame N on."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        return _withhold(actions, context, self.count, everywhere=False)


def _withhold(actions: list[Action], context: Context, count: int, *, everywhere: bool) -> list[Action]:
    if count == 1:
        strikes = {strike.frame: strike for strike in context.strikes}

        def make(piece: Action) -> Sequence[Action]:
            held = frames_held(piece)
            assert held is not None
            return withheld(piece, strikes[held[0]], context, everywhere=everywhere)

        return context.carve(actions, sorted(strikes), make)
    for strike in context.strikes:
        if context.streams:
            # Only frames of the streams that the plan names count.
            frames = [strike.frame, *context.following(strike.frame, count - 1)]
            actions = context.carve(
                actions,
                frames,
                lambda piece: withheld(piece, strike, context, everywhere=everywhere),
            )
        else:
            last = min(strike.frame + count, len(context.tape))
            actions = context.over(
                actions,
                strike.frame,
                last,
                lambda piece: withheld(piece, strike, context, everywhere=everywhere),
            )
    return actions


class Duplicate(Fault, frozen=True, tag="sequence.duplicate"):
    """
    Two of the exchange's nodes both deliver: a trade comes twice.

    Frame N is sent again right behind itself.
    """

    copies: Count = 1
    """Times that it is sent again."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        strikes = {strike.frame: strike for strike in context.strikes}

        def make(piece: Action) -> Sequence[Action]:
            held, sent = frames_held(piece), context.singly(piece)
            if held is None or sent is None:
                return [piece]
            return [piece, *[_copy(sent, strikes[held[0]], context, due_ns=sent.due_ns)] * self.copies]

        return context.carve(actions, sorted(strikes), make)


def _copy(sent: Send, strike: Strike, context: Context, *, due_ns: int) -> Send:
    return added(sent.payload, strike, context, due_ns=due_ns, stream=sent.stream, opcode=sent.opcode)


class Doubled(Fault, frozen=True, tag="sequence.doubled"):
    """
    Two connections on one stream, merged by a proxy: everything comes twice.

    From frame N on, every frame is sent twice.
    """

    lasts: ClassVar[bool] = True

    duration: Duration | None = Duration("2s")
    """How long, in recorded time."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            frames = context.of_streams(range(strike.frame, context.end_of(strike, self.duration)))

            def make(piece: Action, strike: Strike = strike) -> Sequence[Action]:
                sent = context.singly(piece)
                return [piece] if sent is None else [piece, _copy(sent, strike, context, due_ns=sent.due_ns)]

            actions = context.carve(actions, frames, make)
        return actions


class Replay(Fault, frozen=True, tag="sequence.replay"):
    """
    A node fails over to one that is behind, and sends again what was sent before.

    Behind frame N, the frames before it come once more.
    """

    count: Count = 10
    """Frames that come again, frame N the last of them."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        return replay(actions, context, self.count)


def replay(actions: list[Action], context: Context, count: int) -> list[Action]:
    """Send again, behind each struck frame, the last `count` frames of its stream."""
    for strike in context.strikes:
        again = [
            added(context.tape.payload(frame), strike, context)
            for frame in [*context.preceding(strike.frame, count - 1), strike.frame]
        ]
        actions = context.carve(actions, [strike.frame], lambda piece, again=again: [piece, *again])  # type: ignore[misc]
    return actions


class Reorder(Fault, frozen=True, tag="sequence.reorder"):
    """
    Several senders behind one load balancer: trades overtake each other.

    Frame N comes behind the `span` frames of its stream that follow it.
    """

    span: Count = 1
    """Frames that overtake it."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            behind = context.following(strike.frame, self.span)
            if not behind:
                continue
            late: list[Send] = []

            def hold(
                piece: Action, strike: Strike = strike, late: list[Send] = late, last: int = behind[-1]
            ) -> list[Action]:
                sent = context.singly(piece)
                if sent is None:
                    return [piece]
                due_ns = max(sent.due_ns, int(context.tape.due_ns[last]))
                late.append(changed(sent, strike, context, due_ns=due_ns, change="late"))
                held = Withhold(
                    first=strike.frame,
                    last=strike.frame + 1,
                    due_ns=sent.due_ns,
                    fault=context.index,
                    strike=strike.number,
                    later=True,
                )
                return [held]

            actions = context.carve(actions, [strike.frame], hold)
            if late:
                actions = context.carve(actions, [behind[-1]], lambda piece, late=late: [piece, *late])  # type: ignore[misc]
        return actions


# --- Numbers ------------------------------------------------------------------------------------------


class _Renumber(Fault, frozen=True):
    """From frame N on, every frame of its stream has another number."""

    lasts: ClassVar[bool] = True

    def number(self, old: int, first: int) -> int:
        raise NotImplementedError

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        duration: Duration | None = getattr(self, "duration", None)
        for strike in context.strikes:
            count = context.end_of(strike, duration) - strike.frame
            last = context.end_of(strike, duration)
            frames = [strike.frame, *(f for f in context.following(strike.frame, count) if f < last)]
            first = as_int(get_value(context.tape.payload(strike.frame), "a"))
            if first is None:
                continue
            make = _renumbering(lambda old, first=first: self.number(old, first), strike, context)  # type: ignore[misc]
            actions = context.carve(actions, frames, make)
        return actions


def _renumbering(number: Callable[[int], int], strike: Strike, context: Context) -> Callable[[Action], list[Action]]:
    def make(piece: Action) -> list[Action]:
        sent = context.singly(piece)
        old = as_int(get_value(sent.payload, "a")) if sent else None
        if sent is None or old is None:
            return [piece]
        payload = set_value(sent.payload, "a", str(number(old)).encode())
        return [changed(sent, strike, context, payload=payload)]

    return make


class IdReset(_Renumber, frozen=True, tag="sequence.id_reset"):
    """
    The exchange's matching engine starts anew: ids begin at 1 again.

    From frame N on, ids count from 1. A client that drops old ids drops everything.
    """

    duration: Duration | None = None
    """How long, in recorded time; for ever when left out."""

    def number(self, old: int, first: int) -> int:
        return old - first + 1


class IdJump(_Renumber, frozen=True, tag="sequence.id_jump"):
    """
    The exchange skips a block of ids, and no trade is missing.

    From frame N on, ids are higher: it looks like a gap that no backfill can close.
    """

    by: Count = 1000
    """How much higher."""
    duration: Duration | None = None
    """How long, in recorded time; for ever when left out."""

    def number(self, old: int, first: int) -> int:
        return old + self.by


class IdBackwards(Edit, frozen=True, tag="sequence.id_backwards"):
    """
    A stale node answers once: one id lies below those before it.

    Frame N has an old id and new content.
    """

    by: Count = 50
    """How far below its own."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        number = as_int(get_value(payload, "a"))
        return set_value(payload, "a", str(max(0, number - self.by)).encode()) if number is not None else None


class IdRepeated(Edit, frozen=True, tag="sequence.id_repeated"):
    """
    Another trade under a number that was used before (ccxt#8329).

    Frame N has the id of the frame before it and a content of its own.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        before, own = context.preceding(strike.frame, 1), as_int(get_value(payload, "a"))
        used = as_int(get_value(context.tape.payload(before[0]), "a")) if before else (own or 0) - 1
        return set_value(payload, "a", str(used).encode()) if own and used is not None else None


class FlMismatch(Edit, frozen=True, tag="sequence.fl_mismatch"):
    """
    Trades inside an aggregate go missing: `f` is not the last `l` plus 1.

    The ids of frame N's trades lie further on; its own id is right.
    """

    by: Count = 5
    """How much further."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        made: bytes | None = None
        for key in ("f", "l"):
            value = as_int(get_value(payload, key))
            if value is not None:
                payload = made = set_value(payload, key, str(value + self.by).encode()) or payload
        return made


class FlVoid(Edit, frozen=True, tag="sequence.fl_void"):
    """
    A duplicate that Binance voided: ids -1, price and quantity 0 (2022-04-12).

    Frame N says that it holds no trade.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        made: bytes | None = None
        for key, value in (("p", b'"0"'), ("q", b'"0"'), ("f", b"-1"), ("l", b"-1")):
            payload = made = set_value(payload, key, value) or payload
        return made if get_value(payload, "a") else None


# --- Across a reconnect ---------------------------------------------------------------------------------


class OverlapOnReconnect(Fault, frozen=True, tag="sequence.overlap_on_reconnect"):
    """
    A gateway with a buffer sends again what it holds when a client comes back.

    A later connection begins with frames that were due before it subscribed.
    """

    from_connection: ClassVar[int] = 2
    every_connection: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    frames: Count = 20
    """Frames that come again."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        if context.connection == 1 or not context.strikes:
            return actions
        strike, tape = context.strikes[0], context.tape
        now = tape.frame_at(context.from_ns)
        again: list[Action] = [
            added(tape.payload(frame), strike, context, due_ns=context.from_ns, stream=int(tape.stream_codes[frame]))
            for frame in context.of_streams(range(now))[-self.frames :]
        ]
        return context.insert_at(actions, context.from_ns, again)
