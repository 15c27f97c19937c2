"""A server that is told to stop does, whoever is connected."""

from __future__ import annotations

import asyncio
import socket
import struct

from stratalog.server.zookeeper import server as module
from stratalog.server.zookeeper.server import CoordinationServer
from stratalog.server.zookeeper.settings import Settings
from stratalog.wire.zookeeper.messages import ConnectRequest, CreateRequest, PathWatchRequest
from stratalog.wire.zookeeper.records import ACL, Id

OPEN = (ACL(31, Id("world", "anyone")),)


def framed(body):
    return struct.pack(">i", len(body)) + body


def test_a_client_that_does_not_read_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FAREWELL_S_MAX", 0.05)

    async def main():
        server = CoordinationServer(Settings(tmp_path, port=0))
        await server.start()
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(deaf, framed(ConnectRequest(0, 0, 30000, 0, bytes(16)).encode()))
        create = CreateRequest("/big", bytes(500_000), OPEN, 0).encode()
        await loop.sock_sendall(deaf, framed(struct.pack(">ii", 1, 1) + create))
        read = framed(struct.pack(">ii", 2, 4) + PathWatchRequest("/big", False).encode())
        await loop.sock_sendall(deaf, read * 30)
        while not any(connection.writing_paused for connection in server.connections):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.wait_for(server.stop(), 30)
        assert not server.connections
        deaf.close()

    asyncio.run(main())


def test_one_snapshot_at_a_time(tmp_path):
    """Two groups in one turn, both beyond the limit, lead to one snapshot."""

    async def main():
        server = CoordinationServer(Settings(tmp_path, port=0, snapshot_every=4))
        await server.start()
        began = []
        whole = server._snapshot

        async def counted():
            began.append(server._snapshot_running)
            return await whole()

        server._snapshot = counted
        machine = server.machine
        for _ in range(2):
            for number in range(10):
                client = machine.connect("127.0.0.1")
                machine.receive(client, ConnectRequest(0, 0, 30000, 0, bytes(16)).encode())
                assert machine.has_proposals, number
            assert server._persist()
        await asyncio.sleep(0)
        assert began == [True]
        while server._snapshot_running:
            await server._snapshot_over.wait()
        await server.stop()

    asyncio.run(main())
