"""Fault injection never harms the exchange: the small version of `benchmarks/soak.py`."""

from __future__ import annotations

import pytest

from benchmarks.soak import soak

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_plans_leave_nothing_behind_and_the_next_connection_works(seed):
    figures = soak(60, seed, batch=6, patience_s=0.03)
    assert figures["unsound"] == []
    assert figures["left_behind"] == []
    assert figures["descriptors"] == 0
    assert figures["threads"] == 0
