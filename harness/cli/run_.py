"""`harness run`: your code against the exchange, judged."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli._options import (
    add_jobs,
    add_pace,
    add_plan,
    add_seed,
    check_file,
    check_path,
    plan_of,
    print_report,
    write_report,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report import Run
    from harness.runner import RunResult
    from harness.scenario import Scenario

EXAMPLE = """\
examples:
  harness run bot.flow:OrderFlowService --recording recordings/btcusdt.parquet
  harness run bot.flow:OrderFlowService --recording recordings/btcusdt.parquet --fault tcp.reset_peer@frame=250
  harness run bot.flow:OrderFlowService --recording recordings/btcusdt.parquet --faults all
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_scenario_options(parser)
    what = parser.add_argument_group("what goes wrong")
    add_plan(what)
    what.add_argument("--faults", metavar="LAYER[,LAYER]|all", help="one run for every fault of these layers")
    what.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="host.KIND",
        help="how the program around it runs it; one run for each",
    )
    out = parser.add_argument_group("output")
    out.add_argument("--format", choices=("text", "json", "junit", "html"), default="text")
    out.add_argument("--out", metavar="FILE", help="write the report here instead of to standard output")
    out.add_argument(
        "--dry-run", action="store_true", help="say what was found in the subject (tap, health, stop), and stop there"
    )
    out.add_argument(
        "--selfcheck",
        action="store_true",
        help="with --mode sim: run everything again in processes that hash and lie in memory differently, and compare",
    )
    out.add_argument("--verbose", action="store_true", help="let the subject's own output through, on standard error")
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_scenario_options(parser: argparse.ArgumentParser) -> None:
    """Add what `run` and `sweep` share."""
    parser.add_argument(
        "subject",
        metavar="SUBJECT",
        help="module:attribute, a class or factory called with no arguments, with start(symbols) and stop()",
    )
    parser.add_argument(
        "--recording", action="append", required=True, metavar="R", help="what the exchange plays; several are merged"
    )
    parser.add_argument("--mode", choices=("live", "sim"), default="live")
    parser.add_argument(
        "--symbol", action="append", default=[], metavar="S", help="passed to start() [those of the recording]"
    )
    parser.add_argument(
        "--tap", metavar="PATH", help="where the subject takes a trade: a dotted path from the subject, or module:path"
    )
    add_seed(parser)
    parser.add_argument("--deadline", default="60s", metavar="D", help="how long an incident may stay untold [60s]")
    add_pace(parser)
    parser.add_argument("--duration", metavar="D", help="play only so much of the tape")
    parser.add_argument("--path", default=".", metavar="DIR", help="folder to import the subject from [.]")
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    """Run, judge, report."""
    from harness import report, runner
    from harness.clock import monotonic_ns

    base = scenario_of(args)
    check_path(args.path)
    if args.dry_run:
        return _dry_run(base)
    scenarios = _scenarios(args, base)
    if args.out:
        check_file(args.out)
    from harness.cli._progress import Progress

    began_ns = monotonic_ns()
    jobs = _jobs(args.jobs, scenarios)
    with Progress(len(scenarios), min(jobs, len(scenarios))) as progress:
        results = runner.run_all(scenarios, jobs=jobs, on_result=progress.advance, verbose=args.verbose)
    runs = [as_run(result) for result in results]
    _raise_when_hopeless(results)
    if args.selfcheck:
        _selfcheck(scenarios)
    to_terminal = args.out is None and sys.stdout.isatty()
    text = report.render(runs, args.format, colour=to_terminal and args.format == "text")
    if args.out:
        write_report(text, args.out)
        print(f"{args.out}: {len(runs)} run{'s' * (len(runs) != 1)}", file=sys.stderr)
    else:
        print_report(text)
    if len(runs) > 1:
        print(f"{len(runs)} runs in {(monotonic_ns() - began_ns) / 1e9:.0f} s", file=sys.stderr)
    return report.exit_code(runs)


def _selfcheck(scenarios: list[Scenario]) -> None:
    from harness.errors import SubjectError
    from harness.runner.selfcheck import selfcheck

    for scenario in scenarios:
        found, named = selfcheck(scenario), " ".join(scenario.named_faults) or "no fault"
        if not found.same:
            one, other = found.first_difference or found.digests
            raise SubjectError(
                f"{named}: not the same in another process, which hashes text and addresses differently; "
                f"the first difference is\n  {one or 'nothing'}\n  {other or 'nothing'}"
            )
        print(f"selfcheck: {named}: the same, {found.digests[0][:16]}", file=sys.stderr)


