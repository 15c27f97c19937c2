"""A data directory passes from our server to Apache's and back, after clean stops and kill -9.

Writers with sessions of their own write through all of it (tests/trials/traffic.py): at each move
their sessions are resumed, with the passwords they got from the other server, and what was answered
must be there, and nothing else.  Around them stands one znode of each kind, with its ACL and Stat.

    ours, killed  ->  Apache's, killed  ->  ours, stopped  ->  Apache's, stopped  ->  ours reads

At each move: the new server's tree, asked through kazoo, is what the files hold as we read them; no
digest differs, and Apache's server warns of nothing.  Its tools read our files.
"""

from __future__ import annotations

import re
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.security import make_digest_acl
from tests.trials.traffic import ANYONE, Writer, check_all
from tools.peers import zookeeper

from stratalog.server.zookeeper.recovery import Restored, Source, restore
from stratalog.storage.zookeeper.snapshots import list_snapshots
from stratalog.storage.zookeeper.txn_log import list_logs, read_log
from stratalog.testing import ZooKeeperServer
from stratalog.wire.zookeeper.messages import CreateRequest, CreateTTLRequest, RequestHeader
from stratalog.wire.zookeeper.records import OpCode, Stat

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop

LIMIT = 2 * 0xFFFFF
SECRET = ("digest", "somebody:secret")
PROPERTIES = {
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.snapCount": 60,
    "zookeeper.preAllocSize": 64,
}

Tree = dict[str, tuple[bytes | None, tuple[tuple[int, str, str], ...], Stat]]


@pytest.fixture(scope="module", autouse=True)
def need_zookeeper() -> None:
    """Skip with the reason where Apache ZooKeeper cannot run."""
    try:
        zookeeper.jars()
    except zookeeper.PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")


def ours(data_dir: Path, compression: str) -> ZooKeeperServer:
    """Our server."""
    properties = PROPERTIES | {"zookeeper.snapshot.compression.method": compression}
    arguments = [f"-D{key}={value}" for key, value in properties.items()]
    return ZooKeeperServer(data_dir, arguments=arguments)


def apaches(data_dir: Path, compression: str) -> zookeeper.ZooKeeperPeer:
    """Apache's server."""
    properties = PROPERTIES | {"zookeeper.snapshot.compression.method": compression}
    return zookeeper.ZooKeeperPeer(data_dir, properties=properties)


def client(address: str) -> KazooClient:
    """A client that may read everything."""
    one = KazooClient(address, timeout=30, auth_data=[SECRET])
    one.start()
    return one


def seen_through(address: str) -> Tree:
    """The tree, asked for znode by znode."""
    one = client(address)
    mine = one.client_id[0]
    tree: Tree = {}

    def walk(path: str) -> None:
        data, stat = one.get(path)
        acls = tuple((acl.perms, acl.id.scheme, acl.id.id) for acl in one.get_acls(path)[0])
        tree[path] = (data, acls, Stat(*stat))
        for name in one.get_children(path):
            walk(f"{path.rstrip('/')}/{name}")

    try:
        assert mine != 0
        walk("/")
    finally:
        one.stop()
        one.close()
    return tree


def in_the_files(data_dir: Path) -> tuple[Restored, Tree]:
    """What we read there."""
    place = data_dir / "version-2"
    restored = restore(Source(place, place, LIMIT, extended=True))
    held = restored.tree
    held.check()
    assert held.mismatches == 0
    tree: Tree = {}
    for path, node in held.nodes.items():
        if path:
            acls = tuple((acl.perms, acl.id.scheme, acl.id.id) for acl in held.acl(node))
            tree[path] = (node.data, acls, Stat.decode(held.stat(node)))
    return restored, tree


