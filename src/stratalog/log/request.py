"""Records on their way in: Python values become the columns of one ``sl_records``.

    values  [b"ab", b"", None, b"c"]  ->  values       "abc"              back to back
                                          value_bytes  2  0  -1  1        -1: null

One C call takes thousands of records, so what counts is the cost per record on the way there:
``b"".join`` takes 11 ns a record, the lengths 21 ns by way of ``struct.pack`` (46 by ``array``).

Is ``len`` the number of bytes?  Not for a memoryview of larger items.  But ``len`` never exceeds
the byte count, so if the lengths *sum up* to the length of the joined bytes, each one is right.
Is every length the same?  Sums cannot tell; comparing the length column with its first entry
repeated can (one memcmp), and then C writes records of one shape without looking at the column.

Memory.  Everything here is borrowed by C for the duration of one call: a request keeps its sources
alive in ``held``, and whoever made it keeps the request.

Left to others: the bytes of a batch (batch.c), headers (records.py).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from stratalog.errors import InvalidArgumentError, TooLargeError
from stratalog.log._binding import INT32_MIN, ffi
from stratalog.log.records import BytesLike, Headers, encode_headers

_DEFAULTS: Final[Any] = ffi.new(
    "sl_records *",
    {
        "timestamp_ms": -1,
        "codec_level": INT32_MIN,
        "leader_epoch": -1,
        "producer_id": -1,
        "producer_epoch": -1,
        "base_sequence": -1,
    },
)
_NULL: Final = struct.pack("i", -1)
_EMPTY: Final[Any] = ffi.from_buffer(b"\x00")


def borrow(data: BytesLike | None, what: str) -> Any:
    """Return ``data`` as something that C takes for ``const uint8_t *``, and that has a length."""
    if data is None:
        return ffi.NULL
    if isinstance(data, bytes):
        return data
    try:
        return ffi.from_buffer("uint8_t[]", data)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgumentError(
            f"{what} must be bytes-like and contiguous, or None, not {type(data).__name__}"
        ) from error


class ManyRequest:
    """An ``sl_records`` for many records.

    Args:
        values: One value for each record, None for a tombstone.
        keys: One key for each record, None for no key; or None: no record has one.
        timestamps_ms: One timestamp for each record, or one for all; or None: the clock's.
        headers: One set of headers for each record; or None: no record has any.

    Raises:
        InvalidArgumentError: A column has another length than ``values``, or an item is not
            bytes-like.
    """

    __slots__ = ("count", "held", "records")

    def __init__(
        self,
        values: Iterable[BytesLike | None] | Any,
        keys: Iterable[BytesLike | None] | None,
        timestamps_ms: Iterable[int] | int | None,
        headers: Iterable[Headers] | None,
    ) -> None:
        self.held: list[Any] = []
        self.records = records = ffi.new("sl_records *", _DEFAULTS[0])
        if isinstance(values, bytes | bytearray | str):  # iterable, but never what was meant
            raise InvalidArgumentError("values must be many values; append() takes a single one")
        items = values if isinstance(values, list | tuple) else list(values)
        self.count = count = len(items)
        records.count = count
        joined, lengths = _column(items, "values")
        records.values = self._hold("uint8_t[]", joined) if joined else _EMPTY
        first = lengths[:4]
        if lengths == first * count and first != _NULL:
            records.uniform_value_bytes = int.from_bytes(first, sys.byteorder)
        else:
            records.value_bytes = self._hold("int32_t[]", lengths)
        if keys is not None:
            joined, lengths = _column(self._as_long(keys, "keys"), "keys")
            records.keys = self._hold("uint8_t[]", joined) if joined else _EMPTY
            records.key_bytes = self._hold("int32_t[]", lengths)
        if isinstance(timestamps_ms, int):
            records.timestamp_ms = timestamps_ms
        elif timestamps_ms is not None:
            times = array("q", self._as_long(timestamps_ms, "timestamps_ms"))
            records.timestamps_ms = self._hold("int64_t[]", times)
        if headers is not None:
            self._fill_headers(self._as_long(headers, "headers"))

    def _hold(self, ctype: str, source: bytes | array[int]) -> Any:
        memory = ffi.from_buffer(ctype, source)
        self.held.append(memory)
        return memory

    def _as_long(self, column: Iterable[Any], name: str) -> Sequence[Any]:
        """Return ``column`` as a sequence that is as long as ``values``."""
        items = column if isinstance(column, list | tuple | array) else list(column)
        if len(items) != self.count:
            raise InvalidArgumentError(f"{name} has {len(items)} entries for {self.count} values")
        return items

    def _fill_headers(self, headers: Sequence[Headers]) -> None:
        encoded = [encode_headers(each) for each in headers]
        joined = b"".join([pair[0] for pair in encoded])
        lengths = array("i", [len(pair[0]) for pair in encoded])
        counts = array("i", [pair[1] for pair in encoded])
        self.records.headers = self._hold("uint8_t[]", joined) if joined else _EMPTY
        self.records.headers_bytes = self._hold("int32_t[]", lengths)
        self.records.headers_count = self._hold("int32_t[]", counts)


def _column(items: Sequence[Any], name: str) -> tuple[bytes, bytes]:
    """Return the bytes of all items back to back, and the int32 length of each, -1 for None."""
    try:
        try:
            joined = b"".join(items)
            lengths = list(map(len, items))
            if sum(lengths) == len(joined):
                return joined, struct.pack(f"{len(items)}i", *lengths)
        except TypeError:
            pass  # a None among them, or something that is not bytes
        parts = [None if item is None else _as_bytes(item, name) for item in items]
        lengths = [-1 if part is None else len(part) for part in parts]
        return b"".join(filter(None, parts)), struct.pack(f"{len(items)}i", *lengths)
    except struct.error as error:
        raise TooLargeError(f"an entry of {name} is 2 GiB or larger") from error


def _as_bytes(item: Any, name: str) -> bytes:
    try:
        return item if isinstance(item, bytes) else bytes(memoryview(item))
    except TypeError as error:
        raise InvalidArgumentError(
            f"{name} must be bytes-like or None, not {type(item).__name__}"
        ) from error
