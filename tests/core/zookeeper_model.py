"""A model of a ZooKeeper, written again and as plainly as can be: what a log's bytes mean.

It knows no outstanding changes, no digests and no connections: it applies transactions one after
the other and remembers what the tree was after each.  A machine that ever answers otherwise than
the model did at the reply's zxid has shown something that was not, or not yet, so.

``WatchModel`` says which events one connection must hear of a transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from stratalog.wire.zookeeper.records import ACL, Id, OpCode, Stat
from stratalog.wire.zookeeper.txns import BODIES, Transaction

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
CONTAINER = -(1 << 63)
CREATES = {OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL}


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


@dataclass(frozen=True)
class Node:
    """One znode of the model; never changed, only replaced."""

    data: bytes | None
    acl: tuple[ACL, ...]
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int = 0
    creates: int = 0
    aversion: int = 0
    owner: int = 0
    children: frozenset[str] = frozenset()

    @property
    def ephemeral(self) -> bool:
        return self.owner not in {0, CONTAINER} and not -(1 << 56) <= self.owner < 0

    def stat(self) -> Stat:
        return Stat(
            self.czxid, self.mzxid, self.ctime, self.mtime, self.version,
            2 * self.creates - len(self.children), self.aversion,
            self.owner if self.ephemeral else 0, len(self.data or b""), len(self.children),
            self.pzxid,
        )  # fmt: skip


Nodes = dict[str, Node]


@dataclass
class Done:
    """What a transaction did: what it is answered with, and what there is to hear of."""

    kind: int
    err: int = 0
    answers: list[tuple[int, str, Stat | None]] = field(default_factory=list)
    happened: list[tuple[int, str, Node]] = field(default_factory=list)


class Model:
    """The tree after each zxid."""

    def __init__(self, nodes: Nodes, zxid: int = 0) -> None:
        self.zxid = zxid
        self.nodes = nodes
        self.history: dict[int, Nodes] = {zxid: nodes}
        self.done: dict[int, Done] = {}
        self.sessions: dict[int, int] = {}
        self.begun: set[int] = set()

    def apply(self, payload: bytes) -> Done:
        """Apply the bytes of a log's record."""
        txn = Transaction.decode(payload)
        head = txn.header
        assert head.zxid == self.zxid + 1, "zxids come one after the other"
        self.nodes = dict(self.nodes)
        done = Done(head.type)
        self._apply(head.type, txn.body, head, done)
        self.zxid = head.zxid
        self.history[head.zxid] = self.nodes
        self.done[head.zxid] = done
        return done

    def _apply(self, kind: int, body: Any, head: Any, done: Done) -> None:
        if kind == OpCode.ERROR:
            done.err = body.err
        elif kind == OpCode.CREATE_SESSION:
            self.sessions[head.client_id] = body.timeout
            self.begun.add(head.client_id)
        elif kind == OpCode.CLOSE_SESSION:
            self.sessions.pop(head.client_id, None)
            own = [path for path, node in self.nodes.items() if node.owner == head.client_id]
            # A transaction names exactly the ephemerals of its session.
            assert sorted(own) == sorted(body.paths), (own, body.paths)
            for path in body.paths:
                self._delete(path, head.zxid, done)
        elif kind == OpCode.MULTI:
            parts = [(one.type, BODIES[one.type].decode(one.data)) for one in body.txns]
            if any(one == OpCode.ERROR for one, _ in parts):
                return
            for one, part in parts:
                self._apply(one, part, head, done)
        elif kind in CREATES:
            self._create(kind, body, head, done)
        elif kind in {OpCode.DELETE, OpCode.DELETE_CONTAINER}:
            self._delete(body.path, head.zxid, done)
            done.answers.append((kind, body.path, None))
        elif kind == OpCode.SET_DATA:
            node = replace(
                self.nodes[body.path], data=body.data, version=body.version, mzxid=head.zxid,
                mtime=head.time,
            )  # fmt: skip
            self.nodes[body.path] = node
            done.happened.append((CHANGED, body.path, node))
            done.answers.append((kind, body.path, node.stat()))
        elif kind == OpCode.SET_ACL:
            node = replace(self.nodes[body.path], acl=body.acl, aversion=body.version)
            self.nodes[body.path] = node
            done.answers.append((kind, body.path, node.stat()))
        else:
            assert kind == OpCode.CHECK
            done.answers.append((kind, body.path, None))

    def _create(self, kind: int, body: Any, head: Any, done: Done) -> None:
        assert body.path not in self.nodes
        owner = 0
        if kind == OpCode.CREATE_CONTAINER:
            owner = CONTAINER
        elif kind == OpCode.CREATE_TTL:
            owner = body.ttl - (1 << 56)
        elif body.ephemeral:
            owner = head.client_id
        above = parent_of(body.path)
        parent = self.nodes[above]
        parent = self.nodes[above] = replace(
            parent, creates=parent.creates + 1, pzxid=head.zxid,
            children=parent.children | {body.path.rpartition("/")[2]},
        )  # fmt: skip
        assert parent.creates == body.parent_cversion
        node = Node(
            body.data, body.acl, head.zxid, head.zxid, head.zxid, head.time, head.time, owner=owner
        )
        self.nodes[body.path] = node
        done.happened += [(CREATED, body.path, node), (CHILDREN, above, parent)]
        done.answers.append((kind, body.path, node.stat()))

    def _delete(self, path: str, zxid: int, done: Done) -> None:
        node = self.nodes.pop(path)
        assert not node.children
        above = parent_of(path)
        parent = self.nodes[above]
        parent = self.nodes[above] = replace(
            parent, pzxid=zxid, children=parent.children - {path.rpartition("/")[2]}
        )
        done.happened += [(DELETED, path, node), (CHILDREN, above, parent)]


