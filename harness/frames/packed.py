"""Payloads in one block of bytes, with room before each for what the wire puts there.

room {"e":"aggTrade",...} room {"e":"aggTrade",...} room ...
^ offsets[0]              ^ offsets[1]              ^ offsets[2]
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
_ROOM = bytes(ROOM)


class Packed(Sequence[bytes]):
    """
    A sequence of payloads that stand in one block.

    Who asks for one gets its bytes. Who sends them all on copies the block and writes into the room: no object is
    made per frame, which is most of what a frame costs otherwise.

    Args:
        block: before each payload `ROOM` bytes of anything.
        offsets: where the room of each begins, and where the last one ends; one more than payloads.
    """

    __slots__ = ("block", "offsets")

    def __init__(self, block: bytes, offsets: Int64) -> None:
        self.block = block
        self.offsets = offsets

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
        return cls(b"".join(part.span() for part in parts), offsets)

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
            return Packed(self.block, self.offsets[first : max(first, last) + 1])
        index = range(len(self))[index]
        return self.block[self.offsets[index] + ROOM : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[bytes]:
        block = self.block
        return (block[first + ROOM : last] for first, last in pairwise(self.offsets.tolist()))


def size_bytes(payloads: Sequence[bytes]) -> int:
    """Bytes of all payloads together."""
    return payloads.size_bytes if type(payloads) is Packed else sum(map(len, payloads))
