"""Row 134: znodes as nobody should use them.

    data       to the last byte that a frame takes, and one byte more
    depth      a path of a thousand znodes
    children   so many that the list of them is longer than any request may be, asked for by many
    sequence   the counter of sequential children at its end: 2147483647, and then an error
    multi      so many parts that the transaction is refused, and nothing of it done
    quota      hard limits: an error beyond them, by one znode and by one byte
    ephemerals tens of thousands of one session, gone with it at once
    churn      sessions that begin and end, some without a word

After each the same server serves, writes a snapshot and ends; another reads its files and says the
same.
"""

from __future__ import annotations

import time

from stratalog.core.zookeeper.tree import Tree
from stratalog.storage.zookeeper.snapshots import SnapshotTarget
from stratalog.wire.zookeeper.messages import (
    DataResponse,
    DeleteRequest,
    NamesResponse,
    NumberResponse,
    PathRequest,
    PathResponse,
    SetDataRequest,
    StatResponse,
    encode_multi_request,
)
from stratalog.wire.zookeeper.records import ErrorCode, OpCode
from stratalog.wire.zookeeper.snapshot import DIGEST_VERSION, SnapshotTail, TreeDigest

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .hostile import (
    ANSWER_S_MAX,
    EPHEMERAL,
    MIB,
    NOTHING,
    SEQUENTIAL,
    Besieged,
    Gone,
    Peer,
    create,
    get_data,
    request,
)
from .traffic import ANYONE

NUMBER = 134
TITLE = "znode abuse"
BUG = Bug(
    "a znode is deleted with all that is below it",
    "core/zookeeper/prepare.py",
    "        _next_version(node.version, version)\n        if node.children_count > 0:\n",
    "        _next_version(node.version, version)\n        if False:\n",
)
FRAME_BYTES_MAX = 0xFFFFF
INT_MAX = 2**31 - 1


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Every case on a server of its own."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        case = CASES[bench.trials % len(CASES)]
        bench.trials += 1
        case(bench)
        bench.fired += 1


def _pipelined(peer: Peer, kind: int, bodies: list, window: int = 500) -> list[int]:
    """Ask for all of them, a window at a time; return their errors."""
    errors: list[int] = []
    for begin in range(0, len(bodies), window):
        some = bodies[begin : begin + window]
        peer.send(b"".join(request(i, kind, body) for i, body in enumerate(some)))
        errors += [peer.reply().err for _ in some]
    return errors


# ---- one znode ----


def data(bench: Bench) -> None:
    """To the limit, and beyond."""
    # What a create takes beside its data: header, path, lengths, an ACL, flags.
    beside = len(request(1, OpCode.CREATE, create("/d0"))) - 4
    with Besieged(bench) as besieged, besieged.holds_at_most(48 * MIB, "long data"):
        with Peer(besieged.address).begin() as peer:
            longest = bytes(FRAME_BYTES_MAX - beside)
            peer.do(OpCode.CREATE, create("/d0", longest))
            found = DataResponse.decode(peer.do(OpCode.GET_DATA, get_data("/d0")).body)
            if found.data != longest or found.stat.data_length != len(longest):
                bench.fail("data of the longest frame is not what was written")
            try:
                peer.ask(OpCode.CREATE, create("/d1", longest + b"x"))
                bench.fail("a frame beyond the limit is answered")
            except Gone:
                pass
        with Peer(besieged.address).begin() as peer:
            peer.do(OpCode.EXISTS, get_data("/d1"), int(ErrorCode.NO_NODE))
        besieged.served("long data")
        besieged.end("long data")


def depth(bench: Bench) -> None:
    """A thousand levels, a watch on each, and all away again from below."""
    levels = 1000
    paths = ["/x" * level for level in range(1, levels + 1)]
    with Besieged(bench, {"snapshot_every": 300}) as besieged:
        with besieged.holds_at_most(48 * MIB, "depth"), Peer(besieged.address).begin() as peer:
            if any(_pipelined(peer, OpCode.CREATE, [create(path) for path in paths])):
                bench.fail("a deep path cannot be made")
            total = peer.do(OpCode.GET_ALL_CHILDREN_NUMBER, PathRequest("/x")).body
            if NumberResponse.decode(total).total_number != levels - 1:
                bench.fail("a deep path is not counted right")
            # Not empty, every one of them but the last.
            errors = _pipelined(peer, OpCode.DELETE, [DeleteRequest(path, -1) for path in paths])
            if errors != [int(ErrorCode.NOT_EMPTY)] * (levels - 1) + [0]:
                bench.fail("znodes with children are deleted")
        besieged.served("depth")
        besieged.end("depth")
    if bench.failures:
        return
    again = Besieged(bench, data_dir=besieged.data_dir)
    with again, Peer(again.address).begin() as peer:
        peer.do(OpCode.EXISTS, get_data(paths[-2]))
        upwards = [DeleteRequest(path, -1) for path in reversed(paths[:-1])]
        if any(_pipelined(peer, OpCode.DELETE, upwards)):
            bench.fail("a deep path cannot be deleted")
        again.end("depth, again")


