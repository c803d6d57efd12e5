"""TCP: who accepts, who resets, and what the link does to bytes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from harness.actions import Abort, Action, Change, Eof, Manners, Send, Span, Wire
from harness.faults.base import (
    Context,
    Cut,
    Duration,
    Edit,
    Fault,
    Greeting,
    Habit,
    Strike,
    change_manners,
    frames_held,
    with_changes,
)
from harness.faults.wire import BINARY, TEXT, ws_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

Count = Annotated[int, msgspec.Meta(ge=1)]
Size = Annotated[int, msgspec.Meta(ge=1)]


# --- Connecting -------------------------------------------------------------------------------


class Refuse(Greeting, frozen=True, tag="tcp.refuse"):
    """
    A deployment or maintenance: the listener is down.

    The connection is refused at once.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "refuse"}


class ConnectBlackhole(Greeting, frozen=True, tag="tcp.connect_blackhole"):
    """
    A firewall, a region ban or a routing fault swallows the SYN.

    Nothing answers; a client without an open timeout waits for minutes.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "blackhole"}


class AcceptHang(Greeting, frozen=True, tag="tcp.accept_hang"):
    """
    A server whose kernel accepts while its process is stuck.

    The connection opens and not one byte ever comes.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "hang"}


class AcceptSlow(Greeting, frozen=True, tag="tcp.accept_slow"):
    """
    A full backlog: the server gets round to new connections late.

    The connection opens and its first byte waits.
    """

    delay: Duration = Duration("5s")
    """How long the server takes to look at the connection."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept_delay_ns": int(self.delay)}


class AcceptClose(Greeting, frozen=True, tag="tcp.accept_close"):
    """
    An overloaded load balancer accepts and hangs up.

    FIN right after the connection opened.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "close"}


class AcceptReset(Greeting, frozen=True, tag="tcp.accept_reset"):
    """
    A load balancer with no healthy server behind it.

    RST right after the connection opened.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "reset"}


class ConnLimit(Greeting, frozen=True, tag="tcp.conn_limit"):
    """
    The exchange counts connection attempts per address (300 in 5 minutes on Binance) and drops the next.

    Attempts past the limit are accepted and hung up on.
    """

    limit: Count = 1
    """Attempts that get through."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "close"} if context.connection > self.limit else {}


# --- Ends ---------------------------------------------------------------------------------------


class ResetPeer(Cut, frozen=True, tag="tcp.reset_peer"):
    """
    A load balancer restarts, or kills a connection that it thinks idle.

    RST behind the frame; whatever was on its way is lost.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [Abort(due_ns=strike.due_ns, fault=context.index, frame=strike.frame, strike=strike.number)]


class FinNoClose(Cut, frozen=True, tag="tcp.fin_no_close"):
    """
    The server process dies between two frames.

    FIN without a close frame: close code 1006, and some read loops just end.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [Eof(due_ns=strike.due_ns, fault=context.index, frame=strike.frame, strike=strike.number)]


