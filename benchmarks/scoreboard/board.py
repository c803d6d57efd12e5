"""What is run: the clients, each with its pinned requirements, and the faults, each with its words."""

from __future__ import annotations

from typing import NamedTuple


class Client(NamedTuple):
    """A public client in its documented default usage."""

    name: str
    module: str
    requirements: str
    tap: str | None = "on_trade"
    """Where it takes a trade; None for what the harness finds by itself."""
    public: bool = True
    """Whether it counts: the project's own system stands below the others, for comparison."""


class Trial(NamedTuple):
    """One condition."""

    title: str
    faults: tuple[str, ...]
    why: str


CLIENTS = (
    Client("websockets, plain loop", "websockets_loop", "websockets"),
    Client("websockets, reconnect iterator", "websockets_iterator", "websockets"),
    Client("aiohttp", "aiohttp_client", "aiohttp"),
    Client("websocket-client, reconnect=5", "websocket_client", "websocket-client"),
    Client("picows", "picows_client", "picows"),
    Client("python-binance", "python_binance", "python-binance"),
    Client("binance-connector", "binance_connector", "binance-connector"),
    Client("binance-sdk-spot", "binance_sdk_spot", "binance-sdk-spot"),
    Client("ccxt.pro", "ccxt_pro", "ccxt"),
    Client("cryptofeed", "cryptofeed_handler", "cryptofeed"),
    Client("unicorn", "unicorn", "unicorn-binance-websocket-api"),
    Client("*orderflow, of this project*", "own_orderflow", "websockets", tap=None, public=False),
)

TRIALS = (
    Trial("no fault", (), "the client must be able to receive at all"),
    Trial("reset", ("tcp.reset_peer@frame=200",), "a load balancer restarts"),
    Trial("clean close 1001", ("ws.close:code=1001@frame=200",), "the 24 h end of a connection"),
    Trial("network gone", ("tcp.timeout@frame=200",), "no FIN, no RST; the sockets stay"),
    Trial("silence", ("timing.silence@frame=200",), "open, pings answered, no more data"),
    Trial("ack, then silence", ("exchange.ack_then_silence",), "USD-M, 2026-04-23"),
    Trial("DNS fails 3 times", ("tcp.reset_peer@frame=200", "dns.fail#connection=2-4"), "while reconnecting"),
    Trial("503 three times", ("tcp.reset_peer@frame=200", "http.status:code=503#connection=2-4"), "while reconnecting"),
    Trial("451 from then on", ("tcp.reset_peer@frame=200", "http.status:code=451#connection=2-"), "moved to the cloud"),
    Trial("certificate expires", ("tcp.reset_peer@frame=200", "tls.expired#connection=2-"), "a missed renewal"),
    Trial("broken JSON once", ("payload.truncated@frame=200",), "a proxy cuts a frame"),
    Trial("error object", ("payload.error_object@frame=200",), "an answer in the middle of the data"),
    Trial("price 0", ("payload.price_zero@frame=200",), "a voided aggregate"),
    Trial("five ids missing", ("sequence.gap:count=5@frame=200",), "the exchange itself loses trades"),
)
FRAMES = 800
RATE = 20.0
"""Forty seconds of market; the faults strike ten seconds in, and there are thirty to come back."""
