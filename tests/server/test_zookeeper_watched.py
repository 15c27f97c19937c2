"""Connections whose sockets the server reads itself: every way to end, to stop, to go on (line.c).

Each is run with asyncio's own loop and with uvloop: transports differ in what they say of an end.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvloop

from stratalog.server.zookeeper._line import Line
from stratalog.server.zookeeper.connection import ClientConnection
from stratalog.server.zookeeper.server import CoordinationServer
from stratalog.server.zookeeper.settings import Settings
from stratalog.wire.zookeeper.messages import ConnectRequest, CreateRequest, PathWatchRequest
from stratalog.wire.zookeeper.records import ACL, Id

OPEN = (ACL(31, Id("world", "anyone")),)
CREATE, EXISTS, GET_DATA, PING, CLOSE = 1, 3, 4, 11, -11
Body = Callable[[CoordinationServer], Awaitable[None]]


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def request(xid: int, kind: int, body: bytes = b"") -> bytes:
    return framed(struct.pack(">ii", xid, kind) + body)


CONNECT = framed(ConnectRequest(0, 0, 30_000, 0, bytes(16)).encode())
READ_ROOT = PathWatchRequest("/", False).encode()


class Peer:
    """A client of raw bytes, on the server's own loop."""

    made: ClassVar[list[Peer]] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()

    async def begin(self, server: CoordinationServer) -> ClientConnection:
        """Open a session; return the server's side, which reads for itself by then."""
        known = set(server.connections)
        await self.loop.sock_connect(self.socket, ("127.0.0.1", server.port))
        await self.send(CONNECT)
        await self.frame()
        (mine,) = server.connections - known
        assert mine.is_watched
        assert mine.is_reading
        return mine

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await asyncio.wait_for(self.loop.sock_recv(self.socket, size - len(data)), 30)
            if not more:
                raise EOFError
            data += more
        return data

    async def frame(self) -> tuple[int, bytes]:
        """Return a reply's xid and all of it."""
        body = await self.exactly(int.from_bytes(await self.exactly(4), "big"))
        return int.from_bytes(body[:4], "big", signed=True), body

    async def ask(self, xid: int, kind: int, body: bytes) -> bytes:
        await self.send(request(xid, kind, body))
        answered, reply = await self.frame()
        assert answered == xid
        return reply


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    """Run something beside a server, on one loop."""

    def run_it(body: Body, **said: Any) -> None:
        async def main() -> None:
            server = CoordinationServer(Settings(tmp_path, port=0, **said))
            await server.start()
            try:
                await body(server)
                assert server.failure is None
            finally:
                await server.stop()
                while Peer.made:
                    Peer.made.pop().socket.close()
            assert not server.connections

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run_it


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestEnds:
    def test_a_client_that_hangs_up_is_forgotten(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            mine = await peer.begin(server)
            dropped = server.machine.statistics.connections_dropped
            peer.socket.close()
            await until(lambda: not server.connections)
            assert not mine.is_watched
            assert mine.fd == -1
            assert server.machine.statistics.connections_dropped == dropped + 1

        run(body)

    def test_a_connection_that_is_reset_is_forgotten(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            await peer.begin(server)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.socket.close()
            await until(lambda: not server.connections)

        run(body)

    def test_requests_before_the_end_are_taken(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            await peer.begin(server)
            await peer.send(request(1, CREATE, CreateRequest("/a", b"x", OPEN, 0).encode()))
            peer.socket.shutdown(socket.SHUT_WR)
            await until(lambda: not server.connections)
            await until(lambda: "/a" in server.machine.tree.nodes)

        run(body)

    def test_a_session_that_is_closed_closes_its_connection(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            mine = await peer.begin(server)
            await peer.send(request(1, CLOSE))
            assert (await peer.frame())[0] == 1
            with pytest.raises(EOFError):
                await peer.frame()
            await until(lambda: not server.connections)
            assert not mine.is_watched

        run(body)

    def test_one_that_is_closed_in_the_turn_in_which_it_spoke(self, run: Any) -> None:
        """Both have something in one turn; the first one's request closes the second."""

        async def body(server: CoordinationServer) -> None:
            first, second = Peer(), Peer()
            one, other = await first.begin(server), await second.begin(server)
            taken = server.machine.feed

            def closing(*said: Any) -> Any:
                other.abort()
                one.abort()
                return taken(*said)

            server.machine.feed = closing  # type: ignore[method-assign]
            server.machine.fast = False  # so that Python sees them
            first.socket.send(request(1, EXISTS, READ_ROOT))
            second.socket.send(request(1, EXISTS, READ_ROOT))
            await until(lambda: not server.connections)
            assert not one.is_watched
            assert not other.is_watched

        run(body)

    def test_nothing_is_left_of_many(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            first = Peer()
            await first.begin(server)  # a log is begun by the first session
            first.socket.close()
            await until(lambda: not server.connections)
            before = descriptors()
            for n in range(60):
                peer = Peer()
                await peer.begin(server)
                if n % 3 == 0:
                    await peer.send(b"\0\0\0")
                peer.socket.close()
            await until(lambda: not server.connections)
            gc.collect()
            assert descriptors() == before
            assert not [one for one in gc.get_objects() if isinstance(one, ClientConnection)]

        run(body)


class TestGoingOn:
    def test_frames_that_come_in_pieces(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            mine = await peer.begin(server)
            data = b"".join(request(n, EXISTS, READ_ROOT) for n in range(1, 30))
            for at in range(0, len(data), 7):
                await peer.send(data[at : at + 7])
                await asyncio.sleep(0)
            for n in range(1, 30):
                assert (await peer.frame())[0] == n
            assert mine.is_watched

        run(body)

    def test_one_that_is_paused_keeps_what_comes_until_it_goes_on(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            mine = await peer.begin(server)
            for _ in range(3):
                mine.pause_reading()
                assert not mine.is_reading
                assert not mine.is_watched
                heard = server._heard
                await peer.send(request(5, EXISTS, READ_ROOT))
                await asyncio.sleep(0.02)
                assert server._heard == heard
                mine.resume_reading()
                assert mine.is_watched
                assert (await peer.frame())[0] == 5

        run(body)

    def test_a_crowd_of_writes_stops_it_and_lets_it_go_on(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            mine = await peer.begin(server)
            count = 400
            create = [CreateRequest(f"/n{n}", b"", OPEN, 0).encode() for n in range(count)]
            await peer.send(b"".join(request(n, CREATE, create[n]) for n in range(count)))
            for n in range(count):
                assert (await peer.frame())[0] == n
            await until(lambda: mine.is_watched)

        run(body, outstanding_max=10)

    def test_one_that_does_not_read_is_not_read_from(self, run: Any) -> None:
        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mine = await peer.begin(server)
            await peer.ask(1, CREATE, CreateRequest("/big", bytes(300_000), OPEN, 0).encode())
            read = PathWatchRequest("/big", False).encode()
            count = 40
            sending = asyncio.create_task(
                peer.send(b"".join(request(n, GET_DATA, read) for n in range(count)))
            )
            await until(lambda: mine.writing_paused)
            assert not mine.is_reading
            for n in range(count):
                assert (await peer.frame())[0] == n
            await sending
            await until(lambda: mine.is_watched)

        run(body)

    def test_news_of_a_log_whose_descriptor_was_another_logs(self, run: Any) -> None:
        """Who need not wait for the disk closes the log at a roll: the next may get its number."""

        async def body(server: CoordinationServer) -> None:
            peer = Peer()
            await peer.begin(server)
            for n in range(4):
                server.log.roll()
                await peer.ask(n, CREATE, CreateRequest(f"/n{n}", b"", OPEN, 0).encode())
                await until(lambda: not server._sync_asked_ms)

        run(body, force_sync=False)


class TestMisuse:
    def test_nobody_watches_what_has_no_server_or_no_descriptor(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="nobody to watch"):
            Line().watch()
        server = CoordinationServer(Settings(tmp_path))
        line = Line()
        line._server = server
        line.fd = 0
        with pytest.raises(RuntimeError, match="nobody to watch"):
            line.watch()  # there is no poller
        line.unwatch()
        server.turn()

    def test_a_poller_lets_go_of_all(self, tmp_path: Path) -> None:
        server, other = (
            CoordinationServer(Settings(tmp_path)),
            CoordinationServer(Settings(tmp_path)),
        )
        server.open_poller()
        with pytest.raises(RuntimeError, match="there is a poller"):
            server.open_poller()
        ours, theirs = socket.socketpair()
        line, second = Line(), Line()
        for one in (line, second):
            one._server = server
            one.fd = ours.fileno()
        line.watch()
        line.watch()
        with pytest.raises(RuntimeError, match="another has descriptor"):
            second.watch()
        with pytest.raises(RuntimeError, match="another server"):
            line._server = other
        line.fd = -1  # what is watched is remembered apart
        server.close_poller()
        assert not line.is_watched
        server.close_poller()
        server.open_poller()
        line.fd = ours.fileno()
        line.watch()
        theirs.close()
        del line, server
        gc.collect()
        ours.close()
