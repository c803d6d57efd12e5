"""Other people's files in: what is taken, what is skipped, and why."""

from __future__ import annotations

import gzip
import itertools
import zipfile
from decimal import Decimal

import pytest

from harness.errors import RecordingError, UsageError
from harness.frames import parse_agg_trade
from harness.sources import import_file, synth

SPOT_ROW = "26129,0.01633102,4.70443515,27781,27781,1498793709153,True,True"
FUTURES = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
FRAME = '{"e":"trade","E":1633998523963,"s":"BNBBTC","t":12345}'


def trades(capture):
    return [trade for frame in capture.frames if (trade := parse_agg_trade(frame.data))]


def saved(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "taken", "skipped"),
    [
        ("archive-format/BTCUSDT-aggTrades-2020-01-02.part.csv", "archive CSV", 1000, 0),
        ("cryptofeed/binance-coinm.2021-04-17.ws.txt.gz", "raw capture, seconds", 9642, 0),
        ("cryptofeed/binance-spot.2021-04-17.ws.txt", "raw capture, seconds", 1228, 0),
        ("frames/aggTrade-only.cryptofeed-2021.jsonl", "JSON lines", 431, 0),
        ("frames/usdm-4symbols.2021-07-22.frames.jsonl", "bare frames", 1535, 0),
        ("gocryptotrader/rest-spot-aggTrades-BTCUSDT-fromId-202790190-limit-1000.json", "REST aggTrades", 1000, 0),
        ("hftbacktest/spot-btcusdt_20240808.gz", "raw capture, nanoseconds", 41248, 1),
        ("orderflow-trading/LTCUSDT_2025-06-21_12h_trades.csv", "recorder CSV", 11985, 0),
    ],
)
def test_each_kind_of_real_file_is_recognised_and_counted(shared_data, name, kind, taken, skipped):
    capture = import_file(shared_data / name)
    rows = list(capture.frames)
    assert (capture.kind, capture.tally.taken) == (kind, taken)
    assert sum(capture.tally.skipped.values()) == skipped
    assert sum(row.kind in {"text", "binary"} for row in rows) == taken


def test_real_holes_become_gap_rows(shared_data):
    capture = import_file(shared_data / "orderflow-trading/LTCUSDT_2025-06-21_12h_trades.csv")
    gaps = [frame.detail for frame in capture.frames if frame.kind == "gap"]
    assert gaps[1] == "ltcusdt@aggTrade: ids 293534907 to 293535023 missing"
    assert len(gaps) == 4


def test_disconnect_markers_become_lost_and_open_rows(shared_data):
    path = shared_data / "barter-rs/binance_spot_market_data_with_disconnect_events.json"
    capture = import_file(path, symbol="btcusdt,solusdt")
    frames = list(capture.frames)
    kinds = [frame.kind for frame in frames]
    assert (kinds.count("lost"), kinds.count("open"), kinds.count("gap")) == (3, 3, 0)
    prices = {trade.symbol: round(trade.price, -2) for frame in frames if (trade := parse_agg_trade(frame.data))}
    assert prices == {"BTCUSDT": 97000, "SOLUSDT": 200}


def test_instruments_without_a_name_are_skipped_and_not_taken_for_another(shared_data):
    path = shared_data / "barter-rs/binance_spot_market_data_with_disconnect_events.json"
    capture = import_file(path, symbol="btcusdt")
    assert {trade.symbol for frame in capture.frames if (trade := parse_agg_trade(frame.data))} == {"BTCUSDT"}
    assert (capture.tally.taken, sum(capture.tally.skipped.values())) == (9, 12)


@pytest.mark.parametrize(
    "name",
    ["cryptofeed/binance-us-exchangeInfo.2021-10-12.http.txt", "gocryptotrader/rest-spot-klines-BTCUSDT-1m-60.json"],
)
def test_real_files_without_frames_are_refused_in_one_sentence(shared_data, name):
    with pytest.raises(RecordingError, match="REST"):
        import_file(shared_data / name)


