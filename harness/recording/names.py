"""What recordings are called: names that every file system takes, whatever an exchange calls its symbols.

<source>_<symbols>_<channel>_<UTC start>.parquet          symbol=BTCUSDT/date=2026-11-22/
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.frames import split_wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

_EVENT = re.compile(rb'"e"\s*:\s*"(\w+)"')
_SYMBOL = re.compile(rb'"s"\s*:\s*"([^"]+)"')
WORDS_MAX = 3
"""More symbols than this are told by their number."""
WORD_LENGTH_MAX = 64
"""Three parts of this length, the start and a journal's ending stay below the 255 bytes that file systems take."""


def recording_name(source: str, symbols: Sequence[str], channels: Sequence[str], start_ns: int) -> str:
    """
    File name of a recording.

    Args:
        source: whose feed it is, or the file it was imported from.
        symbols: none for streams of all.
        channels: what is recorded of them; `!miniTicker@arr` is one.
        start_ns: wall time, nanoseconds since 1970.
    """
    names = [symbol.lower() for symbol in symbols] or ["all"]
    shown = names if len(names) <= WORDS_MAX else [*names[:2], f"{len(names) - 2}more"]
    channel = safe_word("-".join(channels)) if 0 < len(channels) <= WORDS_MAX else "mixed"
    start = datetime.fromtimestamp(start_ns // NS_PER_S, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{safe_word(source)}_{safe_word('-'.join(shown))}_{channel}_{start}.parquet"


def partition(symbol: str, received_at_ns: int) -> str:
    """Folder of the frames of one symbol on one day (UTC)."""
    date = datetime.fromtimestamp(received_at_ns // NS_PER_S, UTC).strftime("%Y-%m-%d")
    # What an exchange calls a symbol must not lead out of the folder.
    return f"symbol={re.sub(r'[^A-Za-z0-9_+-]+', '-', symbol)[:WORD_LENGTH_MAX]}/date={date}"


def stream_of(data: bytes) -> str:
    """The stream that a frame names, wrapped or by its symbol and event; empty if it names none."""
    stream, payload = split_wrapped(data)
    event, symbol = _EVENT.search(payload), _SYMBOL.search(payload)
    if stream or not (event and symbol):
        return stream or ""
    return f"{symbol[1].decode('utf-8', 'replace').lower()}@{event[1].decode()}"


def safe_word(text: str) -> str:
    """A text as one part of a name; `_` is what parts them."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text)[:WORD_LENGTH_MAX]
