"""A conversation with the exchange, without sockets and without waiting: two sans-I/O peers and a clock that we move.

The client's side is the websockets library's own protocol object, so that what the exchange writes is judged by
somebody else.
"""

from __future__ import annotations

import json

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from harness.exchange import Exchange, ExchangeSettings
from harness.exchange.commands import Below, Fin, Relink, Reset
from harness.ledger import Ledger
from harness.timeline import Timeline

S = 1_000_000_000
MS = 1_000_000
START_MS = 1_700_000_000_000


class Payloads:
    """A store in memory."""

    def __init__(self, payloads):
        self.payloads = payloads

    def fetch(self, first, last):
        return self.payloads[first:last]


def agg_trade(symbol, number, *, at_ms=START_MS, price="35000.10000000"):
    return json.dumps(
        {
            "e": "aggTrade", "E": at_ms + 1, "s": symbol.upper(), "a": number, "p": price, "q": "0.00100000",
            "f": number * 2, "l": number * 2 + 1, "T": at_ms, "m": bool(number % 2), "M": True,
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


def make_tape(frames=10, *, step_ns=100 * MS, streams=("btcusdt@aggTrade",), due_ns=None, marks=()):
    """Frames at even distances, streams in turn, ids from 1000 for each stream."""
    due = np.arange(frames, dtype=np.int64) * step_ns if due_ns is None else np.asarray(due_ns, np.int64)
    frames = len(due)
    codes = np.arange(frames, dtype=np.int32) % len(streams)
    ids = 1000 + np.arange(frames, dtype=np.int64) // len(streams)
    payloads = [
        agg_trade(streams[code].partition("@")[0], int(number), at_ms=START_MS + int(at) // MS)
        for code, number, at in zip(codes, ids, due, strict=True)
    ]
    return Timeline(
        due_ns=due, stream_codes=codes, trade_ids=ids, event_ms=START_MS + 1 + due // MS, streams=tuple(streams),
        store=Payloads(payloads), start_ms=START_MS + 1, marks=marks,
    )  # fmt: skip


def make_exchange(tape=None, plan=None, **settings):
    settings = {"grace_ns": 0, **settings}
    ledger = Ledger()
    exchange = Exchange(
        make_tape() if tape is None else tape,
        plan,
        settings=ExchangeSettings(**settings),
        write=ledger.write,
        wall_offset_ns=START_MS * MS,
    )
    exchange.ledger = ledger
    return exchange


class Talk:
    """One connection, and its client."""

    def __init__(self, exchange, *, at=0.0, secure=False):
        self.exchange = exchange
        self.now = int(at * S)
        self.line = exchange.connection(secure=secure, now_ns=self.now)
        self.client = None
        self.raw = b""
        self.commands = []
        self.heard = []

    # What the client does.

    def sends(self, data, *, at=None):
        """Raw bytes."""
        self._at(at)
        self.line.receive_data(data, self.now)
        self._drain()
        return self

    def opens(self, target, *, host="stream.binance.com", at=None, extensions=None, headers=()):
        self._at(at)
        self.client = ClientProtocol(parse_uri(f"ws://{host}{target}"), extensions=extensions, max_size=None)
        request = self.client.connect()
        for name, value in headers:
            request.headers[name] = value
        self.client.send_request(request)
        self.sends(b"".join(self.client.data_to_send()))
        return self

    def says(self, message, *, at=None):
        """One text message."""
        self._at(at)
        text = message if isinstance(message, str) else json.dumps(message)
        self.client.send_text(text.encode())
        return self._pass_on()

    def pings(self, payload=b"", *, at=None):
        self._at(at)
        self.client.send_ping(payload)
        return self._pass_on()

    def pongs(self, payload=b"", *, at=None):
        self._at(at)
        self.client.send_pong(payload)
        return self._pass_on()

    def closes(self, code=1000, *, at=None):
        self._at(at)
        self.client.send_close(code)
        return self._pass_on()

    def leaves(self, *, at=None):
        """FIN, without a word."""
        self._at(at)
        self.line.receive_eof(self.now)
        self._drain()
        return self

    def waits(self, until):
        """Let the time pass, stopping wherever the exchange wants to be called."""
        until = int(until * S)
        while True:
            due = self.line.next_due_ns()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.line.advance_to(self.now)
            self._drain()
        self.now = until
        self.line.advance_to(self.now)
        self._drain()
        return self

    # What it hears.

    @property
    def state(self):
        return self.client.state.name

    def takes(self):
        """What was heard since it was last asked."""
        heard, self.heard = self.heard, []
        return heard

    def texts(self):
        return [data for kind, data in self.takes() if kind == "text"]

    def answers(self):
        return [json.loads(text) for text in self.texts()]

    def http(self):
        """The answer to a plain request: status and body."""
        head, _, body = self.raw.partition(b"\r\n\r\n")
        self.raw = b""
        self.last_head = head.decode()
        return int(head.split()[1]), body

    def ends(self):
        """How the exchange ended it: FIN, RST or not at all."""
        return self.commands[0] if self.commands else None

    def _at(self, at):
        if at is not None:
            self.waits(at)

    def _pass_on(self):
        for data in self.client.data_to_send():
            if data:
                self.line.receive_data(data, self.now)
        self._drain()
        return self

    def _drain(self):
        for item in self.line.data_to_send():
            if isinstance(item, (Fin, Reset)):
                self.commands.append("FIN" if isinstance(item, Fin) else "RST")
                continue
            if isinstance(item, Relink):
                continue
            data = item.data if isinstance(item, Below) else bytes(item)
            self.raw += data
            if self.client is not None:
                self.client.receive_data(data)
                self._listen()

    def _listen(self):
        for event in self.client.events_received():
            if isinstance(event, Frame):
                kind = event.opcode.name.lower()
                if event.opcode is Opcode.CLOSE:
                    code = int.from_bytes(event.data[:2], "big") if event.data else None
                    self.heard.append(("close", (code, bytes(event.data[2:]).decode())))
                else:
                    self.heard.append((kind, bytes(event.data)))
        # A client answers pings and closes by itself; here it is told when.
        self.pending = self.client.data_to_send()