def allowed(node: Node, permission: int, identities: list[Id]) -> bool:
    """What an ACL of world and digest ids grants."""
    return any(
        entry.perms & permission and (entry.id == Id("world", "anyone") or entry.id in identities)
        for entry in node.acl
    )


@dataclass
class WatchModel:
    """The watches of one connection."""

    data: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    persistent: set[str] = field(default_factory=set)
    recursive: set[str] = field(default_factory=set)

    def covered(self, path: str) -> bool:
        """Whether a recursive watch stands on the path or above it."""
        above = {path}
        while path != "/":
            path = parent_of(path)
            above.add(path)
        return bool(above & self.recursive)

    def fire(self, done: Done, identities: list[Id]) -> list[tuple[int, str]]:
        """What a transaction lets this connection hear; its one-shot watches go."""
        heard = []
        for event, path, node in done.happened:
            if event == CHILDREN:
                hears = path in self.children or path in self.persistent
                self.children.discard(path)
            else:
                hears = path in self.data or path in self.persistent or self.covered(path)
                self.data.discard(path)
                if event == DELETED:
                    hears = hears or path in self.children
                    self.children.discard(path)
            if hears and allowed(node, 1, identities):
                heard.append((event, path))
        return heard

    def catch_up(
        self, nodes: Nodes, seen: int, data: list[str], exist: list[str], child: list[str]
    ) -> list[tuple[int, str]]:
        """What setWatches tells; the others are set."""
        told = []
        for path in data:
            if path not in nodes:
                told.append((DELETED, path))
            elif nodes[path].mzxid > seen:
                told.append((CHANGED, path))
            else:
                self.data.add(path)
        for path in exist:
            if path in nodes:
                told.append((CREATED, path))
            else:
                self.data.add(path)
        for path in child:
            if path not in nodes:
                told.append((DELETED, path))
            elif nodes[path].pzxid > seen:
                told.append((CHILDREN, path))
            else:
                self.children.add(path)
        return told

    def remove(self, path: str, kind: int) -> bool:
        """removeWatches: 1 children, 2 data, 3 any; whether there was anything."""
        meant = {
            1: [self.children], 2: [self.data],
            3: [self.children, self.data, self.persistent, self.recursive],
        }[kind]  # fmt: skip
        there = any(path in paths for paths in meant)
        for paths in meant:
            paths.discard(path)
        return there
