"""Transaction logs: appended in groups, rolled, read one after the other.

    append(payloads) --> page cache --request--> the journal's thread syncs --> durable_zxid()

    log.1            log.5f3              log.a02
    | 1 ... 5f2 |    | 5f3 ... a01 |      | a02 ...        000000 |
      closed           closed               being written

A log is begun by the first transaction after a start or a roll, is named by its zxid, and is never
opened for writing again.

Reading accepts what a crash leaves at the end of a log:

    | ... | record | 000000 |                     zeros
    | ... | record | rec000 |                     a record that is not whole, then zeros
    | ... | record | re0000 | record | 000000 |   a record that lacks a sector: what was not synced
                                                  reaches the disk in any order

A record that is damaged in another way while anything follows is no crash's doing:
CorruptTxnLogError names the file and the position, and nothing is read past it.

Source: ``FileTxnLog.java``, ``SyncRequestProcessor.java``.
"""

from __future__ import annotations

import mmap
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stratalog.errors import CorruptTxnLogError, JuteError, StorageError
from stratalog.storage.journal import RESERVE_BYTES_MIN, Journal
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.txn_log import (
    HEADER,
    HEADER_BYTES,
    RECORD_OVERHEAD_BYTES,
    check_header,
    encode_record,
    log_name,
    read_records,
)
from stratalog.wire.zookeeper.txns import TxnHeader

_PREFIX: Final = "log."
_SECTOR_BYTES: Final = 512
_ALWAYS_ZERO_BYTES: Final = 4
_MAYBE_RECORD: Final = re.compile(rb"(?s)(?=\0{4}.{4}(?!\0{4})[\0-\x7f].{3})")
"""What a record may begin with: a checksum's upper half is zero, a length is not."""

