"""Apache's own shell, zkCli: a script of commands into a server, what it prints out of it.

``run(address, script)``
    Each command with the lines it printed, and the events that arrived meanwhile apart, since they
    are printed by a thread of their own.

It is ``org.apache.zookeeper.ZooKeeperMain``, as bin/zkCli.sh starts it, with commands on its
standard input.  What differs between two runs by nature is masked: times, session ids.

Raises ``PeerUnavailable`` with a sentence where it cannot run.

Left to others: which commands, and that two servers answer alike (tests/interop/test_zkcli.py).
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tools.peers import zookeeper
from tools.peers.maven import UTF8_CONSOLE, java

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 60

_prompt = re.compile(r"\[zk: [^\]\n]*\] ")
_event = re.compile(r"WatchedEvent state:.*")
_logged = re.compile(
    r"^(?:WARN|ERROR|INFO) .*\(org\.apache\.[\w.]+\)?$|^.* org\.jline\..*\nWARNING: .*$",
    re.MULTILINE,
)
_masks = (
    (re.compile(r"^([cm]time) = .*$", re.MULTILINE), r"\1 = TIME"),
    (re.compile(r"^(ephemeralOwner) = 0x[1-9a-f][0-9a-f]*$", re.MULTILINE), r"\1 = SESSION"),
    (re.compile(r"\b0x[0-9a-f]{9,}\b"), "SESSION"),
)


@dataclass
class Transcript:
    """What was printed: by command, in order; and the events, in order."""

    answers: list[tuple[str, str]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    code: int = 0


def run(address: str, script: Sequence[str], *, properties: Sequence[str] = ()) -> Transcript:
    """Run commands against a server.

    Args:
        address: ``host:port``.
        script: One command each.
        properties: For its JVM, such as ``-Dkey=value``.

    Raises:
        PeerUnavailable: no JDK, no Maven, or the download failed.
    """
    library = zookeeper.jars()[0].parent
    command = [
        java(), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *UTF8_CONSOLE,
        *properties, "-cp", f"{library.parent}:{library / '*'}",
        "org.apache.zookeeper.ZooKeeperMain", "-waitforconnection", "-server", address,
    ]  # fmt: skip
    done = subprocess.run(
        command, input="".join(f"{words}\n" for words in (*script, "quit")),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        errors="replace", timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    said = _logged.sub("", done.stdout)
    for pattern, mask in _masks:
        said = pattern.sub(mask, said)
    answers = [_lines(answer) for answer in _prompt.split(said)[1:]]
    if len(answers) < len(script):
        raise RuntimeError(f"{len(script)} commands, {len(answers)} answers: {done.stdout}")
    # Of its own end the client may or may not tell, before the shell's process is gone.
    events = [event for event in _event.findall(said) if "state:Closed" not in event]
    return Transcript(list(zip(script, answers, strict=False)), events, done.returncode)


def _lines(answer: str) -> str:
    """An answer without the events that a thread of their own printed into it."""
    lines = (_event.sub("", line) for line in answer.splitlines())
    return "\n".join(line for line in lines if line not in ("", "WATCHER::"))
