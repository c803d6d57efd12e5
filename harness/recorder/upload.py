"""Finished recordings to an object store: uploaded, read back, compared; only then removed here.

The journal is always local: an object store cannot append, and a network is no place for the last second. What
cannot be uploaded stays in the folder, and the next attempt takes it along.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from harness.errors import RecordingError, UsageError
from harness.recorder.endpoints import public_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

CHUNK_BYTES = 8 << 20
ATTEMPTS_MAX = 4
PAUSE_S = 1.0
"""Before the second attempt; doubled each time."""


class Uploader:
    """
    Puts finished recordings under a URI.

    Args:
        destination: `s3://bucket/path`, or whatever else pyarrow or fsspec opens.
        root: folder of the recordings; their path below it is kept.
        pause_s: before the second attempt.

    Raises:
        UsageError: nothing here opens such a URI.
    """

    def __init__(self, destination: str, *, root: Path, pause_s: float = PAUSE_S) -> None:
        self.destination = public_url(destination)
        self.waiting: list[Path] = []
        """Recordings that could not be uploaded yet."""
        self.uploaded: list[str] = []
        self._root = root
        self._pause_s = pause_s
        self._files, self._base = _open(destination)
        self._never = threading.Event()

    def take_along(self) -> None:
        """Remember the recordings that earlier runs left in the folder; they go with the next one."""
        self.waiting += [path for path in sorted(self._root.rglob("*.parquet")) if path not in self.waiting]

    def deliver(self, path: Path) -> None:
        """Upload a recording, and whatever waits since an earlier failure. Never raises: what fails stays here."""
        waiting, self.waiting = [*self.waiting, path], []
        for each in waiting:
            try:
                self.upload(each)
            except RecordingError as problem:
                log.warning("%s", problem)
                self.waiting.append(each)

    def upload(self, path: Path, *, attempts: int = ATTEMPTS_MAX) -> str:
        """
        Upload one recording, verify it, and remove it here.

        Returns:
            Where it is.

        Raises:
            RecordingError: it could not be done; the recording is as it was.
        """
        try:
            digest, size = _digest(path.open("rb"))
        except OSError as failure:
            raise RecordingError(path, f"cannot be read: {failure.strerror or failure}") from failure
        name = path.relative_to(self._root).as_posix()
        problem: Exception | None = None
        for attempt in range(attempts):
            if attempt:
                self._never.wait(self._pause_s * 2 ** (attempt - 1))
            try:
                where = self._place(name, digest, size)
                self._put(path, where)
                self._verify(where, digest, size)
            except Exception as failure:  # each store has errors of its own
                problem = failure
                log.info("Upload of %s, attempt %d: %s", name, attempt + 1, failure)
                continue
            path.unlink(missing_ok=True)  # another recorder with this folder may have taken it along
            self.uploaded.append(where)
            return where
        words = str(problem).partition("\n")[0]
        raise RecordingError(path, f"not uploaded to {self.destination} ({words}); it stays here") from problem

    def _place(self, name: str, digest: str, size: int) -> str:
        # Nothing there is overwritten, except what an attempt of ours left half done or whole.
        stem, dot, suffix = name.rpartition(".")
        for number in range(1, 1000):
            where = f"{self._base}/{name if number == 1 else f'{stem}-{number}{dot}{suffix}'}"
            found = self._size(where)
            if found is None or (found == size and _digest(self._files.open_input_stream(where))[0] == digest):
                return where
        raise RecordingError(name, "a thousand recordings there have this name")

    def _size(self, where: str) -> int | None:
        from pyarrow.fs import FileType  # noqa: PLC0415 - recorders without a store never load it

        found = self._files.get_file_info(where)
        return None if found.type == FileType.NotFound else int(found.size or 0)

    def _put(self, path: Path, where: str) -> None:
        if self._size(where) is not None:
            return  # an earlier attempt got through, though its answer did not
        folder = where.rpartition("/")[0]
        self._files.create_dir(folder, recursive=True)
        with path.open("rb") as source, self._files.open_output_stream(where) as sink:
            while block := source.read(CHUNK_BYTES):
                sink.write(block)

    def _verify(self, where: str, digest: str, size: int) -> None:
        found, found_size = _digest(self._files.open_input_stream(where))
        if (found, found_size) != (digest, size):
            self._files.delete_file(where)
            raise RecordingError(where, f"holds {found_size} bytes that are not the {size} sent")


def _open(destination: str) -> tuple[Any, str]:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import fs  # noqa: PLC0415

    try:
        files, base = fs.FileSystem.from_uri(destination)
    except (pa.ArrowException, ValueError, OSError) as problem:
        try:
            import fsspec  # noqa: PLC0415

            store, base = fsspec.core.url_to_fs(destination)
            files = fs.PyFileSystem(fs.FSSpecHandler(store))
        except Exception:
            words = str(problem).partition("\n")[0]
            raise UsageError(f"{public_url(destination)} cannot be opened: {words}") from problem
    return files, base.rstrip("/")


def _digest(file: Any) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    read: Callable[[int], bytes] = file.read
    with file:
        while block := read(CHUNK_BYTES):
            sha.update(block)
            size += len(block)
    return sha.hexdigest(), size
