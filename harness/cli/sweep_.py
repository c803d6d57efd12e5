"""`harness sweep`: search fault plans for silent failures, and shrink them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli._options import INTERRUPTED, check_folder, check_path, whole
from harness.cli.run_ import add_scenario_options, scenario_of

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_scenario_options(parser)
    parser.add_argument("--runs", type=whole(1), required=True, metavar="N", help="plans to try")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler whose workers judge the runs")
    parser.add_argument("--out", default="found", metavar="DIR", help="where reproducers are kept, as plans [found]")


def run(args: argparse.Namespace) -> int:
    """Search, shrink, keep; 1 when something silent was found."""
    from harness import sweep
    from harness.cli._progress import Progress
    from harness.recording import load_timeline

    base = scenario_of(args)
    check_path(args.path)
    check_folder(args.out)
    timeline = load_timeline(list(base.recordings))
    frames = timeline.frame_at(base.duration_ns) if base.duration_ns else len(timeline)
    print(f"seed {base.seed}, {args.runs} plans", file=sys.stderr)
    with sweep.make_executor(args.jobs, args.cluster) as executor, Progress(args.runs, args.jobs) as progress:
        swept = sweep.sweep(base, runs=args.runs, frames=frames, executor=executor, on_result=progress.advance)
    counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(swept.counts.items()))
    print(f"{swept.runs} plans: {counts}")
    for found in swept.found:
        print(f"\nSILENT  {found.key}: {found.cause}")
        print(
            f"        {', '.join(found.scenario.named_faults)}   ({_shrunk(found.runs, interrupted=swept.interrupted)})"
        )
        print(f"        reproduce: {found.scenario.reproduce()}")
        print(f"        kept as {sweep.save(found, Path(args.out))}")
    if swept.interrupted:
        print(f"harness: interrupted after {swept.runs} of {args.runs} plans", file=sys.stderr)
        return INTERRUPTED
    return 1 if swept.found else 0


def _shrunk(runs: int, *, interrupted: bool) -> str:
    if not runs:
        return "not shrunk" if interrupted else "as small as it gets"
    return f"shrunk in {runs} run{'s' * (runs != 1)}"
