"""Replacing a small file: a crash leaves the old content or the new, never something between.

    1. write NAME.tmp, fdatasync it     else the rename may reach the disk before the content
    2. rename NAME.tmp to NAME          atomic for names
    3. fsync the directory              else the file may be there without its name

The engine does it (``sl_file_replace``), since it writes such files itself: one writer, one order.
Reading is bounded: these files are small, and one that is not is not one of ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from stratalog.errors import CorruptLogError, LogNotFoundError, StorageError
from stratalog.log._binding import check, lib

FILE_BYTES_MAX: Final = 64 << 20
"""A checkpoint of a million partitions is about this long."""


def replace(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, all or nothing over a crash; durable on return.

    Args:
        path: The file; its directory must exist.
        data: The whole new content.

    Raises:
        LogNotFoundError: The directory does not exist.
        NoSpaceError: The disk is full; the old file stands.
        StorageError: The system refused; the old file stands unless the last step, the sync of the
            directory, failed.
    """
    check(lib.sl_file_replace(os.fsencode(path), data, len(data)))


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the whole file as text.

    Raises:
        LogNotFoundError: There is no such file.
        CorruptLogError: It is not UTF-8, or longer than ``FILE_BYTES_MAX``.
        StorageError: The system refused.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise LogNotFoundError("no such file", path=name, system_errno=error.errno or 0) from None
    except OSError as error:
        raise StorageError(
            error.strerror or "cannot read", path=name, system_errno=error.errno or 0
        ) from error
    if len(data) > FILE_BYTES_MAX:
        raise CorruptLogError("the file is too long for what it is", path=name)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptLogError(
            "the file is not UTF-8 text", path=name, position=error.start
        ) from error
