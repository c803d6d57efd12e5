"""Columns to bytes and back: the exact bytes, or not at all."""

from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.frames import parse_agg_trade, render_agg_trade, split_wrapped, wrap
from harness.frames.columns import read, render, renderable, scaled
from tests.frame_strategies import agg_trades, data

SPOT = (
    b'{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT","a":15683430,"p":"0.35280000","q":"58.00000000",'
    b'"f":19862790,"l":19862790,"T":1633998523963,"m":false,"M":true}'
)
USDM = (
    b'{"e":"aggTrade","E":1781416439080,"a":3339472008,"s":"BTCUSDT","p":"64339.20","q":"0.123","nq":"0.123",'
    b'"f":7786568797,"l":7786568801,"T":1781416438926,"m":true}'
)


def test_the_spot_layout_of_the_wire_is_the_canonical_one():
    trade = parse_agg_trade(SPOT)
    assert trade is not None
    assert render_agg_trade(trade) == SPOT


def test_an_agg_trade_of_another_market_is_read_though_it_is_not_rendered():
    trade = parse_agg_trade(USDM)
    assert trade is not None
    assert (trade.agg_trade_id, trade.price, trade.quantity) == (3339472008, Decimal("64339.20"), Decimal("0.123"))
    assert render_agg_trade(trade) != USDM


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"null", b'{"result":null,"id":1}', SPOT[:-1], SPOT.replace(b"aggTrade", b"trade"),
     SPOT.replace(b'"0.35280000"', b'"NaN"'), SPOT.replace(b'"0.35280000"', b"0.35280000"), b"\xff" + SPOT],
)  # fmt: skip
def test_what_is_no_agg_trade_is_none(payload):
    assert parse_agg_trade(payload) is None


@given(data())
def test_splitting_and_wrapping_undo_each_other(frame):
    stream, payload = split_wrapped(frame)
    if stream is None:
        assert payload == frame
    elif frame.startswith(b'{"stream":"'):
        assert wrap(stream, payload) == frame
    else:
        assert (stream.encode() in frame) and (payload in frame)


@given(st.lists(data(), max_size=30))
def test_columns_render_to_the_bytes_they_were_read_from_or_to_other_bytes_that_are_noticed(frames):
    """A row that is renderable need not be equal; but what is canonical must be."""
    columns = read(frames)
    rows = np.flatnonzero(renderable(columns))
    blob, offsets = render(columns, rows)
    assert len(offsets) == len(rows) + 1
    assert offsets[-1] == len(blob)
    for number, row in enumerate(rows.tolist()):
        stream, payload = split_wrapped(frames[row])
        trade = parse_agg_trade(payload)
        assert trade is not None
        if max(trade.event_ms, trade.trade_ms) >= 10**15:
            continue  # microseconds: the columns hold milliseconds, and the bytes are kept
        expected = render_agg_trade(trade)
        assert blob[offsets[number] : offsets[number + 1]] == (wrap(stream, expected) if stream else expected)


@pytest.mark.parametrize("edge", [1, 10, 9_999, 10_000, 10_001, 10**8, 123 * 10**8, 10**12, 2**63 - 2])
@pytest.mark.parametrize("distances", [(0,), (0, 1), (-1, 0, 1), (0, 9_999), (-1, 100_000_000), (-1, 10_000)])
def test_numbers_that_share_their_first_digits_come_back_as_those_that_do_not(edge, distances):
    numbers = [min(edge + distance, 2**63 - 1) for distance in distances]
    columns = read([SPOT.replace(b"15683430", b"%d" % number) for number in numbers])
    blob, offsets = render(columns)
    assert [blob[a:b] for a, b in itertools.pairwise(offsets.tolist())] == [
        SPOT.replace(b"15683430", b"%d" % number) for number in numbers
    ]


@given(st.lists(agg_trades(), min_size=1, max_size=30))
def test_canonical_trades_come_back_byte_for_byte(frames):
    columns = read(frames)
    assert renderable(columns).all()
    blob, offsets = render(columns)
    assert [blob[a:b] for a, b in itertools.pairwise(offsets)] == frames


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.00000001", 1),
        ("1", 10**8),
        ("-2.5", -250_000_000),
        ("9999999999.99999999", 10**18 - 1),
        ("007.1", 710_000_000),
    ],
)
def test_decimals_are_scaled_exactly(text, value):
    assert scaled(text) == value


@pytest.mark.parametrize("text", ["", ".", "1e5", "NaN", "1.123456789", "10000000000", "+1", " 1", "1_0", "1,5"])
def test_what_does_not_fit_eight_decimals_and_eighteen_digits_is_none(text):
    assert scaled(text) is None


def test_microseconds_are_known_but_kept_raw():
    micro = SPOT.replace(b"1633998523963", b"1633998523963123")
    columns = read([micro])
    assert columns.known[0]
    assert int(columns.event_ms[0]) == 1633998523963
    blob, _ = render(columns)
    assert blob != micro


@pytest.mark.parametrize(
    ("message", "stream", "payload"),
    [
        (b'{"stream":"a@b","data":{"x": 1}}', "a@b", b'{"x": 1}'),
        (b'{"stream": "a@b", "data": {"x": 1} }', "a@b", b'{"x": 1}'),
        (b'{"data":[1, 2],"stream":"a@b"}', "a@b", b"[1, 2]"),
        (b'{"stream":"a@b","data":{"x":', None, None),
        (b'{"stream":7,"data":{}}', None, None),
        (b'{"stream":"","data":{}}', None, None),
        (b'{"stream":"a@b"}', None, None),
    ],
)
def test_a_message_is_wrapped_when_it_names_its_stream_whatever_the_layout(message, stream, payload):
    assert split_wrapped(message) == (stream, message if payload is None else payload)
