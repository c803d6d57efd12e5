"""Payload bytes of a timeline: rendered from the recording's columns, or read from its raw ones, block by block."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from harness.frames import columns, move_times, split_wrapped
from harness.frames.packed import ROOM, Packed
from harness.recording.table import Content, content_of, one, valid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from harness.recording.reader import Part

BLOCK_ROWS = 4096
"""Rows rendered at a time. Small, so that hundreds of recordings merged into one tape keep one block each."""
HELD_BYTES = 128 << 20
"""Payload bytes kept in memory: a replay reads forward, a reconnect near by."""
GROUPS_HELD = 4
"""Row groups kept as columns."""
RAW_BYTES = 1 << 20
"""Where a row group has more raw bytes than this, they are read a block at a time as long as all rows are raw."""
FORWARD_HELD = 64
"""Row groups that are being read so; one per recording that is merged, and what a jump left behind."""
_CONTENT = [
    "stream", "event_time", "symbol", "agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id",
    "trade_time", "is_buyer_maker", "raw",
]  # fmt: skip
_NO_COLUMNS = columns.read(())


class _Group(NamedTuple):
    content: Content
    """Without streams, as payloads are."""
    wrapped: NDArray[np.bool_]
    """Rows that were received with one."""


class Store:
    """
    Payloads by blocks of rows, the last used ones kept; row groups are read when a block of theirs is asked for.

    Args:
        groups: all row groups.
        place: of each frame: number of its row group among all, times 2**32, plus the row in it.
        offset_ms: how far the times inside are moved.
    """

    def __init__(self, groups: list[tuple[Part, int]], place: NDArray[np.int64], offset_ms: int = 0) -> None:
        self._groups = groups
        self._place = place
        self._offset_ms = offset_ms
        self._blocks: OrderedDict[int, Packed] = OrderedDict()
        self._held_bytes = 0
        self._contents: OrderedDict[int, _Group] = OrderedDict()
        self._forward: OrderedDict[int, _Forward] = OrderedDict()

    def moved(self, offset_ms: int) -> Store:
        """The same payloads with other times."""
        return Store(self._groups, self._place, self._offset_ms + offset_ms)

    def fetch(self, first: int, last: int) -> Packed:
        """Payloads of the frames `first` to `last`, exclusive, unwrapped."""
        places = self._place[first:last]
        if not len(places):
            return Packed.of(())
        blocks = places // BLOCK_ROWS
        rows = places % BLOCK_ROWS
        edges = np.flatnonzero(np.diff(blocks)) + 1
        parts = []
        for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(places)], strict=True):
            block = self._block(int(blocks[start]))
            one, other = int(rows[start]), int(rows[end - 1]) + 1
            if other - one == end - start:
                parts.append(block[one:other])
            else:
                parts.append(Packed.of([block[row] for row in rows[start:end].tolist()]))
        return Packed.joined(parts)

    def _block(self, number: int) -> Packed:
        held = self._blocks.get(number)
        if held is not None:
            self._blocks.move_to_end(number)
            return held
        group, first = divmod(number * BLOCK_ROWS, 1 << 32)
        (content, wrapped), first = self._rows(group, first)
        last = min(first + BLOCK_ROWS, len(content.typed))
        raw = np.flatnonzero(~content.typed[first:last])
        is_moved = bool(self._offset_ms and len(raw))
        # Where times are searched for, the room is searched too: a header there might look like the beginning of one.
        block = Packed(*content.render(first, last, ROOM)) if is_moved else content.pack(first, last)
        # Rendered without a stream, typed rows are unwrapped already.
        if len(rows := raw[wrapped[first:last][raw]]):
            block = _changed(block, rows, lambda payload: split_wrapped(payload)[1])
        if is_moved and len(raw) == len(block):
            # No payload changes its length.
            block = Packed(move_times(bytes(block.block), self._offset_ms), block.offsets)
        elif is_moved:
            block = _changed(block, raw, lambda payload: move_times(payload, self._offset_ms))
        self._blocks[number] = block
        self._held_bytes += len(block.block)
        while self._held_bytes > HELD_BYTES and len(self._blocks) > 1:
            self._held_bytes -= len(self._blocks.popitem(last=False)[1].block)
        return block

    def _rows(self, group: int, first: int) -> tuple[_Group, int]:
        # What the block that begins at row `first` is made of, and the row at which it begins there.
        held = self._contents.get(group)
        if held is not None:
            self._contents.move_to_end(group)
            return held, first
        part, number = self._groups[group]
        # Taken out while it is used: a judge may look at the tape while it is played.
        forward = self._forward.pop(group, None)
        if forward is not None or part.unpacked_bytes(number, "raw") > RAW_BYTES:
            forward = forward or _Forward(part, number)
            found = forward.block(first)
            if found is not None:
                self._forward[group] = forward
                while len(self._forward) > FORWARD_HELD:
                    self._forward.popitem(last=False)
                return found, 0
        held = self._contents[group] = self._read(part, number)
        while len(self._contents) > GROUPS_HELD:
            self._contents.popitem(last=False)
        return held, first

    def _read(self, part: Part, number: int) -> _Group:
        table = part.read(number, _CONTENT)
        place = table.schema.get_field_index("stream")
        wrapped = valid(one(table, "stream"))
        nulls = pa.nulls(table.num_rows, table.schema.field(place).type)
        content = content_of(table.set_column(place, table.schema.field(place), nulls))
        if self._offset_ms:
            content = content._replace(columns=columns.move_times(content.columns, self._offset_ms))
        return _Group(content, wrapped)


class _Forward:
    """
    Rows of a group that are all raw, read forward a block at a time: no more than that is decoded at once.

    Who goes back begins anew.
    """

    def __init__(self, part: Part, group: int) -> None:
        self._part, self._group = part, group
        self._begin()

    def _begin(self) -> None:
        self._batches = self._part.batches(self._group, ["stream", "raw"], BLOCK_ROWS)
        self._next = 0

    def block(self, first: int) -> _Group | None:
        """The block that begins at row `first`; None when not all of its rows are raw."""
        if first < self._next:
            self._begin()
        for batch in self._batches:
            begin, self._next = self._next, self._next + batch.num_rows
            if begin == first:
                raw = batch.column("raw")
                content = Content(_NO_COLUMNS, np.zeros(len(raw), dtype=np.bool_), raw)
                return None if raw.null_count else _Group(content, valid(batch.column("stream")))
        return None


def _changed(block: Packed, rows: NDArray[np.intp], change: Callable[[bytes], bytes]) -> Packed:
    payloads = list(block)
    for row in rows.tolist():
        payloads[row] = change(payloads[row])
    return Packed.of(payloads)
