"""Name resolution and TCP on the wire: who accepts, who resets, and what the link does to bytes."""

from __future__ import annotations

import socket
import time

import pytest

from tests.harness.faults.tapes import tape, trade
from tests.live.faults.wire import (
    CLOSE,
    PATH,
    PING,
    QUIET_S,
    Client,
    entries,
    serving,
    shows,
    works,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

N = 5
HOST = ("stream.binance.com", 80)


def dial(live, timeout=5.0):
    """Connect as a redirected client does: the gate resolves, then a real connect."""
    return socket.create_connection(live.gate(*HOST), timeout=timeout)


# --- Names ------------------------------------------------------------------------------------------


@shows("dns.fail")
def test_the_name_does_not_resolve_until_the_outage_is_over():
    with serving("dns.fail:count=2") as live:
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                live.gate(*HOST)
        dial(live).close()
        assert [(e.outcome, e.host) for e in entries(live, "Attempted")] == [
            ("fail", HOST[0]), ("fail", HOST[0]), ("ok", HOST[0]),
        ]  # fmt: skip


@shows("dns.slow")
def test_the_name_resolves_late():
    with serving("dns.slow:delay=200ms") as live:
        began = time.monotonic()
        dial(live).close()
        assert time.monotonic() - began >= 0.2


@shows("dns.wrong")
def test_the_name_resolves_to_an_address_where_nobody_listens():
    with serving("dns.wrong") as live:
        with pytest.raises(ConnectionRefusedError):
            dial(live)
        assert [e.outcome for e in entries(live, "Attempted")] == ["wrong"]


# --- Connecting -------------------------------------------------------------------------------------


@shows("tcp.refuse")
def test_a_connection_is_refused():
    with serving("tcp.refuse#connection=1") as live:
        with pytest.raises(ConnectionRefusedError):
            dial(live)
        dial(live).close()
        assert works(live)


@shows("tcp.connect_blackhole")
def test_a_syn_is_never_answered():
    with serving("tcp.connect_blackhole#connection=1") as live:
        with pytest.raises(TimeoutError):
            dial(live, timeout=0.3)
        assert works(live)


@shows("tcp.accept_hang")
@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_opens_and_says_nothing(secure):
    with serving("tcp.accept_hang#connection=1", tls=secure) as live:
        with Client(live, upgrade=False, secure=False) if not secure else RawTls(live) as client:
            if not secure:
                client.ask()
            assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert works(live, secure=secure)


class RawTls(Client):
    """A client of the TLS port that speaks for itself."""

    def __init__(self, live):
        port = int(live.urls["wss"].rpartition(":")[2])
        self.sock, self.data, self.secure = socket.create_connection(("127.0.0.1", port)), b"", False
        self.sock.sendall(b"\x16\x03\x01\x00\x05hello")


@shows("tcp.accept_slow")
def test_the_first_byte_waits():
    with serving("tcp.accept_slow:delay=250ms") as live:
        began = time.monotonic()
        with Client(live) as client:
            assert client.status == 101
            assert time.monotonic() - began >= 0.25
            assert client.messages(30) == [trade(i) for i in range(30)]


@shows("tcp.accept_close", "tcp.accept_reset")
@pytest.mark.parametrize(("spec", "how"), [("tcp.accept_close", {"fin"}), ("tcp.accept_reset", {"reset"})])
def test_a_connection_ends_as_it_opens(spec, how):
    with serving(f"{spec}#connection=1") as live:
        try:
            with Client(live, upgrade=False) as client:
                found = client.rest()
        except ConnectionError:
            found = (b"", "reset")
        assert found[0] == b""
        assert found[1] in how
        assert works(live)


@shows("tcp.conn_limit")
def test_attempts_past_the_limit_are_hung_up_on():
    with serving("tcp.conn_limit:limit=2") as live:
        for _ in range(2):
            with Client(live) as client:
                assert client.status == 101
        with Client(live, upgrade=False) as client:
            assert client.rest() == (b"", "fin")


# --- Ends ---------------------------------------------------------------------------------------------


@shows("tcp.reset_peer", "tcp.fin_no_close")
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("spec", "hows"), [("tcp.reset_peer", ("reset", "reset")), ("tcp.fin_no_close", ("fin", "notify"))]
)
def test_the_connection_ends_behind_the_frame_without_a_close(spec, hows, secure):
    with serving(f"{spec}@frame={N}", tls=secure) as live:
        with Client(live, secure=secure) as client:
            got, how = client.all_messages()
            assert got == [trade(i) for i in range(N)]
            assert how == hows[secure]
            assert CLOSE not in [opcode for opcode, _ in client.control]
        (closed,) = entries(live, "Closed")
        assert (closed.fault, closed.by) == (0, "exchange")
        assert works(live, secure=secure)


