"""Two machines that are told the same: in one C takes what is plain, in one Python takes all.

    bytes -+-> fast: C, and Python where C leaves it --+--> the same bytes out, the same
           |                                           |    transactions, the same state
           +-> slow: Python alone ---------------------+

``Pair`` tells both the same and compares: what each client is sent, what is to be persisted, and at
times all there is: znodes, tables, watches, sessions, statistics, changes on their way.
``Requests`` makes what clients send, the odd and the broken included.  Both are seeded: a seed is a
run.

How much C did is counted by what Python was asked to do in the one and not in the other, so that
equality cannot come from C doing nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from stratalog.core.zookeeper.identity import OPEN_ACL, READ_ONLY_ACL, Acl, digest_of
from stratalog.core.zookeeper.prepare import Rules
from stratalog.core.zookeeper.sessions import password_of
from stratalog.core.zookeeper.standalone import Bounds, Client, Options, Standalone, Write
from stratalog.core.zookeeper.statistics import Spread
from stratalog.core.zookeeper.tree import Tree
from stratalog.core.zookeeper.znode import CONTAINER_OWNER, owner_of_ttl
from stratalog.wire.zookeeper.messages import ConnectRequest
from stratalog.wire.zookeeper.records import ACL, Id, OpCode

INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
FRAME_BYTES_MAX: Final = 1 << 20
WIDE: Final = Bounds(FRAME_BYTES_MAX)
USERS: Final = (b"ann:1", b"bob:2")
READS: Final = (OpCode.EXISTS, OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2)
PLAIN_WRITES: Final = (OpCode.CREATE, OpCode.CREATE2, OpCode.SET_DATA, OpCode.DELETE)
PLAIN: Final = (*READS, *PLAIN_WRITES, OpCode.PING)
NUMBERS: Final = (
    "data", "czxid", "mzxid", "pzxid", "ctime", "mtime", "owner", "version", "cversion", "aversion",
    "digest",
)  # fmt: skip


# ---- requests, broken ones included ----


def int32(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def text(value: str | bytes | None) -> bytes:
    if value is None:
        return int32(-1)
    encoded = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return int32(len(encoded)) + encoded


def acl_bytes(acl: Acl) -> bytes:
    entries = [int32(one.perms) + text(one.id.scheme) + text(one.id.id) for one in acl]
    return int32(len(entries)) + b"".join(entries)


def framed(body: bytes) -> bytes:
    return int32(len(body)) + body


ACLS: Final[tuple[Acl, ...]] = (
    OPEN_ACL,
    READ_ONLY_ACL,
    (ACL(1, Id("world", "anyone")), ACL(31, Id("digest", digest_of(USERS[0])))),
    (ACL(31, Id("digest", digest_of(USERS[1]))),),
    (*OPEN_ACL, *OPEN_ACL),
    (*OPEN_ACL, ACL(31, Id("ip", "10.0.0.0/8"))),
    (ACL(31, Id("auth", "")),),
    (ACL(30, Id("world", "anyone")),),
    (ACL(31, Id("world", "anyon")),),
    (),
)
ODD_PATHS: Final[tuple[str | bytes | None, ...]] = (
    None, "", "/", "//", "//x", "/a/", "/a//b", "/.", "/..", "/a/.", "/a/..", "/a/../b", "/...",
    "/.a", "/a.", "/..b", "a", "a/b", ".", "/a\0b", "\0", "/a/\0", "/\x01", "/a\x1f", "/ ", "/~",
    "/\x7f", "/a/\x7fx", "/\x80", "/é", "/a/ü/ö", "/日本", b"/\xed\xa0\x80", b"/\xff", b"/a\xc3",
    "/\U0001f600", b"/\xed\xa0\xbd\xed\xb8\x80", "/\ufffd", "/\ue000", "/zookeeper", "/zookeeper/",
    "/zookeeper/quota", "/zookeeper/config", "/zookeeper/x", "/zookeeperx", "/zookeepe", "/zoo",
    "/zookeeper/quota/a", *("/" + "n" * more for more in (988, 989, 990, 998, 999, 1000, 1009)),
    "/a/" + "m" * 1200, "/a" + "/b" * 520,
)  # fmt: skip
ODD_NAMES: Final = ("", ".", "..", "é", "日", "\U0001f600", "a b", "a\x7f", "zookeeper")
DATA: Final = (None, b"", b"x", b"y" * 40, bytes(range(256)), b"z" * 700, b"w" * 5000)
VERSIONS: Final = (*(-1,) * 30, 0, 0, 1, 1, 2, -2, INT_MIN, INT_MAX)
HOSTILE: Final = (-2, -1, INT_MIN, INT_MAX, 1 << 20, 1001, 0)

QUOTA: Final = -1000
UNKNOWN: Final = 77
_MIX: Final = {
    OpCode.CREATE: 16, OpCode.CREATE2: 8, OpCode.CREATE_CONTAINER: 1, OpCode.CREATE_TTL: 1.5,
    OpCode.DELETE: 16, OpCode.SET_DATA: 14, OpCode.SET_ACL: 2, OpCode.MULTI: 3, OpCode.EXISTS: 10,
    OpCode.GET_DATA: 10, OpCode.GET_CHILDREN: 8, OpCode.GET_CHILDREN2: 6, OpCode.GET_ACL: 1,
    OpCode.GET_EPHEMERALS: 0.5, OpCode.GET_ALL_CHILDREN_NUMBER: 0.5, OpCode.SYNC: 1,
    OpCode.PING: 5, OpCode.WHO_AM_I: 0.5, OpCode.ADD_WATCH: 1, OpCode.REMOVE_WATCHES: 1,
    OpCode.CHECK_WATCHES: 0.5, OpCode.SET_WATCHES: 1, OpCode.SET_WATCHES2: 0.3,
    OpCode.MULTI_READ: 0.5, OpCode.AUTH: 1.5, OpCode.SASL: 0.2, OpCode.CLOSE_SESSION: 0.4,
    OpCode.RECONFIG: 0.2, OpCode.CHECK: 0.1, UNKNOWN: 0.1, QUOTA: 1,
}  # fmt: skip
KINDS: Final = tuple(_MIX)
WEIGHTS: Final = tuple(_MIX.values())


class Requests:
    """What clients send.

    Args:
        draw: Where chance comes from.
        machine: Whose znodes requests are about, more often than not, there or on their way.
        quotas: Whether some of them set quotas.
    """

    def __init__(self, draw: random.Random, machine: Standalone, *, quotas: bool) -> None:
        self.draw, self.quotas = draw, quotas
        self.tree, self.preparer = machine.tree, machine.preparer
        self._xid = 0

    def some(self) -> bytes:
        """One frame behind its length, or several."""
        draw = self.draw
        kind = draw.choices(KINDS, WEIGHTS)[0]
        if kind == QUOTA:
            return b"".join(self._quota()) if self.quotas else self.frame(OpCode.PING, b"")
        frame = self.frame(kind, self.body(kind))
        return self.broken(frame) if draw.random() < 0.05 else frame

    def frame(self, kind: int, body: bytes) -> bytes:
        self._xid += 1
        xid = self._xid if self.draw.random() < 0.99 else self.draw.choice((-1, -2, -4, -8, 0))
        return framed(int32(xid) + int32(kind) + body)

    def broken(self, frame: bytes) -> bytes:
        """The same, damaged within its length."""
        draw, body = self.draw, bytearray(frame[4:])
        how = draw.randrange(4)
        if how == 0:
            body += draw.randbytes(draw.choice((1, 4, 30)))
        elif how == 1:
            del body[draw.randrange(len(body)) :]
        elif how == 2:
            body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
        elif len(body) >= 12:
            body[8:12] = int32(draw.choice(HOSTILE))
        return framed(bytes(body))

    def path(self, kind: int = 0) -> str | bytes | None:
        """Some path; more often than not one with which the request can work."""
        draw, coming = self.draw, self.preparer._by_path
        if draw.random() < 0.03:
            return draw.choice(ODD_PATHS)
        known = "/a"
        for _ in range(draw.choice((1, 8, 8, 8, 8))):
            known = draw.choice(list(coming if coming and draw.random() < 0.4 else self.tree.nodes))
            if known.isascii() and not known.startswith("/zookeeper") and self._suits(kind, known):
                break
        if kind in _CREATES:
            name = draw.choice(ODD_NAMES) if draw.random() < 0.04 else draw.choice("abcdefghxyz")
            return known.rstrip("/") + "/" + name
        return known

    def _suits(self, kind: int, path: str) -> bool:
        change = self.preparer._by_path.get(path)
        if change is not None:
            children, owner, gone = change.children_count, change.owner, change.gone
        else:
            node = self.tree.nodes[path]
            children, owner, gone = len(node.children or ()), node.owner, False
        if gone or (kind in _CREATES and (owner or len(path) > 8)):
            return False
        return kind != OpCode.DELETE or not children

    def body(self, kind: int) -> bytes:  # noqa: C901  (a line a kind)
        draw = self.draw
        path = text(self.path(kind))
        data = text(draw.choice(DATA))
        acl = acl_bytes(draw.choice((*ACLS, *(OPEN_ACL,) * 40)))
        version = int32(draw.choice(VERSIONS))
        if kind in {OpCode.CREATE, OpCode.CREATE2}:
            return path + data + acl + int32(draw.choice(_FLAGS))
        if kind == OpCode.CREATE_CONTAINER:
            return path + data + acl + int32(4)
        if kind == OpCode.CREATE_TTL:
            return path + data + acl + int32(5) + (5000).to_bytes(8, "big")
        if kind in {OpCode.DELETE, OpCode.CHECK}:
            return path + version
        if kind == OpCode.SET_DATA:
            return path + data + version
        if kind == OpCode.SET_ACL:
            return path + acl_bytes(draw.choice(ACLS)) + version
        if kind in READS:
            return path + draw.choice((*(b"\0", b"\1") * 8, b"\2"))
        if kind == OpCode.MULTI:
            parts = draw.choices(_IN_MULTI, k=draw.randrange(4))
            return b"".join(_part(part, self.body(part)) for part in parts) + _DONE
        if kind == OpCode.MULTI_READ:
            parts = draw.choices((OpCode.GET_DATA, OpCode.GET_CHILDREN), k=draw.randrange(3))
            return b"".join(_part(part, self.body(part)) for part in parts) + _DONE
        if kind == OpCode.AUTH:
            return int32(0) + text("digest") + text(draw.choice(USERS))
        if kind == OpCode.ADD_WATCH:
            return path + int32(draw.randrange(2))
        if kind in {OpCode.REMOVE_WATCHES, OpCode.CHECK_WATCHES}:
            return path + int32(draw.randrange(1, 6))
        if kind in {OpCode.SET_WATCHES, OpCode.SET_WATCHES2}:
            seen = max(0, self.tree.last_zxid - draw.randrange(20)).to_bytes(8, "big")
            lists = 3 if kind == OpCode.SET_WATCHES else 5
            return seen + b"".join(int32(1) + text(self.path()) for _ in range(lists))
        if kind in {OpCode.PING, OpCode.CLOSE_SESSION, OpCode.WHO_AM_I}:
            return b""
        return path

    def _quota(self) -> Iterator[bytes]:
        """A quota above some znode: soft or hard, or with limits that make no sense."""
        draw = self.draw
        top = draw.choice([path for path in self.tree.nodes if path.count("/") == 1])
        if top in {"/", "/zookeeper"}:
            return
        limits = draw.choice((
            b"count=3,bytes=50", b"count=2,bytes=-1=;byteHardLimit=100;countHardLimit=3", b"odd",
            b"count=1000000,bytes=1000000",
        ))  # fmt: skip
        below = f"/zookeeper/quota{top}"
        wanted = [
            (below, b""), (f"{below}/zookeeper_limits", limits), (f"{below}/zookeeper_stats", b""),
        ]  # fmt: skip
        for path, data in wanted:
            yield self.frame(
                OpCode.CREATE, text(path) + text(data) + acl_bytes(OPEN_ACL) + int32(0)
            )
        if draw.random() < 0.7:
            for path, _ in wanted[:0:-1]:
                yield self.frame(OpCode.DELETE, text(path) + int32(-1))


_FLAGS: Final = (*(0,) * 40, *(1, 2, 3) * 8, 4, 5, 6, 7, -1, INT_MAX)
_CREATES: Final = (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL)
_IN_MULTI: Final = (
    OpCode.CREATE, OpCode.CREATE2, OpCode.DELETE, OpCode.SET_DATA, OpCode.CHECK,
)  # fmt: skip
_DONE: Final = int32(-1) + b"\1" + int32(-1)


def _part(kind: int, body: bytes) -> bytes:
    return int32(kind) + b"\0" + int32(-1) + body


# ---- machines that count ----


class Counted(Standalone):
    """A machine that counts what Python was asked to do, by kind of request."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.asked: dict[str, Counter[int]] = {
            what: Counter() for what in ("receive", "resume", "commit")
        }
        super().__init__(*args, **named)

    def receive(self, client: Client, frame: bytes) -> None:
        self.asked["receive"][_kind(frame)] += 1
        super().receive(client, frame)

    def resume_one(self, client: Client, entry: Any) -> None:
        self.asked["resume"][_kind(entry) if isinstance(entry, bytes) else 0] += 1
        super().resume_one(client, entry)

    def commit_one(self, write: Write) -> None:
        self.asked["commit"][write.kind] += 1
        super().commit_one(write)


