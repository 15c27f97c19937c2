"""Apache ZooKeeper beside us: its classes at work on records and files, as test oracles.

``transcode(records)``
    Records read and written again by Apache's classes (ZooKeeperFiles.java).
``write_directory(directory, seed)`` and ``read_directory(directory)``
    A data directory as Apache's server leaves one, and what it would find in one of ours.
``read_logs(directory)``
    What its iterator finds in the transaction logs.
``ZooKeeperPeer(data_dir, config)``
    Apache's server, standalone, on a free port; may be stopped, killed and started again.

Raises ``PeerUnavailable`` with a sentence where it cannot run.

Left to others: what ought to be in the files (tests/interop).
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tools.peers.maven import UTF8_CONSOLE, PeerUnavailable, java, peer_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

__all__ = [
    "VERSION", "PeerUnavailable", "Tree", "ZooKeeperPeer", "free_port", "jars", "read_directory",
    "read_logs", "transcode", "write_directory",
]  # fmt: skip

HERE = Path(__file__).resolve().parent
VERSION = "3.9.5"
TIMEOUT_S = 120
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

_LOGBACK = {
    "logback.xml": """\
<configuration>
  <appender name="ERR" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%p %m (%c)%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="ERR"/></root>
</configuration>
"""
}


@dataclass
class Tree:
    """What a data directory holds.

    Attributes:
        zxid: The last one applied.
        digest: Of the tree, signed.
        sessions: Timeout in ms by session id.
        nodes: By path: data, ACL entries as bytes, persisted Stat as bytes.
        warnings: What was logged while it was read.
    """

    zxid: int = 0
    digest: int = 0
    sessions: dict[int, int] = field(default_factory=dict)
    nodes: dict[str, tuple[bytes | None, bytes, bytes]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def jars() -> list[Path]:
    """Return the jars, fetched into the cache the first time.

    Raises:
        PeerUnavailable: no JDK, no Maven, or the download failed.
    """
    return sorted((_peer() / "lib").glob("*.jar"))


def _peer() -> Path:
    pom = HERE / f"zookeeper-{VERSION}.pom.xml"
    return peer_dir(f"Apache ZooKeeper {VERSION}", pom, _LOGBACK)


def _run(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    peer = _peer()
    command = [
        java(), "-Xmx256m", *UTF8_CONSOLE, "-Dzookeeper.extendedTypesEnabled=true",
        "-cp", f"{peer}:{peer / 'lib' / '*'}", str(HERE / "ZooKeeperFiles.java"), *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", input=said, check=True,
        timeout=TIMEOUT_S,
    )  # fmt: skip


def tool(main: str, *arguments: object) -> str:
    """Run one of Apache's programs by the name of its class; return what it printed."""
    peer = _peer()
    command = [java(), "-Xmx256m", *UTF8_CONSOLE, "-cp", f"{peer}:{peer / 'lib' / '*'}", main]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8",
        check=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    return done.stdout + done.stderr


def transcode(records: Iterable[tuple[str, bytes]]) -> list[tuple[bytes | None, str]]:
    """Let Apache's classes read records and write them again.

    Args:
        records: Class names below ``org.apache.zookeeper``, such as ``proto.CreateRequest``, and
            bytes.

    Returns:
        For each the bytes it wrote and how it shows the record; or None and the reason.
    """
    lines = [f"{name} {data.hex()}\n" for name, data in records]
    done = _run("records", said="".join(lines))
    answers: list[tuple[bytes | None, str]] = []
    for line in done.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        data, _, shown = rest.partition(" ")
        answers.append((bytes.fromhex(data), shown) if verdict == "ok" else (None, rest))
    if len(answers) != len(lines):
        raise AssertionError(f"{len(lines)} records, {len(answers)} answers: {done.stderr[:500]}")
    return answers


def write_directory(directory: Path, seed: int) -> Tree:
    """Let Apache's classes fill ``directory``; return what they hold at the end."""
    return _tree(_run("write", str(directory), str(seed)))


def read_directory(directory: Path) -> Tree:
    """Return what Apache's server would find in ``directory``."""
    return _tree(_run("read", str(directory)))


