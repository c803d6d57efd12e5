"""Files of the public archive: millions of rows, so what is in order stays in columns, block by block.

Arrow reads a block of lines, or refuses it; then each of its lines is read by itself, which says what is wrong
with the first one that is.
"""

from __future__ import annotations

import csv
from decimal import InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from harness.clock import NS_PER_MS, NS_PER_US
from harness.frames.columns import MICROSECONDS, NO_STREAM, TradeColumns
from harness.sources import files
from harness.sources.rendered import Renderer, no_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.frames import Frame
    from harness.frames.trades import Trades
    from harness.sources.capture import Tally

BLOCK_BYTES = 4 << 20
"""Lines read at once, about: some fifty thousand rows."""
MICROSECOND_DIGITS = 16
"""Digits of a time in microseconds, as in spot archives from 2025-01-01 (binance-protocol, section 9)."""
US_PER_MS = 1000
LAST_MICROSECOND = 2**63 // 1000
"""Later times are not to be had in nanoseconds."""
_TRUE = {"true": True, "false": False}
_DECIMAL = pa.decimal128(18, 8)
_COLUMNS = {
    "a": pa.int64(), "p": _DECIMAL, "q": _DECIMAL, "f": pa.int64(), "l": pa.int64(), "T": pa.int64(), "m": pa.bool_(),
    "M": pa.string(),
}  # fmt: skip
"""Futures files lack the last one."""


def archive(path: Path, tally: Tally, symbol: str) -> Iterator[Frame | Trades]:
    """Files of the public archive: spot (8 columns) or futures (7), header or none, ms or us."""
    renderer = Renderer(symbol, tally)
    for number, block in _blocks(path):
        found = _columns(block, symbol)
        if found is None:
            yield from _one_by_one(path, block, number, renderer, tally)
            continue
        columns, at_ns, micro = found
        yield from renderer.trades(columns, at_ns)
        if micro:
            tally.remark(_MICRO)


_MICRO = "times have microseconds in the file; the frames carry milliseconds"


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    # The number of the first line of each block, from 1, and its lines. A header is a block of its own.
    number = 1
    with files.opened(path) as stream:
        line = stream.readline()
        if not line[:1].isdigit():
            yield number, line
            number, line = 2, b""
        while block := line + stream.read(BLOCK_BYTES):
            block += stream.readline()
            yield number, block
            number, line = number + block.count(b"\n"), b""


def _columns(block: bytes, symbol: str) -> tuple[TradeColumns, Any, bool] | None:
    # None for what is not simply rows of the archive.
    width = block.partition(b"\n")[0].count(b",") + 1
    if not len(_COLUMNS) - 1 <= width <= len(_COLUMNS):
        return None
    types = dict(list(_COLUMNS.items())[:width])
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block),
            arrow_csv.ReadOptions(column_names=list(types), block_size=len(block) + 1, use_threads=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, null_values=[], true_values=["True", "true"], false_values=["False", "false"]
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    ids, first, last, at = (table[name].to_numpy() for name in ("a", "f", "l", "T"))
    price, quantity = (_units(table[name]) for name in ("p", "q"))
    if not len(ids) or min(map(np.min, (ids, first, last, at, price, quantity))) < 0:
        return None
    micro = at >= MICROSECONDS
    at_us = np.where(micro, at, np.where(micro, 0, at) * US_PER_MS)
    if at_us.max() >= LAST_MICROSECOND:
        return None
    at_ns = at_us * NS_PER_US
    trade_ms = at_ns // NS_PER_MS
    every, zeros = np.ones(len(ids), dtype=np.bool_), np.zeros(len(ids), dtype=np.int32)
    columns = TradeColumns(
        known=every,
        exact=every,
        event_ms=trade_ms,
        symbol_codes=zeros,
        symbols=(symbol,),
        agg_trade_id=ids,
        price_e8=price,
        quantity_e8=quantity,
        first_trade_id=first,
        last_trade_id=last,
        trade_ms=trade_ms,
        is_buyer_maker=table["m"].to_numpy(),
        stream_codes=zeros + NO_STREAM,
        streams=(),
    )
    return columns, at_ns, bool(micro.any())


def _units(column: Any) -> Any:
    # Of a decimal of 128 bits the lower half, as 18 digits need no more.
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    halves = np.frombuffer(array.buffers()[1], dtype=np.int64).reshape(-1, 2)
    return halves[array.offset : array.offset + len(array), 0]


def _one_by_one(path: Path, block: bytes, number: int, renderer: Renderer, tally: Tally) -> Iterator[Frame]:
    lines = (line.decode("utf-8", "replace") for line in block.splitlines(keepends=True))
    for place, row in enumerate(csv.reader(lines), start=number):
        if not row:
            continue
        if not row[0].isdigit():
            tally.skip("the header", place)
            continue
        try:
            at = int(row[5])
            is_micro = len(row[5]) >= MICROSECOND_DIGITS
            at_ns = at * (NS_PER_US if is_micro else NS_PER_MS)
            maker = _TRUE[row[6].strip().lower()]
            yield from renderer.trade(at_ns, int(row[0]), row[1], row[2], int(row[3]), int(row[4]), maker=maker)
        except (IndexError, ValueError, KeyError, InvalidOperation) as cause:
            expected = "agg id, price, qty, first id, last id, timestamp, is buyer maker"
            raise no_row(path, place, row, expected) from cause
        if is_micro:
            tally.remark(_MICRO)
