"""Stages: the faults that the judge knows by name exist."""

from __future__ import annotations

from harness.checks import stages
from harness.faults import catalogue


def test_every_fault_that_a_stage_is_told_by_is_in_the_catalogue():
    assert set(catalogue()) >= stages._BLACK
