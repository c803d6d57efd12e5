"""Payload and sequence faults on the wire: which message differs, how, and that no other does."""

from __future__ import annotations

import json
import math

import pytest

from tests.harness.faults.tapes import FIRST_ID, START_MS, tape, trade
from tests.live.faults.wire import BINARY, TEXT, Client, serving, shows

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

N = 5  # the frame that is struck, from 1
OWN = trade(N - 1)
AS_SENT = json.loads(OWN)


def value(key):
    return lambda p: json.loads(p)[key]


def differs(key, change):
    """The object is the same apart from one value."""

    def check(payload):
        got = json.loads(payload)
        return got == {**AS_SENT, key: change(AS_SENT[key])} and list(got) == list(AS_SENT)

    return check


def fails(error):
    def check(payload):
        with pytest.raises(error):
            json.loads(payload)
        return True

    return check


def lacks(key):
    return lambda p: json.loads(p) == {k: v for k, v in AS_SENT.items() if k != key}


def times(change):
    return lambda p: json.loads(p) == {**AS_SENT, "E": change(AS_SENT["E"]), "T": change(AS_SENT["T"])}


CHANGED = {
    "payload.truncated": lambda p: p == OWN[: len(OWN) // 2] and fails(json.JSONDecodeError)(p),
    "payload.garbage": lambda p: len(p) == len(OWN) and p != OWN and fails(json.JSONDecodeError)(p),
    "payload.html": lambda p: p.startswith(b"<!DOCTYPE html>"),
    "payload.empty": lambda p: p == b"",
    "payload.null": lambda p: json.loads(p) is None,
    "payload.number": lambda p: json.loads(p) == 1,
    "payload.array": lambda p: json.loads(p) == [AS_SENT],
    "payload.two_in_one": lambda p: p.split(b"\n") == [OWN, OWN] and fails(json.JSONDecodeError)(p),
    "payload.bom": lambda p: p == b"\xef\xbb\xbf" + OWN,
    "payload.whitespace": lambda p: json.loads(p) == AS_SENT and b'"p" : "' in p and p.endswith(b"\r\n"),
    "payload.key_order": lambda p: list(json.loads(p).items()) == list(AS_SENT.items())[::-1],
    "payload.dup_keys": lambda p: p.count(b'"p":') == 2 and json.loads(p)["p"] == "0.00000001",
    "payload.deep": lambda p: p.startswith(OWN[:-1]) and b"[" * 100_000 in p and fails(RecursionError)(p),
    "payload.huge": lambda p: 900_000 < len(p) < 1 << 20 and json.loads(p)["a"] == AS_SENT["a"],
    "payload.missing_field:field=q": lacks("q"),
    "payload.missing_field:field=e": lacks("e"),
    "payload.missing_field:field=M": lacks("M"),
    "payload.null_field": differs("p", lambda _: None),
    "payload.empty_field": differs("p", lambda _: ""),
    "payload.extra_field": lambda p: json.loads(p) == {**AS_SENT, "nq": "0.123"},
    "payload.renamed_field": lambda p: json.loads(p)["price"] == AS_SENT["p"] and "p" not in json.loads(p),
    "payload.wrong_type": differs("p", float),
    "payload.wrong_type:field=a": differs("a", str),
    "payload.wrong_type:field=m": differs("m", lambda flag: str(flag).lower()),
    "payload.string_flag": differs("m", lambda flag: str(flag).lower()),
    "payload.precision": differs("p", lambda price: price + "000000015"),
    "payload.scientific": lambda p: value("q")(p) == "5.0000E-4" and float(AS_SENT["q"]) == 5e-4,
    "payload.locale_decimal": differs("p", lambda price: price.replace(".", ",")),
    "payload.unknown_event": differs("e", lambda _: "aggTradeV2"),
    "payload.error_object": lambda p: json.loads(p)["error"]["code"] == 3,
    "payload.ack_object": lambda p: json.loads(p) == {"result": None, "id": 1},
    "payload.close_text": lambda p: p == b"Pong timeout",
    "payload.wrapped": lambda p: p == b'{"stream":"btcusdt@aggTrade","data":' + OWN + b"}",
    "payload.symbol_case": differs("s", str.lower),
    "payload.wrong_symbol": differs("s", lambda _: "ETHBTC"),
    "payload.rename_symbol": differs("s", lambda symbol: symbol + "OLD"),
    "payload.time_unit": times(lambda ms: ms * 1000),
    "payload.time_zero": times(lambda _: 0),
    "payload.time_future": times(lambda ms: ms + 3_600_000),
    "payload.time_past": times(lambda ms: ms - 3_600_000),
    "payload.time_backwards": times(lambda ms: ms - 10 - 1000),  # the trade before it is 10 ms older
    "payload.event_before_trade": lambda p: json.loads(p)["E"] < json.loads(p)["T"],
    "payload.price_zero": differs("p", lambda _: "0.00000000"),
    "payload.price_negative": differs("p", lambda price: "-" + price),
    "payload.price_nan": lambda p: math.isnan(float(value("p")(p))),
    "payload.price_infinite": lambda p: math.isinf(float(value("p")(p))),
    "payload.price_spike": lambda p: float(value("p")(p)) == 10 * float(AS_SENT["p"]),
    "payload.quantity_zero": differs("q", lambda _: "0.00000000"),
    "payload.quantity_negative": differs("q", lambda quantity: "-" + quantity),
    "payload.quantity_huge": lambda p: float(value("q")(p)) == 1e6 * float(AS_SENT["q"]),
    "payload.side_flip": differs("m", lambda flag: not flag),
    "payload.side_missing": lacks("m"),
    "payload.id_string": differs("a", str),
    "sequence.id_backwards": differs("a", lambda number: number - 50),
    "sequence.id_repeated": differs("a", lambda number: number - 1),
    "sequence.fl_mismatch": lambda p: json.loads(p) == {**AS_SENT, "f": AS_SENT["f"] + 5, "l": AS_SENT["l"] + 5},
    "sequence.fl_void": lambda p: json.loads(p) == {**AS_SENT, "p": "0", "q": "0", "f": -1, "l": -1},
}
"""What the struck message looks like."""


@shows(*(name.partition(":")[0] for name in CHANGED))
@pytest.mark.parametrize("spec", CHANGED)
def test_one_message_differs_and_all_others_are_as_recorded(spec):
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        got = client.messages(30)
        assert client.until_pong() == []
    assert CHANGED[spec](got[N - 1]), got[N - 1][:300]
    assert [p for i, p in enumerate(got) if i != N - 1] == [trade(i) for i in range(30) if i != N - 1]


@pytest.mark.parametrize("spec", ["payload.price_zero", "sequence.gap", "payload.truncated", "sequence.duplicate"])
def test_the_same_holds_over_tls_and_on_a_combined_connection(spec):
    with serving(f"{spec}@frame={N}", tls=True) as live:
        path = "/stream?streams=btcusdt@aggTrade"
        with Client(live, path, secure=True) as client:
            over_tls = client.until_pong()
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        plain = client.until_pong()
    assert over_tls == [ws_wrap(payload) for payload in plain]


def ws_wrap(payload):
    return b'{"stream":"btcusdt@aggTrade","data":' + payload + b"}"


@shows("payload.unwrapped")
def test_a_bare_payload_comes_on_a_combined_connection():
    with serving(f"payload.unwrapped@frame={N}") as live, Client(live, "/stream?streams=btcusdt@aggTrade") as client:
        got = client.messages(30)
    assert got[N - 1] == OWN
    assert got[N] == ws_wrap(trade(N))


@shows("payload.binary_sbe")
def test_sbe_comes_in_a_binary_frame():
    with serving(f"payload.binary_sbe@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        payload = client.message()
        assert client.opcode == BINARY
        assert payload[:2] == b"\x12\x00"
        assert client.message() == trade(N)
        assert client.opcode == TEXT


@shows("payload.frozen")
def test_a_frozen_feed_repeats_one_frame():
    with serving(f"payload.frozen@frame={N}") as live, Client(live) as client:
        got = client.messages(30)
    assert got == [trade(i) for i in range(N)] + [OWN] * (30 - N)


# --- Sequence ---------------------------------------------------------------------------------------


def ids(payloads):
    return [json.loads(payload)["a"] - FIRST_ID + 1 for payload in payloads]


SEQUENCES = {
    "sequence.gap:count=3": [*range(1, 5), *range(8, 31)],
    "sequence.drop:count=3": [*range(1, 5), *range(8, 31)],
    "sequence.duplicate": [*range(1, 6), 5, *range(6, 31)],
    "sequence.doubled:duration=20ms": [*range(1, 5), 5, 5, 6, 6, *range(7, 31)],
    "sequence.replay:count=3": [*range(1, 6), 3, 4, 5, *range(6, 31)],
    "sequence.reorder:span=2": [*range(1, 5), 6, 7, 5, *range(8, 31)],
    "exchange.failover_node:frames=4": [*range(1, 6), 2, 3, 4, 5, *range(6, 31)],
}
"""Which recorded frames come, in which order."""


@shows(*(name.partition(":")[0] for name in SEQUENCES))
@pytest.mark.parametrize("spec", SEQUENCES)
def test_frames_come_in_another_order(spec):
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        got = client.until_pong()
    assert ids(got) == SEQUENCES[spec]
    assert got == [trade(number - 1) for number in SEQUENCES[spec]]


@shows("sequence.id_reset", "sequence.id_jump")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sequence.id_reset", [FIRST_ID + i for i in range(4)] + [1 + i for i in range(26)]),
        (
            "sequence.id_reset:duration=20ms",
            [FIRST_ID + i for i in range(4)] + [1, 2] + [FIRST_ID + i for i in range(6, 30)],
        ),
        ("sequence.id_jump:by=500", [FIRST_ID + i for i in range(4)] + [FIRST_ID + 500 + i for i in range(4, 30)]),
    ],
)
def test_ids_are_renumbered_and_nothing_else_changes(spec, expected):
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        got = [json.loads(payload) for payload in client.until_pong()]
    assert [trade_["a"] for trade_ in got] == expected
    assert [{**trade_, "a": 0} for trade_ in got] == [{**json.loads(trade(i)), "a": 0} for i in range(30)]


