"""The servers of ``stratalog bench zk``: ours, Apache's, and one that keeps nothing.

    subject             process                                     settings
    stratalog           stratalog.testing.ZooKeeperServer           as shipped, fsync on
    Apache ZooKeeper    java QuorumPeerMain zoo.cfg                 as shipped, fsync on, heap as
                                                                    its start script sets it
    echo                stratalog-zkload echo                       the floor

Each is a process of its own on a free port of the loopback address, with its files on the disk that
is measured. *Started* means that a client has an answer: a session, and a reply to its first
request; the time is from before the process begins.

The jars come from Maven, once, into the cache of the foreign peers (peers_foreign.py), named by
bench/drivers/zookeeper; a wheel does not carry that directory, and there the subject says so.

What it leaves to others: what is asked of them (zookeeper_runs.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from stratalog.benchmark import peers_foreign, programs
from stratalog.benchmark.model import SubjectFailedError
from stratalog.net.loop import loop_name
from stratalog.testing import ZooKeeperServer
from stratalog.wire.zookeeper.messages import ConnectRequest

__all__ = [
    "APACHE", "ECHO", "LOAD_PROGRAM", "OURS", "Apache", "Echo", "Ours", "Server", "first_answer",
    "resident_bytes", "snapshot_is_open",
]  # fmt: skip

OURS: Final = "stratalog"
APACHE: Final = "Apache ZooKeeper"
ECHO: Final = "floor: echo"
LOAD_PROGRAM: Final = "stratalog-zkload"

ANSWER_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.001
ATTEMPT_SECONDS: Final = 0.02
ATTEMPTS_MAX: Final = 30
APACHE_HEAP_MIB: Final = 1000  # what zkEnv.sh says unless it is told otherwise
ZOO_CFG: Final = """\
tickTime=2000
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
admin.enableServer=false
"""


class Server(Protocol):
    """One server process; a context manager that ends it."""

    name: str

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def port(self) -> int:
        """Where it listens."""
        ...

    def start(self) -> float:
        """Start it on its files; return the seconds to its first answer."""
        ...

    def stop(self) -> None:
        """End it as an operator would."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


# ---- what can be seen of a process from outside --------------------------------------------------


class _Attempt:
    """A client that asks for a session and sends one request, and waits for both answers."""

    def __init__(self, port: int) -> None:
        self.peer = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)
        self._data = b""
        hello = ConnectRequest(0, 0, 30_000, 0, bytes(16)).encode()
        exists = struct.pack(">iii", 1, 3, 1) + b"/\0"
        self.peer.sendall(b"".join(struct.pack(">i", len(one)) + one for one in (hello, exists)))

    def answered(self) -> bool:
        """Read what is there; tell whether both answers are.

        Raises:
            ConnectionError: the server closed it.
        """
        piece = self.peer.recv(4096)
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        self._data += piece
        frames, at = [], 0
        while len(self._data) - at >= 4:
            (length,) = struct.unpack_from(">i", self._data, at)
            if len(self._data) - at - 4 < length:
                break
            frames.append(self._data[at + 4 : at + 4 + length])
            at += 4 + length
        if len(frames) < 2:
            return False
        xid, _, err = struct.unpack_from(">iqi", frames[1])
        if (xid, err) != (1, 0):
            raise SubjectFailedError(f"a wrong first answer: xid {xid}, error {err}")
        return True


def first_answer(port: int, ended: Callable[[], bool]) -> None:
    """Return once a server gives a session and answers its first request.

    A server that is still loading may take a connection and never answer it, so there is a new
    attempt every few ms while older ones wait on; the first one that is answered counts.

    Raises:
        SubjectFailedError: it does not, in time, or its process ended.
    """
    end = time.monotonic() + ANSWER_SECONDS_MAX
    attempts: list[_Attempt] = []
    due = 0.0
    try:
        while (now := time.monotonic()) < end:
            if ended():
                raise SubjectFailedError("the server ended before it answered")
            if now >= due:
                with contextlib.suppress(ConnectionError):
                    attempts.append(_Attempt(port))
                    due = now + ATTEMPT_SECONDS
            if len(attempts) > ATTEMPTS_MAX:
                attempts.pop(0).peer.close()
            readable, _, _ = select.select([one.peer for one in attempts], [], [], POLL_SECONDS)
            for attempt in [one for one in attempts if one.peer in readable]:
                try:
                    if attempt.answered():
                        return
                except ConnectionError:
                    attempts.remove(attempt)
                    attempt.peer.close()
    finally:
        for attempt in attempts:
            attempt.peer.close()
    raise SubjectFailedError(f"no answer within {ANSWER_SECONDS_MAX:.0f} s")


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is resident, shared pages included."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise SubjectFailedError(f"process {pid} has ended")
    return int(found[1]) * 1024


