"""Starts a worker process whose hashes, addresses and environment are the same in every run.

Some of it cannot be set from inside: the seed of text hashes is fixed when the interpreter starts, and the
layout of memory, by which sets of ordinary objects are ordered, when the process does. So this file is
run first, as a script of the standard library alone, and becomes the worker.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = ("HOME", "LANG", "PATH", "PYTHONPATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV")
"""What a simulated process sees of our environment: enough to find Python and its packages, no more."""
ADDR_NO_RANDOMIZE = 0x0040000


def environment(of: Mapping[str, str], *, hash_seed: int = 0) -> dict[str, str]:
    """
    The environment of a simulated process.

    Args:
        of: ours.
        hash_seed: another one must not change the run; the self check tries.
    """
    kept = {name: of[name] for name in KEPT if name in of}
    return kept | {"PYTHONHASHSEED": str(hash_seed), "PYTHONUNBUFFERED": "1", "TZ": "UTC"}


def command(*arguments: str, fixed_layout: bool = True) -> list[str]:
    """
    The command line that runs Python with `arguments`.

    Args:
        fixed_layout: without address randomisation, where the system allows that.
    """
    if not fixed_layout or not sys.platform.startswith("linux"):
        return [sys.executable, *arguments]
    return [sys.executable, "-I", "-S", __file__, *arguments]


def main() -> None:
    """Fix the layout of memory and become the worker."""
    try:
        # Refused in some containers; the self check then says whether it matters.
        ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
    except (OSError, AttributeError):
        pass
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - becoming is the point


if __name__ == "__main__":
    main()
