"""Soak: thousands of connections under random plans, and nothing stays behind.

    python -m benchmarks.soak [--connections 10000] [--seed 1]

Each exchange gets a plan of one to three faults drawn from the whole catalogue, and a batch of clients that
behave as real ones do, or worse: they subscribe, ping, say goodbye, hang up or reset. Then a client that the
plan does not concern must be served to the byte. At the end the process must have as many sockets and threads as at the
start, and memory must have stopped growing.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import ssl
import struct
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import seeds
from harness.exchange import MAX, ExchangeSettings
from harness.faults import Plan, PlannedFault, catalogue, parse_fault
from harness.faults.plan import Condition, Connections
from harness.transports.live import LiveExchange
from tests.harness.faults.tapes import tape, trade

if TYPE_CHECKING:
    from random import Random

STREAM = "btcusdt@aggTrade"
CLIENTS = 8
"""At once."""
FRAMES = 30
UPGRADE = (
    f"GET /ws/{STREAM} HTTP/1.1\r\nHost: stream.binance.com:9443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
).encode()
SMALLER = {
    "ws.deflate_bomb": "size=1000000",
    "payload.deep": "depth=2000",
    "ws.oversize": "size=300000",
    "payload.huge": "size=300000",
    "ws.close_half": "delay=1s",
    "tcp.slow_close": "delay=1s",
    "tcp.accept_slow": "delay=1s",
}
"""Settings that test nothing more when they are bigger; what a fault holds open for minutes is not left behind."""


def random_plan(rng: Random, last: int) -> Plan:
    """Draw one to three faults that concern connections 1 to `last`."""
    kinds = [name for name in catalogue() if not name.startswith("host.")]
    faults = []
    for name in rng.sample(kinds, rng.randint(1, 3)):
        planned = parse_fault(f"{name}:{SMALLER[name]}" if name in SMALLER else name)
        condition: dict[str, object] = {}
        if not planned.fault.control:
            condition["connection"] = Connections(f"1-{last}")
        if planned.fault.default_at:
            condition["frame"] = rng.randint(1, FRAMES)
        faults.append(PlannedFault(planned.fault, Condition(**condition)))  # type: ignore[arg-type]
    return Plan(tuple(faults), rng.randrange(1 << 30))


def misbehave(live: LiveExchange, rng: Random, patience_s: float) -> str:
    """Be one client, for a moment; say how it ended."""
    secure = rng.random() < 0.3
    url = live.urls["wss" if secure else "ws"]
    assert url is not None
    try:
        sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=2.0)
    except OSError:
        return "refused"
    ended = "left"
    try:
        sock.settimeout(patience_s)
        if secure:
            context = ssl.create_default_context(cafile=str(live.cafile))
            sock = context.wrap_socket(sock, server_hostname="localhost")
        extra = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if rng.random() < 0.3 else b""
        sock.sendall(UPGRADE + extra + b"\r\n")
        for _ in range(rng.randint(1, 12)):
            if not sock.recv(65536):
                ended = "fin"
                break
            if rng.random() < 0.3:
                sock.sendall(b"\x89\x80\x00\x00\x00\x00")
        if rng.random() < 0.3:
            sock.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
    except TimeoutError:
        ended = "quiet"
    except (OSError, ssl.SSLError):
        ended = "broken"
    finally:
        # A TLS handshake that fails has closed the socket already.
        if rng.random() < 0.3 and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    return ended


def harm(live: LiveExchange, expected: list[bytes]) -> str:
    """What is wrong for a client that no fault concerns: it wants handshake, trades and pong. Empty for nothing."""
    url = live.urls["ws"]
    assert url is not None
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20.0) as sock:
        sock.sendall(UPGRADE + b"\r\n" + b"\x89\x85\x00\x00\x00\x00sound")
        data = b""
        while b"\x8a\x05sound" not in data:
            piece = sock.recv(65536)
            if not piece:
                return f"ended behind {data[:60]!r}"
            data += piece
    # What of the tape is left for it comes untouched and in order.
    head, _, frames = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        return f"answered {head[:60]!r}"
    return "" if _is_tail(frames.partition(b"\x8a\x05sound")[0], expected) else "served other trades"


def _is_tail(frames: bytes, expected: list[bytes]) -> bool:
    got = []
    while frames:
        size = struct.unpack("!H", frames[2:4])[0]
        got.append(frames[4 : 4 + size])
        frames = frames[4 + size :]
    return not got or expected[-len(got) :] == got


def descriptors() -> int:
    """Open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform.startswith("linux") else 0


