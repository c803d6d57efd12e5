"""`harness demo`: the whole story in two minutes."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from harness.frames import Frame
    from harness.report import Run
    from harness.scenario import Scenario

TRADES = 1000
SEED = 7
STRIKE = 250
"""The trade after which things go wrong: a quarter into the tape."""
DEADLINE_S = 15


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--keep", metavar="DIR", help="leave the recordings, the bot and the report here, to look at")


def run(args: argparse.Namespace) -> int:
    """Tell the story; 0 when it ends as it should."""
    with _folder(args.keep) as folder:
        return _Demo(folder, kept=args.keep is not None).run()


@contextlib.contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    from harness.errors import UsageError

    if keep is None:
        with tempfile.TemporaryDirectory(prefix="harness-demo-") as name:
            yield Path(name)
        return
    folder = Path(keep)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{keep} is not empty; name a new folder for --keep")
    yield folder


class _Demo:
    def __init__(self, folder: Path, *, kept: bool) -> None:
        self.folder = folder
        self.kept = kept
        self.market = folder / "market.parquet"
        self.tape = folder / "recorded.parquet"
        self.went_wrong: list[str] = []

    def run(self) -> int:
        self._make_market()
        self._record()
        self._write_bot()
        runs = self._judge()
        self._show(runs)
        return self._end(runs)

    # --- The acts ---------------------------------------------------------------------------------

    def _make_market(self) -> None:
        from harness.recording import RecordingWriter
        from harness.sources.synth import make

        _title("1. A market", "No exchange is needed: a seeded model makes one.")
        with RecordingWriter(self.market, symbols=["btcusdt"], source="synthetic") as writer:
            writer.write(make(frames=TRADES, seed=SEED))
        first, last = [*_data(self.market)][:: TRADES - 1]
        print(f"   {TRADES:,} trades of BTCUSDT in {(last.monotonic_ns - first.monotonic_ns) / 1e9:.1f} s, for example")
        print(f"   {first.data.decode()}")

    def _record(self) -> None:
        from harness.cli import main
        from harness.exchange.settings import ExchangeSettings
        from harness.recording import load_timeline
        from harness.transports.live import LiveExchange

        _title(
            "2. Record",
            "Our exchange plays it over a real WebSocket, at its own pace; the recorder writes what comes.",
        )
        with LiveExchange(load_timeline([self.market]), settings=ExchangeSettings(speed=1.0)) as live:
            url = str(live.urls["ws"])
            print("   $ harness record btcusdt --endpoint", url, "--frames", TRADES)
            line = ["record", "btcusdt", "--endpoint", url, "--frames", str(TRADES), "--out", str(self.tape)]
            if main(line):
                self.went_wrong.append("the recorder failed")
                return
        sent, got = [f.data for f in _data(self.market)], [f.data for f in _data(self.tape)]
        same = sum(a == b for a, b in zip(sent, got, strict=False))
        verdict = "the recording is the market, byte for byte" if sent == got else "THEY DIFFER"
        print(f"   sent {len(sent):,} frames, recorded {len(got):,}, equal {same:,}: {verdict}")
        if sent != got:
            self.went_wrong.append("the recording differs from what was sent")

    def _write_bot(self) -> None:
        from importlib.resources import files

        text = files("harness.cli").joinpath("demo_bot.py.txt").read_text(encoding="utf-8")
        (self.folder / "bot.py").write_text(text, encoding="utf-8")

    def _judge(self) -> list[tuple[str, str, Run]]:
        from harness import runner
        from harness.cli.run_ import as_run

        _title("3. Judge", "Each run is a process of its own, with the real hosts' names leading to our exchange.")
        story = self._story()
        print(
            f"   {len(story)} runs at once, with the tape at its own pace; this takes about half a minute ...",
            flush=True,
        )
        results = runner.run_all([scenario for _, _, scenario in story], jobs=len(story) + 2)
        return [(text, expected, as_run(result)) for (text, expected, _), result in zip(story, results, strict=True)]

    def _story(self) -> list[tuple[str, str, Scenario]]:
        import msgspec

        from harness.clock import NS_PER_S
        from harness.scenario import Scenario

        base = Scenario(
            subject="bot:AsFound",
            recordings=(str(self.tape),),
            path=str(self.folder),
            seed=SEED,
            deadline_ns=DEADLINE_S * NS_PER_S,
        )
        sound = msgspec.structs.replace(base, subject="bot:sound")
        change = msgspec.structs.replace
        return [
            ('As found. It says "running in background", and that is the last word.', "silent", base),
            (
                "The report's incident: the loop ran start() and never again.",
                "silent",
                change(base, host="host.run_until_complete"),
            ),
            ("The sound service, nothing wrong.", "intact", sound),
            ("The link is reset.", "intact", change(sound, faults=(f"tcp.reset_peer@frame={STRIKE}",))),
            (
                "The stream goes mute, pings answered.",
                "intact",
                change(sound, faults=(f"timing.silence@frame={STRIKE}",)),
            ),
            (
                "Acknowledged, and never one frame (the USD-M path change of April 2026).",
                "intact",
                change(sound, faults=("exchange.ack_then_silence#connection=1",)),
            ),
            (
                "The incident's host again, with the sound service: it cannot read, but it tells.",
                "loud",
                change(sound, host="host.run_until_complete"),
            ),
        ]

    def _show(self, runs: list[tuple[str, str, Run]]) -> None:
        from harness import report

        colour = sys.stdout.isatty()
        for number, (text, expected, run) in enumerate(runs):
            _title(f"{chr(ord('a') + number)})", text)
            if run.verdict.intact:
                print(f"   {run.verdict.outcome.upper()}   {_of(run)}")
            else:
                page = report.render([run], "text", colour=colour)
                print("\n".join(line for line in page.strip("\n").splitlines() if "reproduce:" not in line))
            if run.verdict.outcome != expected:
                self.went_wrong.append(f"{run.scenario.subject} {_of(run)}: {run.verdict.outcome}, expected {expected}")

    def _end(self, runs: list[tuple[str, str, Run]]) -> int:
        from harness import report

        if self.kept:
            page = self.folder / "report.html"
            page.write_text(report.render([run for _, _, run in runs], "html"), encoding="utf-8")
            _title("Kept", f"recordings, bot.py and {page}")
        print()
        for problem in self.went_wrong:
            print(f"   not as it should be: {problem}")
        if self.went_wrong:
            return 1
        print("   That is the difference. Now yours:")
        print("   $ harness run your.module:Service --recording RECORDING --faults all")
        return 0


def _of(run: Run) -> str:
    faults = ", ".join(run.scenario.named_faults) or "no fault"
    return f"{faults}: {run.verdict.accepted:,} of {run.verdict.obtainable:,} trades accepted, none lost or wrong"


def _data(path: Path) -> Iterator[Frame]:
    from harness.frames import DATA_KINDS
    from harness.recording import open_recording

    return (frame for frame in open_recording(path).frames() if frame.kind in DATA_KINDS)


def _title(head: str, text: str) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{head}{plain}  {text}", flush=True)
