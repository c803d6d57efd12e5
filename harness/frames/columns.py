"""The aggTrade payload in bulk: bytes to columns, and columns to bytes.

Both directions work on thousands of frames at a time. Rendering is digit lookup into a matrix with one row per
frame, padded to the longest, from which the padding (here a dot) is struck out at the end:

    {"e":"aggTrade","E":1767512473044,"s":"BTCUSDT","a":..3120000004,"p":"..91350.02000000", and so on
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from harness.frames import TIME_MS, Wire, split_wrapped
from harness.frames.packed import ROOM, Packed
from harness.frames.scan import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.frames.scan import Scan

    Int64 = NDArray[np.int64]

NO_STREAM = -1
"""Stream code of a frame that was not wrapped."""
SCALE = 100_000_000
"""Prices and quantities are counted in units of 1e-8, the spot market's own."""
SCALED_MAX = 10**18
"""Decimals of 18 digits, which is what 64 bits hold; ten digits before the point."""
NUMBER_MAX = 2**63
MICROSECONDS = 10**15
"""Times beyond the year 33658 are microseconds: nothing that a column of milliseconds holds."""
BLANK = b"\xff"
CHUNK = 4096
"""Rows rendered at once: the matrix stays in the cache."""


class TradeColumns(NamedTuple):
    """
    Columns of equal length, one row per frame.

    `known` says which rows are an aggTrade at all; the numbers of the others are 0. `exact` says which of those
    have a price and quantity that the columns can hold.
    """

    known: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    event_ms: Int64
    symbol_codes: NDArray[np.int32]
    symbols: tuple[str, ...]
    agg_trade_id: Int64
    price_e8: Int64
    quantity_e8: Int64
    first_trade_id: Int64
    last_trade_id: Int64
    trade_ms: Int64
    is_buyer_maker: NDArray[np.bool_]
    stream_codes: NDArray[np.int32]
    streams: tuple[str, ...]


_decode = msgspec.json.Decoder(Wire).decode
_DECIMAL = re.compile(r"(-?)(\d{1,18})(?:\.(\d{0,8}))?")


def scaled(text: str) -> int | None:
    """A decimal in units of 1e-8; None when that cannot be exact in 18 digits."""
    found = _DECIMAL.fullmatch(text)
    if not found:
        return None
    value = int(found[2] + (found[3] or "").ljust(8, "0"))
    return (-value if found[1] else value) if value < SCALED_MAX else None


def read(frames: Sequence[bytes]) -> TradeColumns:
    """Take the columns out of frames, whatever their market and layout; what is no aggTrade leaves a row of zeros."""
    return read_proven(frames)[0]


def read_proven(frames: Sequence[bytes]) -> tuple[TradeColumns, NDArray[np.bool_]]:
    """
    Take the columns out of frames, and find out which frames the columns alone give back.

    Returns:
        The columns, and a mask: rendering these rows gave the bytes that they were read from.
    """
    count = len(frames)
    symbols: dict[str, int] = {}
    streams: dict[str, int] = {}
    blank = _blank(count)
    for first in range(0, count, CHUNK):
        for found in scan(frames[first : first + CHUNK], symbols, streams):
            _fill(blank, found, first)
    columns = blank._replace(symbols=tuple(symbols), streams=tuple(streams))
    proven = _proven(columns, frames, np.flatnonzero(columns.known))
    others = np.flatnonzero(~proven)
    if len(others):
        _read_singly(frames, others.tolist(), columns, symbols, streams)
        columns = columns._replace(symbols=tuple(symbols), streams=tuple(streams))
        proven |= _proven(columns, frames, others[columns.known[others]])
    return columns, proven


def _blank(count: int) -> TradeColumns:
    numbers = np.zeros((7, count), dtype=np.int64)
    event, trade_id, price_e8, quantity_e8, first, last, time = numbers
    known, exact, maker = (np.zeros(count, dtype=np.bool_) for _ in range(3))
    symbol_codes, stream_codes = np.zeros(count, dtype=np.int32), np.full(count, NO_STREAM, dtype=np.int32)
    return TradeColumns(
        known, exact, event, symbol_codes, (), trade_id, price_e8, quantity_e8, first, last, time, maker, stream_codes,
        (),
    )  # fmt: skip


def _lines(columns: TradeColumns) -> tuple[Int64, ...]:
    return (
        columns.event_ms, columns.agg_trade_id, columns.price_e8, columns.quantity_e8, columns.first_trade_id,
        columns.last_trade_id, columns.trade_ms,
    )  # fmt: skip


def _fill(columns: TradeColumns, found: Scan, first: int) -> None:
    # Times of more digits are microseconds, which are read with care.
    chosen = np.flatnonzero((found.numbers[0] < MICROSECONDS) & (found.numbers[6] < MICROSECONDS))
    rows = found.rows[chosen] + first
    for line, numbers in zip(_lines(columns), found.numbers, strict=True):
        line[rows] = numbers[chosen]
    columns.known[rows] = columns.exact[rows] = True
    columns.is_buyer_maker[rows] = found.is_buyer_maker[chosen]
    columns.symbol_codes[rows] = found.symbols[chosen]
    columns.stream_codes[rows] = found.streams[chosen]


