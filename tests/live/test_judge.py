"""Whole runs over loopback: unmodified subjects, judged in workers of their own. Few, short, in parallel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import runner
from harness.cli import main
from harness.scenario import Scenario

pytestmark = [pytest.mark.live, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
RECORDING = str(ROOT / "recordings" / "btcusdt.parquet")
S = 1_000_000_000
DEADLINE_NS = 6 * S
"""A machine that is busy with other runs takes seconds to open a connection."""

BOT = '''
import asyncio, ctypes, json, logging, multiprocessing, os, sys, threading, time
import websockets

log = logging.getLogger("bot")
URL = "wss://stream.binance.com:9443/ws/btcusdt@aggTrade"


class Base:
    def __init__(self):
        self.got = []

    def accepted(self, symbol, trade):
        self.got.append(trade)

    async def read(self):
        async with websockets.connect(URL) as ws:
            async for message in ws:
                self.accepted("BTCUSDT", json.loads(message))

    async def start(self, symbols):
        self.task = asyncio.create_task(self.read())

    async def stop(self):
        self.task.cancel()


class Mute(Base):
    """Swallows what ends its task."""

    async def read(self):
        try:
            await super().read()
        except Exception:
            pass


class Warns(Base):
    async def read(self):
        try:
            await super().read()
        finally:
            log.warning("the stream ended")


class Exits(Base):
    async def read(self):
        try:
            await super().read()
        except Exception:
            os._exit(3)


class Killed(Base):
    def accepted(self, symbol, trade):
        super().accepted(symbol, trade)
        if len(self.got) == 30:
            os.kill(os.getpid(), 9)


class Leaves(Base):
    """A library written in C ends the process, and says that all is well."""

    def accepted(self, symbol, trade):
        super().accepted(symbol, trade)
        if len(self.got) == 30:
            ctypes.CDLL(None)._exit(0)


class Blocked(Base):
    """Its own callback never returns, and holds the loop."""

    def accepted(self, symbol, trade):
        super().accepted(symbol, trade)
        if len(self.got) == 30:
            time.sleep(3600)


class Threaded:
    """Synchronous, with a loop in a thread of its own."""

    def __init__(self):
        self.accepted = []

    def start(self, symbols):
        self.thread = threading.Thread(target=lambda: asyncio.run(self.read()), daemon=True)
        self.thread.start()

    async def read(self):
        self.over = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        async with websockets.connect(URL) as ws:
            reading = asyncio.ensure_future(self.take(ws))
            await self.over.wait()
            reading.cancel()

    async def take(self, ws):
        async for message in ws:
            self.accepted.append(json.loads(message))

    def stop(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(3)


class Iterated:
    async def trades(self, symbols):
        async with websockets.connect(URL) as ws:
            async for message in ws:
                yield json.loads(message)


class Holding(Base):
    """start() keeps its thread, and stop() must be awaited."""

    def start(self, symbols):
        asyncio.run(self.main())

    async def main(self):
        self.task = asyncio.ensure_future(self.read())
        await asyncio.wait([self.task])

    async def stop(self):
        self.task.cancel()


class Returned(Base):
    """start() is no coroutine function and gives a coroutine back; whoever stops it twice leaves a thread."""

    stops = 0

    def start(self, symbols):
        return self.main()

    async def main(self):
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.ensure_future(self.read())
        await self.task

    def stop(self):
        self.stops += 1
        self.loop.call_soon_threadsafe(self.task.cancel)
        if self.stops > 1:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


class Scheduling(Base):
    """start() is an ordinary function that counts on the loop of whoever calls it."""

    def start(self, symbols):
        self.task = asyncio.get_event_loop().create_task(self.read())


class Forks(Base):
    """Has a child process, and is only content when that ends by itself."""

    async def start(self, symbols):
        self.child = multiprocessing.get_context("fork").Process(target=int)
        self.child.start()
        await super().start(symbols)

    async def stop(self):
        await super().stop()
        self.child.join(2)
        if self.child.is_alive():
            self.child.kill()
            await asyncio.Event().wait()


class HandsOn(Base):
    """stop() cancels its task, awaits it, and hands the CancelledError on to its caller."""

    async def stop(self):
        self.task.cancel()
        await self.task


class Foreign(Base):
    """Wants a host that is none of the exchange's."""

    async def start(self, symbols):
        await asyncio.open_connection("example.com", 443)


