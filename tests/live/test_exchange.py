"""The exchange on real sockets: ws, wss and REST, TLS in every manner, hostile clients, clean endings."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import ssl
import struct
import threading
import time
from contextlib import closing
from urllib.request import ProxyHandler, build_opener

import pytest
import websockets

from harness.actions import Dial, Link, Manners, Tls
from harness.errors import UsageError
from harness.exchange import MAX, ExchangeSettings, wire
from harness.faults.plan import Plan, parse_fault
from harness.transports.live import LiveExchange
from tests.harness.exchange.talk import MS, S, make_tape

pytestmark = [pytest.mark.live, pytest.mark.timeout(60)]

BTC, ETH = "btcusdt@aggTrade", "ethusdt@aggTrade"


def serving(tape=None, plan=None, *, tls=False, manners=None, **settings):
    settings = {"grace_ns": 0, "speed": MAX, "connect_limit": 0, **settings}
    live = LiveExchange(tape or make_tape(500, step_ns=MS), plan, settings=ExchangeSettings(**settings), tls=tls)
    if manners is not None:
        live.exchange.manners = lambda number: manners if number > 0 else Manners()
    return live


def connect(live, target, *, secure=False, **options):
    options = {"compression": None, "proxy": None, **options}
    if int(websockets.__version__.split(".")[0]) < 15:
        options.pop("proxy")
    context = ssl.create_default_context(cafile=live.cafile) if secure else None
    return websockets.connect(live.urls["wss" if secure else "ws"] + target, ssl=context, **options)


def raw_socket(live, *, secure=False):
    port = int(live.urls["wss" if secure else "ws"].rpartition(":")[2])
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(10)
    return sock


def upgrade_request(target=f"/ws/{BTC}"):
    return (
        f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked(opcode, payload):
    head = bytes((0x80 | opcode, 0x80 | len(payload))) if len(payload) < 126 else None
    if head is None:
        head = bytes((0x80 | opcode, 0xFE)) + len(payload).to_bytes(2, "big")
    return head + bytes(4) + payload


def read_until(sock, marker):
    data = b""
    while marker not in data:
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def entries(live, name):
    return [entry for entry in live.ledger if type(entry).__name__ == name]


async def wait_for(condition):
    while not condition():  # noqa: ASYNC110 - the other side is a thread
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("secure", [False, True])
async def test_every_frame_arrives_byte_for_byte(secure, compression):
    tape = make_tape(2000, step_ns=MS, streams=(BTC, ETH))
    with serving(tape, tls=secure) as live:
        async with connect(live, f"/ws/{BTC}/{ETH}", secure=secure, compression=compression) as ws:
            assert [(await ws.recv()).encode() for _ in range(2000)] == tape.payloads(0, 2000)
        async with connect(live, f"/stream?streams={BTC}", secure=secure) as ws:
            await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 1}))
            assert json.loads(await ws.recv()) == {"result": [BTC], "id": 1}


@pytest.mark.parametrize("secure", [False, True])
def test_rest_is_on_the_same_origin(secure):
    with serving(tls=secure) as live:
        from urllib.request import HTTPSHandler

        context = ssl.create_default_context(cafile=live.cafile) if secure else None
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        base = live.urls["https" if secure else "http"]
        with opener.open(f"{base}/api/v3/ping", timeout=10) as answer:
            assert (answer.status, answer.read()) == (200, b"{}")
            assert answer.headers["x-mbx-used-weight-1m"] == "1"
    assert [(entry.connection, entry.secure) for entry in entries(live, "Opened")] == [(-1, secure)]


async def test_a_paced_frame_is_never_early():
    tape = make_tape(20, step_ns=20 * MS)
    with serving(tape, speed=1.0) as live:
        async with connect(live, f"/ws/{BTC}") as ws:
            for frame in range(20):
                await ws.recv()
                assert time.monotonic_ns() >= live.exchange.started_ns + int(tape.due_ns[frame])


@pytest.mark.parametrize("secure", [False, True])
async def test_a_reset_arrives_behind_the_last_byte_before_it(secure):
    """Read at the socket: a library may throw away what it had not read when the reset came."""
    tape = make_tape(500, step_ns=MS)
    with serving(tape, Plan((parse_fault("tcp.reset_peer@frame=250"),)), tls=secure) as live:
        sock = raw_socket(live, secure=secure)
        if secure:
            context = ssl.create_default_context(cafile=live.cafile)
            sock = context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
        data = b""
        # Some versions of Python's ssl call a reset an end of file in violation of protocol.
        with closing(sock), pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            sock.sendall(upgrade_request())
            while True:
                data += sock.recv(65536)
        sent = b"".join(wire.frame(wire.TEXT, payload) for payload in tape.payloads(0, 250))
        assert data.partition(b"\r\n\r\n")[2] == sent
        async with connect(live, f"/ws/{BTC}", secure=secure) as ws:
            assert [(await ws.recv()).encode() for _ in range(250)] == tape.payloads(250, 500)


def test_a_reset_is_a_reset_on_the_wire():
    with serving(plan=Plan((parse_fault("tcp.reset_peer@frame=1"),))) as live, closing(raw_socket(live)) as sock:
        sock.sendall(upgrade_request())
        with pytest.raises(ConnectionResetError):
            while sock.recv(65536):
                pass


def test_a_fin_is_a_fin_without_a_close_frame():
    tape = make_tape(10)
    with serving(tape, Plan((parse_fault("tcp.fin_no_close@frame=2"),))) as live, closing(raw_socket(live)) as sock:
        sock.sendall(upgrade_request())
        data = b""
        while piece := sock.recv(65536):
            data += piece
        assert data.endswith(tape.payload(1))


CERTIFICATES = [
    ("expired", "expired"), ("not_yet_valid", "not yet valid"), ("self_signed", "self-signed"),
    ("unknown_ca", "unable to get local issuer"), ("wrong_host", "Hostname mismatch|not valid for|IP address mismatch"),
    ("missing_intermediate", "unable to get local issuer"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "reason"), CERTIFICATES)
async def test_a_certificate_can_be_wrong_in_every_way(kind, reason):
    with serving(tls=True, manners=Manners(tls=Tls(certificate=kind))) as live:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            await connect(live, "/ws", secure=True)
        await wait_for(lambda: entries(live, "Refused"))
    assert entries(live, "Refused")[0].stage == "tls"


async def test_the_certificate_is_good_for_the_real_hosts():
    with serving(tls=True) as live:
        for name in (
            "stream.binance.com",
            "api.binance.com",
            "fstream.binance.com",
            "data-stream.binance.vision",
            "localhost",
        ):
            context = ssl.create_default_context(cafile=live.cafile)
            with closing(context.wrap_socket(raw_socket(live, secure=True), server_hostname=name)) as sock:
                assert sock.getpeercert()
        await wait_for(lambda: len(entries(live, "Closed")) == 5)
    assert [entry.server_name for entry in entries(live, "Secured")][:2] == ["stream.binance.com", "api.binance.com"]


HANDSHAKES = [
    ("abort", (ssl.SSLEOFError, ConnectionResetError)), ("reset", (ConnectionResetError, ssl.SSLEOFError)),
    ("plaintext", (ssl.SSLError,)), ("alert", (ssl.SSLError,)),
]  # fmt: skip


@pytest.mark.parametrize(("how", "errors"), HANDSHAKES)
def test_a_tls_handshake_can_fail_in_every_way(how, errors):
    with serving(tls=True, manners=Manners(tls=Tls(handshake=how, alert=70))) as live:
        context = ssl.create_default_context(cafile=live.cafile)
        with pytest.raises(errors):
            context.wrap_socket(raw_socket(live, secure=True), server_hostname="localhost")


def test_a_tls_handshake_can_stall():
    with serving(tls=True, manners=Manners(tls=Tls(handshake="stall"))) as live:
        sock = raw_socket(live, secure=True)
        sock.settimeout(0.2)
        with closing(sock), pytest.raises(TimeoutError):
            ssl.create_default_context(cafile=live.cafile).wrap_socket(sock, server_hostname="localhost")


def test_the_tls_version_can_be_old_or_a_client_certificate_be_wanted():
    with serving(tls=True, manners=Manners(tls=Tls(version_max="1.2"))) as live:
        context = ssl.create_default_context(cafile=live.cafile)
        with closing(context.wrap_socket(raw_socket(live, secure=True), server_hostname="localhost")) as sock:
            assert sock.version() == "TLSv1.2"
    with serving(tls=True, manners=Manners(tls=Tls(version_max="1.1"))) as live:
        context = ssl.create_default_context(cafile=live.cafile)
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(raw_socket(live, secure=True), server_hostname="localhost")
    with serving(tls=True, manners=Manners(tls=Tls(client_certificate=True))) as live:
        context = ssl.create_default_context(cafile=live.cafile)
        sock = context.wrap_socket(raw_socket(live, secure=True), server_hostname="localhost")
        with closing(sock), pytest.raises((ssl.SSLError, ConnectionResetError)):
            sock.recv(1)


@pytest.mark.parametrize("farewell", ["notify", "ragged"])
def test_tls_ends_with_close_notify_or_ragged(farewell):
    plan = Plan((parse_fault("tcp.fin_no_close@frame=1"),))
    with serving(plan=plan, tls=True) as live:
        inner = live.exchange.manners
        live.exchange.manners = lambda n: inner(n).__class__(tls=Tls(farewell=farewell))
        context = ssl.create_default_context(cafile=live.cafile)
        sock = context.wrap_socket(
            raw_socket(live, secure=True), server_hostname="localhost", suppress_ragged_eofs=False
        )
        with closing(sock):
            sock.sendall(upgrade_request())
            try:
                while sock.recv(65536):
                    pass
                ended = "notify"
            except ssl.SSLEOFError:
                ended = "ragged"
        assert ended == farewell


def test_a_client_that_says_close_notify_while_its_upgrade_stalls_has_left():
    with serving(plan=Plan((parse_fault("http.stall"),)), tls=True) as live:
        context = ssl.create_default_context(cafile=live.cafile)
        sock = context.wrap_socket(raw_socket(live, secure=True), server_hostname="localhost")
        sock.sendall(upgrade_request())
        closing_sock = sock.unwrap()  # waits for the exchange's own close_notify
        with closing(closing_sock):
            assert closing_sock.recv(1) == b""


@pytest.mark.parametrize(
    ("accept", "error"), [("reset", ConnectionResetError), ("close", EOFError), ("hang", TimeoutError)]
)
def test_what_is_accepted_may_end_or_hang_at_once(accept, error):
    with serving(manners=Manners(dial=Dial(accept=accept))) as live:
        sock = raw_socket(live)
        sock.settimeout(0.3 if accept == "hang" else 10)
        with closing(sock), pytest.raises(error):
            if not sock.recv(100):
                raise EOFError


@pytest.mark.parametrize(
    ("dial", "outcome"),
    [
        (Dial(), "ok"),
        (Dial(resolve="fail"), "fail"),
        (Dial(accept="refuse"), "refuse"),
        (Dial(accept="blackhole"), "blackhole"),
    ],
)
def test_the_gate_leads_to_the_exchange_or_to_nowhere(dial, outcome):
    with serving(tls=True, manners=Manners(dial=dial)) as live:
        try:
            with closing(socket.create_connection(live.gate("stream.binance.com", 9443), timeout=0.3)):
                happened = "ok"
        except socket.gaierror:
            happened = "fail"
        except ConnectionRefusedError:
            happened = "refuse"
        except TimeoutError:
            happened = "blackhole"
        assert happened == outcome
        assert live.gate("api.binance.com", 443)[1] != live.gate("api.binance.com", 80)[1]
    assert entries(live, "Attempted")[0].outcome == outcome


def test_a_dial_that_came_to_nothing_counts():
    plan = Plan((parse_fault("tcp.refuse#connection=1-2"),))
    with serving(plan=plan, tls=True) as live:
        ports = [live.gate("stream.binance.com", 443)[1] for _ in range(3)]
        assert ports[0] == ports[1] != ports[2] == int(live.urls["wss"].rpartition(":")[2])


async def test_client_pings_are_answered_while_the_feed_is_silent():
    plan = Plan((parse_fault("timing.silence@frame=5"),))
    with serving(make_tape(200, step_ns=MS), plan, speed=1.0) as live:
        async with connect(live, f"/ws/{BTC}") as ws:
            for _ in range(5):
                await ws.recv()
            await asyncio.wait_for(await ws.ping(), 5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.recv(), 0.4)
            await asyncio.wait_for(await ws.ping(), 5)


async def test_a_dead_link_is_dead_both_ways_and_the_sockets_stay():
    with serving(manners=Manners(link=Link(mute_down=True, mute_up=True)), speed=1.0) as live:
        with closing(raw_socket(live)) as sock:
            sock.sendall(upgrade_request())
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        assert not entries(live, "Upgraded")


async def test_a_server_that_does_not_read_blocks_the_clients_writes():
    with serving(manners=Manners(link=Link(reading=False))) as live, closing(raw_socket(live)) as sock:
        sock.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(200):
                sock.sendall(b"x" * 1_000_000)


# --- Hostile clients -----------------------------------------------------------------------------


async def others_are_unaffected(live, tape):
    async with connect(live, "/ws") as ws:
        await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 1}))
        assert json.loads(await asyncio.wait_for(ws.recv(), 5)) == {"result": [], "id": 1}


HOSTILE = {
    "a frame of a terabyte": (
        upgrade_request("/ws") + b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4),
        b"\x03\xf1",
    ),
    "an unmasked frame": (upgrade_request("/ws") + b"\x81\x01a", b"\x03\xea"),
    "garbage behind the 101": (upgrade_request("/ws") + os.urandom(0) + b"\xff" * 1000, b"\x03\xea"),
    "garbage": (b"\x00\x01\x02garbage\r\n\r\n", b"400"),
    "a TLS hello on the plain port": (bytes.fromhex("16030100") + b"\x50" * 80 + b"\r\n\r\n", b"400"),
    "a head without end": (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b"431"),
    "a flood of SUBSCRIBE": (
        upgrade_request("/ws") + masked(1, b'{"method":"SUBSCRIBE","params":["a@b"],"id":1}') * 5000,
        b"\x03\xf0Too many requests",
    ),
    "a flood of pings": (upgrade_request("/ws") + masked(9, b"x" * 125) * 5000, b"\x03\xf0Too many requests"),
    "a huge body": (
        b"POST /harness/faults HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000,
        b"413",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", HOSTILE)
async def test_a_hostile_client_gets_a_clear_end_and_nobody_else_notices(how):
    data, ending = HOSTILE[how]
    tape = make_tape(500, step_ns=MS)
    with serving(tape, close_wait_ns=S // 4) as live:
        with closing(raw_socket(live)) as sock:
            answer = b""
            try:
                sock.sendall(data)
                while piece := sock.recv(65536):
                    answer += piece
            except (ConnectionResetError, BrokenPipeError):
                pass  # it was told, and went on sending
            assert ending in answer
        await others_are_unaffected(live, tape)
        await wait_for(lambda: not live.call(lambda: len(live._clients)))


async def test_a_slow_handshake_is_cut_off():
    with serving(handshake_ns=S // 4, tls=True) as live:
        for secure in (False, True):
            with closing(raw_socket(live, secure=secure)) as sock:
                sock.sendall(b"G")
                assert sock.recv(100) == b""
        await others_are_unaffected(live, None)
    assert [entry.how for entry in entries(live, "Closed")][:2] == ["deadline", "deadline"]


@pytest.mark.slow
async def test_a_client_that_never_reads_costs_no_memory():
    tape = make_tape(40_000, step_ns=1000)
    with serving(tape) as live, closing(raw_socket(live)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(upgrade_request())
        await others_are_unaffected(live, tape)
        await asyncio.sleep(0.3)
        held = live.call(lambda: sum(client.out_bytes for client in live._clients.values()))
        assert held < 4 << 20
        await others_are_unaffected(live, tape)


@pytest.mark.slow
async def test_a_thousand_idle_connections_are_no_burden():
    with serving(handshake_ns=60 * S) as live:
        socks = [raw_socket(live) for _ in range(1000)]
        try:
            for sock in socks[:500]:
                sock.sendall(upgrade_request("/ws"))
            await others_are_unaffected(live, None)
            assert live.call(lambda: len(live._clients)) >= 1000
        finally:
            for sock in socks:
                sock.close()
        await wait_for(lambda: not live.call(lambda: len(live._clients)))


async def test_more_connections_than_allowed_are_reset():
    with serving(connections_max=2) as live:
        socks = [raw_socket(live) for _ in range(3)]
        with pytest.raises(ConnectionResetError):
            socks[2].recv(1)
        for sock in socks:
            sock.close()


async def test_a_half_open_peer_is_let_go_after_the_pong_deadline():
    settings = {"ping_interval_ns": 50 * MS, "pong_deadline_ns": 100 * MS, "close_wait_ns": 100 * MS}
    with serving(**settings) as live, closing(raw_socket(live)) as sock:
        sock.sendall(upgrade_request("/ws"))
        await wait_for(lambda: not live.call(lambda: len(live._clients)) and entries(live, "Closed"))
        assert entries(live, "Closed")[0].reason == "Pong timeout"


# --- Beginning and end -----------------------------------------------------------------------------


async def test_closing_says_goodbye_and_leaves_nothing_behind():
    before = threading.active_count()
    live = serving(tls=True, speed=1.0)
    with live:
        folder = live.cafile.parent
        assert folder.stat().st_mode & 0o077 == 0
        assert [path.name for path in folder.iterdir()] == ["ca.pem"], "no key stays on the disk"
        ws = await connect(live, f"/ws/{BTC}")
    with pytest.raises(websockets.ConnectionClosed) as ended:
        while True:
            await ws.recv()
    assert ended.value.rcvd.code == 1001
    assert threading.active_count() == before
    assert not folder.exists()
    live.close()


def test_a_port_in_use_is_one_sentence():
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: address already in use"):
            LiveExchange(make_tape(1), port=port).start()


def test_a_client_that_resets_in_the_middle_of_everything_harms_nobody():
    with serving(make_tape(5000, step_ns=1000), tls=True) as live:
        for number in range(60):
            sock = raw_socket(live, secure=number % 2 == 0)
            sock.sendall(upgrade_request()[: number * 5])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        asyncio.run(others_are_unaffected(live, None))


@pytest.mark.slow
def test_random_plans_leave_no_socket_and_no_connection_behind():
    from harness.faults import catalogue
    from harness.seeds import derive

    rng = derive(7, "soak")
    names = [name for name in sorted(catalogue()) if not name.startswith("host.")]
    for round_ in range(12):
        plan = Plan(tuple(parse_fault(name) for name in rng.sample(names, 3)), seed=round_)
        with serving(make_tape(300, step_ns=MS), plan, tls=True) as live:
            for number in range(8):
                sock = raw_socket(live, secure=False)
                sock.settimeout(0.05)
                try:
                    sock.sendall(upgrade_request())
                    while sock.recv(65536):
                        pass
                except OSError:
                    pass
                sock.close()
                del number
            live.exchange.plan = None
            asyncio.run(others_are_unaffected(live, None))
    gc.collect()
