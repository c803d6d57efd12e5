"""The plugin as a user's suite sees it, in a pytest of its own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.pytest_plugin.exchange import RecordedExchange
from harness.pytest_plugin.network import blocked
from harness.pytest_plugin.recordings import episodes, must_record, recorded
from harness.recording import RecordingWriter, open_recording
from harness.sources.synth import make

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest
from orderflow.order_flow_service import OrderFlowService

pytestmark = pytest.mark.asyncio
"""
STARTED = """
    service = OrderFlowService()
    await service.start(["btcusdt"])
    verdict = await exchange.judge(service)
    await service.stop()
"""


@pytest.fixture
def suite(pytester):
    """A project with a recording of 200 trades in its `recordings` folder."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    folder = pytester.path / "recordings"
    folder.mkdir()
    with RecordingWriter(folder / "btcusdt.parquet") as writer:
        writer.write(make(frames=200, seed=7))
    return pytester


def run(suite, body, *options):
    suite.makepyfile(SUITE + body)
    return suite.runpytest_subprocess("-q", "-p", "no:cacheprovider", *options, timeout=90)


@pytest.mark.live
@pytest.mark.slow
def test_a_sound_service_is_intact_and_every_trade_is_seen(suite):
    body = f"""
@pytest.mark.recording("btcusdt.parquet", speed=5)
async def test_it(exchange):{STARTED}
    assert verdict.intact, verdict
    assert verdict.accepted == 200
"""
    run(suite, body).assert_outcomes(passed=1)


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [("-p", "no:asyncio", "-p", "no:anyio"), ("-o", "asyncio_mode=strict"), ("-o", "asyncio_mode=auto")],
    ids=["no_plugin", "strict", "auto"],
)
def test_the_example_of_the_readme_runs_as_written(pytester, suite, options):
    """It has no mark of an asyncio plugin; and who has none of these plugins has the same example."""
    suite.makeini("[pytest]\n")
    pytester.makepyfile(f"""
import pytest
from orderflow.order_flow_service import OrderFlowService

@pytest.fixture
def other(): return 7

class TestBot:
    @pytest.mark.recording("btcusdt.parquet", speed=10)
    async def test_it(self, exchange, other):{STARTED.replace(chr(10), chr(10) + "    ")}
        assert verdict.intact, verdict
        assert other == 7
""")
    suite.runpytest_subprocess("-q", "-p", "no:cacheprovider", *options, timeout=90).assert_outcomes(passed=1)


@pytest.mark.live
@pytest.mark.slow
def test_a_silent_service_fails_with_the_cause_in_words(suite):
    body = """
import asyncio, json, websockets

class Deaf:
    def accepted(self, symbol, trade): ...
    async def start(self, symbols):
        self.task = asyncio.create_task(self.read())
    async def read(self):
        async with websockets.connect("wss://stream.binance.com:9443/ws/btcusdt@aggTrade") as ws:
            async for message in ws:
                self.accepted("BTCUSDT", json.loads(message))

@pytest.mark.recording("btcusdt.parquet", faults=["timing.silence@frame=50"], speed=10, deadline="1s")
async def test_it(exchange):
    deaf = Deaf()
    await deaf.start(["btcusdt"])
    verdict = await exchange.judge(deaf)
    deaf.task.cancel()
    assert not verdict.silent
"""
    result = run(suite, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*silent: sent 50, accepted 50, lost 150*", "*stopped*"])


@pytest.mark.live
@pytest.mark.slow
def test_harness_run_judges_a_layer_in_worker_processes(suite):
    body = """
def test_it(harness_run):
    subject = "orderflow.order_flow_service:OrderFlowService"
    batch = harness_run(subject, faults=["sequence.duplicate@frame=20"], speed=5)
    assert not batch.silent and not batch.unjudged, batch
    assert len(batch) == 1 and batch.intact
"""
    suite.makepyfile(body)
    suite.runpytest_subprocess("-q", "-p", "no:cacheprovider", timeout=90).assert_outcomes(passed=1)


@pytest.mark.live
@pytest.mark.slow
def test_a_batch_that_fails_is_shown_whole_and_its_list_by_the_faults(suite):
    """pytest cuts long values in the middle; what to do about a failure must not be there."""
    body = """
