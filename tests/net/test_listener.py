"""A port that takes connections in while there is room, and takes breath when there is none."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket

import pytest

from stratalog.net import listener as listeners
from stratalog.net.listener import FILES_KEPT, Listener, connections_max


class Echo(asyncio.Protocol):
    """Says what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def listen(room: list[int], host: str = "127.0.0.1", port: int = 0) -> Listener:
    def has_room(address: str) -> bool:
        assert address in {"127.0.0.1", "::1"}
        room[0] -= 1
        return room[0] >= 0

    return await Listener.listen(host, port, Echo, has_room=has_room, backlog=100)


async def said(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"x")
        return await reader.read(1)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_what_has_no_room_is_closed() -> None:
    async def run() -> None:
        listener = await listen([3])
        assert not listener.is_serving
        listener.serve()
        assert listener.is_serving
        assert [await said(listener.port) for _ in range(5)] == [b"x"] * 3 + [b""] * 2
        assert listener.beginning == 0
        listener.close()
        assert not listener.is_serving

    asyncio.run(run())


def test_a_port_that_is_taken_is_told_by_name() -> None:
    async def run() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(OSError, match=f"127.0.0.1:{port}: address already in use") as told:
                await listen([1], port=port)
            assert told.value.errno == errno.EADDRINUSE

    asyncio.run(run())


def test_without_descriptors_it_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "PAUSE_S", 0.01)

    class Poor:
        """A socket that fails some times first."""

        def __init__(self, real: socket.socket) -> None:
            self.real, self.failures = real, 3

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.real.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    async def run() -> None:
        listener = await listen([9])
        poor = Poor(listener._sockets[0])
        listener._sockets[0] = poor  # type: ignore[call-overload]
        listener.serve()
        assert await said(listener.port) == b"x"
        assert poor.failures == 0
        listener.close()

    asyncio.run(run())


def test_some_descriptors_are_left_for_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_max() == (
        1 << 30 if soft == resource.RLIM_INFINITY else max(soft - FILES_KEPT, soft // 2)
    )
