r"""Who changed what: the lines of ZooKeeper's audit log, made where changes come about.

    session=0x1.. <tab> user=me,127.0.0.1 <tab> ip=127.0.0.1 <tab> operation=create <tab>
    znode=/a <tab> znode_type=persistent <tab> acl=world:anyone:cdrwa <tab> result=success

A field that an operation does not have is left out: a start of the server has user, operation and
result.  Told of are creates, deletes, setData, setAcl, the parts of a multi, reconfig, refused or
not, and the ephemerals that go with a session.  Reads are not, nor what the server does of itself.

``Audited`` is the machine with ears.  It overrides what the server calls, and nothing within, so
that a server without an audit log runs the plain machine and pays nothing:

    receive         every request, for none goes to C; was a write taken, remember who, from where,
                    and what they asked for
    take_proposals  the transaction that it became, in the same order within a session
    committed       it is on the disk and applied: tell, before its reply leaves

Where Apache's says little, so does this: a refused multi is one line without paths, a sequential
znode of a multi has no type, a create with flags that do not exist has no line.  Control characters
in what a client sent come as \xNN: nobody writes a line that they did not earn.

Left to others: where the lines go, and start and stop of the server (server/zookeeper/audit.py).

Source: ``AuditEvent.java``, ``AuditHelper.java``, ``DataTree.java`` (deleteNodes).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from stratalog.core.zookeeper.identity import Scheme
from stratalog.core.zookeeper.prepare import Prepared
from stratalog.core.zookeeper.standalone import Client, Options, Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import JuteError
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.messages import REQUESTS, MultiHeader
from stratalog.wire.zookeeper.records import ACL, Id, OpCode, Permission
from stratalog.wire.zookeeper.txns import TxnHeader, body_fields

_request_header: Final = struct.Struct(">ii").unpack_from
_REQUEST_HEADER_BYTES: Final = 8
_multi_header: Final = unpacker(MultiHeader)
_txn_header: Final = unpacker(TxnHeader)

_CREATES: Final = frozenset(
    (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL)
)
_OPERATIONS: Final[dict[int, str]] = {
    **dict.fromkeys(_CREATES, "create"),
    OpCode.DELETE: "delete",
    OpCode.SET_DATA: "setData",
    OpCode.SET_ACL: "setAcl",
    OpCode.MULTI: "multiOperation",
    OpCode.RECONFIG: "reconfig",
}
_TTL: Final = frozenset((5, 6))
_PATH: Final = OpCode.GET_ACL
"""Of a request that is a path and nothing else."""
_IN_MULTI: Final = frozenset((*_CREATES, OpCode.DELETE, OpCode.SET_DATA))
_EPHEMERAL_GONE: Final = "ephemeralZNodeDeletionOnSessionCloseOrExpire"
_MODES: Final = (
    "persistent", "ephemeral", "persistent_sequential", "ephemeral_sequential", "container",
    "persistent_with_ttl", "persistent_sequential_with_ttl",
)  # fmt: skip
"""By the flags of a create."""
_LETTERS: Final = (
    (Permission.CREATE, "c"), (Permission.DELETE, "d"), (Permission.READ, "r"),
    (Permission.WRITE, "w"), (Permission.ADMIN, "a"),
)  # fmt: skip
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Result(Enum):
    """How it went."""

    SUCCESS = "success"
    FAILURE = "failure"
    INVOKED = "invoked"


@dataclass(frozen=True, slots=True)
class Event:
    """What one line tells; None: there is no such field."""

    operation: str
    result: Result
    user: str | None = None
    session: str | None = None
    ip: str | None = None
    znode: str | None = None
    znode_type: str | None = None
    acl: str | None = None

    @property
    def line(self) -> str:
        """The line, without an end."""
        fields = (
            ("session", self.session), ("user", self.user), ("ip", self.ip),
            ("operation", self.operation), ("znode", self.znode),
            ("znode_type", self.znode_type), ("acl", self.acl), ("result", self.result.value),
        )  # fmt: skip
        return "\t".join(f"{name}={_plain(text)}" for name, text in fields if text is not None)


def _plain(text: str) -> str:
    return _CONTROL.sub(_escaped, text) if _CONTROL.search(text) else text


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def acl_text(acl: Iterable[ACL]) -> str:
    """Return an ACL as one text: ``scheme:id:cdrwa``, one behind the other."""
    return "".join(
        f"{_or_null(one.id.scheme)}:{_or_null(one.id.id)}:"
        + "".join(letter for bit, letter in _LETTERS if one.perms & bit)
        for one in acl
    )


def _or_null(text: str | None) -> str:
    return "null" if text is None else text


def address_text(address: str) -> str:
    """Return an address as Java shows it: all eight groups of IPv6, a mapped IPv4 as IPv4."""
    bare, percent, scope = address.partition("%")
    try:
        known = ipaddress.ip_address(bare)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return bare
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    groups = (f"{int(group, 16):x}" for group in known.exploded.split(":"))
    return ":".join(groups) + percent + scope


def users_of(identities: Iterable[Id], schemes: Mapping[str, Scheme]) -> str | None:
    """Return the names of all identities of a connection; None: there is none."""
    names = []
    for known in identities:
        name = known.id or ""
        if known.scheme not in schemes:
            continue
        if known.scheme == "digest":
            name = name.partition(":")[0]
        elif known.scheme == "ip":
            name = address_text(name)
        if name.strip():
            names.append(name)
    return ",".join(names) or None


def session_text(session_id: int) -> str:
    """Return a session's id as the log has it."""
    return f"0x{session_id & 0xFFFFFFFFFFFFFFFF:x}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A write that was taken: what it asks for, and who asks."""

    kind: int
    frame: bytes
    user: str | None
    session: str
    ip: str

    def event(self, operation: str, result: Result, **more: str | None) -> Event:
        return Event(operation, result, self.user, self.session, self.ip, **more)


