"""Every way stratalog fails, as one tree; each error names the place and what the reader can do.

    StratalogError
    +-- InvalidArgumentError     ValueError         an argument is wrong; nothing happened
    +-- OffsetOutOfRangeError    IndexError         outside [log_start_offset, log_end_offset]
    +-- RecordNotFoundError      LookupError        no record has this offset (compacted away)
    +-- LogNotFoundError         FileNotFoundError  no log in this directory
    +-- LogExistsError           FileExistsError    exclusive creation where a log is
    +-- StorageError             OSError            the system refused; errno says why
    |   +-- NoSpaceError                            disk full: nothing of the call is kept
    |   `-- PoisonedError                           an earlier sync failed; no retry can help
    +-- OutOfMemoryError         MemoryError        nothing happened
    +-- CorruptLogError                             bytes on disk are damaged
    |   `-- CorruptBatchError                       bytes given to append_batch are; not ours
    +-- CorruptTxnLogError                          a transaction log is, and no crash did it
    +-- CorruptSnapshotError                        a snapshot is damaged or unfinished
    +-- JuteError                                   bytes are not the record they should be
    +-- LogLockedError                              another handle or process writes this log
    +-- DirectoryLockedError                        another server uses this data directory
    +-- ConfigurationError       ValueError         a configuration that no server can start with
    +-- LogClosedError           ValueError         the handle was closed
    +-- ForkedError                                 the handle belongs to the parent process
    +-- ReadOnlyError                               a write through a read-only handle
    +-- TooLargeError            ValueError         a record or batch exceeds a limit of the log
    +-- CodecError                                  a codec failed or exceeded its output bound
    +-- UnsupportedFormatError                      message format v0 or v1
    `-- WaitTimeoutError         TimeoutError       the wait ended before the event

Who can act decides the class.  The caller: InvalidArgument, OffsetOutOfRange, RecordNotFound,
LogClosed, ReadOnly, TooLarge, WaitTimeout.  The operator: NoSpace, Storage, LogLocked, CorruptLog,
CorruptTxnLog, CorruptSnapshot, DirectoryLocked, Configuration.  Nobody within this process:
Poisoned, Forked.  Where Python has a word for the case, the class is also that one, so
``except FileNotFoundError`` and ``except OSError`` do what they say.

The text of an error is ``what happened (where); what to do``.

Left to others: finding the facts (error.c, in the engine) and fetching them (log/_binding.py).
"""

from __future__ import annotations

import errno
from typing import ClassVar

__all__ = [
    "CodecError",
    "ConfigurationError",
    "CorruptBatchError",
    "CorruptLogError",
    "CorruptSnapshotError",
    "CorruptTxnLogError",
    "DirectoryLockedError",
    "ForkedError",
    "InvalidArgumentError",
    "JuteError",
    "LogClosedError",
    "LogExistsError",
    "LogLockedError",
    "LogNotFoundError",
    "NoSpaceError",
    "OffsetOutOfRangeError",
    "OutOfMemoryError",
    "PoisonedError",
    "ReadOnlyError",
    "RecordNotFoundError",
    "StorageError",
    "StratalogError",
    "TooLargeError",
    "UnsupportedFormatError",
    "WaitTimeoutError",
    "error_for_status",
]


class StratalogError(Exception):
    """Root of the tree; raised itself only for a status this version does not know.

    Attributes:
        message: What happened, one sentence without place and remedy.
        path: File or directory concerned, or None.
        offset: Number of the record concerned, or None.
        position: Byte place in ``path``, or None.
        system_errno: The system's reason, 0 when it had no part in it.
        remedy: What the reader can do, or "".
    """

    remedy: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        position: int | None = None,
        system_errno: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.offset = offset
        self.position = position
        self.system_errno = system_errno
        _tell_os_error(self, path, system_errno)

    def __str__(self) -> str:
        places = []
        if self.path:
            places.append(self.path)
        if self.offset is not None:
            places.append(f"offset {self.offset}")
        if self.position is not None:
            places.append(f"position {self.position}")
        if self.system_errno:
            places.append(errno.errorcode.get(self.system_errno, f"errno {self.system_errno}"))
        text = self.message
        if places:
            text += f" ({', '.join(places)})"
        if self.remedy:
            text += f"; {self.remedy}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (
            type(self), self.message, self.path, self.offset, self.position, self.system_errno,
        )  # fmt: skip


def _tell_os_error(error: BaseException, path: str | None, system_errno: int) -> None:
    """Fill the fields that ``except OSError`` looks at."""
    if isinstance(error, OSError):
        error.errno = system_errno or None
        error.filename = path


def _rebuild(
    kind: type[StratalogError],
    message: str,
    path: str | None,
    offset: int | None,
    position: int | None,
    system_errno: int,
) -> StratalogError:
    """Make the error again on the other side of a pickle."""
    return kind(message, path=path, offset=offset, position=position, system_errno=system_errno)


