"""The random stream of operations: what is done next, on which connection.

    Open     a new session, asked for in one of several ways
    Resume   a session back on a new connection: with its password, a wrong one, from the future ...
    Ask      one request, or a burst of them written at once, and how many replies to expect
    Drop     the client's connection is closed without a word; its session lives on
    Restart  both servers, on their files

A stream is a function of its seed and of what the first server answers (``learn``): names that
exist and versions that hold make most operations succeed, and enough of them fail.

What would make a run depend on chance is left out.  Connections take turns, and each waits for its
replies, so which transaction comes first is not open.  A burst holds nothing that Apache's server
judges by what is applied rather than by what is on its way: setACL, auth, hard quotas.

Slot 0 is the super user, and opens what others have shut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tools.differential.profile import SUPER, USERS, digest

from stratalog.errors import JuteError
from stratalog.wire.zookeeper.messages import (
    REQUESTS,
    AddWatchRequest,
    AuthPacket,
    CheckVersionRequest,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    MultiHeader,
    PathRequest,
    PathWatchRequest,
    ReconfigRequest,
    SaslRequest,
    SetACLRequest,
    SetDataRequest,
    SetWatches,
    SetWatches2,
    WatchTypeRequest,
    decode_multi,
    encode_multi_request,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.differential.replies import Shown

    from stratalog.wire.jute import Record

SLOTS: Final = 6
KNOWN_MAX: Final = 120
_NAMES: Final = ("a", "b", "c", "d", "e", "é", "x y")
_BAD_PATHS: Final = (
    None, "", "/", "a", "a/b", "/a/", "//a", "/a//b", "/.", "/a/./b", "/..", "/a/..", "/a/...",
    "/a\0", "/a\x01", "/a\x7f", "/a\u009f", "/a\ud7fb", "/a\ue000", "/a\ufff0", "/a\U0001f600",
    "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/none",
)  # fmt: skip
_QUOTA_TOPS: Final = ("/a", "/b", "/a/b", "/zookeeper", "/é")
_LIMITS: Final = (
    b"count=5,bytes=100", b"count=3,bytes=-1", b"count=-1,bytes=60=;byteHardLimit=90",
    b"count=-1,bytes=-1=;byteHardLimit=50;countHardLimit=4", b"countHardLimit=2",
    b"bytes=,count=", b"count=1;bytes=2",
)  # fmt: skip
_HARD_LIMITS: Final = (
    *_LIMITS,
    *(b"count=2,bytes=9=;byteHardLimit=70;countHardLimit=3",) * 6,
    *(b"none", b"count=x", b"count= 5", b"=", b";count=1", b"count", b"count==7"),
)
_QUOTA_NAMES: Final = ("zookeeper_limits", "none", "none")
_OPEN: Final = (ACL(31, Id("world", "anyone")),)
_ODD_ADDRESSES: Final = (
    "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "+1.2.3.4", "1.2.3.4/", "1.2.3.4/33",
    "1.2.3.4/-1", "1.2.3.4/+8", "1.2.3.4/08", "127.0.0.1/255.0.0.0", "1.2.3.4/8/8", " 1.2.3.4",
    "-1.2.3.4", "::", "::/0", "::/129", "::-1", "1:2", "1::2::3", "12345::", "1:2:3:4:5:6:7::",
    "1:2:3:4:5:6:7:8/128", "::ffff:1.2.3.4", "fe80::1%1",
)  # fmt: skip
_UNKNOWN_KINDS: Final = (0, 10, 13, 23, 99, 108, 1000, -1, -2, -12)
_ONE_BIT_FLAGS: Final = (0, 0, 0, 0, 1, 1, 2, 2, 3)
XID_PING: Final = -2
XID_AUTH: Final = -4
XID_SET_WATCHES: Final = -8


@dataclass(frozen=True)
class Open:
    """A new session; ``timeout_ms`` as asked for; ``trailing`` is put behind the request."""

    slot: int
    timeout_ms: int
    last_zxid: int = 0
    with_read_only: bool = True
    trailing: bytes = b""
    read_only: bool = False
    password: bytes | None = bytes(16)


@dataclass(frozen=True)
class Resume:
    """An old session on a new connection; ``how``: right, wrong, unknown, ahead."""

    slot: int
    how: str
    with_read_only: bool = True


@dataclass(frozen=True)
class Drop:
    """The client's end is closed."""

    slot: int