def plant(address: str, stage: int) -> None:
    """One znode of each kind, changed ones and failed writes too."""
    one = client(address)
    top = f"/kinds{stage}"
    try:
        one.create(top, b"data \x00 \xff")
        one.create(f"{top}/null", None)
        one.create(f"{top}/acl", b"", acl=[make_digest_acl("somebody", "secret", all=True)])
        one.set_acls(f"{top}/null", [make_digest_acl("somebody", "secret", read=True, admin=True)])
        one.set(f"{top}/acl", b"x" * 5000)
        for _ in range(3):
            one.create(f"{top}/s-", b"", sequence=True)
        one.delete(f"{top}/s-0000000003")
        for path in (top, "/nowhere/at/all"):
            with pytest.raises(KazooException):
                one.create(path)
        transaction = one.transaction()
        transaction.create(f"{top}/multi", b"m")
        transaction.set_data(f"{top}/multi", b"n")
        transaction.delete(f"{top}/s-0000000004")
        assert transaction.commit()[0] == f"{top}/multi"
        transaction = one.transaction()
        transaction.create(f"{top}/never")
        transaction.check(top, 99)
        assert one.exists(f"{top}/never") is None
        transaction.commit()
        for subtree, limits in ((top, b"count=1000,bytes=-1"),):
            one.create(f"/zookeeper/quota{subtree}/zookeeper_limits", limits, makepath=True)
            one.create(f"/zookeeper/quota{subtree}/zookeeper_stats", b"count=0,bytes=0")
    finally:
        one.stop()
        one.close()
    raw = Writer(f"raw{stage}", 0)
    raw.connect(address)
    try:
        ask(raw, OpCode.CREATE_CONTAINER, CreateRequest(f"{top}/box", b"", ANYONE, 4).encode())
        ask(raw, OpCode.CREATE, CreateRequest(f"{top}/box/in", b"", ANYONE, 0).encode())
        ttl = CreateTTLRequest(f"{top}/brief", b"t", ANYONE, 5, 3_600_000)
        ask(raw, OpCode.CREATE_TTL, ttl.encode())
        ask(raw, OpCode.CREATE, CreateRequest(f"{top}/mine", b"e", ANYONE, 1).encode())
    finally:
        raw.join()  # its session lives on, and its ephemeral


def ask(raw: Writer, kind: OpCode, body: bytes) -> None:
    """Send one request, which must succeed."""
    connection: Any = raw._socket
    frame = RequestHeader(1, int(kind)).encode() + body
    connection.sendall(struct.pack(">i", len(frame)) + frame)
    (length,) = struct.unpack(">i", connection.recv(4, 0x100))
    answer = connection.recv(length, 0x100)
    assert struct.unpack(">iqi", answer[:16])[2] == 0, (kind, answer)


def complaints_about_files(said: str) -> list[str]:
    """What a server warned of, but for connections, which break here, and a slow machine."""
    return [
        line
        for line in said.splitlines()
        if re.search(r"\b(WARN|WARNING|ERROR|CRITICAL)\b", line)
        and "fsync-ing the write ahead log" not in line
        and "Too busy to snap" not in line  # the snapshot before it is still being written
        and "org.apache.zookeeper.server.ServerCnxnFactory" not in line
        and "org.apache.zookeeper.server.NIOServerCnxn" not in line
    ]


def differences(one: Tree, other: Tree) -> list[str]:
    """Where two trees are not the same."""
    return [
        f"{path}: {one.get(path)} is not {other.get(path)}"
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    ]


