"""Every planted bug is found, by the check that names it; no sound service is ever accused."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.quality import page
from tests.quality.table import AS_FOUND, CONTROLS, NOT_YET, PLANTED, SOUND, SOUND_FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.runner import RunResult
    from harness.verdict import Verdict
    from tests.quality.table import Planted

SUBJECTS = Path(__file__).resolve().parents[2] / "fixtures" / "subjects"

# One worker does all the runs, in parallel and mostly waiting; each test then looks at one of them. That is what
# `--dist loadfile` is for: the groups of pytest-xdist 3.8 have no effect under pytest 9.2.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("row", PLANTED, ids=lambda row: row.name)
def test_planted_bug_is_found_by_the_check_that_names_it(row: Planted, runs: Callable[..., RunResult]) -> None:
    expect_found(row, runs(row.subject, row.faults, row.symbols, row.tape).verdict)


@pytest.mark.live
@pytest.mark.parametrize("row", AS_FOUND, ids=lambda row: row.name)
def test_the_system_as_found_is_judged_the_same_over_real_sockets(row: Planted, runs: Callable[..., RunResult]) -> None:
    expect_found(row, runs(row.subject, row.faults, row.symbols, row.tape, mode="live").verdict)


def expect_found(row: Planted, verdict: Verdict) -> None:
    named = [finding for finding in verdict.findings if finding.check == row.check]
    assert named, f"no {row.check}: {verdict}"
    assert row.stage in {finding.stage for finding in named}, str(verdict)
    if row.check != "false_alarm":
        assert verdict.silent, str(verdict)
        assert any(not finding.signalled for finding in named), str(verdict)


@pytest.mark.parametrize(
    "row", {(row.twin, row.faults, row.tape): row for row in PLANTED}.values(), ids=lambda row: f"{row.twin}-{row.name}"
)
def test_sound_twin_is_not_silent_under_the_same_condition(row: Planted, runs: Callable[..., RunResult]) -> None:
    verdict = runs(row.twin, row.faults, row.symbols, row.tape).verdict

    assert verdict.intact or verdict.loud, str(verdict)
    assert not any(finding.check == "false_alarm" for finding in verdict.findings), str(verdict)


@pytest.mark.parametrize("faults", SOUND_FAULTS, ids="+".join)
@pytest.mark.parametrize("subject", SOUND)
def test_sound_service_is_never_silent(subject: str, faults: tuple[str, ...], runs: Callable[..., RunResult]) -> None:
    verdict = runs(subject, faults).verdict

    assert verdict.intact or verdict.loud, str(verdict)


@pytest.mark.parametrize("faults", CONTROLS, ids=lambda faults: "+".join(faults) or "no fault")
@pytest.mark.parametrize("subject", SOUND)
def test_sound_service_raises_no_false_alarm(
    subject: str, faults: tuple[str, ...], runs: Callable[..., RunResult]
) -> None:
    verdict = runs(subject, faults).verdict

    assert verdict.intact, str(verdict)
    assert not verdict.findings, str(verdict)


def test_every_faulty_subject_is_in_the_table() -> None:
    modules = {path.stem for path in SUBJECTS.glob("*.py")} - {"__init__", "as_found", "sound_desk"}
    sound = {name for name in modules if name.startswith("sound")} | {"ordinary", "plain", "detector"}

    assert modules - sound == {row.subject for row in PLANTED}
    assert set(SOUND) <= sound


@pytest.mark.parametrize("subject", sorted({row.subject for row in PLANTED}))
def test_faulty_subject_says_what_its_bug_is_and_where_it_comes_from(subject: str) -> None:
    docstring = ast.get_docstring(ast.parse((SUBJECTS / f"{subject}.py").read_text(encoding="utf-8"))) or ""

    for heading in ("Bug: ", "Real failure: ", "Sound twin: "):
        assert f"\n{heading}" in docstring, f"{subject} does not say: {heading}"


def test_every_real_failure_is_planted_or_has_a_reason() -> None:
    numbers = {number for row in PLANTED for number in page.failures_of(row)}

    assert numbers <= set(page.real_failures())
    assert set(page.real_failures()) - numbers == set(NOT_YET)


def test_the_page_is_what_the_table_says() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(), "run python -m tests.quality.page"
