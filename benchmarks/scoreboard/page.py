"""The results as docs/scoreboard.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.scoreboard.board import CLIENTS, FRAMES, RATE, TRIALS
from harness.checks.signals import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.runner import RunResult
    from harness.verdict import Finding

# How a client stops is not what this page is about, and the wrapper that stops it is ours.
NOT_DATA = ("cannot_stop", "left_behind")

HEAD = """\
# Scoreboard: what public clients tell you when data is lost

Written by `python -m benchmarks.scoreboard`; run it to get the same table. Each client is pinned
(`benchmarks/scoreboard/requirements/`), used as its own documentation shows, with nothing added
(`benchmarks/scoreboard/clients/`), and sees the same {frames} trades in {seconds:.0f} s.
**intact**: nothing was lost or wrong at the callback. **loud**: something was, and a warning in the log, an exception
to the caller or an exit told of it within {deadline:.0f} s. **silent**: nobody was told.

This is no ranking of libraries: a general WebSocket client does not promise to check trade ids or to reconnect, and a
few lines around it may do so. It says what you get *by default*, so that you know what is yours to add.
"""

FOOT = """
How to read it:

* What is awaited in the documentation is awaited here, so an exception reaches the caller and counts as loud. Put the
  same lines into a background task that nobody asks for its result, as the program of the report did: silent.
* Printing to standard error or standard output is no signal: no alert reads it.
* *loud* says that somebody was told, not that data came again; the number behind it is what was lost.
"""


def render(
    results: Mapping[str, Mapping[tuple[str, ...], RunResult]], versions: Mapping[str, str], deadline_s: float
) -> str:
    """The whole page."""
    lines = [HEAD.format(frames=FRAMES, seconds=FRAMES / RATE, deadline=deadline_s)]
    clients = [client for client in CLIENTS if client.module in results]
    lines.append("| client | version | " + " | ".join(trial.title for trial in TRIALS) + " |")
    lines.append("|---|---|" + "---|" * len(TRIALS))
    for client in clients:
        noise = _noise(results[client.module])
        cells = [_cell(results[client.module].get(trial.faults), noise) for trial in TRIALS]
        version = versions[client.module].partition("==")[2] if client.public else ""
        lines.append(f"| {client.name} | {version} | " + " | ".join(cells) + " |")
    lines += ["", _sums(results), "", "The conditions:", ""]
    lines += [f"* **{trial.title}**: {_faults(trial.faults)}: {trial.why}" for trial in TRIALS if trial.faults]
    lines += [FOOT, "What each finding said:", ""]
    for client in clients:
        lines += _details(client.name, results[client.module])
    return "\n".join(lines).rstrip() + "\n"


def outcome_of(result: RunResult, noise: frozenset[str]) -> str:
    """The verdict on data alone, with what the client also says without a fault left out."""
    findings = list(_about_data(result))
    if result.verdict.outcome == "unjudged" or not findings:
        return "unjudged" if result.verdict.outcome == "unjudged" else "intact"
    return "loud" if all(_told(finding, noise) for finding in findings) else "silent"


def _about_data(result: RunResult) -> Iterator[Finding]:
    return (finding for finding in result.verdict.findings if finding.check not in NOT_DATA)


def _told(finding: Finding, noise: frozenset[str]) -> str:
    # The first line of the first signal that is no noise; empty when there is none.
    fresh = (signal.text for signal in finding.signals if folded(signal.text) not in noise)
    return next(fresh, "").partition("\n")[0]


def _noise(by_faults: Mapping[tuple[str, ...], RunResult]) -> frozenset[str]:
    plain = by_faults.get(())
    return frozenset(folded(signal.text) for signal in plain.verdict.signals) if plain else frozenset()


def _cell(result: RunResult | None, noise: frozenset[str]) -> str:
    if result is None:
        return "-"
    outcome, lost = outcome_of(result, noise), result.verdict.lost
    text = f"**{outcome}**" if outcome == "silent" else outcome
    return f"{text} ({lost} lost)" if lost else text


def _faults(faults: tuple[str, ...]) -> str:
    return ", ".join(f"`{fault}`" for fault in faults)


def _sums(results: Mapping[str, Mapping[tuple[str, ...], RunResult]]) -> str:
    public = [results[client.module] for client in CLIENTS if client.public and client.module in results]
    own = [results[client.module] for client in CLIENTS if not client.public and client.module in results]
    text = f"Of {_sum(public)}."
    return f"{text} The last row, for comparison: of {_sum(own)}." if own else text


def _sum(results: Iterable[Mapping[tuple[str, ...], RunResult]]) -> str:
    counts = {"intact": 0, "loud": 0, "silent": 0, "unjudged": 0}
    for by_faults in results:
        for faults, result in by_faults.items():
            if faults:
                counts[outcome_of(result, _noise(by_faults))] += 1
    shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{sum(counts.values())} runs with a fault: {shown}"


def _details(name: str, by_faults: Mapping[tuple[str, ...], RunResult]) -> list[str]:
    lines = [f"<details><summary>{name}</summary>", ""]
    for trial in TRIALS:
        result = by_faults.get(trial.faults)
        if result is None:
            continue
        verdict = result.verdict
        if verdict.outcome == "unjudged":
            lines.append(f"* {trial.title}: could not be judged: {verdict.reason}")
        for finding in list(_about_data(result))[:3]:
            told = _told(finding, _noise(by_faults))[:120]
            by = f"told: `{told.replace('`', '')}`" if told else "**nobody was told**"
            lines.append(f"* {trial.title}: {finding.check} at {finding.stage}: {finding.cause}; {by}")
    return [*lines, "", "</details>", ""]