def _proven(columns: TradeColumns, frames: Sequence[bytes], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    proven = np.zeros(len(frames), dtype=np.bool_)
    rows = rows[renderable(columns)[rows]]
    if len(rows):
        blob, offsets = render(columns, rows)
        chosen = [frames[row] for row in rows.tolist()]
        sizes = np.fromiter(map(len, chosen), dtype=np.int64, count=len(chosen))
        if (np.diff(offsets) == sizes).all() and b"".join(chosen) == blob:
            proven[rows] = True
        else:
            bounds = offsets.tolist()
            same = [blob[a:b] == data for a, b, data in zip(bounds[:-1], bounds[1:], chosen, strict=True)]
            proven[rows[np.array(same)]] = True
    return proven


def _read_singly(
    frames: Sequence[bytes], rows: list[int], columns: TradeColumns, symbols: dict[str, int], streams: dict[str, int]
) -> None:
    lines = _lines(columns)
    for row in rows:
        # What the scan took for a trade and the proof refused is forgotten.
        columns.known[row] = columns.exact[row] = columns.is_buyer_maker[row] = False
        columns.symbol_codes[row], columns.stream_codes[row] = 0, NO_STREAM
        values = _single(frames[row], row, columns, symbols, streams) or (0,) * 7
        for line, value in zip(lines, values, strict=True):
            line[row] = value


def _single(
    data: bytes, row: int, columns: TradeColumns, symbols: dict[str, int], streams: dict[str, int]
) -> tuple[int, ...] | None:
    stream, payload = split_wrapped(data)
    if stream is not None:
        columns.stream_codes[row] = streams.setdefault(stream, len(streams))
    try:
        trade = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    values = (trade.E, trade.a, trade.f, trade.l, trade.T)
    if not all(-NUMBER_MAX <= value < NUMBER_MAX for value in values):
        return None
    if max(trade.E, trade.T) >= MICROSECONDS and min(values) < 0:
        return None
    columns.known[row] = True
    columns.symbol_codes[row] = symbols.setdefault(trade.s, len(symbols))
    columns.is_buyer_maker[row] = trade.m
    price, quantity = scaled(trade.p), scaled(trade.q)
    columns.exact[row] = price is not None and quantity is not None
    return _milliseconds(trade.E), trade.a, price or 0, quantity or 0, trade.f, trade.l, _milliseconds(trade.T)


def _milliseconds(value: int) -> int:
    return value // 1000 if value >= MICROSECONDS else value


def move_times(columns: TradeColumns, offset_ms: int) -> TradeColumns:
    """Move the times of every row as `frames.move_times` moves those of its bytes."""
    event_ms, trade_ms = (
        np.where(
            (times >= TIME_MS.start) & (times < TIME_MS.stop),
            np.clip(times + offset_ms, TIME_MS.start, TIME_MS.stop - 1),
            times,
        )
        for times in (columns.event_ms, columns.trade_ms)
    )
    return columns._replace(event_ms=event_ms, trade_ms=trade_ms)


# --- Columns to bytes ---------------------------------------------------------------------------

_QUADS = np.frombuffer(b"".join(b"%04d" % n for n in range(10_000)), dtype="<u4")
_POWERS = np.array([10**n for n in range(1, 19)], dtype=np.int64)


def renderable(columns: TradeColumns) -> NDArray[np.bool_]:
    """Rows that the spot layout can hold at all: exact, and nothing below zero."""
    least = np.minimum.reduce(_lines(columns))
    return np.asarray(columns.known & columns.exact & (least >= 0))


def render(columns: TradeColumns, rows: NDArray[np.intp] | None = None, *, room: int = 0) -> tuple[bytes, Int64]:
    """
    Write rows in the spot layout, wrapped where they have a stream.

    Args:
        columns: the columns.
        rows: which rows, in order; None for all. Every one must be `renderable`.
        room: bytes of zero before each, which belong to it.

    Returns:
        The frames behind each other, and the offsets of their starts and of the end (one more than rows).
    """
    blobs, offsets = _rendered(columns, rows, room)
    return b"".join(blobs), offsets


def pack(columns: TradeColumns) -> Packed:
    """Write every row, as `render` does, into a block that goes out as it is."""
    blobs, offsets = _rendered(columns, None, ROOM)
    return Packed.headed_in(blobs[0] if len(blobs) == 1 else bytearray().join(blobs), offsets)


def chosen(columns: TradeColumns, rows: slice | NDArray[np.intp]) -> TradeColumns:
    """Some of the rows."""
    cut: list[Any] = [column if isinstance(column, tuple) else column[rows] for column in columns]
    return TradeColumns(*cut)


def _rendered(columns: TradeColumns, rows: NDArray[np.intp] | None, room: int) -> tuple[list[bytearray], Int64]:
    count = len(columns.known) if rows is None else len(rows)
    blobs, lengths = [], []
    for first in range(0, count, CHUNK):
        some = slice(first, first + CHUNK)
        blob, length = _render_chunk(chosen(columns, some if rows is None else rows[some]), room)
        blobs.append(blob)
        lengths.append(length)
    offsets = np.zeros(count + 1, dtype=np.int64)
    if lengths:
        np.cumsum(np.concatenate(lengths), out=offsets[1:])
    return blobs, offsets


def _render_chunk(columns: TradeColumns, room: int) -> tuple[bytearray, Int64]:
    sheet = _Sheet(len(columns.known)).text(bytes(room))
    stream = columns.stream_codes
    if (stream != NO_STREAM).any():
        heads = [b'{"stream":"' + name.encode() + b'","data":' for name in columns.streams]
        sheet.words([*heads, b""], stream)  # code -1 is the last word: none
    sheet.text(b'{"e":"aggTrade","E":').number(columns.event_ms)
    sheet.text(b',"s":"').words([name.encode() for name in columns.symbols], columns.symbol_codes)
    sheet.text(b'","a":').number(columns.agg_trade_id)
    sheet.text(b',"p":"').decimal(columns.price_e8)
    sheet.text(b'","q":"').decimal(columns.quantity_e8)
    sheet.text(b'","f":').number(columns.first_trade_id)
    sheet.text(b',"l":').number(columns.last_trade_id)
    sheet.text(b',"T":').number(columns.trade_ms)
    sheet.text(b',"m":').words([b"false", b"true"], columns.is_buyer_maker.view(np.int8))
    sheet.text(b',"M":true}')
    if (stream != NO_STREAM).any():
        sheet.words([b"}", b""], np.where(stream == NO_STREAM, 1, 0))
    return sheet.struck()


class _Sheet:
    """
    A matrix of characters that grows to the right, one row per frame.

    Characters to be struck out are `BLANK`, which no UTF-8 text contains. A part that is not the same for all rows is
    an array of cells, so that it is laid into the sheet a cell at a time and not character by character.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[NDArray[np.void] | bytes] = []
        self._length: Int64 = np.zeros(rows, dtype=np.int64)
        self._constant = 0

    def text(self, text: bytes) -> _Sheet:
        self._parts.append(text)
        self._constant += len(text)
        return self

    def words(self, words: list[bytes], codes: NDArray[Any]) -> _Sheet:
        if len(words) == 1:
            return self.text(words[0])
        width = max(map(len, words))
        cells = np.frombuffer(b"".join(word.ljust(width, BLANK) for word in words), dtype=f"V{width}")
        self._parts.append(cells[codes])
        self._length += np.array([len(word) for word in words], dtype=np.int64)[codes]
        return self

    def number(self, values: Int64) -> _Sheet:
        least, most = int(values.min()), int(values.max())
        for quads in (1, 2):
            # Times and ids of neighbours have their first digits in common: those are text.
            power = 10_000**quads
            shared = most // power
            if 0 < shared == least // power:
                return self.text(b"%d" % shared).filled(values - shared * power, quads)
        fewest, widest = len(str(least)), len(str(most))
        matrix = _digits(values, -(-widest // 4))[:, -widest:]
        if fewest == widest:
            self._constant += widest
        else:
            size = np.searchsorted(_POWERS, values, side="right") + 1
            unused = widest - fewest
            # Only the first few digits can be leading zeros.
            matrix[:, :unused][np.arange(unused) < (widest - size)[:, None]] = BLANK[0]
            self._length += size
        self._parts.append(_cells(matrix))
        return self

    def filled(self, values: Int64, quads: int) -> _Sheet:
        self._parts.append(_cells(_digits(values, quads)))
        self._constant += 4 * quads
        return self

    def decimal(self, values: Int64) -> _Sheet:
        whole = values // SCALE
        return self.number(whole).text(b".").filled(values - whole * SCALE, 2)

    def struck(self) -> tuple[bytearray, Int64]:
        row = b"".join(part if isinstance(part, bytes) else bytes(part.itemsize) for part in self._parts)
        sheet = np.empty((self._rows, len(row)), dtype=np.uint8)
        sheet[:] = np.frombuffer(row, dtype=np.uint8)
        end = 0
        for part in self._parts:
            begin, end = end, end + (len(part) if isinstance(part, bytes) else part.itemsize)
            if not isinstance(part, bytes):
                sheet[:, begin:end].view(part.dtype)[:, 0] = part
        # Blanks are few, so looking for them leaves whole runs to be copied; translate() would look at every byte.
        return bytearray(sheet.reshape(-1)).replace(BLANK, b""), self._length + self._constant


def _cells(matrix: NDArray[np.uint8]) -> NDArray[np.void]:
    """The rows of a matrix as one item each."""
    return np.ascontiguousarray(matrix).view(f"V{matrix.shape[1]}")[:, 0]


def _digits(values: Int64, quads: int) -> NDArray[np.uint8]:
    """Digits with leading zeros, four at a time."""
    matrix = np.empty((len(values), quads), dtype="<u4")
    left = values
    for quad in range(quads - 1, 0, -1):
        higher = left // 10_000
        matrix[:, quad] = _QUADS[left - higher * 10_000]
        left = higher
    matrix[:, 0] = _QUADS[left]
    return matrix.view(np.uint8)
