"""The command line: one file per verb, imported only when that verb is used.

A verb module has `configure(parser)`, which adds its options, and `run(args) -> int`, which parses,
calls one function and prints. Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from harness.cli._options import INTERRUPTED, Parser
from harness.errors import HarnessError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "record": "capture live frames from the exchange into a recording",
    "serve": "serve recordings from a local exchange that can misbehave",
    "run": "run your code against the exchange and judge it",
    "exec": "run any program with the real hosts redirected, or recorded",
    "sweep": "search fault plans for silent failures, and shrink them",
    "import": "turn other people's captures into a recording",
    "export": "turn a recording into JSON lines or CSV",
    "synth": "make a market by a seeded model",
    "list": "list faults, hosts, checks or recordings",
    "inspect": "show what is inside a recording",
    "verify": "prove that a recording is whole",
    "recover": "turn what a crash left behind into recordings",
    "doctor": "find out why no data arrives, step by step",
    "demo": "the whole story in two minutes",
}

EXIT_CODES = "exit codes: 0 nothing silent; 1 silent findings; 2 could not judge, or bad input; 3 a bug of ours"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        prog="harness",
        description="Record an exchange's feed, replay it with faults, and learn whether your code noticed.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    if chosen is not None and chosen not in VERBS:
        print(f"harness: {nearest(chosen, VERBS, noun='verb')}", file=sys.stderr)
        return 2
    for verb, summary in VERBS.items():
        sentence = f"{summary[0].upper()}{summary[1:]}."
        sub = verbs.add_parser(verb, help=summary, description=sentence, allow_abbrev=False)
        if verb == chosen:
            # Only the chosen verb is imported, so that --help stays as quick as the interpreter.
            module = importlib.import_module(f"harness.cli.{verb}_")
            module.configure(sub)
            sub.set_defaults(run=module.run)
    try:
        args, strange = parser.parse_known_args(arguments)
        if strange:
            # By the verb's own parser, so that the way out is the help of the verb.
            own = verbs.choices[args.verb]
            own.error(own.nearest_option(strange[0]) or f"unrecognized arguments: {' '.join(strange)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    return _guarded(args)


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what stops at Ctrl-C stops as well when a supervisor says so."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _guarded(args: argparse.Namespace) -> int:
    try:
        before = signal.signal(signal.SIGTERM, _terminate)
    except ValueError:  # not the main thread
        return _run(args)
    try:
        return _run(args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace) -> int:
    try:
        return int(args.run(args))
    except HarnessError as mistake:
        print(f"harness: {mistake}", file=sys.stderr)
        return mistake.exit_code
    except _Terminated:
        print("harness: terminated", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`harness export ... | head`): not an error of anybody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:
        import traceback

        traceback.print_exc()
        print(f"harness: this is a bug of ours: {type(bug).__name__}: {bug}", file=sys.stderr)
        return 3


class _ShowVersion(argparse.Action):
    """Reads the version only when it is asked for: importlib.metadata is slow to import."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"harness {version('aggtrade-harness')}")
        parser.exit()
