"""Transaction logs: appended in groups, rolled, read one after the other.

    append(payloads) --> gathered --request--> the journal's thread writes, syncs --> durable_zxid()

    log.1            log.5f3              log.a02
    | 1 ... 5f2 |    | 5f3 ... a01 |      | a02 ...        000000 |
      closed           closed               being written

A log is begun by the first transaction after a start or a roll, is named by its zxid, and is never
opened for writing again, but for ``mend``.  It is begun once the one before it is durable: what
comes in between waits in memory.  So a power loss tears one log only, the last.

Reading accepts what a crash leaves at the end of a log (torn.py), and tells of it; anything else
that is no record is damage: CorruptTxnLogError names the file and the position, and nothing is read
past it.  ``mend`` cuts what a crash left, so that whoever reads the directory later, such as
Apache's server, need not judge again.

What is not seen here is a transaction that is missing between two logs: who replays them holds each
zxid against the one before (the server's recovery).

Source: ``FileTxnLog.java``, ``SyncRequestProcessor.java``.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stratalog.errors import CorruptTxnLogError, JuteError, StorageError, StratalogError
from stratalog.storage.journal import RESERVE_BYTES_MAX, RESERVE_BYTES_MIN, Journal
from stratalog.storage.zookeeper.torn import Torn, end_of_data, explain
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.txn_log import (
    HEADER,
    HEADER_BYTES,
    check_header,
    encode_records,
    log_name,
    read_records,
)
from stratalog.wire.zookeeper.txns import TxnHeader

_PREFIX: Final = "log."
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


def read_log(
    path: Path, *, record_bytes_max: int, torn: list[Torn] | None = None
) -> Iterator[Logged]:
    """Yield the transactions of one log, up to its end or what a crash left there.

    Args:
        path: The log.
        record_bytes_max: A longer payload is damage.
        torn: What a crash left is added here.

    Raises:
        CorruptTxnLogError: It is damaged; names file and position.
        StorageError: The system refused.
    """
    found = [] if torn is None else torn
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, os.SEEK_END)
            if file_bytes < HEADER_BYTES:
                found.append(Torn(path, 0, file_bytes, "a log without its header"))
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from _read_mapped(path, data, record_bytes_max, found)
    except OSError as error:
        raise StorageError(
            error.strerror or "cannot read", path=str(path), system_errno=error.errno or 0
        ) from error


def _read_mapped(
    path: Path, data: mmap.mmap, record_bytes_max: int, torn: list[Torn]
) -> Iterator[Logged]:
    position = HEADER_BYTES
    view = memoryview(data)
    try:
        if not any(data[:HEADER_BYTES]):
            _no_header(path, view)
            torn.append(Torn(path, 0, 0, "a log without its header"))
            return
        check_header(view)
        try:
            for record in read_records(view, record_bytes_max=record_bytes_max):
                (_, _, zxid, _, _), _ = _unpack_header(record.payload, 0)
                yield Logged(path, record.position, record.end, zxid, record.payload)
                position = record.end
        except CorruptTxnLogError as error:
            _end(path, view, position, record_bytes_max, torn, error.message)
        else:
            _end(path, view, position, record_bytes_max, torn, "a record without its end")
    except CorruptTxnLogError as error:
        raise CorruptTxnLogError(error.message, path=str(path), position=error.position) from None
    except JuteError as error:
        raise CorruptTxnLogError(error.message, path=str(path), position=position) from None
    finally:
        view.release()


def _no_header(path: Path, view: memoryview) -> None:
    """A header of zeros has nothing but zeros behind it, or is damaged."""
    if end_of_data(view, 0) > 0:
        raise CorruptTxnLogError(
            "the header is zeros, and something follows", path=str(path), position=0
        )


def _end(
    path: Path,
    view: memoryview,
    position: int,
    record_bytes_max: int,
    torn: list[Torn],
    why: str,
) -> None:
    """See that a crash explains what follows the last sound record, else say ``why`` not."""
    reason = explain(view, position, record_bytes_max)
    if reason is None:
        raise CorruptTxnLogError(why, path=str(path), position=position)
    if reason:
        unread = end_of_data(view, position) - position
        torn.append(Torn(path, position, unread, reason))


def read_from(
    directory: Path, zxid: int, *, record_bytes_max: int, torn: list[Torn] | None = None
) -> Iterator[Logged]:
    """Yield the transactions of a directory's logs from ``zxid`` on; see ``read_log``.

    Raises:
        CorruptTxnLogError: A log is damaged.
        StorageError: The system refused.
    """
    logs = list_logs(directory)
    older = [log for log in logs if log.first_zxid <= zxid]
    for log in older[-1:] + [log for log in logs if log.first_zxid > zxid]:
        for logged in read_log(log.path, record_bytes_max=record_bytes_max, torn=torn):
            if logged.zxid >= zxid:
                yield logged


def mend(torn: Iterable[Torn]) -> None:
    """Cut what a crash left of logs, durably; a log without its header is removed.

    Raises:
        StorageError: The system refused.
    """
    for one in torn:
        try:
            if one.position == 0:
                one.path.unlink()
            else:
                with one.path.open("r+b") as file:
                    file.truncate(one.position)
                    os.fsync(file.fileno())
            sync_directory(one.path.parent)
        except OSError as error:
            raise StorageError(
                error.strerror or "cannot cut", path=str(one.path), system_errno=error.errno or 0
            ) from error


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


_Group = tuple[Journal, int, int]
"""What one call appended: to which journal, up to where, and its last zxid."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Transactions that wait for the log before theirs to be durable."""

    records: bytes
    first_zxid: int
    last_zxid: int


