"""The lock of a data directory: two servers never share one.

    DIR/stratalog.lock      held by flock(2) as long as the server lives; its process id inside
    DIR/version-2/...       what it guards

The kernel lets go of it when the process ends, however it ends; the file stays and means nothing.
Apache's server looks for no file of that name, and takes no lock of its own.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from stratalog.errors import DirectoryLockedError, StorageError

LOCK_NAME: Final = "stratalog.lock"


class DirectoryLock:
    """The lock of one directory, held from the beginning.

    Args:
        directory: Which; it has to be there.

    Raises:
        DirectoryLockedError: Another server holds it.
        StorageError: The system refused.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_NAME
        self._descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                "cannot lock the data directory", path=str(path), system_errno=error.errno or 0
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            whose = f", process {holder}," if holder.isdigit() else ""
            raise DirectoryLockedError(
                f"another server{whose} uses this data directory", path=str(path)
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                "cannot lock the data directory", path=str(path), system_errno=error.errno or 0
            ) from None
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:
            pass  # the process id is there for people; a full disk does not weaken the lock

    def release(self) -> None:
        """Let go of it; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
