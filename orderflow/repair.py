"""What the stream missed: fetched over REST and put in its place, or given up aloud.

One repair runs at a time for each symbol. It asks until the hole is closed, as long as asking gets it further; what
cannot be had within `backfill_timeout_s` is lost, and the trades held back behind it go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from orderflow.backfill import PAGE_MAX, BackfillError, RestTrades
from orderflow.sequencer import Hole  # noqa: TC001 - msgspec reads annotations
from orderflow.trade import Trade

if TYPE_CHECKING:
    from orderflow.settings import StreamSettings
    from orderflow.symbol_feed import SymbolFeed

logger = logging.getLogger(__name__)


class LostTrades(msgspec.Struct, frozen=True):
    """Trades that will never come."""

    hole: Hole
    at_s: float
    """Monotonic seconds at which they were given up."""
    time_ms: int | None
    """Exchange time of the last trade before them."""
    reason: str


class Repair:
    """
    Closes the holes of one feed.

    Args:
        feed: whose sequencer has them.
        settings: the limits.
        rest: who is asked.
    """

    def __init__(self, feed: SymbolFeed, settings: StreamSettings, rest: RestTrades) -> None:
        self._feed = feed
        self._settings = settings
        self._rest = rest
        self.busy = False
        self.open_ended = False
        self.failures = 0
        """Questions in a row that REST did not answer."""
        self.repaired = 0
        """Trades fetched."""
        self.lost: deque[LostTrades] = deque(maxlen=1000)
        self.lost_count = 0
        self.hole_since_s: float | None = None

    def note_hole(self) -> None:
        """Remember since when something is missing."""
        if self.hole_since_s is None:
            self.hole_since_s = time.monotonic()

    def want(self, *, open_ended: bool = False, grace_s: float = 0.0) -> None:
        """
        See to it that what is missing is fetched.

        Args:
            open_ended: up to the present, since nobody knows how much is missing.
            grace_s: it may still arrive by itself within this time.
        """
        self.open_ended = self.open_ended or open_ended
        if not self.busy:
            self.busy = True
            self._feed.help("catching up", self._catch_up(grace_s))

    async def _catch_up(self, grace_s: float) -> None:
        sequencer = self._feed.sequencer
        try:
            if grace_s:
                await asyncio.sleep(grace_s)
            hole = sequencer.hole()
            if sequencer.suspect is not None:
                self._feed.say(
                    logging.WARNING,
                    "suspect",
                    "⚠️ %s: trade %d is not plausible (%s); REST is asked before it counts",
                    self._feed.symbol,
                    sequencer.suspect.agg_trade_id,
                    sequencer.suspect_reason,
                )
            elif hole is not None:
                self._feed.say(
                    logging.WARNING,
                    "gap",
                    "⚠️ %s: trades %s are missing; they are asked for over REST",
                    self._feed.symbol,
                    hole,
                )
            if hole is not None or self.open_ended:
                await self._fetch_missing()
        finally:
            self.busy = False
            self.open_ended = False
            if sequencer.holding:
                sequencer.release(time.monotonic_ns())
            self._feed.delivery.wake()
            if sequencer.hole() is None:
                self.hole_since_s = None
            elif not self._feed.stopping:
                # Another hole opened behind the first.
                self.want(grace_s=self._settings.reorder_grace_s)

    async def _fetch_missing(self) -> None:
        settings, sequencer = self._settings, self._feed.sequencer
        if not settings.backfill:
            self.lose("asking REST is switched off")
            return
        deadline_s = time.monotonic() + settings.backfill_timeout_s
        before, delay_s, trouble = self.repaired, 0.2, "REST does not have them"
        while sequencer.hole() is not None or self.open_ended:
            if time.monotonic() >= deadline_s:
                self.lose(trouble)
                break
            try:
                got_further = await self._fetch_page()
                self.failures = 0
                if got_further:
                    deadline_s = time.monotonic() + settings.backfill_timeout_s
                    continue
            except BackfillError as error:
                trouble = str(error)
                self.failures += 1
                if sequencer.holding and sequencer.held_count and self._feed.connections == 1:
                    # Nothing is known to be missing, and a program waits in start().
                    logger.info(
                        "%s: what was traded just before the first trade cannot be learnt: %s", self._feed.symbol, error
                    )
                    break
                left_s = deadline_s - time.monotonic()
                if error.retry_after_s is not None and error.retry_after_s > left_s:
                    self.lose(trouble)
                    break
            if sequencer.hole() is None and not self.open_ended:
                break
            # The database behind REST may be a little behind the stream: ask again.
            await asyncio.sleep(min(delay_s, max(deadline_s - time.monotonic(), 0.01)))
            delay_s = min(delay_s * 2, 2.0)
        if self.repaired > before:
            logger.info("%s: %d trades fetched over REST", self._feed.symbol, self.repaired - before)

    async def _fetch_page(self) -> bool:
        """Ask once; True when that got us further."""
        sequencer = self._feed.sequencer
        last_id, suspect = sequencer.last_id, sequencer.suspect
        if last_id is None:
            page = await self._rest.page(self._feed.symbol, start_ms=self._feed.wanted_from_ms)
        else:
            page = await self._rest.page(self._feed.symbol, from_id=last_id + 1)
        self.repaired += sequencer.fill(page, time.monotonic_ns())
        self._feed.delivery.wake()
        if suspect is not None and sequencer.suspect is not suspect:
            self._compare_suspect(suspect, page)
        if page and sequencer.last_id == last_id and last_id is not None:
            first_id = page[0].agg_trade_id
            if 1 < first_id - last_id <= self._settings.backfill_max:
                self.lose("REST does not have them either", until=first_id)
            else:
                self.open_ended = False
                logger.warning(
                    "⚠️ %s: REST goes on with id %d after %d: its numbering differs from the stream's",
                    self._feed.symbol,
                    first_id,
                    last_id,
                )
        elif len(page) < PAGE_MAX:
            self.open_ended = False
        await self._feed.delivery.room()
        return sequencer.last_id != last_id

    def _compare_suspect(self, suspect: Trade, page: list[Any]) -> None:
        for item in page:
            if item.agg_trade_id == suspect.agg_trade_id:
                same = isinstance(item, Trade) and (item.price_units, item.quantity_units, item.time_ms) == (
                    suspect.price_units,
                    suspect.quantity_units,
                    suspect.time_ms,
                )
                said = f"price {item.price_text}, time {item.time_ms}" if isinstance(item, Trade) else "a voided trade"
                logger.log(
                    logging.INFO if same else logging.WARNING,
                    "%s: REST %s trade %d (%s)",
                    self._feed.symbol,
                    "confirms" if same else "corrects",
                    suspect.agg_trade_id,
                    said,
                )

    def lose(self, reason: str, *, until: int | None = None) -> None:
        """
        Give up what is missing, aloud.

        Args:
            reason: why.
            until: the first id that exists behind it, as far as REST knows.
        """
        last = self._feed.sequencer.last
        hole = self._feed.sequencer.give_up(time.monotonic_ns(), until)
        self.open_ended = False
        self._feed.delivery.wake()
        if hole is None:
            self._feed.say(
                logging.WARNING,
                "away",
                "⚠️ %s: what is traded while the stream is away cannot be fetched: %s",
                self._feed.symbol,
                reason,
            )
            return
        self.lost_count += hole.count
        self.lost.append(LostTrades(hole, time.monotonic(), None if last is None else last.time_ms, reason))
        logger.warning("⚠️ %s: trades %s are lost for good: %s", self._feed.symbol, hole, reason)
