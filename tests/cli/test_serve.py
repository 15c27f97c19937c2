"""``stratalog serve`` as a black box: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl, make_digest_acl_credential

from stratalog.testing import ZooKeeperServer

SECONDS_MAX: Final = 60
KEEP_ALIVE: Final = "02"
Spawn = Callable[..., "subprocess.Popen[bytes]"]


def first_line(process: subprocess.Popen[bytes]) -> str:
    """What it says on standard output first; the test fails if it ends before."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], SECONDS_MAX)
    assert ready, "no word"
    line = process.stdout.readline().decode()
    if not line:
        assert process.stderr is not None
        pytest.fail(f"exit {process.wait(SECONDS_MAX)}: {process.stderr.read().decode()}")
    return line


def address(process: subprocess.Popen[bytes]) -> tuple[str, int]:
    """Where it says that it listens."""
    match = re.fullmatch(r"listening on (\S+):(\d+)\n", first_line(process))
    assert match
    return match[1], int(match[2])


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> str:
    """Ask it to end; return what it wrote to standard error, if it ended as it should."""
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, err.decode()
    assert out == b""
    assert b"Traceback" not in err, err.decode()
    return err.decode()


def word(port: int, letters: bytes) -> bytes:
    """What a 4-letter word is answered."""
    with socket.create_connection(("127.0.0.1", port), SECONDS_MAX) as connection:
        connection.sendall(letters)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
        return answer


@contextlib.contextmanager
def client(port: int, **options: object) -> Iterator[KazooClient]:
    kazoo = KazooClient(hosts=f"127.0.0.1:{port}", timeout=20, **options)
    kazoo.start(SECONDS_MAX)
    try:
        yield kazoo
    finally:
        kazoo.stop()
        kazoo.close()


def established_timers(port: int) -> set[str]:
    """The kinds of timers that the kernel has for a server's connections."""
    return {
        fields[5].partition(":")[0]  # local, remote, state, queues, timer
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1] == f"0100007F:{port:04X}" and fields[3] == "01"
    }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# ---- beginning and end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_when_asked(number, spawn, tmp_path):
    process = spawn("serve", "--data-dir", tmp_path / "zk", "--port", 0)
    host, port = address(process)
    assert host == "127.0.0.1"
    assert word(port, b"srvr").startswith(b"Zookeeper version: ")
    with client(port) as kazoo:
        kazoo.create("/a", b"1")
        said = end(process, number)
    assert "serving on 127.0.0.1" in said


def test_it_may_be_restarted_on_its_port_at_once(spawn, tmp_path):
    arguments = ("serve", "--data-dir", tmp_path / "zk", "--port")
    process = spawn(*arguments, 0)
    _, port = address(process)
    with client(port) as kazoo:
        kazoo.create("/a", b"1")
        end(process)  # while a client is connected: its end of the connection lingers
        process = spawn(*arguments, port)
        assert address(process) == ("127.0.0.1", port)
        assert kazoo.retry(kazoo.get, "/a")[0] == b"1"
    end(process)


def test_kill_9_leaves_everything_and_no_lock(spawn, tmp_path):
    arguments = ("serve", "--data-dir", tmp_path / "zk", "--port")
    process = spawn(*arguments, 0)
    _, port = address(process)
    with client(port) as kazoo:
        for number in range(20):
            kazoo.create(f"/{number}", b"%d" % number)
        process.kill()
        process.wait(SECONDS_MAX)
        process = spawn(*arguments, port)
        address(process)
        for number in range(20):
            assert kazoo.retry(kazoo.get, f"/{number}")[0] == b"%d" % number
    end(process)


def test_an_ipv6_address_stands_in_brackets(spawn, tmp_path):
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    process = spawn("serve", "--data-dir", tmp_path, "--port", 0, "--host", "::1")
    host, port = address(process)
    assert host == "[::1]"
    with socket.create_connection(("::1", port), SECONDS_MAX):
        pass
    end(process)


# ---- what it refuses ----


def test_two_servers_never_share_a_directory(spawn, stratalog, tmp_path):
    logs = tmp_path / "logs"
    process = spawn("serve", "--data-dir", tmp_path / "a", "--data-log-dir", logs, "--port", 0)
    _, port = address(process)
    for directories in (
        ("--data-dir", tmp_path / "a"),
        ("--data-dir", tmp_path / "b", "--data-log-dir", logs),
    ):
        refused = stratalog("serve", *directories, "--port", 0, "--quiet", code=1)
        assert refused.out == b""
        line = refused.err
        assert line.startswith(f"stratalog: another server, process {process.pid}, uses this data")
        assert "/stratalog.lock)" in line
        assert line.count("\n") == 1
    assert word(port, b"srvr").startswith(b"Zookeeper version: ")
    end(process)
    process = spawn("serve", "--data-dir", tmp_path / "a", "--data-log-dir", logs, "--port", 0)
    address(process)
    end(process)


