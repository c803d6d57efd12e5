"""What a person or an alert could have noticed, and what the interpreter says by accident.

Signals are log records at WARNING or above that reached a handler, exceptions to the caller, a
non-zero exit and health that turns unhealthy. What the `asyncio` logger says comes from garbage
collection and forgotten exceptions: nobody's alert should depend on it, so it is evidence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from harness import ledger as book
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.incident import Incident

WARNING = 30
SLACK_NS = 50_000_000
"""Two threads may read the clock in the other order than things happened."""
STAYS_UNHEALTHY_NS = 5 * NS_PER_S
"""Health that is unhealthy from before an incident must stay so for this long (or half the deadline) to count:
every service says "not yet" for a moment after its start."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """Something said to somebody."""

    source: Literal["log", "exception", "exit", "health"]
    at_ns: int
    text: str
    logger: str = ""
    level: str = ""
    template: str = ""
    """What makes two of them the same remark."""
    standing_since_ns: int | None = None
    """Health only: since when it has been unhealthy without a break, and until `standing_until_ns`."""
    standing_until_ns: int | None = None
    turned: bool = True
    """Health only: it had been healthy before. Unhealthy from its first reading on is no news at that moment;
    it counts by lasting."""


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """What a sound run without faults also says."""

    templates: tuple[str, ...] = ()
    healthy_names: tuple[str, ...] | None = None
    """Health attributes that read healthy at some time in that run; None when there was no such run."""


NO_NOISE = Noise()


def signals(case: Case, noise: Noise = NO_NOISE) -> list[Signal]:
    """All signals of a run, in order, noise left out."""
    known = set(noise.templates)
    found = [_of_entry(entry) for entry in case.entries]
    spoken = [signal for signal in found if signal is not None and signal.template not in known]
    standing = _unhealthy(case, noise)
    return sorted([*spoken, *standing], key=lambda signal: signal.at_ns)


def accidents(case: Case) -> list[str]:
    """What was only said by accident: evidence."""
    said = [
        f"interpreter: {entry.text.splitlines()[0] if entry.text else ''}"
        for entry in (*case.entries, *case.afterwards)
        if isinstance(entry, book.Logged) and entry.logger == "asyncio" and entry.level >= WARNING
    ]
    said += [
        f"{note.what}: {note.text}"
        for note in (*case.entries, *case.afterwards)
        if isinstance(note, book.Noted) and note.what in ("print", "stderr", "interpreter")
    ]
    return list(dict.fromkeys(said))


def noise_of(case: Case) -> Noise:
    """What this run says; to be used only when the run is sound and without faults."""
    healthy = [e.name for e in case.entries if isinstance(e, book.HealthRead) and e.healthy]
    templates = [signal.template for signal in map(_of_entry, case.entries) if signal is not None]
    return Noise(templates=tuple(dict.fromkeys(templates)), healthy_names=tuple(dict.fromkeys(healthy)))


def for_incident(case: Case, incident: Incident, everything: list[Signal]) -> list[Signal]:
    """The signals that fall within an incident: from its beginning to its deadline, and about its symbol."""
    return [signal for signal in everything if _in_time(signal, incident, case) and _about(signal, incident, case)]


def _in_time(signal: Signal, incident: Incident, case: Case) -> bool:
    first_ns = incident.start_ns - SLACK_NS
    if signal.turned and first_ns <= signal.at_ns <= incident.latest_ns:
        return True
    if signal.standing_since_ns is None or signal.standing_since_ns > incident.latest_ns:
        return False
    # Unhealthy already when it began: it is told if that lasts.
    until_ns = signal.standing_until_ns or case.question.closed_ns
    lasted_ns = min(until_ns, incident.latest_ns) - incident.start_ns
    return lasted_ns >= min(STAYS_UNHEALTHY_NS, case.question.deadline_ns // 2)


def _about(signal: Signal, incident: Incident, case: Case) -> bool:
    # A warning that names another of the symbols, and not this one, is about that other one.
    if not incident.symbol or len(case.question.symbols) < 2:
        return True
    text = signal.text.upper()
    return incident.symbol in text or not any(symbol in text for symbol in case.question.symbols)


def _of_entry(entry: book.AnyEntry) -> Signal | None:
    if isinstance(entry, book.Logged):
        if entry.level < WARNING or entry.logger == "asyncio" or entry.logger.startswith(("asyncio.", "py.warnings")):
            return None
        return Signal(
            source="log",
            at_ns=entry.at_ns,
            text=entry.text,
            logger=entry.logger,
            level=entry.level_name,
            template=f"log {entry.logger} {entry.level_name} {folded(entry.template)}",
        )
    if isinstance(entry, book.Raised):
        text = f"{entry.type}: {entry.text}" if entry.text else entry.type
        return Signal(
            source="exception",
            at_ns=entry.at_ns,
            text=f"{entry.where}() raised {text}",
            template=f"raised {entry.where} {entry.type}",
        )
    if isinstance(entry, book.Exited) and entry.code != 0:
        return Signal(source="exit", at_ns=entry.at_ns, text=f"exit code {entry.code}", template=f"exit {entry.code}")
    return None


def _unhealthy(case: Case, noise: Noise) -> list[Signal]:
    found: list[Signal] = []
    open_: dict[str, tuple[book.HealthRead, bool]] = {}
    was_healthy: set[str] = set()
    for entry in case.entries:
        if not isinstance(entry, book.HealthRead):
            continue
        if entry.healthy is False and entry.name not in open_:
            open_[entry.name] = (entry, entry.name in was_healthy)
        elif entry.healthy is not False and entry.name in open_:
            begun, turned = open_.pop(entry.name)
            found += _standing(begun, turned, entry.at_ns, noise)
        if entry.healthy:
            was_healthy.add(entry.name)
    for begun, turned in open_.values():
        found += _standing(begun, turned, case.question.closed_ns, noise)
    return found


def _standing(begun: book.HealthRead, turned: bool, until_ns: int, noise: Noise) -> list[Signal]:
    # What reads unhealthy even in a sound run tells nobody anything.
    told = begun.name in noise.healthy_names if noise.healthy_names is not None else turned or "(" in begun.name
    if not (told or turned):
        return []
    return [
        Signal(
            source="health",
            at_ns=begun.at_ns,
            turned=turned,
            text=f"{begun.name} says {begun.value}",
            template=f"health {begun.name}",
            standing_since_ns=begun.at_ns,
            standing_until_ns=until_ns,
        )
    ]


_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,:]\d+)*")


def folded(template: str) -> str:
    """A template with its numbers folded, since an f-string was formatted before anybody could see its template."""
    return _NUMBERS.sub("#", template)
