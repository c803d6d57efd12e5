"""Markets by a seeded model: trades as a raw spot connection would receive them.

Nothing here is a recording of anything. The model is a random walk of the price on its tick, lognormal quantities
with some common sizes, trades that come in bursts of one taker order walking through the book, and profiles that
bend these. Ids look like the exchange's own (about 3e9 and 6e9): ids above 2**24 and 2**31 uncover bugs that small
ones hide.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from harness.clock import NS_PER_MS, NS_PER_S
from harness.errors import UsageError, nearest
from harness.frames import Frame
from harness.frames.columns import NO_STREAM, SCALE, TradeColumns, render
from harness.seeds import derive_int

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Int64 = NDArray[np.int64]

START_MS = 1_767_512_473_000
"""2026-01-04 07:41:13 UTC, when the stream of the report was started."""
FIRST_ID = 3_120_000_001
FIRST_TRADE_ID = 6_100_000_001
BLOCK = 65_536
"""Trades drawn at a time."""
NETWORK_MS = 50
"""From trade to receipt, roughly what the public captures show."""
RECEIVED_FROM_NS = (START_MS + NETWORK_MS) * NS_PER_MS
"""When the first trade is received, by both clocks."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How a market behaves."""

    rate: float
    """Trades a second, on average."""
    burst: float = 0.35
    """Share of trades that follow the one before within the same millisecond."""
    volatility: float = 15.0
    """Ticks that the price moves from one order to the next, standard deviation."""
    drift: float = 0.0
    """Ticks per order."""
    surge: float = 1.0
    """Factor of the rate for half of the trades, which therefore come in a small part of the time."""
    fall: float = 0.0
    """Share of the price lost in the middle third."""
    whale: float = 0.0005
    """Share of orders of $100 000 to $3 000 000."""
    sell: float = 0.5
    """Share of taker sells."""


PROFILES = {
    "normal": Profile(rate=40.0),
    "quiet": Profile(rate=0.2, burst=0.1, whale=0.0),
    "burst": Profile(rate=40.0, surge=30.0, burst=0.6),
    "whales": Profile(rate=40.0, whale=0.02),
    "crash": Profile(rate=60.0, surge=12.0, fall=0.08, sell=0.65, volatility=60.0, whale=0.005),
}


class Market(NamedTuple):
    """Where a symbol trades; prices and lots in units of 1e-8."""

    price_e8: int
    tick_e8: int
    lot_e8: int


_MARKETS = {
    "BTCUSDT": Market(91_350 * SCALE, 1_000_000, 1_000),
    "ETHUSDT": Market(3_140 * SCALE, 1_000_000, 10_000),
    "LTCUSDT": Market(83 * SCALE, 1_000_000, 100_000),
}
_OTHER = Market(10 * SCALE, 100_000, 1_000_000)


def make(
    profile: str = "normal",
    symbol: str = "BTCUSDT",
    *,
    frames: int | None = None,
    duration_ns: int | None = None,
    rate: float | None = None,
    seed: int = 0,
) -> Iterator[Frame]:
    """
    Make a market.

    Args:
        profile: one of `PROFILES`.
        symbol: any; the known ones have their own price, tick and lot.
        frames: how many; None for as many as fit into the duration.
        duration_ns: how long; with `frames`, whichever ends first. One of the two must be given.
        rate: trades a second on average; None for the profile's own.
        seed: the same seed gives the same frames.

    Raises:
        UsageError: an unknown profile, or a size that makes no sense.
    """
    if profile not in PROFILES:
        raise UsageError(nearest(profile, PROFILES, noun="profile"))
    if frames is None and duration_ns is None:
        raise UsageError("say how much to make: --frames or --duration")
    chosen = PROFILES[profile]
    rate = chosen.rate if rate is None else rate
    if not 0 < rate <= 1e6 or (frames is not None and frames < 1) or duration_ns == 0:
        raise UsageError(
            "--rate, --frames and --duration must be more than zero, and the rate at most 1000000 a second"
        )
    expected = frames if frames is not None else max(1, round(rate * (duration_ns or 0) / NS_PER_S))
    return _frames(_Model(chosen, symbol.upper(), rate, expected, seed), frames, duration_ns)


def _frames(model: _Model, frames: int | None, duration_ns: int | None) -> Iterator[Frame]:
    left = frames if frames is not None else 2**62
    number = 0
    while left > 0:
        at_ns, payloads = model.block(number, min(BLOCK, left))
        for at, payload in zip(at_ns.tolist(), payloads, strict=True):
            if duration_ns is not None and at > duration_ns:
                return
            # Both clocks tell the same, as those of a recorder whose wall clock nobody sets: a file has them once.
            now_ns = RECEIVED_FROM_NS + at
            yield Frame(connection=1, received_at_ns=now_ns, monotonic_ns=now_ns, data=payload)
        left -= len(payloads)
        number += 1


