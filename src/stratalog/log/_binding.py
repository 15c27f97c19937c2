"""The one door to C: the only importer of ``_native``, and the mapping of its errors.

    C answers                      Python raises
    sl_status != SL_OK             check(status)       the class of that status (errors.py), with
    a value < 0, -(sl_status)      checked(value)      file, offset, position, errno and sentence
                                                       from the thread's sl_last_error

Here is also the end of a handle, ``HandleEnd``: the destructor of its cdata, run by whoever lets go
of it last.  handle.py tells the story.

Left to others: what the calls mean.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from stratalog._native import ffi as _ffi
from stratalog._native import lib as _lib
from stratalog.errors import StratalogError, error_for_status

ffi: Final[Any] = _ffi
lib: Final[Any] = _lib
INT32_MIN: Final = -(1 << 31)

E_NOT_FOUND: Final[int] = lib.SL_E_NOT_FOUND
E_CORRUPT: Final[int] = lib.SL_E_CORRUPT
E_CODEC: Final[int] = lib.SL_E_CODEC

codec_failure = threading.local()
"""``.error`` is what a codec raised in this thread's last call: C can only pass on that it did."""


def failure(status: int, kind: type[StratalogError] | None = None) -> StratalogError:
    """Make the exception for a failed call of this thread, from ``sl_last_error``.

    Args:
        status: An ``sl_status``, positive.
        kind: Class to use instead of the status's own.

    Returns:
        The error, to be raised by the caller.
    """
    last = lib.sl_last_error()
    kind = kind or error_for_status(status)
    if last.status != status:
        name = ffi.string(lib.sl_status_name(status)).decode()
        return kind(f"the engine answered {name}")
    error = kind(
        ffi.string(last.message).decode(errors="replace") or "the engine gave no reason",
        path=os.fsdecode(ffi.string(last.path)) or None,
        offset=last.offset if last.offset >= 0 else None,
        position=last.position if last.position >= 0 else None,
        system_errno=last.system_errno,
    )
    if status == E_CODEC:
        error.__cause__ = codec_failure.__dict__.pop("error", None)
    return error


def check(status: int) -> None:
    """Raise unless ``status`` is SL_OK."""
    if status:
        raise failure(status)


def checked(result: int) -> int:
    """Return ``result``, or raise if it is a negated ``sl_status``."""
    if result < 0:
        raise failure(-result)
    return result


NOT_PLAIN: Final = -(1 << 63)
"""What C answers when a value is not exactly ``bytes``: nothing happened, Python sorts it out."""

# ctypes keeps the interpreter's lock for a PYFUNCTYPE; a cffi call would drop it.
_append_plain_new: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)(
    int(ffi.cast("uintptr_t", ffi.addressof(lib, "stratalog_append_plain_new")))
)


_Record = TypeVar("_Record", bound=tuple[Any, ...])
_records_new: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(
    int(ffi.cast("uintptr_t", ffi.addressof(lib, "stratalog_records_new")))
)


_pinned_new: Final = ctypes.PYFUNCTYPE(ctypes.py_object)(
    int(ffi.cast("uintptr_t", ffi.addressof(lib, "stratalog_pinned_new")))
)

pinned: Final[Callable[[int], memoryview]] = _pinned_new()
"""Make a read-only memoryview of the memory of filled columns; takes over their pin.

It takes the address of an ``sl_columns``.  The pin is released when the view and all its slices are
gone.
"""


def record_maker(record_type: type[_Record]) -> Callable[[bool, int, int, Any], list[_Record]]:
    """Make the builtin that turns filled columns into records, tuples of five fields.

    It takes whether to copy keys and values into bytes, the address of an ``sl_columns`` with all
    its arrays, whose pin it takes over, how many records to make, and a list of their headers
    (None: no record has any).
    """
    function: Callable[[bool, int, int, Any], list[_Record]] = _records_new(record_type)
    return function


def append_plain(handle: Any) -> Callable[[Any], int]:
    """Make the builtin that appends one bytes value to the log behind ``handle``.

    It answers the offset, -(sl_status), or ``NOT_PLAIN``.  It keeps the handle alive.
    """
    address = int(ffi.cast("uintptr_t", handle))
    function: Callable[[Any], int] = _append_plain_new(handle, address)
    return function


def not_plain(_value: Any) -> int:
    """Stand in for that builtin where a log compresses: no value is plain."""
    return NOT_PLAIN


class HandleEnd:
    """What happens to a handle once nobody uses it any more.

    Attributes:
        done: Set when the handle is gone.
        error: What ``sl_log_close`` had to say, or None; read it once ``done`` is set.
    """

    __slots__ = ("done", "error", "owner_pid")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: StratalogError | None = None
        self.owner_pid = os.getpid()

    def __call__(self, handle: Any) -> None:
        """Close ``handle``, the destructor of its cdata; runs in the last user's thread."""
        try:
            if os.getpid() != self.owner_pid:
                lib.sl_log_abandon(handle)
                return
            if hasattr(lib, "sl_log_arrow_cut"):  # streams that a consumer still holds
                lib.sl_log_arrow_cut(handle)
            status = lib.sl_log_close(handle)
            if status:
                self.error = failure(status)
        finally:
            self.done.set()


def open_handle(directory: bytes, options: Any) -> tuple[Any, HandleEnd]:
    """Open a log.

    Args:
        directory: Path, without NUL bytes.
        options: An ``sl_options *``.

    Returns:
        The handle as a garbage-collected cdata, and what will happen to it.

    Raises:
        StratalogError: Any of the tree, as ``sl_log_open`` says.
    """
    out = ffi.new("sl_log **")
    check(lib.sl_log_open(directory, options, out))
    end = HandleEnd()
    return ffi.gc(out[0], end), end
