"""One zoo.cfg for Apache's server and ours: what ``conf`` answers is the same."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.peers import zookeeper  # noqa: E402  (the path above must come first)

from stratalog.testing import ZooKeeperServer  # noqa: E402  (the path above must come first)

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.interop

# Everything that Java's syntax has: separators, escapes, continued lines, comments, keys twice.
ODD = r"""
! the tick\
tickTime : 1234
  minSessionTimeout	2\
    345
maxSession\
  Timeout = \u0034\
  4444
maxClientCnxns=5
zookeeper.maxCnxns = 70
client\u0050ortListenBacklog   33
maxClientCnxns = 1\7
snapCount = 0x40
initLimit=5
not\ a\=key : value
server.1 = localhost:2888:3888
"""


def conf(port: int) -> Mapping[str, str]:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"conf")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return dict(line.split("=", 1) for line in answer.decode().splitlines())


def test_one_file_means_the_same_to_both(scratch: Path) -> None:
    try:
        peer = zookeeper.ZooKeeperPeer(scratch / "theirs", {"syncLimit": 2, "": ODD})
    except zookeeper.PeerUnavailable as reason:
        pytest.skip(str(reason))
    with peer:
        theirs = conf(peer.port)
        text = (scratch / "theirs.cfg").read_text()
    file = scratch / "ours.cfg"
    file.write_text(text)
    with ZooKeeperServer(scratch / "ours", arguments=("--zoo-cfg", str(file))) as server:
        ours = conf(server.port)
        warned = server.said()
    places = {"clientPort", "dataDir", "dataDirSize", "dataLogDir", "dataLogSize"}
    assert list(ours) == list(theirs)
    assert {k: v for k, v in ours.items() if k not in places} == {
        k: v for k, v in theirs.items() if k not in places
    }
    assert ours["maxClientCnxns"] == "17"
    assert ours["maxSessionTimeout"] == "44444"
    assert "not a=key" in warned
