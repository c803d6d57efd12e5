"""Leak: a queue, a history or the number of connections grows without bound."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness import ledger as book
from harness.checks.incident import Incident
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.checks.case import Case

MIN_TRADES = 5_000
"""Fewer accepted trades than this say nothing about a history: it may be meant to hold so many."""
MIN_SPAN_NS = 3_900 * NS_PER_S
"""Nor does less time: a history may be meant to hold an hour."""
KEEPS_ALL = 0.98
"""A container that holds this share of all trades ever accepted drops none."""
MIN_BACKLOG = 200
"""Items in a queue that only ever grew."""
MAX_CONNECTIONS = 4
"""Connections for one symbol that are open at the same time; a sound client hands over between two."""


def find(case: Case) -> list[Incident]:
    """One incident for each thing that grows."""
    return [*_containers(case), *_connections(case)]


def _containers(case: Case) -> list[Incident]:
    sizes: dict[str, list[tuple[int, int]]] = {}
    for entry in case.entries:
        if isinstance(entry, book.MetricsRead) and entry.name.startswith("size "):
            sizes.setdefault(entry.name.removeprefix("size "), []).append((entry.at_ns, int(entry.value)))
    accepted = len(case.takes)
    found = []
    for name, series in sizes.items():
        grew = all(later >= earlier for (_, earlier), (_, later) in itertools.pairwise(series))
        first, last = series[0], series[-1]
        backlog = "queue" in name.lower() and grew and last[1] >= max(MIN_BACKLOG, accepted // 10) and len(series) > 3
        old = accepted >= MIN_TRADES and last[0] - first[0] >= MIN_SPAN_NS
        hoard = old and grew and last[1] >= accepted * KEEPS_ALL
        if backlog or hoard:
            what = "items wait" if backlog else "trades are kept"
            found.append(
                _incident(
                    case,
                    first[0],
                    last[0],
                    f"{name} only ever grew: {last[1]} {what} in it at the end, of {accepted} accepted",
                    "bound it (deque(maxlen=...), a sized queue, pruning by time), and warn when the bound is hit",
                )
            )
    return found


def _connections(case: Case) -> list[Incident]:
    found = []
    for symbol in case.question.symbols:
        changes = []
        for connection in case.connections.values():
            if symbol in connection.symbols:
                changes.append((connection.opened_ns, 1))
                changes += [(connection.closed.at_ns, -1)] if connection.closed else []
        count, crossed_ns, most = 0, None, 0
        for at_ns, step in sorted(changes):
            count += step
            most = max(most, count)
            if count > MAX_CONNECTIONS and crossed_ns is None:
                crossed_ns = at_ns
        if crossed_ns is not None:
            cause = f"{most} connections for {symbol} were open at the same time: old ones are not closed on reconnect"
            advice = "close the old connection before, or right after, opening the next"
            found.append(_incident(case, crossed_ns, crossed_ns, cause, advice))
    return found


def _incident(case: Case, start_ns: int, shown_ns: int, cause: str, suggestion: str) -> Incident:
    return Incident(
        check="leak",
        stage="history",
        start_ns=start_ns,
        # Growth shows late: what is said by then counts, and the run does not wait for more.
        latest_ns=max(start_ns + case.question.deadline_ns, min(shown_ns, case.question.closed_ns)),
        cause=cause,
        suggestion=suggestion,
    )
