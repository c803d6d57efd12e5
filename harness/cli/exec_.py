"""`harness exec`: any program, with the real hosts redirected to the exchange, or recorded on their way."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli._options import add_pace, add_plan, add_seed, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.runner.program import ProgramResult

EXAMPLE = """\
examples:
  harness exec --recording recordings/btcusdt.parquet --fault tcp.reset_peer@frame=250 -- python app.py
  harness exec --record --out recordings -- python app.py

The exit code is that of the program; 2 when the redirect did not take in it (python -I, -E and -S switch it off).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.usage = "harness exec [options] -- COMMAND ARGS..."
    parser.add_argument("--recording", action="append", default=[], metavar="R", help="what the exchange plays")
    parser.add_argument(
        "--record", action="store_true", help="let it talk to the real exchange, and record what it gets"
    )
    parser.add_argument("--out", default="recordings", metavar="DIR", help="with --record: where to [recordings]")
    parser.add_argument(
        "--upstream", metavar="HOST:PORT", help="with --record: dial this instead of the host that the program names"
    )
    parser.add_argument("--cafile", metavar="PEM", help="with --record: trust this authority for the exchange only")
    add_plan(parser)
    add_seed(parser)
    add_pace(parser)
    parser.add_argument(
        "--patience",
        default="10s",
        metavar="D",
        help="how long the program may run before the redirect has taken [10s]",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ARGS...", help="the program")
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(args: argparse.Namespace) -> int:
    """Run the program and pass on its exit code."""
    from harness.clock import parse_duration_ns
    from harness.errors import UsageError

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError("no program to run; write harness exec --recording R -- python app.py")
    if args.record and (args.recording or args.fault or args.plan):
        raise UsageError("--record talks to the real exchange: it takes no --recording, --plan or --fault")
    if not args.record and not args.recording:
        raise UsageError("give --recording R for the exchange to play, or --record to record the real one")
    patience_s = parse_duration_ns(args.patience) / 1e9
    result = _record(args, command, patience_s) if args.record else _replay(args, command, patience_s)
    if result.ended_by_us or not result.took:
        what = "was ended" if result.ended_by_us else f"exited with {result.code}"
        print(
            f"harness: the redirect did not take in {command[0]}, so it {what} unjudged; "
            "it works in Python (without -I, -E, -S) "
            "and node programs, and in what they start",
            file=sys.stderr,
        )
        return 2
    programs = ", ".join(sorted({Path(program).name for program in result.took.values()}))
    print(
        f"harness: redirected {len(result.took)} process{'es' * (len(result.took) != 1)} ({programs}); "
        f"exit code {result.code}",
        file=sys.stderr,
    )
    return result.code


def _replay(args: argparse.Namespace, command: list[str], patience_s: float) -> ProgramResult:
    from harness.errors import UsageError
    from harness.exchange.settings import ExchangeSettings, parse_speed
    from harness.recording import load_timeline
    from harness.runner.program import describe, run_program
    from harness.script import check
    from harness.transports.live import LiveExchange

    plan = plan_of(args)
    for fault in plan.faults:
        if fault.layer == "host":
            raise UsageError(f"{fault.name}: hosts run a subject inside harness; use harness run")
    settings = ExchangeSettings(speed=parse_speed(args.speed), retime=args.retime, seed=plan.seed)
    timeline = load_timeline(args.recording)
    check(plan, timeline)  # a fault that never strikes would pass for one that was survived
    with LiveExchange(timeline, plan, settings=settings, tls=True) as live:
        urls = live.urls
        plain, secure = (int((urls[name] or ":0").rpartition(":")[2]) for name in ("ws", "wss"))
        ports = {80: plain, 8080: plain, 443: secure, 9443: secure}
        result = run_program(command, live.gate, urls["cafile"], ports=ports, patience_s=patience_s)
        for line in describe(live.ledger):
            print(f"harness: {line}", file=sys.stderr)
    return result


def _upstream(text: str) -> Callable[[str, int], tuple[str, int]]:
    from harness.errors import UsageError

    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"--upstream {text}: expected HOST:PORT, for example 127.0.0.1:9443")
    return lambda _host, _port: (host, int(port))


def _record(args: argparse.Namespace, command: list[str], patience_s: float) -> ProgramResult:
    from harness.actions import Tls
    from harness.recorder.proxy import RecordingProxy
    from harness.runner.program import run_program
    from harness.transports.authority import Authority

    authority = Authority()
    try:
        context = authority.context(Tls())
        upstream = _upstream(args.upstream) if args.upstream else None
        with RecordingProxy(Path(args.out), context=context, cafile=args.cafile, upstream=upstream) as proxy:
            result = run_program(command, proxy.gate, str(authority.cafile), ports={}, patience_s=patience_s)
        for path in proxy.paths:
            print(f"harness: recorded {path}", file=sys.stderr)
        print(f"harness: {proxy.frame_count} frames on {proxy.connection_count} connections", file=sys.stderr)
    finally:
        authority.close()
    return result
