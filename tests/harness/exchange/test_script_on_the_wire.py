"""What a script does to a connection: order, tickets, accounting. Properties first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.actions import Abort, Change, Close, Send, Span, Wire, Withhold
from harness.exchange.cursor import Act, Cursor, Frames
from harness.exchange.marks import with_marks
from harness.faults.plan import Plan, parse_fault
from harness.timeline import Mark
from tests.harness.exchange.talk import MS, Talk, make_exchange, make_tape

BTC, ETH = "btcusdt@aggTrade", "ethusdt@aggTrade"
dues = st.lists(st.integers(0, 3), max_size=40).map(lambda steps: [sum(steps[: i + 1]) * MS for i in range(len(steps))])


def scripted(tape, actions, **settings):
    exchange = make_exchange(tape, **settings)
    exchange.script = lambda *_, **__: tuple(actions)
    return exchange


def entries(exchange, name):
    return [entry for entry in exchange.ledger if type(entry).__name__ == name]


@given(due=dues, cuts=st.lists(st.integers(0, 150), max_size=8), frames_max=st.integers(1, 9))
def test_an_untouched_span_gives_every_frame_once_in_order_and_never_early(due, cuts, frames_max):
    tape = make_tape(due_ns=due)
    cursor = Cursor((Span(first=0, last=len(due)),), tape, lambda *_, **__: True, tape_ns=0, frame=0)
    taken = []
    for now in [*sorted(cut * MS for cut in cuts), 1 << 60]:
        while (step := cursor.take(now, frames_max)) is not None:
            assert isinstance(step, Frames)
            assert step.last - step.first <= frames_max
            assert due[step.last - 1] <= now
            taken.extend(range(step.first, step.last))
        following = cursor.next_due_ns()
        assert following is None or following > now
    assert taken == list(range(len(due)))
    assert cursor.ended


@given(due=dues, start=st.integers(0, 130))
def test_who_subscribes_late_starts_at_the_first_frame_due_from_then_on(due, start):
    tape = make_tape(due_ns=due)
    cursor = Cursor((Span(first=0, last=len(due)),), tape, lambda *_, **__: True, tape_ns=start * MS, frame=0)
    taken = []
    while (step := cursor.take(1 << 60, 100)) is not None:
        taken.extend(range(step.first, step.last))
    assert taken == [frame for frame, at in enumerate(due) if at >= start * MS]


@given(data=st.data(), due=dues.filter(lambda due: len(due) > 3))
def test_a_refused_ticket_leaves_the_recorded_frames_in_the_recorded_order(data, due):
    """Whatever a strike did to its frames, a connection that does not own it sends them as recorded."""
    tape = make_tape(due_ns=due)
    first = data.draw(st.integers(0, len(due) - 2))
    last = data.draw(st.integers(first + 1, len(due)))
    inside = [
        Send(due_ns=due[frame], payload=b"x", frame=frame, fault=0)
        for frame in data.draw(st.permutations(range(first, last)))
    ]
    inside.insert(data.draw(st.integers(0, len(inside))), Abort(due_ns=due[first], fault=0))
    inside.append(Send(due_ns=due[first], payload=b"late", frame=first, change="late", fault=0))
    actions = (Span(first=0, last=first), *inside, Span(first=last, last=len(due)))
    cursor = Cursor(actions, tape, lambda *_, **__: False, tape_ns=0, frame=0)
    taken = []
    while (step := cursor.take(1 << 60, 100)) is not None:
        assert isinstance(step, Frames)
        taken.extend(range(step.first, step.last))
    assert taken == list(range(len(due)))


def test_a_stretched_span_keeps_its_pivot():
    tape = make_tape(10, step_ns=100 * MS)
    span = Span(first=0, last=10, pivot_ns=200 * MS, stretch=0.5, shift_ns=50 * MS)
    cursor = Cursor((span,), tape, lambda *_, **__: True, tape_ns=0, frame=0)
    assert cursor.take(249 * MS, 100) == Frames(0, 2, late=True)
    assert cursor.next_due_ns() == 250 * MS
    assert cursor.take(300 * MS, 100) == Frames(2, 4, late=True)


def test_an_item_is_never_due_before_its_predecessor():
    tape = make_tape(3)
    actions = (Send(due_ns=500 * MS, payload=b"x"), Span(first=0, last=3))
    cursor = Cursor(actions, tape, lambda *_, **__: True, tape_ns=0, frame=0)
    assert cursor.take(499 * MS, 9) is None
    assert isinstance(cursor.take(500 * MS, 9), Act)
    assert cursor.take(500 * MS, 9) == Frames(0, 3, late=False)


def test_a_reset_strikes_once_behind_its_frame_and_the_next_connection_goes_on():
    tape = make_tape(10)
    exchange = make_exchange(tape, Plan((parse_fault("tcp.reset_peer@frame=3"),)))
    first = Talk(exchange).opens(f"/ws/{BTC}").waits(0.5)
    assert (first.texts(), first.ends()) == (tape.payloads(0, 3), "RST")
    again = Talk(exchange, at=0.55).opens(f"/ws/{BTC}").waits(5)
    assert (again.texts(), again.ends()) == (tape.payloads(6, 10), None)
    (struck,) = entries(exchange, "Struck")
    assert struck.text == "tcp.reset_peer@frame=3"
    assert [entry.fault for entry in entries(exchange, "Closed")] == [0]


def test_two_connections_on_one_stream_share_one_strike():
    tape = make_tape(10)
    exchange = make_exchange(tape, Plan((parse_fault("tcp.reset_peer@frame=3"),)))
    one, other = Talk(exchange).opens(f"/ws/{BTC}"), Talk(exchange).opens(f"/ws/{BTC}")
    one.waits(5)
    other.waits(5)
    assert one.ends() == "RST"
    assert (other.texts(), other.ends()) == (tape.payloads(0, 10), None)


def test_a_fault_strikes_only_who_carries_the_stream_of_its_frame():
    tape = make_tape(10, streams=(BTC, ETH))
    exchange = make_exchange(tape, Plan((parse_fault("tcp.reset_peer@frame=4"),)))  # an ethusdt frame
    btc, eth = Talk(exchange).opens(f"/ws/{BTC}").waits(5), Talk(exchange).opens(f"/ws/{ETH}")
    assert len(btc.texts()) == 5
    assert len(eth.waits(5).texts()) == 2
    assert eth.ends() == "RST"


def test_a_gap_is_a_gap_for_everybody_and_is_told_once():
    tape = make_tape(10)
    exchange = make_exchange(tape, Plan((parse_fault("sequence.gap:count=2@frame=4"),)))
    for talk in [Talk(exchange).opens(f"/ws/{BTC}"), Talk(exchange).opens(f"/ws/{BTC}")]:
        assert talk.waits(5).texts() == [*tape.payloads(0, 3), *tape.payloads(5, 10)]
    nobody = [entry for entry in entries(exchange, "Withheld") if entry.connection == 0]
    assert [(entry.first, entry.last) for entry in nobody] == [(3, 5)]
    assert exchange.hidden.nonzero()[0].tolist() == [3, 4]


def test_every_frame_of_the_tape_is_in_the_ledger_as_sent_changed_or_withheld():
    tape = make_tape(30)
    plan = Plan(
        tuple(
            map(
                parse_fault,
                ["payload.price_zero@frame=5", "sequence.gap:count=3@frame=10", "sequence.duplicate@frame=20"],
            )
        )
    )
    exchange = make_exchange(tape, plan)
    talk = Talk(exchange).opens(f"/ws/{BTC}").waits(9)
    seen = []
    for entry in exchange.ledger:
        name = type(entry).__name__
        if name == "Sent" or (name == "Withheld" and entry.connection):
            seen.extend(range(entry.first, entry.last))
        elif name == "Changed":
            seen.append(entry.frame)
    assert sorted(seen) == list(range(30))
    assert len(entries(exchange, "Added")) == 1
    assert len(talk.texts()) == 30 - 3 + 1


def test_withheld_streams_leave_the_others_of_the_range():
    tape = make_tape(8, streams=(BTC, ETH))
    actions = [
        Span(first=0, last=2),
        Withhold(first=2, last=6, due_ns=200 * MS, fault=0, streams=(ETH,)),
        Span(first=6, last=8),
    ]
    talk = Talk(scripted(tape, actions)).opens(f"/ws/{BTC}/{ETH}").waits(5)
    assert talk.texts() == [tape.payload(frame) for frame in (0, 1, 2, 4, 6, 7)]


def test_a_message_can_be_fragmented_with_a_ping_between():
    tape = make_tape(2)
    send = Send(due_ns=0, payload=tape.payload(0), frame=0, fragment_bytes=50, between=b"\x89\x01p", fault=0)
    talk = Talk(scripted(tape, [send, Span(first=1, last=2)])).opens(f"/ws/{BTC}").waits(0)
    kinds = [kind for kind, _ in talk.takes()]
    assert kinds[:3] == ["text", "ping", "cont"]


def test_broken_bytes_go_out_as_they_are():
    tape = make_tape(1)
    talk = Talk(scripted(tape, [Wire(due_ns=0, data=b"\xff\xff\xff", fault=0, frame=0)])).opens(f"/ws/{BTC}").waits(0)
    assert talk.raw.endswith(b"\r\n\r\n\xff\xff\xff")


def test_manners_can_change_on_the_way():
    actions = [
        Span(first=0, last=1),
        Change(due_ns=0, field="control.pong", value="withhold", fault=0),
        Span(first=1, last=3),
    ]
    talk = Talk(scripted(make_tape(3), actions)).opens(f"/ws/{BTC}").waits(0.05).pings(b"x")
    assert all(kind != "pong" for kind, _ in talk.takes())


def test_a_close_frame_may_carry_anything():
    for code, reason in [(1005, b""), (None, b""), (1000, b"\xff"), (4999, b"x" * 300)]:
        close = Close(due_ns=0, fault=0, code=code, reason=reason, then="fin")
        talk = Talk(scripted(make_tape(1), [Span(first=0, last=1), close])).opens(f"/ws/{BTC}").waits(0)
        assert talk.raw.endswith((b"" if code is None else code.to_bytes(2, "big")) + reason)
        assert talk.ends() == "FIN"


def marks(*kinds):
    return tuple(
        Mark(due_ns=frame * 100 * MS, kind=kind, connection=1, frame=frame, close_code=code)
        for kind, frame, code in kinds
    )


def test_disconnects_that_the_recording_remembers_are_acted_out_once():
    tape = make_tape(10, marks=marks(("lost", 3, None), ("close", 7, 1001), ("lost", 10, None)))
    exchange = make_exchange(tape, marks=True)
    first = Talk(exchange).opens(f"/ws/{BTC}").waits(9)
    assert (len(first.texts()), first.ends()) == (3, "RST")
    second = Talk(exchange, at=0.31).opens(f"/ws/{BTC}").waits(9)
    assert [kind for kind, _ in second.takes()] == ["text"] * 3 + ["close"]
    third = Talk(exchange, at=0.71).opens(f"/ws/{BTC}").waits(9)
    assert len(third.texts()) == 2, "the end of the recording is no event of the market"


@given(cuts=st.lists(st.integers(0, 20), max_size=6))
def test_marks_move_no_frame(cuts):
    tape = make_tape(20, marks=marks(*(("lost", cut, None) for cut in sorted(cuts))))
    spans = [a for a in with_marks((Span(first=0, last=20),), tape) if isinstance(a, Span)]
    assert [f for span in spans for f in range(span.first, span.last)] == list(range(20))
