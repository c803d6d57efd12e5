"""Frames to Arrow tables, and back to the exact bytes."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.frames import DATA_KINDS, Frame
from harness.frames.columns import NO_STREAM, TradeColumns, chosen, pack, read_proven, render
from harness.frames.packed import ROOM, Packed, fits, heads
from harness.recording.format import DECIMAL, MILLISECONDS, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.frames.trades import Trades


def to_table(frames: Sequence[Frame]) -> pa.Table:
    """Lay frames out in columns; `raw` is kept only where the columns do not render to the same bytes."""
    data = [frame.data if frame.kind in DATA_KINDS else b"" for frame in frames]
    columns, proven = read_proven(data)
    # A text and a binary frame render alike; the kind is a column, so that loses nothing.
    kept = [
        None if done or not (frame.data or frame.kind in DATA_KINDS) else frame.data
        for frame, done in zip(frames, proven.tolist(), strict=True)
    ]
    transport = [
        pa.array([frame.connection for frame in frames], pa.int32()),
        _words([frame.direction for frame in frames]),
        _words([frame.kind for frame in frames]),
        pa.array([frame.received_at_ns for frame in frames], pa.int64()).cast(pa.timestamp("ns", "UTC")),
        pa.array([frame.monotonic_ns for frame in frames], pa.int64()),
        _coded(columns.streams or ("",), columns.stream_codes, columns.stream_codes != NO_STREAM),
        pa.array([frame.close_code for frame in frames], pa.int32()),
        pa.array([frame.detail or None for frame in frames], pa.string()),
    ]
    return pa.table([*transport, *_typed(columns), pa.array(kept, pa.binary())], schema=SCHEMA)


def trades_table(trades: Trades) -> pa.Table:
    """The same for frames that are in columns already, so that there is nothing to read and to prove."""
    columns, count = trades.columns, len(trades)
    transport = [
        pa.array(np.full(count, trades.connection, dtype=np.int32)),
        _words(["received"]).take(pa.array(np.zeros(count, dtype=np.int32))),
        _words(["text"]).take(pa.array(np.zeros(count, dtype=np.int32))),
        pa.array(trades.received_at_ns).cast(pa.timestamp("ns", "UTC")),
        pa.array(trades.monotonic_ns),
        _coded(columns.streams or ("",), columns.stream_codes, columns.stream_codes != NO_STREAM),
        pa.nulls(count, pa.int32()),
        pa.nulls(count, pa.string()),
    ]
    return pa.table([*transport, *_typed(columns), pa.nulls(count, pa.binary())], schema=SCHEMA)


def _typed(columns: TradeColumns) -> list[pa.Array]:
    known, exact = columns.known, columns.known & columns.exact
    return [
        _masked(columns.event_ms, known).cast(MILLISECONDS),
        _coded(columns.symbols or ("",), columns.symbol_codes, known),
        _masked(columns.agg_trade_id, known),
        _decimals(columns.price_e8, exact),
        _decimals(columns.quantity_e8, exact),
        _masked(columns.first_trade_id, known),
        _masked(columns.last_trade_id, known),
        _masked(columns.trade_ms, known).cast(MILLISECONDS),
        pa.array(columns.is_buyer_maker, mask=~known),
    ]


def _words(words: list[str]) -> pa.Array:
    return pa.array(words, pa.string()).dictionary_encode()


def _coded(words: Sequence[str], codes: NDArray[np.int32], valid: NDArray[np.bool_]) -> pa.Array:
    indices = pa.array(np.where(valid, codes, 0).astype(np.int32), mask=~valid)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(words), pa.string()))


def _masked(values: NDArray[np.int64], valid: NDArray[np.bool_]) -> pa.Array:
    return pa.array(values, mask=~valid)


def _decimals(scaled: NDArray[np.int64], valid: NDArray[np.bool_]) -> pa.Array:
    # A decimal128 is two 64-bit halves, the higher one holding the sign.
    halves = np.empty((len(scaled), 2), dtype=np.int64)
    halves[:, 0] = scaled
    halves[:, 1] = scaled >> 63
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(DECIMAL, len(scaled), [bitmap, pa.py_buffer(halves.tobytes())])


# --- Back ---------------------------------------------------------------------------------------


class Content(NamedTuple):
    """What the bytes of rows are made of."""

    columns: TradeColumns
    typed: NDArray[np.bool_]
    """Rows that the columns give back."""
    raw: Any
    """An array of bytes: the other rows."""

    def pack(self, first: int, last: int) -> Packed:
        """Return the exact bytes of the rows `first` to `last`, exclusive, as payloads; headed if their sizes allow."""
        typed = self.typed[first:last]
        if typed.all():
            return pack(chosen(self.columns, slice(first, last)))
        if not typed.any():
            return _packed(self.raw.slice(first, last - first))
        return Packed(*self.render(first, last, ROOM)).with_heads()

    def render(self, first: int, last: int, room: int = 0) -> tuple[bytes, NDArray[np.int64]]:
        """
        Return the exact bytes of the rows `first` to `last`, exclusive, behind each other.

        Args:
            first: the first row.
            last: the row behind the last.
            room: bytes of zero before each row, which belong to it.

        Returns:
            The bytes, and the offsets of the starts of the rows and of the end.
        """
        typed = self.typed[first:last]
        rows = np.flatnonzero(typed)
        blob, offsets = render(self.columns, rows + first, room=room)
        if len(rows) == len(typed):
            return blob, offsets
        raw_blob, raw_offsets = _binary(self.raw.slice(first, last - first), room)
        if not len(rows):
            return raw_blob, raw_offsets
        sizes = np.diff(raw_offsets)
        sizes[rows] = np.diff(offsets)
        starts = np.zeros(len(typed) + 1, dtype=np.int64)
        np.cumsum(sizes, out=starts[1:])
        pieces: list[bytes] = []
        # Runs of one kind are copied whole.
        edges = np.flatnonzero(np.diff(typed)) + 1
        rank: NDArray[np.int64] = np.cumsum(typed) - typed
        for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(typed)], strict=True):
            if typed[begin]:
                start = int(rank[begin])
                pieces.append(blob[offsets[start] : offsets[start + end - begin]])
            else:
                pieces.append(raw_blob[raw_offsets[begin] : raw_offsets[end]])
        return b"".join(pieces), starts


def content_of(table: pa.Table) -> Content:
    """Take what the bytes are made of out of a table."""
    raw = one(table, "raw")
    typed = ~valid(raw) & valid(one(table, "agg_trade_id"))
    return Content(columns_of(table), typed, raw)


def to_bytes(table: pa.Table) -> tuple[bytes, NDArray[np.int64]]:
    """The exact bytes of every row, behind each other, and the offsets of their starts and of the end."""
    return content_of(table).render(0, table.num_rows)


def to_payloads(table: pa.Table) -> list[bytes]:
    """The exact bytes of every row, one object each."""
    blob, offsets = to_bytes(table)
    bounds = offsets.tolist()
    return [blob[first:last] for first, last in pairwise(bounds)]


def to_frames(table: pa.Table) -> list[Frame]:
    """The frames, as they were written."""
    values: dict[str, list[Any]] = {
        name: one(table, name).to_pylist() for name in ("connection", "direction", "kind", "close_code", "detail")
    }
    return [
        Frame(
            connection=connection,
            direction=direction,
            kind=kind,
            received_at_ns=received,
            monotonic_ns=monotonic,
            data=data,
            close_code=code,
            detail=detail or "",
        )
        for connection, direction, kind, code, detail, received, monotonic, data in zip(
            *values.values(),
            one(table, "received_at").cast(pa.int64()).to_pylist(),
            one(table, "monotonic_ns").to_pylist(),
            to_payloads(table),
            strict=True,
        )
    ]


def columns_of(table: pa.Table) -> TradeColumns:
    """The typed columns as numbers; nulls are 0."""
    symbols, symbol_codes, _ = decoded(one(table, "symbol"))
    streams, stream_codes, wrapped = decoded(one(table, "stream"))
    known = valid(one(table, "agg_trade_id"))
    return TradeColumns(
        known=known,
        exact=valid(one(table, "price")),
        event_ms=numbers(table, "event_time"),
        symbol_codes=symbol_codes,
        symbols=symbols,
        agg_trade_id=numbers(table, "agg_trade_id"),
        price_e8=_scaled(one(table, "price")),
        quantity_e8=_scaled(one(table, "quantity")),
        first_trade_id=numbers(table, "first_trade_id"),
        last_trade_id=numbers(table, "last_trade_id"),
        trade_ms=numbers(table, "trade_time"),
        is_buyer_maker=np.asarray(pc.fill_null(one(table, "is_buyer_maker"), False)),
        stream_codes=np.where(wrapped, stream_codes, NO_STREAM).astype(np.int32),
        streams=streams,
    )


def one(table: pa.Table, name: str) -> Any:
    """A column as one array."""
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)  # as it is; combining would copy it
    column = column.combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def valid(array: Any) -> NDArray[np.bool_]:
    """Which rows have a value; nobody looks at each where all have one, or none."""
    if array.null_count in {0, len(array)}:
        return np.full(len(array), array.null_count == 0)
    return np.asarray(array.is_valid())


def numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column of whole numbers, times included; nulls are 0."""
    return np.asarray(pc.fill_null(one(table, name).cast(pa.int64()), 0))


