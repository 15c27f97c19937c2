"""What C writes and reads of files is what Python does: snapshots' znodes, the records of logs.

    Walk             the bytes of SnapshotWriter, in pieces of any size; of a changing tree, those
                     that its essay promises, and enough for the log to mend
    load             the tree that Python builds, or its error, for whole and for damaged bytes
    encode_records   struct and zlib.adler32

A failure prints its seed.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.zookeeper_pair import (
    ACLS,
    INT_MAX,
    INT_MIN,
    Pair,
    acl_bytes,
    check_tree,
    framed,
    furnish,
    int32,
    tree_state,
)

from stratalog.core.zookeeper.identity import OPEN_ACL, Acl
from stratalog.core.zookeeper.standalone import Client
from stratalog.core.zookeeper.tree import Tree, Walk
from stratalog.core.zookeeper.znode import CONTAINER_OWNER, owner_of_ttl
from stratalog.errors import CorruptSnapshotError
from stratalog.wire.zookeeper._records import encode_records
from stratalog.wire.zookeeper.snapshot import (
    SnapshotNode,
    SnapshotReader,
    SnapshotTail,
    SnapshotWriter,
)

FIELD_BYTES_MAX = 1 << 16
NAMES = (
    "a", "b", "c", "node", "n" * 300, "é", "日本", "\U0001f600", "\ud800", "\udfff\ud800", "x\0y",
    "\x7f", " ", ".", "..",
)  # fmt: skip


def random_tree(seed: int, *, znodes: int = 60, sound: bool = False) -> Tree:
    """A tree of any shape; ``sound``: with paths that come back from their bytes."""
    draw = random.Random(seed)
    tree = Tree(extended=draw.random() < 0.5, digests=draw.random() < 0.7)
    names = [name for name in NAMES if not sound or max(name) < "\ud800"]
    paths = [""]
    acls = [acl for acl in ACLS if acl]
    for zxid in range(1, znodes):
        path = draw.choice(paths[-8:]) + "/" + draw.choice(names)
        if path in tree.nodes or len(path) > 2000:
            continue
        data = draw.choice((None, b"", b"x", draw.randbytes(draw.randrange(300))))
        acl = draw.choice((*acls, *(OPEN_ACL,) * 20))
        owner = draw.choice((*(0,) * 12, 7, CONTAINER_OWNER, owner_of_ttl(5)))
        node = tree.create(path, data, acl, owner, -1, zxid, draw.getrandbits(40))
        if draw.random() < 0.2:
            node.mzxid, node.pzxid, node.mtime = (draw.getrandbits(63) for _ in range(3))
            node.version, node.cversion, node.aversion = draw.choices((INT_MIN, -1, INT_MAX), k=3)
            tree._changed(path, node)
        if owner not in {0, 7} or draw.random() < 0.8:
            paths.append(path)
        tree.last_zxid = zxid
    tree.sessions[7] = 9000
    return tree


def pieces_of(walk: Walk, sizes: Iterator[int]) -> list[bytes]:
    pieces = []
    while (piece := walk.piece(next(sizes))) is not None:
        pieces.append(piece)
    assert walk.piece(5) is None
    return pieces


def owners_of(state: dict[str, Any]) -> dict[int, list[str]]:
    """Who owns what, in no order: a snapshot has another."""
    return {owner: sorted(paths) for owner, paths in state["owners"].items()}


# ---- Walk ----


@pytest.mark.parametrize("seed", range(12))
def test_a_walk_writes_what_python_writes(seed: int) -> None:
    tree, draw = random_tree(seed), random.Random(seed)
    whole = SnapshotWriter().nodes(tree.snapshot_nodes())
    assert len(whole) > 2000
    assert Walk(tree).piece(1 << 40) == whole
    for most in (1, 2, 7, 200):
        sizes = iter(lambda most=most: draw.randint(1, most), -1)
        pieces = pieces_of(Walk(tree), sizes)
        assert b"".join(pieces) == whole, seed
    nodes, walk = tree.snapshot_nodes(), Walk(tree)
    for size in (1, 3, 1, 20):  # piece by piece, not only all together
        assert walk.piece(size) == SnapshotWriter().nodes(islice(nodes, size))


def test_a_walk_refuses_what_it_cannot_walk() -> None:
    with pytest.raises(TypeError):
        Walk(object())  # type: ignore[arg-type]
    for size in (0, -1):
        with pytest.raises(ValueError, match="size"):
            Walk(Tree()).piece(size)
    with pytest.raises(TypeError):
        Walk(Tree()).piece("1")  # type: ignore[arg-type]


def paths_in(nodes: bytes) -> list[str]:
    reader = SnapshotReader(nodes + int32(1) + b"/", field_bytes_max=FIELD_BYTES_MAX)
    return [node.path for node in reader.nodes()]


def written_while(tree: Tree, change: Callable[[], object], size: int = 1) -> list[str]:
    """The paths that a walk writes while the tree is changed after each piece; see its promises."""
    walk, written = Walk(tree), []
    always = tree.nodes.keys() - {"/"}
    lives = {path: tree.nodes[path].czxid for path in always}
    pieces = 0
    while (piece := walk.piece(size)) is not None:
        pieces += 1
        assert pieces < 2000, "the walk does not end"
        written += paths_in(piece)
        change()
        always = {path for path in always if path in tree.nodes}
        always = {path for path in always if tree.nodes[path].czxid == lives[path]}
    assert len(set(written)) == len(written), "a path stands twice"
    assert always <= set(written), "a znode is missing that was there all the time"
    for number, path in enumerate(written):
        assert not path or path.rpartition("/")[0] in written[:number], "a child before its parent"
    return written


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize("seed", range(12))
def test_a_walk_keeps_its_promises_while_siblings_come_and_go(seed: int, size: int) -> None:
    """Tables of names are laid out anew again and again, below where the walk is and above."""
    draw, tree = random.Random(seed), Tree()
    for above in ("", "/n1"):
        for number in range(draw.choice((3, 40))):
            tree.create(f"{above}/n{number}", b"", OPEN_ACL, 0, -1, 1, 0)
    zxids = iter(range(2, 1 << 30))

    def change() -> None:
        for _ in range(draw.choice((0, 1, 5, 30))):
            path = draw.choice(("", "/n1", "/n2")) + f"/n{draw.randrange(60)}"
            parent, node = tree.nodes.get(path.rpartition("/")[0]), tree.nodes.get(path)
            if node is not None and not node.children and path != "/n1":
                tree.delete(path, next(zxids))
            elif parent is not None and node is None:
                tree.create(path, b"", OPEN_ACL, 0, -1, next(zxids), 0)

    written_while(tree, change, size)


@pytest.mark.parametrize("read", [True, False])
def test_a_walk_ends_however_busy_a_parent_is(read: bool) -> None:
    """More come than it takes: a queue that is written to faster, and perhaps read from."""
    tree, zxids = Tree(), iter(range(1, 1 << 30))
    tree.create("/q", b"", OPEN_ACL, 0, -1, next(zxids), 0)
    for number in range(100):
        tree.create(f"/q/{number}", b"", OPEN_ACL, 0, -1, next(zxids), 0)
    coming, going = iter(range(100, 100_000)), iter(range(100_000))

    def change() -> None:
        for _ in range(20):
            tree.create(f"/q/{next(coming)}", b"", OPEN_ACL, 0, -1, next(zxids), 0)
            if read:
                tree.delete(f"/q/{next(going)}", next(zxids))

    assert len(written_while(tree, change, 3)) < 200


def test_a_table_laid_out_anew_hides_nobody() -> None:
    """One path object may stand for a znode that goes and for the one that comes back."""
    a, b, c, e, f = (f"/{name}" for name in "abcef")
    for at in range(12):
        tree, zxids = Tree(), iter(range(1, 100))
        for path in (a, b, c):
            tree.create(path, b"", OPEN_ACL, 0, -1, next(zxids), 0)
        turns = iter(range(100))

        def change(
            tree: Tree = tree, zxids: Iterator[int] = zxids, turns: Iterator[int] = turns,
            at: int = at,
        ) -> None:  # fmt: skip
            if next(turns) == at:
                tree.delete(a, next(zxids))
                tree.delete(b, next(zxids))
                for path in (b, e, f):
                    tree.create(path, b"", OPEN_ACL, 0, -1, next(zxids), 0)

        written_while(tree, change)


def test_a_znode_that_goes_and_comes_back_is_written_once() -> None:
    """A lock that changes hands during a snapshot; with C's own requests, too."""
    for at in range(8):
        tree = Tree()
        for number, name in enumerate("abc"):
            tree.create(f"/{name}", b"", OPEN_ACL, 0, -1, number + 1, 0)
        count = iter(range(100))

        def change(tree: Tree = tree, count: Iterator[int] = count, at: int = at) -> None:
            if next(count) == at:
                tree.delete("/b", 10)
                tree.create("/b", b"again", OPEN_ACL, 0, -1, 11, 0)
                tree.create("/b/x", b"", OPEN_ACL, 0, -1, 12, 0)

        written_while(tree, change)
    pair = Pair("again", furnished=True, full=9, quotas=False, server_id=1, strict=False)
    pair.connect()
    pair.hear()

    def by_request() -> None:
        for kind, rest in ((2, int32(-1)), (1, int32(1) + b"x" + acl_bytes(OPEN_ACL) + int32(0))):
            frame = int32(1) + int32(kind) + int32(4) + b"/a/q" + rest
            pair.feed(pair.links[0], framed(frame))
        pair.hear()
        pair.commit(len(pair.log))

    by_request()
    by_request()
    for size in (1, 2, 5):
        written_while(pair.fast.tree, by_request, size)
    assert pair.in_c()["commit"][1] > 10


