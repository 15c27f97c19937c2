"""The same limits for Apache ZooKeeper and ours: who is turned away, and what is counted of it.

    sessions   20 tokens that do not come back, 5 for a new session and 2 for one that returns
    requests   large ones of more than 2000 bytes on their way
    waiting    one request on its way: all others wait, and all are answered in order

No clock decides anything here.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tools.differential.link import Link, framed, request
from tools.peers import zookeeper as peers

from stratalog.core.zookeeper.sessions import password_of
from stratalog.testing import ZooKeeperServer
from stratalog.wire.zookeeper.messages import (
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    PathRequest,
    ReplyHeader,
    SetDataRequest,
)
from stratalog.wire.zookeeper.records import ACL, Id, OpCode

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop

OPEN = (ACL(31, Id("world", "anyone")),)
LIMITS = {
    "zookeeper.connection_throttle_tokens": 4,
    "zookeeper.connection_throttle_fill_time": 3_600_000,
    "zookeeper.connection_throttle_weight_enabled": "true",
    "zookeeper.connection_throttle_global_session_weight": 5,
    "zookeeper.largeRequestThreshold": 1000,
    "zookeeper.largeRequestMaxBytes": 2000,
    "zookeeper.request_throttle_max_requests": 1,
    "zookeeper.preAllocSize": 4096,
}
COUNTED = (
    "connection_rejected", "connection_request_count", "cnt_connection_token_deficit",
    "sum_connection_token_deficit", "max_connection_token_deficit", "large_requests_rejected",
    "throttled_ops", "stale_requests", "stale_requests_dropped", "stale_replies",
    "connection_drop_probability",
)  # fmt: skip
REQUESTS = 300


class Session:
    """A session, if the server let it begin."""

    def __init__(self, address: str, session_id: int = 0) -> None:
        self.link = Link(address)
        password = password_of(session_id) if session_id else bytes(16)
        self.link.send(framed(ConnectRequest(0, 0, 20_000, session_id, password).encode()))
        frame = self.link.receive()
        self.session_id = 0 if frame is None else ConnectResponse.decode(frame).session_id

    def ask(self, *frames: bytes) -> list[tuple[int, int] | None]:
        """Send requests at once; xid and error of each reply, None: the server closed."""
        self.link.send(b"".join(frames))
        answers: list[tuple[int, int] | None] = []
        for _ in frames:
            frame = self.link.receive()
            if frame is None:
                return [*answers, None]
            header, _ = ReplyHeader.decode_from(frame)
            answers.append((header.xid, header.err))
        return answers


def _ask_word(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"mntr")
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def _counts(answer: bytes) -> dict[str, str]:
    lines = answer.decode().splitlines()
    return dict(line.removeprefix("zk_").split("\t") for line in lines)


def _use(address: str) -> list[object]:
    """What both are asked; what became of it."""
    seen: list[object] = []
    one, two = Session(address), Session(address)
    seen += [bool(one.session_id), bool(two.session_id)]
    many = [request(1, OpCode.CREATE, CreateRequest("/a", b"", OPEN, 0))]
    for number in range(2, REQUESTS, 2):
        many.append(request(number, OpCode.SET_DATA, SetDataRequest("/a", b"x", number // 2 - 1)))
        many.append(request(number + 1, OpCode.GET_CHILDREN2, PathRequest("/a").encode() + b"\0"))
    seen.append(one.ask(*many))
    large = [request(1, OpCode.SET_DATA, SetDataRequest("/a", bytes(size), -1))
             for size in (900, 1500, 2100)]  # fmt: skip
    seen += [two.ask(frame) for frame in large]
    # Tokens: 20, less two new sessions; the second comes back with 2, new ones take 5.
    back = Session(address, two.session_id)
    third, fourth = Session(address), Session(address)
    late = Session(address, two.session_id)
    seen += [bool(each.session_id) for each in (back, third, fourth, late)]
    seen.append(one.ask(request(2, OpCode.CLOSE_SESSION)))
    for each in (one, two, back, third, fourth, late):
        each.link.close()
    return seen


def test_the_same_are_turned_away_and_counted(scratch: Path) -> None:
    try:
        peer = peers.ZooKeeperPeer(scratch / "apache", properties=LIMITS)
    except peers.PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")
    with peer:
        theirs = _use(peer.address)
        their_counts = _counts(peer.ask(b"mntr"))
    arguments = [f"-D{key}={value}" for key, value in LIMITS.items()]
    arguments.append("-D4lw.commands.whitelist=mntr")
    with ZooKeeperServer(scratch / "ours", arguments=arguments) as server:
        ours = _use(server.address)
        our_counts = _counts(_ask_word(server.port))
    assert ours == theirs
    assert theirs[3:6] == [[(1, 0)], [(1, 0)], [None]]
    assert theirs[6:10] == [True, True, False, True]
    shown = [{name: counts[name] for name in COUNTED} for counts in (their_counts, our_counts)]
    assert shown[1] == shown[0]
    for counts in (their_counts, our_counts):
        assert int(counts["request_throttle_wait_count"]) > 0
        assert int(counts["cnt_request_throttle_queue_time_ms"]) > REQUESTS
