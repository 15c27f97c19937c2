"""The facts that operators ask for, gathered once and shown at three doors.

    4-letter words  (four_letter.py)  --+
    HTTP commands   (admin.py)        --+-->  facts of one server, as plain values  (here)
    metrics         (metrics.py)      --+

Everything is looked up when it is asked for, on the event loop: the answer is of one moment.  A
report on a million watches takes as long as it takes, and nothing else happens meanwhile; that is
why words must be allowed one by one.

Left to others: how a fact is written.

Source: ``Version.java``, ``Environment.java``, ``ZooKeeperServer.java`` (dumpConf),
``ServerCnxn.java`` (dumpConnectionInfo), ``ExpiryQueue.java``.
"""

from __future__ import annotations

import functools
import getpass
import importlib.util
import ipaddress
import os
import platform
import resource
import socket
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stratalog import __version__
from stratalog.storage.zookeeper.snapshots import list_snapshots
from stratalog.wire.zookeeper.records import OpCode

if TYPE_CHECKING:
    from stratalog.server.zookeeper.connection import ClientConnection
    from stratalog.server.zookeeper.server import CoordinationServer

COMPATIBLE_WITH: Final = "3.9.5"
NOT_SERVING: Final = "This ZooKeeper instance is not currently serving requests"
STATE: Final = "standalone"

_MEBI: Final = 1 << 20
_ABSENT: Final = "<NA>"
_CONNECTION_TICK_MS: Final = 10_000
_READ_INTEREST: Final = 1
_WRITE_INTEREST: Final = 4
_header: Final = struct.Struct(">ii").unpack

_OPERATIONS: Final[dict[int, str]] = {
    OpCode.PING: "PING",
    OpCode.CREATE_SESSION: "SESS",
    OpCode.MULTI: "MULT",
    OpCode.MULTI_READ: "MLTR",
    OpCode.CREATE: "CREA",
    OpCode.CREATE2: "CREA",
    OpCode.CREATE_TTL: "CREA",
    OpCode.CREATE_CONTAINER: "CREA",
    OpCode.DELETE: "DELE",
    OpCode.DELETE_CONTAINER: "DELE",
    OpCode.SET_DATA: "SETD",
    OpCode.RECONFIG: "RECO",
    OpCode.SET_ACL: "SETA",
    OpCode.CLOSE_SESSION: "CLOS",
    OpCode.SYNC: "SYNC",
    OpCode.CHECK: "CHEC",
    OpCode.EXISTS: "EXIS",
    OpCode.GET_DATA: "GETD",
    OpCode.SET_WATCHES: "SETW",
    OpCode.SET_WATCHES2: "STW2",
    OpCode.ADD_WATCH: "ADDW",
    OpCode.GET_ACL: "GETA",
    OpCode.GET_CHILDREN: "GETC",
    OpCode.GET_ALL_CHILDREN_NUMBER: "GETACN",
    OpCode.GET_CHILDREN2: "GETC",
    OpCode.CHECK_WATCHES: "CHKW",
    OpCode.REMOVE_WATCHES: "REMW",
    OpCode.WHO_AM_I: "HOMI",
    OpCode.GET_EPHEMERALS: "GETE",
}


def hex64(number: int) -> str:
    """Return a signed number as Java writes one in hex."""
    return f"{number & 0xFFFFFFFFFFFFFFFF:x}"


def java_address(host: str) -> str:
    """Return an address as Java writes one: an IPv6 one with all of its zeros, in brackets."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    groups = (f"{int(group, 16):x}" for group in address.exploded.split(":"))
    return f"[{':'.join(groups)}]"


def java_date(wall_ms: int) -> str:
    """Return a time as Java writes one, in the zone of this machine."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(wall_ms / 1000))


@functools.cache
def full_version() -> str:
    """Return the release this server is compatible with, what it is, and when it was built.

    Tools cut it at the first ``-`` or ``,``; what follows says that this is not Apache's.
    """
    found = importlib.util.find_spec("stratalog._native")
    built_at = 0.0 if found is None or found.origin is None else Path(found.origin).stat().st_mtime
    built = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(built_at))
    return f"{COMPATIBLE_WITH}-stratalog-{__version__}, built on {built}"


