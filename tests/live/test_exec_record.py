"""`harness exec --record`: an unmodified program, the exchange that it names, and the tape of what it really got."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from harness.cli import main
from harness.exchange.settings import ExchangeSettings
from harness.faults.plan import Plan, parse_fault
from harness.recording import load_timeline, open_recording
from harness.transports.live import LiveExchange
from tests.conftest import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow]

PROGRAM = """
import asyncio, sys, websockets

async def read():
    async with websockets.connect("wss://stream.binance.com:9443/ws/btcusdt@aggTrade") as ws:
        async for message in ws:
            sys.stdout.write(message + chr(10))
            sys.stdout.flush()

try:
    asyncio.run(asyncio.wait_for(read(), 3))
except TimeoutError:
    pass
except websockets.ConnectionClosedError:
    sys.exit(7)
"""


NODE = """
const tls = require('tls');
const socket = tls.connect({ host: 'stream.binance.com', port: 9443, servername: 'stream.binance.com' }, () => {
  socket.write('GET /ws/btcusdt@aggTrade HTTP/1.1\\r\\nHost: stream.binance.com:9443\\r\\nUpgrade: websocket\\r\\n'
    + 'Connection: Upgrade\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n'
    + 'Sec-WebSocket-Version: 13\\r\\n\\r\\n');
});
socket.on('data', () => {});
setTimeout(() => process.exit(5), 2500);
"""


def record(live, out, *program):
    upstream = str(live.urls["wss"]).removeprefix("wss://")
    options = ["--record", "--out", str(out), "--upstream", upstream, "--cafile", str(live.cafile)]
    command = [sys.executable, "-m", "harness", "exec", *options, "--", *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_a_node_program_is_recorded_likewise(tmp_path):
    (tmp_path / "app.js").write_text(NODE, encoding="utf-8")
    timeline = load_timeline([ROOT / "recordings" / "btcusdt.parquet"])
    with LiveExchange(timeline, Plan(), settings=ExchangeSettings(speed=20.0), tls=True) as live:
        done = record(live, tmp_path / "out", "node", str(tmp_path / "app.js"))
    assert done.returncode == 5, done.stderr
    (path,) = (tmp_path / "out").glob("*.parquet")
    got = [frame.data for frame in open_recording(path).frames() if frame.kind == "text"]
    assert len(got) > 10
    assert got == list(timeline.payloads(0, len(got)))


@pytest.mark.parametrize(
    ("fault", "code", "got"), [("ws.close:code=1001@frame=100", 0, 100), ("tcp.fin_no_close@frame=60", 7, 60)]
)
def test_the_tape_holds_what_the_program_got_and_how_it_ended(tmp_path, fault, code, got):
    (tmp_path / "app.py").write_text(PROGRAM, encoding="utf-8")
    timeline = load_timeline([ROOT / "recordings" / "btcusdt.parquet"])
    plan = Plan((parse_fault(fault),))
    with LiveExchange(timeline, plan, settings=ExchangeSettings(speed=20.0), tls=True) as live:
        done = record(live, tmp_path / "out", sys.executable, str(tmp_path / "app.py"))
    assert done.returncode == code, done.stderr
    said = [text.encode() for text in done.stdout.splitlines()]
    assert said == list(timeline.payloads(0, got))
    (path,) = (tmp_path / "out").glob("*.parquet")
    frames = list(open_recording(path).frames())
    assert [frame.data for frame in frames if frame.kind == "text"] == said
    kinds = [frame.kind for frame in frames if frame.direction == "received"]
    assert ("close" if code == 0 else "lost") in kinds


@pytest.mark.parametrize("upstream", ["nowhere", "host:", ":1", "host:0", "host:99999"])
def test_an_upstream_that_is_none_is_one_sentence(tmp_path, upstream, capsys):
    assert main(["exec", "--record", "--out", str(tmp_path), "--upstream", upstream, "--", "true"]) == 2
    assert "expected HOST:PORT" in capsys.readouterr().err
