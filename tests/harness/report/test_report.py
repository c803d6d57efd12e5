"""Reports: the contract of JSON, and what people, CI and browsers get."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import pytest

from harness import report
from harness.report.junit import clean
from harness.scenario import Scenario
from harness.verdict import unjudged
from tests.harness.checks.case_builder import Story

SCENARIO = Scenario(
    subject="bot.flow:Service", recordings=("recordings/btcusdt.parquet",), faults=("tcp.reset_peer@frame=20",), seed=7
)


def run(verdict, **changes):
    scenario = msgspec.structs.replace(SCENARIO, **changes)
    marks = ((0.0, 0, 0), (2.0, 20, 20), (30.0, 20, 20))
    return report.Run(
        scenario=scenario, verdict=verdict, digest="0" * 64, wall_s=1.5, tap="accepted", health=("running",),
        trades=50, length_ns=5_000_000_000, marks=marks,
    )  # fmt: skip


@pytest.fixture
def silent():
    story = Story().connect().warn(0.1, "streams <running>", level=20).deliver(0, 20).cut(1.95)
    return run(story.judge())


@pytest.fixture
def loud():
    return run(Story().connect().deliver(0, 20).cut(1.95).warn(2.5).judge(), host="host.thread")


@pytest.fixture
def intact():
    return run(Story().connect().deliver(0, 50).judge(), faults=())


def test_json_is_the_contract(silent):
    found = json.loads(report.render([silent], "json"))
    assert [found[key] for key in ("format", "subject", "seed", "mode")] == [1, "bot.flow:Service", 7, "live"]
    assert found["recording"] == "recordings/btcusdt.parquet"
    (one,) = found["runs"]
    expected = ["faults", "host", "verdict", "sent", "obtainable", "accepted", "lost", "duplicated", "wrong"]
    expected += ["findings", "signals", "digest", "reproduce"]
    assert [key for key in one if key in expected] == expected
    (finding,) = one["findings"]
    wanted = {"check", "stage", "since_s", "until_s", "recovered", "signalled", "cause", "evidence", "signals"}
    assert wanted <= set(finding)
    assert (one["verdict"], finding["check"], finding["stage"], finding["until_s"]) == (
        "silent",
        "stopped",
        "receive",
        None,
    )
    assert one["reproduce"].startswith("harness run bot.flow:Service --recording recordings/btcusdt.parquet --fault ")
    assert one["reproduce"].endswith("--seed 7")


def test_signals_carry_source_logger_level_time_and_text(loud):
    (signal,) = json.loads(report.render([loud], "json"))["runs"][0]["signals"]
    assert signal == {"source": "log", "logger": "bot", "level": "WARNING", "at_s": 2.5, "text": "lost the connection"}


def test_text_tells_one_run_on_a_page(silent):
    text = report.render([silent], "text", width=110)
    for words in ("SILENT", "stopped (BTCUSDT)", "nobody was told", "no new attempt", "last words", "streams <running>",
                  "try", "reproduce: harness run"):  # fmt: skip
        assert words in text
    assert "\x1b" not in text
    assert all(len(line) <= 110 for line in text.splitlines() if "reproduce" not in line)


def test_text_tells_many_runs_as_a_table_the_silent_first(silent, loud, intact):
    text = report.render([intact, loud, silent], "text", width=120)
    assert "SILENT 1   loud 1   intact 1" in text
    rows = [line for line in text.splitlines() if "  receive  " in line or "  intact  " in line]
    assert "silent" in rows[0]
    assert "intact" in rows[-1]


def test_junit_fails_what_is_silent(silent, loud, intact):
    suite = ET.fromstring(report.render([silent, loud, intact], "junit")).find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    assert "reproduce: harness run" in suite.find("testcase/failure").text


def test_junit_has_no_character_that_xml_forbids():
    assert clean("a\x00\x1b[31m\ud800b") == "a[31mb"


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "rect", "line", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "rect", "line", "polyline"):
            assert self.open.pop() == tag


def test_html_is_one_page_that_fetches_nothing(silent, loud, intact):
    text = report.render([silent, loud, intact], "html")
    page = Page()
    page.feed(text)
    assert not page.open
    assert "svg" in page.tags
    assert "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert "http://" not in text
    assert "streams &lt;running&gt;" in text


@pytest.mark.parametrize(
    ("outcomes", "code"), [(("intact", "loud"), 0), (("intact", "silent", "unjudged"), 1), (("intact", "unjudged"), 2)]
)
def test_the_exit_code_is_that_of_the_worst(silent, loud, intact, outcomes, code):
    known = {"silent": silent, "loud": loud, "intact": intact, "unjudged": run(unjudged("no tap"))}
    assert report.exit_code([known[outcome] for outcome in outcomes]) == code


@pytest.mark.parametrize("format", report.FORMATS)
def test_every_format_can_show_a_run_that_could_not_be_judged(format):  # noqa: A002
    assert "no tap" in report.render([run(unjudged("no tap found"))], format)


def test_many_runs_end_with_the_mends_that_help_most(silent, loud, intact):
    other = msgspec.structs.replace(silent.scenario, faults=("tcp.fin_no_close@frame=20",))
    runs = [loud, silent, msgspec.structs.replace(silent, scenario=other), intact]
    end = report.render(runs, "text").partition("where to begin")[2]
    (finding,) = silent.verdict.findings
    assert "2 ×" in end and finding.suggestion.split(",")[0] in end
    assert "stopped at receive: tcp.reset_peer@frame=20 and 1 more" in end
    assert f"reproduce: {silent.scenario.reproduce()}" in end
    assert "Where to begin" in report.render(runs, "html")
    assert "where to begin" not in report.render([loud, intact], "text")


def test_a_table_that_no_terminal_shows_has_its_causes_in_full(silent, loud):
    (finding,) = silent.verdict.findings
    assert finding.cause in report.render([silent, loud], "text")
    assert finding.cause not in report.render([silent, loud], "text", width=80)
