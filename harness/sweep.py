"""Search fault plans for silent failures, shrink what is found, keep it as a plan.

    draw ─▶ judge (many at a time, on any `concurrent.futures.Executor`) ─▶ silent? ─▶ shrink ─▶ plan in TOML

Everything follows from the seed: plan number n of a seed is always the same, whoever draws it.
"""

from __future__ import annotations

import importlib
import shlex
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING, TypeVar

import msgspec

from harness import runner, seeds
from harness.errors import HarnessError, UsageError
from harness.faults import catalogue
from harness.faults.plan import Plan, PlannedFault, format_fault, format_plan, parse_fault
from harness.runner.results import RunResult
from harness.scenario import Scenario  # noqa: TC001 - msgspec reads the annotations at run time
from harness.verdict import Noise, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random

T = TypeVar("T")

MAX_FAULTS = 3
"""Faults in one plan; more rarely find what fewer do not, and take longer to shrink."""
LAYERS = ("dns", "tcp", "tls", "http", "ws", "payload", "sequence", "timing", "exchange")
HOST_SHARE = 0.15
"""Share of plans that also bend the host."""
SHRINK_RUNS = 40
"""Runs spent on shrinking one finding."""
CLUSTER_TIMEOUT_S = 10
STOP_TRIES, STOP_S = 25, 0.2
"""How long to wait, in tries and seconds each, until what runs has ended after Ctrl-C."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A silent failure, as small as it got."""

    key: str
    """Check and stage: two findings with the same key are the same failure for our purposes."""
    scenario: Scenario
    cause: str
    runs: int
    """Runs that shrinking took."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep came to."""

    runs: int
    """Plans that were judged."""
    counts: dict[str, int]
    """By verdict."""
    found: tuple[Found, ...]
    interrupted: bool = False
    """Ctrl-C came before the end: not every plan was judged, or not every finding shrunk."""


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    scenario: Scenario
    noise: Noise


def sweep(
    base: Scenario,
    *,
    runs: int,
    frames: int,
    executor: Executor,
    on_result: Callable[[RunResult], None] | None = None,
) -> Swept:
    """
    Search.

    Args:
        base: everything but the faults; its seed decides what is drawn.
        runs: plans to try.
        frames: length of the tape, for where faults strike.
        executor: runs `judge_order`; processes, threads or a cluster.
        on_result: called for each run that is judged.

    Raises:
        HarnessError: the run without faults cannot be judged, or is not sound.
    """
    noise = sound_noise(base, executor)
    futures = [_submit(executor, draw(base, number, frames), noise) for number in range(runs)]
    results: list[RunResult] = []
    found: dict[str, Found] = {}
    interrupted = False
    try:
        for future in as_completed(futures):
            results.append(_result(future))
            if on_result is not None:
                on_result(results[-1])
        for key, result in one_of_each(results).items():
            found[key] = _shrink(key, result, noise, executor)
    except KeyboardInterrupt:
        interrupted = True
        _stop(futures)
        # What was found is kept, though nobody had the time to shrink it.
        for key, result in one_of_each(results).items():
            found.setdefault(key, Found(key=key, scenario=result.scenario, cause=_first(result.verdict), runs=0))
    return Swept(
        runs=len(results),
        counts=dict(Counter(result.verdict.outcome for result in results)),
        found=tuple(found.values()),
        interrupted=interrupted,
    )


def _stop(futures: Sequence[Future[bytes]]) -> None:
    for future in futures:
        future.cancel()
    for _ in range(STOP_TRIES):
        runner.interrupt()
        if not wait(futures, timeout=STOP_S).not_done:
            return


def sound_noise(base: Scenario, executor: Executor) -> Noise:
    """
    What the subject says without any fault.

    Raises:
        HarnessError: that run is itself at fault: there is nothing to search for yet.
    """
    result = _result(_submit(executor, base.plain(), Noise()))
    if not result.verdict.intact:
        raise HarnessError(f"without any fault the run is {result.verdict.outcome} already: {_first(result.verdict)}")
    return result.noise or Noise()


# --- Drawing ------------------------------------------------------------------------------------------


