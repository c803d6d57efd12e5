"""How the recorder is, for people and for machines: progress, a status file, Prometheus text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

import msgspec

from harness import clock
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.recorder.scribe import Scribe
    from harness.recorder.sieve import Sieve

_PRICE = re.compile(rb'"[pc]"\s*:\s*"([0-9.]{1,40})"')
_RATE_WINDOW_NS = 5 * clock.NS_PER_S


class Health:
    """
    What a recorder says about itself. Numbers count since its start.

    Args:
        streams: what it records.
        endpoint: without secrets.
    """

    def __init__(self, *, streams: tuple[str, ...], endpoint: str) -> None:
        self.state = "recording"
        self.streams = streams
        self.endpoint = endpoint
        self.started_ns = clock.steady_ns()
        self.frames = 0
        self.rate = 0.0
        """Frames a second, lately."""
        self.bytes_per_frame = 0.0
        """In the journal."""
        self.last_price = ""
        self.gaps = 0
        self.missing = 0
        self.duplicates_removed = 0
        self.backfilled = 0
        self.connections = 0
        self.reconnects = 0
        self.handovers = 0
        self.open: list[int] = []
        self.mute: list[str] = []
        self.behind = False
        self.disk_problem = ""
        self.pending_bytes = 0
        self.idle_s: float | None = None
        """Since the last message."""
        self.asked_ns: dict[str, int] = {}
        self._samples: list[tuple[int, int]] = []

    @property
    def healthy(self) -> bool:
        """It hears the exchange and can write."""
        return bool(self.open) and not self.mute and not self.behind and not self.disk_problem

    def update(self, scribe: Scribe, sieve: Sieve, mute: dict[str, int], wires: list[int]) -> None:
        """Take the numbers of the moment."""
        now = clock.steady_ns()
        self.frames = scribe.frame_count
        self.bytes_per_frame = scribe.bytes_per_frame
        self.pending_bytes = scribe.pending_bytes
        self.disk_problem = scribe.disk_problem
        self.gaps, self.missing = sieve.gap_count, sieve.missing_count
        self.duplicates_removed, self.backfilled = sieve.duplicate_count, sieve.backfilled_count
        self.open, self.mute = wires, sorted(mute)
        tracks = list(sieve.tracks.values())
        newest = max(tracks, key=lambda track: track.last_at_ns, default=None)
        if newest is not None and newest.last_at_ns:
            self.idle_s = max(0.0, (now - newest.last_at_ns) / clock.NS_PER_S)
            found = _PRICE.search(newest.last_payload)
            self.last_price = found[1].decode() if found else ""
        self._samples = [s for s in self._samples if now - s[0] <= _RATE_WINDOW_NS] + [(now, self.frames)]
        first = self._samples[0]
        if now > first[0]:
            self.rate = (self.frames - first[1]) * clock.NS_PER_S / (now - first[0])

    def as_dict(self) -> dict[str, Any]:
        """The status file's content, version 1."""
        return {
            "format": 1,
            "pid": os.getpid(),
            "written_at_ns": clock.wall_ns(),
            "uptime_s": round((clock.steady_ns() - self.started_ns) / clock.NS_PER_S, 3),
            "healthy": self.healthy,
            **{k: v for k, v in vars(self).items() if not k.startswith("_") and k not in {"started_ns", "asked_ns"}},
        }

    def prometheus(self) -> str:
        """The text exposition format, version 0.0.4."""
        rows = [
            ("healthy", "gauge", "1 when the recorder hears the exchange and can write.", int(self.healthy)),
            ("frames_total", "counter", "Frames written to the journal.", self.frames),
            ("gaps_total", "counter", "Holes found in the ids.", self.gaps),
            ("missing_ids", "gauge", "Ids not received, nor backfilled.", self.missing),
            ("backfilled_total", "counter", "Trades fetched over REST.", self.backfilled),
            ("duplicates_removed_total", "counter", "Duplicates of planned hand-overs.", self.duplicates_removed),
            ("reconnects_total", "counter", "Connections after the first ones.", self.reconnects),
            ("handovers_total", "counter", "Connections replaced before they were cut.", self.handovers),
            ("open_connections", "gauge", "Connections open now.", len(self.open)),
            ("mute_streams", "gauge", "Streams that say nothing though they should.", len(self.mute)),
            ("pending_bytes", "gauge", "Bytes not yet written.", self.pending_bytes),
            ("behind", "gauge", "1 when the disk does not keep up and sockets are not read.", int(self.behind)),
            ("idle_seconds", "gauge", "Seconds since the last message.", "NaN" if self.idle_s is None else self.idle_s),
        ]
        lines = []
        for name, kind, words, value in rows:
            full = f"harness_recorder_{name}"
            lines += [f"# HELP {full} {words}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Replace the status file in one step, so that nobody reads half of it."""
        part = path.with_name(f".{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a status that cannot be told must not stop the recording
            part.write_bytes(msgspec.json.format(msgspec.json.encode(self.as_dict())))
            part.replace(path)


async def serve_metrics(health: Health, port: int) -> asyncio.Server:
    """
    Answer `/metrics` and `/health` on loopback.

    Args:
        health: what to tell.
        port: 0 for any free one.

    Raises:
        UsageError: the port is in use.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = _answer(health, head.split(b" ", 2)[1] if b" " in head else b"")
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()

    try:
        return await asyncio.start_server(answer, "127.0.0.1", port)
    except OSError as problem:
        raise UsageError(f"--metrics-port {port}: {problem.strerror or problem}") from problem


def _answer(health: Health, path: bytes) -> tuple[str, str, bytes]:
    if path == b"/metrics":
        return "200 OK", "text/plain; version=0.0.4", health.prometheus().encode()
    if path == b"/health":
        status = "200 OK" if health.healthy else "503 Service Unavailable"
        return status, "application/json", msgspec.json.encode(health.as_dict())
    return "404 Not Found", "text/plain", b"ask for /metrics or /health\n"