def test_spot_archive_in_milliseconds_and_microseconds(tmp_path):
    rows = f"{SPOT_ROW}\n26130,0.2,50.0,27782,27783,1735689600010866,False,True\n"
    capture = import_file(saved(tmp_path, "ETHBTC-aggTrades-2025-01.csv", rows))
    first, second = trades(capture)
    assert (first.symbol, first.price, first.trade_ms, first.is_buyer_maker) == (
        "ETHBTC",
        Decimal("0.01633102"),
        1498793709153,
        True,
    )
    assert second.trade_ms == 1735689600010
    assert any("microseconds" in remark for remark in capture.tally.remarks)


@pytest.mark.parametrize("header", [True, False])
def test_futures_archive_with_and_without_header(tmp_path, header):
    rows = (f"{FUTURES}\n" if header else "") + "1,64339.2,0.123,7,9,1781416438926,true\n"
    capture = import_file(saved(tmp_path, "BTCUSDT-aggTrades-2026-06-14.csv", rows))
    (trade,) = trades(capture)
    assert (trade.agg_trade_id, trade.last_trade_id, trade.is_buyer_maker) == (1, 9, True)
    assert capture.tally.skipped == ({"the header": 1} if header else {})


@pytest.mark.parametrize("packing", ["gz", "zip"])
def test_packed_files_are_unpacked(tmp_path, packing):
    path = tmp_path / f"BTCUSDT-aggTrades-2020-01-02.csv.{packing}"
    if packing == "gz":
        path.write_bytes(gzip.compress(SPOT_ROW.encode()))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("BTCUSDT-aggTrades-2020-01-02.csv", SPOT_ROW)
    assert len(trades(import_file(path))) == 1


@pytest.mark.parametrize("cut", [10, 40])
def test_a_torn_archive_is_refused_in_one_sentence(tmp_path, cut):
    path = tmp_path / "BTCUSDT.csv.gz"
    path.write_bytes(gzip.compress(SPOT_ROW.encode() * 50)[:cut])
    with pytest.raises(RecordingError, match="torn"):
        list(import_file(path).frames)


def test_a_bad_row_is_named(tmp_path):
    path = saved(tmp_path, "BTCUSDT-aggTrades.csv", f"{SPOT_ROW}\n1,2,3\n")
    with pytest.raises(RecordingError, match=r"csv:2: found '1,2,3', expected agg id"):
        list(import_file(path).frames)


EVENT = '[{"Item":{"Ok":{"time_exchange":"%s","time_received":"%s","instrument":0,"kind":{"Trade":%s}}}}]'


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("BTCUSDT-a.csv", "1,1.0,1.0,1,1,9223372036854776,True,True", "frame 1: its time is after 2262"),
        ("a.txt", f"1618677448.5: {FRAME}\n99999999999.5: {FRAME}", "frame 2: its time is after 2262"),
        ("a.txt", f"9999999999999999999 {FRAME}", "frame 1: its time is after 2262"),
        ("BTCUSDT.csv", f"timestamp,price,quantity,side,tradeId\n{2**60},1.0,1.0,buy,1", "frame 1: its time is after"),
        (
            "a.jsonl",
            '{"raw":"{}","received_at_ns":1,"connection":99999999999}',
            "frame 1: its connection or close code",
        ),
        (
            "a.jsonl",
            '{"raw":"{}","received_at_ns":1,"close_code":99999999999}',
            "frame 1: its connection or close code",
        ),
        ("a.json", '[{"a":1,"p":"abc","q":"1.0","f":1,"l":1,"T":1,"m":true}]', "item 1: price 'abc' or quantity '1.0'"),
        ("a.json", EVENT % ("now", "now", '{"id":1,"price":1,"amount":2,"side":"Buy"}'), "'now' is no instant in UTC"),
        ("a.json", EVENT % (*("2024-01-01T00:00:00Z",) * 2, '{"id":1,"side":"Buy"}'), "KeyError: 'price'"),
    ],
)
def test_what_no_recording_can_hold_is_one_sentence_that_names_the_place(tmp_path, name, text, words):
    with pytest.raises(RecordingError) as caught:
        list(import_file(saved(tmp_path, name, text), symbol="BTCUSDT").frames)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_receive_times_keep_their_digits(tmp_path):
    path = saved(
        tmp_path, "a.txt", f"wss://x/stream?streams=a\n1618677448.110592: {FRAME}\n\n1618677448.5: {FRAME}\nnonsense\n"
    )
    capture = import_file(path)
    first, second = capture.frames
    assert (first.received_at_ns, first.data) == (1618677448110592000, FRAME.encode())
    assert second.monotonic_ns == second.received_at_ns == 1618677448500000000
    assert capture.tally.skipped == {"no receive time in front": 1}
    assert capture.tally.first_place == {"no receive time in front": 5}


