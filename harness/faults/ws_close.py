"""WebSocket closes: every code, and every way to say it badly (RFC 6455, section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from harness.actions import Action, Change, Close
from harness.faults.base import Context, Cut, Duration, Habit, Strike, wire_behind
from harness.faults.wire import CLOSE, ws_frame

if TYPE_CHECKING:
    from collections.abc import Sequence


class CloseFrame(Cut, frozen=True, tag="ws.close"):
    """
    The exchange says goodbye: rotation, a deployment, a policy.

    A close frame with any code, behind the frame; then the closing handshake.
    """

    code: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 1001
    """Close code."""
    reason: str = ""
    """Sent as UTF-8."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [_close(strike, context, code=self.code, reason=self.reason.encode())]


def _close(strike: Strike, context: Context, **fields: Any) -> Close:
    return Close(due_ns=strike.due_ns, fault=context.index, frame=strike.frame, strike=strike.number, **fields)


class _Closing(Cut, frozen=True):
    code: ClassVar[int | None] = 1000
    reason: ClassVar[bytes] = b""
    then: ClassVar[Literal["handshake", "fin", "reset", "data"]] = "handshake"

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [_close(strike, context, code=self.code, reason=self.reason, then=self.then)]


class Close1000(_Closing, frozen=True, tag="ws.close_1000"):
    """The orderly drop at 24 hours: a `for` loop over messages just ends, as if all were well."""

    code: ClassVar[int | None] = 1000


class Close1001(_Closing, frozen=True, tag="ws.close_1001"):
    """The server rotates (`going away`); many libraries call it a clean end."""

    code: ClassVar[int | None] = 1001
    reason: ClassVar[bytes] = b"going away"


class Close1002(_Closing, frozen=True, tag="ws.close_1002"):
    """The server accuses the client of a protocol error, often after a proxy damaged a frame."""

    code: ClassVar[int | None] = 1002
    reason: ClassVar[bytes] = b"protocol error"


class Close1003(_Closing, frozen=True, tag="ws.close_1003"):
    """The server takes no such data: the client spoke binary to a text endpoint."""

    code: ClassVar[int | None] = 1003


class Close1007(_Closing, frozen=True, tag="ws.close_1007"):
    """The server could not read the client's text."""

    code: ClassVar[int | None] = 1007


class Close1008(_Closing, frozen=True, tag="ws.close_1008"):
    """Policy: too many messages, no pong, or a reader too slow."""

    code: ClassVar[int | None] = 1008
    reason: ClassVar[bytes] = b"Pong timeout"


class Close1009(_Closing, frozen=True, tag="ws.close_1009"):
    """The client's SUBSCRIBE was too big for the server."""

    code: ClassVar[int | None] = 1009


class Close1010(_Closing, frozen=True, tag="ws.close_1010"):
    """An extension that one side insists on is missing."""

    code: ClassVar[int | None] = 1010


class Close1011(_Closing, frozen=True, tag="ws.close_1011"):
    """The server hit an internal error."""

    code: ClassVar[int | None] = 1011
    reason: ClassVar[bytes] = b"Internal error"


class Close1012(_Closing, frozen=True, tag="ws.close_1012"):
    """The service restarts; come back in a while."""

    code: ClassVar[int | None] = 1012


class Close1013(_Closing, frozen=True, tag="ws.close_1013"):
    """The service is overloaded; try again later."""

    code: ClassVar[int | None] = 1013


class Close1014(_Closing, frozen=True, tag="ws.close_1014"):
    """The gateway got a bad answer from the server behind it."""

    code: ClassVar[int | None] = 1014


class Close4000(_Closing, frozen=True, tag="ws.close_4000"):
    """A code of the application's own (3000 to 4999), which no library knows."""

    code: ClassVar[int | None] = 4000
    reason: ClassVar[bytes] = b"session moved"


class CloseNoCode(_Closing, frozen=True, tag="ws.close_no_code"):
    """
    A terse server: a close frame without a code.

    Legal; libraries report it as 1005.
    """

    code: ClassVar[int | None] = None


class CloseReservedCode(Cut, frozen=True, tag="ws.close_reserved_code"):
    """
    A broken peer sends a code that must never be on the wire.

    RFC 6455, section 7.4.1: 1004, 1005, 1006 and 1015.
    """

    code: Literal[1004, 1005, 1006, 1015] = 1006
    """Close code."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [_close(strike, context, code=self.code)]


class CloseOneByte(Cut, frozen=True, tag="ws.close_1byte"):
    """
    A broken peer cuts its close code in half.

    A close frame with one byte of payload, which is a protocol error.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [wire_behind(ws_frame(CLOSE, b"\x03"), strike, context)]


class CloseBadReason(_Closing, frozen=True, tag="ws.close_bad_utf8_reason"):
    """
    A peer puts its own encoding into the close reason.

    The reason is not UTF-8, which is a protocol error.
    """

    code: ClassVar[int | None] = 1001
    reason: ClassVar[bytes] = b"\xff\xfe going away"


class CloseLongReason(_Closing, frozen=True, tag="ws.close_long_reason"):
    """
    A peer puts its whole error message into the close reason.

    A control frame of more than 125 bytes, which is a protocol error.
    """

    code: ClassVar[int | None] = 1011
    reason: ClassVar[bytes] = b"x" * 200


class CloseThenData(_Closing, frozen=True, tag="ws.close_then_data"):
    """
    A server thread goes on sending after another one said goodbye.

    Data behind the close frame, to be ignored.
    """

    code: ClassVar[int | None] = 1001
    then: ClassVar[Literal["handshake", "fin", "reset", "data"]] = "data"


class CloseThenReset(_Closing, frozen=True, tag="ws.close_then_reset"):
    """
    A server that is killed in the middle of its farewell.

    A close frame, and RST before the client can answer.
    """

    code: ClassVar[int | None] = 1001
    then: ClassVar[Literal["handshake", "fin", "reset", "data"]] = "reset"


class CloseHalf(Cut, frozen=True, tag="ws.close_half"):
    """
    A server that never finishes closing: the client hangs in CLOSING.

    A close frame; the FIN that should follow stays out.
    """

    delay: Duration = Duration("5m")
    """How long the FIN stays out."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        stuck = Change(
            due_ns=strike.due_ns,
            field="link.close_delay_ns",
            value=int(self.delay),
            fault=context.index,
            frame=strike.frame,
            strike=strike.number,
        )
        return [stuck, _close(strike, context, code=1001)]


class CloseNoReply(Habit, frozen=True, tag="ws.close_no_reply"):
    """
    A stuck server: the client's own close is never answered.

    `close()` hangs until the library gives up.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.close_reply": "withhold"}


class CloseReplyData(Habit, frozen=True, tag="ws.close_reply_data"):
    """
    A server with a full send queue answers a close with yet more data.

    Data goes on behind the client's close frame.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.close_reply": "data"}
