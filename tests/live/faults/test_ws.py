"""WebSocket faults on the wire: closes, broken frames, keepalive, compression."""

from __future__ import annotations

import json
import zlib

import pytest

from tests.harness.faults.tapes import tape, trade
from tests.live.faults.wire import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Client,
    Ended,
    entries,
    serving,
    shows,
    works,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

N = 5
OWN = trade(N - 1)

CLOSES = {
    "ws.close:code=4321,reason=bye": (4321, b"bye"),
    "ws.close_1000": (1000, b""),
    "ws.close_1001": (1001, b"going away"),
    "ws.close_1002": (1002, b"protocol error"),
    "ws.close_1003": (1003, b""),
    "ws.close_1007": (1007, b""),
    "ws.close_1008": (1008, b"Pong timeout"),
    "ws.close_1009": (1009, b""),
    "ws.close_1010": (1010, b""),
    "ws.close_1011": (1011, b"Internal error"),
    "ws.close_1012": (1012, b""),
    "ws.close_1013": (1013, b""),
    "ws.close_1014": (1014, b""),
    "ws.close_4000": (4000, b"session moved"),
    "ws.close_no_code": (None, b""),
    "ws.close_reserved_code:code=1005": (1005, b""),
    "ws.close_reserved_code:code=1006": (1006, b""),
    "ws.close_bad_utf8_reason": (1001, b"\xff\xfe going away"),
    "ws.close_long_reason": (1011, b"x" * 200),
}


@shows(*(name.partition(":")[0] for name in CLOSES))
@pytest.mark.parametrize("spec", CLOSES)
def test_a_close_frame_comes_behind_the_frame_and_the_handshake_follows(spec):
    with serving(f"{spec}@frame={N}") as live:
        with Client(live) as client:
            got = []
            with pytest.raises(Ended, match="close"):
                while True:
                    got.append(client.message())
            assert got == [trade(i) for i in range(N)]
            assert client.closed_with == CLOSES[spec]
            client.send(CLOSE, b"\x03\xe8")
            assert client.rest() == (b"", "fin")
        assert works(live)


@shows("ws.close_1byte")
def test_a_close_frame_with_half_a_code():
    with serving(f"ws.close_1byte@frame={N}") as live, Client(live) as client:
        client.messages(N)
        frame = client.frame()
    assert (frame.opcode, frame.payload) == (CLOSE, b"\x03")


@shows("ws.close_then_data")
def test_data_goes_on_behind_the_close_frame():
    with serving(f"ws.close_then_data@frame={N}") as live, Client(live) as client:
        client.messages(N)
        assert client.frame().opcode == CLOSE
        assert client.messages(30 - N) == [trade(i) for i in range(N, 30)]


@shows("ws.close_then_reset")
def test_rst_comes_right_behind_the_close_frame():
    with serving(f"ws.close_then_reset@frame={N}") as live, Client(live) as client:
        client.messages(N)
        assert client.frame().opcode == CLOSE
        assert client.rest() == (b"", "reset")


@shows("ws.close_half")
def test_the_fin_behind_a_close_stays_out():
    with serving(f"ws.close_half@frame={N}") as live, Client(live) as client:
        client.messages(N)
        assert client.frame().opcode == CLOSE
        client.send(CLOSE, b"\x03\xe9")
        assert client.rest(timeout=0.2) == (b"", "quiet")


@shows("ws.close_no_reply")
def test_the_clients_close_is_never_answered():
    with serving("ws.close_no_reply") as live, Client(live) as client:
        client.until_pong()
        client.send(CLOSE, b"\x03\xe8")
        assert client.rest(timeout=0.2) == (b"", "quiet")


@shows("ws.close_reply_data")
def test_the_clients_close_is_answered_with_data():
    with serving("ws.close_reply_data", speed=1.0) as live, Client(live) as client:
        client.message()
        client.send(CLOSE, b"\x03\xe8")
        later = [client.frame() for _ in range(3)]
    assert {frame.opcode for frame in later} == {TEXT}


