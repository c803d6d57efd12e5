"""The aggTrade streams of several symbols, supervised.

Nothing here ends, fails or waits without a word: tasks are held and every end of one is explained, a heartbeat
on the event loop is watched from a thread, and `health()` is worked out when asked, from clocks, by whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from orderflow.backfill import RestTrades
from orderflow.feed_health import health, trouble
from orderflow.remarks import Remarks
from orderflow.settings import StreamSettings
from orderflow.symbol_feed import SymbolFeed
from orderflow.watchdog import Watchdog, where

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterable

    from orderflow.delivery import TradeCallback

logger = logging.getLogger(__name__)

# Streams that run are kept alive, whether or not the program keeps a reference: a task that only the
# event loop knows may be collected at any time (Python, asyncio.create_task). A stream whose loop was closed is let go.
_running_streams: set[BinanceAggTradesStream] = set()


class StartError(RuntimeError):
    """The stream cannot be started here, now or with these symbols."""


class BinanceAggTradesStream:
    """
    Receives aggregate trades and calls `callback(symbol, trade)` for each, in order, once.

    Args:
        callback: a function or a coroutine function. When it raises, that is logged and the next trade follows;
            when it is slow, reading waits for it, and nothing is dropped.
        settings: the limits; None for the defaults.
        ssl_context: what to trust; None for the machine's own store.
    """

    def __init__(
        self,
        callback: TradeCallback,
        *,
        settings: StreamSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.callback = callback
        self.settings = settings or StreamSettings()
        self.tasks: list[asyncio.Task[None]] = []
        """The tasks that receive, deliver and supervise; each is named."""
        self._ssl_context = ssl_context
        self._feeds: dict[str, SymbolFeed] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id: int | None = None
        self._beat_s = 0.0
        self._stopping = False
        self._ended_tasks: list[str] = []
        self._watchdog: Watchdog | None = None
        self._stopped = asyncio.Event()
        self._rest = RestTrades(self.settings, ssl_context)
        self._remarks = Remarks(logging.getLogger("orderflow.symbol_feed"), self.settings.remark_interval_s)

    # --- Starting ----------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """`start()` was called, and `stop()` was not."""
        return self._loop is not None

    @property
    def running(self) -> bool:
        """Started, on an event loop that runs, with all tasks alive. Safe from any thread."""
        return self.started and not self.loop_trouble(time.monotonic())

    @property
    def symbols(self) -> list[str]:
        """Upper case, in the order in which they were asked for."""
        return list(self._feeds)

    @property
    def feeds(self) -> dict[str, SymbolFeed]:
        """By symbol, upper case."""
        return self._feeds

    async def start(self, symbols: Iterable[str], background: bool = True) -> dict[str, Any]:
        """
        Start the streams and say whether trades flow.

        Args:
            symbols: in any case.
            background: True returns after the first trade of each symbol, or after `start_timeout_s` with a warning
                for each symbol that has none yet (attempts go on). False returns when the stream is stopped.

        Returns:
            `health()` at that moment.

        Raises:
            StartError: there is no symbol, or the stream runs on another event loop already.
        """
        wanted = _clean(symbols)
        if self.started:
            wanted = self._on_second_start(wanted)
            if not wanted:
                return self.health()
        self._begin(wanted)
        logger.info(f"🚀 Starting aggTrades streams for {len(wanted)} symbols")
        for symbol in wanted:
            self._hold(f"aggTrades {symbol}", self.connect(symbol))
            self._hold(f"delivery {symbol}", self._feed(symbol).delivery.run())
        await self._await_first_trades(wanted)
        if not background:
            await self._stopped.wait()
        return self.health()

    def _on_second_start(self, wanted: list[str]) -> list[str]:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            assert self._loop is not None
            if self._loop.is_running():
                raise StartError("this stream already runs on another event loop; stop it there first")
            logger.warning("⚠️ the event loop of this stream is gone; starting afresh on the present one")
            self._abandon()
            return wanted
        if all(task.done() for task in self.tasks):
            logger.warning("⚠️ all tasks of this stream have ended; starting afresh")
            self._abandon()
            return wanted
        known = [symbol for symbol in wanted if symbol in self._feeds]
        if known:
            logger.warning("⚠️ start() was called again: %s already run and are not started twice", ", ".join(known))
        return [symbol for symbol in wanted if symbol not in self._feeds]

    def _begin(self, wanted: list[str]) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread_id = threading.get_ident()
            self._beat_s = time.monotonic()
            self._stopping = False
            self._stopped = asyncio.Event()
            self._ended_tasks.clear()
            _running_streams.add(self)
        for symbol in wanted:
            self._feeds[symbol] = self._new_feed(symbol)
        if self._watchdog is None:
            self._watchdog = Watchdog(self, min(0.5, self.settings.loop_timeout_s / 3))
            self._watchdog.start()
            self._hold("supervisor", self._supervise())

    async def _await_first_trades(self, wanted: list[str]) -> None:
        waits = [asyncio.ensure_future(self._feeds[symbol].delivery.first_trade.wait()) for symbol in wanted]
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            everything = asyncio.ensure_future(asyncio.wait(waits))
            await asyncio.wait(
                [everything, stopped], timeout=self.settings.start_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in (*waits, stopped, everything):
                wait.cancel()
        if self._stopping:
            return
        # Trades that REST stands in with are no stream.
        mute = [symbol for symbol in wanted if not self._feeds[symbol].stream_trades]
        for symbol in mute:
            reasons = "; ".join(trouble(self._feeds[symbol], time.monotonic()))
            logger.warning(
                "⚠️ %s: no trade from the stream within %.1f s of start(): %s; attempts go on in the background",
                symbol,
                self.settings.start_timeout_s,
                reasons or "the connection is open; the market is quiet, or the stream is mute",
            )
        if not mute:
            logger.info("✅ AggTrades streams running in background")

    def _new_feed(self, symbol: str) -> SymbolFeed:
        return SymbolFeed(
            symbol,
            self.callback,
            self.settings,
            rest=self._rest,
            remarks=self._remarks,
            ssl_context=self._ssl_context,
        )

    def _feed(self, symbol: str) -> SymbolFeed:
        return self._feeds[symbol.upper()]

    async def connect(self, symbol: str) -> None:
        """
        Receive one symbol until cancelled, connecting again whenever needed.

        `start()` runs this as a task for each symbol; there is no need to call it.

        Raises:
            StartError: the symbol was not started.
        """
        if symbol.upper() not in self._feeds:
            raise StartError(f"{symbol} is not started; call start([{symbol!r}])")
        await self._feed(symbol).run()

    # --- Supervising -------------------------------------------------------------------------

    def _hold(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.append(task)
        task.add_done_callback(self._on_task_ended)

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping or task not in self.tasks:
            return
        name = task.get_name()
        # A cancelled task must not be asked for its exception: that raises, inside a callback, where nobody listens.
        if task.cancelled():
            self._ended_tasks.append(f"the task {name!r} was cancelled by somebody else")
            logger.error("❌ the task %r was cancelled, and not by stop(): its work is no longer done", name)
            return
        error = task.exception()
        if error is None:
            self._ended_tasks.append(f"the task {name!r} ended")
            logger.error("❌ the task %r ended, which it never should: its work is no longer done", name)
            return
        self._ended_tasks.append(f"the task {name!r} failed: {type(error).__name__}: {error}")
        logger.error("❌ the task %r failed: its work is no longer done", name, exc_info=error)

    async def _supervise(self) -> None:
        tick_s = min(0.5, self.settings.stall_timeout_s / 10, self.settings.loop_timeout_s / 4)
        while True:
            now_s = time.monotonic()
            self._beat_s = now_s
            try:
                for feed in self._feeds.values():
                    feed.look(now_s)
                self._remarks.flush(now_s)
            except Exception:
                logger.exception("❌ the supervisor stumbled; it goes on")
            await asyncio.sleep(tick_s)

    def loop_trouble(self, now_s: float) -> str:
        """
        Say what is wrong with the event loop or the tasks; empty when nothing is. Safe from any thread.

        Args:
            now_s: monotonic seconds.
        """
        loop = self._loop
        if loop is None or self._stopping:
            return ""
        if loop.is_closed():
            _running_streams.discard(self)
            return f"the event loop that start() ran on is closed; {self._so_far()}"
        age_s = now_s - self._beat_s
        if age_s >= self.settings.loop_timeout_s:
            if not loop.is_running():
                return (
                    f"the event loop that start() ran on is not running, since {age_s:.1f} s; {self._so_far()}; "
                    "keep it running (asyncio.run with a main that lasts, or a thread that owns it)"
                )
            if any(task.get_name() == "supervisor" and not task.done() for task in self.tasks):
                place = where(self._thread_id) or "an unknown place"
                return f"the event loop has been blocked for {age_s:.1f} s, at {place}"
        if self._ended_tasks:
            return "; ".join(self._ended_tasks)
        return ""

    def _so_far(self) -> str:
        told = []
        for symbol, feed in list(self._feeds.items()):
            if feed.attempts == 0:
                told.append(f"{symbol}: no connection was even attempted")
            elif feed.connections == 0:
                told.append(f"{symbol}: no connection was made, {feed.attempts} attempts had begun")
            else:
                told.append(f"{symbol}: {feed.attempts} attempts, {feed.delivery.delivered} trades until then")
        return ", ".join(told)

    # --- Health ------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """
        Work out how the stream is. Safe from any thread, whatever the event loop does.

        Returns:
            `ok` (bool; None while the first trade is awaited), `status` (`ok`, `starting`, `trouble`, `stopped`),
            `reasons` (sentences), `symbols` (the same for each, with counters) and `loop`.
        """
        now_s = time.monotonic()
        if not self.started:
            return {"ok": False, "status": "stopped", "reasons": ["not started"], "symbols": {}, "loop": "none"}
        loop_trouble = self.loop_trouble(now_s)
        feeds = {symbol: health(feed, now_s) for symbol, feed in list(self._feeds.items())}
        reasons = [loop_trouble] if loop_trouble else []
        reasons += [f"{symbol}: {reason}" for symbol, told in feeds.items() for reason in told["reasons"]]
        starting = any(told["status"] == "starting" for told in feeds.values())
        return {
            "ok": False if reasons else None if starting else True,
            "status": "trouble" if reasons else "starting" if starting else "ok",
            "reasons": reasons,
            "symbols": feeds,
            "loop": loop_trouble or "running",
        }

    # --- Stopping ----------------------------------------------------------------------------

    async def stop(self) -> None:
        """End everything, within `stop_timeout_s`; may be called twice, and from another event loop."""
        loop = self._loop
        if loop is None:
            return
        if loop is asyncio.get_running_loop():
            await self._end()
        elif loop.is_running():
            ending = asyncio.run_coroutine_threadsafe(self._end(), loop)
            try:
                await asyncio.wait_for(asyncio.wrap_future(ending), self.settings.stop_timeout_s + 1)
            except TimeoutError:
                logger.warning("⚠️ the event loop of the stream does not answer; its tasks are left behind")
                self._abandon()
        else:
            left = sum(not task.done() for task in self.tasks)
            logger.warning(
                "⚠️ the event loop of the stream does not run: %d tasks cannot be ended and are left behind", left
            )
            self._abandon()

    async def aclose(self) -> None:
        """Do the same as `stop()`."""
        await self.stop()

    async def _end(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        deadline_s = time.monotonic() + self.settings.stop_timeout_s
        for feed in self._feeds.values():
            feed.stopping = True
        await self._cancel("aggTrades", deadline_s)
        # What was received is still handed over, if the callback is quick about it.
        drain_until_s = min(deadline_s, time.monotonic() + self.settings.stop_timeout_s / 4)
        while any(feed.sequencer.ready for feed in self._feeds.values()) and time.monotonic() < drain_until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # for a second or two at most, once
        for symbol, feed in self._feeds.items():
            left = len(feed.sequencer.ready) + feed.sequencer.held_count
            if left:
                logger.warning("⚠️ %s: stopped with %d trades received and not handed over", symbol, left)
        await self._cancel("", deadline_s)
        self._remarks.flush(time.monotonic(), everything=True)
        await self._rest.close()
        self._abandon()
        logger.info("🛑 AggTrades streams stopped")

    async def _cancel(self, prefix: str, deadline_s: float) -> None:
        own = asyncio.current_task()  # the callback may call stop()
        tasks = [task for task in self.tasks if task.get_name().startswith(prefix)]
        if not prefix:
            tasks += [helper for feed in self._feeds.values() for helper in feed.helpers]
        tasks = [task for task in tasks if task is not own and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(deadline_s - time.monotonic(), 0.01))
            for task in late:
                logger.warning("⚠️ the task %r does not end when cancelled; it is left behind", task.get_name())

    def _abandon(self) -> None:
        self._stopping = True
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog.join(1.0)  # it is asleep, and wakes at once
            self._watchdog = None
        _running_streams.discard(self)
        stopped, loop = self._stopped, self._loop
        self.tasks = []
        self._feeds = {}
        self._loop = None
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopped.set)


def _clean(symbols: Iterable[str]) -> list[str]:
    if isinstance(symbols, str):
        symbols = [symbols]
    wanted = list(dict.fromkeys(symbol.strip().upper() for symbol in symbols))
    if not wanted:
        raise StartError("start() needs at least one symbol")
    wrong = [symbol for symbol in wanted if not symbol or not symbol.replace("_", "").isalnum()]
    if wrong:
        raise StartError(f"{wrong[0]!r} is not a symbol; write for example 'btcusdt'")
    return wanted
