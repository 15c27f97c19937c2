"""Apache Kafka in ZooKeeper mode on our server, and beside it the same on Apache's.

One broker of Kafka 3.9.1 and Apache's own clients go through one drive on each of the two services,
at the same time.  The service asks for SASL (DIGEST-MD5), so that every znode of the broker has an
ACL; the broker lives below a chroot, and gets its id from the service.

    step           what is done                                 what the service must have done
    -------------  -------------------------------------------  -----------------------------------
    configured     topics, settings of topics and brokers,      sequence znodes, child watches
                   SCRAM users, quotas, ACLs
    a double       a second broker with the id of the first     its ephemeral belongs to somebody
    killed         the broker, -9; started again                ephemerals go with the session
    held still     the broker, until its session has expired    the session is told that it expired
    service gone   the service, -9, while records pass;         the session lives on, watches are
                   started again                                set again, nothing is lost
    deleted        a topic, and one of that name made anew      a tree of znodes is removed

After each step records are sent and read, and compared.  Kafka's clients are told the same on both
services, the same znodes are left behind, with the same content, ACLs and versions, the same paths
are watched, and the broker has nothing else to warn of than what is listed here.

Left to others: what single requests do (test_zookeeper_differential.py).
"""

from __future__ import annotations

import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl_credential
from tools.peers import kafka, zookeeper
from tools.peers.kafka_broker import VERSION, KafkaClients, KafkaPeer, KafkaRefusal

from stratalog.testing import ZooKeeperServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

pytestmark = pytest.mark.interop

SEED = 20
RECORDS = 120
ID = 1001  # the first that a service gives out
CHROOT = "/kafka/one"
SESSION_MS = 6000
WAITS_S = 180.0
SUPER = ("digest", "super:s")
BIG = "00" * 4000

JAAS = """
Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_kafka="broker's"; };
Client {
  org.apache.zookeeper.server.auth.DigestLoginModule required
  username="kafka" password="broker's";
};
"""
SETTINGS = {
    "zookeeper.4lw.commands.whitelist": "*",
    "zookeeper.authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
    "zookeeper.DigestAuthenticationProvider.superDigest": make_digest_acl_credential("super", "s"),
}
BROKER = {
    "zookeeper.session.timeout.ms": str(SESSION_MS),
    "zookeeper.set.acl": "true",
    "authorizer.class.name": "kafka.security.authorizer.AclAuthorizer",
    "super.users": "User:ANONYMOUS",
}

EXPECTED = (
    (r"Client session timed out, have not heard from server", "held still"),
    (r"Unable to reconnect to ZooKeeper service, session 0x\w+ has expired", "held still"),
    (r"Session 0x\w+ for server .* Attempting reconnect", "held still, service gone"),
    (
        r"\[Controller id=1001, targetBrokerId=1001\] Connection to node 1001 .* could not be",
        "a controller that starts talks to its own broker, which does not listen yet",
    ),
    (r"\[RequestSendThread controllerId=1001\] .* was unsuccessful", "the same"),
)
"""(pattern, step) of what the broker warns of; on Apache's service it warns of nothing else."""

MASKS = (
    (r'"timestamp":"\d+"', '"timestamp":"T"'),
    (r'"topic_id":"[^"]+"', '"topic_id":"I"'),
    (r'"id":"[^"]+"', '"id":"I"'),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r'"port":\d+', '"port":P'),
    (r"(salt|stored_key|server_key)=[^,]+", r"\1=S"),
)
"""Clocks, addresses and what Kafka draws at random."""

TOPICS = {"__consumer_offsets": 1, "after": 2, "later": 3, "limited": 1, "passing": 2, "steady": 4}


class Service(Protocol):
    """A coordination service, Apache's or ours."""

    @property
    def address(self) -> str: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...


class Znode(NamedTuple):
    """What compares of a znode."""

    data: str | None
    acls: list[tuple[int, str, str]]
    versions: tuple[int, int, int]
    children: int
    ephemeral: bool


@dataclass
class Outcome:
    """What came of the drive on one service.

    Attributes:
        told: What the broker told its clients.
        running: The znodes at the end, below the chroot.
        stopped: The same after the broker was stopped.
        watched: How many sessions have a data watch on a path; of child watches no word tells.
        warned: What the broker warned of.
    """

    told: dict[str, Any] = field(default_factory=dict)
    running: dict[str, Znode] = field(default_factory=dict)
    stopped: dict[str, Znode] = field(default_factory=dict)
    watched: dict[str, int] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)


