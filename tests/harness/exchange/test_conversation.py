"""What a client says and hears, from the upgrade to the end. Sections are those of the protocol sheet."""

from __future__ import annotations

import json
import re

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.harness.exchange.talk import MS, START_MS, S, Talk, make_exchange, make_tape

BTC, ETH = "btcusdt@aggTrade", "ethusdt@aggTrade"


def test_a_raw_stream_is_played_byte_for_byte_on_time():
    tape = make_tape(3)
    talk = Talk(make_exchange(tape)).opens(f"/ws/{BTC}")
    talk.waits(0.05)
    assert talk.texts() == tape.payloads(0, 1)
    talk.waits(0.15)
    assert talk.texts() == tape.payloads(1, 2)
    talk.waits(60)
    assert talk.texts() == tape.payloads(2, 3)


def test_a_combined_stream_wraps_the_same_bytes():
    tape = make_tape(2)
    talk = Talk(make_exchange(tape)).opens(f"/stream?streams={BTC}").waits(1)
    assert talk.texts() == [b'{"stream":"btcusdt@aggTrade","data":%s}' % payload for payload in tape.payloads(0, 2)]


@pytest.mark.parametrize(
    "target", [f"/ws/{BTC}/{ETH}", f"/stream?streams={BTC}/{ETH}", "/ws/btcusdt%40aggTrade/ethusdt@aggTrade"]
)
def test_several_streams_may_be_joined_in_the_url(target):
    talk = Talk(make_exchange(make_tape(6, streams=(BTC, ETH)))).opens(target).waits(1)
    assert len(talk.texts()) == 6


@pytest.mark.parametrize("target", ["/ws", "/ws/", "/stream", "/stream?streams=", "/ws/0"])
def test_without_a_stream_it_waits_for_a_subscribe(target):
    talk = Talk(make_exchange()).opens(target).waits(1)
    assert talk.texts() == []
    talk.says({"method": "SUBSCRIBE", "params": [BTC], "id": 1}).waits(9)
    assert talk.texts()[0] == b'{"result":null,"id":1}'
    assert talk.exchange.started_ns == S, "the market starts with the first stream that is named"


def test_only_what_is_subscribed_is_sent():
    tape = make_tape(10, streams=(BTC, ETH))
    talk = Talk(make_exchange(tape)).opens(f"/ws/{ETH}").waits(1)
    assert talk.texts() == [tape.payload(frame) for frame in (1, 3, 5, 7, 9)]
    (sent, *_) = [e for e in talk.exchange.ledger if type(e).__name__ == "Sent"]
    assert sent.streams == (1,)


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT@aggTrade",
        "btcusdt@aggtrade",
        "nosuch@trade",
        "btcusdt@kline_1m@+08:00",
        "!miniTicker@arr",
        "币安人生usdt@aggTrade",
    ],
)
def test_a_well_formed_name_that_does_not_exist_is_acknowledged_and_stays_silent(name):
    talk = Talk(make_exchange()).opens("/ws").says({"method": "SUBSCRIBE", "params": [name], "id": 7}).waits(30)
    assert [data for kind, data in talk.takes() if kind != "ping"] == [b'{"result":null,"id":7}']
    assert talk.state == "OPEN"


def test_a_malformed_name_is_an_error_and_then_the_connection_is_closed():
    talk = Talk(make_exchange()).opens("/ws").says({"method": "SUBSCRIBE", "params": ["@@@junk###"], "id": 4})
    error, close = talk.takes()
    assert json.loads(error[1]) == {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 4}
    assert close[0] == "close"


def test_a_malformed_name_can_be_survived():
    talk = Talk(make_exchange(malformed_closes=False)).opens("/ws")
    talk.says({"method": "SUBSCRIBE", "params": ["@@@junk###"], "id": 4})
    talk.says({"method": "SUBSCRIBE", "params": [BTC], "id": 5})
    assert [answer["id"] for answer in talk.answers()[:2]] == [4, 5]


