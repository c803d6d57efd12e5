"""False alarm: a warning, or health that turned unhealthy, though nothing was lost and nothing was amiss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.incident import Incident
from harness.checks.signals import signals

if TYPE_CHECKING:
    from harness.checks.case import Case
    from harness.checks.signals import Noise


def find(case: Case, noise: Noise) -> list[Incident]:
    """
    One incident for the signals of a run in which nothing gave cause for any.

    A reconnect that was survived without loss may well be mentioned: only negative controls, such as a quiet
    market, are held to silence. What the run without faults says is noise, and no alarm.
    """
    if not case.question.negative_control:
        return []
    said = [signal for signal in signals(case, noise) if signal.turned]
    if not said:
        return []
    return [
        Incident(
            check="false_alarm",
            stage="receive",
            start_ns=said[0].at_ns,
            latest_ns=said[-1].at_ns,
            until_ns=said[-1].at_ns,
            cause=f"nothing was lost or wrong, and yet: {said[0].text}"
            + (f" (and {len(said) - 1} more)" if len(said) > 1 else ""),
            suggestion="an alarm that cries in a quiet market is soon ignored: widen its threshold, or log at INFO",
            excusable=False,
        )
    ]
