"""What a person or an alert could have noticed, and what the interpreter says by accident.

Signals are log records at WARNING or above that reached a handler, exceptions to the caller, a
non-zero exit and health that turns unhealthy. What the `asyncio` logger says comes from garbage
collection and forgotten exceptions: nobody's alert should depend on it, so it is evidence.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from harness import ledger as book
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.checks.case import Case
    from harness.checks.incident import Incident

WARNING = 30
SLACK_NS = 50_000_000
"""Two threads may read the clock in the other order than things happened."""
STAYS_UNHEALTHY_NS = 5 * NS_PER_S
"""Health that is unhealthy from before an incident must stay so for this long (or half the deadline) to count:
every service says "not yet" for a moment after its start."""
CHATTER = 3
"""Who said the same so often while nothing was amiss says it out of habit."""
FASTER = 2
"""Unless it comes so much faster afterwards: then something did change."""
FLICKER = 1.5
"""Health that is unhealthy for a moment in a sound run must stay so for this much longer than there to say anything."""


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
    parting: tuple[str, ...] = ()
    """What it says when it is stopped; never subtracted from what is said before."""
    flickers_ns: dict[str, int] = {}
    """Health attributes that turned unhealthy in that run, and the longest time for which they stayed so."""


NO_NOISE = Noise()


def signals(case: Case, noise: Noise = NO_NOISE) -> list[Signal]:
    """All signals of a run, in order, noise left out."""
    known = set(noise.templates)
    found = [_of_entry(entry) for entry in case.entries]
    spoken = [signal for signal in found if signal is not None and signal.template not in known]
    standing = _unhealthy(case, noise)
    return sorted([*spoken, *standing], key=lambda signal: signal.at_ns)


def parting_words(case: Case, noise: Noise = NO_NOISE) -> list[Signal]:
    """What was said while stop() ran, after the observation: it tells of the stop and of nothing else."""
    found = [_of_entry(entry) for entry in case.afterwards]
    return [signal for signal in found if signal is not None and signal.template not in noise.parting]


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
    templates, parting = (
        [signal.template for signal in map(_of_entry, entries) if signal is not None]
        for entries in (case.entries, case.afterwards)
    )
    flickers: dict[str, int] = {}
    for name, begun_ns, until_ns, turned in _unhealthy_times(case):
        if turned:
            flickers[name] = max(flickers.get(name, 0), until_ns - begun_ns)
    return Noise(
        templates=tuple(dict.fromkeys(templates)),
        healthy_names=tuple(dict.fromkeys(healthy)),
        parting=tuple(dict.fromkeys(parting)),
        flickers_ns=flickers,
    )


def news(case: Case, everything: list[Signal], incidents: Iterable[Incident]) -> list[Signal]:
    """
    Leave out what was said out of habit.

    A run without faults tells noise from signals, where it is sound. Whatever it says, a remark that came again and
    again while nothing was amiss, and comes no faster now, tells nobody that something is.
    """
    times = [incident.start_ns for incident in incidents] + [struck.at_ns for struck in case.struck]
    trouble_ns = min(times, default=case.question.closed_ns) - SLACK_NS
    said: dict[str, list[int]] = {}
    for signal in everything:
        if signal.source == "log":
            said.setdefault(signal.template, []).append(signal.at_ns)
    habits = {template for template, moments in said.items() if _is_habit(moments, trouble_ns)}
    return [signal for signal in everything if signal.template not in habits]


def _is_habit(moments: list[int], trouble_ns: int) -> bool:
    before = [at_ns for at_ns in moments if at_ns < trouble_ns]
    if len(before) < CHATTER:
        return False
    usual_ns = min(later - earlier for earlier, later in itertools.pairwise(before))
    since = [before[-1], *(at_ns for at_ns in moments if at_ns >= trouble_ns)]
    return all((later - earlier) * FASTER > usual_ns for earlier, later in itertools.pairwise(since))


def for_incident(case: Case, incident: Incident, everything: list[Signal]) -> list[Signal]:
    """The signals that fall within an incident: from its beginning to its deadline, and about its symbol."""
    return [signal for signal in everything if _in_time(signal, incident, case) and _about(signal, incident, case)]


def discounted(case: Case, incident: Incident, everything: list[Signal], told: list[Signal]) -> list[str]:
    """What was said in time and does not count for an incident, each remark once, with the reason."""
    found: dict[str, str] = {}
    for signal in everything:
        if _in_time(signal, incident, case):
            reason = "about another symbol" if not _about(signal, incident, case) else "said all the time"
            if signal not in told or reason == "about another symbol":
                found.setdefault(signal.template, f"does not count, {reason}: {signal.text}")
    return list(found.values())


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
    text = f"{signal.logger} {signal.text}"  # some have a logger for each symbol
    return _names(text, incident.symbol) or not any(_names(text, each) for each in case.question.symbols)


def _names(text: str, symbol: str) -> bool:
    return _pattern(symbol).search(text) is not None


@functools.cache
def _pattern(symbol: str) -> re.Pattern[str]:
    # The whole word, since WBTCUSDT is not BTCUSDT; with a stroke anywhere in it, since BTC/USDT is.
    letters = (re.escape(letter) for letter in symbol)
    return re.compile(r"(?<![^\W_])" + "[-/_:]?".join(letters) + r"(?![^\W_])", re.IGNORECASE)


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
            template=f"log {entry.logger} {entry.level_name} {folded(_remark(entry))}",
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


def _remark(entry: book.Logged) -> str:
    # `log.warning("%s: %s", who, what)` makes one template of everything that is ever said: go by the text then.
    words = _PLACES.sub("", entry.template)
    return entry.template if any(letter.isalpha() for letter in words) else entry.text


def _unhealthy(case: Case, noise: Noise) -> list[Signal]:
    values = {(e.name, e.at_ns): e.value for e in case.entries if isinstance(e, book.HealthRead)}
    found: list[Signal] = []
    for name, begun_ns, until_ns, turned in _unhealthy_times(case):
        # What reads unhealthy even in a sound run tells nobody anything.
        told = name in noise.healthy_names if noise.healthy_names is not None else turned or "(" in name
        flickers = turned and until_ns - begun_ns <= FLICKER * noise.flickers_ns.get(name, 0)
        if (told or turned) and not flickers:
            found.append(
                Signal(
                    source="health",
                    at_ns=begun_ns,
                    turned=turned,
                    text=f"{name} says {values[name, begun_ns]}",
                    template=f"health {name}",
                    standing_since_ns=begun_ns,
                    standing_until_ns=until_ns,
                )
            )
    return found


def _unhealthy_times(case: Case) -> list[tuple[str, int, int, bool]]:
    # Which attribute read unhealthy, from when until when, and whether it had been healthy before.
    found: list[tuple[str, int, int, bool]] = []
    begun_ns: dict[str, int] = {}
    was_healthy: set[str] = set()
    for entry in case.entries:
        if not isinstance(entry, book.HealthRead):
            continue
        if entry.healthy is False:
            begun_ns.setdefault(entry.name, entry.at_ns)
        elif entry.name in begun_ns:
            found.append((entry.name, begun_ns.pop(entry.name), entry.at_ns, entry.name in was_healthy))
        if entry.healthy:
            was_healthy.add(entry.name)
    closed_ns = case.question.closed_ns
    return found + [(name, at_ns, closed_ns, name in was_healthy) for name, at_ns in begun_ns.items()]


_PLACES = re.compile(r"%(?:\(\w+\))?[-#0 +]*[\d*.]*[a-zA-Z]|\{[^}]*\}")
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,:]\d+)*")


def folded(template: str) -> str:
    """A template with its numbers folded, since an f-string was formatted before anybody could see its template."""
    return _NUMBERS.sub("#", template)
