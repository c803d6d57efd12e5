"""`harness export`: a recording to JSON lines or archive CSV."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("recording", metavar="RECORDING")
    parser.add_argument(
        "--to",
        required=True,
        choices=("jsonl", "csv"),
        help="jsonl: one object a frame, nothing lost; csv: aggTrades in the layout of the public spot archive",
    )
    parser.add_argument("--out", metavar="FILE", help="[standard output]")


def run(args: argparse.Namespace) -> int:
    """Write the recording out."""
    from harness.cli._reading import RowProgress
    from harness.recording import open_recording
    from harness.recording.export import WRITERS

    recording = open_recording(args.recording)
    with RowProgress("exported", len(recording)) as progress, _sink(args.out) as sink:
        skipped = WRITERS[args.to](recording, sink, progress.advance)
    for reason, count in skipped.items():
        print(f"skipped {count:,}: {reason}", file=sys.stderr)
    return 0


@contextmanager
def _sink(out: str | None) -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from pathlib import Path

    from harness.errors import UsageError

    try:
        file = Path(out).open("xb")  # noqa: SIM115 - closed below
    except FileExistsError as cause:
        raise UsageError(f"{out} is there already; name another file") from cause
    except OSError as cause:
        raise UsageError(f"{out} cannot be written: {cause.strerror}") from cause
    with file:
        yield file
