"""Unmodified clients on the simulated network."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import aiohttp
import httpx
import pytest
import websockets

from harness.faults.plan import Plan, parse_fault
from harness.ledger import Closed, Opened, Secured, Sent, Upgraded
from tests.harness.exchange.talk import make_tape

URL = "wss://stream.binance.com:9443/ws/btcusdt@aggTrade"
PLAIN = "ws://stream.binance.com:80/ws/btcusdt@aggTrade"


def plan(*faults):
    return Plan(tuple(map(parse_fault, faults)), 0)


async def receive(url, count, **options):
    async with websockets.connect(url, **options) as connection:
        return [(await connection.recv()).encode() for _ in range(count)]


@pytest.mark.parametrize("url", [URL, PLAIN])
def test_websockets_receives_every_frame_at_its_time(stage, url):
    tape = make_tape(50)
    exchange = stage(tape)
    before = time.monotonic()
    assert asyncio.run(receive(url, 50)) == list(tape.payloads(0, 50))
    assert time.monotonic() - before == pytest.approx(0.5 + 49 * 0.1, abs=0.01)
    kinds = [type(entry) for entry in exchange.ledger]
    assert (Secured in kinds) == (url is URL)
    assert [kinds.count(kind) for kind in (Opened, Upgraded, Sent, Closed)] == [1, 1, 50, 1]
    exchange.raise_bugs()


def test_aiohttp_receives_every_frame_and_asks_rest_over_the_same_names(stage):
    tape = make_tape(20)
    exchange = stage(tape)

    async def main():
        async with aiohttp.ClientSession() as session, session.ws_connect(URL) as connection:
            got = [(await connection.receive_str()).encode() for _ in range(20)]
            answer = await session.get("https://api.binance.com/api/v3/aggTrades?symbol=BTCUSDT&fromId=1000&limit=5")
            return got, [trade["a"] for trade in await answer.json()]

    got, asked = asyncio.run(main())
    assert got == list(tape.payloads(0, 20))
    assert asked == [1000, 1001, 1002, 1003, 1004]
    exchange.raise_bugs()


def test_httpx_asks_rest(stage):
    stage()

    async def main():
        async with httpx.AsyncClient() as client:
            return (await client.get("https://api.binance.com/api/v3/ping")).status_code

    assert asyncio.run(main()) == 200


def test_streams_over_tls_upgraded_late(stage):
    """`start_tls` on a plain stream."""
    stage()

    async def main():
        reader, writer = await asyncio.open_connection("api.binance.com", 443)
        await writer.start_tls(ssl.create_default_context(), server_hostname="api.binance.com")
        writer.write(b"GET /api/v3/ping HTTP/1.1\r\nHost: api.binance.com\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    assert asyncio.run(main()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("fault", "error", "seconds"),
    [
        ("dns.fail", socket.gaierror, 0),
        ("tcp.refuse", ConnectionRefusedError, 0),
        ("tcp.connect_blackhole", TimeoutError, 10),
        ("tls.unknown_ca", ssl.SSLCertVerificationError, 0),
        ("tls.expired", ssl.SSLCertVerificationError, 0),
        ("tls.wrong_host", ssl.SSLCertVerificationError, 0),
        ("tls.handshake_stall", TimeoutError, 10),
        ("http.status:code=451", websockets.InvalidHandshake, 0),
        ("http.stall", TimeoutError, 10),
    ],
)
def test_what_fails_before_the_data_fails_as_it_does_on_a_real_network(stage, fault, error, seconds):
    exchange = stage(make_tape(), plan(fault))
    before = time.monotonic()
    with pytest.raises(error):
        asyncio.run(receive(URL, 1, open_timeout=10))
    # TLS and the closing handshake may take their own time-outs on top.
    assert seconds <= time.monotonic() - before < seconds + 31
    exchange.raise_bugs()


def test_a_reset_reaches_the_client_behind_the_data_before_it(stage):
    exchange = stage(make_tape(10), plan("tcp.reset_peer@frame=5"))

    async def main():
        got = 0
        async with websockets.connect(URL) as connection:
            with pytest.raises(websockets.ConnectionClosedError):
                while True:
                    await connection.recv()
                    got += 1
        return got

    assert asyncio.run(main()) == 5
    exchange.raise_bugs()


def test_a_black_hole_is_given_up_by_keepalive(stage):
    """websockets waits 20 s for the next ping and 20 s for its pong; the data stops at 0.9 s."""
    stage(make_tape(1000), plan("tcp.timeout@frame=5"))

    async def main():
        before = time.monotonic()
        async with websockets.connect(URL) as connection:
            with pytest.raises(websockets.ConnectionClosedError, match="keepalive ping timeout"):
                while True:
                    await connection.recv()
        return time.monotonic() - before

    assert 40 <= asyncio.run(main()) <= 61


def test_a_client_that_does_not_read_holds_the_exchange_back(stage):
    """Buffers are finite: what does not fit is not sent."""
    tape = make_tape(40_000, step_ns=1)
    exchange = stage(tape)

    async def main():
        async with websockets.connect(PLAIN, compression=None, ping_interval=None, max_queue=1) as connection:
            await asyncio.sleep(15)  # less than the exchange's ping takes: websockets 13 reads none while it waits
            sent = max(entry.last for entry in exchange.ledger if isinstance(entry, Sent))
            assert sent < 40_000
            got = [await connection.recv() for _ in range(40_000)]
            assert got[-1].encode() == tape.payload(39_999)

    asyncio.run(main())
    exchange.raise_bugs()
