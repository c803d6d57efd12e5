"""Real, pinned public clients through a dozen faults; writes docs/scoreboard.md.

    python -m benchmarks.scoreboard [--jobs 14] [--together 3] [--only NAME]...

Each client gets a virtual environment of its own under `.scoreboard/`, made from a file of exact versions in
`requirements/`, which sees the harness but none of its libraries in place of the client's own. It is used as its
documentation shows (`clients/`), with nothing added, against the same recording, under the same faults, with the
deadline that the harness has by default.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import site
import subprocess
import sys
import threading
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from benchmarks.scoreboard.board import CLIENTS, FRAMES, RATE, TRIALS, Client
from benchmarks.scoreboard.page import render
from harness.recording import RecordingWriter
from harness.runner import RunResult
from harness.sources import synth

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".scoreboard"
PAGE = ROOT / "docs" / "scoreboard.md"
_making = threading.Lock()


def main() -> int:
    """Prepare, run, write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoreboard", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=15, help="runs of one client at a time; they mostly wait [15]")
    parser.add_argument("--together", type=int, default=2, help="clients at a time [2]")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds in which a loss must be told [60]")
    parser.add_argument("--only", action="append", default=[], metavar="MODULE", help="only these clients")
    args = parser.parse_args()

    CACHE.mkdir(exist_ok=True)
    recording = CACHE / "market.parquet"
    if not recording.exists():
        writer = RecordingWriter(recording, endpoint="synthetic", symbols=("BTCUSDT",), source="synthetic")
        writer.write(synth.make("normal", "BTCUSDT", frames=FRAMES, rate=RATE, seed=1))
        writer.close()
    chosen = [client for client in CLIENTS if not args.only or client.module in args.only]
    began = time.monotonic()
    with ThreadPoolExecutor(args.together) as pool:
        list(pool.map(lambda client: ride(client, recording, args.jobs, args.deadline), chosen))
    results = {client.module: load(client) for client in CLIENTS if result_path(client).exists()}
    versions = {client.module: version_of(client) for client in CLIENTS}
    PAGE.write_text(render(results, versions, args.deadline), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(chosen)} clients in {time.monotonic() - began:.0f} s")
    return 0


def ride(client: Client, recording: Path, jobs: int, deadline_s: float) -> None:
    """Run one client through all trials, with its own interpreter."""
    with _making:  # several clients may have one environment
        python = environment(client)
    words = [
        python,
        "-m",
        "benchmarks.scoreboard.ride",
        client.module,
        recording,
        result_path(client),
        jobs,
        deadline_s,
    ]
    done = subprocess.run([str(word) for word in words], cwd=ROOT, check=False)
    if done.returncode:
        print(f"  {client.module}: could not be run, see above", file=sys.stderr)


def environment(client: Client) -> Path:
    """The interpreter of a client's own environment; made when it is not there or its requirements changed."""
    requirements = HERE / "requirements" / f"{client.requirements}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = CACHE / f"{client.requirements}-{digest}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "ready").exists():
        print(f"  {client.module}: installing {requirements.name}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", requirements], check=True)
        # Ours come last on the path, so that the client's own libraries are the ones imported.
        ours = "; ".join(f"site.addsitedir({folder!r})" for folder in site.getsitepackages())
        packages = next(folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages")
        (packages / "zz_harness.pth").write_text(f"import site; {ours}\n", encoding="utf-8")
        (folder / "ready").touch()
    return python


def result_path(client: Client) -> Path:
    """Where a client's results are kept."""
    return CACHE / f"{client.module}.json"


def load(client: Client) -> dict[tuple[str, ...], RunResult]:
    """A client's results by faults."""
    results = msgspec.json.decode(result_path(client).read_bytes(), type=list[RunResult])
    by_faults = {result.scenario.faults: result for result in results}
    return {trial.faults: by_faults[trial.faults] for trial in TRIALS if trial.faults in by_faults}


def version_of(client: Client) -> str:
    """`name==version` of the client itself."""
    lines = (HERE / "requirements" / f"{client.requirements}.txt").read_text(encoding="utf-8").splitlines()
    wanted = client.requirements.replace("-", "_") + "=="
    return next((line for line in lines if line.replace("-", "_").startswith(wanted)), client.requirements)


if __name__ == "__main__":
    sys.exit(main())
