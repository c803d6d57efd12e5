"""Where on its way a trade was lost, and the sentence that says so.

The stage of a loss is the first one that the trade did not pass: a connection that was cut and never
tried again lost it at `receive`; one whose attempts are refused lost it at `connect`, `tls` or
`upgrade`; frames that went out on an open connection and never showed at the tap were lost at
`parse` when what was sent instead of them was malformed, and at `callback` otherwise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.checks.case import LOOK_UP, NEVER, turned_down
from harness.clock import NS_PER_S
from harness.ledger import Raised

if TYPE_CHECKING:
    from harness.checks.case import Case, Connection
    from harness.checks.incident import Stage
    from harness.checks.loss import Loss
    from harness.ledger import Attempted


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Stage, cause and advice."""

    stage: Stage
    cause: str
    suggestion: str
    untold: str = ""
    """The end of the sentence when nobody was told."""
    evidence: tuple[str, ...] = ()


def place(case: Case, loss: Loss) -> Place:
    """Find where the trades of a loss were stopped."""
    if loss.unobtainable and loss.until_ns is not None and loss.unobtainable == len(loss.frames):
        return _passed_over(case, loss)
    if loss.until_ns is not None:
        return _away(case, loss)
    return _dead(case, loss)


# --- Holes and absences that ended ---------------------------------------------------------------


def _passed_over(case: Case, loss: Loss) -> Place:
    return Place(
        stage="history",
        cause=f"{ids_of(case, loss)} passed over",
        untold=" without a word: the next id was accepted as if nothing were missing",
        suggestion="compare each agg trade id with the last one plus 1, and say so (or ask REST) when they differ",
    )


def _away(case: Case, loss: Loss) -> Place:
    ended = [c for c in _of(case, loss.symbol) if c.closed and loss.start_ns <= c.closed.at_ns <= _end(case, loss)]
    frames = np.array(loss.frames)
    if ended:
        away_ns = _end(case, loss) - (ended[0].closed.at_ns if ended[0].closed else loss.start_ns)
        return Place(
            stage="receive",
            cause=f"{_how_ended(case, ended[0])}; it came back {_seconds(away_ns)} later "
            f"and {ids_of(case, loss)} {_was(loss)} never fetched",
            suggestion="after a reconnect fetch from the last id over REST (aggTrades?fromId=), or say what is missing",
        )
    if _mostly_changed(case, loss):
        return _refused_frame(case, loss)
    if (
        bool(set(case.question.faults) & _BLACK)
        or bool(case.withheld[frames].any())
        or bool((case.sent_ns[frames] == NEVER).all())
    ):
        silent_ns = _end(case, loss) - loss.start_ns
        return Place(
            stage="receive",
            cause=f"connection open, no data for {_seconds(silent_ns)}, then data again; "
            f"{ids_of(case, loss)} {_was(loss)} never fetched",
            suggestion="compare ids after a pause and fetch what is missing over REST, or say what is missing",
        )
    return Place(
        stage="callback",
        cause=f"{ids_of(case, loss)} {'was' if len(loss.frames) == 1 else 'were'} sent on an open connection "
        "and never accepted: dropped between socket and history",
        suggestion="look for a queue that overflows, a filter, or an exception caught on the way to the callback",
        evidence=tuple(case.notes_about("swallowed", "task")[:3]),
    )


# --- To the end --------------------------------------------------------------------------------


def _dead(case: Case, loss: Loss) -> Place:
    connections = _of(case, loss.symbol)
    gone = [note for note in case.notes if note.what in _GONE]
    if gone:
        return Place(
            stage="callback" if any(c.subscribed_ns is not None for c in connections) else "schedule",
            cause=gone[0].text,
            suggestion=_GONE[gone[0].what],
        )
    open_now = [c for c in connections if c.closed is None and c.subscribed_ns is not None]
    if open_now:
        return _deaf(case, loss, open_now[-1])
    if not case.connections and any("run again" in note or "never run" in note for note in case.notes_about("loop")):
        return _never_tried(case)
    ended_ns = max((c.closed.at_ns for c in connections if c.closed and c.subscribed_ns is not None), default=0)
    later = _attempts(case, ended_ns)
    newer = [c for c in case.connections.values() if c.opened_ns > ended_ns]
    asked = _looking_up(case, ended_ns)
    if connections and not later and not newer and not asked:
        return _gave_up(case, loss, connections[-1])
    if not later and not newer and asked:
        return Place(
            stage="resolve",
            cause=f"the look-up of {asked[-1]} has not been answered",
            suggestion="set an open timeout that covers the name look-up, log it at WARNING, and try again",
            evidence=tuple(case.notes_about("task")[:2]),
        )
    if not later and not newer:
        return _never_tried(case)
    return _turned_away(case, loss, later_outcomes(case, ended_ns), newer, ended_ns)


