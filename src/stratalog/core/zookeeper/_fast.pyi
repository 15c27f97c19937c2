# The plain requests of a ZooKeeper, in C: see fast/fast.h.

from collections.abc import Iterator
from typing import Any, Generic, Literal, TypeVar

from stratalog.core.zookeeper.identity import Acl
from stratalog.core.zookeeper.watches import EventType

_T = TypeVar("_T")

class _Numbers:
    data: bytes | None
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    owner: int
    digest: int

class Znode(_Numbers):
    acl: int
    children: dict[str, Znode] | None
    def __init__(
        self, data: bytes | None, acl: int, zxid: int, time_ms: int, owner: int
    ) -> None: ...
    def stat(self, extended: bool, /) -> bytes: ...
    def joins(self, parent: Znode, /) -> None: ...

class Change(_Numbers):
    path: str
    acl: Acl
    zxid: int
    children_count: int
    gone: bool
    def __init__(self, path: str, zxid: int) -> None: ...

class Session:
    session_id: int
    timeout_ms: int
    bucket_ms: int
    closing: bool
    def __init__(self, session_id: int, timeout_ms: int) -> None: ...

class Prepared:
    type: int
    session_id: int
    cxid: int
    zxid: int
    time_ms: int
    payload: bytes
    def __init__(
        self,
        kind: int,
        session_id: int,
        cxid: int,
        zxid: int,
        time_ms: int,
        fields: tuple[Any, ...],
        digest: int | None,
        payload: bytes,
        digests: dict[str, int],
    ) -> None: ...
    @property
    def fields(self) -> tuple[Any, ...]: ...
    @property
    def digest(self) -> int | None: ...
    @property
    def digests(self) -> dict[str, int]: ...

class Write:
    client: Any
    kind: int
    xid: int
    at_ms: int
    def __init__(
        self, client: Any, kind: int, xid: int, prepared: Prepared, at_ms: int
    ) -> None: ...
    @property
    def prepared(self) -> Prepared: ...

class Queue(Generic[_T]):
    def append(self, item: _T, /) -> None: ...
    def popleft(self) -> _T: ...
    def pop(self) -> _T: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> _T: ...
    def __iter__(self) -> Iterator[_T]: ...

class SpreadCounts:
    count: int
    total: int
    least: int
    greatest: int
    _times: Any
    def add(self, value: int, times: int = 1, /) -> None: ...

class TrafficCounts:
    received: int
    received_bytes: int
    sent: int
    sent_bytes: int

class SizeCounts:
    last: int
    least: int
    greatest: int
    def add(self, last: int, least: int, greatest: int, /) -> None: ...

class Walk:
    def __init__(self, tree: TreeState) -> None: ...
    def piece(self, count: int, /) -> bytes | None: ...

class AclCounts:
    _open: int
    _open_uses: int

class TreeState:
    nodes: dict[str, Znode]
    ephemerals: dict[int, dict[str, None]]
    acls: Any
    digest: int
    last_zxid: int
    data_bytes: int
    extended: bool
    digests: bool
    _quota_paths: set[str]
    _data_watches: Any
    _child_watches: Any
    _data_watchers: dict[str, Any]
    _child_watchers: dict[str, Any]

class Outlook:
    zxid: int
    _digest: int
    _by_path: dict[str, Change]
    _changes: Queue[Change]
    _txn_bytes_max: int
    _enforce_quota: bool
    def applied(self, zxid: int, /) -> None: ...

class ClientState:
    session: Session | None
    pending: Queue[Any]
    held: list[bytes] | None
    out: list[bytes]
    farewell: Any
    talkative: bool

class MachineState:
    tree: Any
    preparer: Any
    tracker: Any
    statistics: Any
    now_ms: int
    wall_ms: int
    fast: bool
    _waiting: Queue[Write]
    _proposals: list[Prepared]
    _talkative: list[Any]
    _tick_ms: int
    _strict: bool

def tell(
    open_acl: Acl,
    created: EventType,
    deleted: EventType,
    data_changed: EventType,
    children_changed: EventType,
    long_answer_bytes: int,
    /,
) -> None: ...
def digest_of(path: str, node: Znode | Change, /) -> int: ...
def feed(
    machine: MachineState,
    client: ClientState,
    data: bytes,
    at: int,
    frame_bytes_max: int,
    answer_bytes_max: int,
    pending_max: int,
    slow_max: int,
    /,
) -> tuple[int, int, int, bool]: ...
def load(tree: TreeState, data: bytes, at: int, field_bytes_max: int, /) -> int: ...
def replay(tree: TreeState, payload: bytes, /) -> int | Literal[False] | None: ...
def commit(machine: MachineState, zxid: int, /) -> None: ...
