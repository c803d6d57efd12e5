"""Proof that a recording is whole: digests, order, holes. Names the first bad row of each kind."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import RecordingError
from harness.recording.format import SCHEMA
from harness.recording.reader import Part, Recording
from harness.recording.steps import StepsBack
from harness.recording.table import decoded, digest, numbers, one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


_TOLD = re.compile(r"ids (\d+) to (\d+)")
Severity = Literal["broken", "hole", "told", "note"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be."""

    path: str
    row: int
    """From 1, counted over the file; 0 when it concerns the whole file."""
    severity: Severity
    """
    `broken`: not what was written. `hole`: trades are missing without a word. `told`: missing, and it says so.
    `note`: nothing is missing or wrong, but who reads on should know.
    """
    text: str

    def __str__(self) -> str:
        where = f"row {self.row}: " if self.row else ""
        return f"{self.path}: {where}{self.text}"


def verify(place: str | Path, *, progress: Callable[[int], None] = lambda _: None) -> list[Problem]:
    """
    Read a recording to its end and check it.

    Args:
        place: file, folder or URI.
        progress: gets the number of rows read, group by group.

    Returns:
        What was found, in order; an empty list proves that every row group has the content that was written, that
        no clock steps back, and that no trade id is missing or stands twice.

    Raises:
        RecordingError: the recording cannot be opened at all.
    """
    problems: list[Problem] = []
    last_ids: dict[str, int] = {}
    for part in Recording(place).parts:
        problems += _Check(part, last_ids, progress).run()
    return problems


# What comes of columns of another type, or of numbers that no frame has, where no page checksum told.
_NONSENSE = (pa.ArrowException, AttributeError, IndexError, OverflowError, TypeError, ValueError)


class _Check:
    def __init__(self, part: Part, last_ids: dict[str, int], progress: Callable[[int], None]) -> None:
        self._part = part
        self._last_ids = last_ids
        self._progress = progress
        self._steady: dict[int, int] = {}
        self._back = StepsBack()
        self._row = 0
        self._ids: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
        self._told: list[tuple[str, int, int]] = []
        """Symbol (empty where none is named), first and last id of what the recording calls missing."""
        self._opened_at_row: int | None = None
        self._found = False
        """Whether something was found broken."""

    def run(self) -> Iterator[Problem]:
        about = self._part.metadata
        digests = []
        for group in range(self._part.group_count):
            rows = f"row group {group} (rows {self._row + 1} to {self._row + self._part.group_rows(group)})"
            try:
                table = self._part.read(group)
            except RecordingError:
                columns = [name for name in SCHEMA.names if not self._is_readable(group, name)]
                text = f"{rows} is damaged in {', '.join(columns) or 'its columns together'}"
                yield self._problem(self._row + 1, "broken", text)
                return
            try:
                digests.append(digest(table))
                if group >= len(about.group_digests) or digests[-1] != about.group_digests[group]:
                    yield self._problem(self._row + 1, "broken", f"{rows} is not what was written: its digest differs")
                yield from self._order(table)
                self._note_ids(table)
            except _NONSENSE:
                yield self._problem(self._row + 1, "broken", f"{rows} holds what no recorder writes")
                return
            self._row += table.num_rows
            self._progress(table.num_rows)
        yield from self._holes()
        if self._back.count:
            yield self._problem(self._back.row, "note", str(self._back))
        if self._row != about.frame_count:
            yield self._problem(0, "broken", f"holds {self._row} rows, its metadata says {about.frame_count}")
        if hashlib.sha256("".join(digests).encode()).hexdigest() != about.digest:
            yield self._problem(0, "broken", "its content digest differs")
        if not self._found and not self._part.is_intact:
            text = "its rows are what was written, its metadata or statistics are not: a query may leave rows out"
            yield self._problem(1, "broken", text)

    def _is_readable(self, group: int, column: str) -> bool:
        try:
            self._part.read(group, [column])
        except RecordingError:
            return False
        return True

    def _order(self, table: pa.Table) -> Iterator[Problem]:
        steady, connections = numbers(table, "monotonic_ns"), numbers(table, "connection")
        for connection in np.unique(connections).tolist():
            rows = np.flatnonzero(connections == connection)
            times = np.concatenate(([self._steady.get(connection, steady[rows[0]])], steady[rows]))
            back = np.flatnonzero(np.diff(times) < 0)
            if len(back):
                row = int(rows[back[0]])
                text = f"the monotonic clock of connection {connection} steps back"
                yield self._problem(self._row + row + 1, "broken", f"{text} by {int(times[back[0]] - steady[row])} ns")
            self._steady[connection] = int(times[-1])
        self._back.take(numbers(table, "received_at"))

    def _note_ids(self, table: pa.Table) -> None:
        ids = numbers(table, "agg_trade_id")
        names, codes, traded = decoded(one(table, "symbol"))
        kinds = one(table, "kind").cast("string")
        if self._opened_at_row is None and (place := pc.index(kinds, "open").as_py()) >= 0:
            self._opened_at_row = self._row + place + 1
        gaps = np.asarray(pc.equal(kinds, "gap"))
        for text in one(table, "detail").filter(gaps).to_pylist():
            stream, at, _ = str(text).partition("@")
            self._told += [(stream.upper() if at else "", int(a), int(b)) for a, b in _TOLD.findall(str(text))]
        for code, symbol in enumerate(names):
            rows = np.flatnonzero(traded & (codes == code))
            if len(rows):
                self._ids.setdefault(symbol, []).append((ids[rows], self._row + rows + 1))

    def _holes(self) -> Iterator[Problem]:
        # A trade that was fetched later stands behind younger ones: what counts is the set, not the order.
        for symbol, pieces in self._ids.items():
            ids, rows = (np.concatenate(column) for column in zip(*pieces, strict=True))
            order = np.argsort(ids, kind="stable")
            ids, rows = ids[order], rows[order]
            twice = np.flatnonzero(np.diff(ids) == 0)
            if len(twice):
                row = int(rows[twice[0] + 1])
                yield self._problem(row, "broken", f"{symbol} trade {int(ids[twice[0]])} stands twice")
            before = self._last_ids.get(symbol, int(ids[0]) - 1)
            for step in np.flatnonzero(np.diff(np.concatenate(([before], ids))) > 1).tolist():
                first, last = (int(ids[step - 1]) if step else before) + 1, int(ids[step]) - 1
                words = self._words_for(symbol, first, last, row=int(rows[step]), is_first=not step)
                text = f"{symbol} trades {first} to {last} are missing{words}"
                yield self._problem(int(rows[step]), "told" if words else "hole", text)
            self._last_ids[symbol] = max(before, int(ids[-1]))

    def _words_for(self, symbol: str, first: int, last: int, *, row: int, is_first: bool) -> str:
        # What the recording itself says about a hole before a row; nothing where it passes over it.
        if any(name in {"", symbol} and a <= first and last <= b for name, a, b in self._told):
            return ", as the recording says"
        if is_first and self._opened_at_row is not None and self._opened_at_row < row:
            # A recorder that only goes on in a new file (rotation) opens nothing.
            return ": nobody recorded between the end of the recording before and the beginning of this one"
        return ""

    def _problem(self, row: int, severity: Severity, text: str) -> Problem:
        self._found |= severity == "broken"
        return Problem(path=self._part.path, row=row, severity=severity, text=text)
