"""Replay, side by side with its peers and its limits. Prints ratios; absolute rates belong to the machine.

    python -m benchmarks.replay [--rounds 5] [--seconds 1.0] [--frames 200000] [--picows PYTHON]

Server and client are processes of their own, on a core each where the system lets us choose. Every contender runs once
per round, in turn, so that whatever else the machine does meets all of them; a ratio is taken inside a round, and the
median of the rounds is shown with the best and the worst. Beside the rates by the clock stand those by the server's
CPU: where other work shares the cores, they are the steadier ones. Each line ends with its target, if it has one.

What is called rendered is kept in memory from the start, as are the raw socket's bytes. What comes from columns is read
from a tape longer than everything that a replay keeps, over and over: each lap decodes its Parquet again.

tardis-machine is no contender: the npm registry has no package of that name, and its sources want a Node and a
tardis-dev of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REQUEST = (
    b"GET /ws/btcusdt@aggTrade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BLOB_BYTES = 256 * 1024
ROOT = Path(__file__).resolve().parent.parent


# --- Servers ----------------------------------------------------------------------------------------


def frames_of(recording):
    from harness.exchange import wire
    from harness.recording import load_timeline

    timeline = load_timeline([recording])
    return [wire.frame(wire.TEXT, payload) for payload in timeline.payloads(0, len(timeline))]


def serve_raw(recording, *, tls=False):
    """The limit: one socket, prepared bytes, sendall."""
    from harness.actions import Tls
    from harness.exchange import wire
    from harness.transports.authority import Authority

    data = b"".join(frames_of(recording))
    blobs = [data[start : start + BLOB_BYTES] for start in range(0, len(data), BLOB_BYTES)]
    authority = Authority() if tls else None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], authority.cafile if authority else "", flush=True)
        while True:
            sock, _ = listener.accept()
            if authority:
                sock = authority.context(Tls()).wrap_socket(sock, server_side=True)
            key = re.search(rb"(?i)sec-websocket-key: *(\S+)", sock.recv(65536))[1]
            head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            try:
                sock.sendall(head + b"Sec-WebSocket-Accept: " + wire.accept_key(key) + b"\r\n\r\n")
                while True:
                    for blob in blobs:
                        sock.sendall(blob)
            except OSError:
                sock.close()


def serve_websockets(recording, *, broadcast=False):
    """The peer: what one writes with the websockets library."""
    import asyncio

    import websockets
    from websockets.asyncio.server import broadcast as send_to_all
    from websockets.asyncio.server import serve

    from harness.recording import load_timeline

    timeline = load_timeline([recording])
    texts = [payload.decode() for payload in timeline.payloads(0, min(20_000, len(timeline)))]
    everybody = set()

    async def one(ws):
        try:
            if broadcast:
                everybody.add(ws)
                await ws.wait_closed()
                return
            while True:
                for text in texts:
                    await ws.send(text)
        except websockets.ConnectionClosed:
            pass
        finally:
            everybody.discard(ws)

    async def main():
        async with serve(one, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            while True:
                for text in texts if broadcast else ():
                    if everybody:
                        send_to_all(everybody, text)
                    # Bounded: broadcast buffers without end for a slow reader.
                    while any(ws.transport.get_write_buffer_size() > 1 << 20 for ws in everybody):
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0)
                if not broadcast or not everybody:
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def serve_harness(recording, *, cached=True, tls=False):
    """Ours, at full speed, over and over."""
    from harness.exchange import MAX, ExchangeSettings
    from harness.recording import load_timeline
    from harness.transports.live import LiveExchange

    settings = ExchangeSettings(
        speed=MAX, loop=True, grace_ns=0, connect_limit=0, cache_bytes=(1 << 30) if cached else 1
    )
    timeline = load_timeline([recording])
    with LiveExchange(timeline, settings=settings, tls=tls, write=lambda _: None) as live:
        if cached:
            for start in range(0, len(timeline), 65536):
                live.call(lambda start=start: live.exchange.tape.frames(
                    start, min(len(timeline), start + 65536), _shape()))  # fmt: skip
        urls = live.urls
        print(str(urls["wss" if tls else "ws"]).rpartition(":")[2], urls["cafile"] or "", flush=True)
        threading.Event().wait()


def _shape():
    from harness.exchange.tape import Shape

    return Shape()


# --- Clients ----------------------------------------------------------------------------------------


def connected(port, cafile=""):
    sock = socket.create_connection(("127.0.0.1", port))
    if cafile:
        import ssl

        sock = ssl.create_default_context(cafile=cafile).wrap_socket(sock, server_hostname="localhost")
    sock.sendall(REQUEST)
    return sock


def read(port, seconds, cafile=""):
    """Count bytes and look at none."""
    sock = connected(port, cafile)
    buffer = bytearray(1 << 20)
    deadline = None
    total = whole = 0
    while True:
        size = sock.recv_into(buffer)
        total += size
        whole += size
        now = time.monotonic()
        if deadline is None:
            # What the first row group costs is not the rate at which it goes on.
            begin, deadline, started = now + 0.3, now + 0.3 + seconds, None
        if started is None and now >= begin:
            started, total = now, 0
        elif now >= deadline:
            print(total / (now - started), whole)
            return


def read_many(port, seconds, count):
    """Drain many sockets from one process; the clock starts when every one of them is being served."""
    selector = selectors.DefaultSelector()
    for _ in range(count):
        sock = connected(port)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    buffer = bytearray(1 << 20)
    served, total, started = set(), 0, None
    while True:
        for key, _ in selector.select():
            try:
                size = key.fileobj.recv_into(buffer)
            except BlockingIOError:
                continue
            total += size
            if size > 1024:  # more than the head of the upgrade
                served.add(key.fd)
        now = time.monotonic()
        if started is None:
            if len(served) == count:
                started, total = now, 0
        elif now >= started + seconds:
            print(total / (now - started))
            return


PICOWS = """
import asyncio, sys, time
from picows import ws_connect, WSListener, WSMsgType
port, seconds, cafile = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
class Counter(WSListener):
    total = 0
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.TEXT:
            frame.get_payload_as_bytes()
            self.total += 1
