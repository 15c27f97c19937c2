r"""Every word, HTTP command and metric, asked of Apache's server and of ours after the same work.

    the same work  -->  Apache ZooKeeper 3.9.5   -->  answer  --mask-->  lines  \\
                   -->  ours                     -->  answer  --mask-->  lines  /  equal

Masked is what cannot be equal: ports, paths, sizes of directories, sessions, times, and who they
are.  Counts are not masked: packets, bytes, zxids, watches and znodes are the same on both sides.

What Apache's server tells and ours does not stands in ``NOT_MEASURED``, each with its reason; a
name that is missing without standing there is a failure, and so is one that is there needlessly.

Left to others: what our answers mean (tests/server/test_zookeeper_commands.py).
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tools.peers.zookeeper import PeerUnavailable, ZooKeeperPeer, free_port

from stratalog.server.zookeeper import admin, metrics
from stratalog.testing import ZooKeeperServer

kazoo = pytest.importorskip("kazoo.client")

pytestmark = pytest.mark.interop

WAIT_S = 20
PROMETHEUS = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider"
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # of super:test

NO_JVM = "there is no Java machine and no Netty here"
NO_THREADS = "one thread does what Apache's does in several with queues between them"
NO_CACHE = "there is no cache of serialised replies"
NO_LAZY_WATCHES = "a closed connection's watches are removed at once"
TLS_UNCOUNTED = "TLS handshakes happen inside the event loop, which does not count them"
PER_NAMESPACE = "counting each request by the first part of its path costs more than it tells"

NOT_MEASURED = {
    "jvm_pause_time_ms": NO_JVM,
    "netty_queued_buffer_capacity": NO_JVM,
    "cnxn_closed_without_zk_server_running": NO_THREADS,
    "prep_processor_queue_time_ms": NO_THREADS,
    "prep_processor_queue_size": NO_THREADS,
    "prep_processor_request_queued": NO_THREADS,
    "prep_process_time": NO_THREADS,
    "close_session_prep_time": NO_THREADS,
    "outstanding_changes_queued": NO_THREADS,
    "outstanding_changes_removed": NO_THREADS,
    "sync_processor_queue_size": NO_THREADS,
    "sync_processor_queue_time_ms": NO_THREADS,
    "sync_processor_queue_flush_time_ms": NO_THREADS,
    "sync_processor_queue_and_flush_time_ms": NO_THREADS,
    "sync_process_time": NO_THREADS,
    "socket_closing_time": NO_THREADS,
    "response_packet_cache_hits": NO_CACHE,
    "response_packet_cache_misses": NO_CACHE,
    "response_packet_get_children_cache_hits": NO_CACHE,
    "response_packet_get_children_cache_misses": NO_CACHE,
    "add_dead_watcher_stall_time": NO_LAZY_WATCHES,
    "dead_watchers_queued": NO_LAZY_WATCHES,
    "dead_watchers_cleared": NO_LAZY_WATCHES,
    "dead_watchers_cleaner_latency": NO_LAZY_WATCHES,
    "outstanding_tls_handshake": TLS_UNCOUNTED,
    "tls_handshake_exceeded": TLS_UNCOUNTED,
    "unsuccessful_handshake": TLS_UNCOUNTED,
    "non_mtls_remote_conn_count": TLS_UNCOUNTED,
    "non_mtls_local_conn_count": TLS_UNCOUNTED,
    "insecure_admin_count": "the HTTP commands have one port and it is not unified with TLS",
    "write_per_namespace": PER_NAMESPACE,
    "read_per_namespace": PER_NAMESPACE,
}
"""What Apache's server alone tells of, and why ours does not."""

NOT_ON_THE_PAGE = {
    "quota_exceeded_error_per_namespace": PER_NAMESPACE,
    "learner_handler_qp_size": "of one learner each: there is none",
    "learner_handler_qp_time_ms": "of one learner each: there is none",
    "ack_latency": "of one learner each: there is none",
}
"""The same for the page, which names what has no value yet."""

