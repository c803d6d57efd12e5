"""`harness recover`: turn what a crash left behind into recordings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from harness.recording.recovery import Recovered


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("folder", metavar="DIR", help="the folder that a recorder wrote to, or that of its journals")
    parser.add_argument(
        "--out",
        default="",
        metavar="URI",
        help="object store for what is recovered and what waits in DIR; default: where each recorder meant it to go",
    )


def run(args: argparse.Namespace) -> int:
    """Recover every journal that no running recorder holds, and upload what was meant for an object store."""
    from pathlib import Path

    from harness.recording.recovery import recover

    seen: list[Recovered] = []

    def report(one: Recovered) -> None:
        seen.append(one)
        show(one, file=sys.stdout)

    folder = Path(args.folder)
    recover(folder, report=report)
    wanted: dict[str, list[Path]] = {args.out: []} if args.out else {}
    for one in seen:
        if place := args.out or one.destination:
            wanted.setdefault(place, []).extend(one.recordings)
    failed = sum(_upload(place, paths, folder, all_=bool(args.out)) for place, paths in wanted.items())
    if not seen:
        print(f"{args.folder}: nothing to recover")
    return 2 if failed or any(one.problem and "running recorder" not in one.problem for one in seen) else 0


def _upload(place: str, paths: list[Path], folder: Path, *, all_: bool) -> int:
    # Returns how many could not be uploaded; they stay where they are.
    from harness.errors import HarnessError
    from harness.recorder.endpoints import HIDDEN
    from harness.recorder.upload import Uploader

    if HIDDEN in place:
        print(f"harness: {place}: the address has a secret, which no journal keeps; give it as --out", file=sys.stderr)
        return len(paths)
    uploader = Uploader(place, root=folder)
    if all_:
        uploader.take_along()
    failed = 0
    for path in dict.fromkeys([*paths, *uploader.waiting]):
        try:
            print(f"{path}: uploaded to {uploader.upload(path)}")
        except HarnessError as problem:
            print(f"harness: {problem}", file=sys.stderr)
            failed += 1
    return failed


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