@pytest.mark.parametrize("seed", range(8))
def test_a_walk_of_a_changing_tree(seed: int) -> None:
    """The log mends what it wrote: a fuzzy snapshot."""
    pair = Pair(
        f"walk {seed}", extended=True, digests=True, furnished=True, quotas=False, full=9,
        strict=False, server_id=1,
    )  # fmt: skip
    for _ in range(120):
        pair.step()
    pair.hear()
    tree = pair.fast.tree
    head = SnapshotWriter().begin(tree.sessions, tree.acls.all())
    began = tree.last_zxid
    walk, body, sizes = Walk(tree), b"", random.Random(seed)
    while (piece := walk.piece(sizes.randint(1, 4))) is not None:
        body += piece
        for _ in range(sizes.randrange(6)):
            pair.step()
            pair.hear()
    pair.run(0)
    reader = SnapshotReader(head + body + int32(1) + b"/", field_bytes_max=FIELD_BYTES_MAX)
    read = reader.head()
    again = Tree.from_snapshot(read.sessions, read.acls, reader, extended=True)
    replayed = 0
    for prepared in pair.transactions:
        if prepared.zxid > began:
            replayed += 1
            again.apply(
                prepared.type, prepared.session_id, prepared.zxid, prepared.time_ms, prepared.fields
            )
    assert replayed > 20
    check_tree(again)
    mended, real = tree_state(again), tree_state(tree)
    assert mended["sums"] == real["sums"]
    assert owners_of(mended) == owners_of(real)
    # ACLs' indexes may differ, and so may the order of siblings.
    for path, there in real["nodes"].items():
        assert mended["nodes"][path][:11] == there[:11], path
        assert sorted(mended["nodes"][path][12]) == sorted(there[12])
    assert mended["nodes"].keys() == real["nodes"].keys()


