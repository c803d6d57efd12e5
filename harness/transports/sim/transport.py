"""The client's end of a connection in memory: an asyncio transport.

It keeps asyncio's manners to the letter where clients lean on them: one read a turn, flow control both
ways, `eof_received`, `abort`, and the private `_force_close` that `SSLProtocol` calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import itertools
from asyncio import transports
from collections import deque
from typing import TYPE_CHECKING, Any

from harness.exchange.commands import Fin, Reset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.transports.sim.loop import SimLoop
    from harness.transports.sim.wire import Cable

READ_BYTES = 256 * 1024
"""One read of a socket, at most."""

_ports = itertools.count(40_000)
# Private parts of asyncio are the seam, so types end here.
_FlowControlMixin: Any = transports._FlowControlMixin


class _Socket:
    """What clients ask a transport's socket for."""

    family, type, proto = 2, 1, 6

    def __init__(self, own: Any, peer: Any) -> None:
        self._own, self._peer = own, peer

    def getsockname(self) -> Any:
        return self._own

    def getpeername(self) -> Any:
        return self._peer

    def setsockopt(self, *_: object) -> None:
        pass

    def getsockopt(self, *_: object) -> int:
        return 0

    def fileno(self) -> int:
        return -1


class Transport(_FlowControlMixin):  # type: ignore[misc]
    """The client's end."""

    _start_tls_compatible = True

    def __init__(self, loop: SimLoop, cable: Cable, protocol: Any, waiter: Any = None) -> None:
        own, peer = ("127.0.0.1", next(_ports)), ("127.0.0.1", 0)
        super().__init__({"peername": peer, "sockname": own, "socket": _Socket(own, peer)}, loop)
        self._cable = cable
        self._context = contextvars.copy_context()
        self._buffer: deque[bytes] = deque()
        self._buffered = 0
        self._received: deque[Any] = deque()
        self._pumping = False
        self._paused = False
        self._closing = False
        self._lost = False
        self._eof_wanted = False
        self.set_protocol(protocol)
        self._later(self._protocol.connection_made, self)
        self._later(self._begin)
        if waiter is not None:
            self._later(_wake, waiter)

    def _later(self, callback: Any, *args: Any) -> None:
        self._loop.call_soon(callback, *args, context=self._context)

    def _begin(self) -> None:
        if not self._lost:
            self._cable.attach(self)

    # --- Protocol ------------------------------------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self._protocol: Any = protocol
        self._takes_buffers = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    # --- Reading -------------------------------------------------------------------------------------

    def receive(self, item: Any) -> None:
        """Take what arrived: bytes, Fin or Reset."""
        if self._lost:
            return
        self._received.append(item)
        self._pump_later()

    def _pump_later(self) -> None:
        if not self._pumping and not self._paused and self._received:
            self._pumping = True
            self._loop.deliver(self._pump, self._context)

    def _pump(self) -> None:
        self._pumping = False
        if self._lost or self._paused or not self._received:
            return
        item = self._received.popleft()
        if isinstance(item, Reset):
            self._force_close(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
            return
        if self._closing:
            return
        try:
            if isinstance(item, Fin):
                if not self._protocol.eof_received():
                    self.close()
            else:
                self._hand_over(item)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.data_received() call failed.")
        self._pump_later()

    def _hand_over(self, data: bytes) -> None:
        # One read a turn, as large as a socket would give.
        while len(data) < READ_BYTES and self._received and isinstance(self._received[0], bytes):
            data += self._received.popleft()
        if len(data) > READ_BYTES:
            self._received.appendleft(data[READ_BYTES:])
            data = data[:READ_BYTES]
        self._cable.consumed(len(data))
        if not self._takes_buffers:
            self._protocol.data_received(data)
            return
        protocol = self._protocol
        while data:
            buffer = protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if not self._closing and self._paused:
            self._paused = False
            self._pump_later()

    # --- Writing -------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost:
            return
        data = bytes(data)
        room = self._cable.room if not self._buffer else 0
        if room >= len(data):
            self._cable.send(data)
            return
        if room > 0:
            self._cable.send(data[:room])
            data = data[room:]
        self._buffer.append(data)
        self._buffered += len(data)
        self._maybe_pause_protocol()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    @property
    def waits_for_room(self) -> bool:
        """Whether something waits for the exchange to read."""
        return bool(self._buffer)

    def flush(self) -> None:
        """Send what waited."""
        while self._buffer and not self._lost:
            data, room = self._buffer.popleft(), self._cable.room
            if room < len(data):
                self._buffer.appendleft(data[max(room, 0) :])
                data = data[: max(room, 0)]
            self._buffered -= len(data)
            if data:
                self._cable.send(data)
            if room <= len(data):
                break
        self._loop.deliver(self._written, self._context)

    def _written(self) -> None:
        self._maybe_resume_protocol()
        if not self._buffer and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof_wanted:
                self._cable.finish()

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._eof_wanted:
            return
        self._eof_wanted = True
        if not self._buffer:
            self._cable.finish()

    # --- Closing -------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._lose(None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        self._buffer.clear()
        self._buffered = 0
        self._closing = True
        self._lose(error)

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        if not isinstance(error, OSError):
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def _lose(self, error: BaseException | None) -> None:
        if not self._lost:
            self._lost = True
            self._later(self._connection_lost, error)

    def _connection_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            # A socket that is closed with something unread sends RST instead of FIN.
            unread = any(isinstance(item, bytes) for item in self._received)
            self._received.clear()
            if not isinstance(error, ConnectionResetError):
                self._cable.hang_up(reset=unread)


def _wake(waiter: Any) -> None:
    if not waiter.done():
        waiter.set_result(None)
