"""What a run gives back, and what travels between the parent and its workers: files of JSON, no pickle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.ledger import AnyEntry
from harness.scenario import Scenario  # noqa: TC001 - msgspec reads the annotations at run time
from harness.verdict import Noise, Verdict

if TYPE_CHECKING:
    from pathlib import Path


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told."""

    scenario: Scenario
    ledger: str
    """The worker appends every entry here while it runs, so that its death loses nothing."""
    result: str
    noise: str | None
    """Appears when the run without faults is over; None: there is none to wait for."""
    negative_control: bool
    verbose: bool = False


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker found before it started the subject; the first line of its ledger file."""

    tap: str = ""
    health: tuple[str, ...] = ()
    start: str = ""
    stop: str = ""
    symbols: tuple[str, ...] = ()
    frames: int = 0
    trades: int = 0
    length_ns: int = 0
    started_ns: int = 0


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """When the tape began, and by how much the times inside the frames were moved."""

    clock_ns: int
    offset_ms: int


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run, judged."""

    scenario: Scenario
    verdict: Verdict
    setting: Setting = Setting()
    digest: str = ""
    wall_s: float = 0.0
    unmet: tuple[str, ...] = ()
    """Faults that never came into play, and why."""
    noise: Noise | None = None
    """What it said, when it was the run without faults, and sound."""
    fatal: bool = False
    """It could not be judged because of the subject or the input, and no other run of it could."""
    marks: tuple[tuple[float, int, int], ...] = ()
    """For drawing: at so many seconds, so many trades had been sent, and accepted."""


NoiseFile = Noise | None
"""None: the run without faults was itself at fault, so nothing may be subtracted."""


def read_entries(path: Path) -> list[AnyEntry]:
    """The entries that a worker left, as far as its last whole line."""
    decoder = msgspec.json.Decoder(AnyEntry)
    entries = []
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            if not line.startswith(b"#"):
                entries.append(decoder.decode(line))
    return entries
