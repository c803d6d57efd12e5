"""A recording in other people's formats."""

from __future__ import annotations

import base64
from typing import IO, TYPE_CHECKING

import msgspec

from harness.frames import DATA_KINDS, parse_agg_trade, split_wrapped
from harness.recording.format import iso
from harness.recording.table import to_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.frames import Frame
    from harness.recording.reader import Recording

_encode = msgspec.json.Encoder().encode


def to_jsonl(recording: Recording, sink: IO[bytes], progress: Callable[[int], None]) -> dict[str, int]:
    """
    One object a frame, nothing lost: importing it gives back the same frames.

    `raw` is the frame as text; bytes that are no UTF-8 are in `raw_base64` instead.
    """
    for frames in _groups(recording):
        sink.writelines(_encode(_object(frame)) + b"\n" for frame in frames)
        progress(len(frames))
    return {}


def _object(frame: Frame) -> dict[str, object]:
    stream = split_wrapped(frame.data)[0] if frame.kind in DATA_KINDS else None
    out: dict[str, object] = {
        "received_at": iso(frame.received_at_ns),
        "monotonic_ns": frame.monotonic_ns,
        "connection": frame.connection,
        "direction": frame.direction,
        "kind": frame.kind,
        "stream": stream,
    }
    try:
        out["raw"] = frame.data.decode()
    except UnicodeDecodeError:
        out["raw_base64"] = base64.b64encode(frame.data).decode()
    if frame.close_code is not None:
        out["close_code"] = frame.close_code
    if frame.detail:
        out["detail"] = frame.detail
    return out


def to_csv(recording: Recording, sink: IO[bytes], progress: Callable[[int], None]) -> dict[str, int]:
    """Aggregate trades in the layout of the public spot archive: 8 columns, no header, milliseconds."""
    skipped: dict[str, int] = {}
    for frames in _groups(recording):
        for frame in frames:
            trade = parse_agg_trade(split_wrapped(frame.data)[1]) if frame.kind in DATA_KINDS else None
            if trade is None:
                reason = f"{frame.kind} that is no aggTrade"
                skipped[reason] = skipped.get(reason, 0) + 1
                continue
            line = (
                f"{trade.agg_trade_id},{trade.price:.8f},{trade.quantity:.8f},{trade.first_trade_id},"
                f"{trade.last_trade_id},{trade.trade_ms},{trade.is_buyer_maker},True\n"
            )
            sink.write(line.encode())
        progress(len(frames))
    return skipped


def _groups(recording: Recording) -> Iterator[list[Frame]]:
    for part, group in recording.groups():
        yield to_frames(part.read(group))


WRITERS = {"jsonl": to_jsonl, "csv": to_csv}
