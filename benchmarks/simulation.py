"""CPU per delivered frame: a simulated run against the same stock client over real loopback TLS, same pacing.

    python -m benchmarks.simulation [--frames 5000] [--rate 500] [--rounds 3]

Each side is a process of its own that holds the exchange and the client (`websockets`, its defaults, wss), and
counts its user and system time from the first frame to the last. The sides take turns, and a ratio is made of
neighbours, so that a busy machine spoils both alike. Prints what the simulation costs where reality is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("sim", "live")
TARGET = 0.8
"""At most."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--rate", type=int, default=500, help="frames a second, by the run's clock")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args.frames, args.rate)))
        return
    ratios = []
    for number in range(args.rounds):
        found = {side: run(side, args) for side in SIDES}
        ratios.append(found["sim"]["us"] / found["live"]["us"])
        told = "   ".join(f"{side} {one['us']:6.1f} us/frame in {one['wall_s']:5.1f} s" for side, one in found.items())
        print(f"round {number + 1}: {told}   ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    judged = "met" if ratio <= TARGET else "missed"
    print(f"simulation, CPU per delivered frame / real loopback TLS   {ratio:.2f}   target {TARGET}: {judged}")


def run(side, args):
    words = [sys.executable, __file__, "--side", side, "--frames", str(args.frames), "--rate", str(args.rate)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    return json.loads(done.stdout)


def measure(side, frames, rate):
    import os

    from harness.exchange import ExchangeSettings
    from harness.transports.authority import Authority
    from harness.transports.live import LiveExchange
    from harness.transports.sim import Simulation
    from tests.harness.exchange.talk import make_tape

    tape = make_tape(frames, step_ns=1_000_000_000 // rate)
    settings = ExchangeSettings()
    began = os.times()
    if side == "live":
        with LiveExchange(tape, settings=settings, tls=True) as exchange, redirected(exchange):
            cpu_s = asyncio.run(client(frames, time.process_time))
    else:
        authority, cpu = Authority(rsa=True), time.process_time
        with Simulation(wall_ns=tape.start_ms * 1_000_000) as simulation:
            exchange = simulation.exchange(tape, settings=settings, authority=authority)
            with redirected(exchange):
                cpu_s = asyncio.run(client(frames, cpu))
    return {"us": cpu_s / frames * 1e6, "wall_s": os.times().elapsed - began.elapsed}


def redirected(exchange):
    from harness.redirect import Redirect

    return Redirect(exchange.gate, str(exchange.cafile))


async def client(frames, cpu):
    import websockets

    async with websockets.connect("wss://stream.binance.com:9443/ws/btcusdt@aggTrade") as connection:
        await connection.recv()
        began = cpu()
        for _ in range(frames - 1):
            await connection.recv()
        return cpu() - began


if __name__ == "__main__":
    main()
