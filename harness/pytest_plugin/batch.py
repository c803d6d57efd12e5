"""The `harness_run` fixture: faults by the dozen, each run in a worker process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from harness import runner
from harness.clock import parse_duration_ns
from harness.errors import UsageError
from harness.exchange.settings import MAX, parse_speed
from harness.faults.plan import format_fault, parse_fault
from harness.pytest_plugin import recordings, setting
from harness.runner.each import each_fault
from harness.scenario import DEFAULT_HOST, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

    from harness.runner import RunResult

JOBS = 8
SHOWN = 20


class Results(list["RunResult"]):
    """Results of one outcome; shown by their faults, since pytest cuts what is long."""

    def __repr__(self) -> str:
        named = [", ".join(result.scenario.named_faults) or "no fault" for result in self]
        return f"<{len(self)}: {'; '.join(named)}>" if self else "<none>"


class BatchResult:
    """
    Runs and their verdicts.

    `silent`, `loud`, `intact` and `unjudged` are lists of results, so that an empty one is false; `str` of the whole
    names what failed and how to run it again.
    """

    def __init__(self, results: list[RunResult]) -> None:
        self.results = results
        self.silent, self.loud, self.intact, self.unjudged = (
            Results(result for result in results if result.verdict.outcome == outcome)
            for outcome in ("silent", "loud", "intact", "unjudged")
        )

    def __len__(self) -> int:
        return len(self.results)

    def __str__(self) -> str:
        head = f"{len(self)} runs: " + ", ".join(
            f"{len(getattr(self, name))} {name}" for name in ("silent", "loud", "intact", "unjudged")
        )
        lines = [head]
        for result in [*self.silent, *self.unjudged][:SHOWN]:
            faults = ", ".join(result.scenario.named_faults) or "no fault"
            why = result.verdict.reason or next((finding.cause for finding in result.verdict.findings), "")
            lines += [f"  {result.verdict.outcome.upper()} {faults}: {why}", f"    {result.scenario.reproduce()}"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{self}>"


def runner_of(request: pytest.FixtureRequest) -> Callable[..., BatchResult]:
    """The function that the fixture is."""

    def harness_run(subject: str, recording: str | Path | None = None, **options: Any) -> BatchResult:
        config = request.config
        marker = request.node.get_closest_marker("recording")
        name = recording if recording is not None else (marker.args[0] if marker and marker.args else "btcusdt.parquet")
        path = recordings.find(request, name)
        if not recordings.episodes(path):
            raise UsageError(f"{path}: no such recording; make one with `harness record` or `harness synth`")
        defaults: dict[str, Any] = {
            "jobs": setting(config, "jobs", JOBS),
            "seed": setting(config, "seed", 0),
            "path": str(config.rootpath),
        }
        batch = run_batch(subject, [str(place) for place in recordings.episodes(path)], **{**defaults, **options})
        # Under a test that fails stands the whole of it, whatever the assertion shows.
        request.node.add_report_section("call", "harness", str(batch))
        return batch

    return harness_run


def run_batch(
    subject: str,
    recording: list[str],
    *,
    faults: str | Iterable[str] = (),
    hosts: Iterable[str] = (),
    symbols: Iterable[str] = (),
    mode: Literal["live", "sim"] | None = None,
    seed: int = 0,
    speed: float | str = 1,
    deadline: str = "60s",
    duration: str | None = None,
    tap: str | None = None,
    path: str = ".",
    jobs: int = JOBS,
) -> BatchResult:
    """
    Run a subject, once for each fault and host.

    Args:
        subject: `module:attribute`.
        recording: what the exchange plays.
        faults: `all`, layers such as `tcp,payload`, or a list of short forms, each a run of its own.
        hosts: `host.*` short forms, each a run of its own.
        symbols: passed to start(); those of the recording when empty.
        mode: `live`, or `sim` for simulated time; None for simulated time where the subject can be simulated, and
            live where it cannot (blocking sockets, child processes).
        seed: of chance.
        speed: tape seconds per second, or `max`.
        deadline: how long an incident may stay untold.
        duration: play only so much of the tape.
        tap: where the subject takes a trade.
        path: folder to import from.
        jobs: runs at a time.

    Raises:
        UsageError: a fault that does not exist, or a subject that cannot be loaded.
    """
    rate = parse_speed(str(speed))
    base = Scenario(
        subject=subject,
        recordings=tuple(recording),
        path=path,
        symbols=tuple(symbol.upper() for symbol in symbols),
        mode=mode or "sim",
        tap=tap,
        seed=seed,
        deadline_ns=parse_duration_ns(deadline),
        speed=0.0 if rate == MAX else rate,
        duration_ns=parse_duration_ns(duration) if duration else None,
    )
    scenarios = each_fault(base, faults) if isinstance(faults, str) else [_with(base, text) for text in faults]
    scenarios += [_with(base, host) for host in hosts]
    results = runner.run_all(scenarios or [base], jobs=_at_a_time(jobs, mode or "sim"))
    again = [number for number, result in enumerate(results) if mode is None and result.verdict.outcome == "unjudged"]
    if again:
        live = [msgspec.structs.replace(results[number].scenario, mode="live") for number in again]
        for number, result in zip(again, runner.run_all(live, jobs=jobs), strict=True):
            results[number] = result
    if all(result.fatal for result in results):
        raise UsageError(results[0].verdict.reason.strip().splitlines()[-1])
    return BatchResult(results)


def _at_a_time(jobs: int, mode: str) -> int:
    # A simulated run never waits: more at a time than there are processors only get in each other's way.
    return max(2, min(jobs, os.cpu_count() or 1)) if mode == "sim" else jobs


def _with(base: Scenario, text: str) -> Scenario:
    fault = parse_fault(text, "faults")
    written = format_fault(fault)
    if fault.layer == "host":
        return msgspec.structs.replace(base, host=written)
    return msgspec.structs.replace(base, faults=(written,), host=DEFAULT_HOST)