def draw(base: Scenario, number: int, frames: int) -> Scenario:
    """Plan `number` of this seed: one to three faults, each with its conditions."""
    rng = seeds.derive(base.seed, "sweep", number)
    kinds = [name for name in catalogue() if name.partition(".")[0] in LAYERS]
    faults = [draw_fault(rng, kinds, frames) for _ in range(1 + min(rng.randrange(5) // 2, MAX_FAULTS - 1))]
    hosts = [name for name in catalogue() if name.startswith("host.")]
    host = rng.choice(hosts) if rng.random() < HOST_SHARE else base.host
    return msgspec.structs.replace(base, faults=tuple(map(format_fault, faults)), host=host)


def draw_fault(rng: Random, kinds: Sequence[str], frames: int) -> PlannedFault:
    """One fault: by layer first, so that the many refusals do not crowd out the few resets."""
    layer = rng.choice(sorted({name.partition(".")[0] for name in kinds}))
    name = rng.choice([kind for kind in kinds if kind.startswith(f"{layer}.")])
    text = name
    if catalogue()[name].default_at:
        text += f"@frame={rng.randint(1, max(1, frames))}"
    elif catalogue()[name].before_data and rng.random() < 0.5:
        # After the first connection: what meets a client that reconnects.
        text += f"#connection={rng.choice(('1', '2', '2-', '2-4'))}"
    try:
        return parse_fault(text)
    except HarnessError:
        return parse_fault(name)  # a kind that takes no such condition


# --- Shrinking ------------------------------------------------------------------------------------------


def one_of_each(results: Sequence[RunResult]) -> dict[str, RunResult]:
    """One of each kind of failure, the one with the fewest faults: it is nearly shrunk already."""
    silent: dict[str, RunResult] = {}
    for result in sorted(results, key=lambda r: (len(r.scenario.named_faults), r.scenario.reproduce())):
        if result.verdict.silent:
            silent.setdefault(key_of(result.verdict), result)
    return silent


def _shrink(key: str, result: RunResult, noise: Noise, executor: Executor) -> Found:
    scenario, cause, spent = result.scenario, _first(result.verdict), 0

    def fails(candidate: Scenario) -> bool:
        nonlocal spent, cause
        if spent >= SHRINK_RUNS or candidate.is_plain:
            return False
        spent += 1
        verdict = _result(_submit(executor, candidate, noise)).verdict
        if verdict.silent and key_of(verdict) == key:
            cause = _first(verdict)
            return True
        return False

    plain_host = msgspec.structs.replace(scenario, host="host.await")
    if scenario.host != "host.await" and fails(plain_host):
        scenario = plain_host
    if scenario.host != "host.await" and fails(msgspec.structs.replace(scenario, faults=())):
        scenario = msgspec.structs.replace(scenario, faults=())
    kept = ddmin(list(scenario.faults), lambda faults: fails(msgspec.structs.replace(scenario, faults=tuple(faults))))
    scenario = msgspec.structs.replace(scenario, faults=tuple(kept))
    for place, text in enumerate(scenario.faults):
        for simpler in simplifications(text):
            faults = (*scenario.faults[:place], simpler, *scenario.faults[place + 1 :])
            candidate = msgspec.structs.replace(scenario, faults=faults)
            if fails(candidate):
                scenario = candidate
                break
    return Found(key=key, scenario=scenario, cause=cause, runs=spent)


def ddmin(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """
    Find a smaller list that still fails, of which nothing can be left out (Zeller's delta debugging).

    Args:
        items: a list that fails.
        fails: whether a shorter list does; the empty list is never asked.
    """
    parts = 2
    while len(items) >= 2:
        size = -(-len(items) // parts)
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        for place, chunk in enumerate(chunks):
            rest = [item for other, each in enumerate(chunks) if other != place for item in each]
            if len(chunks) > 2 and fails(chunk):
                items, parts = chunk, 2
                break
            if rest and fails(rest):
                items, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                return items
            parts = min(len(items), parts * 2)
    return items


def simplifications(text: str) -> list[str]:
    """Shorter ways to write a fault that might do the same, the shortest first."""
    planned = parse_fault(text)
    bare = type(planned.fault)()
    candidates = [PlannedFault(bare), PlannedFault(bare, planned.condition), PlannedFault(planned.fault)]
    shorter = [format_fault(candidate) for candidate in candidates]
    return [each for each in dict.fromkeys(shorter) if len(each) < len(text)]


# --- Running, anywhere ------------------------------------------------------------------------------------


def judge_order(order: bytes) -> bytes:
    """Judge one scenario; JSON in, JSON out, so that it runs in any process on any machine."""
    wanted = msgspec.json.decode(order, type=_Order)
    (result,) = runner.run_all([wanted.scenario], jobs=1, known_noise=wanted.noise)
    return msgspec.json.encode(result)


def _submit(executor: Executor, scenario: Scenario, noise: Noise) -> Future[bytes]:
    return executor.submit(judge_order, msgspec.json.encode(_Order(scenario=scenario, noise=noise)))


def _result(future: Future[bytes]) -> RunResult:
    return msgspec.json.decode(future.result(), type=RunResult)


def make_executor(jobs: int, cluster: str | None) -> Executor:
    """
    Where the runs are judged: this machine, or a Dask scheduler's workers.

    Raises:
        UsageError: there is no Dask here, or no scheduler there.
    """
    if cluster is None:
        # Threads, since each only waits for the worker process of its run.
        return ThreadPoolExecutor(jobs, thread_name_prefix="harness-sweep")
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as missing:
        raise UsageError("--cluster needs Dask: pip install 'aggtrade-harness[cluster]'") from missing
    try:
        executor: Executor = distributed.Client(cluster, timeout=CLUSTER_TIMEOUT_S).get_executor()
    except (OSError, ValueError) as problem:
        raise UsageError(f"--cluster {cluster}: no scheduler answers: {problem}") from problem
    return executor


# --- Keeping ------------------------------------------------------------------------------------------------


def save(found: Found, folder: Path) -> Path:
    """Write a reproducer as a plan; its head says what it shows and how to see it again."""
    folder.mkdir(parents=True, exist_ok=True)
    name = found.key.replace(" ", "_")
    path = folder / f"{name}.toml"
    number = 2
    while path.exists():
        path = folder / f"{name}_{number}.toml"
        number += 1
    faults = [parse_fault(text) for text in found.scenario.faults]
    if found.scenario.host != "host.await":
        faults.append(parse_fault(found.scenario.host))
    plan = Plan(tuple(faults), found.scenario.seed, f"{found.key}: {found.cause}"[:200])
    line = msgspec.structs.replace(found.scenario, faults=(), host="host.await").reproduce()
    text = f"# {line} --plan {shlex.quote(str(path))}\n{format_plan(plan)}"
    path.write_text(text, encoding="utf-8")
    return path


def key_of(verdict: Verdict) -> str:
    """Check and stage of the worst finding."""
    silent = [finding for finding in verdict.findings if finding.excusable and not finding.signalled]
    return f"{silent[0].check} {silent[0].stage}" if silent else ""


def _first(verdict: Verdict) -> str:
    untold = [finding for finding in verdict.findings if not finding.signalled]
    return untold[0].cause if untold else verdict.findings[0].cause if verdict.findings else verdict.reason
