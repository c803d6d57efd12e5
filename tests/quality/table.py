"""Which planted bug shows under which condition, and which check must name it.

A row is one run. `twin` is the sound service that differs from the subject by the bug alone; under
the same condition it must never be silent, so that what is caught is the bug and not the condition.
"""

from __future__ import annotations

import msgspec

ONE = ("btcusdt",)
TWO = ("btcusdt", "ethusdt")


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """A planted bug, the condition that brings it out, and what must be found."""

    subject: str
    """Module in `fixtures/subjects`."""
    check: str
    stage: str
    faults: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ONE
    twin: str = "ordinary"
    tape: str = "plain"
    """Key of `tapes.TAPES`."""
    failures: tuple[str, ...] = ()
    """Real failures that this condition reproduces, beside those that the subject names."""

    @property
    def host(self) -> str:
        """The host among the faults; `host.await` when there is none."""
        return next((fault for fault in self.faults if fault.startswith("host.")), "host.await")

    @property
    def name(self) -> str:
        """Names the row in test output."""
        return "-".join([self.subject, *self.faults])


RESET = "tcp.reset_peer@frame=40"

PLANTED = (
    # The system as found
    Planted(subject="swallowed_in_task", faults=(RESET,), twin="sound", check="stopped", stage="receive"),
    Planted(subject="wait_for_as_context", twin="sound", check="never_connected", stage="resolve"),
    Planted(
        subject="three_retries",
        faults=(RESET, "tcp.refuse#connection=2-"),
        twin="sound",
        check="stopped",
        stage="connect",
    ),
    Planted(subject="cancelled_task_asked", faults=("host.cancelled",), twin="sound", check="stopped", stage="receive"),
    Planted(subject="no_watchdog", faults=("timing.silence@frame=40",), twin="sound", check="stopped", stage="receive"),
    Planted(
        subject="no_watchdog",
        faults=("exchange.ack_then_silence",),
        twin="sound",
        check="stopped",
        stage="receive",
    ),
    Planted(
        subject="no_watchdog",
        faults=("host.run_until_complete",),
        twin="sound",
        check="never_connected",
        stage="schedule",
    ),
    Planted(subject="no_watchdog", faults=("host.started_twice",), twin="sound", check="duplicate", stage="history"),
    # Never connects
    Planted(subject="dns_ends_reconnect", faults=(RESET, "dns.fail#connection=2-"), check="stopped", stage="resolve"),
    Planted(subject="verification_off", faults=("tls.wrong_host",), check="unverified", stage="tls"),
    Planted(subject="connect_without_timeout", faults=("tls.handshake_stall",), check="never_connected", stage="tls"),
    Planted(subject="connect_without_timeout", faults=("http.stall",), check="never_connected", stage="upgrade"),
    Planted(
        subject="connect_without_timeout", faults=("tcp.connect_blackhole",), check="never_connected", stage="connect"
    ),
    Planted(subject="refusals_at_debug", faults=("http.status:code=451",), check="never_connected", stage="upgrade"),
    Planted(
        subject="ban_waited_out",
        faults=("http.status:code=429,retry_after=3600",),
        check="never_connected",
        stage="upgrade",
    ),
    Planted(subject="storm_without_word", faults=("http.reset_after_101",), check="never_connected", stage="subscribe"),
    Planted(
        subject="html_refusal_ends_stream",
        faults=("http.status:code=403,body=html",),
        check="never_connected",
        stage="upgrade",
    ),
    Planted(
        subject="refusals_at_debug",
        faults=("tls.unknown_ca",),
        check="never_connected",
        stage="tls",
        failures=("F01",),
    ),
    Planted(
        subject="refusals_at_debug",
        faults=("http.status:code=404",),
        check="never_connected",
        stage="upgrade",
        failures=("F09",),
    ),
    Planted(
        subject="three_retries",
        faults=("http.status:code=502",),
        twin="sound",
        check="never_connected",
        stage="upgrade",
        failures=("F10",),
    ),
    # Connects, no data, no error
    Planted(subject="string_id_refused", check="never_connected", stage="subscribe"),
    Planted(subject="malformed_name", check="never_connected", stage="subscribe"),
    Planted(
        subject="refusal_unread",
        faults=("exchange.too_many_streams:limit=1",),
        symbols=TWO,
        check="never_connected",
        stage="subscribe",
        failures=("F15",),
    ),
    Planted(
        subject="timeouts_swallowed",
        faults=("ws.close:code=1001@frame=40", "exchange.wrong_route#connection=2-"),
        twin="sound",
        check="stopped",
        stage="receive",
        failures=("F12", "F13"),
    ),
    Planted(subject="upper_case_stream", check="stopped", stage="subscribe"),
    Planted(subject="subscribe_too_long", check="never_connected", stage="subscribe"),
    Planted(subject="url_too_long", faults=("http.url_too_long",), check="never_connected", stage="upgrade"),
    Planted(subject="url_too_long", faults=("http.url_too_long:hang=true",), check="never_connected", stage="upgrade"),
    Planted(subject="refusal_unread", faults=("exchange.ack_error",), check="never_connected", stage="subscribe"),
    Planted(subject="resubscribe_forgotten", faults=(RESET,), check="stopped", stage="subscribe"),
    Planted(subject="only_first_resubscribed", faults=(RESET,), symbols=TWO, check="stopped", stage="subscribe"),
    Planted(subject="reader_never_scheduled", check="stopped", stage="callback"),
    Planted(subject="loop_never_run", twin="sound_own_thread", check="never_connected", stage="schedule"),
    Planted(subject="loop_mismatch", twin="sound_own_thread", check="never_connected", stage="resolve"),
    # Data arrives and is misread
    Planted(subject="ack_as_trade", twin="plain", check="phantom", stage="parse"),
    Planted(
        subject="error_as_trade",
        faults=("payload.error_object@frame=40",),
        twin="plain",
        check="phantom",
        stage="parse",
    ),
    Planted(subject="array_ends_reader", faults=("payload.array@frame=40",), check="stopped", stage="parse"),
    Planted(subject="error_among_trades", faults=(RESET,), twin="sound_queue", check="stopped", stage="receive"),
    Planted(subject="broken_json_ends_reader", faults=("payload.truncated@frame=40",), check="stopped", stage="parse"),
    Planted(subject="binary_ends_reader", faults=("ws.binary@frame=40",), check="stopped", stage="parse"),
    Planted(subject="own_close_ends_stream", faults=("ws.invalid_utf8@frame=40",), check="stopped", stage="parse"),
    Planted(
        subject="extra_field_rejected",
        faults=("payload.extra_field@frame=40",),
        twin="plain",
        check="gap",
        stage="parse",
    ),
    Planted(
        subject="key_error_skipped",
        faults=("payload.missing_field:field=q@frame=40",),
        twin="plain",
        check="gap",
        stage="parse",
    ),
    Planted(subject="values_unchecked", faults=("payload.price_zero@frame=40",), check="wrong_value", stage="parse"),
    Planted(subject="values_unchecked", faults=("payload.quantity_zero@frame=40",), check="wrong_value", stage="parse"),
    Planted(subject="nan_accepted", faults=("payload.price_nan@frame=40",), check="wrong_value", stage="parse"),
    Planted(
        subject="negative_accepted", faults=("payload.price_negative@frame=40",), check="wrong_value", stage="parse"
    ),
    Planted(subject="microseconds_taken", faults=("payload.time_unit@frame=40",), check="wrong_value", stage="parse"),
    Planted(subject="float32_ids", twin="plain", check="phantom", stage="parse"),
    Planted(subject="float32_prices", twin="plain", check="wrong_value", stage="parse"),
    Planted(subject="wrong_id_field", twin="plain", check="phantom", stage="parse"),
    Planted(subject="case_filter", twin="plain", check="stopped", stage="callback"),
    Planted(
        subject="wrong_symbol_filed", faults=("payload.wrong_symbol@frame=40",), check="wrong_symbol", stage="parse"
    ),
    Planted(subject="wrapped_dropped", faults=("payload.wrapped@frame=40",), twin="plain", check="gap", stage="parse"),
    Planted(
        subject="broken_json_ends_reader",
        faults=("payload.close_text@frame=40",),
        check="stopped",
        stage="parse",
        failures=("F26",),
    ),
    Planted(
        subject="key_order_assumed", faults=("payload.key_order@frame=40",), twin="plain", check="gap", stage="parse"
    ),
    Planted(subject="falsy_skipped", faults=("payload.null@frame=40",), twin="plain", check="gap", stage="parse"),
    # Goes quiet while connected
    Planted(
        subject="watchdog_per_connection",
        faults=("timing.partial_silence:stream=ethusdt@aggTrade@frame=40",),
        symbols=TWO,
        twin="sound",
        check="stopped",
        stage="receive",
    ),
    Planted(
        subject="watchdog_fed_by_heartbeats",
        faults=("timing.silence@frame=40",),
        twin="sound",
        check="stopped",
        stage="receive",
    ),
    Planted(subject="half_open_unnoticed", faults=("tcp.timeout@frame=40",), check="stopped", stage="receive"),
    Planted(
        subject="timeouts_swallowed",
        faults=("timing.silence@frame=40",),
        twin="sound",
        check="stopped",
        stage="receive",
    ),
    Planted(
        subject="watchdog_too_tight",
        faults=("timing.quiet_market:duration=1400ms@frame=40",),
        twin="sound",
        check="false_alarm",
        stage="receive",
    ),
    Planted(
        subject="stale_reemitted", faults=("timing.silence@frame=40",), twin="sound", check="stale", stage="callback"
    ),
    Planted(
        subject="late_dropped",
        faults=("timing.lag_constant:lag=800ms@frame=40",),
        twin="plain",
        check="stopped",
        stage="callback",
    ),
    Planted(
        subject="watchdog_dies", faults=("timing.silence@frame=40",), twin="sound", check="stopped", stage="receive"
    ),
    Planted(
        subject="health_always_ok", faults=("timing.silence@frame=40",), twin="sound", check="stopped", stage="receive"
    ),
    Planted(
        subject="stall_told_once",
        faults=("timing.silence:duration=2500ms@frame=30", "timing.silence:duration=2500ms@frame=150"),
        twin="sound",
        tape="long",
        check="gap",
        stage="receive",
    ),
    Planted(
        subject="swallowed_in_task",
        faults=("ws.close:code=1008@frame=40",),
        twin="sound",
        check="stopped",
        stage="receive",
        failures=("F49",),
    ),
    # Falls behind
    Planted(subject="blocking_callback", twin="ordinary", tape="fast", check="starved", stage="callback"),
    Planted(subject="sleep_per_message", tape="fast", check="starved", stage="callback"),
    Planted(subject="unbounded_queue", tape="fast", check="starved", stage="callback"),
    Planted(subject="queue_overflow_dropped", tape="fast", check="gap", stage="callback"),
    Planted(subject="history_unbounded", tape="hours", check="leak", stage="history"),
    # Ends or reconnects badly
    Planted(subject="clean_close_ends_loop", faults=("ws.close:code=1000@frame=40",), check="stopped", stage="receive"),
    Planted(subject="clean_close_ends_loop", faults=("ws.close:code=1001@frame=40",), check="stopped", stage="receive"),
    Planted(subject="shutdown_obeyed", faults=("exchange.server_shutdown@frame=40",), check="stopped", stage="parse"),
    Planted(subject="thread_dies_quietly", faults=(RESET,), twin="sound_own_thread", check="stopped", stage="receive"),
    Planted(subject="callback_error_swallowed", twin="plain", check="gap", stage="callback"),
    Planted(
        subject="task_collected", faults=("host.collected",), twin="sound_queue", check="stopped", stage="callback"
    ),
    Planted(
        subject="retry_budget_never_reset",
        faults=("tcp.reset_peer:count=4,every=25@frame=20",),
        check="stopped",
        stage="receive",
    ),
    Planted(subject="subscribe_burst", check="never_connected", stage="subscribe"),
    Planted(
        subject="never_pongs", faults=("exchange.pong_timeout",), twin="sound_aiohttp", check="stopped", stage="receive"
    ),
    Planted(subject="stop_hangs", check="cannot_stop", stage="schedule"),
    Planted(subject="stop_leaves_tasks", check="left_behind", stage="schedule"),
    # Continuity
    Planted(subject="gap_passed_over", faults=("sequence.gap:count=5@frame=40",), check="gap", stage="history"),
    Planted(subject="duplicates_accepted", faults=("sequence.duplicate@frame=40",), check="duplicate", stage="history"),
    Planted(subject="order_unchecked", faults=("sequence.reorder@frame=40",), check="order", stage="history"),
    Planted(subject="id_reset_followed", faults=("sequence.id_reset@frame=40",), check="order", stage="history"),
    Planted(subject="overlapping_sockets", twin="ordinary", check="duplicate", stage="history"),
    Planted(subject="handlers_reorder", twin="plain", check="order", stage="history"),
    Planted(subject="sorted_by_time", check="order", stage="history"),
    Planted(subject="backfill_by_time", faults=("tcp.reset_peer@frame=42",), check="gap", stage="receive"),
    Planted(
        subject="backfill_one_page",
        faults=(RESET,),
        tape="fast",
        check="gap",
        stage="receive",
    ),
    Planted(
        subject="backfill_once",
        faults=("tcp.reset_peer:count=2,every=60@frame=42",),
        check="gap",
        stage="receive",
    ),
    Planted(subject="gap_at_debug", faults=("sequence.gap:count=5@frame=40",), check="gap", stage="history"),
    Planted(subject="logger_disabled", faults=("sequence.gap:count=5@frame=40",), check="gap", stage="history"),
    Planted(subject="told_by_print", faults=("sequence.gap:count=5@frame=40",), check="gap", stage="history"),
    Planted(
        subject="gap_told_once",
        faults=("sequence.gap:count=5@frame=30", "sequence.gap:count=5@frame=150"),
        tape="long",
        check="gap",
        stage="history",
    ),
    # Noise that coincides
    Planted(
        subject="chatter_hides_stall",
        faults=("timing.silence@frame=40",),
        twin="sound_noisy",
        check="stopped",
        stage="receive",
    ),
    Planted(subject="chatter_hides_drops", twin="sound_noisy", check="gap", stage="callback"),
    Planted(
        subject="alarm_names_another",
        faults=("timing.partial_silence:stream=ethusdt@aggTrade@frame=40",),
        symbols=TWO,
        twin="sound",
        check="stopped",
        stage="receive",
    ),
    Planted(subject="health_flickers", faults=("sequence.gap:count=5@frame=40",), check="gap", stage="history"),
    # Metrics
    Planted(
        subject="window_by_receipt",
        faults=("timing.stall_then_burst:duration=2500ms@frame=40",),
        tape="long",
        twin="detector",
        check="metrics",
        stage="metrics",
    ),
    Planted(subject="short_history", twin="detector", check="metrics", stage="metrics"),
    Planted(subject="compared_as_text", twin="detector", check="metrics", stage="metrics"),
    Planted(
        subject="halted_looks_alive",
        faults=("timing.quiet_market:duration=2500ms@frame=40",),
        twin="detector",
        check="metrics",
        stage="metrics",
    ),
    Planted(subject="side_inverted", twin="detector", check="metrics", stage="metrics"),
    Planted(
        subject="cvd_at_the_socket",
        faults=("sequence.duplicate:copies=5,count=10@frame=80",),
        tape="rally",
        twin="sound_metrics",
        check="metrics",
        stage="metrics",
    ),
    Planted(subject="cvd_unsigned", tape="rally", twin="sound_metrics", check="metrics", stage="metrics"),
    Planted(subject="slope_backwards", tape="rally", twin="sound_metrics", check="metrics", stage="metrics"),
)

