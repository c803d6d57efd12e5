"""Every exception of the harness, sorted by whose mistake it is.

HarnessError
├── UsageError          you: the command line, a plan, a setting
│   └── PlanError       a fault or a plan that cannot be read; names the place
├── RecordingError      the file: torn, foreign, of another version
├── SubjectError        the code under test cannot be loaded, started or watched
├── NetworkError        an endpoint cannot be reached, or speaks something else
└── HarnessBug          us

A *finding* is what the subject did wrong, and is data in the verdict. An exception means
that the work could not be done; the command line prints it as one sentence and exits 2
(3 for `HarnessBug`).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class HarnessError(Exception):
    """The work could not be done; `str()` is one clear sentence for the user."""

    exit_code = 2


class UsageError(HarnessError):
    """You asked for something that does not exist or does not fit."""


class PlanError(UsageError):
    """
    A fault or plan cannot be read.

    Args:
        place: where the mistake is, for example `faults[0].kind` or `--fault`.
        problem: what is wrong there, and the nearest right word where there is one.
    """

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place}: {problem}")


class RecordingError(HarnessError):
    """
    A recording cannot be read or written.

    Args:
        path: the file as the user named it.
        problem: what was found, what was expected, and the way out.
    """

    def __init__(self, path: object, problem: str) -> None:
        self.path = str(path)
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class SubjectError(HarnessError):
    """The code under test cannot be loaded, started or watched."""


class NetworkError(HarnessError):
    """An endpoint cannot be reached, or speaks something that we do not."""


class HarnessBug(HarnessError):  # noqa: N818 - it is not the user's error
    """A promise of our own was broken; please report it."""

    exit_code = 3


def nearest(word: str, known: Iterable[str], *, noun: str) -> str:
    """
    Say that `word` is unknown and which known word is nearest.

    Args:
        word: what the user wrote.
        known: the right words.
        noun: what such a word is called, for example `fault`.

    Returns:
        A clause such as `unknown fault 'tcp.rest'; did you mean 'tcp.reset_peer'?`.
    """
    names = sorted(known)
    close = closest(word, names)
    if close:
        return f"unknown {noun} {word!r}; did you mean {close!r}?"
    if not names:
        return f"unknown {noun} {word!r}; there are none"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"unknown {noun} {word!r}; there are: {shown}"


def closest(word: str, known: Iterable[str]) -> str:
    """Find the right word that is nearest to what the user wrote; empty when none is near."""
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)), "")
