"""Row 135: watches by the hundred thousand.

one znode      watched by as many connections as there can be, each once and once for good: one
               write tells all of them, in the right order, before any hears of the next
many znodes    a connection with a watch on each of 100,000, there or not; and again, which adds
               nothing; all gone with the connection
recursive      a thousand recursive watches on the way to one znode: its watcher hears of a
               change once
set watches    frames full of paths, as a client sends them that comes back: it hears of what
               it missed, and watches the rest
read           who may not read a znode when it changes is not told, whatever was so when it
               began to watch; one who may is
"""

from __future__ import annotations

from stratalog.wire.zookeeper.messages import (
    AuthPacket,
    DeleteRequest,
    PathRequest,
    SetACLRequest,
    SetDataRequest,
    SetWatches,
    SetWatches2,
    WatcherEvent,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode, Permission

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .hostile import (
    EVENT_XID,
    MIB,
    Besieged,
    Peer,
    add_watch,
    create,
    get_data,
    request,
)
from .traffic import ANYONE

NUMBER = 135
TITLE = "watch floods"
BUG = Bug(
    "an event is for everybody who watches",
    "core/zookeeper/standalone.py",
    "        if acl is None or self.may(acl, Permission.READ):\n",
    "        if True:\n",
)
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
WATCH_BYTES_MAX = 1000
"""What one watch on one path may cost, its path included."""


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Every case on one server, in turn."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        case = CASES[bench.trials % len(CASES)]
        bench.trials += 1
        with Besieged(bench) as besieged:
            case(bench, besieged)
            besieged.served(case.__name__)
            besieged.end(case.__name__)
        bench.fired += 1


def _events(peer: Peer, count: int) -> list[tuple[int, str, int]]:
    """Take so many events: type, path, zxid; anything else is an error."""
    events = []
    while len(events) < count:
        reply = peer.reply()
        assert reply.xid == EVENT_XID, f"{reply} comes before {count - len(events)} events"
        event = WatcherEvent.decode(reply.body)
        events.append((event.type, event.path, reply.zxid))
    return events


def _told(peer: Peer) -> list[tuple[int, str]]:
    """Take what events there are, up to the answer to a sync."""
    peer.events.clear()
    peer.sync()
    return [(event.type, event.path) for _, event in peer.events]


# ---- many watchers of one znode ----


def one_znode(bench: Bench, besieged: Besieged) -> None:
    """Every connection watches twice, and hears twice."""
    count = 1000 if bench.quick else 9000
    with Peer(besieged.address).begin() as writer:
        writer.do(OpCode.CREATE, create("/one"))
        worth = count * 64 * 1024 + 32 * MIB
        with besieged.holds_at_most(worth, "watchers of one znode"):
            watchers = [Peer(besieged.address).begin() for _ in range(count)]
            for watcher in watchers:
                watcher.send(
                    request(1, OpCode.GET_DATA, get_data("/one", watch=True))
                    + request(2, OpCode.GET_CHILDREN, get_data("/one", watch=True))
                    + request(3, OpCode.ADD_WATCH, add_watch("/one", recursive=True))
                )
            for watcher in watchers:
                assert [watcher.reply().xid for _ in range(3)] == [1, 2, 3], "other answers"
            body = SetDataRequest("/one", b"x", -1)
            first = writer.do(OpCode.SET_DATA, body).zxid
            second = writer.do(OpCode.CREATE, create("/one/child")).zxid
            third = writer.do(OpCode.DELETE, DeleteRequest("/one/child", -1)).zxid
            gone = writer.do(OpCode.DELETE, DeleteRequest("/one", -1)).zxid
            # A recursive watch stands for the child watch as well, which goes with its event.
            for watcher in watchers:
                events = _events(watcher, 5)
                wanted = [
                    (CHANGED, "/one", first), (CREATED, "/one/child", second),
                    (CHILDREN, "/one", second), (DELETED, "/one/child", third),
                    (DELETED, "/one", gone),
                ]  # fmt: skip
                if not _in_order(events) or sorted(events) != sorted(wanted):
                    bench.fail(f"a watcher heard {events}, not {wanted}")
                    break
            besieged.served("watchers of one znode")
        for watcher in watchers:
            watcher.close()


def _in_order(events: list[tuple[int, str, int]]) -> bool:
    zxids = [zxid for _, _, zxid in events]
    return zxids == sorted(zxids)


# ---- many watches of one connection ----


def many_znodes(bench: Bench, besieged: Besieged) -> None:
    """On what is there, and on what is not; twice, which is once."""
    count = 20_000 if bench.quick else 100_000
    paths = [f"/there/or-not-{number}" for number in range(count)]
    with Peer(besieged.address).begin() as writer:
        writer.do(OpCode.CREATE, create("/there"))
        watcher = Peer(besieged.address).begin()
        with besieged.holds_at_most(count * WATCH_BYTES_MAX + 16 * MIB, "watches"):
            for _ in range(2):
                for begin in range(0, count, 1000):
                    some = paths[begin : begin + 1000]
                    watcher.send(
                        b"".join(request(1, 3, get_data(path, watch=True)) for path in some)
                    )
                    for _ in some:
                        assert watcher.reply().err == ErrorCode.NO_NODE, "it is there"
            besieged.served("watches")
            some = paths[:: count // 500]
            writer.send(b"".join(request(1, OpCode.CREATE, create(path)) for path in some))
            for _ in some:
                assert writer.reply().err == 0, "it cannot be made"
            events = _events(watcher, len(some))
            if [path for _, path, _ in events] != some or not _in_order(events):
                bench.fail("events of many watches are missing, or out of order")
            if more := _told(watcher):
                bench.fail(f"one-shot watches told more: {more[:3]}")
        watcher.close()
        with besieged.holds_at_most(count * WATCH_BYTES_MAX // 4 + 16 * MIB, "watches, again"):
            with Peer(besieged.address).begin() as watcher:  # what was there before is free again
                for begin in range(0, count, 1000):
                    some = paths[begin : begin + 1000]
                    watcher.send(
                        b"".join(request(1, 3, get_data(path, watch=True)) for path in some)
                    )
                    for _ in some:
                        watcher.reply()
            besieged.served("watches, again")


def recursive(bench: Bench, besieged: Besieged) -> None:
    """On every znode of a long way down, and on names that nobody has."""
    levels = 1000
    paths = ["/r" * level for level in range(1, levels + 1)]
    with Peer(besieged.address).begin() as writer, Peer(besieged.address).begin() as watcher:
        for begin in range(0, levels, 100):
            some = paths[begin : begin + 100]
            writer.send(b"".join(request(1, OpCode.CREATE, create(path)) for path in some))
            assert not any(writer.reply().err for _ in some), "a deep path cannot be made"
        with besieged.holds_at_most(32 * MIB, "recursive watches"):
            for path in paths:
                watcher.do(OpCode.ADD_WATCH, add_watch(path, recursive=True))
            zxids = []
            for number in range(200):
                body = SetDataRequest(paths[-1], b"%d" % number, -1)
                zxids.append(writer.do(OpCode.SET_DATA, body).zxid)
            events = _events(watcher, len(zxids))
            if events != [(CHANGED, paths[-1], zxid) for zxid in zxids]:
                bench.fail("a recursive watcher does not hear of every change once")
            if more := _told(watcher):
                bench.fail(f"a recursive watcher heard more: {more[:3]}")
            besieged.served("recursive watches")


# ---- a client that comes back ----


def set_watches(bench: Bench, besieged: Besieged) -> None:
    """Full frames of it."""
    times = 3 if bench.quick else 50
    with Peer(besieged.address).begin() as writer, Peer(besieged.address).begin() as watcher:
        writer.do(OpCode.CREATE, create("/old"))
        seen = writer.do(OpCode.CREATE, create("/new")).zxid
        writer.do(OpCode.SET_DATA, SetDataRequest("/new", b"", -1))
        count = 15_000
        with besieged.holds_at_most(96 * MIB + times * count * WATCH_BYTES_MAX, "set watches"):
            for number in range(times):
                missed = tuple(f"/gone-{number}-{one}" for one in range(count))
                wanted = tuple(f"/wanted-{number}-{one}" for one in range(count))
                body = SetWatches(seen, ("/old", "/new", *missed), wanted, ())
                watcher.send(request(1, OpCode.SET_WATCHES, body))
                events = _events(watcher, count + 1)
                if sorted({kind for kind, _, _ in events}) != [DELETED, CHANGED]:
                    bench.fail("a client that comes back hears of something else")
                assert watcher.reply()[::2] == (1, 0), "setWatches is refused"
            rest = tuple(f"/p{one}" for one in range(count))
            body = SetWatches2(seen, (), (), (), rest, ("/wanted",))
            watcher.do(OpCode.SET_WATCHES2, body)
            besieged.served("set watches")
            writer.do(OpCode.SET_DATA, SetDataRequest("/old", b"", -1))
            writer.do(OpCode.CREATE, create("/wanted-0-7"))
            writer.do(OpCode.CREATE, create("/p7"))
            told = _told(watcher)
            if told != [(CHANGED, "/old"), (CREATED, "/wanted-0-7"), (CREATED, "/p7")]:
                bench.fail(f"after setWatches it heard {told}")


# ---- who may read ----


def read(bench: Bench, besieged: Besieged) -> None:
    """The ACL that counts is the one when it fires."""
    count = 100
    mine = (ACL(int(Permission.ALL), Id("auth", "")),)
    auth = AuthPacket(0, "digest", b"owner:secret")
    owner, stranger, friend = (Peer(besieged.address).begin() for _ in range(3))
    with owner, stranger, friend:
        owner.do(OpCode.AUTH, auth)
        friend.do(OpCode.AUTH, auth)
        paths = [f"/secret-{number}" for number in range(count)]
        for path in paths:
            owner.do(OpCode.CREATE, create(path, b"", 0, ANYONE))
            for watcher in (stranger, friend):
                watcher.do(OpCode.GET_DATA, get_data(path, watch=True))
                watcher.do(OpCode.ADD_WATCH, add_watch(path, recursive=bool(count % 2)))
        for watcher in (stranger, friend):
            watcher.do(OpCode.ADD_WATCH, add_watch("/", recursive=True))
            watcher.do(OpCode.EXISTS, get_data("/later", watch=True), int(ErrorCode.NO_NODE))
        for path in paths[::2]:
            owner.do(OpCode.SET_ACL, SetACLRequest(path, mine, -1))
        for path in paths:
            owner.do(OpCode.SET_DATA, SetDataRequest(path, b"x", -1))
            owner.do(OpCode.DELETE, DeleteRequest(path, -1))
        owner.do(OpCode.CREATE, create("/later", b"", 0, mine))
        heard = {path for _, path in _told(stranger) if not path.startswith("/innocent")}
        if heard != set(paths[1::2]):
            extra = sorted(heard - set(paths[1::2]))[:3]
            bench.fail(f"who may not read heard of {extra}, and of {len(heard)} znodes in all")
        heard = {path for _, path in _told(friend) if not path.startswith("/innocent")}
        if heard != {*paths, "/later"}:
            bench.fail(f"who may read heard of {len(heard)} znodes, not {count + 1}")
        friend.do(OpCode.SYNC, PathRequest("/"))


CASES = (read, one_znode, many_znodes, recursive, set_watches)
QUICK = len(CASES)
FULL = 4 * len(CASES)
