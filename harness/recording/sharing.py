"""Columns that hold the same values share their pages.

Parquet encodes each column by itself, so a steady clock that runs beside the wall clock costs its nanoseconds twice,
and so do the two times of a trade where they are one. But the footer says for each column where in the file its
pages are, and nothing says that two columns may not name the same place. Here a finished file is copied,
leaving out each chunk whose very bytes its row group has already; the footer then names those.

    received_at ──┬─▶ pages           event_time ──┬─▶ pages
    monotonic_ns ─┘                   trade_time ──┘

The bytes a reader finds are the ones it would have found, whatever the two columns are, so every reader
of Parquet reads them. Nothing is decoded here, so nothing can come out different.

In front of the footer, where no reader looks, goes a digest of all other bytes: pages have checksums, but neither
their heads nor the footer have one, and a wrong minimum there makes a query leave rows out.
"""

from __future__ import annotations

import hashlib
from typing import IO, Any, NamedTuple

MAGIC = b"PAR1"
SEAL = b"sha256 of all bytes but these:"
_SEAL_BYTES = len(SEAL) + 32
_BLOCK = 1 << 20

# parquet-format: src/main/thrift/parquet.thrift, field numbers.
_FILE_ROW_GROUPS = 4
_GROUP_COLUMNS, _GROUP_FILE_OFFSET = 1, 5
_CHUNK_FILE_OFFSET, _CHUNK_META = 2, 3
_META_SIZE, _META_DATA_PAGE, _META_DICTIONARY_PAGE = 7, 9, 11

# thrift: doc/specs/thrift-compact-protocol.md, types of fields and elements.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class _Field(NamedTuple):
    kind: int
    value: Any


class _Elements(NamedTuple):
    kind: int
    values: list[Any]


_Struct = dict[int, _Field]


def share_equal_chunks(source: IO[bytes], target: IO[bytes]) -> int:
    """
    Copy a Parquet file, keeping chunks of one row group that are equal to the byte only once.

    Args:
        source: a whole Parquet file, without page index and bloom filters, which would point elsewhere.
        target: gets the copy.

    Returns:
        How many bytes were saved.
    """
    footer = _Reader(_footer(source)).struct()
    content = hashlib.sha256(MAGIC)
    at, saved = target.write(MAGIC), 0
    for group in footer[_FILE_ROW_GROUPS].value.values:
        begin, known = at, dict[bytes, int]()
        for chunk in group[_GROUP_COLUMNS].value.values:
            meta: _Struct = chunk[_CHUNK_META].value
            first = meta.get(_META_DICTIONARY_PAGE, meta[_META_DATA_PAGE]).value
            source.seek(first)
            pages = source.read(meta[_META_SIZE].value)
            if pages in known:
                saved += len(pages)
            else:
                known[pages] = at
                content.update(pages)
                at += target.write(pages)
            _move(chunk, _CHUNK_FILE_OFFSET, known[pages] - first)
            _move(meta, _META_DATA_PAGE, known[pages] - first)
            _move(meta, _META_DICTIONARY_PAGE, known[pages] - first)
        if _GROUP_FILE_OFFSET in group:
            group[_GROUP_FILE_OFFSET] = _Field(_I64, begin)
    words = _struct(footer)
    words += len(words).to_bytes(4, "little") + MAGIC
    content.update(words)
    target.write(SEAL + content.digest() + words)
    return saved


def is_intact(source: IO[bytes]) -> bool:
    """Whether every byte of a file is the one that was written; True if nobody can say, as it has no seal."""
    words = len(_footer(source)) + 8
    left = source.seek(0, 2) - words - _SEAL_BYTES
    source.seek(max(0, left))
    seal = source.read(_SEAL_BYTES)
    if not seal.startswith(SEAL):
        return True
    source.seek(0)
    content = hashlib.sha256()
    while left and (block := source.read(min(left, _BLOCK))):
        content.update(block)
        left -= len(block)
    source.seek(_SEAL_BYTES, 1)
    content.update(source.read(words))
    return seal == SEAL + content.digest()


def _footer(source: IO[bytes]) -> bytes:
    end = source.seek(-8, 2)
    tail = source.read(8)
    assert tail[4:] == MAGIC, "no Parquet file"
    source.seek(end - int.from_bytes(tail[:4], "little"))
    return source.read(end - source.tell())


def _move(fields: _Struct, number: int, by: int) -> None:
    if number in fields and fields[number].value:  # 0 where nothing is named
        fields[number] = _Field(_I64, fields[number].value + by)


# --- Thrift's compact protocol, as far as a footer needs it -----------------------------------------


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> _Struct:
        fields: _Struct = {}
        number = 0
        while header := self._take(1)[0]:
            number = number + (header >> 4) if header >> 4 else self._signed()
            kind = header & 15
            fields[number] = _Field(kind, kind == _TRUE if kind in {_TRUE, _FALSE} else self._value(kind))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in {_I16, _I32, _I64}:
            return self._signed()
        if kind == _BINARY:
            return self._take(self._unsigned())
        if kind == _STRUCT:
            return self.struct()
        if kind in {_LIST, _SET}:
            header = self._take(1)[0]
            count = header >> 4 if header >> 4 < 15 else self._unsigned()
            return _Elements(header & 15, [self._value(header & 15) for _ in range(count)])
        if kind in {_TRUE, _FALSE, _BYTE}:  # an element; a field of this kind has its value in its header
            return self._take(1)
        assert kind == _DOUBLE, f"a footer has no field of kind {kind}"
        return self._take(8)

    def _take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._take(1)[0]) > 127:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)


def _struct(fields: _Struct) -> bytes:
    out = bytearray()
    before = 0
    for number, (kind, value) in fields.items():
        if 0 < number - before < 16:
            out.append(number - before << 4 | kind)
        else:
            out.append(kind)
            out += _signed(number)
        before = number
        if kind not in {_TRUE, _FALSE}:
            out += _value(kind, value)
    return bytes(out) + b"\0"


def _value(kind: int, value: Any) -> bytes:
    if kind in {_I16, _I32, _I64}:
        return _signed(value)
    if kind == _BINARY:
        return _unsigned(len(value)) + bytes(value)
    if kind == _STRUCT:
        return _struct(value)
    if kind in {_LIST, _SET}:
        count = len(value.values)
        head = bytes([count << 4 | value.kind]) if count < 15 else bytes([0xF0 | value.kind]) + _unsigned(count)
        return head + b"".join(_value(value.kind, one) for one in value.values)
    return bytes(value)


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _signed(value: int) -> bytes:
    return _unsigned(value << 1 if value >= 0 else (-value << 1) - 1)
