"""The tree under transactions: Stat, owners, digests, quotas, replay, snapshots."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import pytest
from tests.core.zookeeper_kit import acl

from stratalog.core.zookeeper.identity import NOBODYS_ACL, OPEN_ACL, READ_ONLY_ACL, Acl
from stratalog.core.zookeeper.paths import SPECIAL
from stratalog.core.zookeeper.quotas import Figures, Quotas, exceeds
from stratalog.core.zookeeper.refusal import Refused
from stratalog.core.zookeeper.tree import Tree
from stratalog.core.zookeeper.znode import (
    CONTAINER_OWNER,
    TTL_MS_MAX,
    Kind,
    digest_of,
    int32,
    kind_of,
    owner_of_ttl,
    ttl_of_owner,
)
from stratalog.wire.jute import packer
from stratalog.wire.zookeeper.records import OpCode, Stat
from stratalog.wire.zookeeper.txns import BODIES, Txn

ANN: Acl = (acl(31, "digest", "ann:x"),)
BOB: Acl = (acl(3, "digest", "bob:x"), acl(1, "world", "anyone"))
SESSION = 0x100_0000_0000_0001


def stat(tree: Tree, path: str) -> Stat:
    return Stat.decode(tree.stat(tree.nodes[path]))


def make(tree: Tree, path: str, zxid: int, **how: Any) -> None:
    tree.create(
        path, how.get("data", b""), how.get("acl", OPEN_ACL), how.get("owner", 0),
        how.get("cversion", -1), zxid, how.get("time", 1000 + zxid),
    )  # fmt: skip
    tree.last_zxid = zxid
    tree.check()


class TestStat:
    def test_of_a_new_znode(self) -> None:
        tree = Tree()
        make(tree, "/a", 5, data=b"xyz")
        assert stat(tree, "/a") == Stat(5, 5, 1005, 1005, 0, 0, 0, 0, 3, 0, 5)
        assert stat(tree, "/") == Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 5)

    def test_children_change_their_parent_and_data_does_not(self) -> None:
        tree = Tree()
        make(tree, "/a", 1)
        make(tree, "/a/x", 2)
        make(tree, "/a/y", 3)
        assert (stat(tree, "/a").cversion, stat(tree, "/a").pzxid) == (2, 3)
        tree.set_data("/a/x", b"new", 1, 4, 2000)
        tree.set_acl("/a/x", ANN, 1)
        assert (stat(tree, "/a").cversion, stat(tree, "/a").pzxid) == (2, 3)
        assert stat(tree, "/a/x") == Stat(2, 4, 1002, 2000, 1, 0, 1, 0, 3, 0, 2)
        tree.delete("/a/x", 5)
        # What is stored counts creates; what clients see counts deletes too.
        assert tree.nodes["/a"].cversion == 2
        assert (stat(tree, "/a").cversion, stat(tree, "/a").pzxid) == (3, 5)
        assert stat(tree, "/a").num_children == 1
        assert (stat(tree, "/a").mzxid, stat(tree, "/a").version) == (1, 0)
        tree.check()

    def test_null_data_has_no_length(self) -> None:
        tree = Tree()
        make(tree, "/a", 1, data=None)
        assert stat(tree, "/a").data_length == 0
        assert tree.nodes["/a"].data is None

    def test_the_config_znode_is_as_apaches(self) -> None:
        tree = Tree()
        assert stat(tree, "/zookeeper/config").aversion == -1
        assert len(tree) == 4
        tree.check()


class TestOwners:
    @pytest.mark.parametrize(
        ("owner", "extended", "kind"),
        [
            (0, True, Kind.PERSISTENT),
            (0, False, Kind.PERSISTENT),
            (SESSION, True, Kind.EPHEMERAL),
            (CONTAINER_OWNER, True, Kind.CONTAINER),
            (CONTAINER_OWNER, False, Kind.CONTAINER),
            (owner_of_ttl(1), True, Kind.TTL),
            (owner_of_ttl(TTL_MS_MAX), True, Kind.TTL),
            (owner_of_ttl(1), False, Kind.EPHEMERAL),
            (-(1 << 56) | 1 << 40, True, Kind.EPHEMERAL),  # a reserved bit
        ],
    )
    def test_kinds(self, owner: int, extended: bool, kind: Kind) -> None:
        assert kind_of(owner, extended=extended) is kind

    def test_ttls(self) -> None:
        assert owner_of_ttl(1) == -(1 << 56) + 1
        for ttl_ms in (1, 5, TTL_MS_MAX):
            assert ttl_of_owner(owner_of_ttl(ttl_ms)) == ttl_ms

    def test_only_a_session_shows_on_the_wire(self) -> None:
        tree = Tree(extended=True)
        for path, owner in (("/e", SESSION), ("/c", CONTAINER_OWNER), ("/t", owner_of_ttl(9))):
            make(tree, path, 1, owner=owner)
        assert [stat(tree, path).ephemeral_owner for path in ("/e", "/c", "/t")] == [SESSION, 0, 0]
        assert tree.ephemerals == {SESSION: {"/e": None}}
        assert (list(tree.containers), list(tree.ttls)) == (["/c"], ["/t"])
        for path in ("/e", "/c", "/t"):
            tree.delete(path, 2)
        assert {**tree.ephemerals, **tree.containers, **tree.ttls} == {}

    def test_a_session_takes_its_own_along_and_nothing_else(self) -> None:
        tree = Tree()
        for number, owner in enumerate((SESSION, SESSION + 1, 0, SESSION)):
            make(tree, f"/{number}", number + 1, owner=owner)
        tree.sessions = {SESSION: 1, SESSION + 1: 1}
        tree.apply(OpCode.CLOSE_SESSION, SESSION, 9, 0, (("/0", "/3"),))
        assert {"/1", "/2"} <= tree.nodes.keys()
        assert not {"/0", "/3"} & tree.nodes.keys()
        assert tree.sessions == {SESSION + 1: 1}
        assert tree.last_zxid == stat(tree, "/").pzxid == 9
        tree.check()

    @pytest.mark.parametrize("fields", [(), ((),), (("/0",),), (("/0", "/gone", "/3"),)])
    def test_what_a_transaction_does_not_list_goes_as_well(self, fields: tuple[Any, ...]) -> None:
        tree = Tree()
        for number in range(4):
            make(tree, f"/{number}", number + 1, owner=SESSION)
        tree.apply(OpCode.CLOSE_SESSION, SESSION, 9, 0, fields)
        assert len(tree) == 4
        tree.check()


class TestDigest:
    def test_of_a_znode_byte_for_byte(self) -> None:
        tree = Tree()
        make(tree, "/é", 5, data=b"xyz", owner=7)
        node = tree.nodes["/é"]
        data = "/é".encode() + b"xyz" + struct.pack(">qqqqqiiiq", 5, 5, 5, 1005, 1005, 0, 0, 0, 7)
        assert node.digest == digest_of("/é", node) == zlib.crc32(data)

    def test_below_zookeeper_nothing_counts(self) -> None:
        tree = Tree()
        before = tree.digest
        tree.set_data("/zookeeper/config", b"x", 1, 1, 1)
        assert tree.digest == before
        tree.set_data("/zookeeper", b"x", 1, 1, 1)
        assert tree.digest != before

    def test_mismatches_are_counted(self) -> None:
        tree = Tree()
        assert tree.verify(tree.digest)
        assert tree.verify(None)
        assert not tree.verify(tree.digest + 1)
        assert tree.mismatches == 1
        assert Tree(digests=False).verify(12345)

    def test_check_catches(self) -> None:
        def planted(tree: Tree, what: str) -> None:
            if what == "digest":
                tree.digest += 1
            elif what == "data":
                tree.nodes["/a"].data = b"other"
            elif what == "orphan":
                del tree.nodes["/a"]
                tree.nodes["/a"] = tree.nodes["/a/b"]
                (tree.nodes[""].children or {}).pop("/a")
            elif what == "unnamed":
                del tree.nodes["/a/b"]
            elif what == "owner":
                tree.ephemerals.clear()
            else:
                tree.nodes["/a"].children = {}

        for what in ("digest", "data", "orphan", "unnamed", "owner", "names"):
            tree = Tree()
            make(tree, "/a", 1)
            make(tree, "/a/b", 2, owner=SESSION)
            planted(tree, what)
            with pytest.raises(AssertionError):
                tree.check()


class TestRefusals:
    @pytest.mark.parametrize(
        ("what", "arguments", "code"),
        [
            ("create", ("/no/x", b"", OPEN_ACL, 0, -1, 9, 9), "NO_NODE"),
            ("create", ("/a", b"", OPEN_ACL, 0, -1, 9, 9), "NODE_EXISTS"),
            ("delete", ("/no", 9), "NO_NODE"),
            ("delete", ("/no/x", 9), "NO_NODE"),
            ("set_data", ("/no", b"", 1, 9, 9), "NO_NODE"),
            ("set_acl", ("/no", OPEN_ACL, 1), "NO_NODE"),
        ],
    )
    def test_codes(self, what: str, arguments: tuple[Any, ...], code: str) -> None:
        tree = Tree()
        make(tree, "/a", 1)
        with pytest.raises(Refused) as caught:
            getattr(tree, what)(*arguments)
        assert caught.value.code.name == code
        tree.check()

    def test_within_a_transaction_they_are_its_error(self) -> None:
        result = Tree().apply(OpCode.DELETE, 1, 5, 1, ("/no",))
        assert (result.err, result.type) == (-101, OpCode.DELETE)
        assert Tree().apply(OpCode.ERROR, 1, 5, 1, (-110,)).err == -110


class TestMulti:
    def part(self, kind: int, *fields: Any) -> Txn:
        return Txn(kind, packer(BODIES[kind])(*fields))

    def test_all_parts_under_one_zxid(self) -> None:
        tree = Tree()
        parts = (
            self.part(OpCode.CREATE2, "/a", b"1", OPEN_ACL, False, 1),
            self.part(OpCode.CHECK, "/a", 0),
            self.part(OpCode.SET_DATA, "/a", b"22", 1),
            self.part(OpCode.CREATE, "/a/b", None, ANN, True, 1),
            self.part(OpCode.DELETE, "/a/b"),
        )
        result = tree.apply(OpCode.MULTI, SESSION, 9, 5, (parts,))
        assert [(one.type, one.err, one.path) for one in result.parts] == [
            (OpCode.CREATE2, 0, "/a"), (OpCode.CHECK, 0, "/a"), (OpCode.SET_DATA, 0, "/a"),
            (OpCode.CREATE, 0, "/a/b"), (OpCode.DELETE, 0, "/a/b"),
        ]  # fmt: skip
        assert Stat.decode(result.parts[0].stat).version == 0
        assert Stat.decode(result.parts[2].stat) == Stat(9, 9, 5, 5, 1, 0, 0, 0, 2, 0, 9)
        assert stat(tree, "/a") == Stat(9, 9, 5, 5, 1, 2, 0, 0, 2, 0, 9)
        assert not tree.ephemerals
        tree.check()

    def test_with_a_failed_part_nothing_happens(self) -> None:
        tree = Tree()
        before = tree.digest
        parts = (
            self.part(OpCode.CREATE, "/a", b"1", OPEN_ACL, False, 1),
            self.part(OpCode.ERROR, -103),
            self.part(OpCode.ERROR, -2),
        )
        result = tree.apply(OpCode.MULTI, SESSION, 9, 5, (parts,))
        assert [one.err for one in result.parts] == [0, -103, -2]
        assert {one.type for one in result.parts} == {OpCode.ERROR}
        assert (tree.digest, tree.last_zxid, len(tree)) == (before, 9, 4)


class TestReplay:
    """A transaction that meets its own effects."""

    def test_a_create_again(self) -> None:
        tree = Tree()
        make(tree, "/a", 1)
        make(tree, "/a/x", 2, data=b"old", acl=ANN)
        before = tree.digest
        with pytest.raises(Refused):
            tree.create("/a/x", b"new", BOB, 0, 1, 2, 2)
        assert tree.nodes["/a/x"].data == b"old"
        assert tree.acl(tree.nodes["/a/x"]) == BOB
        assert (tree.digest, tree.nodes["/a"].cversion) == (before, 1)
        with pytest.raises(Refused):
            tree.create("/a/x", b"new", BOB, 0, 4, 7, 7)
        assert (tree.nodes["/a"].cversion, tree.nodes["/a"].pzxid) == (4, 7)
        tree.check()

    def test_nothing_is_lowered(self) -> None:
        tree = Tree()
        make(tree, "/a", 1)
        make(tree, "/a/x", 9, cversion=5)
        make(tree, "/a/y", 3, cversion=2)
        assert (tree.nodes["/a"].cversion, tree.nodes["/a"].pzxid) == (5, 9)
        tree.delete("/a/y", 4)
        assert tree.nodes["/a"].pzxid == 9

    def test_a_delete_of_what_is_gone_still_raises_pzxid(self) -> None:
        tree = Tree()
        make(tree, "/a", 1)
        with pytest.raises(Refused):
            tree.delete("/a/x", 8)
        assert (tree.nodes["/a"].pzxid, tree.nodes["/a"].cversion) == (8, 0)
        tree.check()

    def test_a_delete_takes_along_what_came_later(self) -> None:
        """A snapshot met /a/x only when /a had gone and come again."""
        tree = Tree()
        make(tree, "/a", 5)
        make(tree, "/a/x", 6, acl=ANN, data=b"xyz")
        make(tree, "/a/x/y", 7, owner=SESSION, cversion=1)
        tree.set_data("/a/x", b"new", 1, 8, 8)
        digest, size = tree.digest, tree.data_bytes
        for again in (
            (OpCode.DELETE, 4, ("/a",)),
            (OpCode.CREATE, 5, ("/a", b"", OPEN_ACL, False, 1)),
            (OpCode.CREATE, 6, ("/a/x", b"xyz", ANN, False, 1)),
            (OpCode.CREATE, 7, ("/a/x/y", b"", OPEN_ACL, True, 1)),
        ):
            kind, zxid, fields = again
            result = tree.apply(kind, SESSION, zxid, 1000 + zxid, fields)
            assert result.err == 0
            tree.check()
        tree.set_data("/a/x", b"new", 1, 8, 8)
        assert (tree.digest, tree.data_bytes) == (digest, size)
        assert tree.ephemerals == {SESSION: {"/a/x/y": None}}

    def test_a_zxid_of_the_past_does_not_lower_the_trees(self) -> None:
        tree = Tree()
        tree.apply(OpCode.ERROR, 1, 9, 1, (-1,))
        tree.apply(OpCode.ERROR, 1, 4, 1, (-1,))
        assert tree.last_zxid == 9


class TestQuotas:
    def limited(self) -> Tree:
        tree = Tree()
        make(tree, "/app", 1)
        make(tree, "/app/a", 2, data=b"xx")
        make(tree, "/zookeeper/quota/app", 3)
        make(tree, "/zookeeper/quota/app/zookeeper_limits", 4, data=b"count=10,bytes=100")
        make(tree, "/zookeeper/quota/app/zookeeper_stats", 5)
        return tree

    def figures(self, tree: Tree) -> bytes | None:
        return tree.nodes["/zookeeper/quota/app/zookeeper_stats"].data

    def test_the_stats_are_kept(self) -> None:
        tree = self.limited()
        assert self.figures(tree) == b"count=2,bytes=2"
        make(tree, "/app/a/b", 6, data=b"12345")
        assert self.figures(tree) == b"count=3,bytes=7"
        tree.set_data("/app/a", None, 1, 7, 7)
        assert self.figures(tree) == b"count=3,bytes=5"
        tree.set_data("/app", b"z", 1, 8, 8)
        assert self.figures(tree) == b"count=3,bytes=6"
        make(tree, "/apple", 9, data=b"none of it")
        tree.delete("/app/a/b", 10)
        assert self.figures(tree) == b"count=2,bytes=1"
        tree.delete("/zookeeper/quota/app/zookeeper_limits", 11)
        make(tree, "/app/c", 12, data=b"c")
        assert self.figures(tree) == b"count=2,bytes=1"
        tree.check()

    def test_they_are_counted_anew_from_a_snapshot(self) -> None:
        tree = self.limited()
        nodes = [
            node._replace(data=b"count=99,bytes=99") if "stats" in node.path else node
            for node in tree.snapshot_nodes()
        ]
        again = Tree.from_snapshot({}, tree.acls.all(), nodes)
        assert self.figures(again) == b"count=2,bytes=2"
        make(again, "/app/d", 20)
        assert self.figures(again) == b"count=3,bytes=2"

    def test_the_deepest_counts(self) -> None:
        quotas = Quotas()
        assert quotas.above("/a") is None
        for path in ("/a", "/a/b/c", ""):
            quotas.add(path)
        assert [quotas.above(path) for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d", "/ab")] == [
            "/a", "/a", "/a/b/c", "/a/b/c", None,
        ]  # fmt: skip
        quotas.remove("/a")
        quotas.remove("/a")
        assert quotas.above("/a/b") is None
        quotas.clear()
        assert not quotas

    @pytest.mark.parametrize(
        ("data", "count", "size", "hard"),
        [
            (None, -1, -1, -1),
            (b"", -1, -1, -1),
            (b"count=5,bytes=7", 5, 7, -1),
            (b"bytes=7;count=5", 5, 7, -1),
            (b"count=10,bytes=1000=;byteHardLimit=2000;countHardLimit=20", 10, 1000, 20),
            (b"count=,bytes=-1", -1, -1, -1),
            (b"count=1,,;;bytes=2", 1, 2, -1),
            (b"count=x,bytes=3", -1, 3, -1),
            (b"rubbish", -1, -1, -1),
            (b"\xff\xfe=1,count=4", 4, -1, -1),
        ],
    )
    def test_figures(self, data: bytes | None, count: int, size: int, hard: int) -> None:
        figures = Figures(data)
        assert (figures["count"], figures["bytes"], figures["countHardLimit"]) == (
            count, size, hard,
        )  # fmt: skip

    def test_figures_come_back(self) -> None:
        data = b"count=10,bytes=1000=;byteHardLimit=2000;countHardLimit=20"
        assert Figures(data).encode() == data
        assert Figures(b"bytes=7").encode() == b"count=-1,bytes=7"

    @pytest.mark.parametrize(
        ("more_bytes", "more_znodes", "beyond"),
        [(5, 0, False), (6, 0, True), (0, 1, False), (0, 2, True), (-1, 0, False), (0, 0, False)],
    )
    def test_hard_limits(self, more_bytes: int, more_znodes: int, beyond: bool) -> None:
        limits = Figures(b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=3")
        stats = Figures(b"count=2,bytes=5")
        found = exceeds(limits, stats, bytes_more=more_bytes, znodes_more=more_znodes)
        assert found == beyond
        soft = Figures(b"count=0,bytes=0")
        assert not exceeds(soft, stats, bytes_more=more_bytes, znodes_more=more_znodes)


def random_tree(seed: int, size: int = 150) -> Tree:
    """A tree after many transactions."""
    draw, tree = random.Random(seed), Tree(extended=True)
    for zxid in range(1, size):
        path = draw.choice(sorted(tree.nodes, key=str)).rstrip("/") + "/" + draw.choice("abcd")
        try:
            action = draw.random()
            if action < 0.6:
                owner = draw.choice((0, 0, SESSION, CONTAINER_OWNER, owner_of_ttl(zxid)))
                tree.create(
                    path, draw.choice((None, b"", b"d" * zxid)),
                    draw.choice((OPEN_ACL, ANN, BOB)), owner, -1, zxid, zxid,
                )  # fmt: skip
            elif action < 0.8:
                tree.set_acl(path, draw.choice((ANN, BOB)), zxid)
            elif path not in SPECIAL and not (path in tree.nodes and tree.nodes[path].children):
                tree.delete(path, zxid)
        except Refused:
            continue
        tree.last_zxid = zxid
    tree.check()
    return tree


@pytest.mark.parametrize("seed", range(5))
def test_a_snapshot_brings_everything_back(seed: int) -> None:
    tree = random_tree(seed)
    nodes = list(tree.snapshot_nodes())
    again = Tree.from_snapshot({5: 6}, tree.acls.all(), nodes, extended=True)
    again.check()
    assert (again.digest, again.data_bytes, len(again)) == (
        tree.digest, tree.data_bytes, len(tree),
    )  # fmt: skip
    assert list(again.snapshot_nodes()) == nodes
    assert again.acls.all() == tree.acls.all()
    assert {k: set(v) for k, v in again.ephemerals.items()} == {
        k: set(v) for k, v in tree.ephemerals.items()
    }
    assert (set(again.containers), set(again.ttls)) == (set(tree.containers), set(tree.ttls))
    assert again.sessions == {5: 6}
    # Uses are counted: deleting everything leaves only the ACL of /zookeeper/config.
    for path in sorted(tree.nodes, key=len, reverse=True):
        if path and path not in SPECIAL:
            again.delete(path, 10_000)
    assert list(again.acls.all().values()) == [READ_ONLY_ACL]
    again.check()


def test_a_znode_without_its_parent_is_told() -> None:
    nodes = [one for one in random_tree(1).snapshot_nodes() if one.path != "/a"]
    with pytest.raises(KeyError, match="/a/"):
        Tree.from_snapshot({}, random_tree(1).acls.all(), nodes)
    with pytest.raises(KeyError):
        Tree.from_snapshot({}, {}, [])


def test_an_acl_that_came_up_meanwhile_is_nobodys_until_the_log_says() -> None:
    """The numbers of ACLs are the server's own: a later one may get the same."""
    tree = Tree()
    acls = tree.acls.all()
    make(tree, "/a", 1, acl=ANN)
    make(tree, "/b", 2, acl=BOB)
    again = Tree.from_snapshot({}, acls, tree.snapshot_nodes())
    assert again.acl(again.nodes["/a"]) == NOBODYS_ACL
    for path, entries in (("/b", BOB), ("/a", ANN)):
        with pytest.raises(Refused):
            again.create(path, b"", entries, 0, -1, 2, 2)
    assert (again.acl(again.nodes["/a"]), again.acl(again.nodes["/b"])) == (ANN, BOB)
    assert NOBODYS_ACL not in again.acls
    again.delete("/a", 3)
    assert ANN not in again.acls
    again.check()


def test_walking_while_everything_changes_yields_parents_first() -> None:
    draw = random.Random(2)
    for seed in range(30):
        tree = random_tree(seed, 60)
        seen: list[str] = []
        for path, _ in tree.walk():
            assert path == "" or path.rpartition("/")[0] in seen
            assert path not in seen
            seen.append(path)
            for _ in range(draw.randrange(4)):
                one = draw.choice(sorted(tree.nodes))
                try:
                    if draw.random() < 0.5:
                        tree.create(f"{one.rstrip('/')}/n", b"", OPEN_ACL, 0, -1, 99, 99)
                    elif one not in SPECIAL and one and not tree.nodes[one].children:
                        tree.delete(one, 99)
                except Refused:
                    continue
        tree.check()


@pytest.mark.parametrize(
    ("number", "wrapped"),
    [(2**31 - 1, 2**31 - 1), (2**31, -(2**31)), (-(2**31) - 1, 2**31 - 1), (2**32 + 5, 5)],
)
def test_ints_wrap_as_javas(number: int, wrapped: int) -> None:
    assert int32(number) == wrapped
