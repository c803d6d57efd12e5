"""Recordings to a timeline: an index in memory, the payload bytes on disk until they are sent (see `store`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from harness.clock import NS_PER_MS, NS_PER_S
from harness.errors import RecordingError
from harness.recording.reader import Recording
from harness.recording.store import Store
from harness.recording.table import decoded, numbers, one, to_payloads
from harness.timeline import NO_ID, Mark, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.recording.reader import Part

BACKFILLED = "backfilled"
"""`detail` of a trade that did not come over the wire."""
_INDEX = [
    "connection", "direction", "kind", "received_at", "monotonic_ns", "stream", "close_code", "detail", "event_time",
    "symbol", "agg_trade_id",
]  # fmt: skip
_MARKS = {"open", "close", "lost", "gap"}
_EVENT = re.compile(rb'"e"\s*:\s*"(\w+)"')
_SYMBOL = re.compile(rb'"s"\s*:\s*"([^"]+)"')
_TIME = re.compile(rb'"E"\s*:\s*(\d{13})(?!\d)')


class _Rows(NamedTuple):
    """Data frames of one row group, as they go into the index."""

    at_ns: NDArray[np.int64]
    streams: NDArray[np.int32]
    ids: NDArray[np.int64]
    event_ms: NDArray[np.int64]
    place: NDArray[np.int64]
    """As in `Store`."""


def load_timeline(places: Iterable[str | Path], symbols: Iterable[str] | None = None, *, from_ns: int = 0) -> Timeline:
    """
    Merge recordings into one tape, by wall time. Where they overlap, a trade is on the tape once.

    Args:
        places: files, folders or URIs.
        symbols: only streams of these; None for all.
        from_ns: tape time to begin at; what was before is left out.

    Returns:
        The timeline; its payloads are read from disk when they are asked for.

    Raises:
        RecordingError: a recording cannot be read, or holds no data frame for the symbols.
    """
    wanted = None if symbols is None else {symbol.lower() for symbol in symbols}
    index = _Index(wanted)
    names = []
    for place in places:
        names.append(str(place))
        index.add(Recording(place))
    return index.timeline(tuple(names), from_ns)


class _Clock:
    """
    Where on the day rows lie.

    The steady clock tells distances, the wall clock where they begin: a clock that was set while recording must
    not tear the tape. A new connection whose steady clock is behind was recorded under another one.
    """

    def __init__(self) -> None:
        self._shift_ns: int | None = None
        self._reached_ns = 0
        self._seen: set[int] = set()

    def next_part(self, wall_ns: int, steady_ns: int) -> None:
        """The rows that follow are of another file, perhaps of another machine, or after it was started again."""
        self._seen.clear()
        if self._shift_ns is not None and abs(wall_ns - steady_ns - self._shift_ns) > NS_PER_S:
            self._shift_ns = None

    def place(
        self, wall: NDArray[np.int64], steady: NDArray[np.int64], connections: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Wall times by the steady clock."""
        at_ns = np.empty_like(wall)
        numbers_, rows = np.unique(connections, return_index=True)
        done = 0
        for row, number in sorted(zip(rows.tolist(), numbers_.tolist(), strict=True)):
            if number in self._seen:
                continue
            self._seen.add(number)
            if row > done:
                self._reached_ns = max(self._reached_ns, int(steady[done:row].max()))
            if self._shift_ns is None or steady[row] < self._reached_ns:
                at_ns[done:row] = steady[done:row] + (self._shift_ns or 0)
                self._shift_ns, self._reached_ns = int(wall[row] - steady[row]), int(steady[row])
                done = row
        at_ns[done:] = steady[done:] + (self._shift_ns or 0)
        self._reached_ns = max(self._reached_ns, int(steady[done:].max()))
        return at_ns


