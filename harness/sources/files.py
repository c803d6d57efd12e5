"""Opening whatever the user has: plain, gzip or zip, read as a stream of lines."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from harness.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE_BYTES_MAX = 64 << 20
"""A `!ticker@arr` frame has about a megabyte; a REST answer on one line a few."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """
    Open a file for reading, unpacked.

    Raises:
        RecordingError: it is not there, is torn, or is an archive of several files.
    """
    try:
        with path.open("rb") as plain:
            magic = plain.read(4)
            plain.seek(0)
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(plain) as unpacked:
                    yield unpacked  # type: ignore[misc]
            elif magic == b"PK\x03\x04":
                yield from _zipped(path, plain)
            else:
                yield plain
    except OSError as cause:
        raise RecordingError(path, f"cannot be read: {cause.strerror or cause}") from cause
    except (EOFError, zlib.error, zipfile.BadZipFile) as cause:
        raise RecordingError(path, f"is torn ({cause}); fetch it again") from cause


def _zipped(path: Path, plain: IO[bytes]) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(plain) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise RecordingError(path, f"holds {len(names)} files; one CSV is expected, as in the public archive")
        with archive.open(names[0]) as unpacked:
            yield unpacked


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, unpacked: what a reader is chosen by."""
    with opened(path) as stream:
        return stream.read(size)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, without their ends."""
    with opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            yield number, line.rstrip(b"\r\n")
