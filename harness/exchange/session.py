"""The conversation behind the 101: keepalive, control messages, the exchange's own rules.

Section numbers are those of the protocol sheet, binance-protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.actions import NO_FAULT
from harness.exchange import binance, wire
from harness.exchange.commands import Fin
from harness.exchange.player import Player
from harness.exchange.settings import MAX
from harness.exchange.tape import wrapped
from harness.ledger import Added, Beat, Controlled

if TYPE_CHECKING:
    from harness.exchange.connection import ExchangeConnection

BACKLOG_CHECK_NS = 100_000_000


class Session:
    """
    What is said on one WebSocket connection.

    Args:
        line: the connection that it is said on.
        route: what the URL asked for.
        agreed: permessage-deflate parameters, or None.
    """

    def __init__(self, line: ExchangeConnection, route: binance.Route, agreed: wire.Deflate | None) -> None:
        self._line = line
        self._exchange = line.exchange
        self._route = route
        self.agreed = agreed
        """What was agreed of permessage-deflate in the 101, or None."""
        self._rules = binance.dialect_numbers(route.rules, line.exchange.settings)
        self._frames = wire.FrameReader(line.exchange.settings.message_bytes_max, agreed)
        self.player = Player(line, route, agreed)
        self._heard_ns: list[int] = []
        self._pings: dict[bytes, int] = {}
        self._pong_timer = 0
        self._ping_serial = 0
        self._ping_timer = 0
        self._began_ns = line.now_ns
        self._life: tuple[int, int | None] | None = None
        self._life_timers: list[int] = []

    def begin(self) -> None:
        """The 101 was sent."""
        self._began_ns = self._line.now_ns
        self._plan_life()
        self._plan_ping()
        self._plan_backlog()
        if self._route.streams and not self._line.manners.control.forget_subscriptions:
            self._subscribe_by_url(self._route.streams)

    def _subscribe_by_url(self, streams: tuple[str, ...]) -> None:
        sound = self._line.manners.control.any_stream or all(map(binance.well_formed, streams))
        if sound and len(streams) <= self._stream_limit():
            self.player.subscribe(streams, "url")
        else:
            self._fail(binance.Failure(2, "Invalid request: invalid stream", closes=True), binance.NO_ID)

    def _stream_limit(self) -> int:
        own = self._line.manners.control.stream_limit
        return self._exchange.settings.streams_max if own is None else own

    # --- Keepalive and life (section 3) ----------------------------------------------------------------

    def _plan_backlog(self) -> None:
        self._line.timers.at(self._line.now_ns + BACKLOG_CHECK_NS, lambda _: self._check_backlog())

    def _check_backlog(self) -> None:
        own = self._line.manners.control.backlog_bytes_max
        limit = self._exchange.settings.backlog_bytes_max if own is None else own
        if self._line.state != "open":
            return
        # At full speed everything is due at once, which makes no client slow.
        stuck = not self._line.writable and self._exchange.settings.speed != MAX
        if limit is not None and stuck and self.player.backlog_bytes() > limit:
            self._line.close(1008, b"", how="limit")
            return
        if limit is not None:
            self._plan_backlog()

    def manners_changed(self) -> None:
        """Take up a life or a cadence that is another one now."""
        self._plan_life()
        if self._line.manners.control.ping_interval_ns is not None:
            self._plan_ping()

    def _plan_life(self) -> None:
        control, settings = self._line.manners.control, self._exchange.settings
        life = settings.life_ns if control.life_ns is None else control.life_ns
        notice = settings.shutdown_notice_ns if control.shutdown_notice_ns is None else control.shutdown_notice_ns
        wanted = (life, notice)
        if wanted == self._life:
            return
        self._life = wanted
        for timer in self._life_timers:
            self._line.timers.cancel(timer)
        end = self._began_ns + life
        self._life_timers = [self._line.timers.at(end, lambda _: self._live_no_longer())]
        if notice is not None:
            announce = max(self._line.now_ns, end - notice)
            self._life_timers.append(self._line.timers.at(announce, lambda _: self._announce_shutdown()))

    def _live_no_longer(self) -> None:
        if self._line.state == "open":
            self._line.close(1001, b"going away")

    def _announce_shutdown(self) -> None:
        if self._line.state != "open":
            return
        payload = b'{"e":"serverShutdown","E":%d}' % (self._exchange.wall_ns(self._line.now_ns) // 1_000_000)
        data = wrapped("!serverShutdown", payload) if self.player.combined else payload
        self._line.out.append(wire.message(wire.TEXT, data, self.agreed))
        self._line.write(Added(at_ns=self._line.now_ns, connection=self._line.number, data=payload, fault=NO_FAULT))

    def _ping_interval_ns(self) -> int:
        own = self._line.manners.control.ping_interval_ns
        return self._rules.ping_interval_ns if own is None else own

    def _plan_ping(self) -> None:
        self._line.timers.cancel(self._ping_timer)
        due = self._line.now_ns + max(1, self._ping_interval_ns())
        self._ping_timer = self._line.timers.at(due, lambda _: self._ping())

    def _ping(self) -> None:
        if self._line.state != "open":
            return
        if self._line.manners.control.ping:
            self._ping_serial += 1
            payload = str(self._exchange.wall_ns(self._line.now_ns) // 1_000_000 + self._ping_serial).encode()
            self._line.out.append(wire.frame(wire.PING, payload))
            self._line.write(Beat(at_ns=self._line.now_ns, connection=self._line.number, what="ping sent"))
            self._pings[payload] = self._line.now_ns
            if not self._pong_timer:
                self._await_pong(self._line.now_ns)
        self._plan_ping()

    def _await_pong(self, since_ns: int) -> None:
        own = self._line.manners.control.pong_deadline_ns
        deadline = self._rules.pong_deadline_ns if own is None else own
        self._pong_timer = self._line.timers.at(since_ns + deadline, lambda _: self._pong_missed())

    def _pong_missed(self) -> None:
        self._pong_timer = 0
        if self._line.state == "open":
            self._line.close(1008, b"Pong timeout", how="deadline")

    def _take_pong(self, payload: bytes) -> bool:
        # Returns whether it answers a ping. An empty pong is an unsolicited heartbeat, which does not
        # keep the connection alive; another payload is tolerated by the stream servers.
        self._line.write(Beat(at_ns=self._line.now_ns, connection=self._line.number, what="pong received"))
        if payload not in self._pings:
            if payload and self._line.manners.control.pong_must_match and self._pings:
                self._line.close(1008, b"Invalid pong payload")
                return False
            if not payload or not self._pings:
                return False
            self._pings.clear()
        else:
            # A pong answers every ping before its own too (RFC 6455, section 5.5.3).
            for earlier in list(self._pings):
                del self._pings[earlier]
                if earlier == payload:
                    break
        self._line.timers.cancel(self._pong_timer)
        self._pong_timer = 0
        if self._pings:
            self._await_pong(next(iter(self._pings.values())))
        return True

    # --- What the client says ---------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        violation: wire.Violation | None = None
        try:
            self._frames.receive(data)
        except wire.Violation as broken:
            violation = broken
        for received in self._frames.pending:
            self._hear(received)
            if self._line.state == "over":
                return
        if violation is not None and self._line.state == "open":
            self._line.close(violation.code, violation.reason.encode(), by="exchange")
            self._line.finish(Fin())
        elif violation is not None:
            self._line.finish(Fin())

    def _hear(self, received: wire.Received) -> None:
        if received.opcode == wire.CLOSE:
            self._hear_close(received)
            return
        if self._line.state != "open":
            return
        solicited = received.opcode == wire.PONG and self._take_pong(received.data)
        if self._line.state != "open":
            return
        if self._exchange.settings.echo:
            self._echo(received)
            return
        # A PING, a PONG and a JSON message each count one (section 3); a pong that was asked for
        # does not, or the exchange's own pings would use up the client's allowance.
        limit = self._line.manners.control.message_limit
        limit = self._rules.message_limit if limit is None else limit
        if not solicited and binance.too_chatty(self._heard_ns, self._line.now_ns, limit):
            self._line.close(1008, b"Too many requests", how="limit")
        elif received.opcode == wire.PING:
            self._take_ping(received.data)
        elif received.opcode in {wire.TEXT, wire.BINARY}:
            self._take_control(received.data)

    def _echo(self, received: wire.Received) -> None:
        if received.opcode == wire.PING:
            self._line.out.append(wire.frame(wire.PONG, received.data))
        elif received.opcode in {wire.TEXT, wire.BINARY}:
            self._line.out.append(wire.message(received.opcode, received.data, self.agreed))

    def _take_ping(self, payload: bytes) -> None:
        self._line.write(Beat(at_ns=self._line.now_ns, connection=self._line.number, what="ping received"))
        control = self._line.manners.control
        if control.pong == "withhold":
            return
        if control.pong == "wrong":
            payload = bytes(byte ^ 1 for byte in payload) or b"?"
        if control.pong_delay_ns:
            self._line.timers.at(self._line.now_ns + control.pong_delay_ns, lambda _: self._send_pong(payload))
        else:
            self._send_pong(payload)

    def _send_pong(self, payload: bytes) -> None:
        if self._line.state == "open":
            self._line.out.append(wire.frame(wire.PONG, payload))
            self._line.write(Beat(at_ns=self._line.now_ns, connection=self._line.number, what="pong sent"))

    def _hear_close(self, received: wire.Received) -> None:
        reply = self._line.manners.control.close_reply
        if self._line.state == "open":
            self._line.end(by="client", how="close", code=received.code, reason=received.data.decode())
            if reply == "withhold":
                self._line.state = "closing"
                self.player.stop()
                self._line.timers.clear()
                return
            if reply == "data":
                return  # goes on sending as if nothing was said
            self._line.send_close(received.code, received.data)
        self._line.finish(Fin())

    # --- Control messages (section 4) -------------------------------------------------

    def _take_control(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        self._line.write(
            Controlled(at_ns=self._line.now_ns, connection=self._line.number, direction="received", text=text)
        )
        if len(data) > self._exchange.settings.subscribe_bytes_max:
            return  # answered by silence: no ack, no data, no error
        control = self._line.manners.control
        wish, identity = binance.read_control(text, self._rules, any_stream=control.any_stream)
        if isinstance(wish, binance.Failure):
            self._fail(wish, identity)
        elif control.ack == "error" and isinstance(wish, (binance.Subscribe, binance.Unsubscribe)):
            self._fail(binance.Failure(control.error_code, control.error_msg), identity)
        else:
            self._grant(wish, identity)

    def _grant(self, wish: binance.Wish, identity: Any) -> None:
        value: Any = None
        if isinstance(wish, binance.Listing):
            value = list(self.player.streams) if wish.what == "streams" else self.player.combined
        elif isinstance(wish, binance.Subscribe):
            wanted = {**self.player.streams, **dict.fromkeys(wish.streams)}
            if len(wanted) > self._stream_limit():
                self._fail(binance.Failure(4, "Too many subscriptions"), identity)
                return
        control = self._line.manners.control
        if control.ack == "wrong_id":
            identity = binance.other_id(identity)
        if control.ack != "missing":
            # Before any data that the wish brings about.
            self._reply(binance.result(value, identity))
        if isinstance(wish, binance.Subscribe):
            self.player.subscribe(wish.streams, "message")
        elif isinstance(wish, binance.Unsubscribe):
            self.player.unsubscribe(wish.streams)
        elif isinstance(wish, binance.SetCombined):
            self.player.combined = wish.combined
            self.player.reshape()

    def _fail(self, failure: binance.Failure, identity: Any) -> None:
        shape = self._line.manners.control.error_shape
        self._reply(binance.error(failure.code, failure.msg, identity, shape))
        if failure.closes and self._exchange.settings.malformed_closes:
            self._line.close(1008, b"")

    def _reply(self, text: str) -> None:
        delay = self._line.manners.control.ack_delay_ns
        if delay:
            self._line.timers.at(self._line.now_ns + delay, lambda _: self._send_reply(text))
        else:
            self._send_reply(text)

    def _send_reply(self, text: str) -> None:
        if self._line.state == "open":
            self._line.out.append(wire.message(wire.TEXT, text.encode(), self.agreed))
            self._line.write(
                Controlled(at_ns=self._line.now_ns, connection=self._line.number, direction="sent", text=text)
            )
