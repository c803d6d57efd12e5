"""WebSocket frames as bytes, right or wrong (RFC 6455, section 5.2)."""

from __future__ import annotations

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA

_MASK = b"\x37\xfa\x21\x3d"
"""The masking key of the examples in RFC 6455, section 5.7."""


def ws_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = False, claim: int | None = None
) -> bytes:
    """
    Make one frame as a server would send it, or as it must not.

    Args:
        opcode: 0 to 15.
        payload: the bytes that follow the header.
        fin: whether it is the last frame of its message.
        rsv: the three reserved bits, 0 to 7; 4 is RSV1.
        masked: mask it, which a server must not do (section 5.1).
        claim: length in the header, when it lies; None for the length of the payload.
    """
    head = (0x80 if fin else 0) | rsv << 4 | opcode
    length = len(payload) if claim is None else claim
    mask_bit = 0x80 if masked else 0
    if length < 126:
        header = bytes([head, mask_bit | length])
    elif length < 1 << 16:
        header = bytes([head, mask_bit | 126]) + length.to_bytes(2, "big")
    else:
        header = bytes([head, mask_bit | 127]) + length.to_bytes(8, "big")
    if masked:
        payload = bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(payload))
        return header + _MASK + payload
    return header + payload