def test_a_directory_goes_from_ours_to_apaches_and_back(scratch: Path) -> None:
    data_dir = scratch / "data"
    writers = [Writer(f"w{number}", 7, data_bytes_max=900) for number in range(3)]
    held: Tree | None = None
    # Each reads snapshots of both kinds that the other wrote.
    moves = (
        (ours(data_dir, "gz"), True),
        (apaches(data_dir, "snappy"), True),
        (ours(data_dir, "snappy"), False),
        (apaches(data_dir, "gz"), False),
    )
    for stage, (one, killed) in enumerate(moves):
        one.start()
        try:
            if held is not None:
                assert differences(seen_through(one.address), held) == [], f"stage {stage}"
            plant(one.address, stage)
            for writer in writers:
                writer.start(one.address)  # resumes the session that the other server gave it
            time.sleep(0.5)
            if not killed:
                for writer in writers:
                    writer.stop()
            if isinstance(one, zookeeper.ZooKeeperPeer):
                assert "zk_digest_mismatches_count\t0\n" in one.ask(b"mntr").decode()
        finally:
            one.kill() if killed else one.stop()
        for writer in writers:
            writer.join()
            assert writer.answered > 20
        restored, held = in_the_files(data_dir)
        found = {path: (data, stat.version) for path, (data, _, stat) in held.items()}
        assert check_all(writers, found) == []
        assert {writer.session_id for writer in writers} <= set(restored.tree.sessions)
        assert len(list_logs(data_dir / "version-2")) > 1
        assert len(list_snapshots(data_dir / "version-2")) > 1
        complaints = complaints_about_files(one.said())
        before, before_killed = moves[stage - 1] if stage else (None, False)
        if before_killed and isinstance(before, zookeeper.ZooKeeperPeer):
            # Apache's writes snapshots under their names: killed meanwhile, it leaves a half.
            complaints = [line for line in complaints if "passed over" not in line]
        assert complaints == []


def test_apaches_tools_read_our_files(scratch: Path) -> None:
    """TxnLogToolkit and SnapshotFormatter find as much in them as we do, and nothing wrong."""
    data_dir = scratch / "data"
    server = ours(data_dir, "")
    writer = Writer("w", 3)
    server.start()
    try:
        plant(server.address, 0)
        writer.start(server.address, 300)
        writer.join()
    finally:
        server.kill()
    place = data_dir / "version-2"
    logs = list_logs(place)
    assert len(logs) > 2
    for log in (logs[1], logs[-1]):
        mine = [f"zxid 0x{one.zxid:x} " for one in read_log(log.path, record_bytes_max=LIMIT)]
        done = zookeeper.tool("org.apache.zookeeper.server.persistence.TxnLogToolkit", log.path)
        theirs = [line for line in done.splitlines() if " zxid 0x" in line]
        assert len(theirs) == len(mine) > 0
        assert all(own in line for own, line in zip(mine, theirs, strict=True))
        assert "CRC" not in done
        assert f"EOF reached after {len(mine)} txns" in done
    newest = list_snapshots(place)[0]
    done = zookeeper.tool("org.apache.zookeeper.server.SnapshotFormatter", newest.path)
    paths = {line for line in done.splitlines() if line.startswith("/")}
    assert {"/kinds0", "/kinds0/box/in", "/queue"} <= paths
    assert f"0x{newest.zxid:x}" in done


def test_apache_reads_what_a_power_loss_left_once_we_mended_it(scratch: Path) -> None:
    """A record that lost a sector, sound ones behind it: Apache warns, until ours has cut it."""
    data_dir = scratch / "data"
    server = ours(data_dir, "")
    writer = Writer("w", 5)
    server.start()
    try:
        writer.start(server.address, 25)
        writer.join()
    finally:
        server.kill()
    (log,) = list_logs(data_dir / "version-2")
    whole = log.path.read_bytes()
    records = list(read_log(log.path, record_bytes_max=LIMIT))
    hole = records[len(records) // 2].position // 512 * 512 + 512
    torn = whole[:hole] + bytes(512) + whole[hole + 512 :]
    log.path.write_bytes(torn)
    assert zookeeper.read_directory(data_dir).warnings != []
    server.start()
    server.kill()
    assert "are dropped" in server.said()
    restored, _ = in_the_files(data_dir)
    found = zookeeper.read_directory(data_dir)
    assert found.warnings == []
    assert (found.zxid, found.digest) == (restored.tree.last_zxid, restored.tree.digest)
    assert found.zxid < records[-1].zxid