@pytest.mark.parametrize("text", ["", "hello\n", "PK", '[{"x":1}]', "a,b,c\n1,2,3\n"])
def test_what_is_of_no_known_kind_is_refused(tmp_path, text):
    with pytest.raises(RecordingError):
        import_file(saved(tmp_path, "x.bin", text))


def test_trades_without_a_symbol_ask_for_it(tmp_path):
    with pytest.raises(UsageError, match="--symbol"):
        import_file(saved(tmp_path, "trades.csv", SPOT_ROW))


def test_several_symbols_for_a_file_of_one_are_refused(tmp_path):
    path = saved(tmp_path, "BTCUSDT-aggTrades.csv", "1,2.00000000,3.00000000,4,5,1577977823305,False,True\n")
    with pytest.raises(UsageError, match="one symbol"):
        import_file(path, symbol="btcusdt,ethusdt")


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        import_file(tmp_path / "none")


class TestSynth:
    @pytest.mark.parametrize("profile", list(synth.PROFILES))
    def test_ids_are_contiguous_and_prices_on_ticks(self, profile):
        made = [parse_agg_trade(frame.data) for frame in synth.make(profile, "BTCUSDT", frames=2000, seed=5)]
        assert all(made)
        pairs = list(itertools.pairwise(made))
        assert all(b.agg_trade_id == a.agg_trade_id + 1 and b.first_trade_id == a.last_trade_id + 1 for a, b in pairs)
        assert all(b.trade_ms >= a.trade_ms for a, b in pairs)
        assert all(trade.price % Decimal("0.01") == 0 and trade.quantity % Decimal("0.00001") == 0 for trade in made)
        assert all(trade.event_ms >= trade.trade_ms and trade.quantity > 0 for trade in made)

    def test_the_same_seed_makes_the_same_market_and_another_another(self):
        one, same, other = (list(synth.make(frames=200, seed=seed)) for seed in (1, 1, 2))
        assert one == same
        assert one != other

    def test_a_market_lasts_as_long_as_asked(self):
        made = list(synth.make(duration_ns=10 * 10**9, rate=50, seed=1))
        assert 8 * 10**9 < made[-1].monotonic_ns - made[0].monotonic_ns <= 10 * 10**9
        assert 300 < len(made) < 700

    def test_both_clocks_tell_the_same_so_that_a_file_has_them_once(self):
        assert all(frame.monotonic_ns == frame.received_at_ns for frame in synth.make(frames=200, seed=1))

    def test_whales_swim_only_where_they_are_asked_for(self):
        def largest(profile):
            return max(
                t.price * t.quantity for f in synth.make(profile, frames=3000, seed=1) if (t := parse_agg_trade(f.data))
            )

        assert largest("quiet") < 100_000 < largest("whales")

    def test_a_crash_falls(self):
        made = [parse_agg_trade(frame.data) for frame in synth.make("crash", frames=3000, seed=1)]
        assert made[-1].price < made[0].price * Decimal("0.95")

    @pytest.mark.parametrize("wrong", [{"profile": "norml", "frames": 1}, {}, {"frames": 0}, {"frames": 1, "rate": 0}])
    def test_what_makes_no_sense_is_refused(self, wrong):
        with pytest.raises(UsageError):
            synth.make(**wrong)
