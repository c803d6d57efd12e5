"""What we conclude: intact, loud or silent, incident by incident.

    intact    nothing lost or wrong
    loud      something was, and for every incident a signal followed in time
    silent    some incident had none
    unjudged  the run could not be judged; `reason` says why

An incident counts from the last good trade before it; a signal counts from then to the deadline.
The worst incident makes the verdict of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from harness.checks import (
    Case,
    Incident,
    Noise,
    Question,
    Signal,
    Stage,
    Tape,
    accidents,
    discounted,
    find_incidents,
    for_incident,
    news,
    noise_of,
    parting_words,
    signals,
)
from harness.clock import NS_PER_S
from harness.ledger import Logged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.ledger import AnyEntry

__all__ = [
    "Case",
    "Finding",
    "Incident",
    "Noise",
    "Outcome",
    "Question",
    "SignalSeen",
    "Tape",
    "Verdict",
    "judge",
    "noise_of",
    "settled",
]

Outcome = Literal["intact", "loud", "silent", "unjudged"]

MAX_SIGNALS = 50
"""Signals shown of a run or a finding; a reconnect storm has thousands, all alike."""
MAX_LAST_WORDS = 3
MIN_ILLEGIBLE = 20
"""Fewer things that are no trade may have been taken for trades by a subject that does read them."""


class SignalSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A signal as a report shows it."""

    source: Literal["log", "exception", "exit", "health"]
    logger: str
    level: str
    at_s: float
    """Seconds since `start()` was called."""
    text: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing lost or wrong, with its stage, its cause and the evidence."""

    check: str
    stage: Stage
    since_s: float
    """Seconds since `start()` was called."""
    until_s: float | None
    """None: to the end of the run."""
    recovered: bool
    signalled: bool
    told_after_s: float | None
    """Seconds from the beginning of the incident to its first signal; None: never."""
    symbol: str
    lost: int
    cause: str
    suggestion: str
    evidence: tuple[str, ...]
    signals: tuple[SignalSeen, ...]
    excusable: bool = True
    """False for a false alarm: the signal itself is the finding."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one run."""

    outcome: Outcome
    sent: int = 0
    obtainable: int = 0
    accepted: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    findings: tuple[Finding, ...] = ()
    signals: tuple[SignalSeen, ...] = ()
    reason: str = ""
    """Why it could not be judged."""
    stages: tuple[tuple[Stage, bool], ...] = ()
    """Each stage, and whether data passed it."""
    last_words: tuple[SignalSeen, ...] = ()
    """The last things said at INFO before the silence: what whoever was on call had to go by."""

    @property
    def intact(self) -> bool:
        """Nothing lost or wrong."""
        return self.outcome == "intact"

    @property
    def loud(self) -> bool:
        """Something was lost or wrong, and somebody was told, each time."""
        return self.outcome == "loud"

    @property
    def silent(self) -> bool:
        """Something was lost or wrong, and nobody was told."""
        return self.outcome == "silent"

    def __str__(self) -> str:
        """The findings in words, for an assertion's message."""
        lines = [f"{self.outcome}: sent {self.sent}, accepted {self.accepted}, lost {self.lost}"]
        lines += [f"  {f.check} ({f.stage}) from {f.since_s:.2f} s: {f.cause}" for f in self.findings]
        return "\n".join([*lines, *([f"  {self.reason}"] if self.reason else [])])

    __repr__ = __str__
    """`assert verdict.intact, verdict` shows the repr."""


def judge(tape: Tape, entries: Iterable[AnyEntry], question: Question, noise: Noise | None = None) -> Verdict:
    """
    Judge one run.

    Args:
        tape: the timeline as it was played.
        entries: the ledger.
        question: what was asked for, and when the observation began and ended.
        noise: what a sound run without faults also says; None when there was none.
    """
    case = Case(tape, entries, question)
    reason = illegible(case)
    if reason:
        return unjudged(reason)
    noise = noise or Noise()
    everything = signals(case, noise)
    incidents = find_incidents(case, noise)
    told = news(case, everything, incidents)
    parting, accidental = parting_words(case, noise), accidents(case)[:3]
    findings = tuple(
        _finding(case, incident, everything, parting if incident.at_stop else told, accidental)
        for incident in incidents
    )
    return Verdict(
        outcome=_outcome(findings),
        sent=int((case.asked & (case.sent_ns <= question.closed_ns)).sum()),
        obtainable=int(case.obtainable.sum()),
        accepted=len(case.takes),
        lost=sum(incident.lost for incident in incidents),
        duplicated=sum(incident.duplicated for incident in incidents),
        wrong=sum(incident.wrong for incident in incidents),
        findings=findings,
        signals=tuple(_seen(case, signal) for signal in everything[:MAX_SIGNALS]),
        stages=_stages(case, findings),
        last_words=_last_words(case, findings),
    )


