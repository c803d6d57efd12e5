"""The timeline as framed bytes: blocks that are rendered once and serve every connection.

A connection holds a cursor, not a buffer: it takes slices of shared blocks, so a thousand
clients cost one rendering.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.exchange import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.timeline import Timeline

BLOCK_FRAMES = 256
"""Frames per block: below 64 the calls cost more than the bytes, above 1024 nothing is won."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection wants its frames."""

    codes: frozenset[int] | None = None
    """Streams that it carries; None for every stream of the tape."""
    combined: bool = False
    micro: bool = False
    """Times in microseconds (`timeUnit=MICROSECOND`)."""
    deflate_bits: int = 0
    """Window of the compression that was agreed; 0 for none."""


class Block(msgspec.Struct, frozen=True):
    """Framed bytes of consecutive frames."""

    data: bytes
    ends: list[int]
    """Offset at which each frame ends; frames that the shape does not carry have no bytes."""


_MILLIS = re.compile(rb'("(?:[ETt]|trade_time)"\s*:\s*\d{13})(?!\d)')


def microseconds(payload: bytes) -> bytes:
    """Write the event and trade times of a payload with 16 digits (binance-protocol, section 2)."""
    return _MILLIS.sub(rb"\g<1>000", payload)


def wrapped(stream: str, payload: bytes) -> bytes:
    """Wrap a payload as data of a combined connection."""
    return b'{"stream":"%s","data":%s}' % (stream.encode(), payload)


class Tape:
    """
    A timeline with its framed blocks.

    Args:
        timeline: what to frame.
        cache_bytes: how much to keep for other connections.
    """

    def __init__(self, timeline: Timeline, cache_bytes: int) -> None:
        self.timeline = timeline
        self._room = cache_bytes
        self._cached_bytes = 0
        self._blocks: OrderedDict[tuple[int, Shape], Block] = OrderedDict()
        self._heads = _Heads()
        self._prefixes = [b'{"stream":"%s","data":' % name.encode() for name in timeline.streams]

    def frames(self, first: int, last: int, shape: Shape) -> list[bytes | memoryview]:
        """
        Framed bytes of the frames `first` to `last`, exclusive, of the streams that the shape carries.

        Returns:
            Slices of shared blocks; empty ones are left out.
        """
        pieces: list[bytes | memoryview] = []
        while first < last:
            number = first // BLOCK_FRAMES
            start = number * BLOCK_FRAMES
            stop = min(last, start + BLOCK_FRAMES)
            block = self._block(number, shape)
            begin = block.ends[first - start - 1] if first > start else 0
            end = block.ends[stop - start - 1]
            if begin == 0 and end == len(block.data):
                pieces.append(block.data)
            elif end > begin:
                pieces.append(memoryview(block.data)[begin:end])
            first = stop
        return pieces

    def _block(self, number: int, shape: Shape) -> Block:
        key = (number, shape)
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
            return block
        start = number * BLOCK_FRAMES
        block = self._render(start, min(len(self.timeline), start + BLOCK_FRAMES), shape)
        self._blocks[key] = block
        self._cached_bytes += len(block.data)
        # The block in hand stays, however small the room.
        while self._cached_bytes > self._room and len(self._blocks) > 1:
            self._cached_bytes -= len(self._blocks.popitem(last=False)[1].data)
        return block

    def _render(self, first: int, last: int, shape: Shape) -> Block:
        payloads: Sequence[bytes] = self.timeline.payloads(first, last)
        codes = self.timeline.stream_codes[first:last]
        if shape.micro:
            payloads = [microseconds(payload) for payload in payloads]
        if shape.combined:
            prefixes = self._prefixes
            payloads = [prefixes[code] + payload + b"}" for code, payload in zip(codes.tolist(), payloads, strict=True)]
        if shape.codes is not None:
            return self._render_some(payloads, np.isin(codes, list(shape.codes)).tolist(), shape)
        if shape.deflate_bits:
            return self._render_some(payloads, [True] * len(payloads), shape)
        lengths = list(map(len, payloads))
        heads = list(map(self._heads.__getitem__, lengths))
        data = b"".join(chain.from_iterable(zip(heads, payloads, strict=True)))
        sizes = np.fromiter(lengths, np.int64, len(lengths))
        sizes += np.where(sizes < 126, 2, np.where(sizes < 65536, 4, 10))
        return Block(data, np.cumsum(sizes).tolist())

    def _render_some(self, payloads: Sequence[bytes], carried: list[bool], shape: Shape) -> Block:
        agreed = wire.Deflate(server_bits=shape.deflate_bits) if shape.deflate_bits else None
        framed = [
            wire.message(wire.TEXT, payload, agreed) if keep else b""
            for payload, keep in zip(payloads, carried, strict=True)
        ]
        return Block(b"".join(framed), list(accumulate(map(len, framed))))


class _Heads(dict[int, bytes]):
    """Headers by length of payload, made when first needed."""

    def __missing__(self, length: int) -> bytes:
        if len(self) > 65536:
            self.clear()
        head = self[length] = wire.header(wire.TEXT, length)
        return head
