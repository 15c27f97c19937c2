"""What `stratalog.testing` promises to other people's tests: a server, and the fixture of it."""

from __future__ import annotations

import pytest
from kazoo.client import KazooClient

from stratalog.testing import ZooKeeperServer, zookeeper_server  # noqa: F401  (pytest finds it here)


def ask(server, path, value=None):
    """Create a znode, or read it."""
    client = KazooClient(hosts=server.address)
    client.start(timeout=30)
    try:
        return client.create(path, value) if value is not None else client.get(path)[0]
    finally:
        client.stop()
        client.close()


def test_the_fixture_is_a_server(zookeeper_server):  # noqa: F811  (the fixture, by its name)
    assert ask(zookeeper_server, "/a", b"1") == "/a"


def test_killed_and_restarted_it_has_its_port_and_its_files():
    with ZooKeeperServer() as server:
        address = server.address
        ask(server, "/a", b"1")
        server.kill()
        server.start()
        assert server.address == address
        assert ask(server, "/a") == b"1"
        assert server.stop() == 0
    assert not server.data_dir.exists()


def test_a_server_that_cannot_start_says_why(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(RuntimeError, match=r"did not start: .*file"),
        ZooKeeperServer(
            tmp_path / "kept", arguments=["--data-log-dir", str(tmp_path / "file" / "below")]
        ),
    ):
        raise AssertionError("it started")
    assert [path.name for path in tmp_path.glob("*.stderr")] == []
