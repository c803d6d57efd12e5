"""Writes docs/planted-bugs.md from the table and the subjects: `python -m tests.quality.page`."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from tests.quality.table import CONTROLS, NOT_YET, PLANTED, SOUND, SOUND_FAULTS, Planted

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "planted-bugs.md"
SUBJECTS = ROOT / "fixtures" / "subjects"
FAILURES = ROOT / "fixtures" / "real_failures.toml"

HEAD = """\
# Planted bugs

Written by `python -m tests.quality.page` from `tests/quality/table.py` and the docstrings in `fixtures/subjects/`.

{subjects} small services, each with one bug that somebody really shipped, run under {rows} conditions. Each row is a
test: the verdict must be `silent`, and the check of that name must find it at that stage (the false alarm is the
exception: there the alarm itself is the finding). Under the same condition the sound twin must be `intact` or `loud`.

{sound} sound services in other styles ({styles}) go through
{faults} of the worst faults and the negative controls without being silent once.

Numbers such as F39 are the real failures listed below.

| bug | what it does | real failure | condition | check | stage | twin |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(PLANTED)} rows")


def render() -> str:
    """The page as it should be."""
    head = HEAD.format(
        subjects=len({row.subject for row in PLANTED}),
        rows=len(PLANTED),
        sound=len(SOUND),
        styles=", ".join(f"`{name}`" for name in SOUND),
        faults=len(SOUND_FAULTS),
    )
    rows = "".join(_row(row) for row in PLANTED)
    controls = ", ".join(_faults(faults) for faults in CONTROLS)
    return head + rows + f"\nNegative controls: {controls}.\n\n" + _failures()


def failures_of(row: Planted) -> tuple[str, ...]:
    """The numbers of the real failures that a row reproduces."""
    named = re.findall(r"\bF\d\d\b", docstring(row.subject).partition("Real failure:")[2].partition("Sound twin:")[0])
    return tuple(dict.fromkeys([*named, *row.failures]))


def docstring(subject: str) -> str:
    """What a subject says about itself."""
    return ast.get_docstring(ast.parse((SUBJECTS / f"{subject}.py").read_text(encoding="utf-8"))) or ""


def real_failures() -> dict[str, dict[str, str]]:
    """The real failures by number: title and sources."""
    return tomllib.loads(FAILURES.read_text(encoding="utf-8"))


def _row(row: Planted) -> str:
    first = docstring(row.subject).splitlines()[0].rstrip(".")
    cells = (
        f"[{row.subject}](../fixtures/subjects/{row.subject}.py)",
        first,
        ", ".join(failures_of(row)) or "the report",
        _faults(row.faults),
        row.check,
        row.stage,
        row.twin,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _faults(faults: tuple[str, ...]) -> str:
    return ", ".join(f"`{fault}`" for fault in faults) or "none"


def _failures() -> str:
    found: dict[str, dict[str, None]] = {}
    for row in PLANTED:
        for number in failures_of(row):
            found.setdefault(number, {})[row.subject] = None
    lines = [
        "## The real failures",
        "",
        f"{len(real_failures())} failures of real consumers, from public reports; {len(found)} are reproduced here.",
        "",
        "| | failure | reported in | planted as |",
        "|---|---|---|---|",
    ]
    for number, failure in real_failures().items():
        planted = ", ".join(found.get(number, ())) or f"not yet: {NOT_YET.get(number, '?')}"
        lines.append(f"| {number} | {failure['title']} | {failure['sources']} | {planted} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
