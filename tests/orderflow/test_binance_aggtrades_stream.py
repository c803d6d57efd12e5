"""The stream against an exchange that does as it is told: nothing may be lost, wrong or silent."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time

import pytest

from orderflow.binance_aggtrades_stream import BinanceAggTradesStream, StartError
from orderflow.settings import StreamSettings
from tests.orderflow.conftest import MS, quick, until, warnings
from tests.orderflow.scripted_exchange import (
    FIRST_ID,
    frame,
    now_ms,
    response,
    sends,
    sends_then_closes,
    sends_then_cuts,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]


@pytest.fixture(autouse=True)
def _listen(caplog):
    caplog.set_level(logging.INFO)


def ids(trades):
    return [trade["a"] - FIRST_ID for trade in trades]


# --- The simple path ---------------------------------------------------------------------------


async def test_the_log_is_the_one_the_report_expects(exchange, start, caplog):
    exchange.connections = [sends(frame(0))]
    await start()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("orderflow")] == [
        "🚀 Starting aggTrades streams for 1 symbols",
        "🔌 Attempting to connect to BTCUSDT aggTrades stream...",
        "🐋 Connected to BTCUSDT aggTrades stream",
        "✅ AggTrades streams running in background",
    ]


async def test_trades_arrive_exactly_as_sent_once_and_in_order(exchange, start):
    sent = [frame(number, price=f"{91350 + number}.10000000") for number in range(200)]
    exchange.connections = [sends(*sent)]
    _, trades = await start()
    await until(lambda: len(trades) == 200)
    for text, trade in zip(sent, trades, strict=True):
        fields = json.loads(text)
        assert {key: trade[key] for key in "sapqflTEm"} == {key: fields[key] for key in "sapqflTEm"}


@pytest.mark.parametrize("symbol", ["btcusdt", "BTCUSDT", "BtcUsdt", " btcusdt "])
async def test_symbols_are_taken_in_any_case_and_asked_for_in_lower_case(exchange, start, symbol):
    exchange.connections = [sends(frame(0))]
    stream, _ = await start([symbol])
    assert exchange.paths == ["/ws/btcusdt@aggTrade"]
    assert stream.symbols == ["BTCUSDT"]


async def test_a_coroutine_function_may_be_the_callback(exchange, start):
    seen = []

    async def callback(symbol, trade):
        await asyncio.sleep(0)
        seen.append((symbol, trade["a"]))

    exchange.connections = [sends(frame(0), frame(1))]
    await start(callback=callback)
    await until(lambda: len(seen) == 2)
    assert seen == [("BTCUSDT", FIRST_ID), ("BTCUSDT", FIRST_ID + 1)]


async def test_health_is_ok_while_trades_flow(exchange, start, caplog):
    exchange.connections = [sends(frame(0))]
    stream, _ = await start()
    health = stream.health()
    assert (health["ok"], health["status"], health["reasons"], stream.running) == (True, "ok", [], True)
    assert warnings(caplog) == []


async def test_every_task_is_held_and_named(exchange, start):
    exchange.connections = [sends(frame(0))]
    stream, _ = await start()
    assert sorted(task.get_name() for task in stream.tasks) == ["aggTrades BTCUSDT", "delivery BTCUSDT", "supervisor"]
    assert not any(task.done() for task in stream.tasks)


# --- Losing the connection ---------------------------------------------------------------------


async def test_a_cut_is_announced_and_what_was_missed_is_fetched(exchange, start, caplog):
    frames = exchange.traded(range(10))
    exchange.connections = [sends_then_cuts(*frames[:3]), sends(*frames[7:])]
    _, trades = await start()
    await until(lambda: len(trades) == 10)
    assert ids(trades) == list(range(10))
    assert {trade.source for trade in trades} == {"stream", "rest"}
    assert any("connection lost" in text and f"id {FIRST_ID + 3} on" in text for text in warnings(caplog))


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012])
async def test_a_clean_close_reconnects_too_and_is_announced(exchange, start, caplog, code):
    frames = exchange.traded(range(4))
    exchange.connections = [sends_then_closes(code, *frames[:2]), sends(*frames[2:])]
    _, trades = await start()
    await until(lambda: len(trades) == 4)
    assert any(f"closed it with code {code}" in text for text in warnings(caplog))


async def test_an_overlap_after_a_reconnect_gives_no_trade_twice(exchange, start):
    frames = exchange.traded(range(10))
    exchange.connections = [sends_then_cuts(*frames[:6]), sends(*frames[3:])]
    _, trades = await start()
    await until(lambda: len(trades) >= 10)
    assert ids(trades) == list(range(10))


async def test_a_cut_before_the_first_trade_loses_nothing_that_rest_has(exchange, start):
    async def cut_later(ws):
        frames.extend(exchange.traded(range(5)))
        await asyncio.sleep(20 * MS)
        ws.transport.abort()

    async def goes_on(ws):
        await ws.send(exchange.traded([5])[0])
        await ws.wait_closed()

    frames = []
    exchange.connections = [cut_later, goes_on]
    _, trades = await start()
    await until(lambda: len(trades) == 6)
    assert ids(trades) == list(range(6))


async def test_what_was_traded_before_the_first_frame_came_is_fetched(exchange, start, caplog):
    async def slow_to_begin(ws):
        frames = exchange.traded(range(6))
        await asyncio.sleep(20 * MS)
        for text in frames[4:]:
            await ws.send(text)
        await ws.wait_closed()

    exchange.connections = [slow_to_begin]
    _, trades = await start()
    await until(lambda: len(trades) == 6)
    assert ids(trades) == list(range(6))
    assert warnings(caplog) == []


async def test_without_rest_the_first_trade_is_passed_on_all_the_same(exchange, start, caplog):
    exchange.rest_status = 404
    exchange.connections = [sends(*[frame(n) for n in range(3)])]
    _, trades = await start()
    await until(lambda: len(trades) == 3)
    assert warnings(caplog) == []


async def test_every_failed_attempt_is_announced_and_attempts_never_end(exchange, start, caplog):
    exchange.refusals = [response(503, "<html>maintenance</html>") for _ in range(12)]
    exchange.connections = [sends(frame(0))]
    _, trades = await start()
    assert len(trades) == 1
    told = [text for text in warnings(caplog) if "HTTP 503" in text]
    assert len(told) == 12
    assert "never" not in told[0]
    assert "no data for" in told[0]


async def test_rest_stands_in_while_the_stream_is_away(exchange, start, caplog, monkeypatch):
    monkeypatch.setattr("orderflow.symbol_feed._STAND_IN_AFTER_S", 50 * MS)

    async def cut(ws):
        for text in exchange.traded(range(3)):
            await ws.send(text)
        await until(lambda: trades)
        exchange.refusing = 503
        ws.transport.abort()

    trades = []
    exchange.connections = [cut]
    stream, _ = await start(callback=lambda symbol, trade: trades.append(trade), stand_in_s=20 * MS)
    await until(lambda: stream.health()["ok"] is False)
    for number in range(3, 8):
        exchange.traded([number])
        await until(lambda: len(trades) == number + 1)  # noqa: B023 - waited for within the round
    assert ids(trades) == list(range(8))
    assert {trade.source for trade in trades[3:]} == {"rest"}
    assert stream.health()["ok"] is False


async def test_a_stream_that_never_comes_up_is_no_start_though_rest_stands_in(exchange, start, caplog, monkeypatch):
    monkeypatch.setattr("orderflow.symbol_feed._STAND_IN_AFTER_S", 0.0)
    exchange.refusing = 451
    starting = asyncio.ensure_future(start(stand_in_s=20 * MS, start_timeout_s=500 * MS))
    await until(lambda: exchange.attempted)
    exchange.traded(range(3))
    stream, trades = await starting
    await until(lambda: len(trades) == 3)
    assert any("no trade from the stream within" in text for text in warnings(caplog))
    assert "✅ AggTrades streams running in background" not in caplog.messages
    assert stream.health()["ok"] is False


async def test_being_down_for_long_becomes_an_error(exchange, start, caplog):
    exchange.refusals = [response(502, "") for _ in range(12)]
    exchange.connections = [sends(frame(0))]
    await start(down_error_s=20 * MS)
    assert any(record.levelname == "ERROR" and "HTTP 502" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("status", "words"),
    [(451, "does not serve this location (restricted)"), (403, "blocks this address"), (404, "no such path")],
)
async def test_a_refusal_for_good_is_an_error_with_its_reason(exchange, start, caplog, status, words):
    exchange.refusals = [response(status, {"code": 0, "msg": "restricted"} if status == 451 else "<html>")]
    exchange.connections = [sends(frame(0))]
    await start()
    told = [record for record in caplog.records if f"HTTP {status}" in record.getMessage()]
    assert told[0].levelname == "ERROR"
    assert words in told[0].getMessage()


@pytest.mark.parametrize("status", [418, 429])
async def test_retry_after_is_honoured(exchange, start, caplog, status):
    exchange.refusals = [response(status, {"code": -1003, "msg": "banned"}, Retry_After="3600")]
    exchange.connections = [sends(frame(0))]
    stream, _ = await start(start_timeout_s=100 * MS)
    assert exchange.attempted == 1
    assert any("next attempt (2) in 36" in text or "next attempt (2) in 37" in text for text in warnings(caplog))
    assert stream.health()["ok"] is False


async def test_nobody_listening_is_announced_with_the_reason(start, caplog, unused_tcp_port):
    stream, _ = await start(stream_url=f"ws://127.0.0.1:{unused_tcp_port}/ws", start_timeout_s=50 * MS)
    assert any("cannot connect" in text and "refused" in text for text in warnings(caplog))
    assert "never connected" in stream.health()["reasons"][0]


async def test_backoff_grows_is_capped_and_has_jitter():
    stream = BinanceAggTradesStream(print, settings=StreamSettings())
    feed = stream._new_feed("BTCUSDT")
    from orderflow.explain import Explanation

    pauses = []
    for failures in range(1, 40):
        feed.failures = failures
        pauses.append(feed._pause_s(Explanation("")))
    assert max(pauses) <= 30.0
    assert all(0.25 * 2 ** min(n, 40) <= pause for n, pause in enumerate(pauses[:6]))
    assert len(set(pauses)) == len(pauses)


# --- Silence -----------------------------------------------------------------------------------


async def test_silence_on_an_open_connection_is_noticed_announced_and_mended(exchange, start, caplog):
    frames = exchange.traded(range(6))
    exchange.connections = [sends(*frames[:2]), sends(*frames[4:])]
    _, trades = await start(stall_timeout_s=100 * MS)
    await until(lambda: len(trades) == 6)
    assert ids(trades) == list(range(6))
    assert any("on an open connection, while REST has 4 newer ones" in text for text in warnings(caplog))


async def test_a_connection_that_never_delivers_is_noticed_and_rest_fills_in(exchange, start, caplog):
    exchange.connections = [sends()]
    _stream, trades = await start(stall_timeout_s=100 * MS, start_timeout_s=20 * MS)
    assert any("no trade from the stream within" in text for text in warnings(caplog))
    exchange.traded(range(3))
    await until(lambda: len(trades) == 3)
    assert any("on an open connection" in text for text in warnings(caplog))


@pytest.mark.parametrize("message", ['{"result":null,"id":1}', frame(1), "garbage", "{}"])
async def test_what_is_no_new_trade_is_no_sign_of_life(exchange, start, caplog, message):
    frames = exchange.traded(range(4))

    async def chatters(ws):
        for text in frames[:2]:
            await ws.send(text)
        while True:
            await ws.send(message)
            await asyncio.sleep(10 * MS)

    exchange.connections = [chatters, sends(*frames[2:])]
    _, trades = await start(stall_timeout_s=150 * MS)
    await until(lambda: len(trades) == 4)
    assert any("on an open connection" in text for text in warnings(caplog))


async def test_a_quiet_market_is_no_alarm_when_rest_agrees(exchange, start, caplog):
    exchange.connections = [sends(*exchange.traded(range(2)))]
    stream, _ = await start(stall_timeout_s=50 * MS)
    await until(lambda: any("REST confirms that the market is quiet" in text for text in caplog.messages))
    assert warnings(caplog) == []
    assert exchange.accepted == 1
    assert stream.health()["ok"] is True


async def test_a_market_that_stays_quiet_is_reported_in_the_end(exchange, start, caplog):
    exchange.connections = [sends(*exchange.traded(range(2))), sends()]
    stream, _ = await start(stall_timeout_s=50 * MS, quiet_timeout_s=150 * MS)
    await until(lambda: any("quiet, or halted" in text for text in warnings(caplog)))
    assert stream.health()["ok"] is False


async def test_silence_is_an_alarm_when_rest_cannot_be_asked(exchange, start, caplog):
    exchange.connections = [sends(*exchange.traded(range(2)))]
    exchange.rest_status = 500
    await start(stall_timeout_s=50 * MS)
    await until(lambda: any("whether there were any cannot be learnt" in text for text in warnings(caplog)))


async def test_one_mute_symbol_is_noticed_beside_one_that_talks(exchange, start, caplog):
    async def by_name(ws):
        if ws.request.path.startswith("/ws/eth"):
            await ws.send(frame(0, symbol="ETHUSDT"))
            await ws.wait_closed()
        number = 0
        while True:
            await ws.send(exchange.traded([number])[0])
            number += 1
            await asyncio.sleep(5 * MS)

    exchange.connections = [by_name]
    _stream, _ = await start(["btcusdt", "ethusdt"], stall_timeout_s=150 * MS, backfill=False)
    await until(lambda: any("ETHUSDT" in text and "no trade for" in text for text in warnings(caplog)))
    assert not any("BTCUSDT" in text for text in warnings(caplog))


# --- Gaps, disorder, duplicates ----------------------------------------------------------------


async def test_a_gap_is_announced_and_filled_before_later_trades_are_passed_on(exchange, start, caplog):
    frames = exchange.traded(range(10))
    exchange.connections = [sends(*frames[:4], *frames[7:])]
    stream, trades = await start()
    await until(lambda: len(trades) == 10)
    assert ids(trades) == list(range(10))
    assert any(f"{FIRST_ID + 4} to {FIRST_ID + 6} (3) are missing" in text for text in warnings(caplog))
    assert stream.health()["ok"] is True


async def test_a_gap_of_thousands_is_filled_page_by_page(exchange, start):
    frames = exchange.traded(range(2600))
    exchange.connections = [sends(frames[0], *frames[2550:])]
    _, trades = await start()
    await until(lambda: len(trades) == 2600)
    assert ids(trades) == list(range(2600))
    assert len(exchange.rest_asked) >= 3


async def test_a_gap_that_rest_has_too_is_lost_and_said_to_be(exchange, start, caplog):
    frames = exchange.traded(range(10))
    for number in (4, 5, 6):
        del exchange.rest_trades[FIRST_ID + number]
    exchange.connections = [sends(*frames[:4], *frames[7:])]
    stream, trades = await start()
    await until(lambda: len(trades) == 7)
    assert ids(trades) == [0, 1, 2, 3, 7, 8, 9]
    assert any("(3) are lost for good: REST does not have them either" in text for text in warnings(caplog))
    assert stream.health()["ok"] is False
    assert "3 trades were lost" in stream.health()["reasons"][0]


@pytest.mark.parametrize("trouble", ["429", "500", "hang", "html", "off"])
async def test_a_gap_that_cannot_be_filled_is_given_up_in_bounded_time_and_aloud(exchange, start, caplog, trouble):
    frames = exchange.traded(range(10))
    exchange.connections = [sends(*frames[:4], *frames[7:])]
    if trouble == "hang":
        exchange.rest_delay.clear()
    elif trouble == "html":
        exchange._rest = lambda query: response(200, "<html>")
    elif trouble != "off":
        exchange.rest_status = int(trouble)
    _, trades = await start(backfill=trouble != "off", backfill_timeout_s=200 * MS)
    await until(lambda: len(trades) == 7)
    assert any("are lost for good" in text for text in warnings(caplog))
    exchange.rest_delay.set()


async def test_rest_that_is_a_little_behind_is_asked_again(exchange, start):
    frames = exchange.traded(range(10))
    late = {number: exchange.rest_trades.pop(FIRST_ID + number) for number in range(4, 10)}

    async def script(ws):
        for text in (*frames[:4], *frames[7:]):
            await ws.send(text)
        await until(lambda: exchange.rest_asked)
        exchange.rest_trades.update({FIRST_ID + number: fields for number, fields in late.items()})
        await ws.wait_closed()

    exchange.connections = [script]
    _, trades = await start()
    await until(lambda: len(trades) == 10)
    assert ids(trades) == list(range(10))


async def test_disorder_is_put_right_without_rest(exchange, start, caplog):
    frames = exchange.traded(range(8))
    exchange.connections = [sends(*(frames[number] for number in (0, 3, 1, 2, 5, 4, 7, 6)))]
    _stream, trades = await start(reorder_grace_s=500 * MS)
    await until(lambda: len(trades) == 8)
    assert ids(trades) == list(range(8))
    assert not any("fromId" in query for query in exchange.rest_asked)
    assert warnings(caplog) == []


async def test_duplicates_are_dropped_and_counted(exchange, start, caplog):
    frames = exchange.traded(range(3))
    exchange.connections = [sends(frames[0], frames[0], frames[1], frames[0], frames[2])]
    stream, trades = await start()
    await until(lambda: len(trades) == 3)
    assert ids(trades) == [0, 1, 2]
    assert stream.health()["symbols"]["BTCUSDT"]["duplicates"] == 2
    assert warnings(caplog) == []


@pytest.mark.parametrize("first", [17, FIRST_ID + 50_000_000])
async def test_a_new_numbering_is_announced_and_followed(exchange, start, caplog, first):
    async def renumbers(ws):
        await ws.send(frame(0))
        await until(lambda: trades)
        later = now_ms() + 50
        for number in range(5):
            await ws.send(frame(0, a=first + number, f=1, l=1, at_ms=later + number))
        await ws.wait_closed()

    trades = []
    exchange.connections = [renumbers]
    await start(callback=lambda symbol, trade: trades.append(trade))
    await until(lambda: len(trades) == 6)
    assert [trade["a"] for trade in trades] == [FIRST_ID, *range(first, first + 5)]
    assert any("the numbering changed" in text for text in warnings(caplog))


# --- Wrong data --------------------------------------------------------------------------------


WRONG = {
    "price zero": frame(1, p="0.00000000"),
    "price negative": frame(1, p="-1.00000000"),
    "price NaN": frame(1, p="NaN"),
    "price a number": frame(1, p=91350.0),
    "price null": frame(1, p=None),
    "quantity zero": frame(1, q="0.00000000"),
    "wrong symbol": frame(1, s="ETHUSDT"),
    "id a string": frame(1, a=str(FIRST_ID + 1)),
    "no id": json.dumps({key: value for key, value in json.loads(frame(1)).items() if key != "a"}),
    "maker a string": frame(1, m="false"),
    "time zero": frame(1, T=0),
    "time long past": frame(1, T=now_ms() - 86_400_000),
    "unknown event": frame(1, e="trade"),
    "error object": '{"error":{"code":2,"msg":"Invalid request"},"id":1}',
    "flat error": '{"code":2,"msg":"Invalid request","id":1}',
    "null": "null",
    "array": f"[{frame(1)}]",
    "empty": "",
    "truncated": frame(1)[:60],
    "html": "<html><body>503</body></html>",
    "price spike": frame(1, p="913500.00000000"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_wrong_frame_is_rejected_aloud_and_the_right_trade_fetched(exchange, start, caplog, wrong):
    frames = exchange.traded(range(4))
    exchange.connections = [sends(frames[0], wrong, frames[2], frames[3])]
    _, trades = await start()
    await until(lambda: len(trades) == 4)
    assert ids(trades) == [0, 1, 2, 3]
    assert {trade["p"] for trade in trades} == {"91350.00000000"}
    assert any("BTCUSDT" in text for text in warnings(caplog))


async def test_a_burst_of_wrong_frames_is_reported_in_few_records_and_all_are_counted(exchange, start, caplog):
    exchange.connections = [sends(frame(0), *["garbage"] * 500, frame(1))]
    stream, trades = await start(remark_interval_s=100 * MS)
    await until(lambda: len(trades) == 2 and "more like it" in caplog.text)
    assert len(warnings(caplog)) < 20
    assert stream.health()["symbols"]["BTCUSDT"]["invalid"] == 500


async def test_a_price_that_rest_confirms_is_passed_on(exchange, start, caplog):
    frames = exchange.traded([0]) + exchange.traded([1, 2], price="40000.00000000")
    exchange.connections = [sends(*frames)]
    _, trades = await start()
    await until(lambda: len(trades) == 3)
    assert [trade["p"] for trade in trades] == ["91350.00000000", "40000.00000000", "40000.00000000"]
    assert any("not plausible" in text for text in warnings(caplog))


async def test_a_price_that_nobody_can_confirm_is_not_passed_on(exchange, start, caplog):
    exchange.rest_status = 500
    exchange.connections = [sends(frame(0), frame(1, price="1.00000000"), frame(2))]
    _, trades = await start(backfill_timeout_s=50 * MS)
    await until(lambda: len(trades) == 2)
    assert ids(trades) == [0, 2]
    assert any("lost for good" in text for text in warnings(caplog))


async def test_a_wrapped_frame_is_unwrapped_and_microseconds_are_made_milliseconds(exchange, start, caplog):
    at_ms = now_ms()
    wrapped = json.dumps({"stream": "btcusdt@aggTrade", "data": json.loads(frame(0, at_ms=at_ms))})
    micros = frame(1, E=at_ms * 1000 + 7, T=at_ms * 1000 + 3)
    exchange.connections = [sends(wrapped, micros, frame(2, at_ms=at_ms).encode())]
    _, trades = await start()
    await until(lambda: len(trades) == 3)
    assert [trade["T"] for trade in trades] == [at_ms] * 3
    assert warnings(caplog) == []


async def test_an_acknowledgement_is_no_trade_and_no_alarm(exchange, start, caplog):
    exchange.connections = [sends('{"result":null,"id":1}', frame(0))]
    _, trades = await start()
    assert len(trades) == 1
    assert warnings(caplog) == []


async def test_a_shutdown_notice_is_announced(exchange, start, caplog):
    exchange.connections = [sends(frame(0), '{"e":"serverShutdown","E":1770123456789}')]
    await start()
    await until(lambda: any("announces that it will close" in text for text in warnings(caplog)))


async def test_trades_far_behind_the_market_are_announced(exchange, start, caplog):
    exchange.connections = [sends(frame(0), *[frame(1 + n, at_ms=now_ms() - 20_000) for n in range(3)])]
    stream, trades = await start()
    await until(lambda: len(trades) == 4)
    assert sum("behind the market" in text for text in warnings(caplog)) == 1
    assert stream.health()["ok"] is False


async def test_a_clock_that_is_a_second_wrong_is_no_alarm(exchange, start, caplog):
    exchange.connections = [sends(*[frame(n, at_ms=now_ms() + 1270) for n in range(3)])]
    _, trades = await start()
    await until(lambda: len(trades) == 3)
    assert warnings(caplog) == []


# --- The callback ------------------------------------------------------------------------------


async def test_a_callback_that_raises_is_logged_with_its_traceback_and_the_stream_goes_on(exchange, start, caplog):
    seen = []

    def callback(symbol, trade):
        seen.append(trade["a"])
        if len(seen) == 2:
            raise ZeroDivisionError("planted")

    exchange.connections = [sends(*[frame(n) for n in range(4)])]
    stream, _ = await start(callback=callback)
    await until(lambda: len(seen) == 4)
    record = next(record for record in caplog.records if "callback failed" in record.getMessage())
    assert record.levelname == "ERROR"
    assert record.exc_info[0] is ZeroDivisionError
    assert stream.health()["ok"] is False


async def test_a_cancellation_within_the_callback_ends_nothing(exchange, start, caplog):
    seen = []

    async def callback(symbol, trade):
        seen.append(trade["a"])
        if len(seen) == 2:
            raise asyncio.CancelledError

    exchange.connections = [sends(*[frame(n) for n in range(4)])]
    stream, _ = await start(callback=callback)
    await until(lambda: len(seen) == 4)
    assert any("callback failed" in text for text in warnings(caplog))
    assert not any(task.done() for task in stream.tasks)


async def test_a_slow_callback_pauses_reading_is_announced_and_loses_nothing(exchange, start, caplog):
    seen = []
    gate = asyncio.Event()

    async def callback(symbol, trade):
        if trade["a"] == FIRST_ID + 1:
            await gate.wait()
        seen.append(trade["a"] - FIRST_ID)

    async def script(ws):
        await ws.send(frame(0))
        await until(lambda: seen)
        for number in range(1, 500):
            await ws.send(frame(number))
        await ws.wait_closed()

    exchange.connections = [script]
    await start(callback=callback, backlog_max=50)
    await until(lambda: any("reading is paused" in text for text in warnings(caplog)))
    await until(lambda: any("has been busy with one trade" in text for text in warnings(caplog)))
    gate.set()
    await until(lambda: len(seen) == 500)
    assert seen == list(range(500))


# --- Starting and stopping ---------------------------------------------------------------------


async def test_starting_twice_warns_and_doubles_nothing(exchange, start, caplog):
    exchange.connections = [sends(*[frame(n) for n in range(3)])]
    stream, trades = await start()
    await stream.start(["btcusdt", "BTCUSDT"])
    await until(lambda: len(trades) == 3)
    assert exchange.accepted == 1
    assert any("not started twice" in text for text in warnings(caplog))


async def test_a_symbol_can_be_added_later(exchange, start):
    async def by_name(ws):
        await ws.send(frame(0, symbol=ws.request.path[4:11].upper()))
        await ws.wait_closed()

    exchange.connections = [by_name]
    stream, trades = await start(["btcusdt"])
    await stream.start(["ethusdt"])
    assert sorted(trade["s"] for trade in trades) == ["BTCUSDT", "ETHUSDT"]


@pytest.mark.parametrize("symbols", [[], [""], ["btc/usdt"]])
async def test_symbols_that_cannot_be_are_refused_at_once(symbols):
    stream = BinanceAggTradesStream(print)
    with pytest.raises(StartError):
        await stream.start(symbols)


async def test_start_says_that_no_trade_came(exchange, start, caplog):
    exchange.connections = [sends()]
    _stream, _ = await start(start_timeout_s=30 * MS)
    assert any("no trade from the stream within" in text for text in warnings(caplog))
    assert "✅ AggTrades streams running in background" not in caplog.messages


async def test_stop_ends_every_task_and_thread(exchange, start, caplog):
    exchange.connections = [sends(frame(0))]
    stream, _ = await start()
    await stream.stop()
    await until(lambda: not any(thread.name == "order flow watchdog" for thread in threading.enumerate()))
    assert [task for task in asyncio.all_tasks() if task.get_name().split()[0] in {"aggTrades", "delivery"}] == []
    assert stream.health()["status"] == "stopped"
    assert stream.running is False
    await stream.stop()
    assert warnings(caplog) == []


async def test_stop_takes_leave_with_a_normal_close(exchange, start):
    codes = []

    async def noting(ws):
        await ws.send(frame(0))
        await ws.wait_closed()
        codes.append(ws.protocol.close_code)  # which websockets 13 has, too

    exchange.connections = [noting]
    stream, _ = await start()
    await stream.stop()
    await until(lambda: codes)
    assert codes == [1000]


async def test_a_stopped_stream_can_be_started_again(exchange, start):
    exchange.connections = [sends(*exchange.traded(range(2)))]
    stream, trades = await start()
    await stream.stop()
    await stream.start(["btcusdt"])
    await until(lambda: len(trades) == 4)
    assert stream.running


async def test_stop_is_bounded_when_the_callback_never_returns(exchange, caplog):
    exchange.connections = [sends(frame(0))]

    async def never(symbol, trade):
        called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(1)

    called = asyncio.Event()
    settings = quick(
        stream_url=exchange.stream_url, rest_url=exchange.rest_url, start_timeout_s=50 * MS, stop_timeout_s=100 * MS
    )
    stream = BinanceAggTradesStream(never, settings=settings)
    await stream.start(["btcusdt"])
    await called.wait()
    await asyncio.wait_for(stream.stop(), 5)
    assert any("left behind" in text for text in warnings(caplog))


async def test_the_callback_may_stop_the_stream(exchange):
    stopped = asyncio.Event()

    async def callback(symbol, trade):
        await stream.stop()
        stopped.set()

    exchange.connections = [sends(frame(0))]
    stream = BinanceAggTradesStream(
        callback, settings=quick(stream_url=exchange.stream_url, rest_url=exchange.rest_url)
    )
    await stream.start(["btcusdt"])
    await asyncio.wait_for(stopped.wait(), 5)


async def test_in_the_foreground_start_returns_when_stopped(exchange):
    exchange.connections = [sends(frame(0))]
    stream = BinanceAggTradesStream(
        lambda symbol, trade: None, settings=quick(stream_url=exchange.stream_url, rest_url=exchange.rest_url)
    )
    task = asyncio.ensure_future(stream.start(["btcusdt"], background=False))
    await until(lambda: stream.running and stream.health()["ok"])
    assert not task.done()
    await stream.stop()
    await asyncio.wait_for(task, 5)


async def test_stop_works_from_another_event_loop(exchange, start):
    exchange.connections = [sends(frame(0))]
    stream, _ = await start()
    await asyncio.to_thread(lambda: asyncio.run(stream.stop()))
    assert not stream.running


# --- What the program around it does -----------------------------------------------------------


async def test_a_task_that_somebody_cancels_is_announced(exchange, start, caplog):
    exchange.connections = [sends(frame(0))]
    stream, _ = await start()
    stream.tasks[0].cancel()
    await until(lambda: any("was cancelled, and not by stop()" in text for text in warnings(caplog)))
    assert stream.running is False
    assert stream.health()["ok"] is False


async def test_a_blocked_event_loop_is_announced_with_the_place(exchange, start, caplog):
    exchange.connections = [sends(frame(0))]
    await start(loop_timeout_s=1000 * MS)
    deadline_s = time.monotonic() + 10
    here = "test_binance_aggtrades_stream.py"
    while not any("has been blocked" in text and here in text for text in warnings(caplog)):
        assert time.monotonic() < deadline_s
        time.sleep(10 * MS)  # noqa: ASYNC251 - blocking the event loop is the point
    await until(lambda: any("runs again" in text for text in warnings(caplog)))


async def test_it_goes_on_when_nobody_keeps_a_reference(exchange, caplog):
    import gc

    gate, trades = asyncio.Event(), []

    async def script(ws):
        await ws.send(frame(0))
        await gate.wait()
        await ws.send(frame(1))
        await ws.wait_closed()

    exchange.connections = [script]
    settings = quick(stream_url=exchange.stream_url, rest_url=exchange.rest_url)
    await BinanceAggTradesStream(lambda symbol, trade: trades.append(trade), settings=settings).start(["btcusdt"])
    gc.collect()
    gate.set()
    await until(lambda: len(trades) == 2)
    from orderflow.binance_aggtrades_stream import _running_streams

    (stream,) = _running_streams
    await stream.stop()
