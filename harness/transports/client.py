"""A socket of one client, and what is on its way to it."""

from __future__ import annotations

import socket
import struct
import sys
from collections import deque
from typing import TYPE_CHECKING, Literal

from harness.exchange.commands import Fin, Reset

if TYPE_CHECKING:
    from harness.exchange.commands import Outgoing
    from harness.transports.pipe import Pipe

GATHER = 16
"""Pieces per system call."""
RESET_PATIENCE_NS = 250_000_000
"""An RST waits so long for the bytes before it to leave."""
_SIOCOUTQNSD = 0x894B  # bytes not yet sent (linux/sockios.h)


class Client:
    """
    One accepted socket.

    Args:
        sock: non-blocking.
        pipe: what is at its other side.
    """

    __slots__ = (
        "delayed_until_ns", "doom_ns", "eof", "fin_sent", "hung", "interest", "out", "out_bytes", "pipe", "reset_by_ns",
        "sock", "timer_ns",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, pipe: Pipe) -> None:
        self.sock = sock
        self.pipe = pipe
        self.out: deque[Outgoing] = deque()
        self.out_bytes = 0
        self.interest = 0
        """What the selector watches for."""
        self.eof = False
        """The client's FIN came."""
        self.fin_sent = False
        self.hung = False
        """Accepted, and never answered."""
        self.timer_ns = 0
        self.reset_by_ns = 0
        self.doom_ns = 0
        self.delayed_until_ns = 0

    def queue(self, items: list[Outgoing]) -> None:
        """Take what is to be sent."""
        for item in items:
            self.out.append(item)
            if not isinstance(item, (Fin, Reset)):
                self.out_bytes += len(item)

    def flush(self, now_ns: int) -> Literal["open", "reset", "lost"]:
        """
        Send what the socket takes.

        Returns:
            `open` when the connection goes on, `reset` when RST is to be sent now, `lost` when the client is gone.
        """
        out = self.out
        while out:
            head = out[0]
            if isinstance(head, Reset):
                return "open" if self._must_wait(now_ns) else "reset"
            try:
                if isinstance(head, Fin):
                    out.popleft()
                    if not self.fin_sent:
                        self.fin_sent = True
                        self.sock.shutdown(socket.SHUT_WR)
                elif not self._send():
                    return "open"
            except BlockingIOError:
                return "open"
            except OSError:
                return "lost"
        return "open"

    def _send(self) -> bool:
        pieces: list[bytes | memoryview] = []
        size = 0
        for item in self.out:
            if isinstance(item, (Fin, Reset)) or len(pieces) >= GATHER:
                break
            pieces.append(item)
            size += len(item)
        if len(pieces) == 1 or not hasattr(self.sock, "sendmsg"):
            size = len(pieces[0])
            count = self.sock.send(pieces[0])
        else:
            count = self.sock.sendmsg(pieces)
        self.out_bytes -= count
        left = count
        for piece in pieces:
            if len(piece) > left:
                if left:
                    self.out[0] = memoryview(piece)[left:]
                break
            left -= len(piece)
            self.out.popleft()
        return count == size

    def _must_wait(self, now_ns: int) -> bool:
        # What was sent before the RST shall arrive: it is in our own buffer until the kernel has passed it on.
        if not self.reset_by_ns:
            self.reset_by_ns = now_ns + RESET_PATIENCE_NS
        return now_ns < self.reset_by_ns and _unsent(self.sock)


def _unsent(sock: socket.socket) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        return bool(struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQNSD, struct.pack("i", 0)))[0])
    except OSError:
        return False


def reset_socket(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


def has_left(sock: socket.socket) -> bool:
    """Whether the client has closed, as the kernel knows it; False where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        # The first byte of tcp_info is the state; 1 is ESTABLISHED (linux/tcp.h).
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1
    except OSError:
        return True
