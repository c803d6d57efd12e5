"""`harness serve`: recordings from a local exchange that can misbehave."""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from harness.cli._options import add_plan, add_seed, plan_of, port

if TYPE_CHECKING:
    import argparse
    from types import FrameType

    from harness.exchange import ExchangeSettings
    from harness.faults.plan import Plan
    from harness.timeline import Timeline

_LOOPBACK = ("127.", "::1", "localhost")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("recordings", nargs="*", metavar="RECORDING", help="Parquet file, folder or URI; several are merged by time")
    where = parser.add_argument_group("where")
    where.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    where.add_argument("--port", type=port, default=0, help="port of ws and http; 0 for any free one")
    where.add_argument("--tls", action="store_true", help="serve wss and https too, on a port of their own")
    where.add_argument("--tls-port", type=port, default=0, metavar="PORT", help="port of wss and https; 0 for any")
    pace = parser.add_argument_group("pace")
    pace.add_argument("--speed", default="1", help="1, a factor such as 10, or max (1)")
    pace.add_argument("--retime", choices=["none", "auto"], default="none", help="auto moves recorded times to now")
    pace.add_argument("--from", dest="from_", default="0s", metavar="DURATION", help="start so far into the tape")
    pace.add_argument("--loop", action="store_true", help="start again when the tape has ended")
    pace.add_argument(
        "--grace", default="500ms", metavar="DURATION", help="from first subscription to first frame (500ms)"
    )
    pace.add_argument("--symbol", action="append", default=[], help="only this symbol; may be repeated")
    pace.add_argument(
        "--no-marks", action="store_true", help="do not re-enact disconnects that the recording remembers"
    )
    wrong = parser.add_argument_group("what goes wrong")
    add_plan(wrong)
    add_seed(wrong)
    wrong.add_argument("--explain", action="store_true", help="say what each connection will do and when, and exit")
    rules = parser.add_argument_group("the exchange's own rules")
    rules.add_argument("--market", choices=["auto", "spot", "um", "cm"], default="auto", help="dialect (auto: by Host)")
    rules.add_argument("--no-deflate", action="store_true", help="never agree to permessage-deflate")
    rules.add_argument("--ping-interval", metavar="DURATION", help="between the exchange's pings (20s; futures 3m)")
    rules.add_argument("--pong-deadline", metavar="DURATION", help="for the client's pong (1m; futures 10m)")
    rules.add_argument("--life", default="24h", metavar="DURATION", help="life of a connection (24h)")
    rules.add_argument("--shutdown-notice", metavar="DURATION", help="send serverShutdown so long before the life ends")
    rules.add_argument("--no-limits", action="store_true", help="no limits on messages, connections and REST weight")
    rules.add_argument("--no-control", action="store_true", help="do not answer under /harness/")
    rules.add_argument("--echo", action="store_true", help="echo messages, for conformance suites; needs no recording")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from harness.errors import UsageError

    if not args.recordings and not args.echo:
        raise UsageError("harness serve needs a RECORDING; make one with harness record, import or synth")
    settings = _settings(args)
    plan = plan_of(args)
    timeline = _timeline(args)
    if plan.faults:
        from harness.script import check

        check(plan, timeline)
    if args.explain:
        from harness.script import explain  # type: ignore[attr-defined,unused-ignore]

        print(explain(plan, timeline))
        return 0
    return _serve(args, settings, plan, timeline)


def _settings(args: argparse.Namespace) -> ExchangeSettings:
    from harness.clock import parse_duration_ns
    from harness.exchange import ExchangeSettings, parse_speed
    from harness.faults.plan import seed_of

    def duration(text: str | None) -> int | None:
        return None if text is None else parse_duration_ns(text)

    limits: dict[str, Any] = {"message_limit": 0, "connect_limit": 0, "weight_limit": 0} if args.no_limits else {}
    if args.echo:
        # Conformance suites send messages of many megabytes, hundreds a second, over hundreds of connections.
        limits |= {"message_bytes_max": 64 << 20, "message_limit": 0, "connect_limit": 0}
    return ExchangeSettings(
        speed=parse_speed(args.speed),
        retime=args.retime,
        grace_ns=parse_duration_ns(args.grace),
        from_ns=parse_duration_ns(args.from_),
        loop=args.loop,
        marks=not args.no_marks,
        market=args.market,
        deflate=not args.no_deflate,
        echo=args.echo,
        # Who can reach the port can inject faults, so elsewhere than on loopback nobody can.
        control=not args.no_control and args.bind.startswith(_LOOPBACK),
        seed=seed_of(args.seed, args.plan),
        ping_interval_ns=duration(args.ping_interval),
        pong_deadline_ns=duration(args.pong_deadline),
        life_ns=parse_duration_ns(args.life),
        shutdown_notice_ns=duration(args.shutdown_notice),
        **limits,
    )


def _timeline(args: argparse.Namespace) -> Timeline:
    from harness.clock import parse_duration_ns
    from harness.errors import UsageError

    if not args.recordings:
        import numpy as np

        from harness.timeline import Timeline

        empty = np.zeros(0, np.int64)
        return Timeline(
            due_ns=empty, stream_codes=empty.astype(np.int32), trade_ids=empty, event_ms=empty, streams=(),
            store=_NoStore(), start_ms=0,
        )  # fmt: skip
    from harness.recording import load_timeline

    timeline = load_timeline(args.recordings, symbols=args.symbol or None)
    if not len(timeline):
        names = ", ".join(args.recordings)
        raise UsageError(f"{names}: no data frames" + (f" of {', '.join(args.symbol)}" if args.symbol else ""))
    if parse_duration_ns(args.from_) > timeline.length_ns:
        raise UsageError(
            f"--from {args.from_} is past the end of the tape, which lasts {timeline.length_ns / 1e9:.3f}s"
        )
    return timeline


class _NoStore:
    def fetch(self, first: int, last: int) -> list[bytes]:
        assert first == last
        return []


def _serve(args: argparse.Namespace, settings: ExchangeSettings, plan: Plan, timeline: Timeline) -> int:
    from harness.clock import monotonic_ns
    from harness.exchange.injection import Injection, Recent
    from harness.transports.live import LiveExchange

    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    recent = Recent()
    live = LiveExchange(
        timeline, plan, settings=settings, write=recent.write, bind=args.bind, port=args.port, tls=args.tls,
        tls_port=args.tls_port,
    )  # fmt: skip
    try:
        _raise_descriptor_limit()
        with live:
            Injection(live.exchange, recent)
            print(json.dumps(live.urls), flush=True)
            if sys.stderr.isatty():
                print(f"serving {len(timeline)} frames; Ctrl-C to stop", file=sys.stderr)
            # In slices: a wait without an end cannot be interrupted on Windows.
            told = not len(timeline)
            while not stop.wait(0.5):
                if not told and live.exchange.ended(monotonic_ns()):
                    told = True
                    print(
                        "the tape has ended: connections stay open, and nothing more comes; --loop starts it again",
                        file=sys.stderr,
                    )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _raise_descriptor_limit() -> None:
    # A thousand clients need a thousand descriptors; many systems start programs with 1024.
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            pass