@dataclass(slots=True)
class _Due:
    """What is to be told once a zxid is committed; ``closes`` is the session that then ends."""

    zxid: int
    events: list[Event] = field(default_factory=list)
    closes: int | None = None
    listed: tuple[str, ...] = ()


class Audited(Standalone):
    """One server's machine that tells of every change.

    Args:
        tree: As the machine wants it.
        options: As the machine wants them.
        schemes: As the machine wants them.
        now_ms: As the machine wants it.
        user: Who runs the server: it is they who delete ephemerals.
        tell: Takes each event.
    """

    def __init__(
        self,
        tree: Tree,
        options: Options,
        *,
        schemes: Mapping[str, Scheme] | None = None,
        now_ms: int,
        user: str,
        tell: Callable[[Event], None],
    ) -> None:
        self._asked: dict[int, deque[_Asked]] = {}
        self._due: deque[_Due] = deque()
        self._damaged: list[_Due] = []
        self._server_user = user
        self._tell = tell
        lost = {
            owner: list(paths)
            for owner, paths in tree.ephemerals.items()
            if owner not in tree.sessions
        }
        super().__init__(tree, options, schemes=schemes, now_ms=now_ms)
        self.fast = False  # every request comes by here
        for owner, paths in lost.items():
            for path in paths:
                tell(self._ephemeral(owner, path, Result.SUCCESS))

    def receive(self, client: Client, frame: bytes) -> None:
        """Take a frame of a client, and remember it if it became a write."""
        if client.session is None or client.held is not None or len(frame) < _REQUEST_HEADER_BYTES:
            super().receive(client, frame)
            return
        _, kind = _request_header(frame)
        if kind not in _OPERATIONS:
            super().receive(client, frame)
            return
        identities, before = tuple(client.identities), self.waiting
        super().receive(client, frame)
        asked = _Asked(
            kind, frame, users_of(identities, self.schemes),
            session_text(client.session_id), address_text(client.address),
        )  # fmt: skip
        if self.waiting > before:
            self._asked.setdefault(client.session_id, deque()).append(asked)
        elif client.farewell is None:
            # It could not be read, and there is no transaction: its turn is behind the last one.
            due = _Due(self.preparer.zxid, _damaged(asked))
            if before:
                self._damaged.append(due)
            else:
                self._tell_all(due.events)

    def _tell_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self._tell(event)

    def take_proposals(self) -> list[Prepared]:
        """Return the transactions prepared since the last call, and look at each."""
        proposals = super().take_proposals()
        for proposal in proposals:
            due = self._look(proposal.payload)
            if due is not None:
                self._due.append(due)
        return proposals

    def committed(self, zxid: int) -> None:
        """Apply every waiting write up to ``zxid``, and tell of each."""
        if self._damaged:
            self._due = deque(sorted((*self._due, *self._damaged), key=lambda due: due.zxid))
            self._damaged.clear()
        while self._due and self._due[0].zxid <= zxid:
            due = self._due.popleft()
            if due.closes is not None:
                super().committed(due.zxid - 1)
                due.events = self._gone(due.closes, due.listed)
            super().committed(due.zxid)
            self._tell_all(due.events)
        super().committed(zxid)

    def _look(self, payload: bytes) -> _Due | None:
        """Return what is to be told of a transaction."""
        (session_id, _, zxid, _, kind), at = _txn_header(payload, 0)
        if kind == OpCode.CLOSE_SESSION:
            fields, _ = body_fields(kind, payload, at)
            return _Due(zxid, closes=session_id, listed=fields[0])
        if kind != OpCode.ERROR and kind not in _OPERATIONS:
            return None
        waiting = self._asked.get(session_id)
        if waiting is None:
            return None  # the server's own
        asked = waiting.popleft()
        if not waiting:
            del self._asked[session_id]
        fields, _ = body_fields(kind, payload, at)
        return _Due(zxid, _events(asked, kind, fields))

    def _gone(self, session_id: int, listed: Iterable[str]) -> list[Event]:
        """Return what is told of a session's ephemerals, just before they go."""
        owned = self.tree.ephemerals.get(session_id, {})
        return [
            self._ephemeral(session_id, path, Result.SUCCESS if path in owned else Result.FAILURE)
            for path in dict.fromkeys([*listed, *owned])
        ]

    def _ephemeral(self, session_id: int, path: str, result: Result) -> Event:
        return Event(
            _EPHEMERAL_GONE, result, self._server_user, session_text(session_id), znode=path
        )


