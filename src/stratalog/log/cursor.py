"""Reading: a cursor over the log, and records made from the columns it fills.

    sl_cursor_next --> columns   offsets        [ 7    8    9   ]
                                 value_start    [ 68   170  272 ]   positions within `base`
                                 value_end      [ 168  270  372 ]
                       base, pin                 segment's map, or a decompressed batch

One C call decodes up to 512 records.  Values are sliced by one comprehension; records are made by
another C call (_native_records.c):

    values   [memory[start:end] for start, end in zip(starts, ends)]
    records  a list of Record, each field set in place

(The comprehension takes 70 ns a slice, ``map(memory.__getitem__, map(slice, ...))`` 120: the former
uses one slice object over and over.)

Lifetime of what is handed out.  Each chunk has one memoryview, and every key and value is a slice
of it.  slice -> memoryview -> Pinned (_native_records.c) -> pin: when the last slice goes, the pin
is released and the segment's map may go too.  Nothing here is bound to the cursor or the log, so
views outlive both.  They are read-only: a store into the map would be a SIGSEGV.

Lifetime of the cursor.  It needs the handle and holds it through its own destructor; its Log knows
it and detaches it on close, so that no half-read iterator keeps a log open (see handle.py).

Left to others: what is where on disk, CRC, decompression (the engine).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, TypeAlias

from stratalog import config
from stratalog.errors import LogClosedError
from stratalog.log._binding import check, checked, failure, ffi, lib, pinned, record_maker
from stratalog.log.batch import Batch
from stratalog.log.records import Record, decode_headers

Bytes: TypeAlias = bytes | memoryview

_cursor_next = lib.sl_cursor_next
_make_records: Final = record_maker(Record)
_unpack = ffi.unpack
_new = ffi.new_allocator(should_clear_after_alloc=False)

_COLUMN_TYPES: Final = {
    "offsets": "int64_t[]",
    "timestamps_ms": "int64_t[]",
    "key_start": "int32_t[]",
    "key_end": "int32_t[]",
    "value_start": "int32_t[]",
    "value_end": "int32_t[]",
    "headers_start": "int32_t[]",
    "headers_count": "int32_t[]",
}
RECORD_COLUMNS: Final = tuple(_COLUMN_TYPES)
VALUE_COLUMNS: Final = ("offsets", "value_start", "value_end")


def pinned_memory(base: Any, n_bytes: int, pin: Any) -> memoryview:
    """Make memory of the log a read-only memoryview that holds its pin.

    Args:
        base: Where it starts, a ``const uint8_t *``.
        n_bytes: Its length.
        pin: The reference that keeps it alive; taken over.

    Returns:
        A memoryview; the pin is released when it and all its slices are gone.
    """
    columns = ffi.new("sl_columns *", {"base": base, "base_bytes": n_bytes, "pin": pin})
    return pinned(int(ffi.cast("uintptr_t", columns)))


class Columns:
    """An ``sl_columns`` with its arrays, filled again and again.

    Args:
        names: Which arrays are wanted.
        capacity: Records they can take.
    """

    __slots__ = ("_address", "_arrays", "capacity", "struct")

    def __init__(self, names: Iterable[str], capacity: int) -> None:
        self.capacity = capacity
        self.struct = ffi.new("sl_columns *")
        self._address = int(ffi.cast("uintptr_t", self.struct))
        self._arrays = [_new(_COLUMN_TYPES[name], capacity) for name in names]
        for name, memory in zip(names, self._arrays, strict=True):
            setattr(self.struct, name, memory)
        self.struct.capacity = capacity

    def _slices(
        self, source: Any, starts: Any, ends: Any, count: int, nulls: int
    ) -> Iterable[Bytes | None]:
        """Slice ``source`` for one column of fields, None where a field is null."""
        if nulls == self.struct.count:
            return repeat(None, count)
        places = zip(_unpack(starts, count), _unpack(ends, count), strict=True)
        if nulls == 0:
            return [source[start:end] for start, end in places]
        return [None if end < 0 else source[start:end] for start, end in places]

    def values(self, count: int, *, copy: bool) -> Iterable[Bytes | None]:
        """Return the first ``count`` values; takes over the pin."""
        struct = self.struct
        # Slicing an ffi.buffer makes bytes; it does not own the pin.
        source = ffi.buffer(struct.base, struct.base_bytes) if copy else pinned(self._address)
        values = self._slices(
            source, struct.value_start, struct.value_end, count, struct.null_values
        )
        if copy:
            lib.sl_pin_release(struct.pin)
        return values

    def records(self, count: int, *, copy: bool) -> list[Record]:
        """Return the first ``count`` records; takes over the pin."""
        headers = self._headers(count) if self.struct.with_headers else None
        return _make_records(copy, self._address, count, headers)

    def _headers(self, count: int) -> list[tuple[tuple[str, bytes | None], ...]]:
        """Decode the headers of the first ``count`` records; if they are bad, let the pin go."""
        struct = self.struct
        memory = memoryview(ffi.buffer(struct.base, struct.base_bytes))
        places = zip(
            _unpack(struct.headers_start, count), _unpack(struct.headers_count, count), strict=True
        )
        try:
            return [decode_headers(memory, start, n) if n else () for start, n in places]
        except BaseException:
            lib.sl_pin_release(struct.pin)
            raise


_singles: list[Columns] = []


def take_single() -> Columns:
    """Get columns for one record that no other thread uses; return them by ``give_back``."""
    try:
        return _singles.pop()
    except IndexError:
        return Columns(RECORD_COLUMNS, 1)


def give_back(columns: Columns) -> None:
    """Return columns for the next one to use."""
    if len(_singles) < config.SPARE_REQUESTS_MAX:
        _singles.append(columns)


class Cursor:
    """A place in a log that moves on as it is read.  One thread at a time.

    Args:
        log: The Log, kept alive for as long as the cursor.
        handle: Its handle.
        start_offset: Where to begin, in ``[log_start_offset, log_end_offset]``.
        end_offset: Where to end, exclusive; None: at whatever end the log has by then.
        flags: SL_READ_* flags.
        columns: Which arrays of ``sl_columns`` are wanted.
        copy: Hand out bytes instead of memoryviews.

    Raises:
        OffsetOutOfRangeError: ``start_offset`` lies outside the log.
    """

    __slots__ = (
        "__weakref__", "_columns", "_cursor", "_log", "_names", "copy", "end_offset", "next_offset",
    )  # fmt: skip

    def __init__(
        self,
        log: object,
        handle: Any,
        start_offset: int,
        *,
        end_offset: int | None = None,
        flags: int = 0,
        columns: tuple[str, ...] = RECORD_COLUMNS,
        copy: bool = False,
    ) -> None:
        out = ffi.new("sl_cursor **")
        try:
            check(lib.sl_cursor_open(handle, start_offset, flags, out))
            # The destructor holds the handle: it goes after the cursor, never before.
            self._cursor: Any = ffi.gc(out[0], partial(_close_cursor, handle))
        finally:
            del handle  # an error's traceback keeps this frame, and must not keep the log open
        self._log = log
        self._names = columns
        self._columns: Columns | None = None
        self.copy = copy
        self.end_offset = end_offset
        self.next_offset = start_offset

    def detach(self) -> None:
        """Let go of the log; the next read raises LogClosedError.  Called by ``Log.close``."""
        self._cursor = None

    @property
    def skipped_bytes(self) -> int:
        """Damaged bytes passed over so far, with skip_corrupt."""
        cursor = self._cursor
        return 0 if cursor is None else int(lib.sl_cursor_skipped_bytes(cursor))

    def fill(self) -> tuple[Columns, int]:
        """Decode the next records; the caller takes over the pin if the count is not 0.

        Returns:
            The columns, and how many records of them lie before ``end_offset``; 0 at the end.

        Raises:
            LogClosedError: The log was closed meanwhile.
            CorruptLogError: The next batch is damaged; the cursor stays before it.
        """
        end_offset = self.end_offset
        columns = self._columns
        if columns is None:
            columns = self._columns = Columns(self._names, config.READ_CHUNK_RECORDS_FIRST)
        elif columns.struct.count == columns.capacity < config.READ_CHUNK_RECORDS_MAX:
            columns = self._columns = Columns(self._names, config.READ_CHUNK_RECORDS_MAX)
        struct = columns.struct
        if end_offset is not None:
            if self.next_offset >= end_offset:
                return columns, 0
            # Offsets grow by at least 1: no more records than that can lie before the end.
            struct.capacity = min(columns.capacity, end_offset - self.next_offset)
        try:
            count: int = _cursor_next(self._cursor, struct)
        except TypeError:  # None is no cursor: detached, perhaps a moment ago by another thread
            raise LogClosedError("the log was closed while it was being read") from None
        if count < 0:
            raise failure(-count)
        if count:
            self.next_offset = struct.next_offset
            if end_offset is not None and self.next_offset > end_offset:
                count = bisect_left(_unpack(struct.offsets, count), end_offset)
                if count == 0:
                    lib.sl_pin_release(struct.pin)
        return columns, count

    def read_ahead(self) -> Iterator[Record] | None:
        """Return the next chunk of records, or None at the end."""
        columns, count = self.fill()
        return iter(columns.records(count, copy=self.copy)) if count else None

    def records(self) -> Iterator[Record]:
        """Return the records up to the end."""
        return chain.from_iterable(self._record_chunks())

    def values(self) -> Iterator[Bytes | None]:
        """Return the values up to the end."""
        return chain.from_iterable(self._value_chunks())

    def _record_chunks(self) -> Iterator[list[Record]]:
        while True:
            columns, count = self.fill()
            if not count:
                return
            yield columns.records(count, copy=self.copy)

    def _value_chunks(self) -> Iterator[Iterable[Bytes | None]]:
        while True:
            columns, count = self.fill()
            if not count:
                return
            yield columns.values(count, copy=self.copy)

    def batches(self) -> Iterator[Batch]:
        """Yield whole batches up to the first one that begins at or after the end."""
        view = ffi.new("sl_batch_view *")
        while self.end_offset is None or self.next_offset < self.end_offset:
            try:
                found = lib.sl_cursor_next_batch(self._cursor, view)
            except TypeError:
                raise LogClosedError("the log was closed while it was being read") from None
            if not checked(found):
                return
            data = pinned_memory(view.data, view.header.batch_bytes, view.pin)
            if self.end_offset is not None and view.header.base_offset >= self.end_offset:
                return
            self.next_offset = view.header.last_offset + 1
            if self.copy:
                data = memoryview(bytes(data))
            yield Batch.from_view(view, data)


def lookup_records(
    offsets: Iterable[int],
    timestamps_ms: list[int],
    key_bytes: list[int],
    value_bytes: list[int],
    data: bytes,
) -> list[Record | None]:
    """Cut apart what ``sl_log_lookup_many`` gave.

    Args:
        offsets: As asked for.
        timestamps_ms: One for each.
        key_bytes: Lengths; -1 is null.
        value_bytes: Lengths; -1 is null, -2: no such record.
        data: Keys and values back to back.

    Returns:
        One entry for each offset, None where there is no record; copies.
    """
    records: list[Record | None] = []
    position = 0
    for offset, timestamp_ms, key_length, value_length in zip(
        offsets, timestamps_ms, key_bytes, value_bytes, strict=True
    ):
        if value_length == -2:
            records.append(None)
            continue
        key_end = position + max(key_length, 0)
        value_end = key_end + max(value_length, 0)
        key = None if key_length < 0 else data[position:key_end]
        value = None if value_length < 0 else data[key_end:value_end]
        position = value_end
        records.append(Record(offset, timestamp_ms, key, value))
    return records


def _close_cursor(_handle: Any, cursor: Any) -> None:
    lib.sl_cursor_close(cursor)
