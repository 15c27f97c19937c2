"""An nbdkit plugin: a disk that remembers every write and every flush, in order.

    nbdkit python recorder.py image=FILE record=FILE

Run by nbdkit, not imported.  The record is a row of events, the bytes of a write behind its head:

    8 bytes  CLOCK_MONOTONIC in ns, when the request came
    1 byte   W or F
    8 bytes  position, 4 bytes length      (both 0 for F)

Requests are served one at a time, so a flush covers exactly the writes before it in the record.
"""

from __future__ import annotations

import os
import struct
import time

API_VERSION = 2
HEAD = struct.Struct("<QcQI")

files: dict[str, int] = {}


def config(key, value):
    """Take image=FILE and record=FILE."""
    flags = os.O_RDWR if key == "image" else os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files[key] = os.open(value, flags, 0o600)


def open(readonly):  # noqa: A001  the name is nbdkit's
    """One handle for all."""
    return 1


def get_size(handle):
    """As long as the image."""
    return os.fstat(files["image"]).st_size


def pread(handle, buffer, position, flags):
    """Read from the image."""
    buffer[:] = os.pread(files["image"], len(buffer), position)


def pwrite(handle, buffer, position, flags):
    """Record, then write."""
    head = HEAD.pack(time.monotonic_ns(), b"W", position, len(buffer))
    os.write(files["record"], head + bytes(buffer))
    os.pwrite(files["image"], buffer, position)


def flush(handle, flags):
    """Record; the record itself needs no sync, for this machine is not the one that fails."""
    os.write(files["record"], HEAD.pack(time.monotonic_ns(), b"F", 0, 0))


def can_flush(handle):
    """Or the kernel would not ask."""
    return True
