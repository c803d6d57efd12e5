"""Format version 1: the columns, how each is encoded, and what the file says about itself.

Columns hold what queries ask for; `raw` holds the exact bytes, only where rendering the columns would not
give them back.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa

FORMAT = 1
"""Written by this version, and the newest that it reads."""
ROW_GROUP = 65_536
"""Frames per row group: what a reader holds at a time, and what a seek costs."""
METADATA_KEY = b"harness"
ROW_GROUP_BYTES = 64 << 20
"""Fewer frames per row group where they are large: an `!ticker@arr` has a megabyte."""
MILLISECONDS = pa.timestamp("ms", "UTC")
DECIMAL = pa.decimal128(18, 8)
WORDS = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("connection", pa.int32(), nullable=False),
        pa.field("direction", WORDS, nullable=False),
        pa.field("kind", WORDS, nullable=False),
        pa.field("received_at", pa.timestamp("ns", "UTC"), nullable=False),
        pa.field("monotonic_ns", pa.int64(), nullable=False),
        pa.field("stream", WORDS),
        pa.field("close_code", pa.int32()),
        pa.field("detail", pa.string()),
        pa.field("event_time", MILLISECONDS),
        pa.field("symbol", WORDS),
        pa.field("agg_trade_id", pa.int64()),
        pa.field("price", DECIMAL),
        pa.field("quantity", DECIMAL),
        pa.field("first_trade_id", pa.int64()),
        pa.field("last_trade_id", pa.int64()),
        pa.field("trade_time", MILLISECONDS),
        pa.field("is_buyer_maker", pa.bool_()),
        pa.field("raw", pa.binary()),
    ]
)

# Measured: dictionaries only where values repeat, as quantities do that people typed; ids, times and prices grow in
# small steps.
DICTIONARY = ["direction", "kind", "stream", "symbol", "close_code", "detail", "quantity"]
ENCODINGS = {
    "connection": "DELTA_BINARY_PACKED",
    "received_at": "DELTA_BINARY_PACKED",
    "monotonic_ns": "DELTA_BINARY_PACKED",
    "event_time": "DELTA_BINARY_PACKED",
    "agg_trade_id": "DELTA_BINARY_PACKED",
    "price": "DELTA_BINARY_PACKED",
    "first_trade_id": "DELTA_BINARY_PACKED",
    "last_trade_id": "DELTA_BINARY_PACKED",
    "trade_time": "DELTA_BINARY_PACKED",
    "is_buyer_maker": "RLE",
    "raw": "PLAIN",
}
STATISTICS = ["received_at", "monotonic_ns", "event_time", "agg_trade_id", "symbol", "kind", "trade_time"]
"""Those whose pages may be shared (see `sharing`) have them all, or their pages would differ."""
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 6
"""Measured: prices take a sixth less than at 3, for a tenth of a microsecond a frame; 9 gains little more."""


class Metadata(msgspec.Struct, kw_only=True):
    """What a recording says about itself; JSON in the file's metadata under `harness`."""

    format: int = FORMAT
    harness: str = ""
    """Version of the harness that wrote it."""
    source: str = ""
    """Where the frames are from: `binance`, `synthetic`, the file that was imported."""
    endpoint: str = ""
    """URL without secrets."""
    symbols: tuple[str, ...] = ()
    """Upper case, as far as known."""
    start: str = ""
    """Wall time of the first row, ISO 8601 in UTC, to the nanosecond."""
    end: str = ""
    frame_count: int = 0
    """Rows, the recorder's own marks included."""
    gaps: int = 0
    """Rows of kind `gap` or `lost`: where the recording is blind."""
    remarks: tuple[str, ...] = ()
    """What is not as an exchange sent it."""
    digest: str = ""
    """SHA-256 over the digests of the row groups."""
    group_digests: tuple[str, ...] = ()
    """SHA-256 of the content of each row group, the frames' exact bytes included."""


def iso(at_ns: int) -> str:
    """An instant as ISO 8601 in UTC, to the nanosecond."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only here

    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