@pytest.mark.parametrize("target", ["/", "/nonsense", "/stream/nonsense", "/wss/x", "/ws2"])
def test_an_unknown_path_is_404_at_the_handshake(target):
    talk = Talk(make_exchange()).opens(target)
    assert talk.http()[0] == 404
    assert talk.ends() == "FIN"


@pytest.mark.parametrize("identity", [1, 0, -5, 2**62, "9f8b-uuid-like", "abc123", None])
def test_the_id_is_echoed_as_sent(identity):
    talk = Talk(make_exchange()).opens("/stream")
    talk.says({"method": "SUBSCRIBE", "params": ["x@y"], "id": identity})
    assert talk.texts() == [b'{"result":null,"id":%s}' % json.dumps(identity).encode()], "and is never wrapped"


@pytest.mark.parametrize("identity", ["1", None, -1])
def test_futures_want_an_unsigned_integer_as_id(identity):
    talk = Talk(make_exchange()).opens("/ws", host="dstream.binance.com")
    talk.says({"method": "SUBSCRIBE", "params": ["x@y"], "id": identity})
    assert talk.answers() == [{"error": {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}}]


def test_a_repeated_subscribe_is_acknowledged_and_does_not_double_the_feed():
    talk = Talk(make_exchange(make_tape(3))).opens(f"/ws/{BTC}")
    talk.says({"method": "SUBSCRIBE", "params": [BTC], "id": 1}).waits(1)
    assert len(talk.texts()) == 1 + 3


def test_subscriptions_can_be_listed_and_taken_back():
    talk = Talk(make_exchange(make_tape(10))).opens(f"/ws/{BTC}")
    talk.says({"method": "LIST_SUBSCRIPTIONS", "id": 3})
    assert {"result": [BTC], "id": 3} in talk.answers()
    talk.says({"method": "UNSUBSCRIBE", "params": [BTC], "id": 312}, at=0.45)
    talk.takes()
    talk.says({"method": "LIST_SUBSCRIPTIONS", "id": 4}).waits(0.85)
    assert talk.answers() == [{"result": [], "id": 4}]
    talk.says({"method": "SUBSCRIBE", "params": [BTC], "id": 5}).waits(2)
    assert len(talk.texts()) == 1 + 1, "what passed meanwhile is gone"


def test_wrapping_can_be_switched_while_it_plays():
    tape = make_tape(3)
    talk = Talk(make_exchange(tape)).opens(f"/ws/{BTC}").waits(0.05)
    talk.takes()
    talk.says({"method": "GET_PROPERTY", "params": ["combined"], "id": 2})
    talk.says({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5})
    talk.says({"method": "GET_PROPERTY", "params": ["combined"], "id": 6}).waits(0.15)
    off, done, on, data = talk.answers()
    assert [off, done, on] == [{"result": False, "id": 2}, {"result": None, "id": 5}, {"result": True, "id": 6}]
    assert data == {"stream": BTC, "data": json.loads(tape.payload(1))}


ERRORS = [
    ("", 3, "Invalid JSON: EOF while parsing a value"),
    ("{", 3, "Invalid JSON: expected value at line 1 column"),
    ("[]", 2, "Invalid request"),
    ('{"method":"SUBSCRIBE","params":["a@b"]}', 2, "request ID must be an unsigned integer"),
    ('{"method":"SUBSCRIBE","params":["a@b"],"id":true}', 2, "request ID must be an unsigned integer"),
    ('{"id":1}', 2, "missing field `method` at line 1 column 8"),
    ('{"method":"X","id":1}', 2, "unknown variant `X`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUB"),
    ('{"method":"LIST_SUBSCRIPTIONS","params":["a"],"id":1}', 2, "too many parameters"),
    ('{"method":"SET_PROPERTY","params":["nosuch",true],"id":1}', 0, "Unknown property"),
    ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Invalid value type: expected Boolean"),
    ('{"method":"GET_PROPERTY","params":[1],"id":1}', 2, "property name must be a string"),
    ('{"method":"GET_PROPERTY","params":["combined","x"],"id":1}', 2, "too many parameters"),
    ("[" * 3000, 3, "Invalid JSON"),
    ('{"method":"SUBSCRIBE","id":' + "9" * 2000 + "}", 2, "request ID must be an unsigned integer"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "msg"), ERRORS, ids=range(len(ERRORS)))