class _Index:
    def __init__(self, wanted: set[str] | None) -> None:
        self._wanted = wanted
        self._codes: dict[str, int] = {}
        self._rows: list[_Rows] = []
        self._groups: list[tuple[Part, int]] = []
        self._marks: list[tuple[int, int, dict[str, Any]]] = []
        """Time, place as in `_Rows`, and the rest."""
        self._left: set[int] = set()
        """Connections that the recorder or its program left by itself."""

    def add(self, recording: Recording) -> None:
        self._left = set()
        clock = _Clock()
        for part, group in recording.groups():
            table = part.read(group, _INDEX)
            if not table.num_rows:
                continue
            wall, steady = numbers(table, "received_at"), numbers(table, "monotonic_ns")
            if self._groups and part is not self._groups[-1][0]:
                clock.next_part(int(wall[0]), int(steady[0]))
            at_ns = clock.place(wall, steady, numbers(table, "connection"))
            self._groups.append((part, group))
            self._add_group(table, at_ns)

    def _add_group(self, table: Any, at_ns: NDArray[np.int64]) -> None:
        number = len(self._groups) - 1
        kinds = np.asarray(one(table, "kind").cast("string").to_pylist(), dtype=object)
        received = np.asarray(pc.equal(one(table, "direction").cast("string"), "received"))
        details = one(table, "detail")
        data = np.isin(kinds, ["text", "binary"]) & received
        for row in np.flatnonzero(np.isin(kinds, list(_MARKS))).tolist():
            if self._is_ours(table, row, str(kinds[row]), received=bool(received[row])):
                continue
            self._marks.append((int(at_ns[row]), (number << 32) + row, _mark(table, row, str(kinds[row]))))
        names, codes, named = decoded(one(table, "stream"))
        symbols, symbol_codes, traded = decoded(one(table, "symbol"))
        chosen = np.full(table.num_rows, -1, dtype=np.int32)
        for code, name in enumerate(names if named.any() else ()):
            chosen[named & (codes == code)] = self._code(name)
        for code, symbol in enumerate(symbols if (traded & ~named).any() else ()):
            chosen[~named & traded & (symbol_codes == code)] = self._code(f"{symbol.lower()}@aggTrade")
        ids = np.where(traded, numbers(table, "agg_trade_id"), NO_ID)
        event_ms = np.where(traded, numbers(table, "event_time"), -1)
        self._look_inside(number, np.flatnonzero(data & ~traded), chosen, event_ms)
        at_ns = _backfilled_at(at_ns, event_ms, np.asarray(pc.fill_null(pc.equal(details, BACKFILLED), False)))
        rows = np.flatnonzero(data & (chosen >= 0))
        place = (number << 32) + rows
        self._rows.append(_Rows(at_ns[rows], chosen[rows], ids[rows], event_ms[rows], place.astype(np.int64)))

    def _is_ours(self, table: Any, row: int, kind: str, *, received: bool) -> bool:
        # A connection that the recorder handed over, or that its program left, was not ended by the exchange: neither
        # that end nor the exchange's answer to it belongs to the tape.
        connection = table["connection"][row].as_py()
        if not received:
            self._left.add(connection)
            return True
        return kind in {"close", "lost"} and connection in self._left

    def _look_inside(
        self, group: int, rows: NDArray[np.intp], chosen: NDArray[np.int32], event_ms: NDArray[np.int64]
    ) -> None:
        # Frames of other streams have no columns of their own: their bytes say when, and on a raw
        # connection also of which stream, they are.
        if not len(rows):
            return
        part, number = self._groups[group]
        payloads = to_payloads(part.read(number))
        for row in rows.tolist():
            payload = payloads[row]
            if chosen[row] < 0:
                event, symbol = _EVENT.search(payload), _SYMBOL.search(payload)
                if event and symbol:
                    name = f"{symbol[1].decode('utf-8', 'replace').lower()}@{event[1].decode()}"
                    chosen[row] = self._code(name)
            if found := _TIME.search(payload):
                event_ms[row] = int(found[1])

    def _code(self, name: str) -> int:
        if self._wanted is not None and name.partition("@")[0] not in self._wanted:
            return -1
        return self._codes.setdefault(name, len(self._codes))

    def timeline(self, names: tuple[str, ...], from_ns: int) -> Timeline:
        rows = _Rows(*(np.concatenate(parts) for parts in zip(*self._rows, strict=True))) if self._rows else None
        if rows is None or not len(rows.at_ns):
            asked = f" for {', '.join(sorted(self._wanted))}" if self._wanted else ""
            raise RecordingError(", ".join(names), f"holds no data frames{asked}")
        order = np.argsort(rows.at_ns, kind="stable")
        order = order[~self._heard_twice(rows.streams[order], rows.ids[order], rows.place[order])]
        at_ns = rows.at_ns[order]
        first = int(np.searchsorted(at_ns, at_ns[0] + from_ns)) if from_ns else 0
        if first == len(order):
            raise RecordingError(", ".join(names), "ends before the place to begin at")
        order, at_ns = order[first:], at_ns[first:]
        due_ns = at_ns - at_ns[0]
        event_ms = rows.event_ms[order]
        known = event_ms[event_ms >= 0]
        return Timeline(
            due_ns=due_ns,
            stream_codes=rows.streams[order],
            trade_ids=rows.ids[order],
            event_ms=event_ms,
            streams=tuple(self._codes),
            store=Store(self._groups, rows.place[order]),
            start_ms=int(known[0]) if len(known) else int(at_ns[0]) // NS_PER_MS,
            marks=self._marks_of(at_ns, rows.place[order], is_cut=first > 0),
            names=names,
        )

    def _heard_twice(
        self, streams: NDArray[np.int32], ids: NDArray[np.int64], place: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        # Two recorders may have heard the same trade, and a file may lie there twice: a market that trades everything
        # double is no exchange's. What stands twice in one recording was received twice.
        twice = np.zeros(len(ids), dtype=np.bool_)
        paths = {part.path: number for number, (part, _) in enumerate(self._groups)}
        if len(paths) < 2:
            return twice
        parts = np.array([paths[part.path] for part, _ in self._groups])[place >> 32]
        rows = np.flatnonzero(ids != NO_ID)
        rows = rows[np.lexsort((ids[rows], streams[rows]))]  # those of a trade by time, since that is their order now
        again = (np.diff(ids[rows]) == 0) & (np.diff(streams[rows]) == 0)
        first = np.concatenate(([0], np.where(again, 0, np.arange(1, len(rows))))) if len(rows) else rows
        first = rows[np.maximum.accumulate(first)]
        twice[rows] = (first != rows) & (parts[first] != parts[rows])
        return twice

    def _marks_of(self, at_ns: NDArray[np.int64], place: NDArray[np.int64], *, is_cut: bool) -> tuple[Mark, ...]:
        marks = []
        for when, where, about in sorted(self._marks, key=lambda mark: mark[:2]):
            # One read of the socket brings frames and the end behind them at the same moment: then the order of
            # the rows tells which came first.
            first, last = np.searchsorted(at_ns, when, side="left"), np.searchsorted(at_ns, when, side="right")
            frame = int(first + np.searchsorted(place[first:last], where))
            if frame or not is_cut:
                marks.append(Mark(due_ns=max(0, when - int(at_ns[0])), frame=frame, **about))
        return tuple(marks)


def _mark(table: Any, row: int, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "connection": table["connection"][row].as_py(),
        "close_code": table["close_code"][row].as_py(),
        "detail": table["detail"][row].as_py() or "",
    }


def _backfilled_at(
    at_ns: NDArray[np.int64], event_ms: NDArray[np.int64], backfilled: NDArray[np.bool_]
) -> NDArray[np.int64]:
    # A trade fetched later was received late, but happened when it happened: on the tape it stands
    # where the wire would have brought it.
    wire = ~backfilled & (event_ms >= 0)
    if not backfilled.any() or not wire.any():
        return at_ns
    usual = int(np.median(at_ns[wire] - event_ms[wire] * NS_PER_MS))
    return np.where(backfilled & (event_ms >= 0), event_ms * NS_PER_MS + usual, at_ns)
