"""Another tree in place of this one, over HTTP: what is in it, who stays, what a restart finds.

Left to others: snapshots of Apache's and what its server answers
(tests/interop/test_zookeeper_restore.py), who may do so (tests/server/test_zookeeper_commands.py).
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.zookeeper_kit import OPEN, connect_request
from tests.server.test_zookeeper_commands import WAIT_S, Running

from stratalog.core.zookeeper.sessions import password_of
from stratalog.core.zookeeper.tree import Tree
from stratalog.server.zookeeper import metrics
from stratalog.server.zookeeper.recovery import Source, restore
from stratalog.storage.zookeeper.snapshots import SnapshotTarget
from stratalog.wire.zookeeper.messages import ConnectResponse
from stratalog.wire.zookeeper.snapshot import SnapshotTail, SnapshotWriter

kazoo = pytest.importorskip("kazoo.client")

WHO = {"Authorization": "digest any:body"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start servers that restore as often as asked, and stop them in the end."""
    running: list[Running] = []

    def one(name: str = "one", **settings: Any) -> Running:
        settings.setdefault("admin_interval_ms", -1)
        running.append(Running(tmp_path / name, admin_port=0, **settings))
        return running[-1]

    yield one
    for server in running:
        server.stop()


def client_of(running: Running, **how: Any) -> Any:
    client = kazoo.KazooClient(running.address, timeout=20, **how)
    client.start(WAIT_S)
    return client


def snapshot_of(running: Running) -> bytes:
    response, body = running.get("/commands/snapshot", **WHO)
    assert response.status == 200
    return body


