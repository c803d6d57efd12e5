"""The tapes that the quality runs play: short, and with the traits that bring bugs out.

Several trades share a millisecond and a price step down inside it, ids are large, `f` and `l` often equal.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from harness.frames import AggTrade, Frame, render_agg_trade
from harness.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Iterator

NS_PER_MS = 1_000_000
START_MS = 1_767_500_000_000

TAPES = {
    # name: (symbols, frames, frames per second)
    "plain": (("BTCUSDT",), 140, 40),
    "pair": (("BTCUSDT", "ETHUSDT"), 200, 60),
    "long": (("BTCUSDT",), 260, 40),
    "fast": (("BTCUSDT",), 400, 200),
    "hours": (("BTCUSDT",), 5200, 1.3),
    "rally": (("BTCUSDT",), 140, 40),
}
SELL_SHARE = {"rally": 0.1}
"""How many of the trades are sales; 0.4 elsewhere."""
FIRST_IDS = {"BTCUSDT": 3_120_000_001, "ETHUSDT": 1_870_000_001}
FIRST_PRICES = {"BTCUSDT": Decimal("91350.13"), "ETHUSDT": Decimal("3121.57")}


def make(tape: str) -> Iterator[Frame]:
    """Make the frames of a tape, as one connection received them."""
    symbols, count, rate = TAPES[tape]
    luck = derive(7, "quality", tape)
    ids, prices, inner = dict(FIRST_IDS), dict(FIRST_PRICES), dict.fromkeys(symbols, 5_000_000_000)
    step_ns = int(1_000_000_000 / rate)
    for number in range(count):
        # Groups of four share their millisecond: only the id orders them.
        at_ns = (number // 4) * 4 * step_ns
        symbol = symbols[number // 4 % len(symbols)]
        prices[symbol] += Decimal(luck.choice(("-0.03", "-0.01", "0.00", "0.01", "0.03")))
        parts = luck.choice((1, 1, 2, 5))
        event_ms = START_MS + at_ns // NS_PER_MS
        trade = AggTrade(
            event_ms=event_ms,
            symbol=symbol,
            agg_trade_id=ids[symbol],
            price=prices[symbol],
            quantity=Decimal(luck.choice((1, 9, 37, 420, 1500, 12_000))) / 1000,
            first_trade_id=inner[symbol],
            last_trade_id=inner[symbol] + parts - 1,
            trade_ms=event_ms,
            is_buyer_maker=luck.random() < SELL_SHARE.get(tape, 0.4),
        )
        ids[symbol] += 1
        inner[symbol] += parts
        yield Frame(
            connection=1,
            direction="received",
            kind="text",
            received_at_ns=event_ms * NS_PER_MS,
            monotonic_ns=at_ns,
            data=render_agg_trade(trade),
        )
