"""One value inside a JSON payload, all other bytes as they were.

Recorded bytes are never parsed and written again: the fault changes what it names and nothing else.
"""

from __future__ import annotations

import re

_STRING = rb'"(?:[^"\\]|\\.)*"'
_VALUE = rb"(?:" + _STRING + rb"|[^\s,\"{}\[\]]+)"


def find_field(payload: bytes, key: str) -> re.Match[bytes] | None:
    """Find `"key":value` with a plain value, as groups `key`, `value` and the comma on either side."""
    name = re.escape(key.encode())
    pattern = rb'(?P<before>,\s*)?(?P<key>"' + name + rb'")\s*:\s*(?P<value>' + _VALUE + rb")(?P<after>\s*,\s*)?"
    return re.search(pattern, payload)


def get_value(payload: bytes, key: str) -> bytes | None:
    """The raw bytes of a value, quotes included; None when there is no such field."""
    found = find_field(payload, key)
    return found["value"] if found else None


def set_value(payload: bytes, key: str, value: bytes) -> bytes | None:
    """Put raw bytes in the place of a value; None when there is no such field."""
    found = find_field(payload, key)
    return payload[: found.start("value")] + value + payload[found.end("value") :] if found else None


def rename_field(payload: bytes, key: str, new: str) -> bytes | None:
    """Call a field something else; None when there is no such field."""
    found = find_field(payload, key)
    return payload[: found.start("key")] + b'"' + new.encode() + b'"' + payload[found.end("key") :] if found else None


def drop_field(payload: bytes, key: str) -> bytes | None:
    """Leave a field out; None when there is no such field."""
    found = find_field(payload, key)
    if not found:
        return None
    # One of the two commas goes with it.
    end = found.end() if not found["before"] else found.end("value")
    start = found.start()
    return payload[:start] + payload[end:]


def add_field(payload: bytes, raw: bytes) -> bytes | None:
    """Add a raw `"key":value` at the end of the object; None when the payload is no object."""
    body = payload.rstrip()
    if not body.endswith(b"}") or len(body) < 3:
        return None
    return body[:-1] + b"," + raw + payload[len(body) - 1 :]


def as_int(value: bytes | None) -> int | None:
    """A raw value as a whole number; None when it is none."""
    if value is None or not re.fullmatch(rb"-?\d{1,30}", value):
        return None
    return int(value)


def as_text(value: bytes | None) -> str | None:
    """A raw value without its quotes; None when it is no plain string."""
    if value is None or not value.startswith(b'"') or b"\\" in value:
        return None
    return value[1:-1].decode("utf-8", "replace")