def until(met: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + WAITS_S
    while not met():
        if time.monotonic() > end:
            raise AssertionError(f"not within {WAITS_S} s: {what}")
        time.sleep(0.1)


def owners(client: KazooClient) -> tuple[int, int]:
    """Return the sessions of the broker's registration and of the controller; 0: there is none."""
    stats = [client.exists(path) for path in (f"/brokers/ids/{ID}", "/controller")]
    broker, controller = (0 if stat is None else int(stat.ephemeralOwner) for stat in stats)
    return broker, controller


def tree(client: KazooClient, path: str = "/") -> dict[str, Znode]:
    """Return the znodes at and below a path."""
    data, stat = client.get(path)
    text = None if data is None else data.decode()
    for pattern, mask in MASKS:
        text = None if text is None else re.sub(pattern, mask, text)
    acls = [(one.perms, one.id.scheme, one.id.id) for one in client.get_acls(path)[0]]
    versions = (stat.version, stat.cversion, stat.aversion)
    znode = Znode(text, acls, versions, stat.numChildren, stat.ephemeralOwner != 0)
    found = {path: znode}
    for name in client.get_children(path):
        found |= tree(client, f"{path.rstrip('/')}/{name}")
    return found


def watched(client: KazooClient) -> dict[str, int]:
    """Return how many sessions have a data watch on a path, by path."""
    found: dict[str, int] = {}
    path = ""
    for line in client.command(b"wchp").splitlines():
        if line.startswith("/"):
            path = line
        elif line:
            found[path] = found.get(path, 0) + 1
    return found


class Drive:
    """The drive on one service, in a directory of its own."""

    def __init__(self, service: Service, directory: Path) -> None:
        self.service = service
        self.directory = directory
        self.outcome = Outcome()
        self.random = random.Random(SEED)
        self.records: list[tuple[int, int, str, str]] = []
        self.readers = 0

    def a_broker(self, name: str, overrides: dict[str, str]) -> KafkaPeer:
        """Return a broker, not started."""
        return KafkaPeer(
            self.directory / name, self.service.address + CHROOT, overrides=BROKER | overrides,
            properties={"java.security.auth.login.config": str(self.directory / "jaas.conf")},
        )  # fmt: skip

    def look(self, ask: Callable[[KazooClient], Any]) -> Any:
        """Ask the service one thing, as its superuser."""
        client = KazooClient(self.service.address + CHROOT, timeout=30, auth_data=[SUPER])
        try:
            client.start(timeout=WAITS_S)
            return ask(client)
        finally:
            client.stop()
            client.close()

    # ---- what clients do -------------------------------------------------------------------------

    def pass_records(self, clients: KafkaClients, partitions: int) -> None:
        """Send records and read them."""
        sent = [
            (self.random.randrange(partitions), f"{i:08x}", self.random.randbytes(60).hex())
            for i in range(RECORDS)
        ]
        offsets = clients.produce("steady", sent)
        assert len(offsets) == len(sent)
        new = sorted((p, at, k, v) for (p, k, v), at in zip(sent, offsets, strict=True))
        self.records += new
        assert sorted(clients.consume("steady", "follower")) == new

    def read_all(self, clients: KafkaClients) -> None:
        """Read all records from the beginning."""
        self.readers += 1
        found = clients.consume("steady", f"reader {self.readers}")
        assert sorted(found) == sorted(self.records)

    def alter(
        self, clients: KafkaClients, kind: str, name: str, configs: dict[str, str | None]
    ) -> None:
        """Change settings; wait until the broker tells them, which learns of them by a watch."""
        clients.ask("alter", kind=kind, name=name, configs=configs)
        wanted = {key: value for key, value in configs.items() if value is not None}.items()
        until(
            lambda: clients.ask("configs", kind=kind, name=name).items() >= wanted,
            f"{kind} {name} has {wanted}",
        )

    def limit(self, clients: KafkaClients, value: int | None, *, refused: bool) -> None:
        """Change a limit; wait until the broker, which learns of it by a watch, abides by it."""
        configs = {"max.message.bytes": None if value is None else str(value)}
        clients.ask("alter", kind="TOPIC", name="limited", configs=configs)

        def abides() -> bool:
            try:
                clients.produce("limited", [(0, "00", BIG)])
            except KafkaRefusal as refusal:
                if "RecordTooLarge" not in str(refusal):
                    raise
                return refused
            return not refused

        until(abides, f"max.message.bytes is {value}")

    def tell(self, clients: KafkaClients, when: str) -> None:
        """Keep what the broker tells its clients."""
        cluster = clients.ask("cluster")
        assert cluster[1:] == [ID, [ID]]
        told: dict[str, Any] = {what: clients.ask(what) for what in ("topics", "scrams", "quotas")}
        told["acls"] = sorted(clients.ask("acls"))
        for kind, name in (("TOPIC", "steady"), ("TOPIC", "limited"), ("BROKER", str(ID))):
            told[name] = clients.ask("configs", kind=kind, name=name)
        self.outcome.told[when] = told

    # ---- the steps -------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Go through all of it."""
        broker = self.a_broker("broker", {})
        try:
            with broker, KafkaClients(broker.bootstrap, self.directory) as clients:
                self.configured(clients)
                self.a_double(clients)
                self.killed(clients, broker)
                self.held_still(clients, broker)
                self.service_gone(clients)
                self.deleted(clients)
                self.tell(clients, "at the end")
                self.outcome.running = self.look(tree)
                self.outcome.watched = self.look(watched)
                broker.stop()
                assert self.look(owners) == (0, 0)
                self.outcome.stopped = self.look(tree)
                broker.start()
                self.read_all(clients)
        finally:
            self.outcome.warned = broker.warned()
        return self.outcome

    def configured(self, clients: KafkaClients) -> None:
        clients.ask("create", topic="steady", partitions=3, configs={"segment.bytes": "1000000"})
        clients.ask("create", topic="passing", partitions=5, configs={"cleanup.policy": "compact"})
        clients.ask("create", topic="limited", partitions=1, configs={})
        with pytest.raises(KafkaRefusal, match="TopicExists"):
            clients.ask("create", topic="steady", partitions=3, configs={})
        self.pass_records(clients, 3)
        clients.ask("grow", topic="steady", partitions=4)
        self.pass_records(clients, 4)
        self.limit(clients, 2000, refused=True)
        self.alter(clients, "TOPIC", "steady", {"retention.ms": "-1", "segment.bytes": None})
        self.alter(clients, "BROKER", str(ID), {"log.cleaner.threads": "2"})
        self.alter(clients, "BROKER", "", {"message.max.bytes": "2000000"})
        clients.ask("scram", user="größe", password="a secret")  # noqa: S106
        clients.ask("quota", user="a user", key="producer_byte_rate", value=1e6)
        clients.ask("allow", principal="User:a", topic="steady", operation="READ")
        clients.ask("allow", principal="User:b", topic="steady", operation="WRITE")
        self.tell(clients, "configured")

    def a_double(self, clients: KafkaClients) -> None:
        before = self.look(owners)
        double = self.a_broker("double", {"broker.id": str(ID), "reserved.broker.max.id": "2000"})
        with pytest.raises(RuntimeError, match="ended with code 1"):
            double.start()
        story = f"ephemeral at /brokers/ids/{ID}, node already exists and owner '0x{before[0]:x}'"
        assert any(story in line for line in double.lines())
        assert self.look(owners) == before
        self.pass_records(clients, 4)

    def killed(self, clients: KafkaClients, broker: KafkaPeer) -> None:
        before = self.look(owners)
        broker.kill()
        self.look(lambda client: until(lambda: owners(client) == (0, 0), "its ephemerals go"))
        broker.start()
        assert not set(self.look(owners)) & {0, *before}
        self.pass_records(clients, 4)
        self.tell(clients, "the broker was killed")

    def held_still(self, clients: KafkaClients, broker: KafkaPeer) -> None:
        before = self.look(owners)
        with broker.held_still():
            self.look(lambda client: until(lambda: owners(client) == (0, 0), "its ephemerals go"))
        self.look(lambda client: until(lambda: all(owners(client)), "it registers again"))
        assert not set(self.look(owners)) & {0, *before}
        self.pass_records(clients, 4)
        clients.ask("create", topic="after", partitions=2, configs={})

    def service_gone(self, clients: KafkaClients) -> None:
        before = self.look(owners)
        self.service.kill()
        self.pass_records(clients, 4)
        self.service.start()
        clients.ask("create", topic="later", partitions=3, configs={})
        self.limit(clients, None, refused=False)
        self.limit(clients, 3000, refused=True)
        assert self.look(owners) == before
        self.pass_records(clients, 4)
        self.read_all(clients)

    def deleted(self, clients: KafkaClients) -> None:
        sent = [(i % 5, f"{i:02x}", "ff") for i in range(50)]
        clients.produce("passing", sent)
        assert len(clients.consume("passing", "follower")) == len(sent)
        clients.ask("delete", topic="passing")
        paths = ("/brokers/topics/passing", "/admin/delete_topics/passing")
        self.look(lambda client: until(lambda: not any(map(client.exists, paths)), "it is gone"))
        assert "passing" not in clients.ask("topics")
        clients.ask("create", topic="passing", partitions=2, configs={})
        assert clients.consume("passing", "another") == []


# ---- the tests -----------------------------------------------------------------------------------


def on_ours(directory: Path, settings: dict[str, str]) -> Outcome:
    """The drive on our server."""
    arguments = [f"-D{key}={value}" for key, value in settings.items()]
    with ZooKeeperServer(directory / "service", arguments=arguments) as service:
        outcome = Drive(service, directory).run()
        said = [line for line in service.said().splitlines() if " INFO " not in line]
    assert not said
    return outcome


def on_apaches(directory: Path, settings: dict[str, str]) -> Outcome:
    """The drive on Apache's."""
    with zookeeper.ZooKeeperPeer(directory / "service", properties=settings) as service:
        return Drive(service, directory).run()


@pytest.fixture(scope="module")
def outcomes(module_scratch: Path) -> Iterator[dict[str, Future[Outcome]]]:
    """What comes of the drive on both services; it waits most of the time, so they run together."""
    try:
        zookeeper.jars()
        kafka.jars(VERSION)
    except kafka.PeerUnavailable as reason:
        pytest.skip(f"Apache's programs are not to be had: {reason}")
    print(f"seed {SEED}")
    with ThreadPoolExecutor(2) as pool:
        running: dict[str, Future[Outcome]] = {}
        for name, drive in (("ours", on_ours), ("apaches", on_apaches)):
            directory = module_scratch / name
            directory.mkdir()
            (directory / "jaas.conf").write_text(JAAS)
            settings = SETTINGS | {
                "java.security.auth.login.config": str(directory / "jaas.conf"),
            }
            running[name] = pool.submit(drive, directory, settings)
        yield running


@pytest.mark.parametrize("name", ["ours", "apaches"])
def test_kafka_runs_on(outcomes: dict[str, Future[Outcome]], name: str) -> None:
    outcome = outcomes[name].result()
    for told in outcome.told.values():
        assert told["scrams"] == ["größe"]
        assert told["quotas"] == {"a user": {"producer_byte_rate": 1e6}}
        assert told["acls"] == [["User:a", "steady", "READ"], ["User:b", "steady", "WRITE"]]
        assert told["steady"].items() >= {("retention.ms", "-1")}
        assert told[str(ID)].items() >= {("log.cleaner.threads", "2")}
    last = outcome.told["at the end"]
    assert {name: len(partitions) for name, partitions in last["topics"].items()} == TOPICS
    assert {name for name, znode in outcome.running.items() if znode.ephemeral} == {
        f"/brokers/ids/{ID}", "/controller"
    }  # fmt: skip
    assert not any(znode.ephemeral for znode in outcome.stopped.values())
    assert {"/brokers/topics/steady/partitions/3/state", "/kafka-acl/Topic/steady"} <= set(
        outcome.stopped
    )
    assert f"{CHROOT}/controller" in outcome.watched
    warned = outcome.warned
    assert any("has expired" in line for line in warned)  # or nobody was listening
    unexpected = [line for line in warned if not any(re.search(kind, line) for kind, _ in EXPECTED)]
    assert not unexpected


def test_both_services_leave_kafka_the_same(outcomes: dict[str, Future[Outcome]]) -> None:
    ours, apaches = (outcomes[name].result() for name in ("ours", "apaches"))
    assert ours.told == apaches.told
    assert ours.running == apaches.running
    assert ours.stopped == apaches.stopped
    assert ours.watched == apaches.watched