# --- Frames -------------------------------------------------------------------------------------------

BROKEN = {
    "ws.masked": lambda f: f.masked and f.payload == OWN,
    "ws.rsv_bits": lambda f: f.rsv == 3 and f.payload == OWN,
    "ws.reserved_opcode:opcode=11": lambda f: f.opcode == 11 and f.payload == OWN,
    "ws.fragment_never_fin": lambda f: not f.fin and f.opcode == TEXT and f.payload == OWN,
    "ws.bad_continuation": lambda f: f.opcode == 0 and f.fin and f.payload == OWN,
    "ws.binary": lambda f: f.opcode == BINARY and f.payload == OWN,
    "ws.binary_as_text": lambda f: f.opcode == TEXT and zlib.decompress(f.payload, 31) == OWN,
    "ws.oversize:size=1500000": lambda f: len(f.payload) == 1_500_000 and json.loads(f.payload) == json.loads(OWN),
    "ws.rsv1_without_ext": lambda f: (
        f.rsv == 4 and zlib.decompressobj(-15).decompress(f.payload + b"\0\0\xff\xff") == OWN
    ),
    "ws.deflate_corrupt": lambda f: f.rsv == 4 and inflate_error(f.payload),
    "ws.deflate_context_mismatch": lambda f: f.rsv == 4 and inflate_error(f.payload),
    "ws.deflate_bomb:size=5000000": lambda f: (
        f.rsv == 4 and len(f.payload) < 50_000 and inflated(f.payload) == 5_000_000
    ),
}
"""What the struck frame looks like on the wire."""


def inflate_error(data):
    with pytest.raises(zlib.error):
        zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")
    return True


