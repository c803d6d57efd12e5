"""REST from the recording: every parameter's meaning, limits, errors. Section 8 of the protocol sheet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.actions import Manners, Reply
from harness.actions import Rest as RestManners
from harness.faults.plan import Plan, parse_fault
from tests.harness.exchange.talk import MS, START_MS, S, Talk, make_exchange, make_tape

BTC = "btcusdt@aggTrade"


def ask(exchange, target, *, at=10.0, method="GET", headers="", body=b""):
    talk = Talk(exchange, at=at)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    talk.sends(f"{method} {target} HTTP/1.1\r\nHost: api.binance.com\r\n{length}{headers}\r\n".encode() + body)
    status, text = talk.http()
    ask.head = talk.last_head
    return status, json.loads(text) if text[:1] in b"[{" and text else text


def playing(tape=None, plan=None, **settings):
    exchange = make_exchange(tape or make_tape(2000, step_ns=MS), plan, **settings)
    Talk(exchange).opens(f"/ws/{BTC}")
    return exchange


def ids(exchange, query="", **how):
    status, trades = ask(exchange, f"/api/v3/aggTrades?symbol=BTCUSDT{query}", **how)
    assert status == 200, trades
    return [trade["a"] for trade in trades]


def test_ping_time_and_weight_headers():
    exchange = playing()
    assert ask(exchange, "/api/v3/ping") == (200, {})
    assert "x-mbx-used-weight-1m: 1" in ask.head
    assert ask(exchange, "/api/v3/time") == (200, {"serverTime": START_MS + 10_000})
    assert "x-mbx-used-weight: 2" in ask.head
    assert ask(exchange, "/api/v3/time", headers="X-MBX-TIME-UNIT: MICROSECOND\r\n")[1] == {
        "serverTime": (START_MS + 10_000) * 1000
    }


def test_an_item_has_the_fields_of_rest_in_their_order():
    assert ask(playing(), "/api/v3/aggTrades?symbol=BTCUSDT&limit=1&fromId=1000")[1] == [
        {
            "a": 1000,
            "p": "35000.10000000",
            "q": "0.00100000",
            "f": 2000,
            "l": 2001,
            "T": START_MS,
            "m": False,
            "M": True,
        }
    ]
    (item,) = ask(playing(), "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1&fromId=1000")[1]
    assert list(item) == ["a", "p", "q", "f", "l", "T", "m"]


def test_with_nothing_given_the_latest_500():
    assert ids(playing()) == list(range(2500, 3000))


def test_the_limit_is_at_most_1000():
    assert ids(playing(), "&limit=5000") == list(range(2000, 3000))


def test_from_an_id_upwards_inclusive():
    assert ids(playing(), "&fromId=1005&limit=3") == [1005, 1006, 1007]
    assert ids(playing(), "&fromId=1&limit=2") == [1000, 1001]
    assert ids(playing(), "&fromId=999999") == []


def test_from_a_time_the_oldest_inclusive():
    assert ids(playing(), f"&startTime={START_MS + 5}&limit=2") == [1005, 1006]


def test_up_to_a_time_the_latest_inclusive():
    assert ids(playing(), f"&endTime={START_MS + 5}&limit=2") == [1004, 1005]


def test_between_two_times_the_oldest():
    assert ids(playing(), f"&startTime={START_MS + 5}&endTime={START_MS + 8}") == [1005, 1006, 1007, 1008]
    assert ids(playing(), f"&startTime={START_MS + 5}&endTime={START_MS + 500}&limit=2") == [1005, 1006]
    assert ids(playing(), f"&startTime={(START_MS + 5) * 1000}&limit=1") == [1005], "microseconds are understood"


@given(start=st.integers(-5, 60), end=st.integers(-5, 60), limit=st.integers(1, 20))
def test_both_bounds_agree_with_a_plain_filter(start, end, limit):
    tape = make_tape(
        due_ns=sorted([0, 0, 0, 5, 5, 9, 20, 20, 21, 40, 50, 50])
        and [n * MS for n in [0, 0, 0, 5, 5, 9, 20, 20, 21, 40, 50, 50]]
    )
    exchange = playing(tape)
    times = {1000 + frame: START_MS + int(due) // MS for frame, due in enumerate(tape.due_ns)}
    if start <= end:
        wanted = [number for number, at in times.items() if START_MS + start <= at <= START_MS + end]
        query = f"&startTime={START_MS + start}&endTime={START_MS + end}&limit={limit}"
        assert ids(exchange, query) == wanted[:limit]
    upto = [number for number, at in times.items() if at <= START_MS + end]
    assert ids(exchange, f"&endTime={START_MS + end}&limit={limit}") == upto[-limit:]


def test_only_what_was_due_until_now_is_there():
    exchange = playing()
    assert ids(exchange, "&fromId=1000", at=0.0105) == list(range(1000, 1011))
    assert ids(playing(rest_lag_ns=5 * MS), "&fromId=1000", at=0.0105) == list(range(1000, 1006))


def test_before_anybody_subscribed_nothing_was_due():
    assert ids(make_exchange()) == []


def test_a_gap_that_holds_everywhere_is_a_gap_here_too():
    exchange = playing(make_tape(20), Plan((parse_fault("sequence.gap:count=3@frame=5"),)))
    assert ids(exchange) == [*range(1000, 1004), *range(1007, 1020)]


def test_an_id_that_the_tape_has_twice_is_given_once():
    tape = make_tape(5)
    tape.trade_ids[3] = tape.trade_ids[2]
    assert len(ids(playing(tape))) == 4


ERRORS = [
    ("", -1102), ("symbol=", -1102), ("symbol=NOSUCH", -1121), ("symbol=btc%20usdt", -1100),
    ("symbol=BTCUSDT&limit=x", -1100),
    ("symbol=BTCUSDT&limit=0", -1130), ("symbol=BTCUSDT&limit=", -1105), ("symbol=BTCUSDT&fromId=1&startTime=2", -1128),
    ("symbol=BTCUSDT&startTime=2&endTime=1", -1127), ("symbol=BTCUSDT&fromId=-1", -1100),
]  # fmt: skip


@pytest.mark.parametrize(("query", "code"), ERRORS)
def test_a_mistake_gets_its_code(query, code):
    status, body = ask(playing(), f"/api/v3/aggTrades?{query}")
    assert (status, body["code"]) == (400, code)
    assert body["msg"]


def test_exchange_info_has_the_price_filter_first():
    status, info = ask(playing(), "/api/v3/exchangeInfo")
    assert status == 200
    assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT"]
    first = info["symbols"][0]["filters"][0]
    assert (first["filterType"], first["tickSize"]) == ("PRICE_FILTER", "0.10000000")
    assert (info["symbols"][0]["baseAsset"], info["symbols"][0]["quoteAsset"]) == ("BTC", "USDT")
    assert ask(playing(), "/api/v3/exchangeInfo?symbol=NOSUCH")[1]["code"] == -1121
    assert ask(playing(), "/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22%5D")[0] == 200
    assert ask(playing(), "/api/v3/exchangeInfo?symbols=5")[1]["code"] == -1121
    assert ask(playing(), "/api/v3/exchangeInfo?symbols=x")[1]["code"] == -1100


@pytest.mark.parametrize("path", ["/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"])
def test_futures_libraries_get_an_empty_list(path):
    assert ask(playing(), path) == (200, {"symbols": []})
    assert ask(playing(market="spot"), path) == (200, {"symbols": []})


def test_klines_are_made_from_the_trades():
    status, candles = ask(playing(), "/api/v3/klines?symbol=BTCUSDT&interval=1s&limit=2")
    assert status == 200
    assert len(candles) == 2
    opened, first, high, low, last, volume, closes, quote, count, taker, taker_quote, _ = candles[0]
    assert (opened % 1000, closes - opened) == (0, 999)
    assert first == high == low == last == "35000.10000000"
    assert (volume, quote, count) == ("1.00000000", "35000.10000000", 2000)
    assert (taker, taker_quote) == ("0.50000000", "17500.05000000")
    assert ask(playing(), "/api/v3/klines?symbol=BTCUSDT&interval=7m")[1]["code"] == -1120
    assert ask(playing(), "/api/v3/klines?symbol=BTCUSDT")[1]["code"] == -1102


def test_too_much_weight_is_429_and_going_on_is_418_until_the_ban_is_over():
    exchange = playing(weight_limit=10)
    answers = [ask(exchange, "/api/v3/aggTrades?symbol=BTCUSDT") for _ in range(20)]
    assert [status for status, _ in answers] == [200] * 2 + [429] * 10 + [418] * 8
    assert answers[2][1]["code"] == answers[-1][1]["code"] == -1003
    assert "banned until" in answers[-1][1]["msg"]
    assert "Retry-After: 120" in ask.head
    assert ask(exchange, "/api/v3/ping", at=131)[0] == 200


def test_unknown_paths_and_methods():
    assert ask(playing(), "/api/v1/ping")[0] == 404
    assert ask(playing(), "/api/v3/nosuch")[1]["code"] == -5000
    assert ask(playing(), "/api/v3/ping", method="DELETE")[0] == 405


def test_requests_follow_each_other_on_one_connection():
    talk = Talk(playing(), at=1)
    talk.sends(b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\nGET /api/v3/time HTTP/1.1\r\nHost: x\r\n\r\n")
    assert talk.raw.count(b"HTTP/1.1 200 OK") == 2
    assert talk.ends() is None
    talk.sends(b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert talk.ends() == "FIN"


def test_rest_takes_no_number_from_the_streams():
    exchange = make_exchange()
    rest = Talk(exchange)
    rest.sends(b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\n")
    stream = Talk(exchange).opens("/ws")
    assert (rest.line.number, stream.line.number) == (-1, 1)
    assert Talk(exchange).opens("/ws").line.number == 2


def test_a_request_of_rest_may_be_answered_as_the_plan_says():
    exchange = playing()
    sayings = iter(
        [
            RestManners(reply=Reply(status=503, body=b"{}", headers=(("Retry-After", "3"),))),
            RestManners(empty=True),
            RestManners(limit=2),
            RestManners(stale_ns=100 * MS),
        ]
    )
    exchange.manners = lambda number: Manners(rest=next(sayings)) if number < 0 else Manners()
    query = "/api/v3/aggTrades?symbol=BTCUSDT"
    assert ask(exchange, query)[0] == 503
    assert "retry-after: 3" in ask.head.lower()
    assert ask(exchange, query) == (200, [])
    assert ids(exchange) == [2998, 2999]
    assert ids(exchange)[-1] == 2898, "the newest of so long are not in it yet"
    exchange.manners = lambda number: Manners(rest=RestManners(stall=number < 0))
    talk = Talk(exchange, at=20).sends(f"GET {query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).waits(500)
    assert (talk.raw, talk.ends()) == (b"", None)


def post(exchange, body, **how):
    return ask(exchange, "/harness/faults", method="POST", body=json.dumps(body).encode(), **how)


def controlled(**settings):
    from harness.exchange.injection import Injection, Recent

    recent = Recent()
    exchange = make_exchange(make_tape(100), control=True, **settings)
    exchange.write = recent.write
    Injection(exchange, recent)
    return exchange


def test_a_fault_injected_by_hand_strikes_now():
    exchange = controlled()
    talk = Talk(exchange).opens(f"/ws/{BTC}").waits(1.05)
    assert len(talk.texts()) == 11
    status, answer = post(exchange, {"fault": "tcp.reset_peer"}, at=1.05)
    assert (status, answer["fault"]) == (201, "tcp.reset_peer@frame=12")
    assert talk.waits(3).ends() == "RST"
    assert len(talk.texts()) == 1


def test_an_injected_fault_that_lasts_reverts_when_its_time_is_over():
    exchange = controlled()
    talk = Talk(exchange).opens(f"/ws/{BTC}")
    status, answer = post(exchange, {"fault": "tcp.latency:latency=200ms", "ttl": "2s"}, at=1)
    assert (status, answer["ttl_s"]) == (201, 2.0)
    assert talk.line.manners.link.latency_ns == 200 * MS
    assert ask(exchange, "/harness/faults", at=2)[1]["injected"][0]["ttl_s"] == 1.0
    exchange.advance_to(3 * S)
    assert talk.line.manners.link.latency_ns == 0
    assert ask(exchange, "/harness/faults", at=3)[1] == {"planned": [], "injected": []}


def test_an_injected_fault_can_be_taken_back():
    exchange = controlled()
    talk = Talk(exchange).opens(f"/ws/{BTC}")
    number = post(exchange, {"fault": "tcp.latency:latency=200ms"}, at=1)[1]["id"]
    assert ask(exchange, f"/harness/faults/{number}", method="DELETE", at=1) == (200, {"removed": [number]})
    assert talk.line.manners.link.latency_ns == 0
    assert ask(exchange, f"/harness/faults/{number}", method="DELETE", at=1)[0] == 404


@pytest.mark.parametrize(
    "body", [{"fault": "tcp.reset_pear"}, {"fault": 3}, {}, [], {"fault": "tcp.refuse", "ttl": "soon"}, {"x": 1}]
)
def test_a_mistake_by_hand_is_one_sentence(body):
    status, answer = post(controlled(), body)
    assert status == 400
    assert "\n" not in answer["error"]


def test_the_ledger_can_be_read_in_pages():
    exchange = controlled()
    Talk(exchange).opens(f"/ws/{BTC}").waits(1)
    status, page = ask(exchange, "/harness/ledger?after=0&limit=3")
    assert status == 200
    assert [entry["entry"] for entry in page["entries"]] == ["opened", "upgraded", "subscribed"]
    assert ask(exchange, f"/harness/ledger?after={page['next']}&limit=1")[1]["entries"][0]["entry"] == "sent"
    assert ask(exchange, "/harness/state", at=1)[1]["reached"] == 11
    assert ask(exchange, "/harness/nosuch")[0] == 404


def test_without_permission_there_is_no_way_in():
    assert ask(make_exchange(), "/harness/state")[0] == 404
