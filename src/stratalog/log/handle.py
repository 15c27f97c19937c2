"""Handle: opening, closing, and who may still be inside; the half of Log that is about life.

Threads may share a Log, and C says of ``sl_log_close``: no other call on the handle may run or
follow.  A lock around every call would cost an append more than Python adds to it otherwise, and
readers are meant to run beside the writer.  So the count that CPython keeps anyway is the guard:

    Log._handle ------------------------.
    a call that runs in another thread --+--> cdata (ffi.gc) --last reference gone--> HandleEnd
    an open cursor of this log ---------'                                                |
                                                                sl_log_close, status kept, event set

``close`` takes the Log's reference away and waits for the event.  A call that is under way holds
the cdata as its argument, so whoever leaves last frees the handle, in its own thread, and ``close``
still gets the status.  This costs an append nothing at all.  Four rules keep it sound:

- Nobody keeps the handle in a local variable or an attribute but here: the traceback of an error
  would keep it alive together with the frame.  ``self._live`` is passed on at once.  Code that
  cannot do without a variable borrows one that is emptied when its block ends (``_entered``).
- A cursor must keep the handle for longer, through its destructor.  So each one is known here, and
  made to let go before the wait: a half-read iterator does not keep a log open.
- The builtin that appends (_native_append.c) holds the handle as well; it is dropped with it.
- What is handed out (views, Arrow arrays) holds pins, never the handle.

Should another thread be stuck inside for 30 s, ``close`` says so instead of hanging; the log is
closed to new calls by then, and its files are released when that call returns.

In a forked child the handle is abandoned, not closed: directory and lock are the parent's.

Left to others: what one can do with an open log (log.py), the calls themselves (_binding.py).
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stratalog import config
from stratalog.errors import LogClosedError, WaitTimeoutError
from stratalog.log._binding import HandleEnd, ffi, lib, open_handle
from stratalog.log.cursor import Cursor
from stratalog.log.durable import DurableWaiters
from stratalog.log.options import directory_bytes


class Handle:
    """An open log, and the way to close it.

    Args:
        path: The log's directory.
        mode: "a" or "r", for the reader of ``repr``.
        opening: An ``sl_options *``.

    Attributes:
        path: The log's directory.
        mode: "a" or "r".
    """

    _handle: Any = None  # the cdata, or None before opening and after closing
    _append_plain: Any = None  # the builtin of _native_append.c, which holds the cdata too

    def __init__(self, path: str | os.PathLike[str], mode: str, opening: Any) -> None:
        self.path: Final = Path(path)
        self.mode: Final = mode
        self._closing: Final = threading.Lock()
        self._cursors: Final[weakref.WeakSet[Cursor]] = weakref.WeakSet()
        self._durable_waiters: Final = DurableWaiters()
        self._end: HandleEnd
        self._handle, self._end = open_handle(directory_bytes(self.path), opening)

    @property
    def _live(self) -> Any:
        """The handle, to be passed on at once and never kept; see above."""
        if self._handle is None:
            raise LogClosedError("the log is closed", path=str(self.path))
        return self._handle

    @contextmanager
    def _entered(self) -> Iterator[Any]:
        """Lend the handle to a block of code: it may keep it in a variable, ``close`` waits."""
        lent = ffi.gc(ffi.cast("sl_log *", self._live), partial(_let_go, self._live))
        try:
            yield lent
        finally:
            ffi.release(lent)

    def _adopt(self, cursor: Cursor) -> None:
        """Know a cursor, so that it lets go of the handle when the log is closed."""
        with self._closing:
            if self._handle is None:
                cursor.detach()
            else:
                self._cursors.add(cursor)

    def close(self) -> None:
        """Flush, trim the files to their length, write the checkpoints, release the lock.

        Waits for calls of other threads on this handle; iterators over it end with
        LogClosedError.  Views that were handed out stay valid.  Closing twice is fine.

        Raises:
            PoisonedError: Not everything is durable; the handle is gone all the same.
            StorageError: The same.
            WaitTimeoutError: Another thread's call did not return within 30 s; the handle goes
                when that call does.
        """
        with self._closing:
            if self._handle is None:
                return
            for cursor in list(self._cursors):
                cursor.detach()
            end_offset = int(lib.sl_log_end_offset(self._handle))
            self._append_plain = None
            self._handle = None  # the last user frees it: this thread, unless another is inside
        closed = LogClosedError("the log was closed", path=str(self.path))
        if not self._end.done.wait(config.CLOSE_WAIT_MS_MAX / 1000):
            self._durable_waiters.close(-1, closed)
            raise WaitTimeoutError(
                "the log is closed, but a call of another thread still uses its files",
                path=str(self.path),
            )
        error = self._end.error
        self._durable_waiters.close(-1 if error else end_offset, error or closed)
        if error is not None:
            raise error

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._handle is None

    def __enter__(self) -> Self:
        _ = self._live
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._handle is not None:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:  # also where warnings are errors
                self.close()

    def __repr__(self) -> str:
        if self._handle is None:
            return f"<stratalog.Log {str(self.path)!r} closed>"
        return (
            f"<stratalog.Log {str(self.path)!r} mode={self.mode!r} offsets "
            f"{lib.sl_log_start_offset(self._handle)} to {lib.sl_log_end_offset(self._handle)}>"
        )


def _let_go(_handle: Any, _lent: Any) -> None:
    """Do nothing: what counts is that the reference to the handle goes with the destructor."""
