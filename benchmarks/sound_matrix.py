"""False alarms: every sound service through the whole catalogue: `python -m benchmarks.sound_matrix`.

Prints how often a sound service was called silent (must be never) and how often a negative control was
called a false alarm (must be never), and each case of either.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from harness import runner
from harness.faults import catalogue
from harness.recording import RecordingWriter
from harness.scenario import Scenario
from tests.quality import tapes
from tests.quality.table import BLOCKING, SOUND

DEADLINE_NS = 4_000_000_000
SHORT = {
    "dns.slow": "delay=1s",
    "tcp.accept_slow": "delay=1s",
    "tcp.slow_close": "delay=1s",
    "http.slow": "delay=1s",
    "tls.ticket_flood": "tickets=20",
    "timing.quiet_market": "duration=800ms",
    "timing.just_under": "threshold=900ms",
    "timing.stall_then_burst": "duration=1500ms",
    "timing.first_message_delay": "delay=1s",
    "timing.trickle": "interval=500ms",
    "timing.lag_constant": "lag=1s",
    "exchange.symbol_halt": "duration=800ms",
    "exchange.ack_late": "delay=1s",
    "exchange.lifetime": "after=1s",
    "exchange.server_shutdown": "lead=500ms",
}
"""Settings that make a fault fit into a tape of a few seconds."""
UNKNOWABLE = {
    "payload.side_flip": "a flipped side is a plausible trade: nothing in the frame tells",
    "payload.quantity_huge": "a large trade may be real",
}
"""Faults that no consumer of this one stream can know of; listed, and not counted."""


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sound_matrix", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--mode", choices=("live", "sim"), default="sim", help="blocking subjects run live in any case")
    parser.add_argument("--subject", action="append", default=[], help="only these")
    parser.add_argument("--layer", action="append", default=[], help="only faults of these layers")
    args = parser.parse_args()
    kinds = [
        name
        for name in catalogue()
        if not name.startswith("host.")
        and name not in UNKNOWABLE
        and (not args.layer or name.split(".")[0] in args.layer)
    ]
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "plain.parquet"
        writer = RecordingWriter(recording, endpoint="synthetic", symbols=("BTCUSDT",), source="synthetic")
        writer.write(tapes.make("plain"))
        writer.close()
        scenarios = [
            Scenario(
                subject=f"fixtures.subjects.{subject}:quick",
                recordings=(str(recording),),
                symbols=("BTCUSDT",),
                faults=(short_form(kind),),
                deadline_ns=DEADLINE_NS,
                mode="live" if subject in BLOCKING else args.mode,
                seed=7,
            )
            for subject in args.subject or SOUND
            for kind in kinds
        ]
        done = 0

        def told(_: runner.RunResult) -> None:
            nonlocal done
            done += 1
            if done % 50 == 0:
                print(f"{done} of {len(scenarios)}", file=sys.stderr, flush=True)

        results = runner.run_all(scenarios, jobs=args.jobs, on_result=told)
    outcomes = Counter(result.verdict.outcome for result in results)
    wrong = [r for r in results if r.verdict.silent or any(f.check == "false_alarm" for f in r.verdict.findings)]
    print(f"{len(results)} runs of {len(args.subject or SOUND)} sound services: {dict(outcomes)}; {len(wrong)} accused")
    for result in wrong:
        print(f"  {result.scenario.subject.split('.')[-1]} {' '.join(result.scenario.faults)}")
        for finding in result.verdict.findings:
            if not finding.signalled or finding.check == "false_alarm":
                print(f"      {finding.check} at {finding.stage}: {finding.cause}")
    for result in results:
        if result.verdict.outcome == "unjudged":
            print(f"  {result.scenario.subject} {result.scenario.faults}: unjudged: {result.verdict.reason[:300]}")
    return 1 if wrong else 0


def short_form(kind: str) -> str:
    """The fault a quarter into the tape, where it takes a place there."""
    words = f"{kind}:{SHORT[kind]}" if kind in SHORT else kind
    return words if catalogue()[kind].before_data or not catalogue()[kind].default_at else f"{words}@frame=40"


if __name__ == "__main__":
    sys.exit(main())
