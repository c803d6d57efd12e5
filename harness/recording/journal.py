"""The journal: what a recorder has received, on disk before anything else happens to it.

A Parquet file that was not closed cannot be read at all, so nobody writes one while frames come in.
Frames go to a journal, an Arrow IPC stream without an end that any Arrow reader can open; every block is whole
or not there. When a journal is closed, or found after a crash, `recovery` turns it into a recording.

    schema │ block │ block │ block │ to…          a torn tail costs only itself
           └ its number, and the crc32 of its columns
"""

from __future__ import annotations

import contextlib
import os
import zlib
from typing import TYPE_CHECKING, Any, Self, final

import msgspec
import numpy as np
import pyarrow as pa

from harness.errors import RecordingError
from harness.frames import Frame
from harness.frames.packed import ROOM, Packed, size_bytes
from harness.recording.locks import lock, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SUFFIX = ".journal"
FORMAT = 1

DIRECTIONS = ("received", "sent")
KINDS = ("text", "binary", "ping", "pong", "close", "open", "lost", "gap")
_DIRECTION_CODES = {name: code for code, name in enumerate(DIRECTIONS)}
_KIND_CODES = {name: code for code, name in enumerate(KINDS)}
_NO_CLOSE_CODE = -1

BLOCK_BYTES_MAX = 1 << 20
"""Payload bytes in one block, about: it is made while they are in the processor's cache; a reader holds one."""

_SCHEMA = pa.schema(
    [
        ("connection", pa.int32()),
        ("direction", pa.uint8()),
        ("kind", pa.uint8()),
        ("received_at_ns", pa.int64()),
        ("monotonic_ns", pa.int64()),
        ("close_code", pa.int32()),
        ("data", pa.binary()),
        ("detail", pa.string()),
    ]
)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What recovery must know about a journal, written in front of its first block."""

    target: str
    """File name that the recording shall get, in the journal's folder."""
    identity: str
    """Tells this journal from all others, so that it becomes a recording once."""
    endpoint: str
    """Without secrets."""
    symbols: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    source: str = ""
    started_at_ns: int = 0
    partitioned: bool = False
    """Split into `symbol=/date=` folders."""
    destination: str = ""
    """Object store URI to which the finished recording goes; empty for the journal's own folder."""
    format: int = FORMAT


class JournalTaken(RecordingError):  # noqa: N818 - what happened, as in FileExistsError
    """Another recorder has a journal of this name."""


@final
class Run:
    """
    Text or binary messages of one connection that arrived in one piece.

    A frame object for each message would cost the receive loop a tenth of its rate. The clock is
    read once for all that one read of the socket brought, since all of it was there at that moment.
    """

    __slots__ = ("connection", "kind", "monotonic_ns", "payloads", "received_at_ns")

    def __init__(
        self, connection: int, kind: str, received_at_ns: int, monotonic_ns: int, payloads: Sequence[bytes]
    ) -> None:
        self.connection = connection
        self.kind = kind
        self.received_at_ns = received_at_ns
        self.monotonic_ns = monotonic_ns
        self.payloads = payloads

    def __len__(self) -> int:
        return len(self.payloads)

    def frames(self) -> Iterator[Frame]:
        """The same as frames."""
        for payload in self.payloads:
            yield Frame(
                connection=self.connection,
                direction="received",
                kind=self.kind,  # type: ignore[arg-type]
                received_at_ns=self.received_at_ns,
                monotonic_ns=self.monotonic_ns,
                data=payload,
            )


