"""The plans that ship with the project: each loads, says what it provokes, and strikes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.actions import Manners, Span
from harness.faults import load_plan
from harness.faults.plan import format_plan, parse_plan
from harness.script import check, compile_manners, compile_market, compile_script, explain
from tests.harness.faults.tapes import tape

PLANS = sorted((Path(__file__).resolve().parents[3] / "fixtures" / "plans").glob("*.toml"))


def test_there_are_plans():
    assert len(PLANS) >= 15


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_loads_says_what_it_is_and_strikes(path):
    plan = load_plan(path)
    timeline = tape(1000)
    assert len(plan.title) > 20
    assert parse_plan(format_plan(plan)) == plan
    check(plan, timeline)
    assert explain(plan, timeline).startswith("plan: ")
    untouched = compile_market(timeline, plan) is timeline and all(
        compile_manners(plan, connection=number) == Manners()
        and compile_script(timeline, plan, connection=abs(number)).actions == (Span(first=0, last=1000),)
        for number in (-2, -1, 1, 2, 3)
    )
    assert not untouched


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_strikes_on_a_tape_of_a_thousand_frames_without_a_mistake_in_any_number(path):
    plan = load_plan(path)
    for number in range(1, 5):
        script = compile_script(tape(1000), plan, connection=number, from_ns=number * 1_000_000_000)
        assert script.actions
