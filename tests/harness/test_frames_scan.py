"""The bulk reader against the careful one: the same columns, for whatever comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.frames import columns as columns_module
from harness.frames import parse_agg_trade, split_wrapped, wrap
from harness.frames.columns import TradeColumns, read_proven

EDGES = [0, 9, 10, 9999, 10**4, 10**8 - 1, 10**8, 10**15 - 1, 10**15, 10**16, 10**17, 10**18 - 1, 10**18, 2**63 - 1]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**63 - 1), st.integers(10**9, 10**10))
DECIMALS = st.builds(
    "{}.{:08d}".format,
    st.one_of(st.sampled_from([0, 9, 10, 10**10 - 1, 10**10]), st.integers(0, 10**10)),
    st.integers(0, 10**8 - 1),
)
SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSDT", "X", "", "1000SATSUSDT", "BTCUSD_PERP", "\\u0041BC", "ÄB", "A" * 70])
STREAMS = st.sampled_from([None, None, "btcusdt@aggTrade", "ethusdt@aggTrade", "x", "ä@b", "btcusdt@aggTradf"])


@st.composite
def canonical(draw: st.DrawFn) -> bytes:
    """Laid out as the spot market does, with numbers that need not be sound."""
    payload = (
        '{{"e":"aggTrade","E":{},"s":"{}","a":{},"p":"{}","q":"{}","f":{},"l":{},"T":{},"m":{},"M":true}}'.format(
            draw(NUMBERS), draw(SYMBOLS), draw(NUMBERS), draw(DECIMALS), draw(DECIMALS), draw(NUMBERS), draw(NUMBERS),
            draw(NUMBERS), draw(st.sampled_from(["true", "false"])),
        )
    ).encode()  # fmt: skip
    stream = draw(STREAMS)
    return wrap(stream, payload) if stream else payload


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A canonical trade with a few bytes changed: most still have thirty quotation marks."""
    data = bytearray(draw(canonical()))
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.sampled_from(b'"0159.,:-{}tx\xff'))
    return bytes(data)


FRAMES = st.lists(
    st.one_of(canonical(), canonical(), damaged(), st.binary(max_size=40), st.just(b'"' * 30), st.just(b'"' * 36)),
    max_size=10,
)


def carefully(frames: list[bytes]) -> TradeColumns:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "scan", lambda *_: [])
        return read_proven(frames)[0]


def rows_of(columns: TradeColumns) -> list[tuple[object, ...]]:
    """Rows with their words in place of codes, which depend on who met a word first."""
    return [
        (
            bool(columns.known[row]), bool(columns.exact[row]), int(columns.event_ms[row]),
            columns.symbols[columns.symbol_codes[row]] if columns.known[row] else "", int(columns.agg_trade_id[row]),
            int(columns.price_e8[row]), int(columns.quantity_e8[row]), int(columns.first_trade_id[row]),
            int(columns.last_trade_id[row]), int(columns.trade_ms[row]), bool(columns.is_buyer_maker[row]),
            columns.streams[columns.stream_codes[row]] if columns.stream_codes[row] >= 0 else None,
        )
        for row in range(len(columns.known))
    ]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FRAMES)
def test_reading_in_bulk_gives_the_columns_that_reading_singly_gives(frames):
    assert rows_of(read_proven(frames)[0]) == rows_of(carefully(frames))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FRAMES)
def test_what_is_proven_is_a_trade_with_the_values_of_a_json_parser(frames):
    columns, proven = read_proven(frames)
    for row in np.flatnonzero(proven).tolist():
        trade = parse_agg_trade(split_wrapped(frames[row])[1])
        assert trade is not None
        assert trade.price * 10**8 == int(columns.price_e8[row])
        assert (trade.event_ms, trade.trade_ms) == (int(columns.event_ms[row]), int(columns.trade_ms[row]))


def test_two_names_that_look_alike_to_the_scan_are_told_apart():
    """Same length, same first and last eight bytes: the proof finds the difference."""
    payload = (
        b'{"e":"aggTrade","E":1,"s":"%s","a":1,"p":"1.00000000","q":"1.00000000","f":1,"l":1,"T":1,"m":true,"M":true}'
    )
    frames = [payload % name for name in (b"AAAAAAAAxBBBBBBBB", b"AAAAAAAAyBBBBBBBB", b"AAAAAAAAxBBBBBBBB")]
    columns, proven = read_proven(frames)
    assert [columns.symbols[code] for code in columns.symbol_codes] == [
        "AAAAAAAAxBBBBBBBB", "AAAAAAAAyBBBBBBBB", "AAAAAAAAxBBBBBBBB",
    ]  # fmt: skip
    assert proven.all()
