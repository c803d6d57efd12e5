"""All runs of the quality tests, done once, in parallel, and looked up by each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from harness import runner
from harness.recording import RecordingWriter
from harness.scenario import Scenario
from tests.quality import tapes
from tests.quality.table import AS_FOUND, BLOCKING, CONTROLS, PLANTED, SOUND, SOUND_FAULTS, TWO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.runner import RunResult

DEADLINE_NS = {"sim": 4_000_000_000, "live": 15_000_000_000}
"""A live run shares the machine with others, and a loaded one takes seconds to open a connection."""
JOBS = {"sim": 3, "live": 4}
"""Simulated runs keep a core busy, live ones wait."""


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tapes as recordings, by name."""
    folder = tmp_path_factory.mktemp("tapes")
    made = {}
    for name, (symbols, _, _) in tapes.TAPES.items():
        made[name] = folder / f"{name}.parquet"
        writer = RecordingWriter(made[name], endpoint="synthetic", symbols=symbols, source="synthetic")
        writer.write(tapes.make(name))
        writer.close()
    return made


@pytest.fixture(scope="session")
def runs(recordings: dict[str, Path]) -> Callable[..., RunResult]:
    """The result of a run, by subject, faults, symbols, tape and mode."""

    def scenario(
        subject: str, faults: tuple[str, ...], symbols: tuple[str, ...], tape: str, mode: Literal["live", "sim"]
    ) -> Scenario:
        tape = "pair" if symbols == TWO else tape
        mode = "live" if subject in BLOCKING else mode
        return Scenario(
            subject=f"fixtures.subjects.{subject}:quick",
            recordings=(str(recordings[tape]),),
            symbols=tuple(symbol.upper() for symbol in symbols),
            faults=tuple(fault for fault in faults if not fault.startswith("host.")),
            host=next((fault for fault in faults if fault.startswith("host.")), "host.await"),
            deadline_ns=DEADLINE_NS[mode],
            mode=mode,
            seed=7,
        )

    wanted: dict[Scenario, None] = {}
    for row in AS_FOUND:
        wanted[scenario(row.subject, row.faults, row.symbols, row.tape, "live")] = None
    for row in PLANTED:
        for subject in (row.subject, row.twin):
            wanted[scenario(subject, row.faults, row.symbols, row.tape, "sim")] = None
    for subject in SOUND:
        for faults in (*SOUND_FAULTS, *CONTROLS):
            wanted[scenario(subject, faults, ("btcusdt",), "plain", "sim")] = None
    results: dict[Scenario, RunResult] = {}
    # The live ones first, so that the simulated ones do not hold them up.
    for mode in ("live", "sim"):
        chosen = [each for each in wanted if each.mode == mode]
        results |= zip(chosen, runner.run_all(chosen, jobs=JOBS[mode]), strict=True)

    def look_up(
        subject: str,
        faults: tuple[str, ...],
        symbols: tuple[str, ...] = ("btcusdt",),
        tape: str = "plain",
        mode: Literal["live", "sim"] = "sim",
    ) -> RunResult:
        return results[scenario(subject, faults, symbols, tape, mode)]

    return look_up
