"""The event loop is gone, stopped or blocked: the incident itself, and its relatives."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
import time

import pytest

from orderflow.binance_aggtrades_stream import BinanceAggTradesStream, _running_streams
from orderflow.order_flow_service import OrderFlowService
from orderflow.watchdog import Watchdog, where
from tests.orderflow.conftest import MS, quick, warnings
from tests.orderflow.scripted_exchange import FIRST_ID, ScriptedExchange, frame, sends

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]


@pytest.fixture
def distant_exchange():
    """An exchange on a thread of its own, which no event loop of the test can stop."""
    loop, exchange, ready = asyncio.new_event_loop(), ScriptedExchange(), threading.Event()
    exchange.connections = [sends(frame(0))]

    async def serve():
        async with exchange:
            exchange.done = asyncio.Event()
            ready.set()
            await exchange.done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    yield exchange
    loop.call_soon_threadsafe(exchange.done.set)
    thread.join(10)
    loop.close()


def make_service(exchange, loop_timeout_s):
    urls = {"stream_url": exchange.stream_url, "rest_url": exchange.rest_url}
    return OrderFlowService(settings=quick(loop_timeout_s=loop_timeout_s, **urls))


@pytest.fixture
def service(distant_exchange):
    """Notices at once that its loop does not run."""
    service = make_service(distant_exchange, 100 * MS)
    yield service
    asyncio.run(service.stop())


@pytest.fixture
def patient_service(distant_exchange):
    """Is not alarmed when the machine is busy."""
    service = make_service(distant_exchange, 20_000 * MS)
    yield service
    asyncio.run(service.stop())


def until(condition):
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in 10 s"
        time.sleep(5 * MS)


def finish(loop):
    """End what a test left on a loop that it stopped, so that the interpreter has nothing to complain about."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(50 * MS))
    loop.close()


def test_the_incident_a_loop_that_runs_start_and_never_again_is_announced(service, caplog):
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(service.start(["btcusdt"]))["ok"] is True
    until(lambda: any("is not running" in text for text in warnings(caplog)))
    told = next(text for text in warnings(caplog) if "is not running" in text)
    assert "BTCUSDT: 1 attempts, 1 trades until then" in told
    assert "keep it running" in told
    health = service.health()
    assert (health["ok"], health["running"], service.running) == (False, False, False)
    assert "is not running" in health["reasons"][0]
    finish(loop)


def test_when_no_connection_was_made_that_is_what_is_said(service, caplog):
    loop = asyncio.new_event_loop()

    async def start_and_leave():
        task = asyncio.ensure_future(service.start(["btcusdt"]))
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(start_and_leave())
    until(lambda: any("BTCUSDT: no connection was made" in text for text in warnings(caplog)))
    task.cancel()
    finish(loop)


def test_a_closed_loop_is_announced_and_the_stream_is_let_go(service, caplog):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(service.start(["btcusdt"]))
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
    until(lambda: any("is closed" in text for text in warnings(caplog)))
    assert any("cancelled, and not by stop()" in text for text in warnings(caplog))
    assert service.trades_stream not in _running_streams
    assert service.health()["ok"] is False


def test_after_its_loop_is_gone_it_can_be_started_on_another(service, caplog):
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(service.start(["btcusdt"]))
    health = second.run_until_complete(service.start(["btcusdt"]))
    assert health["ok"] is True
    assert any("starting afresh" in text for text in warnings(caplog))
    second.run_until_complete(service.stop())
    second.close()
    finish(first)


def test_it_is_quiet_when_all_is_well_and_ends_with_stop(patient_service, caplog):
    service = patient_service

    async def main():
        await service.start(["btcusdt"])
        await asyncio.sleep(300 * MS)
        await service.stop()

    asyncio.run(main())
    assert warnings(caplog) == []
    until(lambda: not any(isinstance(thread, Watchdog) for thread in threading.enumerate()))


def test_a_service_in_a_thread_with_its_own_loop_is_sound(patient_service, caplog):
    service = patient_service
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(service.start(["btcusdt"]), loop).result(10)
        assert service.health()["ok"] is True
        asyncio.run_coroutine_threadsafe(service.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert warnings(caplog) == []


def test_a_stream_that_was_collected_is_announced(caplog):
    stream = BinanceAggTradesStream(print)
    stream._feeds = {"BTCUSDT": None}
    dog = Watchdog(stream, 10 * MS)
    del stream
    gc.collect()
    dog.run()
    assert "was garbage-collected while it ran" in warnings(caplog)[0]


def test_a_pause_of_the_whole_process_is_not_blamed_on_the_loop(caplog):
    class Paused:
        symbols = ("BTCUSDT",)
        looks = 0

        def loop_trouble(self, now_s):
            Paused.looks += 1
            dog.stop()
            return "never to be said before the second look"

    paused = Paused()
    dog = Watchdog(paused, 10 * MS)
    waits = []

    class Ended:
        def wait(self, timeout):
            waits.append(timeout)
            if len(waits) == 1:
                time.sleep(1.1)  # as when the machine slept
            return len(waits) > 1

        def set(self):
            pass

    dog._ended = Ended()
    dog.run()
    assert Paused.looks == 0


def test_it_goes_on_when_it_stumbles_and_says_so(caplog):
    class Broken:
        symbols = ("BTCUSDT",)
        looks = 0

        def loop_trouble(self, now_s):
            Broken.looks += 1
            if Broken.looks == 3:
                dog.stop()
            raise RuntimeError("planted")

    broken = Broken()
    dog = Watchdog(broken, 1 * MS)
    dog.run()
    assert warnings(caplog) == ["❌ the watchdog of BTCUSDT stumbled; it goes on"] * 3


def test_remarks_come_at_growing_intervals(caplog):
    class Troubled:
        symbols = ("BTCUSDT",)

        def loop_trouble(self, now_s):
            return "planted" if now_s < 100 else ""

    troubled = Troubled()
    dog = Watchdog(troubled, 1.0)
    for now_s in range(110):
        dog.look(troubled, float(now_s))
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 5 + [logging.WARNING]
    assert caplog.messages[-1] == "order flow of BTCUSDT: the event loop runs again, after 100.0 s"


def test_where_a_thread_is():
    assert "watchdog.py" in where(threading.get_ident())
    assert where(None) == where(-1) == ""


def test_a_program_that_ends_without_stop_is_not_held_up(distant_exchange):
    """The thread is a daemon, and nothing waits for it."""
    code = f"""
import asyncio, logging
from orderflow.order_flow_service import OrderFlowService
from orderflow.settings import StreamSettings
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
service = OrderFlowService(settings=StreamSettings(stream_url={distant_exchange.stream_url!r},
rest_url={distant_exchange.rest_url!r}))
asyncio.run(service.start(["btcusdt"]))
print("left")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "left\n")
    assert "ERROR ❌ the task 'aggTrades BTCUSDT' was cancelled, and not by stop()" in done.stderr


def test_metrics_say_why_when_the_loop_is_gone(service, caplog):
    from orderflow.btc_order_flow_metrics import BTCOrderFlowMetrics

    loop = asyncio.new_event_loop()
    loop.run_until_complete(service.start(["btcusdt"]))
    until(lambda: not service.running)
    assert json.loads(json.dumps(service.health()["symbols"]["BTCUSDT"]))["last_id"] == FIRST_ID
    assert "is not running" in BTCOrderFlowMetrics(service).get_metrics()["reason"]
    finish(loop)
