"""What a recorder shall do."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from harness.clock import NS_PER_MS, NS_PER_S, parse_duration_ns
from harness.errors import UsageError
from harness.recorder.endpoints import ENDPOINTS, Market, check_endpoint, is_loopback, stream_names
from harness.recording.names import recording_name, safe_word

_SIZES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE = re.compile(r"(\d+)\s*([kmg]i?b)", re.IGNORECASE)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A recorder's settings."""

    streams: tuple[str, ...]
    endpoint: str = ENDPOINTS["spot"]
    market: Market = "spot"
    folder: Path = Path()
    """Where journals are, and recordings too unless there is a destination."""
    file: str = ""
    """Name of the one recording to make; empty for a name made from what is recorded."""
    destination: str = ""
    """Object store URI for finished recordings."""
    frame_count_max: int | None = None
    """Stop after so many messages."""
    duration_ns: int | None = None
    rotate_ns: int = 0
    rotate_bytes: int = 0
    cafile: str | None = None
    backfill: bool = True
    rest: str = ""
    """REST interface; empty for the one that belongs to the endpoint."""
    interval_ns: int = 250 * NS_PER_MS
    """How often frames are made durable; at most a second."""
    stall_ns: int = 60 * NS_PER_S
    """A stream that says nothing for so long is looked into."""
    life_ns: int = 23 * 3600 * NS_PER_S + 50 * 60 * NS_PER_S
    """A connection is handed over at this age: the exchange cuts it at 24 h."""
    overlap_ns: int = 5 * NS_PER_S
    """In a hand-over the old connection stays until the new one delivered, or for so long."""
    backoff_ns: int = NS_PER_S // 2
    """Pause before the first attempt to come back; doubled, with jitter, up to a minute."""
    retry_ns: int = NS_PER_S // 2
    """Pause before REST is asked a second time; doubled, up to a minute."""
    keepalive_ns: int = 20 * NS_PER_S
    """A connection without a byte for so long is pinged, and given up after three times that."""
    after: dict[str, int] = {}
    """By stream the last trade id of a recorder that crashed, so that this one misses what came since then."""
    status_file: Path | None = None
    metrics_port: int | None = None
    seed: int = 0
    """Of the jitter."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Upper-case symbols, in the order asked for."""
        heads = (name.partition("@")[0].upper() for name in self.streams if not name.startswith("!"))
        return tuple(dict.fromkeys(heads))

    @property
    def channels(self) -> tuple[str, ...]:
        """What is recorded of them."""
        found = (name.partition("@")[2] if not name.startswith("!") else name for name in self.streams)
        return tuple(dict.fromkeys(found))

    @property
    def source(self) -> str:
        """Whose feed it is, as a word for file names; `local` for an exchange on this machine."""
        host = urlsplit(self.endpoint).hostname or ""
        if is_loopback(host):
            return "local"
        name = "binance" if re.search(r"(^|\.)binance(future)?\.", host) else safe_word(host)
        return name if self.market == "spot" else f"{name}-{self.market}"

    @property
    def partitioned(self) -> bool:
        """Recordings go to `symbol=/date=` folders."""
        return bool(self.rotate_ns or self.rotate_bytes) and not self.file

    def name(self, wall_ns: int) -> str:
        """File name of a recording that starts at a time."""
        if self.file:
            return self.file
        return recording_name(self.source, self.symbols, self.channels, wall_ns)


def make_settings(
    symbols: list[str],
    *,
    channels: list[str],
    out: str = "recordings",
    endpoint: str = "",
    market: Market = "spot",
    rotate: str = "",
    journal: str = "",
    **others: object,
) -> Settings:
    """
    Read what the command line says.

    Args:
        symbols: symbols or whole streams.
        channels: for example `aggTrade`.
        out: a file ending in `.parquet`, a folder, or an object store URI.
        endpoint: empty for the market's own.
        market: which of the exchange's markets.
        rotate: a duration or a size such as `256MB`; empty for never.
        journal: folder of the journals when `out` is a URI.
        others: fields of `Settings`, as they are.

    Raises:
        UsageError: something does not fit.
    """
    streams = stream_names(symbols, channels)
    rotate_ns, rotate_bytes = read_rotation(rotate)
    folder, file, destination = Path(out), "", ""
    if "://" in out:
        folder, destination = Path(journal or "journal"), out.rstrip("/")
    elif out.endswith(".parquet"):
        folder, file = Path(out).parent, Path(out).name
        if rotate:
            raise UsageError("--rotate makes many files, so --out must be a folder, not a .parquet file")
        if Path(out).exists():
            raise UsageError(f"{out} exists already, and nothing recorded is ever overwritten; choose another name")
    return Settings(
        streams=streams,
        endpoint=check_endpoint(endpoint or ENDPOINTS[market]),
        market=market,
        folder=folder,
        file=file,
        destination=destination,
        rotate_ns=rotate_ns,
        rotate_bytes=rotate_bytes,
        **others,  # type: ignore[arg-type]
    )


def read_rotation(text: str) -> tuple[int, int]:
    """
    Read `1h` or `256MB`.

    Returns:
        Nanoseconds and bytes; one of them, or both, are zero.
    """
    if not text:
        return 0, 0
    size = _SIZE.fullmatch(text.strip())
    if size:
        found = (0, int(size[1]) * _SIZES[size[2].lower()])
    else:
        try:
            found = (parse_duration_ns(text), 0)
        except UsageError as problem:
            raise UsageError(f"--rotate {text!r} is neither a duration (1h) nor a size (256MB)") from problem
    if not any(found):
        raise UsageError("--rotate must be more than nothing")
    return found
