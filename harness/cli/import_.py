"""`harness import`: other people's captures to a recording."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.cli._options import check_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from harness.frames import Frame
    from harness.frames.trades import Trades
    from harness.sources import Capture

    from ._reading import RowProgress


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="captures, plain, .gz or .zip; their kind is recognised"
    )
    parser.add_argument("--out", required=True, metavar="PATH", help="a .parquet file, or a folder for one file each")
    parser.add_argument(
        "--symbol",
        metavar="S",
        help="symbol of trades whose file name does not tell; A,B in order of appearance for several",
    )


def run(args: argparse.Namespace) -> int:
    """Import every file, and say what was taken, what was skipped, and why."""
    from pathlib import Path

    from harness.cli._reading import RowProgress
    from harness.errors import HarnessError
    from harness.recording import RecordingWriter
    from harness.sources import import_file

    out = Path(args.out)
    one_file = out.suffix == ".parquet"
    check_folder(str(out.parent if one_file else out))
    captures, failed = [], 0
    for name in args.files:
        try:
            captures.append(import_file(name, symbol=args.symbol))
        except HarnessError as mistake:
            # One bad file among many loses nothing of the others.
            print(f"harness: {mistake}", file=sys.stderr)
            failed += 1
    groups = [captures] if one_file and captures else [[capture] for capture in captures]
    for group in groups:
        path, seen = out if one_file else out / f".{group[0].path.name}", _Seen()
        try:
            with RowProgress("imported") as progress:
                writer = RecordingWriter(path, endpoint=_endpoint(group[0].endpoint), source=f"import: {_names(group)}")
                with writer:
                    for number, capture in enumerate(group):
                        writer.write(seen.through(_counted(capture, number, progress)))
                    if seen.back.count:
                        group[0].tally.remark(f"row {seen.back.row}: {seen.back}")
                    writer.remark(_remarks(group))
                    if not one_file:
                        writer.rename(seen.name(_stem(group[0].path.name)))
                path = writer.path
        except HarnessError as mistake:
            print(f"harness: {mistake}", file=sys.stderr)
            failed += 1
            continue
        for capture in group:
            _tell(capture, path, show_path=capture is group[0])
    return 2 if failed else 0


class _Seen:
    """What a recording without a name of its own is named after."""

    def __init__(self) -> None:
        from harness.recording.steps import StepsBack

        self._start_ns = 0
        self._symbols: dict[str, None] = {}
        self._channels: dict[str, None] = {}
        self.back = StepsBack()

    def through(self, pieces: Iterable[Frame | Trades]) -> Iterator[Frame | Trades]:
        from harness.frames import DATA_KINDS
        from harness.frames.trades import Trades
        from harness.recording.names import stream_of

        for frame in pieces:
            if isinstance(frame, Trades):
                self._start_ns = self._start_ns or int(frame.received_at_ns[0])
                self.back.take(frame.received_at_ns)
                self._symbols.update(dict.fromkeys(symbol.lower() for symbol in frame.columns.symbols))
                self._channels.setdefault("aggTrade")
                yield frame
                continue
            self._start_ns = self._start_ns or frame.received_at_ns
            self.back.take_one(frame.received_at_ns)
            if frame.kind in DATA_KINDS and (stream := stream_of(frame.data)):
                symbol, _, channel = stream.partition("@")
                self._symbols.setdefault(symbol)
                self._channels.setdefault(channel)
            yield frame

    def name(self, source: str) -> str:
        from harness.recording.names import recording_name

        return recording_name(source, list(self._symbols), list(self._channels), self._start_ns)


def _counted(capture: Capture, number: int, progress: RowProgress) -> Iterator[Frame | Trades]:
    import msgspec

    from harness.frames.trades import Trades

    for piece in capture.pieces:
        # Two files of one recording are two connections: their clocks have nothing to do with each other.
        connection = piece.connection + 1000 * number
        if isinstance(piece, Trades):
            progress.advance(len(piece))
            yield Trades(connection, piece.received_at_ns, piece.monotonic_ns, piece.columns)
        else:
            progress.advance(1)
            yield msgspec.structs.replace(piece, connection=connection) if number else piece


def _tell(capture: Capture, path: object, *, show_path: bool) -> None:
    if show_path:
        print(path)
    print(f"  {capture.path}: {capture.kind}, {capture.tally.taken:,} frames{'' if capture.raw else ' (rendered)'}")
    for reason, count in capture.tally.skipped.items():
        print(f"    skipped {count:,}: {reason} (first: {capture.tally.first_place[reason]})")
    for remark in capture.tally.remarks:
        print(f"    note: {remark}")


def _names(group: list[Capture]) -> str:
    return ", ".join(capture.path.name for capture in group)


def _remarks(group: list[Capture]) -> list[str]:
    return list(dict.fromkeys(remark for capture in group for remark in capture.tally.remarks))


def _endpoint(url: str) -> str:
    # Streams are in the frames; a listen key in a query must not reach the metadata.
    return url.partition("?")[0]


def _stem(name: str) -> str:
    for ending in (".gz", ".zip", ".txt", ".ws", ".jsonl", ".json", ".csv", ".frames", ".part"):
        name = name.removesuffix(ending)
    return name
