"""The case families of the Autobahn TestSuite, against the exchange in echo mode and without sockets.

Where the suite itself can run, `run.py` runs it; these hold the same ground everywhere. The numbers are the suite's.
"""

from __future__ import annotations

import zlib

import pytest

from harness.exchange import wire
from tests.harness.exchange.talk import Talk, make_exchange
from tests.harness.exchange.test_wire import client

T, B, C, X, PING, PONG = wire.TEXT, wire.BINARY, wire.CONTINUATION, wire.CLOSE, wire.PING, wire.PONG
HELLO = "Hello-µ@ßöäüàá-UTF-8!!".encode()


def echoing(*, deflate=False):
    exchange = make_exchange(echo=True, message_bytes_max=64 << 20)
    extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
    talk = Talk(exchange)
    talk.sends(
        (
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n{extension}\r\n"
        ).encode()
    )
    assert talk.raw.startswith(b"HTTP/1.1 101")
    talk.raw = b""
    return talk


def close(code, reason=b""):
    return wire.frame(X, wire.close_payload(code, reason))


def answers(data, *, chop=0, **how):
    """What comes back for some bytes, and how the connection ended."""
    talk = echoing(**how)
    for start in range(0, len(data), chop or len(data) or 1):
        talk.sends(data[start : start + (chop or len(data))])
        if talk.ends():
            break
    return talk.raw, talk.ends()


@pytest.mark.parametrize("chop", [0, 1, 997])
@pytest.mark.parametrize("opcode", [T, B])
@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65535, 65536, 65537])
def test_1_messages_of_every_length_come_back(opcode, size, chop):
    if chop == 1 and size > 1000:
        pytest.skip("as slow as it is long")
    assert answers(client(opcode, b"*" * size), chop=chop) == (wire.frame(opcode, b"*" * size), None)


@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(125))])
def test_2_pings_come_back_as_pongs(payload):
    assert answers(client(PING, payload)) == (wire.frame(PONG, payload), None)
    assert answers(client(PING, payload) * 10, chop=1) == (wire.frame(PONG, payload) * 10, None)


def test_2_unsolicited_pongs_are_ignored():
    assert answers(client(PONG, b"") + client(PONG, b"x") + client(PING, b"y")) == (wire.frame(PONG, b"y"), None)


def fails(data, code, before=b"", **how):
    raw, end = answers(data, **how)
    assert end == "FIN"
    assert raw.startswith(before + b"\x88")
    assert raw[len(before) + 2 : len(before) + 4] == code.to_bytes(2, "big")


def test_2_a_ping_of_126_bytes_fails():
    fails(client(PING, b"x" * 126), 1002)


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70])
@pytest.mark.parametrize("opcode", [T, B, X, PING, PONG])
def test_3_reserved_bits_fail(bits, opcode):
    frame = bytearray(client(opcode, b""))
    frame[0] |= bits
    fails(client(T, b"before") + bytes(frame), 1002, before=wire.frame(T, b"before"))


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_4_reserved_opcodes_fail(opcode):
    fails(client(T, b"before") + client(opcode, b"x"), 1002, before=wire.frame(T, b"before"))


@pytest.mark.parametrize("chop", [0, 1])
def test_5_fragments_are_joined_and_control_frames_may_come_between(chop):
    data = client(T, b"one ", fin=False) + client(PING, b"p") + client(C, b"two ", fin=False) + client(C, b"three")
    assert answers(data, chop=chop) == (wire.frame(PONG, b"p") + wire.frame(T, b"one two three"), None)


BAD_FRAGMENTS = [
    client(PING, b"x", fin=False) + client(C, b"y"),
    client(PONG, b"x", fin=False) + client(C, b"y"),
    client(C, b"alone"),
    client(C, b"alone", fin=False),
    client(T, b"one", fin=False) + client(T, b"two"),
    client(T, b"one", fin=False) + client(C, b"two") + client(C, b"three"),
]


@pytest.mark.parametrize("data", BAD_FRAGMENTS)
def test_5_bad_fragmentation_fails(data):
    raw, end = answers(data)
    assert end == "FIN"
    assert b"\x03\xea" in raw