def settled(tape: Tape, entries: Iterable[AnyEntry], question: Question, noise: Noise | None) -> bool:
    """
    Whether waiting longer cannot change the verdict: every incident is told, or past its deadline.

    Args:
        tape: as for `judge`.
        entries: the ledger so far.
        question: `closed_ns` is now.
        noise: None while the run without faults is still going on: then no signal is final.
    """
    case = Case(tape, entries, question)
    if illegible(case):
        return True
    incidents = find_incidents(case, noise or Noise())
    everything = news(case, signals(case, noise or Noise()), incidents)
    for incident in incidents:
        told = noise is not None and bool(for_incident(case, incident, everything))
        if incident.excusable and not told and question.closed_ns <= incident.latest_ns:
            return False
    return True


def illegible(case: Case) -> str:
    """Why nothing can be said of what was taken: none of it reads as a trade. Empty: some of it does."""
    takes = [take.entry for take in case.takes]
    if len(takes) < MIN_ILLEGIBLE or any(one.trade_id is not None or (one.price and one.quantity) for one in takes):
        return ""
    return (
        f"what the tap is given does not read as a trade, {len(takes)} times: no id, and no price with a quantity; "
        "hand it a dictionary or an object with names such as a, p, q, T, m or trade_id, price, quantity, or name "
        "another place with --tap"
    )


def unjudged(reason: str) -> Verdict:
    """The verdict of a run that could not be judged."""
    return Verdict(outcome="unjudged", reason=reason)


def _outcome(findings: tuple[Finding, ...]) -> Outcome:
    faults = [finding for finding in findings if finding.excusable]
    if not faults:
        return "intact"
    return "loud" if all(finding.signalled for finding in faults) else "silent"


def _finding(
    case: Case, incident: Incident, everything: list[Signal], told: list[Signal], accidental: list[str]
) -> Finding:
    heard = for_incident(case, incident, told)
    instead = () if heard else (*discounted(case, incident, everything, told)[:2], *accidental)
    first_ns = min((max(signal.at_ns, incident.start_ns) for signal in heard), default=None)
    origin_ns = case.question.started_ns
    return Finding(
        check=incident.check,
        stage=incident.stage,
        since_s=_s(incident.start_ns - origin_ns),
        until_s=None if incident.until_ns is None else _s(incident.until_ns - origin_ns),
        recovered=incident.until_ns is not None,
        signalled=bool(heard),
        told_after_s=None if first_ns is None else _s(first_ns - incident.start_ns),
        symbol=incident.symbol,
        lost=incident.lost,
        cause=incident.cause + ("" if heard else incident.untold),
        suggestion=incident.suggestion,
        evidence=incident.evidence + instead,
        signals=tuple(_seen(case, signal) for signal in heard[:MAX_SIGNALS]),
        excusable=incident.excusable,
    )


def _seen(case: Case, signal: Signal) -> SignalSeen:
    return SignalSeen(
        source=signal.source,
        logger=signal.logger,
        level=signal.level,
        at_s=_s(signal.at_ns - case.question.started_ns),
        text=signal.text,
    )


def _stages(case: Case, findings: tuple[Finding, ...]) -> tuple[tuple[Stage, bool], ...]:
    # Whether anything passed each stage at any time of the run; the findings say where it ended.
    connections = [connection for connection in case.connections.values() if connection.opened]
    tasks = bool(case.attempts or case.connections or case.takes) or any(
        note.what in {"task", "ended"} for note in case.notes
    )
    sent = bool(np.any(case.sent_ns <= case.question.closed_ns))
    taken = bool(case.takes)
    passed: dict[Stage, bool] = {
        "schedule": tasks,
        "resolve": bool(connections) or any(a.outcome != "fail" for a in case.attempts),
        "connect": bool(connections),
        "tls": any(c.secured_ns or c.upgraded_ns for c in connections),
        "upgrade": any(c.upgraded_ns for c in connections),
        "subscribe": bool(case.subscribed),
        "receive": sent and (taken or not any(f.stage == "receive" and f.since_s <= 0 for f in findings)),
        "parse": taken,
        "callback": taken,
        "history": taken,
    }
    return tuple(passed.items())


def _last_words(case: Case, findings: tuple[Finding, ...]) -> tuple[SignalSeen, ...]:
    silent = [finding for finding in findings if not finding.signalled and finding.excusable]
    if not silent:
        return ()
    limit_ns = case.question.closed_ns
    said = [
        e
        for e in case.entries
        if isinstance(e, Logged) and e.level >= 20 and e.at_ns <= limit_ns and e.logger != "asyncio"
    ]
    return tuple(
        SignalSeen(
            source="log",
            logger=entry.logger,
            level=entry.level_name,
            at_s=_s(entry.at_ns - case.question.started_ns),
            text=entry.text,
        )
        for entry in said[-MAX_LAST_WORDS:]
    )


def _s(duration_ns: int) -> float:
    return round(duration_ns / NS_PER_S, 6)
