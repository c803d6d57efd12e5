"""WebSocket bytes to messages: RFC 6455 framing, read a whole socket read at a time.

One reader serves the recorder (what an exchange sends) and the recording proxy (both directions, deflated where
the two sides agreed on it). It walks over headers and cuts payloads out; a message never becomes more
than its own bytes. Where a read brought many messages, as in a burst, those of the usual size are not even cut out:
they stay in the block in which they came, which is `Packed` already.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import numpy as np

from harness.frames.packed import ROOM, Packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.frames import Kind

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KINDS: dict[int, Kind] = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}

MESSAGE_BYTES_MAX = 64 << 20
"""Far above any message of an exchange (an `!ticker@arr` is about 1 MB); a longer one is a broken header."""

BULK_BYTES_MIN = 8 << 10
"""Where a read brought less, one message after the other is as fast as all at once."""

_FINAL_TEXT = 0x81
_LENGTH_IN_TWO_BYTES = 126  # RFC 6455, section 5.2; such a header has as many bytes as `Packed` has room for
_DEFLATED = 0x40
_INFLATE_TAIL = b"\x00\x00\xff\xff"

Group = tuple[int, "Sequence[bytes]"]
"""Opcode, and consecutive messages of it."""


class Deframer:
    """
    One direction of a WebSocket connection.

    Args:
        inflate: permessage-deflate was agreed on (RFC 7692).
        keep_context: the sender keeps its compression window from message to message.
    """

    def __init__(self, *, inflate: bool = False, keep_context: bool = True) -> None:
        self.broken = ""
        """What is wrong with the stream; everything behind is unreadable. Empty while all is well."""
        self._rest = b""
        self._inflate = inflate
        self._keep_context = keep_context
        self._window = zlib.decompressobj(-15)
        self._opcode = 0
        self._deflated = False
        self._parts: list[bytes] = []

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._rest) + sum(map(len, self._parts))

    def receive_data(self, data: bytes) -> list[Group]:
        """
        Take what a socket gave.

        Returns:
            Complete messages in order; neighbours of one kind mostly in one group.
        """
        buffer = self._rest + data if self._rest else data
        groups: list[Group] = []
        at = 0
        if len(buffer) >= BULK_BYTES_MIN and not self.broken:
            offsets = _texts(buffer)
            if len(offsets) > 1:
                groups.append((TEXT, Packed(buffer, offsets)))
                at = int(offsets[-1])
        at = self._walk(buffer, at, groups)
        self._rest = buffer[at:] if at else buffer
        return groups

    def _walk(self, buffer: bytes, at: int, groups: list[Group]) -> int:
        # Returns where the first frame that is not complete begins.
        end = len(buffer)
        texts: list[bytes] = []
        while end - at >= 2 and not self.broken:
            first, length, start = buffer[at], buffer[at + 1], at + 2
            mask = b""
            if length > 125:
                masked, length = length & 0x80, length & 0x7F
                extra = 2 if length == 126 else 8 if length == 127 else 0
                start += extra + (4 if masked else 0)
                if start > end:
                    break
                if extra:
                    length = int.from_bytes(buffer[at + 2 : at + 2 + extra], "big")
                if masked:
                    mask = buffer[start - 4 : start]
                if length > MESSAGE_BYTES_MAX:
                    self.broken = f"a frame claims {length} bytes"
                    break
            stop = start + length
            if stop > end:
                break
            payload = buffer[start:stop]
            if mask:
                payload = unmask(payload, mask)
            at = stop
            if first == _FINAL_TEXT:
                texts.append(payload)
                continue
            if texts:
                groups.append((TEXT, texts))
                texts = []
            whole = self._frame(first, payload)
            if whole is not None:
                _add(groups, *whole)
        if texts:
            groups.append((TEXT, texts))
        return at

    def _frame(self, first: int, payload: bytes) -> tuple[int, bytes] | None:
        opcode, final = first & 0x0F, bool(first & 0x80)
        if first & 0x30 or (first & _DEFLATED and not self._inflate):
            self.broken = "a frame has a reserved bit set"
        elif opcode in {CLOSE, PING, PONG}:
            # Control frames may come between the parts of a message (RFC 6455, section 5.4).
            if final and len(payload) < 126:
                return opcode, payload
            self.broken = "a control frame is fragmented or too long"
        elif opcode in {TEXT, BINARY} and not self._parts and not self._opcode:
            self._opcode, self._deflated = opcode, bool(first & _DEFLATED)
            return self._part(payload, final=final)
        elif opcode == CONTINUATION and self._opcode:
            return self._part(payload, final=final)
        else:
            self.broken = f"a frame with opcode {opcode} is out of place"
        return None

    def _part(self, payload: bytes, *, final: bool) -> tuple[int, bytes] | None:
        self._parts.append(payload)
        if not final:
            return None
        whole, opcode = b"".join(self._parts), self._opcode
        self._parts, self._opcode = [], 0
        if self._deflated:
            try:
                whole = self._window.decompress(whole + _INFLATE_TAIL, MESSAGE_BYTES_MAX)
            except zlib.error as problem:
                self.broken = f"a deflated message cannot be read: {problem}"
                return None
            if not self._keep_context:
                self._window = zlib.decompressobj(-15)
        return opcode, whole


def _add(groups: list[Group], opcode: int, payload: bytes) -> None:
    if groups and groups[-1][0] == opcode and isinstance(groups[-1][1], list):
        groups[-1][1].append(payload)
    else:
        groups.append((opcode, [payload]))


def _texts(buffer: bytes) -> NDArray[np.int64]:
    # Where the frames begin, and where the last one ends, as far as the buffer begins with complete, unmasked text
    # frames whose length stands in two bytes. What looks like a header need be none, so each must end where
    # the next begins; the first is one, since the buffer begins with it.
    octets = np.frombuffer(buffer, np.uint8)
    starts = np.flatnonzero(octets[:-ROOM] == _FINAL_TEXT)
    starts = starts[octets[starts + 1] == _LENGTH_IN_TWO_BYTES]
    if not len(starts) or starts[0]:
        return np.zeros(1, np.int64)
    ends = starts + ROOM + octets[starts + 2] * np.int64(256) + octets[starts + 3]
    chained = np.concatenate(([True], ends[:-1] == starts[1:])) & (ends <= len(buffer))
    count = len(chained) if chained.all() else int(chained.argmin())
    return np.append(starts[:count], ends[count - 1] if count else 0)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Apply a mask of four bytes; the same call masks and unmasks."""
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A whole, masked frame, as a client must send it."""
    length, mask = len(payload), os.urandom(4)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 1 << 16:
        head = bytes((0x80 | opcode, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + mask + unmask(payload, mask)


def close_parts(payload: bytes) -> tuple[int | None, str]:
    """Code and reason of a close frame, whatever its bytes are."""
    if len(payload) < 2:
        return None, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")
