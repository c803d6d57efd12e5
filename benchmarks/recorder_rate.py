"""What recording costs: rate against bare receive loops, the journal's share of time, memory over many frames.

    python benchmarks/recorder_rate.py [--rounds 5] [--seconds 2] [--memory-frames 2000000]

A server in a process of its own sends ready-made blobs as fast as they are taken. Each client is a fresh process;
the clients take turns, so that a noisy machine is equally unkind to all. Ratios are of one run.

    websockets      `async for message in websockets.connect(...)`, nothing done with it
    each            our own client's receive loop, which takes each message and does nothing with it
    blocks          the same, which leaves the messages of a read in the block in which they came
    recorder        the same, with clocks, continuity check, journal and fsync
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

NS = 1_000_000_000
BLOB = 256 << 10
TAPE_FRAMES = 400_000


def payload(number: int) -> bytes:
    at = 1_700_000_000_000 + number
    return (
        f'{{"e":"aggTrade","E":{at},"s":"BTCUSDT","a":{3_000_000_000 + number},'
        f'"p":"{91350 + number % 50}.{number % 100:02}000000",'
        f'"q":"0.{number % 100_000:05}000","f":{5_000_000_000 + number},"l":{5_000_000_000 + number},'
        f'"T":{at},"m":true,"M":true}}'
    ).encode()


def serve(ready) -> None:
    """A server that does nothing but send frames made beforehand."""
    parts = []
    for number in range(TAPE_FRAMES):
        body = payload(number)
        parts.append(b"\x81\x7e" + len(body).to_bytes(2, "big") + body)
    tape = memoryview(b"".join(parts))
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_send_forever, args=(sock, tape), daemon=True).start()


def _send_forever(sock: socket.socket, tape: memoryview) -> None:
    import base64
    import hashlib

    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    key = (
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        .split(b":")[1]
        .strip()
    )
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept + b"\r\n\r\n"
    )  # fmt: skip
    try:
        while True:
            for at in range(0, len(tape), BLOB):
                sock.sendall(tape[at : at + BLOB])
    except OSError:
        sock.close()


async def with_websockets(port: int, seconds: float) -> int:
    from websockets.asyncio.client import connect

    count, end = 0, time.perf_counter() + seconds
    async with connect(
        f"ws://127.0.0.1:{port}/ws/btcusdt@aggTrade", compression=None, proxy=None, close_timeout=0.1
    ) as ws:
        async for _ in ws:
            count += 1
            if not count % 256 and time.perf_counter() > end:
                break
        ws.transport.abort()
    return count


async def with_blocks(port: int, seconds: float, take=lambda _item, _size: None) -> int:
    from harness.recorder.endpoints import lines
    from harness.recorder.wire import connect

    (line,) = lines(f"ws://127.0.0.1:{port}", ("btcusdt@aggTrade",))
    wire = await connect(1, line, take)
    await asyncio.sleep(seconds)
    count = wire.data_count
    wire.abort()
    return count


async def with_each(port: int, seconds: float) -> int:
    from harness.recording.journal import Run

    def take(item, _size):
        if type(item) is Run:
            for _ in item.payloads:
                pass

    return await with_blocks(port, seconds, take)


async def with_recorder(port: int, seconds: float) -> int:
    from harness.recorder.recorder import Recorder
    from harness.recorder.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            streams=("btcusdt@aggTrade",), endpoint=f"ws://127.0.0.1:{port}", folder=Path(folder), backfill=False
        )  # fmt: skip
        recorder = Recorder(settings)
        running = asyncio.create_task(recorder.run())
        while not recorder._wires:
            await asyncio.sleep(0.001)
        await asyncio.sleep(seconds)
        count = next(iter(recorder._wires.values())).data_count - recorder._scribe.pending_bytes // 180
        recorder._scribe.abandon()
        # The compaction at the end is no part of the rate; it is measured with the recordings.
        recorder.stop()
        cpu = time.process_time()
        with_recorder.cpu_s = cpu
        await running
    return count


def client(kind: str, port: int, seconds: float, out) -> None:
    work = {"websockets": with_websockets, "each": with_each, "blocks": with_blocks, "recorder": with_recorder}[kind]
    __import__("harness.recorder.recorder")
    cpu, began = time.process_time(), time.perf_counter()
    count = asyncio.run(work(port, seconds))
    wall = time.perf_counter() - began if kind != "recorder" else seconds
    used = getattr(work, "cpu_s", time.process_time()) - cpu
    out.send((count / wall, used / count * 1e6))


def rates(rounds: int, seconds: float) -> dict:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in ("websockets", "each", "blocks", "recorder")}
    for _ in range(rounds):
        for kind, results in found.items():
            mine, its = context.Pipe()
            process = context.Process(target=client, args=(kind, port, seconds, its))
            process.start()
            results.append(mine.recv())
            process.join()
    server.terminate()
    return {
        kind: {
            "k_per_s_median": round(statistics.median(r for r, _ in results) / 1e3, 1),
            "k_per_s_best": round(max(r for r, _ in results) / 1e3, 1),
            "cpu_us_per_frame": round(statistics.median(c for _, c in results), 2),
        }
        for kind, results in found.items()
    }


def journal_share(rate: int, interval_ms: int, seconds: float) -> dict:
    """Time in the journal at a steady rate, durable at a steady beat, as a share of wall time."""
    from harness.recording.journal import Header, Journal, Run

    append_s = sync_s = 0.0
    syncs = []
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "a.journal", Header(target="a.parquet", identity="x", endpoint=""))
        began, number = time.perf_counter(), 0
        cpu = time.thread_time()
        for beat in range(int(seconds * 1000 / interval_ms)):
            # One frame in each read of the socket: the dearest way for them to come.
            runs = [
                Run(1, "text", number + n, number + n, [payload(number + n)]) for n in range(rate * interval_ms // 1000)
            ]
            number += len(runs)
            a = time.perf_counter()
            journal.append(runs)
            b = time.perf_counter()
            journal.sync()
            c = time.perf_counter()
            append_s, sync_s = append_s + b - a, sync_s + c - b
            syncs.append(c - b)
            time.sleep(max(0.0, began + (beat + 1) * interval_ms / 1000 - time.perf_counter()))
        wall = time.perf_counter() - began
        cpu = time.thread_time() - cpu
        journal.close()
    syncs.sort()
    return {
        "append_percent": round(100 * append_s / wall, 2), "sync_percent": round(100 * sync_s / wall, 2),
        "sum_percent": round(100 * (append_s + sync_s) / wall, 2), "thread_cpu_percent": round(100 * cpu / wall, 2),
        "sync_ms_p50": round(1e3 * syncs[len(syncs) // 2], 2),
        "sync_ms_p99": round(1e3 * syncs[int(len(syncs) * 0.99)], 2),
    }  # fmt: skip


def memory(frames: int, out) -> None:
    """Resident memory of a recorder at full rate, by tenths of the way."""
    from harness.recorder.recorder import Recorder
    from harness.recorder.settings import Settings

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def run() -> list[float]:
        seen: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(
                streams=("btcusdt@aggTrade",), endpoint=f"ws://127.0.0.1:{port}", folder=Path(folder), backfill=False
            )  # fmt: skip
            recorder = Recorder(settings)
            running = asyncio.create_task(recorder.run())
            for tenth in range(1, 11):
                while recorder.health.frames < frames * tenth // 10:
                    await asyncio.sleep(0.05)
                seen.append(round(resident_mb(), 1))
            recorder._scribe.abandon()
            recorder.stop()
            await running
        return seen

    began = time.perf_counter()
    seen = asyncio.run(run())
    server.terminate()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    wall = round(time.perf_counter() - began, 1)
    out.send({"frames": frames, "resident_mb_by_tenths": seen, "peak_mb": round(peak, 1), "wall_s": wall})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--memory-frames", type=int, default=2_000_000)
    options = parser.parse_args()
    if options.rounds:
        found = rates(options.rounds, options.seconds)
        print(json.dumps(found, indent=1))
        for other in ("websockets", "each", "blocks"):
            rate = found["recorder"]["k_per_s_median"] / found[other]["k_per_s_median"]
            best = found["recorder"]["k_per_s_best"] / found[other]["k_per_s_best"]
            cpu = found[other]["cpu_us_per_frame"] / found["recorder"]["cpu_us_per_frame"]
            print(f"recorder / {other}: rate {rate:.2f} (best {best:.2f}), by CPU {cpu:.2f}")
    print("journal at 1000 frames/s, durable every 100 ms:", json.dumps(journal_share(1000, 100, 10)))
    if options.memory_frames:
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(target=memory, args=(options.memory_frames, its))
        process.start()
        print("memory:", json.dumps(mine.recv()))
        process.join()


if __name__ == "__main__":
    main()