def scenario_of(args: argparse.Namespace) -> Scenario:
    """The scenario that the options describe, without faults."""
    from harness.clock import parse_duration_ns
    from harness.errors import UsageError
    from harness.exchange.settings import MAX, parse_speed
    from harness.faults.plan import seed_of
    from harness.scenario import Scenario

    for recording in args.recording:
        if "://" not in recording and not Path(recording).exists():
            raise UsageError(
                f"{recording}: no such recording; `harness list recordings` shows what there is, "
                "and harness record, import and synth make one"
            )
    speed = parse_speed(args.speed)
    duration_ns = parse_duration_ns(args.duration) if args.duration is not None else None
    if duration_ns == 0:
        raise UsageError(f"--duration {args.duration}: nothing would be played; leave it out for the whole tape")
    deadline_ns = parse_duration_ns(args.deadline)
    if deadline_ns == 0:
        raise UsageError(f"--deadline {args.deadline}: nobody can tell in no time; leave it out for 60s")
    for symbol in args.symbol:
        if not symbol.strip():
            raise UsageError(f"--symbol {symbol!r}: names no symbol; leave it out for those of the recording")
    return Scenario(
        subject=args.subject,
        recordings=tuple(args.recording),
        path=args.path,
        symbols=tuple(symbol.upper() for symbol in args.symbol),
        mode=args.mode,
        tap=args.tap,
        seed=seed_of(args.seed, getattr(args, "plan", None)),
        deadline_ns=deadline_ns,
        speed=0.0 if speed == MAX else speed,
        retime=args.retime,
        duration_ns=duration_ns,
    )


def _scenarios(args: argparse.Namespace, base: Scenario) -> list[Scenario]:
    import msgspec

    from harness.faults.plan import format_fault, parse_fault

    planned = plan_of(args).faults
    hosts = [format_fault(fault) for fault in planned if fault.layer == "host"]
    hosts += [
        format_fault(parse_fault(text if text.startswith("host.") else f"host.{text}", "--host")) for text in args.host
    ]
    together = tuple(format_fault(fault) for fault in planned if fault.layer != "host")
    change = msgspec.structs.replace
    if args.faults is None:
        return [change(base, faults=together, host=host, plan=args.plan) for host in hosts or [base.host]]
    from harness.runner.each import each_fault

    hosts = hosts or ([base.host] if together else [])
    found = [change(base, faults=together, host=host, plan=args.plan) for host in hosts]
    return [*found, *each_fault(base, args.faults)]


def _jobs(jobs: int, scenarios: Sequence[Scenario]) -> int:
    # A simulated run never waits: more at a time than there are processors only get in each other's way.
    if any(scenario.mode == "sim" for scenario in scenarios):
        jobs = min(jobs, os.cpu_count() or 1)
    # One more than the single run, for the run without faults beside it.
    return max(2, min(jobs, len(scenarios) + 1))


def as_run(result: RunResult) -> Run:
    """A runner's result as a report takes it."""
    from harness import report

    return report.Run(
        scenario=result.scenario,
        verdict=result.verdict,
        digest=result.digest,
        wall_s=result.wall_s,
        tap=result.setting.tap,
        health=result.setting.health,
        trades=result.setting.trades,
        length_ns=result.setting.length_ns,
        marks=result.marks,
        unmet=result.unmet,
    )


def _raise_when_hopeless(results: Sequence[RunResult]) -> None:
    # A subject that does not import fails every run alike: one sentence, not two hundred.
    from harness.errors import SubjectError

    if all(result.fatal for result in results):
        raise SubjectError(results[0].verdict.reason.strip().splitlines()[-1])


def _dry_run(scenario: Scenario) -> int:
    import threading

    from harness.subjects import anatomy, find_tap, load

    before = set(threading.enumerate())
    with contextlib.redirect_stdout(sys.stderr):  # what the subject prints is no result of ours
        subject = load(scenario.subject, scenario.path)
    found = anatomy(subject, scenario.tap)
    tap = found.tap or find_tap(subject)
    print(f"subject  {scenario.subject} ({type(subject).__name__})")
    print(f"start    {found.start}({', '.join(scenario.symbols) or 'the symbols of the recording'})")
    print(f"stop     {found.stop or 'none found'}")
    print(f"tap      {tap or 'none found yet; it may come with start(), or name it with --tap PATH'}")
    print(f"health   {', '.join(found.health) or 'none found'}")
    if any(not thread.daemon and thread not in before for thread in threading.enumerate()):
        # A thread of the subject's would keep this process for ever, and nothing was started that need be ended.
        sys.stdout.flush()
        os._exit(0)
    return 0
