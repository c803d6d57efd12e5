"""From `module:attribute` to an object, and what it offers: start, stop, tap, health."""

from __future__ import annotations

import importlib
import inspect
import operator
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import SubjectError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

START_NAMES = ("start", "start_async", "run", "connect", "run_forever", "start_stream", "main")
STOP_NAMES = ("stop", "stop_async", "aclose", "close", "shutdown", "disconnect")
ITERATOR_NAMES = ("trades", "stream", "__aiter__")
TAP_PATHS = ("accepted", "analyzer.whale_detector.update", "whale_detector.update", "analyzer.update_trade", "on_trade")
"""Where a subject takes trades, in the order in which we look."""
METHODS = (
    "health",
    "status",
    "is_healthy",
    "healthy",
    "get_status",
    "get_health",
    "is_running",
    "is_connected",
    "is_alive",
)
FLAGS = ("running", "connected", "alive", "state", "is_open")
HEALTH_NAMES = (*METHODS, *FLAGS)


class Anatomy(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a subject."""

    start: str
    stop: str
    """Empty when there is none."""
    tap: str
    """Empty when there is none yet; it may come with start()."""
    health: tuple[str, ...]


def load(spec: str, path: str = ".", *, on_import: Callable[[], None] = lambda: None) -> Any:
    """
    Import a subject and make one.

    Args:
        spec: `module:attribute`; a class or factory, called with no arguments.
        path: folder to import from, in front of everything else.
        on_import: called between the import and the making of the subject; not called for an object that is made by
            the import itself.

    Raises:
        SubjectError: it cannot be imported or made; the sentence says which and where.
    """
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise SubjectError(f"{spec!r} is no subject; write module:attribute, for example bot.flow:OrderFlowService")
    if "/" in module_name or "\\" in module_name or module_name.endswith(".py"):
        dotted = ".".join(re.split(r"[/\\]+", module_name.removesuffix(".py"))).strip(".")
        raise SubjectError(f"{module_name} is a file, and a subject is named by its module; write {dotted}:{attribute}")
    folder = str(Path(path).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name and (module_name == missing.name or module_name.startswith(missing.name + ".")):
            raise SubjectError(
                f"no module named {missing.name!r} in {folder} or on the path (subject {spec}); "
                f"{_way_to(missing.name, folder, path)}"
            ) from missing
        raise SubjectError(f"{module_name} cannot be imported: {missing}{_where(missing)}") from missing
    except (Exception, SystemExit) as problem:
        raise SubjectError(f"{module_name} cannot be imported: {_said(problem)}{_where(problem)}") from problem
    for name in attribute.split("."):
        if not hasattr(target, name):
            public = [word for word in vars(target) if not word.startswith("_")]
            raise SubjectError(f"{module_name} has no {name!r}: {nearest(name, public, noun='name')}")
        target = getattr(target, name)
    if not callable(target) or not (inspect.isclass(target) or inspect.isroutine(target)):
        return target  # it is the subject itself
    on_import()
    return make(target, spec)


def make(target: Callable[[], Any], spec: str) -> Any:
    """Call a class or factory."""
    try:
        return target()
    except (Exception, SystemExit) as problem:
        where = _where(problem)
        # Without a line of the subject's own it was the call itself that failed.
        way_out = "" if where else "; it is called with no arguments: name a factory that knows them"
        raise SubjectError(f"{spec}() raised {_said(problem)}{where}{way_out}") from problem


def anatomy(subject: Any, tap: str | None = None) -> Anatomy:
    """
    Find what a subject offers.

    Raises:
        SubjectError: there is no way to start it.
    """
    start = next((name for name in START_NAMES if callable(look(subject, name))), "")
    start = start or next((name for name in ITERATOR_NAMES if callable(look(subject, name))), "")
    if not start:
        raise SubjectError(
            f"{type(subject).__name__} has none of {', '.join(START_NAMES)}: write a small class with start(symbols)"
        )
    return Anatomy(
        start=start,
        stop=next((name for name in STOP_NAMES if callable(look(subject, name))), ""),
        tap=tap or usual_tap(subject),
        health=health_names(subject),
    )


def health_names(subject: Any) -> tuple[str, ...]:
    """Where a subject tells of its health at this moment; more may come with start()."""
    return tuple(name for name in HEALTH_NAMES if has_health(subject, name))


def usual_tap(subject: Any) -> str:
    """The first of the usual taps that a subject has; an unset callback (None) only where there is no other."""
    there = [path for path in TAP_PATHS if exists(subject, path)]
    return next((path for path in there if look(subject, path) is not None), next(iter(there), ""))


def look(subject: Any, path: str) -> Any:
    """What a dotted path leads to; None where it leads nowhere, or to a property that raises: before start(), say."""
    try:
        return operator.attrgetter(path)(subject)
    except Exception:
        return None


def no_tap(subject: str, named: str | None, way_out: str) -> str:
    """Say that no tap was found: the one that was named, or any of the usual ones."""
    if named:
        return f"{subject} has no tap {named!r}: it is a dotted path from the subject to what takes a trade"
    return f"no tap found in {subject}: none of {', '.join(TAP_PATHS)}; name it {way_out}"


def exists(subject: Any, path: str) -> bool:
    """Whether a dotted path leads somewhere."""
    try:
        operator.attrgetter(path)(subject)
    except Exception:
        return False
    return True


def has_health(subject: Any, name: str) -> bool:
    """Whether a health name is there and can be read without arguments."""
    try:
        value = getattr(subject, name, None)
    except Exception:
        return True  # a property that cannot tell yet, or any more
    if value is None:
        return False
    if not callable(value):
        return True
    if name not in METHODS:
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _way_to(name: str, folder: str, path: str) -> str:
    # The layout with a folder src is the usual reason why a package is not found.
    source = Path(folder, "src")
    if any(Path(source, *name.split(".")).with_suffix(end).exists() for end in ("", ".py")):
        return f"it is in {source}: add --path {Path(path, 'src')}"
    return "--path names the folder to import from"


def _said(problem: BaseException) -> str:
    # One line whatever it was: the first of many often says more than the last.
    said = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    return f"{type(problem).__name__}: {' '.join(said.split())}"


def _where(problem: BaseException) -> str:
    # The last line that is neither ours nor the import machinery's.
    if isinstance(problem, SyntaxError):
        return f" ({problem.filename}:{problem.lineno})" if problem.filename and problem.lineno not in (None, 0) else ""
    frames = traceback.extract_tb(problem.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith("<frozen ")]
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
