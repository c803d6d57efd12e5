"""Exchange semantics: the control plane, lives and limits, maintenance, and the way back over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from harness.actions import Action, Close, Manners, Reply, Send
from harness.faults.base import (
    Context,
    Cut,
    Duration,
    Fault,
    Greeting,
    Habit,
    Strike,
    added,
    with_changes,
    withheld,
)
from harness.faults.http import reply
from harness.faults.sequence import replay
from harness.faults.timing import _Pause, mute_start

if TYPE_CHECKING:
    from collections.abc import Sequence

Count = Annotated[int, msgspec.Meta(ge=1)]


# --- Subscribing --------------------------------------------------------------------------------------


class AckThenSilence(Habit, frozen=True, tag="exchange.ack_then_silence"):
    """
    What Binance's USD-M path change of 2026-04-23 did to every client on the old path.

    Handshake fine, SUBSCRIBE acknowledged, pings answered, and never one frame.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.deliver": False}


class AckMissing(Habit, frozen=True, tag="exchange.ack_missing"):
    """
    An overloaded control plane, or a SUBSCRIBE over 4096 bytes: no answer at all.

    The subscription itself works.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.ack": "missing"}


class AckLate(Habit, frozen=True, tag="exchange.ack_late"):
    """
    A slow control plane: data comes before the acknowledgement.

    The answer to SUBSCRIBE waits.
    """

    delay: Duration = Duration("5s")
    """How long."""

    def changes(self) -> dict[str, Any]:
        return {"control.ack_delay_ns": int(self.delay)}


class AckWrongId(Habit, frozen=True, tag="exchange.ack_wrong_id"):
    """
    A gateway mixes up two clients' answers.

    The acknowledgement carries an id that was never sent.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.ack": "wrong_id"}


class AckError(Habit, frozen=True, tag="exchange.ack_error"):
    """
    The exchange refuses the subscription: a bad symbol, too many streams.

    An error in the place of the acknowledgement, and no data.
    """

    code: int = 2
    """The exchange's error code (binance-protocol, section 4.1)."""
    msg: str = "Invalid request: invalid stream"
    """Its text."""
    shape: Literal["nested", "flat"] = "nested"
    """As the wire has it, or as the documentation prints it."""

    def changes(self) -> dict[str, Any]:
        return {
            "control.ack": "error",
            "control.error_code": self.code,
            "control.error_msg": self.msg,
            "control.error_shape": self.shape,
        }


