"""Clients of a coordination service that know what must be there after it dies.

Each writer has a subtree of its own and sends writes without waiting for replies, so that what it
finds after a crash can be held against all it knows:

    operations   1  2  3  4  5  6  7  8  9
                 answered ^        ^ sent last

The subtree must be as it is after some operation from 3 to 7, all of it, versions too: nothing that
was answered is missing, nothing that was not sent is there, and nothing is there without what came
before it.  Writers share one znode, /queue, for sequential children: there each child is known by
its data, and has the name that the reply gave it.

Used by the rows 101 to 109, and by the exchange of directories with Apache's server.
"""

from __future__ import annotations

import bisect
import random
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stratalog.wire.zookeeper.messages import (
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    DeleteRequest,
    PathResponse,
    RequestHeader,
    SetDataRequest,
    encode_multi_request,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode

ANYONE = (ACL(31, Id("world", "anyone")),)
QUEUE = "/queue"
TIMEOUT_MS = 60_000
EPHEMERAL, SEQUENTIAL = 1, 2
_reply = struct.Struct(">iiqi").unpack_from

Found = Mapping[str, tuple[bytes | None, int]]
"""What is there: data and version by path."""


@dataclass(frozen=True)
class Operation:
    """A request, what it changes if it succeeds, and which errors its reply may have.

    ``changes`` are (path, data) with data None for a delete; a path below QUEUE stands for the
    sequential child with that data.
    """

    kind: int
    body: bytes
    changes: tuple[tuple[str, bytes | None], ...]
    errors: tuple[int, ...] = (0,)


class Writer:
    """One client.

    Args:
        name: Of its subtree, ``/NAME``.
        seed: Of its operations.
        window: How many are on their way at most.
        data_bytes_max: How long data may be.
    """

    def __init__(
        self, name: str, seed: int, *, window: int = 16, data_bytes_max: int = 300
    ) -> None:
        self.name = name
        self.window = window
        self.session_id, self.password = 0, bytes(16)
        self.complaints: list[str] = []
        self._random = random.Random(f"{seed} {name}")
        self._data_bytes_max = data_bytes_max
        self._base: dict[str, tuple[bytes | None, int]] = {}
        self._now: dict[str, tuple[bytes | None, int]] = {}
        self._operations: list[Operation] = []
        self.answered = 0
        self._answered_ns: list[int] = []
        self._names: dict[bytes, str] = {}
        self._count = 0
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._stopping = False

    # ---- operations ----

    def _next(self) -> Operation:
        draw, self._count = self._random, self._count + 1
        root = f"/{self.name}"
        if root not in self._now:
            if len(self._operations) % 2 == 0:
                errors = (0, int(ErrorCode.NODE_EXISTS))
                return self._create(QUEUE, b"", errors=errors, changes=())
            return self._create(root, b"")
        data = f"{self.name}:{self._count}:".encode()
        data += draw.randbytes(draw.randrange(self._data_bytes_max))
        mine = [path for path in self._now if path.count("/") == 2 and path.startswith(root + "/")]
        choice = draw.random()
        if choice < 0.25 or len(mine) < 3:
            return self._create(f"{root}/n{self._count}", data)
        if choice < 0.35:
            changes = ((f"{QUEUE}/{data.hex()}", data),)
            return self._create(f"{QUEUE}/q-", data, flags=SEQUENTIAL, changes=changes)
        if choice < 0.40:
            return self._create(f"{root}/e{self._count}", data, flags=EPHEMERAL)
        path = draw.choice(mine)
        if choice < 0.70:
            return self._set(path, data)
        if choice < 0.80:
            body = DeleteRequest(path, -1).encode()
            return Operation(int(OpCode.DELETE), body, ((path, None),))
        if choice < 0.90:
            other = f"{root}/m{self._count}"
            body = encode_multi_request([
                (int(OpCode.CREATE), CreateRequest(other, data, ANYONE, 0)),
                (int(OpCode.SET_DATA), SetDataRequest(path, data, -1)),
            ])  # fmt: skip
            return Operation(int(OpCode.MULTI), body, ((other, data), (path, data)))
        body = CreateRequest(path, data, ANYONE, 0).encode()
        return Operation(int(OpCode.CREATE), body, (), (int(ErrorCode.NODE_EXISTS),))

    @staticmethod
    def _create(
        path: str,
        data: bytes,
        *,
        flags: int = 0,
        errors: tuple[int, ...] = (0,),
        changes: tuple[tuple[str, bytes | None], ...] | None = None,
    ) -> Operation:
        body = CreateRequest(path, data, ANYONE, flags).encode()
        if changes is None:
            changes = ((path, data),)
        return Operation(int(OpCode.CREATE), body, changes, errors)

    @staticmethod
    def _set(path: str, data: bytes) -> Operation:
        return Operation(
            int(OpCode.SET_DATA), SetDataRequest(path, data, -1).encode(), ((path, data),)
        )

    # ---- the connection ----

    def connect(self, address: str) -> None:
        """Begin a session, or resume the one it has.

        Raises:
            OSError: The server is not there.
            RuntimeError: The session expired.
        """
        host, _, port = address.rpartition(":")
        self._socket = connection = socket.create_connection((host, int(port)), timeout=30)
        request = ConnectRequest(0, 0, TIMEOUT_MS, self.session_id, self.password)
        connection.sendall(_framed(request.encode()))
        answer = ConnectResponse.decode(_receive(connection))
        if answer.timeout <= 0:
            raise RuntimeError(f"{self.name}: session 0x{self.session_id:x} expired")
        self.session_id, self.password = answer.session_id, answer.password

    def start(self, address: str, operations: int = 1 << 30) -> None:
        """Write until the connection breaks, ``stop``, or so many operations are answered."""
        self.connect(address)
        self._stopping = False
        self._thread = threading.Thread(target=self._write, args=(operations,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more, and wait for the replies."""
        self._stopping = True
        self.join()

    def join(self) -> None:
        """Wait for the end of the connection or of the operations; keeps the session."""
        if self._thread is not None:
            self._thread.join(60)
            if self._thread.is_alive():
                self.complaints.append(f"{self.name}: hangs")
            self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _write(self, operations: int) -> None:
        connection = self._socket
        assert connection is not None
        try:
            while True:
                frames = []
                left = min(self.answered + self.window, operations) - len(self._operations)
                for _ in range(0 if self._stopping else left):
                    operation = self._next()
                    self._operations.append(operation)
                    _apply(self._now, operation)
                    header = RequestHeader(len(self._operations), operation.kind)
                    frames.append(_framed(header.encode() + operation.body))
                connection.sendall(b"".join(frames))
                if self.answered == len(self._operations):
                    return
                for _ in range(max(1, (len(self._operations) - self.answered) // 2)):
                    self._take(_receive(connection))
        except OSError:
            return  # what was answered is known

    def _take(self, frame: bytes) -> None:
        _, xid, _, err = _reply(struct.pack(">i", len(frame)) + frame[:16])
        operation = self._operations[self.answered]
        if xid != self.answered + 1 or err not in operation.errors:
            self.complaints.append(
                f"{self.name}: reply {self.answered + 1} has xid {xid}, error {err}, not "
                f"{operation.errors}"
            )
        elif err == 0 and operation.changes and operation.changes[0][0].startswith(f"{QUEUE}/"):
            path = PathResponse.decode(frame[16:]).path
            self._names[operation.changes[0][1] or b""] = path or ""
        self.answered += 1
        self._answered_ns.append(time.monotonic_ns())

    # ---- what must be there ----

    def check(self, found: Found, until_ns: int | None = None) -> list[str]:
        """Hold what is there against what is known; then go on from there.

        Args:
            found: The whole tree.
            until_ns: Replies that came later do not count: nobody was there to hear them.

        Returns:
            What is wrong, in sentences.
        """
        complaints, self.complaints = self.complaints, []
        root = f"/{self.name}"
        mine = {
            path: what
            for path, what in found.items()
            if path == root or path.startswith(root + "/")
        }
        names = {}
        for path, (data, _) in found.items():
            if path.startswith(f"{QUEUE}/") and (data or b"").startswith(root[1:].encode() + b":"):
                mine[f"{QUEUE}/{(data or b'').hex()}"] = (data, 0)
                names[data or b""] = path
        if until_ns is not None:
            self.answered = bisect.bisect_right(self._answered_ns, until_ns)
        answered_data = {
            operation.changes[0][1]
            for operation in self._operations[: self.answered]
            if operation.changes
        }
        state = dict(self._base)
        for operation in self._operations[: self.answered]:
            _apply(state, operation)
        first = dict(state)
        for number in range(self.answered, len(self._operations) + 1):
            if state == mine:
                complaints += [
                    f"{self.name}: {path} was answered, and is {names.get(data)}"
                    for data, path in self._names.items()
                    if names.get(data) != path and data in answered_data
                ]
                self._begin_anew(state)
                return complaints
            if number < len(self._operations):
                _apply(state, self._operations[number])
        missing = [p for p in first if p not in mine][:3]
        more = [p for p in mine if p not in first and p not in state][:3]
        other = [p for p in mine if p in first and mine[p] != first[p]][:3]
        complaints.append(
            f"{self.name}: of {len(self._operations)} operations {self.answered} were answered, "
            f"and the tree is as after none from there on: missing {missing}, invented {more}, "
            f"different {[(p, mine[p][1], first[p][1]) for p in other]}"
        )
        self._begin_anew(mine)
        return complaints

    def _begin_anew(self, state: Mapping[str, tuple[bytes | None, int]]) -> None:
        self._base, self._now = dict(state), dict(state)
        self._operations, self.answered, self._names = [], 0, {}
        self._answered_ns = []


def _apply(state: dict[str, tuple[bytes | None, int]], operation: Operation) -> None:
    for path, data in operation.changes:
        if data is None:
            del state[path]
        elif path in state:
            state[path] = (data, state[path][1] + 1)
        else:
            state[path] = (data, 0)


def _framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def _receive(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    pieces = []
    while count:
        piece = connection.recv(count)
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def check_all(writers: Iterable[Writer], found: Found, until_ns: int | None = None) -> list[str]:
    """Check every writer; see that no sequential child is nobody's."""
    complaints = [sentence for writer in writers for sentence in writer.check(found, until_ns)]
    known = tuple(f"{writer.name}:".encode() for writer in writers)
    complaints += [
        f"{path} is nobody's"
        for path, (data, _) in found.items()
        if path.startswith(f"{QUEUE}/") and not (data or b"").startswith(known)
    ]
    return complaints
