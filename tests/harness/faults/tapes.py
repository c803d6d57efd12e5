"""Tapes for tests of faults: small, regular, of one market or two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

START_MS = 1_700_000_000_000
FIRST_ID = 1000
STEP_NS = 10_000_000


def trade(index: int, symbol: str = "BTCUSDT", step_ms: int = 10) -> bytes:
    """A spot aggTrade with fields that differ from frame to frame."""
    at = START_MS + index * step_ms
    return (
        b'{"e":"aggTrade","E":%d,"s":"%s","a":%d,"p":"913%02d.10000000","q":"0.%04d0000","f":%d,"l":%d,"T":%d,'
        b'"m":%s,"M":true}'
        % (
            at, symbol.encode(), FIRST_ID + index, index % 100, 1 + index % 9999, 2000 + index, 2000 + index, at - 2,
            b"true" if index % 3 else b"false",
        )
    )  # fmt: skip


class MadeUp:
    """Payloads made when they are asked for, so that a long tape costs nothing."""

    def __init__(self, symbols: Sequence[str], step_ms: int) -> None:
        self.symbols = symbols
        self.step_ms = step_ms

    def fetch(self, first: int, last: int) -> list[bytes]:
        return [trade(index, self.symbols[index % len(self.symbols)], self.step_ms) for index in range(first, last)]


def tape(frames: int = 30, *, symbols: Sequence[str] = ("BTCUSDT",), step_ns: int = STEP_NS) -> Timeline:
    """Make a tape of trades, one every `step_ns`, the markets by turns."""
    index = np.arange(frames, dtype=np.int64)
    step_ms = max(1, step_ns // 1_000_000)
    return Timeline(
        due_ns=index * step_ns,
        stream_codes=(index % len(symbols)).astype(np.int32),
        trade_ids=index + FIRST_ID,
        event_ms=index * step_ms + START_MS,
        streams=tuple(f"{symbol.lower()}@aggTrade" for symbol in symbols),
        store=MadeUp(symbols, step_ms),
        start_ms=START_MS,
    )