@pytest.mark.parametrize("chop", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_6_text_may_be_cut_anywhere(size, chop):
    pieces = [HELLO[i : i + size] for i in range(0, len(HELLO), size)]
    data = b"".join(client(C if i else T, p, fin=i == len(pieces) - 1) for i, p in enumerate(pieces))
    assert answers(data, chop=chop) == (wire.frame(T, HELLO), None)


INVALID = [
    "ce", "cebac3", "f4908080", "f7bfbfbf", "f8888080", "ff", "c080", "e08080", "f0808080", "c1bf", "eda080", "edbfbf",
    "eda080edb080", "80", "8080", "fe", "fefeffff", "f888808080", "fc8480808080",
    "cebae1bdb9cf83cebcceb5eda080656469746564",
]  # fmt: skip


@pytest.mark.parametrize("text", INVALID)
def test_6_invalid_utf_8_fails(text):
    fails(client(T, bytes.fromhex(text)), 1007)


VALID = ["", "00", "7f", "c280", "dfbf", "e0a080", "ed9fbf", "ee8080", "efbfbd", "efbfbf", "f0908080", "f48fbfbf"]


@pytest.mark.parametrize("text", VALID)
def test_6_the_edges_of_utf_8_are_valid(text):
    payload = bytes.fromhex(text)
    assert answers(client(T, payload)) == (wire.frame(T, payload), None)


def test_6_invalid_text_fails_before_the_message_is_whole():
    talk = echoing()
    talk.sends(client(T, bytes.fromhex("cebae1bdb9cf83cebcceb5"), fin=False))
    assert talk.ends() is None
    talk.sends(client(C, bytes.fromhex("f4908080"), fin=False))
    assert talk.ends() == "FIN"


def test_7_a_close_is_echoed_and_nothing_after_it_is_answered():
    data = client(X, wire.close_payload(1000, b"bye")) + client(T, b"late") + client(PING, b"late")
    assert answers(data) == (close(1000, b"bye"), "FIN")
    assert answers(client(X, b"")) == (close(None), "FIN")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_7_valid_codes_are_echoed(code):
    assert answers(client(X, wire.close_payload(code))) == (close(code), "FIN")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535])
def test_7_invalid_codes_fail(code):
    fails(client(X, wire.close_payload(code)), 1002)


@pytest.mark.parametrize(
    "payload", [b"\x03", b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", b"\x03\xe8" + b"x" * 124]
)
def test_7_a_malformed_close_fails(payload):
    raw, end = answers(client(X, payload))
    assert end == "FIN"
    assert raw[2:4] in {b"\x03\xea", b"\x03\xef"}


@pytest.mark.parametrize("chop", [0, 65536])
@pytest.mark.parametrize("opcode", [T, B])
def test_9_messages_of_four_megabytes_come_back(opcode, chop):
    payload = b"*" * (4 << 20)
    assert answers(client(opcode, payload), chop=chop) == (wire.frame(opcode, payload), None)


def test_10_many_small_fragments_come_back():
    data = client(T, b"", fin=False) + client(C, b"x" * 64, fin=False) * 1000 + client(C, b"")
    assert answers(data, chop=1300) == (wire.frame(T, b"x" * 64_000), None)


@pytest.mark.parametrize("size", [0, 16, 1000, 131072])
def test_12_compressed_messages_come_back_compressed(size):
    talk = echoing(deflate=True)
    squeeze = zlib.compressobj(wbits=-15)
    for number in range(3):
        payload = bytes(str(number), "ascii") * size
        squeezed = (squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]
        talk.sends(client(T, squeezed, rsv1=True))
        assert talk.raw == wire.message(T, payload, wire.Deflate())
        talk.raw = b""


def test_12_compressed_fragments_are_joined():
    squeezed = wire.deflate(HELLO * 10, 15)
    data = client(T, squeezed[:9], fin=False, rsv1=True) + client(C, squeezed[9:])
    assert answers(data, deflate=True) == (wire.message(T, HELLO * 10, wire.Deflate()), None)


@pytest.mark.parametrize("frame", [client(PING, b"x", rsv1=True), client(X, b"", rsv1=True)])
def test_12_a_compressed_control_frame_fails(frame):
    fails(frame, 1002, deflate=True)


def test_12_an_uncompressed_message_is_fine_where_compression_was_agreed():
    assert answers(client(T, HELLO), deflate=True)[0] == wire.message(T, HELLO, wire.Deflate())
