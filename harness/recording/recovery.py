"""From journals to recordings: after a recording ended, or after a crash.

A recording appears under its name only when it is whole and durable (temporary file, fsync, rename, fsync of the
folder); only then is its journal removed. Whatever moment the power goes, the frames are in one of the two.
"""

from __future__ import annotations

import contextlib
import os
import re
from glob import escape
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import RecordingError
from harness.frames import Frame, split_wrapped
from harness.recording.journal import SUFFIX, Header, Tail, read_header, read_journal
from harness.recording.locks import lock, sync_folder
from harness.recording.names import partition

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER_BYTES_MAX = 64 << 10
"""A journal that was torn inside its header is shorter than this; anything longer is not ours."""
FRAMES_AT_ONCE = 4096
NO_SYMBOL = "ALL"
"""Partition of frames that belong to no single symbol (`!miniTicker@arr`)."""
_SYMBOL = re.compile(rb'"s"\s*:\s*"([^"]{1,64})"')


class Recovered(msgspec.Struct, kw_only=True):
    """What was made of one journal."""

    journal: Path
    recordings: list[Path] = []
    frame_count: int = 0
    torn_bytes: int = 0
    problem: str = ""
    """Why nothing was made of it: locked by a running recorder, no journal of ours, the disk."""
    destination: str = ""
    """Where the recorder meant to upload the recordings."""
    endpoint: str = ""
    """Whose feed they hold, without secrets."""


class Abandoned(RecordingError):  # noqa: N818 - it is not an error
    """Somebody stopped the work; the journal is as it was."""


def recover(folder: Path, *, report: Callable[[Recovered], None] = lambda _: None) -> list[Path]:
    """
    Turn every journal in a folder that no running recorder holds into recordings.

    Args:
        folder: where a recorder wrote.
        report: gets one answer per journal, as soon as it is known.

    Returns:
        The recordings made, in the order of their journals.

    Raises:
        RecordingError: the folder cannot be read.
    """
    if not folder.is_dir():
        raise RecordingError(folder, "is no folder; name the folder that the recorder wrote to")
    made: list[Path] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        outcome = _recover_one(path)
        if outcome is not None:
            made += outcome.recordings
            report(outcome)
    return made


def _recover_one(path: Path) -> Recovered | None:
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None  # its recorder finished just now
    except OSError as problem:
        return Recovered(journal=path, problem=f"cannot be opened: {problem.strerror}")
    try:
        if not lock(descriptor, path):
            return Recovered(journal=path, problem="a running recorder holds it") if path.exists() else None
        header = read_header(path)
        tail = Tail()
        made = compact(path, tail=tail)
        return Recovered(
            journal=path,
            recordings=made,
            frame_count=tail.frame_count,
            torn_bytes=tail.torn_bytes,
            destination=header.destination if header else "",
            endpoint=header.endpoint if header else "",
        )
    except (RecordingError, OSError) as problem:
        return Recovered(journal=path, problem=str(problem))
    finally:
        os.close(descriptor)


def compact(path: Path, *, tail: Tail | None = None, is_abandoned: Callable[[], bool] = lambda: False) -> list[Path]:
    """
    Turn one journal, whose lock the caller holds, into recordings, and remove it.

    Args:
        path: the journal.
        tail: is filled in: how much was whole, how much was torn.
        is_abandoned: asked now and then; True leaves everything as it was.

    Returns:
        The recordings; none when the journal holds no frame.

    Raises:
        RecordingError: it is no journal, or the disk refuses. The journal is as it was.
    """
    tail = tail if tail is not None else Tail()
    header = read_header(path)
    if header is None:
        _drop_stump(path)
        tail.torn_bytes = 0
        return []
    parts = _Parts(path, header)
    try:
        block: list[Frame] = []
        for frame in read_journal(path, tail):
            block.append(frame)
            if len(block) >= FRAMES_AT_ONCE:
                if is_abandoned():
                    raise Abandoned(path, "left for later")
                parts.write(block)
                block = []
        parts.write(block)
        made = parts.close()
    except BaseException:
        parts.discard()
        raise
    path.unlink()
    sync_folder(path.parent)
    return made