def test_it(harness_run):
    subject = "fixtures.subjects.no_watchdog:Service"
    assert not harness_run(subject, faults=["timing.silence@frame=50"], deadline="5s").silent
"""
    suite.makepyfile(body)
    suite.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\npythonpath = {ROOT}\n")
    result = suite.runpytest_subprocess("-q", "-p", "no:cacheprovider", timeout=90)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*<1: timing.silence@frame=50>*",
            "*1 runs: 1 silent*",
            "*SILENT timing.silence@frame=50: *",
            "*harness run *--seed 0",
        ]
    )


def test_a_number_of_jobs_that_runs_nothing_is_refused(suite):
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "--harness-jobs", "0", timeout=90)
    result.stderr.fnmatch_lines("*--harness-jobs: '0' is not a whole number from 1*")


@pytest.mark.slow
def test_each_mistake_is_one_sentence(suite):
    body = """
@pytest.mark.recording("none.parquet")
async def test_missing(exchange): ...

@pytest.mark.recording("btcusdt.parquet", fautls=[])
async def test_option(exchange): ...

@pytest.mark.recording("btcusdt.parquet", ["tcp.reset_peer"])
async def test_no_name(exchange): ...

@pytest.mark.recording("btcusdt.parquet", faults="tcp.rest_peer")
async def test_fault(exchange): ...

@pytest.mark.recording("btcusdt.parquet", faults="host.thread")
async def test_host(exchange): ...

@pytest.mark.recording("btcusdt.parquet", faults="tcp.reset_peer@frame=201")
async def test_frame(exchange): ...

@pytest.mark.recording("btcusdt.parquet", deadline="soon")
async def test_deadline(exchange): ...

