"""Our recorder on our exchange: what is recorded is what was played, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from harness.exchange import ExchangeSettings
from harness.faults.plan import Plan, parse_fault
from harness.frames import Frame, split_wrapped
from harness.recorder import recorder as recorder_module
from harness.recorder.recorder import Recorder
from harness.recorder.settings import Settings
from harness.recording import open_recording
from harness.timeline import Timeline
from harness.transports.live import LiveExchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(60)]

MS = 1_000_000
FIRST_ID = 3_120_000_000
START_MS = 1_700_000_000_000


class Payloads:
    def __init__(self, payloads: list[bytes]) -> None:
        self.payloads = payloads

    def fetch(self, first: int, last: int) -> list[bytes]:
        return self.payloads[first:last]


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    at, trade_id = START_MS + number, FIRST_ID + number
    return (
        f'{{"e":"aggTrade","E":{at},"s":"{symbol}","a":{trade_id},"p":"91350.{number % 100:02}000000",'
        f'"q":"0.50000000","f":{trade_id},"l":{trade_id},"T":{at},"m":{"true" if number % 3 else "false"},"M":true}}'
    ).encode()


def make_tape(count: int, *, every_ns: int = 2 * MS, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Timeline:
    """`count` trades; symbols take turns, and each counts its own ids."""
    turns = [(n // len(symbols), symbols[n % len(symbols)]) for n in range(count)]
    return Timeline(
        due_ns=np.arange(count, dtype=np.int64) * every_ns,
        stream_codes=np.arange(count, dtype=np.int32) % len(symbols),
        trade_ids=np.array([FIRST_ID + number for number, _ in turns], dtype=np.int64),
        event_ms=np.array([START_MS + number for number, _ in turns], dtype=np.int64),
        streams=tuple(f"{symbol.lower()}@aggTrade" for symbol in symbols),
        store=Payloads([trade(number, symbol) for number, symbol in turns]),
        start_ms=START_MS,
    )


def plan(*faults: str) -> Plan:
    return Plan(tuple(parse_fault(text) for text in faults), 7)


def settings(exchange: LiveExchange, folder: Path, **changes: object) -> Settings:
    """A recorder's settings on a clock that is faster than the world's."""
    defaults = Settings(
        streams=("btcusdt@aggTrade",),
        endpoint=exchange.urls["ws"],
        folder=folder,
        interval_ns=20 * MS,
        stall_ns=60_000 * MS,
        overlap_ns=200 * MS,
        backoff_ns=20 * MS,
        retry_ns=10 * MS,
    )
    return msgspec.structs.replace(defaults, **changes)


async def record(
    settings: Settings, *, until: Callable[[Recorder], bool] = lambda _: False
) -> tuple[Recorder, list[Frame]]:
    """Record until a condition holds, and read back what was recorded."""
    recorder = Recorder(settings)

    async def watch() -> None:
        while not until(recorder):  # noqa: ASYNC110 - a condition of somebody else's
            await asyncio.sleep(0.01)
        recorder.stop("the condition holds")

    watcher = asyncio.create_task(watch())
    paths = await recorder.run()
    watcher.cancel()
    return recorder, [frame for path in paths for frame in open_recording(path).frames()]


def data(frames: list[Frame]) -> list[bytes]:
    return [split_wrapped(f.data)[1] for f in frames if f.kind == "text" and f.direction == "received"]


def ids(frames: list[Frame]) -> list[int]:
    return [msgspec.json.decode(payload)["a"] - FIRST_ID for payload in data(frames) if b"aggTrade" in payload]


def rows(frames: list[Frame], kind: str) -> list[str]:
    return [f.detail for f in frames if f.kind == kind]


def last_id(recorder: Recorder, stream: str = "btcusdt@aggTrade") -> int:
    track = recorder._sieve.tracks.get(stream)
    return -1 if track is None or track.last_id is None else track.last_id - FIRST_ID


FAST = ExchangeSettings(grace_ns=50 * MS, connect_limit=0, weight_limit=0)


async def test_a_recording_of_a_replay_is_the_recording(tmp_path: Path) -> None:
    with LiveExchange(make_tape(1000), plan(), settings=FAST) as exchange:
        _, frames = await record(settings(exchange, tmp_path, frame_count_max=1000))
    assert data(frames) == [trade(n) for n in range(1000)]
    assert [f.kind for f in frames if f.kind != "text"][:1] == ["open"]
    walls, monotonics = [f.received_at_ns for f in frames], [f.monotonic_ns for f in frames]
    assert monotonics == sorted(monotonics)
    assert walls[-1] - walls[0] > 900 * 2 * MS


async def test_the_same_over_tls_with_the_session_s_authority_and_at_full_speed(tmp_path: Path) -> None:
    fast = msgspec.structs.replace(FAST, speed=float("inf"))
    with LiveExchange(make_tape(20_000), plan(), settings=fast, tls=True) as exchange:
        changes = {"endpoint": exchange.urls["wss"], "cafile": exchange.urls["cafile"], "frame_count_max": 20_000}
        _, frames = await record(settings(exchange, tmp_path, **changes))
    assert data(frames) == [trade(n) for n in range(20_000)]


async def test_a_combined_connection_is_recorded_wrapped_with_every_stream(tmp_path: Path) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    with LiveExchange(make_tape(400, symbols=symbols), plan(), settings=FAST) as exchange:
        streams = tuple(f"{s.lower()}@aggTrade" for s in symbols)
        _, frames = await record(settings(exchange, tmp_path, streams=streams, frame_count_max=400))
    wrapped = [split_wrapped(f.data) for f in frames if f.kind == "text"]
    assert wrapped == [(f"{symbols[n % 2].lower()}@aggTrade", trade(n // 2, symbols[n % 2])) for n in range(400)]


async def test_after_a_reset_the_recorder_comes_back_and_fetches_what_it_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LiveExchange(make_tape(600), plan("tcp.reset_peer@frame=250"), settings=FAST) as exchange:
        recorder, frames = await record(settings(exchange, tmp_path), until=lambda r: last_id(r) == 599)
    assert rows(frames, "lost") == ["reset by peer"]
    assert rows(frames, "open")[1:]
    (gap,) = rows(frames, "gap")
    assert gap.startswith("btcusdt@aggTrade: ids ")
    assert sorted(ids(frames)) == list(range(600))
    filled = [f for f in frames if f.detail == "backfilled"]
    assert filled
    assert set(data(filled)) < {trade(n).replace(b'"E":', b'"E":') for n in range(600)}
    assert recorder.health.missing == 0
    assert any(r.levelno == logging.WARNING and "was lost: reset by peer" in r.message for r in caplog.records)


async def test_a_long_hole_is_fetched_in_parts_and_each_is_written_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "FILL_IDS_MAX", 3)
    with LiveExchange(make_tape(600), plan("sequence.drop:count=20@frame=250"), settings=FAST) as exchange:
        recorder, frames = await record(settings(exchange, tmp_path), until=lambda r: last_id(r) == 599)
    assert ids([f for f in frames if f.detail == "backfilled"]) == list(range(249, 269))
    assert sorted(ids(frames)) == list(range(600))
    assert recorder.health.missing == 0


async def test_without_backfill_a_gap_stays_a_gap(tmp_path: Path) -> None:
    with LiveExchange(make_tape(500), plan("sequence.gap:count=5@frame=250"), settings=FAST) as exchange:
        recorder, frames = await record(settings(exchange, tmp_path, backfill=False), until=lambda r: last_id(r) == 499)
    assert rows(frames, "gap") == [f"btcusdt@aggTrade: ids {FIRST_ID + 249} to {FIRST_ID + 253} missing"]
    assert ids(frames) == [n for n in range(500) if not 249 <= n < 254]
    assert recorder.health.missing == 5


async def test_what_the_exchange_does_not_have_either_is_told_twice(tmp_path: Path) -> None:
    with LiveExchange(make_tape(500), plan("sequence.gap:count=5@frame=250"), settings=FAST) as exchange:
        _, frames = await record(settings(exchange, tmp_path), until=lambda r: last_id(r) == 499)
    gap, unfilled = rows(frames, "gap")
    assert gap.endswith(" missing")
    assert "5 of ids" in unfilled
    assert "not backfilled: the exchange does not have them" in unfilled


async def test_connections_are_handed_over_before_they_are_cut_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """A day in a second: the exchange cuts at 1.2 s, the recorder hands over at 0.7 s."""
    cut = msgspec.structs.replace(FAST, life_ns=1200 * MS)
    with LiveExchange(make_tape(2000), plan(), settings=cut) as exchange:
        changes = {"life_ns": 700 * MS, "backfill": False}
        recorder, frames = await record(settings(exchange, tmp_path, **changes), until=lambda r: last_id(r) == 1999)
    assert recorder.health.handovers >= 3
    assert rows(frames, "lost") == []
    assert rows(frames, "gap") == []
    assert ids(frames) == list(range(2000))
    assert recorder.health.duplicates_removed > 0
    # What the recorder ended by itself is no event of the exchange: a replay does not repeat it.
    marks = [mark.kind for path in recorder._scribe.paths for mark in open_recording(path).timeline().marks]
    assert set(marks) == {"open"}


async def test_an_announced_shutdown_is_answered_by_a_new_connection_first(tmp_path: Path) -> None:
    cut = msgspec.structs.replace(FAST, life_ns=1500 * MS, shutdown_notice_ns=900 * MS)
    with LiveExchange(make_tape(1200), plan(), settings=cut) as exchange:
        changes = {"backfill": False}
        recorder, frames = await record(settings(exchange, tmp_path, **changes), until=lambda r: last_id(r) == 1199)
    assert recorder.health.handovers >= 1
    assert rows(frames, "lost") == []
    assert ids(frames) == list(range(1200))


async def test_an_exchange_that_acknowledges_and_stays_silent_makes_the_recorder_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LiveExchange(make_tape(2000), plan("exchange.ack_then_silence"), settings=FAST) as exchange:
        recorder, frames = await record(
            settings(exchange, tmp_path, stall_ns=300 * MS),
            until=lambda r: bool(r._mute) and r.health.handovers > 0 and r.health.backfilled > 0,
        )
    assert any("while the market moves; we are blind" in text for text in rows(frames, "gap"))
    assert any(r.levelno == logging.WARNING and "mute for" in r.message for r in caplog.records)
    assert not recorder.health.healthy
    # What never comes over the wire comes over REST, from the moment that we know to be blind.
    found = ids(frames)
    assert found == list(range(found[0], found[-1] + 1))
    assert {f.detail for f in frames if f.kind == "text"} == {"backfilled"}


async def test_a_stream_that_falls_silent_is_filled_over_rest_while_the_market_moves(tmp_path: Path) -> None:
    with LiveExchange(make_tape(1500), plan("timing.silence@frame=100#connection=1-9"), settings=FAST) as exchange:
        _, frames = await record(settings(exchange, tmp_path, stall_ns=300 * MS), until=lambda r: last_id(r) >= 600)
    assert any("while the market moves; we are blind" in text for text in rows(frames, "gap"))
    found = sorted(set(ids(frames)))
    assert found == list(range(found[-1] + 1))


async def test_a_quiet_market_is_no_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two trades, then nothing: REST knows of no newer one, so the connection is not mute."""
    with LiveExchange(make_tape(2), plan(), settings=FAST) as exchange:
        recorder, frames = await record(settings(exchange, tmp_path, duration_ns=1200 * MS, stall_ns=300 * MS))
    assert rows(frames, "gap") == []
    assert recorder.health.connections == 1
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_three_hundred_streams_are_subscribed_by_message_and_delivered(tmp_path: Path) -> None:
    streams = (*(f"symbol{n}usdt@aggTrade" for n in range(299)), "btcusdt@aggTrade")
    with LiveExchange(make_tape(1500), plan(), settings=FAST) as exchange:
        _, frames = await record(settings(exchange, tmp_path, streams=streams), until=lambda r: last_id(r) > 100)
    asked = [f for f in frames if f.direction == "sent" and f.kind == "text"]
    assert len(asked) == 2
    acks = [f.data for f in frames if f.data.startswith(b'{"result"')]
    assert acks == [b'{"result":null,"id":1}', b'{"result":null,"id":2}']
    assert ids(frames) == sorted(ids(frames))