class TxnLog:
    """The log that is being written.

    Args:
        directory: ``version-2`` of the log directory; made if it is not there.
        reserve_bytes: How far a log grows at a time (``preAllocSize``).
        last_zxid: What the directory holds already.
        hold: Whether transactions may wait in memory, for a sync or at a roll.  Who answers before
            they are durable says no: then they are written at once, and a roll waits for the disk.
    """

    def __init__(
        self, directory: Path, *, reserve_bytes: int, last_zxid: int, hold: bool = True
    ) -> None:
        self._directory = directory
        self._reserve_bytes = min(max(reserve_bytes, RESERVE_BYTES_MIN), RESERVE_BYTES_MAX)
        self._journal: Journal | None = None
        self._groups: deque[_Group] = deque()
        self._rolled: list[Journal] = []
        self._rolling = False
        self._hold = hold
        self._held: list[_Held] = []
        self._durable_zxid = last_zxid
        self.last_zxid = last_zxid
        self.bytes = 0
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path | None:
        """The log that is being written; None before the first transaction."""
        return None if self._journal is None else Path(self._journal.path)

    def append(self, payloads: list[bytes], first_zxid: int, last_zxid: int) -> bool:
        """Append transactions, and ask for their sync; tell whether that began a new log.

        Raises:
            NoSpaceError: The disk is full: nothing was appended.
            LogPoisonedError: A write or sync failed, for good.
            StorageError: A new log could not be made.
        """
        records = encode_records(payloads)
        if self._rolling:
            self._held.append(_Held(records, first_zxid, last_zxid))
            self.last_zxid = last_zxid
            if not self._hold and self._journal is not None:
                journal, self._journal = self._journal, None
                self._groups.clear()
                journal.close()
            return self._begin_if_durable()
        begun = self._journal is None
        self._append(records, first_zxid, last_zxid)
        return begun

    def _append(self, records: bytes, first_zxid: int, last_zxid: int) -> None:
        if self._journal is None:
            path = self._directory / log_name(first_zxid)
            self._journal = Journal(
                path, reserve_bytes=self._reserve_bytes, head=HEADER, at_once=not self._hold
            )
        self.bytes = end = self._journal.append(records, request=True)
        self._groups.append((self._journal, end, last_zxid))
        self.last_zxid = last_zxid

    def _begin_if_durable(self) -> bool:
        """Begin the log that was rolled to, if the one before it is durable; tell whether."""
        if self._groups or not self._held:
            return False
        if self._journal is not None:
            self._rolled.append(self._journal)
            self._journal = None
        held, self._held = self._held, []
        self._rolling = False
        records = b"".join(one.records for one in held)
        self._append(records, held[0].first_zxid, held[-1].last_zxid)
        return True

    def journals(self) -> list[Journal]:
        """Return the journals whose ``fileno`` may have news."""
        current = [] if self._journal is None else [self._journal]
        return [*self._rolled, *current]

    def durable_zxid(self) -> int:
        """Return up to where transactions survive a power loss; begin a log that waited for that.

        Raises:
            LogPoisonedError: A write or sync failed, for good.
            NoSpaceError: The disk is full: a new log could not be begun.
            StorageError: The same, for another reason.
        """
        groups, known, durable = self._groups, None, 0
        while groups:
            journal, end, last_zxid = groups[0]
            if journal is not known:
                known, durable = journal, journal.durable()
            if durable < end:
                break
            self._durable_zxid = last_zxid
            groups.popleft()
        if self._held:
            self._begin_if_durable()
        return self._durable_zxid

    def roll(self) -> None:
        """Let the next transaction begin a new log, once what is in this one is durable."""
        if self._journal is not None:
            self._rolling = True
            self.bytes = 0

    @property
    def has_rolled(self) -> bool:
        """Whether there are logs to close."""
        return bool(self._rolled)

    def take_rolled(self) -> list[Journal]:
        """Return the logs to close, which are durable; closing may take as long as a sync."""
        rolled, self._rolled = self._rolled, []
        return rolled

    def close(self) -> None:
        """Sync and close everything.

        Raises:
            LogPoisonedError: A write or sync failed.
            NoSpaceError: The disk is full, and a log was still to be begun.
            StorageError: The system refused.
        """
        self._close_journals()
        if self._held:
            self._begin_if_durable()
            self._close_journals()
        self._durable_zxid = self.last_zxid

    def _close_journals(self) -> None:
        journals = self.journals()
        self._journal, self._rolled = None, []
        self._groups.clear()
        failed: StratalogError | None = None
        for journal in journals:
            try:
                journal.close()
            except StratalogError as error:
                failed = failed or error
        if failed is not None:
            raise failed
