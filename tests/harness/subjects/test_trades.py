"""Whatever a subject passes on, the trade in it is read."""

from __future__ import annotations

import dataclasses
import json
from collections import namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.subjects.trades import is_symbol, read_call, read_item

RAW = {
    "e": "aggTrade",
    "E": 1790000000003,
    "s": "BTCUSDT",
    "a": 7,
    "p": "91350.10",
    "q": "0.5",
    "T": 1790000000000,
    "m": True,
}


@dataclasses.dataclass
class Trade:
    symbol: str
    agg_trade_id: int
    price: Decimal
    quantity: Decimal
    trade_time: int
    is_buyer_maker: bool


OBJECT = Trade("BTCUSDT", 7, Decimal("91350.10"), Decimal("0.5"), 1790000000000, True)
ROW = namedtuple(  # noqa: PYI024 - subjects use these
    "ROW", "symbol id price qty ts side"
)("BTCUSDT", 7, "91350.10", "0.5", 1790000000.0, "SELL")


def on_plain(symbol, price, quantity, trade_id, timestamp, is_buyer_maker):
    pass


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("BTCUSDT", RAW), {}),
        ((RAW,), {}),
        ((), {"symbol": "BTCUSDT", "trade": RAW}),
        (({"stream": "btcusdt@aggTrade", "data": RAW},), {}),
        ((json.dumps(RAW),), {}),
        ((json.dumps(RAW).encode(),), {}),
        ((OBJECT,), {}),
        ((SimpleNamespace(**RAW),), {}),
        ((ROW,), {}),
        (("BTCUSDT", [RAW]), {}),
    ],
    ids=["symbol and dict", "dict", "named", "wrapped", "text", "bytes", "object", "namespace", "row", "list"],
)
def test_every_shape_gives_the_same_trade(args, kwargs):
    (values,) = read_call(None, args, kwargs)
    assert values.symbol == "BTCUSDT"
    assert values.trade_id == 7
    assert Decimal(values.price) == Decimal("91350.10")
    assert Decimal(values.quantity) == Decimal("0.5")
    assert values.trade_time == 1790000000000
    assert values.is_buyer_maker is True


def test_plain_arguments_are_read_by_the_names_of_the_parameters():
    (values,) = read_call(on_plain, ("BTCUSDT", 91350.1, 0.5, 7, 1790000000000, False), {})
    assert (values.trade_id, values.price, values.is_buyer_maker) == (7, "91350.1", False)


def on_text(side, price, quantity, trade_id, iso_time, *, market="?"):
    pass


def test_prices_sides_and_times_in_text_are_no_symbol():
    row = ("sell", "91350.10", "0.5", "7", "2026-09-21T14:13:20")
    (values,) = read_call(on_text, row, {})
    assert (values.symbol, values.trade_id, values.price, values.is_buyer_maker) == ("", 7, "91350.10", True)
    assert read_call(on_text, row, {"market": "BTC/USDT"})[0].symbol == "BTC/USDT"


def test_the_kind_of_an_event_is_no_symbol():
    assert read_call(None, ("aggTrade", RAW), {})[0].symbol == "BTCUSDT"


@given(st.floats() | st.decimals(allow_nan=False) | st.integers() | st.datetimes())
def test_no_number_and_no_time_is_ever_a_symbol(value):
    assert not is_symbol(str(value))


def test_a_pair_handed_over_as_one_value_names_its_symbol():
    bare = {key: value for key, value in RAW.items() if key != "s"}
    assert read_call(None, (("ETHUSDT", bare),), {})[0].symbol == "ETHUSDT"


class Fragile:
    price = "1"

    @property
    def symbol(self):
        raise RuntimeError("not yet")


@pytest.mark.parametrize(
    "passed",
    [
        '{"a":7,"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        b'{"a":7,"s":"\xff"}',
        Fragile(),
        {"p": 1, "a": np.array([7, 8])},
    ],
    ids=["deep", "no text", "property", "array"],
)
def test_what_cannot_be_read_raises_nothing_into_the_subjects_call(passed):
    (values,) = read_call(None, (passed,), {})
    assert (values.symbol, values.trade_id) == ("", None)


def test_a_list_of_trades_is_as_many_trades():
    assert [v.trade_id for v in read_call(None, ("BTCUSDT", [RAW, RAW | {"a": 8}]), {})] == [7, 8]


def test_the_symbol_it_was_filed_under_goes_before_the_payloads():
    assert read_call(None, ("ETHUSDT", RAW), {})[0].symbol == "ETHUSDT"


def test_what_is_no_trade_at_all_still_counts_as_taken():
    (values,) = read_call(None, ("BTCUSDT", {"error": {"code": 2}}), {})
    assert (values.trade_id, values.price) == (None, "")


def test_a_32_bit_float_shows_the_digits_that_it_lost():
    (values,) = read_call(None, ({"a": 7, "p": np.float32(91350.1), "q": np.float32(0.5)},), {})
    assert values.price == repr(float(np.float32(91350.1))) != "91350.1"


def test_times_as_datetime_and_seconds_become_milliseconds():
    moment = datetime.fromtimestamp(1790000000, UTC)
    assert read_call(None, ({"price": 1, "time": moment},), {})[0].trade_time == 1790000000000
    assert read_call(None, ({"price": 1, "time": 1790000000.5},), {})[0].trade_time == 1790000000500


def test_microseconds_stay_what_they_are():
    assert read_call(None, ({"price": 1, "T": 1790000000000000},), {})[0].trade_time == 1790000000000000


class Side(Enum):
    BUY = "buy"


def test_a_side_says_who_the_maker_was():
    assert read_call(None, ({"price": 1, "side": Side.BUY},), {})[0].is_buyer_maker is False


def test_items_of_a_queue_may_be_pairs():
    assert read_item(("BTCUSDT", RAW))[0].symbol == "BTCUSDT"