class Journal:
    """
    One journal file, open for appending and locked for as long as this object lives.

    Not thread-safe, except that `sync` may run beside `append`.

    Args:
        path: a file that does not exist yet.
        header: what recovery must know.

    Raises:
        RecordingError: the file exists, or the folder does not let us write.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self.frame_count = 0
        self.size_bytes = 0
        self._block_count = 0
        self._descriptor = _create(path)
        try:
            self._sink = _Sink()
            metadata = {b"harness.journal": msgspec.json.encode(header)}
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), _SCHEMA.with_metadata(metadata))
            # Arrow writes the schema along with the first block; an empty block brings it out at once.
            self._put(_batch([]))
            self.sync()
            sync_folder(path.parent)
        except OSError as problem:
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise RecordingError(path, f"cannot write the journal: {problem.strerror or problem}") from problem

    @property
    def descriptor(self) -> int:
        """The open file, which carries the lock."""
        return self._descriptor

    def append(self, frames: Iterable[Frame | Run]) -> int:
        """
        Add frames.

        Either all of them are in the file afterwards or none: after an error the same frames can be given again.

        Returns:
            How many frames there were.

        Raises:
            OSError: the disk is full, or failing.
        """
        before = self.size_bytes, self._block_count, self.frame_count
        try:
            for items in _blocks(frames):
                batch = _batch(items)
                self._put(batch)
                self.frame_count += batch.num_rows
        except OSError:
            # A stump in the middle would hide every later block from a reader.
            self.size_bytes, self._block_count, self.frame_count = before
            os.ftruncate(self._descriptor, self.size_bytes)
            os.lseek(self._descriptor, self.size_bytes, os.SEEK_SET)
            raise
        return self.frame_count - before[2]

    def sync(self) -> None:
        """
        Make everything appended so far survive a power cut.

        Raises:
            OSError: the disk is failing.
        """
        _fdatasync(self._descriptor)

    def close(self) -> None:
        """Sync, and let go of the lock. The file stays for recovery."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, batch: pa.RecordBatch) -> None:
        stamp = {"number": str(self._block_count), "crc32": str(_checksum(batch))}
        self._writer.write_batch(batch, custom_metadata=stamp)
        block = self._sink.take()
        done = 0
        while done < len(block):
            # A nearly full disk takes a part and refuses the rest at the next call.
            done += _write(self._descriptor, block[done:])
        self.size_bytes += len(block)
        self._block_count += 1


class Tail(msgspec.Struct):
    """What a reader found at the end of a journal."""

    frame_count: int = 0
    torn_bytes: int = 0
    """Bytes behind the last whole block; 0 when the journal ends cleanly."""
    problem: str = ""


def read_header(path: Path) -> Header | None:
    """The header of a journal, or None when the file was torn inside it."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return msgspec.json.decode((stream.schema.metadata or {})[b"harness.journal"], type=Header)
    except (pa.ArrowException, OSError, KeyError, msgspec.MsgspecError, ValueError):
        return None


def read_journal(path: Path, tail: Tail | None = None) -> Iterator[Frame]:
    """
    Read every frame up to the first block that is not whole.

    Args:
        path: the journal.
        tail: is filled in while reading.

    Yields:
        Frames in the order in which they were appended.
    """
    for batch in read_batches(path, tail):
        yield from _frames(batch)


def read_batches(path: Path, tail: Tail | None = None) -> Iterator[pa.RecordBatch]:
    """Read the whole blocks of a journal as Arrow columns; see `read_journal`."""
    tail = tail if tail is not None else Tail()
    size = path.stat().st_size
    whole = number = 0
    with pa.OSFile(str(path)) as file:
        try:
            stream = pa.ipc.open_stream(file)
            whole = file.tell()
            while True:
                batch, metadata = stream.read_next_batch_with_custom_metadata()
                _check(batch, metadata, number)
                whole = file.tell()
                number += 1
                tail.frame_count += batch.num_rows
                if batch.num_rows:
                    yield batch
        except StopIteration:
            pass
        except (pa.ArrowException, OSError, KeyError, ValueError) as problem:
            # Whatever Arrow says about bytes that no recorder finished writing, they are the torn tail.
            tail.problem = str(problem).partition("\n")[0]
        tail.torn_bytes = size - whole


def _check(batch: pa.RecordBatch, metadata: Any, number: int) -> None:
    # After a power cut a file may have its length but not its bytes. Offsets are checked before
    # anything follows them, then the content.
    batch.validate(full=True)
    stamp = dict(metadata or {})
    if int(stamp[b"number"]) != number or int(stamp[b"crc32"]) != _checksum(batch):
        raise ValueError("a block does not match its checksum")


def _create(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RecordingError(path.parent, f"is no folder to write to: {problem.strerror or problem}") from problem
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    except FileExistsError as problem:
        raise JournalTaken(path, "exists already, and nothing recorded is ever overwritten") from problem
    except OSError as problem:
        raise RecordingError(path.parent, f"cannot write here: {problem.strerror or problem}") from problem
    if not lock(descriptor, path):
        # Somebody's recovery took the empty file for a leftover in this very moment.
        os.close(descriptor)
        raise JournalTaken(path, "another process holds this journal; record into a folder of its own")
    return descriptor


# The only calls that reach the disk, by name, so that tests can make them fail as disks do.
def _write(descriptor: int, data: memoryview) -> int:
    return os.write(descriptor, data)


def _fdatasync(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)


class _Sink:
    """Gathers what Arrow writes for one block, so that it reaches the file in one piece."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> memoryview:
        parts, self._parts = self._parts, []
        return memoryview(b"".join(parts))


