"""Frames: what we write is what the websockets library reads, what it writes we read, and nothing crashes us."""

from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from harness.exchange import wire

MASK = b"\x01\x02\x03\x04"


def client(opcode, payload, *, fin=True, rsv1=False, mask=MASK):
    head = bytearray(wire.header(opcode, len(payload), fin=fin, rsv1=rsv1))
    head[1] |= 0x80
    return bytes(head) + mask + wire.unmask(payload, mask)


def read(data, **how):
    reader = wire.FrameReader(how.pop("limit", 1 << 20), how.pop("agreed", None))
    return [(frame.opcode, frame.data, frame.code) for frame in reader.receive(data)]


def violation(data, **how):
    with pytest.raises(wire.Violation) as broken:
        read(data, **how)
    return broken.value.code


@given(
    payload=st.binary(max_size=300) | st.binary(min_size=65500, max_size=65600), mask=st.binary(min_size=4, max_size=4)
)
def test_a_mask_is_undone_by_itself(payload, mask):
    assert wire.unmask(wire.unmask(payload, mask), mask) == payload
    assert wire.unmask(payload[:40], mask) == bytes(b ^ mask[i % 4] for i, b in enumerate(payload[:40]))


@given(opcode=st.sampled_from([1, 2, 9, 10]), payload=st.binary(max_size=200))
def test_our_header_is_the_librarys_header(opcode, payload):
    theirs = Frame(Opcode(opcode), payload).serialize(mask=False)
    assert wire.frame(opcode, payload) == theirs


@given(texts=st.lists(st.text(max_size=400), max_size=5), cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_messages_arrive_however_the_bytes_are_cut(texts, cuts):
    data = b"".join(client(wire.TEXT, text.encode()) for text in texts)
    reader = wire.FrameReader(1 << 20)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    heard = [frame.data.decode() for a, b in pairwise(edges) for frame in reader.receive(data[a:b])]
    assert heard == texts


@given(text=st.text(min_size=1, max_size=200), size=st.integers(1, 50), agreed=st.booleans())
def test_fragments_are_put_together(text, size, agreed):
    payload = text.encode()
    pieces = [payload[i : i + size] for i in range(0, len(payload), size)]
    data = b"".join(
        client(wire.CONTINUATION if i else wire.TEXT, piece, fin=i == len(pieces) - 1) + client(wire.PING, b"between")
        for i, piece in enumerate(pieces)
    )
    frames = read(data, agreed=wire.Deflate() if agreed else None)
    assert [data for opcode, data, _ in frames if opcode == wire.TEXT] == [payload]
    assert sum(opcode == wire.PING for opcode, _, _ in frames) == len(pieces)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_garbage_is_a_violation_or_a_message_and_never_anything_else(chunks):
    reader = wire.FrameReader(1000, wire.Deflate())
    try:
        for chunk in chunks:
            reader.receive(chunk)
    except wire.Violation as broken:
        assert broken.code in {1002, 1007, 1009}


VIOLATIONS = [
    (b"\x81\x01a", 1002),  # not masked
    (client(wire.TEXT, b"x", rsv1=True), 1002),  # nothing was agreed
    (client(0x3, b""), 1002),
    (client(0xB, b""), 1002),
    (client(wire.CONTINUATION, b"x"), 1002),
    (client(wire.TEXT, b"x", fin=False) + client(wire.TEXT, b"y"), 1002),
    (client(wire.PING, b"x", fin=False), 1002),
    (client(wire.PING, b"x" * 126), 1002),
    (client(wire.TEXT, b"\xff"), 1007),
    (client(wire.TEXT, b"\xce", fin=False) + client(wire.CONTINUATION, b"", fin=True), 1007),
    (client(wire.TEXT, b"\xed\xa0\x80", fin=False), 1007),  # fails before the message is whole
    (client(wire.TEXT, b"x" * 1001)[:14], 1009),  # fails before it arrives
    (client(wire.TEXT, b"x" * 600, fin=False) + client(wire.CONTINUATION, b"x" * 600), 1009),
    (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + MASK, 1002),
    (client(wire.CLOSE, b"\x03"), 1002),
    (client(wire.CLOSE, b"\x03\xe8\xff"), 1007),
]


@pytest.mark.parametrize(("data", "code"), VIOLATIONS, ids=range(len(VIOLATIONS)))
def test_a_violation_has_the_close_code_of_the_rfc(data, code):
    assert violation(data, limit=1000) == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_reserved_close_codes_are_violations(code):
    assert violation(client(wire.CLOSE, code.to_bytes(2, "big"))) == 1002


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_allowed_close_codes_are_read(code):
    assert read(client(wire.CLOSE, code.to_bytes(2, "big") + b"why")) == [(wire.CLOSE, b"why", code)]
    assert read(client(wire.CLOSE, b"")) == [(wire.CLOSE, b"", None)]


OFFERS = [
    ("permessage-deflate", 15, 15, True),
    ("permessage-deflate; client_max_window_bits", 15, 15, True),
    ("permessage-deflate; server_max_window_bits=10; client_max_window_bits=9", 10, 9, True),
    ('permessage-deflate; client_no_context_takeover; server_max_window_bits="12"', 12, 15, False),
    ("x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, 15, True),
]
REFUSED = [
    "", "x-other", "permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; nosuch", "permessage-deflate; client_max_window_bits=0",
    "permessage-deflate; server_max_window_bits=09", "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; server_max_window_bits; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits",
]  # fmt: skip


@pytest.mark.parametrize(("offer", "server", "ours", "takeover"), OFFERS)
def test_a_sound_offer_is_agreed_to(offer, server, ours, takeover):
    agreed = wire.negotiate_deflate(offer)
    assert (agreed.server_bits, agreed.client_bits, agreed.client_takeover) == (server, ours, takeover)
    assert agreed.response.startswith(b"permessage-deflate; server_no_context_takeover")


@pytest.mark.parametrize("offer", REFUSED)
def test_an_offer_that_is_not_is_passed_over(offer):
    assert wire.negotiate_deflate(offer) is None


@given(payload=st.binary(max_size=2000), bits=st.integers(9, 15))
def test_every_compressed_message_stands_alone(payload, bits):
    assert zlib.decompressobj(-bits).decompress(wire.deflate(payload, bits) + b"\x00\x00\xff\xff") == payload


def test_a_bomb_is_too_big_and_costs_no_memory():
    bomb = wire.deflate(b"\x00" * 50_000_000, 15)
    assert violation(client(wire.BINARY, bomb, rsv1=True), agreed=wire.Deflate()) == 1009
    assert violation(client(wire.TEXT, b"\xff\xff\xff", rsv1=True), agreed=wire.Deflate()) == 1007


@pytest.mark.parametrize("key", [b"", b"short", b"!!!!", b"AAAAAAAAAAAAAAAAAAAAAAA="])
def test_a_key_that_is_not_16_bytes_is_refused(key):
    assert wire.accept_key(key) is None


def test_the_accept_of_the_rfc():
    assert wire.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
