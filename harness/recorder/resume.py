"""After a crash: where the recorder before this one was cut off, so that what came since then is missed and fetched.

A recorder that was killed leaves a journal, and whoever finds it goes on for it. One that was stopped has closed its
connection: it is over, and what was traded after it is nobody's loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow.compute as pc

from harness import clock
from harness.recorder.endpoints import public_url
from harness.recording import open_recording
from harness.recording.table import decoded, numbers, one

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.recorder.settings import Settings
    from harness.recording.recovery import Recovered

RESUME_NS_MAX = 24 * 3600 * clock.NS_PER_S
"""A recording that was cut off longer ago is not gone on with: that would be millions of trades."""
_COLUMNS = ["connection", "direction", "kind", "received_at", "symbol", "agg_trade_id"]


def go_on(settings: Settings, recovered: Iterable[Recovered], *, now_ns: int) -> Settings:
    """
    Let a recorder go on where one that crashed was cut off.

    Args:
        settings: of the recorder that begins.
        recovered: what was made of the journals in its folder.
        now_ns: wall time, nanoseconds since 1970.

    Returns:
        The settings, with the last id of each of their streams that was cut off in the last 24 hours, at the same
        endpoint.
    """
    after = dict(settings.after)
    endpoint = public_url(settings.endpoint)
    for path in (path for made in recovered if made.endpoint == endpoint for path in made.recordings):
        for symbol, (newest, at_ns) in cut_off(path).items():
            stream = f"{symbol.lower()}@aggTrade"
            if stream in settings.streams and now_ns - at_ns <= RESUME_NS_MAX:
                after[stream] = max(newest, after.get(stream, newest))
    return msgspec.structs.replace(settings, after=after)


def cut_off(path: Path) -> dict[str, tuple[int, int]]:
    """
    What a recording was still receiving when it ended.

    Returns:
        By symbol the newest trade id and the wall time (ns) of its receipt; without the symbols whose connection was
        closed by the recorder.
    """
    newest: dict[str, tuple[int, int]] = {}
    carrier: dict[str, int] = {}
    closed: set[int] = set()
    for part, group in open_recording(path).groups():
        table = part.read(group, _COLUMNS)
        connections, ids, wall = (numbers(table, name) for name in ("connection", "agg_trade_id", "received_at"))
        ours = pc.and_(pc.equal(_words(table, "kind"), "close"), pc.equal(_words(table, "direction"), "sent"))
        closed.update(connections[np.asarray(ours)].tolist())
        names, codes, traded = decoded(one(table, "symbol"))
        for code, symbol in enumerate(names):
            rows = np.flatnonzero(traded & (codes == code))
            if len(rows):
                row = rows[ids[rows].argmax()]
                newest[symbol] = max(newest.get(symbol, (0, 0)), (int(ids[row]), int(wall[row])))
                carrier[symbol] = int(connections[rows[-1]])
    return {symbol: found for symbol, found in newest.items() if carrier[symbol] not in closed}


def _words(table: Any, name: str) -> Any:
    return one(table, name).cast("string")
