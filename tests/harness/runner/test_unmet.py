"""Of a fault that nobody met a run says nothing, and says so."""

from __future__ import annotations

import json

import pytest

from harness import report
from harness.cli import main
from harness.faults.plan import plan_of
from harness.ledger import Answered, Noted, Opened, Refused, Struck
from harness.runner.unmet import unmet
from harness.scenario import Scenario
from harness.verdict import Verdict
from tests.conftest import ROOT


def opened(number):
    return Opened(at_ns=1, connection=number, secure=True)


def asked(name="stream.binance.com"):
    return Noted(at_ns=1, what="look-up", text=f"{name}:9443")


REFUSED = Refused(at_ns=1, connection=2, stage="resolve", how="fail")
ANSWERED = Answered(at_ns=1, target="/api/v3/aggTrades", status=429)
NO_FRAME = "its moment on the tape did not come: no connection carried that frame"
STRUCK = Struck(at_ns=1, connection=1, fault=0, text="")


@pytest.mark.parametrize(
    ("fault", "entries", "why"),
    [
        ("tcp.reset_peer@frame=5", [opened(1)], NO_FRAME),
        ("tcp.reset_peer@frame=5", [opened(1), STRUCK], ""),
        ("tcp.reset_peer@frame=5", [], "no connection was attempted"),
        ("exchange.rest_backfill_429", [opened(1)], "nothing was asked over REST"),
        ("exchange.rest_backfill_429", [opened(1), opened(-1), ANSWERED], ""),
        ("dns.fail#connection=2-", [opened(1)], "there was no connection 2"),
        ("dns.fail#connection=2-", [opened(1), REFUSED], ""),
        ("dns.slow#connection=2-", [opened(1), asked(), asked("api.binance.com")], "there was no connection 2"),
        ("dns.slow#connection=2-", [opened(1), asked(), asked()], ""),
        ("http.status:code=451", [opened(1)], ""),
        ("http.status:code=451", [opened(-1)], "no connection was attempted"),
        ("tls.cert_changes_on_reconnect", [opened(1)], "there was no connection 2"),
        ("tls.cert_changes_on_reconnect", [opened(1), opened(2)], ""),
        ("sequence.overlap_on_reconnect", [opened(1)], "there was no connection 2"),
        ("tcp.latency", [opened(1)], ""),
        ("tcp.latency#connection=3", [opened(1), opened(2)], "there was no connection 3"),
        ("timing.quiet_market", [], ""),
    ],
)  # fmt: skip
def test_a_fault_was_met_where_it_struck_or_held(fault, entries, why):
    assert unmet(plan_of([fault], 0), entries) == ((f"{fault}: {why}",) if why else ())


def test_each_of_several_faults_is_looked_at_by_itself():
    plan = plan_of(["tcp.reset_peer@frame=5", "http.status:code=451#connection=2"], 0)
    assert unmet(plan, [opened(1), STRUCK]) == ("http.status:code=451#connection=2: there was no connection 2",)


def test_every_report_says_what_was_not_met():
    scenario = Scenario(subject="bot:Bot", recordings=("r.parquet",), faults=("dns.fail#connection=2-",))
    missed = ("dns.fail#connection=2-: there was no connection 2",)
    run = report.Run(scenario=scenario, verdict=Verdict(outcome="intact"), unmet=missed)
    page = report.render([run], width=100)
    assert "NOT MET  dns.fail#connection=2-: there was no connection 2: this run says nothing about it" in page
    table = report.render([run, run])
    assert "intact 2   (2 did not meet their fault)" in table
    assert table.count("not met: there was no connection 2") == 2
    assert "not met: dns.fail#connection=2-: there was no connection 2" in report.render([run], "html")
    assert json.loads(report.render([run], "json"))["runs"][0]["unmet"] == list(run.unmet)
    assert "unmet" not in report.render([report.Run(scenario=scenario, verdict=Verdict(outcome="intact"))], "json")


@pytest.mark.slow
def test_a_sound_service_that_never_comes_back_did_not_meet_what_happens_then(capsys):
    line = [
        "run",
        "orderflow.order_flow_service:OrderFlowService",
        "--recording",
        str(ROOT / "recordings/btcusdt.parquet"),
    ]
    line += ["--mode", "sim", "--duration", "2s", "--format", "json"]
    assert main([*line, "--fault", "tls.cert_changes_on_reconnect"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["unmet"] == ["tls.cert_changes_on_reconnect: there was no connection 2"]
    assert main([*line, "--fault", "tls.cert_changes_on_reconnect", "--fault", "tcp.reset_peer@frame=9"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert "unmet" not in run