class InvalidArgumentError(StratalogError, ValueError):
    """An argument is wrong; nothing happened."""


class OffsetOutOfRangeError(StratalogError, IndexError):
    """An offset outside ``[log_start_offset, log_end_offset]``; Kafka's error 1."""

    remedy = "ask log_start_offset and log_end_offset for what there is"


class RecordNotFoundError(StratalogError, LookupError):
    """No record has this offset or timestamp: compacted away, or never written."""

    remedy = "read() from that offset gives the next record there is"


class LogNotFoundError(StratalogError, FileNotFoundError):
    """The directory does not exist or holds no log."""

    remedy = "check the path, or open with create=True"


class LogExistsError(StratalogError, FileExistsError):
    """Exclusive creation of a log that exists."""

    remedy = "open it without exclusive=True, or choose another directory"


class StorageError(StratalogError, OSError):
    """The operating system refused; ``system_errno`` says why."""


class NoSpaceError(StorageError):
    """The disk is full.  Nothing of the failed call is kept, and reading goes on."""

    remedy = "free some space and try again; the log is intact"


class PoisonedError(StorageError):
    """An earlier sync failed, so what the page cache says is no longer what the disk holds.

    A second ``fdatasync`` would report success for pages that were dropped: there is no retry.
    """

    remedy = "close the log, look after the disk, open it again and trust durable_offset"


class OutOfMemoryError(StratalogError, MemoryError):
    """Memory or address space ran out; nothing happened."""

    remedy = "free memory and try again"


class CorruptLogError(StratalogError):
    """Bytes on disk are damaged; ``path``, ``offset`` and ``position`` name the place."""

    remedy = (
        "restore the file from a replica or backup, or open with repair=True to cut the log there, "
        "or read with skip_corrupt=True to save what follows"
    )


class CorruptBatchError(CorruptLogError):
    """A batch given to ``append_batch`` is damaged; nothing of it was appended."""

    remedy = "fetch or encode the batch again; position counts from the first byte given"


class CorruptTxnLogError(StratalogError):
    """Bytes of a transaction log that no crash explains."""

    remedy = "restore the file from a copy or another member of the ensemble"


class CorruptSnapshotError(StratalogError):
    """A snapshot that cannot be believed."""

    remedy = "an older snapshot and the logs after it hold the same"


class JuteError(StratalogError):
    """Bytes that are not the record they should be, or a value that no record can hold."""


class LogLockedError(StratalogError):
    """Another handle or process writes this log."""

    remedy = 'close the other writer, or follow it with mode="r"'


class DirectoryLockedError(StratalogError):
    """Another server uses this data directory."""

    remedy = "stop the other server, or give this one a directory of its own"


class ConfigurationError(StratalogError, ValueError):
    """A configuration that no server can start with; ``path`` says where the cause stands."""


class LogClosedError(StratalogError, ValueError):
    """The handle was closed, or the call was overtaken by ``close``."""

    remedy = "open the log again"


class ForkedError(StratalogError):
    """The handle belongs to the parent process: locks and threads do not survive a fork."""

    remedy = "open the log anew in the child process"


class ReadOnlyError(StratalogError):
    """A write through a read-only handle."""

    remedy = 'open the log with mode="a" to write'


class TooLargeError(StratalogError, ValueError):
    """A record or batch exceeds a limit of this log."""

    remedy = "send smaller pieces, or raise segment_bytes"


class CodecError(StratalogError):
    """A codec is missing, failed, or exceeded its output bound."""

    remedy = "if the data can be trusted, open the log with a larger decompressed_bytes_max"


class UnsupportedFormatError(StratalogError):
    """Message format v0 or v1, which Kafka stopped writing in 0.11."""

    remedy = "have Kafka 3.x rewrite the topic: it converts on compaction and reassignment"


class WaitTimeoutError(StratalogError, TimeoutError):
    """The wait ended before the event; the event may still come."""


# Index is sl_status of stratalog.h; tests/log/test_errors.py compares the names.
_KINDS: tuple[type[StratalogError], ...] = (
    StratalogError,  # SL_OK is no error
    InvalidArgumentError,
    OffsetOutOfRangeError,
    LogNotFoundError,  # of a lookup: RecordNotFoundError, chosen by the caller
    LogExistsError,
    StorageError,
    NoSpaceError,
    OutOfMemoryError,
    CorruptLogError,
    PoisonedError,
    LogLockedError,
    LogClosedError,
    ForkedError,
    ReadOnlyError,
    TooLargeError,
    CodecError,
    UnsupportedFormatError,
    WaitTimeoutError,
)


def error_for_status(status: int) -> type[StratalogError]:
    """Return the class that stands for an ``sl_status``; the root for a number unknown here."""
    return _KINDS[status] if 0 < status < len(_KINDS) else StratalogError
