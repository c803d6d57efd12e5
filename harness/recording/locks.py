"""Locks that end with the process that holds them, so that a crash never leaves one behind."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Far behind any byte we write: Windows locks bytes, and refuses others to read them.
_LOCK_AT = 1 << 62


def lock(descriptor: int, path: Path) -> bool:
    """
    Take the lock of an open file, without waiting.

    A file may be deleted by its previous owner between our open and our lock. Then we would hold the lock of a
    file that has no name, while somebody else makes a new one; so the name is looked up again under the lock.

    Args:
        descriptor: the open file.
        path: its name.

    Returns:
        True when we hold the lock and the name still leads to this file.
    """
    try:
        _take(descriptor)
    except OSError:
        return False
    try:
        named, opened = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


if sys.platform == "win32":  # pragma: no cover - the other branch runs here
    import msvcrt

    def _take(descriptor: int) -> None:
        where = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCK_AT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, where, os.SEEK_SET)

    def sync_folder(folder: Path) -> None:
        """Windows makes names durable by itself."""

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def sync_folder(folder: Path) -> None:
        """Make the names in a folder durable: a renamed file is only safe once its folder is."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            # Some file systems (network shares, FUSE) cannot sync a folder. The file itself is safe.
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