def resident_kib() -> int:
    """Resident memory, KiB; 0 where it cannot be asked."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def soak(
    connections: int, seed: int, *, batch: int = 20, patience_s: float = 0.05, progress: bool = False
) -> dict[str, object]:
    """
    Run it.

    Returns:
        Figures: connections, plans, unsound (plans behind which a client was not served), left_behind (connections
        that the exchange still held), descriptors and threads more than at the start, growth_kib in the second half.
    """
    timeline, expected = tape(FRAMES), [trade(index) for index in range(FRAMES)]
    settings = ExchangeSettings(speed=MAX, grace_ns=0, connect_limit=0, close_wait_ns=20_000_000, handshake_ns=10**10)
    rng = seeds.derive(seed, "soak")
    unsound: list[str] = []
    left_behind: list[str] = []
    half_kib = 0
    plans = -(-connections // batch)
    began = time.monotonic()
    with LiveExchange(timeline, settings=settings, tls=True) as live:
        harm(live, expected)  # whatever is made once is made before counting
    gc.collect()
    before = (descriptors(), threading.active_count())
    with ThreadPoolExecutor(CLIENTS) as pool:
        # None is given a second task before all have one: a pool makes no thread while one is idle.
        together = threading.Barrier(CLIENTS)
        list(pool.map(lambda _: together.wait(), range(CLIENTS)))
        workers = threading.active_count() - before[1]
        for number in range(plans):
            plan = random_plan(rng, batch)
            with LiveExchange(timeline, plan, settings=settings, tls=True) as live:
                clients = [seeds.derive(seed, "client", number, each) for each in range(batch)]
                list(pool.map(lambda luck, live=live: misbehave(live, luck, patience_s), clients))  # type: ignore[misc]
                # Numbers up to `batch` are struck; attempts that came to nothing used up none.
                live.call(lambda live=live: _skip_to(live, batch))  # type: ignore[misc]
                compiled = live.exchange.timeline
                sound = expected if compiled is timeline else [compiled.payload(i) for i in range(FRAMES)]
                if problem := harm(live, sound):
                    unsound.append(f"{plan}: {problem}")
                if not _empties(live):
                    left_behind.append(str(plan))
            if number == plans // 2:
                gc.collect()
                half_kib = resident_kib()
            if progress and number % 10 == 9:
                rate = (number + 1) * batch / (time.monotonic() - began)
                print(f"\r{(number + 1) * batch} connections, {rate:.0f}/s", end="", file=sys.stderr)
        gc.collect()
        growth = resident_kib() - half_kib
        after = (descriptors(), threading.active_count() - workers)
    if progress:
        print(file=sys.stderr)
    return {
        "connections": plans * batch,
        "plans": plans,
        "unsound": unsound,
        "left_behind": left_behind,
        "descriptors": after[0] - before[0],
        "threads": after[1] - before[1],
        "growth_kib": growth,
        "resident_kib": resident_kib(),
        "seconds": round(time.monotonic() - began, 1),
    }


def _skip_to(live: LiveExchange, batch: int) -> None:
    while live.exchange.peek_number() <= batch:
        live.exchange.take_number()


def _empties(live: LiveExchange) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not live.call(lambda: len(live._clients)):
            return True
        time.sleep(0.01)
    return False


def main() -> int:
    """Run it from the command line and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tracemalloc.stop()
    figures = soak(args.connections, args.seed, progress=True)
    print(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode())
    bad = figures["unsound"] or figures["left_behind"] or figures["descriptors"] or figures["threads"]
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
