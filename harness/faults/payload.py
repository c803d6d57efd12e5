"""Payloads: well-framed messages whose content is not what it should be. Frame N itself is struck."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from harness.faults.base import Context, Duration, Edit, Fault, Strike, changed, frames_held
from harness.faults.fields import add_field, get_value, set_value
from harness.faults.http import HTML_PAGE
from harness.faults.payload_fields import (
    EmptyField,
    EventBeforeTrade,
    ExtraField,
    IdString,
    LocaleDecimal,
    MissingField,
    NullField,
    Precision,
    PriceInfinite,
    PriceNan,
    PriceNegative,
    PriceSpike,
    PriceZero,
    QuantityHuge,
    QuantityNegative,
    QuantityZero,
    RenamedField,
    RenameSymbol,
    Scientific,
    SideFlip,
    SideMissing,
    StringFlag,
    SymbolCase,
    TimeBackwards,
    TimeFuture,
    TimePast,
    TimeUnit,
    TimeZero,
    WrongSymbol,
    WrongType,
)

if TYPE_CHECKING:
    from harness.actions import Action, Send

__all__ = [
    "EmptyField",
    "EventBeforeTrade",
    "ExtraField",
    "IdString",
    "LocaleDecimal",
    "MissingField",
    "NullField",
    "Precision",
    "PriceInfinite",
    "PriceNan",
    "PriceNegative",
    "PriceSpike",
    "PriceZero",
    "QuantityHuge",
    "QuantityNegative",
    "QuantityZero",
    "RenameSymbol",
    "RenamedField",
    "Scientific",
    "SideFlip",
    "SideMissing",
    "StringFlag",
    "SymbolCase",
    "TimeBackwards",
    "TimeFuture",
    "TimePast",
    "TimeUnit",
    "TimeZero",
    "WrongSymbol",
    "WrongType",
]

Size = Annotated[int, msgspec.Meta(ge=1)]


class _Fixed(Edit, frozen=True):
    """Something else in the place of the payload."""

    content: ClassVar[bytes] = b""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return self.content


# --- Not JSON, or not this JSON -------------------------------------------------------------------


class Truncated(Edit, frozen=True, tag="payload.truncated"):
    """
    A proxy cuts a message short and frames what is left.

    Half a JSON object; `json.loads` raises.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return payload[: len(payload) // 2]


class Garbage(Edit, frozen=True, tag="payload.garbage"):
    """
    A server writes a buffer that it has not filled.

    Random printable characters of the same length.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return bytes(context.rng.randrange(0x21, 0x7A) for _ in payload)


class Html(_Fixed, frozen=True, tag="payload.html"):
    """
    A firewall's block page inside the WebSocket.

    HTML where JSON should be.
    """

    content: ClassVar[bytes] = HTML_PAGE % (b"403 Forbidden", b"403 Forbidden")


class EmptyText(_Fixed, frozen=True, tag="payload.empty"):
    """
    A server sends the message and forgets its content.

    An empty text in the place of the trade.
    """


class Null(_Fixed, frozen=True, tag="payload.null"):
    """
    A server serialises nothing.

    `null`: valid JSON, and no dictionary.
    """

    content: ClassVar[bytes] = b"null"


class Number(_Fixed, frozen=True, tag="payload.number"):
    """
    A heartbeat of the server's own: a bare number.

    Valid JSON, and no dictionary.
    """

    content: ClassVar[bytes] = b"1"


class Array(Edit, frozen=True, tag="payload.array"):
    """
    An `@arr` stream, or a server that batches: an array at top level.

    `msg["e"]` raises TypeError.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return b"[" + payload + b"]"


class TwoInOne(Edit, frozen=True, tag="payload.two_in_one"):
    """
    A server joins two messages with a new line.

    `json.loads` raises on the extra data.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return payload + b"\n" + payload


class Bom(Edit, frozen=True, tag="payload.bom"):
    """
    A server on another system puts a byte order mark first.

    `json.loads` refuses text that begins with U+FEFF.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return b"\xef\xbb\xbf" + payload


class Whitespace(Edit, frozen=True, tag="payload.whitespace"):
    """
    A new JSON writer puts blanks and line ends where none were.

    Legal, and fatal to clients that search the text.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return re.sub(rb'(?<=["\d\w])([,:])(?=["\d\w\-])', rb" \1 ", payload) + b"\r\n"


class KeyOrder(Edit, frozen=True, tag="payload.key_order"):
    """
    A new JSON writer sorts keys in another way.

    Legal: the same object, written backwards.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        parts = _flat_fields(payload)
        return b"{" + b",".join(reversed(parts)) + b"}" if parts else None


def _flat_fields(payload: bytes) -> list[bytes]:
    """Raw `"key":value` pairs of an object without nested values; empty for anything else."""
    body = payload.strip()
    if not (body.startswith(b"{") and body.endswith(b"}")) or re.search(rb"[\[{]", body[1:-1]):
        return []
    return re.findall(rb'"[^"]*"\s*:\s*(?:"[^"]*"|[^",\s]+)', body[1:-1])


class DupKeys(Edit, frozen=True, tag="payload.dup_keys"):
    """
    A gateway merges two objects.

    The price comes twice with two values; which one counts depends on the parser.
    """

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return add_field(payload, b'"p":"0.00000001"') if get_value(payload, "p") else None


class Deep(Edit, frozen=True, tag="payload.deep"):
    """
    A server with a recursion bug, or an attack.

    An object nested deeper than parsers follow; `json.loads` raises RecursionError.
    """

    depth: Size = 100_000
    """Levels."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return add_field(payload, b'"x":' + b"[" * self.depth + b"]" * self.depth)


class Huge(Edit, frozen=True, tag="payload.huge"):
    """
    A server adds a field that grows without bound.

    A large message that is still under the usual frame limit.
    """

    size: Size = 900_000
    """Bytes of the new field."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return add_field(payload, b'"x":"' + b"x" * self.size + b'"')


class BinarySbe(Edit, frozen=True, tag="payload.binary_sbe"):
    """
    The endpoint was switched to SBE: binary messages that are no JSON at all.

    A binary frame with an SBE header and packed numbers.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> list[Action]:
        # Block length, template 10000 (trades), schema 1, version 0; then little-endian numbers.
        head = b"".join(number.to_bytes(2, "little") for number in (18, 10000, 1, 0))
        return [changed(sent, strike, context, payload=head + context.rng.randbytes(48), opcode=2, wrap=False)]


# --- Other messages -----------------------------------------------------------------------------------


class UnknownEvent(Edit, frozen=True, tag="payload.unknown_event"):
    """
    A new event type shares the stream.

    `"e"` says something that no client knows.
    """

    event: str = "aggTradeV2"
    """The type."""

    def edit(self, payload: bytes, strike: Strike, context: Context) -> bytes | None:
        return set_value(payload, "e", json.dumps(self.event).encode())


class ErrorObject(_Fixed, frozen=True, tag="payload.error_object"):
    """
    The exchange reports an error where a trade should be.

    The nested error shape of the control plane.
    """

    content: ClassVar[bytes] = b'{"error":{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"},"id":null}'


class AckObject(_Fixed, frozen=True, tag="payload.ack_object"):
    """
    A late answer to a SUBSCRIBE comes in the middle of the data.

    `{"result":null,"id":1}` has no `"e"`.
    """

    content: ClassVar[bytes] = b'{"result":null,"id":1}'


class CloseText(_Fixed, frozen=True, tag="payload.close_text"):
    """
    The reason of a close turns up as a message and is fed to the JSON parser.

    Bare words: `Pong timeout`.
    """

    content: ClassVar[bytes] = b"Pong timeout"


class Wrapped(Edit, frozen=True, tag="payload.wrapped"):
    """
    A wrong form of the URL: `{"stream":...,"data":...}` on a raw connection.

    `msg["e"]` is missing, and the trade is filtered without a word.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> list[Action]:
        stream = context.tape.stream_of(strike.frame).encode()
        payload = b'{"stream":"' + stream + b'","data":' + sent.payload + b"}"
        return [changed(sent, strike, context, payload=payload)]


class Unwrapped(Edit, frozen=True, tag="payload.unwrapped"):
    """
    The other wrong form of the URL: a bare payload on a combined connection.

    `msg["data"]` is missing.
    """

    def instead(self, sent: Send, strike: Strike, context: Context) -> list[Action]:
        return [changed(sent, strike, context, wrap=False)]


class Frozen(Fault, frozen=True, tag="payload.frozen"):
    """
    A cache before the exchange answers with the last frame, for ever.

    From frame N on, every frame of the stream repeats frame N: it looks alive.
    """

    lasts: ClassVar[bool] = True

    duration: Duration | None = None
    """How long, in recorded time; for ever when left out."""

    def apply(self, actions: list[Action], context: Context) -> list[Action]:
        for strike in context.strikes:
            last = context.end_of(strike, self.duration)
            stream = int(context.tape.stream_codes[strike.frame])
            repeated = context.tape.payload(strike.frame)
            frames = [frame for frame in range(strike.frame + 1, last) if context.tape.stream_codes[frame] == stream]

            def make(piece: Action, strike: Strike = strike, repeated: bytes = repeated) -> list[Action]:
                sent = context.singly(piece)
                if sent is None or frames_held(piece) is None:
                    return [piece]
                return [changed(sent, strike, context, payload=repeated)]

            actions = context.carve(actions, frames, make)
        return actions
