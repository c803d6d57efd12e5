"""What is inside a recording, counted in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow.compute as pc

from harness.clock import NS_PER_S
from harness.recording.steps import StepsBack
from harness.recording.table import decoded, numbers, one, to_payloads

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from numpy.typing import NDArray

    from harness.recording.reader import Recording


class Summary(msgspec.Struct, kw_only=True):
    """Counts over a whole recording."""

    rows: int = 0
    by_kind: dict[str, int] = {}
    by_stream: dict[str, int] = {}
    by_symbol: dict[str, int] = {}
    """aggTrades of each symbol."""
    connections: int = 0
    first_ns: int = 0
    """The earliest wall time, which is not that of the first row where the clock steps back."""
    last_ns: int = 0
    """The latest."""
    steps_back: list[str] = []
    """Where the wall clock steps back, in words: one for each file."""
    per_second: list[int] = []
    """Data frames in each second of the wall clock, from the first that has any."""
    payload_bytes: int = 0
    stored_bytes: int = 0
    rendered: int = 0
    """Frames whose bytes come from the columns alone."""
    backfilled: int = 0
    marks: list[tuple[int, str, str]] = []
    """Time, kind and detail of what says where the recording is blind; which connection, and who closed it and how."""
    first_frame: str = ""
    last_frame: str = ""


def summarise(recording: Recording, *, progress: Callable[[int], None] = lambda _: None) -> Summary:
    """Count what is inside; one row group is held at a time."""
    out = Summary()
    connections: set[int] = set()
    seconds: dict[int, int] = {}
    back: dict[str, StepsBack] = {}
    for part, group in recording.groups():
        table = part.read(group)
        wall = numbers(table, "received_at")
        if not len(wall):
            continue
        out.first_ns = min(out.first_ns or int(wall.min()), int(wall.min()))
        out.last_ns = max(out.last_ns, int(wall.max()))
        back.setdefault(part.path, StepsBack()).take(wall)
        out.rows += table.num_rows
        out.stored_bytes += part.group_bytes(group)
        connections.update(np.unique(numbers(table, "connection")).tolist())
        kinds = np.asarray(one(table, "kind").cast("string").to_pylist(), dtype=object)
        data = np.isin(kinds, ["text", "binary"])
        _count(out.by_kind, kinds.tolist())
        _count_coded(out.by_stream, decoded(one(table, "stream")))
        _count_coded(out.by_symbol, decoded(one(table, "symbol")))
        for second, count in zip(*np.unique(wall[data] // NS_PER_S, return_counts=True), strict=True):
            seconds[int(second)] = seconds.get(int(second), 0) + int(count)
        payloads = to_payloads(table)
        out.payload_bytes += sum(map(len, payloads))
        out.rendered += int((np.asarray(one(table, "raw").is_null()) & data).sum())
        out.backfilled += int(
            np.asarray(pc.fill_null(pc.equal(one(table, "detail"), "backfilled"), fill_value=False)).sum()
        )
        for row in np.flatnonzero(np.isin(kinds, ["gap", "lost", "close"])).tolist():
            out.marks.append((int(wall[row]), str(kinds[row]), _about(table, row, str(kinds[row]))))
        shown = [payloads[row] for row in np.flatnonzero(data)[[0, -1]]] if data.any() else []
        if shown:
            out.first_frame = out.first_frame or shown[0].decode("utf-8", "backslashreplace")
            out.last_frame = shown[1].decode("utf-8", "backslashreplace")
        progress(table.num_rows)
    out.connections = len(connections)
    out.steps_back = [f"row {one.row}: {one}" for one in back.values() if one.count]
    first, last = min(seconds, default=0), max(seconds, default=-1)
    out.per_second = [seconds.get(second, 0) for second in range(first, last + 1)] if last - first < 10**7 else []
    return out


def _about(table: pa.Table, row: int, kind: str) -> str:
    # A disconnect is of one connection and has a side that it came from; a gap is of the tape.
    connection, direction, code, detail = (
        table[name][row].as_py() for name in ("connection", "direction", "close_code", "detail")
    )
    if kind == "gap":
        return detail or ""
    with_code = f" with {code}" if code is not None else ""
    return f"connection {connection}, {direction}{with_code}" + (f": {detail}" if detail else "")


def _count(counts: dict[str, int], words: list[str]) -> None:
    for word in words:
        counts[word] = counts.get(word, 0) + 1


def _count_coded(counts: dict[str, int], column: tuple[tuple[str, ...], NDArray[np.int32], NDArray[np.bool_]]) -> None:
    words, codes, valid = column
    for code, count in enumerate(np.bincount(codes[valid], minlength=len(words)).tolist()):
        if count:
            counts[words[code]] = counts.get(words[code], 0) + count
