"""Columns to bytes and back, per CPU-second of one core, against the obvious loops.

    python -m benchmarks.frames [--frames 65536] [--rounds 5]

Both sides of each ratio run in turns, best of the rounds. The loop that renders has its numbers at hand as integers;
making those is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from harness.exchange import wire
from harness.frames import Frame, parse_agg_trade
from harness.frames.columns import read, read_proven, render
from harness.recording.table import content_of, to_table
from harness.sources import synth

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 44


def best(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Least CPU seconds of each, taken in turns."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for number, work in enumerate(works):
            begun = time.process_time()
            work()
            least[number] = min(least[number], time.process_time() - begun)
    return least


def show(name: str, ours_s: float, other: str, other_s: float, count: int, *, target: float = 0) -> None:
    """One line: what, how fast, how much faster than what, and whether that is enough."""
    ratio = other_s / ours_s
    judged = f"   target {target}: {'met' if ratio >= target else 'missed'}" if target else ""
    print(f"{name:{WIDTH}} {count / ours_s / 1e6:6.2f} M/s   {ratio:6.2f} x {other}{judged}")


def main() -> int:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows: list[Frame] = list(synth.make("normal", frames=args.frames, seed=1))
    data = [row.data for row in rows]
    columns = read(data)
    assert bool(read_proven(data)[1].all())
    numbers = list(
        zip(
            columns.event_ms.tolist(), columns.agg_trade_id.tolist(), columns.price_e8.tolist(),
            columns.quantity_e8.tolist(), columns.first_trade_id.tolist(), columns.last_trade_id.tolist(),
            columns.trade_ms.tolist(), columns.is_buyer_maker.tolist(),
            strict=True,
        )
    )  # fmt: skip

    def loop() -> list[bytes]:
        return [
            f'{{"e":"aggTrade","E":{event},"s":"BTCUSDT","a":{number},"p":"{price // 10**8}.{price % 10**8:08d}",'
            f'"q":"{quantity // 10**8}.{quantity % 10**8:08d}","f":{first},"l":{last},"T":{trade},'
            f'"m":{"true" if maker else "false"},"M":true}}'.encode()
            for event, number, price, quantity, first, last, trade, maker in numbers
        ]

    def framed_loop() -> bytes:
        return b"".join(wire.header(wire.TEXT, len(payload)) + payload for payload in loop())

    def framed() -> memoryview:
        block, _ = wire.texts(content_of(table).pack(0, table.num_rows))
        return block

    table = to_table(rows)
    assert b"".join(loop()) == render(columns)[0]
    assert framed() == framed_loop()
    ours, other = best(args.rounds, lambda: render(columns), loop)
    show("columns to bytes", ours, "f-string loop", other, args.frames)
    ours, other = best(args.rounds, framed, framed_loop)
    show("Arrow columns to framed bytes", ours, "f-string loop with headers", other, args.frames, target=2.5)
    ours, other = best(args.rounds, lambda: read_proven(data), lambda: [parse_agg_trade(one) for one in data])
    show("bytes to columns, proven", ours, "an object per frame, unproven", other, args.frames)
    ours, other = best(args.rounds, lambda: to_table(rows), lambda: [parse_agg_trade(one) for one in data])
    show("frames to a whole Arrow table", ours, "an object per frame", other, args.frames)
    return 0


if __name__ == "__main__":
    sys.exit(main())
