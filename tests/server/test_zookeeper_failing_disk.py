"""A disk that fails under the server, in one process: what is answered, what is left behind.

The trials do this with real file systems and kills; here each fault is put in one place, so that
what follows it can be looked at.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.trials.traffic import ANYONE

from stratalog.core.zookeeper.standalone import Options, Standalone
from stratalog.errors import NoSpaceError, PoisonedError
from stratalog.server.zookeeper.recovery import Source, restore
from stratalog.server.zookeeper.server import CoordinationServer
from stratalog.server.zookeeper.settings import Settings
from stratalog.storage.zookeeper import txn_log
from stratalog.storage.zookeeper.snapshots import SnapshotTarget, list_snapshots
from stratalog.storage.zookeeper.txn_log import TxnLog, list_logs, read_from
from stratalog.wire.zookeeper.messages import (
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    PathWatchRequest,
    RequestHeader,
    SetACLRequest,
)
from stratalog.wire.zookeeper.records import OpCode
from stratalog.wire.zookeeper.txns import ErrorTxn, Transaction, TxnHeader

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 20


class Client:
    """A raw client on the server's own loop."""

    async def connect(self, server: CoordinationServer) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", server.port)
        self.send(ConnectRequest(0, 0, 30_000, 0, bytes(16)).encode())
        ConnectResponse.decode(await self.frame())

    def send(self, *bodies: bytes) -> None:
        self.writer.write(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))

    def create(self, xid: int, path: str) -> bytes:
        request = CreateRequest(path, b"", ANYONE, 0)
        return RequestHeader(xid, int(OpCode.CREATE)).encode() + request.encode()

    def exists(self, xid: int, path: str) -> bytes:
        request = PathWatchRequest(path, False)
        return RequestHeader(xid, int(OpCode.EXISTS)).encode() + request.encode()

    async def frame(self) -> bytes:
        length = int.from_bytes(await self.reader.readexactly(4), "big")
        return await self.reader.readexactly(length)

    async def all_frames(self) -> list[bytes]:
        """What comes until the connection ends."""
        frames = []
        try:
            while True:
                frames.append(await self.frame())
        except (asyncio.IncompleteReadError, ConnectionError):
            return frames
        finally:
            self.writer.close()


def held(data_dir: Path) -> set[str]:
    place = data_dir / "version-2"
    return set(restore(Source(place, place, LIMIT)).tree.nodes)


def test_after_a_refused_write_nothing_is_answered_nor_persisted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what would fit again, and no read."""

    async def run() -> list[bytes]:
        server = CoordinationServer(Settings(tmp_path, port=0))
        await server.start()
        one, other = Client(), Client()
        await one.connect(server)
        await other.connect(server)
        one.send(one.create(1, "/a"))
        await one.frame()
        real, calls = server.log.append, []

        def full(*arguments: Any) -> bool:
            calls.append(arguments)
            if len(calls) == 1:
                raise NoSpaceError("no room")
            return real(*arguments)

        monkeypatch.setattr(server.log, "append", full)
        one.send(one.create(2, "/refused"), one.exists(3, "/a"))
        other.send(other.exists(1, "/a"))
        await asyncio.wait_for(server.failed.wait(), 20)
        other.send(other.create(2, "/later"), other.exists(3, "/a"))
        frames = [*await one.all_frames(), *await other.all_frames()]
        assert len(calls) == 1
        await server.stop()
        assert isinstance(server.failure, NoSpaceError)
        return frames

    frames = asyncio.run(run())
    # A read of the other client may have been answered before the disk refused anything.
    assert len(frames) <= 1
    assert held(tmp_path) & {"/a", "/refused", "/later"} == {"/a"}


@pytest.mark.parametrize("where", ["receive", "commit_one", "tick"])
def test_what_nobody_expects_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A zxid may be taken, a write half applied: nothing may follow."""

    async def run() -> list[bytes]:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        options = Options(tick_ms=100, session_ms_min=200)
        server = CoordinationServer(Settings(tmp_path, port=0, options=options))
        await server.start()
        one = Client()
        await one.connect(server)

        def broken(*_arguments: object) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(Standalone, where, broken)
        # setACL is nothing that C does.
        acl = SetACLRequest("/", ANYONE, -1)
        one.send(RequestHeader(1, int(OpCode.SET_ACL)).encode() + acl.encode())
        frames = await asyncio.wait_for(one.all_frames(), 20)
        await asyncio.wait_for(server.failed.wait(), 20)
        assert "a fault of ours" in str(server.failure)
        assert told
        monkeypatch.undo()
        await server.stop()
        return frames

    # Only the tick may have let an answer out before.
    assert len(asyncio.run(run())) <= (where == "tick")
    assert "/" in held(tmp_path)


