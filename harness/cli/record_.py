"""`harness record`: capture live frames from the exchange into a recording."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from harness.cli._options import port, whole

if TYPE_CHECKING:
    import argparse

    from harness.recorder.health import Health
    from harness.recorder.settings import Settings

PLAIN_PROGRESS_S = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("symbol", nargs="+", metavar="SYMBOL", help="btcusdt, or a whole stream such as btcusdt@trade")
    add("--endpoint", default="", metavar="URL", help="default: wss://stream.binance.com:9443, or the market's own")
    add("--market", choices=("spot", "um", "cm"), default="spot", help="spot, USD-M or COIN-M futures")
    add("--stream", action="append", metavar="NAME", help="aggTrade (default), trade, depth@100ms; may be repeated")
    add("--frames", type=whole(1), metavar="N", help="stop after so many messages")
    add("--duration", metavar="D", help="stop after so long: 90s, 10m, 1h")
    add(
        "--rotate",
        default="",
        metavar="D",
        help="a new recording every 1h or 256MB, in symbol=/date= folders",
    )
    add("--out", default="recordings", metavar="DIR", help="a folder, one .parquet file, or s3://bucket/path")
    add(
        "--journal",
        default="",
        metavar="DIR",
        help="folder of the journals when --out is not local",
    )
    add("--cafile", metavar="PEM", help="trust this authority only")
    add("--no-backfill", dest="backfill", action="store_false", help="do not fetch missing trades over REST")
    add("--rest", default="", metavar="URL", help="REST interface; default: the one that belongs to the endpoint")
    add("--flush", default="250ms", metavar="D", help="make frames durable so often, up to 1s (default: 250ms)")
    add("--stall", default="60s", metavar="D", help="look into a stream that says nothing for so long (default: 60s)")
    add(
        "--life",
        default="23h50m",
        help="replace a connection at this age (default: 23h50m)",
    )
    add("--status-file", metavar="FILE", help="keep the recorder's health there, as JSON")
    add("--metrics-port", type=port, metavar="PORT", help="answer /metrics (Prometheus) and /health on loopback")


def run(args: argparse.Namespace) -> int:
    """Record until the end, Ctrl-C or SIGTERM."""
    import asyncio
    import logging
    from pathlib import Path

    from harness import clock
    from harness.errors import UsageError
    from harness.recorder.settings import make_settings

    interval_ns = clock.parse_duration_ns(args.flush)
    if not 10 * clock.NS_PER_MS <= interval_ns <= clock.NS_PER_S:
        raise UsageError(f"--flush {args.flush}: frames are made durable at least every 1s, at most every 10ms")
    if args.status_file and not Path(args.status_file).parent.is_dir():
        raise UsageError(f"--status-file {args.status_file}: no such folder")
    if args.cafile and not Path(args.cafile).is_file():
        raise UsageError(f"--cafile {args.cafile}: no such file")
    settings = make_settings(
        args.symbol,
        channels=args.stream or ["aggTrade"],
        out=args.out,
        endpoint=args.endpoint,
        market=args.market,
        rotate=args.rotate,
        journal=args.journal,
        frame_count_max=args.frames,
        duration_ns=None if args.duration is None else clock.parse_duration_ns(args.duration),
        cafile=args.cafile,
        backfill=args.backfill,
        rest=args.rest,
        interval_ns=interval_ns,
        stall_ns=clock.parse_duration_ns(args.stall),
        life_ns=_life_ns(args.life),
        status_file=Path(args.status_file) if args.status_file else None,
        metrics_port=args.metrics_port,
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return asyncio.run(_record(_recover_first(settings)))


def _life_ns(text: str) -> int:
    import re

    from harness import clock

    # `23h50m`: the only duration here that people write in two parts.
    return sum(clock.parse_duration_ns(part) for part in re.findall(r"[\d.]+\s*[a-z]*", text) or [text])


def _recover_first(settings: Settings) -> Settings:
    # What a crash left in this folder is finished before anything new begins, and then gone on with.
    from harness import clock
    from harness.cli.recover_ import show
    from harness.recorder.resume import go_on
    from harness.recording.recovery import Recovered, recover

    found: list[Recovered] = []

    def report(one: Recovered) -> None:
        if not one.problem:
            show(one, file=sys.stderr)
            found.append(one)

    if settings.folder.is_dir():
        recover(settings.folder, report=report)
    return go_on(settings, found, now_ns=clock.wall_ns())


async def _record(settings: Settings) -> int:
    import asyncio
    import contextlib

    from harness.recorder.health import serve_metrics
    from harness.recorder.recorder import Recorder

    uploader = None
    if settings.destination:
        from harness.recorder.upload import Uploader

        uploader = Uploader(settings.destination, root=settings.folder)
        uploader.take_along()
    with _Progress(settings) as progress:
        recorder = Recorder(settings, deliver=uploader.deliver if uploader else None, on_progress=progress.show)
        _on_signals(recorder)
        server = None
        if settings.metrics_port is not None:
            server = await serve_metrics(recorder.health, settings.metrics_port)
        try:
            paths = await recorder.run()
        finally:
            if server:
                server.close()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(server.wait_closed(), 1)
    health = recorder.health
    for path in uploader.uploaded if uploader else paths:
        print(path)
    for path in uploader.waiting if uploader else ():
        print(f"not uploaded yet: {path}; the next record with this --out takes it along", file=sys.stderr)
    gaps = f"{health.gaps} gaps, {health.backfilled} trades backfilled, {health.missing} missing"
    print(f"{health.frames} frames in {health.connections} connections, {gaps}", file=sys.stderr)
    for path in recorder.left_behind:
        print(f"unfinished: {path}; finish it with: harness recover {settings.folder}", file=sys.stderr)
    return 0


def _on_signals(recorder: Any) -> None:
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, recorder.stop, signal.Signals(number).name)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(recorder.stop))


class _Progress:
    """One line that is kept up to date on a terminal, a line now and then elsewhere."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._status: Any = None
        self._shown_ns = 0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("connecting ...")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show(self, health: Health) -> None:
        """Take the numbers of the moment."""
        from harness import clock

        if self._settings.status_file:
            health.write(self._settings.status_file)
        if self._status:
            self._status.update(_line(health))
        elif clock.steady_ns() - (self._shown_ns or health.started_ns) > PLAIN_PROGRESS_S * clock.NS_PER_S:
            self._shown_ns = clock.steady_ns()
            print(_line(health), file=sys.stderr, flush=True)


def _line(health: Health) -> str:
    parts = [
        f"{health.state} {health.frames:,} frames",
        f"{health.rate:,.0f}/s",
        f"last price {health.last_price or '-'}",
        f"{health.gaps} gaps",
        f"{health.bytes_per_frame:.0f} B/frame in the journal",
    ]
    if health.mute:
        parts.append(f"MUTE: {', '.join(health.mute[:3])}")
    if health.behind or health.disk_problem:
        parts.append(f"DISK: {health.disk_problem or 'behind'}")
    return "  ".join(parts)
