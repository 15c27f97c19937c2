"""A write is decided: against the tree, and against the changes on their way to it.

    tree  <--applied--  [ change, change, ... ]  <--prepared--  request
                          by path: the newest
                          by zxid: the oldest first

A request is checked against what a znode *will be*, so that many can be on their way at once.  What
comes out is a transaction: new versions instead of expected ones, final names of sequential znodes,
the ephemerals that a closing session takes along, and the digest that the tree will have.

A refused request is a transaction too, of type error: it takes a zxid and is logged like the rest.

The checks stand in the order of Apache's, which decides the error code when several fail.

Source: ``PrepRequestProcessor.java``, ``ZooKeeperServer.java`` (checkQuota).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stratalog.core.zookeeper._fast import Outlook, Prepared, Queue
from stratalog.core.zookeeper.identity import OPEN_ACL, Acl, Scheme, allows, settled
from stratalog.core.zookeeper.paths import ROOT, ROOT_ALIAS, SPECIAL, is_valid, split
from stratalog.core.zookeeper.quotas import Figures, exceeds, limits_path, stats_path
from stratalog.core.zookeeper.refusal import Refused
from stratalog.core.zookeeper.sessions import Session
from stratalog.core.zookeeper.tree import Fields, Tree
from stratalog.core.zookeeper.znode import (
    CONTAINER_OWNER,
    TTL_MS_MAX,
    Change,
    Kind,
    digest_of,
    int32,
    kind_of,
    owner_of_ttl,
    signed64,
)
from stratalog.errors import JuteError
from stratalog.wire.jute import Record, packer, unpacker
from stratalog.wire.zookeeper.messages import REQUESTS, MultiHeader
from stratalog.wire.zookeeper.records import ErrorCode, Id, OpCode, Permission
from stratalog.wire.zookeeper.txns import BODIES, DIGEST_VERSION, Txn, TxnDigest, TxnHeader

__all__ = ["WRITES", "Prepared", "Preparer", "Rules"]

_pack_header: Final = packer(TxnHeader)
_pack_digest: Final = packer(TxnDigest)
_pack_body: Final = {kind: packer(body) for kind, body in BODIES.items()}
_unpack_request: Final = {kind: unpacker(record) for kind, record in REQUESTS.items()}
_unpack_multi_header: Final = unpacker(MultiHeader)

_MAY_READ: Final = int(Permission.READ)
_MAY_WRITE: Final = int(Permission.WRITE)
_MAY_CREATE: Final = int(Permission.CREATE)
_MAY_DELETE: Final = int(Permission.DELETE)
_MAY_ADMIN: Final = int(Permission.ADMIN)

_SEQUENTIAL: Final = frozenset((2, 3, 6))
_EPHEMERAL: Final = frozenset((1, 3))
_TTL: Final = frozenset((5, 6))
_CONTAINER: Final = 4
_FLAGS_MAX: Final = 6
_PLAIN_CREATES: Final = frozenset((OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER))

WRITES: Final = frozenset(
    (
        OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL, OpCode.DELETE,
        OpCode.SET_DATA, OpCode.SET_ACL, OpCode.RECONFIG, OpCode.MULTI,
    )
)  # fmt: skip
"""Requests of clients that become transactions.

deleteContainer is the server's own: Apache's takes it from clients too, and asks for no permission.
"""

_IN_MULTI: Final[dict[int, type[Record]]] = {
    kind: REQUESTS[kind]
    for kind in (
        OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL, OpCode.DELETE,
        OpCode.SET_DATA, OpCode.CHECK,
    )
}  # fmt: skip

# Looking a member up in an enum takes 0.1 us, and a request would do it twenty times.
_CHECK: Final = int(OpCode.CHECK)
_CLOSE_SESSION: Final = int(OpCode.CLOSE_SESSION)
_CREATE: Final = int(OpCode.CREATE)
_CREATE2: Final = int(OpCode.CREATE2)
_CREATE_CONTAINER: Final = int(OpCode.CREATE_CONTAINER)
_CREATE_SESSION: Final = int(OpCode.CREATE_SESSION)
_CREATE_TTL: Final = int(OpCode.CREATE_TTL)
_DELETE: Final = int(OpCode.DELETE)
_DELETE_CONTAINER: Final = int(OpCode.DELETE_CONTAINER)
_ERROR: Final = int(OpCode.ERROR)
_MULTI: Final = int(OpCode.MULTI)
_SET_ACL: Final = int(OpCode.SET_ACL)
_SET_DATA: Final = int(OpCode.SET_DATA)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a server's configuration lets a request do.

    Attributes:
        reconfig_enabled: Reconfiguration is not refused at once.
        enforce_quota: Hard limits of quotas are errors.
        skip_acl: Everybody may do everything.
        close_session_paths: A closeSession transaction lists its ephemerals.
        txn_bytes_max: A larger transaction is refused before it is logged: nobody could read it.
    """

    reconfig_enabled: bool = False
    enforce_quota: bool = False
    skip_acl: bool = False
    close_session_paths: bool = True
    txn_bytes_max: int = 2 * 0xFFFFF


