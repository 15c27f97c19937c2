"""A record, its headers, and the byte format of records within a batch (Kafka's format v2).

A record as it stands in a batch, after decompression; v = zig-zag varint:

    +----------+------------+-------------------+----------------+----------+-----+------------+
    | length v | attributes | timestamp delta v | offset delta v | key      | ... | headers    |
    |          | 1 byte, 0  | of base timestamp | of base offset | length v |     | count v    |
    +----------+------------+-------------------+----------------+-or -1----+-----+------------+
                                                                   then value alike

    header = | key length v | key, UTF-8 | value length v or -1 | value |

    zig-zag:  0 -> 0, -1 -> 1, 1 -> 2, -2 -> 3, ...   then 7 bits a byte, low ones first, the high
    bit set on all bytes but the last:  300 -> 600 -> d8 04

C reads and writes whole records (batch.c).  Python encodes headers for it, decodes headers lazily
by count, and decodes records of a single batch for Batch.records and the tests, as a second
opinion on the same bytes.

Left to others: batch headers (batch.py), codecs (codecs.py).

Source: Kafka ``DefaultRecord.java``, ``ByteUtils.java`` (writeVarint).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from stratalog.errors import CorruptLogError

BytesLike: TypeAlias = bytes | bytearray | memoryview
Headers: TypeAlias = Iterable[tuple[str, bytes | None]] | Mapping[str, bytes | None]

_PREVIEW_BYTES = 40


class Record(NamedTuple):
    """One record of a log.

    A tuple, so that a loop can take it apart: ``offset, timestamp_ms, key, value, headers = r``.

    Attributes:
        offset: The record's number in its log.
        timestamp_ms: Milliseconds since 1970-01-01 UTC, as appended.
        key: Read-only memoryview (bytes with ``copy=True``), or None.
        value: The same; None is a tombstone: "this key is gone".
        headers: Pairs of name and value, in order, names may repeat; copies.

    Memory behind key and value is the log's own map.  It stays valid for as long as the view lives,
    also after truncate and close; ``LogStats.pinned_bytes`` tells how much is held that way.
    """

    offset: int
    timestamp_ms: int
    key: bytes | memoryview | None
    value: bytes | memoryview | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def __repr__(self) -> str:
        return (
            f"Record(offset={self.offset}, timestamp_ms={self.timestamp_ms}, "
            f"key={_preview(self.key)}, value={_preview(self.value)}, headers={self.headers!r})"
        )


def _preview(data: bytes | memoryview | None) -> str:
    if data is None:
        return "None"
    text = repr(bytes(data[:_PREVIEW_BYTES]))
    return text if len(data) <= _PREVIEW_BYTES else f"{text}... {len(data)} bytes"


# ---- varints ----


def encode_varint(value: int) -> bytes:
    """Encode a signed integer as a zig-zag varint, 1 to 10 bytes."""
    folded = (value << 1) ^ (value >> 63)
    if folded < 0x80:  # most lengths: one byte
        return bytes((folded,))
    out = bytearray()
    while folded > 0x7F:
        out.append((folded & 0x7F) | 0x80)
        folded >>= 7
    out.append(folded)
    return bytes(out)


def decode_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Decode the zig-zag varint at ``position``; return it and the position after it.

    Raises:
        IndexError: It runs past the end of ``data``.
        CorruptLogError: It is longer than 10 bytes.
    """
    folded = shift = 0
    while True:
        byte = data[position]
        position += 1
        folded |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (folded >> 1) ^ -(folded & 1), position
        shift += 7
        if shift > 63:
            raise CorruptLogError("varint is longer than 10 bytes", position=position)


# ---- headers ----


def encode_headers(headers: Headers) -> tuple[bytes, int]:
    """Encode headers as they stand in a record, their count excluded.

    Args:
        headers: Pairs of name and value, or a mapping; a value of None stays null.

    Returns:
        The bytes and the number of headers.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    out = bytearray()
    count = 0
    for name, value in pairs:
        encoded = name.encode()
        out += encode_varint(len(encoded))
        out += encoded
        if value is None:
            out += b"\x01"
        else:
            out += encode_varint(len(value))
            out += value
        count += 1
    return bytes(out), count


def decode_headers(
    data: bytes | memoryview, position: int, count: int
) -> tuple[tuple[str, bytes | None], ...]:
    """Decode ``count`` headers that start at ``position``; the inverse of :func:`encode_headers`.

    Raises:
        CorruptLogError: They run past the end, or a name is no UTF-8.
    """
    headers = []
    try:
        for _ in range(count):
            name, position = _take(data, position)
            value, position = _take(data, position)
            headers.append((str(name or b"", "utf-8"), None if value is None else bytes(value)))
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"damaged record headers: {error}", position=position) from error
    return tuple(headers)


def _take(data: bytes | memoryview, position: int) -> tuple[bytes | memoryview | None, int]:
    """Return the length-prefixed field at ``position``, None for length -1, and what follows."""
    length, position = decode_varint(data, position)
    if length == -1:
        return None, position
    end = position + length
    if length < 0 or end > len(data):
        raise IndexError(f"length {length} at position {position} of {len(data)}")
    return data[position:end], end


# ---- records ----


def decode_records(
    data: bytes | memoryview, *, count: int, base_offset: int, base_timestamp_ms: int
) -> Iterator[Record]:
    """Decode the records of one batch, one after the other.

    Args:
        data: The records part of a batch, decompressed.
        count: How many records the batch header promises.
        base_offset: Offset of the batch.
        base_timestamp_ms: Timestamp that deltas count from.

    Yields:
        Records whose key and value are slices of ``data``.

    Raises:
        CorruptLogError: The bytes are not ``count`` records and nothing else.
    """
    position = 0
    try:
        for _ in range(count):
            length, position = decode_varint(data, position)
            end = position + length
            timestamp_delta_ms, position = decode_varint(data, position + 1)
            offset_delta, position = decode_varint(data, position)
            key, position = _take(data, position)
            value, position = _take(data, position)
            header_count, position = decode_varint(data, position)
            headers = decode_headers(data[:end], position, header_count)
            yield Record(
                base_offset + offset_delta,
                base_timestamp_ms + timestamp_delta_ms,
                key,
                value,
                headers,
            )
            position = end
    except IndexError as error:
        raise CorruptLogError(f"damaged record: {error}", position=position) from error
    if position != len(data):
        raise CorruptLogError("bytes after the last record of a batch", position=position)
