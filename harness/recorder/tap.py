"""What went over one proxied connection, as frames: listens to both directions and changes nothing.

program ── bytes ──▶ upward tap   ──▶ exchange
        ◀── bytes ── downward tap ◀──
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness import clock
from harness.frames import Frame
from harness.frames.packed import size_bytes
from harness.recorder import deframer as ws
from harness.recorder.endpoints import public_url
from harness.recording.journal import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.frames import Kind
    from harness.recorder.wire import Take

HEAD_BYTES_MAX = 64 << 10
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Tap:
    """
    Reads along on one connection.

    Only WebSocket connections become frames; other HTTP passes unseen, except an upgrade that was refused.

    Args:
        origin: scheme, host and port that the program named.
        number: gives this connection its number, once it is a WebSocket connection.
        take: gets everything that happened, in order.
    """

    def __init__(self, origin: str, number: Callable[[], int], take: Take) -> None:
        self.connection = 0
        self._origin = origin
        self._number = number
        self._take = take
        self._heads = {"up": b"", "down": b""}
        self._target = ""
        self._asleep = False
        """No WebSocket, and it will be none."""
        self._up = ws.Deframer()
        self._down = ws.Deframer()
        self._ended = False

    def up(self, data: bytes) -> None:
        """The program sent bytes."""
        if self._asleep:
            return
        if not self.connection:
            self._heads["up"] += data
            if not self._target:
                self._read_request()
            return
        self._frames(self._up, data, sent=True)

    def down(self, data: bytes) -> None:
        """The exchange sent bytes."""
        if self._asleep:
            return
        if not self.connection:
            self._heads["down"] += data
            data = self._read_answer()
        if data:
            self._frames(self._down, data, sent=False)

    def lost(self, why: str, *, by_program: bool) -> None:
        """The connection ended without a closing handshake."""
        if self.connection and not self._ended:
            self._ended = True
            self._note("lost", sent=by_program, text=why)

    def unreachable(self, why: str) -> None:
        """The exchange could not be reached for the program."""
        self.connection = self._number()
        self._ended = True
        self._note("lost", text=f"{public_url(self._origin)}: {why}")

    # --- Inside ---

    def _read_request(self) -> None:
        head, found, rest = self._heads["up"].partition(b"\r\n\r\n")
        if not found:
            self._asleep = len(head) > HEAD_BYTES_MAX
            return
        words = head.split(b" ", 2)
        if len(words) < 3 or b"upgrade: websocket" not in head.lower():
            self._asleep = True
            return
        self._target = words[1].decode("latin-1")
        self._heads["up"] = rest

    def _read_answer(self) -> bytes:
        head, found, rest = self._heads["down"].partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        if not self._target or (len(head) > 12 and not status) or len(head) > HEAD_BYTES_MAX:
            self._asleep = True
            return b""
        if not found or status is None:
            return b""
        self.connection = self._number()
        url = public_url(self._origin + self._target)
        if status[1] != b"101":
            self._asleep = self._ended = True
            self._note("lost", text=f"{url}: the upgrade was answered with HTTP {status[1].decode()}")
            return b""
        self._note("open", text=url)
        self._down, self._up = _deframers(head)
        early, self._heads = self._heads["up"], {"up": b"", "down": b""}
        if early:
            self._frames(self._up, early, sent=True)
        return rest

    def _frames(self, deframer: ws.Deframer, data: bytes, *, sent: bool) -> None:
        at = clock.both_ns()  # all that one read brought was there at one moment
        for opcode, payloads in deframer.receive_data(data):
            if opcode <= ws.BINARY and not sent:
                self._take(Run(self.connection, ws.KINDS[opcode], *at, payloads), size_bytes(payloads))
                continue
            for payload in payloads:
                code, reason = ws.close_parts(payload) if opcode == ws.CLOSE else (None, "")
                self._ended = self._ended or opcode == ws.CLOSE
                self._note(ws.KINDS[opcode], payload, sent=sent, code=code, text=reason, at=at)

    def _note(
        self,
        kind: Kind,
        data: bytes = b"",
        *,
        sent: bool = False,
        code: int | None = None,
        text: str = "",
        at: tuple[int, int] | None = None,
    ) -> None:
        wall_ns, now_ns = at or clock.both_ns()
        frame = Frame(
            connection=self.connection,
            direction="sent" if sent else "received",
            kind=kind,
            received_at_ns=wall_ns,
            monotonic_ns=now_ns,
            data=data,
            close_code=code,
            detail=text,
        )
        self._take(frame, len(data) + len(text))


def _deframers(head: bytes) -> tuple[ws.Deframer, ws.Deframer]:
    # RFC 7692, section 7: what the answer says is what both sides do.
    agreed = b" ".join(re.findall(rb"(?im)^sec-websocket-extensions:(.*?)\r?$", head))
    inflate = b"permessage-deflate" in agreed
    down = ws.Deframer(inflate=inflate, keep_context=b"server_no_context_takeover" not in agreed)
    up = ws.Deframer(inflate=inflate, keep_context=b"client_no_context_takeover" not in agreed)
    return down, up
