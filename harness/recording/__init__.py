"""Frames on disk: one Parquet file, or a folder of them. The simple path; columns in bulk come behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError
from harness.frames import DATA_KINDS, AggTrade, Frame, parse_agg_trade, render_agg_trade, split_wrapped, wrap
from harness.timeline import NO_ID, Mark, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SCHEMA = pa.schema(
    [
        ("connection", pa.int32()),
        ("direction", pa.dictionary(pa.int32(), pa.string())),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("received_at", pa.timestamp("ns", "UTC")),
        ("monotonic_ns", pa.int64()),
        ("stream", pa.dictionary(pa.int32(), pa.string())),
        ("close_code", pa.int32()),
        ("detail", pa.string()),
        ("event_time", pa.timestamp("ms", "UTC")),
        ("symbol", pa.dictionary(pa.int32(), pa.string())),
        ("agg_trade_id", pa.int64()),
        ("price", pa.decimal128(18, 8)),
        ("quantity", pa.decimal128(18, 8)),
        ("first_trade_id", pa.int64()),
        ("last_trade_id", pa.int64()),
        ("trade_time", pa.timestamp("ms", "UTC")),
        ("is_buyer_maker", pa.bool_()),
        ("raw", pa.binary()),
    ]
)

# Times as integers: Python's datetime has no nanoseconds.
_PLAIN = pa.schema([(f.name, pa.int64() if pa.types.is_timestamp(f.type) else f.type) for f in SCHEMA])


class Metadata(msgspec.Struct, kw_only=True):
    """What a recording says about itself."""

    format: int = 1
    source: str = ""
    endpoint: str = ""
    symbols: tuple[str, ...] = ()
    frame_count: int = 0


class RecordingWriter:
    """Writes one recording; it appears under its name when it is whole."""

    def __init__(self, path: str | Path, *, endpoint: str = "", symbols: Iterable[str] = (), source: str = "") -> None:
        self.path = Path(path)
        self._part = self.path.with_suffix(self.path.suffix + ".part")
        self._metadata = Metadata(endpoint=endpoint, symbols=tuple(s.upper() for s in symbols), source=source)
        self._writer = pq.ParquetWriter(self._part, SCHEMA, compression="zstd")

    def write(self, frames: Iterable[Frame]) -> None:
        """Add frames in order of receipt."""
        rows = [_row(frame) for frame in frames]
        self._metadata.frame_count += len(rows)
        self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))

    def close(self) -> Metadata:
        """Finish the file."""
        self._writer.add_key_value_metadata({"harness": msgspec.json.encode(self._metadata).decode()})
        self._writer.close()
        self._part.replace(self.path)
        return self._metadata

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.close()
        self._part.unlink(missing_ok=True)


def _row(frame: Frame) -> dict[str, Any]:
    row: dict[str, Any] = {
        "connection": frame.connection,
        "direction": frame.direction,
        "kind": frame.kind,
        "received_at": frame.received_at_ns,
        "monotonic_ns": frame.monotonic_ns,
        "close_code": frame.close_code,
        "detail": frame.detail or None,
        "raw": frame.data,
    }
    if frame.kind not in DATA_KINDS:
        return row
    stream, payload = split_wrapped(frame.data)
    row["stream"] = stream
    if trade := parse_agg_trade(payload):
        row |= {
            "event_time": trade.event_ms,
            "symbol": trade.symbol,
            "agg_trade_id": trade.agg_trade_id,
            "price": trade.price,
            "quantity": trade.quantity,
            "first_trade_id": trade.first_trade_id,
            "last_trade_id": trade.last_trade_id,
            "trade_time": trade.trade_ms,
            "is_buyer_maker": trade.is_buyer_maker,
        }
        rendered = render_agg_trade(trade)
        if (wrap(stream, rendered) if stream else rendered) == frame.data:
            row["raw"] = None
    return row


class Recording:
    """A recording on disk, read row group by row group."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = pq.ParquetFile(self.path)
            text = (self._file.schema_arrow.metadata or {}).get(b"harness") or self._file.metadata.metadata[b"harness"]
        except (OSError, pa.ArrowException, KeyError) as cause:
            raise RecordingError(path, f"is no recording of ours: {cause}") from cause
        self.metadata = msgspec.convert(json.loads(text), Metadata)

    def frames(self) -> Iterator[Frame]:
        """Every frame, bytes as received."""
        for batch in self._file.iter_batches(4096):
            for row in pa.Table.from_batches([batch]).cast(_PLAIN).to_pylist():
                yield _frame(row)

    def timeline(self, symbols: Iterable[str] | None = None) -> Timeline:
        """The data frames, in the order and at the times they were due."""
        return load_timeline([self.path], symbols)


def _frame(row: dict[str, Any]) -> Frame:
    data = row["raw"]
    if data is None:
        rendered = render_agg_trade(
            AggTrade(
                event_ms=row["event_time"],
                symbol=row["symbol"],
                agg_trade_id=row["agg_trade_id"],
                price=row["price"],
                quantity=row["quantity"],
                first_trade_id=row["first_trade_id"],
                last_trade_id=row["last_trade_id"],
                trade_ms=row["trade_time"],
                is_buyer_maker=row["is_buyer_maker"],
            )
        )
        data = wrap(row["stream"], rendered) if row["stream"] else rendered
    return Frame(
        connection=row["connection"],
        direction=row["direction"],
        kind=row["kind"],
        received_at_ns=row["received_at"],
        monotonic_ns=row["monotonic_ns"],
        data=data,
        close_code=row["close_code"],
        detail=row["detail"] or "",
    )


def open_recording(path: str | Path) -> Recording:
    """
    Open a recording.

    Raises:
        RecordingError: it is not there, torn, or none of ours.
    """
    return Recording(path)


class _InMemory:
    def __init__(self, payloads: list[bytes]) -> None:
        self._payloads = payloads

    def fetch(self, first: int, last: int) -> Sequence[bytes]:
        return self._payloads[first:last]


def load_timeline(paths: Iterable[str | Path], symbols: Iterable[str] | None = None) -> Timeline:
    """Merge recordings into one tape."""
    wanted = {s.upper() for s in symbols} if symbols is not None else None
    rows: list[tuple[int, str, int, int, bytes]] = []
    names = []
    for path in paths:
        names.append(str(path))
        for frame in open_recording(path).frames():
            if frame.kind not in DATA_KINDS or frame.direction != "received":
                continue
            stream, payload = split_wrapped(frame.data)
            trade = parse_agg_trade(payload)
            if wanted is not None and trade and trade.symbol not in wanted:
                continue
            stream = stream or (f"{trade.symbol.lower()}@aggTrade" if trade else "")
            if stream:
                row = (frame.received_at_ns, stream, trade.agg_trade_id if trade else NO_ID)
                rows.append((*row, trade.event_ms if trade else -1, payload))
    rows.sort(key=lambda row: row[0])
    streams = tuple(dict.fromkeys(row[1] for row in rows))
    marks: tuple[Mark, ...] = ()
    due = np.array([row[0] for row in rows], dtype=np.int64)
    return Timeline(
        due_ns=due - due[0] if len(due) else due,
        stream_codes=np.array([streams.index(row[1]) for row in rows], dtype=np.int32),
        trade_ids=np.array([row[2] for row in rows], dtype=np.int64),
        event_ms=np.array([row[3] for row in rows], dtype=np.int64),
        streams=streams,
        store=_InMemory([row[4] for row in rows]),
        start_ms=rows[0][3] if rows and rows[0][3] > 0 else (int(due[0]) // 1_000_000 if len(due) else 0),
        marks=marks,
        names=tuple(names),
    )
