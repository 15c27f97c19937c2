"""What a log tells about itself: statistics, segments, and the result of a full check.

Frozen dataclasses that mirror structs of stratalog.h field by field; the names are the same, so the
comments there hold here.  ``-1`` of C becomes None where it means "none".

Left to others: gathering the figures (the engine).
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Final

from stratalog.log._binding import ffi

PROBLEM_KINDS: Final = {1: "data", 2: "index", 3: "time_index", 4: "gap"}


@dataclass(frozen=True, slots=True)
class LogStats:
    """Counters and sizes of one handle, at one moment.

    Attributes:
        log_start_offset: First readable offset, inclusive.
        log_end_offset: Offset the next record will get.
        durable_offset: All lower offsets survive power loss.
        segment_count: Segments, the active one included.
        log_bytes: Bytes of record batches.
        reserved_bytes: Disk space reserved beyond them.
        pinned_bytes: Memory kept alive by views that were handed out.
        sync_count: ``fdatasync`` calls on the log's data, by this handle.
        roll_count: Segments begun by this handle.
        append_count: Append calls of this handle.
        recovered_batches: Batches checked when this handle opened the log.
        recovery_discarded_bytes: Torn tail cut away when this handle opened the log.
        recovery_later_batches: Sound batches seen beyond that cut: write-back was unordered.
        damage_offset: First offset lost to a repair, or None.
        poisoned_errno: Why the log takes no more appends, 0 while healthy.
        writer_alive: Read-only handle: a writer holds the lock.
    """

    log_start_offset: int
    log_end_offset: int
    durable_offset: int
    segment_count: int
    log_bytes: int
    reserved_bytes: int
    pinned_bytes: int
    sync_count: int
    roll_count: int
    append_count: int
    recovered_batches: int
    recovery_discarded_bytes: int
    recovery_later_batches: int
    damage_offset: int | None
    poisoned_errno: int
    writer_alive: bool

    @classmethod
    def from_struct(cls, struct: Any) -> LogStats:
        """Copy an ``sl_stats``."""
        fields = {field.name: getattr(struct, field.name) for field in dataclasses.fields(cls)}
        fields["damage_offset"] = None if struct.damage_offset < 0 else struct.damage_offset
        fields["writer_alive"] = bool(struct.writer_alive)
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment of a log.

    Attributes:
        base_offset: First offset, also the number in the file's name.
        end_offset: Offset after the last one.
        log_bytes: Bytes of record batches.
        index_entries: Entries of the offset index.
        time_index_entries: Entries of the time index.
        max_timestamp_ms: Latest timestamp of a record, or None when empty.
    """

    base_offset: int
    end_offset: int
    log_bytes: int
    index_entries: int
    time_index_entries: int
    max_timestamp_ms: int | None

    @classmethod
    def from_struct(cls, struct: Any) -> SegmentInfo:
        """Copy an ``sl_segment_info``."""
        fields = {field.name: getattr(struct, field.name) for field in dataclasses.fields(cls)}
        fields["max_timestamp_ms"] = (
            None if struct.max_timestamp_ms < 0 else struct.max_timestamp_ms
        )
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that ``verify`` found wrong.

    Attributes:
        path: File concerned.
        offset: Record number concerned, or None.
        position: Byte place in the file, or None.
        kind: "data", "index", "time_index" or "gap".  Indexes are hints: damage there costs
            time, never records.
        message: One sentence.
    """

    path: str
    offset: int | None
    position: int | None
    kind: str
    message: str

    @classmethod
    def from_struct(cls, struct: Any) -> Problem:
        """Copy an ``sl_problem``."""
        return cls(
            path=os.fsdecode(ffi.string(struct.path)),
            offset=struct.offset if struct.offset >= 0 else None,
            position=struct.position if struct.position >= 0 else None,
            kind=PROBLEM_KINDS.get(struct.kind, f"unknown {struct.kind}"),
            message=ffi.string(struct.message).decode(errors="replace"),
        )

    def __str__(self) -> str:
        places = [self.path]
        if self.offset is not None:
            places.append(f"offset {self.offset}")
        if self.position is not None:
            places.append(f"position {self.position}")
        return f"{self.kind}: {self.message} ({', '.join(places)})"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of reading every byte of a log.

    Attributes:
        problems: What is wrong, in the order of the files; at most 1000 for each segment.
        problem_count: How many problems there are, those not listed included.
        segments: Segments read.
        batches: Batches read.
        records: Records read.
    """

    problems: tuple[Problem, ...]
    problem_count: int
    segments: int
    batches: int
    records: int

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.problem_count == 0
