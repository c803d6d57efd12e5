"""Whole runs in worker processes: verdicts, and the same ledger every time."""

from __future__ import annotations

import pytest

from harness.runner import run_all
from harness.runner.selfcheck import selfcheck
from harness.scenario import Scenario

RECORDING = "recordings/btcusdt.parquet"
ORDERFLOW = "orderflow.order_flow_service:OrderFlowService"

pytestmark = pytest.mark.slow


def scenario(subject=ORDERFLOW, *faults, host="host.await", seed=0, **more):
    return Scenario(
        subject=subject, recordings=(RECORDING,), mode="sim", faults=faults, host=host, seed=seed, **more
    )  # fmt: skip


def test_the_order_flow_system_and_the_incident_in_virtual_time():
    """The report's system is silent under the host of the report; the one that repairs it is intact, or loud."""
    found = run_all(
        [
            scenario(),
            scenario(ORDERFLOW, "tcp.reset_peer@frame=250"),
            scenario(host="host.run_until_complete"),
            scenario("fixtures.subjects.no_watchdog:Service", host="host.run_until_complete"),
        ],
        jobs=2,
    )
    assert [result.verdict.outcome for result in found] == ["intact", "intact", "loud", "silent"], [
        result.verdict.reason for result in found
    ]
    assert all(result.wall_s < 60 for result in found)


def test_a_stock_client_that_waits_out_its_closing_handshake_is_not_accused_of_hanging():
    """websockets gives the other side 10 s to answer a close frame, and then ends the connection."""
    [found] = run_all([scenario("fixtures.subjects.no_watchdog:Service", "tcp.blackhole_up@frame=900")], jobs=2)
    assert found.verdict.intact, found.verdict


@pytest.mark.parametrize(
    ("faults", "host"),
    [
        ((), "host.await"),
        (("tcp.bandwidth", "tcp.reset_peer@frame=250"), "host.thread"),
        (("dns.fail",), "host.collected"),
    ],
    ids=str,
)
def test_one_seed_one_ledger_in_processes_that_differ_in_hashes_and_addresses(faults, host):
    found = selfcheck(scenario(ORDERFLOW, *faults, host=host))
    assert found.same, found.first_difference


def test_two_seeds_two_ledgers():
    first, second = run_all(
        [scenario(ORDERFLOW, "dns.fail", seed=seed, deadline_ns=5 * 10**9) for seed in (1, 2)], jobs=2
    )  # the pauses between attempts are drawn
    assert first.digest
    assert first.digest != second.digest


def test_a_subject_whose_order_depends_on_hashes_is_found_out(tmp_path):
    (tmp_path / "hashed.py").write_text(
        "import logging\n"
        "class Subject:\n"
        "    async def start(self, symbols):\n"
        "        logging.warning('order %s', list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'}))\n"
        "    async def stop(self): pass\n"
        "    def accepted(self, trade): pass\n"
    )
    found = selfcheck(scenario("hashed:Subject", path=str(tmp_path), deadline_ns=10**9))
    assert not found.same
    assert "order" in found.first_difference[0]


def test_a_subject_that_needs_reality_is_not_judged(tmp_path):
    (tmp_path / "server.py").write_text(
        "import asyncio\n"
        "class Subject:\n"
        "    async def start(self, symbols):\n"
        "        try:\n"
        "            await asyncio.start_server(print, '127.0.0.1', 0)\n"
        "        except Exception:\n"
        "            pass\n"
        "    async def stop(self): pass\n"
        "    def accepted(self, trade): pass\n"
    )
    (result,) = run_all([scenario("server:Subject", path=str(tmp_path), deadline_ns=10**9)], jobs=2)
    assert result.verdict.outcome == "unjudged"
    assert result.verdict.reason == (
        "the simulation has no servers of the subject's own; run this subject with --mode live"
    )