COUNTED_ALIKE = (
    "znode_count", "ephemerals_count", "watch_count", "global_sessions", "local_sessions",
    "approximate_data_size", "outstanding_requests", "max_client_response_size",
    "min_client_response_size", "last_client_response_size", "connection_request_count",
    "connection_revalidate_count", "watch_bytes", "cnt_node_changed_watch_count",
    "sum_node_changed_watch_count", "cnt_node_deleted_watch_count", "cnt_updatelatency",
    "digest_mismatches_count", "connection_rejected", "stale_requests", "stale_replies",
    "throttled_ops", "large_requests_rejected", "cnt_connection_token_deficit",
    "sessionless_connections_expired", "cnt_startup_txns_loaded", "connection_drop_probability",
    "app_quota_count_limit_per_namespace", "app_quota_bytes_usage_per_namespace",
)  # fmt: skip
"""Metrics of ``mntr`` whose values must be equal after the same work."""


@dataclass
class Side:
    """One server: where it listens, and the client that did the work."""

    name: str
    port: int
    admin_port: int
    metrics_port: int
    client: Any

    def ask(self, word: bytes, tail: bytes = b"") -> str:
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as connection:
            connection.sendall(word + tail)
            data = b""
            while piece := connection.recv(1 << 16):
                data += piece
        return data.decode()

    def http(self, path: str, credentials: str | None = None) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}")
        if credentials is not None:
            request.add_header("Authorization", credentials)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:  # noqa: S310
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def page(self) -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=WAIT_S
        ) as response:
            return str(response.read().decode())


def _work(client: Any) -> None:
    """What both servers do before they are asked."""
    client.add_auth("digest", "me:secret")
    client.create("/app", b"")
    client.create("/zookeeper/quota/app", b"")
    client.create("/zookeeper/quota/app/zookeeper_limits", b"count=1000,bytes=-1")
    client.create("/zookeeper/quota/app/zookeeper_stats", b"count=1,bytes=0")
    client.create("/app/one", b"12345")
    client.create("/e", b"", ephemeral=True)
    client.get("/app/one", watch=_ignore)
    client.exists("/missing", watch=_ignore)
    client.get_children("/app", watch=_ignore)
    for number in range(140):
        client.set("/app/one", b"%05d" % number)
    client.get("/e", watch=_ignore)
    client.get("/e", watch=_ignore)
    client.create("/app/two", b"")
    client.delete("/app/two")
    client.sync("/")
    client.get("/app/one")


def _ignore(event: object) -> None:
    del event


@contextlib.contextmanager
def _sides(scratch: Path, *, prometheus: bool) -> Iterator[tuple[Side, Side]]:
    """Both servers, after their work."""
    admin_port, metrics_port = free_port(), free_port()
    more: dict[str, object] = {}
    if prometheus:
        more = {
            "metricsProvider.className": PROMETHEUS,
            "metricsProvider.httpHost": "127.0.0.1",
            "metricsProvider.httpPort": metrics_port,
        }
    try:
        peer = ZooKeeperPeer(
            scratch / "apache",
            {
                "admin.enableServer": "true", "admin.serverAddress": "127.0.0.1",
                "admin.serverPort": admin_port, **more,
            },
            properties={"zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST},
        )  # fmt: skip
    except PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")
    our_admin, our_metrics = free_port(), free_port()
    ours = ZooKeeperServer(
        scratch / "ours",
        arguments=[
            "-D4lw.commands.whitelist=*",
            "-Dadmin.enableServer=true", f"-Dadmin.serverPort={our_admin}",
            f"-DmetricsProvider.className={PROMETHEUS}",
            f"-DmetricsProvider.httpPort={our_metrics}", "-DmetricsProvider.httpHost=127.0.0.1",
            f"-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_DIGEST}",
        ],
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(peer)
        stack.enter_context(ours)
        sides = (
            Side("Apache", peer.port, admin_port, metrics_port, None),
            Side("ours", ours.port, our_admin, our_metrics, None),
        )
        for side in sides:
            side.client = kazoo.KazooClient(f"127.0.0.1:{side.port}", timeout=60)
            stack.callback(side.client.close)
            stack.callback(side.client.stop)
            side.client.start(WAIT_S)
            side.ask(b"srst")  # until it answered it was asked some times
            _work(side.client)
        yield sides


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Side, Side]]:
    """Both servers, Apache's with its usual metrics provider."""
    with (
        tempfile.TemporaryDirectory(prefix="stratalog-interop-") as name,
        _sides(Path(name), prometheus=False) as sides,
    ):
        yield sides


