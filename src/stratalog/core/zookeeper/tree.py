"""The tree of znodes, and what a transaction does to it.

    request --prepare--> transaction --persist, commit--> apply (here) --> reply, events

A transaction applies the same way on every server, in the order of zxids, and again without harm:
a snapshot is taken while the tree changes, so after a restart some transactions meet their own
effects.  Then

  - a create of what is there only raises the parent's cversion and pzxid, and sets the ACL;
  - a delete of what is not there still raises the parent's pzxid;
  - neither ever lowers them;
  - a delete takes along what is below: it came later, and its own transaction brings it back.

``digest`` is the sum of all znodes' digests.  Each transaction carries what it must be afterwards;
``mismatches`` counts where it is not, which never happens in a sound server.

Watches fire here, within the transaction: those of the znode, then those of its parent.

Source: ``DataTree.java``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from stratalog.core.zookeeper._fast import TreeState, Walk, load, replay
from stratalog.core.zookeeper.identity import NOBODYS_ACL, READ_ONLY_ACL, Acl, AclTable
from stratalog.core.zookeeper.paths import CONFIG, QUOTA, ROOT, ROOT_ALIAS, SPECIAL, SYSTEM, split
from stratalog.core.zookeeper.quotas import (
    LIMITS_NAME,
    STATS_NAME,
    Figures,
    Quotas,
    stats_path,
)
from stratalog.core.zookeeper.refusal import Refused
from stratalog.core.zookeeper.watches import EventType, Watches
from stratalog.core.zookeeper.znode import (
    CONTAINER_OWNER,
    Kind,
    Znode,
    digest_of,
    int32,
    kind_of,
    owner_of_ttl,
    signed64,
)
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.records import ErrorCode, OpCode
from stratalog.wire.zookeeper.snapshot import SnapshotNode, SnapshotReader
from stratalog.wire.zookeeper.txns import BODIES, Txn

__all__ = ["DIGESTS_MAX", "DIGEST_EVERY", "Fields", "Result", "Tree", "Walk"]

Fields = tuple[Any, ...]
_NONE_KNOWN: Final[Mapping[str, int]] = {}

DIGEST_EVERY: Final = 128
DIGESTS_MAX: Final = 1024
"""The tree's digest is remembered after every so many zxids, and so many of them are kept."""

# Looking a member up in an enum takes 0.1 us, and a request would do it twenty times.
_CHECK: Final = int(OpCode.CHECK)
_CLOSE_SESSION: Final = int(OpCode.CLOSE_SESSION)
_CREATE: Final = int(OpCode.CREATE)
_CREATE_CONTAINER: Final = int(OpCode.CREATE_CONTAINER)
_CREATE_SESSION: Final = int(OpCode.CREATE_SESSION)
_CREATE_TTL: Final = int(OpCode.CREATE_TTL)
_DELETE: Final = int(OpCode.DELETE)
_DELETE_CONTAINER: Final = int(OpCode.DELETE_CONTAINER)
_ERROR: Final = int(OpCode.ERROR)
_MULTI: Final = int(OpCode.MULTI)
_RECONFIG: Final = int(OpCode.RECONFIG)
_SET_ACL: Final = int(OpCode.SET_ACL)
_SET_DATA: Final = int(OpCode.SET_DATA)


@dataclass(slots=True)
class Result:
    """What became of a transaction; ``stat`` are the bytes of a Stat."""

    type: int
    err: int = 0
    path: str = ""
    stat: bytes = b""
    parts: list[Result] = field(default_factory=list)


