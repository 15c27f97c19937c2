"""Many clients on one machine, one seed a run: the ordering rules, looked at after every step.

    step    a client connects, comes back, sends something, goes away
            | some of the transactions that are persisted by now are committed
            | time passes, and sessions expire
    then    what everybody was sent is held against INVARIANTS and against the model

Commits lag behind requests at random, so reads wait behind writes, writes meet changes on their
way, sessions are closed with requests on their way, and clients come back while their old
connection still has some.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from tests.core.zookeeper_kit import (
    OPEN,
    Reply,
    connect_request,
    frames_of,
    give,
    reply_of,
    request,
)
from tests.core.zookeeper_model import (
    CHILDREN,
    CREATES,
    DELETED,
    Model,
    Node,
    Nodes,
    WatchModel,
    allowed,
)

from stratalog.core.zookeeper.identity import digest_of
from stratalog.core.zookeeper.prepare import WRITES, Rules
from stratalog.core.zookeeper.sessions import password_of
from stratalog.core.zookeeper.standalone import Client, Options, Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.wire.zookeeper import messages
from stratalog.wire.zookeeper.messages import REPLIES, ConnectResponse
from stratalog.wire.zookeeper.records import ACL, Id, OpCode

INVARIANTS: Final = {
    "order": "The replies of a connection come in the order of its requests, but for auth's.",
    "unseen": "Nothing of a write is seen before it is committed, and then as it was at its zxid.",
    "events first": "An event leaves before any reply that has its zxid or a later one.",
    "zxids": "The zxids in the replies of a connection never fall.",
    "once": "One transaction tells one connection once of what happened at a path.",
    "one shot": "A one-shot watch fires at most once.",
    "events": "A connection hears what its watches meant, no more and no less.",
    "forgotten": "Watches die with their connection.",
    "not early": "A session does not expire before its timeout.",
    "not late": "A session expires at most a tick after its timeout.",
    "tree": "The tree keeps its own rules, and has the digest that each transaction foretold.",
    "model": "The tree is what the log says.",
    "farewell": "Nothing follows the last word on a connection.",
    "acknowledged": "The answer to a write is that of its own transaction.",
}

TICK_MS: Final = 2000
NO_NODE, NO_AUTH, EXPIRED, MARSHALLING, UNIMPLEMENTED, NO_WATCHER = -101, -102, -112, -5, -6, -121
USERS: Final = (b"ann:1", b"bob:2")
ACLS: Final = (
    OPEN,
    (ACL(1, Id("world", "anyone")), ACL(31, Id("digest", digest_of(USERS[0])))),
    (ACL(31, Id("digest", digest_of(USERS[1]))),),
)
PATHS: Final = (
    "/", "/a", "/a/b", "/a/b/c", "/a/b/d", "/b", "/b/x", "/b/y", "/c", "/c/d", "/no/x",
    "/zookeeper",
)  # fmt: skip
WATCHABLE: Final = (OpCode.EXISTS, OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2)
DATA_LIKE: Final = (OpCode.EXISTS, OpCode.GET_DATA)


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Sent:
    """A request on its way to its reply; no ``kind``: it cannot be read.

    ``late``: it was sent when its session was closing; None: before there was an answer to the
    first frame, so nobody can say.
    """

    xid: int
    kind: int | None
    fields: tuple[Any, ...] = ()
    late: bool | None = None


@dataclass
class Session:
    """What the clients know of a session."""

    session_id: int
    timeout_ms: int
    heard_ms: int
    closing: bool = False
    asked: bool = False


@dataclass(eq=False)
class Connection:
    """One client's end."""

    client: Client
    read_only: bool = True
    session: Session | None = None
    welcomed: bool = False
    sent: deque[Sent] = field(default_factory=deque)
    auths: int = 0
    early: int = 0
    xid: int = 0
    zxid: int = 0
    at: int = 0
    over: bool = False
    identities: list[Id] = field(default_factory=list)
    watches: WatchModel = field(default_factory=WatchModel)
    events: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    missed: list[tuple[int, str]] = field(default_factory=list)
    armed: dict[str, set[str]] = field(default_factory=lambda: {"data": set(), "children": set()})
    plain: bool = True


