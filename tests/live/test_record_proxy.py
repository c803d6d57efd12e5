"""The recording proxy between a program and our exchange: bytes unchanged, endings as they were, all of it on tape."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from harness.actions import Tls
from harness.exchange import ExchangeSettings
from harness.faults.plan import Plan, parse_fault
from harness.frames import Frame, split_wrapped
from harness.recorder.proxy import RecordingProxy
from harness.recording import open_recording
from harness.transports.authority import Authority
from harness.transports.live import LiveExchange
from tests.live.test_record_replay import FAST, make_tape, trade

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(60)]

HOST, PORT = "stream.binance.com", 9443
MS = 1_000_000


def recorded(proxy: RecordingProxy) -> list[Frame]:
    return [f for path in proxy.paths for f in open_recording(path).frames()]


# Before 15 there is no such option, and no proxy of the environment is asked.
DIRECT: dict[str, Any] = {"proxy": None} if int(websockets.__version__.partition(".")[0]) >= 15 else {}


def port_of(url: str | None) -> int:
    assert url is not None
    return int(url.rpartition(":")[2])


async def listen(proxy: RecordingProxy, *, context: ssl.SSLContext | None = None, **options: object) -> list[bytes]:
    """What a program gets that hard-codes the real host, redirected to the proxy."""
    address, port = await asyncio.to_thread(proxy.gate, HOST, PORT)
    scheme = "wss" if context else "ws"
    got: list[bytes] = []
    more = {"server_hostname": HOST} if context else {}
    try:
        uri = f"{scheme}://{HOST}:{PORT}/ws/btcusdt@aggTrade"
        async with connect(uri, host=address, port=port, ssl=context, **DIRECT, **more, **options) as ws:
            async for message in ws:
                got.append(message.encode())  # noqa: PERF401 - what came before an exception counts
    except ConnectionClosed as closed:
        got.append(repr(closed.rcvd).encode())
    return got


@pytest.mark.parametrize("deflate", [False, True])
async def test_a_program_gets_what_the_exchange_sent_and_so_does_the_recording(tmp_path: Path, deflate: bool) -> None:
    plan = Plan((parse_fault("ws.close:code=1001,reason=going away@frame=300"),), 1)
    with Authority() as authority, LiveExchange(make_tape(400), plan, settings=FAST, tls=True) as exchange:
        context = authority.context(Tls())
        upstream = ("127.0.0.1", port_of(exchange.urls["wss"]))
        proxy = RecordingProxy(
            tmp_path, context=context, cafile=exchange.urls["cafile"], upstream=lambda *_: upstream, interval_ns=20 * MS
        )
        with proxy:
            trusting = ssl.create_default_context(cafile=str(authority.cafile))
            got = await listen(proxy, context=trusting, compression="deflate" if deflate else None)
    assert got == [trade(n) for n in range(300)] + got[300:]
    frames = recorded(proxy)
    texts = [f.data for f in frames if f.kind == "text" and f.direction == "received"]
    assert texts == [trade(n) for n in range(300)]
    assert [f.detail for f in frames if f.kind == "open"] == [f"wss://{HOST}:{PORT}/ws/btcusdt@aggTrade"]
    closes = [(f.direction, f.close_code) for f in frames if f.kind == "close"]
    assert closes == [("received", 1001), ("sent", 1001)]
    assert not [f for f in frames if f.kind == "lost"]


class Raw:
    """A program that speaks bytes, to see every one of them and the very end."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=20)
        self.sock.sendall(
            f"GET /ws/btcusdt@aggTrade HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def read_to_the_end(self) -> tuple[bytes, str]:
        got = b""
        try:
            while part := self.sock.recv(65536):
                got += part
        except ConnectionResetError:
            return got, "reset"
        finally:
            self.sock.close()
        return got, "end"


@pytest.mark.parametrize(
    ("fault", "ending", "row"),
    [
        ("tcp.reset_peer@frame=200", "reset", "reset by peer"),
        ("tcp.fin_no_close@frame=200", "end", "ended without a close frame"),
    ],
)
async def test_endings_reach_the_program_as_they_were_and_are_on_the_tape(
    tmp_path: Path, fault: str, ending: str, row: str
) -> None:
    """The same program, with and without the proxy, gets the same bytes and the same end."""
    outcomes = []
    for proxied in (False, True):
        with LiveExchange(make_tape(300), Plan((parse_fault(fault),), 1), settings=FAST) as exchange:
            target = ("127.0.0.1", port_of(exchange.urls["ws"]))
            if not proxied:
                outcomes.append(await asyncio.to_thread(Raw(target).read_to_the_end))
                continue
            with RecordingProxy(tmp_path, context=None, upstream=lambda *_, t=target: t, interval_ns=20 * MS) as proxy:
                gate = await asyncio.to_thread(proxy.gate, HOST, PORT)
                outcomes.append(await asyncio.to_thread(Raw(gate).read_to_the_end))
    assert outcomes[0] == outcomes[1]
    assert outcomes[1][1] == ending
    frames = recorded(proxy)
    assert [f.data for f in frames if f.kind == "text"] == [trade(n) for n in range(200)]
    assert [(f.direction, f.detail) for f in frames if f.kind == "lost"] == [("received", row)]


async def test_a_recorded_reset_replays_as_a_reset(tmp_path: Path) -> None:
    fault = Plan((parse_fault("tcp.reset_peer@frame=200"),), 1)
    with LiveExchange(make_tape(300), fault, settings=FAST) as exchange:
        target = ("127.0.0.1", port_of(exchange.urls["ws"]))
        with RecordingProxy(tmp_path, context=None, upstream=lambda *_: target, interval_ns=20 * MS) as proxy:
            gate = await asyncio.to_thread(proxy.gate, HOST, PORT)
            first = await asyncio.to_thread(Raw(gate).read_to_the_end)
            again = Raw(gate)
            await asyncio.to_thread(again.sock.recv, 4096)
            await asyncio.sleep(0.3)
            again.sock.close()
    timeline = open_recording(proxy.paths[0]).timeline()
    settings = ExchangeSettings(grace_ns=50 * MS, marks=True)
    with LiveExchange(timeline, Plan(()), settings=settings) as exchange:
        replayed = await asyncio.to_thread(Raw(("127.0.0.1", port_of(exchange.urls["ws"]))).read_to_the_end)
    assert replayed[1] == first[1] == "reset"
    assert replayed[0].partition(b"\r\n\r\n")[2] == first[0].partition(b"\r\n\r\n")[2]


async def test_what_the_program_sends_is_on_the_tape_too(tmp_path: Path) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(json.dumps({"result": None, "id": json.loads(message)["id"]}))

    async with serve(answer, "127.0.0.1", 0) as server:
        target = ("127.0.0.1", server.sockets[0].getsockname()[1])
        with RecordingProxy(tmp_path / "one.parquet", context=None, upstream=lambda *_: target) as proxy:
            address, port = await asyncio.to_thread(proxy.gate, HOST, PORT)
            async with connect(f"ws://{HOST}:{PORT}/stream", host=address, port=port, **DIRECT) as ws:
                await ws.send('{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":1}')
                await ws.recv()
                await (await ws.ping(b"are you there"))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(proxy.stop)
    assert proxy.paths == [tmp_path / "one.parquet"]
    told = [(f.direction, f.kind, f.data) for f in recorded(proxy)]
    assert told[1:5] == [
        ("sent", "text", b'{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":1}'),
        ("received", "text", b'{"result": null, "id": 1}'),
        ("sent", "ping", b"are you there"),
        ("received", "pong", b"are you there"),
    ]
    assert [(d, k) for d, k, _ in told if k == "close"] == [("sent", "close"), ("received", "close")]


async def test_an_exchange_that_is_not_there_resets_the_program_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = taken.getsockname()
    with RecordingProxy(tmp_path, context=None, upstream=lambda *_: nobody) as proxy:
        gate = await asyncio.to_thread(proxy.gate, HOST, PORT)
        got = await asyncio.to_thread(Raw(gate).read_to_the_end)
    assert got == (b"", "reset")
    (row,) = recorded(proxy)
    assert row.kind == "lost"
    assert f"{HOST}:{PORT} refuses connections" in row.detail
    assert "The program cannot be connected" in caplog.text


async def test_a_refused_upgrade_passes_as_it_is_and_is_told(tmp_path: Path) -> None:
    plan = Plan((parse_fault("http.status:code=451"),), 1)
    with LiveExchange(make_tape(10), plan, settings=FAST) as exchange:
        target = ("127.0.0.1", port_of(exchange.urls["ws"]))
        direct, _ = await asyncio.to_thread(Raw(target).read_to_the_end)
        with RecordingProxy(tmp_path, context=None, upstream=lambda *_: target) as proxy:
            gate = await asyncio.to_thread(proxy.gate, HOST, PORT)
            got, _ = await asyncio.to_thread(Raw(gate).read_to_the_end)
    assert got == direct
    assert got.startswith(b"HTTP/1.1 451 ")
    (row,) = recorded(proxy)
    assert row.detail == f"ws://{HOST}:{PORT}/ws/btcusdt@aggTrade: the upgrade was answered with HTTP 451"


async def test_rest_passes_and_leaves_no_trace(tmp_path: Path) -> None:
    with LiveExchange(make_tape(10), Plan(()), settings=FAST) as exchange:
        target = ("127.0.0.1", port_of(exchange.urls["http"]))
        with RecordingProxy(tmp_path, context=None, upstream=lambda *_: target) as proxy:
            address, port = await asyncio.to_thread(proxy.gate, "api.binance.com", 80)
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET /api/v3/ping HTTP/1.1\r\nHost: api.binance.com\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"{}")
    assert proxy.paths == []


async def test_a_program_that_resets_is_told_and_the_exchange_feels_it(tmp_path: Path) -> None:
    felt = asyncio.Event()

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello")
        try:
            await reader.read()
        except ConnectionResetError:
            felt.set()
        writer.close()

    server = await asyncio.start_server(feed, "127.0.0.1", 0)
    async with server:
        target = server.sockets[0].getsockname()
        with RecordingProxy(tmp_path, context=None, upstream=lambda *_: target) as proxy:
            gate = await asyncio.to_thread(proxy.gate, HOST, PORT)
            program = await asyncio.to_thread(Raw, gate)
            while not (await asyncio.to_thread(program.sock.recv, 4096)).endswith(b"hello"):
                pass
            program.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            program.sock.close()
            await asyncio.wait_for(felt.wait(), 10)
            await asyncio.to_thread(proxy.stop)
    frames = recorded(proxy)
    assert [(f.direction, f.kind) for f in frames] == [("received", "open"), ("received", "text"), ("sent", "lost")]
    assert frames[-1].detail == "the program: reset by peer"
    assert split_wrapped(frames[1].data) == (None, b"hello")
