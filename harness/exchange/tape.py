"""The timeline as framed bytes: blocks that are rendered once and serve every connection.

A connection holds a cursor, not a buffer: it takes slices of shared blocks, so a thousand
clients cost one rendering.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from itertools import compress
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.exchange import wire
from harness.frames.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.timeline import Timeline

BLOCK_FRAMES = 1024
"""Frames per block that go out as they are: below 512 the calls cost more than the bytes, above nothing is won."""

SINGLE_FRAMES = 256
"""Frames per block where each is made by itself, which takes ten times as long; nobody waits for more of them."""

BLOCK_BYTES = BLOCK_FRAMES * 1024
"""More than a block of any usual stream has."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection wants its frames."""

    codes: frozenset[int] | None = None
    """Streams that it carries; None for every stream of the tape."""
    combined: bool = False
    micro: bool = False
    """Times in microseconds (`timeUnit=MICROSECOND`)."""
    deflate_bits: int = 0
    """Window of the compression that was agreed; 0 for none."""

    @property
    def is_plain(self) -> bool:
        """Every frame of the tape goes out, and as it is."""
        return self.codes is None and not (self.combined or self.micro or self.deflate_bits)

    @property
    def block_frames(self) -> int:
        """Frames per block."""
        return BLOCK_FRAMES if self.is_plain else SINGLE_FRAMES


class Block(msgspec.Struct, frozen=True):
    """Framed bytes of consecutive frames."""

    data: memoryview
    ends: NDArray[np.int64]
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
        self._prefixes = [b'{"stream":"%s","data":' % name.encode() for name in timeline.streams]

    def frames(self, first: int, last: int, shape: Shape) -> list[memoryview]:
        """
        Framed bytes of the frames `first` to `last`, exclusive, of the streams that the shape carries.

        Returns:
            Slices of shared blocks; empty ones are left out.
        """
        pieces: list[memoryview] = []
        size = shape.block_frames
        while first < last:
            number = first // size
            start = number * size
            stop = min(last, start + size)
            block = self._block(number, shape)
            begin = int(block.ends[first - start - 1]) if first > start else 0
            end = int(block.ends[stop - start - 1])
            if end > begin:
                pieces.append(block.data[begin:end])
            first = stop
        return pieces

    def prepare(self, frame: int, shape: Shape) -> None:
        """Render the block of a frame and the next one, so that nobody waits for them later."""
        if self._room < 2 * BLOCK_BYTES:
            return  # they would push each other out
        last = (len(self.timeline) - 1) // shape.block_frames
        first = frame // shape.block_frames
        for number in range(first, min(first + 1, last) + 1):
            self._block(number, shape)

    def _block(self, number: int, shape: Shape) -> Block:
        key = (number, shape)
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
            return block
        start = number * shape.block_frames
        block = self._render(start, min(len(self.timeline), start + shape.block_frames), shape)
        self._blocks[key] = block
        self._cached_bytes += len(block.data)
        # The block in hand stays, however small the room.
        while self._cached_bytes > self._room and len(self._blocks) > 1:
            self._cached_bytes -= len(self._blocks.popitem(last=False)[1].data)
        return block

    def _render(self, first: int, last: int, shape: Shape) -> Block:
        payloads: Sequence[bytes] = self.timeline.packed(first, last)
        if shape.is_plain:
            data, sizes = wire.texts(Packed.of(payloads))
            return Block(data, np.cumsum(sizes))
        codes = self.timeline.stream_codes[first:last]
        if shape.codes is None:
            carried = np.ones(len(codes), dtype=bool)
        else:
            carried = np.isin(codes, list(shape.codes))
            payloads, codes = list(compress(payloads, carried.tolist())), codes[carried]
        if shape.micro:
            payloads = [microseconds(payload) for payload in payloads]
        if shape.combined:
            prefixes = self._prefixes
            payloads = [prefixes[code] + payload + b"}" for code, payload in zip(codes.tolist(), payloads, strict=True)]
        if shape.deflate_bits:
            payloads = [wire.deflate(payload, shape.deflate_bits) for payload in payloads]
        data, sizes = wire.texts(Packed.of(payloads), rsv1=bool(shape.deflate_bits))
        every = np.zeros(len(carried), dtype=np.int64)
        every[carried] = sizes
        return Block(data, np.cumsum(every))
