"""The report as one self-contained page: no script, no font, nothing fetched."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from harness.checks import STAGES
from harness.clock import NS_PER_S
from harness.report.advice import advice, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.json_ import Run
    from harness.verdict import Finding, SignalSeen

MAX_FINDINGS = 20
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 190, 56, 14, 14, 30

_STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --dim: #667; --line: #d8dce2; --card: #f6f7f9;
  --silent: #c0262d; --loud: #b06a00; --intact: #1a7f37; --unjudged: #7a3fb0; --sent: #8a94a6;
  --accepted: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171c; --fg: #e4e7ec; --dim: #98a2b3; --line: #2d333d;
  --card: #1c2027;
  --silent: #ff6b6b; --loud: #f0a83c; --intact: #4cc26a; --unjudged: #c08bf0; --sent: #6d7789;
  --accepted: #62a0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1060px; padding: 28px 20px 60px; background: var(--bg); color: var(--fg);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 2px; overflow-wrap: anywhere; }
.dim { color: var(--dim); }
code, pre { font: 13px/1.45 ui-monospace, Consolas, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); padding: 10px 12px; border-radius: 6px; }
.tally { display: flex; gap: 10px; flex-wrap: wrap; margin: 18px 0; }
.tally div { padding: 8px 16px; border-radius: 8px; background: var(--card); border: 1px solid var(--line); }
.tally b { font-size: 1.25rem; margin-right: 6px; }
.advice { list-style: none; margin: 0 0 26px; padding: 0; }
.advice li { margin: 8px 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--dim); font-weight: 600; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { white-space: nowrap; }
td:last-child { min-width: 16em; overflow-wrap: anywhere; }
a { color: inherit; }
.silent { color: var(--silent); }
.loud { color: var(--loud); }
.intact { color: var(--intact); }
.unjudged { color: var(--unjudged); }
.badge { font-weight: 700; text-transform: uppercase; font-size: 12px; letter-spacing: .04em; }
section { margin-top: 34px; border-top: 2px solid var(--line); padding-top: 14px; }
h2 { font-size: 1.05rem; margin: 0 0 8px; overflow-wrap: anywhere; }
.way { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 10px 0; padding: 0; list-style: none;
  font-size: 13px; }
.way .no { color: var(--dim); }
.way .here { font-weight: 700; text-decoration: underline; }
article { border-left: 4px solid var(--line); padding: 2px 0 2px 14px; margin: 14px 0; }
article.silent-edge { border-color: var(--silent); }
article.loud-edge { border-color: var(--loud); }
article p { margin: 4px 0; }
dl { display: grid; grid-template-columns: 90px 1fr; gap: 2px 12px; margin: 6px 0; font-size: 14px; }
dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
svg { width: 100%; min-width: 600px; height: auto; display: block; }
svg text { fill: var(--dim); font: 11px ui-monospace, monospace; }
details > summary { cursor: pointer; color: var(--dim); }
"""