class Simulation:
    """One run.

    Args:
        seed: Of everything.
        collect: Broken invariants are noted in ``broken``, and the run goes on.
        fast: C handles what is plain; else Python handles everything.
    """

    def __init__(self, seed: int, *, collect: bool = False, fast: bool = True) -> None:
        self.draw = random.Random(seed)
        self.collect = collect
        self.broken: dict[str, str] = {}
        self.now_ms = 1_000_000
        tree = Tree(extended=True)
        options = Options(
            tick_ms=TICK_MS, session_ms_min=2 * TICK_MS, session_ms_max=6 * TICK_MS,
            rules=Rules(txn_bytes_max=3000),
        )  # fmt: skip
        self.machine = Standalone(tree, options, now_ms=self.now_ms)
        self.machine.fast = fast
        self.machine.set_clock(self.now_ms, self.now_ms)
        self.model = Model(nodes_of(tree))
        self.connections: list[Connection] = []
        self.sessions: dict[int, Session] = {}
        self.log: list[Any] = []
        self.applied: list[Any] = []
        self.counts: dict[str, int] = {}

    def claim(self, name: str, holds: object, detail: object) -> None:
        """See that an invariant holds."""
        self.counts[name] = self.counts.get(name, 0) + 1
        if not holds:
            if not self.collect:
                raise BrokenError(f"{INVARIANTS[name]} {detail}")
            self.broken.setdefault(name, str(detail))

    # ---- steps ----

    def run(self, steps: int) -> None:
        """Take so many steps, then let everything be committed."""
        for _ in range(steps):
            self.step()
        self.commit(len(self.log))
        self.look()

    def step(self) -> None:
        action = self.draw.choices(
            (self.connect, self.send, self.commit_some, self.leave, self.pass_time, self.resume),
            (3, 60, 18, 2, 4, 3),
        )[0]
        action()
        self.look()

    def connect(self) -> None:
        if sum(not one.over for one in self.connections) >= 6:
            return
        connection = Connection(self.machine.connect("10.0.0.1"))
        timeout_ms = self.draw.choice((1, 4000, 7000, 10**6))
        give(self.machine, connection.client, connect_request(timeout_ms=timeout_ms))
        session = connection.client.session
        assert session is not None
        connection.session = Session(session.session_id, session.timeout_ms, self.now_ms)
        self.sessions[session.session_id] = connection.session
        self.connections.append(connection)

    def resume(self) -> None:
        """Come back to a session, its old connection gone or not."""
        if not self.sessions:
            return
        known = self.draw.choice(list(self.sessions.values()))
        if known.session_id not in self.model.sessions and not known.closing:
            return  # nobody knows of it yet
        connection = Connection(self.machine.connect("10.0.0.1"))
        password = password_of(known.session_id) if self.draw.random() < 0.9 else bytes(16)
        give(
            self.machine, connection.client,
            connect_request(
                timeout_ms=self.draw.choice((4000, 9000)), session_id=known.session_id,
                password=password, seen=self.model.zxid,
            ),
        )  # fmt: skip
        if connection.client.session is not None:
            self.claim("unseen", not known.closing, "a session that closes was resumed")
            connection.session = known
            known.timeout_ms = connection.client.session.timeout_ms
            known.heard_ms = self.now_ms
        connection.at = self.model.zxid
        self.connections.append(connection)

    def leave(self) -> None:
        live = [one for one in self.connections if not one.over]
        if live:
            self.forget(self.draw.choice(live))

    def forget(self, connection: Connection) -> None:
        self.look()
        self.machine.disconnect(connection.client)
        connection.over = True
        self.connections.remove(connection)

    def pass_time(self) -> None:
        for _ in range(self.draw.choice((1, 1, 2, 4))):
            self.now_ms += self.draw.randrange(TICK_MS)
            self.machine.set_clock(self.now_ms, self.now_ms)
            self.machine.tick()
            self.take_proposals()
            for session in self.sessions.values():
                late = self.now_ms >= session.heard_ms + session.timeout_ms + TICK_MS
                self.claim("not late", session.closing or not late, hex(session.session_id))
        if self.draw.random() < 0.5:
            for path in self.machine.candidates():
                self.machine.delete_container(path)

    def commit_some(self) -> None:
        self.commit(self.draw.randint(0, len(self.log)))

    def commit(self, count: int) -> None:
        self.take_proposals()
        batch, self.log = self.log[:count], self.log[count:]
        for prepared in batch:
            try:
                self.model.apply(prepared.payload)
            except (AssertionError, KeyError) as error:
                self.claim("model", False, f"{prepared}: {error!r}")
                raise
        self.applied += batch
        if batch:
            self.machine.committed(batch[-1].zxid)

    def take_proposals(self) -> None:
        for prepared in self.machine.take_proposals():
            self.log.append(prepared)
            if prepared.type == OpCode.CLOSE_SESSION:
                session = self.sessions[prepared.session_id]
                early = self.now_ms < session.heard_ms + session.timeout_ms
                self.claim("not early", session.asked or not early, prepared)
                session.closing = True

    # ---- requests ----

    def send(self) -> None:
        live = [one for one in self.connections if not one.over and one.session is not None]
        if not live:
            return
        connection = self.draw.choice(live)
        for _ in range(self.draw.choice((1, 1, 1, 3, 6))):
            self.send_one(connection)

    def send_one(self, connection: Connection) -> None:
        connection.xid += 1
        sent, frame = self.some_request(connection)
        session = connection.session
        if session is None or connection.client.farewell is not None:
            return
        if connection.welcomed:
            session.heard_ms = self.now_ms
            live = connection.client.session
            sent.late = live is None or live.closing
        else:
            connection.early += 1
        if sent.kind == OpCode.AUTH:
            connection.auths += 1
        else:
            connection.sent.append(sent)
        if sent.kind == OpCode.CLOSE_SESSION:
            session.asked = True
        give(self.machine, connection.client, frame)

    def path(self, kind: int) -> str:
        """Some path; more often than not one with which the request can work."""
        if self.draw.random() < 0.3:
            return self.draw.choice(PATHS)
        known = self.draw.choice(sorted(self.model.nodes))
        if kind in CREATES:
            return known.rstrip("/") + "/" + self.draw.choice("abcdxy")
        return known

    def some_request(self, connection: Connection) -> tuple[Sent, bytes]:
        draw, xid = self.draw, connection.xid
        kind = draw.choices(KINDS, WEIGHTS)[0]
        xid = FIXED_XIDS.get(kind, xid)
        if kind == UNREADABLE:
            head = request(xid, OpCode.SET_DATA, "/a", b"", -1)[:8]
            return Sent(xid, None), head + draw.choice((b"", b"\0\0\0\x09/", b"\x7f\xff\xff\xff"))
        if kind == UNKNOWN:
            return Sent(xid, UNKNOWN), xid.to_bytes(4, "big") + (77).to_bytes(4, "big")
        fields = self.fields(kind, connection)
        return Sent(xid, kind, fields), request(xid, kind, *fields)

    def fields(self, kind: int, connection: Connection) -> tuple[Any, ...]:
        draw = self.draw
        path = self.path(kind)
        version = draw.choice((-1, -1, -1, -1, -1, 0, 1))
        data = draw.choice((None, b"", b"x", b"y" * 40, b"z" * 2000))
        acl = draw.choice((*ACLS, *(OPEN,) * 12, ()))
        if kind in {OpCode.CREATE, OpCode.CREATE2}:
            return path, data, acl, draw.choice((0, 0, 0, 0, 1, 1, 2, 3, 4, 9))
        if kind == OpCode.CREATE_CONTAINER:
            return path, data, acl, 4
        if kind == OpCode.CREATE_TTL:
            return path, data, acl, 5, draw.choice((1, 5000, 0))
        if kind in {OpCode.DELETE, OpCode.CHECK}:
            return path, version
        if kind == OpCode.SET_DATA:
            return path, data, version
        if kind == OpCode.SET_ACL:
            return path, acl, version
        if kind == OpCode.MULTI:
            parts = draw.choices(IN_MULTI, k=draw.choice((0, 1, 2, 2, 3, 5)))
            return tuple((part, *self.fields(part, connection)) for part in parts)
        if kind in WATCHABLE:
            return path, draw.random() < 0.5
        if kind == OpCode.ADD_WATCH:
            return path, draw.randrange(2)
        if kind in {OpCode.CHECK_WATCHES, OpCode.REMOVE_WATCHES}:
            return path, draw.choice((1, 2, 3))
        if kind in {OpCode.SET_WATCHES, OpCode.SET_WATCHES2}:
            lists = [tuple(draw.sample(PATHS, 2)) for _ in range(3)]
            seen = max(0, self.model.zxid - draw.randrange(10))
            return (seen, *lists) if kind == OpCode.SET_WATCHES else (seen, *lists, (path,), ())
        if kind == OpCode.AUTH:
            return "digest", draw.choice(USERS)
        return () if kind in {OpCode.PING, OpCode.CLOSE_SESSION, OpCode.WHO_AM_I} else (path,)

    # ---- what comes back ----

    def look(self) -> None:
        """Hear everybody, and hold what they heard and what there is against the rules."""
        self.take_proposals()
        for client in self.machine.take_talkative():
            for connection in self.connections:
                if connection.client is client:
                    self.hear(connection)
        for connection in self.connections:
            self.hear_events(connection, self.model.zxid)
            self.claim("farewell", not connection.client.out, "sent behind our back")
        self.check_tree()
        clients = {one.client for one in self.connections}
        watches = self.machine.tree.watches
        for manager in (watches.data, watches.children):
            self.claim("forgotten", manager.by_watcher().keys() <= clients, "a dead one watches")

    def check_tree(self) -> None:
        tree = self.machine.tree
        try:
            tree.check()
        except AssertionError as error:
            self.claim("tree", False, error)
        self.claim("tree", not tree.mismatches, "a digest was foretold wrongly")
        if not self.log:
            same = self.machine.preparer.outstanding == 0
            self.claim("tree", same, "changes on their way, and no transaction")
        self.claim("model", nodes_of(tree) == self.model.nodes, f"at zxid {tree.last_zxid}")
        self.claim("model", tree.sessions == self.model.sessions, "sessions")

    def hear(self, connection: Connection) -> None:
        client = connection.client
        bodies = frames_of(client.out)
        client.out.clear()
        self.claim("farewell", not (connection.over and bodies), bodies)
        for body in bodies:
            if not connection.welcomed:
                self.hear_welcome(connection, ConnectResponse.decode(body))
                continue
            reply = reply_of(body)
            if reply.xid == -1:
                self.hear_event(connection, reply)
            elif reply.xid == -4:
                self.claim("order", connection.auths > 0 and reply.zxid == 0, reply)
                connection.auths -= 1
                # Which of them it was does not matter: the machine took it on arrival.
                connection.identities = list(client.identities)
            else:
                self.hear_reply(connection, reply)
        if client.farewell is not None:
            connection.over = True

    def hear_welcome(self, connection: Connection, welcome: ConnectResponse) -> None:
        connection.welcomed = True
        session = connection.session
        if welcome.session_id == 0:
            self.claim("order", session is None, welcome)
            return
        assert session is not None
        self.claim("unseen", welcome.session_id in self.model.begun, welcome)
        if connection.early:
            session.heard_ms = self.now_ms

    def hear_event(self, connection: Connection, reply: Reply) -> None:
        event = reply.event
        assert event is not None
        heard = (event.type, event.path)
        if reply.zxid == -1:
            connection.missed.append(heard)
            return
        self.claim("unseen", reply.zxid <= self.model.zxid, reply)
        self.claim("events first", reply.zxid > connection.zxid, reply)
        before = connection.events.setdefault(reply.zxid, [])
        done = self.model.done.get(reply.zxid)
        if done is not None and done.kind not in {OpCode.MULTI, OpCode.CLOSE_SESSION}:
            again = any(path == event.path for _, path in before)
            self.claim("once", not again, f"{heard} after {before} in {reply.zxid}")
        before.append(heard)
        if connection.plain:
            armed = connection.armed
            managers = ["children"] if event.type == CHILDREN else ["data"]
            managers += ["children"] if event.type == DELETED else []
            there = any(event.path in armed[manager] for manager in managers)
            self.claim("one shot", there, heard)
            for manager in managers:
                armed[manager].discard(event.path)

    def hear_events(self, connection: Connection, until: int) -> None:
        """Compare the events of the transactions up to ``until`` with those that were due."""
        while connection.at < until:
            connection.at += 1
            due = connection.watches.fire(
                self.model.done[connection.at], list(connection.client.identities)
            )
            got = connection.events.pop(connection.at, [])
            same = connection.over or sorted(due) == sorted(got)
            self.claim("events", same, f"{got} instead of {due} at {connection.at}")

    def hear_reply(self, connection: Connection, reply: Reply) -> None:
        if not connection.sent:
            self.claim("order", False, f"{reply} answers nothing")
            return
        sent = connection.sent.popleft()
        self.claim("order", reply.xid == sent.xid, f"{reply} instead of that to {sent}")
        self.claim("unseen", reply.zxid <= self.model.zxid, reply)
        if reply.err == UNIMPLEMENTED and sent.kind == UNKNOWN:
            return
        self.claim("zxids", reply.zxid >= connection.zxid, f"{reply} after {connection.zxid}")
        connection.zxid = max(connection.zxid, reply.zxid)
        if reply.zxid > self.model.zxid or reply.xid != sent.xid:
            return
        self.hear_events(connection, reply.zxid)
        session = connection.session
        assert session is not None
        if sent.kind is None:
            self.claim("order", reply.err == MARSHALLING, reply)
        elif sent.kind in WRITES or sent.kind == OpCode.CLOSE_SESSION:
            self.hear_write(connection, sent, reply)
        elif reply.err == EXPIRED:
            fair = session.closing and sent.late is not False
            self.claim("order", fair, f"{reply} to {sent}")
        else:
            self.hear_read(connection, sent, reply)

    def hear_write(self, connection: Connection, sent: Sent, reply: Reply) -> None:
        done = self.model.done[reply.zxid]
        kind = sent.kind
        if kind == OpCode.MULTI and done.kind == OpCode.MULTI:
            parts = messages.decode_multi(reply.body, REPLIES)
            failed = any(part == OpCode.ERROR for part, _ in parts)
            self.claim("acknowledged", failed == (not done.answers and bool(sent.fields)), reply)
            if not failed:
                self.claim("acknowledged", len(parts) == len(done.answers), reply)
                for (_, part), answer in zip(parts, done.answers, strict=False):
                    self.claim("acknowledged", says(part, *answer), f"{part}, not {answer}")
            return
        self.claim("acknowledged", done.err == reply.err, f"{reply} to {sent}: {done.err}")
        if reply.err:
            return
        self.claim("acknowledged", done.kind == kind, f"{reply} to {sent}: {done}")
        if done.kind == kind and kind != OpCode.CLOSE_SESSION:
            record = REPLIES[kind].decode(reply.body)
            self.claim("acknowledged", says(record, *done.answers[0]), f"{record} to {sent}")

    def hear_read(self, connection: Connection, sent: Sent, reply: Reply) -> None:
        self.claim("order", not sent.late, f"{reply} to {sent} of a session that closes")
        kind, nodes = sent.kind, self.model.history[reply.zxid]
        assert kind is not None
        watches = connection.watches
        if kind in {OpCode.SET_WATCHES, OpCode.SET_WATCHES2}:
            due = watches.catch_up(nodes, *sent.fields[:4])
            self.claim("events", connection.missed == due, f"{connection.missed}, not {due}")
            connection.missed = []
            connection.armed["data"] |= {*sent.fields[1], *sent.fields[2]}
            connection.armed["children"] |= set(sent.fields[3])
            if kind == OpCode.SET_WATCHES2:
                watches.persistent.update(sent.fields[4])
                connection.plain = False
            return
        self.claim("events", not connection.missed, connection.missed)
        if kind == OpCode.ADD_WATCH:
            path, mode = sent.fields
            (watches.recursive if mode else watches.persistent).add(path)
            connection.plain = False
        elif kind == OpCode.REMOVE_WATCHES:
            there = watches.remove(*sent.fields)
            self.claim("events", reply.err == (0 if there else NO_WATCHER), f"{reply} to {sent}")
        elif kind in WATCHABLE or kind in {OpCode.GET_ACL, OpCode.GET_ALL_CHILDREN_NUMBER}:
            err, record = answer(kind, sent.fields[0], nodes, connection.identities)
            self.claim("unseen", reply.err == err, f"{reply} to {sent}, not {err}")
            if not err and not reply.err:
                seen = sorted_names(REPLIES[kind].decode(reply.body))
                self.claim("unseen", seen == sorted_names(record), f"{seen}, not {record}")
            there = err == 0 or (err == NO_NODE and kind == OpCode.EXISTS)
            if there and kind in WATCHABLE and sent.fields[1]:
                data = kind in DATA_LIKE
                (watches.data if data else watches.children).add(sent.fields[0])
                connection.armed["data" if data else "children"].add(sent.fields[0])
        elif kind != OpCode.CHECK_WATCHES:
            self.claim("order", reply.err == 0, f"{reply} to {sent}")


