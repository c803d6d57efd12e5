"""An end that promises FIN keeps its word, whatever the client goes on saying."""

from __future__ import annotations

import socket

import pytest

from tests.live.faults.wire import Client, serving, settle

pytestmark = [pytest.mark.live, pytest.mark.timeout(30)]

ENDS = [
    ("tcp.accept_close",),
    ("tcp.limit_data:bytes=4000",),
    ("tcp.fin_no_close@frame=5",),
    ("tcp.fin_midframe@frame=5",),
    # Here the kernel holds bytes that nobody has read when the end comes.
    ("tcp.server_not_reading@frame=2", "tcp.fin_no_close@frame=5"),
    ("tls.ragged_eof@frame=5",),
    ("http.status:code=451",),
]


def raw(client):
    """The socket below TLS."""
    return client.sock if not client.secure else socket.socket(fileno=client.sock.detach())


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("specs", ENDS, ids=" + ".join)
def test_what_comes_behind_the_fin_is_read_and_thrown_away(specs, secure):
    """
    A socket that is closed with bytes unread answers with RST, and so does one that is closed when bytes come.

    OpenSSL clients say something of their own accord: an alert about a FIN without close_notify.
    """
    with serving(*specs, tls=True) as live:
        if secure and specs == ("tcp.accept_close",):
            client = Client.below_tls(live)
        else:
            client = Client(live, secure=secure, upgrade=False)
            client.ask()
            client.send_json(method="LIST_SUBSCRIPTIONS", id=1)
        assert client.rest()[1] in {"fin", "notify", "ragged"}
        with raw(client) as sock:
            for _ in range(5):
                sock.sendall(bytes(20_000))
                settle(live)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
