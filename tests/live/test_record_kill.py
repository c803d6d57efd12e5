"""A handful of kills on every run of the suite; the bench does hundreds."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

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