def nodes_of(tree: Tree) -> Nodes:
    """A machine's tree, as the model has it."""
    return {
        path or "/": Node(
            node.data, tree.acl(node), node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime,
            node.version, node.cversion, node.aversion, node.owner,
            frozenset(child.rpartition("/")[2] for child in node.children or ()),
        )
        for path, node in tree.nodes.items()
        if path != "/"
    }  # fmt: skip


def says(record: Any, kind: int, path: str, stat: Any) -> bool:
    """Whether the record of a reply says what the model does."""
    del kind
    return all(
        getattr(record, name, value) == value for name, value in (("path", path), ("stat", stat))
    )


def sorted_names(record: Any) -> Any:
    """A record as its fields, with the names of children in order."""
    values = [getattr(record, name) for name in type(record).__dataclass_fields__]
    return [sorted(one) if isinstance(one, tuple) and type(record) not in ACLISH else one
            for one in values]  # fmt: skip


ACLISH: Final = (messages.ACLResponse,)


def answer(kind: int, path: str, nodes: Nodes, identities: list[Id]) -> tuple[int, Any]:
    """What a read is answered with: its error, or its record."""
    node = nodes.get(path)
    if node is None:
        return NO_NODE, None
    if not allowed(node, 17 if kind == OpCode.GET_ACL else 1, identities):
        return NO_AUTH, None
    names = tuple(node.children)
    if kind == OpCode.EXISTS:
        return 0, messages.StatResponse(node.stat())
    if kind == OpCode.GET_DATA:
        return 0, messages.DataResponse(node.data, node.stat())
    if kind == OpCode.GET_CHILDREN:
        return 0, messages.NamesResponse(names)
    if kind == OpCode.GET_CHILDREN2:
        return 0, messages.Children2Response(names, node.stat())
    if kind == OpCode.GET_ALL_CHILDREN_NUMBER:
        below = path.rstrip("/") + "/"
        return 0, messages.NumberResponse(
            sum(one.startswith(below) and one != "/" for one in nodes)
        )
    acl = node.acl
    if not allowed(node, 16, identities):
        acl = tuple(
            ACL(one.perms, Id("digest", (one.id.id or "").split(":")[0] + ":x"))
            if one.id.scheme == "digest" else one
            for one in acl
        )  # fmt: skip
    return 0, messages.ACLResponse(acl, node.stat())


