"""One server as a machine: frames in; transactions to persist, replies and events out.

                 receive(client, frame)
                    |          |
                  read        write --prepare--> waiting, in the order of zxids
                    |                               |   take_proposals(): persist these, then
                    |                               v   committed(zxid)
                    |          apply, events, reply, then the reads that wait behind it
                    v          v
                 client.out, and the client in take_talkative()

The order, which is the promise:

  - replies of a connection come in the order of its requests; a read behind a write of the same
    connection waits for it; only auth is answered at once;
  - nothing of a write is seen, and its reply does not leave, before ``committed``;
  - an event leaves before any reply that has its zxid or a later one;
  - one connection gets one event of one transaction and kind of watch.

What a client sees in a reply's zxid never falls.  A client that has seen more than this server
knows is turned away: it must find a server that is not behind.

Time is passed in by ``set_clock``; sessions expire in ``tick``.

Source: ``ZooKeeperServer.java``, ``FinalRequestProcessor.java``, ``NIOServerCnxn.java``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from stratalog.core.zookeeper._fast import (
    ClientState,
    MachineState,
    Prepared,
    Queue,
    Write,
    commit,
    feed,
    tell,
)
from stratalog.core.zookeeper.identity import (
    IDENTITIES_MAX,
    OPEN_ACL,
    SUPER,
    Acl,
    Scheme,
    allows,
    digest_of,
    standard_schemes,
)
from stratalog.core.zookeeper.prepare import WRITES, Preparer, Rules
from stratalog.core.zookeeper.reads import READS, answer
from stratalog.core.zookeeper.sasl import DigestMd5, SaslOptions, SaslRefused
from stratalog.core.zookeeper.sessions import Session, SessionTracker, password_of
from stratalog.core.zookeeper.statistics import Statistics
from stratalog.core.zookeeper.tree import Result, Tree
from stratalog.core.zookeeper.watches import EventType
from stratalog.core.zookeeper.znode import Kind, ttl_of_owner
from stratalog.errors import JuteError
from stratalog.wire.jute import packer, unpacker
from stratalog.wire.zookeeper.messages import (
    PASSWORD_BYTES,
    XID_NOTIFICATION,
    XID_PING,
    AuthPacket,
    ConnectRequest,
    ConnectResponse,
    MultiHeader,
    PathResponse,
    SaslRequest,
    WatcherEvent,
    decode_connect_request,
)
from stratalog.wire.zookeeper.records import ErrorCode, Id, OpCode, Permission

_request_header: Final = struct.Struct(">ii").unpack_from
_reply_header: Final = struct.Struct(">iiqi").pack
_REPLY_HEADER_BYTES: Final = 16
_REQUEST_HEADER_BYTES: Final = 8
_pack_path: Final = packer(PathResponse)
_pack_event: Final = packer(WatcherEvent)
_pack_token: Final = packer(SaslRequest)
_pack_multi_header: Final = packer(MultiHeader)
_MULTI_DONE: Final = _pack_multi_header(-1, True, -1)
_CONNECTED: Final = 3
_CREATES_WITH_STAT: Final = frozenset((OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL))

# Looking a member up in an enum takes 0.1 us, and a request would do it twenty times.
_AUTH: Final = int(OpCode.AUTH)
_CLOSE_SESSION: Final = int(OpCode.CLOSE_SESSION)
_CREATE: Final = int(OpCode.CREATE)
_CREATE2: Final = int(OpCode.CREATE2)
_CREATE_SESSION: Final = int(OpCode.CREATE_SESSION)
_DELETE_CONTAINER: Final = int(OpCode.DELETE_CONTAINER)
_ERROR: Final = int(OpCode.ERROR)
_MULTI: Final = int(OpCode.MULTI)
_PING: Final = int(OpCode.PING)
_SASL: Final = int(OpCode.SASL)
_SET_ACL: Final = int(OpCode.SET_ACL)
_SET_DATA: Final = int(OpCode.SET_DATA)


ANSWERS_BYTES_MAX: Final = 64 << 20
"""How much the reads behind a write may be answered with: they are answered all at once."""

LONG_ANSWER_BYTES: Final = 64 << 10
"""From here on an answer counts as a long one."""


class Farewell(Enum):
    """Why a connection is to be closed once its replies are out."""

    SESSION_CLOSED = "the session ended"
    SESSION_EXPIRED = "the session is unknown or expired"
    SESSION_TAKEN = "the client came back on another connection"
    AUTH_FAILED = "authentication failed"
    AUTH_MISSING = "authentication is required"
    ZXID_AHEAD = "the client has seen more than this server knows"
    UNKNOWN_REQUEST = "a request of an unknown type"
    DAMAGED_REQUEST = "a request that cannot be read"
    ANSWERS_TOO_LONG = "reads behind a write ask for too much at once"
    TOO_MANY_SESSIONS = "too many sessions begin at once"
    TOO_LARGE_NOW = "large requests on their way are too many"
    STALE_REQUEST = "a request waited for longer than its session would"


@dataclass(frozen=True, slots=True)
class Options:
    """What a server's configuration sets, beside the rules of writes; times in ms."""

    tick_ms: int = 3000
    session_ms_min: int = 6000
    session_ms_max: int = 60000
    server_id: int = 1
    super_digest: str | None = None
    digest_algorithm: str = "sha1"
    sasl: SaslOptions | None = None
    required_schemes: frozenset[str] = frozenset()
    container_never_used_ms_max: int = 0
    rules: Rules = field(default_factory=Rules)


