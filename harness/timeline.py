"""Recorded data frames in the order, and at the times, they were due.

A recording has millions of frames, so a timeline is columns; payload bytes are fetched only when
they are sent. Frame numbers are indices from 0 here; the plan language counts from 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np

from harness.frames import move_times
from harness.frames.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NO_ID = -1
"""Trade id of a frame that is no aggTrade."""


class PayloadStore(Protocol):
    """Where the payload bytes of a timeline are."""

    def fetch(self, first: int, last: int) -> Sequence[bytes]:
        """Payloads (never wrapped) of the frames `first` to `last`, exclusive; best as `Packed`."""
        ...


@runtime_checkable
class MovableStore(PayloadStore, Protocol):
    """A store that knows where the times inside its payloads are, so that nobody need search for them."""

    def moved(self, offset_ms: int) -> PayloadStore:
        """The same payloads, with their times as `frames.move_times` moves them."""
        ...


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the recorded connection itself."""

    due_ns: int
    kind: Literal["open", "close", "lost", "gap"]
    connection: int
    frame: int
    """Index of the first data frame after it."""
    close_code: int | None = None
    detail: str = ""


class Timeline:
    """
    The tape: columns of equal length, one row per data frame.

    Args:
        due_ns: int64, nanoseconds since the first frame was due; never falls.
        stream_codes: int32, index into `streams`.
        trade_ids: int64, agg trade id, or `NO_ID`.
        event_ms: int64, event time `E` in milliseconds since 1970, or -1.
        streams: names such as `btcusdt@aggTrade`.
        store: fetches payloads by row.
        start_ms: wall time of the first frame, milliseconds since 1970: its event time where it has one.
        marks: disconnects and gaps that the recording remembers, in order.
        names: recordings that this was read from.
    """

    def __init__(
        self,
        *,
        due_ns: NDArray[np.int64],
        stream_codes: NDArray[np.int32],
        trade_ids: NDArray[np.int64],
        event_ms: NDArray[np.int64],
        streams: tuple[str, ...],
        store: PayloadStore,
        start_ms: int,
        marks: tuple[Mark, ...] = (),
        names: tuple[str, ...] = (),
    ) -> None:
        assert len(due_ns) == len(stream_codes) == len(trade_ids) == len(event_ms)
        assert len(due_ns) < 2 or bool(np.all(np.diff(due_ns) >= 0)), "due times never fall"
        self.due_ns = due_ns
        self.stream_codes = stream_codes
        self.trade_ids = trade_ids
        self.event_ms = event_ms
        self.streams = streams
        self.store = store
        self.start_ms = start_ms
        self.marks = marks
        self.names = names

    def __len__(self) -> int:
        return len(self.due_ns)

    @property
    def length_ns(self) -> int:
        """Tape time of the last frame; 0 when there is none."""
        return int(self.due_ns[-1]) if len(self.due_ns) else 0

    def payload(self, frame: int) -> bytes:
        """The bytes of one frame, unwrapped."""
        return self.store.fetch(frame, frame + 1)[0]

    def payloads(self, first: int, last: int) -> Sequence[bytes]:
        """The bytes of the frames `first` to `last`, exclusive, unwrapped."""
        return self.store.fetch(first, last)

    def packed(self, first: int, last: int) -> Packed:
        """The same in one block, for those who send them on."""
        return Packed.of(self.store.fetch(first, last))

    def stream_of(self, frame: int) -> str:
        """Name of the stream that a frame belongs to."""
        return self.streams[int(self.stream_codes[frame])]

    def frame_at(self, tape_ns: int) -> int:
        """Index of the first frame due at `tape_ns` or later; the length when there is none."""
        return int(np.searchsorted(self.due_ns, tape_ns, side="left"))

    def frame_of_id(self, trade_id: int) -> int | None:
        """Index of the first frame that carries an agg trade id, or None."""
        found = np.flatnonzero(self.trade_ids == trade_id)
        return int(found[0]) if len(found) else None

    def clipped(self, duration_ns: int | None) -> Timeline:
        """The first part of a timeline; all of it for None."""
        if duration_ns is None or duration_ns >= self.length_ns:
            return self
        last = self.frame_at(duration_ns)
        return Timeline(
            due_ns=self.due_ns[:last],
            stream_codes=self.stream_codes[:last],
            trade_ids=self.trade_ids[:last],
            event_ms=self.event_ms[:last],
            streams=self.streams,
            store=self.store,
            start_ms=self.start_ms,
            marks=tuple(mark for mark in self.marks if mark.frame < last),
            names=self.names,
        )

    def retimed(self, offset_ms: int) -> Timeline:
        """The same tape with the times inside the frames (`E`, `T`) moved by `offset_ms`, all other bytes untouched."""
        if not offset_ms:
            return self
        store = self.store
        return Timeline(
            due_ns=self.due_ns,
            stream_codes=self.stream_codes,
            trade_ids=self.trade_ids,
            event_ms=np.where(self.event_ms >= 0, self.event_ms + offset_ms, self.event_ms),
            streams=self.streams,
            store=store.moved(offset_ms) if isinstance(store, MovableStore) else _RetimedStore(store, offset_ms),
            start_ms=self.start_ms + offset_ms,
            marks=self.marks,
            names=self.names,
        )

    def paused(self, frame: int, pause_ns: int) -> Timeline:
        """The same tape with a pause of the market before `frame`: what follows is due later, and says so inside."""
        pause_ms = pause_ns // 1_000_000
        if not pause_ms or frame >= len(self):
            return self
        due_ns, event_ms = self.due_ns.copy(), self.event_ms.copy()
        due_ns[frame:] += pause_ms * 1_000_000
        event_ms[frame:] = np.where(event_ms[frame:] >= 0, event_ms[frame:] + pause_ms, event_ms[frame:])
        return Timeline(
            due_ns=due_ns,
            stream_codes=self.stream_codes,
            trade_ids=self.trade_ids,
            event_ms=event_ms,
            streams=self.streams,
            store=_RetimedStore(self.store, pause_ms, from_frame=frame),
            start_ms=self.start_ms,
            marks=tuple(
                msgspec.structs.replace(mark, due_ns=mark.due_ns + pause_ms * 1_000_000)
                if mark.frame >= frame
                else mark
                for mark in self.marks
            ),
            names=self.names,
        )


class _RetimedStore:
    def __init__(self, store: PayloadStore, offset_ms: int, *, from_frame: int = 0) -> None:
        self._store = store
        self._offset_ms = offset_ms
        self._from_frame = from_frame

    def fetch(self, first: int, last: int) -> Sequence[bytes]:
        return [
            payload if frame < self._from_frame else move_times(payload, self._offset_ms)
            for frame, payload in enumerate(self._store.fetch(first, last), first)
        ]
