"""HTTP faults on the wire: the bytes that answer the upgrade."""

from __future__ import annotations

import json
import time

import pytest

from tests.harness.faults.tapes import trade
from tests.live.faults.wire import PATH, PING, QUIET_S, Client, entries, serving, shows, works

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

STATUSES = {
    "http.status": (503, "html", None),
    "http.status:code=451,body=json": (451, "json", None),
    "http.status:code=429,retry_after=1500ms,body=empty": (429, "empty", "2"),
    "http.status_400": (400, "html", None),
    "http.status_401": (401, "json", None),
    "http.status_403": (403, "html", None),
    "http.status_404": (404, "html", None),
    "http.status_405": (405, "html", None),
    "http.status_410": (410, "html", None),
    "http.status_418": (418, "json", "120"),
    "http.status_426": (426, "empty", None),
    "http.status_429": (429, "json", "30"),
    "http.status_451": (451, "json", None),
    "http.status_500": (500, "html", None),
    "http.status_502": (502, "html", None),
    "http.status_503": (503, "html", None),
    "http.status_504": (504, "html", None),
    "http.ok_html": (200, "html", None),
}
CODES = {418: -1003, 429: -1003, 451: 0}


@shows(*(name.partition(":")[0] for name in STATUSES))
@pytest.mark.parametrize("spec", STATUSES)
def test_the_upgrade_is_answered_with_a_status_and_a_body(spec):
    status, kind, retry_after = STATUSES[spec]
    with serving(f"{spec}#connection=1") as live:
        with Client(live) as client:
            assert client.status == status
            assert client.header("Retry-After") == ([retry_after] if retry_after else [])
            body = client.body()
            if kind == "json":
                assert json.loads(body)["code"] == CODES.get(status, -1000)
            elif kind == "html":
                assert body.startswith(b"<!DOCTYPE html>")
                assert str(status).encode() in body
            else:
                assert body == b""
        assert [(e.stage, e.how) for e in entries(live, "Refused")] == [("upgrade", str(status))]
        assert works(live)


def test_a_refusal_comes_over_tls_too():
    with serving("http.status_451", tls=True) as live, Client(live, secure=True) as client:
        assert client.status == 451


REDIRECTS = {
    "http.redirect": (301, "/moved"),
    "http.redirect:code=308,location=wss://elsewhere.invalid/": (308, "wss://elsewhere.invalid/"),
    "http.redirect_loop": (302, "/ws/btcusdt@aggTrade"),
    "http.redirect_to_login": (302, "http://login.invalid/"),
}


@shows(*(name.partition(":")[0] for name in REDIRECTS))
@pytest.mark.parametrize("spec", REDIRECTS)
def test_the_upgrade_is_redirected(spec):
    status, location = REDIRECTS[spec]
    with serving(spec) as live, Client(live) as client:
        assert (client.status, client.header("Location")) == (status, [location])


@shows("http.fail_then_ok")
def test_the_first_attempts_fail_and_then_all_is_well():
    with serving("http.fail_then_ok:failures=2,code=502") as live:
        seen = []
        for _ in range(4):
            with Client(live) as client:
                seen.append(client.status)
    assert seen == [502, 502, 101, 101]


# --- Answers that are not quite 101 ---------------------------------------------------------------------


def accept_of(key):
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def test_a_sound_101_has_what_the_rfc_asks_for():
    with serving() as live, Client(live) as client:
        assert client.header("Upgrade") == ["websocket"]
        assert client.header("Connection") == ["Upgrade"]
        assert client.header("Sec-WebSocket-Accept") == [accept_of(client.key)]


NOT_QUITE = {
    "http.bad_accept": lambda c: c.header("Sec-WebSocket-Accept") not in ([], [accept_of(c.key)]),
    "http.missing_accept": lambda c: c.header("Sec-WebSocket-Accept") == [],
    "http.missing_upgrade": lambda c: c.header("Upgrade") == [] and c.header("Connection") == ["Upgrade"],
    "http.missing_connection": lambda c: c.header("Connection") == [] and c.header("Upgrade") == ["websocket"],
    "http.wrong_subprotocol": lambda c: c.header("Sec-WebSocket-Protocol") == ["mqtt"],
    "http.unoffered_extension": lambda c: c.header("Sec-WebSocket-Extensions") == ["x-webkit-deflate-frame"],
    "http.bad_deflate_params": lambda c: "server_max_window_bits=99" in c.header("Sec-WebSocket-Extensions")[0],
    "http.huge_headers:size=70000": lambda c: len(c.header("Set-Cookie")[0]) > 70_000,
    "http.duplicate_headers": lambda c: len(c.header("Upgrade")) == len(c.header("Sec-WebSocket-Accept")) == 2,
    "http.http10": lambda c: c.head.startswith(b"HTTP/1.0 101 "),
}


