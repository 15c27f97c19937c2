"""Apache Kafka beside us: its jars, its dump tool, its broker and its own clients, as test oracles.

What this module promises
-------------------------
``jars(version)``
    The jars of one Kafka release, fetched by Maven once and kept in a cache; no network afterwards.
``dump_log(version, target)``
    What ``kafka.tools.DumpLogSegments`` sees in segment files, as data, and above all
    ``report.problems``.
``KafkaBroker(version, data_dir)``
    One real broker (KRaft, broker and controller in one process) on free loopback ports, which can
    be stopped as an operator would and killed as a power cut would, and which shows the warnings it
    logged.
``KafkaBroker.produce`` and ``.consume``
    Traffic by Apache's Java client from a seed, with the truth about each record
    (KafkaTraffic.java).

Everything raises ``PeerUnavailable`` with a sentence for a person when a JDK, Maven or the network
is missing, so that a test suite can skip with that sentence instead of failing or, worse, passing
in silence.

Left to others: which files to look at, and what ought to be in them (tests/interop).
Tools and brokers are started with an argument list, never through a shell, and only processes
started here are ever signalled.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tools.peers.kafka_dump import (
    SUFFIXES,
    DumpReport,
    Problem,
    parse_section,
    parse_stderr,
    sections,
)
from tools.peers.maven import UTF8_CONSOLE, PeerUnavailable, java, peer_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = [
    "VERSIONS",
    "DumpReport",
    "KafkaBroker",
    "PeerUnavailable",
    "Problem",
    "TrafficRecord",
    "dump_log",
    "free_ports",
    "jars",
    "java",
    "java_command",
]

HERE = Path(__file__).resolve().parent

VERSIONS = ("3.9.1", "4.2.0")
"""The releases with a pom beside this file: of the 3.x line, and the one our files follow."""

TOOL_TIMEOUT_S = 300
BROKER_START_TIMEOUT_S = 90
BROKER_STOP_TIMEOUT_S = 60
FILES_PER_DUMP_MAX = 2_000
"""Linux refuses one argument above 128 KiB; a file name and its comma take at most 31 bytes."""

_LOGGING = {
    # Tools are silent below WARN; what they log goes to stderr, where each line is a problem.
    "log4j2-tool.properties": """\
status = error
appender.err.type = Console
appender.err.name = ERR
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.err.ref = ERR
""",
    "log4j2-server.properties": """\
status = error
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = OUT
""",
    "log4j-tool.properties": """\
log4j.rootLogger=WARN, ERR
log4j.appender.ERR=org.apache.log4j.ConsoleAppender
log4j.appender.ERR.target=System.err
log4j.appender.ERR.layout=org.apache.log4j.PatternLayout
log4j.appender.ERR.layout.ConversionPattern=%p %m (%c)%n
""",
    "log4j-server.properties": """\
