"""Options that several verbs have, and the kinds of values that they take; imports nothing heavy."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.errors import closest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.faults.plan import Plan

PORT_MAX = 65535
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, where argparse would print every option there is."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is known, as argparse does."""
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def nearest_option(self, strange: str) -> str:
        """A sentence about an option that there is not, with the one that was meant; empty when none is near."""
        option = strange.partition("=")[0]
        known = [text for action in self._actions for text in action.option_strings if text.startswith("--")]
        if not option.startswith("--") or option in known:
            return ""
        close = closest(option, known)
        return f"unknown option {option!r}; did you mean {close!r}?" if close else ""

    def error(self, message: str) -> NoReturn:
        """End with the sentence and exit code 2."""
        if message.startswith("the following arguments are required"):
            # A typo in a required option looks to argparse as if it had been left out.
            own = itertools.takewhile(lambda text: text != "--", self._given)
            message = next(filter(None, map(self.nearest_option, own)), message)
        mark = "" if message.endswith("?") else ";"
        self.exit(2, f"harness: {message}{mark} `{self.prog} --help` has every option\n")


def whole(at_least: int, at_most: int | None = None) -> Callable[[str], int]:
    """A kind of option: a whole number between two others, both included."""
    meant = f"a whole number from {at_least}" + ("" if at_most is None else f" to {at_most}")

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = at_least - 1
        if number < at_least or (at_most is not None and number > at_most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {meant}")
        return number

    return read


def seed(text: str) -> int:
    """A kind of option: any whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


port = whole(0, PORT_MAX)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add `--jobs`."""
    parser.add_argument("--jobs", type=whole(1), default=24, metavar="N", help="runs at a time [24]")


def add_pace(parser: argparse.ArgumentParser) -> None:
    """Add how the tape is played to a program that is watched."""
    parser.add_argument("--speed", default="1", metavar="X", help="tape seconds per second, or max [1]")
    parser.add_argument(
        "--retime",
        choices=("auto", "none"),
        default="auto",
        help="move the times inside the frames to the present [auto]",
    )


def add_plan(parser: argparse._ActionsContainer) -> None:
    """Add what goes wrong."""
    parser.add_argument("--plan", metavar="FILE", help="a TOML plan; --fault adds to it")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="SPEC",
        help="layer.kind[:key=value,...][@frame=N]; several act at once",
    )


def add_seed(parser: argparse._ActionsContainer) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=seed, metavar="N", help="of all chance [the plan's own, or 0]")


def plan_of(args: argparse.Namespace) -> Plan:
    """The faults of `--plan` and `--fault`, with the seed that holds for them."""
    from harness.faults.plan import Plan, load_plan, parse_fault

    loaded = load_plan(args.plan, args.seed) if args.plan else Plan(seed=args.seed or 0)
    faults = tuple(parse_fault(text) for text in args.fault)
    return Plan(faults=(*loaded.faults, *faults), seed=loaded.seed, title=loaded.title)


def check_path(path: str) -> None:
    """
    See whether the folder that a subject is imported from is there.

    Raises:
        UsageError: it is not.
    """
    from harness.errors import UsageError

    if not Path(path).is_dir():
        raise UsageError(f"--path {path}: no such folder")


def check_file(out: str) -> None:
    """
    See whether a file can be written, before the work that it is for.

    Raises:
        UsageError: it cannot.
    """
    from harness.errors import UsageError

    path = Path(out)
    there = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as cause:
        raise UsageError(f"--out {out}: cannot be written: {cause.strerror}") from cause
    if not there:
        path.unlink()


def check_folder(out: str) -> None:
    """
    See whether a folder is there or can be made, before the work that it is for.

    Raises:
        UsageError: neither.
    """
    from harness.errors import UsageError

    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise UsageError(f"--out {out}: is no folder and cannot become one: {cause.strerror}") from cause


def print_report(text: str) -> None:
    """Write a report to standard output. A reader who had enough (`| head`) takes nothing from the exit code."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_report(text: str, out: str) -> None:
    """
    Write a report to its file; where that fails after all, to standard output, so that nothing is lost.

    Raises:
        UsageError: the file could not be written.
    """
    from harness.errors import UsageError

    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as cause:
        sys.stdout.write(text)
        raise UsageError(
            f"--out {out}: cannot be written: {cause.strerror}; the report is on standard output"
        ) from cause