def test_a_mistake_gets_the_documented_error_and_the_connection_lives_on(text, code, msg):
    talk = Talk(make_exchange()).opens("/ws").says(text)
    (answer,) = talk.answers()
    assert answer["error"]["code"] == code
    assert msg in answer["error"]["msg"]
    assert talk.state == "OPEN"


def test_the_1025th_stream_is_too_many():
    talk = Talk(make_exchange(subscribe_bytes_max=1 << 20)).opens("/ws")
    talk.says({"method": "SUBSCRIBE", "params": [f"s{i}@trade" for i in range(1024)], "id": 1})
    talk.says({"method": "SUBSCRIBE", "params": ["one@more"], "id": 19})
    assert talk.answers()[1] == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 19}


def test_a_subscribe_of_more_than_4096_bytes_is_answered_by_silence():
    talk = Talk(make_exchange()).opens("/ws")
    talk.says({"method": "SUBSCRIBE", "params": [f"symbol{i:03}usdt@aggTrade" for i in range(216)], "id": 1}).waits(10)
    assert [kind for kind, _ in talk.takes()] == []
    assert talk.state == "OPEN"


def test_five_messages_a_second_are_allowed_and_the_sixth_closes():
    talk = Talk(make_exchange()).opens("/ws")
    for number in range(5):
        talk.says({"method": "LIST_SUBSCRIPTIONS", "id": number})
    assert len(talk.answers()) == 5
    talk.says({"method": "LIST_SUBSCRIPTIONS", "id": 5}, at=0.999)
    assert talk.takes() == [("close", (1008, "Too many requests"))]


def test_the_window_rolls():
    """Five at once and one every 200 ms is too many for it; one every 250 ms never is (section 3)."""
    talk = Talk(make_exchange()).opens("/ws")
    for number in range(40):
        talk.says({"method": "LIST_SUBSCRIPTIONS", "id": number}, at=0.25 * number)
    assert talk.state == "OPEN"
    for _ in range(4):
        talk.pings(b"x", at=20.0)
    talk.pongs(b"", at=20.2)
    assert talk.state == "OPEN"
    talk.pings(b"x", at=20.4)
    assert talk.takes()[-1] == ("close", (1008, "Too many requests")), "pings and pongs count"


def test_pings_come_every_20_seconds_with_a_payload_and_a_pong_is_wanted_within_a_minute():
    talk = Talk(make_exchange()).opens("/ws").waits(19)
    assert talk.takes() == []
    talk.waits(45)
    (kind, first), (_, second) = talk.takes()
    assert kind == "ping"
    assert first
    talk.pongs(second)
    talk.waits(119.9)
    assert all(kind == "ping" for kind, _ in talk.takes())
    talk.waits(120)
    assert ("close", (1008, "Pong timeout")) in talk.takes(), "60 s after the first ping that was not answered"


def test_an_empty_pong_is_allowed_and_keeps_nothing_alive():
    talk = Talk(make_exchange()).opens("/ws").waits(21)
    for second in range(22, 79):
        talk.pongs(b"", at=second)
    talk.waits(80)
    assert talk.takes()[-1] == ("close", (1008, "Pong timeout"))


def test_futures_ping_every_three_minutes():
    talk = Talk(make_exchange()).opens("/ws", host="dstream.binance.com").waits(179)
    assert talk.takes() == []
    assert talk.waits(181).takes()[0][0] == "ping"