def _drop_stump(path: Path) -> None:
    # Header and lock come before the first frame, so a file torn inside its header holds none.
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES_MAX + 1)
    magic = b"\xff\xff\xff\xff"  # of Arrow's stream format
    ours = len(start) <= HEADER_BYTES_MAX and (not start.strip(b"\0") or start[:4] == magic[: len(start)])
    if not ours:
        raise RecordingError(path, "is no journal that this harness can read; it was left as it is")
    path.unlink()


class _Parts:
    """The recordings that one journal becomes: one, or one per symbol and day."""

    def __init__(self, journal: Path, header: Header) -> None:
        self._journal = journal
        self._header = header
        self._writers: dict[Path, Any] = {}

    def write(self, frames: list[Frame]) -> None:
        if not frames:
            return
        if not self._header.partitioned:
            self._writer(self._journal.parent / self._header.target, self._header.symbols).write(frames)
            return
        for (symbol, folder), chosen in self._sorted(frames).items():
            self._writer(self._journal.parent / folder / self._header.target, (symbol,)).write(chosen)

    def _sorted(self, frames: list[Frame]) -> dict[tuple[str, str], list[Frame]]:
        # What concerns the connection (open, lost, pings, acknowledgements) goes to every symbol:
        # each recording must say by itself where it is blind.
        symbols = [s.upper() for s in self._header.symbols] or [NO_SYMBOL]
        chosen: dict[tuple[str, str], list[Frame]] = {}
        for frame in frames:
            symbol = symbols[0] if len(symbols) == 1 else _symbol(frame)
            for name in [symbol] if symbol else symbols:
                chosen.setdefault((name, partition(name, frame.received_at_ns)), []).append(frame)
        return chosen

    def _writer(self, path: Path, symbols: tuple[str, ...]) -> Any:
        from harness.recording import RecordingWriter  # noqa: PLC0415 - it imports this package's other half

        if path not in self._writers:
            path.parent.mkdir(parents=True, exist_ok=True)
            place = _free(path)
            _clear(path, place)
            self._writers[path] = RecordingWriter(
                place, endpoint=self._header.endpoint, symbols=symbols, source=self._header.source
            )
        return self._writers[path]

    def close(self) -> list[Path]:
        made = []
        for path, writer in self._writers.items():
            writer.close()
            made.append(path)
            if writer.path != path:
                # The name was taken: by a recording of somebody's, or by our own, finished just before a
                # crash that left its journal behind. Twice the same would be a market that trades double.
                twin = _twin(path, writer.path)
                made[-1] = twin or writer.path
                if twin:
                    writer.path.unlink()
        return made

    def discard(self) -> None:
        for writer in self._writers.values():
            with contextlib.suppress(Exception):
                writer.discard()


def _free(path: Path) -> Path:
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def _clear(path: Path, place: Path) -> None:
    # What an earlier attempt left half written. The name in the journal is ours alone, as we hold
    # the journal's lock; another name only if whoever began it is dead.
    for name in {path.name, place.name}:
        for stump in path.parent.glob(f".{escape(name)}.*.part"):
            if name == path.name or not _is_alive(stump.name.split(".")[-2]):
                stump.unlink(missing_ok=True)


def _is_alive(process: str) -> bool:
    if os.name != "posix" or not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _twin(path: Path, made: Path) -> Path | None:
    candidates = sorted(path.parent.glob(f"{escape(path.stem)}*{path.suffix}"))
    return next((other for other in candidates if other != made and _same(other, made)), None)


def _same(one: Path, other: Path) -> bool:
    from harness.recording import open_recording  # noqa: PLC0415

    try:
        if open_recording(one).metadata.frame_count != open_recording(other).metadata.frame_count:
            return False
        pairs = zip_longest(open_recording(one).frames(), open_recording(other).frames())
        return all(a == b for a, b in pairs)
    except RecordingError:
        return False


def _symbol(frame: Frame) -> str:
    stream, payload = split_wrapped(frame.data)
    if stream:
        head, at, _ = stream.partition("@")
        return head.upper() if at and not head.startswith("!") else ""
    if frame.kind == "gap":
        head, at, _ = frame.detail.partition("@")
        return head.upper() if at else ""
    found = _SYMBOL.search(payload) if frame.kind in {"text", "binary"} else None
    return found[1].decode("utf-8", "replace").upper() if found else ""