def directory_bytes(directory: Path) -> int:
    """Return the bytes of all files below a directory, those that vanish meanwhile excepted."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  (hot)
            except FileNotFoundError:
                continue
    return total


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ``conf`` tells."""

    client_port: int
    secure_client_port: int
    data_dir: Path
    data_log_dir: Path
    tick_ms: int
    connections_per_address_max: int
    session_ms_min: int
    session_ms_max: int
    backlog: int
    server_id: int


def configuration(server: CoordinationServer) -> Configuration:
    """Return how the server is set up; its id is 0, as that of any server alone."""
    settings, options = server.settings, server.settings.options
    return Configuration(
        client_port=server.port if settings.plaintext else -1,
        secure_client_port=server.tls_port,
        data_dir=server.snapshot_directory.absolute(),
        data_log_dir=server.log_directory.absolute(),
        tick_ms=options.tick_ms,
        connections_per_address_max=settings.connections_per_address_max,
        session_ms_min=options.session_ms_min,
        session_ms_max=options.session_ms_max,
        backlog=settings.backlog,
        server_id=0,
    )


def outstanding(server: CoordinationServer) -> int:
    """Return how many requests are on their way."""
    return server.machine.waiting


def node_count(server: CoordinationServer) -> int:
    """Return how many znodes there are; the root counts twice, as in Apache's table of them."""
    return len(server.machine.tree) + 1


def data_bytes(server: CoordinationServer) -> int:
    """Return the bytes of all paths and data, the root's two names included."""
    return server.machine.tree.data_bytes + len("/")


def ephemerals(server: CoordinationServer) -> dict[int, list[str]]:
    """Return the ephemeral znodes by session."""
    return {owner: list(paths) for owner, paths in server.machine.tree.ephemerals.items()}


def watches_by_path(server: CoordinationServer) -> dict[str, list[int]]:
    """Return who watches which path's data, by session; child watches are not told of."""
    return {
        path: [watcher.session_id for watcher in watchers]  # type: ignore[attr-defined]
        for path, watchers in server.machine.tree.watches.data.by_path().items()
    }


def watches_by_session(server: CoordinationServer) -> dict[int, list[str]]:
    """Return the paths whose data each session watches."""
    return {
        watcher.session_id: paths  # type: ignore[attr-defined]
        for watcher, paths in server.machine.tree.watches.data.by_watcher().items()
    }


def last_snapshot(server: CoordinationServer) -> tuple[int, int]:
    """Return zxid and time in s of the newest snapshot; -1 and -1: there is none."""
    for snapshot in list_snapshots(server.snapshot_directory):
        return snapshot.zxid, int(snapshot.path.stat().st_mtime)
    return -1, -1