def read_logs(directory: Path) -> list[tuple[bytes, bytes, bytes | None]]:
    """Return header, body and digest of each transaction that Apache's iterator finds."""
    rows = (line.split("\t") for line in _run("log", str(directory)).stdout.splitlines())
    return [
        (bytes.fromhex(h), bytes.fromhex(b), None if d == "null" else bytes.fromhex(d))
        for _, h, b, d in rows
    ]


def _tree(done: subprocess.CompletedProcess[str]) -> Tree:
    tree = Tree(warnings=done.stderr.splitlines())
    for line in done.stdout.split("\n"):
        kind, *words = line.split("\t")
        if kind == "zxid":
            tree.zxid, tree.digest = int(words[0]), int(words[2])
        elif kind == "session":
            tree.sessions[int(words[0])] = int(words[1])
        elif kind == "node":
            path, data, acl, stat = words
            value = None if data == "null" else bytes.fromhex(data)
            tree.nodes[path] = (value, bytes.fromhex(acl), bytes.fromhex(stat))
    return tree


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ZooKeeperPeer:
    """Apache's server, standalone, in a process of its own; as a context manager, or by hand.

    Every 4-letter word is allowed and there is no AdminServer, unless ``config`` says otherwise.

    Args:
        data_dir: Where it keeps snapshots and logs; made if missing.  Its configuration and what
            it logs lie beside it: ``NAME.cfg`` and ``NAME.out``.
        config: Further lines of its ``zoo.cfg``, by key; they win over the defaults.
        properties: Java system properties, such as ``zookeeper.extendedTypesEnabled``.
        port: Where it listens; 0: a free port, kept over restarts.
        heap: The greatest heap, as ``-Xmx`` takes it.

    Attributes:
        port: Where it listens.
        address: ``127.0.0.1:port``.

    Raises:
        PeerUnavailable: no JDK, no Maven, or the download failed.
    """

    def __init__(
        self,
        data_dir: Path,
        config: Mapping[str, object] | None = None,
        *,
        properties: Mapping[str, object] | None = None,
        port: int = 0,
        heap: str = "512m",
    ) -> None:
        jars()
        self.data_dir = data_dir
        self.port = port or free_port()
        self.config: dict[str, object] = {
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
            **(config or {}),
            "dataDir": data_dir,
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
        }
        self.properties = dict(properties or {})
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None
        self._out = data_dir.with_name(data_dir.name + ".out")

    @property
    def address(self) -> str:
        """``host:port``, for a client."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._live().pid

    def _command(self, cfg: Path) -> Sequence[str]:
        peer = _peer()
        properties = [f"-D{key}={value}" for key, value in self.properties.items()]
        return [
            java(), f"-Xmx{self._heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            *UTF8_CONSOLE, *properties, "-cp", f"{peer}:{peer / 'lib' / '*'}",
            "org.apache.zookeeper.server.ZooKeeperServerMain", str(cfg),
        ]  # fmt: skip

    def start(self) -> None:
        """Start it, and return once it answers ``srvr``.

        Raises:
            RuntimeError: It did not start; what it logged is in the message.
        """
        if self._process is not None:
            raise RuntimeError("Apache's server runs already")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        cfg = self.data_dir.with_name(self.data_dir.name + ".cfg")
        cfg.write_text("".join(f"{key}={value}\n" for key, value in self.config.items()))
        with self._out.open("ab") as out:
            self._process = subprocess.Popen(
                self._command(cfg), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        end = time.monotonic() + START_TIMEOUT_S
        while b"Mode:" not in self.ask(b"srvr"):
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"Apache's server did not start: {self.said()[-2000:]}")
            time.sleep(0.05)

    def ask(self, word: bytes) -> bytes:
        """Send a 4-letter word; return the answer, empty where there is none."""
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
        ):
            connection.sendall(word)
            while piece := connection.recv(1 << 16):
                answer += piece
        return answer

    def said(self) -> str:
        """Return what it logged, warnings and worse, over all its starts."""
        with contextlib.suppress(FileNotFoundError):
            return self._out.read_text(encoding="utf-8", errors="replace")
        return ""

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._live(), None
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"Apache's server did not end in {STOP_TIMEOUT_S} s") from None

    def _live(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("Apache's server does not run")
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.stop()
