"""WebSocket framing (RFC 6455, RFC 7692): broken frames, keepalive, compression; closes are in `ws_close`."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from harness.actions import Action, Change, Send, Wire
from harness.faults.base import Context, Cut, Duration, Edit, Greeting, Habit, Strike, changed, wire_behind
from harness.faults.wire import CONTINUATION, PING, PONG, TEXT, ws_frame
from harness.faults.ws_close import (
    Close1000,
    Close1001,
    Close1002,
    Close1003,
    Close1007,
    Close1008,
    Close1009,
    Close1010,
    Close1011,
    Close1012,
    Close1013,
    Close1014,
    Close4000,
    CloseBadReason,
    CloseFrame,
    CloseHalf,
    CloseLongReason,
    CloseNoCode,
    CloseNoReply,
    CloseOneByte,
    CloseReplyData,
    CloseReservedCode,
    CloseThenData,
    CloseThenReset,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Close1000",
    "Close1001",
    "Close1002",
    "Close1003",
    "Close1007",
    "Close1008",
    "Close1009",
    "Close1010",
    "Close1011",
    "Close1012",
    "Close1013",
    "Close1014",
    "Close4000",
    "CloseBadReason",
    "CloseFrame",
    "CloseHalf",
    "CloseLongReason",
    "CloseNoCode",
    "CloseNoReply",
    "CloseOneByte",
    "CloseReplyData",
    "CloseReservedCode",
    "CloseThenData",
    "CloseThenReset",
]

Size = Annotated[int, msgspec.Meta(ge=1)]


# --- Frames that break the rules ------------------------------------------------------------------


def _instead(data: bytes, sent: Send, strike: Strike, context: Context) -> Wire:
    """Bytes in the place of a message."""
    return Wire(
        due_ns=sent.due_ns, data=data, fault=context.index, frame=sent.frame, stream=sent.stream, strike=strike.number
    )


class _Framed(Edit, frozen=True):
    """The payload is right, and its frame is not."""

    def framed(self, payload: bytes, context: Context) -> bytes:
        raise NotImplementedError

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        return [_instead(self.framed(sent.payload, context), sent, strike, context)]


class Masked(_Framed, frozen=True, tag="ws.masked"):
    """
    A proxy forwards client frames to the client.

    A masked server frame, which the client must refuse (RFC 6455, section 5.1).
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(TEXT, payload, masked=True)


class RsvBits(_Framed, frozen=True, tag="ws.rsv_bits"):
    """
    A corrupted header, or an extension that was not negotiated.

    Reserved bits are set.
    """

    bits: Annotated[int, msgspec.Meta(ge=1, le=7)] = 3
    """The three bits; 4 is RSV1, which compression uses."""

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(TEXT, payload, rsv=self.bits)


class ReservedOpcode(_Framed, frozen=True, tag="ws.reserved_opcode"):
    """
    A newer server, or a stream that lost its place.

    An opcode that RFC 6455 keeps for later.
    """

    opcode: Literal[3, 4, 5, 6, 7, 11, 12, 13, 14, 15] = 3
    """Opcode."""

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(self.opcode, payload)


class BadLengthEncoding(_Framed, frozen=True, tag="ws.bad_length_encoding"):
    """
    A home-made server writes every length in eight bytes.

    The length is not in its shortest form (RFC 6455, section 5.2).
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        return b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload


class LengthMsb(_Framed, frozen=True, tag="ws.length_msb"):
    """
    A corrupted header: a length of more than half of all numbers.

    The top bit of an eight-byte length is set.
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        return b"\x81\x7f" + (1 << 63 | len(payload)).to_bytes(8, "big") + payload


class LengthLie(_Framed, frozen=True, tag="ws.length_lie"):
    """
    A proxy cut a message and left its length as it was.

    The header promises more bytes than come: the next frames are swallowed as payload.
    """

    extra: Size = 100_000
    """Bytes promised and never meant."""

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(TEXT, payload, claim=len(payload) + self.extra)


class Fragment(Edit, frozen=True, tag="ws.fragment"):
    """
    A proxy re-frames messages.

    Legal: one message in several frames; clients that take a frame for a message break.
    """

    size: Size = 20
    """Payload bytes per frame."""

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        return [changed(sent, strike, context, fragment_bytes=self.size)]