# ---- connections ----


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What ``cons`` tells of one connection; times in ms."""

    host: str
    port: int
    secure: bool
    interest: int
    outstanding: int
    received: int
    sent: int
    session_id: int
    operation: str
    established_ms: int
    timeout_ms: int
    xid: int
    zxid: int
    answered_at_ms: int
    latency_ms: int
    latency_ms_min: int
    latency_ms_average: int
    latency_ms_max: int


def connections(server: CoordinationServer) -> list[ConnectionFacts]:
    """Return every connection, the one that asks included."""
    return [_connection(connection) for connection in list(server.connections)]


def _connection(connection: ClientConnection) -> ConnectionFacts:
    client, latency, traffic = connection.client, connection.latency, connection.traffic
    host, port = connection.peer
    session = None if client is None else client.session
    on_the_way = 0 if client is None else len(client.pending) + len(client.held or ())
    own = connection.last_own_header
    return ConnectionFacts(
        host=java_address(host),
        port=port,
        secure=connection.is_secure,
        interest=_interest(connection),
        outstanding=on_the_way,
        received=traffic.received,
        sent=traffic.sent,
        session_id=0 if client is None else client.session_id,
        operation=_operation(connection.last_header, own),
        established_ms=connection.opened_at_ms,
        timeout_ms=0 if session is None else session.timeout_ms,
        xid=_header(own)[0] if len(own) == 8 else -1,
        zxid=connection.last_zxid,
        answered_at_ms=connection.answered_at_ms,
        latency_ms=connection.last_latency_ms,
        latency_ms_min=latency.least,
        latency_ms_average=latency.total // latency.count if latency.count else 0,
        latency_ms_max=latency.greatest,
    )


def _interest(connection: ClientConnection) -> int:
    """What an event loop would wait for; nothing, where a word is being answered."""
    if connection.asks_word:
        return 0
    reads = _READ_INTEREST if connection.is_reading else 0
    return reads | (_WRITE_INTEREST if connection.unsent_bytes else 0)


def _operation(header: bytes, own: bytes) -> str:
    for known in (header, own):
        if len(known) == 8 and (name := _OPERATIONS.get(_header(known)[1])):
            return name
    return "NA"


# ---- sessions ----


def session_expiry(server: CoordinationServer) -> dict[int, list[int]]:
    """Return session ids by the time they expire, in ms of the monotonic clock."""
    return server.machine.tracker.buckets()


def connection_expiry(server: CoordinationServer) -> dict[int, list[tuple[str, int, int]]]:
    """Return host, port and session of connections by the time they expire unless heard of."""
    buckets: dict[int, list[tuple[str, int, int]]] = {}
    machine, handshake_ms = server.machine, int(server.settings.handshake_s * 1000)
    for connection in list(server.connections):
        client, (host, port) = connection.client, connection.peer
        session = None if client is None else client.session
        if session is None:
            due_ms = connection.opened_at_ms - wall_offset_ms() + handshake_ms
        else:
            due_ms = session.bucket_ms - machine.options.tick_ms
        due_ms = (due_ms // _CONNECTION_TICK_MS + 1) * _CONNECTION_TICK_MS
        session_id = 0 if session is None else session.session_id
        buckets.setdefault(due_ms, []).append((java_address(host), port, session_id))
    return dict(sorted(buckets.items()))


def wall_offset_ms() -> int:
    """Return what to add to the monotonic clock for the time since 1970-01-01 UTC."""
    return (time.time_ns() - time.monotonic_ns()) // 1_000_000


# ---- the process and what it runs on ----


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What the system knows of this process."""

    cpu_s: float
    started_at_s: float
    open_files: int
    open_files_max: int
    virtual_bytes: int
    resident_bytes: int


def process() -> ProcessFacts:
    """Return what the system knows of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = Path("/proc/self/statm").read_text().split()
    page_bytes = resource.getpagesize()
    return ProcessFacts(
        cpu_s=used.ru_utime + used.ru_stime,
        started_at_s=_started_at_s(),
        open_files=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208  (one is of this look)
        open_files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        virtual_bytes=int(pages[0]) * page_bytes,
        resident_bytes=int(pages[1]) * page_bytes,
    )


@functools.cache
def _started_at_s() -> float:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    since_boot_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s


def environment() -> dict[str, str]:
    """Return what ``envi`` tells; what only a Java program has is ``<NA>``."""
    memory = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )

    def mebi(key: str) -> str:
        return f"{int(memory[key].split()[0]) * 1024 // _MEBI}MB"

    return {
        "zookeeper.version": full_version(),
        "host.name": socket.gethostname(),
        "java.version": _ABSENT,
        "java.vendor": _ABSENT,
        "java.home": _ABSENT,
        "java.class.path": _ABSENT,
        "java.library.path": _ABSENT,
        "java.io.tmpdir": tempfile.gettempdir(),
        "java.compiler": _ABSENT,
        **_system(),
        "os.memory.free": mebi("MemAvailable"),
        "os.memory.max": mebi("MemTotal"),
        "os.memory.total": f"{process().resident_bytes // _MEBI}MB",
    }


def _system() -> dict[str, str]:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = _ABSENT
    return {
        "os.name": platform.system(),
        "os.arch": {"x86_64": "amd64"}.get(platform.machine(), platform.machine()),
        "os.version": platform.release(),
        "user.name": name,
        "user.home": os.path.expanduser("~"),  # noqa: PTH111  (a home that is none stays "~")
        "user.dir": os.getcwd(),  # noqa: PTH109  (as text)
    }


def system_properties() -> dict[str, str]:
    """Return those Java system properties that mean something outside a Java program, sorted."""
    properties = {
        "file.encoding": "UTF-8",
        "file.separator": os.sep,
        "java.io.tmpdir": tempfile.gettempdir(),
        "line.separator": os.linesep,
        "path.separator": os.pathsep,
        **_system(),
    }
    return dict(sorted(properties.items()))
