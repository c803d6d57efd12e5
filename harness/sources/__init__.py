"""Other people's files in; `synth` makes markets.

files     plain, gzip or zip, line by line
lines     raw captures: the exchange's own bytes
archive   files of the public archive, by the block
trades    other normalised trades
rendered  what both become: frames in the spot layout
synth     markets by a seeded model
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RecordingError, UsageError
from harness.frames.trades import Trades
from harness.sources import files, lines, trades
from harness.sources.capture import Capture, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.frames import Frame

__all__ = ["Capture", "Tally", "import_file"]

_LINES = {
    "raw capture, seconds": lines.colon,
    "raw capture, nanoseconds": lines.nanoseconds,
    "bare frames": lines.bare,
    "JSON lines": lines.entries,
}


_NS_END = 2**63
_INT32_END = 2**31


def import_file(path: str | Path, *, symbol: str | None = None) -> Capture:
    """
    Open a capture of any known kind; which, its first bytes tell.

    Args:
        path: the file; gzip and zip are unpacked.
        symbol: of normalised trades whose file name does not begin with one.

    Raises:
        RecordingError: the file is torn or of no known kind.
        UsageError: normalised trades without a symbol.
    """
    path = Path(path)
    start = files.head(path)
    kind = _kind(path, start)
    tally = Tally()
    if kind in _LINES:
        endpoint = start.split()[0].decode("utf-8", "replace") if start.startswith((b"ws://", b"wss://")) else ""
        pieces = _holding(path, _LINES[kind](path, tally))
        return Capture(path, kind=kind, raw=True, endpoint=endpoint, pieces=pieces, tally=tally)
    chosen = symbol or trades.symbol_of(path) or _symbol_inside(start)
    if not chosen:
        raise UsageError(f"{path}: the file does not say which symbol it is; give --symbol")
    if "," in chosen and kind != "normalised events":
        raise UsageError(f"{path}: holds trades of one symbol; --symbol {chosen} names several")
    pieces = _holding(path, trades.NORMALISED[kind](path, tally, chosen.upper()))
    return Capture(path, kind=kind, raw=False, endpoint="", pieces=pieces, tally=tally)


def _holding(path: Path, pieces: Iterator[Frame | Trades]) -> Iterator[Frame | Trades]:
    # What the columns of a recording do not hold is the file's mistake, and found where its place is known.
    number = 0
    for piece in pieces:
        number += 1
        if isinstance(piece, Trades):
            number += len(piece) - 1
        elif max(piece.received_at_ns, piece.monotonic_ns) >= _NS_END:
            raise RecordingError(path, f"frame {number}: its time is after 2262, where nanoseconds of 64 bits end")
        elif max(piece.connection, piece.close_code or 0) >= _INT32_END:
            raise RecordingError(path, f"frame {number}: its connection or close code has more than 32 bits")
        yield piece


def _symbol_inside(start: bytes) -> str | None:
    found = re.search(rb'"s"\s*:\s*"([A-Z0-9_]+)"', start)
    return found[1].decode() if found else None


def _kind(path: Path, start: bytes) -> str:
    line = start.split(b"\n", 1)[0].strip()
    text = start.lstrip()
    if line.startswith((b"wss://", b"ws://")) or re.match(rb"\d{9,11}(\.\d+)?: [\[{]", line):
        return "raw capture, seconds"
    if re.match(rb"\d{19} [\[{]", line):
        return "raw capture, nanoseconds"
    if re.match(rb"\d+,[\d.eE+-]+,[\d.eE+-]+,-?\d+,-?\d+,\d+,\w+", line) or line.startswith(b"agg_trade_id,"):
        return "archive CSV"
    if line.lower().startswith(b"timestamp,price,quantity,side,tradeid"):
        return "recorder CSV"
    if text.startswith(b"["):
        return _kind_of_array(path, text)
    if text.startswith(b"{"):
        return "JSON lines" if re.search(rb'"(raw|raw_base64|received_at)"\s*:', line) else "bare frames"
    if re.match(rb"https?://\S+ -> \d", line):
        raise RecordingError(path, "is a capture of REST answers other than aggTrades; it holds no frames")
    if not start:
        raise RecordingError(path, "is empty")
    raise RecordingError(
        path,
        "is of no known kind; known are raw captures with receive times, JSON lines, bare frames, archive CSV and "
        "REST aggTrades answers, each plain, .gz or .zip",
    )


def _kind_of_array(path: Path, text: bytes) -> str:
    if re.match(rb"\[\s*\{\s*\"(Item|Reconnecting)\"", text):
        return "normalised events"
    if re.match(rb"\[\s*\{[^}]*\"a\"\s*:", text):
        return "REST aggTrades"
    if re.match(rb"\[\s*\[\s*\d{13},", text):
        raise RecordingError(path, "is a REST klines answer: candles hold no trades that could be replayed")
    raise RecordingError(path, "is a JSON array of no known kind; a REST aggTrades answer was expected")