@shows("tcp.reset_midframe", "tcp.fin_midframe")
@pytest.mark.parametrize(("spec", "how"), [("tcp.reset_midframe", "reset"), ("tcp.fin_midframe", "fin")])
def test_the_connection_ends_inside_the_frame(spec, how):
    with serving(f"{spec}@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        data, found = client.rest()
        assert found == how
        assert len(data) > 4
        assert int.from_bytes(data[2:4], "big") == len(trade(N - 1)), "the header promises the whole frame"
        assert trade(N - 1).startswith(data[4:])
        assert len(data) < 4 + len(trade(N - 1))


@shows("tcp.stall_midframe")
def test_the_connection_stalls_inside_the_frame():
    with serving(f"tcp.stall_midframe@frame={N}") as live, Client(live) as client:
        client.messages(N - 1)
        client.send(PING, b"there?")
        data, found = client.rest(timeout=QUIET_S)
        assert found == "quiet"
        assert trade(N - 1).startswith(data[4:])


# --- Black holes ----------------------------------------------------------------------------------------


@shows("tcp.timeout")
@pytest.mark.parametrize("secure", [False, True])
def test_half_open_both_ways_are_black_and_the_socket_stays(secure):
    with serving(f"tcp.timeout@frame={N}", tls=secure) as live:
        with Client(live, secure=secure) as client:
            assert client.all_messages() == ([trade(i) for i in range(N)], "quiet")
            client.send(PING, b"there?")
            assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert not [e for e in entries(live, "Beat") if e.what == "ping received"]
        assert works(live, secure=secure)


def test_half_open_for_a_while_comes_back():
    with serving(f"tcp.timeout:duration=150ms@frame={N}", speed=1.0) as live, Client(live) as client:
        assert client.messages(30) == [trade(i) for i in range(30)]
        gaps = [later - sooner for sooner, later in zip(client.arrivals, client.arrivals[1:], strict=False)]
    assert max(gaps) > 0.1
    assert gaps.index(max(gaps)) == N - 1


@shows("tcp.blackhole_down")
def test_the_client_hears_nothing_and_is_heard():
    with serving(f"tcp.blackhole_down@frame={N}") as live, Client(live) as client:
        assert client.all_messages() == ([trade(i) for i in range(N)], "quiet")
        client.send(PING, b"there?")
        assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert [e for e in entries(live, "Beat") if e.what == "ping received"]


@shows("tcp.blackhole_up")
def test_data_flows_and_the_client_is_not_heard():
    with serving(f"tcp.blackhole_up@frame={N}") as live, Client(live) as client:
        assert client.messages(30) == [trade(i) for i in range(30)]
        client.send(PING, b"there?")
        assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert not [e for e in entries(live, "Beat") if e.what == "ping received"]


@shows("tcp.server_not_reading")
def test_the_clients_writes_block_once_the_buffers_are_full():
    with serving(f"tcp.server_not_reading@frame={N}") as live, Client(live) as client:
        assert len(client.messages(30)) == 30
        client.sock.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                sent += client.sock.send(b"\x8a\x80\x00\x00\x00\x00" * 10_000)
        assert sent > 0


# --- The link ---------------------------------------------------------------------------------------------


@shows("tcp.latency", "tcp.jitter")
@pytest.mark.parametrize("spec", ["tcp.latency:latency=150ms", "tcp.latency:latency=150ms,jitter=20ms"])
def test_an_answer_takes_longer(spec):
    with serving(spec) as live:
        began = time.monotonic()
        with Client(live) as client:
            assert time.monotonic() - began >= 0.125, "the 101 is late"
            assert client.messages(30) == [trade(i) for i in range(30)]
    with serving("tcp.jitter:jitter=60ms", speed=1.0) as live, Client(live) as client:
        assert client.messages(30) == [trade(i) for i in range(30)], "order is kept"


@shows("tcp.bandwidth")
def test_bytes_are_capped():
    with serving("tcp.bandwidth:rate=20000") as live, Client(live) as client:
        began = time.monotonic()
        size = sum(len(payload) + 4 for payload in client.messages(30))
        assert time.monotonic() - began >= 0.8 * size / 20_000


@shows("tcp.slicer", "tcp.byte_dribble")
@pytest.mark.parametrize(("spec", "most"), [("tcp.slicer:size=11,delay=1ms", 11), ("tcp.byte_dribble:delay=1ms", 1)])
def test_frames_come_in_small_pieces(spec, most):
    with serving(spec, timeline=tape(2)) as live, Client(live) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sizes, client.data = [], client.data
        have = len(client.data)
        want = sum(len(trade(i)) + 4 for i in range(2))
        while have < want:
            piece = client.receive()
            sizes.append(len(piece))
            client.data += piece
            have += len(piece)
        # A reader that is late finds several slices at once; most of the time it is not late.
        assert sorted(sizes)[len(sizes) // 2] <= most
        assert client.messages(2) == [trade(0), trade(1)]


@shows("tcp.coalesce")
def test_frames_come_together():
    with serving("tcp.coalesce:frames=10@frame=1", speed=1.0) as live, Client(live) as client:
        assert client.messages(30) == [trade(i) for i in range(30)]
        gaps = [later - sooner for sooner, later in zip(client.arrivals, client.arrivals[1:], strict=False)]
    together = [place for place, gap in enumerate(gaps) if gap > 0.04]
    assert together == [9, 19]


@shows("tcp.limit_data")
def test_the_connection_ends_after_so_many_bytes():
    with serving("tcp.limit_data:bytes=1000") as live, Client(live, upgrade=False) as client:
        client.ask()
        data, how = client.rest()
    assert (len(data), how) == (1000, "fin")


@shows("tcp.slow_close")
def test_the_fin_comes_late():
    with serving("tcp.slow_close:delay=250ms") as live, Client(live) as client:
        client.messages(30)
        began = time.monotonic()
        client.send(CLOSE, b"\x03\xe8")
        assert client.frame().opcode == CLOSE
        assert time.monotonic() - began < 0.2, "the echo is not delayed"
        assert client.rest() == (b"", "fin")
        assert time.monotonic() - began >= 0.25


@shows("tcp.corrupt")
def test_bits_are_flipped():
    with serving("tcp.corrupt:per_million=20000@frame=1") as live, Client(live) as client:
        assert client.message() == trade(0)
        data, _ = client.rest(timeout=QUIET_S)
    sent = b"".join(b"\x81\x7e" + len(trade(i)).to_bytes(2, "big") + trade(i) for i in range(1, 30))
    assert len(data) == len(sent)
    wrong = [(a ^ b).bit_count() for a, b in zip(data, sent, strict=True) if a != b]
    assert 10 < len(wrong) < 300
    assert set(wrong) == {1}


def test_over_tls_a_flipped_bit_ends_the_connection():
    with serving("tcp.corrupt:per_million=20000@frame=1", tls=True) as live:
        with Client(live, secure=True) as client:
            _, how = client.all_messages()
        assert how.startswith("tls: ")


@shows("tcp.idle_kill")
def test_a_quiet_connection_is_reset():
    with serving("tcp.idle_kill:after=200ms", ping_interval_ns=10**12) as live:
        with Client(live) as client:
            got, how = client.all_messages(timeout=2.0)
        assert (len(got), how) == (30, "reset")
        with Client(live) as client:
            for _ in range(4):
                time.sleep(0.1)
                client.until_pong(b"alive")


@shows("tcp.flap")
def test_up_for_a_while_and_refused_in_between():
    with serving("tcp.flap:up=60ms", speed=1.0) as live:
        with Client(live, PATH) as client:
            got, how = client.all_messages()
            assert how == "reset"
            assert got == [trade(i) for i in range(6)]
        with pytest.raises(ConnectionRefusedError):
            dial(live)
        with Client(live) as client:
            assert client.all_messages()[1] == "reset"
        assert [e.how for e in entries(live, "Closed")] == ["reset", "reset"]


def test_a_client_that_is_gone_leaves_no_connection_behind():
    with serving("tcp.timeout@frame=5", "tcp.server_not_reading@frame=7", close_wait_ns=50_000_000) as live:
        for _ in range(5):
            with Client(live) as client:
                assert client.status == 101
        deadline = time.monotonic() + 10
        while live.call(lambda: len(live._clients)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert live.call(lambda: len(live._clients)) == 0
