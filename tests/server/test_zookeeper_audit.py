"""The audit log of a server: its first and last lines, its levels, and that most have none."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from stratalog.core.zookeeper.standalone import Standalone
from stratalog.server.zookeeper.audit import LOGGER, user_name
from stratalog.server.zookeeper.server import CoordinationServer
from stratalog.server.zookeeper.settings import Settings


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records if one.name == LOGGER]


def test_start_and_stop_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def one() -> None:
        server = CoordinationServer(Settings(tmp_path, port=0, audit=True))
        await server.start()
        await server.stop()

    asyncio.run(one())
    user = f"user={user_name()}\toperation="
    assert told(caplog) == [
        ("INFO", f"{user}serverStart\tresult=success"),
        ("INFO", f"{user}serverStop\tresult=invoked"),
    ]


def test_a_start_that_fails_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def one(port: int) -> None:
        server = CoordinationServer(Settings(tmp_path, port=port, audit=True))
        with pytest.raises(OSError, match="address already in use"):
            await server.start()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(one(taken.getsockname()[1]))
    assert told(caplog) == [("ERROR", f"user={user_name()}\toperation=serverStart\tresult=failure")]


def test_without_an_audit_log_the_machine_is_the_plain_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def one() -> None:
        server = CoordinationServer(Settings(tmp_path, port=0))
        await server.start()
        assert type(server.machine) is Standalone
        await server.stop()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(one())
    assert told(caplog) == []
