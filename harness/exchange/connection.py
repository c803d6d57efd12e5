"""One TCP connection to the exchange, from the first byte of its HTTP request to its end. Sans-I/O.

    http ──upgrade──▶ upgrading ──101──▶ open ──close frame either way──▶ closing ──▶ over
      └──REST: answers, stays─┘                └── FIN or RST ────────────────────────▶ over

The caller gives it bytes and the time (`receive_data`, `receive_eof`, `advance_to`), takes what is to
be sent (`data_to_send`), and comes back at `next_due_ns`. Bytes are above TLS; the link's manners
act below TLS, in `link`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness import seeds
from harness.actions import NO_FAULT, Manners
from harness.exchange import binance, wire
from harness.exchange.commands import Fin, Relink, Reset, Timers
from harness.exchange.http import Answer, BadRequest, RequestReader, render_head, render_reply
from harness.exchange.link import Shaper
from harness.exchange.session import Session
from harness.ledger import Added, Answered, Closed, Opened, Refused, Secured, Upgraded

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.actions import Close, Upgrade
    from harness.exchange.commands import Produced
    from harness.exchange.core import Exchange
    from harness.exchange.http import Request
    from harness.ledger import AnyEntry

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
        self.link = Shaper(self.manners.link, rng, now_ns)
        self.writable = True
        """Set by the transport: False while its buffers are full. Nothing is produced meanwhile."""
        self.state = "http"
        self.out: list[Produced] = []
        self.timers = Timers()
        self._http = RequestReader()
        self._early = b""
        self.session: Session | None = None
        """The conversation behind the 101."""
        self._close_sent = False
        self._ended = False
        self.now_ns = now_ns
        # Entries wait until it is known whether this is a connection for a stream.
        self._waiting: list[AnyEntry] | None = [Opened(at_ns=now_ns, connection=self.number, secure=secure)]
        if number is None:
            self._classify(rest=True)
        else:
            self.timers.at(now_ns + CLASSIFY_NS, lambda _: self._classify(rest=False))
        self._idle_timer = self.timers.at(now_ns + exchange.settings.handshake_ns, self._give_up)

    # --- What the transport calls --------------------------------------------------------------------

    def secured(self, server_name: str, now_ns: int) -> None:
        """Note that the TLS handshake is complete."""
        certificate = self.manners.tls.certificate
        self.write(Secured(at_ns=now_ns, connection=self.number, server_name=server_name, certificate=certificate))

    def refused(self, stage: str, how: str, now_ns: int) -> None:
        """Note that the transport did not let the connection past a stage, as its manners wanted."""
        self._classify(rest=False)
        if how in {"stall", "hang", "blackhole"}:
            # It lasts: no deadline of ours ends it.
            self.timers.cancel(self._idle_timer)
        self.write(Refused(at_ns=now_ns, connection=self.number, stage=stage, how=how))

    def turn_away(self, how: str, now_ns: int) -> bool:
        """
        Refuse a client that was just accepted. Call `data_to_send` next.

        Args:
            how: `close` with FIN, `refuse` or `reset` with RST; `hang` and `blackhole` never answer.
            now_ns: when.

        Returns:
            Whether the connection hangs: the transport must not serve it, and waits for the client to leave.
        """
        self.enter(now_ns)
        self.refused("connect", how, now_ns)
        if how == "close":
            self.end(by="exchange", how="fin")
            self.finish(Fin())
        elif how in {"refuse", "reset"}:
            self.abort("reset")
        return self.state != "over"

    def receive_data(self, data: bytes, now_ns: int) -> None:
        """Take what the client sent. Call `data_to_send` next."""
        self.enter(now_ns)
        if self.state == "http":
            self._http.receive(data)
            self._read_requests()
        elif self.state == "upgrading":
            if len(self._early) + len(data) > EARLY_BYTES_MAX:
                self.abort("deadline")
            self._early += data
        elif self.session is not None:
            self.session.receive(data)

    def receive_eof(self, now_ns: int) -> None:
        """The client sent FIN. Call `data_to_send` next."""
        self.enter(now_ns)
        if self.state == "over":
            return
        self.end(by="client", how="fin")
        self.finish(Fin())

    def receive_reset(self, now_ns: int) -> None:
        """The client sent RST, or the network lost the connection; there is nothing more to send."""
        self.enter(now_ns)
        self.end(by="client", how="reset")
        self.state = "over"
        self.timers.clear()
        self.out.clear()

    def lost(self, how: str, now_ns: int) -> None:
        """The link ended the connection: `limit` or `idle`."""
        self.enter(now_ns)
        self.end(by="network", how=how)
        self.state = "over"
        self.timers.clear()

    def advance_to(self, now_ns: int) -> None:
        """Do what is due. Call `data_to_send` next."""
        self.enter(now_ns)
        self.timers.run(now_ns)
        if self.session is not None:
            self.session.player.pump()

    def data_to_send(self) -> list[Produced]:
        """Return what is to be sent, in order: bytes, and commands to the transport."""
        out, self.out = self.out, []
        return out

    def prepare(self) -> None:
        """Work ahead: to be called when everything that is due was done. Nothing that can be seen comes of it."""
        if self.session is not None:
            self.session.player.prepare()

    def next_due_ns(self) -> int | None:
        """When to call `advance_to` next, or None."""
        due = self.timers.next_due_ns()
        playing = None if self.session is None else self.session.player.next_due_ns()
        if playing is None:
            return due
        return playing if due is None else min(due, playing)

    def shut_down(self, now_ns: int) -> None:
        """The exchange stops: close politely, as a server that goes away does."""
        self.enter(now_ns)
        if self.state == "open":
            self.send_close(1001, b"going away")
            self.end(by="exchange", how="close", code=1001, reason="going away")
        self.finish(Fin())

    # --- Bookkeeping -------------------------------------------------------------------------------

    def enter(self, now_ns: int) -> None:
        """Take the time of the call in progress."""
        self.now_ns = self.exchange.now_ns = now_ns

    def write(self, entry: AnyEntry) -> None:
        """Write an entry, or keep it until it is known what sort of connection this is."""
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

    def end(self, *, by: str, how: str, code: int | None = None, reason: str = "", fault: int = NO_FAULT) -> None:
        """Note how the connection ended, and by whom."""
        # The first end counts; what follows is its echo.
        if self._ended:
            return
        self._classify(rest=False)
        self._ended = True
        self.write(
            Closed(
                at_ns=self.now_ns, connection=self.number, by=by, how=how, code=code, reason=reason,
                fault=max(fault, NO_FAULT),
            )
        )  # fmt: skip
        if self.exchange.connections.get(self.number) is self:
            del self.exchange.connections[self.number]

    def finish(self, command: Fin | Reset) -> None:
        """End the connection on our side: nothing is said any more."""
        if self.state == "over":
            return
        self.state = "over"
        self._stop_playing()
        self.timers.clear()
        if isinstance(command, Fin) and self.manners.tls.farewell == "ragged":
            command = Fin(ragged=True)
        self.out.append(command)
        if isinstance(command, Fin):
            # A client that never sends its own FIN would keep the socket for ever.
            self.timers.at(self.now_ns + self.exchange.settings.close_wait_ns, lambda _: self.out.append(Reset()))

    def abort(self, how: str, fault: int = NO_FAULT) -> None:
        """End with RST."""
        self.end(by="exchange", how=how, fault=fault)
        self.finish(Reset())

    def _give_up(self, _now_ns: int) -> None:
        # A request that dribbles in for ever, or an idle HTTP connection.
        self.end(by="exchange", how="deadline")
        self.finish(Fin())

    def _rest_idle(self) -> None:
        self.timers.cancel(self._idle_timer)
        self._idle_timer = self.timers.at(self.now_ns + self.exchange.settings.keep_alive_ns, self._give_up)

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
        self.out.append(render_head(status, head) + body)
        self.end(by="exchange", how="fin")
        self.finish(Fin())

    def _answer(self, request: Request) -> None:
        self._classify(rest=True)
        answer = self.exchange.rest.answer(request, self.now_ns)
        if answer is None:
            self.timers.cancel(self._idle_timer)
            self.write(Answered(at_ns=self.now_ns, target=request.target, status=0))
            return
        data, more = self._http.answered(answer, extra=self.exchange.rest.weight_headers(self.now_ns))
        self.out.append(data)
        self.write(
            Answered(
                at_ns=self.now_ns, target=request.target, status=answer.status,
                first_id=answer.first_id, last_id=answer.last_id,
            )
        )  # fmt: skip
        self._rest_idle()
        if not more:
            self.end(by="exchange", how="fin")
            self.finish(Fin())

    def _upgrade(self, request: Request) -> None:
        if self.number < 0:
            self.number, self._ended = self.exchange.take_number(), False
            self.manners = self.exchange.manners(self.number)
            self.out.append(Relink(self.manners.link))
            self.exchange.connections[self.number] = self
        self._classify(rest=False)
        self.timers.cancel(self._idle_timer)
        self.state = "upgrading"
        self._early = self._http.rest()
        manners = self.manners.upgrade
        if manners.target_bytes_max and len(request.target) <= manners.target_bytes_max:
            manners = msgspec.structs.replace(manners, stall=False, reply=None)
        if manners.stall:
            self.write(Refused(at_ns=self.now_ns, connection=self.number, stage="upgrade", how="stall"))
        elif manners.delay_ns:
            self.timers.at(self.now_ns + manners.delay_ns, lambda _: self._reply_to_upgrade(request, manners))
        else:
            self._reply_to_upgrade(request, manners)

    def _reply_to_upgrade(self, request: Request, manners: Upgrade) -> None:
        if manners.early:
            self.out.append(manners.early)
        if manners.raw is not None:
            self._refuse_upgrade(manners.raw, "raw")
            return
        if manners.reply is not None:
            self._refuse_upgrade(render_reply(manners.reply), str(manners.reply.status))
            return
        refusal, route = self._judge(request), self._route(request)
        if refusal is None and route is None:
            refusal = Answer(status=404, content_type="text/html")
        if refusal is not None:
            head = [("Content-Type", refusal.content_type), ("Content-Length", str(len(refusal.body)))]
            data = render_head(refusal.status, [*head, ("Connection", "close"), *refusal.headers]) + refusal.body
            self._refuse_upgrade(data, str(refusal.status))
            return
        assert route is not None
        agreed = self._agree(request)
        session = Session(self, route, agreed)
        self._dribble(self._head_101(request, manners, agreed), manners, lambda: self._open(request, session))

    def _agree(self, request: Request) -> wire.Deflate | None:
        offers = request.headers.get("sec-websocket-extensions", "")
        return wire.negotiate_deflate(offers) if self.exchange.settings.deflate and offers else None

    def _refuse_upgrade(self, data: bytes, how: str) -> None:
        self.out.append(data)
        self.write(Refused(at_ns=self.now_ns, connection=self.number, stage="upgrade", how=how))
        self.end(by="exchange", how="fin")
        self.finish(Fin())

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
        if not self.exchange.admits(self.now_ns):
            body = b'{"code":-1003,"msg":"Too many connection attempts; current limit is %d per 5 minutes."}'
            retry = (("Retry-After", str(self.exchange.settings.connect_window_ns // 1_000_000_000)),)
            return Answer(status=429, body=body % self.exchange.settings.connect_limit, headers=retry)
        return None

    def _route(self, request: Request) -> binance.Route | None:
        spot = binance.RULES["spot"]
        if self.exchange.settings.echo:
            return binance.Route(rules=spot, path="", combined=False, streams=())
        route = binance.route(request, self.exchange.settings.market)
        if route is None and self.manners.upgrade.any_path:
            return binance.Route(rules=spot, path="", combined=False, streams=(), silent=True)
        return route

    @staticmethod
    def _head_101(request: Request, manners: Upgrade, agreed: wire.Deflate | None) -> bytes:
        key = request.headers["sec-websocket-key"].strip().encode()
        accept = wire.accept_key(key) if manners.accept != "bad" else wire.accept_key(b"AAAAAAAAAAAAAAAAAAAAAA==")
        assert accept is not None
        headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept.decode())]
        if manners.accept == "missing":
            headers.pop()
        if agreed is not None:
            headers.append(("Sec-WebSocket-Extensions", agreed.response.decode()))
        headers = [(name, value) for name, value in headers if name.lower() not in manners.drop_headers]
        return render_head(101, [*headers, *manners.extra_headers], version=manners.version)

    def _dribble(self, head: bytes, manners: Upgrade, then: Callable[[], None]) -> None:
        cut = 0 <= manners.cut_after < len(head)
        if cut:
            head = head[: manners.cut_after]
            self.write(Refused(at_ns=self.now_ns, connection=self.number, stage="upgrade", how="cut"))
        if not manners.dribble_ns:
            self.out.append(head)
            if not cut:
                then()
            return
        for position in range(len(head)):
            byte, due = head[position : position + 1], self.now_ns + position * manners.dribble_ns
            self.timers.at(due, lambda _, byte=byte: self.out.append(byte))  # type: ignore[misc]
        if not cut:
            self.timers.at(self.now_ns + len(head) * manners.dribble_ns, lambda _: then())

    def _open(self, request: Request, session: Session) -> None:
        manners = self.manners.upgrade
        self.state, self.session = "open", session
        self.write(Upgraded(at_ns=self.now_ns, connection=self.number, target=request.target))
        if manners.trailing:
            self.out.append(manners.trailing)
        if manners.after != "ok":
            self.end(by="exchange", how="fin" if manners.after == "close" else "reset")
            self.finish(Fin() if manners.after == "close" else Reset())
            return
        session.begin()
        if self._early and self.state == "open":
            early, self._early = self._early, b""
            session.receive(early)

    def replan(self, now_ns: int) -> None:
        """Take up the manners and the script of a plan that was changed by hand."""
        self.enter(now_ns)
        if self.state == "open" and self.session is not None:
            manners = self.exchange.manners(self.number)
            self.manners = msgspec.structs.replace(self.manners, control=manners.control, link=manners.link)
            self.out.append(Relink(manners.link))
            self.session.player.replan()

    @property
    def streams(self) -> list[str]:
        """Subscribed streams, in order."""
        return [] if self.session is None else list(self.session.player.streams)

    def _stop_playing(self) -> None:
        if self.session is not None:
            self.session.player.stop()

    # --- Endings -----------------------------------------------------------------------------------------------

    def send_close(self, code: int | None, reason: bytes) -> None:
        """Send a close frame, once."""
        if not self._close_sent:
            self._close_sent = True
            self.out.append(wire.frame(wire.CLOSE, wire.close_payload(code, reason)))

    def close(self, code: int, reason: bytes, *, how: str = "close", by: str = "exchange") -> None:
        """Send a close frame and wait for its echo."""
        self.end(by=by, how=how, code=code, reason=reason.decode())
        self.send_close(code, reason)
        self._await_close()

    def _await_close(self) -> None:
        self.state = "closing"
        self._stop_playing()
        self.timers.clear()
        self.timers.at(self.now_ns + self.exchange.settings.close_wait_ns, lambda _: self.finish(Fin()))

    def close_as(self, action: Close) -> None:
        """Send the close frame that a script wants."""
        payload = wire.close_payload(action.code, action.reason)
        self.out.append(wire.frame(wire.CLOSE, payload))
        if action.then == "data":
            self.write(Added(at_ns=self.now_ns, connection=self.number, data=payload, fault=action.fault))
            return
        self._close_sent = True
        reason = action.reason.decode("utf-8", "backslashreplace")
        self.end(by="exchange", how="close", code=action.code, reason=reason, fault=action.fault)
        if action.then == "handshake":
            self._await_close()
        else:
            self.finish(Fin() if action.then == "fin" else Reset())