class UnknownStreamAccepted(Habit, frozen=True, tag="exchange.unknown_stream_accepted"):
    """
    A mistyped stream name gets an acknowledgement and nothing else.

    Even a malformed name is acknowledged, and stays mute.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.any_stream": True}


class WrongRoute(Habit, frozen=True, tag="exchange.wrong_route"):
    """
    Only one class of streams flows on the old path: books are fine, trades are dead.

    Streams of the named sort are acknowledged and stay silent.
    """

    streams: str = "*@aggTrade"
    """Name, or ending behind `*`; several with a blank between."""

    def changes(self) -> dict[str, Any]:
        return {"control.mute_streams": tuple(self.streams.split())}


class SubscriptionLost(Greeting, frozen=True, tag="exchange.subscription_lost_on_reconnect"):
    """
    A session that forgets: the client reconnects and must subscribe again (ccxws#214).

    From the second connection on, streams in the URL are dropped; SUBSCRIBE works.
    """

    from_connection: ClassVar[int] = 2

    def changes(self, context: Context) -> dict[str, Any]:
        return {"control.forget_subscriptions": True} if context.connection > 1 else {}


class GapOnReconnect(Fault, frozen=True, tag="exchange.gap_on_reconnect"):
    """
    A fresh subscription takes a while to be routed to the feed (ccxt#26945).

    From the second connection on, the first frames behind the subscription are lost; REST has them.
    """

    from_connection: ClassVar[int] = 2
    every_connection: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    delay: Duration = Duration("1s")
    """What is due in this time is lost."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        return mute_start(actions, context, self.delay) if context.connection > 1 else actions


# --- Lives and limits -----------------------------------------------------------------------------------


class Lifetime(Habit, frozen=True, tag="exchange.lifetime"):
    """
    The 24 h cut: the exchange ends every connection of that age.

    Scaled down: each connection lives so long.
    """

    after: Duration = Duration("10s")
    """Life of a connection, by the run's clock."""

    def changes(self) -> dict[str, Any]:
        return {"control.life_ns": int(self.after)}


def _event(name: bytes, strike: Strike, context: Context, extra: bytes = b"") -> Send:
    """An event of the exchange's own, timed like the frame before it."""
    at_ms = int(context.tape.event_ms[strike.frame])
    if at_ms < 0:
        at_ms = context.tape.start_ms + strike.due_ns // 1_000_000
    payload = b'{"e":"%s","E":%d%s}' % (name, at_ms, extra)
    return added(payload, strike, context, stream_name=f"!{name.decode()}")


class ServerShutdown(Fault, frozen=True, tag="exchange.server_shutdown"):
    """
    A planned restart: `serverShutdown` is announced, and then the connection is closed.

    The event behind frame N, a close with 1001 some time later. A sound client changes over before that.
    """

    lead: Duration = Duration("2s")
    """From the event to the close, in recorded time."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            notice = _event(b"serverShutdown", strike, context)
            actions = context.carve(actions, [strike.frame], lambda piece, notice=notice: [piece, notice])  # type: ignore[misc]
            end_ns = strike.due_ns + self.lead
            end = Close(
                due_ns=end_ns,
                code=1001,
                reason=b"going away",
                fault=context.index,
                frame=strike.frame,
                strike=strike.number,
            )
            actions = context.insert_at(actions, max(end_ns, strike.due_ns + 1), [end])
        return actions


class ShutdownNoticeOnly(Cut, frozen=True, tag="exchange.shutdown_notice_only"):
    """
    A restart is announced and called off.

    `serverShutdown` behind frame N, and the connection lives on.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [_event(b"serverShutdown", strike, context)]


class RateLimit(Habit, frozen=True, tag="exchange.rate_limit"):
    """
    A client too chatty: more messages per second than the exchange takes.

    One message too many is closed with 1008 `Too many requests`.
    """

    limit: Count = 1
    """Messages per rolling second; pings and pongs count."""

    def changes(self) -> dict[str, Any]:
        return {"control.message_limit": self.limit}


class TooManyStreams(Habit, frozen=True, tag="exchange.too_many_streams"):
    """
    The limit of streams per connection is lowered (200, 1024, ...).

    What goes past it is refused with `Too many subscriptions`.
    """

    limit: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Streams per connection."""

    def changes(self) -> dict[str, Any]:
        return {"control.stream_limit": self.limit}


class PongTimeout(Habit, frozen=True, tag="exchange.pong_timeout"):
    """
    A client whose loop is blocked answers a ping too late.

    Pings come often, and a late pong is closed with 1008 `Pong timeout`.
    """

    interval: Duration = Duration("1s")
    """Between two pings."""
    deadline: Duration = Duration("1s")
    """Time for the pong."""

    def changes(self) -> dict[str, Any]:
        return {"control.ping_interval_ns": int(self.interval), "control.pong_deadline_ns": int(self.deadline)}


class RefuseReconnects(Greeting, frozen=True, tag="exchange.refuse_reconnects"):
    """
    After an outage everybody comes back at once, and the listener refuses.

    The first connection is fine; the next attempts are refused.
    """

    count: Count = 3
    """Attempts refused."""

    def changes(self, context: Context) -> dict[str, Any]:
        return {"dial.accept": "refuse"} if 1 < context.connection <= 1 + self.count else {}


class Ban(Greeting, frozen=True, tag="exchange.ban"):
    """
    A reconnect storm: 429, and 418 for whoever goes on.

    The first connections are fine; the next attempt gets 429, those after it 418, with Retry-After.
    """

    after: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Connections before it."""
    attempts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Attempts that are turned away; all when left out."""
    retry_after: Duration = Duration("120s")
    """What Retry-After says."""

    def changes(self, context: Context) -> dict[str, Any]:
        late = context.connection - self.after
        if late < 1 or (self.attempts is not None and late > self.attempts):
            return {}
        return {"upgrade.reply": reply(429 if late == 1 else 418, body="json", retry_after=self.retry_after)}


class SlowConsumerKick(Habit, frozen=True, tag="exchange.slow_consumer_kick"):
    """
    A client reads too slowly, and the server will not hold its backlog.

    Closed with 1008 once so much is unread.
    """

    backlog: Annotated[int, msgspec.Meta(ge=0)] = 100_000
    """Bytes, estimated: 200 for each frame that is due and was not yet taken by the client's socket."""

    def changes(self) -> dict[str, Any]:
        return {"control.backlog_bytes_max": self.backlog}


# --- Planned and unplanned ------------------------------------------------------------------------------


class Maintenance(Cut, frozen=True, tag="exchange.maintenance"):
    """
    A maintenance window: everybody is closed, and 503 until it is over (Binance.Net#212).

    Close with 1001 behind frame N; the next attempts get 503.
    """

    greets: ClassVar[bool] = True

    attempts: Annotated[int, msgspec.Meta(ge=0)] = 2
    """Attempts that get 503, from the second connection on."""

    def manners(self, manners: Manners, context: Context) -> Manners:
        if not 1 < context.connection <= 1 + self.attempts:
            return manners
        return with_changes(manners, {"upgrade.reply": reply(503, body="html")})

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [Close(due_ns=strike.due_ns, code=1001, fault=context.index, frame=strike.frame, strike=strike.number)]


class HeartbeatsOnly(Fault, frozen=True, tag="exchange.heartbeats_only"):
    """
    Trading stops for everybody while connections and heartbeats go on.

    What was due behind frame N is nowhere, REST included; the ids pass over it.
    """

    lasts: ClassVar[bool] = True

    duration: Duration | None = Duration("5s")
    """How long, in recorded time."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            actions = context.over(
                actions,
                strike.frame + 1,
                last,
                lambda piece: withheld(piece, strike, context, everywhere=context.everyone, streams=context.streams),
            )
        return actions


class SymbolHalt(_Pause, frozen=True, tag="exchange.symbol_halt"):
    """
    Trading is halted and resumes hours later with the next id (2021-04-25). Not a fault.

    Behind frame N the market pauses; no id is missing.
    """

    lasts: ClassVar[bool] = True

    duration: Duration = Duration("45s")
    """How long."""

    def pause_ns(self) -> int:
        return int(self.duration)


class Delist(Fault, frozen=True, tag="exchange.delist"):
    """
    A coin is delisted: its stream stays open and silent for ever.

    Behind frame N its stream has no more trades, REST neither.
    """

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes[:1]:
            gone = (context.tape.stream_of(strike.frame),)
            actions = context.over(
                actions,
                strike.frame + 1,
                len(context.tape),
                lambda piece, gone=gone: withheld(piece, strike, context, everywhere=context.everyone, streams=gone),  # type: ignore[misc]
            )
        return actions


class ListenKeyExpired(Cut, frozen=True, tag="exchange.listen_key_expired"):
    """
    The key of a user stream runs out after an hour without a renewal.

    The event behind frame N, among the trades.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [_event(b"listenKeyExpired", strike, context, b',"listenKey":"' + b"k" * 64 + b'"')]


class FailoverNode(Fault, frozen=True, tag="exchange.failover_node"):
    """
    A stale replica takes over: old trades again, and then the new ones.

    Behind frame N the stream goes back some frames before it goes on.
    """

    frames: Count = 20
    """How far behind the replica is."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        return replay(actions, context, self.frames)


# --- The way back over REST -----------------------------------------------------------------------------


class _Rest(Fault, frozen=True):
    rest: ClassVar[bool] = True
    default_at: ClassVar[bool] = False

    def changes(self) -> dict[str, Any]:
        raise NotImplementedError

    def manners(self, manners: Manners, context: Context) -> Manners:
        return with_changes(manners, self.changes())


class Rest429(_Rest, frozen=True, tag="exchange.rest_backfill_429"):
    """
    Everybody fetches what was missed at once, and the weight limit strikes.

    REST answers 429 with Retry-After.
    """

    retry_after: Duration = Duration("10s")
    """What Retry-After says."""

    def changes(self) -> dict[str, Any]:
        return {"rest.reply": reply(429, body="json", retry_after=self.retry_after)}


class Rest418(_Rest, frozen=True, tag="exchange.rest_backfill_418"):
    """
    A backfill loop that ignored 429 gets its address banned.

    REST answers 418 with Retry-After.
    """

    retry_after: Duration = Duration("120s")
    """What Retry-After says."""

    def changes(self) -> dict[str, Any]:
        return {"rest.reply": reply(418, body="json", retry_after=self.retry_after)}


class Rest503(_Rest, frozen=True, tag="exchange.rest_backfill_503"):
    """
    REST is down together with the stream.

    REST answers 503 with an HTML page.
    """

    def changes(self) -> dict[str, Any]:
        return {"rest.reply": reply(503, body="html")}


class RestGarbage(_Rest, frozen=True, tag="exchange.rest_backfill_garbage"):
    """
    A proxy answers 200 for a REST server that failed.

    REST answers 200 with an object where a list should be.
    """

    def changes(self) -> dict[str, Any]:
        headers = (("Content-Type", "application/json;charset=UTF-8"),)
        body = b'{"code":-1000,"msg":"An unknown error occurred while processing the request."}'
        return {"rest.reply": Reply(status=200, reason="OK", headers=headers, body=body)}


class RestStale(_Rest, frozen=True, tag="exchange.rest_backfill_stale"):
    """
    REST reads a database that lags behind the stream.

    The newest trades are not there yet: a backfill ends too early.
    """

    lag: Duration = Duration("2s")
    """How far behind, in recorded time."""

    def changes(self) -> dict[str, Any]:
        return {"rest.stale_ns": int(self.lag)}


class RestEmpty(_Rest, frozen=True, tag="exchange.rest_backfill_empty"):
    """
    A replica that has not caught up answers with nothing.

    REST answers `[]`: a backfill that takes this for "no trades" leaves a hole.
    """

    def changes(self) -> dict[str, Any]:
        return {"rest.empty": True}


class RestLimit(_Rest, frozen=True, tag="exchange.rest_backfill_limit"):
    """
    A gap of more than one page: 1000 trades per answer.

    A backfill that asks once gets only the first of them.
    """

    limit: Count = 10
    """Trades per answer."""

    def changes(self) -> dict[str, Any]:
        return {"rest.limit": self.limit}


class RestStall(_Rest, frozen=True, tag="exchange.rest_backfill_stall"):
    """
    REST hangs, and takes the reader with it if both share a loop.

    A request is never answered.
    """

    def changes(self) -> dict[str, Any]:
        return {"rest.stall": True}
