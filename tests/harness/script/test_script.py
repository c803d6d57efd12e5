"""Scripts: what holds for every plan, and what single faults make of a tape."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.actions import Abort, Change, Close, Eof, Manners, Send, Span, Wire, Withhold
from harness.errors import PlanError
from harness.faults import Plan, PlannedFault, catalogue
from harness.faults.base import frames_held, span_due_ns
from harness.faults.fields import as_int, get_value
from harness.faults.plan import Condition, Connections, plan_of
from harness.script import COMPILE_ORDER, check, compile_manners, compile_market, compile_script, explain
from harness.strategies import planned_faults, plans
from tests.harness.faults.tapes import FIRST_ID, START_MS, STEP_NS, tape, trade

ON_TAPE = [
    name for name, kind in catalogue().items() if not (kind.before_data or kind.rest or name.startswith("host."))
]
FRAMES = 60
SECONDS = FRAMES * STEP_NS / 1e9


def compiled(specs, timeline=None, *, connection=1, seed=7, from_ns=0):
    plan = plan_of(specs, seed)
    return list(compile_script(timeline or tape(), plan, connection=connection, from_ns=from_ns).actions)


def sends(actions):
    return [action for action in actions if isinstance(action, Send)]


def accounted(actions, frames):
    """How often each frame is held, and in which order."""
    held = [range(*found) for found in map(frames_held, actions) if found]
    return [frame for one in held for frame in one]


# --- What holds for every plan ---------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(0, 2**31), st.integers(1, 9))
def test_an_empty_plan_is_the_identity(frames, seed, connection):
    timeline = tape(frames)
    plan = Plan((), seed)
    assert compile_market(timeline, plan) is timeline
    assert compile_manners(plan, connection=connection) == Manners()
    script = compile_script(timeline, plan, connection=connection)
    assert script.actions == ((Span(first=0, last=frames),) if frames else ())


@settings(deadline=None)
@given(plans(frames=FRAMES, seconds=SECONDS), st.integers(1, 4), st.sampled_from([1, 2, 3]))
def test_every_frame_is_held_by_exactly_one_action_in_recorded_order(plan, connection, markets):
    timeline = tape(FRAMES, symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT")[:markets])
    script = compile_script(timeline, plan, connection=connection, from_ns=connection * 50_000_000)
    assert accounted(script.actions, FRAMES) == list(range(FRAMES))


@settings(deadline=None)
@given(plans(frames=FRAMES, seconds=SECONDS), st.integers(1, 4))
def test_what_is_held_back_comes_later_once(plan, connection):
    timeline = tape(FRAMES)
    actions = compile_script(timeline, plan, connection=connection).actions
    held = {
        (frame, action.fault, action.strike): place
        for place, action in enumerate(actions)
        if isinstance(action, Withhold) and action.later
        for frame in range(action.first, action.last)
    }
    late = [
        ((action.frame, action.fault, action.strike), place)
        for place, action in enumerate(actions)
        if isinstance(action, Send) and action.change == "late"
    ]
    assert {key for key, _ in late} <= set(held)
    assert len({key for key, _ in late}) == len(late)
    for key, place in late:
        assert place > held[key]


@settings(deadline=None)
@given(plans(frames=FRAMES, seconds=SECONDS), st.integers(1, 4))
def test_the_same_seed_gives_the_same_script(plan, connection):
    timeline = tape(FRAMES)
    one, two = (compile_script(timeline, plan, connection=connection) for _ in range(2))
    assert one == two
    assert compile_manners(plan, connection=connection) == compile_manners(plan, connection=connection)


def test_another_seed_gives_another_script():
    timeline = tape(200)
    scripts = {
        msgspec.json.encode(compile_script(timeline, plan_of(["sequence.gap:probability=0.3"], seed), connection=1))
        for seed in range(20)
    }
    assert len(scripts) == 20


# Faults that touch only their own frame are independent when their frames are.
_SINGLE = [name for name in ON_TAPE if name.startswith(("payload.", "ws.", "tcp.")) and name not in (
    "payload.frozen", "tcp.coalesce", "tcp.flap"
)]  # fmt: skip


@settings(deadline=None)
@given(st.data())
def test_the_order_of_independent_faults_does_not_change_the_script(data):
    frames = data.draw(st.lists(st.integers(1, FRAMES), unique=True, min_size=2, max_size=4))
    names = data.draw(st.lists(st.sampled_from(_SINGLE), min_size=len(frames), max_size=len(frames), unique=True))
    planned = [
        PlannedFault(catalogue()[name](), Condition(frame=frame)) for name, frame in zip(names, frames, strict=True)
    ]
    order = data.draw(st.permutations(range(len(planned))))
    timeline = tape(FRAMES)
    one = compile_script(timeline, Plan(tuple(planned), 3), connection=1)
    two = compile_script(timeline, Plan(tuple(planned[place] for place in order), 3), connection=1)
    assert _named(one, planned) == _named(two, [planned[place] for place in order])


def _named(script, planned):
    """Actions with the name of their fault in place of its number."""
    return [
        (
            planned[action.fault].name if action.fault >= 0 else "",
            msgspec.structs.replace(action, fault=-1),
        )
        for action in script.actions
    ]


@settings(deadline=None)
@given(
    planned_faults(ON_TAPE, frames=FRAMES, seconds=SECONDS),
    planned_faults(frames=FRAMES, seconds=SECONDS),
    st.integers(0, 99),
)
def test_the_luck_of_one_fault_is_not_changed_by_another(mine, other, seed):
    if mine.name == other.name:
        return
    alone = {s.frame for s in _strikes(Plan((mine,), seed), 0)}
    behind = {s.frame for s in _strikes(Plan((other, mine), seed), 1)}
    assert alone == behind


def _strikes(plan, index):
    from harness.script.compile import _context, _in_order

    for place, planned, nth in _in_order(plan):
        if place == index:
            return _context(plan, planned, place, nth, connection=1, timeline=tape(FRAMES)).strikes
    raise AssertionError


@settings(deadline=None)
@given(planned_faults(["sequence.drop", "sequence.gap"], frames=FRAMES, seconds=SECONDS))
def test_a_drop_keeps_the_order_and_invents_nothing(planned):
    timeline = tape(FRAMES)
    actions = compile_script(timeline, Plan((planned,), 1), connection=1).actions
    assert all(isinstance(action, (Span, Withhold)) for action in actions)
    sent = [frame for action in actions if isinstance(action, Span) for frame in range(action.first, action.last)]
    assert sent == sorted(set(sent))
    assert all(not (a.shift_ns or a.not_before_ns) for a in actions if isinstance(a, Span))


@settings(deadline=None)
@given(plans(ON_TAPE, frames=FRAMES, seconds=SECONDS, size_max=3), st.integers(1, 3))
def test_recorded_frames_never_come_before_their_time(plan, connection):
    timeline = compile_market(tape(FRAMES), plan)
    for action in compile_script(timeline, plan, connection=connection).actions:
        if isinstance(action, Span):
            for frame in range(action.first, action.last):
                due = int(timeline.due_ns[frame])
                # Rounding of a stretch may take a few nanoseconds.
                assert span_due_ns(action, due) >= due - 1000
        elif isinstance(action, (Send, Wire)) and action.frame >= 0:
            assert action.due_ns >= int(timeline.due_ns[action.frame]) - 1000


@settings(deadline=None, max_examples=40)
@given(plans(frames=FRAMES, seconds=SECONDS))
def test_every_plan_can_be_told_in_words(plan):
    text = explain(plan, tape(FRAMES))
    assert text.startswith("plan: ")
    assert "\nconnection" in text


@pytest.mark.parametrize("name", ON_TAPE)
def test_a_long_tape_stays_a_handful_of_actions(name):
    kind = catalogue()[name]
    if name in (
        "payload.frozen",
        "timing.clock_step",
        "sequence.id_reset",
        "sequence.id_jump",
        "tcp.coalesce",
        "timing.flap",
    ):
        pytest.skip("changes every frame, or works in short periods, by its nature")
    timeline = tape(1_000_000, step_ns=1_000_000)
    began = time.perf_counter()
    actions = compiled([f"{name}@frame=500000" if not kind.every_connection else name], timeline)
    assert len(actions) < 5000
    assert time.perf_counter() - began < 5, "a plan with one strike compiles at once"


# --- When faults strike ------------------------------------------------------------------------------


def withheld_frames(actions):
    return [f + 1 for a in actions if isinstance(a, Withhold) for f in range(a.first, a.last)]


@pytest.mark.parametrize(
    ("spec", "frames"),
    [
        ("sequence.gap", [1]),
        ("sequence.gap@frame=5", [5]),
        ("sequence.gap:count=3@frame=5", [5, 6, 7]),
        ("sequence.gap@id=1004", [5]),
        ("sequence.gap@at=40ms", [5]),
        ("sequence.gap@at=41ms", [6]),
        ("sequence.gap:every=10@frame=5", [5, 15, 25]),
        ("sequence.gap:every=100ms@frame=5", [5, 15, 25]),
        ("sequence.gap:duration=30ms@frame=5", [5, 6, 7]),
        ("sequence.gap:duration=100ms,every=4@frame=5", [5, 9, 13]),
        ("sequence.gap:count=5@frame=28", [28, 29, 30]),
        ("sequence.gap:probability=0.0", []),
        ("sequence.gap:probability=1.0", [1]),
        ("sequence.gap@frame=5#connection=1", [5]),
        ("sequence.gap@frame=5#connection=2-", []),
    ],
)
def test_a_condition_chooses_frames(spec, frames):
    assert withheld_frames(compiled([spec])) == frames


def test_a_stream_condition_counts_only_frames_of_that_stream():
    timeline = tape(30, symbols=("BTCUSDT", "ETHUSDT"))
    assert withheld_frames(compiled(["sequence.gap:count=3,stream=ethusdt@frame=3"], timeline)) == [4, 6, 8]
    assert withheld_frames(compiled(["sequence.gap:count=2,stream=ethusdt@aggTrade"], timeline)) == [2, 4]


def test_probability_draws_for_each_frame_and_moving_the_start_leaves_the_rest():
    timeline = tape(400)
    early = withheld_frames(compiled(["sequence.gap:probability=0.2@frame=1"], timeline))
    late = withheld_frames(compiled(["sequence.gap:probability=0.2@frame=101"], timeline))
    assert 40 < len(early) < 120
    assert late == [frame for frame in early if frame > 100]


def test_faults_of_the_connection_strike_behind_the_frame():
    actions = compiled(["tcp.reset_peer@frame=10"])
    assert actions == [
        Span(first=0, last=10),
        Abort(due_ns=9 * STEP_NS, fault=0, frame=9),
        Span(first=10, last=30),
    ]


def test_faults_of_the_payload_touch_the_frame_itself():
    first, changed, last = compiled(["payload.price_zero@frame=10"])
    assert (first, last) == (Span(first=0, last=9), Span(first=10, last=30))
    assert changed.frame == 9
    assert changed.change == "changed"
    assert changed.payload == trade(9).replace(b'"p":"91309.10000000"', b'"p":"0.00000000"')


def test_a_fault_before_data_meets_every_connection_or_those_that_are_named():
    everyone = plan_of(["http.status:code=451"])
    assert [compile_manners(everyone, connection=n).upgrade.reply.status for n in (1, 2, 9)] == [451] * 3
    later = plan_of(["http.status:code=451#connection=2-3"])
    assert [compile_manners(later, connection=n).upgrade.reply is not None for n in (1, 2, 3, 4)] == [
        False,
        True,
        True,
        False,
    ]
    twice = plan_of(["http.status:count=2#connection=3-"])
    assert [compile_manners(twice, connection=n).upgrade.reply is not None for n in (2, 3, 4, 5)] == [
        False,
        True,
        True,
        False,
    ]
    every = plan_of(["http.status:every=3"])
    assert [n for n in range(1, 9) if compile_manners(every, connection=n).upgrade.reply] == [1, 4, 7]


def test_a_habit_holds_from_the_start_or_from_a_moment_until_its_duration_is_over():
    assert compile_manners(plan_of(["tcp.latency:latency=5ms"]), connection=4).link.latency_ns == 5_000_000
    moment = plan_of(["tcp.latency:latency=5ms,duration=50ms@frame=10"])
    assert compile_manners(moment, connection=1) == Manners()
    actions = compile_script(tape(), moment, connection=1).actions
    changes = [(a.due_ns, a.field, a.value) for a in actions if isinstance(a, Change)]
    at = 9 * STEP_NS
    assert changes == [
        (at, "link.latency_ns", 5_000_000), (at, "link.jitter_ns", 0),
        (at + 50_000_000, "link.latency_ns", 0), (at + 50_000_000, "link.jitter_ns", 0),
    ]  # fmt: skip


def test_a_change_goes_back_to_what_the_connection_began_with():
    plan = plan_of(["tcp.latency:latency=1ms", "tcp.latency:latency=5ms,duration=50ms@frame=10"])
    manners = compile_manners(plan, connection=1)
    actions = compile_script(tape(), plan, connection=1, manners=manners).actions
    values = [a.value for a in actions if isinstance(a, Change) and a.field == "link.latency_ns"]
    assert values == [5_000_000, 1_000_000]


def test_a_late_connection_meets_the_change_that_holds_for_it():
    plan = plan_of(["tcp.latency:latency=5ms@frame=3#connection=2-"])
    actions = compile_script(tape(), plan, connection=2, from_ns=100_000_000).actions
    due = [a.due_ns for a in actions if isinstance(a, Change)]
    assert due == [100_000_000] * 2
    over = plan_of(["tcp.latency:latency=5ms,duration=10ms@frame=3#connection=2-"])
    assert not [
        a for a in compile_script(tape(), over, connection=2, from_ns=100_000_000).actions if isinstance(a, Change)
    ]


def test_rest_faults_meet_rest_requests_only():
    plan = plan_of(["exchange.rest_backfill_429:count=2", "http.status"])
    assert compile_manners(plan, connection=-1).rest.reply.status == 429
    assert compile_manners(plan, connection=-1).upgrade.reply is None
    assert compile_manners(plan, connection=-3).rest.reply is None
    assert compile_manners(plan, connection=1).rest.reply is None


# --- What single faults make of a tape -------------------------------------------------------------


def test_silence_begins_behind_the_frame_and_ends_with_its_duration():
    assert withheld_frames(compiled(["timing.silence@frame=10"])) == list(range(11, 31))
    assert withheld_frames(compiled(["timing.silence:duration=50ms@frame=10"])) == [11, 12, 13, 14]
    assert withheld_frames(compiled(["timing.silence_from_start:duration=50ms"])) == [1, 2, 3, 4, 5]


def test_partial_silence_withholds_one_stream():
    timeline = tape(30, symbols=("BTCUSDT", "ETHUSDT"))
    (hold,) = [a for a in compiled(["timing.partial_silence@frame=10"], timeline) if isinstance(a, Withhold)]
    assert hold.streams == ("ethusdt@aggTrade",)
    assert (hold.first, hold.last) == (10, 30)
    (hold,) = [
        a for a in compiled(["timing.partial_silence:stream=btcusdt@frame=10"], timeline) if isinstance(a, Withhold)
    ]
    assert hold.streams == ("btcusdt@aggTrade",)


def test_silence_swallows_what_other_faults_have_made():
    actions = compiled(["payload.price_zero@frame=15", "sequence.duplicate@frame=16", "timing.silence@frame=10"])
    assert actions == [
        Span(first=0, last=10),
        *[a for a in actions if isinstance(a, Withhold)],
    ]
    assert withheld_frames(actions) == list(range(11, 31))


def test_a_gap_is_unobtainable_and_a_drop_is_not():
    (gap,) = [a for a in compiled(["sequence.gap@frame=5"]) if isinstance(a, Withhold)]
    (drop,) = [a for a in compiled(["sequence.drop@frame=5"]) if isinstance(a, Withhold)]
    assert gap.everywhere
    assert not drop.everywhere


@pytest.mark.parametrize("spec", ["sequence.doubled:stream=btcusdt@frame=5", "sequence.doubled:stream=btcusdt@at=0s"])
def test_only_the_stream_that_is_named_comes_twice(spec):
    copies = sends(compiled([spec], tape(20, symbols=("BTCUSDT", "ETHUSDT"))))
    assert copies
    assert {copy.stream for copy in copies} == {0}


def test_only_the_stream_that_is_named_overlaps_on_a_reconnect():
    two = tape(20, symbols=("BTCUSDT", "ETHUSDT"))
    spec = "sequence.overlap_on_reconnect:frames=3,stream=ethusdt"
    again = sends(compiled([spec], two, connection=2, from_ns=10 * STEP_NS))
    assert [as_int(get_value(copy.payload, "a")) - FIRST_ID for copy in again] == [5, 7, 9]


def test_a_repeated_id_is_that_of_the_frame_before_it_on_its_stream():
    (repeated,) = sends(compiled(["sequence.id_repeated@frame=7"], tape(20, symbols=("BTCUSDT", "ETHUSDT"))))
    assert (repeated.frame, as_int(get_value(repeated.payload, "a"))) == (6, FIRST_ID + 4)


@pytest.mark.parametrize("step_ns", [STEP_NS, 3_000_000_000])
def test_time_goes_backwards_in_a_quiet_market_too(step_ns):
    quiet = tape(20, step_ns=step_ns)
    (back,) = sends(compiled(["payload.time_backwards@frame=6"], quiet))
    before = as_int(get_value(quiet.payload(4), "T"))
    assert as_int(get_value(back.payload, "T")) == before - 1000


def test_reorder_moves_one_frame_behind_those_that_follow():
    actions = compiled(["sequence.reorder:span=2@frame=5"])
    assert [type(a).__name__ for a in actions] == ["Span", "Withhold", "Span", "Send", "Span"]
    _, hold, over, late, _ = actions
    assert hold.later
    assert (over.first, over.last) == (5, 7)
    assert (late.frame, late.change, late.payload) == (4, "late", trade(4))


def test_reorder_counts_frames_of_its_own_stream():
    timeline = tape(30, symbols=("BTCUSDT", "ETHUSDT"))
    actions = compiled(["sequence.reorder@frame=5"], timeline)
    place = next(i for i, a in enumerate(actions) if isinstance(a, Send))
    assert actions[place - 1] == Span(first=5, last=7)


def test_duplicates_have_no_frame_of_their_own():
    actions = compiled(["sequence.duplicate:copies=2@frame=5"])
    copies = [a for a in actions if isinstance(a, Send)]
    assert [(c.payload, c.change, c.frame, c.stream) for c in copies] == [(trade(4), "added", -1, 0)] * 2


def test_timing_faults_move_spans():
    (_, late) = compiled(["timing.lag_constant:lag=3s@frame=10"])
    assert (late.first, late.shift_ns) == (10, 3_000_000_000)
    (_, slow) = compiled(["timing.lag_growing:rate=1.0@frame=10"])
    assert span_due_ns(slow, 19 * STEP_NS) == 29 * STEP_NS
    (_, held, _) = compiled(["timing.stall_then_burst:duration=50ms@frame=10"])
    assert {span_due_ns(held, f * STEP_NS) for f in range(held.first, held.last)} == {14 * STEP_NS}
    (_, storm, _) = compiled(["timing.burst:duration=100ms,factor=10@frame=10"])
    dues = [span_due_ns(storm, f * STEP_NS) for f in range(storm.first, storm.last)]
    assert dues[-1] - dues[0] == 8 * STEP_NS // 10
    assert dues[-1] <= 19 * STEP_NS


def test_a_trickle_keeps_one_frame_per_interval():
    kept = set(range(1, 31)) - set(withheld_frames(compiled(["timing.trickle:interval=50ms@frame=10"])))
    assert kept == {*range(1, 11), 15, 20, 25, 30}


@pytest.mark.parametrize(
    "spec",
    [
        "timing.trickle:interval=50ms", "timing.first_message_delay:delay=100ms", "timing.clock_step:duration=100ms",
        "timing.silence:duration=100ms", "exchange.heartbeats_only:duration=100ms", "sequence.drop:count=5",
        "sequence.gap:count=5", "payload.frozen:duration=50ms",
    ],
)  # fmt: skip
def test_what_is_lost_or_changed_of_one_stream_leaves_the_other_as_it_was(spec):
    timeline = tape(40, symbols=("BTCUSDT", "ETHUSDT"))
    joint = "," if ":" in spec else ":"
    at = "" if "first_message" in spec else "@frame=5"
    actions = compiled([f"{spec}{joint}stream=btcusdt@aggTrade{at}"], timeline)
    untouched: set[int] = set()
    struck = 0
    for action in actions:
        frames = range(*(frames_held(action) or (0, 0)))
        if isinstance(action, Span):
            untouched.update(frames)
        elif isinstance(action, Withhold):
            struck += 1
            untouched.update(
                frame for frame in frames if action.streams and timeline.stream_of(frame) not in action.streams
            )
        elif isinstance(action, Send) and action.frame >= 0:
            struck += action.payload != timeline.payload(action.frame)
            untouched.update(frame for frame in frames if action.payload == timeline.payload(frame))
    assert struck
    assert untouched >= set(range(1, 40, 2))


def test_a_trickle_of_one_stream_lets_frames_of_that_stream_through():
    spec = "timing.trickle:interval=50ms,stream=ethusdt@aggTrade@frame=1"
    lost = set(withheld_frames(compiled([spec], tape(30, symbols=("BTCUSDT", "ETHUSDT")))))
    # Frames count from 1 there: number 2 is the first of the stream, which has one every 20 ms.
    assert {frame for frame in range(2, 31, 2) if frame not in lost} == {2, 8, 14, 20, 26}


def test_a_frozen_feed_repeats_one_frame():
    actions = compiled(["payload.frozen:duration=50ms@frame=10"])
    assert [a.payload for a in actions if isinstance(a, Send)] == [trade(9)] * 4


def test_a_quiet_market_changes_the_tape_for_everybody_and_withholds_nothing():
    before = tape(30)
    after = compile_market(before, plan_of(["timing.quiet_market:duration=5s@frame=10"]))
    assert list(after.due_ns[:10]) == list(before.due_ns[:10])
    assert list(after.due_ns[10:] - before.due_ns[10:]) == [5_000_000_000] * 20
    assert after.payload(9) == before.payload(9)
    assert after.payload(10) == before.payload(10).replace(b"%d" % (START_MS + 100), b"%d" % (START_MS + 5100)).replace(
        b"%d" % (START_MS + 98), b"%d" % (START_MS + 5098)
    )
    assert compiled(["timing.quiet_market@frame=10"], after) == [Span(first=0, last=30)]
    under = compile_market(before, plan_of(["timing.just_under:threshold=10s@frame=10"]))
    assert int(under.due_ns[10] - before.due_ns[10]) == 9_000_000_000


def test_a_reconnect_meets_what_is_meant_for_it():
    again = compiled(["sequence.overlap_on_reconnect:frames=3"], connection=2, from_ns=10 * STEP_NS)
    assert [a.payload for a in again if isinstance(a, Send)] == [trade(i) for i in (7, 8, 9)]
    assert compiled(["sequence.overlap_on_reconnect"], connection=1, from_ns=10 * STEP_NS) == [Span(first=0, last=30)]
    gap = compiled(["exchange.gap_on_reconnect:delay=50ms"], connection=2, from_ns=10 * STEP_NS)
    assert withheld_frames(gap) == [11, 12, 13, 14, 15]


def test_flapping_resets_each_connection_and_refuses_between():
    plan = plan_of(["tcp.flap:up=100ms,refused=2"])
    assert [compile_manners(plan, connection=n).dial.accept for n in range(1, 8)] == ["ok", "refuse", "refuse"] * 2 + [
        "ok"
    ]
    actions = compile_script(tape(), plan, connection=4, from_ns=50_000_000).actions
    assert [a.due_ns for a in actions if isinstance(a, Abort)] == [150_000_000]


def test_closes_say_what_they_are_told_to():
    (close,) = [a for a in compiled(['ws.close:code=4321,reason="so, there"@frame=5']) if isinstance(a, Close)]
    assert (close.code, close.reason, close.then) == (4321, b"so, there", "handshake")


def test_midframe_ends_stand_in_for_the_frame():
    for spec, end in (("tcp.fin_midframe@frame=5", Eof), ("tcp.reset_midframe@frame=5", Abort)):
        actions = compiled([spec])
        wire = next(a for a in actions if isinstance(a, Wire))
        assert wire.frame == 4
        assert trade(4).startswith(wire.data[4:])
        assert isinstance(actions[actions.index(wire) + 1], end)


def test_the_layers_are_compiled_from_the_tape_outwards():
    assert sorted(COMPILE_ORDER) == sorted({name.partition(".")[0] for name in catalogue()})
    # The payload is spoilt first and then sent twice, however the plan is written.
    for specs in (
        ["payload.null@frame=5", "sequence.duplicate@frame=5"],
        ["sequence.duplicate@frame=5", "payload.null@frame=5"],
    ):
        assert [a.payload for a in compiled(specs) if isinstance(a, Send)] == [b"null", b"null"]


def test_two_faults_on_one_frame_both_count():
    (sent,) = [
        a for a in compiled(["payload.price_zero@frame=5", "payload.quantity_zero@frame=5"]) if isinstance(a, Send)
    ]
    assert b'"p":"0.00000000","q":"0.00000000"' in sent.payload


# --- Mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "place", "hint"),
    [
        ("tcp.reset_peer@frame=31", "faults[0].frame", "which has 30 frames"),
        ("tcp.reset_peer@id=5", "faults[0].id", "no agg trade id 5"),
        ("tcp.reset_peer@at=1h", "faults[0].at", "past the end"),
        ("sequence.gap:stream=ethusdt", "faults[0].stream", "btcusdt@aggTrade"),
    ],
)
def test_a_moment_that_is_not_on_the_tape_is_refused(spec, place, hint):
    with pytest.raises(PlanError) as raised:
        check(plan_of([spec]), tape())
    assert raised.value.place == place
    assert hint in raised.value.problem


def test_a_moment_on_the_tape_is_not_refused():
    check(plan_of(["tcp.reset_peer@frame=30", "sequence.gap:stream=btcusdt@id=1000", "dns.fail"]), tape())


def test_words_tell_the_story():
    text = explain(
        plan_of(["tcp.reset_peer@frame=10", "sequence.gap:count=2@frame=20", "http.status:code=503#connection=2"]),
        tape(),
    )
    assert text == (
        "plan: tcp.reset_peer@frame=10, sequence.gap:count=2@frame=20, http.status#connection=2, seed 0\n"
        "connection 1:\n"
        "  frames 1 to 10 on time\n"
        "  then RST at 0.090 s (tcp.reset_peer)\n"
        "connection 2:\n"
        "  from its start: upgrade.reply = HTTP 503 (http.status)\n"
        "connection 3 and later:\n"
        "  frames 1 to 19 on time\n"
        "  frames 20 to 21 withheld, from REST too (sequence.gap)\n"
        "  frames 22 to 30 on time\n"
    )


def test_words_tell_of_rest_and_hosts():
    text = explain(plan_of(["exchange.rest_backfill_empty:count=2", "host.thread"]), tape())
    assert "REST, every request, 2 times: rest.empty = True (exchange.rest_backfill_empty)\n" in text
    assert "host: host.thread\n" in text


def test_a_gap_of_some_connections_is_in_rest():
    (hold,) = [a for a in compiled(["sequence.gap@frame=5#connection=1"]) if isinstance(a, Withhold)]
    assert not hold.everywhere
    (hold,) = [a for a in compiled(["sequence.gap@frame=5#connection=1-"]) if isinstance(a, Withhold)]
    assert hold.everywhere


def test_connections_are_read_as_ranges():
    assert [Connections("2-").covers(n) for n in (1, 2, 99)] == [False, True, True]
    assert [Connections("2-3").covers(n) for n in (1, 2, 3, 4)] == [False, True, True, False]
    assert Connections(2).covers(2)