async def main():
    import ssl
    context = ssl.create_default_context(cafile=cafile) if cafile else None
    scheme = "wss" if cafile else "ws"
    _, listener = await ws_connect(Counter, f"{scheme}://localhost:{port}/ws/btcusdt@aggTrade", ssl_context=context)
    await asyncio.sleep(0.2)
    before, started = listener.total, time.monotonic()
    await asyncio.sleep(seconds)
    print((listener.total - before) / (time.monotonic() - started), flush=True)
    import os; os._exit(0)
asyncio.run(main())
"""


# --- Running them ---------------------------------------------------------------------------------------


def spawn(*words, python=sys.executable, core=0):
    def pin():
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})

    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [python, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        preexec_fn=pin if os.name == "posix" else None,  # noqa: PLW1509 - no threads here
    )


def measure(server, client, python=sys.executable):
    """What a client gets, by the second of the clock and by the second of the server's CPU."""
    me = str(Path(__file__).resolve())
    serving = spawn(me, "--server", *server)
    try:
        port, _, cafile = serving.stdout.readline().strip().partition(" ")
        words = [word.replace("{port}", port).replace("{cafile}", cafile) for word in client]
        before = cpu_seconds(serving.pid)
        reading = spawn(*([] if words[0] == "-c" else [me, "--client"]), *words, python=python, core=1)
        out, _ = reading.communicate(timeout=120)
        rate, _, whole = out.strip().partition(" ")
        spent = cpu_seconds(serving.pid) - before
        return float(rate), float(whole) / spent if whole and spent > 0 else 0.0
    finally:
        serving.kill()
        serving.wait()
        serving.stdout.close()


