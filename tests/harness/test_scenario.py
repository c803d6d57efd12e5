"""A scenario and the command line that does it again."""

from __future__ import annotations

import argparse
import shlex

import msgspec
import pytest

from harness.cli import run_
from harness.scenario import Scenario

BASE = Scenario(subject="bot:Bot", recordings=("r.parquet",), seed=3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host": "host.run_until_complete"},
        {"path": "some dir", "symbols": ("BTCUSDT", "ETHUSDT"), "tap": "a.b"},
        {"deadline_ns": 1_500_000_000, "speed": 10.0, "retime": "none", "duration_ns": 2_000_000_000},
        {"speed": 0.0},
    ],
)
def test_the_line_that_reproduces_a_run_describes_that_run(changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.parquet").touch()
    scenario = msgspec.structs.replace(BASE, **changes)
    words = shlex.split(scenario.reproduce())
    assert words[:2] == ["harness", "run"]
    parser = argparse.ArgumentParser()
    run_.configure(parser)
    args = parser.parse_args(words[2:])
    again = run_.scenario_of(args)
    (host,) = args.host or ["host.await"]
    assert msgspec.structs.replace(again, host=host, faults=tuple(args.fault)) == scenario


def test_a_plain_run_has_neither_fault_nor_odd_host():
    assert BASE.is_plain
    assert msgspec.structs.replace(BASE, faults=("tcp.refuse",), host="host.thread").plain() == BASE


def test_a_scenario_travels_as_json():
    assert msgspec.json.decode(msgspec.json.encode(BASE), type=Scenario) == BASE