_unpack_header: Final = unpacker(TxnHeader)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log on the disk."""

    path: Path
    first_zxid: int


@dataclass(frozen=True, slots=True)
class Logged:
    """A transaction read from a log, and where it stands there."""

    path: Path
    position: int
    end: int
    zxid: int
    payload: bytes


def list_logs(directory: Path) -> list[LogFile]:
    """Return the logs of a directory by their first zxid, in order."""
    found = []
    for name in names_in(directory):
        zxid = zxid_of_name(name, _PREFIX)
        if zxid is not None:
            found.append(LogFile(directory / name, zxid))
    return sorted(found, key=lambda log: log.first_zxid)


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory; none where there is no directory."""
    try:
        return [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []


def zxid_of_name(name: str, prefix: str) -> int | None:
    """Return the zxid in a file's name; None where the name is none of these."""
    if not name.startswith(prefix):
        return None
    digits = name[len(prefix) :].partition(".")[0]
    try:
        return int(digits, 16)
    except ValueError:
        return None


# ---- reading ----


def read_log(path: Path, *, record_bytes_max: int) -> Iterator[Logged]:
    """Yield the transactions of one log, up to its end or what a crash left there.

    Raises:
        CorruptTxnLogError: It is damaged; names file and position.
        StorageError: The system refused.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < HEADER_BYTES:
                return  # created, and a crash before the first record was durable
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from _read_mapped(path, data, record_bytes_max)
    except OSError as error:
        raise StorageError(
            error.strerror or "cannot read", path=str(path), system_errno=error.errno or 0
        ) from error


def _read_mapped(path: Path, data: mmap.mmap, record_bytes_max: int) -> Iterator[Logged]:
    position = HEADER_BYTES
    fault = "neither a record nor the end of the log"
    view = memoryview(data)
    try:
        if data[:HEADER_BYTES] == bytes(HEADER_BYTES) and _zeros(view, 0):
            return  # reserved, and a crash before anything was durable
        check_header(view)
        try:
            for record in read_records(view, record_bytes_max=record_bytes_max):
                (_, _, zxid, _, _), _ = _unpack_header(record.payload, 0)
                yield Logged(path, record.position, record.end, zxid, record.payload)
                position = record.end
        except CorruptTxnLogError as error:
            fault = error.message
        if _ends(view, position, record_bytes_max):
            return
    except CorruptTxnLogError as error:
        fault, position = error.message, error.position or 0
    except JuteError as error:
        fault = error.message
    finally:
        view.release()
    raise CorruptTxnLogError(fault, path=str(path), position=position)


def _ends(view: memoryview, position: int, record_bytes_max: int) -> bool:
    """Tell whether what stands at ``position``, no sound record, is what a crash leaves."""
    length = int.from_bytes(view[position + 8 : position + 12], "big", signed=True)
    if not 0 <= length <= record_bytes_max:
        return False
    end = min(position + length + RECORD_OVERHEAD_BYTES, len(view))
    if _zeros(view, end) and not _holds_record(view, position + 1, end):
        return True
    start = position + _ALWAYS_ZERO_BYTES
    while start < end:
        stop = min(start - start % _SECTOR_BYTES + _SECTOR_BYTES, len(view))
        if not any(view[start:stop]):
            return True
        start = stop
    return False


def _holds_record(view: memoryview, start: int, end: int) -> bool:
    """Tell whether a sound record begins in ``[start, end)``: then the length before it lies."""
    for found in _MAYBE_RECORD.finditer(view, start, min(end + RECORD_OVERHEAD_BYTES, len(view))):
        records = read_records(view, record_bytes_max=len(view), position=found.start())
        try:
            if next(records, None) is not None:
                return True
        except CorruptTxnLogError:
            continue
    return False


def _zeros(view: memoryview, position: int) -> bool:
    """Tell whether only zeros follow."""
    step = 1 << 20
    for start in range(position, len(view), step):
        piece = bytes(view[start : start + step])
        if piece.count(0) != len(piece):
            return False
    return True


def read_from(directory: Path, zxid: int, *, record_bytes_max: int) -> Iterator[Logged]:
    """Yield the transactions of a directory's logs from ``zxid`` on.

    Raises:
        CorruptTxnLogError: A log is damaged.
        StorageError: The system refused.
    """
    logs = list_logs(directory)
    older = [log for log in logs if log.first_zxid <= zxid]
    for log in older[-1:] + [log for log in logs if log.first_zxid > zxid]:
        for logged in read_log(log.path, record_bytes_max=record_bytes_max):
            if logged.zxid >= zxid:
                yield logged


def truncate_after(directory: Path, zxid: int, *, record_bytes_max: int) -> bool:
    """Drop every transaction after ``zxid``; tell whether it was found.

    The log that holds it is cut behind it, durably; later logs are removed.

    Raises:
        CorruptTxnLogError: The log is damaged before it.
        StorageError: The system refused.
    """
    found = None
    for logged in read_from(directory, zxid, record_bytes_max=record_bytes_max):
        if logged.zxid == zxid:
            found = logged
        break
    if found is None:
        return False
    for log in reversed(list_logs(directory)):
        if log.first_zxid > zxid:
            log.path.unlink()
    with found.path.open("r+b") as file:
        file.truncate(found.end)
        os.fsync(file.fileno())
    sync_directory(directory)
    return True


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- writing ----


@dataclass(frozen=True, slots=True)
class _Group:
    """What one call appended: to where in which journal, and its last zxid."""

    journal: Journal
    end: int
    last_zxid: int


class TxnLog:
    """The log that is being written.

    Args:
        directory: ``version-2`` of the log directory; made if it is not there.
        reserve_bytes: How far a log grows at a time (``preAllocSize``).
        last_zxid: What the directory holds already.
    """

    def __init__(self, directory: Path, *, reserve_bytes: int, last_zxid: int) -> None:
        self._directory = directory
        self._reserve_bytes = max(reserve_bytes, RESERVE_BYTES_MIN)
        self._journal: Journal | None = None
        self._groups: deque[_Group] = deque()
        self._rolled: list[Journal] = []
        self._durable_zxid = last_zxid
        self.last_zxid = last_zxid
        self.bytes = 0
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path | None:
        """The log that is being written; None before the first transaction."""
        return None if self._journal is None else Path(self._journal.path)

    def append(self, payloads: Sequence[bytes], first_zxid: int, last_zxid: int) -> bool:
        """Append transactions, and ask for their sync; tell whether that began a new log.

        Raises:
            NoSpaceError: The disk is full: nothing was appended.
            LogPoisonedError: A write or sync failed, for good.
            StorageError: A new log could not be made.
        """
        begun = self._journal is None
        records = [encode_record(payload) for payload in payloads]
        if self._journal is None:
            path = self._directory / log_name(first_zxid)
            self._journal = Journal(path, reserve_bytes=self._reserve_bytes, head=HEADER)
        end = self._journal.append(b"".join(records))
        self._journal.request()
        self._groups.append(_Group(self._journal, end, last_zxid))
        self.last_zxid = last_zxid
        self.bytes = end
        return begun

    def journals(self) -> list[Journal]:
        """Return the journals whose ``fileno`` may have news."""
        current = [] if self._journal is None else [self._journal]
        return [*self._rolled, *current]

    def durable_zxid(self) -> int:
        """Return up to where transactions survive a power loss.

        Raises:
            LogPoisonedError: A write or sync failed, for good.
        """
        groups = self._groups
        while groups and groups[0].journal.durable() >= groups[0].end:
            self._durable_zxid = groups.popleft().last_zxid
        return self._durable_zxid

    def roll(self) -> None:
        """Let the next transaction begin a new log."""
        if self._journal is not None:
            self._rolled.append(self._journal)
            self._journal = None
            self.bytes = 0

    def close_rolled(self) -> None:
        """Close the logs that are rolled and durable; may take as long as a sync."""
        waiting = {id(group.journal) for group in self._groups}
        for journal in [journal for journal in self._rolled if id(journal) not in waiting]:
            self._rolled.remove(journal)
            journal.close()

    def close(self) -> None:
        """Sync and close everything.

        Raises:
            LogPoisonedError: A write or sync failed.
        """
        self.roll()
        journals, self._rolled = self._rolled, []
        for journal in journals:
            journal.close()
        self._groups.clear()
        self._durable_zxid = self.last_zxid
