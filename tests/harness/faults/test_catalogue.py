"""The catalogue: complete, explained, and the guide that is written from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness import faults
from harness.faults.describe import manual, settings_of

ROOT = Path(__file__).resolve().parents[3]

FIXED = [
    "dns.fail",
    "dns.slow",
    "tcp.refuse",
    "tcp.connect_blackhole",
    "tcp.accept_hang",
    "tcp.reset_peer",
    "tcp.fin_no_close",
    "tcp.timeout",
    "tcp.latency",
    "tcp.bandwidth",
    "tcp.slicer",
    "tcp.limit_data",
    "tcp.slow_close",
    "tcp.flap",
    "tls.expired",
    "tls.unknown_ca",
    "tls.wrong_host",
    "tls.handshake_stall",
    "tls.handshake_abort",
    "tls.plaintext",
    "tls.ragged_eof",
    "http.status",
    "http.redirect",
    "http.stall",
    "http.bad_accept",
    "http.reset_after_101",
    "ws.close",
    "ws.invalid_utf8",
    "ws.oversize",
    "ws.binary",
    "ws.fragment",
    "ws.fragment_never_fin",
    "ws.rsv_bits",
    "ws.reserved_opcode",
    "ws.masked",
    "ws.withhold_pong",
    "ws.ping_flood",
    "ws.empty",
    "payload.truncated",
    "payload.garbage",
    "payload.html",
    "payload.null",
    "payload.array",
    "payload.missing_field",
    "payload.null_field",
    "payload.extra_field",
    "payload.wrong_type",
    "payload.price_zero",
    "payload.price_negative",
    "payload.price_nan",
    "payload.price_spike",
    "payload.quantity_zero",
    "payload.wrong_symbol",
    "payload.time_unit",
    "payload.error_object",
    "payload.ack_object",
    "payload.unknown_event",
    "payload.wrapped",
    "payload.frozen",
    "sequence.gap",
    "sequence.duplicate",
    "sequence.reorder",
    "sequence.id_reset",
    "sequence.overlap_on_reconnect",
    "timing.silence",
    "timing.silence_from_start",
    "timing.partial_silence",
    "timing.trickle",
    "timing.stall_then_burst",
    "timing.burst",
    "timing.lag_constant",
    "timing.lag_growing",
    "timing.quiet_market",
    "timing.just_under",
    "exchange.ack_then_silence",
    "exchange.ack_missing",
    "exchange.ack_error",
    "exchange.lifetime",
    "exchange.server_shutdown",
    "exchange.rate_limit",
    "exchange.pong_timeout",
    "exchange.refuse_reconnects",
    "exchange.ban",
    "host.await",
    "host.thread",
    "host.run_until_complete",
    "host.closed_loop",
    "host.started_twice",
    "host.blocked_loop",
    "host.cancelled",
    "host.collected",
    "host.slow_consumer",
]
"""Names that other programs rely on."""

FIXED_SETTINGS = {
    "http.status": ("code", "retry_after", "body"),
    "ws.close": ("code", "reason"),
    "payload.missing_field": ("field",),
    "payload.wrong_type": ("field",),
    "sequence.gap": ("count",),
    "sequence.reorder": ("span",),
    "timing.silence": ("duration",),
    "timing.partial_silence": ("stream",),
    "timing.burst": ("factor",),
    "timing.just_under": ("threshold",),
    "exchange.lifetime": ("after",),
    "exchange.refuse_reconnects": ("count",),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_name_is_there(name):
    assert name in faults.catalogue()


@pytest.mark.parametrize(("name", "wanted"), FIXED_SETTINGS.items())
def test_a_fixed_setting_is_there(name, wanted):
    fields = {field.name for field in msgspec.structs.fields(faults.catalogue()[name])}
    assert set(wanted) <= fields


def test_there_are_at_least_150_kinds_in_layer_order():
    names = list(faults.catalogue())
    assert len(names) >= 150
    layers = [name.partition(".")[0] for name in names]
    assert sorted(layers, key=faults.LAYERS.index) == layers
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", list(faults.catalogue()))
def test_every_kind_says_its_cause_and_explains_each_setting(name):
    kind = faults.catalogue()[name]
    cause = faults.summary(kind)
    assert len(cause) > 20
    assert cause[0].isupper() or cause[0] in "`0123456789"
    for setting, text in settings_of(kind).items():
        assert re.match(r"\S.* \[.*\]$", text), f"{name}.{setting} has no docstring: {text!r}"


@pytest.mark.parametrize("name", list(faults.catalogue()))
def test_every_kind_is_a_frozen_value_with_defaults(name):
    fault = faults.catalogue()[name]()
    assert type(fault).__struct_config__.frozen
    assert type(fault).__struct_config__.forbid_unknown_fields
    assert faults.parse_fault(name).fault == fault


@pytest.mark.slow
def test_the_guide_says_what_the_classes_say():
    written = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert written == manual(), "run: python -m harness.faults.describe > docs/faults.md"
    printed = subprocess.run(
        [sys.executable, "-m", "harness.faults.describe"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert printed.stdout == written