@dataclass(frozen=True)
class Restart:
    """Both servers end, cleanly or killed, and start again; every client comes back later."""

    kill: bool
    slot: int = 0


@dataclass(frozen=True)
class Request:
    """One request: its bytes behind the header, and the path it is about if there is one."""

    kind: int
    xid: int
    body: bytes
    path: str | None = None

    def __str__(self) -> str:
        """Show what it asks for, as bytes where they make no sense."""
        shown: object = self.body.hex()
        try:
            if self.kind in {OpCode.MULTI, OpCode.MULTI_READ}:
                shown = decode_multi(self.body, REQUESTS)
            elif self.kind in REQUESTS:
                shown = REQUESTS[self.kind].decode(self.body)
        except JuteError:
            pass
        return f"{self.kind} xid {self.xid} {shown}"


@dataclass(frozen=True)
class Ask:
    """Requests written at once; ``replies`` come, then the server closes if it ``closes``."""

    slot: int
    requests: tuple[Request, ...]
    replies: int
    closes: bool = False
    raw: bytes = b""

    def __str__(self) -> str:
        """Show the requests, one a line."""
        return "".join(f"slot {self.slot}: {one}\n    " for one in self.requests) + repr(self.raw)


Step = Open | Resume | Drop | Ask | Restart


@dataclass
class _Slot:
    connected: bool = False
    session: bool = False
    xid: int = 0
    seen_zxid: int = 0
    identities: set[bytes] = field(default_factory=set)
    watched: deque[str] = field(default_factory=lambda: deque(maxlen=8))