def test_a_failed_sync_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        server = CoordinationServer(Settings(tmp_path, port=0))
        await server.start()
        one = Client()
        await one.connect(server)

        def poisoned() -> int:
            raise PoisonedError("writing or syncing failed")

        monkeypatch.setattr(server.log, "durable_zxid", poisoned)
        one.send(one.create(1, "/a"), one.exists(2, "/"))
        assert await one.all_frames() == []
        assert isinstance(server.failure, PoisonedError)
        await server.stop()

    asyncio.run(run())


def test_a_stop_waits_for_a_snapshot_that_is_being_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    real = SnapshotTarget.finish

    def slow(self: SnapshotTarget, tail: Any) -> None:
        if self.zxid:
            began.set()
            go_on.wait(20)
        real(self, tail)

    monkeypatch.setattr(SnapshotTarget, "finish", slow)

    async def run() -> None:
        server = CoordinationServer(Settings(tmp_path, port=0, snapshot_every=2))
        await server.start()
        one = Client()
        await one.connect(server)
        one.send(*(one.create(xid, f"/n{xid}") for xid in range(1, 9)))
        await asyncio.to_thread(began.wait, 20)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        go_on.set()
        await stopping
        one.writer.close()

    asyncio.run(run())
    names = [path.name for path in (tmp_path / "version-2").iterdir()]
    assert not [name for name in names if name.endswith(".tmp")]
    assert list_snapshots(tmp_path / "version-2")[0].zxid > 0
    assert "/n8" in held(tmp_path)


def test_a_snapshot_that_finds_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)

    async def run() -> None:
        server = CoordinationServer(Settings(tmp_path, port=0))
        with pytest.raises(OSError, match="No space"):
            await server.start()
        await server.stop()

    asyncio.run(run())
    assert [path.name for path in (tmp_path / "version-2").iterdir() if "snap" in path.name] == []


class SlowJournal:
    """A journal whose disk is slow: nothing is durable before it is told so."""

    made: list[SlowJournal]

    def __init__(self, path: Path, *, reserve_bytes: int, head: bytes, at_once: bool) -> None:
        self.path, self.data, self.synced, self.at_once = path, head, 0, at_once
        type(self).made.append(self)

    def append(self, data: bytes, *, request: bool) -> int:
        assert request
        self.data += data
        return len(self.data)

    def durable(self) -> int:
        return self.synced

    def close(self) -> None:
        self.synced = len(self.data)
        self.path.write_bytes(self.data)


def payload(zxid: int) -> bytes:
    return Transaction(TxnHeader(1, 1, zxid, 1, -1), ErrorTxn(-101), None).encode()


@pytest.mark.parametrize("hold", [True, False])
def test_a_log_is_begun_once_the_one_before_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: bool
) -> None:
    """Or a power loss could take the end of the first and leave the second."""
    SlowJournal.made = []
    monkeypatch.setattr(txn_log, "Journal", SlowJournal)
    log = TxnLog(tmp_path, reserve_bytes=4096, last_zxid=0, hold=hold)
    assert log.append([payload(1), payload(2)], 1, 2)
    log.roll()
    begun = [log.append([payload(zxid)], zxid, zxid) for zxid in (3, 4)]
    first = SlowJournal.made[0]
    if hold:
        assert begun == [False, False]
        assert SlowJournal.made == [first]
        assert log.durable_zxid() == 0
        first.synced = len(first.data)
        assert log.durable_zxid() == 2
    assert [journal.path.name for journal in SlowJournal.made] == ["log.1", "log.3"]
    assert first.synced == len(first.data)
    assert first.at_once != hold
    assert log.last_zxid == 4
    log.roll()
    log.append([payload(5)], 5, 5)
    for journal in log.take_rolled():
        journal.close()
    log.close()
    found = [one.zxid for one in read_from(tmp_path, 1, record_bytes_max=LIMIT)]
    assert found == [1, 2, 3, 4, 5]
    assert [one.first_zxid for one in list_logs(tmp_path)] == [1, 3, 5]
