"""How the exchange is set up: pace, dialect and limits, each with its reason."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.errors import UsageError

NS = 1_000_000_000

MAX = float("inf")
"""The speed that waits for nothing."""

Market = Literal["auto", "spot", "um", "cm"]


class ExchangeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Everything about an exchange that is not in the recording or in the plan.

    The numbers are the real exchange's (binance-protocol, sections 3 to 5), all scalable.
    """

    speed: float = 1.0
    """Tape seconds per second; `MAX` sends as fast as the client reads."""
    retime: Literal["none", "auto"] = "none"
    """`auto` moves the times inside the frames to the present when the clock starts."""
    retime_slack_ms: int = 0
    """`auto` leaves them as recorded when they are no more than so far from the present."""
    grace_ns: int = 500_000_000
    """From the first subscription to the first frame: some clients register their callback after `subscribe()`."""
    from_ns: int = 0
    """Tape time at which the market clock starts."""
    loop: bool = False
    """Start again at the beginning when the tape has ended."""
    marks: bool = False
    """Re-enact the disconnects that the recording remembers, each once."""
    market: Market = "auto"
    """`auto` goes by the Host header (fstream is USD-M, dstream is COIN-M) and is spot otherwise."""
    deflate: bool = True
    """Agree to permessage-deflate when the client offers it."""
    echo: bool = False
    """Echo every message instead of speaking the exchange's dialect; for conformance suites only."""
    control: bool = False
    """Answer under /harness/: inject faults, read the ledger."""
    seed: int = 0
    """For the link's jitter and corruption."""

    ping_interval_ns: int | None = None
    """None: by market, 20 s on spot and 3 min on futures."""
    pong_deadline_ns: int | None = None
    """None: by market, 1 min on spot and 10 min on futures."""
    life_ns: int = 24 * 3600 * NS
    shutdown_notice_ns: int | None = None
    """Send `serverShutdown` so long before the life ends; the real lead time is unknown. None: never."""
    message_limit: int | None = None
    """Messages per rolling second; None: by market, 5 on spot and 10 on futures; 0: no limit."""
    backlog_bytes_max: int | None = None
    """
    A client that leaves more than about this unread is closed with 1008; None: it just gets its data late.

    An estimate, as `actions.Control.backlog_bytes_max` says.
    """
    streams_max: int = 1024
    subscribe_bytes_max: int = 4096
    """A longer control message is answered by silence."""
    malformed_closes: bool = True
    """A malformed stream name is answered by an error, and then the connection is closed."""
    connect_limit: int = 300
    """Upgrades per `connect_window_ns` from one address; the next gets 429. 0: no limit."""
    connect_window_ns: int = 300 * NS

    weight_limit: int = 6000
    """REST weight per minute and address; then 429, and 418 for who goes on. 0: no limit."""
    ban_ns: int = 120 * NS
    """First ban; real ones grow from 2 minutes to 3 days."""
    rest_lag_ns: int = 0
    """REST answers from a database: the newest trades of so long are not in it yet."""

    message_bytes_max: int = 1 << 20
    """A longer message from a client is refused with 1009."""
    handshake_ns: int = 20 * NS
    """A client that has not sent its whole request by then is cut off."""
    close_wait_ns: int = 10 * NS
    """How long a closing handshake may take."""
    keep_alive_ns: int = 75 * NS
    """How long an idle HTTP connection is kept."""
    connections_max: int = 4096
    """More open connections than this are reset at once."""
    cache_bytes: int = 128 << 20
    """Framed blocks that are kept for other connections."""


def parse_speed(text: str | float) -> float:
    """
    Read a speed: `1`, any factor such as `0.5` or `10x`, or `max`.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(text, str) and text.strip().lower() == "max":
        return MAX
    try:
        speed = float(str(text).strip().lower().removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1e6:
        raise UsageError(f"{text!r} is not a speed; write 1, a factor such as 10 or 0.5, or max")
    return speed
