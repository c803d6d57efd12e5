"""The truth: which trade each frame of the timeline is, however the subject spells its symbol."""

from __future__ import annotations

import pytest

from tests.harness.checks.case_builder import Story


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCUSD_PERP", "BTCUSDT_261225", "币安人生USDT"])
@pytest.mark.parametrize("spelt", [str.upper, str.lower, lambda symbol: f"{symbol.lower()}@aggTrade"])
def test_every_spelling_of_a_symbol_is_that_symbol(symbol, spelt):
    story = Story(symbols=(symbol,)).connect().send(0, 50)
    for frame in range(50):
        story.accept(frame, symbol=spelt(symbol))
    verdict = story.judge()
    assert verdict.intact, verdict
    assert story.tape.named(spelt(symbol)) == symbol


def test_a_pair_with_a_stroke_is_the_pair_and_a_stranger_stays_one():
    tape = Story().tape
    assert tape.named("btc/usdt") == "BTCUSDT"
    assert tape.named("eth-usdt") == "ETHUSDT"
