"""`harness synth`: make a market."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli._options import check_folder, seed, whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from harness.frames import Frame

    from ._reading import RowProgress


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "--profile", default="normal", metavar="P", help="normal, quiet, burst, whales or crash [normal]"
    )
    parser.add_argument("--symbol", default="btcusdt", metavar="S", help="[btcusdt]")
    parser.add_argument("--frames", type=whole(1), metavar="N", help="how many trades")
    parser.add_argument("--duration", metavar="D", help="how long: 30s, 10m, 24h")
    parser.add_argument("--rate", type=float, metavar="R", help="trades per second on average [the profile's own]")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="the same seed gives the same market [0]")
    parser.add_argument("--out", required=True, metavar="FILE", help="the recording to write (.parquet)")
    parser.add_argument("--side-file", action="store_true", help="write a .json beside it: sha256, source, licence")


def run(args: argparse.Namespace) -> int:
    """Make the market and say what was made."""
    from pathlib import Path

    from harness.cli import _side_file
    from harness.cli._reading import RowProgress
    from harness.clock import parse_duration_ns
    from harness.errors import UsageError
    from harness.recording import RecordingWriter
    from harness.sources import synth

    if not args.symbol.replace("_", "").isalnum():
        raise UsageError(f"--symbol {args.symbol!r}: letters and digits, for example btcusdt")
    frames = synth.make(
        args.profile,
        args.symbol,
        frames=args.frames,
        duration_ns=None if args.duration is None else parse_duration_ns(args.duration),
        rate=args.rate,
        seed=args.seed,
    )
    remark = f"synthetic: profile {args.profile}, seed {args.seed}; no exchange ever sent these trades"
    path = Path(args.out)
    if path.suffix != ".parquet":
        raise UsageError(f"--out {args.out}: a recording's name ends in .parquet, as in {path.with_suffix('.parquet')}")
    check_folder(str(path.parent))
    writer = RecordingWriter(path, endpoint="", symbols=[args.symbol], source="synthetic", remarks=[remark])
    with RowProgress("made", args.frames) as progress, writer:
        writer.write(_counted(frames, progress))
    about = writer.metadata
    print(f"{path}: {about.frame_count:,} trades of {args.symbol.upper()}, {path.stat().st_size:,} bytes, synthetic")
    if args.side_file:
        print(_side_file.write(path, about, source=f"synthetic: {_again(args)}", licence="MIT, as this project"))
    return 0


def _again(args: argparse.Namespace) -> str:
    """The command that makes the same market once more."""
    given = [("--profile", args.profile), ("--symbol", args.symbol), ("--seed", args.seed)]
    given += [("--frames", args.frames), ("--duration", args.duration), ("--rate", args.rate)]
    return " ".join(["harness synth", *(f"{option} {value}" for option, value in given if value is not None)])


def _counted(frames: Iterator[Frame], progress: RowProgress) -> Iterator[Frame]:
    for frame in frames:
        progress.advance(1)
        yield frame