class Bounds(NamedTuple):
    """How much of what a client sent is taken at once.

    Attributes:
        frame_bytes_max: The longest frame there can be.
        answer_bytes_max: No more frames are taken after so long answers.
        pending_max: No more are taken when more than so many wait.
        slow_max: No more are taken after so many that were not plain: who asks looks at the clock.
    """

    frame_bytes_max: int
    answer_bytes_max: int = 1 << 62
    pending_max: int = 1 << 62
    slow_max: int = 1 << 62


class Fed(NamedTuple):
    """What was taken.

    Attributes:
        at: Where the first frame begins that was not.
        frames: How many were.
        last: Where the body of the last one begins.
        bounded: Whether it ended because of the bounds on answers or waiting requests.
    """

    at: int
    frames: int
    last: int
    bounded: bool


class Client(ClientState):
    """A connection, as the machine knows it.

    Attributes:
        session: Its session; None before the first frame is answered, or it is refused.
        pending: Writes on their way, and the reads that wait behind them.
        held: Frames that came before the first one is answered; None: it is.
        out: What is to be sent.
        farewell: Why it is to be closed then; None: it is not.
    """

    __slots__ = ("_machine", "address", "exchange", "identities", "session_id")

    session: Session | None
    farewell: Farewell | None
    pending: Queue[Write | _Expired | bytes]

    def __init__(self, machine: Standalone, address: str) -> None:
        self._machine = machine
        self.address = address
        self.identities = [Id("ip", address)]
        self.exchange: DigestMd5 | None = None
        self.session_id = 0
        self.pending = Queue()
        self.out = []

    def may(self, acl: Acl, permission: int) -> bool:
        """Tell whether an ACL lets them."""
        if acl is OPEN_ACL:
            return True
        machine = self._machine
        return machine.options.rules.skip_acl or allows(
            acl, permission, self.identities, machine.schemes
        )

    def notify(self, event: EventType, path: str, zxid: int, acl: Acl | None) -> None:
        """Send an event, unless they may not read the znode."""
        if acl is None or self.may(acl, Permission.READ):
            body = _pack_event(int(event), _CONNECTED, path)
            self._machine.statistics.watch_bytes += _REPLY_HEADER_BYTES + len(body)
            self.send(_frame(XID_NOTIFICATION, zxid, 0, body))

    def send(self, frame: bytes) -> None:
        """Put a frame behind those on their way out; nothing follows a farewell."""
        if self.farewell is not None:
            return
        self.out.append(frame)
        if not self.talkative:
            self.talkative = True
            self._machine.talked(self)

    def close(self, why: Farewell) -> None:
        """Close the connection once what stands in ``out`` has left."""
        if self.farewell is None:
            self.farewell = why
        if not self.talkative:
            self.talkative = True
            self._machine.talked(self)


class _Expired(NamedTuple):
    """A read that came when its session was closing; its refusal waits for its turn."""

    xid: int


def _frame(xid: int, zxid: int, err: int, body: bytes) -> bytes:
    return _reply_header(_REPLY_HEADER_BYTES + len(body), xid, zxid, err) + body


