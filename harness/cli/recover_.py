"""`harness recover`: turn what a crash left behind into recordings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import argparse

    from harness.recording.recovery import Recovered


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("folder", metavar="DIR", help="the folder that a recorder wrote to")


def run(args: argparse.Namespace) -> int:
    """Recover every journal that no running recorder holds."""
    from pathlib import Path

    from harness.recording.recovery import recover

    seen: list[Recovered] = []

    def report(one: Recovered) -> None:
        seen.append(one)
        show(one, file=sys.stdout)

    recover(Path(args.folder), report=report)
    for one in seen:
        if one.destination and one.recordings:
            print(f"{one.journal.name}: was meant for {one.destination}; record there again to have it uploaded")
    if not seen:
        print(f"{args.folder}: nothing to recover")
    return 2 if any(one.problem and "running recorder" not in one.problem for one in seen) else 0


def show(one: Recovered, *, file: TextIO) -> None:
    """Say what was made of a journal."""
    if one.problem:
        print(f"{one.journal.name}: {one.problem}", file=sys.stderr)
        return
    torn = f"; a torn tail of {one.torn_bytes} bytes was left out" if one.torn_bytes else ""
    for path in one.recordings:
        print(f"{path}: recovered from {one.journal.name}, {one.frame_count} frames{torn}", file=file)
    if not one.recordings:
        print(f"{one.journal.name}: held no frame, and was removed{torn}", file=file)