def _kind(frame: bytes) -> int:
    return int.from_bytes(frame[4:8], "big", signed=True)


def furnish(tree: Tree, full: int) -> None:
    """Give a new tree what requests alone would rarely make, or could not.

    Args:
        tree: The tree.
        full: The cversion of /full.  When that wraps, a create is foretold otherwise than it is
            applied, in Apache's as in ours, so digests no longer agree.
    """
    nobody = (ACL(31, Id("digest", digest_of(b"eve:3"))),)
    bob = (ACL(31, Id("digest", digest_of(USERS[1]))),)
    made: tuple[tuple[str, bytes | None, Acl, int], ...] = (
        ("/a", b"a", OPEN_ACL, 0), ("/a/b", None, OPEN_ACL, 0), ("/a/b/c", b"", OPEN_ACL, 0),
        ("/é", b"e", OPEN_ACL, 0), ("/é/x", None, OPEN_ACL, 0),
        ("/n", b"", OPEN_ACL, 0), ("/n/日本", b"1", OPEN_ACL, 0), ("/n/ü", b"2", OPEN_ACL, 0),
        ("/shut", b"s", nobody, 0), ("/shut/x", b"s", OPEN_ACL, 0), ("/bob", b"b", bob, 0),
        ("/open", b"o", OPEN_ACL, 0), ("/open/shut", b"s", nobody, 0),
        ("/look", b"l", READ_ONLY_ACL, 0), ("/holder", b"", OPEN_ACL, CONTAINER_OWNER),
        ("/fading", b"f", OPEN_ACL, owner_of_ttl(4000)), ("/worn", b"", OPEN_ACL, 0),
        ("/full", b"", OPEN_ACL, 0), ("/below", b"", OPEN_ACL, 0), ("/spent", b"", OPEN_ACL, 0),
    )  # fmt: skip
    for zxid, (path, data, acl, owner) in enumerate(made, 1):
        if owner == CONTAINER_OWNER or not owner or tree.extended:
            tree.create(path, data, acl, owner, -1, zxid, 1_600_000_000_000)
            tree.last_zxid = zxid
    for path, version, cversion in (
        ("/worn", INT_MAX, 5), ("/full", -2, full), ("/below", INT_MIN, 0), ("/spent", -1, 7),
    ):  # fmt: skip
        node = tree.nodes[path]
        node.version, node.cversion = version, cversion
        tree._changed(path, node)