def half_a_frame(sent: Send, strike: Strike, context: Context) -> Wire:
    """The first half of a message's bytes, in its place."""
    data = ws_frame(TEXT if sent.opcode == 1 else BINARY, sent.payload)
    return Wire(
        due_ns=sent.due_ns,
        data=data[: max(3, len(data) // 2)],
        fault=context.index,
        frame=sent.frame,
        stream=sent.stream,
        strike=strike.number,
    )


class ResetMidframe(Edit, frozen=True, tag="tcp.reset_midframe"):
    """
    A load balancer restarts at the worst instant.

    Half of the frame, then RST.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        end = Abort(due_ns=sent.due_ns, fault=context.index, frame=strike.frame, strike=strike.number)
        return [half_a_frame(sent, strike, context), end]


class FinMidframe(Edit, frozen=True, tag="tcp.fin_midframe"):
    """
    A crash or a proxy's timeout cuts the stream inside a frame.

    Half of the frame, then FIN.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        end = Eof(due_ns=sent.due_ns, fault=context.index, frame=strike.frame, strike=strike.number)
        return [half_a_frame(sent, strike, context), end]


class StallMidframe(Edit, frozen=True, tag="tcp.stall_midframe"):
    """
    The path dies while a frame is on its way.

    Half of the frame, then nothing, both ways; the sockets stay open.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        return [half_a_frame(sent, strike, context), *mutes(strike, context, down=True, up=True)]


def mutes(strike: Strike, context: Context, *, down: bool, up: bool) -> list[Change]:
    """Make the link deaf or dumb behind a frame; the sockets stay open."""
    fields = (["link.mute_down"] if down else []) + (["link.mute_up"] if up else [])
    return [
        Change(
            due_ns=strike.due_ns, field=field, value=True, fault=context.index, frame=strike.frame, strike=strike.number
        )
        for field in fields
    ]


# --- Black holes ----------------------------------------------------------------------------------


class _Muting(Cut, frozen=True):
    lasts: ClassVar[bool] = True
    fields: ClassVar[tuple[str, ...]] = ()

    duration: Duration | None = None
    """How long, in recorded time; for ever when left out. What was held comes through afterwards."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        values: dict[str, Any] = {field: field != "link.reading" for field in self.fields}
        return change_manners(actions, context, values, duration=self.duration)


class Timeout(_Muting, frozen=True, tag="tcp.timeout"):
    """
    A NAT forgets the connection, Wi-Fi changes, a laptop sleeps: half-open.

    Both ways black; both sockets stay open and say nothing.
    """

    fields: ClassVar[tuple[str, ...]] = ("link.mute_down", "link.mute_up")


class BlackholeDown(_Muting, frozen=True, tag="tcp.blackhole_down"):
    """
    Asymmetric routing, or a firewall that lost half of its state.

    The exchange hears the client; the client hears nothing.
    """

    fields: ClassVar[tuple[str, ...]] = ("link.mute_down",)


class BlackholeUp(_Muting, frozen=True, tag="tcp.blackhole_up"):
    """
    Asymmetric routing the other way: what the client says is lost.

    Data flows; subscriptions, pings and pongs never arrive.
    """

    fields: ClassVar[tuple[str, ...]] = ("link.mute_up",)


class ServerNotReading(_Muting, frozen=True, tag="tcp.server_not_reading"):
    """
    A stuck server thread: its receive window closes.

    Data flows; once the buffers are full, the client's writes and pongs block.
    """

    fields: ClassVar[tuple[str, ...]] = ("link.reading",)


# --- The link ---------------------------------------------------------------------------------------


class Latency(Habit, frozen=True, tag="tcp.latency"):
    """
    Distance, a detour, a bloated buffer.

    Every byte comes later, order kept.
    """

    latency: Duration = Duration("250ms")
    """Delay of each chunk."""
    jitter: Duration = Duration("0s")
    """Plus or minus up to this."""

    def changes(self) -> dict[str, Any]:
        return {"link.latency_ns": int(self.latency), "link.jitter_ns": int(self.jitter)}


class Jitter(Habit, frozen=True, tag="tcp.jitter"):
    """
    A busy radio link: each packet is late by another amount.

    Bytes arrive in order, in fits and starts.
    """

    jitter: Duration = Duration("200ms")
    """Each chunk is late by up to twice this."""

    def changes(self) -> dict[str, Any]:
        return {"link.latency_ns": int(self.jitter), "link.jitter_ns": int(self.jitter)}


class Bandwidth(Habit, frozen=True, tag="tcp.bandwidth"):
    """
    A throttled server, or a mobile link.

    Bytes are capped; the backlog, and the age of the data, grow without a word.
    """

    rate: Size = 1000
    """Bytes per second towards the client."""

    def changes(self) -> dict[str, Any]:
        return {"link.bytes_per_s": self.rate}


class Slicer(Habit, frozen=True, tag="tcp.slicer"):
    """
    Small segments and middleboxes: a frame arrives in pieces.

    Bytes come a few at a time; a client that takes one read for one frame breaks.
    """

    size: Size = 7
    """Bytes per write."""
    delay: Duration = Duration("0s")
    """Pause between writes."""

    def changes(self) -> dict[str, Any]:
        return {"link.slice_bytes": self.size, "link.slice_delay_ns": int(self.delay)}


class ByteDribble(Habit, frozen=True, tag="tcp.byte_dribble"):
    """
    A stalling proxy lets through one byte at a time.

    The connection is alive, and useless.
    """

    delay: Duration = Duration("50ms")
    """Pause behind every byte."""

    def changes(self) -> dict[str, Any]:
        return {"link.slice_bytes": 1, "link.slice_delay_ns": int(self.delay)}


class Coalesce(Fault, frozen=True, tag="tcp.coalesce"):
    """
    Nagle's algorithm, or a burst: many frames come in one segment.

    Frames are held until `frames` are together and then go out at once.
    """

    lasts: ClassVar[bool] = True

    frames: Count = 10
    """Frames per segment."""
    duration: Duration | None = None
    """How long, in recorded time; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            end = context.end_of(strike, self.duration)
            make = partial(self._gathered, strike=strike, end=end, context=context)
            actions = context.over(actions, strike.frame, end, make)
        return actions

    def _gathered(self, piece: Action, *, strike: Strike, end: int, context: Context) -> Sequence[Action]:
        held = frames_held(piece)
        if held is None:
            return [piece]
        made: list[Action] = []
        at, last = held
        while at < last:
            group_end = min(strike.frame + ((at - strike.frame) // self.frames + 1) * self.frames, end)
            stop = min(group_end, last)
            due_ns = int(context.tape.due_ns[group_end - 1])
            made.append(_held(context.piece(piece, at, stop), due_ns, strike, context))
            at = stop
        return made


def _held(piece: Action, due_ns: int, strike: Strike, context: Context) -> Action:
    """The same, not before a time."""
    if isinstance(piece, Span):
        return msgspec.structs.replace(
            piece, not_before_ns=max(piece.not_before_ns, due_ns), fault=context.index, strike=strike.number
        )
    if isinstance(piece, (Send, Wire)):
        return msgspec.structs.replace(piece, due_ns=max(piece.due_ns, due_ns))
    assert frames_held(piece) is not None
    return piece


class LimitData(Habit, frozen=True, tag="tcp.limit_data"):
    """
    A proxy with a quota per connection.

    FIN once so many bytes went down, wherever that falls.
    """

    bytes: Annotated[int, msgspec.Meta(ge=0)] = 4096
    """Bytes towards the client, HTTP and TLS included."""

    def changes(self) -> dict[str, Any]:
        return {"link.limit_bytes": self.bytes}


class SlowClose(Habit, frozen=True, tag="tcp.slow_close"):
    """
    A server that lingers in closing: clients hang in CLOSING.

    The FIN comes late.
    """

    delay: Duration = Duration("5s")
    """How long the FIN waits."""

    def changes(self) -> dict[str, Any]:
        return {"link.close_delay_ns": int(self.delay)}


class Corrupt(Habit, frozen=True, tag="tcp.corrupt"):
    """
    A broken middlebox or memory flips bits that checksums miss.

    With TLS the connection dies; without it the data lies.
    """

    per_million: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    """Chance of a flipped bit per byte, in millionths."""

    def changes(self) -> dict[str, Any]:
        return {"link.corrupt_per_million": self.per_million}


class IdleKill(Habit, frozen=True, tag="tcp.idle_kill"):
    """
    A NAT or firewall drops what says nothing for a while.

    RST after so long without a byte either way: quiet markets die.
    """

    after: Duration = Duration("60s")
    """Idle time that is too long."""

    def changes(self) -> dict[str, Any]:
        return {"link.idle_kill_ns": int(self.after)}


class Flap(Fault, frozen=True, tag="tcp.flap"):
    """
    An unstable provider: up for a while, down for a while, again and again.

    Each connection is reset `up` after it subscribed, and the next attempts are refused.
    """

    every_connection: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    up: Duration = Duration("5s")
    """Life of each connection, in recorded time."""
    refused: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Attempts that are refused between two that succeed."""

    def manners(self, manners: Manners, context: Context) -> Manners:
        down = (context.connection - 1) % (1 + self.refused) > 0
        return with_changes(manners, {"dial.accept": "refuse"}) if down else manners

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        end_ns = context.from_ns + self.up
        return context.insert_at(actions, end_ns, [Abort(due_ns=end_ns, fault=context.index)])
