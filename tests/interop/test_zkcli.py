"""Apache's own shell prints the same, whether it talks to Apache's server or to ours.

The scripts go through every command of zkCli and their usual mistakes.  Both servers begin empty,
so that zxids are equal too; only times and session ids are masked.

Once more over TLS, with a client certificate and SASL, both servers with the same zoo.cfg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.server.certificates import PASSWORD, World, make_world
from tools.peers import zkcli, zookeeper

from stratalog.testing import ZooKeeperServer

if TYPE_CHECKING:
    from pathlib import Path

# One after the other in one session; the last of them ends it, with an authentication that fails.
SCRIPTS = {
    "znodes": (
        "ls /",
        "create /a hello",
        "create /a again",
        "create /missing/parent x",
        "create /a/b",
        "create /a/b/c two words",
        'create /a/quoted "two words"',
        "create -s /a/s- 1",
        "create -s /a/s- 2",
        "create -e /a/e gone",
        "create -e -s /a/es- gone",
        "create /a/e/child no",
        "create -c /a/container",
        "create -t 1000 /a/ttl x",
        "create relative x",
        "create /trailing/ x",
        "get /a",
        "get -s /a",
        "get -s /a/e",
        "get -b /a",
        "get -x /a",
        "get /nope",
        "stat /a",
        "stat /nope",
        "ls -s /a",
        "ls -R /",
        "ls /nope",
        "set /a changed",
        "set -s /a again",
        "set -v 2 /a right",
        "set -v 2 /a stale",
        "set /nope x",
        "getAllChildrenNumber /",
        "getAllChildrenNumber /a",
        "getEphemerals",
        "getEphemerals /a/e",
        "sync /",
        "delete /a",
        "delete -v 7 /a/b/c",
        "delete -v 0 /a/b/c",
        "delete /nope",
        "deleteall /a/b",
        "deleteall /nope",
        "delete /zookeeper",
        "stat /a",
        "config",
        "config -s",
        "reconfig -add server.5=127.0.0.1:2888:3888;2181",
        "whoami",
        "unknown",
        "version",
        "ls -R /",
    ),
    "watches": (
        "deleteall /a",
        "create /a 1",
        "get -w /a",
        "set /a 2",
        "set /a 3",
        "ls -w /a",
        "create /a/b",
        "create /a/c",
        "stat -w /nope",
        "stat -w /a",
        "delete /a/b",
        "addWatch -m PERSISTENT /a",
        "set /a 4",
        "create /a/d",
        "set /a/d x",
        "addWatch /a",
        "set /a/d y",
        "delete /a/d",
        "removewatches /a",
        "removewatches /nope -d",
        "set /a 5",
        "printwatches off",
        "get -w /a",
        "set /a 6",
        "printwatches on",
        "get -s /a",
    ),
    "quotas": (
        "create /q x",
        "listquota /q",
        "setquota -n 3 /q",
        "setquota -b 100 /q",
        "setquota -N 5 /q",
        "setquota -B 200 /q",
        "listquota /q",
        "create /q/a some-data",
        "create /q/b",
        "create /q/c",
        "create /q/d",
        "listquota /q",
        "setquota -n 3 /q/a",
        "get -s /zookeeper/quota/q/zookeeper_stats",
        "delquota -n /q",
        "listquota /q",
        "delquota /q",
        "listquota /q",
        "ls -R /zookeeper",
        "setquota -n 3 /nope",
    ),
    "acls": (
        "create /open x",
        "getAcl /open",
        "getAcl -s /open",
        "create /mine x digest:bob:xkq4/WFiKsiYkm+ngkKlMzbpjzs=:cdrwa",
        "getAcl /mine",
        "get /mine",
        "set /mine y",
        "delete /mine",
        "addauth digest bob:secret",
        "whoami",
        "create /auth x auth::cdrwa",
        "getAcl /auth",
        "get /auth",
        "setAcl /auth auth::r",
        "set /auth y",
        "setAcl /auth world:anyone:cdrwa",
        "setAcl -s /open world:anyone:r",
        "set /open y",
        "setAcl -v 0 /open world:anyone:cdrwa",
        "setAcl -v 1 /open ip:127.0.0.0/8:cdrwa",
        "get -s /open",
        "setAcl /open nonsense:x:r",
        "setAcl /open ip:nonsense:r",
        "setAcl -R /auth ip:127.0.0.1:cdrwa",
        "getAcl -s /auth",
        "setAcl /nope world:anyone:r",
        "getAcl /nope",
        "addauth nonsense x",
    ),
}


SECURE_SCRIPT = (
    "whoami",
    "create /mine x x509:CN=client:cdrwa",
    "getAcl /mine",
    "get /mine",
    "create /bobs x sasl:bob:cdrwa",
    "set -s /bobs y",
    "create /both x auth::cdrwa",
    "getAcl /both",
    "create /theirs x sasl:alice:cdrwa",
    "get /theirs",
    "create /wrong x x509:nonsense:r",
    "create /wrong x sasl:a@b@c:r",
    "ls -R /",
)

JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_bob="bob's";
};
Client {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    username="bob"
    password="bob's";
};
"""


