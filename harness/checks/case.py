"""One run, laid out so that each check can look at it from its own side.

The ledger is read once, in order; what comes out are columns by frame (when it was due, sent,
accepted) and short lists (connections, attempts, signals). Everything here is a pure function of
tape, ledger and question.
"""

from __future__ import annotations

import operator
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness import ledger as book
from harness.checks.tape import Tape, Trade, is_plausible, parse_trade

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from harness.checks.incident import Question
    from harness.checks.loss import Loss

NEVER = np.iinfo(np.int64).max // 4
"""A time that does not come; a quarter of the range, so that a deadline can be added to it."""
NO_MATCH = -1
LOOK_UP = "look-up"
"""What is noted when the subject asks for a name."""
STOP_CALLED = "stop() called"
"""What is noted before the subject's stop()."""


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted trade, and what it is in the recording."""

    entry: book.Accepted
    symbol: str
    frame: int
    """Index of the recorded frame, or `NO_MATCH`."""
    sent: Trade | None = None
    """What the exchange had sent in the place of that frame, or out of nothing, where that is what was taken."""


class Connection(msgspec.Struct, kw_only=True):
    """What became of one connection."""

    number: int
    opened_ns: int
    opened: bool = False
    """Whether TCP was accepted: an attempt whose name is not found, or that is refused, has a number too."""
    secure: bool = False
    secured_ns: int | None = None
    certificate: str = "good"
    upgraded_ns: int | None = None
    subscribed_ns: int | None = None
    symbols: set[str] = msgspec.field(default_factory=set)
    streams: dict[str, None] = msgspec.field(default_factory=dict)
    """Names as the subject wrote them."""
    refused: book.Refused | None = None
    closed: book.Closed | None = None
    sent: int = 0
    """Data messages that went out, recorded or not."""
    beats: int = 0

    @property
    def reached(self) -> str:
        """The last stage of the way in that it completed."""
        if self.subscribed_ns is not None:
            return "subscribe"
        if self.upgraded_ns is not None:
            return "upgrade"
        if self.secured_ns is not None:
            return "tls"
        return "connect"


def turned_down(connection: Connection) -> bool:
    """Whether the subject hung up on a connection that had been upgraded before any data could come."""
    closed = connection.closed
    return closed is not None and closed.by == "client" and connection.sent == 0


class Case:
    """
    One run as evidence.

    Args:
        tape: the timeline as it was played.
        entries: the ledger.
        question: what was asked for, and when the observation began and ended.
    """

    def __init__(self, tape: Tape, entries: Iterable[book.AnyEntry], question: Question) -> None:
        self.tape = tape
        self.question = question
        everything = list(entries)
        # Threads write side by side, so neighbours may stand in the wrong order.
        everything.sort(key=lambda entry: entry.at_ns)
        self.entries = [entry for entry in everything if entry.at_ns <= question.closed_ns]
        self.afterwards = [entry for entry in everything if entry.at_ns > question.closed_ns]
        size = len(tape.timeline)
        self.sent_ns: NDArray[np.int64] = np.full(size, NEVER, dtype=np.int64)
        self.resent: dict[int, list[int]] = {}
        """Times of the second and later copies of a frame."""
        self.sent_late: NDArray[np.bool_] = np.zeros(size, dtype=bool)
        self.changed: dict[int, list[tuple[int, bytes, int]]] = {}
        self.invented: dict[tuple[str, int], tuple[int, Trade, int]] = {}
        """Trades that the exchange made up, by symbol and id: when, what, and the frame they stood for."""
        self.added: list[book.Added] = []
        self.hole: NDArray[np.bool_] = np.zeros(size, dtype=bool)
        self.withheld: NDArray[np.bool_] = np.zeros(size, dtype=bool)
        self.attempts: list[book.Attempted] = []
        self.connections: dict[int, Connection] = {}
        self.answers: list[book.Answered] = []
        self.struck: list[book.Struck] = []
        self.notes: list[book.Noted] = []
        self.subscribed: dict[str, tuple[int, int]] = {}
        """First subscription by symbol: monotonic time, tape time."""
        self.losses: list[Loss] | None = None
        """Stretches of lost trades, once somebody has looked for them."""
        self._accepted: list[book.Accepted] = []
        self._fetched: dict[str, NDArray[np.int64]] = {}
        for entry in self.entries:
            self._read(entry)

    # --- Reading the ledger, once ---------------------------------------------------------------

    def _read(self, entry: book.AnyEntry) -> None:
        if isinstance(entry, book.Accepted):
            self._accepted.append(entry)
        elif isinstance(entry, book.Sent):
            self._read_sent(entry)
        elif isinstance(entry, book.Changed):
            self.changed.setdefault(entry.frame, []).append((entry.at_ns, entry.data, entry.fault))
            self._mark_sent(entry.frame, entry.at_ns)
            self._count_sent(entry.connection)
            self._read_invention(entry.data, entry.at_ns, entry.frame)
        elif isinstance(entry, book.Added):
            self.added.append(entry)
            self._count_sent(entry.connection)
            self._read_invention(entry.data, entry.at_ns, NO_MATCH)
        elif isinstance(entry, book.Withheld):
            frames = self._frames(entry.first, entry.last, entry.streams)
            self.withheld[frames] = True
            if entry.connection == 0:
                self.hole[frames] = True
        elif isinstance(entry, book.Attempted):
            self.attempts.append(entry)
        elif isinstance(entry, book.Answered):
            self.answers.append(entry)
        elif isinstance(entry, book.Struck):
            self.struck.append(entry)
        elif isinstance(entry, book.Noted):
            self.notes.append(entry)
        else:
            self._read_connection(entry)

    def _read_connection(self, entry: book.AnyEntry) -> None:
        number = getattr(entry, "connection", 0)
        if number <= 0:
            return  # REST has its own entries
        connection = self.connections.setdefault(number, Connection(number=number, opened_ns=entry.at_ns))
        if isinstance(entry, book.Opened):
            connection.opened, connection.secure = True, entry.secure
        elif isinstance(entry, book.Secured):
            connection.secured_ns = entry.at_ns
            connection.certificate = entry.certificate
        elif isinstance(entry, book.Upgraded):
            connection.upgraded_ns = entry.at_ns
        elif isinstance(entry, book.Refused):
            connection.refused = entry
        elif isinstance(entry, book.Beat):
            connection.beats += 1
        elif isinstance(entry, book.Subscribed):
            for stream in entry.streams:
                connection.streams[stream] = None
                symbol = self.tape.named(stream)
                if stream.partition("@")[2] == "aggTrade":
                    connection.symbols.add(symbol)
                    connection.subscribed_ns = connection.subscribed_ns or entry.at_ns
                    self.subscribed.setdefault(symbol, (entry.at_ns, entry.tape_ns))
        elif isinstance(entry, book.Unsubscribed):
            connection.symbols.difference_update(self.tape.named(stream) for stream in entry.streams)
        elif isinstance(entry, book.Closed):
            connection.closed = connection.closed or entry

    def _read_sent(self, entry: book.Sent) -> None:
        self._count_sent(entry.connection, entry.last - entry.first)
        frames = self._frames(entry.first, entry.last, entry.streams)
        again = frames[self.sent_ns[frames] != NEVER]
        for frame in again.tolist():
            self.resent.setdefault(frame, []).append(entry.at_ns)
        self.sent_ns[frames] = np.minimum(self.sent_ns[frames], entry.at_ns)
        if entry.late:
            self.sent_late[frames] = True

    def _mark_sent(self, frame: int, at_ns: int) -> None:
        if self.sent_ns[frame] == NEVER:
            self.sent_ns[frame] = at_ns
        else:
            self.resent.setdefault(frame, []).append(at_ns)

    def _count_sent(self, number: int, messages: int = 1) -> None:
        if number in self.connections:
            self.connections[number].sent += messages

    def _read_invention(self, data: bytes, at_ns: int, frame: int) -> None:
        trade = parse_trade(data)
        if trade is None:
            return
        known = self.tape.frame_of(trade.symbol, trade.id)
        if known is None:
            recorded = self.tape.trade(frame) if frame >= 0 else None
            if is_plausible(trade, recorded):
                self.invented.setdefault((trade.symbol, trade.id), (at_ns, trade, frame))
        elif frame != known:
            # A second copy of a recorded trade, or one in another's place.
            self.resent.setdefault(known, []).append(at_ns)

    def _frames(self, first: int, last: int, streams: tuple[int, ...] | None) -> NDArray[np.int64]:
        frames = np.arange(first, last)
        return frames if streams is None else frames[np.isin(self.tape.timeline.stream_codes[frames], streams)]

    # --- Columns ----------------------------------------------------------------------------------

    @cached_property
    def clock(self) -> tuple[int, int]:
        """A monotonic time and its tape time: the clock's start, or that of start() when nothing was subscribed."""
        if self.question.clock_ns is not None:
            return self.question.clock_ns, 0
        return min(self.subscribed.values(), default=(self.question.started_ns, 0))

    @cached_property
    def expected_ns(self) -> NDArray[np.int64]:
        """By frame: when a subject could have it at the earliest, monotonic."""
        at_ns, tape_ns = self.clock
        speed = self.question.speed
        ahead = (self.tape.timeline.due_ns - tape_ns) / speed if speed else np.zeros(len(self.sent_ns))
        due: NDArray[np.int64] = at_ns + np.maximum(ahead, 0).astype(np.int64)
        return np.where(self.sent_ns != NEVER, self.sent_ns, due)

    @cached_property
    def foreign(self) -> list[tuple[int, bytes]]:
        """What went out in place of recorded frames, or beside them, in order: when, and what."""
        sent = [(entry.at_ns, entry.data) for entry in self.added]
        sent += [(at_ns, data) for changes in self.changed.values() for at_ns, data, _ in changes]
        return sorted(sent, key=operator.itemgetter(0))

    @cached_property
    def asked(self) -> NDArray[np.bool_]:
        """By frame: a trade of a symbol asked for, due between the first subscription and the end."""
        timeline = self.tape.timeline
        wanted = np.zeros(len(timeline), dtype=bool)
        for code, symbol in enumerate(self.tape.symbols):
            if symbol in self.question.symbols:
                # A second stream subscribed a moment later is not a loss of the moment.
                _, tape_ns = self.subscribed.get(symbol, self.clock)
                wanted |= (timeline.stream_codes == code) & (timeline.due_ns >= tape_ns)
        return wanted & (timeline.trade_ids >= 0) & (self.expected_ns <= self.question.closed_ns)

    @cached_property
    def obtainable(self) -> NDArray[np.bool_]:
        """By frame: asked for, and not withheld from wire and REST alike."""
        return self.asked & ~self.hole

    @cached_property
    def takes(self) -> list[Take]:
        """What the subject accepted, in order, each with what it is."""
        matcher = _Matcher(self)
        return [matcher.match(entry) for entry in self._accepted]

    @cached_property
    def accepted_ns(self) -> NDArray[np.int64]:
        """By frame: when it was accepted first."""
        when: NDArray[np.int64] = np.full(len(self.sent_ns), NEVER, dtype=np.int64)
        for take in self.takes:
            if take.frame >= 0:
                when[take.frame] = min(int(when[take.frame]), take.entry.at_ns)
        return when

    @cached_property
    def in_time(self) -> NDArray[np.bool_]:
        """By frame: accepted within the deadline after it could be had."""
        return self.accepted_ns <= self.expected_ns + self.question.deadline_ns

    def fetched(self, symbol: str, frame: int, before_ns: int) -> bool:
        """Whether a REST answer held the trade of a frame by then."""
        return int(self._fetched_ns(symbol)[frame]) <= before_ns

    def _fetched_ns(self, symbol: str) -> NDArray[np.int64]:
        # By frame: when the first answer about a symbol held its trade.
        if symbol not in self._fetched:
            when: NDArray[np.int64] = np.full(len(self.sent_ns), NEVER, dtype=np.int64)
            ids = self.tape.timeline.trade_ids
            by_id = np.argsort(ids, kind="stable")
            for answer in self.answers:
                if answer.first_id >= 0 and _concerns(answer, symbol):
                    first, last = np.searchsorted(ids, (answer.first_id, answer.last_id + 1), sorter=by_id)
                    held = by_id[first:last]
                    when[held] = np.minimum(when[held], answer.at_ns)
            self._fetched[symbol] = when
        return self._fetched[symbol]

    def fault_name(self, index: int) -> str:
        """`layer.kind` of a fault of the plan; empty for the exchange's own doing."""
        return self.question.faults[index] if 0 <= index < len(self.question.faults) else ""

    def stop_called_ns(self, entry: book.AnyEntry) -> int:
        """When the stop() was called of which an entry tells."""
        calls = (e.at_ns for e in self.afterwards if isinstance(e, book.Noted) and e.text == STOP_CALLED)
        return next((at_ns for at_ns in calls if at_ns <= entry.at_ns), entry.at_ns)

    def notes_about(self, *what: str) -> list[str]:
        """Evidence of these kinds, in order, each once."""
        return list(dict.fromkeys(note.text for note in self.notes if note.what in what))


