"""The report that programs read; its shape is a contract, versioned by `format`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.scenario import Scenario
    from harness.verdict import Finding, SignalSeen, Verdict

FORMAT = 1


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What any report needs of one run; the runner's results are turned into these."""

    scenario: Scenario
    verdict: Verdict
    digest: str = ""
    wall_s: float = 0.0
    tap: str = ""
    health: tuple[str, ...] = ()
    trades: int = 0
    length_ns: int = 0
    marks: tuple[tuple[float, int, int], ...] = ()
    unmet: tuple[str, ...] = ()


def document(runs: Sequence[Run]) -> dict[str, Any]:
    """The report as plain values."""
    first = runs[0].scenario
    return {
        "format": FORMAT,
        "subject": first.subject,
        "recording": first.recordings[0] if len(first.recordings) == 1 else ", ".join(first.recordings),
        "seed": first.seed,
        "mode": first.mode,
        "runs": [_run(run) for run in runs],
    }


def render(runs: Sequence[Run]) -> str:
    """The report as JSON text, keys in the order of the contract."""
    return msgspec.json.format(msgspec.json.encode(document(runs)), indent=2).decode() + "\n"


def _run(run: Run) -> dict[str, Any]:
    verdict = run.verdict
    found: dict[str, Any] = {
        "faults": list(run.scenario.faults),
        "host": run.scenario.host,
        "verdict": verdict.outcome,
        "sent": verdict.sent,
        "obtainable": verdict.obtainable,
        "accepted": verdict.accepted,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "wrong": verdict.wrong,
        "findings": [_finding(finding) for finding in verdict.findings],
        "signals": [_signal(signal) for signal in verdict.signals],
        "digest": run.digest,
        "reproduce": run.scenario.reproduce(),
    }
    if verdict.reason:
        found["reason"] = verdict.reason
    if run.unmet:
        found["unmet"] = list(run.unmet)
    return found


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "stage": finding.stage,
        "symbol": finding.symbol,
        "since_s": finding.since_s,
        "until_s": finding.until_s,
        "recovered": finding.recovered,
        "signalled": finding.signalled,
        "told_after_s": finding.told_after_s,
        "lost": finding.lost,
        "cause": finding.cause,
        "suggestion": finding.suggestion,
        "evidence": list(finding.evidence),
        "signals": [_signal(signal) for signal in finding.signals],
    }


def _signal(signal: SignalSeen) -> dict[str, Any]:
    return {
        "source": signal.source,
        "logger": signal.logger,
        "level": signal.level,
        "at_s": signal.at_s,
        "text": signal.text,
    }