_MASKS = (
    (r"3\.9\.5-[^,]+, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC", "3.9.5-REVISION, built on DATE"),
    (r"0x1[0-9a-f]{14}\b", "SESSION"),
    (r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \S+ \d{4}", "DATE"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    # Apache's server keeps the bucket that a session left until its time has come.
    (r"(?m)^0 expire at DATE:\n", ""),
    (r"Sets \(\d+\)/", "Sets (BUCKETS)/"),
    (r"\b(est|lresp|llat|minlat|avglat|maxlat)=\d+", r"\1=MS"),
    (r"(?m)^(clientPort)=\d+$", r"\1=PORT"),
    (r"(?m)^(dataDir|dataLogDir)=/\S+/version-2$", r"\1=DIRECTORY/version-2"),
    (r"(?m)^(dataDirSize|dataLogSize)=\d+$", r"\1=BYTES"),
    (r"(?m)^(datadir_size|logdir_size): \d+$", r"\1: BYTES"),
    (r"(?m)^Latency min/avg/max: \d+/\d+\.\d+/\d+$", "Latency min/avg/max: MS"),
    (r"(?m)^((?:java|os|user)\.\S+|host\.name)=.*$", r"\1=VALUE"),
)


def _masked(text: str) -> list[str]:
    for pattern, instead in _MASKS:
        text = re.sub(pattern, instead, text)
    return text.split("\n")


def _differences(apache: list[str], ours: list[str]) -> str:
    return "\n".join(difflib.unified_diff(apache, ours, "Apache", "ours", lineterm=""))


@pytest.mark.parametrize(
    ("word", "when"),
    # In this order: what is counted is the same on both sides up to there.
    [
        *((word, "after the work") for word in (
            "srvr", "stat", "cons", "conf", "dirs", "dump", "envi", "gtmk", "isro", "ruok", "wchs",
            "wchc", "wchp", "hash", "nope", "crst",
        )),
        ("cons", "after crst"), ("srvr", "after crst"), ("srst", "after crst"),
        ("srvr", "after srst"), ("stmk", "after srst"), ("gtmk", "after stmk"),
    ],
)  # fmt: skip
def test_each_word_is_answered_alike(both: tuple[Side, Side], word: str, when: str) -> None:
    tail = (0x1FF).to_bytes(8, "big") if word == "stmk" else b""
    apache, ours = (_masked(side.ask(word.encode(), tail)) for side in both)
    if word == "hash":  # znodes carry times: the digests differ, the zxids do not
        apache, ours = ([re.sub(r": -?\d+$", ": DIGEST", x) for x in y] for y in (apache, ours))
    if word in {"stat", "cons", "wchc", "wchp", "dump"}:  # in the order of a hash table
        apache, ours = sorted(apache), sorted(ours)
    differences = _differences(apache, ours)
    assert not differences, f"{word} {when}:\n{differences}"


def _monitored(side: Side) -> dict[str, str]:
    lines = side.ask(b"mntr").splitlines()
    assert all(line.startswith("zk_") and line.count("\t") == 1 for line in lines)
    return dict(line.removeprefix("zk_").split("\t") for line in lines)


def _bare(key: str) -> str:
    """A metric's own name, without what a summary and a namespace put before it."""
    if key.endswith("_per_namespace") and not key.startswith("app_quota"):
        return "_".join(key.split("_")[-3:])
    found = re.fullmatch(r"(?:avg|min|max|cnt|sum|p50|p95|p99|p999)_(.*)", key)
    known = {*metrics.BASIC, *metrics.ADVANCED, *NOT_MEASURED}
    return found[1] if found and found[1] in known else key


def test_mntr_tells_the_same_metrics(both: tuple[Side, Side]) -> None:
    apache, ours = (_monitored(side) for side in both)
    missing = {_bare(key) for key in apache.keys() - ours.keys()}
    assert missing - NOT_MEASURED.keys() == set(), "Apache's server tells these, ours does not"
    assert ours.keys() - apache.keys() == set(), "ours tells these, Apache's server does not"
    assert NOT_MEASURED.keys() - missing == set(), "ours tells these, or nobody does"
    # In the same form: a whole number, one with a point, or text.
    forms = {
        key: (_form(apache[key]), _form(value))
        for key, value in ours.items()
        if _form(apache[key]) != _form(value)
    }
    assert not forms
    assert list(apache)[:2] == list(ours)[:2] == ["version", "server_state"]


def _form(value: str) -> str:
    for form, pattern in (("whole", r"-?\d+"), ("point", r"-?\d+\.\d+(E\d+)?")):
        if re.fullmatch(pattern, value):
            return form
    return "text"


def test_mntr_counts_the_same_work_alike(both: tuple[Side, Side]) -> None:
    for side in both:
        side.ask(b"srst")
        side.client.set("/app/one", b"other")
        side.client.get("/app/one", watch=_ignore)
        side.client.set("/app/one", b"12345")
        side.client.get_children("/app")
    apache, ours = (_monitored(side) for side in both)
    told = [(key, apache[key], ours[key]) for key in COUNTED_ALIKE]
    assert [row for row in told if row[1] != row[2]] == []
    # An answered ping or two lies between; a read is a read.
    assert int(ours["cnt_readlatency"]) == 2
    assert int(ours["packets_received"]) - 5 in range(3)
    assert int(ours["response_bytes"]) <= int(apache["response_bytes"]) + 64


# ---- HTTP ----

_JSON_MASKED = {
    "client_port", "data_dir", "data_log_dir", "remote_socket_address", "session_id",
    "established", "last_response_time", "last_latency", "min_latency", "avg_latency",
    "max_latency", "datadir_size", "logdir_size", "data_dir_size", "log_dir_size", "timestamp",
    "uptime", "version", "zookeeper.version", "digest", "initial_configuration",
}  # fmt: skip
_JSON_KEYS_MASKED = {
    "expiry_time_to_session_ids", "session_id_to_ephemeral_paths", "session_id_to_watched_paths",
}  # fmt: skip
_SESSION_MIN = 1 << 56


def _shown(value: Any) -> Any:
    """A JSON value with all masked that cannot be equal, keys in their order."""
    if isinstance(value, dict):
        return [
            (
                key,
                sorted((_shown(known) for known in inner.values() if known), key=repr)
                if key in _JSON_KEYS_MASKED and isinstance(inner, dict)
                else "MASKED"
                if key in _JSON_MASKED or key.startswith(("java.", "os.", "user.", "host."))
                else _shown(inner),
            )
            for key, inner in value.items()
        ]
    if isinstance(value, list):
        return sorted((_shown(item) for item in value), key=repr)
    return "SESSION" if isinstance(value, int) and value > _SESSION_MIN else value


def _layout(body: bytes) -> list[str]:
    """What JSON looks like without what it says: the spaces and brackets."""
    lines = body.decode().split("\n")
    return [re.sub(r"\S.*", "", line) for line in lines]


@pytest.mark.parametrize(
    "name",
    [name for name in admin.NAMES if name not in {"monitor", "system_properties", "environment"}]
    + ["stat", "stmk?traceMask=511", "stmk?traceMask=x", "nope", "rest"],
)
def test_each_http_command_is_answered_alike(both: tuple[Side, Side], name: str) -> None:
    for side in both:
        side.ask(b"srst")  # the lengths of earlier answers were counted, as packets
    answers = [side.http(f"/commands/{name}") for side in both]
    (status, headers, apache), (our_status, our_headers, ours) = answers
    assert our_status == status
    assert our_headers["Content-Type"] == headers["Content-Type"] == "application/json"
    shown = [
        json.dumps(_shown(json.loads(body)), indent=1).split("\n") for body in (apache, ours)
    ]  # fmt: skip
    differences = _differences(*shown)
    assert not differences, f"{name}:\n{differences}"
    if name != "dump":  # it may have buckets that are empty
        assert _layout(apache) == _layout(ours)


def test_the_other_http_commands_have_the_same_keys(both: tuple[Side, Side]) -> None:
    apache, ours = (json.loads(side.http("/commands/environment")[2]) for side in both)
    assert list(apache) == list(ours)
    apache, ours = (json.loads(side.http("/commands/system_properties")[2]) for side in both)
    assert ours.keys() <= apache.keys()
    apache, ours = (json.loads(side.http("/commands/monitor")[2]) for side in both)
    assert {_bare(key) for key in apache.keys() - ours.keys()} == NOT_MEASURED.keys()
    assert ours.keys() - apache.keys() == set()
    links = [side.http("/commands")[2] for side in both]
    assert links[0] == links[1]


@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        (None, 401), ("digest", 401), ("digest a b", 401), ("nobody me:secret", 401),
        ("", 401), ("world anyone", 401), ("digest you:secret", 403), ("ip", 403),
        ("digest me:secret", 200), ("digest super:test", 200),
    ],
)  # fmt: skip
def test_a_snapshot_is_given_to_the_same_people(
    both: tuple[Side, Side], credentials: str | None, status: int
) -> None:
    security = pytest.importorskip("kazoo.security")
    for side in both:
        side.client.set_acls("/", [security.make_digest_acl("me", "secret", all=True)])
    try:
        answers = [_paced(side, credentials) for side in both]
    finally:
        for side in both:
            side.client.set_acls("/", [security.make_acl("world", "anyone", all=True)])
    (_, headers, apache), (_, our_headers, ours) = answers
    assert [answer[0] for answer in answers] == [status, status]
    assert our_headers["Content-Type"] == headers["Content-Type"]
    if status == 200:
        assert our_headers["last_zxid"] == headers["last_zxid"]
        assert our_headers["snapshot_size"] == headers["snapshot_size"] == str(len(ours))
        assert len(apache) == len(ours)
    else:
        assert ours == apache


