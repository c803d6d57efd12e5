"""One scenario for every fault of the catalogue, each with its own defaults, struck a quarter into the tape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.errors import UsageError, nearest
from harness.faults import LAYERS, catalogue
from harness.recording import load_timeline

if TYPE_CHECKING:
    from harness.scenario import Scenario


def each_fault(base: Scenario, layers: str) -> list[Scenario]:
    """
    Make the scenarios.

    Args:
        base: everything but the fault.
        layers: names of layers or kinds, separated by commas, or `all`.

    Raises:
        UsageError: there is no such layer or kind.
    """
    kinds = catalogue()
    wanted = [word.strip() for word in layers.split(",") if word.strip()]
    if not wanted:
        raise UsageError(f"--faults {layers!r} names no layer; write all, or some of: {', '.join(LAYERS)}")
    for word in wanted:
        if word not in ("all", *LAYERS, *kinds):
            raise UsageError(f"--faults: {nearest(word, ('all', *LAYERS, *kinds), noun='layer')}")
    names = [name for name in kinds if "all" in wanted or name in wanted or name.partition(".")[0] in wanted]
    frame = strike_frame(base)
    return [_scenario(base, name, frame if kinds[name].default_at else None) for name in names]


def strike_frame(base: Scenario) -> int:
    """A quarter into the tape, counted from 1: far enough in to have data before it, and a future behind it."""
    timeline = load_timeline(list(base.recordings))
    last = timeline.frame_at(base.duration_ns) if base.duration_ns else len(timeline)
    return max(1, last // 4)


def _scenario(base: Scenario, name: str, frame: int | None) -> Scenario:
    if name.startswith("host."):
        return msgspec.structs.replace(base, host=name)
    return msgspec.structs.replace(base, faults=(name if frame is None else f"{name}@frame={frame}",))