async def test_no_marker(exchange): ...
"""
    result = run(suite, body)
    result.assert_outcomes(errors=8)
    for said in (
        "*no such recording; record it with*",
        "*unknown 'fautls'; there are:*",
        "*'tcp.reset_peer'* has no name; say faults=...*",
        "*did you mean 'tcp.reset_peer'*",
        "*are for harness_run*",
        "*201 is past the end of the recording, which has 200 frames*",
        "*'soon' is not a duration*",
        "*needs @pytest.mark.recording(path*",
    ):
        result.stdout.fnmatch_lines([said])


class TestRecordModes:
    def recording(self, path, symbol="BTCUSDT"):
        with RecordingWriter(path) as writer:
            writer.write(make(symbol=symbol, frames=3))
        return path

    def test_none_wants_the_recording_to_be_there(self, tmp_path):
        assert must_record("none", self.recording(tmp_path / "a.parquet"), None) is None
        with pytest.raises(Exception, match="harness-record-mode=once"):
            must_record("none", tmp_path / "b.parquet", None)

    def test_once_records_what_is_missing_and_nothing_else(self, tmp_path):
        assert must_record("once", tmp_path / "a.parquet", None) == tmp_path / "a.parquet"
        assert must_record("once", self.recording(tmp_path / "a.parquet"), None) is None

    def test_new_episodes_records_symbols_that_no_episode_holds(self, tmp_path):
        path = self.recording(tmp_path / "a.parquet")
        assert must_record("new_episodes", path, ("btcusdt",)) is None
        assert must_record("new_episodes", path, ("ethusdt",)) == tmp_path / "a.2.parquet"
        self.recording(tmp_path / "a.2.parquet", "ETHUSDT")
        assert must_record("new_episodes", path, ("ethusdt", "btcusdt")) is None

    def test_all_adds_an_episode_and_rewrite_begins_anew(self, tmp_path):
        path = self.recording(tmp_path / "a.parquet")
        assert must_record("all", path, None) == tmp_path / "a.2.parquet"
        assert must_record("rewrite", path, None) == path
        self.recording(tmp_path / "a.2.parquet")
        assert episodes(path) == [path, tmp_path / "a.2.parquet"]
        assert must_record("all", path, None) == tmp_path / "a.3.parquet"


@pytest.mark.live
@pytest.mark.slow
async def test_what_passes_while_recording_is_what_the_exchange_sent(tmp_path):
    """The real exchange is played by ours; the program connects to the real name."""
    import websockets

    from harness.exchange.settings import ExchangeSettings
    from harness.transports.live import LiveExchange

    shutil.copy(ROOT / "recordings" / "btcusdt.parquet", tmp_path / "source.parquet")
    timeline = open_recording(tmp_path / "source.parquet").timeline()
    with LiveExchange(timeline, settings=ExchangeSettings(speed=20.0), tls=True) as live:
        port = int(str(live.urls["wss"]).rpartition(":")[2])
        upstream = lambda host, _: ("127.0.0.1", port)  # noqa: E731
        with recorded(tmp_path / "made.parquet", upstream=upstream, cafile=str(live.cafile)) as cafile:
            exchange = RecordedExchange(0, cafile)
            context = ssl.create_default_context(cafile=exchange.urls["cafile"])
            async with websockets.connect(f"{exchange.urls['wss']}/ws/btcusdt@aggTrade", ssl=context) as ws:
                got = [str(await ws.recv()).encode() for _ in range(100)]
    frames = open_recording(tmp_path / "made.parquet").frames()
    assert [frame.data for frame in frames if frame.kind == "text"][:100] == got


@pytest.mark.live
@pytest.mark.slow
async def test_the_proxy_of_a_recording_asks_the_real_resolver_and_not_itself(tmp_path, monkeypatch):
    """Both are in one process: led to itself, it would dial itself for ever, and no test would be recorded."""
    import websockets

    from harness.exchange.settings import ExchangeSettings
    from harness.recording import load_timeline
    from harness.transports.live import LiveExchange

    timeline = load_timeline([str(ROOT / "recordings" / "btcusdt.parquet")])
    with LiveExchange(timeline, settings=ExchangeSettings(speed=20.0), tls=True) as live:
        port = int(str(live.urls["wss"]).rpartition(":")[2])
        real = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: real)
        with recorded(tmp_path / "made.parquet", cafile=str(live.cafile)) as cafile:
            context = ssl.create_default_context(cafile=cafile)
            async with websockets.connect(
                "wss://stream.binance.com:9443/ws/btcusdt@aggTrade", ssl=context, open_timeout=20
            ) as ws:
                got = str(await ws.recv()).encode()
    frames = open_recording(tmp_path / "made.parquet").frames()
    assert next(frame.data for frame in frames if frame.kind == "text") == got


@pytest.mark.live
def test_an_exchange_that_cannot_be_reached_leaves_nothing_and_is_told(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RecordingError, match=r"nothing to record, since .*cannot be resolved"):  # noqa: SIM117
        with recorded(tmp_path / "made.parquet"), socket.socket() as sock:
            sock.settimeout(20)
            address = socket.getaddrinfo("stream.binance.com", 9443)[0][4]
            sock.connect(address)
            sock.sendall(b"GET /ws HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
def test_a_test_that_never_connects_records_nothing_and_says_so(tmp_path):
    place = tmp_path / "made.parquet"
    with pytest.raises(RecordingError, match="opened no connection"), recorded(place):
        pass
    assert not place.exists()


class TestBlockedNetwork:
    def test_other_names_and_addresses_raise(self):
        with blocked():
            with pytest.raises(socket.gaierror, match="blocked"):
                socket.getaddrinfo("stream.binance.com", 9443)
            with pytest.raises(ConnectionRefusedError, match="blocked"), socket.socket() as sock:
                sock.connect(("192.0.2.1", 80))

    def test_this_machine_stays_within_reach_and_all_is_undone(self):
        before = socket.getaddrinfo
        with blocked(), socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(("localhost", server.getsockname()[1])).close()
        assert socket.getaddrinfo is before

    def test_the_option_holds_for_every_test(self, pytester):
        pytester.makepyfile("""
            import socket, pytest
            def test_it():
                with pytest.raises(socket.gaierror):
                    socket.getaddrinfo("example.org", 80)
        """)
        result = pytester.runpytest_subprocess(
            "-q", "-p", "no:cacheprovider", "--harness-block-network", "-W", "ignore"
        )
        result.assert_outcomes(passed=1)