_GONE = {
    "frozen": "something in C holds the interpreter: call it in a process of its own, with a time limit",
    "died": "find out what ended the process (a crash in C, memory, an exit), and let a supervisor start it again",
}
"""What became of the whole process, and what helps."""


def _looking_up(case: Case, after_ns: int) -> list[str]:
    # Look-ups that were begun; those that were answered are attempts.
    return [note.text for note in case.notes if note.what == LOOK_UP and note.at_ns > after_ns]


def _never_tried(case: Case) -> Place:
    tasks, loops = case.notes_about("task"), case.notes_about("loop")
    raised = [entry for entry in case.entries if isinstance(entry, Raised)]
    if raised:
        return Place(
            stage="schedule",
            cause=f"start() raised {raised[0].type}: {raised[0].text}; no connection was attempted",
            suggestion="find out why start() cannot run in this host",
            evidence=tuple(loops[:2] + tasks[:3]),
        )
    ended = case.notes_about("ended")
    if ended and not loops and not tasks:
        return Place(
            stage="resolve",
            cause=f"{ended[0]}, and no connection was attempted",
            suggestion="a reading task has no good end: say at WARNING why it ended, and start it again",
            evidence=tuple(case.notes_about("swallowed")[:3] + ended[1:3]),
        )
    why = loops[0] if loops else "start() returned, and nothing that it began ever ran"
    waiting = f"; {tasks[0]}" if tasks else ""
    return Place(
        stage="schedule",
        cause=f"{why}{waiting}; no connection was attempted"
        + (" (only a name was looked up)" if case.attempts else ""),
        suggestion=_KEEP_RUNNING,
        evidence=tuple(loops[1:3] + tasks[1:4]),
    )


def _gave_up(case: Case, loss: Loss, last: Connection) -> Place:
    malformed = _last_change(case, loss)
    mine = _of(case, loss.symbol)
    if loss.before is None and all(turned_down(connection) for connection in mine):
        refusals = f"{len(mine)} times" if len(mine) > 1 else "once"
        return Place(
            stage="upgrade",
            cause=f"the subject refused what it got for its HTTP upgrade, {refusals}, and hung up",
            suggestion=_ADVICE["upgrade"],
            evidence=tuple(case.notes_about("swallowed", "task")[:3]),
        )
    closed_ns = last.closed.at_ns if last.closed else loss.start_ns
    quiet = _seconds(case.question.closed_ns - closed_ns)
    notes = tuple(case.notes_about("swallowed", "task", "thread")[:4])
    if malformed and last.closed and last.closed.by == "client":
        return Place(
            stage="parse",
            cause=f"after {malformed} the subject closed its connection and did not try again for {quiet}",
            suggestion="one bad frame must not end the stream: catch it, log at WARNING, go on",
            evidence=notes,
        )
    return Place(
        stage="receive",
        cause=("" if len(mine) < 2 else f"{len(mine)} connections in turn; ")
        + f"{_how_ended(case, last)}; no new attempt in the {quiet} that followed",
        suggestion="supervise the reading task: log why it ended, reconnect with backoff, never give up without a word",
        evidence=notes,
    )


def _turned_away(case: Case, loss: Loss, outcomes: dict[str, int], newer: list[Connection], ended_ns: int) -> Place:
    stage, what = _furthest(outcomes, newer)
    tries = max(len(newer), sum(outcomes.values()))
    last_ns = max([c.opened_ns for c in newer] + [a.at_ns for a in _attempts(case, ended_ns)])
    quiet_ns = case.question.closed_ns - last_ns
    mine = _of(case, loss.symbol)
    since = f"{_how_ended(case, mine[-1])}; " if mine and loss.before is not None else ""
    end = f"; the last attempt was {_seconds(quiet_ns)} before the end" if quiet_ns > NS_PER_S else ""
    return Place(
        stage=stage,
        cause=f"{since}{tries} attempt{'s' * (tries != 1)}, {what}{end}",
        suggestion=_ADVICE.get(stage, "log each failed attempt at WARNING, and go on trying with backoff"),
        evidence=tuple(case.notes_about("swallowed", "task")[:3]),
    )