def cpu_seconds(pid):
    """CPU that a process has used; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def interleaved(rounds, contenders):
    """Rates of each contender in each round."""
    rates = {name: [] for name in contenders}
    for number in range(rounds):
        # Every other round backwards, so that nobody always follows the same one.
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            rates[name].append(measure(*contenders[name]))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rates


def ratio(rates, one, other, target=0):
    """Median of the rounds, the best and the worst, by the clock and by the server's CPU; and whether it is enough."""
    pairs = list(zip(rates[one], rates[other], strict=True))
    each = sorted(a[0] / b[0] for a, b in pairs)
    median = statistics.median(each)
    text = f"{median:8.2f}   ({each[0]:.2f} to {each[-1]:.2f})"
    spent = sorted(a[1] / b[1] for a, b in pairs if a[1] and b[1])
    if spent:
        text += f"   by CPU {statistics.median(spent):.2f} ({spent[0]:.2f} to {spent[-1]:.2f})"
    return f"{text}   target {target:g}: {'met' if median >= target else 'missed'}" if target else text


def make_recordings(folder, frames):
    """A market in typed columns; a longer one; and a long one with a key more, which must be kept as raw bytes."""
    import msgspec

    from harness.recording import RecordingWriter
    from harness.recording.format import ROW_GROUP
    from harness.recording.store import GROUPS_HELD, HELD_BYTES
    from harness.sources import synth

    short, typed, raw = folder / "short.parquet", folder / "typed.parquet", folder / "raw.parquet"
    long = max(frames, 2 * GROUPS_HELD * ROW_GROUP, HELD_BYTES // 128)
    for path, count, change in [(short, frames, None), (typed, long, None), (raw, long, b',"x":1}')]:
        writer = RecordingWriter(path, source="synthetic")
        writer.write(
            frame if change is None else msgspec.structs.replace(frame, data=re.sub(rb"\}$", change, frame.data))
            for frame in synth.make("normal", "BTCUSDT", frames=count, seed=1)
        )
        writer.close()
    return short, typed, raw


def lateness(recording, speed, seconds):
    """Milliseconds behind the due time at which frames arrive, and at which a process that only sleeps is woken."""
    from harness.exchange import ExchangeSettings
    from harness.recording import load_timeline
    from harness.transports.live import LiveExchange

    timeline = load_timeline([recording])
    with LiveExchange(timeline, settings=ExchangeSettings(speed=speed), write=lambda _: None) as live:
        port = str(live.urls["ws"]).rpartition(":")[2]
        # Not on a core of its own: what it meets is what the exchange meets.
        sleeper = subprocess.Popen([sys.executable, __file__, "--sleep", str(seconds)], stdout=subprocess.PIPE)
        client = spawn(Path(__file__).resolve(), "--client", "times", port, seconds, core=1)
        out, _ = client.communicate(timeout=60)
        slept, _ = sleeper.communicate(timeout=60)
        started = live.exchange.started_ns
    due = timeline.due_ns / speed
    late, frame = [], 0
    for at, size in json.loads(out):
        for _ in range(size):
            late.append((at - started - due[frame]) / 1e6)
            frame += 1
    return sorted(late), sorted(json.loads(slept))


def sleep(seconds):
    """How late a deadline every 10 ms is met by who does nothing else: what the machine can at the moment."""
    late, due = [], time.monotonic()
    end = due + seconds
    while due < end:
        due += 0.01
        time.sleep(max(0, due - time.monotonic()))
        late.append((time.monotonic() - due) * 1000)
    print(json.dumps(late))


def told(late):
    """Three figures of sorted ones."""
    return f"p50 {late[len(late) // 2]:.2f} ms, p99 {late[int(len(late) * 0.99)]:.2f} ms, worst {late[-1]:.2f} ms"


def read_times(port, seconds):
    """When how many frames arrived."""
    sock = connected(port)
    sock.settimeout(0.2)
    head, times, start = False, [], time.monotonic()
    while time.monotonic() < start + seconds:
        try:
            data = sock.recv(1 << 20)
        except TimeoutError:
            continue
        at = time.monotonic_ns()
        if not head:
            head, data = True, data.partition(b"\r\n\r\n")[2]
        if data:
            times.append((at, data.count(b'"e":"aggTrade"')))
    print(json.dumps(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--picows", help="a Python that has picows")
    parser.add_argument("--fan-out", type=int, default=1000, help="0 leaves fan-out and pacing out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, typed, raw = make_recordings(Path(folder), args.frames)
        seconds = str(args.seconds)
        reader = (["read", "{port}", seconds], sys.executable)
        secure_reader = (["read", "{port}", seconds, "{cafile}"], sys.executable)
        contenders = {
            "websockets": (("websockets", short), *reader),
            "raw socket": (("raw", short), *reader),
            "rendered": (("harness", short), *reader),
            "raw column": (("harness-uncached", raw), *reader),
            "typed columns": (("harness-uncached", typed), *reader),
            "raw TLS": (("raw-tls", short), *secure_reader),
            "wss": (("harness-tls", short), *secure_reader),
        }
        if args.picows:
            pico = (["-c", PICOWS, "{port}", seconds], args.picows)
            secure_pico = (["-c", PICOWS, "{port}", seconds, "{cafile}"], args.picows)
            contenders |= {
                "picows raw": (("raw", short), *pico),
                "picows": (("harness", short), *pico),
                "picows raw TLS": (("raw-tls", short), *secure_pico),
                "picows wss": (("harness-tls", short), *secure_pico),
            }
        rates = interleaved(args.rounds, contenders)
        print(
            "bytes/s, median:",
            {n: f"{statistics.median(rate for rate, _ in values):,.0f}" for n, values in rates.items()},
        )
        for name, target in {"rendered": 60, "raw column": 18, "typed columns": 12}.items():
            print(f"replay, {name:14} / websockets send loop {ratio(rates, name, 'websockets', target)}")
        for name, target in {"rendered": 0.7, "raw column": 0.3, "typed columns": 0.18}.items():
            print(f"replay, {name:14} / raw socket           {ratio(rates, name, 'raw socket', target)}")
        print(f"wss / ws, byte counter                        {ratio(rates, 'wss', 'rendered', 0.9)}")
        print(f"  the same of raw sockets: what the peer can  {ratio(rates, 'raw TLS', 'raw socket')}")
        print(f"wss / raw TLS socket, byte counter            {ratio(rates, 'wss', 'raw TLS')}")
        if args.picows:
            print(f"picows fed by us / by a raw socket            {ratio(rates, 'picows', 'picows raw', 0.95)}")
            print(f"wss / ws, picows                              {ratio(rates, 'picows wss', 'picows', 0.9)}")
            print(f"  the same of raw sockets: what the peer can  {ratio(rates, 'picows raw TLS', 'picows raw')}")
        for count in sorted({100, args.fan_out}) if args.fan_out else ():
            many = (["read-many", "{port}", seconds, str(count)], sys.executable)
            fan = interleaved(
                min(3, args.rounds), {"broadcast": (("broadcast", short), *many), "ours": (("harness", short), *many)}
            )
            print(f"fan-out to {count:5} / websockets.broadcast     {ratio(fan, 'ours', 'broadcast', 50)}")
        for speed in (1.0, 10.0) if args.fan_out else ():
            late, slept = lateness(short, speed, 6 * args.seconds)
            met = "met" if late[int(len(late) * 0.99)] <= 2 else "missed"
            print(f"lateness at {speed:g}x, {len(late)} frames: {told(late)}   target p99 2 ms on an idle core: {met}")
            print(f"  who only sleeps, meanwhile: {told(slept)}")


SERVERS = {
    "raw": serve_raw,
    "raw-tls": lambda recording: serve_raw(recording, tls=True),
    "websockets": serve_websockets,
    "broadcast": lambda recording: serve_websockets(recording, broadcast=True),
    "harness": serve_harness,
    "harness-uncached": lambda recording: serve_harness(recording, cached=False),
    "harness-tls": lambda recording: serve_harness(recording, tls=True),
}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--server"]:
        SERVERS[sys.argv[2]](sys.argv[3])
    elif sys.argv[1:3] == ["--client", "read"]:
        read(int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
    elif sys.argv[1:3] == ["--client", "read-many"]:
        read_many(int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["--sleep"]:
        sleep(float(sys.argv[2]))
    elif sys.argv[1:3] == ["--client", "times"]:
        read_times(int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
