"""Sweep: what is drawn follows from the seed, and what is found is shrunk to what matters."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import runner, sweep
from harness.errors import HarnessError, UsageError
from harness.faults.plan import load_plan
from harness.runner.results import RunResult
from harness.scenario import Scenario
from harness.verdict import Finding, Verdict
from tests.conftest import ROOT

RECORDING = "recordings/btcusdt.parquet"
BASE = Scenario(subject="bot:Bot", recordings=("r.parquet",), seed=11)


@given(items=st.lists(st.integers(), min_size=1, max_size=20, unique=True), data=st.data())
@settings(deadline=None)
def test_shrinking_keeps_exactly_what_the_failure_needs(items, data):
    needed = set(data.draw(st.lists(st.sampled_from(items), min_size=1, max_size=4, unique=True)))
    assert set(sweep.ddmin(items, lambda some: needed <= set(some))) == needed


def test_the_same_seed_draws_the_same_plans_and_another_draws_others():
    first = [sweep.draw(BASE, number, 1000) for number in range(30)]
    assert first == [sweep.draw(BASE, number, 1000) for number in range(30)]
    other = msgspec.structs.replace(BASE, seed=12)
    assert [s.faults for s in first] != [sweep.draw(other, number, 1000).faults for number in range(30)]


def test_every_layer_is_drawn():
    drawn = {text.partition(".")[0] for number in range(200) for text in sweep.draw(BASE, number, 1000).faults}
    assert drawn == set(sweep.LAYERS)


def test_a_fault_is_simplified_by_leaving_out_settings_and_conditions():
    found = sweep.simplifications("sequence.gap:count=5@frame=250")
    assert "sequence.gap" in found
    assert "sequence.gap@frame=250" in found
    assert sweep.simplifications("sequence.gap") == []


class Judging(Executor):
    """Judges in a moment: silent exactly when a rule says so."""

    def __init__(self, rule):
        self.rule = rule
        self.judged = 0

    def submit(self, function, order):
        assert function is sweep.judge_order
        self.judged += 1
        scenario = msgspec.json.decode(order, type=sweep._Order).scenario
        future = Future()
        verdict = Verdict(outcome="intact")
        if self.rule(scenario):
            finding = Finding(
                check="stopped", stage="receive", since_s=1.0, until_s=None, recovered=False, signalled=False,
                told_after_s=None, symbol="", lost=1, cause="nobody watches", suggestion="", evidence=(), signals=(),
            )  # fmt: skip
            verdict = Verdict(outcome="silent", findings=(finding,))
        future.set_result(msgspec.json.encode(RunResult(scenario=scenario, verdict=verdict)))
        return future


def resets(scenario):
    return any(text.startswith("tcp.") for text in scenario.faults)


def test_a_sweep_finds_one_of_each_failure_and_shrinks_it(tmp_path):
    swept = sweep.sweep(BASE, runs=60, frames=1000, executor=Judging(resets))
    (found,) = swept.found
    assert sum(swept.counts.values()) == 60
    assert len(found.scenario.faults) == 1
    assert found.scenario.faults[0].startswith("tcp.")
    assert found.scenario.host == "host.await"
    path = sweep.save(found, tmp_path / "what was found")
    assert shlex.split(path.read_text().splitlines()[0])[-1] == str(path)
    assert path.name == "stopped_receive.toml"
    assert [str(fault) for fault in load_plan(path).faults] == list(found.scenario.faults)
    assert "nobody watches" in tomllib.loads(path.read_text())["title"]
    assert sweep.save(found, tmp_path / "what was found") != path


def test_what_was_found_before_ctrl_c_is_kept_and_the_rest_is_not_begun():
    executor = Judging(resets)

    def stop_at_the_first_silent_one(result):
        if result.verdict.silent:
            raise KeyboardInterrupt

    swept = sweep.sweep(BASE, runs=60, frames=1000, executor=executor, on_result=stop_at_the_first_silent_one)
    (found,) = swept.found
    assert swept.interrupted
    assert found.runs == 0
    assert swept.runs < 60
    assert executor.judged == 61  # nothing was shrunk after it


def test_an_interrupt_ends_the_workers_that_other_threads_wait_for():
    base = msgspec.structs.replace(
        BASE, subject="orderflow.order_flow_service:OrderFlowService", recordings=(RECORDING,)
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(runner.run_all, [base], jobs=1)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        runner.interrupt()
        (result,) = waiting.result(timeout=15)
    assert result.verdict.reason == "interrupted"


def test_a_subject_that_fails_without_any_fault_is_not_searched():
    with pytest.raises(HarnessError, match="without any fault"):
        sweep.sweep(BASE, runs=3, frames=1000, executor=Judging(lambda _: True))


def test_a_cluster_without_dask_is_a_clear_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'aggtrade-harness\[cluster\]'"):
        sweep.make_executor(2, "tcp://127.0.0.1:1")


@pytest.mark.slow
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_a_clear_sentence(address):
    """In a process of its own, as Dask's client goes on complaining behind our back."""
    pytest.importorskip("distributed", reason="Dask comes with the extra `cluster`")
    code = f"from harness import sweep; sweep.CLUSTER_TIMEOUT_S = 0.5; sweep.make_executor(2, {address!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert f"UsageError: --cluster {address}: no scheduler answers: " in done.stderr


CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


@pytest.mark.slow
@pytest.mark.live
def test_the_workers_of_a_real_cluster_find_what_this_machine_finds(tmp_path):
    pytest.importorskip("distributed", reason="Dask comes with the extra `cluster`")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    scheduler = subprocess.Popen(
        [sys.executable, str(tmp_path / "cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    base = msgspec.structs.replace(
        BASE, subject="orderflow.order_flow_service:OrderFlowService", recordings=(str(ROOT / RECORDING),), mode="sim",
        duration_ns=3 * 10**9,
    )  # fmt: skip
    try:
        with sweep.make_executor(2, scheduler.stdout.readline().strip()) as executor:
            there = sweep.sweep(base, runs=2, frames=100, executor=executor)
    finally:
        scheduler.communicate("", timeout=30)
    with sweep.make_executor(2, None) as executor:
        assert sweep.sweep(base, runs=2, frames=100, executor=executor) == there
    assert there.runs == 2
