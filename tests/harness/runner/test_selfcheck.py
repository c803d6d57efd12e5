"""The self check: what keeps it from comparing is one sentence."""

from __future__ import annotations

import pytest

from harness.errors import SubjectError, UsageError
from harness.runner import selfcheck
from harness.scenario import Scenario

BASE = Scenario(subject="bot:Service", recordings=("recordings/btcusdt.parquet",))


def test_a_live_run_is_refused():
    with pytest.raises(UsageError, match="--mode sim"):
        selfcheck.selfcheck(BASE)


def test_a_worker_that_does_not_end_is_the_subjects_trouble(monkeypatch):
    monkeypatch.setattr(selfcheck, "LIMIT_S", 0.01)
    simulated = Scenario(subject=BASE.subject, recordings=BASE.recordings, mode="sim")
    with pytest.raises(SubjectError, match=r"within 0.01 s; play less with --duration"):
        selfcheck.selfcheck(simulated)
