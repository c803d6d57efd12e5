"""Markets by a seeded model. The simple path: one profile."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from harness.clock import NS_PER_MS, NS_PER_S
from harness.frames import AggTrade, Frame, render_agg_trade
from harness.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Iterator

START_MS = 1_767_512_473_000


def make(
    profile: str = "normal", symbol: str = "BTCUSDT", *, frames: int = 1000, rate: float = 40.0, seed: int = 0
) -> Iterator[Frame]:
    """Make frames as a raw connection would receive them."""
    luck = derive(seed, "synth", profile, symbol)
    at_ns, price, trade_id = 0, 9_135_000, 6_100_000_000
    for number in range(frames):
        if number:
            at_ns += int(luck.expovariate(rate) * NS_PER_S)
        price += luck.choice((-1, 0, 0, 1))
        count = luck.choice((1, 1, 1, 2, 5))
        event_ms = START_MS + at_ns // NS_PER_MS
        trade = AggTrade(
            event_ms=event_ms,
            symbol=symbol.upper(),
            agg_trade_id=3_120_000_001 + number,
            price=Decimal(price) / 100,
            quantity=Decimal(max(1, int(luck.lognormvariate(8, 1.5)))) / 100_000,
            first_trade_id=trade_id,
            last_trade_id=trade_id + count - 1,
            trade_ms=event_ms - 2,
            is_buyer_maker=luck.random() < 0.5,
        )
        trade_id += count
        yield Frame(
            connection=1,
            received_at_ns=START_MS * NS_PER_MS + at_ns + 50 * NS_PER_MS,
            monotonic_ns=at_ns,
            data=render_agg_trade(trade),
        )
