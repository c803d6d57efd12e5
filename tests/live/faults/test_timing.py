"""Timing faults on the wire: order, and lower bounds of time, since a busy machine is late and never early."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from harness.actions import Withhold
from harness.script import compile_script
from tests.harness.faults.tapes import START_MS, tape, trade
from tests.live.faults.wire import PONG, Client, entries, get, serving, shows

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

N = 5
ALL = [trade(i) for i in range(30)]


def gaps_of(client):
    return [later - sooner for sooner, later in pairwise(client.arrivals)]


@shows("timing.silence")
@pytest.mark.parametrize("secure", [False, True])
def test_data_stops_and_pings_are_answered(secure):
    with serving(f"timing.silence@frame={N}", tls=secure) as live, Client(live, secure=secure) as client:
        assert client.until_pong() == ALL[:N]
        assert client.until_pong(b"again") == []
        assert [(e.first, e.last, e.fault) for e in entries(live, "Withheld")] == [(N, 30, 0)]


def test_after_a_silence_of_some_time_data_goes_on_without_what_was_due():
    with serving(f"timing.silence:duration=50ms@frame={N}") as live, Client(live) as client:
        assert client.until_pong() == ALL[:N] + ALL[N + 4 :]


def test_a_later_connection_is_not_silent():
    with serving(f"timing.silence@frame={N}", speed=1.0) as live, Client(live) as client:
        client.messages(N)
        with Client(live) as other:
            got = other.messages(10)
        assert got == ALL[int(json.loads(got[0])["a"]) - 1000 :][:10]


@shows("timing.silence_all")
def test_nothing_comes_at_all_and_the_socket_stays():
    with (
        serving(f"timing.silence_all@frame={N}", ping_interval_ns=20_000_000, speed=1.0) as live,
        Client(live) as client,
    ):
        assert client.messages(N) == ALL[:N]
        client.send(9, b"there?")
        data, how = client.rest(timeout=0.3)
        assert how == "quiet"
        assert (PONG, b"there?") not in client.control
        assert b"there?" not in data
        assert len(data) < 60, "a ping that was on its way, no more"


@shows("timing.silence_from_start")
def test_not_one_frame_comes_and_a_later_connection_is_fine():
    with serving("timing.silence_from_start", speed=1.0) as live, Client(live) as client:
        assert client.until_pong() == []
        with Client(live) as other:
            assert other.message() in ALL


@shows("timing.partial_silence")
def test_one_stream_dies_and_the_other_flows():
    two = tape(30, symbols=("BTCUSDT", "ETHUSDT"))
    path = "/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade"
    spec = f"timing.partial_silence:stream=ethusdt@frame={N}"
    with serving(spec, timeline=two) as live, Client(live, path) as client:
        streams = [json.loads(payload)["stream"] for payload in client.until_pong()]
    assert streams[:N] == [two.streams[i % 2] for i in range(N)]
    assert set(streams[N:]) == {"btcusdt@aggTrade"}
    assert len(streams) == N + 12


@shows("timing.trickle")
def test_one_frame_per_interval():
    with serving(f"timing.trickle:interval=50ms@frame={N}") as live, Client(live) as client:
        assert client.until_pong() == ALL[:N] + [ALL[i] for i in (9, 14, 19, 24, 29)]


@shows("timing.first_message_delay")
def test_the_first_moments_are_missing_on_every_connection():
    with serving("timing.first_message_delay:delay=100ms", speed=1.0) as live, Client(live) as client:
        assert client.message() == ALL[10]
        with Client(live) as other:
            assert int(json.loads(other.message())["a"]) >= 1020


@shows("timing.stall_then_burst")
def test_what_is_due_is_held_and_comes_at_once():
    with serving(f"timing.stall_then_burst:duration=150ms@frame={N}", speed=1.0) as live, Client(live) as client:
        assert client.messages(30) == ALL
        gaps = gaps_of(client)
    assert gaps.index(max(gaps)) == N - 1
    assert max(gaps) > 0.1
    assert sum(gaps[N : N + 13]) < max(gaps)


@shows("timing.flap")
def test_short_stalls_again_and_again():
    slow = tape(30, step_ns=50_000_000)  # a busy machine may be late by many milliseconds, and not by stalls
    with (
        serving("timing.flap:stall=300ms,period=500ms@frame=1", speed=1.0, timeline=slow) as live,
        Client(live) as client,
    ):
        assert len(client.messages(30)) == 30
        gaps = gaps_of(client)
    long = [place for place, gap in enumerate(gaps) if gap > 0.18]
    assert long == [0, 9, 19] or long == [0, 9, 19, 28][: len(long)]


@shows("timing.burst")
def test_frames_come_many_times_faster_and_none_before_its_time():
    slow = tape(30, step_ns=80_000_000)
    with (
        serving("timing.burst:duration=1600ms,factor=20@frame=1", speed=1.0, timeline=slow) as live,
        Client(live) as client,
    ):
        assert len(client.messages(30)) == 30
        gaps = gaps_of(client)
    assert gaps.index(max(gaps)) == 0
    assert max(gaps) > 1.2
    assert sum(gaps[1:19]) < 0.8 < 18 * 0.08


@shows("timing.lag_constant")
def test_everything_comes_late_by_the_same_time():
    with serving(f"timing.lag_constant:lag=150ms@frame={N}", speed=1.0) as live, Client(live) as client:
        assert client.messages(30) == ALL
        gaps = gaps_of(client)
        assert all(e.late for e in entries(live, "Sent") if e.first >= N)
    assert gaps.index(max(gaps)) == N - 1
    assert max(gaps) > 0.12


@shows("timing.lag_growing")
def test_time_runs_slower_on_the_wire():
    with serving("timing.lag_growing:rate=2.0@frame=10", speed=1.0) as live, Client(live) as client:
        assert client.messages(30) == ALL
        arrivals = client.arrivals
    assert arrivals[29] - arrivals[9] >= 0.55
    assert arrivals[9] - arrivals[0] < 0.4


@shows("timing.clock_step")
@pytest.mark.parametrize(
    ("spec", "step"), [("timing.clock_step", 3_600_000), ("timing.clock_step:step=5s,back=true", -5000)]
)
def test_times_jump_and_stay_so(spec, step):
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        times = [json.loads(payload)["E"] - START_MS for payload in client.until_pong()]
    assert times == [10 * i for i in range(N)] + [10 * i + step for i in range(N, 30)]


@shows("timing.quiet_market", "timing.just_under", "exchange.symbol_halt")
@pytest.mark.parametrize(
    ("spec", "pause_ms"),
    [
        ("timing.quiet_market:duration=200ms", 200),
        ("timing.just_under:threshold=200ms", 180),
        ("exchange.symbol_halt:duration=200ms", 200),
    ],
)
def test_the_market_pauses_and_nothing_is_wrong(spec, pause_ms):
    with serving(f"{spec}@frame={N}", speed=1.0) as live, Client(live) as client:
        got = [json.loads(payload) for payload in client.messages(30)]
        gaps = gaps_of(client)
        status, _, body = get(live, "/api/v3/aggTrades?symbol=BTCUSDT&limit=1000")
        assert not entries(live, "Withheld")
        assert not entries(live, "Changed")
    assert [trade_["a"] for trade_ in got] == list(range(1000, 1030)), "no id is missing"
    assert [trade_["E"] - START_MS for trade_ in got] == [10 * i + (pause_ms if i >= N else 0) for i in range(30)]
    assert gaps.index(max(gaps)) == N - 1
    assert max(gaps) > pause_ms / 1000 * 0.8
    assert status == 200
    assert [row["T"] for row in json.loads(body)] == [trade_["T"] for trade_ in got], "REST tells the same story"


def test_over_the_wire_comes_what_the_script_says():
    with serving("timing.silence:duration=50ms,every=100ms@frame=1") as live, Client(live) as client:
        got = client.until_pong()
        script = compile_script(live.exchange.timeline, live.exchange.plan, connection=1)
    withheld = {f for a in script.actions if isinstance(a, Withhold) for f in range(a.first, a.last)}
    assert got == [ALL[i] for i in range(30) if i not in withheld]
    assert 0 < len(withheld) < 30
