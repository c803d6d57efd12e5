"""Every limit of the stream, with its unit and the reason for its default."""

from __future__ import annotations

import msgspec


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `BinanceAggTradesStream` connects, watches and repairs."""

    stream_url: str = "wss://stream.binance.com:9443/ws"
    """Where streams are found: `/<symbol>@aggTrade` is added. Both ports 9443 and 443 serve the same (Binance,
    "General WSS information")."""
    rest_url: str = "https://api.binance.com"
    """Where missing trades are fetched: `/api/v3/aggTrades` is added."""
    backfill: bool = True
    """False: nothing is asked over REST; every gap is then final, and said to be."""

    open_timeout_s: float = 10.0
    """For name resolution, TCP, TLS and the HTTP upgrade together. A firewall that drops the SYN would
    otherwise hang for minutes."""
    start_timeout_s: float = 10.0
    """How long `start()` waits for the first trade of each symbol before it says that there is none."""
    stop_timeout_s: float = 5.0
    """How long `stop()` may take, at most."""
    close_timeout_s: float = 2.0
    """For the closing handshake."""
    ping_interval_s: float = 20.0
    """Our own keepalive; it finds a dead link, never a stream without data."""
    ping_timeout_s: float = 20.0
    """How long the pong to it may take."""
    message_size_max: int = 1 << 20
    """Bytes; an aggTrade frame has about 170."""

    stall_timeout_s: float = 30.0
    """No new trade for so long is looked into. Liquid pairs have real gaps of 15 to 25 s (measured on LTCUSDT,
    June 2025), so less would cry wolf."""
    quiet_timeout_s: float = 60.0
    """A market that REST confirms to be quiet is reported, and connected to afresh, after so long; then after
    twice, four times, ... as long."""
    max_lag_s: float = 10.0
    """Trades further behind the market than this are reported. Right after connecting, backlogs of 5 s have
    been measured and are no fault."""
    callback_timeout_s: float = 5.0
    """A callback that runs for longer is reported."""

    backoff_first_s: float = 0.5
    """Pause before the second attempt to connect; doubled for each further one."""
    backoff_max_s: float = 30.0
    """Cap of that pause. Binance allows 300 attempts in 5 minutes for each address; this makes at most about 15."""
    backoff_reset_s: float = 30.0
    """A connection that delivered for so long starts the next backoff from the beginning; a short one does not."""
    down_error_s: float = 60.0
    """After so long without data, warnings become errors."""

    reorder_grace_s: float = 0.25
    """A missing id may still arrive within this time; then it is fetched."""
    backfill_timeout_s: float = 10.0
    """Later trades are held back for so long, at most, until missing ones are fetched."""
    backfill_max: int = 100_000
    """A jump in ids beyond this is taken for another numbering, not for missing trades. About two hours of BTCUSDT."""
    stand_in_s: float = 5.0
    """While the stream is away, or open and mute, REST is asked so often for what is traded; 0 for never.
    Doubled, up to a
    minute, while REST does not answer. Costs 48 of 6000 weight a minute for each symbol (Binance, "IP limits")."""
    held_max: int = 50_000
    """Trades held back behind a gap, at most; then the gap is given up, aloud."""
    backlog_max: int = 10_000
    """Trades waiting for the callback, at most; then reading pauses (nothing is dropped)."""

    max_price_jump: float = 0.2
    """A price that differs from the last one by a larger share is checked over REST before it is passed on."""
    max_time_jump_s: float = 300.0
    """A trade time that runs ahead of the clock, or back, by more is checked over REST before it is passed on."""
    hole_memory_s: float = 300.0
    """For so long trades that were lost for good make `health()` say so: the longest window of the metrics."""

    loop_timeout_s: float = 3.0
    """An event loop that has not run our heartbeat for so long is reported, by a thread."""
    remark_interval_s: float = 5.0
    """The same kind of warning about one symbol is written once in this time; what was kept back is counted
    and written at its end."""