class Tree(TreeState):
    """All znodes, who owns which, and who watches; C sees its tables (fast/apply.c).

    Args:
        extended: Whether znodes may have a time to live (``extendedTypesEnabled``).
        digests: Whether the digest is kept (``digest.enabled``).
    """

    acls: AclTable

    def __init__(self, *, extended: bool = False, digests: bool = True) -> None:
        self.extended = extended
        self.digests = digests
        self.nodes: dict[str, Znode] = {}
        self.acls = AclTable()
        self.ephemerals: dict[int, dict[str, None]] = {}
        self.containers: dict[str, None] = {}
        self.ttls: dict[str, None] = {}
        self.sessions: dict[int, int] = {}
        self.quotas = Quotas()
        self.watches = Watches()
        self._quota_paths = self.quotas.paths
        self._data_watches, self._child_watches = self.watches.data, self.watches.children
        self._data_watchers = self._data_watches.watchers
        self._child_watchers = self._child_watches.watchers
        self.mismatches = 0
        self._known_digests: Mapping[str, int] = _NONE_KNOWN
        self.digest_log: deque[tuple[int, int]] = deque(maxlen=DIGESTS_MAX)
        self._plant()

    def _plant(self) -> None:
        for path in (ROOT, SYSTEM, QUOTA, CONFIG):
            self._put(path, Znode(b"", AclTable.OPEN_INDEX, 0, 0, 0))
        self.nodes[ROOT_ALIAS] = self.nodes[ROOT]
        config = self.nodes[CONFIG]
        config.acl = self.acls.acquire(READ_ONLY_ACL)
        config.aversion = -1

    def _put(self, path: str, node: Znode) -> None:
        """Add a znode and its name in its parent."""
        if path:
            above = self.nodes[split(path)[0]]
            if above.children is None:
                above.children = {}
            above.children[path] = node
        self.nodes[path] = node
        self.data_bytes += len(path) + len(node.data or b"")
        if self.digests:
            node.digest = digest_of(path, node)
            self.digest = signed64(self.digest + node.digest)

    def __len__(self) -> int:
        """How many znodes there are, the root once."""
        return len(self.nodes) - 1

    def acl(self, node: Znode) -> Acl:
        """Return the ACL of a znode."""
        return self.acls.acl(node.acl)

    def kind(self, node: Znode) -> Kind:
        """Tell what sort of znode it is."""
        return kind_of(node.owner, extended=self.extended)

    def stat(self, node: Znode) -> bytes:
        """Return the bytes of a znode's Stat."""
        return node.stat(self.extended)

    # ---- transactions ----

    def apply(
        self,
        kind: int,
        session_id: int,
        zxid: int,
        time_ms: int,
        fields: Fields,
        digests: Mapping[str, int] = _NONE_KNOWN,
    ) -> Result:
        """Apply a transaction: its type, its header's numbers and the fields of its body.

        Whoever prepared it on this very tree has ``digests`` of the znodes as they will be, and
        saves the work of summing them again.
        """
        self._known_digests = digests
        result = self._apply(kind, session_id, zxid, time_ms, fields)
        self._known_digests = _NONE_KNOWN
        self.last_zxid = max(self.last_zxid, zxid)
        return result

    def replay(self, payload: bytes) -> int | Literal[False] | None:
        """Apply a transaction of a log, where it is plain (fast/apply.c).

        Returns:
            The digest that it carries, None if none; False: nothing happened, it is for ``apply``.
        """
        return replay(self, payload)

    def verify(self, digest: int | None) -> bool:
        """Hold the digest that the last transaction carries, None if none, against the tree's."""
        if not self.last_zxid % DIGEST_EVERY and self.digests and self.last_zxid:
            self.digest_log.append((self.last_zxid, self.digest))
        if digest is None or not self.digests or digest == self.digest:
            return True
        self.mismatches += 1
        return False

    def _apply(
        self, kind: int, session_id: int, zxid: int, time_ms: int, fields: Fields
    ) -> Result:  # fmt: skip
        result = Result(kind)
        try:
            if kind in (_SET_DATA, _RECONFIG):
                result.path, data, version = fields
                result.stat = self.set_data(result.path, data, version, zxid, time_ms)
            elif kind in _CREATES:
                result.path = fields[0]
                node = self._create(kind, session_id, zxid, time_ms, fields)
                if kind != _CREATE:
                    result.stat = self._stat_created(result.path, node, fields[1])
            elif kind in (_DELETE, _DELETE_CONTAINER):
                (result.path,) = fields
                self.delete(result.path, zxid)
            elif kind == _SET_ACL:
                result.path, acl, version = fields
                result.stat = self.set_acl(result.path, acl, version)
            elif kind == _MULTI:
                self._apply_parts(result, session_id, zxid, time_ms, fields)
            elif kind == _CREATE_SESSION:
                (self.sessions[session_id],) = fields
            elif kind == _CLOSE_SESSION:
                self._close_session(session_id, zxid, fields)
            elif kind == _CHECK:
                result.path = fields[0]
            elif kind == _ERROR:
                (result.err,) = fields
        except Refused as refused:
            result.err = int(refused.code)
        return result

    def _stat_created(self, path: str, node: Znode, data: bytes | None) -> bytes:
        """Return the Stat of a new znode, as it was before it came to hold a quota's counts."""
        if not path.endswith(STATS_NAME):
            return self.stat(node)
        counts, node.data = node.data, data
        stat = self.stat(node)
        node.data = counts
        return stat

    def _create(
        self, kind: int, session_id: int, zxid: int, time_ms: int, fields: Fields
    ) -> Znode:  # fmt: skip
        path, data, acl = fields[:3]
        if kind == _CREATE_CONTAINER:
            owner, parent_cversion = CONTAINER_OWNER, fields[3]
        elif kind == _CREATE_TTL:
            owner, parent_cversion = owner_of_ttl(fields[4]), fields[3]
        else:
            owner, parent_cversion = session_id if fields[3] else 0, fields[4]
        return self.create(path, data, acl, owner, parent_cversion, zxid, time_ms)

    def _apply_parts(
        self, result: Result, session_id: int, zxid: int, time_ms: int, fields: Fields
    ) -> None:  # fmt: skip
        """All parts of a multi, or, if one failed, none: its error and what the others answer."""
        parts: tuple[Txn, ...] = fields[0]
        failed = any(part.type == _ERROR for part in parts)
        behind = False
        for part in parts:
            body = unpacker(BODIES[part.type])(part.data or b"", 0)[0]
            if not failed:
                answer = self._apply(part.type, session_id, zxid, time_ms, body)
            elif part.type == _ERROR:
                answer, behind = Result(_ERROR, err=body[0]), True
            else:
                err = ErrorCode.RUNTIME_INCONSISTENCY if behind else ErrorCode.OK
                answer = Result(_ERROR, err=int(err))
            result.parts.append(answer)
            result.err = result.err or answer.err

    def create(
        self,
        path: str,
        data: bytes | None,
        acl: Acl,
        owner: int,
        parent_cversion: int,
        zxid: int,
        time_ms: int,
    ) -> Znode:  # fmt: skip
        """Add a znode.

        Raises:
            Refused: NO_NODE: there is no parent; NODE_EXISTS: it is there (see above).
        """
        parent_path, name = split(path)
        parent = self.nodes.get(parent_path)
        if parent is None:
            raise Refused(ErrorCode.NO_NODE)
        if parent_cversion == -1:
            parent_cversion = int32(parent.cversion + 1)
        known = self.nodes.get(path)
        if known is not None:
            self.acls.release(known.acl)
            known.acl = self.acls.acquire(acl)
        if parent_cversion > parent.cversion:
            parent.cversion = parent_cversion
            parent.pzxid = zxid
            self._changed(parent_path, parent)
        if known is not None:
            raise Refused(ErrorCode.NODE_EXISTS)
        node = Znode(data, self.acls.acquire(acl), zxid, time_ms, owner)
        node.joins(parent)
        if parent.children is None:
            parent.children = {}
        parent.children[path] = node
        self.nodes[path] = node
        self.data_bytes += len(path) + (0 if data is None else len(data))
        if self.digests:
            digest = self._known_digests.get(path)
            if digest is None:
                digest = digest_of(path, node)
            node.digest = digest
            self.digest = signed64(self.digest + digest)
        if owner:
            self._own(path, owner)
        if parent_path.startswith(QUOTA) or self.quotas:
            self._count_created(path, parent_path, name, data)
        watches = self.watches
        if watches.data:
            watches.data.trigger(path, EventType.NODE_CREATED, zxid, acl)
        if watches.children:
            watches.children.trigger(
                parent_path or ROOT_ALIAS, EventType.NODE_CHILDREN_CHANGED, zxid, self.acl(parent)
            )
        return node

    def delete(self, path: str, zxid: int) -> None:
        """Remove a znode.

        Raises:
            Refused: NO_NODE: it or its parent is not there (see above).
        """
        parent_path, name = split(path)
        parent = self.nodes.get(parent_path)
        if parent is None:
            raise Refused(ErrorCode.NO_NODE)
        if parent.children is not None:
            parent.children.pop(path, None)
        if zxid > parent.pzxid:
            parent.pzxid = zxid
            self._changed(parent_path, parent)
        node = self.nodes.get(path)
        if node is None:
            raise Refused(ErrorCode.NO_NODE)
        if node.children:
            for below in [one for one, _ in self.walk(path)][:0:-1]:
                self.delete(below, zxid)
        del self.nodes[path]
        acl, data = self.acl(node), node.data
        self.acls.release(node.acl)
        self.data_bytes -= len(path) + (0 if data is None else len(data))
        if self.digests:
            self.digest = signed64(self.digest - node.digest)
        if node.owner:
            self._disown(path, node.owner)
        if self.quotas:
            self._count_deleted(path, parent_path, name, data)
        watches = self.watches
        told = watches.data.trigger(path, EventType.NODE_DELETED, zxid, acl) if watches.data else ()
        if watches.children:
            watches.children.trigger(path, EventType.NODE_DELETED, zxid, acl, told)
            watches.children.trigger(
                parent_path or ROOT_ALIAS, EventType.NODE_CHILDREN_CHANGED, zxid, self.acl(parent)
            )

    def set_data(
        self, path: str, data: bytes | None, version: int, zxid: int, time_ms: int
    ) -> bytes:  # fmt: skip
        """Give a znode new data; return the bytes of its Stat.

        Raises:
            Refused: NO_NODE: it is not there.
        """
        node = self.nodes.get(path)
        if node is None:
            raise Refused(ErrorCode.NO_NODE)
        before = 0 if node.data is None else len(node.data)
        after = 0 if data is None else len(data)
        node.data = data
        node.mtime = time_ms
        node.mzxid = zxid
        node.version = version
        stat = self.stat(node)
        self._changed(path, node)
        self.data_bytes += after - before
        if self.quotas and (above := self.quotas.above(path)) is not None:
            self._count(above, bytes_more=after - before, znodes_more=0)
        if self.watches.data:
            self.watches.data.trigger(path, EventType.NODE_DATA_CHANGED, zxid, self.acl(node))
        return stat

    def set_acl(self, path: str, acl: Acl, version: int) -> bytes:
        """Give a znode a new ACL; return the bytes of its Stat.

        Raises:
            Refused: NO_NODE: it is not there.
        """
        node = self.nodes.get(path)
        if node is None:
            raise Refused(ErrorCode.NO_NODE)
        self.acls.release(node.acl)
        node.acl = self.acls.acquire(acl)
        node.aversion = version
        self._changed(path, node)
        return self.stat(node)

    def _changed(self, path: str, node: Znode) -> None:
        if self.digests:
            before = node.digest
            known = self._known_digests.get(path)
            node.digest = after = digest_of(path, node) if known is None else known
            self.digest = signed64(self.digest + after - before)

    # ---- owners ----

    def _own(self, path: str, owner: int) -> None:
        kind = kind_of(owner, extended=self.extended)
        if kind is Kind.CONTAINER:
            self.containers[path] = None
        elif kind is Kind.TTL:
            self.ttls[path] = None
        else:
            self.ephemerals.setdefault(owner, {})[path] = None

    def _disown(self, path: str, owner: int) -> None:
        kind = kind_of(owner, extended=self.extended)
        if kind is Kind.CONTAINER:
            self.containers.pop(path, None)
        elif kind is Kind.TTL:
            self.ttls.pop(path, None)
        elif (paths := self.ephemerals.get(owner)) is not None:
            paths.pop(path, None)
            if not paths:
                del self.ephemerals[owner]

    def _close_session(self, session_id: int, zxid: int, fields: Fields) -> None:
        """End a session: the paths that the transaction names, and what else it owned here."""
        self.sessions.pop(session_id, None)
        named: Iterable[str] = fields[0] if fields else ()
        for path in dict.fromkeys([*named, *self.ephemerals.get(session_id, ())]):
            try:
                self.delete(path, zxid)
            except Refused:
                continue  # gone already: the log is replayed over a later snapshot
        self.ephemerals.pop(session_id, None)

    def kill_session(self, session_id: int) -> None:
        """Remove the ephemerals of a session that nobody knows; after a restart."""
        self._close_session(session_id, self.last_zxid, ())

    # ---- quotas ----

    def _count_created(self, path: str, parent: str, name: str, data: bytes | None) -> None:
        if parent.startswith(QUOTA):
            subtree = parent[len(QUOTA) :]
            if name == LIMITS_NAME:
                self.quotas.add(subtree)
            elif name == STATS_NAME:
                self._recount(subtree)
        if (above := self.quotas.above(path)) is not None:
            self._count(above, bytes_more=len(data or b""), znodes_more=1)

    def _count_deleted(self, path: str, parent: str, name: str, data: bytes | None) -> None:
        if parent.startswith(QUOTA) and name == LIMITS_NAME:
            self.quotas.remove(parent[len(QUOTA) :])
        if (above := self.quotas.above(path)) is not None:
            self._count(above, bytes_more=-len(data or b""), znodes_more=-1)

    def _count(self, subtree: str, *, bytes_more: int, znodes_more: int) -> None:
        node = self.nodes.get(stats_path(subtree))
        if node is None:
            return
        figures = Figures(node.data)
        figures["count"] += znodes_more
        figures["bytes"] += bytes_more
        node.data = figures.encode()

    def _recount(self, subtree: str) -> None:
        """Count a subtree anew into its stats znode."""
        stats = self.nodes.get(stats_path(subtree))
        if stats is None:
            return
        znodes = data_bytes = 0
        for _, node in self.walk(subtree):
            znodes += 1
            data_bytes += len(node.data or b"")
        figures = Figures()
        figures["count"], figures["bytes"] = znodes, data_bytes
        stats.data = figures.encode()

    def walk(self, top: str = ROOT) -> Iterator[tuple[str, Znode]]:
        """Yield a subtree, parents first; the tree may change meanwhile."""
        node = self.nodes.get(top)
        if node is None:
            return
        yield top, node
        waiting = [iter(list(node.children or ()))]
        while waiting:
            path = next(waiting[-1], None)
            if path is None:
                waiting.pop()
                continue
            node = self.nodes.get(path)
            if node is None:
                continue
            yield path, node
            if node.children:
                waiting.append(iter(list(node.children)))

    # ---- snapshots ----

    def snapshot_nodes(self) -> Iterator[SnapshotNode]:
        """Yield every znode as a snapshot keeps it, in the order of ``walk``.

        ``Walk`` makes the same znodes' bytes, a hundred times as fast.
        """
        for path, node in self.walk():
            yield SnapshotNode(
                path, node.data, node.acl, node.czxid, node.mzxid, node.ctime, node.mtime,
                node.version, node.cversion, node.aversion, node.owner, node.pzxid,
            )  # fmt: skip

    @classmethod
    def from_snapshot(
        cls,
        sessions: Mapping[int, int],
        acls: Mapping[int, Acl],
        nodes: Iterable[SnapshotNode] | SnapshotReader,
        *,
        extended: bool = False,
        digests: bool = True,
    ) -> Tree:
        """Build the tree of a snapshot.

        ACLs stand before the znodes, so a znode may have one that came up while it was written: the
        log says which.  From a reader, C takes the plain znodes (fast/snapshot.c).

        Raises:
            KeyError: A znode comes without its parent; the message is the path.
        """
        tree = cls(extended=extended, digests=digests)
        tree.sessions = dict(sessions)
        tree.acls.load(acls)
        tree.nodes, tree.digest, tree.data_bytes = {}, 0, 0
        known = {AclTable.OPEN_INDEX, *acls}
        if isinstance(nodes, SnapshotReader):
            nodes = nodes.nodes(partial(load, tree))
        for (
            path,
            data,
            acl,
            czxid,
            mzxid,
            ctime,
            mtime,
            version,
            cversion,
            aversion,
            owner,
            pzxid,
        ) in nodes:
            if path and split(path)[0] not in tree.nodes:
                raise KeyError(path)
            if acl in known:
                tree.acls.use(acl)
            else:
                acl = tree.acls.acquire(NOBODYS_ACL)  # noqa: PLW2901
            node = Znode(data, acl, czxid, ctime, owner)
            node.mzxid, node.mtime, node.pzxid = mzxid, mtime, pzxid
            node.version, node.cversion, node.aversion = version, cversion, aversion
            tree._put(path, node)
            if owner:
                tree._own(path, owner)
        if ROOT not in tree.nodes:
            raise KeyError(ROOT)
        tree.nodes[ROOT_ALIAS] = tree.nodes[ROOT]
        tree.acls.drop_unused()
        tree._find_quotas()
        return tree

    def _find_quotas(self) -> None:
        for path, _ in list(self.walk(QUOTA)):
            parent, name = split(path)
            if name == LIMITS_NAME:
                subtree = parent[len(QUOTA) :]
                self.quotas.add(subtree)
                self._recount(subtree)

    # ---- its rules ----

    def check(self) -> None:
        """Hold the tree against its rules; AssertionError where one is broken."""
        digest = 0
        for path, node in self.nodes.items():
            if path == ROOT_ALIAS:
                continue
            digest += digest_of(path, node) if self.digests else 0
            # Every znode but the root is named by its parent, and every name is a znode.
            if path and path not in (self.nodes[split(path)[0]].children or ()):
                raise AssertionError(f"{path}: its parent does not name it")
            for child in node.children or ():
                if child not in self.nodes:
                    raise AssertionError(f"{child} is named but is not there")
            # A znode with an owner stands in the table of its kind.
            kind = self.kind(node)
            table: Mapping[str, None] = {
                Kind.CONTAINER: self.containers,
                Kind.TTL: self.ttls,
                Kind.EPHEMERAL: self.ephemerals.get(node.owner, {}),
                Kind.PERSISTENT: {path: None},
            }[kind]
            if path not in table:
                raise AssertionError(f"{path}: no table of {kind.value} znodes has it")
        # The digest is the sum of the znodes'.
        if self.digests and signed64(digest) != self.digest:
            raise AssertionError(f"digest {self.digest}, the znodes' is {signed64(digest)}")
        # The special znodes are there.
        if not self.nodes.keys() >= SPECIAL:
            raise AssertionError(f"missing: {SPECIAL - self.nodes.keys()}")
        self.watches.data.check()
        self.watches.children.check()


_CREATES: Final = frozenset(
    (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL)
)