@pytest.fixture(scope="module", autouse=True)
def need_zookeeper() -> None:
    try:
        zookeeper.jars()
    except zookeeper.PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")


@pytest.fixture(scope="module")
def transcripts(module_scratch: Path) -> tuple[zkcli.Transcript, zkcli.Transcript]:
    """What Apache's server led to, and what ours did."""
    script = [words for part in SCRIPTS.values() for words in part]
    with zookeeper.ZooKeeperPeer(module_scratch / "theirs") as server:
        theirs = zkcli.run(server.address, script)
    with ZooKeeperServer(module_scratch / "ours") as server:
        return theirs, zkcli.run(server.address, script)


def part_of(transcript: zkcli.Transcript, name: str) -> list[tuple[str, str]]:
    """The answers to one script."""
    names = list(SCRIPTS)
    start = sum(len(SCRIPTS[before]) for before in names[: names.index(name)])
    return transcript.answers[start : start + len(SCRIPTS[name])]


def settled(command: str, answer: str) -> object:
    """An answer, without an order where Apache's server takes it from a hash table."""
    if command.startswith("getEphemerals"):
        return sorted(answer.strip("[]").split(", "))
    if command == "whoami":
        return sorted(answer.splitlines())
    return answer


@pytest.mark.interop
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_prints_the_same(name, transcripts):
    theirs, ours = (part_of(transcript, name) for transcript in transcripts)
    for (command, their_answer), (_, our_answer) in zip(theirs, ours, strict=True):
        assert settled(command, our_answer) == settled(command, their_answer), command


@pytest.mark.interop
def test_the_same_events_arrive(transcripts):
    theirs, ours = transcripts
    assert ours.events == theirs.events
    assert ours.code == theirs.code
    assert any("NodeDataChanged path:/a" in event for event in theirs.events)


@pytest.mark.interop
def test_the_shell_was_there(transcripts):
    theirs, _ = transcripts
    answers = dict(part_of(theirs, "znodes"))
    assert answers["get /nope"].endswith("Node does not exist: /nope")
    assert "cZxid = 0x2" in answers["get -s /a"]
    assert dict(part_of(theirs, "acls"))["get /auth"] == "x"


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def secured(directory: Path, world: World, port: int) -> dict[str, object]:
    """The lines of a zoo.cfg; stores in two formats."""
    (directory / "server.p12").write_bytes(world.server.pkcs12())
    (directory / "client.p12").write_bytes(world.client.pkcs12())
    (directory / "authority.pem").write_bytes(world.authority.certificate_pem)
    (directory / "jaas.conf").write_text(JAAS)
    return {
        "tickTime": 2000,
        "secureClientPort": port,
        "secureClientPortAddress": "127.0.0.1",
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "ssl.keyStore.location": directory / "server.p12",
        "ssl.keyStore.password": PASSWORD,
        "ssl.trustStore.location": directory / "authority.pem",
    }


def secure_client(directory: Path) -> list[str]:
    """Properties of zkCli's JVM."""
    return [
        "-Dzookeeper.client.secure=true",
        "-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty",
        f"-Dzookeeper.ssl.keyStore.location={directory}/client.p12",
        f"-Dzookeeper.ssl.keyStore.password={PASSWORD}",
        f"-Dzookeeper.ssl.trustStore.location={directory}/authority.pem",
        "-Dzookeeper.ssl.hostnameVerification=false",
        "-Dzookeeper.fips-mode=false",
        f"-Djava.security.auth.login.config={directory}/jaas.conf",
    ]


@pytest.mark.interop
def test_the_shell_prints_the_same_over_tls_and_with_sasl(scratch, world):
    port = zookeeper.free_port()
    config = secured(scratch, world, port)
    jaas = f"{scratch}/jaas.conf"
    with zookeeper.ZooKeeperPeer(
        scratch / "theirs", config, properties={"java.security.auth.login.config": jaas}
    ):
        theirs = zkcli.run(
            f"127.0.0.1:{port}", SECURE_SCRIPT, properties=secure_client(scratch)
        )  # fmt: skip
    cfg = scratch / "ours.cfg"
    cfg.write_text("".join(f"{key}={value}\n" for key, value in config.items()))
    arguments = ("--zoo-cfg", str(cfg), f"-Djava.security.auth.login.config={jaas}")
    with ZooKeeperServer(scratch / "ours", arguments=arguments):
        ours = zkcli.run(
            f"127.0.0.1:{port}", SECURE_SCRIPT, properties=secure_client(scratch)
        )  # fmt: skip
    for (command, their_answer), (_, our_answer) in zip(theirs.answers, ours.answers, strict=True):
        assert settled(command, our_answer) == settled(command, their_answer), command
    assert ours.events == theirs.events
    assert {"x509: CN=client", "sasl: bob"} <= set(dict(theirs.answers)["whoami"].splitlines())
