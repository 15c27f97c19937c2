"""A stretch of a log as Arrow columns, read by pyarrow, polars, duckdb and pandas without a copy.

    with stratalog.Log("events", mode="r") as log:
        table = pyarrow.table(log.columns())           # or polars.DataFrame, duckdb.sql, ...

    offset:    int64                 not null
    timestamp: timestamp[ms, UTC]    not null
    key:       binary_view           null where the record has no key
    value:     binary_view           null for a tombstone

``Columns`` is a range of offsets and nothing else: it holds no data, can be read any number of
times, and implements the Arrow PyCapsule protocol, which is how a consumer reads it without this
package depending on one.  Headers are not delivered; ``Log.read`` has them.

    consumer                     Columns                           arrow.c
       |-- __arrow_c_stream__() ---->|-- stratalog_stream_new ------->|  opens a cursor
       |<------- PyCapsule ----------|                                |
       |-- get_next, any thread, without the GIL -------------------->|  16384 records
       |-- release, any thread, without the GIL --------------------->|  the pin goes back

Who keeps what alive:

- Arrays hold pins on the log's memory, never the log.  A table stays readable after ``close``,
  ``truncate_prefix`` and the end of the ``Log`` object; ``stats().pinned_bytes`` counts what it
  holds, and the disk space of deleted segments comes back when the last array goes.
- A stream that is still being read needs the open log.  ``Log.close`` ends it: the consumer's next
  read fails with "the log was closed", in an orderly way.  ``pyarrow.table`` and its like read all
  at once; a ``RecordBatchReader`` is what must not outlive the ``with`` block.  The stream cannot
  keep the ``Log`` object alive by itself: its release may run without the GIL, where a reference
  to a Python object can be neither held nor dropped.

Consumers without view types ask for ``binary`` or ``large_binary``
through ``requested_schema`` and get a copy of that column.

Left to others: the layout of the columns (``native/src/arrow.c``), the capsules' destructors
(``_native_capsule.c``).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from stratalog.log._binding import check, ffi, lib

if TYPE_CHECKING:
    from stratalog.log.log import Log

__all__ = ["Columns"]

# ctypes keeps the GIL for a PYFUNCTYPE, which these two need and cffi would drop.  PyCapsule_New
# stores the name's address, so names are C's memory; hence c_void_p.
_capsule_new: Final = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))
_capsule_pointer: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _address(cdata: Any) -> int:
    """Return a C pointer as a number, which is what ctypes takes."""
    return int(ffi.cast("uintptr_t", cdata))


_STREAM_NAME: Final = _address(lib.stratalog_stream_capsule_name)
_STREAM_DESTROY: Final = _address(ffi.addressof(lib, "stratalog_stream_capsule_destroy"))
_SCHEMA_NAME: Final = _address(lib.stratalog_schema_capsule_name)
_SCHEMA_DESTROY: Final = _address(ffi.addressof(lib, "stratalog_schema_capsule_destroy"))


class Columns:
    """Records ``[start_offset, end_offset)`` of a log, for any reader of the Arrow protocol.

    Made by ``Log.columns``.  Reading twice gives the same records, as long as the log is not
    truncated in between.

    Attributes:
        start_offset: First offset, inclusive.
        end_offset: Last offset, exclusive; fixed when the object was made, so records appended
            later are not part of it.
    """

    __slots__ = ("_log", "_read_flags", "end_offset", "start_offset")

    start_offset: Final[int]
    end_offset: Final[int]

    def __init__(
        self, log: Log, start_offset: int, end_offset: int, *, read_flags: int = 0
    ) -> None:
        self._log = log
        self._read_flags = read_flags
        self.start_offset = start_offset
        self.end_offset = end_offset

    def __repr__(self) -> str:
        return f"<Columns of {self._log!r}, offsets {self.start_offset} to {self.end_offset}>"

    def __arrow_c_schema__(self) -> object:
        """Describe the columns.

        Returns:
            A PyCapsule with an ArrowSchema: what ``__arrow_c_stream__`` gives unasked.
        """
        out = ffi.new("void **")
        check(lib.stratalog_schema_new(lib.SL_ARROW_VIEW, lib.SL_ARROW_VIEW, out))
        try:
            return _capsule_new(_address(out[0]), _SCHEMA_NAME, _SCHEMA_DESTROY)
        except BaseException:
            lib.stratalog_schema_free(out[0])
            raise

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Begin reading the records as Arrow record batches.

        Args:
            requested_schema: A PyCapsule with an ArrowSchema.  Where it asks for ``binary`` or
                ``large_binary``, keys or values are copied into that form.  A type we cannot give
                is passed over, as the protocol allows; the consumer casts.

        Returns:
            A PyCapsule with an ArrowArrayStream.  Its memory is the log's; see above.

        Raises:
            InvalidArgumentError: The requested schema has other columns than ours.
            OffsetOutOfRangeError: The log was truncated to behind ``start_offset``.
            LogClosedError: The log was closed.
        """
        request = ffi.new("sl_arrow_request *")
        lib.sl_arrow_request_default(request)
        request.start_offset = self.start_offset
        request.end_offset = self.end_offset
        request.read_flags = self._read_flags
        if requested_schema is not None:
            schema = _capsule_pointer(requested_schema, b"arrow_schema")
            forms = ffi.new("int32_t[2]")
            check(lib.sl_arrow_forms(ffi.cast("void *", schema), forms, forms + 1))
            request.key_form, request.value_form = forms
        out = ffi.new("void **")
        with self._log._entered() as handle:  # noqa: SLF001  # Columns is a part of Log
            check(lib.stratalog_stream_new(handle, request, out))
        try:
            return _capsule_new(_address(out[0]), _STREAM_NAME, _STREAM_DESTROY)
        except BaseException:
            lib.stratalog_stream_free(out[0])
            raise
