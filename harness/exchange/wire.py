"""WebSocket frames on the wire (RFC 6455): ours written, the client's read.

Server frames are written by hand so that any broken bytes can be produced; client frames are read
strictly, as they arrive, in bounded memory. Nothing here depends on the version of a WebSocket library.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.frames.packed import ROOM

if TYPE_CHECKING:
    from codecs import IncrementalDecoder

    from numpy.typing import NDArray

    from harness.frames.packed import Packed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
CONTROL_PAYLOAD_MAX = 125  # RFC 6455, section 5.5
_RSV1 = 0x40


# --- Writing -----------------------------------------------------------------------------------


def accept_key(key: bytes) -> bytes | None:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key, or None when the key is not 16 bytes of base64."""
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            return None
    except binascii.Error:
        return None
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - the protocol's own


def header(opcode: int, length: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return the header of a server frame; the shortest length encoding, never masked."""
    first = opcode | (0x80 if fin else 0) | (_RSV1 if rsv1 else 0)
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return bytes((first, 126, length >> 8, length & 0xFF))
    return bytes((first, 127)) + length.to_bytes(8, "big")


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole server frame."""
    return header(opcode, len(payload)) + payload


def close_payload(code: int | None, reason: bytes = b"") -> bytes:
    """Return what a close frame carries; nothing checks that code or reason are allowed."""
    return b"" if code is None else code.to_bytes(2, "big") + reason


class Deflate(msgspec.Struct, frozen=True, kw_only=True):
    """
    Agreed parameters of permessage-deflate (RFC 7692).

    The server always says `server_no_context_takeover`: every message is compressed by itself, so
    one compressed block serves all clients.
    """

    server_bits: int = 15
    client_bits: int = 15
    client_takeover: bool = True
    response: bytes = b""
    """The Sec-WebSocket-Extensions header of the 101."""


_DEFLATE_PARAMETERS = frozenset(
    {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }
)


def negotiate_deflate(offers: str) -> Deflate | None:
    """
    Pick the first acceptable offer of permessage-deflate.

    Args:
        offers: the Sec-WebSocket-Extensions header of the request; several are joined by commas.

    Returns:
        The agreed parameters, or None when nothing acceptable was offered.
    """
    for offer in offers.split(","):
        name, *rest = (part.strip() for part in offer.split(";"))
        if name.lower() == "permessage-deflate" and (agreed := _accept_offer(rest)):
            return agreed
    return None


def _accept_offer(rest: list[str]) -> Deflate | None:
    given: dict[str, str | None] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if key not in _DEFLATE_PARAMETERS or key in given:
            return None
        given[key] = value.strip().strip('"') if equals else None
    if given.get("server_no_context_takeover") or given.get("client_no_context_takeover"):
        return None  # these take no value (RFC 7692, section 7.1.1)
    response = ["permessage-deflate", "server_no_context_takeover"]
    server_bits = client_bits = 15
    if "server_max_window_bits" in given:
        bits = _window_bits(given["server_max_window_bits"])
        # zlib cannot compress raw data with a window of 2^8, so such an offer is passed over.
        if bits is None or bits < 9:
            return None
        server_bits = bits
        response.append(f"server_max_window_bits={bits}")
    if given.get("client_max_window_bits") is not None:
        bits = _window_bits(given["client_max_window_bits"])
        if bits is None:
            return None
        client_bits = bits
        response.append(f"client_max_window_bits={bits}")
    takeover = "client_no_context_takeover" not in given
    if not takeover:
        response.append("client_no_context_takeover")
    return Deflate(
        server_bits=server_bits,
        client_bits=client_bits,
        client_takeover=takeover,
        response="; ".join(response).encode(),
    )


def _window_bits(text: str | None) -> int | None:
    if text is None or not text.isdigit() or len(text) > 2 or text.startswith("0"):
        return None
    return int(text) if 8 <= int(text) <= 15 else None


def deflate(payload: bytes, bits: int) -> bytes:
    """Compress one message by itself (RFC 7692, section 7.2.1)."""
    squeeze = zlib.compressobj(wbits=-bits)
    return (squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def message(opcode: int, payload: bytes, agreed: Deflate | None = None) -> bytes:
    """Return one whole message in one frame, compressed where that was agreed."""
    if agreed is None:
        return header(opcode, len(payload)) + payload
    squeezed = deflate(payload, agreed.server_bits)
    return header(opcode, len(squeezed), rsv1=True) + squeezed


def texts(payloads: Packed, *, rsv1: bool = False) -> tuple[memoryview, NDArray[np.int64]]:
    """
    Return text frames of many payloads behind each other, and the size of each.

    Args:
        payloads: of whole messages.
        rsv1: they are compressed.
    """
    if not rsv1:
        payloads = payloads.with_heads()
        if payloads.headed:
            return payloads.span(), payloads.sizes + ROOM
    framed = [header(TEXT, len(payload), rsv1=rsv1) + payload for payload in payloads]
    return memoryview(b"".join(framed)), np.fromiter(map(len, framed), dtype=np.int64, count=len(framed))


def fragments(opcode: int, payload: bytes, size: int, between: bytes = b"") -> bytes:
    """Return one message in frames of `size` bytes (RFC 6455, section 5.4), with bytes between the first two."""
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    framed = [
        header(CONTINUATION if index else opcode, len(piece), fin=index == len(pieces) - 1) + piece
        for index, piece in enumerate(pieces)
    ]
    return framed[0] + between + b"".join(framed[1:])


# --- Reading -----------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """A message, ping, pong or close frame from the client, unmasked and whole."""

    opcode: int
    data: bytes
    code: int | None = None
    """Of a close frame; None when it had no payload."""


class Violation(Exception):  # noqa: N818 - it is the client's, not ours
    """The client broke the protocol; the connection must be failed with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class FrameReader:
    """
    Reads client frames from bytes as they arrive.

    Payload is unmasked and checked piece by piece, so an invalid message fails as early as it can be
    known, and a length that is too long fails before any of it is stored.

    Args:
        message_bytes_max: longest message, after decompression, that is accepted.
        agreed: permessage-deflate parameters, or None.
    """

    def __init__(self, message_bytes_max: int, agreed: Deflate | None = None) -> None:
        self._max = message_bytes_max
        self._agreed = agreed
        self._buffer = bytearray()
        self._message = bytearray()
        self._message_opcode = CONTINUATION
        self._message_squeezed = False
        self._utf8: IncrementalDecoder | None = None
        self._inflate = zlib.decompressobj(-agreed.client_bits) if agreed else None
        # The frame whose payload is arriving: opcode, fin, bytes still to come, mask.
        self._frame: tuple[int, bool] | None = None
        self._left = 0
        self._mask = b""
        self._control = bytearray()

    def receive(self, data: bytes) -> list[Received]:
        """
        Take bytes and return what they completed, in order.

        Raises:
            Violation: as soon as it is certain. What came whole before it in the same call is in `pending`.
        """
        self.pending: list[Received] = []
        self._buffer += data
        while self._step():
            pass
        return self.pending

    def _step(self) -> bool:
        if self._frame is None and not self._read_header():
            return False
        assert self._frame is not None
        opcode, fin = self._frame
        if self._left and not self._buffer:
            return False
        piece = self._take_payload()
        if opcode >= CLOSE:
            self._control += piece
        else:
            self._extend_message(piece)
        if self._left:
            return False
        self._frame = None
        if opcode >= CLOSE:
            self._finish_control(opcode)
        elif fin:
            self._finish_message()
        return True

    def _read_header(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        first, second = buffer[0], buffer[1]
        opcode, fin, length = first & 0x0F, bool(first & 0x80), second & 0x7F
        # What the first two bytes say is judged before anything else arrives.
        self._check_start(first, opcode, fin, masked=bool(second & 0x80), length=length)
        size = {126: 2, 127: 8}.get(length, 0)
        if len(buffer) < 2 + size + 4:
            return False
        if size:
            length = int.from_bytes(buffer[2 : 2 + size], "big")
            if length >> 63:
                raise Violation(1002, "frame length has its highest bit set")
        if opcode < CLOSE:
            self._start_message(opcode, squeezed=bool(first & _RSV1), length=length)
        self._mask = bytes(buffer[2 + size : 6 + size])
        del buffer[: 6 + size]
        self._frame, self._left, self._control = (opcode, fin), length, bytearray()
        return True

    def _check_start(self, first: int, opcode: int, fin: bool, *, masked: bool, length: int) -> None:
        reserved = first & 0x70
        if reserved & ~_RSV1 or (reserved and (self._agreed is None or opcode not in {TEXT, BINARY})):
            raise Violation(1002, "reserved bits are set")
        if opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}:
            raise Violation(1002, "reserved opcode")
        if not masked:
            raise Violation(1002, "client frames must be masked")
        if opcode >= CLOSE and (not fin or length > CONTROL_PAYLOAD_MAX):
            raise Violation(1002, "control frame is fragmented or too long")
        if opcode == CONTINUATION and self._message_opcode == CONTINUATION:
            raise Violation(1002, "continuation of nothing")
        if opcode in {TEXT, BINARY} and self._message_opcode != CONTINUATION:
            raise Violation(1002, "new message inside a fragmented one")

    def _start_message(self, opcode: int, *, squeezed: bool, length: int) -> None:
        if len(self._message) + length > self._max:
            raise Violation(1009, "message too big")
        if opcode != CONTINUATION:
            self._message_opcode, self._message_squeezed = opcode, squeezed
            self._utf8 = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT and not squeezed else None

    def _take_payload(self) -> bytes:
        take = min(self._left, len(self._buffer))
        if not take:
            return b""
        masked = bytes(self._buffer[:take])
        del self._buffer[:take]
        self._left -= take
        piece = unmask(masked, self._mask)
        turn = take % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return piece

    def _extend_message(self, piece: bytes) -> None:
        self._message += piece
        if self._utf8 is not None:
            try:
                self._utf8.decode(piece)
            except UnicodeDecodeError:
                raise Violation(1007, "text is not UTF-8") from None

    def _finish_message(self) -> None:
        opcode, data = self._message_opcode, bytes(self._message)
        self._message, self._message_opcode = bytearray(), CONTINUATION
        if self._message_squeezed:
            data = self._expand(data)
        try:
            if opcode == TEXT and self._message_squeezed:
                data.decode()
            elif self._utf8 is not None:
                self._utf8.decode(b"", final=True)
        except UnicodeDecodeError:
            raise Violation(1007, "text is not UTF-8") from None
        self.pending.append(Received(opcode, data))

    def _expand(self, data: bytes) -> bytes:
        assert self._agreed is not None
        assert self._inflate is not None
        try:
            # One byte more than allowed is enough to know that a bomb is one.
            whole = self._inflate.decompress(data + b"\x00\x00\xff\xff", self._max + 1)
        except zlib.error:
            raise Violation(1007, "message does not decompress") from None
        if len(whole) > self._max:
            raise Violation(1009, "message too big")
        # A client may end its deflate stream in a message (BFINAL); the next one starts a new stream.
        if not self._agreed.client_takeover or self._inflate.eof:
            self._inflate = zlib.decompressobj(-self._agreed.client_bits)
        return whole

    def _finish_control(self, opcode: int) -> None:
        data = bytes(self._control)
        if opcode != CLOSE:
            self.pending.append(Received(opcode, data))
            return
        if not data:
            self.pending.append(Received(CLOSE, b"", None))
            return
        code = int.from_bytes(data[:2], "big")
        # RFC 6455, section 7.4: these may be on the wire, and no others.
        if len(data) < 2 or not (code in range(3000, 5000) or code in {*range(1000, 1004), *range(1007, 1015)}):
            raise Violation(1002, "close code is not allowed")
        try:
            data[2:].decode()
        except UnicodeDecodeError:
            raise Violation(1007, "close reason is not UTF-8") from None
        self.pending.append(Received(CLOSE, data[2:], code))


def unmask(data: bytes, mask: bytes) -> bytes:
    """Apply a mask of 4 bytes (RFC 6455, section 5.3)."""
    if len(data) < 1024:
        repeated = (mask * (len(data) // 4 + 1))[: len(data)]
        whole = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
        return whole.to_bytes(len(data), "big")
    padded = data + bytes(-len(data) % 4)
    plain = np.frombuffer(padded, np.uint32) ^ np.frombuffer(mask, np.uint32)
    return plain.tobytes()[: len(data)]
