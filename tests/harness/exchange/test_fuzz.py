"""Whatever bytes a client sends, in whatever pieces and at whatever times, the connection answers or ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.exchange import MAX, Fin, Reset
from harness.faults import catalogue
from harness.faults.plan import plan_of
from harness.transports.pipe import Pipe
from tests.harness.exchange.talk import S, make_exchange, make_tape
from tests.harness.exchange.test_wire import client

BTC = "btcusdt@aggTrade"
GAPS = (0, 1, S // 10, S, 30 * S)
"""How long a client may take between two pieces, in nanoseconds."""
HEAD = (
    "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
targets = st.sampled_from([f"/ws/{BTC}", "/ws", "/stream", f"/stream?streams={BTC}", "/market/ws", "/x", "/ws/%ff%00"])
hosts = st.sampled_from(["x", "fstream.binance.com", "dstream.binance.com", ""])
upgrades = st.builds(lambda target, host: HEAD.format(target, host).encode(), targets, hosts)
paths = st.sampled_from(["ping", "time", "exchangeInfo", "aggTrades", "klines", "nosuch", "../../etc/passwd", "%00"])
queries = st.dictionaries(
    st.sampled_from(["symbol", "symbols", "fromId", "startTime", "endTime", "limit", "interval"]),
    st.sampled_from(["BTCUSDT", "1", "0", "-1", "99999999999999999999", "x", "", "[]", '["BTCUSDT"]', "1m", "%E5"]),
).map(lambda query: "&".join(f"{key}={value}" for key, value in query.items()))
requests = st.builds(
    lambda method, path, query: f"{method} /api/v3/{path}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "get"]), paths, queries,
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["SUBSCRIBE", "combined", BTC, "@@", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["method", "params", "id"]), inner),
    max_leaves=6,
)
messages = json_values.map(lambda value: client(1, __import__("json").dumps(value).encode()[:60000]))
frames = st.builds(
    lambda opcode, data, fin, rsv1: client(opcode, data, fin=fin, rsv1=rsv1),
    st.integers(0, 15), st.binary(max_size=130), st.booleans(), st.booleans(),
)  # fmt: skip
pieces = st.lists(st.one_of(upgrades, requests, messages, frames, st.binary(max_size=60)), max_size=8)


firsts = upgrades | requests | st.binary(max_size=40)
FAULTS = sorted(name for name in catalogue() if not name.startswith(("host.", "dns.", "tls.")))


def survives(chunks, gaps, fault="", *, hasty=False):
    """
    Play what a client sends; the connection must answer or end, and leave nothing behind.

    Args:
        chunks: what arrives, piece by piece.
        gaps: nanoseconds before each piece.
        fault: one kind of the catalogue that is at work meanwhile, or nothing.
        hasty: the tape goes out as fast as it is taken.
    """
    plan = plan_of([fault]) if fault else None
    exchange = make_exchange(make_tape(5), plan, control=True, speed=MAX if hasty else 1)
    line = exchange.connection(secure=False, now_ns=0)
    pipe, now, commands = Pipe(line, None), 0, []
    for chunk, gap in zip(chunks, gaps, strict=True):
        now += gap
        pipe.advance_to(now)
        pipe.receive_data(chunk, now)
        for item in pipe.data_to_send(now):
            if isinstance(item, (Fin, Reset)):
                commands.append(item)
            else:
                assert not commands, "nothing is said behind the end"
    assert len(commands) <= 2
    pipe.receive_eof(now)
    pipe.advance_to(now + 60 * S)
    pipe.data_to_send(now + 60 * S)
    assert line.state == "over"
    assert not exchange.connections
    assert line.next_due_ns() is None, "no timer is left"


@given(first=firsts, rest=pieces, fault=st.sampled_from(["", *FAULTS]), hasty=st.booleans(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_bytes_break_a_connection(first, rest, fault, hasty, data):
    stream = first + b"".join(rest)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    survives(chunks, [data.draw(st.sampled_from(GAPS)) for _ in chunks], fault, hasty=hasty)


SEEDS = [
    b"GET /ws HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD ! HTTP/0.0\n\n",
    b"",
]
"""What once was trouble."""


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_that_once_were_trouble(seed):
    survives([seed, seed], [0, 0])
