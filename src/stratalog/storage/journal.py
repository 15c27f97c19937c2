"""A file of another format, appended here and synced by a thread of the engine.

    journal = Journal(path, head=b"ZKLG...", reserve_bytes=64 << 20)
    end = journal.append(b"...", request=True)    gathered in memory, its blocks reserved; a thread
                                                  is asked to write and sync it
    journal.durable()                             up to where the file survives a power loss

``fileno()`` becomes readable when ``durable()`` has something new to say, an error included: give
it to an event loop, and read its 8 bytes.  No thread of Python is involved.

Zeros follow what was appended, up to the end of what is reserved.
"""

from __future__ import annotations

import os
from typing import Any, Final

from stratalog.errors import LogClosedError
from stratalog.log._binding import check, checked, ffi, lib

RESERVE_BYTES_MIN: Final = 4096
RESERVE_BYTES_MAX: Final = (1 << 31) - 4096
HEAD_BYTES_MAX: Final = 4096


class Journal:
    """One file, created anew.

    Args:
        path: The file; what was there is gone.
        head: Its first bytes, at most HEAD_BYTES_MAX; they are durable before its name is.
        reserve_bytes: How far the file grows at a time, RESERVE_BYTES_MIN to RESERVE_BYTES_MAX.
        at_once: Whether what is appended survives the process, kill -9 included, when ``append``
            returns; otherwise it does when it is durable.

    Raises:
        NoSpaceError: The disk is full; there is no file.
        LogNotFoundError: There is no such directory.
        StorageError: The system refused; there is no file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        reserve_bytes: int,
        head: bytes = b"",
        at_once: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        out = ffi.new("sl_journal **")
        name = os.fsencode(self.path)
        check(lib.sl_journal_create(name, head, len(head), reserve_bytes, at_once, out))
        self._journal: Any = out[0]
        self._event_fd: int = lib.sl_journal_event_fd(self._journal)

    def _live(self) -> Any:
        if self._journal is None:
            raise LogClosedError("the journal was closed", path=self.path)
        return self._journal

    def fileno(self) -> int:
        """Return the descriptor that tells of syncs."""
        self._live()
        return self._event_fd

    def append(self, data: bytes, *, request: bool = False) -> int:
        """Append bytes; return the position behind them.

        Args:
            data: What is appended.
            request: Whether everything appended so far is to be written and synced now; this
                does not wait for it.

        Raises:
            NoSpaceError: The disk is full: nothing has changed, and another append may work.
            LogPoisonedError: A write or sync failed: for good.
        """
        return checked(lib.sl_journal_append(self._live(), data, len(data), request))

    def durable(self) -> int:
        """Return the position up to which the file is on the disk.

        Raises:
            LogPoisonedError: A write or sync failed: what follows this position may be lost.
        """
        return checked(lib.sl_journal_durable(self._live()))

    def close(self, *, trim: bool = True) -> None:
        """Sync and close; ``trim`` cuts what was reserved and not used.

        Raises:
            LogPoisonedError: A write or sync had failed.
            StorageError: The last sync failed.
        """
        if self._journal is not None:
            journal, self._journal = self._journal, None
            check(lib.sl_journal_close(journal, int(trim)))