def _paced(side: Side, credentials: str | None) -> tuple[int, dict[str, str], bytes]:
    """Ask for a snapshot until it is not too soon after the last."""
    while True:
        answer = side.http("/commands/snapshot", credentials)
        if answer[0] != 429:
            return answer


# ---- the page ----


def _types(page: str) -> dict[str, str]:
    rows = (line.split(" ") for line in page.splitlines() if line.startswith("# TYPE "))
    return {name: kind for _, _, name, kind in rows}


def _labels(page: str, name: str) -> list[str]:
    """The samples of a metric without their values; a comma may stand behind the last label."""
    samples = (line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#"))
    return [
        sample.replace(",}", "}")
        for sample in samples
        if re.fullmatch(rf"{name}(_count|_sum)?(\{{.*\}})?", sample)
    ]


def test_the_page_of_metrics_is_that_of_apache(scratch: Path) -> None:
    with _sides(scratch, prometheus=True) as sides:
        apache, ours = (side.page() for side in sides)
    known, our_known = _types(apache), _types(ours)
    missing = known.keys() - our_known.keys()
    unexplained = {
        name for name in missing
        if name not in NOT_MEASURED and name not in NOT_ON_THE_PAGE and not name.startswith("jvm_")
    }  # fmt: skip
    assert unexplained == set(), "Apache's server shows these, ours does not"
    assert our_known.keys() - known.keys() == set(), "ours shows these, Apache's does not"
    assert {
        name: (known[name], kind) for name, kind in our_known.items() if known[name] != kind
    } == {}
    for name in our_known:
        assert _labels(ours, name) == _labels(apache, name), name