class Setting:
    """How the machines of a pair are set up: drawn from a seed, or said."""

    def __init__(self, draw: random.Random, **said: Any) -> None:
        self.extended = draw.random() < 0.6
        self.digests = draw.random() < 0.8
        self.quotas = draw.random() < 0.25
        self.furnished = draw.random() < 0.7
        self.full = draw.choice((9, 9, 9, 9, INT_MAX - 1, INT_MAX, -2, -1))
        self.strict = draw.random() < 0.05
        self.server_id = draw.choice((1, 1, 1, 255, 128))
        self.rules = Rules(
            enforce_quota=draw.random() < 0.5,
            skip_acl=draw.random() < 0.15,
            close_session_paths=draw.random() < 0.8,
            txn_bytes_max=draw.choice((300, 1500, 2 << 20, 2 << 20)),
            reconfig_enabled=draw.random() < 0.1,
        )
        for name, value in said.items():
            if name not in vars(self):
                raise TypeError(name)
            setattr(self, name, value)

    @property
    def sound(self) -> bool:
        """Whether every digest comes true: not where cversions wrap, or sessions look like TTLs."""
        return self.full == 9 and not (self.extended and self.server_id == 255)

    def machine(self, *, fast: bool) -> Counted:
        tree = Tree(extended=self.extended, digests=self.digests)
        if self.furnished:
            furnish(tree, self.full)
        options = Options(
            tick_ms=2000, session_ms_min=4000, session_ms_max=40_000, server_id=self.server_id,
            rules=self.rules,
            required_schemes=frozenset({"digest"}) if self.strict else frozenset(),
        )  # fmt: skip
        machine = Counted(tree, options, now_ms=1_000_000)
        machine.fast = fast
        machine.set_clock(1_000_000, 1_700_000_000_000)
        return machine


