"""The process that forks workers, seen from its parent."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runner import worker_environment
from harness.runner.nursery import Nursery

pytestmark = [pytest.mark.slow]


def test_one_that_was_killed_between_two_jobs_is_an_error_and_can_be_closed():
    nursery = Nursery(worker_environment(), simulated=False, verbose=False)
    nursery.process.kill()
    nursery.process.wait()
    with pytest.raises(OSError):
        nursery.run(Path("job.json"), 1.0)
    nursery.close()