class Standalone(MachineState):
    """One server.

    ``feed`` and ``committed`` go through C, which handles plain requests itself (fast/module.c) and
    gives ``receive``, ``commit_one`` and ``resume_one`` the others; all of them, where ``fast`` is
    turned off.

    Args:
        tree: What a snapshot and its log brought back, or a new one.
        options: The configuration.
        schemes: What identities there are beside the standard ones.
        now_ms: A monotonic clock.
    """

    tree: Tree
    preparer: Preparer
    tracker: SessionTracker
    statistics: Statistics

    def __init__(
        self,
        tree: Tree,
        options: Options,
        *,
        schemes: Mapping[str, Scheme] | None = None,
        now_ms: int,
    ) -> None:
        self.tree = tree
        self.options = options
        self.schemes: dict[str, Scheme] = {**standard_schemes(), **(schemes or {})}
        self.tracker = SessionTracker(
            tick_ms=options.tick_ms, server_id=options.server_id, now_ms=now_ms
        )
        for session_id in [owner for owner in tree.ephemerals if owner not in tree.sessions]:
            tree.kill_session(session_id)
        self.tracker.load(tree.sessions, now_ms)
        self.preparer = Preparer(tree, self.schemes, options.rules)
        self.clients: dict[int, Client] = {}
        self.statistics = Statistics()
        for manager in (tree.watches.data, tree.watches.children):
            manager.on_trigger = self.statistics.triggered
        self.now_ms = now_ms
        self.fast = True
        self._tick_ms = options.tick_ms
        self._strict = bool(options.required_schemes)
        self._waiting = Queue()
        self._proposals = []
        self._talkative = []

    # ---- what the server asks ----

    def set_clock(self, now_ms: int, wall_ms: int) -> None:
        """Say what time it is: monotonic, and since 1970-01-01 UTC."""
        self.now_ms, self.wall_ms = now_ms, wall_ms

    @property
    def has_proposals(self) -> bool:
        """Whether ``take_proposals`` would return any."""
        return bool(self._proposals)

    def take_proposals(self) -> list[Prepared]:
        """Return the transactions prepared since the last call; persist them in this order."""
        proposals, self._proposals = self._proposals, []
        return proposals

    def take_talkative(self) -> list[Client]:
        """Return the clients with something in ``out`` or a farewell, each once."""
        talkative, self._talkative = self._talkative, []
        for client in talkative:
            client.talkative = False
        return talkative

    def talked(self, client: Client) -> None:
        """Remember a client for ``take_talkative``."""
        self._talkative.append(client)

    @property
    def waiting(self) -> int:
        """How many writes are prepared and not committed."""
        return len(self._waiting)

    # ---- connections ----

    def connect(
        self, address: str, *, identities: Sequence[Id] = (), nonce: str = ""
    ) -> Client:  # fmt: skip
        """Welcome a connection.

        Args:
            address: Where it comes from.
            identities: What it has proved already, by its certificate.
            nonce: For its SASL exchange, fresh; "": there will be none.
        """
        client = Client(self, address)
        client.identities += identities
        if self.options.sasl is not None and nonce:
            client.exchange = DigestMd5(self.options.sasl.passwords, nonce)
        return client

    def disconnect(self, client: Client) -> None:
        """A connection is gone; its session lives on until it expires."""
        self.tree.watches.forget(client)
        client.farewell = client.farewell or Farewell.SESSION_CLOSED
        if self.clients.get(client.session_id) is client:
            del self.clients[client.session_id]
        for entry in client.pending:
            if isinstance(entry, Write):
                entry.client = None
        client.pending.clear()
        client.held = None

    def feed(self, client: Client, data: bytes, at: int, bounds: Bounds) -> Fed:
        """Take the whole frames of what a client sent, each behind its length, from ``at`` on.

        At least one is taken, if it is whole and its length can be.
        """
        return Fed(*feed(self, client, data, at, *bounds))

    def receive(self, client: Client, frame: bytes) -> None:
        """Take a frame of a client; what does not make sense ends the connection."""
        if client.farewell is not None:
            return
        session = client.session
        if session is None:
            if client.held is None:
                self._begin(client, frame)
            else:
                client.held.append(frame)
            return
        if client.held is not None:
            client.held.append(frame)
            return
        if len(frame) < _REQUEST_HEADER_BYTES:
            client.close(Farewell.DAMAGED_REQUEST)
            return
        self.tracker.touch(session, self.now_ms)
        xid, kind = _request_header(frame)
        if (
            self.options.required_schemes
            and kind not in _IDENTIFYING
            and not any(one.scheme in self.options.required_schemes for one in client.identities)
        ):
            client.send(_frame(xid, 0, int(ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH), b""))
            client.close(Farewell.AUTH_MISSING)
            return
        if kind in WRITES:
            self._write(client, session, xid, kind, frame)
        elif client.pending and kind not in _AT_ONCE:
            late = session.closing and (kind in READS or kind == _PING)
            client.pending.append(_Expired(xid) if late else frame)
        elif session.closing and (kind in READS or kind == _PING):
            self._refuse_expired(client, xid)
        else:
            self._read(client, session, xid, kind, frame)

    def _read(self, client: Client, session: Session, xid: int, kind: int, frame: bytes) -> None:
        """Answer what changes nothing, at once; its session was there when it came."""
        tree = self.tree
        if kind in READS:
            err, body = answer(tree, client, kind, frame, _REQUEST_HEADER_BYTES)
            self.statistics.reads_answered += 1
            client.send(_frame(xid, tree.last_zxid, err, body))
        elif kind == _PING:
            client.send(_frame(XID_PING, tree.last_zxid, 0, b""))
        elif kind == _AUTH:
            self._authenticate(client, xid, frame)
        elif kind == _SASL:
            self._sasl(client, xid, frame)
        elif kind == _CLOSE_SESSION:
            self._close_session(client, session.session_id, xid)
        else:
            client.send(_frame(xid, -1, int(ErrorCode.UNIMPLEMENTED), b""))
            client.close(Farewell.UNKNOWN_REQUEST)

    def _refuse_expired(self, client: Client, xid: int) -> None:
        err = int(ErrorCode.SESSION_EXPIRED)
        client.send(_frame(xid, self.tree.last_zxid, err, b""))

    def _write(self, client: Client, session: Session, xid: int, kind: int, frame: bytes) -> None:
        try:
            prepared = self.preparer.prepare(
                kind,
                frame,
                _REQUEST_HEADER_BYTES,
                session,
                client.identities,
                xid,
                self.wall_ms,
            )
        except JuteError:
            if client.pending:
                # Its place among the replies is behind the writes; there it fails the same way.
                client.pending.append(frame)
            else:
                err = int(ErrorCode.MARSHALLING_ERROR)
                client.send(_frame(xid, self.tree.last_zxid, err, b""))
            return
        self._propose(client, kind, xid, prepared)

    def _propose(self, client: Client | None, kind: int, xid: int, prepared: Prepared) -> None:
        write = Write(client, kind, xid, prepared, self.now_ms)
        self._proposals.append(prepared)
        self._waiting.append(write)
        if client is not None:
            client.pending.append(write)

    # ---- sessions ----

    def _begin(self, client: Client, frame: bytes) -> None:
        """The first frame: a session is wanted, or wanted back."""
        self.statistics.connection_requests += 1
        try:
            request, with_read_only = decode_connect_request(frame)
        except JuteError:
            client.close(Farewell.DAMAGED_REQUEST)
            return
        if request.last_zxid_seen > self.tree.last_zxid:
            client.close(Farewell.ZXID_AHEAD)
            return
        options = self.options
        timeout_ms = min(max(request.timeout, options.session_ms_min), options.session_ms_max)
        client.held = []
        if request.session_id == 0:
            session_id = self.tracker.new_id()
            session = self.tracker.track(session_id, timeout_ms, self.now_ms)
            self._attach(client, session)
            prepared = self.preparer.create_session(session_id, 0, timeout_ms, self.wall_ms)
            # The xid remembers whether the answer may have its last field.
            self._propose(client, _CREATE_SESSION, int(with_read_only), prepared)
            return
        known = self.tracker.get(request.session_id)
        if (
            known is None
            or known.closing
            or request.password != password_of(request.session_id)
        ):  # fmt: skip
            self._welcome(client, None, with_read_only=with_read_only)
            client.close(Farewell.SESSION_EXPIRED)
            return
        self.statistics.revalidations += 1
        before = self.clients.get(known.session_id)
        if before is not None:
            before.close(Farewell.SESSION_TAKEN)
        known.timeout_ms = timeout_ms
        self.tracker.touch(known, self.now_ms)
        self._attach(client, known)
        self._welcome(client, known, with_read_only=with_read_only)

    def _attach(self, client: Client, session: Session) -> None:
        client.session = session
        client.session_id = session.session_id
        self.clients[session.session_id] = client

    def _welcome(self, client: Client, session: Session | None, *, with_read_only: bool) -> None:
        """Answer the first frame, then handle those that came behind it."""
        response = (
            ConnectResponse(0, 0, 0, bytes(PASSWORD_BYTES))
            if session is None
            else ConnectResponse(
                0, session.timeout_ms, session.session_id, password_of(session.session_id)
            )
        )
        body = response.encode()
        if not with_read_only:
            body = body[:-1]
        client.send(len(body).to_bytes(4, "big") + body)
        held, client.held = client.held or [], None
        if session is not None:
            for frame in held:
                self.receive(client, frame)

    def _close_session(self, client: Client | None, session_id: int, xid: int) -> None:
        session = self.tracker.get(session_id)
        prepared = self.preparer.close_session(session_id, xid, self.wall_ms)
        if session is not None:
            session.closing = True
        self._propose(client, _CLOSE_SESSION, xid, prepared)

    def tick(self) -> None:
        """Let sessions go whose time is over."""
        for session in self.tracker.expired(self.now_ms):
            self.statistics.sessions_expired += 1
            self._close_session(None, session.session_id, 0)

    def expire(self, session_id: int) -> bool:
        """Let one session go now; tell whether there was one."""
        session = self.tracker.get(session_id)
        if session is None or session.closing:
            return False
        self._close_session(None, session_id, 0)
        return True

    def _authenticate(self, client: Client, xid: int, frame: bytes) -> None:
        """Add an identity to a connection, or end it."""
        try:
            (_, scheme, secret), _ = unpacker(AuthPacket)(frame, _REQUEST_HEADER_BYTES)
        except JuteError:
            client.close(Farewell.DAMAGED_REQUEST)
            return
        known = self.schemes.get(scheme or "")
        if scheme == "digest" and known is not None and secret is not None:
            own = digest_of(secret, self.options.digest_algorithm)
            if own == self.options.super_digest and SUPER not in client.identities:
                client.identities.append(SUPER)
            identity = Id("digest", own)
        elif scheme == "ip":
            identity = Id("ip", client.address)
        else:
            client.send(_frame(xid, 0, int(ErrorCode.AUTH_FAILED), b""))
            client.close(Farewell.AUTH_FAILED)
            return
        if identity not in client.identities:
            if len(client.identities) >= IDENTITIES_MAX:
                client.send(_frame(xid, 0, int(ErrorCode.AUTH_FAILED), b""))
                client.close(Farewell.AUTH_FAILED)
                return
            client.identities.append(identity)
        client.send(_frame(xid, 0, 0, b""))

    def _sasl(self, client: Client, xid: int, frame: bytes) -> None:
        """Take a step of the SASL exchange; without one, the answer is empty, as Apache's is."""
        try:
            (token,), _ = unpacker(SaslRequest)(frame, _REQUEST_HEADER_BYTES)
        except JuteError:
            client.close(Farewell.DAMAGED_REQUEST)
            return
        options, exchange = self.options.sasl, client.exchange
        answer: bytes | None = None
        if options is not None and exchange is not None:
            try:
                answer = exchange.evaluate(token or b"")
            except SaslRefused:
                required = "sasl" in self.options.required_schemes
                if required or not options.failed_may_stay:
                    code = (
                        ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH
                        if required
                        else ErrorCode.AUTH_FAILED
                    )
                    client.send(_frame(xid, 0, int(code), _pack_token(None)))
                    client.close(Farewell.AUTH_FAILED)
                    return
            if exchange.identity is not None:
                found = [Id("sasl", exchange.identity)]
                if exchange.identity in options.supers:
                    found.append(SUPER)
                client.identities += [one for one in found if one not in client.identities]
        client.send(_frame(xid, 0, 0, _pack_token(answer)))

    # ---- containers and times to live ----

    def candidates(self) -> list[str]:
        """Return the containers and expired znodes to delete: see ``delete_container``."""
        tree = self.tree
        found: list[str] = []
        never_used_ms_max = self.options.container_never_used_ms_max
        for path in tree.containers:
            node = tree.nodes[path]
            if node.children:
                continue
            unused_ms = self.wall_ms - node.mtime
            if node.cversion > 0 or 0 < never_used_ms_max < unused_ms:
                found.append(path)
        for path in tree.ttls:
            node = tree.nodes[path]
            if node.children or tree.kind(node) is not Kind.TTL:
                continue
            if self.wall_ms - node.mtime > ttl_of_owner(node.owner):
                found.append(path)
        return found

    def delete_container(self, path: str) -> None:
        """Propose to delete one of them; nothing happens to one that is in use again."""
        kind = _DELETE_CONTAINER
        prepared = self.preparer.prepare(kind, _pack_path(path), 0, None, (), 0, self.wall_ms)
        self._propose(None, kind, 0, prepared)

    # ---- writes come back ----

    def committed(self, zxid: int) -> None:
        """Apply every waiting write up to ``zxid``: it is persisted; answer it."""
        commit(self, zxid)

    def commit_one(self, write: Write) -> None:
        """Apply one write and answer it; C has its own way with those that it decided."""
        prepared, tree = write.prepared, self.tree
        result = tree.apply(
            prepared.type,
            prepared.session_id,
            prepared.zxid,
            prepared.time_ms,
            prepared.fields,
            prepared.digests,
        )
        tree.verify(prepared.digest)
        self.preparer.applied(prepared.zxid)
        if write.kind == _CLOSE_SESSION:
            self._session_closed(prepared.session_id, write.client)
        if write.client is not None:
            self._reply(write.client, write, result)

    def count_updates(self, at_ms: int, times: int) -> None:
        """Count so many writes, prepared at ``at_ms`` and answered now."""
        waited_ms = self.now_ms - at_ms
        self.statistics.updates.add(waited_ms, times)
        self.statistics.latency.add(waited_ms, times)

    def _session_closed(self, session_id: int, by: Client | None) -> None:
        self.tracker.remove(session_id)
        client = self.clients.get(session_id)
        if client is not None and client is not by:
            client.close(Farewell.SESSION_EXPIRED)

    def _reply(self, client: Client, write: Write, result: Result) -> None:
        zxid, kind, err = self.tree.last_zxid, write.kind, result.err
        if kind == _CREATE_SESSION:
            self._welcome(client, client.session, with_read_only=bool(write.xid))
            return
        if kind == _MULTI and result.type == _MULTI:
            client.send(_frame(write.xid, zxid, 0, _multi_body(result)))
            return
        body = b""
        if not err:
            if kind in (_SET_DATA, _SET_ACL):
                body = result.stat
            elif kind == _CREATE:
                body = _pack_path(result.path)
            elif kind in _CREATES_WITH_STAT:
                body = _pack_path(result.path) + result.stat
        client.send(_frame(write.xid, zxid, err, body))
        if kind == _CLOSE_SESSION:
            client.close(Farewell.SESSION_CLOSED)

    def resume_one(self, client: Client, entry: _Expired | bytes) -> None:
        """Answer a read that waited behind a write, and has been taken from ``pending``."""
        session = client.session
        if isinstance(entry, _Expired) or session is None:
            self._refuse_expired(client, entry.xid if isinstance(entry, _Expired) else 0)
            return
        xid, kind = _request_header(entry)
        if kind in WRITES:  # the undecodable ones only
            err = int(ErrorCode.MARSHALLING_ERROR)
            client.send(_frame(xid, self.tree.last_zxid, err, b""))
        else:
            self._read(client, session, xid, kind, entry)

    def check_answers(self, client: Client) -> None:
        """Part with a client whose reads behind a write ask for too much; after a long answer."""
        if sum(map(len, client.out)) > ANSWERS_BYTES_MAX:
            client.close(Farewell.ANSWERS_TOO_LONG)