# ---- all there is ----


def numbers_of(node: Any) -> tuple[Any, ...]:
    return tuple(getattr(node, name) for name in NUMBERS)


def tree_state(tree: Tree) -> dict[str, Any]:
    """All of a tree but its watches."""
    table = tree.acls
    return {
        "nodes": {
            path: (*numbers_of(node), node.acl, list(node.children or ()), tree.stat(node))
            for path, node in tree.nodes.items()
        },
        "acls": (table.all(), table._open, table._open_uses, table._uses, table._last_index),
        "owners": {owner: list(paths) for owner, paths in tree.ephemerals.items()},
        "others": (list(tree.containers), list(tree.ttls), tree.sessions, tree.quotas.paths),
        "sums": (tree.digest, tree.data_bytes, tree.last_zxid, tree.mismatches),
        "digest log": list(tree.digest_log),
    }


def _value(value: Any) -> Any:
    """A statistic as something that can be compared."""
    if isinstance(value, dict):
        return {key: _value(one) for key, one in value.items()}
    if isinstance(value, Spread):
        return value.count, value.total, value.least, value.greatest, value._times
    assert isinstance(value, int)
    return value


def check_tree(tree: Tree) -> None:
    """Hold a tree against itself: its own rules, and its counts against what they count."""
    tree.check()
    assert tree.nodes["/"] is tree.nodes[""]
    uses = Counter(node.acl for path, node in tree.nodes.items() if path != "/")
    table = tree.acls
    if table._open:
        assert uses.pop(table._open, 0) == table._open_uses
    uses.pop(table.OPEN_INDEX, None)
    assert uses == table._uses
    for node in tree.nodes.values():
        assert node.digest == 0 or tree.digests


