"""Continuity: every trade once, and every hole told.

Between the sockets and the journal, this looks at the ids that the exchange counts by. It writes a `gap` row
where ids are missing, and while two connections carry the same stream (a planned hand-over) it lets each message
pass once. What one connection repeats or reorders by itself is recorded as it came: that is what the exchange did.

    old  ── 101 102 103 104 ─┐ closed
    new        open ── 103 104 105 106 ──      kept: 101 102 103 104 105 106
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.clock import NS_PER_S
from harness.frames import Frame
from harness.frames.packed import ROOM, Packed
from harness.recording.journal import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.recorder.endpoints import Line

HOLD_NS_MAX = NS_PER_S // 2
"""In a hand-over the newer connection's messages wait so long for those that the older one has still to bring."""
REWIND_MAX = 10_000
"""Ids that fall by more than this are another count (a tape that starts again), not late messages."""
BACKFILLED = "backfilled"
"""`detail` of a message that came over REST, not over the wire."""

_ID_KEYS = {"aggTrade": rb'"a":\s*(\d+)', "trade": rb'"t":\s*(\d+)'}
_DIGITS_MAX = 18
"""What 64 bits hold in any case."""
_STREAM = re.compile(rb'\{\s*"stream"\s*:\s*"([^"]*)"')
_SHUTDOWN = b'"serverShutdown"'


class Opened:
    """Marks the moment from which a connection delivers."""

    def __init__(self, connection: int, line: Line) -> None:
        self.connection = connection
        self.line = line


class Ended:
    """Marks the moment after which a connection delivers no more."""

    def __init__(self, connection: int, received_at_ns: int, monotonic_ns: int) -> None:
        self.connection = connection
        self.received_at_ns = received_at_ns
        self.monotonic_ns = monotonic_ns


class Missed:
    """Says that the exchange has ids up to here, though none came over the wire: the stream is mute."""

    def __init__(self, stream: str, ids: tuple[int, int], when: Ended) -> None:
        self.stream = stream
        self.connection = when.connection
        self.received_at_ns = when.received_at_ns
        self.monotonic_ns = when.monotonic_ns
        self.after, self.last = ids
        """The last id before we were blind, and the newest."""