@shows(*(name.partition(":")[0] for name in NOT_QUITE))
@pytest.mark.parametrize("spec", NOT_QUITE)
def test_the_101_is_not_quite_right(spec):
    with serving(f"{spec}#connection=1") as live:
        with Client(live) as client:
            assert client.status == 101
            assert NOT_QUITE[spec](client), client.head[:400]
        assert works(live)


@shows("http.bad_status_line")
def test_the_answer_is_no_http():
    with serving("http.bad_status_line") as live, Client(live, upgrade=False) as client:
        client.ask()
        assert client.rest() == (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "fin")


# --- Answers that do not come, or do not last ---------------------------------------------------------------


@shows("http.stall")
@pytest.mark.parametrize("secure", [False, True])
def test_the_upgrade_is_never_answered(secure):
    with serving("http.stall#connection=1", tls=secure) as live:
        with Client(live, upgrade=False, secure=secure) as client:
            client.ask()
            assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert works(live, secure=secure)


LONG = PATH + "".join(f"/coin{number}usdt@aggTrade" for number in range(400))


@shows("http.url_too_long")
@pytest.mark.parametrize(("spec", "status"), [("http.url_too_long", 414), ("http.url_too_long:code=400", 400)])
def test_a_url_that_is_too_long_is_refused_and_a_shorter_one_is_served(spec, status):
    assert len(LONG) > 8_000
    with serving(spec) as live:
        with Client(live, LONG) as client:
            assert client.status == status
            assert client.rest()[1] == "fin"
        assert works(live)


def test_a_url_that_is_too_long_may_never_be_answered():
    with serving("http.url_too_long:hang=true") as live:
        with Client(live, upgrade=False) as client:
            client.ask(LONG)
            assert client.rest(timeout=QUIET_S) == (b"", "quiet")
        assert works(live)


def test_without_the_fault_a_url_of_that_length_is_served():
    with serving() as live:
        assert works(live, path=LONG)


@shows("http.slow")
def test_the_101_comes_late():
    with serving("http.slow:delay=200ms") as live:
        began = time.monotonic()
        with Client(live) as client:
            assert client.status == 101
            assert time.monotonic() - began >= 0.2
            assert client.messages(30) == [trade(i) for i in range(30)]


@shows("http.headers_dribble")
def test_the_101_comes_byte_by_byte():
    with serving("http.headers_dribble:delay=2ms") as live, Client(live, upgrade=False) as client:
        began = time.monotonic()
        client.ask()
        head = client.read_until(b"\r\n\r\n")
        assert time.monotonic() - began >= 0.002 * (len(head) - 5)
        assert client.messages(30) == [trade(i) for i in range(30)]


@shows("http.partial_headers")
def test_part_of_the_101_comes_and_then_silence():
    with serving("http.partial_headers:size=20") as live, Client(live, upgrade=False) as client:
        client.ask()
        data, how = client.rest(timeout=QUIET_S)
    assert (data, how) == (b"HTTP/1.1 101 Switchi", "quiet")


@shows("http.close_after_101", "http.reset_after_101")
@pytest.mark.parametrize(("spec", "how"), [("http.close_after_101", "fin"), ("http.reset_after_101", "reset")])
def test_the_connection_ends_behind_the_101(spec, how):
    with serving(f"{spec}#connection=1") as live:
        with Client(live) as client:
            assert client.status == 101
            client.data, data = b"", client.data
            assert data == b""
            assert client.rest() == (b"", how)
        assert works(live)


@shows("http.frames_with_101")
def test_frames_ride_in_the_segment_of_the_101():
    with serving("http.frames_with_101", grace_ns=200_000_000) as live, Client(live, upgrade=False) as client:
        client.ask()
        data = client.receive()
        head, _, behind = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert behind == b"\x89\x07early-1\x89\x07early-2"
        assert client.messages(30) == [trade(i) for i in range(30)]


@shows("http.wrong_path_accepted")
def test_any_path_is_accepted_pings_flow_and_data_does_not():
    with serving("http.wrong_path_accepted", ping_interval_ns=20_000_000, speed=1.0) as live:
        for path in ("/nonsense/of/any/kind", "/ws/btcusdt@aggTrade"):
            with Client(live, path) as client:
                assert client.status == 101
                assert {client.frame().opcode for _ in range(3)} == {PING}
                assert client.until_pong() == []
    with serving() as live, Client(live, "/nonsense/of/any/kind") as client:
        assert client.status == 404