class Pair:
    """Two machines, their clients, and what is on its way.

    Args:
        seed: Of everything.
        said: What is not left to chance: see ``Setting``.
    """

    def __init__(self, seed: int | str, **said: Any) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.setting = Setting(self.draw, **said)
        self.fast, self.slow = (self.setting.machine(fast=fast) for fast in (True, False))
        self.machines = (self.fast, self.slow)
        self.requests = Requests(self.draw, self.slow, quotas=self.setting.quotas)
        self.links: list[tuple[Client, Client]] = []
        self.left: dict[tuple[Client, Client], bytes] = {}
        self.log: list[int] = []
        self.transactions: list[Any] = []
        self.now_ms, self.wall_ms = 1_000_000, 1_700_000_000_000

    def same(self, what: str, fast: Any, slow: Any) -> None:
        if fast == slow:
            return
        if isinstance(fast, dict) and isinstance(slow, dict):
            for key in fast.keys() | slow.keys():
                self.same(f"{what}, {key}", fast.get(key), slow.get(key))
        raise AssertionError(f"seed {self.seed!r}, {what}: C {fast!r}\nPython {slow!r}")

    # ---- what happens ----

    def connect(self, *, session_id: int = 0, password: bytes | None = None) -> None:
        clients = [machine.connect("10.0.0.1") for machine in self.machines]
        link = (clients[0], clients[1])
        self.links.append(link)
        self.left[link] = b""
        known = password_of(session_id) if password is None else password
        timeout_ms = self.draw.choice((1, 6000, 40_000, 40_000))
        asked = ConnectRequest(0, 0, timeout_ms, session_id, known, read_only=False)
        self.feed(link, framed(asked.encode()))

    def feed(
        self, link: tuple[Client, Client], data: bytes, bounds: Bounds = WIDE, *, alike: bool = True
    ) -> None:  # fmt: skip
        """Send bytes on a connection; what is no whole frame waits for more.

        ``alike``: both stop at the same places; not so with a bound on frames that are not plain.
        """
        data = self.left[link] + data
        ends = []
        for machine, client in zip(self.machines, link, strict=True):
            at, trace = 0, []
            while True:
                fed = machine.feed(client, data, at, bounds)
                trace.append(fed)
                if fed.frames == 0:
                    break
                at = fed.at
            ends.append((at, trace if alike else None))
        self.same("fed", *ends)
        self.left[link] = data[ends[0][0] :]
        if len(self.left[link]) >= 4:
            length = int.from_bytes(self.left[link][:4], "big", signed=True)
            if not 0 <= length <= FRAME_BYTES_MAX:
                self.disconnect(link)

    def disconnect(self, link: tuple[Client, Client]) -> None:
        self.hear()
        for machine, client in zip(self.machines, link, strict=True):
            machine.disconnect(client)
        self.links.remove(link)
        del self.left[link]

    def commit(self, count: int) -> None:
        """Commit so many of the transactions on their way."""
        if count > 0 and self.log:
            zxid = self.log[:count][-1]
            del self.log[:count]
            for machine in self.machines:
                machine.committed(zxid)

    def pass_time(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.wall_ms += by_ms
        for machine in self.machines:
            machine.set_clock(self.now_ms, self.wall_ms)
            machine.tick()
        found = [machine.candidates() for machine in self.machines]
        self.same("candidates", *found)
        for path in found[0]:
            for machine in self.machines:
                machine.delete_container(path)

    # ---- what comes of it ----

    def hear(self) -> None:
        """Compare what leaves: proposals, bytes, farewells."""
        early = self.draw.random() < 0.5
        taken = [machine.take_proposals() for machine in self.machines]
        for fast, slow in zip(*taken, strict=True):
            self.same("payload", fast.payload, slow.payload)
            for name in ("type", "session_id", "cxid", "zxid", "time_ms", "digest"):
                self.same(f"transaction's {name}", getattr(fast, name), getattr(slow, name))
            if early:  # else C makes them when it applies, or never
                self.same("fields", fast.fields, slow.fields)
                self.same("digests", fast.digests, slow.digests)
        self.log += [one.zxid for one in taken[1]]
        self.transactions += taken[1]
        numbers: dict[Client, int] = {
            client: number for number, link in enumerate(self.links) for client in link
        }
        talked = [
            [numbers.get(client) for client in machine.take_talkative()]
            for machine in self.machines
        ]
        self.same("talkative", *talked)
        for number, (fast, slow) in enumerate(self.links):
            self.same(f"bytes to client {number}", b"".join(fast.out), b"".join(slow.out))
            self.same(f"farewell of client {number}", fast.farewell, slow.farewell)
            fast.out.clear()
            slow.out.clear()

    def check(self) -> None:
        """Compare all there is."""
        self.hear()
        self.same("tree", *(tree_state(machine.tree) for machine in self.machines))
        self.same("rest", self._rest(self.fast, 0), self._rest(self.slow, 1))
        if not self.log:
            preparer = self.fast.preparer
            assert (preparer._by_path, len(preparer._changes), self.fast.waiting) == ({}, 0, 0)
            if self.setting.sound:
                assert preparer._digest == self.fast.tree.digest
        if self.setting.sound:
            check_tree(self.fast.tree)
            assert not self.fast.tree.mismatches

    def _rest(self, machine: Counted, side: int) -> dict[str, Any]:
        numbers = {link[side]: number for number, link in enumerate(self.links)}
        watches = machine.tree.watches

        def entry(one: Any) -> Any:
            if isinstance(one, Write):
                return one.kind, one.xid, one.at_ms, one.prepared.zxid, numbers.get(one.client)
            return one

        preparer = machine.preparer
        return {
            "watches": [
                (
                    {
                        path: [numbers[one] for one in manager.by_path()[path]]
                        for path in manager.watchers
                    },
                    {numbers[one]: paths for one, paths in manager._paths.items()},
                )
                for manager in (watches.data, watches.children)
            ],
            "changes": {
                path: (
                    *numbers_of(one), one.path, one.zxid, one.gone,
                    None if one.gone else (one.children_count, one.acl),
                )
                for path, one in preparer._by_path.items()
            },
            "changes in order": [(one.path, one.zxid) for one in preparer._changes],
            "preparer": (preparer.zxid, preparer._digest),
            "waiting": [entry(one) for one in machine._waiting],
            "sessions": [
                (one.session_id, one.timeout_ms, one.bucket_ms, one.closing)
                for one in machine.tracker.all()
            ],
            "buckets": machine.tracker.buckets(),
            "clients": [
                (one.session_id, [entry(two) for two in one.pending], one.held, one.identities)
                for one in (link[side] for link in self.links)
            ],
            "statistics": {
                name: _value(getattr(machine.statistics, name))
                for name in type(machine.statistics).__slots__
            },
        }  # fmt: skip

    # ---- runs ----

    def run(self, steps: int) -> Pair:
        """Take so many steps, then let everything be committed."""
        for step in range(steps):
            self.step()
            self.hear()
            if step % 16 == 0:
                self.check()
        while self.log:
            self.commit(len(self.log))
            self.hear()
        self.check()
        return self

    def step(self) -> None:
        draw = self.draw
        action = draw.choices(
            ("send", "commit", "connect", "resume", "leave", "time"), (60, 40, 3, 2, 1.5, 4)
        )[0]
        if action == "commit":
            self.commit(draw.choice((0, 1, len(self.log) // 2, len(self.log), len(self.log))))
        elif action == "time":
            self.pass_time(draw.choice((0, 10, 900, 3000)))
        elif action == "leave" and self.links:
            self.disconnect(draw.choice(self.links))
        elif action == "resume" and self.slow.tree.sessions:
            self.connect(
                session_id=draw.choice(list(self.slow.tree.sessions)),
                password=draw.choice((None, None, None, bytes(16))),
            )
        elif action == "connect" or not self.links:
            if len(self.links) < 6:
                self.connect()
            else:
                self.disconnect(self.links[0])
        else:
            self.send(draw.choice(self.links))

    def send(self, link: tuple[Client, Client]) -> None:
        """Several frames of one connection, in pieces that end anywhere."""
        draw = self.draw
        if link[1].farewell is not None and draw.random() < 0.7:
            self.disconnect(link)
            return
        data = b"".join(self.requests.some() for _ in range(draw.choice((1, 1, 2, 5, 12))))
        if draw.random() < 0.002:
            data += int32(draw.choice((-1, INT_MIN, INT_MAX, FRAME_BYTES_MAX + 1)))
        cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice((0, 0, 1, 3))))
        how = draw.randrange(4)
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            if link not in self.left:
                return
            piece = data[start:end]
            if how == 0:
                bounds = Bounds(FRAME_BYTES_MAX, draw.choice((0, 100, 3000)), draw.randrange(4))
                self.feed(link, piece, bounds)
            elif how == 1:
                bounds = Bounds(FRAME_BYTES_MAX, slow_max=draw.randrange(1, 4))
                self.feed(link, piece, bounds, alike=False)
            else:
                self.feed(link, piece)

    # ---- how much C did ----

    def in_c(self) -> dict[str, Counter[int]]:
        """What Python was asked in the one machine and not in the other, by kind of request."""
        return {what: self.slow.asked[what] - self.fast.asked[what] for what in self.slow.asked}


def runs(seeds: range, steps: int) -> Iterator[Pair]:
    """One pair for each seed, run."""
    for seed in seeds:
        yield Pair(seed).run(steps)