_IDENTIFYING: Final = frozenset((_AUTH, _SASL))
_AT_ONCE: Final = frozenset((_AUTH, _SASL, _CLOSE_SESSION))


def _multi_body(result: Result) -> bytes:
    pieces: list[bytes] = []
    for part in result.parts:
        kind = part.type
        if kind == _ERROR:
            pieces += [
                _pack_multi_header(-1, False, part.err),
                part.err.to_bytes(4, "big", signed=True),
            ]
        elif kind == _CREATE:
            pieces += [_pack_multi_header(kind, False, 0), _pack_path(part.path)]
        elif kind in _CREATES_WITH_STAT:
            header = _pack_multi_header(_CREATE2, False, 0)
            pieces += [header, _pack_path(part.path), part.stat]
        elif kind == _SET_DATA:
            pieces += [_pack_multi_header(kind, False, 0), part.stat]
        else:
            pieces.append(_pack_multi_header(kind, False, 0))
    return b"".join([*pieces, _MULTI_DONE])


tell(
    OPEN_ACL,
    EventType.NODE_CREATED,
    EventType.NODE_DELETED,
    EventType.NODE_DATA_CHANGED,
    EventType.NODE_CHILDREN_CHANGED,
    LONG_ANSWER_BYTES,
)

__all__ = ["Bounds", "Client", "ConnectRequest", "Farewell", "Fed", "Options", "Standalone"]