class Preparer(Outlook):
    """Decides writes, one after the other, and gives each a zxid; C decides plain ones for it.

    A ``Prepared`` is a transaction on its way: what the log gets, and what applying it wants.  Its
    ``digests`` are those of the znodes that it touches, as they will be; a gone one has 0.
    """

    def __init__(self, tree: Tree, schemes: Mapping[str, Scheme], rules: Rules) -> None:
        self.tree = tree
        self.rules = rules
        self.zxid = tree.last_zxid
        self._schemes = schemes
        self._by_path = {}
        self._changes = Queue()
        self._digest = tree.digest
        self._undo: list[tuple[str, Change | None]] = []
        self._digests: dict[str, int] = {}
        self._digest_before = tree.digest
        self._now_ms = 0

    @property
    def rules(self) -> Rules:
        """What a request may do."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self._txn_bytes_max, self._enforce_quota = rules.txn_bytes_max, rules.enforce_quota

    @property
    def outstanding(self) -> int:
        """How many changes are on their way."""
        return len(self._changes)

    # ---- requests in, transactions out ----

    def prepare(
        self,
        kind: int,
        data: bytes,
        at: int,
        session: Session | None,
        identities: Sequence[Id],
        cxid: int,
        time_ms: int,
    ) -> Prepared:
        """Decide a request of a client.

        Args:
            kind: One of WRITES.
            data: Its frame; the request's record begins at ``at``.
            at: Where.
            session: Whose it is; None is the server itself.
            identities: Who asks.
            cxid: The request's xid.
            time_ms: Now, since 1970-01-01 UTC.

        Raises:
            JuteError: The record is damaged: there is no transaction, and no zxid is taken.
        """
        request: Any = None
        if kind != _MULTI:
            request = _unpack_request[kind](data, at)[0]
        self._begin(time_ms)
        session_id = 0 if session is None else session.session_id
        try:
            if request is None:
                fields = self._multi(data, at, session, identities)
            else:
                fields = self._one(kind, request, session, identities)
        except (Refused, JuteError) as error:
            code = error.code if isinstance(error, Refused) else ErrorCode.MARSHALLING_ERROR
            kind, fields = _ERROR, (int(code),)
        prepared = self._finish(kind, session_id, cxid, fields)
        if len(prepared.payload) > self.rules.txn_bytes_max and kind != _ERROR:
            # Logged, it would be refused by every reader, this server's next start included.
            self._take_back()
            prepared = self._finish(_ERROR, session_id, cxid, (int(ErrorCode.MARSHALLING_ERROR),))
        return prepared

    def create_session(
        self, session_id: int, cxid: int, timeout_ms: int, time_ms: int
    ) -> Prepared:  # fmt: skip
        """Make the transaction by which a session begins."""
        self._begin(time_ms)
        return self._finish(_CREATE_SESSION, session_id, cxid, (timeout_ms,))

    def close_session(self, session_id: int, cxid: int, time_ms: int) -> Prepared:
        """Make the transaction by which a session ends, with all its ephemerals."""
        self._begin(time_ms)
        paths = dict(self.tree.ephemerals.get(session_id, {}))
        for change in self._changes:
            if change.gone:
                paths.pop(change.path, None)
            elif change.owner == session_id:
                paths[change.path] = None
        for path in paths:
            self._remove(path)
        fields: Fields = (tuple(paths),) if self.rules.close_session_paths else ()
        prepared = self._finish(_CLOSE_SESSION, session_id, cxid, fields)
        if len(prepared.payload) > self.rules.txn_bytes_max:
            # Whoever applies it takes the ephemerals that it knows of, listed or not.
            prepared = self._finish(_CLOSE_SESSION, session_id, cxid, ((),))
        return prepared

    def _begin(self, time_ms: int) -> None:
        self.zxid += 1
        self._now_ms = time_ms
        self._undo = []
        self._digests = {}
        self._digest_before = self._digest

    def _finish(self, kind: int, session_id: int, cxid: int, fields: Fields) -> Prepared:
        body = _pack_body[kind](*fields) if fields else b""
        header = _pack_header(session_id, cxid, self.zxid, self._now_ms, kind)
        digest = self._digest if self.tree.digests else None
        if digest is None:
            payload = header + body
        else:
            payload = b"".join((header, body, _pack_digest(DIGEST_VERSION, digest)))
        return Prepared(
            kind, session_id, cxid, self.zxid, self._now_ms, fields, digest, payload, self._digests
        )

    # ---- what will be ----

    def _find(self, path: str) -> Change | None:
        """Return what a znode will be; None: it will not be there."""
        if path == ROOT_ALIAS:
            path = ROOT
        change = self._by_path.get(path)
        if change is not None:
            return None if change.gone else change
        node = self.tree.nodes.get(path)
        if node is None:
            return None
        change = Change(path, -1)
        change.data, change.acl, change.digest = node.data, self.tree.acl(node), node.digest
        change.czxid, change.mzxid, change.pzxid = node.czxid, node.mzxid, node.pzxid
        change.ctime, change.mtime, change.owner = node.ctime, node.mtime, node.owner
        change.version, change.cversion = node.version, node.cversion
        change.aversion = node.aversion
        change.children_count = 0 if node.children is None else len(node.children)
        return change

    def _get(self, path: str) -> Change:
        change = self._find(path)
        if change is None:
            raise Refused(ErrorCode.NO_NODE)
        return change

    def _copy(self, known: Change) -> Change:
        """Return the change to make of what a znode will be; it is entered by ``_enter``."""
        if known.zxid == -1:
            known.zxid = self.zxid  # made for us just now, and nobody's yet
            return known
        change = Change(known.path, self.zxid)
        change.data, change.acl, change.digest = known.data, known.acl, known.digest
        change.czxid, change.mzxid, change.pzxid = known.czxid, known.mzxid, known.pzxid
        change.ctime, change.mtime, change.owner = known.ctime, known.mtime, known.owner
        change.version, change.cversion = known.version, known.cversion
        change.aversion, change.children_count = known.aversion, known.children_count
        return change

    def _enter(self, change: Change, digest_before: int) -> None:
        path = change.path
        self._undo.append((path, self._by_path.get(path)))
        self._by_path[path] = change
        self._changes.append(change)
        if self.tree.digests:
            change.digest = digest = 0 if change.gone else digest_of(path, change)
            self._digests[path] = digest
            self._digest = signed64(self._digest + digest - digest_before)

    def _remove(self, path: str) -> None:
        """A znode goes, and its parent hears of it."""
        parent = self._copy(self._get(split(path)[0]))
        node = self._get(path)
        parent.children_count -= 1
        parent.pzxid = self.zxid
        self._enter(parent, parent.digest)
        gone = Change(path, self.zxid)
        gone.gone = True
        self._enter(gone, node.digest)

    def _take_back(self) -> None:
        """Undo the changes of the transaction that is being prepared."""
        while self._changes and self._changes[-1].zxid == self.zxid:
            self._changes.pop()
        for path, before in reversed(self._undo):
            if before is None:
                del self._by_path[path]
            else:
                self._by_path[path] = before
        self._undo = []
        self._digests = {}
        self._digest = self._digest_before

    # ---- the requests ----

    def _one(
        self, kind: int, request: Fields, session: Session | None, identities: Sequence[Id]
    ) -> Fields:
        if kind == _SET_DATA:
            self._session(session)
            return self._set_data(identities, *request)
        if kind == _DELETE:
            self._session(session)
            return self._delete(identities, *request)
        if kind == _CREATE_TTL:
            return self._create(kind, session, identities, *request)
        if kind in {_CREATE, _CREATE2, _CREATE_CONTAINER}:
            path, data, acl, flags = request
            return self._create(kind, session, identities, path, data, acl, flags, -1)
        if kind == _SET_ACL:
            self._session(session)
            return self._set_acl(identities, *request)
        if kind == _CHECK:
            self._session(session)
            return self._check(identities, *request)
        if kind == _DELETE_CONTAINER:
            return self._delete_container(*request)
        if not self.rules.reconfig_enabled:
            raise Refused(ErrorCode.RECONFIG_DISABLED)
        self._session(session)
        raise Refused(ErrorCode.UNIMPLEMENTED)  # one server has nobody to reconfigure with

    def _session(self, session: Session | None) -> None:
        if session is None:
            raise Refused(ErrorCode.UNKNOWN_SESSION)
        if session.closing:
            raise Refused(ErrorCode.SESSION_EXPIRED)

    def _permit(self, change: Change, permission: int, identities: Sequence[Id]) -> None:
        if (
            change.acl is not OPEN_ACL
            and not self.rules.skip_acl
            and not allows(change.acl, permission, identities, self._schemes)
        ):
            raise Refused(ErrorCode.NO_AUTH)

    def _check_mode(self, kind: int, flags: int, ttl_ms: int) -> None:
        if not 0 <= flags <= _FLAGS_MAX:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        if flags in _TTL:
            if not self.tree.extended:
                raise Refused(ErrorCode.UNIMPLEMENTED)
            if not 1 <= ttl_ms <= TTL_MS_MAX:
                raise Refused(ErrorCode.BAD_ARGUMENTS)
        elif ttl_ms >= 0 or kind == _CREATE_TTL:
            raise Refused(ErrorCode.BAD_ARGUMENTS)

    def _create(
        self,
        kind: int,
        session: Session | None,
        identities: Sequence[Id],
        path: str | None,
        data: bytes | None,
        acl: Acl,
        flags: int,
        ttl_ms: int,
    ) -> Fields:
        self._check_mode(kind, flags, ttl_ms)
        self._session(session)
        if path is None:
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        if "/" not in path or "\0" in path:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        acl = settled(acl, identities, self._schemes)
        parent_path = path[: path.rindex("/")]
        parent = self._get(parent_path)
        self._permit(parent, _MAY_CREATE, identities)
        if flags in _SEQUENTIAL:
            path = f"{path}{parent.cversion:010d}"
        if not is_valid(path):
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        if self._find(path) is not None:
            raise Refused(ErrorCode.NODE_EXISTS)
        if parent.owner and kind_of(parent.owner, extended=self.tree.extended) is Kind.EPHEMERAL:
            raise Refused(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
        if self.rules.enforce_quota:
            self._check_quota(path, bytes_more=len(data or b""), znodes_more=1)
        parent = self._copy(parent)
        parent.cversion = cversion = int32(parent.cversion + 1)
        parent.pzxid = zxid = self.zxid
        parent.children_count += 1
        self._enter(parent, parent.digest)
        node = Change(path, zxid)
        node.data, node.acl, node.children_count = data, acl, 0
        node.czxid = node.mzxid = node.pzxid = zxid
        node.ctime = node.mtime = self._now_ms
        node.version = node.cversion = node.aversion = 0
        node.owner = _owner_of(kind, flags, session, ttl_ms)
        self._enter(node, 0)
        if kind == _CREATE_CONTAINER:
            return path, data, acl, cversion
        if kind == _CREATE_TTL:
            return path, data, acl, cversion, ttl_ms
        return path, data, acl, flags in _EPHEMERAL, cversion

    def _delete(self, identities: Sequence[Id], path: str | None, version: int) -> Fields:
        parent, path = self._parent_of(path)
        self._permit(self._get(parent), _MAY_DELETE, identities)
        node = self._get(path)
        _next_version(node.version, version)
        if node.children_count > 0:
            raise Refused(ErrorCode.NOT_EMPTY)
        self._remove(path)
        return (path,)

    def _delete_container(self, path: str | None) -> Fields:
        parent, path = self._parent_of(path)
        node = self._get(path)
        if node.children_count > 0:
            raise Refused(ErrorCode.NOT_EMPTY)
        if kind_of(node.owner, extended=self.tree.extended) is Kind.EPHEMERAL:
            raise Refused(ErrorCode.BAD_VERSION)
        self._get(parent)
        self._remove(path)
        return (path,)

    def _parent_of(self, path: str | None) -> tuple[str, str]:
        if path is None:
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        if "/" not in path or "\0" in path or path in SPECIAL:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        return path[: path.rindex("/")], path

    def _set_data(
        self, identities: Sequence[Id], path: str | None, data: bytes | None, version: int
    ) -> Fields:
        path, node = self._named(path)
        self._permit(node, _MAY_WRITE, identities)
        if self.rules.enforce_quota:
            more = len(data or b"") - len(node.data or b"")
            self._check_quota(path, bytes_more=more, znodes_more=0)
        version = _next_version(node.version, version)
        before = node.digest
        node = self._copy(node)
        node.data, node.version = data, version
        node.mtime, node.mzxid = self._now_ms, self.zxid
        self._enter(node, before)
        return path, data, version

    def _set_acl(
        self, identities: Sequence[Id], path: str | None, acl: Acl, version: int
    ) -> Fields:
        if path is None or not is_valid(path):
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        acl = settled(acl, identities, self._schemes)
        node = self._get(path)
        self._permit(node, _MAY_ADMIN, identities)
        version = _next_version(node.aversion, version)
        before = node.digest
        node = self._copy(node)
        # The new ACL guards from the time on when the tree has it, as in Apache's.
        node.aversion = version
        self._enter(node, before)
        return path, acl, version

    def _check(self, identities: Sequence[Id], path: str | None, version: int) -> Fields:
        path, node = self._named(path)
        self._permit(node, _MAY_READ, identities)
        return path, _next_version(node.version, version)

    def _named(self, path: str | None) -> tuple[str, Change]:
        """Return what the znode of a request will be; a path that names one is a valid one."""
        node = None if path is None else self._find(path)
        if node is not None and path:
            return path, node
        if path is None or not is_valid(path):
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        raise Refused(ErrorCode.NO_NODE)

    def _check_quota(self, path: str, *, bytes_more: int, znodes_more: int) -> None:
        above = self.tree.quotas.above(path)
        if above is None:
            return
        limits = self.tree.nodes.get(limits_path(above))
        if limits is None:
            return
        figures = Figures(limits.data)
        if not figures.sound:
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        stats = self.tree.nodes.get(stats_path(above))
        if stats is not None and exceeds(
            figures, Figures(stats.data), bytes_more=bytes_more, znodes_more=znodes_more
        ):
            raise Refused(ErrorCode.QUOTA_EXCEEDED)

    def _multi(
        self, data: bytes, at: int, session: Session | None, identities: Sequence[Id]
    ) -> Fields:
        """All parts, each seeing those before it; after a failure, what each part answers.

        A part that makes no sense fails the multi as a whole: MARSHALLING_ERROR.
        """
        requests: list[tuple[int, Fields]] = []
        while True:
            (kind, done, _), at = _unpack_multi_header(data, at)
            if done:
                break
            if kind not in _IN_MULTI:
                raise Refused(ErrorCode.MARSHALLING_ERROR)
            request, at = unpacker(_IN_MULTI[kind])(data, at)
            requests.append(_part(kind, request))
        if any(request[0] is None for _, request in requests):
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        parts: list[Txn] = []
        failed = False
        for kind, request in requests:
            if failed:
                parts.append(_error_part(ErrorCode.RUNTIME_INCONSISTENCY))
                continue
            try:
                fields = self._one(kind, request, session, identities)
            except Refused as refused:
                failed = True
                self._take_back()
                if refused.code == ErrorCode.MARSHALLING_ERROR:
                    raise
                parts.append(_error_part(refused.code))
            else:
                parts.append(Txn(kind, _pack_body[kind](*fields)))
        return (tuple(parts),)


def _part(kind: int, request: Fields) -> tuple[int, Fields]:
    """Return a part of a multi as it is carried out: there the flags of a create make its type.

    A create with the flags of a container makes one; a createTTL without those of a TTL makes a
    plain znode.
    """
    if kind == _CREATE_TTL:
        if request[3] in _TTL:
            return kind, request
        kind, request = _CREATE, request[:4]
    elif kind in _PLAIN_CREATES and (request[3] in _TTL or not 0 <= request[3] <= _FLAGS_MAX):
        raise Refused(ErrorCode.MARSHALLING_ERROR)
    if kind in _PLAIN_CREATES and request[3] == _CONTAINER:
        kind = _CREATE_CONTAINER
    return kind, request


def _owner_of(kind: int, flags: int, session: Session | None, ttl_ms: int) -> int:
    """By the type, which is what the transaction will be applied by; flags may say otherwise."""
    if kind == _CREATE_CONTAINER:
        return CONTAINER_OWNER
    if kind == _CREATE_TTL:
        return owner_of_ttl(ttl_ms)
    return session.session_id if flags in _EPHEMERAL and session is not None else 0


def _error_part(code: ErrorCode) -> Txn:
    return Txn(_ERROR, _pack_body[_ERROR](int(code)))


def _next_version(current: int, expected: int) -> int:
    if expected != -1 and expected != current:  # noqa: PLR1714  (a set would be made each time)
        raise Refused(ErrorCode.BAD_VERSION)
    return int32(current + 1)