SOUND = (
    "sound",
    "sound_async_for",
    "sound_aiohttp",
    "sound_own_thread",
    "sound_websocket_client",
    "sound_synchronous",
    "sound_own_logger",
    "sound_health_only",
    "sound_noisy",
    "sound_gives_up",
    "sound_queue",
    "sound_detector",
    "sound_metrics",
    "sound_orderflow",
)

BLOCKING = ("sound_synchronous", "sound_websocket_client")
"""They read from blocking sockets, which the simulation does not have: they run live."""

AS_FOUND = tuple(row for row in PLANTED if row.subject in {
    "swallowed_in_task", "wait_for_as_context", "three_retries", "cancelled_task_asked", "no_watchdog"
})  # fmt: skip
"""The system as found runs live as well."""

SOUND_FAULTS: tuple[tuple[str, ...], ...] = (
    ("tcp.reset_peer@frame=40",),
    ("payload.truncated@frame=40",),
    ("sequence.gap:count=5@frame=40",),
    ("timing.silence@frame=40",),
)
"""What every sound service is put through here; the rest of the catalogue is for `benchmarks/sound_matrix.py`."""

CONTROLS: tuple[tuple[str, ...], ...] = ((), ("timing.quiet_market:duration=800ms@frame=40",))
"""Nothing is wrong: nobody may be accused, and nobody may cry."""

NOT_YET = {
    "F05": "there is no CONNECT proxy in the harness, and the redirect takes proxy settings out of the environment",
    "F27": "concerns depth and bookTicker, which carry no symbol; only aggTrade is judged",
    "F35": "concerns archive files, which no stream consumer reads: the tests of `harness import` hold it",
}
"""Real failures (notes in docs/planted-bugs.md) that no row reproduces, and why."""