# ---- load ----


def snapshot_of(tree: Tree, acls: dict[int, Acl] | None = None) -> bytes:
    writer = SnapshotWriter()
    head = writer.begin(tree.sessions, tree.acls.all() if acls is None else acls)
    return head + writer.nodes(tree.snapshot_nodes()) + writer.end(SnapshotTail())


def outcome_of(read: Callable[[], Tree]) -> Any:
    """A tree as its state, or the error that came instead."""
    try:
        return tree_state(read())
    except (CorruptSnapshotError, KeyError) as error:
        return type(error), str(error), getattr(error, "position", None)


def loads(data: bytes, *, most: int = FIELD_BYTES_MAX, **how: Any) -> tuple[Any, Any]:
    """What comes of a snapshot by C, and by Python."""

    def read(by_c: bool) -> Tree:
        reader = SnapshotReader(data, field_bytes_max=most, digest=False)
        head = reader.head()
        nodes = reader if by_c else reader.nodes()
        tree = Tree.from_snapshot(head.sessions, head.acls, nodes, **how)
        reader.tail()
        return tree

    return outcome_of(lambda: read(True)), outcome_of(lambda: read(False))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sound", [True, False])
def test_a_load_builds_the_tree_that_python_builds(seed: int, sound: bool) -> None:
    tree = random_tree(seed, znodes=150, sound=sound)
    data = snapshot_of(tree)
    for extended in (True, False):
        for digests in (True, False):
            fast, slow = loads(data, extended=extended, digests=digests)
            assert fast == slow, (seed, extended, digests)
    if sound:
        again = loads(data, extended=tree.extended, digests=tree.digests)[0]
        state = tree_state(tree)
        assert again["nodes"] == state["nodes"]
        assert again["sums"][:2] == state["sums"][:2]
        assert owners_of(again) == owners_of(state)
    most = random.Random(seed).randrange(300)
    fast, slow = loads(data, most=most)
    assert fast == slow, (seed, most)


