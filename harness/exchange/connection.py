"""One TCP connection to the exchange, from the first byte of its HTTP request to its end. Sans-I/O.

    http ──upgrade──▶ upgrading ──101──▶ open ──close frame either way──▶ closing ──▶ over
      └──REST: answers, stays─┘                └── FIN or RST ────────────────────────▶ over

The caller gives it bytes and the time (`receive_data`, `receive_eof`, `advance_to`), takes what is to
be sent (`data_to_send`), and comes back at `next_due_ns`. Bytes are above TLS; the link's manners
act below TLS, in `link`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from harness import seeds
from harness.actions import NO_FAULT, NO_FRAME, Abort, Change, Close, Eof, Manners, Send, Wire, Withhold
from harness.exchange import binance, wire
from harness.exchange.commands import Below, Fin, Reset, Timers
from harness.exchange.cursor import Act, Cursor, Frames
from harness.exchange.http import Answer, BadRequest, RequestReader, render_head, render_reply
from harness.exchange.link import Shaper
from harness.exchange.tape import BLOCK_FRAMES, Shape, microseconds, wrapped
from harness.ledger import (
    Added,
    Answered,
    Beat,
    Changed,
    Closed,
    Controlled,
    Opened,
    Refused,
    Secured,
    Sent,
    Subscribed,
    Unsubscribed,
    Upgraded,
    Withheld,
)

if TYPE_CHECKING:
    from harness.actions import Action, Upgrade
    from harness.exchange.commands import Produced
    from harness.exchange.core import Exchange
    from harness.exchange.http import Request
    from harness.ledger import AnyEntry

PUMP_BYTES = 256 * 1024
"""What one connection produces before the others get their turn."""
STEP_FRAMES = 4 * BLOCK_FRAMES
EARLY_BYTES_MAX = 64 * 1024
"""What a client may send before its upgrade is answered."""
CLASSIFY_NS = 1_000_000_000
"""A connection that has not said within this time whether it wants REST or a stream counts as one for a stream."""


class ExchangeConnection:
    """
    One connection.

    Args:
        exchange: what it shares with the others.
        secure: whether TLS is spoken below it.
        number: its number, or None for an origin that has only REST.
        now_ns: when it was accepted.
    """

    def __init__(self, exchange: Exchange, *, secure: bool, number: int | None, now_ns: int) -> None:
        self.exchange = exchange
        self.secure = secure
        self.number = exchange.take_side_number() if number is None else number
        self.manners: Manners = exchange.manners(self.number)
        rng = seeds.derive(exchange.settings.seed, "link", self.number)
        self.link = Shaper(lambda: self.manners.link, rng, now_ns)
        self.writable = True
        """Set by the transport: False while its buffers are full. Nothing is produced meanwhile."""
        self.state = "http"
        self.streams: dict[str, None] = {}
        """Subscribed streams, in order."""
        self._out: list[Produced] = []
        self._timers = Timers()
        self._http = RequestReader()
        self._frames: wire.FrameReader | None = None
        self._early = b""
        self._agreed: wire.Deflate | None = None
        self._route: binance.Route | None = None
        self._rules = binance.RULES["spot"]
        self._combined = False
        self._cursor: Cursor | None = None
        self._lap = 0
        self._shape = Shape()
        self._live: frozenset[int] | None = frozenset()
        self._muted: frozenset[int] = frozenset()
        self._carried: frozenset[int] = frozenset()
        self._heard_ns: list[int] = []
        self._pings: dict[bytes, int] = {}
        self._pong_timer = 0
        self._ping_serial = 0
        self._close_sent = False
        self._ended = False
        self._now_ns = now_ns
        # Entries wait until it is known whether this is a connection for a stream.
        self._waiting: list[AnyEntry] | None = [Opened(at_ns=now_ns, connection=self.number, secure=secure)]
        if number is None:
            self._classify(rest=True)
        else:
            self._timers.at(now_ns + CLASSIFY_NS, lambda _: self._classify(rest=False))
        self._idle_timer = self._timers.at(now_ns + exchange.settings.handshake_ns, self._give_up)

    # --- What the transport calls --------------------------------------------------------------------

    def secured(self, server_name: str, now_ns: int) -> None:
        """Note that the TLS handshake is complete."""
        self._write(Secured(at_ns=now_ns, connection=self.number, server_name=server_name))

    def refused(self, stage: str, how: str, now_ns: int) -> None:
        """Note that the transport did not let the connection past a stage, as its manners wanted."""
        self._classify(rest=False)
        # A stall lasts: no deadline of ours ends it.
        self._timers.cancel(self._idle_timer)
        self._write(Refused(at_ns=now_ns, connection=self.number, stage=stage, how=how))

    def receive_data(self, data: bytes, now_ns: int) -> None:
        """Take what the client sent. Call `data_to_send` next."""
        self._enter(now_ns)
        if self.state == "http":
            self._http.receive(data)
            self._read_requests()
        elif self.state == "upgrading":
            if len(self._early) + len(data) > EARLY_BYTES_MAX:
                self._abort("deadline")
            self._early += data
        elif self._frames is not None:
            self._read_frames(data)

    def receive_eof(self, now_ns: int) -> None:
        """The client sent FIN. Call `data_to_send` next."""
        self._enter(now_ns)
        if self.state == "over":
            return
        self._end(by="client", how="fin")
        self._finish(Fin())

    def receive_reset(self, now_ns: int) -> None:
        """The client sent RST, or the network lost the connection; there is nothing more to send."""
        self._enter(now_ns)
        self._end(by="client", how="reset")
        self.state = "over"
        self._timers.clear()
        self._out.clear()

    def lost(self, how: str, now_ns: int) -> None:
        """The link ended the connection: `limit` or `idle`."""
        self._enter(now_ns)
        self._end(by="network", how=how)
        self.state = "over"
        self._timers.clear()

    def advance_to(self, now_ns: int) -> None:
        """Do what is due. Call `data_to_send` next."""
        self._enter(now_ns)
        self._timers.run(now_ns)
        if self._cursor is not None:
            self._pump()

    def data_to_send(self) -> list[Produced]:
        """Return what is to be sent, in order: bytes, and commands to the transport."""
        out, self._out = self._out, []
        return out

    def next_due_ns(self) -> int | None:
        """When to call `advance_to` next, or None."""
        due = self._timers.next_due_ns()
        playing = self._next_step_ns()
        if playing is None:
            return due
        return playing if due is None else min(due, playing)

    def shut_down(self, now_ns: int) -> None:
        """The exchange stops: close politely, as a server that goes away does."""
        self._enter(now_ns)
        if self.state == "open":
            self._send_close(1001, b"going away")
            self._end(by="exchange", how="close", code=1001, reason="going away")
        self._finish(Fin())

    # --- Bookkeeping -------------------------------------------------------------------------------

    def _enter(self, now_ns: int) -> None:
        self._now_ns = self.exchange.now_ns = now_ns

    def _write(self, entry: AnyEntry) -> None:
        if self._waiting is None:
            self.exchange.write(entry)
        else:
            self._waiting.append(entry)

    def _classify(self, *, rest: bool) -> None:
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        if rest and self.number > 0:
            self.number = self.exchange.return_number(self.number)
            self.manners = msgspec.structs.replace(Manners(), link=self.manners.link, tls=self.manners.tls)
        for entry in waiting:
            self.exchange.write(msgspec.structs.replace(entry, connection=self.number))
        if not rest:
            self.exchange.connections[self.number] = self

    def _end(self, *, by: str, how: str, code: int | None = None, reason: str = "", fault: int = NO_FAULT) -> None:
        # The first end counts; what follows is its echo.
        if self._ended:
            return
        self._classify(rest=False)
        self._ended = True
        self._write(
            Closed(
                at_ns=self._now_ns, connection=self.number, by=by, how=how, code=code, reason=reason,
                fault=max(fault, NO_FAULT),
            )
        )  # fmt: skip
        if self.exchange.connections.get(self.number) is self:
            del self.exchange.connections[self.number]

    def _finish(self, command: Fin | Reset) -> None:
        if self.state == "over":
            return
        self.state = "over"
        self._cursor = None
        self._timers.clear()
        self._out.append(command)
        if isinstance(command, Fin):
            # A client that never sends its own FIN would keep the socket for ever.
            self._timers.at(self._now_ns + self.exchange.settings.close_wait_ns, lambda _: self._out.append(Reset()))

    def _abort(self, how: str, fault: int = NO_FAULT) -> None:
        self._end(by="exchange", how=how, fault=fault)
        self._finish(Reset())

    def _give_up(self, _now_ns: int) -> None:
        # A request that dribbles in for ever, or an idle HTTP connection.
        self._end(by="exchange", how="deadline")
        self._finish(Fin())

    def _rest_idle(self) -> None:
        self._timers.cancel(self._idle_timer)
        self._idle_timer = self._timers.at(self._now_ns + self.exchange.settings.keep_alive_ns, self._give_up)

    # --- HTTP -----------------------------------------------------------------------------------------

    def _read_requests(self) -> None:
        while self.state == "http":
            try:
                request = self._http.next_request()
            except BadRequest as bad:
                self._classify(rest=True)
                self._refuse_request(bad.status, str(bad))
                return
            if request is None:
                return
            if request.wants_upgrade:
                self._upgrade(request)
                return
            self._answer(request)

    def _refuse_request(self, status: int, text: str) -> None:
        body = text.encode()
        head = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
        self._out.append(render_head(status, head) + body)
        self._end(by="exchange", how="fin")
        self._finish(Fin())

    def _answer(self, request: Request) -> None:
        self._classify(rest=True)
        answer = self.exchange.rest.answer(request, self._now_ns)
        if answer is None:
            self._timers.cancel(self._idle_timer)
            self._write(Answered(at_ns=self._now_ns, target=request.target, status=0))
            return
        data, more = self._http.answered(answer, extra=self.exchange.rest.weight_headers(self._now_ns))
        self._out.append(data)
        self._write(
            Answered(
                at_ns=self._now_ns, target=request.target, status=answer.status,
                first_id=answer.first_id, last_id=answer.last_id,
            )
        )  # fmt: skip
        self._rest_idle()
        if not more:
            self._end(by="exchange", how="fin")
            self._finish(Fin())

    def _upgrade(self, request: Request) -> None:
        if self.number < 0:
            self.number, self._ended = self.exchange.take_number(), False
            self.manners = self.exchange.manners(self.number)
            self.exchange.connections[self.number] = self
        self._classify(rest=False)
        self._timers.cancel(self._idle_timer)
        self.state = "upgrading"
        self._early = self._http.rest()
        manners = self.manners.upgrade
        if manners.stall:
            self._write(Refused(at_ns=self._now_ns, connection=self.number, stage="upgrade", how="stall"))
        elif manners.delay_ns:
            self._timers.at(self._now_ns + manners.delay_ns, lambda _: self._reply_to_upgrade(request))
        else:
            self._reply_to_upgrade(request)

    def _reply_to_upgrade(self, request: Request) -> None:
        manners = self.manners.upgrade
        if manners.early:
            self._out.append(manners.early)
        if manners.raw is not None:
            self._refuse_upgrade(manners.raw, "raw")
            return
        if manners.reply is not None:
            self._refuse_upgrade(render_reply(manners.reply), str(manners.reply.status))
            return
        refusal = self._judge(request)
        if refusal is not None:
            head = [("Content-Type", refusal.content_type), ("Content-Length", str(len(refusal.body)))]
            data = render_head(refusal.status, [*head, ("Connection", "close"), *refusal.headers]) + refusal.body
            self._refuse_upgrade(data, str(refusal.status))
            return
        self._dribble(self._head_101(request, manners), manners, request)

    def _refuse_upgrade(self, data: bytes, how: str) -> None:
        self._out.append(data)
        self._write(Refused(at_ns=self._now_ns, connection=self.number, stage="upgrade", how=how))
        self._end(by="exchange", how="fin")
        self._finish(Fin())

    def _judge(self, request: Request) -> Answer | None:
        # RFC 6455, section 4.2.1 and 4.2.2; then the exchange's own rules (binance-protocol, section 6).
        headers = request.headers
        if request.method != "GET" or request.http_version != "1.1":
            return Answer(status=400, body=b"an upgrade is a GET of HTTP/1.1", content_type="text/plain")
        if "upgrade" not in {part.strip().lower() for part in headers.get("connection", "").split(",")}:
            return Answer(status=400, body=b"Connection: Upgrade is missing", content_type="text/plain")
        if headers.get("sec-websocket-version", "").strip() != "13":
            return Answer(status=426, headers=(("Sec-WebSocket-Version", "13"),), content_type="text/plain")
        key = headers.get("sec-websocket-key", "").strip().encode("latin-1", "replace")
        if not request.sole_key or wire.accept_key(key) is None:
            return Answer(status=400, body=b"Sec-WebSocket-Key is missing or malformed", content_type="text/plain")
        if not self.exchange.admits(self._now_ns):
            body = b'{"code":-1003,"msg":"Too many connection attempts; current limit is %d per 5 minutes."}'
            retry = (("Retry-After", str(self.exchange.settings.connect_window_ns // 1_000_000_000)),)
            return Answer(status=429, body=body % self.exchange.settings.connect_limit, headers=retry)
        if self.exchange.settings.echo:
            self._route = binance.Route(rules=binance.RULES["spot"], path="", combined=False, streams=())
            return None
        self._route = binance.route(request, self.exchange.settings.market)
        if self._route is None and self.manners.upgrade.any_path:
            self._route = binance.Route(rules=binance.RULES["spot"], path="", combined=False, streams=(), silent=True)
        return Answer(status=404, body=b"", content_type="text/html") if self._route is None else None

    def _head_101(self, request: Request, manners: Upgrade) -> bytes:
        key = request.headers["sec-websocket-key"].strip().encode()
        accept = wire.accept_key(key) if manners.accept != "bad" else wire.accept_key(b"AAAAAAAAAAAAAAAAAAAAAA==")
        assert accept is not None
        headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept.decode())]
        if manners.accept == "missing":
            headers.pop()
        if self.exchange.settings.deflate and "sec-websocket-extensions" in request.headers:
            self._agreed = wire.negotiate_deflate(request.headers["sec-websocket-extensions"])
            if self._agreed is not None:
                headers.append(("Sec-WebSocket-Extensions", self._agreed.response.decode()))
        headers = [(name, value) for name, value in headers if name.lower() not in manners.drop_headers]
        return render_head(101, [*headers, *manners.extra_headers], version=manners.version)

    def _dribble(self, head: bytes, manners: Upgrade, request: Request) -> None:
        cut = 0 <= manners.cut_after < len(head)
        if cut:
            head = head[: manners.cut_after]
            self._write(Refused(at_ns=self._now_ns, connection=self.number, stage="upgrade", how="cut"))
        if not manners.dribble_ns:
            self._out.append(head)
            if not cut:
                self._open(request)
            return
        for position in range(len(head)):
            byte, due = head[position : position + 1], self._now_ns + position * manners.dribble_ns
            self._timers.at(due, lambda _, byte=byte: self._out.append(byte))  # type: ignore[misc]
        if not cut:
            self._timers.at(self._now_ns + len(head) * manners.dribble_ns, lambda _: self._open(request))

    def _open(self, request: Request) -> None:
        manners, settings = self.manners, self.exchange.settings
        assert self._route is not None
        self.state = "open"
        self._write(Upgraded(at_ns=self._now_ns, connection=self.number, target=request.target))
        if manners.upgrade.trailing:
            self._out.append(manners.upgrade.trailing)
        if manners.upgrade.after != "ok":
            self._end(by="exchange", how="fin" if manners.upgrade.after == "close" else "reset")
            self._finish(Fin() if manners.upgrade.after == "close" else Reset())
            return
        self._frames = wire.FrameReader(settings.message_bytes_max, self._agreed)
        self._rules = binance.dialect_numbers(self._route.rules, settings)
        self._combined = self._route.combined
        self._plan_life()
        self._plan_ping()
        if self._route.streams and not manners.control.forget_subscriptions:
            self._subscribe_by_url(self._route.streams)
        if self._early and self.state == "open":
            early, self._early = self._early, b""
            self._read_frames(early)

    def _subscribe_by_url(self, streams: tuple[str, ...]) -> None:
        sound = self.manners.control.any_stream or all(map(binance.well_formed, streams))
        if sound and len(streams) <= self._stream_limit():
            self._subscribe(streams, "url")
        else:
            self._fail(binance.Failure(2, "Invalid request: invalid stream", closes=True), binance.NO_ID)

    def _stream_limit(self) -> int:
        own = self.manners.control.stream_limit
        return self.exchange.settings.streams_max if own is None else own

    # --- Keepalive and life (binance-protocol, section 3) --------------------------------------------

    def _plan_life(self) -> None:
        control, settings = self.manners.control, self.exchange.settings
        life = settings.life_ns if control.life_ns is None else control.life_ns
        notice = settings.shutdown_notice_ns if control.shutdown_notice_ns is None else control.shutdown_notice_ns
        end = self._now_ns + life
        self._timers.at(end, lambda _: self._live_no_longer())
        if notice is not None:
            self._timers.at(max(self._now_ns, end - notice), lambda _: self._announce_shutdown())

    def _live_no_longer(self) -> None:
        if self.state == "open":
            self._close(1001, b"going away")

    def _announce_shutdown(self) -> None:
        if self.state != "open":
            return
        payload = b'{"e":"serverShutdown","E":%d}' % (self.exchange.wall_ns(self._now_ns) // 1_000_000)
        data = wrapped("!serverShutdown", payload) if self._combined else payload
        self._out.append(wire.message(wire.TEXT, data, self._agreed))
        self._write(Added(at_ns=self._now_ns, connection=self.number, data=payload, fault=NO_FAULT))

    def _ping_interval_ns(self) -> int:
        own = self.manners.control.ping_interval_ns
        return self._rules.ping_interval_ns if own is None else own

    def _plan_ping(self) -> None:
        self._timers.at(self._now_ns + max(1, self._ping_interval_ns()), lambda _: self._ping())

    def _ping(self) -> None:
        if self.state != "open":
            return
        if self.manners.control.ping:
            self._ping_serial += 1
            payload = str(self.exchange.wall_ns(self._now_ns) // 1_000_000 + self._ping_serial).encode()
            self._out.append(wire.frame(wire.PING, payload))
            self._write(Beat(at_ns=self._now_ns, connection=self.number, what="ping sent"))
            self._pings[payload] = self._now_ns
            if not self._pong_timer:
                self._await_pong(self._now_ns)
        self._plan_ping()

    def _await_pong(self, since_ns: int) -> None:
        own = self.manners.control.pong_deadline_ns
        deadline = self._rules.pong_deadline_ns if own is None else own
        self._pong_timer = self._timers.at(since_ns + deadline, lambda _: self._pong_missed())

    def _pong_missed(self) -> None:
        self._pong_timer = 0
        if self.state == "open":
            self._close(1008, b"Pong timeout", how="deadline")

    def _take_pong(self, payload: bytes) -> bool:
        # Returns whether it answers a ping. An empty pong is an unsolicited heartbeat, which does not
        # keep the connection alive; another payload is tolerated by the stream servers.
        self._write(Beat(at_ns=self._now_ns, connection=self.number, what="pong received"))
        if payload not in self._pings:
            if payload and self.manners.control.pong_must_match and self._pings:
                self._close(1008, b"Invalid pong payload")
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
        self._timers.cancel(self._pong_timer)
        self._pong_timer = 0
        if self._pings:
            self._await_pong(next(iter(self._pings.values())))
        return True

    # --- What the client says ---------------------------------------------------------------------------

    def _read_frames(self, data: bytes) -> None:
        assert self._frames is not None
        violation: wire.Violation | None = None
        try:
            self._frames.receive(data)
        except wire.Violation as broken:
            violation = broken
        for received in self._frames.pending:
            self._hear(received)
            if self.state == "over":
                return
        if violation is not None and self.state == "open":
            self._close(violation.code, violation.reason.encode(), by="exchange")
            self._finish(Fin())
        elif violation is not None:
            self._finish(Fin())

    def _hear(self, received: wire.Received) -> None:
        if received.opcode == wire.CLOSE:
            self._hear_close(received)
            return
        if self.state != "open":
            return
        solicited = received.opcode == wire.PONG and self._take_pong(received.data)
        if self.state != "open":
            return
        if self.exchange.settings.echo:
            self._echo(received)
            return
        # A PING, a PONG and a JSON message each count one (section 3); a pong that was asked for
        # does not, or the exchange's own pings would use up the client's allowance.
        limit = self.manners.control.message_limit
        limit = self._rules.message_limit if limit is None else limit
        if not solicited and binance.too_chatty(self._heard_ns, self._now_ns, limit):
            self._close(1008, b"Too many requests", how="limit")
        elif received.opcode == wire.PING:
            self._take_ping(received.data)
        elif received.opcode in {wire.TEXT, wire.BINARY}:
            self._take_control(received.data)

    def _echo(self, received: wire.Received) -> None:
        if received.opcode == wire.PING:
            self._out.append(wire.frame(wire.PONG, received.data))
        elif received.opcode in {wire.TEXT, wire.BINARY}:
            self._out.append(wire.message(received.opcode, received.data, self._agreed))

    def _take_ping(self, payload: bytes) -> None:
        self._write(Beat(at_ns=self._now_ns, connection=self.number, what="ping received"))
        control = self.manners.control
        if control.pong == "withhold":
            return
        if control.pong == "wrong":
            payload = bytes(byte ^ 1 for byte in payload) or b"?"
        if control.pong_delay_ns:
            self._timers.at(self._now_ns + control.pong_delay_ns, lambda _: self._send_pong(payload))
        else:
            self._send_pong(payload)

    def _send_pong(self, payload: bytes) -> None:
        if self.state == "open":
            self._out.append(wire.frame(wire.PONG, payload))
            self._write(Beat(at_ns=self._now_ns, connection=self.number, what="pong sent"))

    def _hear_close(self, received: wire.Received) -> None:
        reply = self.manners.control.close_reply
        if self.state == "open":
            self._end(by="client", how="close", code=received.code, reason=received.data.decode())
            if reply == "withhold":
                self.state = "closing"
                self._cursor = None
                self._timers.clear()
                return
            if reply == "data":
                return  # goes on sending as if nothing was said
            self._send_close(received.code, received.data)
        self._finish(Fin())

    # --- Control messages (binance-protocol, section 4) -------------------------------------------------

    def _take_control(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        self._write(Controlled(at_ns=self._now_ns, connection=self.number, direction="received", text=text))
        if len(data) > self.exchange.settings.subscribe_bytes_max:
            return  # answered by silence: no ack, no data, no error
        control = self.manners.control
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
            value = list(self.streams) if wish.what == "streams" else self._combined
        elif isinstance(wish, binance.Subscribe):
            wanted = {**self.streams, **dict.fromkeys(wish.streams)}
            if len(wanted) > self._stream_limit():
                self._fail(binance.Failure(4, "Too many subscriptions"), identity)
                return
        control = self.manners.control
        if control.ack == "wrong_id":
            identity = binance.other_id(identity)
        if control.ack != "missing":
            # Before any data that the wish brings about.
            self._reply(binance.result(value, identity))
        if isinstance(wish, binance.Subscribe):
            self._subscribe(wish.streams, "message")
        elif isinstance(wish, binance.Unsubscribe):
            self._unsubscribe(wish.streams)
        elif isinstance(wish, binance.SetCombined):
            self._combined = wish.combined
            self._reshape()

    def _fail(self, failure: binance.Failure, identity: Any) -> None:
        shape = self.manners.control.error_shape
        self._reply(binance.error(failure.code, failure.msg, identity, shape))
        if failure.closes and self.exchange.settings.malformed_closes:
            self._close(1008, b"")

    def _reply(self, text: str) -> None:
        delay = self.manners.control.ack_delay_ns
        if delay:
            self._timers.at(self._now_ns + delay, lambda _: self._send_reply(text))
        else:
            self._send_reply(text)

    def _send_reply(self, text: str) -> None:
        if self.state == "open":
            self._out.append(wire.message(wire.TEXT, text.encode(), self._agreed))
            self._write(Controlled(at_ns=self._now_ns, connection=self.number, direction="sent", text=text))

    # --- Subscriptions -----------------------------------------------------------------------------------

    def _subscribe(self, streams: tuple[str, ...], via: str) -> None:
        self.streams.update(dict.fromkeys(streams))
        exchange = self.exchange
        # One client library connects to `/ws/0` and subscribes then: a bare number starts nothing.
        if any("@" in name or name.startswith("!") for name in streams):
            exchange.start_clock(self._now_ns)
        lap, tape_ns, frame = exchange.position(self._now_ns)
        self._write(Subscribed(at_ns=self._now_ns, connection=self.number, streams=streams, via=via, tape_ns=tape_ns))
        self._reshape()
        if self._cursor is None and exchange.started_ns is not None and self.state == "open":
            self._lap = lap
            self._cursor = self._new_cursor(lap, tape_ns, frame)

    def _unsubscribe(self, streams: tuple[str, ...]) -> None:
        for name in streams:
            self.streams.pop(name, None)
        _, tape_ns, _ = self.exchange.position(self._now_ns)
        self._write(Unsubscribed(at_ns=self._now_ns, connection=self.number, streams=streams, tape_ns=tape_ns))
        self._reshape()

    def _new_cursor(self, lap: int, tape_ns: int, frame: int) -> Cursor:
        script = self.exchange.script(self.number, self.manners, lap, from_ns=tape_ns)
        return Cursor(script, self.exchange.timeline, self._may_strike, tape_ns=tape_ns, frame=frame)

    def _reshape(self) -> None:
        # Which streams of the tape go out, after a change of subscriptions or manners.
        assert self._route is not None
        names, control = self.exchange.timeline.streams, self.manners.control
        self._carried = frozenset(
            code for code, name in enumerate(names) if name in self.streams and self._route.delivers(name)
        )
        muted = self._carried if not control.deliver else {c for c in self._carried if self._is_mute(names[c])}
        self._muted = frozenset(muted)
        live = self._carried - self._muted
        self._live = None if len(live) == len(names) else live
        self._shape = Shape(
            codes=self._live,
            combined=self._combined,
            micro=self._route.micro,
            deflate_bits=self._agreed.server_bits if self._agreed else 0,
        )

    def _is_mute(self, stream: str) -> bool:
        return any(
            stream.endswith(name[1:]) if name.startswith("*") else stream == name
            for name in self.manners.control.mute_streams
        )

    # --- The script -----------------------------------------------------------------------------------------

    def _next_step_ns(self) -> int | None:
        if self._cursor is None or not self.writable:
            return None
        tape_ns = self._cursor.next_due_ns()
        if tape_ns is None:
            return self._next_lap_ns()
        return self.exchange.due_ns(tape_ns, self._lap)

    def _next_lap_ns(self) -> int | None:
        if not self.exchange.settings.loop or not len(self.exchange.timeline):
            return None
        return self.exchange.due_ns(0, self._lap + 1)

    def _pump(self) -> None:
        exchange = self.exchange
        running = exchange.running_ns(self._now_ns)
        produced = 0
        while self._cursor is not None and self.writable and produced < PUMP_BYTES:
            cursor = self._cursor
            step = cursor.take(exchange.in_lap_ns(running, self._lap), STEP_FRAMES - cursor.next_frame % BLOCK_FRAMES)
            if step is None:
                if not cursor.ended or not self._begin_lap():
                    return
                continue
            if isinstance(step, Frames):
                produced += self._play(step)
            else:
                produced += self._act(step)
            exchange.passed(cursor.next_frame)

    def _begin_lap(self) -> bool:
        due = self._next_lap_ns()
        if due is None or due > self._now_ns:
            return False
        self._lap += 1
        self._cursor = self._new_cursor(self._lap, 0, 0)
        return True

    def _play(self, step: Frames) -> int:
        produced = 0
        pieces = self.exchange.lap_tape(self._lap).frames(step.first, step.last, self._shape)
        if pieces:
            self._out.extend(pieces)
            produced = sum(map(len, pieces))
            codes = None if self._live is None else tuple(sorted(self._live))
            self._write(
                Sent(
                    at_ns=self._now_ns, connection=self.number, first=step.first, last=step.last,
                    streams=codes, late=step.late,
                )
            )  # fmt: skip
        if self._muted:
            self._withheld(step.first, step.last, tuple(sorted(self._muted)), NO_FAULT)
        return produced

    def _withheld(self, first: int, last: int, codes: tuple[int, ...] | None, fault: int) -> None:
        if codes is not None and len(codes) == len(self.exchange.timeline.streams):
            codes = None
        self._write(
            Withheld(at_ns=self._now_ns, connection=self.number, first=first, last=last, fault=fault, streams=codes)
        )

    def _act(self, step: Act) -> int:
        action = step.action
        if isinstance(action, Withhold):
            return self._withhold(action)
        if isinstance(action, Send):
            return self._send(action)
        if isinstance(action, Wire):
            return self._put(action)
        if action.frame != NO_FRAME and not self._carries(action):
            return 0
        if isinstance(action, Change):
            self.change(action.field, action.value)
        elif isinstance(action, Close):
            self._close_as(action)
        elif isinstance(action, Abort):
            self._abort("reset", action.fault)
        elif isinstance(action, Eof):
            self._end(by="exchange", how="fin", fault=action.fault)
            self._finish(Fin())
        return 0

    def _withhold(self, action: Withhold) -> int:
        names = self.exchange.timeline.streams
        kept = (
            self._carried
            if not action.streams
            else frozenset(code for code in self._carried if names[code] in action.streams)
        )
        produced = 0
        if action.streams:
            live = self._carried - kept - self._muted
            shape = msgspec.structs.replace(self._shape, codes=live)
            pieces = self.exchange.lap_tape(self._lap).frames(action.first, action.last, shape)
            if pieces:
                self._out.extend(pieces)
                produced = sum(map(len, pieces))
                self._write(
                    Sent(
                        at_ns=self._now_ns, connection=self.number, first=action.first, last=action.last,
                        streams=tuple(sorted(live)),
                    )
                )  # fmt: skip
        if kept and not action.later:
            self._withheld(action.first, action.last, tuple(sorted(kept)), action.fault)
        return produced

    def _send(self, action: Send) -> int:
        code = self._stream_of(action)
        if code is not None and code not in self._carried:
            return 0
        if code is not None and code in self._muted:
            if action.frame != NO_FRAME and action.change != "added":
                self._withheld(action.frame, action.frame + 1, (code,), NO_FAULT)
            return 0
        assert self._route is not None
        payload = microseconds(action.payload) if self._route.micro else action.payload
        if self._combined and action.wrap:
            if code is None:
                code = min(self._carried - self._muted, default=None)
            if code is not None:
                payload = wrapped(self.exchange.timeline.streams[code], payload)
        if action.fragment_bytes:
            data = wire.fragments(action.opcode, payload, action.fragment_bytes, action.between)
        else:
            data = wire.message(action.opcode, payload, self._agreed)
        self._out.append(data)
        if action.frame != NO_FRAME and action.change in {"none", "late"}:
            late = action.change == "late"
            self._write(
                Sent(
                    at_ns=self._now_ns, connection=self.number, first=action.frame, last=action.frame + 1,
                    streams=None if code is None else (code,), late=late,
                )
            )  # fmt: skip
        else:
            self._note_bytes(action, action.payload)
        return len(data)

    def _put(self, action: Wire) -> int:
        if not self._carries(action):
            return 0
        self._out.append(Below(action.data) if action.below_tls and self.secure else action.data)
        self._note_bytes(action, action.data)
        return len(action.data)

    def _note_bytes(self, action: Send | Wire, data: bytes) -> None:
        stands_in = action.frame != NO_FRAME and not (isinstance(action, Send) and action.change == "added")
        if stands_in:
            self._write(
                Changed(at_ns=self._now_ns, connection=self.number, frame=action.frame, data=data, fault=action.fault)
            )
        else:
            self._write(Added(at_ns=self._now_ns, connection=self.number, data=data, fault=action.fault))

    def _stream_of(self, action: Action) -> int | None:
        stream = getattr(action, "stream", -1)
        if stream >= 0:
            return int(stream)
        frame = getattr(action, "frame", NO_FRAME)
        return None if frame == NO_FRAME else int(self.exchange.timeline.stream_codes[frame])

    def _carries(self, action: Action) -> bool:
        code = self._stream_of(action)
        return code is None or code in self._carried

    def _may_strike(self, action: Action, *, claim: bool) -> bool:
        if isinstance(action, Withhold) or not hasattr(action, "frame"):
            carried = True
        else:
            carried = self._carries(action)
        # What concerns a stream that this connection does not carry is not its strike.
        if not carried and not isinstance(action, (Send, Wire)):
            return False
        if not carried:
            return True
        return self.exchange.may_strike(action, self.number, claim=claim)

    def replan(self, now_ns: int) -> None:
        """The plan was changed by hand: take up its manners, and its script from here on."""
        self._enter(now_ns)
        if self.state != "open":
            return
        manners = self.exchange.manners(self.number)
        self.manners = msgspec.structs.replace(self.manners, control=manners.control, link=manners.link)
        self._reshape()
        if self._cursor is not None:
            script = self.exchange.script(self.number, self.manners, self._lap)
            done_ns, frame = self._cursor.done_ns, self._cursor.next_frame
            self._cursor = Cursor(
                script, self.exchange.timeline, self._may_strike, tape_ns=done_ns, frame=frame, resume=True
            )

    def change(self, field: str, value: Any) -> None:
        """Change one of the manners from here on, for example `link.latency_ns`."""
        group, _, name = field.partition(".")
        before = getattr(self.manners, group)
        after = msgspec.structs.replace(before, **{name: value})
        self.manners = msgspec.structs.replace(self.manners, **{group: after})
        if self._route is not None and self.state == "open":
            self._reshape()

    # --- Endings -----------------------------------------------------------------------------------------------

    def _send_close(self, code: int | None, reason: bytes) -> None:
        if not self._close_sent:
            self._close_sent = True
            self._out.append(wire.frame(wire.CLOSE, wire.close_payload(code, reason)))

    def _close(self, code: int, reason: bytes, *, how: str = "close", by: str = "exchange") -> None:
        self._end(by=by, how=how, code=code, reason=reason.decode())
        self._send_close(code, reason)
        self._await_close()

    def _await_close(self) -> None:
        self.state = "closing"
        self._cursor = None
        self._timers.clear()
        self._timers.at(self._now_ns + self.exchange.settings.close_wait_ns, lambda _: self._finish(Fin()))

    def _close_as(self, action: Close) -> None:
        payload = wire.close_payload(action.code, action.reason)
        self._out.append(wire.frame(wire.CLOSE, payload))
        if action.then == "data":
            self._write(Added(at_ns=self._now_ns, connection=self.number, data=payload, fault=action.fault))
            return
        self._close_sent = True
        reason = action.reason.decode("utf-8", "backslashreplace")
        self._end(by="exchange", how="close", code=action.code, reason=reason, fault=action.fault)
        if action.then == "handshake":
            self._await_close()
        else:
            self._finish(Fin() if action.then == "fin" else Reset())