def children(bench: Bench) -> None:
    """A list longer than a frame may be: it is read as a whole, and many may ask at once."""
    count = 12_000 if bench.quick else 1_000_000
    name = "n" * 90
    with Besieged(bench) as besieged, Peer(besieged.address).begin() as peer:
        peer.do(OpCode.CREATE, create("/many"))
        bodies = [create(f"/many/{name}", b"", SEQUENTIAL)] * count
        if any(_pipelined(peer, OpCode.CREATE, bodies)):
            bench.fail("children cannot be made")
        names = NamesResponse.decode(peer.do(OpCode.GET_CHILDREN, get_data("/many")).body).names
        if sorted(names) != [f"{name}{number:010d}" for number in range(count)]:
            bench.fail(f"{len(names)} children are listed, not {count}")
        list_bytes = count * 110
        with besieged.holds_at_most(8 * list_bytes + 32 * MIB, "children"):
            peers = [Peer(besieged.address, receive_bytes=4096).begin() for _ in range(4)]
            for other in peers:
                other.send(b"".join(request(i, 8, get_data("/many")) for i in range(100)))
            besieged.served("children")
            for other in peers:
                other.close()
        peer.do(OpCode.DELETE, DeleteRequest("/many", -1), int(ErrorCode.NOT_EMPTY))
        besieged.end("children")


def sequence(bench: Bench) -> None:
    """A parent that has made 2^31 - 3 children: the last two names, and then an error."""
    directory = bench.fresh("data")
    tree = Tree()
    tree.create("/s", b"", ANYONE, 0, -1, 1, 0)
    node = tree.nodes["/s"]
    node.cversion = INT_MAX - 1
    tree.last_zxid = 1
    target = SnapshotTarget(directory / "version-2", 1)
    target.begin({}, tree.acls.all())
    target.nodes(tree.snapshot_nodes())
    tree = Tree.from_snapshot({}, tree.acls.all(), tree.snapshot_nodes())
    target.finish(SnapshotTail(TreeDigest(1, DIGEST_VERSION, tree.digest), 1))
    with Besieged(bench, data_dir=directory) as besieged, Peer(besieged.address).begin() as peer:
        for wanted in (INT_MAX - 1, INT_MAX):
            reply = peer.do(OpCode.CREATE, create("/s/n", b"", SEQUENTIAL))
            if PathResponse.decode(reply.body).path != f"/s/n{wanted}":
                bench.fail(f"{reply.body!r} is the name after {wanted}")
        for _ in range(3):  # as Apache's: the counter stays where it is
            peer.do(
                OpCode.CREATE, create("/s/n", b"", SEQUENTIAL), int(ErrorCode.NODE_EXISTS)
            )  # fmt: skip
        peer.do(OpCode.CREATE, create("/s/named"))
        besieged.served("sequence")
        besieged.end("sequence", sound=False)
    if bench.failures:
        return
    again = Besieged(bench, data_dir=directory)
    with again, Peer(again.address).begin() as peer:
        names = NamesResponse.decode(peer.do(OpCode.GET_CHILDREN, get_data("/s")).body).names
        if sorted(names) != [f"n{INT_MAX - 1}", f"n{INT_MAX}", "named"]:
            bench.fail(f"after a restart there are {names}")
        again.end("sequence, again", sound=False)


# ---- many at once ----


def multi(bench: Bench) -> None:
    """Larger when logged than anybody could read: refused, and nothing of it done."""
    with Besieged(bench) as besieged, Peer(besieged.address).begin() as peer:
        peer.do(OpCode.CREATE, create("/m", b"0"))
        with besieged.holds_at_most(128 * MIB, "multi"):
            bad = int(ErrorCode.MARSHALLING_ERROR)
            # A create in a transaction has its number besides, and each part its own length.
            parts = [(int(OpCode.SET_DATA), SetDataRequest("/m", b"x" * 5, -1))]
            parts += [(int(OpCode.CREATE), create(f"/m/{n}", b"")) for n in range(17_000)]
            body = encode_multi_request(parts)
            reply = peer.ask(OpCode.MULTI, body)
            made = NamesResponse.decode(peer.do(8, get_data("/m")).body).names
            if reply.err not in (0, bad) or len(made) != (17_000 if reply.err == 0 else 0):
                bench.fail(f"a multi of {len(parts)}: {reply.err}, {len(made)} made")
            parts[-1] = (int(OpCode.CREATE), create("/m/0/none/x"))
            before = StatResponse.decode(peer.do(OpCode.EXISTS, get_data("/m")).body).stat
            peer.do(OpCode.MULTI, encode_multi_request(parts))
            after = StatResponse.decode(peer.do(OpCode.EXISTS, get_data("/m")).body).stat
            if before != after:
                bench.fail("a multi that fails leaves something behind")
        besieged.served("multi")
        besieged.end("multi")


