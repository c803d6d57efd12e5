"""Exchange faults on the wire: the control plane, lives and limits, and the way back over REST."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tests.harness.faults.tapes import FIRST_ID, START_MS, tape, trade
from tests.live.faults.test_tcp import dial
from tests.live.faults.wire import (
    PING,
    PONG,
    Client,
    Ended,
    entries,
    get,
    serving,
    shows,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

N = 5
ALL = [trade(i) for i in range(30)]
BTC = "btcusdt@aggTrade"


def subscribe(client, *streams, identity=1):
    client.send_json(method="SUBSCRIBE", params=list(streams) or [BTC], id=identity)


def replies(payloads):
    return [payload for payload in map(json.loads, payloads) if "e" not in payload]


# --- Subscribing --------------------------------------------------------------------------------------


def test_without_a_fault_a_subscription_is_acknowledged_and_data_follows():
    with serving() as live, Client(live, "/ws") as client:
        subscribe(client)
        assert json.loads(client.message()) == {"result": None, "id": 1}
        assert client.messages(30) == ALL


@shows("exchange.ack_then_silence")
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("path", ["/ws", "/stream", f"/ws/{BTC}"])
def test_the_flagship_acknowledged_pings_answered_and_never_one_frame(path, secure):
    with serving("exchange.ack_then_silence", tls=secure, ping_interval_ns=20_000_000, speed=1.0) as live:
        for _ in range(2):
            with Client(live, path, secure=secure) as client:
                assert client.status == 101
                subscribe(client)
                assert json.loads(client.message()) == {"result": None, "id": 1}
                assert {client.frame().opcode for _ in range(3)} == {PING}
                assert client.until_pong() == []
        assert not entries(live, "Sent")


@shows("exchange.ack_missing")
def test_no_answer_comes_and_the_subscription_works():
    with serving("exchange.ack_missing") as live, Client(live, "/ws") as client:
        subscribe(client)
        assert client.messages(30) == ALL
        assert client.until_pong() == []


@shows("exchange.ack_late")
def test_data_comes_before_the_answer():
    with serving("exchange.ack_late:delay=200ms") as live, Client(live, "/ws") as client:
        subscribe(client)
        assert client.messages(30) == ALL
        assert json.loads(client.message()) == {"result": None, "id": 1}


@shows("exchange.ack_wrong_id")
@pytest.mark.parametrize("identity", [1, "mine"])
def test_the_answer_carries_another_id(identity):
    with serving("exchange.ack_wrong_id") as live, Client(live, "/ws") as client:
        subscribe(client, identity=identity)
        answer = json.loads(client.message())
        assert answer["result"] is None
        assert answer["id"] != identity
        assert client.messages(30) == ALL


@shows("exchange.ack_error")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("exchange.ack_error", {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 1}),
        ("exchange.ack_error:code=4,msg=no,shape=flat", {"code": 4, "msg": "no", "id": 1}),
    ],
)
def test_an_error_comes_and_no_data(spec, expected):
    with serving(spec) as live, Client(live, "/ws") as client:
        subscribe(client)
        assert json.loads(client.message()) == expected
        assert client.until_pong() == []


@shows("exchange.unknown_stream_accepted")
def test_even_a_malformed_name_is_acknowledged_and_stays_mute():
    with serving("exchange.unknown_stream_accepted") as live, Client(live, "/ws") as client:
        subscribe(client, "@@@junk###")
        assert json.loads(client.message()) == {"result": None, "id": 1}
        assert client.until_pong() == []
    with serving() as live, Client(live, "/ws") as client:
        subscribe(client, "@@@junk###")
        assert "error" in json.loads(client.message())


@shows("exchange.wrong_route")
def test_one_sort_of_streams_is_mute():
    with serving("exchange.wrong_route") as live, Client(live, "/ws") as client:
        subscribe(client)
        assert json.loads(client.message()) == {"result": None, "id": 1}
        assert client.until_pong() == []
    with serving("exchange.wrong_route:streams=*@depth *@bookTicker") as live, Client(live, "/ws") as client:
        subscribe(client)
        client.message()
        assert client.messages(30) == ALL


@shows("exchange.subscription_lost_on_reconnect")
def test_a_later_connection_must_subscribe_again():
    with serving("exchange.subscription_lost_on_reconnect", speed=1.0, loop=True) as live:
        with Client(live) as client:
            assert client.message() == ALL[0]
        with Client(live) as client:
            assert client.until_pong() == []
            subscribe(client)
            assert json.loads(client.message()) == {"result": None, "id": 1}
            assert client.message() in ALL


# --- Lives and limits -----------------------------------------------------------------------------------


@shows("exchange.lifetime")
def test_every_connection_is_ended_at_its_age():
    with serving("exchange.lifetime:after=200ms") as live:
        for _ in range(2):
            with Client(live) as client:
                began = time.monotonic()
                with pytest.raises(Ended, match="close"):
                    while True:
                        client.message()
                assert time.monotonic() - began >= 0.18
                assert client.closed_with[0] == 1001


@shows("exchange.server_shutdown")
@pytest.mark.parametrize("combined", [False, True])
def test_the_shutdown_is_announced_and_then_comes(combined):
    path = f"/stream?streams={BTC}" if combined else f"/ws/{BTC}"
    with serving(f"exchange.server_shutdown:lead=50ms@frame={N}") as live, Client(live, path) as client:
        got = []
        with pytest.raises(Ended, match="close"):
            while True:
                got.append(json.loads(client.message()))
        assert client.closed_with == (1001, b"going away")
    notice = {"e": "serverShutdown", "E": START_MS + 40}
    assert got[N] == ({"stream": "!serverShutdown", "data": notice} if combined else notice)
    assert len(got) == N + 5, "the frames due within the lead still come"


@shows("exchange.shutdown_notice_only", "exchange.listen_key_expired")
@pytest.mark.parametrize(
    ("spec", "event"),
    [("exchange.shutdown_notice_only", "serverShutdown"), ("exchange.listen_key_expired", "listenKeyExpired")],
)
def test_an_event_comes_among_the_trades(spec, event):
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        got = client.until_pong()
    assert json.loads(got[N])["e"] == event
    assert got[:N] + got[N + 1 :] == ALL


@shows("exchange.rate_limit")
def test_one_message_too_many_is_closed_with_1008():
    with serving("exchange.rate_limit:limit=2") as live:
        with Client(live, "/ws") as client:
            with pytest.raises(Ended, match="close"), contextlib.suppress(ConnectionError):
                for identity in range(3):
                    client.send_json(method="LIST_SUBSCRIPTIONS", id=identity)
                while True:
                    client.message()
            assert client.closed_with == (1008, b"Too many requests")
        with Client(live, "/ws") as client:
            client.send_json(method="LIST_SUBSCRIPTIONS", id=1)
            client.send_json(method="LIST_SUBSCRIPTIONS", id=2)
            assert len(client.messages(2)) == 2


@shows("exchange.too_many_streams")
def test_streams_past_the_limit_are_refused():
    with serving("exchange.too_many_streams:limit=1") as live, Client(live, "/ws") as client:
        subscribe(client, "ethusdt@aggTrade")
        assert json.loads(client.message()) == {"result": None, "id": 1}
        subscribe(client, BTC, identity=2)
        assert json.loads(client.message())["error"]["msg"] == "Too many subscriptions"
        assert client.until_pong() == []


@shows("exchange.pong_timeout")
def test_a_missing_pong_is_closed_with_1008_and_a_prompt_one_is_not():
    with serving("exchange.pong_timeout:interval=50ms,deadline=150ms") as live:
        with Client(live) as client:
            with pytest.raises(Ended, match="close"):
                while True:
                    client.message(pong=False)
            assert client.closed_with == (1008, b"Pong timeout")
        with Client(live) as client:
            for _ in range(6):
                ping = client.frame()
                assert ping.opcode == PING
                client.send(PONG, ping.payload)


@shows("exchange.refuse_reconnects")
def test_the_next_attempts_are_refused():
    with serving("exchange.refuse_reconnects:count=2") as live:
        outcomes = []
        for _ in range(4):
            try:
                dial(live).close()
                outcomes.append("ok")
                # The number is given when the connection is accepted.
                until = time.monotonic() + 5
                while live.call(live.exchange.peek_number) == len(outcomes) and time.monotonic() < until:
                    time.sleep(0.005)
            except ConnectionRefusedError:
                outcomes.append("refused")
    assert outcomes == ["ok", "refused", "refused", "ok"]


@shows("exchange.ban")
def test_reconnects_get_429_then_418_with_retry_after():
    with serving("exchange.ban:attempts=3,retry_after=7s") as live:
        seen = []
        for _ in range(5):
            with Client(live) as client:
                seen.append((client.status, client.header("Retry-After")))
    assert seen == [(101, []), (429, ["7"]), (418, ["7"]), (418, ["7"]), (101, [])]


@shows("exchange.slow_consumer_kick")
def test_a_client_that_does_not_read_is_closed_with_1008():
    long = tape(200_000, step_ns=5_000)
    kick = "exchange.slow_consumer_kick:backlog=100000"
    with serving(kick, timeline=long, speed=1.0) as live, Client(live, receive_buffer=8192) as client:
        until = time.monotonic() + 15
        while not entries(live, "Closed") and time.monotonic() < until:
            time.sleep(0.05)
        (closed,) = entries(live, "Closed")
        assert (closed.code, closed.how) == (1008, "limit")
        with pytest.raises(Ended, match="close"):
            while True:
                client.message()
        assert client.closed_with[0] == 1008


# --- Planned and unplanned ------------------------------------------------------------------------------


@shows("exchange.maintenance")
def test_everybody_is_closed_and_503_until_it_is_over():
    with serving(f"exchange.maintenance:attempts=2@frame={N}", speed=1.0, loop=True) as live:
        with Client(live) as client:
            assert client.messages(N) == ALL[:N]
            with pytest.raises(Ended, match="close"):
                client.message()
            assert client.closed_with[0] == 1001
        seen = []
        for _ in range(3):
            with Client(live) as client:
                seen.append(client.status)
        assert seen == [503, 503, 101]


@shows("exchange.heartbeats_only", "exchange.delist", "sequence.gap")
@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        (f"exchange.heartbeats_only:duration=50ms@frame={N}", range(N, N + 4)),
        (f"exchange.delist@frame={N}", range(N, 30)),
        (f"sequence.gap:count=3@frame={N}", range(N - 1, N + 2)),
    ],
)
def test_what_is_nowhere_is_not_in_rest_either(spec, missing):
    with serving(spec) as live, Client(live) as client:
        assert client.until_pong() == [ALL[i] for i in range(30) if i not in missing]
        status, _, body = get(live, "/api/v3/aggTrades?symbol=BTCUSDT&limit=1000")
        assert status == 200
        assert [row["a"] - FIRST_ID for row in json.loads(body)] == [i for i in range(30) if i not in missing]


def test_what_was_lost_on_the_wire_is_in_rest():
    with serving(f"sequence.drop:count=3@frame={N}") as live, Client(live) as client:
        assert len(client.until_pong()) == 27
        _, _, body = get(live, "/api/v3/aggTrades?symbol=BTCUSDT&limit=1000")
        assert len(json.loads(body)) == 30


# --- REST -------------------------------------------------------------------------------------------------

TRADES = "/api/v3/aggTrades?symbol=BTCUSDT"
REST = {
    "exchange.rest_backfill_429": lambda s, h, b: (
        s == 429 and h["Retry-After"] == "10" and json.loads(b)["code"] == -1003
    ),
    "exchange.rest_backfill_418": lambda s, h, b: s == 418 and h["Retry-After"] == "120",
    "exchange.rest_backfill_503": lambda s, h, b: s == 503 and b.startswith(b"<!DOCTYPE html>"),
    "exchange.rest_backfill_garbage": lambda s, h, b: s == 200 and isinstance(json.loads(b), dict),
    "exchange.rest_backfill_stale:lag=100ms": lambda s, h, b: s == 200 and json.loads(b)[-1]["a"] < FIRST_ID + 29,
    "exchange.rest_backfill_empty": lambda s, h, b: (s, b) == (200, b"[]"),
    "exchange.rest_backfill_limit:limit=4": lambda s, h, b: s == 200 and len(json.loads(b)) == 4,
}


@shows(*(name.partition(":")[0] for name in REST))
@pytest.mark.parametrize("spec", REST)
def test_rest_fails_the_first_time_and_not_the_second(spec):
    speed = {"speed": 1.0} if "stale" in spec else {}
    with serving(f"{spec}" + (",count=1" if ":" in spec else ":count=1"), **speed) as live, Client(live) as client:
        assert client.messages(30) == ALL
        assert REST[spec](*get(live, TRADES))
        status, _, body = get(live, TRADES)
        assert (status, len(json.loads(body))) == (200, 30)


@shows("exchange.rest_backfill_stall")
def test_rest_never_answers():
    with serving("exchange.rest_backfill_stall:count=1") as live, Client(live) as client:
        client.messages(30)
        with Client(live, upgrade=False) as rest:
            rest.sock.sendall(f"GET {TRADES} HTTP/1.1\r\nHost: api.binance.com\r\n\r\n".encode())
            assert rest.rest(timeout=0.2) == (b"", "quiet")
        assert get(live, TRADES)[0] == 200
