"""Log: the embedded durable log, one directory in Kafka's own layout, one handle.

    offset         0                    log_start      durable        log_end
                   |  truncate_prefix'd |  readable                   |  next append
    segments       [ 0.log             ][ 183042.log  ][ 201770.log   .........]
                                                           active      reserved ahead

Three words, never blurred (stratalog.h): what ``append`` returned is *appended* and survives the
death of this process; what lies below ``durable_offset`` is *durable* and survives power loss.

Cost per record, 100 bytes: ``append`` is one C call without any checks in Python that C makes as
well; ``append_many`` and ``read`` spread one call over thousands of records (request.py,
cursor.py).  The fast path of ``append`` is spelled out for this reason and for this reason only.

Threads share a Log freely.  ``close`` waits for calls under way; handle.py tells how, and why
nothing here keeps the handle in a local variable.  After a fork the child gets ForkedError.

Left to others: everything about bytes (the engine), Arrow columns (columns.py).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from stratalog import config
from stratalog.errors import (
    CorruptBatchError,
    LogClosedError,
    PoisonedError,
    RecordNotFoundError,
    StratalogError,
    TooLargeError,
)
from stratalog.log import codecs, options, request
from stratalog.log._binding import (
    E_CORRUPT,
    E_NOT_FOUND,
    INT32_MIN,
    NOT_PLAIN,
    append_plain,
    check,
    checked,
    failure,
    ffi,
    lib,
    not_plain,
)
from stratalog.log.cursor import (
    RECORD_COLUMNS,
    VALUE_COLUMNS,
    Cursor,
    give_back,
    lookup_records,
    take_single,
)
from stratalog.log.follow import afollow, follow
from stratalog.log.handle import Handle
from stratalog.log.info import LogStats, Problem, SegmentInfo, VerifyReport
from stratalog.log.records import BytesLike, Headers, Record, encode_headers

if TYPE_CHECKING:
    from stratalog.log.batch import Batch
    from stratalog.log.columns import Columns as ArrowColumns


def _address_of(held: tuple[object, ...]) -> Any:
    """Where CPython keeps an object that the caller keeps alive."""
    return ffi.cast("void *", id(held))


_append_record = lib.stratalog_append_record


class Log(Handle):
    """A durable log in a directory.

    One writer at a time holds a directory; any number of readers, in this process or others, may
    follow it with ``mode="r"``.

    Args:
        path: The log's directory.
        mode: "a" to read and append, "r" to read only: no lock, no change on disk.
        create: Make the directory and an empty log where there is none.
        exclusive: With ``create``: refuse a log that exists.
        repair: Damage below the recovery point: cut the log there instead of failing.
            ``stats().damage_offset`` then tells what was lost.
        segment_bytes: Begin a new segment at this length; [4096, 2**31 - 4096].
        segment_ms: Begin one when the first record of the active one is older; None: never.
        index_interval_bytes: An index entry per this many bytes at most.
        segment_index_bytes: Begin a new segment when an index reaches this length.
        batch_bytes: ``append_many`` cuts its records into batches of about this length;
            at most half a segment.
        sync: "none": ``flush`` makes durable; "interval": a thread does, every
            ``sync_interval_ms`` or ``sync_interval_bytes``; "always": ``append`` returns once
            durable, and appends of several threads share a sync.
        sync_interval_ms: See ``sync``.
        sync_interval_bytes: See ``sync``.
        codec: Compression of batches made here, unless a call says otherwise.
        codec_level: The codec's own scale; None: its default.
        leader_epoch: Written into batches that carry none; -1 for none.
        initial_offset: First offset of a log made by this call.
        decompressed_bytes_max: Bound of one batch's records after decompression.

    Raises:
        LogNotFoundError: No log there, and ``create`` is false.
        LogExistsError: A log is there, with ``exclusive``.
        LogLockedError: Another handle or process writes it.
        CorruptLogError: Damage below the recovery point; nothing was changed.
        StorageError: The system refused.
        InvalidArgumentError: An option makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: str = "a",
        create: bool = False,
        exclusive: bool = False,
        repair: bool = False,
        segment_bytes: int = config.SEGMENT_BYTES_DEFAULT,
        segment_ms: int | None = None,
        index_interval_bytes: int = config.INDEX_INTERVAL_BYTES_DEFAULT,
        segment_index_bytes: int = config.SEGMENT_INDEX_BYTES_DEFAULT,
        batch_bytes: int = config.BATCH_BYTES_DEFAULT,
        sync: str = "none",
        sync_interval_ms: int = config.SYNC_INTERVAL_MS_DEFAULT,
        sync_interval_bytes: int = config.SYNC_INTERVAL_BYTES_DEFAULT,
        codec: str = "none",
        codec_level: int | None = None,
        leader_epoch: int = -1,
        initial_offset: int = 0,
        decompressed_bytes_max: int = config.DECOMPRESSED_BYTES_MAX_DEFAULT,
    ) -> None:
        self._codec: Final = codecs.codec_number(codec)
        self._codec_level: Final = INT32_MIN if codec_level is None else codec_level
        opening = options.make_options(
            mode=mode,
            create=create,
            exclusive=exclusive,
            repair=repair,
            sync=sync,
            segment_ms=-1 if segment_ms is None else segment_ms,
            segment_bytes=segment_bytes,
            index_interval_bytes=index_interval_bytes,
            segment_index_bytes=segment_index_bytes,
            batch_bytes=min(batch_bytes, segment_bytes // 2),
            sync_interval_ms=sync_interval_ms,
            sync_interval_bytes=sync_interval_bytes,
            leader_epoch=leader_epoch,
            initial_offset=initial_offset,
            decompressed_bytes_max=decompressed_bytes_max,
        )
        super().__init__(path, mode, opening)
        self._append_plain = not_plain if self._codec else append_plain(self._live)

    # ---- offsets ----

    @property
    def log_start_offset(self) -> int:
        """First readable offset, inclusive."""
        return checked(lib.sl_log_start_offset(self._live))

    @property
    def log_end_offset(self) -> int:
        """Offset the next record will get."""
        return checked(lib.sl_log_end_offset(self._live))

    @property
    def durable_offset(self) -> int:
        """Every lower offset survives power loss."""
        return checked(lib.sl_log_durable_offset(self._live))

    # ---- appending ----

    def append(
        self,
        value: BytesLike | None,
        *,
        key: BytesLike | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> int:
        """Append one record, a batch of its own.

        Args:
            value: Its value; None is a tombstone.
            key: Its key, or None.
            timestamp_ms: Milliseconds since 1970-01-01 UTC; None: now.
            headers: Pairs of name and value.

        Returns:
            The record's offset.  It is appended; with ``sync="always"`` it is durable as well.

        Raises:
            NoSpaceError: The disk is full; nothing was appended.
            TooLargeError: The record does not fit a segment.
            ReadOnlyError, PoisonedError, LogClosedError, ForkedError: No append through this
                handle.
        """
        if key is None and timestamp_ms is None and not headers:
            try:
                offset: int = self._append_plain(value)
            except TypeError:  # None is no function
                raise LogClosedError("the log is closed", path=str(self.path)) from None
            if offset >= 0:
                return offset
            if offset != NOT_PLAIN:
                raise failure(-offset)
        encoded, header_count = encode_headers(headers) if headers else (b"", 0)
        value_memory = request.borrow(value, "value")
        key_memory = request.borrow(key, "key")
        try:
            return checked(
                _append_record(
                    self._live,
                    value_memory,
                    -1 if value is None else len(value_memory),
                    key_memory,
                    -1 if key is None else len(key_memory),
                    -1 if timestamp_ms is None else timestamp_ms,
                    encoded,
                    len(encoded),
                    header_count,
                    self._codec,
                    self._codec_level,
                )
            )
        except OverflowError as error:
            raise TooLargeError("a part of the record is out of range") from error

    def append_many(
        self,
        values: Iterable[BytesLike | None],
        *,
        keys: Iterable[BytesLike | None] | None = None,
        timestamps_ms: Iterable[int] | int | None = None,
        headers: Iterable[Headers] | None = None,
        codec: str | None = None,
        atomic: bool = False,
    ) -> int:
        """Append many records with one call; the fast way.

        Args:
            values: Their values; a list or tuple is quickest.
            keys: As many keys, or None: no record has one.
            timestamps_ms: As many timestamps, or one for all, or None: now.
            headers: As many sets of headers, or None: no record has any.
            codec: Compression of these batches; None: the log's.
            atomic: All in one batch, kept or lost together in a crash, whatever ``batch_bytes``
                says.

        Returns:
            Offset of the first record; the others follow without a gap.  ``log_end_offset`` when
            there are no values.

        Raises:
            InvalidArgumentError: Columns differ in length, or hold something else than bytes.
            StratalogError: As for :meth:`append`.  Batches before the failed one stay appended;
                ``log_end_offset`` tells.
        """
        number = self._codec if codec is None else codecs.codec_number(codec)
        level = self._codec_level if number == self._codec else INT32_MIN
        if keys is None and headers is None and isinstance(values, list | tuple) and values:
            timestamp_ms = -1 if timestamps_ms is None else timestamps_ms
            if isinstance(timestamp_ms, int):
                # A tuple cannot change while C looks at its items without the interpreter's lock.
                held = tuple(values)
                offset: int = lib.stratalog_append_values(
                    self._live, _address_of(held), timestamp_ms, number, level, atomic
                )
                if offset != NOT_PLAIN:
                    return checked(offset)
        many = request.ManyRequest(values, keys, timestamps_ms, headers)
        if not many.count:
            return self.log_end_offset
        records = many.records
        records.codec = number
        records.codec_level = level
        records.one_batch = atomic
        return checked(lib.sl_log_append(self._live, records))

    def append_batch(self, raw: BytesLike, *, leader_epoch: int = -1, validate: bool = True) -> int:
        """Append complete batches as a producer encoded them; only offset and epoch change.

        Args:
            raw: One or more record batches v2, back to back.
            leader_epoch: Written into them; -1 keeps theirs.
            validate: Check CRC and every record; otherwise framing alone.

        Returns:
            Offset given to the first record.

        Raises:
            CorruptBatchError: A batch is damaged; ``position`` is its place within ``raw``.
            StratalogError: As for :meth:`append`.
        """
        checks = lib.SL_CHECK_RECORDS if validate else lib.SL_CHECK_HEADER
        data = request.borrow(raw, "raw")
        return _appended(
            lib.sl_log_append_batches(self._live, data, len(data), leader_epoch, checks)
        )

    def append_replicated(self, raw: BytesLike) -> int:
        """Append batches fetched from a leader, offsets and epochs as they are.

        Args:
            raw: One or more record batches v2; the first base offset is >= ``log_end_offset``.

        Returns:
            The first base offset.

        Raises:
            CorruptBatchError: A batch is damaged, or offsets go backwards.
            StratalogError: As for :meth:`append`.
        """
        data = request.borrow(raw, "raw")
        return _appended(lib.sl_log_append_replicated(self._live, data, len(data)))

    # ---- durability ----

    def flush(self) -> None:
        """Make everything appended so far durable.

        Raises:
            PoisonedError: The sync failed, now or earlier.
        """
        check(lib.sl_log_flush(self._live))

    def wait_durable(self, offset: int, timeout: float | None = None) -> None:
        """Return once the record ``offset`` is durable, syncing if need be.

        Args:
            offset: A record's offset, inclusive: ``durable_offset > offset`` on return.
            timeout: Seconds; None: no limit.

        Raises:
            WaitTimeoutError: Not yet durable.
            PoisonedError: A sync failed.
        """
        timeout_ms = -1 if timeout is None else max(0, round(timeout * 1000))
        check(lib.sl_log_wait_durable(self._live, offset + 1, timeout_ms))

    async def durable(self, offset: int | None = None) -> None:
        """Return once the record ``offset`` is durable, without blocking the event loop.

        Args:
            offset: A record's offset, inclusive; None: everything appended before this call.

        Raises:
            PoisonedError: A sync failed.
            LogClosedError: The log was closed before it could be made durable.
        """
        end_offset = self.log_end_offset if offset is None else offset + 1
        await self._durable_waiters.wait(end_offset, self._request_durable, self._durable_state)

    def _request_durable(self, end_offset: int, event_fd: int) -> None:
        check(lib.sl_log_request_durable(self._live, end_offset, event_fd))

    def _durable_state(self) -> tuple[int, StratalogError | None]:
        durable_offset = self.durable_offset
        poisoned_errno = self._stats_struct().poisoned_errno
        if not poisoned_errno:
            return durable_offset, None
        return durable_offset, PoisonedError(
            "a sync failed", path=str(self.path), system_errno=poisoned_errno
        )

    # ---- reading ----

    def _cursor(
        self,
        start_offset: int | None,
        end_offset: int | None,
        *,
        flags: int = 0,
        columns: tuple[str, ...] = RECORD_COLUMNS,
        copy: bool = False,
    ) -> Cursor:
        """Open a cursor that ``close`` knows of; the end is the log's, now, unless given."""
        if end_offset is None:
            self.refresh()
            end_offset = self.log_end_offset
        if start_offset is None:
            start_offset = self.log_start_offset
        cursor = Cursor(
            self,
            self._live,
            start_offset,
            end_offset=None if end_offset < 0 else end_offset,
            flags=flags,
            columns=columns,
            copy=copy,
        )
        self._adopt(cursor)
        return cursor

    def read(
        self,
        start_offset: int | None = None,
        *,
        end_offset: int | None = None,
        copy: bool = False,
        skip_corrupt: bool = False,
        include_control: bool = False,
    ) -> Iterator[Record]:
        """Iterate over the records ``[start_offset, end_offset)``.

        Args:
            start_offset: First offset wanted, in ``[log_start_offset, log_end_offset]``; None: the
                log's start.
            end_offset: Offset to stop before; None: the log's end at the time of this call.
            copy: Hand out keys and values as bytes; they hold nothing of the log.
            skip_corrupt: Go on after damage at the next sound batch.
            include_control: Also the markers of transactions.

        Returns:
            An iterator of :class:`Record`.  Keys and values are read-only memoryviews into the
            log's map, or into a decompressed batch, valid for as long as they live.

        Raises:
            OffsetOutOfRangeError: ``start_offset`` lies outside the log; raised by this call.
            CorruptLogError: Damage, raised by the iterator when it gets there.
        """
        flags = (lib.SL_READ_SKIP_CORRUPT if skip_corrupt else 0) | (
            lib.SL_READ_CONTROL if include_control else 0
        )
        return self._cursor(start_offset, end_offset, flags=flags, copy=copy).records()

    @overload
    def read_values(
        self,
        start_offset: int | None = None,
        *,
        end_offset: int | None = None,
        copy: Literal[False] = False,
    ) -> Iterator[memoryview | None]: ...

    @overload
    def read_values(
        self,
        start_offset: int | None = None,
        *,
        end_offset: int | None = None,
        copy: Literal[True],
    ) -> Iterator[bytes | None]: ...

    def read_values(
        self,
        start_offset: int | None = None,
        *,
        end_offset: int | None = None,
        copy: bool = False,
    ) -> Iterator[Any]:
        """Iterate over values alone; the quickest way to read.

        Args:
            start_offset: As for :meth:`read`.
            end_offset: As for :meth:`read`.
            copy: Hand out bytes instead of memoryviews.

        Returns:
            An iterator of read-only memoryviews, None for a tombstone.

        Raises:
            StratalogError: As for :meth:`read`.
        """
        return self._cursor(start_offset, end_offset, columns=VALUE_COLUMNS, copy=copy).values()

    def read_batches(
        self,
        start_offset: int | None = None,
        *,
        end_offset: int | None = None,
        copy: bool = False,
        skip_corrupt: bool = False,
    ) -> Iterator[Batch]:
        """Iterate over whole batches as they stand on disk, compressed and control ones too.

        Args:
            start_offset: The first batch is the one that holds it; None: the log's start.
            end_offset: Batches that begin before it; None: the log's end at the time of this call.
            copy: Copy the bytes out of the map.
            skip_corrupt: Go on after damage at the next sound batch.

        Returns:
            An iterator of :class:`Batch`.

        Raises:
            StratalogError: As for :meth:`read`.
        """
        flags = lib.SL_READ_SKIP_CORRUPT if skip_corrupt else 0
        return self._cursor(start_offset, end_offset, flags=flags, copy=copy).batches()

    def get(self, offset: int, *, copy: bool = False) -> Record:
        """Return the record with this offset.

        Args:
            offset: In ``[log_start_offset, log_end_offset)``.
            copy: Hand out key and value as bytes.

        Raises:
            OffsetOutOfRangeError: The offset lies outside the log.
            RecordNotFoundError: Compaction removed the record.
        """
        columns = take_single()
        try:
            count = lib.sl_log_get(self._live, offset, columns.struct)
            if count < 0:
                not_found = RecordNotFoundError if count == -E_NOT_FOUND else None
                raise failure(-count, not_found)
            (record,) = columns.records(1, copy=copy)
        finally:
            give_back(columns)
        if record.offset != offset:
            del record  # the traceback would keep its memory pinned
            raise RecordNotFoundError(
                "no record has this offset", path=str(self.path), offset=offset
            )
        return record

    def lookup_many(self, offsets: Sequence[int]) -> list[Record | None]:
        """Return the records with these offsets, copied, without headers.

        Args:
            offsets: In any order.

        Returns:
            One entry for each offset: the record with key and value as bytes, or None where there
            is no such record.
        """
        wanted = offsets if isinstance(offsets, array) else array("q", offsets)
        count = len(wanted)
        memory = ffi.from_buffer("int64_t[]", wanted)
        times = ffi.new("int64_t[]", count)
        key_bytes = ffi.new("int32_t[]", count)
        value_bytes = ffi.new("int32_t[]", count)
        out = ffi.new("sl_buffer *")
        try:
            checked(
                lib.sl_log_lookup_many(
                    self._live, memory, count, times, key_bytes, value_bytes, out
                )
            )
            data = bytes(ffi.buffer(out.data, out.bytes)) if out.bytes else b""
        finally:
            lib.sl_buffer_free(out)
        return lookup_records(
            wanted,
            ffi.unpack(times, count),
            ffi.unpack(key_bytes, count),
            ffi.unpack(value_bytes, count),
            data,
        )

    def offset_for_timestamp(self, timestamp_ms: int) -> int | None:
        """Return the first offset whose record is as late as ``timestamp_ms`` or later.

        Args:
            timestamp_ms: Milliseconds since 1970-01-01 UTC.

        Returns:
            The offset, or None when every record is older.
        """
        offset: int = lib.sl_log_offset_for_timestamp(self._live, timestamp_ms, ffi.NULL)
        return None if offset == -E_NOT_FOUND else checked(offset)

    def columns(
        self, start_offset: int | None = None, end_offset: int | None = None
    ) -> ArrowColumns:
        """Return a stretch of the log for readers of the Arrow protocol, without copying it.

        Args:
            start_offset: First offset, inclusive; None: the log's start.
            end_offset: Exclusive; None: the log's end at the time of this call.

        Returns:
            An object for ``pyarrow.table``, ``polars.DataFrame``, ``duckdb.sql`` and the like.
        """
        from stratalog.log.columns import Columns as ArrowColumns  # noqa: PLC0415  # loads ctypes

        self.refresh()
        start_offset = self.log_start_offset if start_offset is None else start_offset
        end_offset = self.log_end_offset if end_offset is None else end_offset
        return ArrowColumns(self, start_offset, end_offset)

    def follow(
        self, start_offset: int | None = None, *, timeout: float | None = None, copy: bool = False
    ) -> Iterator[Record]:
        """Iterate over the records from ``start_offset`` on, and over those still to come.

        Args:
            start_offset: First offset wanted; None: the log's start.  For new records only give
                ``log_end_offset``.
            timeout: End after this many seconds without a record; None: never.
            copy: Hand out keys and values as bytes.

        Returns:
            An iterator that waits, with up to 5 ms of delay.

        Raises:
            StratalogError: As for :meth:`read`; LogClosedError once the log is closed.
        """
        return follow(self._cursor(start_offset, -1, copy=copy), timeout)

    def afollow(
        self, start_offset: int | None = None, *, timeout: float | None = None, copy: bool = False
    ) -> AsyncIterator[Record]:
        """As :meth:`follow`, for ``async for``: waits without blocking the event loop."""
        return afollow(self._cursor(start_offset, -1, copy=copy), timeout)

    def refresh(self) -> None:
        """Look for what the writer has done since, through a read-only handle; else do nothing.

        Reading does it by itself; ``log_end_offset`` and ``segments`` do not.
        """
        if self.mode == "r":
            check(lib.sl_log_refresh(self._live))

    # ---- shape ----

    def truncate_prefix(self, offset: int) -> None:
        """Drop the records below ``offset``; durable and atomic.

        Whole segments below it are deleted; views that were handed out keep their memory.

        Raises:
            OffsetOutOfRangeError: Outside ``[log_start_offset, log_end_offset]``.
        """
        check(lib.sl_log_truncate_prefix(self._live, offset))

    def truncate_suffix(self, offset: int) -> None:
        """Drop the records from ``offset`` on; durable and atomic.

        Raises:
            OffsetOutOfRangeError: Outside ``[log_start_offset, log_end_offset]``.
        """
        check(lib.sl_log_truncate_suffix(self._live, offset))

    def roll(self) -> None:
        """Begin a new segment now; nothing happens when the active one is empty."""
        check(lib.sl_log_roll(self._live))

    def _stats_struct(self) -> Any:
        struct = ffi.new("sl_stats *")
        check(lib.sl_log_stats(self._live, struct))
        return struct

    def stats(self) -> LogStats:
        """Return counters and sizes."""
        return LogStats.from_struct(self._stats_struct())

    def segments(self) -> list[SegmentInfo]:
        """Return what is known of each segment, first to last; the last one is active."""
        struct = ffi.new("sl_segment_info *")
        segments = []
        for number in range(checked(lib.sl_log_segment_count(self._live))):
            check(lib.sl_log_segment_info(self._live, number, struct))
            segments.append(SegmentInfo.from_struct(struct))
        return segments

    def verify(self, progress: Callable[[int], object] | None = None) -> VerifyReport:
        """Read every byte: framing, CRC, records, order, and both indexes against the data.

        Args:
            progress: Called after each segment with the bytes it had; all calls together make up
                ``stats().log_bytes``.

        Returns:
            What is wrong, and how much was read.  Damage is reported, never raised.
        """
        segments = self.segments()
        listed_max = config.VERIFY_PROBLEMS_MAX
        found = ffi.new("sl_problem[]", listed_max)
        batches = ffi.new("int64_t *")
        records = ffi.new("int64_t *")
        problems: list[Problem] = []
        problem_count = batch_count = record_count = 0
        for number, segment in enumerate(segments):
            count = checked(
                lib.sl_log_verify_segment(self._live, number, found, listed_max, batches, records)
            )
            problem_count += count
            batch_count += batches[0]
            record_count += records[0]
            problems.extend(
                Problem.from_struct(found[index]) for index in range(min(count, listed_max))
            )
            if progress:
                progress(segment.log_bytes)
        return VerifyReport(
            problems=tuple(problems),
            problem_count=problem_count,
            segments=len(segments),
            batches=batch_count,
            records=record_count,
        )


def _appended(result: int) -> int:
    """Return an offset, or raise; damage is in the caller's bytes then, not in the log's."""
    if result == -E_CORRUPT:
        raise failure(E_CORRUPT, CorruptBatchError)
    return checked(result)
