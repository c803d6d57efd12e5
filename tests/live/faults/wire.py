"""A client that sees everything: raw sockets, TLS if wanted, frames as they are, and how it all ended."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import struct
import time
from typing import NamedTuple
from urllib.request import ProxyHandler, Request, build_opener

from harness.exchange import MAX, ExchangeSettings
from harness.faults.plan import plan_of
from harness.transports.live import LiveExchange
from tests.harness.faults.tapes import tape

STREAM = "btcusdt@aggTrade"
PATH = f"/ws/{STREAM}"
PATIENCE_S = 5.0
"""How long something may take that should come."""
QUIET_S = 0.15
"""How long nothing must come where nothing should."""
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

SHOWN: set[str] = set()
"""Kinds that some test shows on the wire."""


def shows(*kinds):
    """Mark a test as the one that shows these kinds on the wire."""
    SHOWN.update(kinds)
    return lambda test: test


@contextlib.contextmanager
def serving(*specs, timeline=None, tls=False, seed=7, **settings):
    """An exchange that plays 30 trades at full speed, with these faults."""
    settings = {"speed": MAX, "grace_ns": 0, "connect_limit": 0, "close_wait_ns": 20_000_000_000, **settings}
    timeline = timeline or tape(30)
    with LiveExchange(timeline, plan_of(specs, seed), settings=ExchangeSettings(**settings), tls=tls) as live:
        yield live


class Frame(NamedTuple):
    fin: bool
    rsv: int
    opcode: int
    masked: bool
    payload: bytes


class Ended(Exception):  # noqa: N818 - an end is no mistake
    """The connection ended: `fin`, `reset`, `notify`, `ragged`, or `quiet` when it did not."""

    def __init__(self, how):
        self.how = how
        super().__init__(how)


class Client:
    """One connection, blocking."""

    def __init__(self, live, path=PATH, *, secure=False, headers="", upgrade=True, context=None, receive_buffer=None):
        url = live.urls["wss" if secure else "ws"]
        port = int(url.rpartition(":")[2])
        self.data = b""
        self.control = []
        """Control frames met on the way, as `(opcode, payload)`."""
        self.arrivals = []
        """When each message came, monotonic seconds."""
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE_S)
        self.secure = secure
        self.status, self.headers = None, []
        try:
            self.sock.connect(("127.0.0.1", port))
            if secure:
                context = context or ssl.create_default_context(cafile=str(live.cafile))
                raw, self.sock = (
                    self.sock,
                    context.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=False),
                )
                del raw
            if upgrade:
                self.upgrade(path, headers)
        except BaseException:
            self.sock.close()
            raise

    @classmethod
    def below_tls(cls, live):
        """A connection to the TLS port that speaks no TLS of its own."""
        client = cls.__new__(cls)
        client.data, client.secure = b"", False
        client.sock = socket.create_connection(("127.0.0.1", int(live.urls["wss"].rpartition(":")[2])), PATIENCE_S)
        return client

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    # --- HTTP

    def ask(self, path=PATH, headers=""):
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: stream.binance.com:9443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
        )
        return key

    def upgrade(self, path=PATH, headers=""):
        self.key = self.ask(path, headers)
        self.head = self.read_until(b"\r\n\r\n")
        lines = self.head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if ":" in line]

    def header(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def body(self):
        """What comes behind the head, to the end."""
        with contextlib.suppress(Ended):
            while True:
                self.data += self.receive()
        body, self.data = self.data, b""
        return body

    # --- Bytes

    def receive(self, timeout=PATIENCE_S):
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            raise Ended("quiet") from None
        except ssl.SSLEOFError:
            # OpenSSL calls a FIN without close_notify and an RST the same; only behind the latter does a write fail.
            try:
                os.write(self.sock.fileno(), b"x")
            except ConnectionError:
                raise Ended("reset") from None
            raise Ended("ragged") from None
        except ssl.SSLError as error:
            raise Ended(f"tls: {error.reason}") from None
        except ConnectionError:
            raise Ended("reset") from None
        if not data:
            raise Ended("notify" if self.secure else "fin")
        return data

    def read_until(self, marker):
        while marker not in self.data:
            self.data += self.receive()
        head, _, self.data = self.data.partition(marker)
        return head + marker

    def read(self, size, timeout=PATIENCE_S):
        while len(self.data) < size:
            self.data += self.receive(timeout)
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def rest(self, timeout=PATIENCE_S):
        """Everything that still comes, and how it ended."""
        try:
            while True:
                self.data += self.receive(timeout)
        except Ended as end:
            data, self.data = self.data, b""
            return data, end.how

    # --- Frames

    def frame(self, timeout=PATIENCE_S):
        head = self.read(2, timeout)
        length = head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(self.read(2 if length == 126 else 8, timeout), "big")
        mask = self.read(4, timeout) if head[1] & 0x80 else b""
        payload = self.read(length, timeout)
        if mask:
            payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        return Frame(bool(head[0] & 0x80), head[0] >> 4 & 7, head[0] & 15, bool(mask), payload)

    def send(self, opcode, payload=b""):
        mask = b"\x01\x02\x03\x04"
        length = len(payload)
        head = bytes([0x80 | opcode, 0x80 | (min(126, length))])
        head += struct.pack("!H", length) if length >= 126 else b""
        self.sock.sendall(head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)))

    def send_json(self, **message):
        self.send(TEXT, json.dumps(message).encode())

    def message(self, timeout=PATIENCE_S, *, pong=True):
        """The next data message; control frames are noted, pings answered."""
        parts, opcode = [], None
        while True:
            frame = self.frame(timeout)
            if frame.opcode >= 8:
                self.control.append((frame.opcode, frame.payload))
                if frame.opcode == PING and pong:
                    self.send(PONG, frame.payload)
                if frame.opcode == CLOSE:
                    raise Ended("close")
                continue
            opcode = frame.opcode or opcode
            parts.append(frame.payload)
            if frame.fin:
                self.arrivals.append(time.monotonic())
                self.opcode = opcode
                return b"".join(parts)

    def messages(self, count, timeout=PATIENCE_S):
        return [self.message(timeout) for _ in range(count)]

    def all_messages(self, timeout=QUIET_S):
        """Messages until nothing comes any more, and how that was."""
        found = []
        try:
            while True:
                found.append(self.message(timeout if found or timeout > QUIET_S else PATIENCE_S))
        except Ended as end:
            return found, end.how

    def until_pong(self, payload=b"barrier"):
        """Messages that come before the answer to a ping: with everything due, these are all there will be."""
        self.send(PING, payload)
        found = []
        while (PONG, payload) not in self.control:
            frame = self.frame()
            if frame.opcode >= 8:
                self.control.append((frame.opcode, frame.payload))
                if frame.opcode == PING:
                    self.send(PONG, frame.payload)
            else:
                found.append(frame.payload)
        self.control.remove((PONG, payload))
        return found

    @property
    def closed_with(self):
        """Code and reason of the close frame that came."""
        payload = next(payload for opcode, payload in self.control if opcode == CLOSE)
        return (int.from_bytes(payload[:2], "big") if payload else None, payload[2:])


def settle(live):
    """Wait until the exchange has done what it was told; a frame or two later everything at full speed is out."""
    live.call(lambda: None)


def get(live, path):
    """A REST request; status, headers and body, whatever they are."""
    opener = build_opener(ProxyHandler({}))
    request = Request(live.urls["http"] + path, headers={"Host": "api.binance.com"})
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers, answer.read()
    except OSError as error:
        if hasattr(error, "code"):
            with contextlib.closing(error):
                return error.code, error.headers, error.read()
        raise


def entries(live, name):
    return [entry for entry in list(live.ledger) if type(entry).__name__ == name]


def works(live, *, secure=False, path=PATH):
    """The exchange is unharmed: a new connection gets its handshake and an answer."""
    with Client(live, path, secure=secure) as client:
        assert client.status == 101
        client.until_pong(b"works")
    return True