class Stream:
    """The steps of one seed.

    Args:
        seed: Of everything that is drawn.
        hard_quotas: Whether the servers enforce them; bursts then hold no creates and no setData.
    """

    def __init__(self, seed: int, *, hard_quotas: bool) -> None:
        self._random = Random(seed)
        self._hard_quotas = hard_quotas
        self._slots = [_Slot() for _ in range(SLOTS)]
        self._known: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._aversions: dict[str, int] = {}
        self._last_zxid = 0
        self._hasty: int | None = None
        self._script = self._quota_script() if hard_quotas else deque()
        self._makers: list[tuple[int, Callable[[_Slot], tuple[int, bytes, str | None]]]] = [
            (14, self._create), (6, self._create2), (2, self._container), (3, self._ttl),
            (11, self._delete), (10, self._set_data), (7, self._exists), (8, self._get_data),
            (3, self._get_children), (5, self._get_children2), (9, self._multi), (1, self._sync),
            (2, self._ping), (1, self._get_ephemerals), (1, self._get_all_children_number),
            (3, self._multi_read), (1, self._who_am_i), (2, self._check_watches),
            (3, self._remove_watches), (4, self._add_watch), (3, self._get_acl),
            (1, self._reconfig),
        ]  # fmt: skip
        self._alone: list[tuple[int, Callable[[int, _Slot], Step]]] = [
            (14, self._set_acl), (6, self._auth), (14, self._set_watches),
            (60 if hard_quotas else 14, self._quota), (9, self._damaged), (1, self._unknown),
            (2, self._close), (2, self._drop), (1, self._sasl), (1, self._take_over),
            (1, self._bad_auth), (1, self._hostile),
        ]  # fmt: skip

    # ---- steps ----

    def step(self) -> Step:
        """Return what is done next."""
        random = self._random
        number = random.randrange(SLOTS)
        if self._hasty is not None:
            number, self._hasty = self._hasty, None
            if self._slots[number].connected:
                return self._close(number, self._slots[number])
        slot = self._slots[number]
        if not slot.session:
            return self._open(number)
        if not slot.connected:
            how = random.choices(("right", "wrong", "unknown", "ahead"), (8, 1, 1, 1))[0]
            return Resume(number, how, with_read_only=random.random() < 0.9)
        if number == 0 and SUPER not in slot.identities:
            return self._ask(number, OpCode.AUTH, AuthPacket(0, "digest", SUPER), xid=XID_AUTH)
        if self._script and number == 0:
            return self._script.popleft()(number, slot)
        if random.random() < 0.12:
            makers = self._alone
            make = random.choices([m for _, m in makers], [w for w, _ in makers])[0]
            return make(number, slot)
        if random.random() < 0.15:
            return self._burst(number, slot)
        return Ask(number, (self._request(slot),), 1)

    def _open(self, number: int) -> Open:
        random = self._random
        chance = random.random()
        if chance < 0.1:  # turned away: it has seen the future
            return Open(number, 3_600_000, last_zxid=self._last_zxid + random.choice((1, 1 << 40)))
        if chance < 0.13:  # a short life, closed before it ends by itself
            self._hasty = number
            return Open(number, random.choice((-(1 << 31), -1, 0, 1, 4000, 4001, 7000)))
        timeout_ms = random.choice((3_600_000, 600_000, 1 << 30, 2**31 - 1))
        if chance < 0.2:
            return Open(number, timeout_ms, last_zxid=self._last_zxid, with_read_only=False)
        return Open(
            number,
            timeout_ms,
            trailing=b"more" if chance < 0.25 else b"",
            read_only=random.random() < 0.2,
            password=random.choice((bytes(16), bytes(16), b"", None, b"short", bytes(40))),
        )

    def _request(self, slot: _Slot, *, calm: bool = False) -> Request:
        makers = self._makers
        if len(self._known) > KNOWN_MAX and self._random.random() < 0.3:
            kind, body, path = self._delete(slot)
        else:
            make = self._random.choices([m for _, m in makers], [w for w, _ in makers])[0]
            if calm and self._hard_quotas:
                while make in self._judged_by_quota():
                    make = self._random.choices([m for _, m in makers], [w for w, _ in makers])[0]
            kind, body, path = make(slot)
        return Request(kind, self._xid(slot, kind), body, path)

    def _judged_by_quota(self) -> tuple[Any, ...]:
        return (
            self._create, self._create2, self._container, self._ttl, self._set_data, self._multi,
        )  # fmt: skip

    def _burst(self, number: int, slot: _Slot) -> Ask:
        count = self._random.randrange(2, 9)
        requests = [self._request(slot, calm=True) for _ in range(count)]
        if self._random.random() < 0.02:
            kind = int(OpCode.CLOSE_SESSION)
            requests.append(Request(kind, self._xid(slot, kind), b""))
            self._forget(number)
            return Ask(number, tuple(requests), len(requests), closes=True)
        return Ask(number, tuple(requests), len(requests))

    def _xid(self, slot: _Slot, kind: int) -> int:
        if kind == OpCode.PING:
            return XID_PING
        slot.xid += 1
        return slot.xid

    def _ask(
        self,
        number: int,
        kind: int,
        body: Record | bytes,
        *,
        xid: int = 0,
        path: str | None = None,
        replies: int = 1,
        closes: bool = False,
    ) -> Ask:
        slot = self._slots[number]
        encoded = body if isinstance(body, bytes) else body.encode()
        request = Request(int(kind), xid or self._xid(slot, kind), encoded, path)
        if closes:
            slot.connected = False
            slot.identities.clear()
        return Ask(number, (request,), replies, closes=closes)

    def _forget(self, number: int) -> None:
        self._slots[number] = _Slot(seen_zxid=self._slots[number].seen_zxid)

    # ---- what was answered ----

    def learn(self, step: Step, shown: Sequence[Shown]) -> None:
        """Take notice of what the first server answered."""
        slot = self._slots[step.slot]
        if isinstance(step, Open | Resume):
            if shown and shown[0][0] == "connected" and shown[0][3]:
                self._slots[step.slot] = _Slot(connected=True, session=True, xid=slot.xid)
            return
        if isinstance(step, Restart):
            for one in self._slots:
                one.connected = False
                one.identities.clear()
            return
        if isinstance(step, Drop):
            slot.connected = False
            slot.identities.clear()
            return
        replies = [one for one in shown if one[0] == "reply"]
        for request, (_, kind, _, zxid, err, body) in zip(step.requests, replies, strict=False):
            self._last_zxid = max(self._last_zxid, zxid)
            slot.seen_zxid = max(slot.seen_zxid, zxid)
            if err == 0:
                self._learn_success(kind, request, body, slot)
            elif err == ErrorCode.NO_NODE and request.path:
                self._known.pop(request.path, None)

    def _learn_success(self, kind: int, request: Request, body: Any, slot: _Slot) -> None:
        if kind == OpCode.MULTI and isinstance(body, list):
            for _, part in body:
                self._learn_path(part)
        elif kind == OpCode.AUTH:
            slot.identities.add(AuthPacket.decode(request.body).auth or b"")
        elif kind == OpCode.DELETE and request.path:
            self._known.pop(request.path, None)
        elif kind in {OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL}:
            self._learn_path(body)
        stat = getattr(body, "stat", None)
        if stat is not None and request.path:
            self._versions[request.path] = stat.version
            self._aversions[request.path] = stat.aversion

    def _learn_path(self, body: Any) -> None:
        path = getattr(body, "path", "")
        if path and not path.startswith("/zookeeper"):
            self._known[path] = len(path)

    # ---- parts of requests ----

    def _path(self) -> str | None:
        random = self._random
        chance = random.random()
        if chance < 0.65 and self._known:
            return random.choice(list(self._known)[-12 if chance < 0.4 else 0 :])
        if chance < 0.95:
            return self._new_path()
        return random.choice(_BAD_PATHS)

    def _new_path(self) -> str:
        random = self._random
        if self._known and random.random() < 0.5:
            above = random.choice(list(self._known))
            if above.count("/") < 4:
                return f"{above}/{random.choice(_NAMES)}"
        depth = random.choice((1, 1, 2, 2, 3))
        return "".join(f"/{random.choice(_NAMES)}" for _ in range(depth))

    def _to_create(self, flags: int) -> str | None:
        random = self._random
        if random.random() < 0.05:
            return random.choice(_BAD_PATHS)
        path = self._new_path()
        if flags in {2, 3, 6}:
            path += random.choice(("", "-", "/", "/s-", "/"))
        return path

    def _data(self) -> bytes | None:
        random = self._random
        chance = random.random()
        if chance < 0.05:
            return None
        if chance < 0.15:
            return b""
        return random.randbytes(5000 if chance > 0.995 else random.randrange(1, 40))

    def _acl(self) -> tuple[ACL, ...]:
        random = self._random
        if random.random() < 0.7:
            return _OPEN
        if random.random() < 0.1:
            return random.choice(
                (
                    (),
                    (ACL(31, Id(None, "anyone")),),
                    (ACL(31, Id("world", None)),),
                    (ACL(31, Id("none", None)),),
                    (ACL(31, Id("none", "x")),),
                    (ACL(31, Id("digest", None)),),
                    (ACL(31, Id("ip", None)),),
                    (ACL(31, Id("auth", None)),),
                    (ACL(31, Id("world", "someone")),),
                )
            )
        return tuple(self._entry() for _ in range(random.randrange(1, 4)))

    def _entry(self) -> ACL:
        random = self._random
        perms = random.choice((31, 31, 31, 1, 1, 15, 30, 16, 2, 4, 8, 0, -1, 64))
        scheme = random.choices(("world", "auth", "digest", "ip"), (4, 2, 4, 2))[0]
        if scheme == "world":
            return ACL(perms, Id("world", "anyone"))
        if scheme == "auth":
            return ACL(perms, Id("auth", random.choice(("", "x"))))
        if scheme == "digest":
            users = (digest(USERS[0]), digest(USERS[0]), digest(USERS[1]))
            odd = random.choice((":x", "x:", "x", "", ":", "a:b:", "a:b:c", "a::", "a::b"))
            return ACL(perms, Id("digest", odd if random.random() < 0.1 else random.choice(users)))
        address = random.choice(("127.0.0.1", "127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "::1"))
        if random.random() < 0.2:
            address = random.choice(_ODD_ADDRESSES)
        return ACL(perms, Id("ip", address))

    def _version(self, path: str | None, versions: dict[str, int]) -> int:
        random = self._random
        chance = random.random()
        if chance < 0.6:
            return -1
        if chance < 0.85 and path in versions:
            return versions[path]
        return random.choice((0, 0, 1, 2, 3, -2, 1 << 30))

    # ---- requests that may stand in a burst ----

    def _create_request(self) -> CreateRequest:
        random = self._random
        flags = random.choice(_ONE_BIT_FLAGS)
        if random.random() < 0.05:
            flags = random.choice((4, 5, 6, 7, 8, -1, 1 << 20))
        return CreateRequest(self._to_create(flags), self._data(), self._acl(), flags)

    def _create(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return int(OpCode.CREATE), self._create_request().encode(), None

    def _create2(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return int(OpCode.CREATE2), self._create_request().encode(), None

    def _container(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        flags = self._random.choice((4, 4, 4, 0, 2, 5, 9))
        request = CreateRequest(self._to_create(flags), self._data(), self._acl(), flags)
        return int(OpCode.CREATE_CONTAINER), request.encode(), None

    def _ttl_request(self) -> CreateTTLRequest:
        random = self._random
        flags = random.choice((5, 5, 6))
        ttl = random.choice((1 << 32, (1 << 40) - 1, 1 << 35))
        if random.random() < 0.2:
            ttl = random.choice((0, -1, 1 << 40, -(1 << 40)))
        elif random.random() < 0.2:
            flags = random.choice((0, 1, 2, 4, 7))
        return CreateTTLRequest(self._to_create(flags), self._data(), self._acl(), flags, ttl)

    def _ttl(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return int(OpCode.CREATE_TTL), self._ttl_request().encode(), None

    def _delete(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        path = self._path()
        if len(self._known) > KNOWN_MAX:
            path = max(self._random.sample(list(self._known), 5), key=lambda one: one.count("/"))
        request = DeleteRequest(path, self._version(path, self._versions))
        return int(OpCode.DELETE), request.encode(), path

    def _set_data(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        path = self._path()
        request = SetDataRequest(path, self._data(), self._version(path, self._versions))
        return int(OpCode.SET_DATA), request.encode(), path

    def _watching(self, kind: int, slot: _Slot) -> tuple[int, bytes, str | None]:
        path = self._path()
        request = PathWatchRequest(path, watch=self._random.random() < 0.6)
        if request.watch and path:
            slot.watched.append(path)
        return int(kind), request.encode(), path

    def _exists(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._watching(OpCode.EXISTS, slot)

    def _get_data(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._watching(OpCode.GET_DATA, slot)

    def _get_children(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._watching(OpCode.GET_CHILDREN, slot)

    def _get_children2(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._watching(OpCode.GET_CHILDREN2, slot)

    def _named(self, kind: int) -> tuple[int, bytes, str | None]:
        path = self._path()
        return int(kind), PathRequest(path).encode(), path

    def _sync(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._named(OpCode.SYNC)

    def _get_acl(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._named(OpCode.GET_ACL)

    def _get_ephemerals(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        if self._random.random() < 0.4:
            prefix = self._random.choice((None, "", "/", " ", " / ", "\t", "/a"))
            return int(OpCode.GET_EPHEMERALS), PathRequest(prefix).encode(), None
        return self._named(OpCode.GET_EPHEMERALS)

    def _get_all_children_number(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._named(OpCode.GET_ALL_CHILDREN_NUMBER)

    def _ping(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return int(OpCode.PING), b"", None

    def _who_am_i(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return int(OpCode.WHO_AM_I), b"", None

    def _reconfig(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        return int(OpCode.RECONFIG), ReconfigRequest(None, "1", None, -1).encode(), None

    def _check_watches(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._about_watches(OpCode.CHECK_WATCHES, slot)

    def _remove_watches(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        return self._about_watches(OpCode.REMOVE_WATCHES, slot)

    def _about_watches(self, kind: int, slot: _Slot) -> tuple[int, bytes, str | None]:
        path = self._path()
        if slot.watched and self._random.random() < 0.8:
            path = self._random.choice(slot.watched)
        number = self._random.choice((1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 0, 6, -1))
        return int(kind), WatchTypeRequest(path, number).encode(), path

    def _add_watch(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        path = self._path()
        if path is None:  # see DIFFERENCES
            path = "/"
        slot.watched.append(path)
        mode = self._random.choice((0, 0, 0, 1, 1, 1, 2, -1))
        return int(OpCode.ADD_WATCH), AddWatchRequest(path, mode).encode(), path

    # ---- several in one ----

    def _multi(self, slot: _Slot) -> tuple[int, bytes, str | None]:
        random = self._random
        kind = int(OpCode.MULTI)
        parts = [self._part(slot) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4, 5)))]
        chance = random.random()
        if chance < 0.06:  # something that no multi may hold, at any place
            odd = random.choice((OpCode.GET_DATA, OpCode.SET_ACL, OpCode.MULTI, OpCode.EXISTS))
            parts.insert(random.randrange(len(parts) + 1), (int(odd), self._odd_part(odd)))
        body = encode_multi_request(parts)
        if chance > 0.98 and parts:
            body = body[: random.randrange(1, len(body))]
        return kind, body, None

    def _odd_part(self, kind: int) -> Record:
        if kind == OpCode.SET_ACL:
            return SetACLRequest("/a", _OPEN, -1)
        if kind == OpCode.MULTI:
            return MultiHeader(-1, done=True, err=-1)
        return PathWatchRequest("/a", watch=True)

    def _part(self, _slot: _Slot) -> tuple[int, Record]:
        random = self._random
        kind = random.choices(
            (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL,
             OpCode.DELETE, OpCode.SET_DATA, OpCode.CHECK),
            (6, 3, 1, 1, 4, 5, 4),
        )[0]  # fmt: skip
        path = self._path()
        if random.random() < 0.98 and path is None:
            path = "/a"
        version = self._version(path, self._versions)
        if kind == OpCode.DELETE:
            return int(kind), DeleteRequest(path, version)
        if kind == OpCode.SET_DATA:
            return int(kind), SetDataRequest(path, self._data(), version)
        if kind == OpCode.CHECK:
            return int(kind), CheckVersionRequest(path, version)
        if kind == OpCode.CREATE_TTL:
            return int(kind), self._ttl_request()
        if kind == OpCode.CREATE_CONTAINER:
            flags = random.choice((4, 4, 4, 0, 2))
            made = CreateRequest(self._to_create(flags), self._data(), self._acl(), flags)
            return int(kind), made
        return int(kind), self._create_request()

    def _multi_read(self, _slot: _Slot) -> tuple[int, bytes, str | None]:
        random = self._random
        parts: list[tuple[int, Record]] = []
        for _ in range(random.randrange(5)):
            kind = random.choice((OpCode.GET_DATA, OpCode.GET_CHILDREN))
            path = self._path()
            if path is None and random.random() < 0.8:
                path = "/"
            parts.append((int(kind), PathWatchRequest(path, watch=random.random() < 0.3)))
        if random.random() < 0.1:
            odd = random.choice(
                ((OpCode.EXISTS, PathWatchRequest("/a", watch=False)),
                 (OpCode.DELETE, DeleteRequest("/a", -1)))
            )  # fmt: skip
            parts.insert(random.randrange(len(parts) + 1), (int(odd[0]), odd[1]))
        return int(OpCode.MULTI_READ), encode_multi_request(parts), None

    # ---- what stands alone ----

    def _set_acl(self, number: int, _slot: _Slot) -> Step:
        path = self._path()
        acl = self._acl()
        if number == 0:
            acl = _OPEN
            path = path if self._random.random() < 0.7 else "/"
        elif path == "/" and self._random.random() < 0.9:
            path = "/a"
        version = -1 if number == 0 else self._version(path, self._aversions)
        return self._ask(number, OpCode.SET_ACL, SetACLRequest(path, acl, version), path=path)

    def _auth(self, number: int, _slot: _Slot) -> Step:
        random = self._random
        packet = random.choice(
            (
                AuthPacket(0, "digest", USERS[0]),
                AuthPacket(0, "digest", USERS[0]),
                AuthPacket(0, "digest", USERS[1]),
                AuthPacket(7, "ip", b""),
                AuthPacket(0, "ip", None),
                AuthPacket(0, "digest", random.choice((b"", b":", b"ada", b":pw", b"a:b:c"))),
                AuthPacket(0, "digest", random.choice((b"\xc3\xa9:x", b"\xff:x", b"e\xf0\x9f:"))),
            )
        )
        return self._ask(number, OpCode.AUTH, packet, xid=random.choice((XID_AUTH, 77)))

    def _sasl(self, number: int, _slot: _Slot) -> Step:
        """A step of SASL, which neither server is set up for."""
        return self._ask(number, OpCode.SASL, SaslRequest(b"token"))

    def _bad_auth(self, number: int, _slot: _Slot) -> Step:
        random = self._random
        if random.random() < 0.2:  # cut short: closed without a word
            body = AuthPacket(0, "digest", USERS[0]).encode()[: random.randrange(16)]
            return self._ask(number, OpCode.AUTH, body, xid=XID_AUTH, replies=0, closes=True)
        packet = random.choice(
            (
                AuthPacket(0, "none", b"x"), AuthPacket(0, "world", b"anyone"),
                AuthPacket(0, None, b"x"), AuthPacket(0, "", b"x"), AuthPacket(0, "auth", b""),
                AuthPacket(0, "super", b""), AuthPacket(0, "digest", None),
            )
        )  # fmt: skip
        return self._ask(number, OpCode.AUTH, packet, xid=XID_AUTH, closes=True)

    def _set_watches(self, number: int, slot: _Slot) -> Step:
        random = self._random

        def paths() -> tuple[str, ...]:
            return tuple(self._path() or "/" for _ in range(random.choice((0, 0, 1, 2, 3))))

        zxid = random.choice((0, -1, self._last_zxid, slot.seen_zxid, self._last_zxid + 5))
        if random.random() < 0.4:
            zxid = max(0, self._last_zxid - random.randrange(200))
        first = (zxid, paths(), paths(), paths())
        if random.random() < 0.4:
            return self._ask(
                number, OpCode.SET_WATCHES, SetWatches(*first), xid=XID_SET_WATCHES
            )  # fmt: skip
        request = SetWatches2(*first, paths(), paths())
        return self._ask(number, OpCode.SET_WATCHES2, request, xid=XID_SET_WATCHES)

    def _quota_script(self) -> deque[Callable[[int, _Slot], Step]]:
        """Give /a a quota first of all, so that even a short run meets it."""
        limits = _HARD_LIMITS[-8]
        paths = ("/a", b""), ("/zookeeper/quota/a", b"")
        last = (
            ("/zookeeper/quota/a/zookeeper_limits", limits),
            (
                "/zookeeper/quota/a/zookeeper_stats",
                b"",
            ),
        )

        def create(path: str, data: bytes) -> Callable[[int, _Slot], Step]:
            request = CreateRequest(path, data, _OPEN, 0)
            return lambda number, _slot: self._ask(number, OpCode.CREATE, request)

        return deque(create(path, data) for path, data in (*paths, *last))

    def _quota(self, number: int, _slot: _Slot) -> Step:
        random = self._random
        below = random.choice(_QUOTA_TOPS)
        top = f"/zookeeper/quota{below}"
        limits = random.choice(_HARD_LIMITS if self._hard_quotas else _LIMITS)
        kind, path, data = random.choice(
            (
                (OpCode.CREATE, top, b""),
                (OpCode.CREATE, f"{top}/zookeeper_limits", limits),
                (OpCode.CREATE, f"{top}/zookeeper_limits", limits),
                (OpCode.CREATE2, f"{top}/zookeeper_stats", b"count=0,bytes=0"),
                (OpCode.CREATE, f"{top}/zookeeper_stats", b""),
                (OpCode.SET_DATA, f"{top}/zookeeper_limits", limits),
                (OpCode.SET_DATA, f"{top}/zookeeper_stats", b"count=2,bytes=7"),
                (OpCode.GET_DATA, f"{top}/zookeeper_stats", b""),
                (OpCode.GET_DATA, f"{top}/zookeeper_stats", b""),
                (OpCode.GET_DATA, f"{top}/zookeeper_stats", b""),
                (OpCode.DELETE, f"{top}/zookeeper_stats", b""),
                (OpCode.DELETE, f"{top}/{random.choice(_QUOTA_NAMES)}", b""),
                (OpCode.DELETE, top, b""),
                (OpCode.CREATE, top, b""),
                (OpCode.CREATE, "/zookeeper/quota/zookeeper_stats", b""),
                (OpCode.DELETE, "/zookeeper/quota/zookeeper_stats", b""),
                (OpCode.CREATE2, f"{below}/{random.choice(_NAMES)}", self._data()),
                (OpCode.CREATE2, f"{below}/{random.choice(_NAMES)}", self._data()),
                (OpCode.SET_DATA, below, self._data()),
                (OpCode.CREATE, below, b"12345"),
            )
        )  # fmt: skip
        body: Record
        if kind == OpCode.SET_DATA:
            body = SetDataRequest(path, data, -1)
        elif kind == OpCode.GET_DATA:
            body = PathWatchRequest(path, watch=random.random() < 0.3)
        elif kind == OpCode.DELETE:
            body = DeleteRequest(path, -1)
        else:
            body = CreateRequest(path, data, _OPEN, 0)
        return self._ask(number, kind, body)

    def _damaged(self, number: int, slot: _Slot) -> Step:
        """Send a request that ends early, or names a length that cannot be."""
        random = self._random
        while True:
            request = self._request(slot)
            if request.body and request.kind != OpCode.MULTI_READ:
                break
        body = request.body
        if random.random() < 0.3 and request.kind not in {OpCode.MULTI, OpCode.RECONFIG}:
            length = random.choice((-2, len(body), 1 << 30, -(1 << 31), 2**31 - 1))
            body = length.to_bytes(4, "big", signed=True) + body[4:]
        else:
            body = body[: random.randrange(len(body))]
        return self._ask(number, request.kind, body, xid=request.xid)

    def _unknown(self, number: int, _slot: _Slot) -> Step:
        kind = self._random.choice(_UNKNOWN_KINDS)
        return self._ask(number, kind, self._random.randbytes(8), closes=True)

    def _close(self, number: int, _slot: _Slot) -> Step:
        step = self._ask(number, OpCode.CLOSE_SESSION, b"", closes=True)
        self._forget(number)
        return step

    def _drop(self, number: int, _slot: _Slot) -> Step:
        return Drop(number)

    def _take_over(self, number: int, _slot: _Slot) -> Step:
        """Come back while the old connection is still there."""
        return Resume(number, "right")

    def _hostile(self, number: int, slot: _Slot) -> Step:
        """Send what is no request; the server closes without a word."""
        random = self._random
        lengths = (-1, -(1 << 31), (1 << 20) + 10, 2**31 - 1)
        raw = random.choice(
            (b"\0\0\0\0", b"\0\0\0\4\0\0\0\1", b"\0\0\0\7\0\0\0\1\0\0\0",
             random.choice(lengths).to_bytes(4, "big", signed=True))
        )  # fmt: skip
        slot.connected = False
        slot.identities.clear()
        return Ask(number, (), 0, closes=True, raw=raw)
