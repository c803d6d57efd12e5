"""Raw captures, one frame a line: the bytes are the exchange's own and are never re-serialised."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from harness.clock import NS_PER_MS, NS_PER_S
from harness.errors import RecordingError
from harness.frames import Frame
from harness.sources import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.sources.capture import Tally

_TIMED = re.compile(rb"(\d{9,11})(?:\.(\d{1,9}))?: (.*)", re.DOTALL)
_TIMED_NS = re.compile(rb"(\d{19}) (.*)", re.DOTALL)
_EVENT_MS = re.compile(rb'"E":\s*(\d{13})(?!\d)')
_SNAPSHOT = re.compile(rb'\{"lastUpdateId"')


class Entry(msgspec.Struct):
    """One line of our own export, or of `{"market","recv","raw"}` files."""

    raw: str | None = None
    raw_base64: str | None = None
    recv: float | None = None
    received_at: str | None = None
    received_at_ns: int | None = None
    monotonic_ns: int | None = None
    connection: int = 1
    direction: str = "received"
    kind: str = "text"
    close_code: int | None = None
    detail: str = ""


_decode_entry = msgspec.json.Decoder(Entry).decode


def colon(path: Path, tally: Tally) -> Iterator[Frame]:
    """`<unix seconds>: <frame>` lines, the first naming the URL (cryptofeed's raw files)."""
    last_ns = 0
    for number, line in files.lines(path):
        if not line:
            continue  # the recorder ends each frame with an empty line
        if found := _TIMED.fullmatch(line):
            # Digits, not floats: a double holds microseconds of this century and no more.
            at_ns = int(found[1]) * NS_PER_S + int((found[2] or b"0").ljust(9, b"0"))
            last_ns = max(last_ns, at_ns)
            tally.taken += 1
            yield Frame(connection=1, received_at_ns=at_ns, monotonic_ns=last_ns, data=found[3])
        elif line.startswith((b"wss://", b"ws://")):
            if last_ns:
                tally.skip("the URL of a further connection", number)
        else:
            tally.skip("no receive time in front", number)
    tally.remark("monotonic times are derived from wall times")


def nanoseconds(path: Path, tally: Tally) -> Iterator[Frame]:
    """`<receive nanoseconds> <frame>` lines (hftbacktest's collector)."""
    last_ns = 0
    for number, line in files.lines(path):
        found = _TIMED_NS.fullmatch(line)
        if not found:
            tally.skip("no receive time in front", number)
            continue
        if _SNAPSHOT.match(found[2]):
            tally.skip("a REST depth snapshot that the recorder mixed in, no frame", number)
            continue
        at_ns = int(found[1])
        last_ns = max(last_ns, at_ns)
        tally.taken += 1
        yield Frame(connection=1, received_at_ns=at_ns, monotonic_ns=last_ns, data=found[2])
    tally.remark("monotonic times are derived from wall times")


def bare(path: Path, tally: Tally) -> Iterator[Frame]:
    """Frames as received, one a line, no receive time: event times stand in for it."""
    at_ns = 0
    for number, line in files.lines(path):
        if not line:
            tally.skip("an empty line", number)
            continue
        if found := _EVENT_MS.search(line):
            at_ns = max(at_ns, int(found[1]) * NS_PER_MS)
        tally.taken += 1
        yield Frame(connection=1, received_at_ns=at_ns, monotonic_ns=at_ns, data=line)
    tally.remark("there are no receive times; event times stand in for them")


def entries(path: Path, tally: Tally) -> Iterator[Frame]:
    """JSON lines with the frame in `raw`: our own export, and `{"market","recv","raw"}` files."""
    last_ns = 0
    for number, line in files.lines(path):
        if not line:
            continue
        try:
            entry = _decode_entry(line)
            data = _data(entry)
            at_ns = _received_ns(entry)
        except (msgspec.MsgspecError, ValueError, binascii.Error) as cause:
            raise RecordingError(f"{path}:{number}", f"is no line of an export: {cause}") from cause
        last_ns = max(last_ns, at_ns)
        tally.taken += 1
        try:
            yield msgspec.convert(
                {
                    "connection": entry.connection,
                    "direction": entry.direction,
                    "kind": entry.kind,
                    "received_at_ns": at_ns,
                    "monotonic_ns": entry.monotonic_ns if entry.monotonic_ns is not None else last_ns,
                    "data": data,
                    "close_code": entry.close_code,
                    "detail": entry.detail,
                },
                Frame,
                builtin_types=(bytes,),
            )
        except msgspec.ValidationError as cause:
            raise RecordingError(f"{path}:{number}", f"is no line of an export: {cause}") from cause


def _data(entry: Entry) -> bytes:
    if entry.raw_base64 is not None:
        return base64.b64decode(entry.raw_base64, validate=True)
    return (entry.raw or "").encode()


def _received_ns(entry: Entry) -> int:
    if entry.received_at_ns is not None:
        return entry.received_at_ns
    if entry.received_at is not None:
        return parse_instant_ns(entry.received_at)
    return round((entry.recv or 0) * 1_000_000) * 1000


_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)")


def parse_instant_ns(text: str) -> int:
    """Read an ISO 8601 instant in UTC to the nanosecond."""
    found = _INSTANT.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no instant in UTC")
    whole = datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00")
    return int(whole.timestamp()) * NS_PER_S + int((found[3] or "0").ljust(9, "0"))