_KEEP_RUNNING = "keep the loop running (asyncio.run with a long-lived main, or a thread that owns it)"

_ADVICE: dict[str, str] = {
    "resolve": "log a failed look-up at WARNING and go on trying with backoff",
    "connect": "set an open timeout, log each failed attempt at WARNING, go on trying with backoff",
    "tls": "set an open timeout, and log certificate errors at ERROR: trying again does not help",
    "upgrade": "log the HTTP status at WARNING (ERROR for 403, 418, 429, 451) and wait as long as Retry-After says",
    "subscribe": "send SUBSCRIBE after every connect, and wait for its answer with a timeout",
}


def later_outcomes(case: Case, after_ns: int) -> dict[str, int]:
    """How name look-ups and connects after a moment ended, counted."""
    outcomes: dict[str, int] = {}
    for attempt in _attempts(case, after_ns):
        outcomes[attempt.outcome] = outcomes.get(attempt.outcome, 0) + 1
    return outcomes


def _attempts(case: Case, after_ns: int) -> list[Attempted]:
    # Asking REST is no attempt to connect to a stream.
    return [a for a in case.attempts if a.at_ns > after_ns and not _REST_HOST.match(a.host)]


_REST_HOST = re.compile(r"(f|d|e|data-|testnet\.)?api[0-9-]*", re.IGNORECASE)
_NEVER_DIALLED = ("fail", "refuse", "blackhole", "wrong")
"""Ends of a dial that no listener ever saw."""


def _furthest(outcomes: dict[str, int], newer: list[Connection]) -> tuple[Stage, str]:
    newer = [c for c in newer if not (c.refused and c.refused.how in _NEVER_DIALLED)]
    if not newer:
        if outcomes and set(outcomes) <= {"fail"}:
            return "resolve", "the name could not be resolved"
        how = {"refuse": "refused", "blackhole": "never answered", "wrong": "answered by nobody"}
        worst = next((how[o] for o in how if o in outcomes), "none got through")
        return "connect", worst
    furthest = max(newer, key=lambda c: ("connect", "tls", "upgrade", "subscribe").index(c.reached))
    why = f" ({furthest.refused.how})" if furthest.refused else ""
    if furthest.reached == "subscribe":
        return "subscribe", "connected, but this symbol was never subscribed"
    if furthest.reached == "upgrade":
        return "subscribe", "connected, but no stream was ever subscribed"
    if furthest.reached == "tls" or (furthest.reached == "connect" and not furthest.secure):
        if furthest.refused and furthest.refused.stage == "connect":
            return "connect", f"each accepted and dropped{why}"
        return "upgrade", f"none got past the HTTP upgrade{why}"
    if furthest.refused and furthest.refused.stage == "connect":
        return "connect", f"none got past the connect{why}"
    return "tls", f"none got past the TLS handshake{why}"


def _deaf(case: Case, loss: Loss, connection: Connection) -> Place:
    # The connection is open; did data come?
    frames = np.array(loss.frames)
    sent = int((case.sent_ns[frames] != NEVER).sum())
    quiet = _seconds(case.question.closed_ns - loss.start_ns)
    muted = any(case.fault_name(s.fault) in _BLACK for s in case.struck) or bool(set(case.question.faults) & _BLACK)
    asked = next((name for name in connection.streams if _mistaken(case, name, loss.symbol)), "")
    if asked and sent == 0:
        return Place(
            stage="subscribe",
            cause=f"{asked} was subscribed and acknowledged, and does not exist: any well-formed name is",
            suggestion=f"stream names are lower case: {asked.partition('@')[0].lower()}@{asked.partition('@')[2]}",
        )
    if sent == 0 or muted:
        beats = f", {connection.beats} pings and pongs" if connection.beats else ""
        none = "no data at all" if loss.before is None else "no data"
        return Place(
            stage="receive",
            cause=f"connection open{beats}, {none} for {quiet}",
            untold=": no watchdog noticed",
            suggestion="measure the time since the last trade, not the last ping; warn or reconnect when it is long",
            evidence=tuple(case.notes_about("task")[:2]),
        )
    if _last_change(case, loss):
        return _refused_frame(case, loss)
    idle = [note for note in case.notes_about("loop") if "not run again" in note or "never run" in note]
    if idle:
        tasks = case.notes_about("task")
        waiting = f"; {tasks[0]}" if tasks else ""
        return Place(
            stage="schedule",
            cause=f"{idle[0]}{waiting}; {sent} trades were sent on its open connection and nobody read them",
            suggestion=_KEEP_RUNNING,
            evidence=tuple(tasks[1:4]),
        )
    blocked = [note for note in case.notes_about("loop", "blocked") if "blocked" in note]
    why = f": {blocked[0]}" if blocked else ""
    return Place(
        stage="callback",
        cause=f"{sent} trades were sent on an open connection and not one was accepted in {quiet}{why}",
        suggestion="look at the task that reads: it ended, it waits, or something blocks its loop",
        evidence=tuple(case.notes_about("swallowed", "task", "thread")[:4]),
    )


