"""Canonical aggTrades read in bulk: where the quotation marks are tells where everything is.

    {"e":"aggTrade","E":1767512473044,"s":"BTCUSDT","a":3120000004,"p":"91350.02000000", ... "M":true}
     0 1 2        3 4 5               6 7 8       9 ...

Nothing here is checked beyond what keeps the arithmetic in bounds. The caller renders what was read and compares it
with the bytes it was read from: that proves every value, and whatever is laid out in another way is read with care.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Int64 = NDArray[np.int64]
    Words = NDArray[np.uint64]

QUOTES = 30
"""Quotation marks in a canonical payload; a wrapper adds six."""
WRAPPER_QUOTES = 6
DIGITS_MAX = 18
WORD = 8
NAME_MAX = 64
"""Bytes of a symbol or stream name; the real ones have half of that."""
_SYMBOL = re.compile(rb"[A-Za-z0-9_]+")
_STREAM = re.compile(rb"[A-Za-z0-9_@!.]+")
_PAD = bytes(WORD)


class Scan(NamedTuple):
    """What rows that look canonical hold, to be proven by rendering."""

    rows: NDArray[np.intp]
    numbers: Int64
    """One line each of event time, agg trade id, price, quantity, first id, last id and trade time."""
    is_buyer_maker: NDArray[np.bool_]
    symbols: NDArray[np.int32]
    streams: NDArray[np.int32]
    """Codes; -1 for rows that are not wrapped."""


def scan(frames: Sequence[bytes], symbols: dict[str, int], streams: dict[str, int]) -> list[Scan]:
    """
    Look for canonical aggTrades.

    Args:
        frames: any bytes at all.
        symbols: codes by symbol; gets those that are found.
        streams: the same for names of streams.

    Returns:
        Raw ones and wrapped ones, where there are any.
    """
    sizes = np.fromiter(map(len, frames), dtype=np.int64, count=len(frames))
    blob = b"".join([*frames, _PAD])
    text = np.frombuffer(blob, dtype=np.uint8)
    starts = np.zeros(len(frames) + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    quotes = np.flatnonzero(text == ord('"'))
    firsts = np.searchsorted(quotes, starts)
    counts = np.diff(firsts)
    found = []
    for wrapper in (0, WRAPPER_QUOTES):
        rows = np.flatnonzero(counts == QUOTES + wrapper)
        if len(rows):
            marks = quotes[firsts[rows][:, None] + np.arange(QUOTES + wrapper)].T
            one = _read(blob, rows, marks[wrapper:], symbols)
            if wrapper and len(one.rows):
                one = _named(blob, one, marks[:, np.searchsorted(rows, one.rows)], streams)
            if len(one.rows):
                found.append(one)
    return found


def _read(blob: bytes, rows: NDArray[np.intp], marks: Int64, symbols: dict[str, int]) -> Scan:
    # Fields as [begin, end): numbers between a colon and a comma, words between quotation marks.
    fields = [
        (marks[5] + 2, marks[6] - 1),
        (marks[11] + 2, marks[12] - 1),
        (marks[14] + 1, marks[15]),
        (marks[18] + 1, marks[19]),
        (marks[21] + 2, marks[22] - 1),
        (marks[23] + 2, marks[24] - 1),
        (marks[25] + 2, marks[26] - 1),
    ]
    sizes = np.array([end - begin for begin, end in fields])
    # A decimal has a point and eight digits behind it.
    least, most = np.ones((7, 1), np.int64), np.full((7, 1), DIGITS_MAX, np.int64)
    least[2:4], most[2:4] = 10, 19
    maker = marks[28] - 1 - (marks[27] + 2)
    good = ((sizes >= least) & (sizes <= most)).all(axis=0) & ((maker == 4) | (maker == 5))
    good &= (marks[8] > WORD) & (marks[9] - marks[8] - 1 <= NAME_MAX)
    codes = np.zeros(len(rows), dtype=np.int32)
    if good.any():
        codes = _codes(blob, marks[8] + 1, marks[9], good, _SYMBOL, symbols)
        good &= codes >= 0
    chosen = np.flatnonzero(good)
    text = np.frombuffer(blob, dtype=np.uint8)
    words = np.ndarray((len(blob) - WORD + 1,), dtype="<u8", buffer=blob, strides=(1,))
    numbers = np.empty((7, len(chosen)), dtype=np.int64)
    for line, (begin, end) in enumerate(fields):
        begin, end = begin[chosen], end[chosen]
        if line in {2, 3}:
            whole = _number(words, text, begin, end - 9)
            numbers[line] = whole * 100_000_000 + _eight(words, end, np.full(len(end), 8))
        else:
            numbers[line] = _number(words, text, begin, end)
    return Scan(rows[chosen], numbers, maker[chosen] == 4, codes[chosen], np.full(len(chosen), -1, dtype=np.int32))


def _named(blob: bytes, found: Scan, marks: Int64, streams: dict[str, int]) -> Scan:
    good = marks[3] - marks[2] - 1 <= NAME_MAX
    codes = _codes(blob, marks[2] + 1, marks[3], good, _STREAM, streams)
    chosen = np.flatnonzero(good & (codes >= 0))
    return Scan(
        found.rows[chosen], found.numbers[:, chosen], found.is_buyer_maker[chosen], found.symbols[chosen], codes[chosen]
    )


def _codes(
    blob: bytes, begin: Int64, end: Int64, good: NDArray[np.bool_], allowed: re.Pattern[bytes], names: dict[str, int]
) -> NDArray[np.int32]:
    # Rows with the same length, first and last eight bytes are taken to have the same name. Where that
    # is wrong, the proof fails.
    words = np.ndarray((len(blob) - WORD + 1,), dtype="<u8", buffer=blob, strides=(1,))
    size = np.where(good, end - begin, 0)
    short = (np.maximum(0, WORD - size) * 8).astype(np.uint64)
    head = (words[np.where(good, begin, 0)] << short) >> short
    tail = (words[np.where(good, end - WORD, 0)] >> short) << short
    key = head * np.uint64(0x9E3779B97F4A7C15) + tail * np.uint64(0xC2B2AE3D27D4EB4F) + size.astype(np.uint64)
    if (key == key[0]).all():
        place, inverse = np.zeros(1, np.intp), np.zeros(len(key), np.intp)
    else:
        _, place, inverse = np.unique(key, return_index=True, return_inverse=True)
    codes = []
    for row in place.tolist():
        name = blob[int(begin[row]) : int(end[row])] if good[row] else b""
        codes.append(names.setdefault(name.decode("ascii"), len(names)) if allowed.fullmatch(name) else -1)
    return np.where(good, np.array(codes, dtype=np.int32)[inverse], -1).astype(np.int32)


def _number(words: Words, text: NDArray[np.uint8], begin: Int64, end: Int64) -> Int64:
    size = end - begin
    value = _eight(words, end, np.minimum(size, WORD))
    longest = int(size.max(initial=0))
    if longest > WORD:
        value += _eight(words, end - 8, np.clip(size - 8, 0, WORD)) * 100_000_000
    for place in range(2 * WORD, longest):
        digit = text[end - 1 - place].astype(np.int64) & 15
        value += np.where(size > place, digit, 0) * 10**place
    return value


def _eight(words: Words, end: Int64, size: Int64) -> Int64:
    """The number that the last `size` (at most eight) characters before `end` write: three multiplications."""
    value = words[end - WORD]
    if int(size.min(initial=WORD)) < WORD:
        # What stands before the number is struck out; a shift by 64 bits is none, so in two steps.
        half = ((WORD - size) * 4).astype(np.uint64)
        value = (value >> half >> half) << half << half
    value = value & np.uint64(0x0F0F0F0F0F0F0F0F)
    value = (value * np.uint64(2561)) >> np.uint64(8)
    value = ((value & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601)) >> np.uint64(16)
    value = ((value & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001)) >> np.uint64(32)
    return value.astype(np.int64)
