"""A handful of kills on every run of the suite; the bench does hundreds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from harness.faults.plan import Plan
from harness.recording import open_recording
from harness.recording.verify import verify
from harness.transports.live import LiveExchange
from tests.conftest import ROOT
from tests.live.test_record_replay import FAST, ids, make_tape

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(100)]


def test_kills_at_random_moments_leave_nothing_that_cannot_be_read(tmp_path: Path) -> None:
    bench = ROOT / "benchmarks" / "recorder_kill.py"
    options = ["--kills", "8", "--at-once", "2", "--longest-s", "0.8", "--dir", str(tmp_path), "--json"]
    done = subprocess.run(
        [sys.executable, str(bench), *options], capture_output=True, text=True, timeout=90, check=False
    )
    said = json.loads(done.stdout)
    assert said["bad"] == []
    assert said["summary"]["frames kept"] > 0


def test_the_recorder_after_a_kill_fetches_what_was_traded_until_it_came(tmp_path: Path) -> None:
    def command(*more: str) -> list[str]:
        where = ["--endpoint", exchange.urls["ws"], "--out", str(tmp_path), "--flush", "20ms"]
        return [sys.executable, "-m", "harness", "record", "btcusdt", *where, *more]

    with LiveExchange(make_tape(4000), Plan(), settings=FAST) as exchange:
        first = subprocess.Popen(command(), stderr=subprocess.DEVNULL)
        while sum(path.stat().st_size for path in tmp_path.glob("*.journal")) < 20_000:  # a hundred frames
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
        first.wait()
        done = subprocess.run(command("--frames", "200"), capture_output=True, text=True, timeout=60, check=True)
    assert "0 missing" in done.stderr, done.stderr
    frames = list(open_recording(tmp_path).frames())
    found = sorted(ids(frames))
    assert found == list(range(found[0], found[-1] + 1))
    assert any(frame.detail == "backfilled" for frame in frames)
    assert [problem for problem in verify(tmp_path) if problem.severity not in {"told", "note"}] == []