class FragmentUtf8Split(Edit, frozen=True, tag="ws.fragment_utf8_split"):
    """
    A proxy re-frames messages and knows nothing of characters.

    Legal: every byte its own frame, so a character of several bytes is split; a field with such characters is added.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        if not sent.payload.rstrip().endswith(b"}"):
            return [sent]
        payload = sent.payload.rstrip()[:-1] + ',"note":"币安 ✓"}'.encode()
        return [changed(sent, strike, context, payload=payload, fragment_bytes=1)]


class FragmentInterleaved(Edit, frozen=True, tag="ws.fragment_ctrl_interleaved"):
    """
    A keepalive ping falls between two fragments.

    Legal, and where many parsers lose their place (RFC 6455, section 5.4).
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        size = max(1, len(sent.payload) // 2)
        return [changed(sent, strike, context, fragment_bytes=size, between=ws_frame(PING, b"between"))]


class FragmentNeverFin(_Framed, frozen=True, tag="ws.fragment_never_fin"):
    """
    A proxy loses the last fragment of a message.

    The message never ends; a client that reads on waits for ever, or calls the next frame a protocol error.
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(TEXT, payload, fin=False)


class BadContinuation(_Framed, frozen=True, tag="ws.bad_continuation"):
    """
    A proxy loses the first fragment of a message.

    A continuation of nothing.
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(CONTINUATION, payload)


class Oversize(Edit, frozen=True, tag="ws.oversize"):
    """
    A snapshot or an `@arr` stream outgrows the client's limit (1 MiB in many libraries).

    The payload is grown with white space; the client closes with 1009.
    """

    size: Size = 2_000_000
    """Bytes of the message."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return payload.ljust(self.size)


class InvalidUtf8(Edit, frozen=True, tag="ws.invalid_utf8"):
    """
    A server with an encoding bug, met first with a symbol outside ASCII.

    A text frame that is not UTF-8; the client must fail the connection with 1007.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        middle = len(payload) // 2
        return payload[:middle] + b"\xc3\x28\xff" + payload[middle:]


class Binary(Edit, frozen=True, tag="ws.binary"):
    """
    A server switches to binary frames: a JSON feed becomes bytes.

    The payload is the same, its opcode is not.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> Sequence[Action]:
        return [changed(sent, strike, context, opcode=2)]


class BinaryAsText(Edit, frozen=True, tag="ws.binary_as_text"):
    """
    A gzip feed behind a text opcode.

    Compressed bytes in a text frame.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return zlib.compress(payload, wbits=31)


class Empty(Cut, frozen=True, tag="ws.empty"):
    """
    A server's own heartbeat: an empty text message.

    Legal, and `json.loads("")` raises.
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [wire_behind(ws_frame(TEXT), strike, context)]


class TrailingGarbage(Cut, frozen=True, tag="ws.trailing_garbage"):
    """
    A load balancer mixes up two connections.

    Random bytes behind the frame.
    """

    size: Size = 200
    """Bytes of garbage."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        # The first byte has reserved bits set, so that the garbage never passes for a frame.
        return [wire_behind(b"\xf3" + context.rng.randbytes(self.size - 1), strike, context)]


class DataBefore101(Greeting, frozen=True, tag="ws.data_before_101"):
    """
    A load balancer hands over a connection that is already in use.

    A frame comes before the answer to the upgrade.
    """

    def changes(self, context: Context) -> dict[str, Any]:
        return {"upgrade.early": ws_frame(TEXT, b'{"e":"early"}')}


# --- Keepalive --------------------------------------------------------------------------------------


class NoServerPing(Habit, frozen=True, tag="ws.no_server_ping"):
    """
    A server whose keepalive thread has died.

    The exchange's pings stop; data flows on.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.ping": False}


class PingOnly(Habit, frozen=True, tag="ws.ping_only"):
    """
    The zombie stream: pings flow, data does not.

    Every heartbeat says that all is well.
    """

    interval: Duration = Duration("1s")
    """Between two pings."""

    def changes(self) -> dict[str, Any]:
        return {"control.deliver": False, "control.ping_interval_ns": int(self.interval)}


class WithholdPong(Habit, frozen=True, tag="ws.withhold_pong"):
    """
    An overloaded server: the client's keepalive is never answered.

    Libraries with a ping timeout close with 1011 while data still flows.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.pong": "withhold"}


class WrongPong(Habit, frozen=True, tag="ws.wrong_pong"):
    """
    A proxy answers pings itself, and badly.

    Pongs carry another payload than the pings.
    """

    def changes(self) -> dict[str, Any]:
        return {"control.pong": "wrong"}


class LatePong(Habit, frozen=True, tag="ws.late_pong"):
    """
    A server that gets round to keepalive last.

    Pongs come, late.
    """

    delay: Duration = Duration("10s")
    """How long a pong waits."""

    def changes(self) -> dict[str, Any]:
        return {"control.pong_delay_ns": int(self.delay)}


class PingRequiresEcho(Habit, frozen=True, tag="ws.ping_requires_echo"):
    """
    The exchange enforces its own rule: a pong copies the ping's payload, in time.

    Anything else is closed with 1008.
    """

    interval: Duration = Duration("20s")
    """Between two pings."""
    deadline: Duration = Duration("60s")
    """Time for the pong."""

    def changes(self) -> dict[str, Any]:
        return {
            "control.pong_must_match": True,
            "control.ping_interval_ns": int(self.interval),
            "control.pong_deadline_ns": int(self.deadline),
        }


class PingFlood(Cut, frozen=True, tag="ws.ping_flood"):
    """
    A server bug, or an attack: pings without end.

    A client that answers each one has no time for data.
    """

    pings: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    """How many, at once."""

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        data = b"".join(ws_frame(PING, b"%d" % number) for number in range(self.pings))
        # The pongs are asked for, so they must not be held against the client's allowance of messages.
        lift = Change(
            due_ns=strike.due_ns,
            field="control.message_limit",
            value=0,
            fault=context.index,
            frame=strike.frame,
            strike=strike.number,
        )
        return [lift, wire_behind(data, strike, context)]


class UnsolicitedPong(Cut, frozen=True, tag="ws.unsolicited_pong"):
    """
    A server that beats one-sidedly.

    Legal: a pong that answers no ping (RFC 6455, section 5.5.3).
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [wire_behind(ws_frame(PONG, b"unsolicited"), strike, context)]


class CtrlOversize(Cut, frozen=True, tag="ws.ctrl_oversize"):
    """
    A server puts diagnostics into its pings.

    A ping of more than 125 bytes, which is a protocol error (RFC 6455, section 5.5).
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [wire_behind(ws_frame(PING, b"x" * 200), strike, context)]


class CtrlFragmented(Cut, frozen=True, tag="ws.ctrl_fragmented"):
    """
    A proxy re-frames everything, control frames too.

    A ping without FIN, which is a protocol error (RFC 6455, section 5.5).
    """

    def after(self, strike: Strike, context: Context) -> Sequence[Action]:
        return [wire_behind(ws_frame(PING, b"half", fin=False), strike, context)]


# --- Compression --------------------------------------------------------------------------------------


def _deflated(payload: bytes, dictionary: bytes = b"") -> bytes:
    """A message as permessage-deflate sends it (RFC 7692, section 7.2.1), with a window of its own."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@lru_cache(maxsize=4)
def _bomb(size: int) -> bytes:
    # Fifty megabytes take a quarter of a second to pack, and a plan may want them on every frame.
    return ws_frame(TEXT, _deflated(b" " * size), rsv=4)


class DeflateCorrupt(_Framed, frozen=True, tag="ws.deflate_corrupt"):
    """
    A proxy damages a compressed message.

    RSV1 is set, and the bytes are no deflate stream.
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        # Block type 3 is reserved (RFC 1951, section 3.2.3).
        return ws_frame(TEXT, b"\xff" * 40, rsv=4)


class DeflateContextMismatch(_Framed, frozen=True, tag="ws.deflate_context_mismatch"):
    """
    A server loses its compression window on failover.

    A compressed message that refers to bytes which the client never had.
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        # The far end of a window of 32 KiB, which a young connection has not filled.
        return ws_frame(
            TEXT, _deflated(payload, payload + context.rng.randbytes(32_000 - len(payload) % 32_000)), rsv=4
        )


class DeflateBomb(_Framed, frozen=True, tag="ws.deflate_bomb"):
    """
    An attack, or a snapshot of zeros: a few bytes that inflate to very many.

    A client without a limit on the inflated size runs out of memory.
    """

    size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 50_000_000
    """Bytes once inflated."""

    def framed(self, payload: bytes, context: Context) -> bytes:
        return _bomb(self.size)


class Rsv1WithoutExt(_Framed, frozen=True, tag="ws.rsv1_without_ext"):
    """
    A proxy strips the extension from the handshake and the server compresses anyway.

    A good compressed message; without negotiated compression, a protocol error.
    """

    def framed(self, payload: bytes, context: Context) -> bytes:
        return ws_frame(TEXT, _deflated(payload), rsv=4)