def render(runs: Sequence[Run]) -> str:
    """Write the page."""
    scenario = runs[0].scenario
    counts = [
        (kind, sum(run.verdict.outcome == kind for run in runs)) for kind in ("silent", "loud", "intact", "unjudged")
    ]
    tally = "".join(f'<div class="{kind}"><b>{n}</b>{kind}</div>' for kind, n in counts if n or kind != "unjudged")
    order = {"silent": 0, "unjudged": 1, "loud": 2, "intact": 3}
    ordered = sorted(enumerate(runs), key=lambda pair: (order[pair[1].verdict.outcome], pair[0]))
    span = f"{runs[0].trades} trades in {runs[0].length_ns / NS_PER_S:.1f} s"
    names = list(dict.fromkeys(run.scenario.subject for run in runs))
    subjects = ", ".join(names)
    facts = [", ".join(scenario.recordings), span, f"tap {runs[0].tap or 'not found'}"]
    facts += [f"health {', '.join(runs[0].health) or 'none'}", f"seed {scenario.seed}"]
    body = [
        f"<h1>{escape(subjects)}</h1>",
        f'<div class="dim">{escape(" · ".join(facts))}</div>',
        f'<div class="tally">{tally}</div>',
        _advice(runs) + _table(ordered, several=len(names) > 1) if len(runs) > 1 else "",
        *(_section(number, run, several=len(names) > 1) for number, run in ordered),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>harness: {escape(subjects)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _name(run: Run, *, several: bool) -> str:
    faults = ", ".join(run.scenario.named_faults) or "no faults"
    return f"{run.scenario.subject}  {faults}" if several else faults


def _table(ordered: Sequence[tuple[int, Run]], *, several: bool) -> str:
    rows = []
    for number, run in ordered:
        verdict = run.verdict
        finding = worst(verdict)
        told = (
            ""
            if finding is None or not finding.excusable
            else "never"
            if finding.told_after_s is None
            else f"{finding.told_after_s:.1f} s"
        )
        cause = verdict.reason.splitlines()[0] if verdict.reason else finding.cause if finding else ""
        cause = cause or (f"not met: {run.unmet[0].rpartition(': ')[2]}" if run.unmet else "")
        rows.append(
            f'<tr><td><a href="#run-{number}"><code>{escape(_name(run, several=several))}</code></a></td>'
            f'<td class="badge {verdict.outcome}">{verdict.outcome}</td><td>{finding.stage if finding else ""}</td>'
            f'<td class="n">{verdict.lost}</td><td class="n">{told}</td><td>{escape(cause)}</td></tr>'
        )
    head = "".join(f"<th>{word}</th>" for word in ("fault", "verdict", "stage", "lost", "told after", "cause"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _advice(runs: Sequence[Run]) -> str:
    numbers = {id(run): number for number, run in enumerate(runs)}
    items = []
    for mend in advice(runs):
        links = ", ".join(
            f'<a href="#run-{numbers[id(run)]}"><code>{escape(_name(run, several=False))}</code></a>'
            for run in mend.runs
        )
        items.append(
            f"<li><b>{len(mend.runs)} ×</b> {escape(mend.suggestion)}"
            f"<details><summary>{escape(', '.join(mend.places))}</summary>{links}</details></li>"
        )
    return f'<h2>Where to begin</h2><ul class="advice">{"".join(items)}</ul>' if items else ""


def _section(number: int, run: Run, *, several: bool) -> str:
    verdict = run.verdict
    finding = worst(verdict)
    passed = dict(verdict.stages)
    way = "".join(
        f'<li class="{"" if passed.get(stage, True) else "no "}{"here" if finding and finding.stage == stage else ""}">'
        f"{'●' if passed.get(stage, True) else '○'} {stage}</li>"
        for stage in STAGES
        # Metrics are looked at only where the subject offers them; they are a stage where they are the trouble.
        if stage != "metrics" or (finding and finding.stage == "metrics")
    )
    shown = verdict.findings[:MAX_FINDINGS]
    more = (
        f'<p class="dim">and {len(verdict.findings) - MAX_FINDINGS} more findings</p>'
        if len(verdict.findings) > MAX_FINDINGS
        else ""
    )
    reason = f'<p class="unjudged">{escape(verdict.reason)}</p>' if verdict.reason else ""
    reason += "".join(f'<p class="unjudged">not met: {escape(text)}</p>' for text in run.unmet)
    words = "".join(f"<dt>last words</dt><dd>{_said(word)}</dd>" for word in verdict.last_words)
    return (
        f'<section id="run-{number}"><h2><span class="badge {verdict.outcome}">{verdict.outcome}</span> '
        f"<code>{escape(_name(run, several=several))}</code></h2>"
        f'<div class="dim">sent {verdict.sent} · obtainable {verdict.obtainable} · '
        f"accepted {verdict.accepted} · lost {verdict.lost} · "
        f"duplicated {verdict.duplicated} · wrong {verdict.wrong} · {run.wall_s:.1f} s</div>{reason}"
        f'<ul class="way">{way}</ul>{_chart(run)}{"".join(_article(f) for f in shown)}{more}'
        f"{f'<dl>{words}</dl>' if words else ''}<pre>{escape(run.scenario.reproduce())}</pre></section>"
    )


def _article(finding: Finding) -> str:
    kind = "loud" if finding.signalled else "silent"
    label = "false alarm" if not finding.excusable else kind
    until = "to the end" if finding.until_s is None else f"to {finding.until_s:.2f} s"
    told = "nobody was told" if not finding.signalled else f"told after {finding.told_after_s:.2f} s"
    facts = "".join(f"<dt>told by</dt><dd>{_said(signal)}</dd>" for signal in finding.signals[:3])
    facts += "".join(f"<dt>evidence</dt><dd><code>{escape(text)}</code></dd>" for text in finding.evidence[:5])
    facts += f"<dt>try</dt><dd>{escape(finding.suggestion)}</dd>" if finding.suggestion else ""
    return (
        f'<article class="{kind}-edge"><p><span class="badge {kind}">{label}</span> '
        f"<b>{escape(finding.check.replace('_', ' '))}</b> {escape(finding.symbol)} "
        f'<span class="dim">stage {finding.stage} · from {finding.since_s:.2f} s {until} · {told}</span></p>'
        f"<p>{escape(finding.cause)}.</p><dl>{facts}</dl></article>"
    )


def _said(signal: SignalSeen) -> str:
    source = escape(signal.level or signal.source)
    return f'<span class="dim">{signal.at_s:.3f} s {source}</span> {escape(signal.text[:300])}'


# --- The drawing: sent and accepted over time, incidents shaded, signals as ticks --------------------------


def _chart(run: Run) -> str:
    if len(run.marks) < 2:
        return ""
    end_s = run.marks[-1][0] or 1.0
    most = max(max(sent, accepted) for _, sent, accepted in run.marks) or 1
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at_s: float) -> float:
        return round(LEFT + inner_w * min(max(at_s / end_s, 0), 1), 1)

    def y(count: float) -> float:
        return round(TOP + inner_h * (1 - count / most), 1)

    def line(which: int, colour: str, width: float) -> str:
        points = " ".join(f"{x(mark[0])},{y(mark[which])}" for mark in run.marks)
        return f'<polyline points="{points}" fill="none" stroke="var(--{colour})" stroke-width="{width}"/>'

    shades = "".join(
        f'<rect x="{x(f.since_s)}" y="{TOP}" height="{inner_h}" '
        f'width="{max(2, x(f.until_s if f.until_s is not None else end_s) - x(f.since_s)):.1f}" '
        f'fill="var(--{"loud" if f.signalled else "silent"})" opacity=".14"><title>{escape(f.check)}</title></rect>'
        for f in run.verdict.findings[:MAX_FINDINGS]
        if f.excusable
    )
    ticks = "".join(
        f'<line x1="{x(s.at_s)}" x2="{x(s.at_s)}" y1="{TOP}" y2="{TOP + inner_h}" '
        'stroke="var(--loud)" stroke-dasharray="3 3">'
        f"<title>{s.at_s:.2f} s {escape(s.text[:120])}</title></line>"
        for s in run.verdict.signals[:40]
    )
    axis = "".join(
        f'<text x="{x(end_s * part / 4)}" y="{HEIGHT - 10}" text-anchor="{anchor}">{end_s * part / 4:.1f} s</text>'
        for part, anchor in enumerate(("start", "middle", "middle", "middle", "end"))
    )
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="trades sent and accepted over time">{shades}'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{TOP + inner_h}" y2="{TOP + inner_h}" stroke="var(--line)"/>'
        f'<text x="{LEFT - 6}" y="{TOP + 10}" text-anchor="end">{most}</text>'
        f'<text x="{LEFT - 6}" y="{TOP + inner_h}" text-anchor="end">0</text>'
        f"{line(1, 'sent', 3)}{line(2, 'accepted', 1.6)}{ticks}{axis}"
        # Counts only grow, so the lower right corner is the one that no line crosses.
        f'<text x="{WIDTH - RIGHT - 70}" y="{TOP + inner_h - 8}" text-anchor="end" style="fill:var(--sent)">sent</text>'
        f'<text x="{WIDTH - RIGHT - 8}" y="{TOP + inner_h - 8}" text-anchor="end" style="fill:var(--accepted)">'
        "accepted</text></svg></div>"
    )
