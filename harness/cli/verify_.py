"""`harness verify`: prove that a recording is whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SHOWN = 20
"""Problems printed of each file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("recordings", nargs="+", metavar="RECORDING", help="files, folders or URIs")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Check each; 1 when one is not what was written or lacks trades without saying so, 2 when one cannot be opened."""
    import json

    import msgspec

    from harness.cli._reading import RowProgress
    from harness.errors import RecordingError
    from harness.recording import open_recording
    from harness.recording.verify import verify

    worst, found = 0, []
    for place in args.recordings:
        try:
            recording = open_recording(place)
            with RowProgress("verified", len(recording)) as progress:
                problems = verify(place, progress=progress.advance)
        except RecordingError as mistake:
            print(f"harness: {mistake}", file=sys.stderr)
            worst = 2
            continue
        found += problems
        worst = max(worst, 0 if all(problem.severity in {"told", "note"} for problem in problems) else 1)
        if args.format == "text":
            for problem in problems[:SHOWN]:
                print(f"{problem.severity:7} {problem}")
            if len(problems) > SHOWN:
                print(f"        and {len(problems) - SHOWN:,} more")
            counts = {word: sum(p.severity == word for p in problems) for word in ("broken", "hole", "told")}
            verdict = "whole" if not counts["broken"] else f"{counts['broken']} broken"
            if holes := counts["hole"] + counts["told"]:
                verdict += f", {holes} holes in the ids, {counts['told']} of them marked as such"
            about = recording.metadata
            print(
                f"{place}: {about.frame_count:,} rows, {verdict}"
                + (f", digest {about.digest[:16]}" if about.digest else "")
            )
    if args.format == "json":
        json.dump(msgspec.to_builtins(found), sys.stdout, indent=2)
        print()
    return worst