log4j.rootLogger=INFO, OUT
log4j.appender.OUT=org.apache.log4j.ConsoleAppender
log4j.appender.OUT.layout=org.apache.log4j.PatternLayout
log4j.appender.OUT.layout.ConversionPattern=[%d] %p %m (%c)%n
""",
}
"""Logging set-ups kept beside the jars: Kafka 4 logs through log4j 2, 3.9 through reload4j."""


def _peer_dir(version: str) -> Path:
    """Return the directory with the jars and logging set-ups of ``version``."""
    pom = HERE / f"kafka-{version}.pom.xml"
    if not pom.is_file():
        raise PeerUnavailable(
            f"no {pom.name} beside {Path(__file__).name}: versions are {', '.join(VERSIONS)}"
        )
    return peer_dir(f"Apache Kafka {version}", pom, _LOGGING)


def jars(version: str) -> list[Path]:
    """Return the jars of Apache Kafka ``version``, fetched into the cache the first time.

    Raises:
        PeerUnavailable: no JDK, no Maven, or the download failed.
    """
    return sorted((_peer_dir(version) / "lib").glob("*.jar"))


def java_command(version: str, heap: str, logging: str, *arguments: str) -> list[str]:
    """Return a command line: ``arguments`` begin with a main class or a source file."""
    peer = _peer_dir(version)
    if version.startswith("3."):
        set_up = f"-Dlog4j.configuration=file:{peer / f'log4j-{logging}.properties'}"
    else:
        set_up = f"-Dlog4j2.configurationFile=file:{peer / f'log4j2-{logging}.properties'}"
    return [
        java(),
        f"-Xmx{heap}",
        *UTF8_CONSOLE,
        set_up,
        "-cp",
        str(peer / "lib" / "*"),
        *arguments,
    ]


# ---- the dump tool -------------------------------------------------------------------------------


def dump_log(
    version: str,
    target: Path | Sequence[Path],
    *,
    deep_iteration: bool = True,
    print_data_log: bool = True,
    verify_index_only: bool = False,
    index_sanity_check: bool = False,
    timeout_s: float = TOOL_TIMEOUT_S,
) -> DumpReport:
    """Run Apache's ``DumpLogSegments`` of ``version`` and return what it printed as data.

    Args:
        version: The release whose tool it is.
        target: A partition directory, of which every segment file and side file is read, or
            the files themselves.
        deep_iteration: Read the records inside the batches; without it offsets inside a batch
            go unchecked.
        print_data_log: Also print keys and values (as hex, by a decoder of ours); implies deep
            iteration.
        verify_index_only: Compare the indexes with the log without listing their entries.
        index_sanity_check: Only the cheap check of a broker at start; no entry is compared.
        timeout_s: For each run of the tool.

    Raises:
        PeerUnavailable: Apache Kafka cannot be run here.
        FileNotFoundError: There is no segment file to look at; an oracle must not approve of
            nothing.
    """
    if isinstance(target, Path):
        files = sorted(path for path in target.iterdir() if path.suffix in SUFFIXES)
    else:
        files = list(target)
    if not files:
        raise FileNotFoundError(f"no segment files in {target}")
    options = ["--max-message-size", str(2**31 - 1)]
    options += ["--deep-iteration"] * deep_iteration + ["--print-data-log"] * print_data_log
    options += ["--verify-index-only"] * verify_index_only + [
        "--index-sanity-check"
    ] * index_sanity_check
    if print_data_log:
        program = [str(HERE / "KafkaTraffic.java"), "dump"]
    else:
        program = ["kafka.tools.DumpLogSegments"]
    command = java_command(version, "256m", "tool", *program, *options)
    report = DumpReport(version)
    for directory in dict.fromkeys(path.parent for path in files):
        names = [path.name for path in files if path.parent == directory]
        for start in range(0, len(names), FILES_PER_DUMP_MAX):
            _dump_into(
                report, command, directory, names[start : start + FILES_PER_DUMP_MAX], timeout_s
            )
    return report


def _dump_into(
    report: DumpReport, command: list[str], directory: Path, names: list[str], timeout_s: float
) -> None:
    """Dump files of one directory, again without the file it died on as long as the tool dies.

    The tool runs inside the directory: bare names keep the argument short, and a comma in a path
    does no harm.
    """
    remaining = list(names)
    while remaining:
        done = subprocess.run(
            [*command, "--files", ",".join(remaining)],
            cwd=directory,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
        parts = sections(report, done.stdout, remaining)
        if done.returncode == 0:
            for name, lines in parts.items():
                parse_section(report, name, lines)
            parse_stderr(report, done.stderr)
            for name in remaining:
                if name not in parts:
                    report.problems.append(Problem(name, "the tool did not report on this file"))
            return
        fatal = next(reversed(parts), "")
        story = "\n".join(line for line in done.stderr.splitlines() if line.strip())
        report.problems.append(
            Problem(fatal, f"the tool died with code {done.returncode}: {story}")
        )
        if not fatal:
            return
        parse_section(report, fatal, parts[fatal])
        remaining.remove(fatal)


# ---- the broker ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class TrafficRecord:
    """One record as Apache's client sent or read it.

    ``codec`` and ``outcome`` are None for one that was read.
    ``outcome`` is what became of the transaction: commit, abort, open, or none when there was no
    transaction.
    """

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    codec: str | None
    outcome: str | None


_HARMLESS_WARNINGS = (
    (
        r"WARN \[QuorumController id=1\] Performing controller activation\.",
        "said at every start of a KRaft controller, of the metadata log and of no partition",
    ),
    (
        r"WARN \[NodeToControllerChannelManager .*\] Attempting to close NetworkClient",
        "3.9.1 logs it now and then while it stops: two of its threads close one client",
    ),
)
"""(pattern, reason) of WARN and ERROR lines that say nothing about the log directories.