def post(running: Running, data: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Restore; status and answer."""
    head = [
        "POST /commands/restore HTTP/1.1", "Authorization: digest any:body",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    if "Transfer_Encoding" not in headers:
        head.append(f"Content-Length: {len(data)}")
    with socket.create_connection(("127.0.0.1", running.server.doors[0].port), WAIT_S) as one:
        one.sendall("\r\n".join([*head, "", ""]).encode() + data)
        answer = b""
        while piece := one.recv(1 << 16):
            answer += piece
    *before, last = answer.split(b"\r\n\r\n")
    assert len(before) == 1 + ("Expect" in headers)
    return int(before[-1].split(b" ")[1]), json.loads(last) if last.startswith(b"{") else {}


def made(tree: Tree, tail: SnapshotTail) -> bytes:
    """A snapshot's bytes."""
    writer = SnapshotWriter()
    data = writer.begin(tree.sessions, tree.acls.all()) + writer.nodes(tree.snapshot_nodes())
    return data + writer.end(tail)


def test_what_was_then_is_now_and_after_a_restart_too(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start()
    client = client_of(running)
    client.create("/a", b"then")
    then = running.server.machine.tree.last_zxid
    data = snapshot_of(running)
    client.set("/a", b"now")
    client.create("/b", b"", ephemeral=True)
    before = running.server.machine.tree.last_zxid
    old = weakref.ref(running.server.machine.tree)
    session_id = client.client_id[0]
    status, answer = post(running, data)
    assert (status, answer) == (
        200, {"last_zxid": then, "command": "restore", "error": None},
    )  # fmt: skip
    # The session was there then: the client finds it again, and all that was there.
    assert client.retry(client.get, "/a")[0] == b"then"
    assert client.exists("/b") is None
    assert client.client_id[0] == session_id
    client.create("/c")
    assert running.server.machine.tree.last_zxid > before
    running.call(running.server.machine.tree.check)
    assert running.server.machine.tree.mismatches == 0
    values = metrics.monitor_values(running.server)
    assert (values["cnt_restore_time"], values["restore_error_count"]) == (1, 0)
    digest = running.server.machine.tree.digest
    assert old() is None  # or every restore would cost its memory again
    client.stop()
    client.close()
    running.stop()
    directory = running.server.snapshot_directory
    restored = restore(Source(directory, directory, 1 << 21))
    assert restored.tree.mismatches == 0
    assert {"/a", "/c"} <= restored.tree.nodes.keys()
    assert restored.tree.nodes["/a"].data == b"then"
    assert restored.tree.digest == digest
    again = start()
    client = client_of(again)
    assert client.get("/a")[0] == b"then"
    client.stop()
    client.close()


def test_who_is_not_in_it_must_begin_anew_and_who_is_goes_on(
    start: Callable[..., Running],
) -> None:
    running = start()
    tree = Tree()
    tree.sessions = {77: 10_000}
    tree.create("/e", b"", OPEN, 77, -1, 5, 1)
    tree.create("/lost", b"", OPEN, 78, -1, 6, 1)
    tree.last_zxid = 6
    client = client_of(running)
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state == "LOST" else None)
    status, answer = post(running, made(tree, SnapshotTail(None, 0x500)))
    assert (status, answer["last_zxid"]) == (200, 0x500)
    assert lost.wait(WAIT_S)
    # An ephemeral stays with its session; one of a session that is not there is gone.
    assert set(client.retry(client.get_children, "/")) == {"e", "zookeeper"}
    assert running.server.machine.tree.last_zxid > 0x500
    with socket.create_connection(("127.0.0.1", running.server.port), WAIT_S) as back:
        hello = connect_request(session_id=77, password=password_of(77))
        back.sendall(len(hello).to_bytes(4, "big") + hello)
        assert ConnectResponse.decode(back.recv(1 << 16)[4:]).session_id == 77
    client.stop()
    client.close()


@pytest.mark.parametrize("form", ["plain", "gz", "snappy"])
@pytest.mark.parametrize("how", ["length", "chunks", "expect"])
def test_it_comes_in_every_form(start: Callable[..., Running], form: str, how: str) -> None:
    running = start(snapshot_compression="" if form == "plain" else form)
    client = client_of(running)
    client.create("/a", b"x" * 50_000)
    data = snapshot_of(running)
    assert (form == "gz") is data.startswith(gzip.compress(b"")[:3])
    client.delete("/a")
    headers = {"Expect": "100-continue"} if how == "expect" else {}
    if how == "chunks":
        headers = {"Transfer_Encoding": "chunked"}
        pieces = [data[at : at + 999] for at in range(0, len(data), 999)]
        data = b"".join(b"%x;a=b\r\n%b\r\n" % (len(one), one) for one in pieces)
        data += b"0\r\nSome: trailer\r\n\r\n"
    assert post(running, data, **headers)[0] == 200
    assert client.retry(client.exists, "/a") is not None
    client.stop()
    client.close()


def test_what_is_no_snapshot_changes_nothing(start: Callable[..., Running]) -> None:
    running = start()
    client = client_of(running)
    client.create("/a", b"x")
    sound = snapshot_of(running)
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    writer = SnapshotWriter()
    orphan = (
        writer.begin({}, {})
        + writer.nodes(
            [next(Tree().snapshot_nodes()), next(Tree().snapshot_nodes())._replace(path="/a/b")]
        )
        + writer.end(SnapshotTail(None, 5))
    )
    refused = {
        "empty": b"", "garbage": b"\xff" * 100, "cut": sound[:-1], "flipped": bytes(flipped),
        "orphan": orphan, "longer": sound + b"\0", "gz": gzip.compress(sound)[:-9],
        "ahead": made(Tree(), SnapshotTail(None, (1 << 62) + 1)),
        "behind": made(Tree(), SnapshotTail(None, -5)),
    }  # fmt: skip
    for name, data in refused.items():
        status, answer = post(running, data)
        assert (status, answer["command"]) == (500, "restore"), name
        assert answer["error"], name
    assert client.get("/a")[0] == b"x"  # on the connection of before
    assert client.client_state == "CONNECTED"
    values = metrics.monitor_values(running.server)
    assert values["restore_error_count"] == len(refused)
    assert values["cnt_restore_time"] == 0
    assert not list(running.server.snapshot_directory.glob("*.tmp"))
    client.stop()
    client.close()


def test_a_body_that_makes_no_sense_is_refused(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratalog.server.zookeeper.admin.RESTORE_BYTES_MAX", 100)
    running = start()
    chunked = {"Transfer_Encoding": "chunked"}
    assert post(running, b"x" * 101)[0] == 413
    assert post(running, b"65\r\n" + b"x" * 101, **chunked)[0] == 413
    assert post(running, b"z\r\n", **chunked)[0] == 400
    assert post(running, b"-1\r\n", **chunked)[0] == 400


def test_asked_for_too_soon_it_is_refused(start: Callable[..., Running]) -> None:
    running = start(admin_interval_ms=3_600_000)
    data = snapshot_of(running)
    assert [post(running, data)[0] for _ in range(3)] == [200, 429, 429]
    assert metrics.monitor_values(running.server)["restore_rate_limited_count"] == 2


def test_a_disk_that_refuses_leaves_the_tree(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    client = client_of(running)
    data = snapshot_of(running)
    client.create("/a")

    def finish(self: SnapshotTarget, tail: SnapshotTail) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotTarget, "finish", finish)
        status, answer = post(running, data)
    assert status == 500
    assert "no space" in answer["error"]
    assert client.exists("/a") is not None
    assert running.server.failure is None
    assert not list(running.server.snapshot_directory.glob("*.tmp"))
    client.stop()
    client.close()


def test_clients_that_write_meanwhile_do_no_harm(start: Callable[..., Running]) -> None:
    """Writes are on their way as the tree is replaced, again and again; nothing is mixed up."""
    running = start(snapshot_every=50)
    client = client_of(running)
    client.create("/there", b"x")
    data = snapshot_of(running)
    done = threading.Event()
    written = threading.Semaphore(0)

    def write() -> None:
        while not done.is_set():
            client.retry(client.exists, "/there")  # waits for the connection
            for one in [client.create_async("/n-", b"x" * 100, sequence=True) for _ in range(20)]:
                try:
                    one.get(WAIT_S)
                    written.release()
                except kazoo.KazooException:
                    pass  # its connection was cut: nobody knows

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        for _ in range(50):
            assert written.acquire(timeout=WAIT_S)
        assert post(running, data)[0] == 200
    done.set()
    writer.join()
    machine = running.server.machine
    running.call(machine.tree.check)
    assert client.retry(client.exists, "/there") is not None
    names = set(client.get_children("/"))
    client.stop()
    client.close()
    running.stop()
    assert machine.tree.mismatches == 0
    directory = running.server.snapshot_directory
    restored = restore(Source(directory, directory, 1 << 21))
    restored.tree.check()
    assert restored.tree.mismatches == 0
    assert {path[1:] for path in restored.tree.nodes["/"].children or ()} == names
