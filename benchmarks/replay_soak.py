"""Soak: thousands of connections under random plans leave no task, socket or memory behind.

    python -m benchmarks.replay_soak [--connections 10000] [--seed 7]

Every round has a plan of three random faults and fifty connections that come, listen a moment and leave in some way:
politely, with FIN, with RST, in the middle of the handshake. After each round a sound client must be served.
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
from pathlib import Path

from harness.exchange import MAX, ExchangeSettings
from harness.faults import catalogue
from harness.faults.plan import Plan, parse_fault
from harness.seeds import derive
from harness.transports.live import LiveExchange
from tests.harness.exchange.talk import make_tape

PER_ROUND = 50
REQUEST = (
    b"GET /ws/btcusdt@aggTrade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def visit(live, rng):
    """One client with bad manners of its own."""
    secure = rng.random() < 0.2
    port = int(str(live.urls["wss" if secure else "ws"]).rpartition(":")[2])
    sock = None
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout=0.05)
        if secure:
            sock = ssl.create_default_context(cafile=live.cafile).wrap_socket(sock, server_hostname="localhost")
        sock.sendall(REQUEST[: rng.choice([len(REQUEST)] * 4 + [rng.randrange(len(REQUEST))])])
        end = time.monotonic() + 0.05
        while time.monotonic() < end and sock.recv(65536):
            pass
        if rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    finally:
        if sock is not None:
            sock.close()


def served(live):
    """Whether a sound client is still welcome."""
    port = int(str(live.urls["ws"]).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(REQUEST)
        return sock.recv(65536).startswith(b"HTTP/1.1 101")


def resident_mib():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    rng = derive(args.seed, "soak")
    names = [name for name in sorted(catalogue()) if not name.startswith("host.")]
    tape = make_tape(2000, step_ns=1_000_000)
    settings = ExchangeSettings(speed=MAX, grace_ns=0, connect_limit=0, close_wait_ns=200_000_000, handshake_ns=10**9)
    started = time.monotonic()
    with LiveExchange(tape, settings=settings, tls=True, write=lambda _: None) as live:
        before = None
        for done in range(0, args.connections, PER_ROUND):
            plan = Plan(tuple(parse_fault(name) for name in rng.sample(names, 3)), seed=done)
            live.call(lambda plan=plan: setattr(live.exchange, "plan", plan))
            for _ in range(PER_ROUND):
                visit(live, rng)
            live.call(lambda: setattr(live.exchange, "plan", None))
            assert served(live), str(plan)
            if before is None:
                before = resident_mib()
            if done % 1000 == 0:
                print(
                    f"{done}: {resident_mib():.0f} MiB, {live.call(lambda: len(live._clients))} open", file=sys.stderr
                )
        end = time.monotonic() + 60
        while live.call(lambda: len(live._clients)) and time.monotonic() < end:
            time.sleep(0.1)
        left = live.call(lambda: len(live._clients))
        gc.collect()
        print(f"{args.connections} connections in {time.monotonic() - started:.0f} s")
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        print(f"left: {left} connections, {threading.active_count()} threads, {descriptors} descriptors")
        print(f"memory: {before:.0f} MiB after the first round, {resident_mib():.0f} MiB at the end")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