def test_cadence_and_deadline_are_scalable():
    talk = Talk(make_exchange(ping_interval_ns=S // 5, pong_deadline_ns=S // 2)).opens("/ws").waits(1)
    assert [kind for kind, _ in talk.takes()] == ["ping", "ping", "ping", "close"]


def test_the_clients_own_pings_are_answered_with_their_payload():
    assert Talk(make_exchange()).opens("/ws").pings(b"are you there").takes() == [("pong", b"are you there")]


def test_a_connection_lives_24_hours():
    talk = Talk(make_exchange(ping_interval_ns=10**9 * S)).opens("/ws").waits(24 * 3600 - 1)
    assert talk.takes() == []
    assert talk.waits(24 * 3600).takes() == [("close", (1001, "going away"))]


@pytest.mark.parametrize("target", ["/ws", "/stream"])
def test_a_shutdown_is_announced_when_asked_for(target):
    talk = Talk(make_exchange(life_ns=10 * S, shutdown_notice_ns=4 * S)).opens(target).waits(6)
    event = {"e": "serverShutdown", "E": START_MS + 6000}
    assert talk.answers() == [event if target == "/ws" else {"stream": "!serverShutdown", "data": event}]
    assert talk.waits(10).takes() == [("close", (1001, "going away"))]


@pytest.mark.parametrize("query", ["?timeUnit=MICROSECOND", "?timeUnit=microsecond"])
def test_time_fields_have_16_digits_when_microseconds_are_asked_for(query):
    talk = Talk(make_exchange()).opens(f"/ws/{BTC}{query}").waits(0.05)
    (trade,) = talk.answers()
    assert (trade["T"], trade["E"]) == (START_MS * 1000, (START_MS + 1) * 1000)
    assert trade["a"] == 1000


USDM = [
    ("/market/ws/btcusdt@aggTrade", True), ("/market/stream?streams=btcusdt@aggTrade", True),
    ("/public/ws/btcusdt@aggTrade", False), ("/private/ws/btcusdt@aggTrade", False),
    ("/ws/btcusdt@aggTrade", False), ("/stream?streams=btcusdt@aggTrade", False),
]  # fmt: skip


@pytest.mark.parametrize(("target", "delivers"), USDM)
def test_usd_m_delivers_only_on_the_right_path_and_says_nothing_on_the_others(target, delivers):
    talk = Talk(make_exchange()).opens(target, host="fstream.binance.com").waits(2)
    assert bool(talk.texts()) is delivers
    assert talk.state == "OPEN"


def test_usd_m_acknowledges_on_the_retired_path_and_stays_mute():
    """What the path split of 2026-04-23 did to every client on the old path (section 1.1)."""
    talk = Talk(make_exchange()).opens("/ws", host="fstream.binance.com")
    talk.says({"method": "SUBSCRIBE", "params": [BTC], "id": 1}).waits(30)
    assert talk.texts() == [b'{"result":null,"id":1}']


def test_book_data_is_on_the_public_path():
    tape = make_tape(3, streams=("btcusdt@bookTicker",))
    assert Talk(make_exchange(tape)).opens("/public/ws/btcusdt@bookTicker").waits(1).texts()
    assert not Talk(make_exchange(tape)).opens("/market/ws/btcusdt@bookTicker").waits(1).texts()


def test_messages_are_compressed_only_when_that_was_agreed():
    tape = make_tape(5)
    offered = [ClientPerMessageDeflateFactory(client_max_window_bits=True)]
    talk = Talk(make_exchange(tape)).opens(f"/ws/{BTC}", extensions=offered)
    assert [extension.name for extension in talk.client.extensions] == ["permessage-deflate"]
    assert talk.waits(1).texts() == tape.payloads(0, 5)
    assert len(talk.raw) < sum(map(len, tape.payloads(0, 5)))
    refused = Talk(make_exchange(tape, deflate=False)).opens(f"/ws/{BTC}", extensions=offered)
    assert refused.client.extensions == []
    assert refused.waits(1).texts() == tape.payloads(0, 5)


def test_a_compressed_message_of_the_client_is_read():
    talk = Talk(make_exchange()).opens("/ws", extensions=[ClientPerMessageDeflateFactory()])
    for number in range(3):  # the context is taken over from message to message
        talk.says({"method": "LIST_SUBSCRIPTIONS", "id": number})
    assert [answer["id"] for answer in talk.answers()] == [0, 1, 2]


def test_a_close_is_echoed_and_then_the_exchange_hangs_up():
    talk = Talk(make_exchange()).opens("/ws").closes(1000)
    assert talk.takes() == [("close", (1000, ""))]
    assert talk.ends() == "FIN"
    (closed,) = [e for e in talk.exchange.ledger if type(e).__name__ == "Closed"]
    assert (closed.by, closed.how, closed.code) == ("client", "close", 1000)


def test_who_comes_back_gets_what_is_due_from_now_on():
    tape = make_tape(10)
    exchange = make_exchange(tape)
    Talk(exchange).opens(f"/ws/{BTC}").leaves(at=0.25)
    again = Talk(exchange, at=0.55).opens(f"/ws/{BTC}").waits(2)
    assert again.texts() == tape.payloads(6, 10)


def test_the_market_starts_after_the_grace_and_for_everybody_at_once():
    tape = make_tape(4)
    exchange = make_exchange(tape, grace_ns=500 * MS)
    first = Talk(exchange).opens(f"/ws/{BTC}")
    second = Talk(exchange, at=0.4).opens(f"/ws/{BTC}")
    assert first.waits(0.49).texts() == second.waits(0.49).texts() == []
    assert first.waits(2).texts() == second.waits(2).texts() == tape.payloads(0, 4)


def test_speed_scales_the_distances():
    tape = make_tape(11)
    talk = Talk(make_exchange(tape, speed=10.0)).opens(f"/ws/{BTC}").waits(0.055)
    assert talk.texts() == tape.payloads(0, 6)


def test_at_full_speed_nothing_waits_and_who_comes_back_misses_nothing():
    tape = make_tape(1000)
    exchange = make_exchange(tape, speed=float("inf"))
    first = Talk(exchange)
    first.line.writable = False
    first.opens(f"/ws/{BTC}")
    assert first.texts() == []
    first.line.writable = True
    assert first.waits(0).texts() == tape.payloads(0, 1000)
    assert exchange.ended(0)


def test_a_client_that_does_not_read_costs_no_memory_and_gets_everything_late():
    tape = make_tape(1000, step_ns=MS)
    talk = Talk(make_exchange(tape)).opens(f"/ws/{BTC}").waits(0.1)
    talk.line.writable = False
    talk.waits(0.9)
    assert talk.line.data_to_send() == []
    talk.line.writable = True
    assert talk.waits(2).texts() == tape.payloads(0, 1000)


def test_the_tape_can_start_in_the_middle_and_go_round():
    tape = make_tape(4)
    talk = Talk(make_exchange(tape, from_ns=200 * MS, loop=True)).opens(f"/ws/{BTC}").waits(0.65)
    assert talk.texts() == [*tape.payloads(2, 4), *tape.payloads(0, 4), *tape.payloads(0, 1)]


def test_times_can_be_moved_to_the_present_all_other_bytes_untouched():
    tape = make_tape(2)
    exchange = make_exchange(tape, retime="auto")
    talk = Talk(exchange, at=3600).opens(f"/ws/{BTC}").waits(3601)
    first, second = talk.texts()
    assert json.loads(first)["E"] == START_MS + 3_600_000
    assert json.loads(second)["E"] - json.loads(first)["E"] == 100
    times = re.compile(rb'"[ET]":\d{13}')
    assert times.sub(b"", first) == times.sub(b"", tape.payload(0))


def test_the_301st_connection_in_five_minutes_gets_429():
    exchange = make_exchange()
    for _ in range(300):
        Talk(exchange).opens("/ws").leaves()
    refused = Talk(exchange).opens("/ws")
    assert refused.http()[0] == 429
    assert "Retry-After: 300" in refused.last_head
    assert Talk(exchange, at=301).opens("/ws").state == "OPEN"


def test_what_was_prepared_is_what_is_sent():
    """Working ahead shows nothing and changes nothing."""
    plain, ahead = (Talk(make_exchange(make_tape(600, step_ns=MS))).opens(f"/ws/{BTC}") for _ in range(2))
    for turn in range(1, 7):
        ahead.line.prepare()
        assert ahead.waits(turn / 10).texts() == plain.waits(turn / 10).texts()
    assert ahead.line.next_due_ns() == plain.line.next_due_ns()
