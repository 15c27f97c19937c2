"""Real servers for tests: started in a moment, on a free port, gone afterwards.

    from stratalog.testing import ZooKeeperServer

    with ZooKeeperServer() as server:
        client = KazooClient(hosts=server.address)

A pytest fixture of the same: put ``pytest_plugins = ["stratalog.testing"]`` into conftest.py, and
ask for ``zookeeper_server``.

A server is a process of its own, so that a test may kill it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 30.0
_SAYS: Final = "listening on "


class ZooKeeperServer:
    """A ZooKeeper of one server, as a context manager.

    Args:
        data_dir: Where it keeps its files; None: a temporary directory, removed at the end.
        port: Where it listens; 0: a free port, kept over restarts.
        arguments: Further arguments of ``stratalog serve``.

    Attributes:
        address: ``host:port``, for a client; "" before it has started.
        data_dir: Where it keeps its files.

    Raises:
        RuntimeError: It did not start; what it said is in the message.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        arguments: Sequence[str] = (),
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="stratalog-zookeeper-")
            data_dir = self._temporary.name
        self.data_dir = Path(data_dir)
        self.port = port
        self.address = ""
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: Path = self.data_dir.with_name(self.data_dir.name + ".stderr")

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._live().pid

    def start(self) -> None:
        """Start it, and return once it listens."""
        if self._process is not None:
            raise RuntimeError("the server runs already")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "stratalog", "serve", "--data-dir", str(self.data_dir),
                    "--port", str(self.port), *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            )  # fmt: skip
        line = self._first_line()
        if not line.startswith(_SAYS):
            self.kill()
            raise RuntimeError(f"the server did not start: {self.said() or line or 'no word'}")
        self.address = line.removeprefix(_SAYS).strip()
        self.port = int(self.address.rpartition(":")[2])

    def _first_line(self) -> str:
        process = self._live()
        if process.stdout is None:
            return ""
        line = b""
        end = time.monotonic() + START_S_MAX
        while not line.endswith(b"\n") and (left := end - time.monotonic()) > 0:
            if not select.select([process.stdout], [], [], left)[0]:
                break
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                break
            line += piece
        return line.decode(errors="replace")

    def said(self) -> str:
        """Return what it wrote to standard error."""
        with contextlib.suppress(FileNotFoundError):
            return self._said.read_text(errors="replace")
        return ""

    def stop(self) -> int:
        """End it cleanly; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again, on the same port and the same files."""
        if self._process is not None:
            self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._live(), None
        process.send_signal(number)
        try:
            code = process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"the server did not end within {STOP_S_MAX} s") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()
        return code

    def _live(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()
        self._clean()

    def _clean(self) -> None:
        self._said.unlink(missing_ok=True)
        if self._temporary is not None:
            self._temporary.cleanup()


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def zookeeper_server() -> Iterator[ZooKeeperServer]:
        """A running ZooKeeper of one server, for one test."""
        with ZooKeeperServer() as server:
            yield server
