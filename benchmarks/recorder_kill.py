"""kill -9 at random moments: what is lost, and whether anything is left that cannot be read.

    python benchmarks/recorder_kill.py [--kills 200] [--rate 1000] [--flush-ms 100] [--at-once 4] [--seed 1]

A recorder process records a feed whose frames are known byte for byte; at a random moment it is killed; its folder
is recovered. Half of the recorders rotate every 300 ms, so that kills fall into compaction too. Prints the
distribution of what was lost, in frames and in time before the kill; exits 1 if a folder was
unreadable, a frame was other than sent, or more than a second was gone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

NS = 1_000_000_000
MODULES = ["harness.recorder.recorder", "harness.recording.recovery", "harness.recording"]


def payload(number: int) -> bytes:
    at = 1_700_000_000_000 + number
    return (
        f'{{"e":"aggTrade","E":{at},"s":"BTCUSDT","a":{number},"p":"{91350 + number % 50}.{number % 100:02}000000",'
        f'"q":"0.{number % 100_000:05}000","f":{number},"l":{number},"T":{at},"m":true,"M":true}}'
    ).encode()


class Feed:
    """Sends every connection its own count of frames from 1, paced on absolute deadlines."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.sent: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()

    async def _listen(self) -> None:
        from websockets.asyncio.server import serve

        self._server = await serve(self._feed, "127.0.0.1", 0, compression=None)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    async def _feed(self, connection) -> None:
        from websockets.exceptions import ConnectionClosed

        name = connection.request.path.split("/")[1]
        begin, number = time.perf_counter(), 0
        try:
            while True:
                due = int((time.perf_counter() - begin) * self.rate)
                while number < due:
                    number += 1
                    await connection.send(payload(number).decode())
                    self.sent[name] = number
                await asyncio.sleep(1 / self.rate)
        except ConnectionClosed:
            pass


def record(folder: str, endpoint: str, flush_ms: int, rotate_ms: int) -> None:
    from harness.recorder.recorder import Recorder
    from harness.recorder.settings import Settings

    settings = Settings(
        streams=("btcusdt@aggTrade",), endpoint=endpoint, folder=Path(folder), interval_ns=flush_ms * 1_000_000,
        rotate_ns=rotate_ms * 1_000_000, backfill=False,
    )  # fmt: skip
    asyncio.run(Recorder(settings).run())


def one(number: int, feed: Feed, options: argparse.Namespace, context) -> dict:
    from harness.errors import HarnessError
    from harness.recording import open_recording
    from harness.recording.recovery import recover

    rng = Random(f"{options.seed}/{number}")
    folder = Path(tempfile.mkdtemp(prefix="kill-", dir=options.dir))
    name = f"k{number}"
    rotate_ms = 300 if number % 2 else 0
    process = context.Process(
        target=record, args=(str(folder), f"ws://127.0.0.1:{feed.port}/{name}", options.flush_ms, rotate_ms)
    )
    process.start()
    while feed.sent.get(name, 0) < 1:
        time.sleep(0.002)
    time.sleep(rng.uniform(0.02, options.longest_s))
    sent = feed.sent[name]
    os.kill(process.pid, signal.SIGKILL)
    killed_ns = time.time_ns()
    process.join()
    problems: list[str] = []
    outcome = {"sent": sent, "kept": 0, "lost_s": 0.0, "torn": 0, "problems": problems, "rotated": bool(rotate_ms)}

    def report(one) -> None:
        outcome["torn"] += bool(one.torn_bytes)
        if one.problem:
            problems.append(one.problem)

    try:
        recover(folder, report=report)
        paths = list(folder.rglob("*.parquet"))
        frames = [f for path in paths for f in open_recording(path).frames()]
    except (HarnessError, OSError) as failure:
        problems.append(str(failure))
        frames = []
    texts = sorted((f for f in frames if f.kind == "text"), key=lambda f: f.monotonic_ns)
    if [f.data for f in texts] != [payload(n) for n in range(1, len(texts) + 1)]:
        problems.append("frames are not what was sent")
    left = [p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".parquet"]
    if left:
        problems.append(f"left in the folder: {left}")
    outcome["kept"] = len(texts)
    first_ns = texts[-1].received_at_ns if texts else killed_ns
    outcome["lost_s"] = max(0.0, (killed_ns - first_ns) / NS) if texts else sent / options.rate
    shutil.rmtree(folder)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--flush-ms", type=int, default=100)
    parser.add_argument("--longest-s", type=float, default=2.0)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", help="where the folders are made; a real disk, not a memory file system")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # Each recorder is forked from a server that has imported everything, and shares nothing with us.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    feed = Feed(options.rate)
    began = time.perf_counter()
    with ThreadPoolExecutor(options.at_once) as pool:
        outcomes = list(pool.map(lambda n: one(n, feed, options, context), range(options.kills)))
    lost = sorted(o["sent"] - o["kept"] for o in outcomes)
    lost_s = sorted(o["lost_s"] for o in outcomes)
    bad = [(n, o["problems"]) for n, o in enumerate(outcomes) if o["problems"]]
    summary = {
        "kills": options.kills,
        "frames sent": sum(o["sent"] for o in outcomes),
        "frames kept": sum(o["kept"] for o in outcomes),
        "torn tails": sum(o["torn"] for o in outcomes),
        "unreadable or wrong": len(bad),
        "wall s": round(time.perf_counter() - began, 1),
    }
    rows = {}
    for name, q in (
        ("least", 0),
        ("p25", 0.25),
        ("median", 0.5),
        ("p75", 0.75),
        ("p95", 0.95),
        ("p99", 0.99),
        ("worst", 1),
    ):
        place = min(int(q * len(lost)), len(lost) - 1)
        rows[name] = {"frames": lost[place], "ms": round(1000 * lost_s[place], 1)}
    if options.json:
        print(json.dumps({"summary": summary, "lost": rows, "bad": bad}))
    else:
        print(f"flush every {options.flush_ms} ms, {options.rate} frames/s, {options.at_once} at once: {summary}")
        print(f"{'lost':>8} {'frames':>8} {'ms before the kill':>20}")
        for name, row in rows.items():
            print(f"{name:>8} {row['frames']:>8} {row['ms']:>20}")
        for number, problems in bad:
            print(f"kill {number}: {problems}")
    return 1 if bad or lost_s[-1] > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
