"""Runs scenarios, each in a worker process of its own, and judges them.

The one place that knows every stage: recording → timeline → plan → exchange → redirect → subject under
its host → ledger → verdict. The parent stays out of it, and outlives a worker that hangs or dies: it
reads what that one left and judges it all the same.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.checks import Tape
from harness.clock import NS_PER_S, wall_ns
from harness.faults import catalogue
from harness.faults.plan import parse_fault
from harness.ledger import Exited, Ledger, Noted
from harness.recording import load_timeline
from harness.redirect import clean
from harness.runner.nursery import Nursery, suits
from harness.runner.results import Job, Moved, NoiseFile, RunResult, Setting, read_entries
from harness.transports.sim import launch
from harness.verdict import Noise, Question, judge, unjudged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.scenario import Scenario

__all__ = ["RunResult", "Setting", "run", "run_all"]

DEFAULT_JOBS = 24
"""Runs at a time. They mostly wait, for a market at 40 trades a second, so two cores carry many."""
WORTH_A_NURSERY = 4
"""From so many scenarios on, workers are forked instead of started."""
ALIVE_NS = 5 * NS_PER_S
"""A worker that wrote something so shortly before it was ended did not hang."""
SPARE_S = 45.0
"""For starting, stopping and judging, on a machine that is busy with other runs."""


def run(scenario: Scenario, *, verbose: bool = False) -> RunResult:
    """Run one scenario, with a run without faults beside it to tell noise from signals."""
    return run_all([scenario], jobs=2, verbose=verbose)[0]


_going_on: weakref.WeakSet[_Batch] = weakref.WeakSet()


def run_all(
    scenarios: Sequence[Scenario],
    *,
    jobs: int = DEFAULT_JOBS,
    on_result: Callable[[RunResult], None] | None = None,
    verbose: bool = False,
    known_noise: Noise | None = None,
) -> list[RunResult]:
    """
    Run scenarios in parallel.

    Args:
        scenarios: what to run.
        jobs: worker processes at a time.
        on_result: called for each as it is done, from the caller's thread.
        verbose: let the subjects' output through.
        known_noise: what a sound run without faults says, where that is known; None: find out.

    Returns:
        Results in the order of the scenarios.
    """
    with tempfile.TemporaryDirectory(prefix="harness-run-", ignore_cleanup_errors=True) as folder:
        batch = _Batch(Path(folder), scenarios, verbose=verbose, known_noise=known_noise)
        _going_on.add(batch)
        return batch.run(max(1, jobs), on_result)


def interrupt() -> None:
    """End the worker processes of every `run_all` of this process, for those that other threads wait for."""
    for batch in list(_going_on):
        batch.cancel([])


class _Batch:
    def __init__(
        self, folder: Path, scenarios: Sequence[Scenario], *, verbose: bool, known_noise: Noise | None
    ) -> None:
        self.known_noise = known_noise
        self.folder = folder
        self.scenarios = list(scenarios)
        self.verbose = verbose
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        self.cancelled = False
        self.nurseries: dict[bool, queue.SimpleQueue[Nursery]] = {True: queue.SimpleQueue(), False: queue.SimpleQueue()}
        """Idle ones, of simulated and of live runs."""
        self.noise_paths: dict[bytes, Path] = {}

    def run(self, jobs: int, on_result: Callable[[RunResult], None] | None) -> list[RunResult]:
        results: list[RunResult | None] = [None] * len(self.scenarios)
        with ThreadPoolExecutor(jobs, thread_name_prefix="harness-run") as pool:
            places: dict[Future[RunResult], int | None] = {}
            try:
                for scenario, place in self._ordered():
                    places[pool.submit(self._one, scenario)] = place
                while places:
                    done, _ = wait(places, return_when=FIRST_COMPLETED)
                    for future in done:
                        place, result = places.pop(future), future.result()
                        if place is None:
                            continue
                        results[place] = result
                        if on_result is not None:
                            on_result(result)
            except BaseException:
                self.cancel(list(places))
                raise
            finally:
                for idle in self.nurseries.values():
                    while not idle.empty():
                        idle.get().close()
        assert all(result is not None for result in results)
        return [result for result in results if result is not None]

    def _ordered(self) -> Iterator[tuple[Scenario, int | None]]:
        # Runs without faults go first: the others wait for what those say. One that was asked for
        # serves; where none was, one is made.
        plain: dict[bytes, int | None] = {}
        for place, scenario in enumerate(self.scenarios):
            key = msgspec.json.encode(scenario.plain())
            if scenario.is_plain:
                plain[key] = place
            else:
                plain.setdefault(key, None)
        for key, asked in plain.items():
            scenario = msgspec.json.decode(key, type=type(self.scenarios[0]))
            self.noise_paths[key] = self.folder / f"noise-{len(self.noise_paths)}.json"
            if self.known_noise is not None and asked is None:
                self.noise_paths[key].write_bytes(msgspec.json.encode(self.known_noise))
                continue
            yield scenario, asked
        for place, scenario in enumerate(self.scenarios):
            if place not in plain.values():
                yield scenario, place

    def cancel(self, futures: list[Future[RunResult]]) -> None:
        """Begin nothing more, and end what runs."""
        self.cancelled = True
        for future in futures:
            future.cancel()
        with self.lock:
            for process in self.processes:
                process.kill()

    def _one(self, scenario: Scenario) -> RunResult:
        if self.cancelled:
            return RunResult(scenario=scenario, verdict=unjudged("interrupted"))
        noise_path = self.noise_paths[msgspec.json.encode(scenario.plain())]
        if scenario.mode == "sim" and not scenario.is_plain:
            # Virtual time does not wait for other processes: what the run without faults said must be there.
            self._await(noise_path)
        place = Path(tempfile.mkdtemp(dir=self.folder))
        job = Job(
            scenario=scenario,
            ledger=str(place / "ledger.jsonl"),
            result=str(place / "result.json"),
            noise=None if scenario.is_plain else str(noise_path),
            negative_control=is_negative_control(scenario),
            verbose=self.verbose,
        )
        result = self._work(job, place)
        if self.cancelled:  # what a killed worker leaves says nothing about the subject
            return RunResult(scenario=scenario, verdict=unjudged("interrupted"))
        if scenario.is_plain:
            part = noise_path.with_suffix(".part")
            noise: NoiseFile = result.noise
            part.write_bytes(msgspec.json.encode(noise))
            part.replace(noise_path)
        return result

    def _await(self, path: Path) -> None:
        while not path.exists() and not self.cancelled:
            time.sleep(0.02)

    def _work(self, job: Job, place: Path) -> RunResult:
        path = place / "job.json"
        path.write_bytes(msgspec.json.encode(job))
        began = time.perf_counter()
        forked = len(self.scenarios) >= WORTH_A_NURSERY and suits(job.scenario.path)
        code = self._fork(path, job) if forked else self._start(path, job)
        if Path(job.result).exists():
            return msgspec.json.decode(Path(job.result).read_bytes(), type=RunResult)
        return judge_remains(job, code, time.perf_counter() - began)

    def _start(self, path: Path, job: Job) -> int | None:
        output = None if self.verbose else subprocess.DEVNULL
        words = ["-m", "harness.runner.worker", str(path)]
        # What the worker leaves in temporary folders, keys among it, goes with the batch.
        environment = worker_environment() | {"TMPDIR": str(path.parent)}
        simulated = job.scenario.mode == "sim"
        process = subprocess.Popen(
            launch.command(*words) if simulated else [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if self.verbose else output,
            stderr=output,
            env=launch.environment(environment) if simulated else environment,
        )
        with self.lock:
            self.processes.add(process)
        try:
            return process.wait(self._limit_s(job.scenario))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None
        finally:
            with self.lock:
                self.processes.discard(process)

    def _fork(self, path: Path, job: Job) -> int | None:
        simulated = job.scenario.mode == "sim"
        idle = self.nurseries[simulated]
        try:
            nursery = idle.get_nowait()
        except queue.Empty:
            environment = worker_environment() | {"TMPDIR": str(self.folder)}
            nursery = Nursery(
                launch.environment(environment) if simulated else environment,
                simulated=simulated,
                verbose=self.verbose,
            )
            with self.lock:
                self.processes.add(nursery.process)
        try:
            code = nursery.run(path, self._limit_s(job.scenario))
        except OSError:
            nursery.close()
            with self.lock:
                self.processes.discard(nursery.process)
            return -signal.SIGKILL  # whatever ended it took its worker with it
        idle.put(nursery)
        return code

    def _limit_s(self, scenario: Scenario) -> float:
        timeline = load_timeline(list(scenario.recordings))
        length_ns = min(timeline.length_ns, scenario.duration_ns or timeline.length_ns)
        tape_s = length_ns / NS_PER_S / (scenario.speed or 1.0)
        # Faults may stretch the tape, and wait out a deadline after it.
        return 3 * tape_s + 2 * scenario.deadline_ns / NS_PER_S + SPARE_S


def judge_remains(job: Job, code: int | None, wall_s: float) -> RunResult:
    """
    Judge a run whose worker left no verdict, by the ledger that it left.

    Args:
        job: what it was told.
        code: how it ended, a negative one for a signal; None: it hung, and was ended by us.
        wall_s: how long it lived, in seconds.
    """
    scenario = job.scenario
    died = _how_it_died(code, wall_s)
    try:
        quiet_ns = wall_ns() - Path(job.ledger).stat().st_mtime_ns
        setting, moved, ledger = _remains(Path(job.ledger))
    except (OSError, msgspec.DecodeError):
        return RunResult(scenario=scenario, verdict=unjudged(f"{died} before the run began"), wall_s=wall_s, fatal=True)
    if not setting.started_ns:
        why = f"{died} before start() was called"
        if code is None:
            why = (
                f"{scenario.subject} was still being imported or made after {wall_s:.0f} s, and was ended: "
                "something in it waits or loops before start() can be called"
            )
        return RunResult(scenario=scenario, verdict=unjudged(why), wall_s=wall_s)
    if code is None and quiet_ns < ALIVE_NS:
        reason = f"the run did not come to its end within {wall_s:.0f} s, though things went on happening in it"
        return RunResult(scenario=scenario, verdict=unjudged(reason), setting=setting, wall_s=wall_s)
    timeline = load_timeline(list(scenario.recordings)).clipped(scenario.duration_ns)
    if moved is not None:
        timeline = timeline.retimed(moved.offset_ms)
    entries = list(ledger)
    ended_ns = max((entry.at_ns for entry in entries), default=setting.started_ns) + 1
    entries.append(Noted(at_ns=ended_ns, what="frozen" if code is None else "died", text=died))
    if code is not None:
        # An exit is the subject's own word. Of a hang nobody was told: in production we are not there to end it.
        entries.append(Exited(at_ns=ended_ns, code=code))
    # The market went on without it, and so does the judgement: to the end of the tape, and of the last deadline.
    tape_ns = int(timeline.length_ns / scenario.speed) if scenario.speed else 0
    over_ns = (moved.clock_ns if moved else setting.started_ns) + tape_ns + scenario.deadline_ns
    closed_ns = max(ended_ns, over_ns + 1)
    question = Question(
        symbols=setting.symbols,
        deadline_ns=scenario.deadline_ns,
        started_ns=setting.started_ns,
        closed_ns=closed_ns,
        clock_ns=moved.clock_ns if moved else None,
        speed=scenario.speed,
        host=scenario.host_kind,
        faults=fault_kinds(scenario),
        negative_control=job.negative_control,
    )
    verdict = judge(Tape(timeline), entries, question, _noise(job))
    return RunResult(
        scenario=scenario,
        verdict=verdict,
        setting=setting,
        digest=ledger.digest(with_time=False),
        wall_s=round(wall_s, 3),
    )


def _noise(job: Job) -> Noise | None:
    if job.noise is None or not Path(job.noise).exists():
        return None
    noise: NoiseFile = msgspec.json.decode(Path(job.noise).read_bytes(), type=NoiseFile)
    return noise


def _how_it_died(code: int | None, wall_s: float) -> str:
    if code is None:
        return f"the whole process hung, its other threads too, and was ended after {wall_s:.0f} s"
    return f"the process died of signal {-code}" if code < 0 else f"the process ended with code {code}"


def _remains(path: Path) -> tuple[Setting, Moved | None, Ledger]:
    setting, moved = Setting(), None
    with path.open("rb") as lines:
        for line in lines:
            if not line.startswith(b"#") or not line.endswith(b"\n"):
                continue
            if b'"clock_ns"' in line:
                moved = msgspec.json.decode(line[1:], type=Moved)
            else:
                setting = msgspec.json.decode(line[1:], type=Setting)
    ledger = Ledger(setting.started_ns)
    ledger.extend(read_entries(path))
    return setting, moved, ledger


def fault_kinds(scenario: Scenario) -> tuple[str, ...]:
    """`layer.kind` of each fault of a scenario, by index."""
    return tuple(parse_fault(text).name for text in scenario.faults)


def is_negative_control(scenario: Scenario) -> bool:
    """Whether nothing in a scenario gives cause for alarm; a run without faults is what noise is measured by."""
    kinds = catalogue()
    names = [*fault_kinds(scenario), *([scenario.host_kind] if scenario.host_kind != "host.await" else [])]
    return bool(names) and all(kinds[name].control or name == "host.thread" for name in names)


def worker_environment() -> dict[str, str]:
    """The environment of a worker: ours, without proxies, and with our own package importable."""
    environment = clean(os.environ)
    root = str(Path(__file__).resolve().parent.parent.parent)
    rest = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root + (os.pathsep + rest if rest else "")
    environment.setdefault("PYTHONUNBUFFERED", "1")
    return environment