def inflated(data):
    return len(zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff"))


@shows(*(name.partition(":")[0] for name in BROKEN))
@pytest.mark.parametrize("spec", BROKEN)
def test_one_frame_is_broken_and_the_next_is_sound(spec):
    with serving(f"{spec}@frame={N}") as live:
        with Client(live) as client:
            client.messages(N - 1)
            frame = client.frame()
            assert BROKEN[spec](frame), frame[:4]
            assert client.frame().payload == trade(N)
        assert works(live)


@shows("ws.invalid_utf8")
def test_a_text_frame_is_not_utf8():
    with serving(f"ws.invalid_utf8@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        payload = client.message()
        assert client.opcode == TEXT
    with pytest.raises(UnicodeDecodeError):
        payload.decode()
    assert payload.replace(b"\xc3\x28\xff", b"") == OWN


@shows("ws.bad_length_encoding")
def test_a_length_is_not_in_its_shortest_form():
    with serving(f"ws.bad_length_encoding@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        head = client.read(10)
        assert head[:2] == b"\x81\x7f"
        assert int.from_bytes(head[2:], "big") == len(OWN)
        assert client.read(len(OWN)) == OWN


@shows("ws.length_msb")
def test_a_length_has_its_top_bit_set():
    with serving(f"ws.length_msb@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        head = client.read(10)
        assert head[:2] == b"\x81\x7f"
        assert head[2] == 0x80


@shows("ws.length_lie")
def test_a_header_promises_more_than_comes():
    with serving(f"ws.length_lie:extra=60000@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        head = client.read(4)
        assert int.from_bytes(head[2:], "big") == len(OWN) + 60_000
        # A reader that believes it swallows the rest of the tape and waits on.
        data, how = client.rest(timeout=0.15)
        assert how == "quiet"
        assert data.startswith(OWN)
        assert len(data) < len(OWN) + 60_000


@shows("ws.fragment")
def test_a_message_comes_in_pieces():
    with serving(f"ws.fragment:size=50@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        pieces = [client.frame()]
        while not pieces[-1].fin:
            pieces.append(client.frame())
        assert [piece.opcode for piece in pieces] == [TEXT] + [0] * (len(pieces) - 1)
        assert {len(piece.payload) for piece in pieces[:-1]} == {50}
        assert b"".join(piece.payload for piece in pieces) == OWN
        assert client.message() == trade(N)


def test_a_fragmented_message_is_wrapped_on_a_combined_connection():
    with serving(f"ws.fragment:size=50@frame={N}") as live, Client(live, "/stream?streams=btcusdt@aggTrade") as client:
        got = client.messages(N)
    assert json.loads(got[-1]) == {"stream": "btcusdt@aggTrade", "data": json.loads(OWN)}


@shows("ws.fragment_utf8_split")
def test_a_character_is_split_over_two_frames():
    with serving(f"ws.fragment_utf8_split@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        pieces = [client.frame()]
        while not pieces[-1].fin:
            pieces.append(client.frame())
    assert any(piece.payload >= b"\x80" for piece in pieces)
    whole = json.loads(b"".join(piece.payload for piece in pieces))
    assert whole.pop("note") == "币安 ✓"
    assert whole == json.loads(OWN)


@shows("ws.fragment_ctrl_interleaved")
def test_a_ping_falls_between_two_fragments():
    with serving(f"ws.fragment_ctrl_interleaved@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        one, ping, two = (client.frame() for _ in range(3))
        rest = b"" if two.fin else client.frame().payload
    assert (one.opcode, one.fin, ping.opcode, two.opcode) == (TEXT, False, PING, 0)
    assert one.payload + two.payload + rest == OWN


@shows("ws.empty")
def test_an_empty_text_message_comes_behind_the_frame():
    with serving(f"ws.empty@frame={N}") as live, Client(live) as client:
        got = client.messages(31)
    assert got == [trade(i) for i in range(N)] + [b""] + [trade(i) for i in range(N, 30)]


@shows("ws.trailing_garbage")
def test_random_bytes_come_behind_the_frame():
    with serving(f"ws.trailing_garbage:size=64@frame={N}") as live, Client(live) as client:
        client.messages(N)
        assert client.read(64)[0] == 0xF3
        assert client.messages(2) == [trade(N), trade(N + 1)]


@shows("ws.data_before_101")
def test_a_frame_comes_before_the_101():
    with serving("ws.data_before_101") as live, Client(live, upgrade=False) as client:
        client.ask()
        frame = client.frame()
        assert (frame.opcode, frame.payload) == (TEXT, b'{"e":"early"}')
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


# --- Keepalive ----------------------------------------------------------------------------------------

QUICK = {"ping_interval_ns": 30_000_000, "speed": 1.0}


def test_without_a_fault_pings_come_at_the_cadence():
    with serving(**QUICK) as live, Client(live) as client:
        client.messages(30)
        assert [opcode for opcode, _ in client.control].count(PING) >= 5


@shows("ws.no_server_ping")
def test_the_exchanges_pings_stop_and_data_flows():
    with serving("ws.no_server_ping", **QUICK) as live, Client(live) as client:
        assert len(client.messages(30)) == 30
        assert PING not in [opcode for opcode, _ in client.control]


@shows("ws.ping_only")
def test_pings_flow_and_data_does_not():
    with serving("ws.ping_only:interval=20ms", speed=1.0) as live, Client(live) as client:
        pings = [client.frame() for _ in range(8)]
        assert {frame.opcode for frame in pings} == {PING}
        assert client.until_pong() == []


@shows("ws.withhold_pong")
def test_the_clients_ping_is_not_answered_and_data_flows():
    with serving("ws.withhold_pong") as live, Client(live) as client:
        client.send(PING, b"hello")
        got, how = client.all_messages()
        assert (len(got), how) == (30, "quiet")
        assert PONG not in [opcode for opcode, _ in client.control]


@shows("ws.wrong_pong")
def test_a_pong_carries_another_payload():
    with serving("ws.wrong_pong") as live, Client(live) as client:
        client.send(PING, b"hello")
        client.all_messages()
        pongs = [payload for opcode, payload in client.control if opcode == PONG]
        assert len(pongs) == 1
        assert pongs != [b"hello"]


@shows("ws.late_pong")
def test_a_pong_comes_late():
    with serving("ws.late_pong:delay=200ms") as live, Client(live) as client:
        client.send(PING, b"hello")
        got, how = client.all_messages(timeout=0.1)
        assert (len(got), how) == (30, "quiet")
        assert PONG not in [opcode for opcode, _ in client.control]
        frame = client.frame()
        assert (frame.opcode, frame.payload) == (PONG, b"hello")


@shows("ws.ping_requires_echo")
def test_a_pong_that_copies_nothing_is_closed_with_1008():
    with serving("ws.ping_requires_echo:interval=30ms,deadline=5s") as live, Client(live) as client:
        client.messages(30)
        while client.frame().opcode != PING:
            pass
        client.send(PONG, b"something else")
        with pytest.raises(Ended, match="close"):
            client.message()
        assert client.closed_with[0] == 1008


@shows("ws.ping_flood")
def test_pings_come_in_a_flood_and_data_behind_them():
    with serving(f"ws.ping_flood:pings=500@frame={N}") as live, Client(live) as client:
        client.messages(N)
        pings = [client.frame() for _ in range(500)]
        assert {frame.opcode for frame in pings} == {PING}
        assert len({frame.payload for frame in pings}) == 500
        assert client.message() == trade(N)


@shows("ws.unsolicited_pong")
def test_a_pong_comes_that_answers_nothing():
    with serving(f"ws.unsolicited_pong@frame={N}") as live, Client(live) as client:
        assert len(client.messages(30)) == 30
        assert client.control == [(PONG, b"unsolicited")]


@shows("ws.ctrl_oversize")
def test_a_ping_is_longer_than_125_bytes():
    with serving(f"ws.ctrl_oversize@frame={N}") as live, Client(live) as client:
        client.messages(N)
        frame = client.frame()
    assert (frame.opcode, len(frame.payload)) == (PING, 200)


@shows("ws.ctrl_fragmented")
def test_a_ping_comes_without_fin():
    with serving(f"ws.ctrl_fragmented@frame={N}") as live, Client(live) as client:
        client.messages(N)
        frame = client.frame()
    assert (frame.opcode, frame.fin) == (PING, False)


# --- What a real client makes of it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("ws.masked", 1002),
        ("ws.rsv_bits", 1002),
        ("ws.invalid_utf8", 1007),
        ("ws.oversize", 1009),
        ("ws.ctrl_oversize", 1002),
        ("ws.deflate_corrupt", 1002),
        ("ws.close_reserved_code", 1002),
        ("ws.length_msb", (1002, 1009)),
    ],
)
def test_the_websockets_client_fails_the_connection_as_the_rfc_says(spec, code):
    import websockets
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    if spec == "ws.invalid_utf8" and int(websockets.__version__.partition(".")[0]) < 14:
        pytest.skip("websockets 13 hangs up on bad UTF-8 without a close frame")
    # Few frames behind it: a client that has stopped reading would not see the answer to its close.
    with serving(f"{spec}@frame={N}", timeline=tape(10)) as live:
        url = live.urls["ws"] + "/ws/btcusdt@aggTrade"
        with connect(url, compression=None) as client, pytest.raises(ConnectionClosed) as closed:
            for _ in range(10):
                client.recv(timeout=5)
        sent = closed.value.sent
        assert sent is not None
        assert sent.code in (code if isinstance(code, tuple) else (code,))
        assert [entry.fault for entry in entries(live, "Struck")] == [0]
        assert works(live)


@pytest.mark.parametrize("spec", ["ws.deflate_corrupt", "ws.deflate_context_mismatch", "ws.deflate_bomb"])
def test_compression_faults_break_a_client_that_negotiated_compression(spec):
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with serving(f"{spec}@frame={N}", timeline=tape(10)) as live:
        url = live.urls["ws"] + "/ws/btcusdt@aggTrade"
        with connect(url, compression="deflate") as client, pytest.raises(ConnectionClosed):
            for _ in range(10):
                client.recv(timeout=5)
        assert works(live)