def test_most_of_a_load_is_done_in_c() -> None:
    """Python is given only what is not plain."""
    tree = Tree()
    for number in range(9000):
        tree.create(f"/n{number}", b"", OPEN_ACL, 0, -1, number + 1, 0)
    data = snapshot_of(tree)
    given: list[SnapshotNode] = []

    class Watched(SnapshotReader):
        def nodes(self, take: Any = None) -> Iterator[SnapshotNode]:
            for node in super().nodes(take):
                given.append(node)
                yield node

    reader = Watched(data, field_bytes_max=FIELD_BYTES_MAX)
    head = reader.head()
    again = Tree.from_snapshot(head.sessions, head.acls, reader)
    assert {node.path for node in given} >= {"", "/zookeeper", "/zookeeper/config"}
    assert len(given) < 20
    check_tree(again)
    assert tree_state(again)["nodes"] == tree_state(tree)["nodes"]


def small_tree() -> Tree:
    tree = Tree(extended=True)
    tree.sessions[9] = 5000
    tree.create("/a", b"data", OPEN_ACL, 0, -1, 1, 5)
    tree.create("/a/b", None, OPEN_ACL, 0, -1, 2, 5)
    tree.create("/a/b/c", b"", OPEN_ACL, 0, -1, 3, 5)
    tree.create("/é", b"", ACLS[2], 9, -1, 4, 5)
    tree.create("/d", b"d", ACLS[2], 0, -1, 5, 5)
    return tree


def test_damage_at_every_position_is_the_same_to_both() -> None:
    """The same error, or the same tree, whatever a byte has become; seals are kept right."""
    data = snapshot_of(small_tree())
    nodes_end = data.index(b"\0\0\0\x01/")
    kinds: set[type] = set()
    for at in range(nodes_end + 5):
        for change in (0x01, 0x80, 0xFF, data[at] ^ 0x2F, data[at]):
            damaged = bytearray(data[: nodes_end + 5])
            damaged[at] ^= change
            seal = struct.pack(">q", zlib.adler32(damaged)) + b"\0\0\0\x01/"
            fast, slow = loads(bytes(damaged) + seal)
            assert fast == slow, (at, change)
            kinds.add(type(fast) if isinstance(fast, dict) else fast[0])
    assert kinds == {dict, KeyError, CorruptSnapshotError}


def test_a_snapshot_cut_at_every_position_is_the_same_to_both() -> None:
    data = snapshot_of(small_tree())
    for end in range(len(data)):
        fast, slow = loads(data[:end])
        assert fast == slow, end
        assert fast[0] is CorruptSnapshotError


def node_bytes(path: bytes | None, data: bytes | None = b"", acl: int = 1, **more: int) -> bytes:
    numbers = [more.get(name, 3) for name in ("czxid", "mzxid", "ctime", "mtime")]
    head = int32(-1) if path is None else int32(len(path)) + path
    body = int32(-1) if data is None else int32(len(data)) + data
    return head + body + struct.pack(
        ">qqqqqiiiqq", acl, *numbers, 1, 2, 3, more.get("owner", 0), 5
    )  # fmt: skip


