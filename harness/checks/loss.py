"""Stretches of trades that were obtainable and did not arrive in time.

`never_connected`, `stopped`, `gap` and `starved` share this: each takes the stretches that are its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from harness.checks.case import NEVER, turned_down

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.checks.case import Case, Take

Kind = Literal["never_connected", "stopped", "gap", "starved"]

BACKLOG_NS = 3_000_000_000
"""A subject that accepted something so shortly before the end was alive and behind, not stopped."""
MANY = 3
"""So many gaps are a habit."""
ALIVE_SHARE = 0.05
"""With a shorter run than that the same is asked of this share of it."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A maximal stretch of one symbol's trades without a good one."""

    kind: Kind
    symbol: str
    frames: tuple[int, ...]
    """Frames lost or passed over, in the order of the tape."""
    start_ns: int
    until_ns: int | None
    before: int | None
    """The last good frame before it."""
    after: int | None
    unobtainable: int
    """How many of the frames nobody could get: a hole to be noticed, not data to be had."""
    late: int
    """How many came after all, too late."""


def losses(case: Case) -> list[Loss]:
    """All stretches of a run, symbol by symbol in the order asked for."""
    found = []
    for symbol in case.question.symbols:
        codes = [code for code, name in enumerate(case.tape.symbols) if name == symbol]
        mine = np.flatnonzero(case.asked & np.isin(case.tape.timeline.stream_codes, codes))
        good = case.in_time[mine] & (case.accepted_ns[mine] != NEVER)
        stretches = [_loss(case, symbol, mine, good, first, last) for first, last in _stretches(good)]
        found += _tail_of_many([loss for loss in stretches if loss is not None])
    return found


def _tail_of_many(found: list[Loss]) -> list[Loss]:
    # Who loses a trade now and then also loses, now and then, the last ones of the tape: it did not stop.
    gaps = [loss for loss in found if loss.kind == "gap"]
    if len(gaps) >= MANY and found[-1].kind == "stopped" and len(found[-1].frames) <= max(len(g.frames) for g in gaps):
        return [*found[:-1], msgspec.structs.replace(found[-1], kind="gap")]
    return found


def _stretches(good: NDArray[np.bool_]) -> list[tuple[int, int]]:
    # Runs of False as half-open pairs of positions.
    edges = np.flatnonzero(np.diff(np.concatenate(([True], good, [True])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _loss(
    case: Case, symbol: str, mine: NDArray[np.int64], good: NDArray[np.bool_], first: int, last: int
) -> Loss | None:
    frames = mine[first:last]
    holes = int(case.hole[frames].sum())
    before = int(mine[first - 1]) if first else None
    after = int(mine[last]) if last < len(mine) else None
    # A hole shows only between two trades that were there to be had: the ids jump.
    if holes == len(frames) and (before is None or after is None):
        return None
    start_ns = _start(case, symbol, before, int(frames[0]))
    until_ns = int(case.accepted_ns[after]) if after is not None else None
    late = int(((case.accepted_ns[frames] != NEVER) & ~case.hole[frames]).sum())
    return Loss(
        kind=_kind(case, symbol, good, start_ns, until_ns, late),
        symbol=symbol,
        frames=tuple(frames.tolist()),
        start_ns=start_ns,
        until_ns=until_ns,
        before=before,
        after=after,
        unobtainable=holes,
        late=late,
    )


def _start(case: Case, symbol: str, before: int | None, first: int) -> int:
    if before is None:
        subscribed = case.subscribed.get(symbol)
        return subscribed[0] if subscribed else case.question.started_ns
    # The sending of the last good trade, since a subject with a queue may learn of the
    # cut, and say so, before it has worked off what it had.
    return min(int(case.expected_ns[before]), int(case.expected_ns[first]))


def _kind(case: Case, symbol: str, good: NDArray[np.bool_], start_ns: int, until_ns: int | None, late: int) -> Kind:
    if not good.any() and all(turned_down(c) for c in case.connections.values() if symbol in c.symbols):
        return "never_connected"
    if late or (until_ns is None and _still_taking(case, symbol, start_ns)):
        return "starved"
    return "gap" if until_ns is not None else "stopped"


def _is_first(case: Case, take: Take) -> bool:
    return int(case.accepted_ns[take.frame]) == take.entry.at_ns


def _still_taking(case: Case, symbol: str, start_ns: int) -> bool:
    # Behind, not dead: trades of this symbol were still taken, well after they were sent, at the very end.
    closed_ns = case.question.closed_ns
    margin_ns = min(BACKLOG_NS, int((closed_ns - case.question.started_ns) * ALIVE_SHARE))
    fresh = (t.entry.at_ns for t in case.takes if t.symbol == symbol and t.frame >= 0 and _is_first(case, t))
    last = max(fresh, default=0)
    return last >= closed_ns - margin_ns and last - start_ns > margin_ns
