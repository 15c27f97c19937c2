"""`stratalog zk`: every command against a real server, at a prompt, from a pipe, and refused."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from stratalog.cli.zk_commands import Completer, Connection
from stratalog.testing import ZooKeeperServer


@pytest.fixture(scope="module")
def server():
    with ZooKeeperServer() as running:
        yield running


@pytest.fixture
def zk(server):
    def run(*words, code=0, stdin=""):
        ended = subprocess.run(
            [sys.executable, "-m", "stratalog", "zk", "-s", server.address, *map(str, words)],
            input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr + ended.stdout
        return ended

    return run


def test_a_znode_from_birth_to_death(zk):
    assert zk("create", "/life", "born").stdout == "/life\n"
    assert zk("get", "/life").stdout == "born\n"
    assert zk("set", "/life", "grown").stdout == "1\n"
    document = json.loads(zk("get", "/life", "--json").stdout)
    assert document["data"] == "grown"
    assert document["stat"]["version"] == 1
    assert "dataVersion = 1\n" in zk("stat", "/life").stdout
    assert zk("set", "/life", "no", "-v", 7, code=1).stderr == "stratalog: BadVersionError\n"
    zk("delete", "/life")
    assert zk("get", "/life", code=1).stderr == "stratalog: NoNodeError\n"


def test_lists_and_trees(zk):
    zk("create", "-p", "/forest/oak/leaf", "green")
    zk("create", "/forest/elm")
    assert zk("ls", "/forest").stdout == "elm\noak\n"
    assert (
        zk("ls", "-R", "/forest").stdout == "/forest\n/forest/elm\n/forest/oak\n/forest/oak/leaf\n"
    )
    assert zk("tree", "/forest", "--data").stdout == "/forest\n  elm\n  oak\n    leaf = green\n"
    assert zk("tree", "/forest", "--depth", 1).stdout == "/forest\n  elm\n  oak\n"
    assert "numChildren = 2" in zk("ls", "-s", "/forest").stdout
    zk("delete", "-R", "/forest")
    assert zk("ls", "/forest", code=1).stderr == "stratalog: NoNodeError\n"


def test_bytes_that_are_no_text(zk, server):
    script = b"import sys; sys.stdout.buffer.write(bytes([0, 255, 27]))"
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    subprocess.run(
        [sys.executable, "-m", "stratalog", "zk", "-s", server.address, "create", "/raw", "-"],
        input=made.stdout, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert zk("get", "/raw").stdout == "\\x00\\xff\\x1b\n"
    assert json.loads(zk("get", "/raw", "--json").stdout)["data_base64"] == "AP8b"
    raw = subprocess.run(
        [sys.executable, "-m", "stratalog", "zk", "-s", server.address, "get", "--raw", "/raw"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert raw.stdout == b"\x00\xff\x1b"


def test_permissions(zk):
    zk("create", "/secret", "s", "--acl", "world:anyone:ra")
    assert zk("getAcl", "/secret").stdout == "world:anyone:ra\n"
    assert zk("set", "/secret", "x", code=1).stderr == "stratalog: NoAuthError\n"
    zk("--auth", "digest:ann:pw", "setAcl", "/secret", "auth::cdrwa")
    assert zk("get", "/secret", code=1).stderr == "stratalog: NoAuthError\n"
    assert zk("--auth", "digest:ann:pw", "get", "/secret").stdout == "s\n"
    assert "not SCHEME:ID:cdrwa" in zk("setAcl", "/secret", "nonsense", code=2).stderr


def test_all_or_nothing(zk):
    done = zk("multi", "create /m 1", "set /m 2", "check /m 1", stdin="")
    assert done.stdout == "create /m: ok\nset /m: ok\ncheck /m: ok\n"
    refused = zk("multi", code=1, stdin="set /m 3\ndelete /absent\n# nothing\n")
    assert refused.stdout == "set /m: RolledBackError\ndelete /absent: NoNodeError\n"
    assert zk("get", "/m").stdout == "2\n"
    assert "no operation" in zk("multi", "fly /m", code=2).stderr


def test_watch_tells_what_happens(zk, server):
    zk("create", "/seen")
    client = Connection(server.address, 10, ())
    with subprocess.Popen(
        [sys.executable, "-m", "stratalog", "zk", "-s", server.address, "watch", "/seen",
         "-n", "4", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watcher:  # fmt: skip
        assert watcher.stderr.readline() == "watching /seen\n"

        def told():
            return json.loads(watcher.stdout.readline())

        try:
            client.client.set("/seen", b"new")
            assert told() == {"type": "CHANGED", "path": "/seen"}
            client.client.create("/seen/child", b"")
            assert told() == {"type": "CHILD", "path": "/seen"}
            client.client.delete("/seen/child")
            assert told() == {"type": "CHILD", "path": "/seen"}
            client.client.delete("/seen")
            assert told() == {"type": "DELETED", "path": "/seen"}
            assert watcher.wait(60) == 0
        finally:
            client.close()
            watcher.kill()


def test_commands_from_a_pipe_end_with_the_first_that_fails(zk):
    ended = zk(stdin="create /p one\nget /p\n\n# a remark\nget /absent\nget /p\n", code=1)
    assert ended.stdout == "/p\none\n"
    assert ended.stderr == "stratalog: NoNodeError\n"
    assert zk(stdin="get /p\nquit\nget /absent\n").stdout == "one\n"
    assert "No such command" in zk(stdin="fly\n", code=2).stderr


def test_a_prompt_goes_on_after_a_failure(server, tmp_path):
    ours, theirs = pty.openpty()
    session = subprocess.Popen(
        [sys.executable, "-m", "stratalog", "zk", "-s", server.address],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"get /absent\nls /zookeeper\nquit\n")
    said = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        said += piece
    assert session.wait(60) == 0
    os.close(ours)
    assert b"NoNodeError" in said
    assert b"quota" in said
    assert "ls /zookeeper" in (tmp_path / ".stratalog_zk_history").read_text()


def test_completion(server):
    connection = Connection(server.address, 10, ())
    try:
        completer = Completer(connection)
        assert completer.words("ge") == ["get", "getAcl"]
        assert completer.words("/zoo") == ["/zookeeper"]
        assert completer.words("/zookeeper/") == ["/zookeeper/config", "/zookeeper/quota"]
        assert completer.words("/absent/x") == []
        assert completer.complete("getA", 0) == "getAcl"
        assert completer.complete("getA", 1) is None
    finally:
        connection.close()


def test_nobody_there(zk):
    ended = subprocess.run(
        [sys.executable, "-m", "stratalog", "zk", "-s", "127.0.0.1:1", "--timeout", "0.3", "ls"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "no ZooKeeper answers at 127.0.0.1:1" in ended.stderr
