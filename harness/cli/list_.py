"""`harness list`: what there is to name on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    Row = tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("what", choices=("faults", "hosts", "checks", "recordings"))
    parser.add_argument("--dir", default="recordings", metavar="DIR", help="where to look for recordings [recordings]")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Print one line for each, in the order in which data meets them."""
    listers: dict[str, Callable[[], Iterable[Row]]] = {
        "faults": _faults,
        "hosts": _hosts,
        "checks": _checks,
        "recordings": lambda: _recordings(Path(args.dir)),
    }
    rows = list(listers[args.what]())
    if args.format == "json":
        import json

        json.dump([{"name": name, "summary": summary} for name, summary, *_ in rows], sys.stdout, indent=2)
        print()
        return 0
    if not rows:
        print(f"nothing in {args.dir}")
        return 0
    width = max(len(name) for name, *_ in rows)
    layer = ""
    for name, summary, *_ in rows:
        # A blank line between layers: two hundred lines in one block help nobody.
        if args.what == "faults" and layer not in ("", name.partition(".")[0]):
            print()
        layer = name.partition(".")[0]
        print(f"{name:{width}}  {summary}".rstrip())
    return 0


def _faults() -> Iterable[Row]:
    from harness import faults

    return [(name, faults.summary(kind)) for name, kind in faults.catalogue().items()]


def _hosts() -> Iterable[Row]:
    from harness import faults

    return [(name, faults.summary(kind)) for name, kind in faults.catalogue().items() if name.startswith("host.")]


def _checks() -> Iterable[Row]:
    from harness import checks

    return [(name, summary) for name, summary in checks.summaries().items()]


def _recordings(folder: Path) -> Iterable[Row]:
    from harness.errors import RecordingError, UsageError
    from harness.recording import open_recording

    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder; name one with --dir, or make a recording with harness record or synth"
        )
    for path in sorted(folder.rglob("*.parquet")):
        try:
            metadata = open_recording(path).metadata
        except RecordingError as problem:
            # One bad file hides none of the others.
            yield str(path), f"({problem.problem})"
            continue
        symbols = ", ".join(metadata.symbols) or "no symbol"
        yield str(path), f"{metadata.frame_count} frames  {symbols}  {metadata.source}"
