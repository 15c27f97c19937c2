"""What a data directory brings back: logs and snapshots in every state that a crash leaves them.

The fuzzy snapshot is the heart of it: one that is written while the tree changes under it, and that
with the log gives the very tree that was.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.core.zookeeper_kit import OPEN, request

from stratalog.core.zookeeper.identity import NOBODYS_ACL, standard_schemes
from stratalog.core.zookeeper.prepare import Prepared, Preparer, Rules
from stratalog.core.zookeeper.sessions import Session
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import CorruptSnapshotError, CorruptTxnLogError
from stratalog.server.zookeeper.recovery import Restored, Source, restore
from stratalog.storage.zookeeper.snapshots import COMPRESSIONS, SnapshotTarget
from stratalog.wire.zookeeper.records import ACL, Id, OpCode
from stratalog.wire.zookeeper.snapshot import SnapshotTail, TreeDigest
from stratalog.wire.zookeeper.txn_log import HEADER, encode_record

LIMIT = 1 << 20
NAMES = ("/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/a", "/a/a/b", "/b/a/a", "/c")


@dataclass
class Server:
    """A tree, its log on the disk, and random requests; nothing is read back while it runs."""

    directory: Path
    draw: random.Random
    tree: Tree = field(default_factory=lambda: Tree(extended=True))
    log: Path | None = None
    starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.preparer = Preparer(self.tree, standard_schemes(), Rules())
        self.sessions = {100 + i: Session(100 + i, 4000 + i) for i in range(3)}
        for session in self.sessions.values():
            self.commit(self.preparer.create_session(session.session_id, 0, 4000, 1))

    def commit(self, prepared: Prepared) -> None:
        """Log a transaction, then apply it."""
        if self.log is None:
            self.log = self.directory / f"log.{prepared.zxid:x}"
            self.log.write_bytes(HEADER)
            self.starts = []
        self.starts.append(self.log.stat().st_size)
        with self.log.open("ab") as file:
            file.write(encode_record(prepared.payload))
        self.tree.apply(
            prepared.type, prepared.session_id, prepared.zxid, prepared.time_ms, prepared.fields
        )
        assert self.tree.verify(prepared.digest)
        self.preparer.applied(prepared.zxid)

    def operation(self) -> tuple[Any, ...]:
        draw = self.draw
        path = draw.choice(NAMES)
        own = (ACL(31, Id("digest", f"u:{draw.randrange(30)}")), *OPEN)
        acl = draw.choice((OPEN, own))
        return draw.choice(
            (
                (OpCode.CREATE, path, draw.choice((None, b"x", b"y" * 50)), acl, 0),
                (OpCode.CREATE, path, b"", acl, 0),
                (OpCode.CREATE, path, b"e", acl, 1),
                (OpCode.CREATE, path, b"s", acl, 2),
                (OpCode.CREATE_CONTAINER, path, b"", acl, 4),
                (OpCode.DELETE, path, -1),
                (OpCode.DELETE, path, -1),
                (OpCode.DELETE, path, -1),
                (OpCode.SET_DATA, path, b"z" * draw.randrange(9), -1),
            )
        )

    def act(self, count: int) -> None:
        """So many random transactions."""
        for _ in range(count):
            session = self.draw.choice(list(self.sessions.values()))
            action = self.draw.random()
            if action < 0.02:
                self.commit(self.preparer.close_session(session.session_id, 0, self.now()))
                self.commit(self.preparer.create_session(session.session_id, 0, 4000, self.now()))
            elif action < 0.1:
                path = self.draw.choice(NAMES)
                own = (ACL(31, Id("digest", f"u:{self.draw.randrange(30)}")), *OPEN)
                self.ask(session, OpCode.SET_ACL, path, own, -1)
            elif action < 0.25:
                self.ask(session, OpCode.MULTI, *(self.operation() for _ in range(3)))
            else:
                self.ask(session, *self.operation())

    def now(self) -> int:
        return 1_000 + self.preparer.zxid

    def ask(self, session: Session, kind: int, *fields: Any) -> None:
        frame = request(1, kind, *fields)
        self.commit(self.preparer.prepare(kind, frame, 8, session, (), 1, self.now()))

    def snapshot(self, act: int = 0, compression: str = "") -> Path:
        """Write a snapshot, with up to ``act`` transactions between two slices of it."""
        tree = self.tree
        target = SnapshotTarget(self.directory, tree.last_zxid, compression=compression)
        target.begin(tree.sessions, tree.acls.all())
        for node in tree.snapshot_nodes():
            target.nodes([node])
            self.act(self.draw.randint(0, act))
        digest = TreeDigest(tree.last_zxid, 2, tree.digest)
        target.finish(SnapshotTail(digest, tree.last_zxid))
        return target.path

    def restore(self) -> Restored:
        return restore(Source(self.directory, self.directory, LIMIT, extended=True))

    def same(self, restored: Restored, zxid: int | None = None) -> None:
        """See that the restored tree is this one."""
        tree = restored.tree
        assert tree.mismatches == 0
        assert tree.last_zxid == self.tree.last_zxid == (zxid or self.tree.last_zxid)
        assert whole(tree) == whole(self.tree)
        assert tree.digest == self.tree.digest
        assert tree.sessions == self.tree.sessions
        assert NOBODYS_ACL not in tree.acls
        tree.check()


def whole(tree: Tree) -> dict[str, Any]:
    """All that a tree is, but for the numbers of ACLs and the order of names."""
    return {
        node.path: (node._replace(acl_index=0), tree.acl(tree.nodes[node.path]))
        for node in tree.snapshot_nodes()
    }


def server(directory: Path, seed: int) -> Server:
    directory.mkdir(exist_ok=True)
    return Server(directory, random.Random(seed))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_snapshot_and_log(tmp_path: Path, compression: str) -> None:
    mine = server(tmp_path, 1)
    mine.act(100)
    path = mine.snapshot(compression=compression)
    zxid = mine.tree.last_zxid
    mine.act(100)
    mine.log = None
    mine.act(50)
    restored = mine.restore()
    assert (restored.snapshot, restored.snapshot_zxid) == (path, zxid)
    assert restored.transactions == mine.tree.last_zxid - zxid
    mine.same(restored)


@pytest.mark.parametrize("seed", range(16))
def test_a_fuzzy_snapshot(tmp_path: Path, seed: int) -> None:
    mine = server(tmp_path, seed)
    mine.act(60)
    begun = mine.tree.last_zxid
    mine.snapshot(act=40)
    done = mine.tree.last_zxid
    if seed % 2:
        mine.log = None
        mine.act(seed)
    restored = mine.restore()
    assert (restored.snapshot_zxid, restored.fuzzy_until) == (begun, done)
    mine.same(restored)
    # What was brought back is what the next snapshot keeps.
    again = Server.__new__(Server)
    again.directory, again.draw, again.tree = tmp_path, mine.draw, restored.tree
    again.act = lambda _count: None  # type: ignore[method-assign]
    again.snapshot()
    mine.same(mine.restore())


def test_fuzzy_snapshots_meet_what_they_are_meant_to(tmp_path: Path) -> None:
    """Not all of those runs were harmless: without a replay, most trees would be others."""
    wrong = 0
    for seed in range(10):
        directory = tmp_path / str(seed)
        mine = server(directory, seed)
        mine.act(60)
        mine.snapshot(act=40)
        for log in directory.glob("log.*"):
            log.unlink()
        try:
            wrong += whole(mine.restore().tree) != whole(mine.tree)
        except CorruptTxnLogError:
            wrong += 1
    assert wrong >= 8


def test_a_child_of_a_znode_that_came_again_is_not_lost(tmp_path: Path) -> None:
    """The log deletes /a, which the snapshot has from later, and with a child."""
    mine = server(tmp_path, 0)
    session = mine.sessions[100]
    mine.ask(session, OpCode.CREATE, "/a", b"", OPEN, 0)
    target = SnapshotTarget(tmp_path, mine.tree.last_zxid)
    target.begin(mine.tree.sessions, mine.tree.acls.all())
    nodes = mine.tree.snapshot_nodes()
    target.nodes([next(nodes)])
    mine.ask(session, OpCode.DELETE, "/a", -1)
    mine.ask(session, OpCode.CREATE, "/a", b"again", OPEN, 0)
    mine.ask(session, OpCode.CREATE, "/a/child", b"kept", OPEN, 0)
    mine.ask(session, OpCode.CREATE, "/a/child/deeper", b"too", OPEN, 1)
    target.nodes(nodes)
    target.finish(
        SnapshotTail(TreeDigest(mine.tree.last_zxid, 2, mine.tree.digest), mine.tree.last_zxid)
    )
    restored = mine.restore()
    mine.same(restored)
    assert list(restored.tree.nodes["/a"].children or ()) == ["/a/child"]


def test_a_delete_that_leaves_behind_what_is_below_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = Tree.delete

    def leaving(tree: Tree, path: str, zxid: int) -> None:
        if (node := tree.nodes.get(path)) is not None:
            node.children = None
        delete(tree, path, zxid)

    assert differing(tmp_path, monkeypatch, "delete", leaving) >= 2


def test_a_create_that_leaves_the_acl_of_a_snapshot_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Tree.create

    def leaving(tree: Tree, path: str, data: bytes, acl: Any, *rest: Any) -> Any:
        known = tree.nodes.get(path)
        return create(tree, path, data, acl if known is None else tree.acl(known), *rest)

    assert differing(tmp_path, monkeypatch, "create", leaving) >= 2


def differing(directory: Path, patch: pytest.MonkeyPatch, name: str, fault: Any) -> int:
    """How many of some runs a faulty replay does not bring back."""
    found = 0
    for seed in range(8):
        mine = server(directory / str(seed), seed)
        mine.act(60)
        mine.snapshot(act=40)
        with patch.context() as planted:
            planted.setattr(Tree, name, fault)
            try:
                mine.same(mine.restore())
            except (AssertionError, CorruptTxnLogError):
                found += 1
    return found


def test_torn_at_every_byte(tmp_path: Path) -> None:
    mine = server(tmp_path, 5)
    mine.act(10)
    mine.snapshot()
    base = mine.tree.last_zxid
    mine.log = None
    mine.act(4)
    path = mine.log
    assert path is not None
    data = path.read_bytes()
    ends = [*mine.starts[1:], len(data)]
    for cut in range(len(HEADER), len(data) + 1):
        path.write_bytes(data[:cut] + (b"", bytes(600))[cut % 2])
        restored = mine.restore()
        assert restored.transactions == sum(end <= cut for end in ends)
        assert restored.tree.last_zxid == base + restored.transactions
        assert restored.tree.mismatches == 0
    path.write_bytes(data)
    mine.same(mine.restore())


def test_a_damaged_middle_is_refused_with_its_place(tmp_path: Path) -> None:
    mine = server(tmp_path, 6)
    mine.snapshot()
    mine.log = None
    mine.act(8)
    path = mine.log
    assert path is not None
    data = path.read_bytes()
    for number, start in enumerate(mine.starts[:-1]):
        for position in (start + 6, start + 9, start + 11, start + 20, mine.starts[number + 1] - 1):
            damaged = bytearray(data)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(CorruptTxnLogError) as caught:
                mine.restore()
            assert (caught.value.path, caught.value.position) == (str(path), start)
    path.write_bytes(data)
    mine.same(mine.restore())


def test_a_body_that_cannot_be_is_refused_with_its_place(tmp_path: Path) -> None:
    mine = server(tmp_path, 7)
    mine.snapshot()
    path = mine.log
    assert path is not None
    head = bytearray(mine.preparer.create_session(1, 0, 1, 1).payload[:32])
    start = path.stat().st_size
    for kind, body in ((99, b""), (OpCode.SET_DATA, b"\0\0\0\x50/a")):
        head[28:32] = int(kind).to_bytes(4, "big")
        before = path.read_bytes()
        path.write_bytes(before + encode_record(bytes(head) + body))
        with pytest.raises(CorruptTxnLogError) as caught:
            mine.restore()
        assert (caught.value.path, caught.value.position) == (str(path), start)
        path.write_bytes(before)


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "garbage", "half"])
def test_a_bad_snapshot_falls_back_to_an_older_one(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine = server(tmp_path, 8)
    mine.act(30)
    older = mine.snapshot()
    mine.act(30)
    newer = mine.snapshot()
    mine.act(30)
    data = newer.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    newer.write_bytes(
        {
            "cut": data[:-1], "flip": bytes(flipped), "empty": b"", "garbage": b"\xff" * 100,
            "half": data[: len(data) // 2] + b"\0\0\0\x01/",
        }[how]
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        restored = mine.restore()
    assert restored.snapshot == older
    assert str(newer) in caplog.text
    mine.same(restored)


def test_without_a_sound_snapshot_there_is_no_start(tmp_path: Path) -> None:
    mine = server(tmp_path, 9)
    mine.act(10)
    path = mine.snapshot()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptSnapshotError) as caught:
        mine.restore()
    assert caught.value.path == str(path)


def test_logs_alone_are_believed_on_demand(tmp_path: Path) -> None:
    mine = server(tmp_path, 10)
    mine.act(50)
    with pytest.raises(CorruptSnapshotError, match="no snapshot"):
        mine.restore()
    source = Source(tmp_path, tmp_path, LIMIT, extended=True, trust_empty=True)
    mine.same(restore(source))


def test_nothing_at_all_is_an_empty_tree(tmp_path: Path) -> None:
    restored = restore(Source(tmp_path / "no", tmp_path / "where", LIMIT))
    assert (len(restored.tree), restored.snapshot, restored.transactions) == (4, None, 0)
    restored.tree.check()


def test_a_snapshot_without_digests_is_read(tmp_path: Path) -> None:
    mine = server(tmp_path, 11)
    mine.act(30)
    for tail in (SnapshotTail(None, mine.tree.last_zxid), SnapshotTail()):
        target = SnapshotTarget(tmp_path, mine.tree.last_zxid)
        target.begin(mine.tree.sessions, mine.tree.acls.all())
        target.nodes(mine.tree.snapshot_nodes())
        target.finish(tail)
        mine.same(mine.restore())


def test_a_digest_that_differs_is_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = server(tmp_path, 12)
    mine.act(10)
    mine.snapshot()
    prepared = mine.preparer.create_session(7, 0, 9, 9)
    wrong = prepared.payload[:-1] + bytes((prepared.payload[-1] ^ 1,))
    assert mine.log is not None
    with mine.log.open("ab") as file:
        file.write(encode_record(wrong))
    with caplog.at_level(logging.ERROR):
        restored = mine.restore()
    assert restored.tree.mismatches == 1
    assert "digest differs" in caplog.text


def test_a_session_closed_without_a_list_comes_back(tmp_path: Path) -> None:
    """As ZooKeeper before 3.6 wrote it, and as we do where it would be too large."""
    mine = server(tmp_path, 13)
    mine.snapshot()
    session = mine.sessions[100]
    for i in range(5):
        mine.ask(session, OpCode.CREATE, f"/e{i}", b"", OPEN, 1)
    for rules in (Rules(txn_bytes_max=50), Rules(close_session_paths=False)):
        mine.preparer.rules = rules
        mine.commit(mine.preparer.close_session(100, 0, 1))
        mine.preparer.rules = Rules()
        for i in range(5):
            assert f"/e{i}" not in mine.tree.nodes
            mine.ask(session, OpCode.CREATE, f"/e{i}", b"", OPEN, 1)
    mine.same(mine.restore())
