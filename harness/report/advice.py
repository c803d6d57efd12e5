"""What the findings of many runs come to: which mend helps how many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.json_ import Run
    from harness.verdict import Finding, Verdict


class Advice(NamedTuple):
    """One mend."""

    suggestion: str
    places: tuple[str, ...]
    """Check and stage of what it mends: `gap at receive`."""
    runs: tuple[Run, ...]


def worst(verdict: Verdict) -> Finding | None:
    """The finding that stands for a run: an untold one before told ones, the earliest of those."""
    return min(verdict.findings, key=lambda f: (f.signalled or not f.excusable, f.since_s), default=None)


def advice(runs: Sequence[Run]) -> list[Advice]:
    """The mends that silent runs ask for, what helps most runs first."""
    grouped: dict[str, tuple[dict[str, None], list[Run]]] = {}
    for run in runs:
        finding = worst(run.verdict)
        if run.verdict.silent and finding is not None and finding.suggestion:
            places, asking = grouped.setdefault(finding.suggestion, ({}, []))
            places[f"{finding.check.replace('_', ' ')} at {finding.stage}"] = None
            asking.append(run)
    found = [Advice(text, tuple(places), tuple(asking)) for text, (places, asking) in grouped.items()]
    return sorted(found, key=lambda one: -len(one.runs))
