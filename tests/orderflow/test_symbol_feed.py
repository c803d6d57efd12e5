"""One feed without a network: whatever happens to the frames, the trades come out right, or somebody is told."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.backfill import BackfillError
from orderflow.remarks import Remarks
from orderflow.symbol_feed import SymbolFeed
from orderflow.trade import parse_rest_page
from tests.orderflow.conftest import MS, quick
from tests.orderflow.scripted_exchange import FIRST_ID, frame, now_ms

pytestmark = pytest.mark.slow

COUNT = 24


class HonestRest:
    """Knows every trade, or is down."""

    def __init__(self, frames, *, up=True):
        self._rows = [json.loads(text) for text in frames]
        self._up = up

    async def page(self, symbol, *, from_id=None, start_ms=None):
        await asyncio.sleep(0)
        if not self._up:
            raise BackfillError("planted")
        rows = [row for row in self._rows if from_id is None or row["a"] >= from_id]
        return parse_rest_page(json.dumps(rows[:7]).encode(), symbol)


class Counter(logging.Handler):
    """Counts what an alert would see."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record):
        self.count += 1


def make_frames():
    at_ms = now_ms()
    return [
        frame(number, price=f"{91350 + number % 3}.50000000", sold=number % 2 == 0, at_ms=at_ms + number)
        for number in range(COUNT)
    ]


def run(messages, frames, *, rest_up):
    """Feed the messages; returns the trades passed on, whether somebody was told, and the feed."""
    trades, counter = [], Counter()
    logger = logging.getLogger("orderflow.symbol_feed")

    async def main():
        feed = SymbolFeed(
            "BTCUSDT",
            lambda symbol, trade: trades.append(trade),
            quick(reorder_grace_s=1 * MS, backfill_timeout_s=5 * MS),
            rest=HonestRest(frames, up=rest_up),
            remarks=Remarks(logger, 0.0),
        )
        delivery = asyncio.ensure_future(feed.delivery.run())
        for message in messages:
            feed.receive(message)
        async with asyncio.timeout(20):
            while feed.helpers or feed.sequencer.ready:  # noqa: ASYNC110
                await asyncio.sleep(1 * MS)
        delivery.cancel()
        return feed

    logger.addHandler(counter)
    try:
        feed = asyncio.run(main())
    finally:
        logger.removeHandler(counter)
    return trades, counter.count > 0, feed


@st.composite
def mishaps(draw):
    """Which frames are dropped, repeated, spoilt, and in which order they come; the first and the last come well."""
    frames = make_frames()
    inner = list(range(1, COUNT - 1))
    dropped = set(draw(st.lists(st.sampled_from(inner), max_size=6)))
    spoilt = set(draw(st.lists(st.sampled_from(inner), max_size=4)))
    order = [number for number in inner if number not in dropped]
    for _ in range(draw(st.integers(0, 4))):
        if order:
            at = draw(st.integers(0, len(order) - 1))
            number = order.pop(at)
            order.insert(min(at + draw(st.integers(1, 3)), len(order)), number)
    order += draw(st.lists(st.sampled_from(order), max_size=3)) if order else []
    ways = [
        lambda text: text[:50],
        lambda text: text.replace('"p":"9', '"p":"-9'),
        lambda text: text.replace('"p":"9', '"p":"99'),
        lambda text: text.replace("BTCUSDT", "ETHUSDT"),
        lambda text: "null",
        lambda text: text.replace('"a":', '"A":'),
        lambda text: '{"result":null,"id":1}',
    ]
    way = draw(st.sampled_from(ways))
    if way is ways[2]:
        # Several trades in a row at one new price are a market that moved, as far as can be known without REST.
        spoilt = set(sorted(spoilt)[:1])
    messages = [way(frames[number]) if number in spoilt else frames[number] for number in order]
    return frames, [frames[0], *messages, frames[-1]], dropped, spoilt


def same(trade, text):
    fields = json.loads(text)
    return all(trade[key] == fields[key] for key in "sapqflTm")


@given(mishaps())
def test_with_rest_every_trade_comes_once_in_order_as_it_was(case):
    frames, messages, _, _ = case
    trades, _, feed = run(messages, frames, rest_up=True)
    assert [trade["a"] - FIRST_ID for trade in trades] == list(range(COUNT))
    assert all(same(trade, text) for trade, text in zip(trades, frames, strict=True))
    assert feed.repair.lost_count == 0


@given(mishaps())
def test_without_rest_what_is_lost_is_told_and_the_rest_is_right(case):
    frames, messages, _, _ = case
    trades, told, feed = run(messages, frames, rest_up=False)
    numbers = [trade["a"] - FIRST_ID for trade in trades]
    assert numbers == sorted(set(numbers))
    assert all(same(trade, frames[number]) for trade, number in zip(trades, numbers, strict=True))
    missing = set(range(numbers[0], COUNT)) - set(numbers)
    assert feed.repair.lost_count == len(missing)
    assert told or not missing
    lost = {number for gone in feed.repair.lost for number in range(gone.hole.first, gone.hole.last + 1)}
    assert lost == {FIRST_ID + number for number in missing}