async def test_pings_and_the_close_are_in_the_recording(tmp_path: Path) -> None:
    beating = msgspec.structs.replace(FAST, ping_interval_ns=100 * MS)
    with LiveExchange(make_tape(500), plan("ws.close:code=1001@frame=300"), settings=beating) as exchange:
        _, frames = await record(settings(exchange, tmp_path), until=lambda r: last_id(r) == 499)
    pings = [f.data for f in frames if f.kind == "ping" and f.direction == "received"]
    assert pings
    assert [f.data for f in frames if f.kind == "pong" and f.direction == "sent"] == pings
    closes = [(f.direction, f.close_code) for f in frames if f.kind == "close" and f.connection == 1]
    assert closes == [("received", 1001), ("sent", 1001)]
    assert sorted(ids(frames)) == list(range(500))


@pytest.mark.parametrize("market", ["um", "cm"])
async def test_futures_are_recorded_on_their_paths_and_backfilled_from_theirs(tmp_path: Path, market: str) -> None:
    """On the wrong path USD-M streams are acknowledged and stay mute: these trades come, so the path is right."""
    setup = msgspec.structs.replace(FAST, market=market)
    with LiveExchange(make_tape(500), plan("tcp.reset_peer@frame=200"), settings=setup) as exchange:
        _, frames = await record(settings(exchange, tmp_path, market=market), until=lambda r: last_id(r) == 499)
    path = "/market" if market == "um" else ""
    assert {text.partition("/ws/")[0] for text in rows(frames, "open")} == {exchange_url(frames) + path}
    assert sorted(ids(frames)) == list(range(500))
    assert [f.detail for f in frames if f.detail == "backfilled"]


def exchange_url(frames: list[Frame]) -> str:
    return "/".join(rows(frames, "open")[0].split("/")[:3])


async def test_any_other_stream_is_recorded_to_the_byte(tmp_path: Path) -> None:
    books = [
        b'{"e":"depthUpdate", "E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[["1.0","2.0"]],"a":[]}' % (n, n, n)
        for n in range(300)
    ]
    tape = Timeline(
        due_ns=np.arange(300, dtype=np.int64) * 2 * MS,
        stream_codes=np.zeros(300, dtype=np.int32),
        trade_ids=np.full(300, -1, dtype=np.int64),
        event_ms=np.arange(300, dtype=np.int64),
        streams=("btcusdt@depth@100ms",),
        store=Payloads(books),
        start_ms=0,
    )
    with LiveExchange(tape, plan(), settings=FAST) as exchange:
        changes = {"streams": ("btcusdt@depth@100ms",), "frame_count_max": 300}
        _, frames = await record(settings(exchange, tmp_path, **changes))
    assert data(frames) == books
