"""One way of being lost or wrong per file; each is a pure function of one run's evidence.

A check is a module with `find(case) -> list[Incident]`; its docstring is its line in
`harness list checks`. To add one: one file here, one line below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks import (
    cannot_stop,
    duplicate,
    false_alarm,
    gap,
    leak,
    left_behind,
    metrics,
    never_connected,
    order,
    phantom,
    stale,
    starved,
    stopped,
    unverified,
    wrong_symbol,
    wrong_value,
)
from harness.checks.case import Case
from harness.checks.incident import STAGES, Incident, Question, Stage
from harness.checks.signals import (
    Noise,
    Signal,
    accidents,
    discounted,
    for_incident,
    news,
    noise_of,
    parting_words,
    signals,
)
from harness.checks.tape import Tape

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "CHECKS",
    "STAGES",
    "Case",
    "Incident",
    "Noise",
    "Question",
    "Signal",
    "Stage",
    "Tape",
    "accidents",
    "discounted",
    "find_incidents",
    "for_incident",
    "news",
    "noise_of",
    "parting_words",
    "signals",
    "summaries",
]

CHECKS: dict[str, ModuleType] = {
    "never_connected": never_connected,
    "unverified": unverified,
    "stopped": stopped,
    "gap": gap,
    "duplicate": duplicate,
    "order": order,
    "wrong_value": wrong_value,
    "phantom": phantom,
    "wrong_symbol": wrong_symbol,
    "stale": stale,
    "starved": starved,
    "leak": leak,
    "metrics": metrics,
    "cannot_stop": cannot_stop,
    "left_behind": left_behind,
}
"""By name, in the order in which a report shows them. `false_alarm` comes last, when these found nothing."""


def find_incidents(case: Case, noise: Noise) -> list[Incident]:
    """All incidents of a run, in the order in which they began."""
    found = [incident for check in CHECKS.values() for incident in check.find(case)]
    if not found:
        found = false_alarm.find(case, noise)
    return sorted(found, key=lambda incident: incident.start_ns)


def summaries() -> dict[str, str]:
    """What each check looks for, in a line."""
    modules = {**CHECKS, "false_alarm": false_alarm}
    lines = {name: (module.__doc__ or "").strip().splitlines()[0] for name, module in modules.items()}
    return {name: line.partition(": ")[2] for name, line in lines.items()}
