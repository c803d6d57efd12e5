"""The report as JUnit XML: each run a test case, a silent finding a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.json_ import Run
    from harness.verdict import Finding


def render(runs: Sequence[Run]) -> str:
    """Write the report as XML, one suite for the subject."""
    scenario = runs[0].scenario
    suite = ET.Element(
        "testsuite",
        name=f"harness {scenario.subject}",
        tests=str(len(runs)),
        failures=str(sum(run.verdict.silent for run in runs)),
        errors=str(sum(run.verdict.outcome == "unjudged" for run in runs)),
        time=f"{sum(run.wall_s for run in runs):.3f}",
    )
    for run in runs:
        name = ", ".join(run.scenario.named_faults) or "no faults"
        case = ET.SubElement(suite, "testcase", classname=scenario.subject, name=clean(name), time=f"{run.wall_s:.3f}")
        silent = [finding for finding in run.verdict.findings if finding.excusable and not finding.signalled]
        if silent:
            message = f"{silent[0].check} ({silent[0].stage}): {silent[0].cause}"
            failure = ET.SubElement(case, "failure", message=clean(message), type="silent")
            failure.text = clean("\n".join([*(_line(f) for f in silent), f"reproduce: {run.scenario.reproduce()}"]))
        if run.verdict.outcome == "unjudged":
            ET.SubElement(case, "error", message=clean(run.verdict.reason), type="unjudged")
        told = [finding for finding in run.verdict.findings if finding not in silent]
        if told:
            ET.SubElement(case, "system-out").text = clean("\n".join(map(_line, told)))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _line(finding: Finding) -> str:
    told = "nobody was told" if not finding.signalled else f"told after {finding.told_after_s} s"
    return f"{finding.check} ({finding.stage}) from {finding.since_s} s, {told}: {finding.cause}"


def clean(text: str) -> str:
    """Text without the characters that XML 1.0 does not allow."""
    return "".join(
        letter
        for letter in text
        if letter in "\t\n\r"
        or 0x20 <= ord(letter) <= 0xD7FF
        or (ord(letter) >= 0xE000 and ord(letter) not in (0xFFFE, 0xFFFF))
    )