class Filled:
    """Brings messages that were fetched for a hole."""

    def __init__(self, hole: Hole, found: dict[int, bytes], row: Frame) -> None:
        self.hole = hole
        self.found = found
        self.row = row
        """Written behind them if something is still missing; its connection and times are theirs."""


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that the exchange gave out and we did not get."""

    stream: str
    first: int
    last: int
    """Inclusive."""

    def __len__(self) -> int:
        return self.last - self.first + 1

    def parts(self, count_max: int) -> list[Hole]:
        """The same ids in holes of at most so many, in order."""
        starts = range(self.first, self.last + 1, count_max)
        return [Hole(stream=self.stream, first=first, last=min(first + count_max - 1, self.last)) for first in starts]


class Track:
    """What is known about one stream."""

    def __init__(self, stream: str, last_id: int | None = None) -> None:
        self.stream = stream
        channel = stream.partition("@")[2]
        self.pattern = re.compile(_ID_KEYS[channel]) if channel in _ID_KEYS else None
        self.last_id = last_id
        self.last_payload = b""
        self.last_at_ns = 0
        """Monotonic time of the newest message; 0 before the first."""
        self.message_count = 0
        self.alive: list[int] = []
        """Connections that carry it, the oldest first."""
        self.seen: dict[int | bytes, int] | None = None
        """While several do: id (or payload) to the connection that brought it first."""
        self.held: dict[int, Run] = {}
        """What the newer connection brought ahead of what the older one has still to bring."""
        self.reached_ns = (0, 0)
        """Wall and monotonic time of the message that was written last, while several do."""
        self.holes: list[tuple[int, int]] = []


Item = Run | Frame | Opened | Ended | Missed | Filled


class Sieve:
    """
    Tells gaps and takes out duplicates. Not thread-safe: it belongs to the thread that writes.

    Args:
        after: by stream the last id that was written before this run; what follows it is expected.
    """

    def __init__(self, after: Mapping[str, int] | None = None) -> None:
        self.tracks: dict[str, Track] = {}
        self.gap_count = 0
        self.missing_count = 0
        self.duplicate_count = 0
        self.backfilled_count = 0
        self.shutdown_notices: list[int] = []
        """Connections that announced their end, since last asked."""
        self._after = dict(after or {})
        self._raw: dict[int, Track | None] = {}
        self._holes: list[Hole] = []

    def holes(self) -> list[Hole]:
        """Holes found since the last call."""
        found, self._holes = self._holes, []
        return found

    def take(self, items: Iterable[Item], now_ns: int = 0) -> list[Run | Frame]:
        """
        Look at what happened, in order.

        Args:
            items: what happened.
            now_ns: monotonic time, so that nothing is held back for long.

        Returns:
            What is to be written: gap rows added, duplicates of a hand-over left out.
        """
        out: list[Run | Frame] = []
        for item in items:
            if type(item) is Run:
                track = self._raw.get(item.connection)
                if track is None or not self._contiguous(track, item):
                    self._one_by_one(track, item, out)
                    continue
            elif type(item) is Opened:
                self._open(item)
                continue
            elif type(item) is Ended:
                self._end(item, out)
                continue
            elif type(item) is Filled:
                out += self._fill(item)
                continue
            elif type(item) is Missed:
                track = self.tracks[item.stream]
                after = item.after if track.last_id is None else track.last_id
                if item.last > after and track.seen is None:
                    first, track.last_id = after + 1, item.last
                    out.append(self._gap(track, item, first, item.last))
                continue
            out.append(item)  # type: ignore[arg-type]
        for track in self.tracks.values():
            if track.held and min(one.monotonic_ns for one in track.held.values()) < now_ns - HOLD_NS_MAX:
                self._give_up_waiting(track, out)
        return out

    def _fill(self, item: Filled) -> list[Run | Frame]:
        # What came over the wire in the meantime is not written twice.
        track, hole = self.tracks[item.hole.stream], item.hole
        wanted = [i for i in sorted(item.found) if any(a <= i <= b for a, b in track.holes)]
        for trade_id in wanted:
            self._plug(track, trade_id)
        self.backfilled_count += len(wanted)
        like = msgspec.structs.replace(item.row, kind="text", detail=BACKFILLED)
        out: list[Run | Frame] = [msgspec.structs.replace(like, data=item.found[i]) for i in wanted]
        left = any(a <= hole.last and hole.first <= b for a, b in track.holes)
        return [*out, item.row] if left else out

    # --- One run ---

    def _contiguous(self, track: Track, run: Run) -> bool:
        # Nearly always each message continues the count of its stream, and has its id where the first one has it:
        # in front are times of 13 digits and the symbol. What differs from that is looked at one by one.
        if track.pattern is None or track.last_id is None or track.seen is not None:
            return False
        payloads, first = run.payloads, track.last_id + 1
        found = track.pattern.search(payloads[0])
        if found is None or int(found[1]) != first or not _counts(payloads, found):
            return False
        track.last_id += len(payloads)
        self._freshen(track, run, payloads[-1], len(payloads))
        return True

    def _one_by_one(self, raw: Track | None, run: Run, out: list[Run | Frame]) -> None:
        kept: list[bytes] = []
        for payload in run.payloads:
            if _SHUTDOWN in payload:
                self.shutdown_notices.append(run.connection)
            track = raw or self._named(payload)
            found = track.pattern.search(payload) if track is not None and track.pattern else None
            number = int(found[1]) if found else None
            between: list[Run | Frame] = []
            if track is not None and track.seen is not None:
                self._in_overlap(track, _one(run, payload), number, between)
            elif track is not None:
                gap = self._follow(track, run, number)
                if number is not None or track.pattern is None:
                    self._freshen(track, run, payload, 1)
                between = [gap] if gap else []
            if between or (track is not None and track.seen is not None):
                if kept:
                    out.append(_part(run, kept))
                out += between
                kept = []
            if track is None or track.seen is None:
                kept.append(payload)
        if kept:
            out.append(_part(run, kept))

    def _freshen(self, track: Track, run: Run, payload: bytes, count: int) -> None:
        track.last_payload = payload
        track.last_at_ns = run.monotonic_ns
        track.message_count += count

    def _named(self, payload: bytes) -> Track | None:
        found = _STREAM.match(payload)
        return self.tracks.get(found[1].decode("utf-8", "replace")) if found else None

    # --- Two connections at once ---

    def _in_overlap(self, track: Track, one: Run, number: int | None, out: list[Run | Frame]) -> None:
        assert track.seen is not None
        key = one.payloads[0] if number is None else number
        known = key in track.seen
        if track.seen.setdefault(key, one.connection) != one.connection:
            self.duplicate_count += 1
            return
        if number is None or known or track.last_id is None:
            track.last_id = number if track.last_id is None else track.last_id
            self._write(track, one, out)
        elif number <= track.last_id:
            # The newer connection may start with what the older one had brought before the hand-over began.
            missing = any(a <= number <= b for a, b in track.holes)
            if one.connection != track.alive[0] and not missing:
                self.duplicate_count += 1
                return
            self._plug(track, number)
            self._write(track, one, out)
        else:
            track.held[number] = one
            self._release(track, out)

    def _release(self, track: Track, out: list[Run | Frame]) -> None:
        assert track.last_id is not None
        while (one := track.held.pop(track.last_id + 1, None)) is not None:
            track.last_id += 1
            self._write(track, one, out)

    def _write(self, track: Track, one: Run, out: list[Run | Frame]) -> None:
        # A message that had to wait for its turn bears the time of its turn: sorted by time, a tape
        # must not show an order that no connection showed.
        track.reached_ns = max(track.reached_ns, (one.received_at_ns, one.monotonic_ns), key=lambda at: at[1])
        one.received_at_ns, one.monotonic_ns = track.reached_ns
        self._freshen(track, one, one.payloads[0], 1)
        out.append(one)

    def _give_up_waiting(self, track: Track, out: list[Run | Frame]) -> None:
        # What is held is written, and what it waited for is missing.
        for number in sorted(track.held):
            one = track.held.pop(number)
            assert track.last_id is not None
            if number > track.last_id + 1:
                out.append(self._gap(track, one, track.last_id + 1, number - 1))
            track.last_id = number
            self._write(track, one, out)

    def _follow(self, track: Track, run: Run, number: int | None) -> Frame | None:
        if number is None or track.seen is not None:
            return None
        last, track.last_id = track.last_id, number
        if last is None or number == last + 1:
            return None
        if number > last:
            return self._gap(track, run, last + 1, number - 1)
        if last - number > REWIND_MAX or not track.message_count:
            track.holes.clear()
            text = f"{track.stream}: ids went back from {last} to {number}"
            return row(run, text)
        track.last_id = last
        self._plug(track, number)
        return None

    def _gap(self, track: Track, when: Run | Missed, first: int, last: int) -> Frame:
        self.gap_count += 1
        self.missing_count += last - first + 1
        track.holes.append((first, last))
        self._holes.append(Hole(stream=track.stream, first=first, last=last))
        return row(when, f"{track.stream}: ids {first} to {last} missing")

    def _plug(self, track: Track, number: int) -> None:
        for place, (first, last) in enumerate(track.holes):
            if first <= number <= last:
                rest = [(first, number - 1), (number + 1, last)]
                track.holes[place : place + 1] = [(a, b) for a, b in rest if a <= b]
                self.missing_count -= 1
                return

    # --- Connections ---

    def _open(self, mark: Opened) -> None:
        for stream in mark.line.streams:
            track = self.tracks.setdefault(stream, Track(stream, self._after.get(stream)))
            track.alive.append(mark.connection)
            if len(track.alive) > 1 and track.seen is None:
                track.seen, track.reached_ns = {}, (0, 0)
        self._raw[mark.connection] = None if mark.line.combined else self.tracks[mark.line.streams[0]]

    def _end(self, mark: Ended, out: list[Run | Frame]) -> None:
        self._raw.pop(mark.connection, None)
        for track in self.tracks.values():
            if mark.connection not in track.alive:
                continue
            track.alive.remove(mark.connection)
            if len(track.alive) < 2 and track.seen is not None:
                self._give_up_waiting(track, out)
                track.seen = None


def _counts(payloads: Sequence[bytes], found: re.Match[bytes]) -> bool:
    """Whether each message has, in the same place as the first, the key and the id that comes next."""
    if len(payloads) == 1:
        return True
    start, first, last = found.start(), found.start(1), found.end(1)
    table = _columns(payloads, start, last + 1) if last - first <= _DIGITS_MAX else None
    if table is None:
        return False
    key, digits, behind = table[:, : first - start], table[:, first - start : -1] - ord("0"), table[:, -1]
    if (key != key[0]).any() or (digits > 9).any() or (behind != behind[0]).any() or chr(behind[0]).isdigit():
        return False
    ids = digits.astype(np.int64) @ 10 ** np.arange(last - first - 1, -1, -1)
    return bool((np.diff(ids) == 1).all())


def _columns(payloads: Sequence[bytes], first: int, end: int) -> NDArray[np.uint8] | None:
    """The bytes from `first` up to `end` of each message, one row a message; None where one is shorter than that."""
    if type(payloads) is Packed:
        if payloads.sizes.min() < end:
            return None
        places = payloads.offsets[:-1, np.newaxis] + np.arange(ROOM + first, ROOM + end)
        table: NDArray[np.uint8] = np.frombuffer(payloads.block, np.uint8)[places]
        return table
    cut = b"".join([payload[first:end] for payload in payloads])
    if len(cut) < len(payloads) * (end - first):
        return None
    return np.frombuffer(cut, np.uint8).reshape(len(payloads), -1)


def _one(run: Run, payload: bytes) -> Run:
    return Run(run.connection, run.kind, run.received_at_ns, run.monotonic_ns, [payload])


def _part(run: Run, payloads: list[bytes]) -> Run:
    if len(payloads) == len(run.payloads):
        return run
    return Run(run.connection, run.kind, run.received_at_ns, run.monotonic_ns, payloads)


def row(when: Run | Ended | Missed | Frame, text: str) -> Frame:
    """A `gap` row: from here the recording is blind, or knows more about it."""
    return Frame(
        connection=when.connection,
        kind="gap",
        received_at_ns=when.received_at_ns,
        monotonic_ns=when.monotonic_ns,
        detail=text,
    )