def snapshot_is_open(pid: int) -> bool:
    """Tell whether a process has a snapshot open: it is writing, or reading, one."""
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        raise SubjectFailedError(f"process {pid} has ended") from None
    for link in links:
        try:
            target = link.readlink()
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.name.startswith("snapshot."):
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- ours ----------------------------------------------------------------------------------------


class Ours:
    """Our server, as ``stratalog serve`` starts it.

    Args:
        directory: Empty; where its files go.
    """

    name = OURS

    def __init__(self, directory: Path) -> None:
        self._server = ZooKeeperServer(directory / "data")

    @staticmethod
    def settings() -> str:
        """Return how it is set up, in one line."""
        return f"stratalog serve, as shipped: fsync before every reply, loop {loop_name()}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._server.pid

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def start(self) -> float:
        """Start it on its files; return the seconds to its first answer."""
        begun = time.monotonic()
        try:
            self._server.start()
        except RuntimeError as error:
            raise SubjectFailedError(" ".join(str(error).split())[-300:]) from error
        first_answer(self.port, lambda: False)
        return time.monotonic() - begun

    def stop(self) -> None:
        """End it as an operator would."""
        try:
            code = self._server.stop()
        except RuntimeError as error:
            raise SubjectFailedError(str(error)) from error
        if code != 0:
            raise SubjectFailedError(f"the server ended with exit code {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)


# ---- others --------------------------------------------------------------------------------------


class _Process:
    """A server that is a plain command."""

    name = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What is run."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self) -> float:
        """Start it on its files; return the seconds to its first answer."""
        with (self.directory / "said").open("ab") as said:
            begun = time.monotonic()
            self._process = subprocess.Popen(
                self.command(), cwd=self.directory, stdin=subprocess.PIPE, stdout=said, stderr=said
            )
        try:
            process = self._process
            first_answer(self.port, lambda: process.poll() is not None)
        except SubjectFailedError as error:
            words = (self.directory / "said").read_text(errors="replace").split()
            raise SubjectFailedError(f"{error}: {' '.join(words)[-300:]}") from error
        return time.monotonic() - begun

    def stop(self) -> None:
        """End it as an operator would."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        self._wait(process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise SubjectFailedError(
                f"{self.name} did not end within {STOP_SECONDS_MAX:.0f} s"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._wait(process)


class Echo(_Process):
    """Answers at once and keeps nothing."""

    name = ECHO

    def command(self) -> list[str]:
        """What is run."""
        return [str(programs.locate(LOAD_PROGRAM)), "echo", "--port", str(self.port)]


class Apache(_Process):
    """Apache ZooKeeper, as its start script runs it."""

    name = APACHE

    def command(self) -> list[str]:
        """What is run."""
        place = _apache_build()
        config = self.directory / "zoo.cfg"
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        config.write_text(ZOO_CFG.format(data=data.resolve(), port=self.port), encoding="utf-8")
        classes = os.pathsep.join([str(place), str(place / "lib" / "*")])
        return [
            _java(), f"-Xmx{APACHE_HEAP_MIB}m", "-cp", classes,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config.resolve()),
        ]  # fmt: skip

    @staticmethod
    def available() -> str | None:
        """Return None if it can run here, fetching it if need be, else the reason why not."""
        try:
            _apache_build()
            _java()
        except peers_foreign.DriverMissingError as reason:
            return str(reason)
        return None

    @staticmethod
    def version() -> str:
        """Return its version; asked only where it is available."""
        names = [path.stem for path in (_apache_build() / "lib").glob("zookeeper-[0-9]*.jar")]
        return names[0].partition("-")[2] if names else "unknown"

    @staticmethod
    def settings() -> str:
        """Return how it is set up, in one line."""
        told = subprocess.run(
            [_java(), "-version"], capture_output=True, text=True, timeout=60, check=True
        )
        words = (told.stderr.splitlines() or ["java"])[0]
        return f"as shipped: forceSync, -Xmx{APACHE_HEAP_MIB}m as zkEnv.sh sets it, {words}"


def _java() -> str:
    peers_foreign.need_tools("java")
    return str(shutil.which("java"))


@functools.lru_cache(maxsize=1)
def _apache_build() -> Path:
    return peers_foreign.built("zookeeper", _fetch_apache)


def _fetch_apache(source: Path, target: Path) -> None:
    peers_foreign.need_tools("java", "mvn")
    command = ["mvn", "-q", "-B", "-f", str(source / "pom.xml"), "dependency:copy-dependencies"]
    peers_foreign.build_step([*command, f"-DoutputDirectory={target / 'lib'}"], source)
    shutil.copyfile(source / "logback.xml", target / "logback.xml")
