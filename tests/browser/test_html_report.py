"""The HTML report as a browser draws it: whole, readable, and with nothing from outside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from harness.report import Run, render
from harness.scenario import Scenario
from harness.verdict import Finding, SignalSeen, Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; .ci/run installs one where it may"),
]

NASTY = "bot:<Service> & <script>document.title = 'taken'</script>"


def finding(*, signalled: bool) -> Finding:
    signal = SignalSeen(source="log", logger="bot", level="WARNING", at_s=7.0, text="stream of <b>BTCUSDT</b> is mute")
    return Finding(
        check="stopped",
        stage="receive",
        since_s=6.5,
        until_s=None,
        recovered=False,
        signalled=signalled,
        told_after_s=0.5 if signalled else None,
        symbol="BTCUSDT",
        lost=750,
        cause="connection open, pings answered, no data for 60 s",
        suggestion="a watchdog",
        evidence=("task Service.read waits",),
        signals=(signal,) if signalled else (),
    )


def a_run(outcome: str) -> Run:
    findings = {"silent": (finding(signalled=False),), "loud": (finding(signalled=True),)}.get(outcome, ())
    return Run(
        scenario=Scenario(
            subject=NASTY, recordings=("recordings/btcusdt.parquet",), faults=("timing.silence@frame=250",)
        ),
        verdict=Verdict(outcome=outcome, sent=250, obtainable=1000, accepted=250, lost=750, findings=findings),
        digest="0" * 64,
        wall_s=1.0,
        tap="on_trade",
        health=("running",),
        trades=1000,
        length_ns=25 * 10**9,
        marks=(),
    )


@pytest.fixture
def browse(tmp_path):
    def open_page(page: str, *options: str) -> str:
        path = tmp_path / "report.html"
        path.write_text(page, encoding="utf-8")
        line = [
            str(CHROMIUM), "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", *options, path.as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            line.insert(1, "--no-sandbox")
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout

    return open_page


def test_a_browser_draws_every_run_and_runs_nothing(browse):
    drawn = browse(render([a_run("silent"), a_run("loud"), a_run("intact")], "html"), "--dump-dom")
    assert len(re.findall(r"<section", drawn)) == 3
    assert "<title>harness: bot:&lt;Service&gt;" in drawn
    assert "connection open, pings answered, no data for 60 s" in drawn
    assert "stream of &lt;b&gt;BTCUSDT&lt;/b&gt; is mute" in drawn


def test_a_narrow_screen_gets_no_page_wider_than_itself(browse):
    """Wide tables scroll inside themselves."""
    page = render([a_run("silent"), a_run("loud")], "html")
    probe = "<script>document.title = document.documentElement.scrollWidth <= innerWidth ? 'fits' : 'too wide'</script>"
    drawn = browse(page.replace("</body>", probe + "</body>"), "--window-size=500,900", "--dump-dom")
    assert "<title>fits</title>" in drawn


def test_the_page_asks_for_nothing_from_outside():
    page = render([a_run("silent")], "html")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|@import|url\(""", page)


def test_a_screenshot_is_not_blank(browse, tmp_path):
    shot = tmp_path / "report.png"
    browse(render([a_run("silent")], "html"), f"--screenshot={shot}", "--window-size=900,700")
    assert shot.stat().st_size > 10_000
