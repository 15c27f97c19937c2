"""The bytes of a transaction log, ``log.<first zxid in hex>``.

    +--------+-----------+------------+
    | "ZKLG" | version 2 | dbid 0     |   header, 16 bytes
    | 4      | 4         | 8          |
    +--------+-----------+------------+--------+
    | Adler-32 of payload | length     | payload             | "B"  |   a record, 13 bytes more than
    | 8                   | 4          | length              | 1    |   its payload (txns.py)
    +---------------------+------------+---------------------+------+
    | zeros to a multiple of the preallocation                      |
    +---------------------------------------------------------------+

How a log ends:

    length 0, or the end of the file              the end
    a record that the file ends in, or whose      torn: a crash, and the end; reading goes on in the
    last byte is not "B"                          next log
    a wrong Adler-32, an impossible length        damage: CorruptTxnLogError, and no further

Source: ``FileTxnLog.java``, ``Util.java``, ``FilePadding.java``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stratalog.errors import CorruptTxnLogError
from stratalog.wire.zookeeper._records import encode_records
from stratalog.wire.zookeeper.txns import Transaction

__all__ = [
    "END_OF_RECORD", "HEADER", "HEADER_BYTES", "MAGIC", "PADDING_LOOKAHEAD_BYTES",
    "RECORD_OVERHEAD_BYTES", "VERSION", "LogRecord", "check_header", "encode_record",
    "encode_records", "file_bytes_with_padding", "log_name", "read_records",
]  # fmt: skip

MAGIC: Final = b"ZKLG"
VERSION: Final = 2
END_OF_RECORD: Final = b"B"
RECORD_OVERHEAD_BYTES: Final = 13
PADDING_LOOKAHEAD_BYTES: Final = 4096

_HEADER: Final = struct.Struct(">4siq")
_PREFIX: Final = struct.Struct(">qi")

HEADER: Final = _HEADER.pack(MAGIC, VERSION, 0)
"""The bytes that a log begins with."""

HEADER_BYTES: Final = len(HEADER)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A payload and where its record stands: bytes ``[position, end)`` of the file."""

    position: int
    end: int
    payload: bytes

    def transaction(self) -> Transaction:
        """Decode the payload; raises JuteError where it is none."""
        return Transaction.decode(self.payload)


def encode_record(payload: bytes) -> bytes:
    """Return the record of a payload."""
    return encode_records([payload])


def check_header(data: bytes | memoryview) -> None:
    """See that ``data`` begins like a log.

    Raises:
        CorruptTxnLogError: It does not; ``position`` 0.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptTxnLogError(
            f"{len(data)} bytes are no header of a transaction log", position=0
        )
    magic, version, _dbid = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise CorruptTxnLogError(
            f"a transaction log begins with {MAGIC!r}, not {magic!r}", position=0
        )
    if version != VERSION:
        raise CorruptTxnLogError(f"version {version} of transaction logs is unknown", position=4)


def read_records(
    data: bytes | memoryview, *, record_bytes_max: int, position: int = HEADER_BYTES
) -> Iterator[LogRecord]:
    """Read the records from ``position`` on, up to the end or a torn one.

    Args:
        data: The whole file.
        record_bytes_max: A longer payload is damage (``jute.maxbuffer`` and its stretch).
        position: Where a record begins.

    Raises:
        CorruptTxnLogError: A checksum is wrong or a length impossible.
    """
    end_of_file = len(data)
    while position + _PREFIX.size <= end_of_file:
        checksum, length = _PREFIX.unpack_from(data, position)
        if length == 0:
            return
        if length < 0 or length > record_bytes_max:
            raise CorruptTxnLogError(f"a record of {length} bytes", position=position)
        start = position + _PREFIX.size
        end = start + length
        if end >= end_of_file or data[end] != END_OF_RECORD[0]:
            return
        payload = bytes(data[start:end])
        if zlib.adler32(payload) != checksum:
            raise CorruptTxnLogError("Adler-32 mismatch", position=position)
        yield LogRecord(position, end + 1, payload)
        position = end + 1


def file_bytes_with_padding(position: int, file_bytes: int, preallocate_bytes: int) -> int:
    """Return how long the file must be before a record is written at ``position``.

    It grows by ``preallocate_bytes`` when less than 4 KiB are left; 0 turns that off.
    """
    if preallocate_bytes <= 0 or position + PADDING_LOOKAHEAD_BYTES < file_bytes:
        return file_bytes
    if position > file_bytes:
        grown = position + preallocate_bytes
        return grown - grown % preallocate_bytes
    return file_bytes + preallocate_bytes


def log_name(first_zxid: int) -> str:
    """Return the name of the log that begins with ``first_zxid``."""
    return f"log.{first_zxid & 0xFFFFFFFFFFFFFFFF:x}"
