"""Bytes per aggTrade frame, against the raw lines compressed.

    python -m benchmarks.size [--captures FOLDER] [--frames 2000000]

The reference is what a careful person would do without a format: lines of receive time (nanoseconds) and frame,
through zstd -3. A recording holds the same bytes and receive times, the monotonic clock besides, and can be queried.

Captures whose trades are real but whose receive times are not (archive CSV, REST) get receive times by a model: 50 ms
after the event plus lognormal jitter of 0.7 ms median; trades of one millisecond arrive in one read. So does the
synthetic day. Both clocks are stamped as the recorder does it (`harness.clock.both_ns`): in ticks of 4096 ns, and the
steady clock tells the wall's time, which nobody sets meanwhile. "exact" is the same with stamps of single nanoseconds.
Receive times of real captures are left as they are. Each is compared with lines of the same stamps.

The archive has no event times, so rendered captures have the trade's in both columns, which then share their pages;
"E later" draws them 0 to 9 ms later (geometric, mean 2 ms), as a live connection has them. The synthetic day has its
own.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from harness import clock
from harness.errors import HarnessError
from harness.frames import Frame, parse_agg_trade, split_wrapped
from harness.recording import RecordingWriter, open_recording
from harness.sources import import_file, synth

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVENT = re.compile(rb'"E":(\d+)')
SMALL = 10_000
"""Below this a recording's own head and foot (about 8 kB) weigh more than its frames."""


def is_trade(frame: Frame) -> bool:
    """Whether a frame is an aggTrade."""
    return frame.kind == "text" and parse_agg_trade(split_wrapped(frame.data)[1]) is not None


def received(frames: list[Frame], *, tick_ns: int = clock.TICK_NS) -> list[Frame]:
    """The frames as a recorder would have received them, by the model."""
    luck = np.random.default_rng(7)
    at = np.maximum.accumulate(np.array([frame.received_at_ns for frame in frames], dtype=np.int64))
    follows = np.concatenate(([False], np.diff(at) == 0))
    leader = np.maximum.accumulate(np.where(follows, 0, np.arange(len(at))))
    jitter = luck.lognormal(np.log(700_000), 0.8, len(at)).astype(np.int64)[leader]
    at = np.maximum.accumulate(at + 50_000_000 + jitter) // tick_ns * tick_ns
    return [
        msgspec.structs.replace(frame, received_at_ns=now, monotonic_ns=now)
        for frame, now in zip(frames, at.tolist(), strict=True)
    ]


def event_ms(frame: Frame) -> int:
    """The event time of an aggTrade."""
    found = _EVENT.search(frame.data)
    assert found is not None
    return int(found[1])


def event_later(frames: list[Frame]) -> list[Frame]:
    """The frames with the event some milliseconds after the trade."""
    late = np.minimum(np.random.default_rng(8).geometric(1 / 3, len(frames)) - 1, 9).tolist()
    return [
        msgspec.structs.replace(frame, data=_EVENT.sub(b'"E":%d' % (event_ms(frame) + by), frame.data))
        for frame, by in zip(frames, late, strict=True)
    ]


def blocks(frames: Iterator[Frame], size: int = 65_536) -> Iterator[list[Frame]]:
    """Frames by the block, so that a day is never in memory at once."""
    block: list[Frame] = []
    for frame in frames:
        block.append(frame)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def measure(name: str, source: Iterator[list[Frame]], folder: Path, *, levels: tuple[int, ...]) -> None:
    """Write one recording, compress the same lines, and print both."""
    path = folder / "a.parquet"
    path.unlink(missing_ok=True)
    writer = RecordingWriter(path)
    timed = {level: _Stream(level) for level in levels}
    bare = _Stream(19) if 19 in levels else None
    count = 0
    for block in source:
        writer.write(block)
        lines = b"".join(b"%d %s\n" % (frame.received_at_ns, frame.data) for frame in block)
        for stream in timed.values():
            stream.write(lines)
        if bare is not None:
            bare.write(b"".join(frame.data + b"\n" for frame in block))
        count += len(block)
    writer.close()
    recording = open_recording(path)
    columns: dict[str, int] = {}
    typed = 0
    for part, group in recording.groups():
        typed += part.read(group, ["raw"]).column("raw").null_count
        for column, size in part.column_bytes(group).items():
            columns[column] = columns.get(column, 0) + size
    ours = path.stat().st_size / count
    ratios = "  ".join(f"{ours / (stream.size_bytes / count):6.3f} x zstd-{level}" for level, stream in timed.items())
    print(f"{name:40} {count:9,} {typed / count:6.0%} {ours:7.2f} B  {ratios}")
    if bare is not None:
        clocks = columns["received_at"] + columns["monotonic_ns"]
        left = ours - clocks / count
        print(f"{'  without clocks':57} {left:7.2f} B  {left / (bare.size_bytes / count):6.3f} x zstd-19")
    largest = sorted(columns.items(), key=lambda item: -item[1])[:7]
    print(f"    {', '.join(f'{column} {size / count:.2f}' for column, size in largest)}")


class _Stream:
    """Compresses block by block: blocks of 12 MB are far longer than the window in which zstd looks for repeats."""

    def __init__(self, level: int) -> None:
        self._codec = pa.Codec("zstd", level)
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self.size_bytes += len(self._codec.compress(data))


def main() -> int:
    """Measure every capture with aggTrades, and a synthetic day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=Path, help="folder of real captures; those with aggTrades are measured")
    parser.add_argument("--frames", type=int, default=2_000_000, help="length of the synthetic day")
    args = parser.parse_args()
    print(f"{'':40} {'frames':>9} {'typed':>6} {'ours':>9}  ratio (smaller is better)")
    with tempfile.TemporaryDirectory() as folder:
        normalised: dict[str, list[Frame]] = {}
        for path in sorted(args.captures.rglob("*")) if args.captures else []:
            try:
                capture = import_file(path, symbol="BTCUSDT" if "barter" in str(path) else None)
                frames = [frame for frame in capture.frames if is_trade(frame)]
            except (HarnessError, IsADirectoryError):
                continue
            if not capture.raw:
                # Files of one recorder are one market: hours of the same days.
                normalised.setdefault(path.parent.name, []).extend(frames)
            elif frames:
                measure(path.name[:34], iter([frames]), Path(folder), levels=(3,))
        for name, frames in normalised.items():
            frames.sort(key=lambda frame: frame.received_at_ns)
            levels = (3,) if len(frames) < SMALL else (3, 19)
            for words, changed, tick_ns in (
                ("rendered", frames, clock.TICK_NS),
                ("rendered, exact", frames, 1),
                ("rendered, E later", event_later(frames), clock.TICK_NS),
            ):
                stamped = iter([received(changed, tick_ns=tick_ns)])
                measure(f"{name} ({words})", stamped, Path(folder), levels=levels)
        for words, tick_ns in (("", clock.TICK_NS), (", exact", 1)):
            day = blocks(synth.make("normal", frames=args.frames, rate=args.frames / 86_400, seed=1))
            stamped = (received(block, tick_ns=tick_ns) for block in day)
            measure(f"a synthetic day{words}", stamped, Path(folder), levels=(3,))
    return 0


if __name__ == "__main__":
    sys.exit(main())
