"""Where recordings are: a file, a folder of them, partitioned or not, or any URI that fsspec or pyarrow opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from harness.errors import RecordingError


def is_uri(place: str | Path) -> bool:
    """Whether a place is in an object store, and not on this machine."""
    return "://" in str(place)


def filesystem(place: str) -> tuple[Any, str]:
    """
    The file system of a URI, and the path in it.

    Raises:
        RecordingError: nothing here opens such a URI.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

        found, path = url_to_fs(place)
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path
    except (ImportError, ValueError):
        pass
    try:
        system, path = fs.FileSystem.from_uri(place)
        return system, str(path)
    except (pa.ArrowException, OSError, ValueError) as cause:
        raise RecordingError(place, f"cannot be opened: {cause}; for s3:// install aggtrade-harness[s3]") from cause


def files_of(place: str | Path) -> list[str]:
    """
    The recordings at a place, in the order of their names; a file is itself.

    Raises:
        RecordingError: there are none.
    """
    if is_uri(place):
        system, path = filesystem(str(place))
        about = system.get_file_info([path])[0]
        if about.type == fs.FileType.Directory:
            found = system.get_file_info(fs.FileSelector(path, recursive=True))
            scheme = str(place).split("://", 1)[0]
            names = sorted(f"{scheme}://{item.path}" for item in found if _is_recording(item.path))
        else:
            names = [str(place)]
    elif Path(place).is_dir():
        names = sorted(str(path) for path in Path(place).rglob("*.parquet") if _is_recording(str(path)))
    else:
        names = [str(place)]
    if not names:
        raise RecordingError(place, "holds no recording (*.parquet)")
    return names


def _is_recording(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.endswith(".parquet") and not name.startswith(".")


def opened(place: str) -> Any:
    """A random-access file, for reading."""
    try:
        if is_uri(place):
            system, path = filesystem(place)
            return system.open_input_file(path)
        return pa.memory_map(place) if Path(place).stat().st_size else pa.OSFile(place)
    except FileNotFoundError as cause:
        raise RecordingError(place, "there is no such file") from cause
    except (OSError, pa.ArrowException) as cause:
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else cause
        raise RecordingError(place, f"cannot be read: {reason}") from cause
