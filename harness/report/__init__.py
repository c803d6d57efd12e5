"""A verdict as text, JSON, JUnit and HTML: pure functions from runs to text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.report import html, json_, junit, text
from harness.report.json_ import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FORMATS", "Format", "Run", "exit_code", "render"]

Format = Literal["text", "json", "junit", "html"]
FORMATS: tuple[Format, ...] = ("text", "json", "junit", "html")


def render(
    runs: Sequence[Run],
    format: Format = "text",  # noqa: A002 - as on the command line
    *,
    colour: bool = False,
    width: int | None = None,
) -> str:
    """Write a report of one or more runs."""
    if format == "json":
        return json_.render(runs)
    if format == "junit":
        return junit.render(runs)
    if format == "html":
        return html.render(runs)
    return text.render(runs, colour=colour, width=width)


def exit_code(runs: Sequence[Run]) -> int:
    """0 nothing silent; 1 silent findings; 2 nothing silent, and something could not be judged."""
    if any(run.verdict.silent for run in runs):
        return 1
    return 2 if any(run.verdict.outcome == "unjudged" for run in runs) else 0