def _events(asked: _Asked, kind: int, fields: tuple[Any, ...]) -> list[Event]:
    """Return what is told of a request that became a transaction of type ``kind``."""
    operation = _OPERATIONS[asked.kind]
    if asked.kind == OpCode.MULTI:
        failure = asked.event(operation, Result.FAILURE)
        return [failure] if kind == OpCode.ERROR else _parts(asked, fields, failure)
    path: str | None = None
    mode: str | None = None
    acl: str | None = None
    request = _fields_of(asked.kind, asked.frame)
    if asked.kind != OpCode.RECONFIG:
        path = request[0]
    if asked.kind in _CREATES:
        mode = _mode(request[3])
        if mode is None:
            return []
    elif asked.kind == OpCode.SET_ACL:
        acl = acl_text(request[1])
    result = Result.FAILURE if kind == OpCode.ERROR else Result.SUCCESS
    if result is Result.SUCCESS:
        path = fields[0]
    return [asked.event(operation, result, znode=path, znode_type=mode, acl=acl)]


def _damaged(asked: _Asked) -> list[Event]:
    """Return what is told of a request that cannot be read: as much of it as can."""
    operation = _OPERATIONS[asked.kind]
    if asked.kind == OpCode.SET_ACL:
        return []
    if asked.kind == OpCode.RECONFIG:
        return [asked.event(operation, Result.FAILURE)]
    path: str | None = None
    mode = _MODES[0] if asked.kind in _CREATES else None
    try:
        path = _fields_of(_PATH, asked.frame)[0]
        if mode is not None:  # a createTTL begins like any other create
            mode = _mode(_fields_of(OpCode.CREATE, asked.frame)[3])
            if mode is None:
                return []
    except JuteError:
        pass  # what was read so far is told
    return [asked.event(operation, Result.FAILURE, znode=path, znode_type=mode)]


def _fields_of(kind: int, frame: bytes) -> tuple[Any, ...]:
    fields: tuple[Any, ...] = unpacker(REQUESTS[kind])(frame, _REQUEST_HEADER_BYTES)[0]
    return fields


def _parts(asked: _Asked, fields: tuple[Any, ...], failure: Event) -> list[Event]:
    """Return what is told of a multi: each of its changes, or that it failed."""
    modes = _modes_of_multi(asked.frame)
    if modes is None:
        return []
    if any(part.type == OpCode.ERROR for part in fields[0]):
        return [failure]
    events: list[Event] = []
    for part in fields[0]:
        if part.type not in _IN_MULTI:
            continue
        path = body_fields(part.type, part.data or b"")[0][0]
        mode = modes.get(path) if part.type in _CREATES else None
        operation = _OPERATIONS[part.type]
        events.append(asked.event(operation, Result.SUCCESS, znode=path, znode_type=mode))
    return events


def _modes_of_multi(frame: bytes) -> dict[str, str] | None:
    """Types of the znodes that a multi creates, by the path asked for; None: one is no type."""
    modes: dict[str, str] = {}
    at = _REQUEST_HEADER_BYTES
    while True:
        (kind, done, _), at = _multi_header(frame, at)
        if done:
            return modes
        request, at = unpacker(REQUESTS[kind])(frame, at)
        # A createTTL with other flags than those of a TTL counts as a plain create.
        if kind in _CREATES and (kind != OpCode.CREATE_TTL or request[3] not in _TTL):
            mode = _mode(request[3])
            if mode is None:
                return None
            modes[request[0]] = mode


def _mode(flags: int) -> str | None:
    return _MODES[flags] if 0 <= flags < len(_MODES) else None
