"""A snapshot taken over HTTP from either server is restored by either, with the same answer.

Apache's keeps what it restored in memory only, and its clients' watches nowhere; so what is
compared is the answer and what is in the tree, before either is started again.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from tools.peers.zookeeper import PeerUnavailable, ZooKeeperPeer, free_port

from stratalog.testing import ZooKeeperServer

if TYPE_CHECKING:
    from pathlib import Path

kazoo = pytest.importorskip("kazoo.client")
security = pytest.importorskip("kazoo.security")

pytestmark = pytest.mark.interop

WAIT_S = 20
WHO = "digest super:test"
OTHERS = {
    "zookeeper.DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.admin.rateLimiterIntervalInMS": -1,
    "zookeeper.preAllocSize": 4096,
}


def _http(port: int, command: str, data: bytes | None = None, who: str = WHO) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/commands/{command}", data, {"Authorization": who}
    )
    request.add_header("Content-Type", "application/octet-stream")
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:  # noqa: S310
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _client(port: int) -> Any:
    client = kazoo.KazooClient(f"127.0.0.1:{port}", timeout=WAIT_S)
    client.start(WAIT_S)
    client.add_auth("digest", "super:test")
    return client


def _work(port: int) -> None:
    client = _client(port)
    for number in range(20):
        client.create(f"/n{number}/a", b"x" * number, makepath=True)
    client.create("/kept", b"", acl=[security.make_digest_acl("me", "secret", all=True)])
    client.delete("/n0/a")
    client.stop()
    client.close()


def _tree(port: int) -> dict[str, Any]:
    """Everything below the root, with Stats and ACLs, as a client sees it."""
    client, seen = _client(port), {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        data, stat = client.get(path)
        seen[path] = (data, stat, client.get_acls(path)[0])
        children = client.get_children(path)
        waiting += [f"{path.rstrip('/')}/{name}" for name in children]
    client.stop()
    client.close()
    return seen


def test_each_restores_what_each_has_told(scratch: Path) -> None:
    ports = [free_port(), free_port()]
    try:
        peer = ZooKeeperPeer(
            scratch / "apache",
            {"admin.enableServer": "true", "admin.serverAddress": "127.0.0.1",
             "admin.serverPort": ports[0]},
            properties=OTHERS,
        )  # fmt: skip
    except PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")
    arguments = [f"-D{key}={value}" for key, value in OTHERS.items()]
    arguments += ["-Dadmin.enableServer=true", f"-Dadmin.serverPort={ports[1]}"]
    with peer, ZooKeeperServer(scratch / "ours", arguments=arguments) as ours:
        doors = (peer.port, ours.port)
        for port in doors:
            _work(port)
        trees = [_tree(port) for port in doors]
        snapshots = [_http(port, "snapshot") for port in ports]
        assert [status for status, _ in snapshots] == [200, 200]
        for (_, snapshot), tree in zip(snapshots, trees, strict=True):
            answers = [_http(port, "restore", snapshot) for port in ports]
            assert answers[0] == answers[1]
            assert answers[0][0] == 200
            assert set(json.loads(answers[0][1])) == {"last_zxid", "command", "error"}
            assert [_tree(port) for port in doors] == [tree, tree]
        # What is no snapshot, and who may not: the same statuses.
        damaged = snapshots[0][1][: len(snapshots[0][1]) // 2]
        for data, who in ((damaged, WHO), (b"", WHO), (damaged, "digest"), (damaged, "nobody x")):
            statuses = [_http(port, "restore", data, who)[0] for port in ports]
            assert statuses[0] == statuses[1], (len(data), who)
        # Ours has it on the disk, too.
        ours.kill()
        ours.start()
        assert _tree(ours.port) == trees[1]