class _Matcher:
    """Finds the recorded frame of an accepted trade."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.used: set[int] = set()

    def match(self, entry: book.Accepted) -> Take:
        case, only = self.case, self.case.question.symbols
        symbol = case.tape.named(entry.symbol) or (only[0] if len(only) == 1 else "")
        if entry.trade_id is None:
            return Take(entry=entry, symbol=symbol, frame=self._by_values(symbol, entry))
        frame = case.tape.frame_of(symbol, entry.trade_id)
        if frame is not None:
            return Take(entry=entry, symbol=symbol, frame=frame, sent=self._stand_in(frame, entry))
        invented = case.invented.get((symbol, entry.trade_id))
        if invented is not None:
            return Take(entry=entry, symbol=symbol, frame=invented[2], sent=invented[1])
        return Take(entry=entry, symbol=symbol, frame=NO_MATCH)

    def _stand_in(self, frame: int, entry: book.Accepted) -> Trade | None:
        for at_ns, data, _ in self.case.changed.get(frame, ()):
            trade = parse_trade(data)
            if at_ns <= entry.at_ns and trade is not None and trade.id == entry.trade_id:
                return trade
        return None

    def _by_values(self, symbol: str, entry: book.Accepted) -> int:
        like = self.case.tape.frames_like(symbol, entry.price, entry.quantity)
        fitting = [f for f in like if self.case.sent_ns[f] <= entry.at_ns] or like
        for frame in fitting:
            if frame not in self.used and _same_side(self.case.tape.trade(frame), entry):
                self.used.add(frame)
                return frame
        return fitting[-1] if fitting else NO_MATCH


def _same_side(trade: Trade | None, entry: book.Accepted) -> bool:
    return trade is not None and entry.is_buyer_maker in (None, trade.is_buyer_maker)


def _concerns(answer: book.Answered, symbol: str) -> bool:
    target = answer.target.upper()
    return "SYMBOL=" not in target or f"SYMBOL={symbol}" in target
