"""What the tests of ZooKeeper's machines share: requests as bytes, a machine to talk to, replies.

A ``Talk`` is a connection to a Standalone: it sends requests and keeps what comes back, in order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from stratalog.core.zookeeper.standalone import Bounds, Client, Options, Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.wire.zookeeper.messages import (
    REPLIES,
    REQUESTS,
    AuthPacket,
    ConnectRequest,
    ConnectResponse,
    ReplyHeader,
    RequestHeader,
    WatcherEvent,
    encode_multi_request,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode, Permission

OPEN = (ACL(31, Id("world", "anyone")),)
ADDRESS = "127.0.0.1"
FOUR_BYTES = struct.Struct(">i")


def acl(perms: int, scheme: str | None, name: str | None) -> ACL:
    return ACL(perms, Id(scheme, name))


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply or, with xid -1, an event; ``body`` is what follows the header."""

    xid: int
    zxid: int
    err: int
    body: bytes

    @property
    def event(self) -> WatcherEvent | None:
        return WatcherEvent.decode(self.body) if self.xid == -1 else None


def frames_of(out: list[bytes]) -> list[bytes]:
    """The bodies in what a client is sent."""
    data, bodies, at = b"".join(out), [], 0
    while at < len(data):
        (length,) = FOUR_BYTES.unpack_from(data, at)
        bodies.append(data[at + 4 : at + 4 + length])
        assert len(bodies[-1]) == length
        at += 4 + length
    return bodies


def reply_of(body: bytes) -> Reply:
    header, at = ReplyHeader.decode_from(body)
    return Reply(header.xid, header.zxid, header.err, body[at:])


def request(xid: int, kind: int, *fields: Any) -> bytes:
    """The frame of a request; of a multi the fields are its operations."""
    head = RequestHeader(xid, kind).encode()
    if kind in {OpCode.MULTI, OpCode.MULTI_READ}:
        operations = [(one, REQUESTS[one](*values)) for one, *values in fields]
        return head + encode_multi_request(operations)
    if kind == OpCode.AUTH:
        return head + AuthPacket(0, *fields).encode()
    return head + REQUESTS[kind](*fields).encode()


def connect_request(
    *, timeout_ms: int = 10_000, session_id: int = 0, password: bytes = bytes(16), seen: int = 0
) -> bytes:
    return ConnectRequest(0, seen, timeout_ms, session_id, password, read_only=False).encode()


def give(machine: Standalone, client: Client, frame: bytes) -> None:
    """Let a machine have one frame of a client, as it comes off the wire."""
    data = len(frame).to_bytes(4, "big") + frame
    assert machine.feed(client, data, 0, Bounds(len(frame))) == (len(data), 1, 4, False)


class Talk:
    """One connection of a machine, and what came back on it."""

    def __init__(self, machine: Standalone, address: str = ADDRESS) -> None:
        self.machine = machine
        self.client: Client = machine.connect(address)
        self.welcome: ConnectResponse | None = None
        self.replies: list[Reply] = []
        self._xid = 0

    def hear(self) -> list[Reply]:
        """What came since the last time."""
        came = []
        for body in frames_of(self.client.out):
            if self.welcome is None:
                self.welcome = ConnectResponse.decode(body)
            else:
                came.append(reply_of(body))
        self.client.out.clear()
        self.replies += came
        return came

    def connect(self, **how: Any) -> Talk:
        """Begin or resume a session, and wait for the answer."""
        give(self.machine, self.client, connect_request(**how))
        settle(self.machine)
        assert self.hear() == []
        return self

    def send(self, kind: int, *fields: Any) -> int:
        """Send a request without waiting; return its xid."""
        self._xid += 1
        give(self.machine, self.client, request(self._xid, kind, *fields))
        return self._xid

    def ask(self, kind: int, *fields: Any) -> Reply:
        """Send a request, let everything be committed, return its reply."""
        xid = self.send(kind, *fields)
        settle(self.machine)
        (mine,) = [reply for reply in self.hear() if reply.xid == xid]
        return mine

    def do(self, kind: int, *fields: Any) -> Any:
        """The same for a request that must work: the record of its reply."""
        reply = self.ask(kind, *fields)
        assert reply.err == 0, ErrorCode(reply.err).name
        return REPLIES[kind].decode(reply.body)

    def fail(self, kind: int, *fields: Any) -> str:
        """The same for one that must not: the name of its error."""
        reply = self.ask(kind, *fields)
        assert reply.body == b""
        return ErrorCode(reply.err).name

    def create(self, path: str, data: bytes | None = b"", flags: int = 0, **more: Any) -> str:
        return self.do(OpCode.CREATE, path, data, more.get("acl", OPEN), flags).path  # type: ignore[no-any-return]

    def auth(self, scheme: str, secret: bytes) -> Reply:
        give(self.machine, self.client, request(-4, OpCode.AUTH, scheme, secret))
        (reply,) = self.hear()
        return reply

    @property
    def events(self) -> list[tuple[int, str]]:
        """Type and path of every event so far."""
        self.hear()
        return [(one.event.type, one.event.path) for one in self.replies if one.event]


def new_machine(*, tree: Tree | None = None, now_ms: int = 1_000_000, **options: Any) -> Standalone:
    """A machine with extended types, and a clock that stands."""
    machine = Standalone(tree or Tree(extended=True), Options(**options), now_ms=now_ms)
    machine.set_clock(now_ms, 1_700_000_000_000)
    return machine


def settle(machine: Standalone) -> list[Any]:
    """Persist and commit everything; return the transactions."""
    proposals = []
    while new := machine.take_proposals():
        proposals += new
        machine.committed(new[-1].zxid)
    machine.take_talkative()
    return proposals


def joined(machine: Standalone, **how: Any) -> Talk:
    """A connection with a session."""
    talk = Talk(machine).connect(**how)
    assert talk.welcome is not None
    assert talk.welcome.session_id
    return talk


ALL = int(Permission.ALL)
