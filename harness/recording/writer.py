"""Writing one recording. It appears under its name only when it is whole and durable."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError
from harness.frames import Frame
from harness.frames.trades import Trades
from harness.recording.format import (
    COMPRESSION,
    COMPRESSION_LEVEL,
    DICTIONARY,
    ENCODINGS,
    METADATA_KEY,
    ROW_GROUP,
    ROW_GROUP_BYTES,
    SCHEMA,
    STATISTICS,
    Metadata,
    iso,
)  # fmt: skip
from harness.recording.locks import sync_folder
from harness.recording.sharing import share_equal_chunks
from harness.recording.table import digest, to_table, trades_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType


_TAKEN = "is there already; recordings are never overwritten, name another file"


class RecordingWriter:
    """
    Writes frames into one Parquet file.

    Memory is bounded by one row group. The file is written under a temporary name; a copy of it without what it holds
    twice is made durable, and renamed.

    Args:
        path: where the recording shall be; what is there already is never overwritten.
        endpoint: URL that the frames came from, without secrets.
        symbols: known from the start; those seen in frames are added.
        source: what kind of recording it is: `binance`, `synthetic`, the file that was imported.
        remarks: what is not as an exchange sent it.

    Raises:
        RecordingError: the place cannot be written, or is taken.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        endpoint: str = "",
        symbols: Iterable[str] = (),
        source: str = "",
        remarks: Iterable[str] = (),
    ) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise RecordingError(path, _TAKEN)
        self._long = self.path.with_name(f".{self.path.name}.{os.getpid()}.long.part")
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._symbols = dict.fromkeys(symbol.upper() for symbol in symbols)
        self._metadata = Metadata(endpoint=endpoint, source=source, remarks=tuple(remarks))
        self._first_ns = self._last_ns = 0
        self._digests: list[str] = []
        self._waiting: list[Frame | Trades] = []
        self._waiting_rows = self._waiting_bytes = 0
        try:
            self._sink = pa.OSFile(str(self._long), "wb")
        except OSError as cause:
            raise RecordingError(path, _refusal(cause)) from cause
        self._writer = pq.ParquetWriter(
            self._sink,
            SCHEMA,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=DICTIONARY,
            column_encoding=ENCODINGS,
            store_decimal_as_integer=True,
            write_statistics=STATISTICS,
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @property
    def metadata(self) -> Metadata:
        """What the recording says about itself; complete once it is closed."""
        return self._metadata

    def rename(self, name: str) -> None:
        """
        Give the recording a name that was not known before its frames were.

        Raises:
            RecordingError: the name is taken.
        """
        if self.path.with_name(name).exists():
            raise RecordingError(self.path.with_name(name), _TAKEN)
        self.path = self.path.with_name(name)

    def remark(self, remarks: Iterable[str]) -> None:
        """Add to what is not as an exchange sent it."""
        self._metadata.remarks = tuple(dict.fromkeys((*self._metadata.remarks, *remarks)))

    def write(self, frames: Iterable[Frame | Trades]) -> None:
        """
        Add frames in order of receipt, each by itself or many of them in columns.

        Raises:
            RecordingError: the disk is full, or failing; nothing is left behind.
        """
        for item in frames:
            if isinstance(item, Trades):
                self._write_trades(item)
                continue
            self._waiting.append(item)
            self._waiting_rows += 1
            self._waiting_bytes += len(item.data)
            if self._waiting_rows == ROW_GROUP or self._waiting_bytes >= ROW_GROUP_BYTES:
                self._flush()

    def _write_trades(self, trades: Trades) -> None:
        while len(trades):
            fitting = trades[: ROW_GROUP - self._waiting_rows]
            trades = trades[len(fitting) :]
            self._waiting.append(fitting)
            self._waiting_rows += len(fitting)
            if self._waiting_rows == ROW_GROUP:
                self._flush()

    def close(self) -> Metadata:
        """Finish the recording and return what it says about itself."""
        try:
            self._flush()
            self._finish()
        except OSError as cause:
            self.discard()
            raise RecordingError(self.path, _refusal(cause)) from cause
        return self._metadata

    def discard(self) -> None:
        """Give up, and leave nothing behind."""
        for end in (self._writer.close, self._sink.close):
            try:
                end()
            except (OSError, ValueError, pa.ArrowException):
                pass  # it is thrown away
        # What could not be closed would try again when it is collected, and complain.
        self._writer.is_open = False
        self._long.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._waiting:
            return
        items, self._waiting = self._waiting, []
        self._waiting_rows = self._waiting_bytes = 0
        table = _table(items)
        if not self._metadata.frame_count:
            self._first_ns = table["received_at"][0].value
        self._last_ns = table["received_at"][-1].value
        self._metadata.frame_count += table.num_rows
        self._metadata.gaps += sum(isinstance(item, Frame) and item.kind in {"gap", "lost"} for item in items)
        for symbol in table.column("symbol").unique().to_pylist():
            if symbol:
                self._symbols.setdefault(symbol)
        self._digests.append(digest(table))
        try:
            self._writer.write_table(table, row_group_size=ROW_GROUP)
        except OSError as cause:
            self.discard()
            raise RecordingError(self.path, _refusal(cause)) from cause

    def _finish(self) -> None:
        about = self._metadata
        about.harness = version("aggtrade-harness")
        about.symbols = tuple(self._symbols)
        if about.frame_count:
            about.start, about.end = iso(self._first_ns), iso(self._last_ns)
        about.group_digests = tuple(self._digests)
        about.digest = hashlib.sha256("".join(self._digests).encode()).hexdigest()
        self._writer.add_key_value_metadata({METADATA_KEY: msgspec.json.encode(about)})
        self._writer.close()
        self._sink.close()
        with self._long.open("rb") as long, self._part.open("wb") as part:
            share_equal_chunks(long, part)
            part.flush()
            os.fsync(part.fileno())
        self._long.unlink()
        # A hard link fails where the name is taken, which a rename would silently overwrite.
        try:
            os.link(self._part, self.path)
            self._part.unlink()
        except FileExistsError:
            raise RecordingError(self.path, "has appeared meanwhile; it was left as it is") from None
        except OSError:
            self._part.rename(self.path)  # a file system without links
        sync_folder(self.path.parent)


def _table(items: list[Frame | Trades]) -> pa.Table:
    pieces: list[pa.Table] = []
    single: list[Frame] = []
    for item in items:
        if isinstance(item, Frame):
            single.append(item)
            continue
        pieces += [to_table(single), trades_table(item)] if single else [trades_table(item)]
        single = []
    if single:
        pieces.append(to_table(single))
    return pieces[0] if len(pieces) == 1 else pa.concat_tables(pieces).unify_dictionaries().combine_chunks()


def _refusal(cause: OSError) -> str:
    # Arrow's own words repeat the path, and tell the number twice.
    return f"cannot be written: {os.strerror(cause.errno) if cause.errno else cause}"
