"""Ids in order: gaps, duplicates, disorder, suspects and resets of one symbol. Pure.

Aggregate ids rise by exactly one per symbol (409 of 409 consecutive pairs in real captures), so a jump
means that trades are missing. Whatever comes behind a hole is held back until the hole is filled or given up;
what is `ready` is in order, without repeats, and no worse than it was sent.

    offered   250 251 254 255        ready   250 251
    held                  254 255    hole    252 to 253
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import msgspec

from orderflow.trade import Trade, Void

Outcome = Literal["ready", "held", "duplicate", "suspect", "backwards", "far", "reset"]
"""
What became of a trade: passed on; held back behind a hole; seen before; held back until REST confirms it; its
id is from
the past or the far future although the trade is new; or the numbering is now taken to have changed.
"""

# So many new trades in a row with ids from elsewhere are a new numbering, not an accident.
_RESET_RUN = 3


class Hole(msgspec.Struct, frozen=True):
    """Ids that are missing."""

    first: int
    last: int
    """Inclusive."""

    @property
    def count(self) -> int:
        """How many ids."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first} to {self.last} ({self.count})" if self.count > 1 else f"{self.first} (1)"


class Sequencer:
    """
    Puts the trades of one symbol in order.

    Args:
        jump_max: a larger jump in ids is another numbering, not missing trades.
        held_max: so many trades are held back at most.
        max_price_jump: a larger change of price, as a share of the last one, makes a trade suspect.
        max_time_jump_ms: a trade time that leads or trails the last one by more than the clock makes a trade suspect.
    """

    def __init__(
        self,
        *,
        jump_max: int = 100_000,
        held_max: int = 50_000,
        max_price_jump: float = 0.2,
        max_time_jump_ms: int = 300_000,
    ) -> None:
        self.last: Trade | None = None
        """The newest trade passed on."""
        self.last_id: int | None = None
        """Its id, or that of the last void or lost id behind it."""
        self.holding = False
        """True: even the first trade is held back, since older ones are being fetched."""
        self.duplicates = 0
        self.put_right = 0
        """Trades that came after their successors and were put in their place."""
        self.ready: deque[Trade] = deque()
        """What may be passed on; the caller takes it from the left."""
        self.suspect: Trade | None = None
        """The trade that waits for REST to confirm it."""
        self.suspect_reason = ""
        self._jump_max = jump_max
        self._held_max = held_max
        # 20 % up is as far as 1/1.2 down; integers, so that no rounding decides.
        self._jump_ppm = 1_000_000 + int(max_price_jump * 1_000_000)
        self._max_time_jump_ms = max_time_jump_ms
        self._held: dict[int, Trade] = {}
        self._also_price = 0  # a suspect that nobody could check: its level counts as plausible from then on
        self._run: list[Trade] = []  # new trades whose ids are from elsewhere
        self._last_at_ns = 0

    @property
    def held_count(self) -> int:
        """Trades held back."""
        return len(self._held)

    @property
    def full(self) -> bool:
        """No more can be held back; the hole must be given up."""
        return len(self._held) >= self._held_max

    def hole(self) -> Hole | None:
        """The first range of missing ids, None when there is none; a suspect's own id counts as missing."""
        if self.last_id is None or not (self._held or self.suspect):
            return None
        first_held = min(self._held) if self._held else None
        if self.suspect is not None:
            return Hole(self.suspect.agg_trade_id, self.suspect.agg_trade_id)
        assert first_held is not None
        return Hole(self.last_id + 1, first_held - 1)

    def offer(self, trade: Trade, now_ns: int) -> Outcome:
        """
        Take in a trade from the stream.

        Args:
            trade: as parsed.
            now_ns: monotonic time of its receipt.
        """
        trade_id = trade.agg_trade_id
        if self.last_id is None:
            if self.holding:
                if trade_id in self._held:
                    self.duplicates += 1
                    return "duplicate"
                self._held[trade_id] = trade
                return "held"
            return self._step(trade, now_ns)
        if trade_id == self.last_id + 1 and self.suspect is None:
            outcome = self._step(trade, now_ns)
            if outcome == "ready":
                self._run.clear()
                if self._held:
                    self.put_right += 1
                    self._drain(now_ns)
            return outcome
        if trade_id <= self.last_id:
            return self._old(trade, now_ns)
        if trade_id in self._held or (self.suspect is not None and trade_id == self.suspect.agg_trade_id):
            self.duplicates += 1
            return "duplicate"
        if trade_id - self.last_id > self._jump_max:
            return self._elsewhere(trade, now_ns, "far")
        self._held[trade_id] = trade
        return "held"

    def _old(self, trade: Trade, now_ns: int) -> Outcome:
        # A repeat has a time that has passed; an id from the past with a newer time is no repeat.
        if self.last is None or trade.time_ms <= self.last.time_ms:
            self.duplicates += 1
            return "duplicate"
        return self._elsewhere(trade, now_ns, "backwards")

    def _elsewhere(self, trade: Trade, now_ns: int, outcome: Literal["backwards", "far"]) -> Outcome:
        if self._run and trade.agg_trade_id != self._run[-1].agg_trade_id + 1:
            if any(trade.agg_trade_id == seen.agg_trade_id for seen in self._run):
                self.duplicates += 1
                return "duplicate"
            self._run.clear()
        self._run.append(trade)
        if len(self._run) < _RESET_RUN:
            return outcome
        # The numbering changed: go on from here. What was held back belongs to the old one and comes first.
        for trade_id in sorted(self._held):
            self._pass_on(self._held[trade_id], now_ns)
        self._held.clear()
        self.suspect = None
        for new in self._run:
            self._pass_on(new, now_ns)
        self._run.clear()
        return "reset"

    def _step(self, trade: Trade, now_ns: int) -> Outcome:
        # The trade whose turn it is.
        reason = self._suspicion(trade, now_ns)
        if reason:
            self.suspect, self.suspect_reason = trade, reason
            return "suspect"
        self._pass_on(trade, now_ns)
        return "ready"

    def _pass_on(self, trade: Trade, now_ns: int) -> None:
        self.ready.append(trade)
        self.last = trade
        self.last_id = trade.agg_trade_id
        self._last_at_ns = now_ns

    def _drain(self, now_ns: int) -> None:
        while self._held and self.last_id is not None:
            trade = self._held.pop(self.last_id + 1, None)
            if trade is None:
                return
            if self._step(trade, now_ns) == "suspect":
                return

    def _suspicion(self, trade: Trade, now_ns: int) -> str:
        last = self.last
        if last is None:
            return ""
        price, before = trade.price_units, last.price_units
        if self._far_price(price, before) and not (self._also_price and not self._far_price(price, self._also_price)):
            return f"price {trade.price_text} after {last.price_text}"
        elapsed_ms = (now_ns - self._last_at_ns) // 1_000_000
        ahead_ms = trade.time_ms - last.time_ms
        if ahead_ms > elapsed_ms + self._max_time_jump_ms or ahead_ms < -self._max_time_jump_ms:
            return f"trade time {trade.time_ms} after {last.time_ms}"
        return ""

    def _far_price(self, price: int, before: int) -> bool:
        return price * 1_000_000 > before * self._jump_ppm or before * 1_000_000 > price * self._jump_ppm

    def fill(self, page: list[Trade | Void], now_ns: int) -> int:
        """
        Take in what REST knows, by rising id. Its word is final: nothing of it is suspect.

        Returns:
            How many trades became ready from this page itself.
        """
        filled = 0
        if self.last_id is None and self._held:
            # Of what came before the first trade of the stream; the rest the stream brings itself.
            first_held = min(self._held)
            page = [item for item in page if item.agg_trade_id < first_held]
        for item in page:
            trade_id = item.agg_trade_id
            if self.last_id is not None and trade_id != self.last_id + 1:
                continue  # known already, or behind a hole that REST has too
            self._held.pop(trade_id, None)
            if self.suspect is not None and self.suspect.agg_trade_id == trade_id:
                self.suspect = None
            if isinstance(item, Void):
                self.last_id = trade_id
            else:
                self._pass_on(item, now_ns)
                filled += 1
            if self.suspect is None:
                self._drain(now_ns)
        return filled

    def give_up(self, now_ns: int, until: int | None = None) -> Hole | None:
        """
        Leave the first hole as it is and go on behind it.

        Args:
            now_ns: monotonic time.
            until: the first id that exists behind it, when REST knows of one before what is held.

        Returns:
            The ids that are lost; None when there was no hole.
        """
        hole = self.hole()
        if hole is None and until is not None and self.last_id is not None and until > self.last_id + 1:
            hole = Hole(self.last_id + 1, until - 1)
        elif hole is not None and until is not None and self.suspect is None:
            hole = Hole(hole.first, min(hole.last, until - 1))
        if hole is None:
            return None
        if self.suspect is not None:
            self._also_price = self.suspect.price_units
            self.suspect = None
        self.last_id = hole.last
        self._drain(now_ns)
        return hole

    def release(self, now_ns: int) -> None:
        """End `holding`: begin with the oldest trade held back, if any."""
        self.holding = False
        if self.last_id is None and self._held:
            self.last_id = min(self._held) - 1
            self._drain(now_ns)
