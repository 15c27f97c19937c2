"""What rows 125 to 135 share: a server under attack, clients that attack it, and one that does not.

    Peer        a socket and bare frames: whatever bytes the row likes, and what comes back
    Innocent    an honest client beside the attack.  Again and again it writes, reads back what it
                wrote, hears of it by a watch before it hears the answer, and makes and deletes an
                ephemeral.  Each answer must be the right one, and come at all.
    Besieged    the server process with an innocent: what it holds in memory, what it said, how it
                ends, and whether a restart finds a sound directory

No time is asserted, but that an answer comes within ANSWER_S_MAX, which is far more than a server
needs.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from stratalog.wire.zookeeper.messages import (
    AddWatchRequest,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    DataResponse,
    DeleteRequest,
    Empty,
    PathRequest,
    PathWatchRequest,
    SetDataRequest,
    StatResponse,
    WatcherEvent,
)
from stratalog.wire.zookeeper.records import ErrorCode, OpCode, Permission

from .service import Service, judge
from .traffic import ANYONE

if TYPE_CHECKING:
    from stratalog.wire.jute import Record

    from .bench import Bench

ANSWER_S_MAX = 60.0
SESSION_MS = 60_000
EPHEMERAL, SEQUENTIAL = 1, 2
EVENT_XID, PING_XID, AUTH_XID = -1, -2, -4
MIB = 1 << 20

_header = struct.Struct(">iqi")
_HEADER_BYTES = _header.size


class Reply(NamedTuple):
    """A reply, or an event: xid -1."""

    xid: int
    zxid: int
    err: int
    body: bytes


class Gone(Exception):  # noqa: N818  (it says what is the case)
    """The server closed the connection."""


class Silent(Exception):  # noqa: N818  (it says what is the case)
    """The server neither answered nor closed the connection, however long it was waited for."""


def framed(body: bytes) -> bytes:
    """Put the length before a body."""
    return struct.pack(">i", len(body)) + body


def request(xid: int, kind: int, body: bytes | Record = b"") -> bytes:
    """Make a whole frame of a request."""
    data = body if isinstance(body, bytes) else body.encode()
    return framed(struct.pack(">ii", xid, kind) + data)


def get_data(path: str, *, watch: bool = False) -> PathWatchRequest:
    """Ask for the data of a znode, or for its children, or whether it is there."""
    return PathWatchRequest(path, watch)


def create(path: str, data: bytes = b"", flags: int = 0, acl=ANYONE) -> CreateRequest:
    """Ask for a znode."""
    return CreateRequest(path, data, acl, flags)


class Peer:
    """A client that sends what it likes.

    Args:
        address: ``host:port`` of the server.
        tls: How to speak; None: plainly.
        receive_bytes: How much the kernel keeps for us; 0: as it likes.
    """

    def __init__(
        self, address: str, *, tls: ssl.SSLContext | None = None, receive_bytes: int = 0
    ) -> None:
        host, _, port = address.rpartition(":")
        self.events: list[tuple[Reply, WatcherEvent]] = []
        self.session_id, self.password = 0, bytes(16)
        self._xid = 0
        self._kept = bytearray()
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(ANSWER_S_MAX)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Go, without a word."""
        self.socket.close()

    def begin(self, timeout_ms: int = SESSION_MS) -> Self:
        """Begin a session, or resume the one it has."""
        wish = ConnectRequest(0, 0, timeout_ms, self.session_id, self.password)
        self.send(framed(wish.encode()))
        answer = ConnectResponse.decode(self.frame())
        if answer.timeout <= 0:
            raise Gone("the session is not there")
        self.session_id, self.password = answer.session_id, answer.password
        return self

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            Gone: Nobody takes them.
            Silent: Nobody takes them, and the connection is there.
        """
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise Silent(f"{len(data)} bytes are not taken") from None
        except OSError as error:
            raise Gone(str(error)) from None

    def _more(self) -> None:
        try:
            piece = self.socket.recv(256 << 10)
        except TimeoutError:
            raise Silent("no answer") from None
        except OSError as error:
            raise Gone(str(error)) from None
        if not piece:
            raise Gone("closed")
        self._kept += piece

    def frame(self) -> bytes:
        """Take the next frame.

        Raises:
            Gone: The server closed the connection.
            Silent: There is neither a frame nor an end.
        """
        while len(self._kept) < 4:
            self._more()
        (length,) = struct.unpack_from(">i", self._kept)
        if length < 0:
            raise AssertionError(f"the server sent a frame of {length} bytes")
        while len(self._kept) < 4 + length:
            self._more()
        body = bytes(self._kept[4 : 4 + length])
        del self._kept[: 4 + length]
        return body

    def reply(self) -> Reply:
        """Take the next reply or event."""
        body = self.frame()
        return Reply(*_header.unpack_from(body), body[_HEADER_BYTES:])

    def ask(self, kind: int, body: bytes | Record = b"", xid: int | None = None) -> Reply:
        """Ask, and wait for the reply to it; events that come before are kept."""
        if xid is None:
            self._xid = xid = self._xid + 1
        self.send(request(xid, kind, body))
        while True:
            reply = self.reply()
            if reply.xid != EVENT_XID or xid == EVENT_XID:
                return reply
            self.events.append((reply, WatcherEvent.decode(reply.body)))

    def do(self, kind: int, body: bytes | Record = b"", err: int = 0) -> Reply:
        """Ask for what must be answered with this error code."""
        reply = self.ask(kind, body)
        if reply.err != err:
            raise AssertionError(f"{OpCode(kind).name} is answered with {reply.err}, not {err}")
        return reply

    def sync(self) -> None:
        """Wait until all that was asked for is answered."""
        self.do(OpCode.SYNC, PathRequest("/"))

    def ended(self) -> bool:
        """Wait for the end of the connection; False: it is still there, and says nothing."""
        try:
            while True:
                self._more()
                self._kept.clear()
        except Gone:
            return True
        except Silent:
            return False


class Innocent:
    """An honest client; see above.

    Args:
        address: Of the server.
        name: Of its znode.
    """

    def __init__(self, address: str, name: str = "innocent") -> None:
        self.rounds = 0
        self.complaints: list[str] = []
        self._path = f"/{name}"
        self._address = address
        self._stopping = threading.Event()
        self._peer = Peer(address).begin()
        self._peer.ask(OpCode.DELETE, DeleteRequest(self._path, -1))  # of a server before
        self._peer.do(OpCode.CREATE, create(self._path, b"0"))
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def wait_rounds(self, count: int) -> None:
        """Wait until it has been served so often from now on."""
        wanted, end = self.rounds + count, time.monotonic() + ANSWER_S_MAX
        while self.rounds < wanted and not self.complaints:
            if time.monotonic() > end:
                self.complaints.append(f"it was not served {count} times in {ANSWER_S_MAX} s")
            time.sleep(0.005)

    def stop(self) -> None:
        """Let it end its round."""
        self._stopping.set()
        self._thread.join(2 * ANSWER_S_MAX)
        if self._thread.is_alive():
            self.complaints.append("it hangs")
        self._peer.close()

    def _live(self) -> None:
        try:
            while not self._stopping.is_set():
                self._round()
                self.rounds += 1
                self._stopping.wait(0.004)
        except (Gone, Silent, AssertionError) as error:
            self.complaints.append(f"round {self.rounds}: {type(error).__name__}: {error}")

    def _round(self) -> None:
        peer, path, number = self._peer, self._path, self.rounds + 1
        before, value = str(number - 1).encode(), str(number).encode()
        reply = peer.do(OpCode.GET_DATA, get_data(path, watch=True))
        found = DataResponse.decode(reply.body)
        assert (found.data, found.stat.version) == (before, number - 1), f"read {found}"
        reply = peer.do(OpCode.SET_DATA, SetDataRequest(path, value, number - 1))
        assert StatResponse.decode(reply.body).stat.version == number, "another version"
        events = [(event.type, event.path, told.zxid) for told, event in peer.events]
        assert events == [(3, path, reply.zxid)], f"events before the answer: {events}"
        peer.events.clear()
        if number % 8 == 0:
            own = f"{path}-{number}"
            peer.do(OpCode.CREATE, create(own, b"", EPHEMERAL))
            peer.do(OpCode.EXISTS, get_data(own))
            peer.do(OpCode.DELETE, DeleteRequest(own, 0))
            peer.do(OpCode.EXISTS, get_data(own), int(ErrorCode.NO_NODE))


class Besieged:
    """A server process with an innocent client.

    Args:
        bench: The row's.
        numbers: Settings, as ``service`` takes them.
        files_max: How many files and sockets it may have open; 0: as many as we.
        data_dir: Where it keeps its files; None: a fresh place.
    """

    def __init__(
        self,
        bench: Bench,
        numbers: dict[str, int | str] | None = None,
        *,
        files_max: int = 0,
        data_dir: Path | None = None,
    ) -> None:
        self.bench = bench
        self.data_dir = data_dir or bench.fresh("data")
        limit = ("sh", "-c", f'ulimit -n {files_max}; exec "$@"', "sh") if files_max else ()
        known = {"connections_per_address_max": 0, "reserve_bytes": 1 << 20, **(numbers or {})}
        self.service = Service(bench, self.data_dir, known, limit)
        if not self.service.listens():
            said = self.service.said()[-500:]
            self.service.kill()
            raise RuntimeError(f"the server did not start: {said}")
        self.address = self.service.address
        self.innocent = Innocent(self.address)

    # ---- what it holds ----

    def resident_bytes(self, name: str = "VmRSS") -> int:
        """Return what it holds in memory, or with ``VmHWM`` the most that it held."""
        status = Path(f"/proc/{self.service.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(name + ":")]
        return int(line.split()[1]) << 10

    def open_files(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.service.process.pid}/fd").iterdir()))

    @contextlib.contextmanager
    def holds_at_most(self, bytes_max: int, what: str) -> Iterator[None]:
        """Fail when, at any time within, it holds so much more than before."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.service.process.pid}/clear_refs").write_text("5")
        before = self.resident_bytes()
        yield
        if self.service.process.poll() is not None:
            return  # ``end`` says so
        more = self.resident_bytes("VmHWM") - before
        if more > bytes_max:
            self.bench.fail(f"{what}: {more >> 20} MiB more, at most {bytes_max >> 20} are fair")

    # ---- how it ends ----

    def served(self, what: str, rounds: int = 3) -> None:
        """The innocent one is still served."""
        self.innocent.wait_rounds(rounds)
        self.tell(what)

    def tell(self, what: str) -> None:
        """Take the innocent one's complaints for failures."""
        complaints, self.innocent.complaints = self.innocent.complaints, []
        for complaint in complaints:
            self.bench.fail(f"{what}: the innocent client: {complaint}")
        status = self.service.process.poll()
        if status is not None:
            self.bench.fail(f"{what}: the server ended with {status}: {self.service.said()[-800:]}")

    def end(self, what: str, *, sound: bool = True) -> None:
        """End it as an operator does; it must end well, have stumbled nowhere, and leave a tree."""
        try:
            self.innocent.stop()
            self.tell(what)
            if self.service.process.poll() is None:
                self.service.process.terminate()
                status = self.service.wait()
                if status != 0:
                    self.bench.fail(f"{what}: it ended with {status}, not 0")
            said = self.service.said()
            at = said.find("Traceback")
            if at >= 0:
                self.bench.fail(f"{what}: it stumbled: {said[at : at + 4000][-900:]}")
        finally:
            self.service.kill()
        if sound and not self.bench.broken:
            judge(self.bench, self.data_dir, [], what)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        expected = isinstance(error, OSError | Gone | Silent | AssertionError)
        if expected:  # an attacker was treated otherwise than the row expects
            if not self.bench.broken:
                self.tell("it broke off")
            where = traceback.extract_tb(trace)[-1]
            said = self.service.said()[-600:]
            self.bench.fail(
                f"{type(error).__name__}: {error} ({where.name}, line {where.lineno}); the server "
                f"said: {said}"
            )
        self.service.kill()
        return expected


def guarded(path: str, scheme: str = "digest", who: str = "nobody:x") -> CreateRequest:
    """Ask for a znode that only one may read."""
    from stratalog.wire.zookeeper.records import ACL, Id

    return CreateRequest(path, b"", (ACL(int(Permission.ALL), Id(scheme, who)),), 0)


def add_watch(path: str, *, recursive: bool) -> AddWatchRequest:
    """Ask to hear of a path for good."""
    return AddWatchRequest(path, 1 if recursive else 0)


NOTHING = Empty()