def quota(bench: Bench) -> None:
    """Hard limits hold, to the znode and to the byte."""
    over = int(ErrorCode.QUOTA_EXCEEDED)
    limits = b"count=-1,bytes=-1=;byteHardLimit=1000;countHardLimit=20"
    with Besieged(bench, {"rules.enforce_quota": "true"}) as besieged:
        with Peer(besieged.address).begin() as peer:
            peer.do(OpCode.CREATE, create("/q"))
            peer.do(OpCode.CREATE, create("/zookeeper/quota/q"))
            peer.do(OpCode.CREATE, create("/zookeeper/quota/q/zookeeper_limits", limits))
            peer.do(OpCode.CREATE, create("/zookeeper/quota/q/zookeeper_stats"))
            made = [peer.ask(OpCode.CREATE, create(f"/q/n{n}", b"x" * 10)).err for n in range(40)]
            if made != [0] * 19 + [over] * 21:
                bench.fail(f"a quota of 20 znodes: {made}")
            room = 1000 - 19 * 10
            peer.do(OpCode.SET_DATA, SetDataRequest("/q/n0", b"x" * (room + 10), -1))
            peer.do(OpCode.SET_DATA, SetDataRequest("/q/n1", b"x" * 11, -1), over)
            peer.do(OpCode.DELETE, DeleteRequest("/q/n2", -1))
            peer.do(OpCode.CREATE, create("/q/last", b"x" * 10))
        besieged.served("quota")
        besieged.end("quota")


def ephemerals(bench: Bench) -> None:
    """All of a session's at once: by its wish, and by its silence."""
    count = 10_000 if bench.quick else 100_000
    numbers = {"options.session_ms_min": 1000, "options.tick_ms": 500}
    with Besieged(bench, numbers) as besieged:
        worth = count * 6000 + 64 * MIB
        with besieged.holds_at_most(worth, "ephemerals"), Peer(besieged.address).begin() as peer:
            peer.do(OpCode.CREATE, create("/e"))
            bodies = [create("/e/n", b"", EPHEMERAL | SEQUENTIAL)] * count
            for way in ("closed", "silent"):
                owner = Peer(besieged.address).begin(30_000 if way == "closed" else 3000)
                if any(_pipelined(owner, OpCode.CREATE, bodies)):
                    bench.fail("ephemerals cannot be made")
                if way == "closed":
                    owner.do(OpCode.CLOSE_SESSION, NOTHING)
                    left = _children(peer)
                else:
                    owner.close()
                    end = time.monotonic() + ANSWER_S_MAX
                    while (left := _children(peer)) and time.monotonic() < end:
                        time.sleep(0.1)
                if left:
                    bench.fail(f"{left} ephemerals outlive their session, {way}")
                besieged.served("ephemerals")
        besieged.end("ephemerals")


def _children(peer: Peer) -> int:
    stat = StatResponse.decode(peer.do(OpCode.EXISTS, get_data("/e")).body).stat
    return stat.num_children


def churn(bench: Bench) -> None:
    """Sessions that come and go, some of them back, some with an ephemeral."""
    rounds = 300 if bench.quick else 20_000
    numbers = {"options.session_ms_min": 500, "options.tick_ms": 200, "snapshot_every": 200}
    with Besieged(bench, numbers) as besieged:
        with besieged.holds_at_most(32 * MIB, "churn"):
            for number in range(rounds):
                peer = Peer(besieged.address).begin(500)
                if number % 3 == 0:
                    peer.do(OpCode.CREATE, create(f"/churn{number}", b"", EPHEMERAL))
                way = bench.random.randrange(3)
                if way == 0:
                    peer.do(OpCode.CLOSE_SESSION, NOTHING)
                elif way == 1:
                    other = Peer(besieged.address)
                    other.session_id, other.password = peer.session_id, peer.password
                    other.begin(500).do(OpCode.GET_DATA, get_data("/"))
                    if not peer.ended():
                        bench.fail("a connection whose session moved on is kept")
                    other.close()
                peer.close()
            besieged.served("churn")
            with Peer(besieged.address).begin() as peer:
                end = time.monotonic() + ANSWER_S_MAX
                while names := _churned(peer):
                    if time.monotonic() > end:
                        bench.fail(f"{len(names)} ephemerals outlive their sessions")
                        break
                    time.sleep(0.1)
        besieged.end("churn")


def _churned(peer: Peer) -> list[str]:
    names = NamesResponse.decode(peer.do(OpCode.GET_CHILDREN, get_data("/")).body).names
    return [name for name in names if name.startswith("churn")]


CASES = (depth, data, children, sequence, multi, quota, ephemerals, churn)
QUICK = len(CASES)
FULL = 3 * len(CASES)