@shows("sequence.overlap_on_reconnect")
def test_a_second_connection_begins_with_old_frames():
    with serving("sequence.overlap_on_reconnect:frames=3", "tcp.fin_no_close@frame=10") as live:
        with Client(live) as client:
            assert ids(client.all_messages()[0]) == list(range(1, 11))
        with Client(live) as client:
            assert ids(client.until_pong()) == [8, 9, 10, *range(11, 31)]


@shows("exchange.gap_on_reconnect")
def test_a_second_connection_misses_its_first_moments():
    with serving("exchange.gap_on_reconnect:delay=50ms", "tcp.fin_no_close@frame=10") as live:
        with Client(live) as client:
            assert ids(client.all_messages()[0]) == list(range(1, 11))
        with Client(live) as client:
            assert ids(client.until_pong()) == list(range(16, 31))


def test_a_strike_happens_once_across_connections_and_the_other_one_gets_the_recorded_bytes():
    with (
        serving(
            "sequence.reorder:span=2@frame=5",
            "payload.null@frame=9",
            speed=1.0,
            timeline=tape(30, step_ns=4_000_000),
            grace_ns=300_000_000,
        ) as live,
        Client(live) as one,
        Client(live) as two,
    ):
        first, second = one.messages(30), two.messages(30)
    recorded = [trade(i, step_ms=4) for i in range(30)]
    # Each strike is somebody's; which connection's, the machine decides, and not the same for both strikes.
    for frames in (slice(4, 7), slice(8, 9)):
        assert sorted([first[frames] == recorded[frames], second[frames] == recorded[frames]]) == [False, True]
    untouched = [*range(4), 7, *range(9, 30)]
    assert all(got[i] == recorded[i] for got in (first, second) for i in untouched)


def test_frame_numbers_are_those_of_the_recording_and_times_are_untouched():
    with serving() as live, Client(live) as client:
        assert client.until_pong() == [trade(i) for i in range(30)]
    assert json.loads(trade(0))["E"] == START_MS
