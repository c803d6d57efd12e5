"""One symbol: connect, receive, put in order, hand over; for ever, and never without a word.

    connect ─▶ receive ─▶ sequencer ─▶ ready ─▶ deliver ─▶ callback
       ▲                     │ hole       ▲
       └── look (stall)      └─▶ catch up ┘  (REST)

Each box runs as a task of its own. Everything else in here is bookkeeping for `health()`, which reads
plain attributes and may be called from any thread. `delivery` is the last box, `repair` the lower one.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from orderflow.backfill import PAGE_MAX, BackfillError, RestTrades
from orderflow.delivery import Delivery
from orderflow.explain import Explanation, explain, is_loopback
from orderflow.repair import Repair
from orderflow.sequencer import Sequencer
from orderflow.trade import Notice, parse_frame

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable

    from orderflow.delivery import TradeCallback
    from orderflow.remarks import Remarks
    from orderflow.settings import StreamSettings

logger = logging.getLogger(__name__)

_PROXY_IS_AN_OPTION = "proxy" in inspect.signature(connect.__init__).parameters
_RECEIVE_TURN = 64
# Shorter absences are over before it pays to ask REST again and again.
_STAND_IN_AFTER_S = 2.0
_STAND_IN_MAX_S = 60.0


class SymbolFeed:
    """
    The aggTrade stream of one symbol.

    Args:
        symbol: in any case.
        callback: called with the symbol (upper case) and each trade, in order, once; may be a coroutine function.
        settings: the limits.
        rest: where missing trades are fetched.
        remarks: the rate limit for warnings.
        ssl_context: what to trust; None for the machine's own store.
    """

    def __init__(
        self,
        symbol: str,
        callback: TradeCallback,
        settings: StreamSettings,
        *,
        rest: RestTrades,
        remarks: Remarks,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.symbol = symbol.upper()
        self.settings = settings
        self._rest = rest
        self._remarks = remarks
        self._ssl_context = ssl_context
        self.sequencer = Sequencer(
            jump_max=settings.backfill_max,
            held_max=settings.held_max,
            max_price_jump=settings.max_price_jump,
            max_time_jump_ms=int(settings.max_time_jump_s * 1000),
        )
        self.delivery = Delivery(self.symbol, callback, self.sequencer.ready, settings, self.say)
        self.repair = Repair(self, settings, rest)

        self.stopping = False
        self.connected = False
        self.attempts = 0
        self.connections = 0
        self.failures = 0
        """Attempts and connections in a row that did not last."""
        self.last_trouble = ""
        self.made_at_s = time.monotonic()
        self.down_since_s: float | None = self.made_at_s
        """Since when no data comes; None while it does."""
        self.connected_at_s = 0.0
        self.stream_trades = 0
        self.last_stream_at_s: float | None = None
        self.invalid = 0
        self.quiet_confirmed_at_s: float | None = None

        self._ws: ClientConnection | None = None
        self._abort_reason = ""
        self.wanted_from_ms = 0
        self._highest_stream_id = -1
        self._helpers: set[asyncio.Task[None]] = set()
        self._next_stand_in_s = 0.0
        self._probing = False
        self._next_probe_s = 0.0
        self._quiet_reports = 0

    # --- Connecting --------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Stream names are case sensitive; a wrong one is accepted and stays silent for ever."""
        return f"{self.settings.stream_url.rstrip('/')}/{self.symbol.lower()}@aggTrade"

    async def run(self) -> None:
        """Connect, receive, and connect again, until cancelled."""
        while not self.stopping:
            self.attempts += 1
            logger.info(f"🔌 Attempting to connect to {self.symbol} aggTrades stream...")
            logger.debug("   URI: %s (attempt %d)", self.uri, self.attempts)
            began_s, had = time.monotonic(), self.stream_trades
            was_connected = False
            if self.attempts == 1:
                # What is traded from here on may be fetched, should no connection bring it.
                self.wanted_from_ms = time.time_ns() // 1_000_000
            try:
                async with self._dial() as ws:
                    was_connected = True
                    self._on_connected(ws)
                    try:
                        await self._receive_all(ws)
                    finally:
                        if self.stopping:
                            await ws.close()  # with 1000: left to itself, a cancelled connection says 1011, an error
            except Exception as error:
                explanation = explain(error)
                if explanation.ours:
                    logger.exception("%s aggTrades stream: unexpected trouble", self.symbol)
            else:
                explanation = Explanation("it ended")
            finally:
                self.connected = False
                self._ws = None
            if self.stopping:
                return
            lasted = self.stream_trades > had and time.monotonic() - began_s >= self.settings.backoff_reset_s
            self.failures = 1 if lasted else self.failures + 1
            pause_s = self._pause_s(explanation)
            if explanation.retry_after_s is not None:
                self._next_stand_in_s = time.monotonic() + pause_s  # a ban is on the address, not on the stream
            self._report_trouble(explanation, pause_s, was_connected=was_connected)
            await asyncio.sleep(pause_s)

    def _dial(self) -> connect:
        settings = self.settings
        options: dict[str, Any] = {}
        parts = urlsplit(self.uri)
        if parts.scheme == "wss" and self._ssl_context is not None:
            options["ssl"] = self._ssl_context
        if _PROXY_IS_AN_OPTION and is_loopback(parts.hostname):
            # websockets 15 and later send even loopback through HTTPS_PROXY.
            options["proxy"] = None
        return connect(
            self.uri,
            compression=None,  # it halves the rate, and the exchange does not need it
            open_timeout=settings.open_timeout_s,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.ping_timeout_s,
            close_timeout=settings.close_timeout_s,
            max_size=settings.message_size_max,
            **options,
        )

    def _on_connected(self, ws: ClientConnection) -> None:
        self._ws = ws
        self._abort_reason = ""
        self.connections += 1
        self.connected_at_s = time.monotonic()
        self.connected = True
        logger.info(f"🐋 Connected to {self.symbol} aggTrades stream")
        # The first trades wait until REST has told what was traded between connecting and them.
        self.sequencer.holding = self.sequencer.last_id is None and self.settings.backfill
        if self.connections > 1:
            # Nothing is replayed on a new connection: what passed meanwhile is a gap, known before the next trade.
            self.repair.want(open_ended=True)

    def _pause_s(self, explanation: Explanation) -> float:
        settings = self.settings
        pause_s = min(settings.backoff_first_s * 2.0 ** min(self.failures - 1, 20), settings.backoff_max_s)
        pause_s *= random.uniform(0.5, 1.0)  # so that many clients do not come back in step
        if explanation.retry_after_s is not None:
            pause_s = max(pause_s, explanation.retry_after_s * random.uniform(1.0, 1.05))
        return pause_s

    def _report_trouble(self, explanation: Explanation, pause_s: float, *, was_connected: bool) -> None:
        now_s = time.monotonic()
        if self.down_since_s is None:
            self.down_since_s = now_s if self.last_stream_at_s is None else self.last_stream_at_s
        down_s = now_s - self.down_since_s
        level = logging.ERROR if down_s >= self.settings.down_error_s else explanation.level
        self.last_trouble = self._abort_reason or explanation.text
        newest_id = max(self._highest_stream_id, self.sequencer.last_id or -1)
        missed = "nothing has been received yet" if newest_id < 0 else f"trades from id {newest_id + 1} on are missing"
        logger.log(
            level,
            "⚠️ %s aggTrades stream: %s: %s; no data for %.1f s, %s; next attempt (%d) in %.1f s",
            self.symbol,
            "connection lost" if was_connected else "cannot connect",
            self.last_trouble,
            down_s,
            missed,
            self.attempts + 1,
            pause_s,
        )

    def abort(self, reason: str) -> None:
        """Cut the connection, so that a new one is made; a handshake with a dead peer would only take time."""
        self._abort_reason = reason
        if self._ws is not None:
            self._ws.transport.abort()

    # --- Receiving ---------------------------------------------------------------------------

    async def _receive_all(self, ws: ClientConnection) -> None:
        count = 0
        while True:
            # Not `async for`: that ends without a word when the exchange closes with 1000 or 1001.
            self.receive(await ws.recv())
            count += 1
            if self.delivery.full:
                self.say(
                    logging.WARNING,
                    "backlog",
                    "%s: %d trades wait for the callback, which is too slow; reading is paused",
                    self.symbol,
                    len(self.sequencer.ready),
                )
                await self.delivery.room()
            elif count % _RECEIVE_TURN == 0:
                await asyncio.sleep(0)

    def receive(self, message: str | bytes) -> None:
        """Take in one message of the stream."""
        parsed = parse_frame(message, self.symbol)
        if isinstance(parsed, Notice):
            self._on_notice(parsed)
            return
        sequencer, trade_id = self.sequencer, parsed.agg_trade_id
        last_id = sequencer.last_id
        outcome = sequencer.offer(parsed, time.monotonic_ns())
        # A repeat is no sign of life: a frozen feed sends the same trade for ever.
        if trade_id > self._highest_stream_id or outcome in {"backwards", "far", "reset"}:
            self._on_fresh(trade_id)
        if outcome == "ready":
            self.delivery.wake()
        elif outcome == "held":
            self._on_held()
        elif outcome == "suspect":
            self.repair.note_hole()
            self.repair.want()
        elif outcome in {"backwards", "far", "reset"}:
            self._on_elsewhere(outcome, trade_id, last_id)

    def _on_fresh(self, trade_id: int) -> None:
        self._highest_stream_id = trade_id
        self.stream_trades += 1
        self.last_stream_at_s = time.monotonic()
        self.down_since_s = None
        self.quiet_confirmed_at_s = None
        self._quiet_reports = 0

    def _on_notice(self, notice: Notice) -> None:
        if notice.kind == "reply":
            logger.info("%s: %s", self.symbol, notice.text)
            return
        if notice.kind == "shutdown":
            logger.warning("⚠️ %s: %s; a new connection will be made", self.symbol, notice.text)
            return
        self.invalid += 1
        self.say(logging.WARNING, f"notice {notice.kind}", "⚠️ %s: a frame was rejected: %s", self.symbol, notice.text)

    def _on_held(self) -> None:
        if self.sequencer.last_id is None:
            self.repair.want(open_ended=True)
            return
        self.repair.note_hole()
        if self.sequencer.full:
            self.repair.lose(f"{self.sequencer.held_count} later trades were waiting")
        else:
            self.repair.want(grace_s=self.settings.reorder_grace_s)

    def _on_elsewhere(self, outcome: str, trade_id: int, last_id: int | None) -> None:
        if outcome == "reset":
            self.delivery.lag.forget()
            self.delivery.wake()
            logger.warning(
                "⚠️ %s: the numbering changed: after id %s it goes on with %d; what lies between cannot be known",
                self.symbol,
                last_id,
                trade_id,
            )
        else:
            self.say(
                logging.WARNING,
                f"elsewhere {outcome}",
                "⚠️ %s: a new trade has id %d after %s (%s); it is held back until more follow",
                self.symbol,
                trade_id,
                last_id,
                "from the past" if outcome == "backwards" else "from far ahead",
            )

    def say(self, level: int, kind: str, message: str, *args: object) -> None:
        """Log with the rate limit, as a kind of remark about this symbol."""
        self._remarks.say(time.monotonic(), level, f"{self.symbol} {kind}", message, *args)

    def help(self, name: str, work: Awaitable[None]) -> None:
        """Run short work beside the feed: held, since the event loop does not, and never ending in silence."""

        async def watched() -> None:
            try:
                await work
            except Exception:
                logger.exception("%s: %s failed", self.symbol, name)

        task = asyncio.get_running_loop().create_task(watched(), name=f"{name} {self.symbol}")
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    @property
    def helpers(self) -> list[asyncio.Task[None]]:
        """Short-lived tasks of this feed that are still running."""
        return list(self._helpers)

    # --- Watching ----------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Look for what no event announces; called all the time by the supervisor."""
        since_s = self.delivery.busy_since_s
        if since_s is not None and now_s - since_s > self.settings.callback_timeout_s:
            self.say(
                logging.WARNING,
                "callback slow",
                "⚠️ %s: the callback has been busy with one trade for %.1f s; %d wait",
                self.symbol,
                now_s - since_s,
                len(self.sequencer.ready),
            )
        self._stand_in(now_s)
        if not self.connected or self._probing or self.delivery.paused:
            return
        age_s = now_s - self.signs_of_life_s
        if age_s >= self.settings.stall_timeout_s and now_s >= self._next_probe_s:
            self._probing = True
            self.help("looking into the silence", self._probe())

    def _stand_in(self, now_s: float) -> None:
        """While the stream brings nothing, let REST stand in for it."""
        settings = self.settings
        away = self.down_since_s is not None and now_s - self.down_since_s >= _STAND_IN_AFTER_S and self.failures > 0
        if (
            not (away and settings.backfill and settings.stand_in_s)
            or self.repair.busy
            or now_s < self._next_stand_in_s
        ):
            return
        self._next_stand_in_s = now_s + min(settings.stand_in_s * 2.0**self.repair.failures, _STAND_IN_MAX_S)
        self.sequencer.holding = self.sequencer.last_id is None
        self.repair.want(open_ended=True)

    @property
    def signs_of_life_s(self) -> float:
        """Monotonic time of the last new trade on this connection, or of its beginning."""
        return max(self.last_stream_at_s or 0.0, self.connected_at_s)

    @property
    def quiet_confirmed(self) -> bool:
        """REST has said, since the last trade, that there are none."""
        return self.quiet_confirmed_at_s is not None

    async def _probe(self) -> None:
        """Silence: ask REST whether the market is silent too."""
        settings, ws = self.settings, self._ws
        try:
            newer = await self._newer_trades() if settings.backfill else "nobody can be asked whether there were any"
            age_s = time.monotonic() - self.signs_of_life_s
            if ws is not self._ws or age_s < settings.stall_timeout_s:
                return  # it moved meanwhile
            if newer:
                self.abort(f"no trade for {age_s:.1f} s on an open connection, {newer}")
                return
            self.quiet_confirmed_at_s = time.monotonic()
            report_at_s = settings.quiet_timeout_s * 2**self._quiet_reports
            quiet_s = time.monotonic() - max(self.last_stream_at_s or 0.0, self.down_since_s or 0.0)
            if quiet_s >= report_at_s:
                self._quiet_reports += 1
                self.abort(f"no trade for {quiet_s:.1f} s, and REST has none either: the market is quiet, or halted")
            elif self._quiet_reports == 0:
                logger.info("%s: no trade for %.1f s; REST confirms that the market is quiet", self.symbol, age_s)
        finally:
            self._next_probe_s = time.monotonic() + settings.stall_timeout_s / 4
            self._probing = False

    async def _newer_trades(self) -> str:
        """Say what REST has that the stream did not bring; empty when nothing."""
        last_id = self.sequencer.last_id
        try:
            if last_id is None:
                page = await self._rest.page(self.symbol, start_ms=self.wanted_from_ms)
            else:
                page = await self._rest.page(self.symbol, from_id=last_id + 1)
        except BackfillError as error:
            return f"and whether there were any cannot be learnt: {error}"
        if not page:
            return ""
        # They may have happened this very moment and be on their way.
        await asyncio.sleep(min(1.0, self.settings.stall_timeout_s / 4))
        return f"while REST has {len(page)}{'+' if len(page) >= PAGE_MAX else ''} newer ones"