FIXED_XIDS: Final = {
    OpCode.PING: -2, OpCode.AUTH: -4, OpCode.SET_WATCHES: -8, OpCode.SET_WATCHES2: -8,
}  # fmt: skip
UNREADABLE, UNKNOWN = -1000, -1001
_MIX: Final = {
    OpCode.CREATE: 16, OpCode.CREATE2: 6, OpCode.CREATE_CONTAINER: 2, OpCode.CREATE_TTL: 2,
    OpCode.DELETE: 14, OpCode.SET_DATA: 14, OpCode.SET_ACL: 4, OpCode.MULTI: 8, OpCode.EXISTS: 12,
    OpCode.GET_DATA: 12, OpCode.GET_CHILDREN: 8, OpCode.GET_CHILDREN2: 6, OpCode.GET_ACL: 3,
    OpCode.GET_ALL_CHILDREN_NUMBER: 2, OpCode.GET_EPHEMERALS: 1, OpCode.SYNC: 2, OpCode.PING: 4,
    OpCode.WHO_AM_I: 1, OpCode.ADD_WATCH: 1, OpCode.CHECK_WATCHES: 1, OpCode.REMOVE_WATCHES: 2,
    OpCode.SET_WATCHES: 2, OpCode.SET_WATCHES2: 0.3, OpCode.AUTH: 3, OpCode.CLOSE_SESSION: 0.7,
    UNREADABLE: 1, UNKNOWN: 0.2,
}  # fmt: skip
KINDS: Final = tuple(_MIX)
WEIGHTS: Final = tuple(_MIX.values())
IN_MULTI: Final = (
    OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.DELETE, OpCode.SET_DATA,
    OpCode.CHECK,
)  # fmt: skip
