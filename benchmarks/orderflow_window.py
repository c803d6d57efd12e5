"""What a pressure query after every trade costs, against a scan of dictionaries, and as the window grows.

    python benchmarks/orderflow_window.py

Both sides take the same trades in one interleaved run; CPU time of this process, best of the rounds.
The scan is what the system of the report did: a deque of dictionaries, filtered and added up at each query.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections import deque
from typing import Any

from orderflow.trade import Trade, parse_frame
from orderflow.whale_detector import WhaleDetector

ROUNDS = 7
START_MS = 1_767_000_000_000
STEP_MS = 1
"""Between trades: a window of n trades lasts n milliseconds."""


def make_frames(count: int) -> list[bytes]:
    chance, price = random.Random(7), 9_135_000
    frames = []
    for number in range(count):
        price += chance.choice((-1, 0, 0, 1))
        trade_id, at_ms = 3_120_000_000 + number, START_MS + number * STEP_MS
        fields = {
            "e": "aggTrade", "E": at_ms + 2, "s": "BTCUSDT", "a": trade_id, "p": f"{price / 100:.8f}",
            "q": f"{chance.randint(1, 50_000) / 100_000:.8f}", "f": trade_id, "l": trade_id, "T": at_ms,
            "m": chance.random() < 0.5, "M": True,
        }  # fmt: skip
        frames.append(json.dumps(fields, separators=(",", ":")).encode())
    return frames


class ScanningDetector:
    """As found: every query walks the whole history."""

    def __init__(self) -> None:
        self.trade_history: dict[str, deque[dict[str, Any]]] = {}

    def update(self, symbol: str, trade: dict[str, Any]) -> None:
        if symbol not in self.trade_history:
            self.trade_history[symbol] = deque()
        self.trade_history[symbol].append(trade)

    def get_pressure(self, symbol: str, window_s: float, now_ms: int) -> float:
        after_ms = now_ms - window_s * 1000
        trades = [trade for trade in self.trade_history[symbol] if trade["timestamp"] > after_ms]
        bought = sum(trade["price"] * trade["quantity"] for trade in trades if trade["side"] == "BUY")
        sold = sum(trade["price"] * trade["quantity"] for trade in trades if trade["side"] == "SELL")
        total = bought + sold
        return (bought - sold) / total if total else 0.0


def as_dict(trade: Trade) -> dict[str, Any]:
    return {
        "price": float(trade.price_text),
        "quantity": float(trade.quantity_text),
        "side": trade.side,
        "timestamp": trade.time_ms,
    }


def cost_ours_us(trades: list[Trade], in_window: int, count: int) -> tuple[float, float]:
    """CPU microseconds for a trade taken in with its query, and of the query among it, with `in_window` trades
    in the window."""
    detector = WhaleDetector(max_trades=len(trades) + 1, sizes={"never": 10**12})
    for trade in trades[:in_window]:
        detector.update("BTCUSDT", trade)
    window_s = in_window * STEP_MS / 1000
    detector.get_pressure("BTCUSDT", window_s, now_ms=trades[in_window - 1].time_ms)
    update, query = detector.update, detector.get_pressure
    batch = trades[in_window : in_window + count]
    began = time.process_time_ns()
    for trade in batch:
        update("BTCUSDT", trade)
        _ = query("BTCUSDT", window_s, now_ms=trade.time_ms).pressure
    both_us = (time.process_time_ns() - began) / 1e3 / count
    # The same trades without queries: what is left is the query.
    bare = WhaleDetector(max_trades=len(trades) + 1, sizes={"never": 10**12})
    for trade in trades[:in_window]:
        bare.update("BTCUSDT", trade)
    update = bare.update
    began = time.process_time_ns()
    for trade in batch:
        update("BTCUSDT", trade)
    return both_us, both_us - (time.process_time_ns() - began) / 1e3 / count


def cost_scan_us(trades: list[dict[str, Any]], in_window: int, count: int) -> float:
    detector = ScanningDetector()
    for trade in trades[:in_window]:
        detector.update("BTCUSDT", trade)
    window_s = in_window * STEP_MS / 1000
    history = detector.trade_history["BTCUSDT"]
    began = time.process_time_ns()
    for trade in trades[in_window : in_window + count]:
        detector.update("BTCUSDT", trade)
        history.popleft()
        detector.get_pressure("BTCUSDT", window_s, trade["timestamp"])
    return (time.process_time_ns() - began) / 1e3 / count


def cost_parse_us(frames: list[bytes]) -> float:
    began = time.process_time_ns()
    for frame in frames:
        parse_frame(frame, "BTCUSDT")
    return (time.process_time_ns() - began) / 1e3 / len(frames)


def main() -> int:
    frames = make_frames(110_000)
    trades = [trade for frame in frames if isinstance(trade := parse_frame(frame, "BTCUSDT"), Trade)]
    assert len(trades) == len(frames)
    dictionaries = [as_dict(trade) for trade in trades[:20_000]]
    gc.freeze()
    best: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        best[name] = min(value, best.get(name, value))

    for _ in range(ROUNDS):
        note("scan 1k", cost_scan_us(dictionaries, 1_000, 200))
        note("scan 10k", cost_scan_us(dictionaries, 10_000, 20))
        for size in (1_000, 10_000, 100_000):
            both_us, query_us = cost_ours_us(trades, size, 5_000)
            note(f"both {size}", both_us)
            note(f"query {size}", query_us)
        note("parse", cost_parse_us(frames[:20_000]))
    print(f"{'CPU us, best of ' + str(ROUNDS) + ' rounds; trades in the window:':<52}{'1 k':>9}{'10 k':>9}{'100 k':>9}")
    print(f"{'scan of dictionaries':<52}{best['scan 1k']:>9.1f}{best['scan 10k']:>9.1f}{'':>9}")
    for name, words in (("query", "get_pressure"), ("both", "update and get_pressure, for each trade")):
        costs = [best[f"{name} {size}"] for size in (1_000, 10_000, 100_000)]
        print(f"{words:<52}" + "".join(f"{cost:>9.2f}" for cost in costs))
    print(f"{'a frame from bytes to a checked trade':<52}{best['parse']:>9.2f}\n")
    for name, words in (("query", "query alone"), ("both", "with update")):
        ratio = best["scan 10k"] / best[f"{name} 10000"]
        growth = best[f"{name} 100000"] / best[f"{name} 1000"]
        print(
            f"{words:<12} at 10 k {ratio:6.0f} x a scan (target >= 1000)   100 k at {growth:.2f} x 1 k (target <= 1.15)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
