"""What operators ask a server: 4-letter words, HTTP commands, metrics, and the counts behind them.

A server runs in this process, on a thread with an event loop of its own; it is asked over sockets,
and where a fact has to be true it is looked up in the server itself.

Left to others: whether Apache's server says the same (tests/interop/test_zookeeper_commands.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stratalog.core.zookeeper.standalone import Options
from stratalog.core.zookeeper.statistics import Spread, Summary
from stratalog.errors import StorageError
from stratalog.server.tls import Store, TlsSettings
from stratalog.server.zookeeper import admin, commands, config, four_letter, metrics, recovery
from stratalog.server.zookeeper import http as small_http
from stratalog.server.zookeeper.server import CoordinationServer
from stratalog.server.zookeeper.settings import Settings

kazoo = pytest.importorskip("kazoo.client")
security = pytest.importorskip("kazoo.security")

SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # of super:test
WAIT_S = 20
WORDS = sorted(four_letter.WORDS - {"telnet close", "stmk"})
"""Those that are said in 4 letters."""


class Running:
    """A server on a thread of its own."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        settings.setdefault("commands_allowed", four_letter.WORDS)
        settings.setdefault("reserve_bytes", 4096)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server: CoordinationServer = self.call(
            lambda: CoordinationServer(Settings(data_dir, port=0, **settings))
        )
        try:
            asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(WAIT_S)
        except BaseException:
            self._end()
            raise

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def call(self, what: Callable[[], Any]) -> Any:
        """Do something on the server's thread."""

        async def run() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(WAIT_S)

    def ask(self, word: bytes) -> str:
        with socket.create_connection(("127.0.0.1", self.server.port), WAIT_S) as connection:
            connection.sendall(word)
            return _everything(connection).decode()

    def get(
        self, path: str, method: str = "GET", door: int = 0, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        port = self.server.doors[door].port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()

    def json(self, path: str, **headers: str) -> dict[str, Any]:
        response, body = self.get(f"/commands/{path}", **headers)
        assert response.status == 200, body
        assert response.headers["Content-Type"] == "application/json"
        found: dict[str, Any] = json.loads(body)
        return found

    def stop(self) -> None:
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(WAIT_S)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _everything(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    return data


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start servers, and stop them in the end."""
    running: list[Running] = []

    def one(**settings: Any) -> Running:
        running.append(Running(tmp_path / str(len(running)), **settings))
        return running[-1]

    yield one
    for server in running:
        server.stop()


@pytest.fixture
def client_of() -> Iterator[Callable[[Running], Any]]:
    """Connect kazoo to servers, and disconnect it in the end."""
    clients = []

    def one(running: Running) -> Any:
        client = kazoo.KazooClient(running.address, timeout=20)
        clients.append(client)
        client.start(WAIT_S)
        return client

    yield one
    for client in clients:
        client.stop()
        client.close()


# ---- summaries ----


def test_a_summary_is_exact_where_values_are_small() -> None:
    summary = Summary()
    assert (summary.count, summary.least, summary.greatest, summary.average) == (0, 0, 0, 0.0)
    assert summary.percentile(0.99) == 0
    for value in range(1, 61):
        summary.add(value)
    summary.add(-1)
    summary.add(5, 0)
    assert (summary.count, summary.total, summary.least, summary.greatest) == (60, 1830, 1, 60)
    assert [summary.percentile(share) for share in (0.5, 0.95, 1.0)] == [30, 57, 60]
    summary.reset()
    summary.add(7, 3)
    assert (summary.count, summary.total, summary.least, summary.greatest) == (3, 21, 7, 7)


def test_a_summary_of_large_values_is_near_and_bounded() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    values = sorted(int(2 ** draw.uniform(0, 40)) for _ in range(5000))
    summary, spread = Summary(), Spread()
    for value in values:
        summary.add(value)
        spread.add(value)
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = values[max(-(-int(share * 100000) * 5000 // 100000), 1) - 1]
        assert exact * 31 // 32 - 1 <= summary.percentile(share) <= exact
    assert len(summary._times) < 64 + 35 * 32
    assert (spread.least, spread.greatest, spread.total) == (values[0], values[-1], sum(values))


def test_an_average_is_rounded_half_up_to_four_places() -> None:
    spread = Spread()
    spread.add(1, 1)
    spread.add(0, 15)  # 0.0625
    assert spread.average == 0.0625
    spread.add(0, 16)  # 0.03125
    assert spread.average == 0.0313


# ---- which words are answered ----


def test_only_srvr_is_answered_unless_told_otherwise(start: Callable[..., Running]) -> None:
    running = start(commands_allowed=Settings(Path()).commands_allowed)
    assert running.ask(b"srvr").startswith("Zookeeper version: 3.9.5-")
    for word in sorted(four_letter.WORDS - {"srvr", "telnet close"}):
        expected = f"{word} is not executed because it is not in the whitelist.\n"
        assert running.ask(word.encode()) == expected
    assert running.ask(b"\xff\xf4\xff\xfd").startswith("telnet close is not executed")
    assert running.ask(b"nope") == ""  # a length of 1.8 GB


def test_an_allowed_telnet_close_ends_the_connection(start: Callable[..., Running]) -> None:
    assert start().ask(b"\xff\xf4\xff\xfd") == ""


def test_a_trace_mask_may_come_in_pieces(start: Callable[..., Running]) -> None:
    running = start()
    assert running.ask(b"gtmk") == "306"
    mask = (-2).to_bytes(8, "big", signed=True)
    with socket.create_connection(("127.0.0.1", running.server.port), WAIT_S) as connection:
        for piece in (b"st", b"mk" + mask[:3], mask[3:]):
            connection.sendall(piece)
            running.call(lambda: None)
        assert _everything(connection) == b"-2"
    assert running.ask(b"gtmk") == "-2"


def test_a_server_that_failed_says_that_it_does_not_serve(start: Callable[..., Running]) -> None:
    running = start(admin_port=0)
    running.call(lambda: setattr(running.server, "failure", StorageError("the disk is gone")))
    # It takes no new connections then: whoever is there already may still ask.
    told = {
        word: running.call(
            lambda w=word: four_letter.answer(running.server, w.encode())[0].decode()
        )
        for word in WORDS
    }
    assert told.pop("ruok") == "imok"
    assert told.pop("isro") == "null"
    assert told.pop("hash") == commands.NOT_SERVING
    assert told.pop("envi").startswith("Environment:\n")
    assert told.pop("gtmk") == "306"
    assert set(told.values()) == {commands.NOT_SERVING + "\n"}
    assert running.json("stat") == {"command": "stat", "error": commands.NOT_SERVING}
    assert running.json("ruok") == {"command": "ruok", "error": None}
    running.call(lambda: setattr(running.server, "failure", None))


def test_settings_and_answers_know_the_same_words() -> None:
    assert config.WORDS == four_letter.WORDS


# ---- what they say ----


def test_the_version_is_what_clients_take_it_for(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    client = client_of(start())
    assert client.server_version() == (3, 9, 5)
    assert re.fullmatch(
        r"3\.9\.5-stratalog-[\w.]+, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC",
        commands.full_version(),
    )


def _figures(running: Running) -> dict[str, str]:
    pairs = (line.partition(": ") for line in running.ask(b"srvr").splitlines())
    return {key: value for key, _, value in pairs}


def test_packets_and_latencies_are_counted(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start()
    client = client_of(running)
    for number in range(10):
        client.create(f"/n{number}", b"x" * number)
        client.get(f"/n{number}")
    figures = _figures(running)
    assert figures["Connections"] == "2"
    assert figures["Zxid"] == "0xb"
    assert figures["Node count"] == "15"
    # 21 requests and this word; the word's answer has not left yet.
    assert (figures["Received"], figures["Sent"]) == ("22", "21")
    statistics = running.server.machine.statistics
    assert (statistics.reads.count, statistics.updates.count) == (10, 11)
    assert statistics.latency.count == 21
    assert statistics.writes_logged == 11
    (line,) = [line for line in running.ask(b"cons").splitlines() if ",sid=" in line]
    found = re.fullmatch(
        r" /127\.0\.0\.1:\d+\[1\]\(queued=0,recved=21,sent=21,sid=0x([0-9a-f]+),lop=GETD,"
        r"est=\d+,to=20000,lcxid=0x14,lzxid=0xb,lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,"
        r"maxlat=\d+\)",
        line,
    )
    assert found, line
    assert int(found[1], 16) == client.client_id[0]


def test_each_reset_leaves_the_other_counts_alone(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start()
    client = client_of(running)
    client.create("/a", b"")
    assert running.ask(b"crst") == "Connection stats reset.\n"
    (line,) = [line for line in running.ask(b"cons").splitlines() if ",sid=" in line]
    assert "recved=0,sent=0," in line
    assert ",lop=NA," in line
    assert ",lzxid=0xffffffffffffffff," in line
    assert "lcxid" not in line
    assert int(_figures(running)["Received"]) == 5
    client.get("/a")
    assert running.ask(b"srst") == "Server stats reset.\n"
    figures = _figures(running)
    assert (figures["Received"], figures["Latency min/avg/max"]) == ("1", "0/0.0/0")
    assert running.server.reply_sizes.last == -1
    (line,) = [line for line in running.ask(b"cons").splitlines() if ",sid=" in line]
    assert "recved=1,sent=1," in line
    client.get("/a")
    assert running.server.machine.statistics.reads.count == 1


def test_sessions_ephemerals_and_watches_are_told(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start(admin_port=0)
    client = client_of(running)
    session = client.client_id[0]
    client.create("/e", b"", ephemeral=True)
    client.get("/e", watch=print)
    client.exists("/missing", watch=print)
    client.get_children("/", watch=print)
    dump = running.ask(b"dump").splitlines()
    assert dump[:2] == ["SessionTracker dump:", "Session Sets (1)/(1):"]
    date = r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \S+ \d{4}:"
    assert re.fullmatch(rf"1 expire at {date}", dump[2])
    assert dump[3:7] == [
        f"\t0x{session:x}", "ephemeral nodes dump:", "Sessions with Ephemerals (1):",
        f"0x{session:x}:",
    ]  # fmt: skip
    assert dump[7:9] == ["\t/e", "Connections dump:"]
    assert sum(f"sessionId: 0x{session:x}" in line for line in dump[9:]) == 1
    assert running.ask(b"wchs") == "1 connections watching 2 paths\nTotal watches:2\n"
    assert running.ask(b"wchc") == f"0x{session:x}\n\t/e\n\t/missing\n\n"
    assert running.ask(b"wchp") == f"/e\n\t0x{session:x}\n/missing\n\t0x{session:x}\n\n"
    assert running.json("watches")["session_id_to_watched_paths"] == {
        str(session): ["/e", "/missing"]
    }
    assert running.json("watches_by_path")["path_to_session_ids"]["/e"] == [session]
    assert running.json("dump")["session_id_to_ephemeral_paths"] == {str(session): ["/e"]}
    assert list(running.json("dump")["expiry_time_to_session_ids"].values()) == [[session]]
    assert metrics.monitor_values(running.server)["watch_count"] == 3


def test_the_digest_is_remembered_every_128_transactions(
    start: Callable[..., Running], client_of: Callable[[Running], Any], tmp_path: Path
) -> None:
    running = start()
    client = client_of(running)
    for number in range(260):
        client.create_async(f"/n{number}")
    client.get("/")
    lines = running.ask(b"hash").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["80", "100"]
    digests = dict(running.server.machine.tree.digest_log)
    assert [int(line.partition(": ")[2]) for line in lines] == list(digests.values())
    client.stop()
    running.stop()
    # What the log brings back says the same.
    again = Running(tmp_path / "0")
    try:
        assert again.ask(b"hash").splitlines() == lines
    finally:
        again.stop()


def test_connections_that_break_the_rules_are_counted(start: Callable[..., Running]) -> None:
    running = start(connections_per_address_max=1, handshake_s=0.05)
    with socket.create_connection(("127.0.0.1", running.server.port), WAIT_S) as first:
        with socket.create_connection(("127.0.0.1", running.server.port), WAIT_S) as second:
            assert _ended(second)
        assert _ended(first)  # it never said anything
    statistics = running.server.machine.statistics
    assert (statistics.connections_rejected, statistics.handshakes_overdue) == (1, 1)


def _ended(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def test_an_answer_of_many_pieces_arrives_whole(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start()
    client = client_of(running)
    paths = [f"/{'p' * 100}{number}" for number in range(3000)]
    for path in paths:
        client.exists_async(path, watch=print)
    client.get("/")
    sent = running.server.traffic().sent
    answer = running.ask(b"wchp")
    assert [line for line in answer.splitlines() if line.startswith("/")] == paths
    assert running.server.traffic().sent - sent == -(-len(answer) // 8192)


def test_a_slow_reader_of_an_answer_is_waited_for(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start(handshake_s=0.2)
    client = client_of(running)
    paths = [f"/{number:05}{'p' * 2000}" for number in range(3000)]
    for path in paths:
        client.exists_async(path, watch=print)
    client.get("/")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.connect(("127.0.0.1", running.server.port))
        connection.sendall(b"wchp")
        data = b""
        while piece := connection.recv(1 << 19):
            data += piece
            time.sleep(0.01)
    assert data.count(b"\n\t0x") == len(paths)
    # One that reads nothing at all is not.
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.connect(("127.0.0.1", running.server.port))
        connection.sendall(b"wchp")
        while not running.server.machine.statistics.handshakes_overdue:
            time.sleep(0.01)


def test_a_door_that_cannot_open_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            Running(tmp_path, admin_port=0, metrics_port=taken.getsockname()[1])
    again = Running(tmp_path, admin_port=0)  # nothing is held
    assert again.json("ruok")["error"] is None
    again.stop()


# ---- metrics ----

PASSING = {"uptime", "open_file_descriptor_count", "num_alive_connections"}
_SAMPLE = re.compile(r'([a-z_0-9]+)(?:\{([a-z]+)="((?:[^"\\]|\\.)*)"\})? (\S+)')


def _page(text: str) -> tuple[dict[str, str], dict[tuple[str, str], float]]:
    """The types by name and the values by name and label, each line held against the format."""
    kinds: dict[str, str] = {}
    samples: dict[tuple[str, str], float] = {}
    current = ""
    for line in text.splitlines():
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert word in {"HELP", "TYPE"}
            if word == "TYPE":
                assert name not in kinds, name
                assert rest in {"counter", "gauge", "summary"}
                kinds[name], current = rest, name
            continue
        found = _SAMPLE.fullmatch(line)
        assert found, line
        name, _, label, value = found.groups()
        ends = ("", "_count", "_sum") if kinds[current] == "summary" else ("",)
        assert name in {current + end for end in ends}, line
        assert (name, label or "") not in samples, line
        samples[name, label or ""] = float(value)
    return kinds, samples


def test_the_page_of_metrics_is_well_formed_and_says_what_mntr_says(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start(metrics_port=0)
    client = client_of(running)
    client.create("/zookeeper/quota/app", b"")
    client.create("/app", b"")
    client.create("/zookeeper/quota/app/zookeeper_limits", b"count=7,bytes=-1=;countHardLimit=9")
    client.create("/zookeeper/quota/app/zookeeper_stats", b"count=0,bytes=0")
    client.create("/app/one", b"12345")
    client.get("/app")
    response, body = running.get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    kinds, samples = _page(body.decode())
    told = metrics.monitor_values(running.server)
    for name, kind in kinds.items():
        if kind == "summary":
            assert samples[f"{name}_count", ""] == told[f"cnt_{name}"], name
            assert samples[f"{name}_sum", ""] == told[f"sum_{name}"], name
            labels = {label for found, label in samples if found == name}
            assert labels == ({"0.5", "0.9", "0.99"} if name in metrics.ADVANCED else {"0.5"})
        elif not name.startswith(("process_", "quota_")) and name not in PASSING:
            assert samples[name, ""] == told[name], name
    assert samples["znode_count", ""] == 10.0
    assert samples["updatelatency_count", ""] == 6.0
    assert samples["readlatency_count", ""] == 1.0
    assert samples["process_resident_memory_bytes", ""] > 1 << 20
    assert samples["quota_count_limit_per_namespace", "app"] == 9.0
    assert samples["quota_bytes_limit_per_namespace", "app"] == -1.0
    assert samples["quota_count_usage_per_namespace", "app"] == 2.0
    assert told["app_quota_bytes_usage_per_namespace"] == 5
    assert running.get("/")[0].status == 404
    assert running.get("/metrics", "POST")[0].status == 405


def test_mntr_is_one_key_and_one_value_a_line(start: Callable[..., Running]) -> None:
    lines = start().ask(b"mntr").splitlines()
    pairs = [line.split("\t") for line in lines]
    assert all(len(pair) == 2 and pair[0].startswith("zk_") for pair in pairs)
    assert len({key for key, _ in pairs}) == len(pairs)
    assert pairs[1] == ["zk_server_state", "standalone"]
    assert ["zk_avg_latency", "0.0"] in pairs


# ---- HTTP commands ----


def test_every_command_answers_under_each_of_its_names(start: Callable[..., Running]) -> None:
    running = start(admin_port=0, initial_config="tickTime=3000\n")
    _, links = running.get("/commands")
    assert tuple(re.findall(rb'href="/commands/(\w+)"', links)) == tuple(
        name.encode() for name in admin.NAMES
    )
    for name, (primary, _) in admin._BY_NAME.items():
        assert running.json(name)["command"] == primary
    assert running.json("icfg")["initial_configuration"] == "tickTime=3000\n"
    assert running.json("nope") == {"command": "nope", "error": "Unknown command: nope"}
    assert running.json("stmk?traceMask=12")["tracemask"] == 12
    assert running.json("gtmk")["tracemask"] == 12
    assert "error" in running.json("stmk?traceMask=0x1")
    assert running.get("/")[0].status == 404
    assert running.get("/commands/ruok", "POST")[0].status == 405


def test_a_snapshot_wants_somebody_who_may_do_everything(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start(
        admin_port=0, admin_interval_ms=0, options=Options(super_digest=SUPER_DIGEST)
    )  # fmt: skip
    client = client_of(running)
    client.add_auth("digest", "me:secret")
    client.set_acls("/", [security.make_digest_acl("me", "secret", all=True)])
    client.create("/a", b"x")

    def status(path: str, credentials: str | None, method: str = "GET") -> int:
        headers = {} if credentials is None else {"Authorization": credentials}
        return running.get(f"/commands/{path}", method, **headers)[0].status

    for name in ("snapshot", "snap", "restore", "rest"):
        assert status(name, None) == 401
    for bad in ("", "digest", "digest a b", "nobody x", "x509", "world anyone"):
        assert status("snapshot", bad) == 401
    for stranger in ("digest you:secret", "digest me:wrong", "ip"):
        assert status("snapshot", stranger) == 403
    for known in ("digest me:secret", "digest super:test"):
        response, body = running.get("/commands/snapshot", Authorization=known)
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["snapshot_size"] == str(len(body))
        path = running.server.snapshot_directory / f"snapshot.{response.headers['last_zxid'][2:]}"
        assert path.read_bytes() == body
        assert running.json("lsnp")["zxid"] == response.headers["last_zxid"][2:]
    response, body = running.get("/commands/snap?streaming=false", Authorization="digest me:secret")
    assert json.loads(body) == {"command": "snapshot", "error": None}
    assert "last_zxid" in response.headers
    assert status("restore", "digest me:secret") == 405
    assert status("snapshot", "digest me:secret", "POST") == 405


def test_snapshots_asked_for_too_soon_are_refused(start: Callable[..., Running]) -> None:
    running = start(admin_port=0, admin_interval_ms=3_600_000_000)
    credentials = {"Authorization": "digest any:body"}
    first, _ = running.get("/commands/snapshot", **credentials)
    second, _ = running.get("/commands/snapshot", **credentials)
    assert (first.status, second.status) == (200, 429)
    assert metrics.monitor_values(running.server)["snapshot_rate_limited_count"] == 1


def test_a_log_that_has_its_size_is_followed_by_another(
    start: Callable[..., Running], client_of: Callable[[Running], Any]
) -> None:
    running = start(log_roll_bytes=2000, sync_warning_ms=-1, admin_port=0)
    client = client_of(running)
    for number in range(30):
        client.create(f"/{number}", b"x" * 100)
    logs = sorted(running.server.log_directory.glob("log.*"))
    assert 2 <= len(logs) <= 8
    directory = running.server.snapshot_directory
    restored = recovery.restore(recovery.Source(directory, directory, 1 << 21))
    assert len(restored.tree) == 4 + 30
    stats = running.json("srvr")["server_stats"]
    assert stats["fsync_threshold_exceed_count"] >= 30


def test_snapshots_may_be_switched_off(start: Callable[..., Running]) -> None:
    running = start(admin_port=0, admin_snapshots=False, admin_restores=False)
    credentials = {"Authorization": "digest any:body"}
    assert running.get("/commands/snapshot", **credentials)[0].status == 503
    assert running.get("/commands/restore", "POST", **credentials)[0].status == 503
    running = start(admin_port=0, snapshots_with_zxid=False)
    assert running.get("/commands/snapshot", **credentials)[0].status == 500
    assert running.get("/commands/restore", "POST", **credentials)[0].status == 500


def test_json_is_laid_out_as_admin_server_does() -> None:
    value = {"a": 1, "b": [], "c": {}, "d": [{"e": "ü\n"}, None, True, 0.5], "f": {"g": [1, 2]}}
    text = admin.in_json(value)
    assert json.loads(text) == value
    assert text == (
        '{\n  "a" : 1,\n  "b" : [ ],\n  "c" : { },\n  "d" : [ {\n    "e" : "ü\\n"\n  }, null, '
        'true, 0.5 ],\n  "f" : {\n    "g" : [ 1, 2 ]\n  }\n}'
    )


def test_a_connection_over_tls_is_told_apart(start: Callable[..., Running], tmp_path: Path) -> None:
    certificates = pytest.importorskip("tests.server.certificates")
    party = certificates.make_world().server
    (tmp_path / "server.pem").write_bytes(party.key_pem() + party.certificate_pem)
    running = start(
        admin_port=0,
        tls=TlsSettings(Store(tmp_path / "server.pem"), client_auth="none"),
    )
    port = running.server.tls_port
    assert f"secureClientPort={port}\n" in running.ask(b"conf")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), WAIT_S) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(b"sr")  # half a word
        while not running.server.connections:
            time.sleep(0.01)
        told = running.json("connections")
        assert (len(told["connections"]), len(told["secure_connections"])) == (0, 1)
        assert told["secure_connections"][0]["interest_ops"] == 1
        connection.sendall(b"vr")
        assert connection.recv(1 << 16).startswith(b"Zookeeper version: ")


# ---- HTTP itself ----


def _raw(running: Running, *pieces: bytes) -> bytes:
    port = running.server.doors[0].port
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), WAIT_S) as connection,
    ):
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        return _everything(connection)
    return b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /commands/ruok HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /commands/ruok HTTP/1.0\r\n\r\n", 200),
        (b"GET /commands/%72uok HTTP/1.1\r\n\r\n", 200),
        (b"PUT /commands/ruok HTTP/1.1\r\n\r\n", 405),
        (b"GET /commands/ruok\r\n\r\n", 400),
        (b"GET  /commands/ruok HTTP/1.1\r\n\r\n", 400),
        (b"GET /commands/ruok SMTP/1.1\r\n\r\n", 400),
        (b"GET /commands/ruok HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /commands/ruok HTTP/1.1\r\n: no name\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"x" * 2 * small_http.HEAD_BYTES_MAX + b" HTTP/1.1\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # TLS knocks
    ],
)
def test_a_request_is_answered_or_refused(
    start: Callable[..., Running], request_bytes: bytes, status: int
) -> None:
    answer = _raw(start(admin_port=0), request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


def test_a_connection_is_kept_and_a_head_has_no_body(start: Callable[..., Running]) -> None:
    running = start(admin_port=0)
    answer = _raw(
        running,
        b"HEAD /commands/ruok HTTP/1.1\r\n\r\nGET /commands/gtmk HTTP/1.1\r\n",
        b"Connection: close\r\n\r\nGET /commands/ruok HTTP/1.1\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"{") == 1
    assert answer.endswith(
        b'"tracemask" : 306,\n  "command" : "get_trace_mask",\n  "error" : null\n}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
        b"Content-Length: none\r\n\r\nx",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_a_body_is_thrown_away_and_ends_the_connection(
    start: Callable[..., Running], body: bytes
) -> None:
    request = b"POST /commands/restore HTTP/1.1\r\n" + body
    answer = _raw(start(admin_port=0), request)
    assert answer.count(b"HTTP/1.1 401 ") == answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer


def test_connections_are_bounded_and_end_with_the_server(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_http, "CONNECTIONS_MAX", 3)
    running = start(admin_port=0)
    port = running.server.doors[0].port
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))
            for _ in range(3)
        ]
        for connection in idle:
            connection.sendall(b"HEAD /commands/ruok HTTP/1.1\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert _raw(running, b"GET /commands/ruok HTTP/1.1\r\n\r\n") == b""
        idle.pop().close()
        while not _raw(running, b"GET /commands/ruok HTTP/1.1\r\n\r\n"):
            pass  # the closed one is noticed in a moment
        door = running.server.doors[0]
        asyncio.run_coroutine_threadsafe(door.stop(), running._loop).result(WAIT_S)
        assert all(_ended(connection) for connection in idle)


def test_noise_never_stops_the_door(start: Callable[..., Running]) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    running = start(admin_port=0)
    good = b"GET /commands/stat?x=%zz&x HTTP/1.1\r\nA: b\r\nContent-Length: 3\r\n\r\nabc"
    for _ in range(100):
        noise = bytearray(good)
        for _ in range(draw.randrange(1, 8)):
            noise[draw.randrange(len(noise))] = draw.randrange(256)
        _raw(running, bytes(noise))
    assert running.json("ruok") == {"command": "ruok", "error": None}
    assert len(struct.pack(">q", running.json("gtmk")["tracemask"])) == 8