@pytest.mark.parametrize(
    "nodes",
    [
        [b"/a"], [b"/a", b"/a"], [b"/a", b"/a/b", b"/a", b"/a/c"], [b"/b/c"], [b"/a", b"/a/"],
        [b"//"], [b"//a"], [b"/a", b"/a/b/c"], [b"a"], [b"", b"/a"], [b"/zookeeper"],
        [b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/quota/a",
         b"/zookeeper/quota/a/zookeeper_limits", b"/a", b"/a/b"],
        [b"/zookeeperx", b"/zookeeperx/a"], [b"/a\0b"], [b"/\xff", b"/\xff/a"], [b"/a", None],
        [b"/\xc3\xa9", b"/\xc3\xa9/a", b"/\xc3\xa9/a/b"], [b"/a", b"/b", b"/a/a", b"/b/a", b"/a/b"],
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "acls",
    [
        {}, {1: OPEN_ACL}, {1: OPEN_ACL, 2: OPEN_ACL}, {2: OPEN_ACL, 1: ACLS[1]}, {0: OPEN_ACL},
        {1: ()}, {-1: OPEN_ACL}, {1 << 40: OPEN_ACL, 1: ACLS[1]}, {(1 << 32) + 1: OPEN_ACL},
        {(1 << 63) - 1: ACLS[1]}, {-(1 << 63): OPEN_ACL},
    ],
)  # fmt: skip
def test_odd_snapshots(nodes: list[bytes | None], acls: dict[int, Acl]) -> None:
    for number, root in ((1, True), (0, True), (-1, True), (1 << 40, True), (1, False)):
        body = node_bytes(b"", acl=-1) if root else b""
        body += b"".join(node_bytes(path, b"x", number) for path in nodes)
        data = SnapshotWriter().begin({}, acls) + body + int32(1) + b"/"
        data += struct.pack(">q", zlib.adler32(data)) + b"\0\0\0\x01/"
        fast, slow = loads(data)
        assert fast == slow, (number, root)


def test_a_load_refuses_what_is_no_position() -> None:
    from stratalog.core.zookeeper._fast import load

    for at in (-1, 4):
        with pytest.raises(ValueError, match="outside"):
            load(Tree(), b"abc", at, 9)
    assert load(Tree(), b"abc", 3, 9) == 3
    with pytest.raises(TypeError):
        load(object(), b"abc", 0, 9)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        load(Tree(), bytearray(3), 0, 9)  # type: ignore[arg-type]


def test_a_snapshot_of_a_machine_brings_it_back() -> None:
    pair = Pair("back", furnished=True, extended=True, digests=True, quotas=True, full=9).run(200)
    tree = pair.fast.tree
    head = SnapshotWriter().begin(tree.sessions, tree.acls.all())
    data = head + Walk(tree).piece(1 << 30) + int32(1) + b"/"
    data += struct.pack(">q", zlib.adler32(data)) + b"\0\0\0\x01/"
    fast, slow = loads(data, extended=True)
    assert fast == slow
    assert fast["sums"][0] == tree.digest
    assert all(isinstance(client, Client) for link in pair.links for client in link)


# ---- records ----


def records_by_hand(payloads: list[bytes]) -> bytes:
    return b"".join(
        struct.pack(">qi", zlib.adler32(one), len(one)) + one + b"B" for one in payloads
    )


def test_records_of_every_size() -> None:
    draw = random.Random(3)
    near = [max(0, size + by) for size in (0, 8, 5552, 2 * 5552, 1 << 16) for by in range(-9, 10)]
    for size in near:
        for payload in (bytes(size), b"\xff" * size, draw.randbytes(size)):
            assert encode_records([payload]) == records_by_hand([payload]), size
    many = [draw.randbytes(size) for size in near]
    assert encode_records(many) == records_by_hand(many)
    assert encode_records([]) == b""
    long = b"\xff" * (1 << 22)
    assert encode_records([long]) == records_by_hand([long])


@given(st.lists(st.binary(max_size=40)))
def test_records_of_anything(payloads: list[bytes]) -> None:
    assert encode_records(payloads) == records_by_hand(payloads)


def test_records_refuse_what_is_no_payload() -> None:
    for wrong in ((b"a",), b"a", None, [b"a", "b"], [bytearray(1)], [None]):
        with pytest.raises(TypeError):
            encode_records(wrong)  # type: ignore[arg-type]


def test_furnished_trees_walk_as_they_must() -> None:
    tree = Tree(extended=True)
    furnish(tree, 9)
    assert Walk(tree).piece(99) == SnapshotWriter().nodes(tree.snapshot_nodes())