class _Model:
    """Draws blocks of trades; carries the price, the time and the ids from one to the next."""

    def __init__(self, profile: Profile, symbol: str, rate: float, expected: int, seed: int) -> None:
        self._profile = profile
        self._symbol = symbol
        self._market = _MARKETS.get(symbol, _OTHER)
        self._seed = seed
        self._rate = rate
        self._expected = expected
        self._done = 0
        self._at_ns = 0
        self._ticks = 0.0
        self._trade_id = FIRST_TRADE_ID

    def block(self, number: int, count: int) -> tuple[Int64, list[bytes]]:
        luck = np.random.default_rng(derive_int(self._seed, "synth", self._symbol, number))
        progress = (self._done + np.arange(count)) / self._expected
        at_ns = self._times(luck, progress, count)
        follows = np.concatenate(([False], np.diff(at_ns) == 0))
        seller = self._kept(luck.random(count) < self._profile.sell, follows)
        price_e8 = self._prices(luck, progress, follows, seller)
        quantity_e8 = self._quantities(luck, price_e8)
        fills = luck.geometric(0.6, count)
        first = self._trade_id + np.concatenate(([0], np.cumsum(fills)[:-1]))
        self._trade_id += int(fills.sum())
        trade_ms = START_MS + at_ns // NS_PER_MS
        columns = TradeColumns(
            known=np.ones(count, dtype=np.bool_),
            exact=np.ones(count, dtype=np.bool_),
            event_ms=trade_ms + 1,
            symbol_codes=np.zeros(count, dtype=np.int32),
            symbols=(self._symbol,),
            agg_trade_id=FIRST_ID + self._done + np.arange(count),
            price_e8=price_e8,
            quantity_e8=quantity_e8,
            first_trade_id=first,
            last_trade_id=first + fills - 1,
            trade_ms=trade_ms,
            is_buyer_maker=seller,
            stream_codes=np.full(count, NO_STREAM, dtype=np.int32),
            streams=(),
        )
        blob, offsets = render(columns)
        bounds = offsets.tolist()
        self._done += count
        return at_ns, [blob[a:b] for a, b in pairwise(bounds)]

    def _times(self, luck: np.random.Generator, progress: Floats, count: int) -> Int64:
        rate = np.full(count, self._rate)
        if self._profile.surge > 1:
            # The surge takes its trades from the rest, so that the average stays what was asked for.
            calm = 0.5 / (1 - 0.5 / self._profile.surge)
            rate = np.where((progress > 0.45) & (progress < 0.95), self._rate * self._profile.surge, self._rate * calm)
        step_s = luck.exponential(1.0, count) / (rate * (1 - self._profile.burst))
        step_s[luck.random(count) < self._profile.burst] = 0.0
        if not self._done:
            step_s[0] = 0.0
        at_ns = self._at_ns + np.cumsum((step_s * NS_PER_S).astype(np.int64))
        self._at_ns = int(at_ns[-1])
        return np.asarray(at_ns)

    def _kept(self, drawn: NDArray[np.bool_], follows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        # Trades of one burst are one taker order walking through the book: all of one side.
        leader = np.maximum.accumulate(np.where(follows, 0, np.arange(len(drawn))))
        return np.asarray(drawn[leader])

    def _prices(
        self, luck: np.random.Generator, progress: Floats, follows: NDArray[np.bool_], seller: NDArray[np.bool_]
    ) -> Int64:
        steps = np.round(luck.normal(self._profile.drift, self._profile.volatility, len(follows)))
        steps = np.where(follows, np.where(seller, -1, 1), steps)
        ticks = self._ticks + np.cumsum(steps)
        self._ticks = float(ticks[-1])
        fallen = np.clip((progress - 1 / 3) * 3, 0.0, 1.0) * self._profile.fall
        base = self._market.price_e8 // self._market.tick_e8
        return np.maximum(1, np.round(base * (1 - fallen) + ticks)).astype(np.int64) * self._market.tick_e8

    def _quantities(self, luck: np.random.Generator, price_e8: Int64) -> Int64:
        count = len(price_e8)
        dollars = luck.lognormal(5.5, 1.8, count)
        # Round sizes recur: people type them.
        dollars = np.where(luck.random(count) < 0.08, luck.choice([100.0, 500.0, 1000.0], count), dollars)
        large = luck.random(count) < self._profile.whale
        dollars = np.where(large, luck.uniform(1e5, 3e6, count), np.minimum(dollars, 9e4))
        quantity = dollars / (price_e8 / SCALE) * SCALE
        return np.maximum(1, np.round(quantity / self._market.lot_e8)).astype(np.int64) * self._market.lot_e8