def _mistaken(case: Case, name: str, symbol: str) -> bool:
    # binance-protocol, section 2: names are case sensitive, and a wrong one is acknowledged and stays silent.
    known = case.tape.timeline.streams
    return name not in known and name.lower() in (each.lower() for each in known) and case.tape.named(name) == symbol


_BLACK = frozenset(
    {
        "tcp.timeout",
        "tcp.stall_midframe",
        "tcp.blackhole_down",
        "ws.fragment_never_fin",
        "ws.length_lie",
        "tls.truncated_record",
    }
)
"""Faults under which what the exchange sent never arrives, though its sockets stay open."""


def _refused_frame(case: Case, loss: Loss) -> Place:
    return Place(
        stage="parse",
        cause=f"{_last_change(case, loss)} and the trade behind it ({ids_of(case, loss)}) was never fetched"
        if loss.until_ns is not None
        else f"after {_last_change(case, loss)} nothing more was accepted",
        suggestion="catch the error of one frame, log it at WARNING, count it, and fetch the trade over REST",
        evidence=tuple(case.notes_about("swallowed")[:3]),
    )


# --- Words --------------------------------------------------------------------------------------


def _was(loss: Loss) -> str:
    return "was" if len(loss.frames) == 1 else "were"


def ids_of(case: Case, loss: Loss) -> str:
    """`id 7` or `ids 7 to 9 (3 trades)`."""
    return span_of(
        int(case.tape.timeline.trade_ids[loss.frames[0]]), int(case.tape.timeline.trade_ids[loss.frames[-1]])
    )


def span_of(first: int, last: int) -> str:
    """`id 7` or `ids 7 to 9`."""
    return f"id {first}" if first == last else f"ids {first} to {last}"


def _of(case: Case, symbol: str) -> list[Connection]:
    return [c for c in case.connections.values() if symbol in c.symbols]


def _end(case: Case, loss: Loss) -> int:
    return loss.until_ns if loss.until_ns is not None else case.question.closed_ns


def _mostly_changed(case: Case, loss: Loss) -> bool:
    touched = sum(frame in case.changed for frame in loss.frames)
    return touched * 2 >= len(loss.frames)


def _last_change(case: Case, loss: Loss) -> str:
    # What went out instead of the first lost frame, in words; empty when nothing did.
    for frame in (*loss.frames[:1], *([loss.before] if loss.before is not None else [])):
        for _, data, fault in case.changed.get(frame, ()):
            name = case.fault_name(fault)
            return f"a wrong frame{f' ({name})' if name else ''}, {_shown(data)},"
    for entry in case.added:
        if loss.start_ns <= entry.at_ns <= _end(case, loss):
            name = case.fault_name(entry.fault)
            return f"a foreign message{f' ({name})' if name else ''}, {_shown(entry.data)},"
    return ""


def _shown(data: bytes) -> str:
    text = data[:48].decode("utf-8", "backslashreplace")
    return f"`{text}{'...' if len(data) > 48 else ''}`"


def _how_ended(case: Case, connection: Connection) -> str:
    closed = connection.closed
    if closed is None:
        return f"connection {connection.number} is open"
    what = {"close": "a close frame", "fin": "FIN", "reset": "RST", "limit": "a limit", "deadline": "a deadline"}
    how = what.get(closed.how, closed.how)
    if closed.code is not None:
        how += f" {closed.code}"
    who = {"client": "the subject", "exchange": "the exchange", "network": "the network"}.get(closed.by, closed.by)
    verb = "closed" if closed.by == "client" else "ended"
    started = case.question.started_ns
    return f"{who} {verb} connection {connection.number} by {how} at {(closed.at_ns - started) / NS_PER_S:.2f} s"


def _seconds(duration_ns: int) -> str:
    seconds = max(duration_ns, 0) / NS_PER_S
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
