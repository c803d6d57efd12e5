"""What the recording proxy adds to a message's way: one at a time, there and back, with and without it.

    python benchmarks/recorder_proxy.py [--messages 3000]

An echo server in a process of its own; the client takes turns between the direct way and the way through the proxy.
Prints the added time, median and p99, in milliseconds. The promise is at most 1 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path


def serve(ready) -> None:
    async def echo(connection) -> None:
        async for message in connection:
            await connection.send(message)

    async def run() -> None:
        from websockets.asyncio.server import serve as listen

        async with listen(echo, "127.0.0.1", 0, compression=None) as server:
            ready.send(server.sockets[0].getsockname()[1])
            await asyncio.Future()

    asyncio.run(run())


async def measure(port: int, messages: int) -> dict:
    from websockets.asyncio.client import connect

    from harness.recorder.proxy import RecordingProxy

    payload = "x" * 170
    with (
        tempfile.TemporaryDirectory() as folder,
        RecordingProxy(Path(folder), context=None, upstream=lambda *_: ("127.0.0.1", port)) as proxy,
    ):
        _, through = await asyncio.to_thread(proxy.gate, "localhost", port)
        ways: dict[str, list[float]] = {"direct": [], "proxied": []}
        options = {"compression": None, "proxy": None, "ping_interval": None}
        async with (
            connect(f"ws://127.0.0.1:{port}/", **options) as direct,
            connect(f"ws://127.0.0.1:{through}/", **options) as proxied,
        ):
            for _ in range(messages):
                for name, ws in (("direct", direct), ("proxied", proxied)):
                    began = time.perf_counter()
                    await ws.send(payload)
                    await ws.recv()
                    ways[name].append(time.perf_counter() - began)
    added = sorted((b - a) / 2 for a, b in zip(ways["direct"], ways["proxied"], strict=True))
    return {
        "direct_round_trip_ms": round(1e3 * statistics.median(ways["direct"]), 3),
        "proxied_round_trip_ms": round(1e3 * statistics.median(ways["proxied"]), 3),
        "added_each_way_ms_median": round(1e3 * statistics.median(added), 3),
        "added_each_way_ms_p99": round(1e3 * added[int(len(added) * 0.99)], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3000)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    print(json.dumps(asyncio.run(measure(ours.recv(), options.messages)), indent=1))
    server.terminate()


if __name__ == "__main__":
    main()