def _blocks(frames: Iterable[Frame | Run]) -> Iterator[list[Frame | Run]]:
    block: list[Frame | Run] = []
    size = 0
    for item in frames:
        size += size_bytes(item.payloads) if type(item) is Run else len(item.data)
        block.append(item)
        if size >= BLOCK_BYTES_MAX:
            yield block
            block, size = [], 0
    if block:
        yield block


def _batch(items: Sequence[Frame | Run]) -> pa.RecordBatch:
    lengths = np.fromiter((len(i) if type(i) is Run else 1 for i in items), np.int64, len(items))
    pieces: list[pa.Array] = []
    payloads: list[bytes] = []
    count = 0
    close_codes: dict[int, int] = {}
    details: dict[int, str] = {}
    directions = np.zeros(len(items), np.uint8)
    for place, item in enumerate(items):
        if type(item) is Run:
            count += len(item.payloads)
            if type(item.payloads) is Packed:
                pieces += [pa.array(payloads, pa.binary()), _unpacked(item.payloads)]
                payloads = []
            else:
                payloads += item.payloads
            continue
        if item.close_code is not None:
            close_codes[count] = item.close_code
        if item.detail:
            details[count] = item.detail
        directions[place] = _DIRECTION_CODES[item.direction]
        payloads.append(item.data)
        count += 1
    pieces.append(pa.array(payloads, pa.binary()))
    kinds = np.fromiter((_KIND_CODES[i.kind] for i in items), np.uint8, len(items))
    connections = np.fromiter((i.connection for i in items), np.int32, len(items))
    received_at = np.fromiter((i.received_at_ns for i in items), np.int64, len(items))
    monotonic = np.fromiter((i.monotonic_ns for i in items), np.int64, len(items))
    return pa.record_batch(
        [
            pa.array(np.repeat(connections, lengths)),
            pa.array(np.repeat(directions, lengths)),
            pa.array(np.repeat(kinds, lengths)),
            pa.array(np.repeat(received_at, lengths)),
            pa.array(np.repeat(monotonic, lengths)),
            pa.array([close_codes.get(i) for i in range(count)], pa.int32())
            if close_codes
            else pa.nulls(count, pa.int32()),
            pa.concat_arrays(pieces) if len(pieces) > 1 else pieces[0],
            pa.array([details.get(i) for i in range(count)], pa.string()) if details else pa.nulls(count, pa.string()),
        ],
        schema=_SCHEMA,
    )


def _unpacked(payloads: Packed) -> pa.Array:
    # For Arrow the block is payloads and the room between them by turns; it copies the payloads out without an object
    # for each.
    edges = np.empty(2 * len(payloads), np.int32)
    edges[0::2], edges[1::2] = payloads.offsets[:-1] + ROOM, payloads.offsets[1:]
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(payloads.block)]
    by_turns = pa.Array.from_buffers(pa.binary(), len(edges) - 1, buffers)
    return by_turns.take(pa.array(np.arange(0, len(edges), 2, dtype=np.int32)))


def _checksum(batch: pa.RecordBatch) -> int:
    # Buffers of a file read back may be padded, so each is cut to what its values take.
    count = batch.num_rows
    crc = zlib.crc32(str(count).encode())
    for name in ("connection", "direction", "kind", "received_at_ns", "monotonic_ns"):
        column = batch.column(name)
        crc = zlib.crc32(memoryview(column.buffers()[1])[: count * column.type.byte_width], crc)
    for name in ("close_code", "detail"):
        column = batch.column(name)
        if column.null_count != count:
            crc = zlib.crc32(repr(column.to_pylist()).encode(), crc)
    _, offsets, values = batch.column("data").buffers()
    ends = memoryview(offsets)[: (count + 1) * 4]
    crc = zlib.crc32(ends, crc)
    return zlib.crc32(memoryview(values)[: int(ends.cast("i")[-1])], crc) if values is not None and count else crc


def _frames(batch: pa.RecordBatch) -> Iterator[Frame]:
    columns = batch.to_pydict()
    for connection, direction, kind, received_at_ns, monotonic_ns, close_code, data, detail in zip(
        *(columns[name] for name in _SCHEMA.names), strict=True
    ):
        yield Frame(
            connection=connection,
            direction=DIRECTIONS[direction],  # type: ignore[arg-type]
            kind=KINDS[kind],  # type: ignore[arg-type]
            received_at_ns=received_at_ns,
            monotonic_ns=monotonic_ns,
            data=data,
            close_code=close_code,
            detail=detail or "",
        )