Each is searched in the whole line; ``warnings()`` shows everything else that a broker warns of."""


class KafkaBroker:
    """One Apache Kafka broker on free loopback ports, with all its files below ``data_dir``.

    The data directory may be used again by a later broker object: that is how a restart is made.
    Ports are new at each start.  Retention by time is off, because the traffic carries timestamps
    of the past.

    Use it as a context manager: leaving the block stops a broker that still runs, whatever happened
    inside.

    ``serving`` is what it logs once it serves, ``harmless`` what need not be told of: a kind of
    broker of its own may have others, and its own ``_prepare``.
    """

    serving: ClassVar[str] = "Kafka Server started"
    harmless: ClassVar[tuple[tuple[str, str], ...]] = _HARMLESS_WARNINGS

    def __init__(
        self,
        version: str,
        data_dir: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        start_timeout_s: float = BROKER_START_TIMEOUT_S,
    ) -> None:
        self.version = version
        self.data_dir = data_dir.resolve()
        self._overrides = dict(overrides or {})
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._server_log = self.data_dir / "server.log"

    @property
    def log_dir(self) -> Path:
        """The directory that holds the partition directories (Kafka's ``log.dirs``)."""
        return self.data_dir / "logs"

    def partition_dir(self, topic: str, partition: int = 0) -> Path:
        """Return the directory of one partition, whether it exists or not."""
        return self.log_dir / f"{topic}-{partition}"

    @property
    def bootstrap(self) -> str:
        """The address for clients, host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        return self._running().pid

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

    def start(self) -> None:
        """Start the broker and wait until it says that it serves.

        Raises:
            PeerUnavailable: Apache Kafka cannot be run here.
            RuntimeError: It ended or stayed silent; the message has the last lines of its log.
        """
        if self._process is not None:
            raise RuntimeError("this broker runs already")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir / "server.properties"
        options = self._prepare(properties)
        self._server_log = (
            self.data_dir / f"server-{len(list(self.data_dir.glob('server-*.log')))}.log"
        )
        command = java_command(
            self.version, "512m", "server", *options, "kafka.Kafka", str(properties)
        )
        with self._server_log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.data_dir,
            )
        try:
            self._wait_until_serving()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the broker as an operator does: SIGTERM, and wait until all is closed."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(BROKER_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(
                f"the broker did not stop in {BROKER_STOP_TIMEOUT_S} s:\n{self._last_lines()}"
            ) from None
        self._process = None

    def kill(self) -> None:
        """Kill the broker in the middle of whatever it does: no checkpoint, no clean mark."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def lines(self) -> list[str]:
        """Return what the broker logged since its last start, also after it has ended."""
        return (
            self._server_log.read_text(errors="replace").splitlines()
            if self._server_log.exists()
            else []
        )

    def warnings(self) -> list[str]:
        """Return the WARN, ERROR and FATAL lines since the last start, without the harmless."""
        return [
            line
            for line in self.lines()
            if re.match(r"\[[^]]+\] (WARN|ERROR|FATAL) ", line)
            and not any(re.search(pattern, line) for pattern, _reason in self.harmless)
        ]

    def produce(
        self,
        topic: str,
        *,
        seed: int,
        records: int,
        partitions: int = 1,
        transactions: bool = True,
        leave_open: bool = False,
        topic_configs: Mapping[str, str] | None = None,
    ) -> list[TrafficRecord]:
        """Create ``topic`` if need be and send the traffic that KafkaTraffic.java describes.

        Args:
            topic: Its name.
            seed: What keys, values, headers and timestamps are drawn from.
            records: Records for each movement: ten without transactions, five more with them.
            partitions: Of the topic, when it is created.
            transactions: Send the transactional movements too.
            leave_open: End by dying inside a transaction.
            topic_configs: For the creation of the topic, such as ``segment.bytes``.
        """
        options = {
            "topic": topic,
            "seed": str(seed),
            "records": str(records),
            "partitions": str(partitions),
            "transactions": str(transactions).lower(),
            "leave_open": str(leave_open).lower(),
            **{f"topic.{name}": value for name, value in (topic_configs or {}).items()},
        }
        return self._traffic("produce", options)

    def consume(self, topic: str, *, isolation: str = "read_uncommitted") -> list[TrafficRecord]:
        """Read ``topic`` from its beginning to its end with Apache's consumer."""
        return self._traffic("consume", {"topic": topic, "isolation": isolation})

    # -- inside --

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this broker does not run")
        return self._process

    def _prepare(self, properties: Path) -> list[str]:
        """Write ``properties`` and do what a start needs; return further words for java."""
        self._port, controller_port = free_ports(2)
        properties.write_text(
            "".join(f"{k}={v}\n" for k, v in self._properties(controller_port).items())
        )
        if not (self.log_dir / "meta.properties").exists():
            self._format(properties)
        return []

    def _properties(self, controller_port: int) -> dict[str, str]:
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.log_dir),
            "auto.create.topics.enable": "false",
            "log.retention.ms": "-1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "num.network.threads": "2",
            "num.io.threads": "2",
        }
        return properties | self._overrides

    def _format(self, properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            str(properties),
        ]
        command = java_command(self.version, "256m", "tool", *tool)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"Apache's StorageTool could not format {self.log_dir}:\n{done.stdout}{done.stderr}"
            )

    def _wait_until_serving(self) -> None:
        process = self._running()
        deadline = time.monotonic() + self._start_timeout_s
        while not any(self.serving in line for line in self.lines()):
            if process.poll() is not None:
                raise RuntimeError(
                    f"the broker ended with code {process.returncode}:\n{self._last_lines()}"
                )
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"no broker after {self._start_timeout_s} s:\n{self._last_lines()}"
                )
            time.sleep(0.1)

    def _last_lines(self) -> str:
        return "\n".join(self.lines()[-30:])

    def _traffic(self, mode: str, options: Mapping[str, str]) -> list[TrafficRecord]:
        self._running()
        arguments = [
            f"{name}={value}"
            for name, value in ({"bootstrap": self.bootstrap} | dict(options)).items()
        ]
        command = java_command(
            self.version, "256m", "tool", str(HERE / "KafkaTraffic.java"), mode, *arguments
        )
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"Apache's client failed to {mode}:\n{done.stderr[-4000:]}\n{self._last_lines()}"
            )
        return [_traffic_record(line) for line in done.stdout.splitlines()]


def _traffic_record(line: str) -> TrafficRecord:
    told = json.loads(line)

    def data(text: str | None) -> bytes | None:
        return None if text is None else bytes.fromhex(text)

    return TrafficRecord(
        partition=told["partition"],
        offset=told["offset"],
        timestamp_ms=told["timestamp"],
        key=data(told["key"]),
        value=data(told["value"]),
        headers=tuple((name, data(value)) for name, value in told["headers"]),
        codec=told.get("codec"),
        outcome=told.get("outcome"),
    )


def free_ports(count: int) -> list[int]:
    """Return loopback ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
