"""The plan language: what it reads, what it refuses, and how it says so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import PlanError
from harness.faults import Duration, Plan, PlannedFault, catalogue, format_fault, load_plan, parse_fault
from harness.faults.plan import Condition, Connections, Every, format_plan, parse_plan, seed_of
from harness.faults.sequence import Gap
from harness.faults.timing import Silence
from harness.strategies import planned_faults, plans


@settings(deadline=None)
@given(planned_faults())
def test_the_short_form_is_read_back_as_it_was_written(planned):
    assert parse_fault(format_fault(planned)) == planned


@settings(deadline=None)
@given(plans())
def test_a_plan_file_is_read_back_as_it_was_written(plan):
    assert parse_plan(format_plan(plan)) == plan


@settings(deadline=None)
@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused_in_one_sentence(text):
    try:
        parse_fault(text)
    except PlanError as mistake:
        assert str(mistake).startswith("--fault")


@settings(deadline=None)
@given(st.sampled_from(list(catalogue())), st.text(st.characters(codec="ascii"), max_size=40))
def test_whatever_follows_a_kind_is_read_or_refused(kind, rest):
    try:
        parse_fault(f"{kind}{rest}")
    except PlanError as mistake:
        assert "\n" not in str(mistake).strip() or "\n" in rest


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sequence.gap", PlannedFault(Gap())),
        ("sequence.gap:count=5@frame=250", PlannedFault(Gap(count=5), Condition(frame=250))),
        ("timing.silence:duration=5s", PlannedFault(Silence(duration=Duration("5s")))),
        (
            "timing.silence:duration=0.5,every=20s@at=10s",
            PlannedFault(Silence(duration=Duration("500ms")), Condition(at=Duration("10s"), every=Every("20s"))),
        ),
        ("sequence.gap@id=26129#connection=2-", PlannedFault(Gap(), Condition(id=26129, connection=Connections("2-")))),
        (
            "sequence.gap:stream=btcusdt@aggTrade@frame=3",
            PlannedFault(Gap(), Condition(stream="btcusdt@aggTrade", frame=3)),
        ),
        ("sequence.gap:probability=0.1,every=7", PlannedFault(Gap(), Condition(probability=0.1, every=Every("7")))),
    ],
)  # fmt: skip
def test_the_short_form(text, fault):
    assert parse_fault(text) == fault
    assert parse_fault(format_fault(fault)) == fault


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("tcp.rest_peer", "--fault", "did you mean 'tcp.reset_peer'?"),
        ("tcp.reset_peer:cuont=3", "--fault.cuont", "did you mean 'count'?"),
        ("http.status:cod=451", "--fault.cod", "did you mean 'code'?"),
        ("sequence.gap:count=0", "--fault.count", ">= 1"),
        ("sequence.gap:count=few", "--fault.count", "'few' does not fit"),
        ("timing.silence:duration=5x", "--fault.duration", "is not a duration"),
        ("tcp.reset_peer@fram=3", "--fault", "did you mean 'frame'?"),
        ("tcp.reset_peer@frame=0", "--fault.frame", ">= 1"),
        ("tcp.reset_peer@frame=1@id=2", "--fault", "write layer.kind"),
        ("tcp.reset_peer#connection=0", "--fault.connection", "counted from 1"),
        ("tcp.reset_peer#connection=5-2", "--fault.connection", "counted from 1"),
        ("tcp.reset_peer#conn=2", "--fault", "#connection=2"),
        ("http.status@frame=3", "--fault.frame", "before the first data frame"),
        ("host.thread#connection=2", "--fault.connection", "the program around the subject"),
        ("timing.quiet_market#connection=2", "--fault.connection", "every connection"),
        ("exchange.rest_backfill_429:stream=btcusdt", "--fault.stream", "REST"),
        ("ws.close_reserved_code:code=9", "--fault.code", "1004, 1005, 1006, 1015"),
        ("sequence.gap:probability=2", "--fault.probability", "<= 1.0"),
        ("sequence.gap:every=0", "--fault.every", "no interval"),
        ("http.status:every=2s", "--fault.every", "strikes connections"),
        ("sequence.gap:count=1,count=2", "--fault.count", "given twice"),
        ("", "--fault", "unknown fault ''"),
    ],
)
def test_a_mistake_names_its_place_and_the_way_out(text, place, hint):
    with pytest.raises(PlanError) as raised:
        parse_fault(text)
    assert raised.value.place == place
    assert hint in raised.value.problem
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[fault]]\nkind = 'tcp.rest_peer'",
            "plan.toml: faults[0].kind: unknown fault 'tcp.rest_peer'; did you mean 'tcp.reset_peer'?",
        ),
        ("[[fault]]\nframe = 3", "plan.toml: faults[0].kind: missing"),
        (
            "[[fault]]\nkind = 'tcp.fin_no_close'\n[[fault]]\nkind = 'sequence.gap'\ncount = 'x'",
            "plan.toml: faults[1].count: 'x' does not fit",
        ),
        ("[[faults]]\nkind = 'tcp.fin_no_close'", "plan.toml: faults: unknown key 'faults'; did you mean 'fault'?"),
        ("seed = 'x'", "plan.toml: seed: 'x' is not a whole number"),
        ("[fault]\nkind = 'sequence.gap'", "plan.toml: fault: faults are tables; write [[fault]]"),
        ("[[fault]\n", "plan.toml: not TOML"),
        ("[[fault]]\nkind = 'sequence.gap'\nframe = 1.5", "plan.toml: faults[0].frame: 1.5 does not fit"),
        ("[[fault]]\nkind = 'sequence.gap'\nat = [1]", "plan.toml: faults[0].at"),
        ("[[fault]]\nkind = 'sequence.gap'\nframe = 1\nid = 5", "plan.toml: faults[0]: frame and id both say when"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_names_the_file_and_the_place(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(PlanError) as raised:
        load_plan(path)
    assert message in str(raised.value)


def test_a_missing_plan_is_one_sentence(tmp_path):
    with pytest.raises(PlanError, match=r"nosuch.toml: cannot read the plan: No such file"):
        load_plan(tmp_path / "nosuch.toml")


def test_the_seed_of_the_command_line_wins(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("seed = 5\ntitle = 'x'")
    assert load_plan(path).seed == 5
    assert load_plan(path, 7) == Plan((), 7, "x")


def test_a_setting_of_the_kind_comes_before_the_condition_of_that_name():
    planned = parse_fault("timing.silence:duration=2s")
    assert planned.fault.duration == 2_000_000_000
    assert planned.condition.duration is None


def test_durations_may_be_written_as_text_in_python():
    assert Silence(duration="2s").duration == 2_000_000_000
    assert Silence(duration=2).duration == 2_000_000_000
    assert str(Duration("1500ms")) == "1500ms"


@pytest.mark.parametrize(
    ("text", "once"),
    [
        ("tcp.reset_peer@frame=5", True),
        ("tcp.reset_peer@frame=5#connection=1-", False),
        ("http.status", False),
        ("tcp.latency", False),
        ("tcp.latency@frame=3", True),
        ("sequence.overlap_on_reconnect", False),
        ("sequence.gap", True),
    ],
)
def test_what_strikes_once_needs_a_ticket(text, once):
    assert parse_fault(text).once is once


def test_the_seed_of_a_run_is_the_given_one_or_the_plans_own(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("seed = 5")
    assert (seed_of(None, None), seed_of(None, path), seed_of(0, path)) == (0, 5, 0)