def _scaled(array: Any) -> NDArray[np.int64]:
    if len(array) == 0:
        return np.zeros(0, dtype=np.int64)
    halves = np.frombuffer(array.buffers()[1], dtype=np.int64).reshape(-1, 2)
    return np.where(valid(array), halves[array.offset : array.offset + len(array), 0], 0)


def decoded(array: Any) -> tuple[tuple[str, ...], NDArray[np.int32], NDArray[np.bool_]]:
    """A column of repeated words: the words, a code per row, and which rows have one."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    codes = np.asarray(pc.fill_null(array.indices, 0)).astype(np.int32)
    return tuple(array.dictionary.to_pylist()) or ("",), codes, valid(array)


def _packed(array: Any) -> Packed:
    array = pc.fill_null(array, b"")
    sizes = np.asarray(pc.binary_length(array)).astype(np.int64)
    if not fits(sizes):
        return Packed(*_binary(array, ROOM))
    # The header goes in with the room, in the one copy that must be made.
    starts = np.arange(0, ROOM * (len(sizes) + 1), ROOM, dtype=np.int32)
    before = pa.Array.from_buffers(pa.binary(), len(sizes), [None, pa.py_buffer(starts), pa.py_buffer(heads(sizes))])
    # The block is kept for a while among many: Arrow's own pool gives such memory back, to have it zeroed anew.
    joined = pc.binary_join_element_wise(before, array, b"", memory_pool=pa.system_memory_pool())
    _, offsets, block = joined.buffers()
    places = np.frombuffer(offsets, dtype=np.int32, count=len(sizes) + 1).astype(np.int64)
    return Packed(memoryview(block).cast("B"), places, headed=True)


def _binary(array: Any, room: int) -> tuple[bytes, NDArray[np.int64]]:
    if len(array) == 0:
        return b"", np.zeros(1, dtype=np.int64)
    array = pc.fill_null(array, b"")
    if room:
        array = pc.binary_join_element_wise(bytes(room), array, b"")
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    values = array.buffers()[2]
    blob = values.slice(offsets[0], offsets[-1] - offsets[0]).to_pybytes() if values is not None else b""
    return blob, (offsets - offsets[0]).astype(np.int64)


def digest(table: pa.Table) -> str:
    """SHA-256 of the content: every transport column, and the exact bytes; however the file is encoded."""
    sha = hashlib.sha256()
    for name in ("connection", "received_at", "monotonic_ns", "close_code"):
        sha.update(np.ascontiguousarray(pc.fill_null(one(table, name).cast(pa.int64()), -1)).tobytes())
    for name in ("direction", "kind", "detail"):
        words = pc.fill_null(one(table, name).cast(pa.string()), "")
        together = pa.ListArray.from_arrays(pa.array([0, len(words)], pa.int32()), words)
        sha.update(pc.binary_join(together, "\x1f")[0].as_buffer())
        sha.update(b"\x1e")
    blob, offsets = to_bytes(table)
    sha.update(offsets.tobytes())
    sha.update(blob)
    return sha.hexdigest()
