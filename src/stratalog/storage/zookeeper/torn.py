"""The end of a log: what a crash leaves there, and what no crash can.

A log is reserved as zeros and written forward.  What was not synced reaches the disk in any order
and in whole sectors, so behind the last sound record there may stand

    | sound | 0000000000000000000000000000 |     the end, closed or not
    | sound | rec| 00000000000000000000000 |     a record that was not whole when the process died
    | sound | rec|                               the same, in a file that was cut
    | sound | re|0000|rd | sound | 00000000 |     a record that lacks a sector, after a power loss:
                                                 neither it nor what follows was ever synced
    | sound | 0000|0000| sound | 0000000000 |     the same, and the lost sector holds its length
    | sound | rec00000|0000| sound | 000000 |     a sector that was written while it was filled

Each of these has zeros in it that no record wrote there.  A record that is damaged otherwise was
whole once, so it may have been acknowledged: that is damage, and nothing is dropped.  Flipped bits
are told this way wherever they stand, in the last record too, and so is a length that swallows the
records behind it.

A sector in the middle of a record counts as lost only if nothing of the record is in it.  One that
reached the disk half filled, and the next one whole, is taken for damage: a start that is refused
can be looked at, a write that is dropped cannot be brought back.

What this cannot tell apart: a disk that turns a whole sector of a synced record into zeros from one
that never got it.  A record that holds 512 zeros of its own, in one sector, and is damaged
elsewhere looks the same.  In the last log both are dropped, which the server's log says with file,
position and how much; in any other log the records behind are missed, which no restart forgives.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stratalog.wire.zookeeper.txn_log import END_OF_RECORD, RECORD_OVERHEAD_BYTES

SECTOR_BYTES: Final = 512
_LENGTH_AT: Final = 8
_LENGTH_BYTES: Final = 4
_ALWAYS_ZERO_BYTES: Final = 4
"""A checksum has 8 bytes, of which Adler-32 uses the last 4."""

_HEADER_BYTES: Final = 32
"""What every payload begins with: a transaction's zxid and time, which are not zero."""

_MAYBE_RECORD: Final = re.compile(rb"(?s)(?=\x00{4}.{4}[\x00-\x7f].{3})")


@dataclass(frozen=True, slots=True)
class Torn:
    """What a crash left of a log behind its last sound record.

    Attributes:
        path: The log.
        position: Where it begins; 0: not even the log's header is there.
        unread_bytes: From there to the last byte that is not zero.
        reason: What it is, in words.
    """

    path: Path
    position: int
    unread_bytes: int
    reason: str


def explain(view: memoryview, position: int, record_bytes_max: int) -> str | None:
    """Tell what a crash left at ``position``, where no sound record begins.

    Args:
        view: The whole log.
        position: Behind its last sound record.
        record_bytes_max: A longer record is none.

    Returns:
        "" where only zeros follow; a sentence; None where no crash explains it.
    """
    written_end = end_of_data(view, position)
    if written_end == position:
        return ""
    sector_end = position - position % SECTOR_BYTES + SECTOR_BYTES
    payload = position + RECORD_OVERHEAD_BYTES - 1
    if sector_end >= payload + _HEADER_BYTES and not any(view[payload:sector_end]):
        return "a record that is not whole"  # whatever its length says
    length = _length(view, position)
    if not 0 <= length <= record_bytes_max:
        return None
    if length == 0:
        if written_end <= position + _LENGTH_AT:
            return "a record that is not whole"
        start, end = position + _LENGTH_AT, position + _LENGTH_AT + _LENGTH_BYTES
        return "a sector that was never written" if _hole(view, position, start, end) else None
    end = position + length + RECORD_OVERHEAD_BYTES
    swallowed = _holds_record(view, position + 1, min(end, written_end), record_bytes_max)
    if swallowed:
        return None
    if written_end < end:
        # Unless what is there is a whole record, but for its length.
        whole = _is_record(view, position, written_end - position - RECORD_OVERHEAD_BYTES)
        return None if whole else "a record that is not whole"
    if not any(view[end - 1 : end - 1 + SECTOR_BYTES - (end - 1) % SECTOR_BYTES]):
        return "a record that is not whole"  # and nothing behind it in its sector
    start = position + _ALWAYS_ZERO_BYTES
    return "a sector that was never written" if _hole(view, position, start, end) else None


def end_of_data(view: memoryview, position: int) -> int:
    """Return the position behind the last byte that is not zero; ``position`` where none is."""
    step = 1 << 20
    end = len(view)
    while end > position:
        start = max(position, end - step)
        piece = bytes(view[start:end]).rstrip(b"\x00")
        if piece:
            return start + len(piece)
        end = start
    return position


def _length(view: memoryview, position: int) -> int:
    """The length of the record at ``position``; what the file ends in counts as zeros."""
    at = position + _LENGTH_AT
    found = bytes(view[at : at + _LENGTH_BYTES]).ljust(_LENGTH_BYTES, b"\x00")
    return int.from_bytes(found, "big", signed=True)


def _hole(view: memoryview, position: int, start: int, end: int) -> bool:
    """Tell whether a sector that holds some of ``[start, end)`` has nothing but zeros of a record.

    Of the first such sector only what follows ``position`` counts: what is before it was synced.
    """
    sector = start - start % SECTOR_BYTES
    while sector < end:
        of_record = bytes(view[max(sector, position) : min(sector + SECTOR_BYTES, len(view))])
        if of_record and not any(of_record):
            return True
        sector += SECTOR_BYTES
    return False


def _holds_record(view: memoryview, start: int, end: int, record_bytes_max: int) -> bool:
    """Tell whether a sound record begins in ``[start, end)``: then the length before it lies."""
    for found in _MAYBE_RECORD.finditer(view, start, min(end + RECORD_OVERHEAD_BYTES, len(view))):
        at = found.start()
        length = _length(view, at)
        if not 0 < length <= record_bytes_max or at >= end:
            continue
        if _is_record(view, at, length):
            return True
    return False


def _is_record(view: memoryview, position: int, length: int) -> bool:
    """Tell whether a record stands there whose payload has ``length`` bytes."""
    start = position + RECORD_OVERHEAD_BYTES - 1
    end = start + length
    if not start < end < len(view) or view[end] != END_OF_RECORD[0]:
        return False
    checksum = int.from_bytes(view[position : position + _LENGTH_AT], "big")
    return zlib.adler32(view[start:end]) == checksum
