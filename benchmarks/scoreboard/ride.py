"""Runs one client through all trials, with that client's own interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from benchmarks.scoreboard.board import CLIENTS, TRIALS
from harness import runner
from harness.clock import NS_PER_S
from harness.scenario import Scenario


def main() -> None:
    """Arguments: client module, recording, output, jobs, deadline in seconds."""
    module, recording, out, jobs, deadline_s = sys.argv[1:6]
    client = next(client for client in CLIENTS if client.module == module)
    scenarios = [
        Scenario(
            subject=f"benchmarks.scoreboard.clients.{module}:Service",
            recordings=(recording,),
            symbols=("BTCUSDT",),
            faults=trial.faults,
            tap=client.tap,
            deadline_ns=int(float(deadline_s) * NS_PER_S),
            seed=1,
        )
        for trial in TRIALS
    ]

    def told(result: runner.RunResult) -> None:
        print(f"  {module}: {' + '.join(result.scenario.faults) or 'no fault'}: {result.verdict.outcome}", flush=True)

    results = runner.run_all(scenarios, jobs=int(jobs), on_result=told)
    Path(out).write_bytes(msgspec.json.encode(results))


if __name__ == "__main__":
    main()