class Hangs(Base):
    async def stop(self):
        await asyncio.Event().wait()


class NoTap:
    async def start(self, symbols):
        pass
'''

CASES = {
    "plain": ("Base", (), "host.await", "intact", None),
    "thread": ("Base", (), "host.thread", "intact", None),
    "own thread": ("Threaded", (), "host.await", "intact", None),
    "async for": ("Iterated", (), "host.await", "intact", None),
    "holding": ("Holding", (), "host.await", "intact", None),
    "returned": ("Returned", (), "host.await", "intact", None),
    "scheduling": ("Scheduling", (), "host.await", "intact", None),
    "forks": ("Forks", (), "host.await", "intact", None),
    "hands on": ("HandsOn", (), "host.await", "intact", None),
    "mute": ("Mute", ("tcp.reset_peer@frame=30",), "host.await", "silent", ("stopped", "receive")),
    "warns": ("Warns", ("tcp.reset_peer@frame=30",), "host.await", "loud", ("stopped", "receive")),
    "exits": ("Exits", ("tcp.reset_peer@frame=30",), "host.await", "loud", ("stopped", "receive")),
    "killed": ("Killed", (), "host.await", "loud", ("stopped", "callback")),
    "leaves": ("Leaves", (), "host.await", "silent", ("stopped", "callback")),
    "blocked": ("Blocked", (), "host.await", "silent", ("stopped", "callback")),
    "incident": ("Base", (), "host.run_until_complete", "silent", ("never_connected", "schedule")),
    "closed": ("Mute", (), "host.closed_loop", "silent", ("never_connected", "schedule")),
    "twice": ("Base", (), "host.started_twice", "silent", ("duplicate", "history")),
    "refused": ("Mute", ("http.status:code=451",), "host.await", "silent", ("never_connected", "upgrade")),
    "certificate": ("Mute", ("tls.expired",), "host.await", "silent", ("never_connected", "tls")),
    "slow name": ("Mute", ("dns.slow:delay=60s",), "host.await", "silent", ("never_connected", "resolve")),
    "no name": ("Mute", ("dns.fail",), "host.await", "silent", ("never_connected", "resolve")),
    "acked": ("Base", ("exchange.ack_then_silence",), "host.await", "silent", ("stopped", "receive")),
    "foreign": ("Foreign", (), "host.await", "loud", ("never_connected", "schedule")),
    "hangs": ("Hangs", (), "host.await", "silent", ("cannot_stop", "schedule")),
    "no tap": ("NoTap", (), "host.await", "unjudged", None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bot")
    (path / "bot_of_the_test.py").write_text(BOT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def results(folder):
    scenarios = {
        name: Scenario(
            subject=f"bot_of_the_test:{subject}",
            recordings=(RECORDING,),
            path=str(folder),
            faults=faults,
            host=host,
            deadline_ns=DEADLINE_NS,
            duration_ns=2 * S,
            seed=7,
        )
        for name, (subject, faults, host, _, _) in CASES.items()
    }
    return dict(zip(scenarios, runner.run_all(list(scenarios.values()), jobs=12), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_each_subject_gets_its_verdict_with_check_and_stage(results, name):
    verdict = results[name].verdict
    _, _, _, outcome, found = CASES[name]
    assert verdict.outcome == outcome, f"{verdict}\n{verdict.reason}"
    if found is not None:
        assert found in [(finding.check, finding.stage) for finding in verdict.findings], str(verdict)


def test_the_incident_says_that_the_loop_is_not_running_and_nothing_was_attempted(results):
    (finding,) = results["incident"].verdict.findings
    assert "was not run again" in finding.cause
    assert "no connection was attempted" in finding.cause
    assert "bot_of_the_test.py" in finding.cause


def test_a_blocked_loop_is_named_by_the_line_that_blocks_it(results):
    finding = next(f for f in results["blocked"].verdict.findings if f.check == "stopped")
    assert "blocked" in finding.cause
    assert "in accepted" in finding.cause


def test_a_hanging_stop_is_told_with_the_place_where_it_waits(results):
    finding = next(f for f in results["hangs"].verdict.findings if f.check == "cannot_stop")
    assert "did not return" in finding.cause


def test_a_subject_without_a_tap_is_told_how_to_name_one(results):
    assert "--tap" in results["no tap"].verdict.reason


def run_cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )


def test_the_command_line_reports_and_exits_with_the_verdict(folder, capfd):
    common = ["--recording", RECORDING, "--path", str(folder), "--duration", "2s", "--deadline", "1s"]
    code = main(["run", "bot_of_the_test:Mute", *common, "--fault", "tcp.reset_peer@frame=20", "--format", "json"])
    found = json.loads(capfd.readouterr().out)
    assert (code, found["format"], found["runs"][0]["verdict"]) == (1, 1, "silent")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch_bot:Thing", "--recording", RECORDING], "no module named 'nosuch_bot'"),
        (["json:nosuch", "--recording", RECORDING], "has no 'nosuch'"),
        (["json:JSONDecoder", "--recording", "nosuch.parquet"], "no such recording"),
        (["json:JSONDecoder", "--recording", RECORDING, "--fault", "tcp.rest_peer"], "did you mean 'tcp.reset_peer'"),
        (["json:JSONDecoder", "--recording", RECORDING, "--host", "host.awaits"], "did you mean 'host.await'"),
        (["json:JSONDecoder", "--recording", RECORDING, "--faults", "tpc"], "did you mean 'tcp'"),
        (["json:JSONDecoder", "--recording", RECORDING, "--deadline", "soon"], "is not a duration"),
        (["json:JSONDecoder", "--recording", RECORDING], "none of start"),
    ],
)
def test_a_mistake_gets_one_clear_sentence_and_exit_code_2(arguments, sentence, capfd):
    assert main(["run", *arguments]) == 2
    said = capfd.readouterr()
    assert sentence in said.err
    assert said.out == ""
    assert "Traceback" not in said.err


def test_a_dry_run_says_what_was_found(folder, capfd):
    assert main(["run", "bot_of_the_test:Base", "--recording", RECORDING, "--path", str(folder), "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert [word in said for word in ("tap      accepted", "stop     stop", "health   none")] == [True] * 3


PROGRAM = """
import json, sys, websockets.sync.client as client
with client.connect("wss://stream.binance.com:9443/ws/btcusdt@aggTrade") as ws:
    print(sum("aggTrade" in ws.recv() for _ in range(10)))
sys.exit(5)
"""


def test_exec_redirects_a_program_and_passes_on_its_exit_code():
    done = run_cli("exec", "--recording", RECORDING, "--", sys.executable, "-c", PROGRAM)
    assert (done.stdout, done.returncode) == ("10\n", 5), done.stderr
    assert "redirected 1 process" in done.stderr


def test_exec_ends_a_program_that_the_redirect_did_not_take_in():
    waits = "import time; time.sleep(60)"
    done = run_cli("exec", "--recording", RECORDING, "--patience", "500ms", "--", sys.executable, "-I", "-c", waits)
    assert done.returncode == 2
    assert "did not take" in done.stderr


def test_doctor_walks_the_stages_of_an_endpoint_that_works():
    done = run_cli("doctor", "--recording", RECORDING)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = ["resolve", "connect", "tls", "upgrade", "subscribe", "receive"]
    assert [line.split()[1] for line in done.stdout.splitlines() if "●" in line] == stages


def test_doctor_stops_at_the_first_stage_that_fails_with_a_remedy():
    done = run_cli("doctor", "--endpoint", "wss://127.0.0.1:1", "--timeout", "2s")
    assert done.returncode == 1
    assert "○ connect" in done.stdout
    assert "try" in done.stdout


def test_doctor_examines_a_subject(folder):
    done = run_cli(
        "doctor", "bot_of_the_test:Base", "--recording", RECORDING, "--path", str(folder), "--after", "2s"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loop of subject: running" in done.stdout
    assert "history    BTCUSDT" in done.stdout
