"""Every manner of an exchange that misbehaves, heard from the client's side."""

from __future__ import annotations

import base64

import msgspec
import pytest

from harness.actions import Control, Link, Manners, Reply, Upgrade
from tests.harness.exchange.talk import MS, S, Talk, make_exchange, make_tape

BTC = "btcusdt@aggTrade"
SUBSCRIBE = {"method": "SUBSCRIBE", "params": [BTC], "id": 1}


def misbehaving(**groups):
    exchange = make_exchange(make_tape(20))
    exchange.manners = lambda _: Manners(**groups)
    return Talk(exchange)


def upgrading(**fields):
    talk = misbehaving(upgrade=Upgrade(**fields))
    key = base64.b64encode(b"0123456789abcdef").decode()
    request = (
        f"GET /ws/{BTC} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return talk.sends(request.encode())


def entries(talk, name):
    return [entry for entry in talk.exchange.ledger if type(entry).__name__ == name]


def test_a_reply_in_place_of_101_ends_the_connection():
    reply = Reply(status=451, reason="Restricted", headers=(("Retry-After", "9"),), body=b'{"code":0}')
    talk = upgrading(reply=reply)
    status, body = talk.http()
    assert (status, body) == (451, b'{"code":0}')
    assert "Retry-After: 9" in talk.last_head
    assert talk.ends() == "FIN"
    assert entries(talk, "Refused")[0].how == "451"


def test_an_upgrade_that_stalls_is_never_answered():
    talk = upgrading(stall=True).waits(3600)
    assert talk.raw == b""
    assert talk.ends() is None


def test_an_upgrade_can_be_late():
    talk = upgrading(delay_ns=3 * S).waits(2.9)
    assert talk.raw == b""
    assert talk.waits(3).raw.startswith(b"HTTP/1.1 101")


def test_raw_bytes_stand_for_the_answer():
    assert upgrading(raw=b"SSH-2.0-OpenSSH\r\n").raw == b"SSH-2.0-OpenSSH\r\n"


@pytest.mark.parametrize("accept", ["bad", "missing"])
def test_the_accept_header_can_be_wrong(accept):
    good = upgrading().raw
    assert b"Sec-WebSocket-Accept" in good
    raw = upgrading(accept=accept).raw
    assert raw.startswith(b"HTTP/1.1 101")
    assert raw.partition(b"\r\n\r\n")[0] != good.partition(b"\r\n\r\n")[0]
    assert (b"Sec-WebSocket-Accept" in raw) is (accept == "bad")


def test_headers_can_be_left_out_and_added():
    raw = upgrading(drop_headers=("upgrade",), extra_headers=(("X-Cache", "HIT"),), version="1.0").raw
    assert raw.startswith(b"HTTP/1.0 101")
    assert b"Upgrade: websocket" not in raw
    assert b"X-Cache: HIT" in raw


def test_the_head_can_dribble_byte_by_byte():
    talk = upgrading(dribble_ns=S).waits(0)
    assert len(talk.raw) == 1
    assert len(talk.waits(10).raw) == 11


def test_the_head_can_be_cut():
    assert len(upgrading(cut_after=17).waits(100).raw) == 17


@pytest.mark.parametrize(("after", "end"), [("close", "FIN"), ("reset", "RST")])
def test_the_connection_can_end_right_behind_the_101(after, end):
    talk = upgrading(after=after)
    assert talk.raw.startswith(b"HTTP/1.1 101")
    assert talk.ends() == end


def test_bytes_can_come_before_and_behind_the_101():
    raw = upgrading(early=b"early", trailing=b"trailing").raw
    assert raw.startswith(b"earlyHTTP/1.1 101")
    assert raw.endswith(b"\r\n\r\ntrailing")


def test_any_path_can_be_accepted_and_stay_silent():
    talk = misbehaving(upgrade=Upgrade(any_path=True)).opens("/nonsense").says(SUBSCRIBE).waits(10)
    assert talk.texts() == [b'{"result":null,"id":1}']


def control(**fields):
    return misbehaving(control=Control(**fields))


def test_the_flagship_acknowledges_and_never_sends_a_frame():
    talk = control(deliver=False).opens("/ws").says(SUBSCRIBE).pings(b"?").waits(15)
    assert talk.takes() == [("text", b'{"result":null,"id":1}'), ("pong", b"?")]
    assert sum(entry.last - entry.first for entry in entries(talk, "Withheld")) == 20


@pytest.mark.parametrize("name", [BTC, "*@aggTrade"])
def test_single_streams_can_be_mute(name):
    exchange = make_exchange(make_tape(10, streams=(BTC, "btcusdt@trade")))
    exchange.manners = lambda _: Manners(control=Control(mute_streams=(name,)))
    assert len(Talk(exchange).opens(f"/ws/{BTC}/btcusdt@trade").waits(2).texts()) == 5


def test_an_ack_can_be_missing_late_wrong_or_an_error():
    assert control(ack="missing").opens("/ws").says(SUBSCRIBE).texts() == []
    assert control(ack="wrong_id").opens("/ws").says(SUBSCRIBE).answers()[0] == {"result": None, "id": 2}
    talk = control(ack_delay_ns=2 * S).opens("/ws").says(SUBSCRIBE).waits(1.9)
    assert all(b"result" not in text for text in talk.texts())
    assert b'{"result":null,"id":1}' in talk.waits(2.1).texts()
    talk = control(ack="error", error_code=4, error_msg="no", error_shape="flat").opens("/ws").says(SUBSCRIBE).waits(5)
    assert talk.answers() == [{"code": 4, "msg": "no", "id": 1}], "and nothing is subscribed"


def test_streams_of_the_url_can_be_forgotten():
    talk = control(forget_subscriptions=True).opens(f"/ws/{BTC}").waits(5)
    assert talk.texts() == []
    assert talk.says(SUBSCRIBE).waits(6).texts()[0] == b'{"result":null,"id":1}'


def test_the_clients_pings_can_go_unanswered_or_get_a_wrong_or_late_answer():
    assert control(pong="withhold").opens("/ws").pings(b"x").takes() == []
    ((kind, payload),) = control(pong="wrong").opens("/ws").pings(b"x").takes()
    assert (kind, payload != b"x") == ("pong", True)
    talk = control(pong_delay_ns=5 * S).opens("/ws").pings(b"x").waits(4.9)
    assert talk.takes() == []
    assert talk.waits(5).takes() == [("pong", b"x")]


def test_a_wrong_pong_can_close():
    talk = control(pong_must_match=True, ping_interval_ns=S).opens("/ws").waits(1)
    talk.pongs(b"wrong")
    assert talk.takes()[-1] == ("close", (1008, "Invalid pong payload"))


def test_the_exchange_can_stop_pinging():
    assert control(ping=False).opens("/ws").waits(600).takes() == []


def test_a_close_can_go_unanswered_or_be_answered_with_data():
    talk = control(close_reply="withhold").opens(f"/ws/{BTC}").closes()
    assert [kind for kind, _ in talk.takes()] == []
    assert talk.waits(60).ends() is None
    talk = control(close_reply="data").opens(f"/ws/{BTC}")
    before = len(talk.raw)
    talk.closes().waits(5)
    assert len(talk.raw) > before + 19 * 100


def test_the_message_limit_and_the_stream_limit_can_be_other_ones():
    talk = control(message_limit=1).opens("/ws").says(SUBSCRIBE).says(SUBSCRIBE)
    assert ("close", (1008, "Too many requests")) in talk.takes()
    talk = control(stream_limit=1).opens("/ws").says({**SUBSCRIBE, "params": ["a@b", "c@d"]})
    assert talk.answers()[0]["error"]["code"] == 4


def test_a_malformed_name_can_be_acknowledged():
    talk = control(any_stream=True).opens("/ws").says({**SUBSCRIBE, "params": ["###"]})
    assert talk.answers() == [{"result": None, "id": 1}]


def test_a_shorter_life_and_a_notice():
    talk = control(life_ns=3 * S, shutdown_notice_ns=S).opens("/ws").waits(3)
    assert [kind for kind, _ in talk.takes()] == ["text", "close"]


def test_a_client_that_leaves_too_much_unread_is_closed():
    exchange = make_exchange(make_tape(10_000, step_ns=MS))
    exchange.manners = lambda _: Manners(control=Control(backlog_bytes_max=100_000))
    talk = Talk(exchange).opens(f"/ws/{BTC}").waits(0.1)
    talk.line.writable = False
    assert talk.waits(5).takes()[-1] == ("close", (1008, ""))


def test_what_is_unchanged_is_the_identity():
    assert msgspec.structs.asdict(Manners().link) == msgspec.structs.asdict(Link())
