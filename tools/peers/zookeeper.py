"""Apache ZooKeeper beside us: its classes at work on records and files, as test oracles.

``transcode(records)``
    Records read and written again by Apache's classes (ZooKeeperFiles.java).
``write_directory(directory, seed)`` and ``read_directory(directory)``
    A data directory as Apache's server leaves one, and what it would find in one of ours.
``read_logs(directory)``
    What its iterator finds in the transaction logs.

Raises ``PeerUnavailable`` with a sentence where it cannot run.

Left to others: what ought to be in the files (tests/interop).
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tools.peers.maven import UTF8_CONSOLE, PeerUnavailable, java, peer_dir

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "VERSION", "PeerUnavailable", "Tree", "jars", "read_directory", "read_logs", "transcode",
    "write_directory",
]  # fmt: skip

HERE = Path(__file__).resolve().parent
VERSION = "3.9.5"
TIMEOUT_S = 120

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
