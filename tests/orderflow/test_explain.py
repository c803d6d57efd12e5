from __future__ import annotations

import logging
import socket
import ssl

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close

from orderflow.explain import explain, is_loopback, retry_after_s
from tests.orderflow.scripted_exchange import response


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name cannot be resolved: Name or service not known"),
        (ConnectionRefusedError(111, "x"), "the connection was refused"),
        (TimeoutError(), "no answer in time: timed out"),
        (ConnectionClosedOK(Close(1001, "going away"), None), "the exchange closed it with code 1001 (going away)"),
        (
            ConnectionClosedError(None, Close(1011, "keepalive ping timeout")),
            "we closed it with code 1011 (keepalive ping timeout)",
        ),
        (ConnectionClosedError(None, None), "it was cut without a close frame"),
        (ssl.SSLError(1, "[SSL] bad record"), "TLS failed"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
def test_what_the_network_does_is_said_in_words(error, words):
    told = explain(error)
    assert words in told.text
    assert not told.ours


def test_a_bug_is_told_from_the_network():
    told = explain(KeyError("x"))
    assert told.ours
    assert told.level == logging.ERROR


@pytest.mark.parametrize(("status", "wait_s"), [(418, 120.0), (429, 30.0), (503, None)])
def test_a_ban_without_a_time_is_waited_out_anyway(status, wait_s):
    assert explain(InvalidStatus(response(status, ""))).retry_after_s == wait_s


@pytest.mark.parametrize(
    ("header", "seconds"), [("5", 5.0), (None, None), ("soon", None), ("-1", None), ("1e99", None)]
)
def test_retry_after(header, seconds):
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize(
    ("host", "yes"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("stream.binance.com", False), (None, False)],
)
def test_loopback(host, yes):
    assert is_loopback(host) is yes
