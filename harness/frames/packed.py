"""Payloads in one block of bytes, with room before each for what the wire puts there.

room {"e":"aggTrade",...} room {"e":"aggTrade",...} room ...
^ offsets[0]              ^ offsets[1]              ^ offsets[2]

In a headed block the room holds the header of a text frame, so that the block is what goes out: nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Int64 = NDArray[np.int64]

ROOM = 4
"""Bytes before each payload: the header of a WebSocket frame of 126 to 65535 bytes, which is nearly every one."""
SIZES = range(126, 1 << 16)
"""Of payloads whose header is as long as the room."""
_ROOM = bytes(ROOM)
_HEAD = 0x81_7E_00_00
"""A whole text frame, unmasked, whose length follows in 16 bits (RFC 6455, section 5.2)."""


def fits(sizes: Int64) -> bool:
    """Whether the headers of all payloads are as long as the room."""
    return bool(len(sizes)) and int(sizes.min()) in SIZES and int(sizes.max()) in SIZES


def heads(sizes: Int64) -> NDArray[np.uint32]:
    """Headers of text frames of payloads that fit, in the order of bytes on the wire."""
    return (sizes + _HEAD).astype(">u4")


class Packed(Sequence[bytes]):
    """
    A sequence of payloads that stand in one block.

    Who asks for one gets its bytes. Who sends them all on copies the block and writes into the room: no object is
    made per frame, which is most of what a frame costs otherwise.

    Args:
        block: before each payload `ROOM` bytes of anything.
        offsets: where the room of each begins, and where the last one ends; one more than payloads.
        headed: the room of each holds its header.
    """

    __slots__ = ("block", "headed", "offsets")

    def __init__(self, block: bytes | memoryview, offsets: Int64, *, headed: bool = False) -> None:
        self.block = block
        self.offsets = offsets
        self.headed = headed

    @classmethod
    def of(cls, payloads: Sequence[bytes]) -> Packed:
        """Pack any payloads; those that are packed already stay as they are."""
        if isinstance(payloads, Packed):
            return payloads
        offsets = np.zeros(len(payloads) + 1, dtype=np.int64)
        sizes = np.fromiter(map(len, payloads), dtype=np.int64, count=len(payloads))
        np.cumsum(sizes + ROOM, out=offsets[1:])
        return cls(_ROOM.join((b"", *payloads)), offsets)

    @classmethod
    def joined(cls, parts: Sequence[Packed]) -> Packed:
        """Put several behind each other."""
        if len(parts) == 1:
            return parts[0]
        offsets = np.zeros(sum(map(len, parts)) + 1, dtype=np.int64)
        np.cumsum(np.concatenate([part.sizes for part in parts]) + ROOM, out=offsets[1:])
        block = b"".join(part.span() for part in parts)
        return cls(block, offsets, headed=all(part.headed for part in parts))

    @classmethod
    def headed_in(cls, block: bytearray, offsets: Int64) -> Packed:
        """Take over a block, and write the header of each payload into its room, if all of them fit."""
        packed = cls(memoryview(block).toreadonly(), offsets)
        if fits(sizes := packed.sizes):
            # One number each, at any byte.
            rooms = np.ndarray((len(block) - ROOM + 1,), dtype=">u4", buffer=block, strides=(1,))
            rooms[offsets[:-1]] = heads(sizes)
            packed.headed = True
        return packed

    def with_heads(self) -> Packed:
        """The same with the header of each in its room, if all of them fit."""
        if self.headed or not fits(self.sizes):
            return self
        return Packed.headed_in(bytearray(self.span()), self.offsets - self.offsets[0])

    @property
    def sizes(self) -> Int64:
        """Bytes of each payload."""
        return self.offsets[1:] - self.offsets[:-1] - ROOM

    @property
    def size_bytes(self) -> int:
        """Bytes of all payloads together."""
        return int(self.offsets[-1] - self.offsets[0]) - ROOM * len(self)

    def span(self) -> memoryview:
        """The part of the block that these payloads take, first room included."""
        return memoryview(self.block)[self.offsets[0] : self.offsets[-1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Packed: ...
    def __getitem__(self, index: int | slice) -> bytes | Packed:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                return Packed.of(list(self)[index])
            return Packed(self.block, self.offsets[first : max(first, last) + 1], headed=self.headed)
        index = range(len(self))[index]
        return bytes(self.block[self.offsets[index] + ROOM : self.offsets[index + 1]])

    def __iter__(self) -> Iterator[bytes]:
        block = self.block
        return (bytes(block[first + ROOM : last]) for first, last in pairwise(self.offsets.tolist()))


def size_bytes(payloads: Sequence[bytes]) -> int:
    """Bytes of all payloads together."""
    return payloads.size_bytes if type(payloads) is Packed else sum(map(len, payloads))
