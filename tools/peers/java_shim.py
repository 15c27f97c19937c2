"""A ``java`` that starts our server where somebody's harness starts Apache's.

    java -cp JARS -Dkey=value ... org.apache.zookeeper.server.quorum.QuorumPeerMain zoo.cfg
      ->  python -m stratalog serve --zoo-cfg zoo.cfg -Dkey=value ...

``make(directory)`` puts an executable of that name there; with the directory first on the PATH, the
harness starts us, by the same words and with the same configuration.  The process it starts is the
server: its signals and its exit code are ours.

What is not a start of ZooKeeper's server is refused with a sentence, so that nothing passes because
it did not run.

Left to others: what the configuration means (``stratalog serve``).

Source: ``kazoo/testing/common.py``, ``bin/zkServer.sh``.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVERS = (
    "org.apache.zookeeper.server.quorum.QuorumPeerMain",
    "org.apache.zookeeper.server.ZooKeeperServerMain",
)
_WITH_VALUE = ("-cp", "-classpath", "--class-path")


def make(directory: Path, python: str = sys.executable) -> Path:
    """Make an executable ``java`` in a directory; return it.

    Args:
        directory: Where; it has to be first on the PATH.
        python: The interpreter that has stratalog.
    """
    program = directory / "java"
    words = shlex.join((python, str(Path(__file__).resolve())))
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return program


def translate(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of ``stratalog`` for arguments of ``java``.

    Raises:
        ValueError: They do not start ZooKeeper's server from a configuration file.
    """
    rest = list(arguments)
    properties: list[str] = []
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in _WITH_VALUE and rest:
            rest.pop(0)
        elif word.startswith("-D"):
            properties.append(word)
    if len(rest) != 2 or rest[0] not in SERVERS:
        raise ValueError(f"this java only starts {' or '.join(SERVERS)} with a zoo.cfg: {rest}")
    return ["serve", "--zoo-cfg", rest[1], *properties]


def main() -> None:
    """Become the server."""
    try:
        words = translate(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
    command = [sys.executable, "-m", "stratalog", *words]
    os.execv(command[0], command)  # noqa: S606  (the process that was started is the server)


if __name__ == "__main__":
    main()
