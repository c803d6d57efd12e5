"""The report that people read: one run as a page, many as a table."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from harness.checks import STAGES
from harness.clock import NS_PER_S
from harness.report.advice import advice, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.json_ import Run
    from harness.verdict import Finding, SignalSeen, Verdict

INDENT = " " * 11
MAX_FINDINGS = 6
MAX_SIGNALS = 3
MAX_ADVICE = 6
_COLOURS = {"silent": "31;1", "loud": "33;1", "intact": "32;1", "unjudged": "35;1"}


def render(runs: Sequence[Run], *, colour: bool = False, width: int | None = None) -> str:
    """
    Write a report.

    Args:
        runs: one gives a page, several a table.
        colour: use terminal colours.
        width: columns; None takes the terminal's. Where there is none, a table has its causes in full.
    """
    whole = width is None and not sys.stdout.isatty()
    width = max(60, min(width or shutil.get_terminal_size((110, 24)).columns, 140))
    lines = _page(runs[0], colour, width) if len(runs) == 1 else _table(runs, colour, width, whole=whole)
    return "\n".join(lines) + "\n"


# --- One run ----------------------------------------------------------------------------------------


def _page(run: Run, colour: bool, width: int) -> list[str]:
    scenario, verdict = run.scenario, run.verdict
    lines = ["", *_head(run), ""]
    if verdict.outcome == "unjudged":
        lines += _wrapped(f"  {_painted('UNJUDGED', 'unjudged', colour)} ", verdict.reason, width)
        return [*lines, "", f"  reproduce: {scenario.reproduce()}"]
    lines += [*_way(verdict), ""]
    if not verdict.findings:
        lines += [
            f"  {_painted('INTACT', 'intact', colour)}   nothing lost or wrong: {verdict.accepted} trades accepted"
        ]
    for finding in verdict.findings[:MAX_FINDINGS]:
        lines += [*_block(finding, verdict, colour, width), ""]
    if len(verdict.findings) > MAX_FINDINGS:
        lines += [f"{INDENT}and {len(verdict.findings) - MAX_FINDINGS} more findings (--format json shows all)", ""]
    for fault in run.unmet:
        lines += _wrapped(
            f"  {_painted('NOT MET', 'unjudged', colour)}  ", f"{fault}: this run says nothing about it", width
        )
    if verdict.findings and verdict.intact:
        lines += [f"  {_painted('INTACT', 'intact', colour)}   nothing lost or wrong, but somebody was alarmed", ""]
    return [*lines, *([""] if lines[-1] else []), f"  reproduce: {scenario.reproduce()}"]


def _head(run: Run) -> list[str]:
    scenario = run.scenario
    left = [f"subject    {scenario.subject}", f"exchange   {', '.join(scenario.recordings)}"]
    speed = f"{scenario.speed:g}×" if scenario.speed else "as fast as it goes"
    middle = [
        f"tap {run.tap or 'not found'}",
        f"{run.trades:,} trades in {run.length_ns / NS_PER_S:.1f} s, {speed}".replace(",", " "),
    ]
    right = [f"health {', '.join(run.health) or 'none'}", f"seed {scenario.seed}"]
    columns = [max(map(len, left)), max(map(len, middle))]
    lines = [
        f"  {a:{columns[0]}}   {b:{columns[1]}}   {c}".rstrip() for a, b, c in zip(left, middle, right, strict=True)
    ]
    if scenario.named_faults:
        lines.append(f"  faults     {', '.join(scenario.named_faults)}")
    return lines


def _way(verdict: Verdict) -> list[str]:
    # Filled: data, or the way to it, passed this stage; empty: nothing ever did.
    passed = dict(verdict.stages)
    finding = worst(verdict)
    shown = [stage for stage in STAGES if stage != "metrics" or (finding and finding.stage == "metrics")]
    line = "  " + "  ".join(f"{stage} {'●' if passed.get(stage, True) else '○'}" for stage in shown)
    counts = f"sent {verdict.sent:,}   accepted {verdict.accepted:,}".replace(",", " ")
    if finding is None:
        return [line, f"  {counts}"]
    at = 2 + sum(len(stage) + 4 for stage in shown[: shown.index(finding.stage)]) if finding.stage in shown else 2
    marker = f"{' ' * at}╰─ {finding.check.replace('_', ' ')}"
    gap = max(3, len(line) - len(marker) - len(counts))
    return [line, f"{marker}{' ' * gap}{counts}"]


def _block(finding: Finding, verdict: Verdict, colour: bool, width: int) -> list[str]:
    kind = "loud" if finding.signalled else "silent"
    label = "ALARM" if not finding.excusable else kind.upper()
    until = "to the end" if finding.until_s is None else f"to {finding.until_s:.2f} s"
    told = "nobody was told" if not finding.signalled else f"told after {finding.told_after_s:.2f} s"
    if not finding.excusable:
        told = "a false alarm"
    elif finding.signalled and not finding.recovered:
        told += ", not recovered"
    title = finding.check.replace("_", " ") + (f" ({finding.symbol})" if finding.symbol else "")
    lines = [f"  {_painted(f'{label:8}', kind, colour)} {title:24} from {finding.since_s:.2f} s {until:16} {told}"]
    lines += _wrapped(INDENT, finding.cause + ".", width)
    words = verdict.last_words if not finding.signalled and finding.excusable else ()
    for number, word in enumerate(words):
        lines.append(_said("last words" if number == 0 else "", word, width))
    for number, signal in enumerate(finding.signals[:MAX_SIGNALS]):
        lines.append(_said("told by" if number == 0 else "", signal, width))
    if len(finding.signals) > MAX_SIGNALS:
        lines.append(f"{INDENT}{'':14} and {len(finding.signals) - MAX_SIGNALS} more")
    for number, evidence in enumerate(finding.evidence[:3]):
        lines += _wrapped(f"{INDENT}{'evidence' if number == 0 else '':14} ", evidence, width)
    if finding.suggestion and not finding.signalled:
        lines += _wrapped(f"{INDENT}{'try':14} ", finding.suggestion, width)
    return lines


def _said(label: str, signal: SignalSeen, width: int) -> str:
    source = signal.level or signal.source
    text = signal.text.splitlines()[0] if signal.text else ""
    room = width - len(INDENT) - 15 - 10 - 10
    shown = text if len(text) <= room else text[: room - 3] + "..."
    return f"{INDENT}{label:14} {source:9} {shown:{min(room, 60)}} {signal.at_s:.3f} s"


def _wrapped(first: str, text: str, width: int) -> list[str]:
    plain = len(first) if "\x1b" not in first else 11
    return (
        textwrap.wrap(text, width - plain, break_long_words=False, break_on_hyphens=False)
        and [
            (first if number == 0 else " " * plain) + line
            for number, line in enumerate(
                textwrap.wrap(text, width - plain, break_long_words=False, break_on_hyphens=False)
            )
        ]
    ) or [first]


# --- Many runs ----------------------------------------------------------------------------------------


def _table(runs: Sequence[Run], colour: bool, width: int, *, whole: bool) -> list[str]:
    counts = {
        kind: sum(run.verdict.outcome == kind for run in runs) for kind in ("silent", "loud", "intact", "unjudged")
    }
    words = {"silent": "SILENT", "loud": "loud", "intact": "intact", "unjudged": "unjudged"}
    summary = "   ".join(_painted(f"{words[k]} {n}", k, colour) for k, n in counts.items() if n or k != "unjudged")
    alarms = sum(any(not f.excusable for f in run.verdict.findings) for run in runs)
    summary += f"   false alarms {alarms}" if alarms else ""
    missed = sum(bool(run.unmet) for run in runs)
    summary += f"   ({missed} did not meet their fault)" if missed else ""
    names = [", ".join(run.scenario.named_faults) or "(none)" for run in runs]
    column = min(max(map(len, names)), 44)
    lines = [
        "",
        f"  {summary}",
        "",
        f"  {'fault':{column}}  {'verdict':8}  {'stage':9}  {'lost':>5}  {'told after':>10}  cause",
    ]
    order = {"silent": 0, "unjudged": 1, "loud": 2, "intact": 3}
    for run, name in sorted(zip(runs, names, strict=True), key=lambda pair: order[pair[0].verdict.outcome]):
        lines.append(_row(run, name, column, colour, None if whole else width))
    return [*lines, *_advice(runs, width)]


def _advice(runs: Sequence[Run], width: int) -> list[str]:
    mends = advice(runs)
    lines = ["", "  where to begin"] if mends else []
    for mend in mends[:MAX_ADVICE]:
        lines += _wrapped(f"  {len(mend.runs):>4} ×  ", mend.suggestion, width)
        first, more = ", ".join(mend.runs[0].scenario.named_faults) or "no fault", len(mend.runs) - 1
        where = f"{', '.join(mend.places)}: {first}{f' and {more} more' if more else ''}"
        lines += _wrapped(" " * 9, where, width)
        lines += [f"{' ' * 9}reproduce: {mend.runs[0].scenario.reproduce()}"]
    if len(mends) > MAX_ADVICE:
        lines.append(
            f"{' ' * 9}and {len(mends) - MAX_ADVICE} mends more, of {sum(len(m.runs) for m in mends[MAX_ADVICE:])} runs"
        )
    return lines


def _row(run: Run, name: str, column: int, colour: bool, width: int | None) -> str:
    verdict = run.verdict
    finding = worst(verdict)
    stage, told, cause = "", "", verdict.reason
    if finding is not None:
        stage = finding.stage
        told = f"{finding.told_after_s:.1f} s" if finding.told_after_s is not None else "never"
        cause = finding.cause if finding.excusable else f"false alarm: {finding.cause}"
        told = told if finding.excusable else ""
    if run.unmet and not cause:
        cause = f"not met: {run.unmet[0].rpartition(': ')[2]}"
    shown = name if len(name) <= column else name[: column - 1] + "…"
    outcome = _painted(f"{verdict.outcome:8}", verdict.outcome, colour)
    head = f"  {shown:{column}}  {outcome}  {stage:9}  {verdict.lost:>5}  {told:>10}  "
    cause = cause.splitlines()[0] if cause else ""
    room = len(cause) if width is None else max(20, width - (column + 45))
    return (head + (cause if len(cause) <= room else cause[: room - 1] + "…")).rstrip()


def _painted(text: str, kind: str, colour: bool) -> str:
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if colour else text
