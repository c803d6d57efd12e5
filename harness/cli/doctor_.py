"""`harness doctor`: why does no data arrive? The endpoint stage by stage, and then your subject."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from harness.runner.doctor import Examination, Step


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "subject", nargs="?", metavar="SUBJECT", help="module:attribute; started, watched for a while, stopped"
    )
    parser.add_argument("--endpoint", metavar="URL", help="what to examine [wss://stream.binance.com:9443]")
    parser.add_argument(
        "--recording",
        action="append",
        default=[],
        metavar="R",
        help="examine against our own exchange, playing this, instead of the real one",
    )
    parser.add_argument("--symbol", action="append", default=[], metavar="S", help="[btcusdt]")
    parser.add_argument("--after", default="10s", metavar="D", help="how long to watch a subject [10s]")
    parser.add_argument("--timeout", default="10s", metavar="D", help="for each stage [10s]")
    parser.add_argument("--cafile", metavar="PEM", help="authority to trust")
    parser.add_argument("--tap", metavar="PATH", help="where the subject takes a trade")
    parser.add_argument("--path", default=".", metavar="DIR", help="folder to import the subject from [.]")


def run(args: argparse.Namespace) -> int:
    """Examine, and say at each stage what is the matter; 0 when data flows, 1 when it does not."""
    from harness.clock import parse_duration_ns
    from harness.runner import doctor

    symbols = tuple(symbol.lower() for symbol in args.symbol) or ("btcusdt",)
    timeout_s = parse_duration_ns(args.timeout) / 1e9
    with _exchange(args) as (endpoint, cafile):
        print(f"endpoint  {endpoint}")
        for name in doctor.proxies():
            print(f"  note    {name} is set: some clients follow it, others do not")
        healthy = True
        for step in doctor.endpoint_steps(endpoint, symbols[0], timeout_s=timeout_s, cafile=cafile):
            healthy = healthy and step.ok
            _show(step)
        if args.subject:
            seconds = parse_duration_ns(args.after) / 1e9
            print(f"\nsubject   {args.subject}, watched for {seconds:g} s", flush=True)
            print(f"watching {args.subject} for {seconds:g} s", file=sys.stderr)
            found = doctor.examine(args.subject, args.path, symbols, args.tap, seconds)
            _show_subject(found)
            healthy = healthy and found.receives
    return 0 if healthy else 1


@contextlib.contextmanager
def _exchange(args: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    from harness.runner.doctor import DEFAULT_ENDPOINT

    if not args.recording:
        yield args.endpoint or DEFAULT_ENDPOINT, args.cafile
        return
    from harness.exchange.settings import ExchangeSettings
    from harness.recording import load_timeline
    from harness.redirect import Redirect
    from harness.redirect.hosts import only_real_hosts
    from harness.transports.live import LiveExchange

    settings = ExchangeSettings(retime="auto", loop=True)
    with LiveExchange(load_timeline(args.recording), settings=settings, tls=True) as live:
        cafile = str(live.cafile)
        with Redirect(only_real_hosts(live.gate), cafile):
            yield args.endpoint or DEFAULT_ENDPOINT, cafile


def _show(step: Step) -> None:
    print(f"  {'●' if step.ok else '○'} {step.name:10} {step.took_ms:7.0f} ms  {step.text}", flush=True)
    if step.remedy:
        print(f"    {'try':10} {'':10}  {step.remedy}")


def _show_subject(found: Examination) -> None:
    rows = [("loop", text) for text in found.loops] + [("task", text) for text in found.tasks]
    rows += [("thread", ", ".join(found.threads))]
    rows += [("health", text) for text in found.health] or [("health", "none offered")]
    rows += [("log", text.splitlines()[0] if text else "") for text in found.said]
    for label, text in rows:
        print(f"  {label:10} {text}")
    history = ", ".join(f"{symbol or '?'} {count}" for symbol, count in found.accepted.items())
    tap = found.tap or "no tap found (name it with --tap PATH)"
    print(f"  {'●' if found.receives else '○'} {'history':10} {history or 'no trade arrived'}   (tap {tap})")
    if not found.receives:
        print(f"    {'try':10} if the endpoint above works, look at the tasks and loops: what waits where")
