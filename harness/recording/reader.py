"""Reading a recording, row group by row group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError
from harness.recording import places
from harness.recording.format import FORMAT, METADATA_KEY, SCHEMA, Metadata
from harness.recording.sharing import is_intact
from harness.recording.table import to_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.frames import Frame
    from harness.timeline import Timeline


# Arrow's own words about damaged bytes may hold some of them, and then cannot even be decoded.
_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


class Part:
    """One Parquet file of a recording."""

    def __init__(self, path: str) -> None:
        self.path = path
        source = places.opened(path)
        try:
            self._file = pq.ParquetFile(source, page_checksum_verification=True)
        except _UNREADABLE as cause:
            raise RecordingError(path, _torn(path, cause)) from cause
        self.metadata = self._about()

    @property
    def is_intact(self) -> bool:
        """Whether every byte is the one that was written; True for files of before they were sealed. Reads them all."""
        with places.opened(self.path) as source:
            return is_intact(source)

    @property
    def group_count(self) -> int:
        """How many row groups there are."""
        return int(self._file.num_row_groups)

    def group_rows(self, group: int) -> int:
        """How many rows one has."""
        return int(self._file.metadata.row_group(group).num_rows)

    def group_bytes(self, group: int) -> int:
        """Its size in the file."""
        return sum(self.column_bytes(group).values())

    def column_bytes(self, group: int) -> dict[str, int]:
        """What each column of a row group takes in the file; 0 where its pages are those of an earlier one."""
        about = self._file.metadata.row_group(group)
        sizes: dict[str, int] = {}
        taken: set[int] = set()
        for column in (about.column(number) for number in range(about.num_columns)):
            shared = column.data_page_offset in taken
            taken.add(column.data_page_offset)
            sizes[column.path_in_schema] = 0 if shared else int(column.total_compressed_size)
        return sizes

    def read(self, group: int, columns: list[str] | None = None) -> pa.Table:
        """
        One row group.

        Raises:
            RecordingError: its bytes are damaged.
        """
        try:
            return self._file.read_row_group(group, columns=columns)
        except _UNREADABLE as cause:
            raise RecordingError(self.path, f"row group {group} is damaged: {_short(cause)}") from cause

    def batches(self, group: int, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """
        One row group, so many rows at a time; what was read is not kept.

        Raises:
            RecordingError: its bytes are damaged.
        """
        try:
            # Without threads: they would only fetch ahead what is wanted a block at a time.
            yield from self._file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
        except _UNREADABLE as cause:
            raise RecordingError(self.path, f"row group {group} is damaged: {_short(cause)}") from cause

    def unpacked_bytes(self, group: int, column: str) -> int:
        """What a column of a row group takes in memory."""
        about = self._file.metadata.row_group(group)
        return int(about.column(self._file.schema_arrow.names.index(column)).total_uncompressed_size)

    def _about(self) -> Metadata:
        stored = self._file.metadata.metadata or {}
        try:
            names = set(self._file.schema_arrow.names)
        except _UNREADABLE as cause:
            raise RecordingError(self.path, _torn(self.path, cause)) from cause
        if METADATA_KEY not in stored:
            raise RecordingError(
                self.path,
                "is a Parquet file, but no recording of this harness; `harness import` reads captures of others",
            )
        try:
            about = msgspec.json.decode(stored[METADATA_KEY], type=Metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
            raise RecordingError(self.path, f"its metadata cannot be read: {cause}") from cause
        if about.format > FORMAT:
            raise RecordingError(
                self.path,
                f"format version {about.format}, this harness reads 1 to {FORMAT}; upgrade harness or record again",
            )
        if missing := [name for name in SCHEMA.names if name not in names]:
            raise RecordingError(self.path, f"lacks the column {missing[0]!r} of format version {about.format}")
        return about


class Recording:
    """
    A recording: one Parquet file, or a folder of them in the order of time.

    Args:
        place: file, folder or URI.

    Raises:
        RecordingError: it is not there, is torn, or is none of ours.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        parts = [Part(path) for path in places.files_of(place)]
        self.parts = sorted(parts, key=lambda part: part.metadata.start)
        self.metadata = _joined([part.metadata for part in self.parts])

    def __len__(self) -> int:
        return self.metadata.frame_count

    def groups(self) -> Iterator[tuple[Part, int]]:
        """Every row group, in order."""
        for part in self.parts:
            for group in range(part.group_count):
                yield part, group

    def frames(self) -> Iterator[Frame]:
        """Every frame, with exactly the bytes received; one row group is held at a time."""
        for part, group in self.groups():
            yield from to_frames(part.read(group))

    def timeline(self, symbols: Iterable[str] | None = None) -> Timeline:
        """The data frames, in the order and at the times they were due."""
        from harness.recording.tape import load_timeline  # noqa: PLC0415 - the tape reads recordings

        return load_timeline([self.place], symbols)


def open_recording(place: str | Path) -> Recording:
    """Open a recording; see `Recording`."""
    return Recording(place)


def _joined(parts: list[Metadata]) -> Metadata:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return msgspec.structs.replace(
        first,
        symbols=tuple(dict.fromkeys(symbol for part in parts for symbol in part.symbols)),
        remarks=tuple(dict.fromkeys(remark for part in parts for remark in part.remarks)),
        end=max(part.end for part in parts),
        frame_count=sum(part.frame_count for part in parts),
        gaps=sum(part.gaps for part in parts),
        digest="",
        group_digests=(),
    )


def _torn(path: str, cause: Any) -> str:
    text = _short(cause)
    if not places.is_uri(path):
        size = Path(path).stat().st_size
        if size == 0:
            return "is empty"
        with Path(path).open("rb") as file:
            if file.read(4) != b"PAR1":
                return "is no Parquet file; `harness import` reads captures of other kinds"
        return (
            f"is torn: {text}; if a recorder was writing here, `harness recover` on its folder brings the frames back"
        )
    return f"cannot be read: {text}"


def _short(cause: object) -> str:
    return str(cause).strip().split("\n", 1)[0].rstrip(".")[:160]
