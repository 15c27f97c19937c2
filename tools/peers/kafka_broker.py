"""Apache Kafka with a coordination service: a broker in ZooKeeper mode, and clients that stay.

``KafkaPeer(data_dir, zookeeper)``
    One broker of the last line that knows ZooKeeper, registered with the service at an address;
    can be stopped, killed, held still and started again, on its port and its files.
``KafkaClients(bootstrap)``
    Apache's admin client, producer and consumer in one process (KafkaClients.java), which lives
    through what happens to the broker.

    KafkaClients  --requests-->  KafkaPeer  --sessions, znodes, watches-->  the service

Raises ``PeerUnavailable`` with a sentence where they cannot run.

Left to others: the service itself (zookeeper.py, stratalog.testing) and what ought to come of it
(tests/interop).
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tools.peers.kafka import KafkaBroker, free_ports, jars, java_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["VERSION", "KafkaClients", "KafkaPeer", "KafkaRefusal"]

VERSION = "3.9.1"
START_TIMEOUT_S = 180
ANSWER_TIMEOUT_S = 300
"""Above what the clients themselves wait for (KafkaClients.java)."""

CLIENTS = Path(__file__).resolve().parent / "KafkaClients.java"

_SMALL = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""A JVM that starts soon and lives briefly."""


class KafkaPeer(KafkaBroker):
    """A broker in ZooKeeper mode on a free loopback port, which it keeps over restarts.

    Its id is the service's to give (``broker.id.generation.enable``) unless ``overrides`` has one.
    At the end of its block it is killed, for its service may be gone and it would wait for it.

    Args:
        data_dir: Where it keeps its files, and what it logs, a file for each start.
        zookeeper: ``host:port/chroot`` of the coordination service.
        overrides: Further lines of its server.properties, by key; they win.
        properties: Java system properties.
        start_timeout_s: How long a start may take.
    """

    serving: ClassVar[str] = "started (kafka.server.KafkaServer)"
    harmless: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(
        self,
        data_dir: Path,
        zookeeper: str,
        *,
        overrides: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        super().__init__(VERSION, data_dir, overrides=overrides, start_timeout_s=start_timeout_s)
        jars(VERSION)
        self._port = free_ports(1)[0]
        self._zookeeper = zookeeper
        self._java = [f"-D{key}={value}" for key, value in (properties or {}).items()]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()

    @contextlib.contextmanager
    def held_still(self) -> Iterator[None]:
        """Hold it still for a while, as a long pause of its collector does."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def warned(self) -> list[str]:
        """Return the WARN, ERROR and FATAL lines of all starts."""
        logs = sorted(self.data_dir.glob("server-*.log"))
        lines = (line for log in logs for line in log.read_text(errors="replace").splitlines())
        return [line for line in lines if re.match(r"\[[^]]+\] (WARN|ERROR|FATAL) ", line)]

    def _prepare(self, properties: Path) -> list[str]:
        lines = self._zookeeper_properties() | self._overrides
        properties.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        return [*_SMALL, *self._java]

    def _zookeeper_properties(self) -> dict[str, str]:
        return {
            "zookeeper.connect": self._zookeeper,
            "listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.log_dir),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "num.network.threads": "2",
            "num.io.threads": "2",
        }


class KafkaRefusal(Exception):  # noqa: N818  (it says what was answered, not who erred)
    """What Apache's client says of a request that failed."""


class KafkaClients:
    """Apache's clients in one process, for one broker's address; as a context manager.

    Args:
        bootstrap: ``host:port`` of the broker, which need not run yet.
        directory: Where what they log is kept, ``clients.log``.
    """

    def __init__(self, bootstrap: str, directory: Path) -> None:
        self._log = directory / "clients.log"
        self._command = java_command(VERSION, "256m", "tool", *_SMALL, str(CLIENTS), bootstrap)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
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
            process.communicate()

    def ask(self, what: str, **fields: object) -> Any:
        """Let them do one thing, as KafkaClients.java describes it.

        Raises:
            KafkaRefusal: It failed.
            RuntimeError: They ended, or did not answer.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the clients do not run")
        said = json.dumps({"do": what, **fields}).encode() + b"\n"
        line = b""
        if process.poll() is None:
            process.stdin.write(said)
        while not line.endswith(b"\n"):
            ready = select.select([process.stdout], [], [], ANSWER_TIMEOUT_S)[0]
            piece = process.stdout.read(1 << 20) if ready else b""
            if not piece:
                logged = self._log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"no answer to {what}; the clients logged:\n{logged}")
            line += piece
        answer = json.loads(line)
        if "failed" in answer:
            raise KafkaRefusal(answer["failed"])
        return answer["done"]

    def consume(self, topic: str, group: str) -> list[tuple[int, int, str, str]]:
        """Read what ``group`` has not read: partition, offset, key and value in hex."""
        return [(p, o, k, v) for p, o, k, v in self.ask("consume", topic=topic, group=group)]

    def produce(self, topic: str, records: Sequence[tuple[int, str, str]]) -> list[int]:
        """Send records (partition, key and value in hex); return their offsets."""
        return [int(one) for one in self.ask("produce", topic=topic, records=records)]