def test_a_port_that_is_taken_is_one_sentence(stratalog, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = stratalog("serve", "--data-dir", tmp_path / "zk", "--port", port, code=1)
    assert refused.out == b""
    assert refused.err.count("\n") == 1
    assert f"127.0.0.1:{port}" in refused.err
    assert "address already in use" in refused.err.lower()
    assert list((tmp_path / "zk" / "version-2").iterdir()) == []


def test_a_directory_that_cannot_be_is_one_sentence(stratalog, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file" / "zk", tmp_path / "none"):
        refused = stratalog(
            "serve", "--data-dir", place, "--port", 0, "-D", "datadir.autocreate=false", code=1
        )
        assert refused.err.count("\n") == 1
        assert str(place) in refused.err


def test_a_damaged_log_is_one_sentence(spawn, stratalog, tmp_path):
    arguments = ("serve", "--data-dir", tmp_path, "--port", 0)
    process = spawn(*arguments)
    _, port = address(process)
    with client(port) as kazoo:
        for number in range(50):
            kazoo.create(f"/{number}", bytes(100))
    end(process)
    log = max((tmp_path / "version-2").glob("log.*"), key=lambda path: path.stat().st_size)
    data = bytearray(log.read_bytes())
    at = data.index(b"/25")
    data[at] ^= 0x01
    log.write_bytes(data)
    refused = stratalog(*arguments, "--quiet", code=1)
    assert refused.out == b""
    assert refused.err.count("\n") == 1
    assert str(log) in refused.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tickTime=2000\nclientPort=many\n", "clientPort: 'many' is not a whole number"),
        ("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n", "an ensemble is asked for"),
        ("sessionRequireClientSASLAuth=true\n", "nobody is known"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_sentence(text, sentence, stratalog, tmp_path):
    file = tmp_path / "zoo.cfg"
    file.write_text(f"dataDir={tmp_path / 'zk'}\n{text}")
    refused = stratalog("serve", "--zoo-cfg", file, code=1)
    assert sentence in refused.err
    assert f"({file}:" in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "zk").exists()


def test_a_command_line_that_makes_no_sense(stratalog, tmp_path):
    stratalog("serve", "--zoo-cfg", "a", "--config", "b", code=2)
    stratalog("serve", "--data-dir", tmp_path, "-q", "-v", code=2)
    assert "dataDir is not set" in stratalog("serve", code=1).err
    refused = stratalog("serve", "--data-dir", tmp_path, "--host", "10.1.2.3", code=1)
    assert "--listen-publicly" in refused.err
    assert list(tmp_path.iterdir()) == []


# ---- configuration ----


def test_an_existing_deployment_starts_unchanged(spawn, tmp_path, monkeypatch):
    port = free_port()
    file = tmp_path / "zoo.cfg"
    file.write_text(
        f"tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={tmp_path / 'zk'}\n"
        f"clientPort={port}\nserver.1=localhost:2888:3888\n4lw.commands.whitelist=ruok, conf\n"
        "autopurge.purgeInterval=24\nnot.a.key=1\nmaxResponseCacheSize=5\n"
    )
    credential = make_digest_acl_credential("super", "secret")
    monkeypatch.setenv(
        "SERVER_JVMFLAGS",
        f"-Xmx512m -Dzookeeper.DigestAuthenticationProvider.superDigest={credential}",
    )
    process = spawn("serve", "--zoo-cfg", file)
    assert address(process) == ("0.0.0.0", port)  # noqa: S104  (what zoo.cfg asks for)
    assert word(port, b"ruok") == b"imok"
    assert b"tickTime=2000\n" in word(port, b"conf")
    assert b"not in the whitelist" in word(port, b"mntr")
    nobody = [make_acl("digest", "somebody:else", read=True)]
    with client(port) as kazoo:
        kazoo.create("/hidden", b"1", acl=nobody)
        with pytest.raises(NoAuthError):
            kazoo.get("/hidden")
        kazoo.add_auth("digest", "super:secret")
        assert kazoo.get("/hidden")[0] == b"1"
    said = end(process)
    warnings = [line for line in said.splitlines() if " WARNING " in line]
    assert len(warnings) == 2
    assert any("server.1" in line for line in warnings)
    assert any("not.a.key" in line for line in warnings)


def test_the_environment_and_d_reach_the_server(spawn, tmp_path, monkeypatch):
    monkeypatch.setenv("STRATALOG_ZK_DATA_DIR", str(tmp_path / "zk"))
    monkeypatch.setenv("STRATALOG_ZK_4LW_COMMANDS_WHITELIST", "conf")
    process = spawn("serve", "--port", "0", "-Dzookeeper.tickTime=700", "-DmaxClientCnxns=3")
    _, port = address(process)
    conf = word(port, b"conf").decode()
    assert "tickTime=700\n" in conf
    assert "maxClientCnxns=3\n" in conf
    assert f"dataDir={tmp_path / 'zk' / 'version-2'}\n" in conf
    end(process)


def test_toml_reaches_the_server(spawn, tmp_path):
    file = tmp_path / "stratalog.toml"
    file.write_text(
        f'data-dir = "{tmp_path / "zk"}"\nport = 0\ncommands = ["ruok"]\n'
        "[admin]\nport = 0\n[metrics]\nport = 0\n"
    )
    process = spawn("serve", "--config", file)
    _, port = address(process)
    assert word(port, b"ruok") == b"imok"
    end(process)


def test_check_shows_what_counts_and_starts_nothing(stratalog, tmp_path):
    file = tmp_path / "zoo.cfg"
    file.write_text(
        "dataDir=/nowhere\ntickTime=2000\nsnapCount=7\ninitLimit=5\nclientCount=1\n"
        "DigestAuthenticationProvider.superDigest=super:hidden\n"
    )
    shown = stratalog("serve", "--zoo-cfg", file, "--port", 5, "-D", "snapCount=9", "--check")
    assert shown.err == ""
    assert shown.lines == [
        f"DigestAuthenticationProvider.superDigest = ***    ({file}:6)",
        "clientPort = 5    (--port)",
        f"dataDir = /nowhere    ({file}:1)",
        "snapCount = 9    (-D)",
        f"tickTime = 2000    ({file}:2)",
        f"# clientCount ({file}:5) is no key of ZooKeeper 3.9: it has no effect",
        f"# initLimit ({file}:4) concerns ensembles: one server has no use for it",
    ]


# ---- what it says ----


def test_quiet_verbose_and_json(spawn, tmp_path):
    arguments = ("serve", "--data-dir", tmp_path, "--port", 0, "-D", "initLimit=1")
    process = spawn(*arguments, "--quiet")
    address(process)
    assert end(process) == ""
    process = spawn(*arguments, "--verbose")
    address(process)
    assert "DEBUG initLimit (-D) concerns ensembles" in end(process)
    process = spawn(*arguments, "--log-format", "json", "-D", "no.key=1")
    address(process)
    lines = [json.loads(line) for line in end(process).splitlines()]
    assert {tuple(sorted(line)) for line in lines} == {("level", "message", "time_ms")}
    assert lines[0]["level"] == "WARNING"
    assert lines[0]["message"].startswith("no.key (-D) is no key")


def test_the_test_kit_starts_it_too(tmp_path):
    with ZooKeeperServer(tmp_path / "zk", arguments=("--commands", "ruok")) as server:
        port = server.port
        assert word(port, b"ruok") == b"imok"
        server.restart()
        assert server.port == port
        assert server.stop() == 0
        server.start()
    assert (tmp_path / "zk" / "stratalog.lock").read_text().strip().isdigit()


def test_one_directory_under_two_names_is_one_directory(spawn, tmp_path):
    (tmp_path / "zk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "zk")
    for other in (tmp_path / "link", tmp_path / "zk" / ".." / "zk"):
        process = spawn(
            "serve", "--data-dir", tmp_path / "zk", "--data-log-dir", other, "--port", 0
        )
        address(process)
        end(process)


def test_it_takes_all_the_descriptors_that_it_may_have(spawn, tmp_path):
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, most), most))
    try:
        process = spawn("serve", "--data-dir", tmp_path, "--port", 0, "--commands", "mntr")
        _, port = address(process)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    (files,) = [line.split() for line in limits.splitlines() if line.startswith("Max open files")]
    assert files[3] == files[4] == str(most)
    assert f"zk_max_file_descriptor_count\t{most}\n".encode() in word(port, b"mntr")
    end(process)


def test_the_lock_is_no_file_that_anybody_minds(spawn, tmp_path):
    process = spawn("serve", "--data-dir", tmp_path, "--port", 0)
    address(process)
    assert (tmp_path / "stratalog.lock").read_text() == f"{process.pid}\n"
    assert sorted(os.listdir(tmp_path)) == ["stratalog.lock", "version-2"]  # noqa: PTH208
    end(process)


def test_slow_syncs_are_told_and_silent_clients_asked(spawn, tmp_path):
    """A threshold below 0 makes every sync slow, so that no clock decides."""
    slow = ("-Dfsync.warningthresholdms=-1", "-DclientTcpKeepAlive=true")
    process = spawn("serve", "--data-dir", tmp_path, "--port", 0, "--quiet", *slow)
    _, port = address(process)
    with client(port) as kazoo:
        kazoo.create("/a")
        end_s = time.monotonic() + SECONDS_MAX
        while (timers := established_timers(port)) != {KEEP_ALIVE}:  # 01: something unacknowledged
            assert time.monotonic() < end_s, timers
            time.sleep(0.05)
    assert re.search(r"WARNING a sync of the log took \d+ ms", end(process))
