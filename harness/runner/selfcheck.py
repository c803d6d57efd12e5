"""Whether a simulated run is the same everywhere: run it twice, in worlds that must not matter, and compare.

The second process hashes text with another seed and lies elsewhere in memory. A subject that iterates
over sets of text, or over sets of its own objects, does different things in the two; so would a leak of ours.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.errors import SubjectError, UsageError
from harness.runner import is_negative_control, worker_environment
from harness.runner.results import Job, RunResult
from harness.transports.sim import launch

if TYPE_CHECKING:
    from harness.scenario import Scenario

LIMIT_S = 600.0


class SelfCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs of one scenario."""

    digests: tuple[str, str]
    first_difference: tuple[str, str] | None
    """The first entries of the ledgers that differ; None when none do."""

    @property
    def same(self) -> bool:
        """Equal byte for byte, times included."""
        return self.first_difference is None and self.digests[0] == self.digests[1]


def selfcheck(scenario: Scenario) -> SelfCheck:
    """
    Run a scenario in two processes that differ in everything that must not matter.

    Raises:
        UsageError: the scenario is not simulated.
        SubjectError: a run could not be judged.
    """
    if scenario.mode != "sim":
        raise UsageError("only simulated runs are the same every time; add --mode sim")
    with tempfile.TemporaryDirectory(prefix="harness-selfcheck-", ignore_cleanup_errors=True) as folder:
        runs = [
            _run(scenario, Path(folder) / f"{hash_seed}", hash_seed=hash_seed, fixed_layout=fixed)
            for hash_seed, fixed in ((0, True), (4711, False))
        ]
    (first, one), (second, other) = runs
    differing = next(((a, b) for a, b in zip(one, other, strict=False) if a != b), None)
    if differing is None and len(one) != len(other):
        longer = one if len(one) > len(other) else other
        extra = longer[min(len(one), len(other))]
        differing = (extra, "") if longer is one else ("", extra)
    return SelfCheck(digests=(first.digest, second.digest), first_difference=differing)


def _run(scenario: Scenario, place: Path, *, hash_seed: int, fixed_layout: bool) -> tuple[RunResult, list[str]]:
    place.mkdir()
    job = Job(
        scenario=scenario,
        ledger=str(place / "ledger.jsonl"),
        result=str(place / "result.json"),
        noise=None,
        negative_control=is_negative_control(scenario),
    )
    path = place / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    environment = launch.environment(worker_environment(), hash_seed=hash_seed)
    words = launch.command("-m", "harness.runner.worker", str(path), fixed_layout=fixed_layout)
    try:
        subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=LIMIT_S, check=False, cwd=os.curdir,
        )  # fmt: skip
    except subprocess.TimeoutExpired as problem:
        raise SubjectError(
            f"{scenario.subject}: a self check did not end within {LIMIT_S:g} s; play less with --duration"
        ) from problem
    if not Path(job.result).exists():
        raise SubjectError(f"{scenario.subject}: the worker of a self check left no result; run it without --selfcheck")
    result = msgspec.json.decode(Path(job.result).read_bytes(), type=RunResult)
    if not result.digest:
        raise SubjectError(f"{scenario.subject}: {result.verdict.reason or 'the run could not be judged'}")
    lines = Path(job.ledger).read_text(encoding="utf-8").splitlines()
    return result, lines
