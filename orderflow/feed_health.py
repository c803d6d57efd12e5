"""How one feed is: worked out from plain attributes and clocks, by whoever asks, on any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orderflow.symbol_feed import SymbolFeed

# A silence is trouble only when REST has had the time to say whether it is one.
_PROBE_S = 10.0


def trouble(feed: SymbolFeed, now_s: float) -> list[str]:
    """Say what is wrong with this feed at the moment; empty when nothing is. Safe from any thread."""
    settings, reasons = feed.settings, []
    age_s = now_s - feed.signs_of_life_s
    if not feed.connected and feed.failures == 0 and feed.connections == 0:
        # The first attempt: its end is told by itself, unless the event loop never gets to it.
        if now_s - feed.made_at_s > settings.open_timeout_s + 1:
            reasons.append(f"no connection yet, after {now_s - feed.made_at_s:.1f} s")
    elif not feed.connected:
        what = "not connected" if feed.connections else f"never connected ({feed.attempts} attempts)"
        reasons.append(f"{what}{': ' + feed.last_trouble if feed.last_trouble else ''}")
    elif age_s >= settings.quiet_timeout_s:
        reasons.append(f"no trade for {age_s:.1f} s")
    elif age_s >= settings.stall_timeout_s + _PROBE_S and not feed.quiet_confirmed:
        reasons.append(f"no trade for {age_s:.1f} s on an open connection")
    elif feed.stream_trades == 0 and age_s >= settings.start_timeout_s:
        reasons.append(f"connected for {age_s:.1f} s, and not one trade yet")
    elif feed.down_since_s is not None and feed.connections > 1:
        reasons.append("reconnected, and no trade yet")
    since_s = feed.repair.hole_since_s
    if since_s is not None and now_s - since_s > 1.0:
        reasons.append(f"trades are missing since {now_s - since_s:.1f} s; later ones are held back")
    gone = [lost for lost in list(feed.repair.lost) if now_s - lost.at_s < settings.hole_memory_s]
    if gone:
        count = sum(lost.hole.count for lost in gone)
        reasons.append(f"{count} trades were lost in the last {settings.hole_memory_s:.0f} s: {gone[-1].reason}")
    if feed.delivery.late_since_s is not None:
        reasons.append(f"trades are {feed.delivery.lag_ms / 1000:.1f} s behind the market")
    since_s = feed.delivery.busy_since_s
    if since_s is not None and now_s - since_s > settings.callback_timeout_s:
        reasons.append(f"the callback has been busy with one trade for {now_s - since_s:.1f} s")
    error_at_s = feed.delivery.callback_error_at_s
    if error_at_s is not None and now_s - error_at_s < 60.0:
        reasons.append(f"the callback failed {feed.delivery.callback_errors} times")
    return reasons


def health(feed: SymbolFeed, now_s: float) -> dict[str, Any]:
    """Everything that is known about this feed. Safe from any thread."""
    reasons = trouble(feed, now_s)
    starting = feed.stream_trades == 0 and feed.failures == 0 and not reasons
    age_s = None if feed.last_stream_at_s is None else round(now_s - feed.last_stream_at_s, 3)
    return {
        "ok": not reasons,
        "status": "starting" if starting else "live" if not reasons else "trouble",
        "reasons": reasons,
        "connected": feed.connected,
        "attempts": feed.attempts,
        "connections": feed.connections,
        "trades": feed.delivery.delivered,
        "last_id": feed.sequencer.last_id,
        "last_trade_ms": feed.delivery.last_trade_ms,
        "last_trade_age_s": age_s,
        "lag_s": feed.delivery.lag_ms / 1000,
        "backlog": len(feed.sequencer.ready),
        "held": feed.sequencer.held_count,
        "duplicates": feed.sequencer.duplicates,
        "put_right": feed.sequencer.put_right,
        "repaired": feed.repair.repaired,
        "lost": feed.repair.lost_count,
        "invalid": feed.invalid,
        "callback_errors": feed.delivery.callback_errors,
    }
