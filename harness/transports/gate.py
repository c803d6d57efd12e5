"""Where the real hosts' names lead: to the exchange, or, when a fault says so, to nowhere.

Called from the subject's own threads, where it may sleep; everything else of the exchange lives on its own thread.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from harness import clock
from harness.ledger import Attempted, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.exchange.core import Exchange

NS = 1_000_000_000

_STREAM_HOSTS = ("stream", "fstream", "dstream", "data-stream", "demo-stream", "ws-api", "ws-fapi", "ws-dapi")
_PLAIN_PORTS = (80, 8080)


class Gate:
    """
    Resolves names on behalf of the subject.

    Args:
        exchange: whose plan says what happens to a dial.
        lock: guards the exchange's connection numbers.
        address: names the address and port of `ws`, `wss` or `https`; None where nothing listens.
    """

    def __init__(self, exchange: Exchange, lock: threading.Lock, address: Callable[[str], int | None]) -> None:
        self._exchange = exchange
        self._lock = lock
        self._address = address
        self._holders: list[socket.socket] = []
        self._holding = threading.Lock()
        self._refusing_port = 0
        self._blackhole_port = 0

    def close(self) -> None:
        """Give back the ports that lead nowhere."""
        for sock in self._holders:
            sock.close()
        self._holders.clear()

    def __call__(self, host: str, port: int) -> tuple[str, int]:
        """Resolve a name; see `LiveExchange.gate`."""
        secure = self._address("wss") if port not in _PLAIN_PORTS else None
        if not host.lower().startswith(_STREAM_HOSTS):
            self._note(host, port, "ok")
            rest = self._address("https") if secure is not None else self._address("ws")
            assert rest is not None
            return "127.0.0.1", rest
        with self._lock:
            number = self._exchange.peek_number()
            dial = self._exchange.manners(number).dial
            outcome: str = dial.resolve
            if outcome == "ok" and dial.accept in {"refuse", "blackhole"}:
                outcome = dial.accept
            if outcome != "ok":
                # A dial that comes to nothing counts, or a fault of the first three would never end.
                number = self._exchange.take_number()
        if dial.resolve_delay_ns:
            time.sleep(dial.resolve_delay_ns / NS)
        self._note(host, port, outcome)
        if outcome == "ok":
            streams = secure if secure is not None else self._address("ws")
            assert streams is not None
            return "127.0.0.1", streams
        stage = "resolve" if outcome in {"fail", "wrong"} else "connect"
        self._exchange.write(Refused(at_ns=clock.monotonic_ns(), connection=number, stage=stage, how=outcome))
        if outcome == "fail":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if outcome == "blackhole":
            return "127.0.0.1", self._blackhole()
        return "127.0.0.1", self._refusing()

    def _note(self, host: str, port: int, outcome: str) -> None:
        self._exchange.write(Attempted(at_ns=clock.monotonic_ns(), host=host, port=port, outcome=outcome))

    def _refusing(self) -> int:
        # Bound, so that nobody else gets it, and not listening, so that it refuses.
        with self._holding:
            if not self._refusing_port:
                self._refusing_port = self._hold().getsockname()[1]
        return self._refusing_port

    def _blackhole(self) -> int:
        # A listener whose queue is full drops further SYNs.
        with self._holding:
            if not self._blackhole_port:
                listener = self._hold()
                listener.listen(0)
                self._blackhole_port = listener.getsockname()[1]
                for _ in range(4):
                    filler = socket.socket()
                    filler.setblocking(False)
                    filler.connect_ex(("127.0.0.1", self._blackhole_port))
                    self._holders.append(filler)
                time.sleep(0.01)
        return self._blackhole_port

    def _hold(self) -> socket.socket:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self._holders.append(sock)
        return sock
