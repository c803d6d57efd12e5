"""`harness inspect`: what is inside a recording."""

from __future__ import annotations

import shutil
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from harness.recording import Recording
    from harness.recording.summary import Summary

MARKS_SHOWN = 10
BARS = " ▁▂▃▄▅▆▇█"
PLOT_ROWS = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("recording", metavar="RECORDING", help="file, folder or URI")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Read it once and print what was found."""
    from harness.cli._reading import RowProgress
    from harness.recording import open_recording
    from harness.recording.summary import summarise

    recording = open_recording(args.recording)
    with RowProgress("read", len(recording)) as progress:
        summary = summarise(recording, progress=progress.advance)
    if args.format == "json":
        import json

        import msgspec

        print(
            json.dumps({"metadata": msgspec.to_builtins(recording.metadata), **msgspec.to_builtins(summary)}, indent=2)
        )
        return 0
    for name, text in _lines(recording, summary):
        print(f"  {name:12} {text}")
    print()
    for line in plot(summary.per_second, width=min(shutil.get_terminal_size().columns, 100) - 10):
        print(f"  {line}")
    return 0


def _lines(recording: Recording, summary: Summary) -> list[tuple[str, str]]:
    from harness.recording.format import iso

    about = recording.metadata
    span_s = (summary.last_ns - summary.first_ns) / 1e9
    data = summary.by_kind.get("text", 0) + summary.by_kind.get("binary", 0)
    frame_bytes = (
        f"{summary.stored_bytes / max(1, summary.rows):.1f} stored, {summary.payload_bytes / max(1, data):.0f} received"
    )
    out = [
        ("recording", f"{recording.place}  (format {about.format}, harness {about.harness})"),
        ("source", about.source + (f"  {about.endpoint}" if about.endpoint else "")),
        *[("note", remark) for remark in about.remarks],
        ("span", f"{iso(summary.first_ns)} to {iso(summary.last_ns)}, {span_s:,.1f} s" if summary.rows else "empty"),
        *[("clock", text) for text in summary.steps_back],
        ("frames", f"{data:,} data frames, {data / span_s if span_s else data:,.1f} per second"),
        ("rows", ", ".join(f"{count:,} {kind}" for kind, count in summary.by_kind.items())),
        ("symbols", _most(summary.by_symbol) or "no aggTrades"),
        ("streams", _most(summary.by_stream) or "none named (raw connection)"),
        ("connections", f"{summary.connections}"),
        ("bytes/frame", f"{frame_bytes}; {summary.rendered:,} frames from columns alone"),
    ]
    if summary.backfilled:
        out.append(("backfilled", f"{summary.backfilled:,} trades fetched over REST"))
    out += [
        ("blind" if kind != "close" else "close", f"{iso(at_ns)}  {kind}  {detail}")
        for at_ns, kind, detail in summary.marks[:MARKS_SHOWN]
    ]
    if len(summary.marks) > MARKS_SHOWN:
        out.append(("", f"and {len(summary.marks) - MARKS_SHOWN:,} more"))
    if not summary.marks:
        out.append(("blind", "nowhere, as far as the recording knows"))
    out += [("first frame", _short(summary.first_frame)), ("last frame", _short(summary.last_frame))]
    return out


def _most(counts: dict[str, int], shown: int = 6) -> str:
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{name} {count:,}" for name, count in ranked[:shown])
    return text + (f" and {len(ranked) - shown} more" if len(ranked) > shown else "")


def _short(frame: str, size: int = 200) -> str:
    return frame if len(frame) <= size else f"{frame[:size]}..."


def plot(per_second: list[int], *, width: int) -> list[str]:
    """
    Frames per second over the whole span, as lines of text.

    Args:
        per_second: counts.
        width: columns; where there are more seconds, each shows its busiest one, so that bursts stay visible.
    """
    if not per_second:
        return []
    width = max(10, min(width, len(per_second)))
    edges = [round(column * len(per_second) / width) for column in range(width + 1)]
    columns = [max(per_second[first:last] or [0]) for first, last in pairwise(edges)]
    top = max(columns) or 1
    out = []
    for row in range(PLOT_ROWS, 0, -1):
        heights = [column / top * PLOT_ROWS * 8 - (row - 1) * 8 for column in columns]
        cells = "".join(BARS[max(0, min(8, round(height)))] for height in heights)
        out.append(f"{top if row == PLOT_ROWS else '':>7} {cells}".rstrip())
    out.append(f"{'0':>7} {'─' * width}")
    out.append(f"{'':8}{'frames per second':<{max(0, width - 8)}}  {len(per_second)} s")
    return out
