"""One random stream of operations into Apache ZooKeeper and ours: the audit logs say the same.

    stream --step--> both servers --audit log--> lines, sessions by number --> equal, in order

The order of an identity's names and of a session's ephemerals is that of a hash table at Apache's:
both are sorted.  Control characters in a refused path are escaped by ours alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tools.differential.profile import APACHE_CONFIG, APACHE_PROPERTIES
from tools.differential.stream import Stream
from tools.differential.zookeeper import Side
from tools.peers import zookeeper as peers

from stratalog.testing import ZooKeeperServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop

SEED = 4
STEPS = 900
EPHEMERAL = "ephemeralZNodeDeletionOnSessionCloseOrExpire"
LINE = re.compile(r"(?:INFO|ERROR) ((?:session|user)=.*result=\w+)$")

LOGBACK = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><charset>UTF-8</charset><pattern>%p %m%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
  <logger name="org.apache.zookeeper.audit.Slf4jAuditLogger" level="INFO"/>
</configuration>
"""


class Apache:
    """Apache's server with an audit log, as a run wants it."""

    def __init__(self, scratch: Path) -> None:
        self.data_dir = scratch / "apache"
        logback = scratch / "logback.xml"
        logback.write_text(LOGBACK)
        properties = {
            **APACHE_PROPERTIES, "zookeeper.audit.enable": "true",
            "logback.configurationFile": logback,
        }  # fmt: skip
        self.peer = peers.ZooKeeperPeer(self.data_dir, APACHE_CONFIG, properties=properties)

    def start(self) -> str:
        self.peer.start()
        return self.peer.address

    def stop(self) -> str:
        self.peer.stop()
        return ""

    def said(self) -> str:
        return self.peer.said()


class Ours:
    """Our server with an audit log, told the same."""

    def __init__(self, scratch: Path) -> None:
        self.data_dir = scratch / "ours"
        told = {**APACHE_CONFIG, **APACHE_PROPERTIES, "audit.enable": "true"}
        arguments = ["--quiet", *(f"-D{key}={value}" for key, value in told.items())]
        self.server = ZooKeeperServer(self.data_dir, arguments=arguments)
        self.text = ""

    def start(self) -> str:
        self.server.start()
        return self.server.address

    def stop(self) -> str:
        code = self.server.stop()
        return "" if code == 0 else f"exit code {code}"

    def said(self) -> str:
        return self.server.said()


def _lines(side: Side) -> list[str]:
    """The lines of one side's audit log, in one form."""
    server = side.server
    assert isinstance(server, Apache | Ours)
    found = []
    for text in server.said().split("\n"):
        match = LINE.search(text)
        if match is None:
            continue
        shown = []
        for pair in match[1].split("\t"):
            name, _, value = pair.partition("=")
            if name == "session":
                value = str(side.eyes.sessions[int(value, 16)])
            elif name == "user":
                value = ",".join(sorted(value.split(",")))
            plain = re.sub("[\0-\x1f\x7f-\x9f]", lambda it: f"\\x{ord(it[0]):02x}", value)
            shown.append(f"{name}={plain}")
        found.append(" ".join(shown))
    return _sorted_runs(found)


def _sorted_runs(lines: list[str]) -> list[str]:
    """Sort what one closed session took along."""
    done: list[str] = []
    run: list[str] = []
    for line in lines:
        if EPHEMERAL in line:
            run.append(line)
            continue
        done += [*sorted(run), line]
        run = []
    return done + sorted(run)


def test_both_servers_tell_the_same_of_the_same_work(scratch: Path) -> None:
    try:
        servers = (Apache(scratch), Ours(scratch))
    except peers.PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")
    print(f"seed {SEED}")
    sides: list[Side] = []
    try:
        sides.extend(Side(server) for server in servers)  # type: ignore[arg-type]
        stream = Stream(SEED, hard_quotas=False)
        for _ in range(STEPS):
            step = stream.step()
            for side in sides:
                side.send(step)
            shown = [side.take(step) for side in sides]
            assert shown[0] == shown[1], step
            stream.learn(step, shown[0])
    finally:
        wrong = [side.close() for side in sides]
    assert not any(wrong)
    apache, ours = (_lines(side) for side in sides)
    for number, (left, right) in enumerate(zip(apache, ours, strict=False)):
        assert left == right, f"line {number} of {len(apache)} and {len(ours)}"
    assert len(apache) == len(ours)
    # Nothing was left out, or equality would mean little.
    text = "\n".join(ours)
    told = {match[1] for match in re.finditer(r"operation=(\w+)", text)}
    assert told == {
        "serverStart", "serverStop", "create", "delete", "setData", "setAcl", "multiOperation",
        "reconfig", EPHEMERAL,
    }  # fmt: skip
    modes = {match[1] for match in re.finditer(r"znode_type=(\w+)", text)}
    assert len(modes) == 7
    assert {match[1] for match in re.finditer(r"result=(\w+)", text)} == {
        "success", "failure", "invoked",
    }  # fmt: skip
