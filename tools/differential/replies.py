"""What a server sent, without what two servers may differ in.

    clock            a ctime stands for the transaction it names: czxid; an mtime for its mzxid.
                     One transaction with two times, or two that go backwards, is shown as it is
    session ids      by the order in which the sessions began
    sets             names of children, ephemerals, identities, entries of an ACL: sorted
    closed sessions  the ephemerals of one go in no order; events with its zxid are sorted

Everything else stays: xids, zxids, errors, versions, lengths, the order of replies and events, and
that the server closed the connection.

A body that its record does not cover exactly is kept as bytes, so it differs from any that does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stratalog.core.zookeeper.sessions import password_of
from stratalog.errors import JuteError
from stratalog.wire.zookeeper.messages import (
    REPLIES,
    ACLResponse,
    Children2Response,
    ConnectResponse,
    NamesResponse,
    ReplyHeader,
    WatcherEvent,
    WhoAmIResponse,
    decode_multi,
)
from stratalog.wire.zookeeper.records import OpCode, Stat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stratalog.wire.zookeeper.records import ACL

XID_EVENT: Final = -1
CLOSED: Final = ("closed",)
_HEADER_BYTES: Final = 16
_MULTI: Final = frozenset((OpCode.MULTI, OpCode.MULTI_READ))

Shown = tuple[Any, ...]


def is_reply(frame: bytes) -> bool:
    """Tell a reply from an event."""
    return ReplyHeader.decode_from(frame)[0].xid != XID_EVENT


@dataclass
class Eyes:
    """How one server's frames are seen; it remembers sessions and clocks of that server."""

    sessions: dict[int, int] = field(default_factory=dict)
    times_ms: dict[int, int] = field(default_factory=dict)
    closes: set[int] = field(default_factory=set)

    # ---- a session begins ----

    def connected(self, frame: bytes | None) -> tuple[Shown, ConnectResponse | None]:
        """Show the answer to a ConnectRequest; return it too, None: there is no session."""
        if frame is None:
            return CLOSED, None
        whole = len(frame) == len(ConnectResponse(0, 0, 0, bytes(16)).encode())
        response = ConnectResponse.decode(frame if whole else frame + b"\0")
        number = 0
        if response.session_id:
            number = self.sessions.setdefault(response.session_id, len(self.sessions) + 1)
        own = response.password == password_of(response.session_id)
        password = "its own" if own else (response.password or b"").hex()
        shown = (
            "connected", response.protocol_version, response.timeout, number, password,
            response.read_only, whole,
        )  # fmt: skip
        return shown, response if response.session_id else None

    # ---- requests are answered ----

    def show(self, frames: Iterable[bytes | None], asked: Sequence[tuple[int, int]]) -> list[Shown]:
        """Show what came on one connection: events, and the replies to ``asked`` (kind, xid)."""
        shown: list[Shown] = []
        waiting = list(asked)
        for frame in frames:
            if frame is None:
                shown.append(CLOSED)
            elif is_reply(frame):
                kind = waiting.pop(0)[0] if waiting else 0
                shown.append(self._reply(frame, kind))
            else:
                shown.append(self._event(frame))
        return self._sorted_closes(shown)

    def _event(self, frame: bytes) -> Shown:
        header, at = ReplyHeader.decode_from(frame)
        event, end = WatcherEvent.decode_from(frame, at)
        rest = frame[end:].hex()
        return ("event", header.zxid, header.err, event.type, event.state, event.path, rest)

    def _reply(self, frame: bytes, kind: int) -> Shown:
        header, at = ReplyHeader.decode_from(frame)
        body: Any = frame[at:].hex()
        if header.err == 0:
            if kind == OpCode.CLOSE_SESSION:
                self.closes.add(header.zxid)
            try:
                body = self._body(kind, frame[at:])
            except JuteError as error:
                body = (body, str(error))
        elif kind == OpCode.MULTI_READ:
            body = ""  # see DIFFERENCES
        return ("reply", kind, header.xid, header.zxid, header.err, body)

    def _body(self, kind: int, data: bytes) -> Any:
        if kind in _MULTI:
            return [(part, self._plain(reply)) for part, reply in decode_multi(data, REPLIES)]
        if kind == OpCode.AUTH:
            return data.hex()
        record = REPLIES.get(kind)
        return data.hex() if record is None else self._plain(record.decode(data))

    def _plain(self, record: Any) -> Any:
        if isinstance(record, NamesResponse):
            return replace(record, names=tuple(sorted(record.names)))
        if isinstance(record, Children2Response):
            names = tuple(sorted(record.children))
            return Children2Response(names, self.stat(record.stat))
        if isinstance(record, ACLResponse):
            return ACLResponse(sorted_acl(record.acl), self.stat(record.stat))
        if isinstance(record, WhoAmIResponse):
            return WhoAmIResponse(
                tuple(sorted(record.client_info, key=lambda one: (one.auth_scheme, one.user)))
            )
        stat = getattr(record, "stat", None)
        return record if stat is None else replace(record, stat=self.stat(stat))

    def stat(self, stat: Stat) -> Any:
        """Show a Stat."""
        return replace(
            stat,
            ctime=self.time(stat.czxid, stat.ctime),
            mtime=self.time(stat.mzxid, stat.mtime),
            ephemeral_owner=self.session(stat.ephemeral_owner),
        )

    def session(self, session_id: int) -> Any:
        """Show the owner of a znode."""
        if session_id == 0:
            return 0
        return self.sessions.get(session_id, f"session {session_id:#x}")

    def time(self, zxid: int, time_ms: int) -> Any:
        """Show a time that must be that of a transaction."""
        known = self.times_ms.setdefault(zxid, time_ms)
        return "its time" if known == time_ms else f"{time_ms}, not {known}"

    def backwards(self) -> list[int]:
        """Return the zxids whose time lies before that of an earlier one."""
        found, last_ms = [], 0
        for zxid, time_ms in sorted(self.times_ms.items()):
            if time_ms < last_ms:
                found.append(zxid)
            last_ms = max(last_ms, time_ms)
        return found

    def _sorted_closes(self, shown: list[Shown]) -> list[Shown]:
        """Sort runs of events that one closed session caused."""
        done: list[Shown] = []
        at = 0
        while at < len(shown):
            end = at + 1
            if shown[at][0] == "event" and shown[at][1] in self.closes:
                while end < len(shown) and shown[end][:2] == shown[at][:2]:
                    end += 1
            done += sorted(shown[at:end], key=repr) if end - at > 1 else shown[at:end]
            at = end
        return done


def sorted_acl(acl: tuple[ACL, ...]) -> tuple[ACL, ...]:
    """Return an ACL's entries in one order: ``auth`` expands to a set of identities."""
    return tuple(sorted(acl, key=lambda one: (one.id.scheme or "", one.id.id or "", one.perms)))
