"""Row 126: little that is sent to a coordination server, and much that it would cost.

Lengths that cannot be, frames that never end, counts that lie, and requests that are short and ask
for much: one big znode again and again, long lists, long walks, answers that nobody reads.  Each is
tried before there is a session where that makes sense, and in one.

A length that is refused is refused from its four bytes alone.  Meanwhile the server never holds
more than the case is worth, and the innocent client is served.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

from stratalog.wire.zookeeper.messages import (
    AuthPacket,
    PathRequest,
    SetDataRequest,
    SetWatches,
    encode_multi_request,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .hostile import EPHEMERAL, MIB, SEQUENTIAL, Besieged, Gone, Peer, create, get_data, request
from .traffic import ANYONE

NUMBER = 126
TITLE = "amplification and oversize"
BUG = Bug(
    "whatever a read buffer asks for is answered before anything is sent",
    "server/zookeeper/server.py",
    "frame_bytes_max, ANSWER_BYTES_MAX, settings.outstanding_max, SLOW_REQUESTS\n",
    "frame_bytes_max, 1 << 62, settings.outstanding_max, 1 << 62\n",
)
FRAME_BYTES_MAX = 0xFFFFF
BIG_BYTES = 900_000
CHILDREN = 3000
IDENTITIES = 100
_LAST_XID = 999_999
_PATHS_ONLY = frozenset((OpCode.GET_ALL_CHILDREN_NUMBER, OpCode.GET_EPHEMERALS))

Case = Callable[[Bench, Besieged], None]


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Try every case, and so on until it is enough."""
    with Besieged(bench) as besieged:
        prepare(besieged)
        while bench.trials < bench.trials_wanted and not bench.broken:
            case, worth_bytes = CASES[bench.trials % len(CASES)]
            what = case.__name__.replace("_", " ")
            bench.trials += 1
            with besieged.holds_at_most(worth_bytes, what):
                case(bench, besieged)
                besieged.served(what)
            bench.fired += 1
        besieged.end("amplification")


def prepare(besieged: Besieged) -> None:
    """What the cases ask for: a big znode, a long list, many of one's own."""
    with Peer(besieged.address).begin() as peer:
        peer.do(OpCode.CREATE, create("/big", bytes(BIG_BYTES)))
        peer.do(OpCode.CREATE, create("/many"))
        peer.send(b"".join(request(i, 1, create("/many/" + "x" * 60, b"", SEQUENTIAL))
                           for i in range(CHILDREN)))  # fmt: skip
        peer.sync()


def _session(besieged: Besieged, **options) -> Peer:
    return Peer(besieged.address, **options).begin()


def _answered(peer: Peer) -> None:
    """Wait until a request behind all others is answered, or for the end."""
    with contextlib.suppress(Gone):
        peer.send(request(_LAST_XID, OpCode.SYNC, PathRequest("/")))
        while peer.reply().xid != _LAST_XID:
            pass


# ---- lengths ----


def impossible_lengths(bench: Bench, besieged: Besieged) -> None:
    """Refused from the length alone; nothing follows it."""
    odd = (-1, -(2**31), FRAME_BYTES_MAX + 1, 2**31 - 1, bench.random.randrange(2**20, 2**31))
    for length in odd:
        for begun in (False, True):
            peer = _session(besieged) if begun else Peer(besieged.address)
            with peer:
                peer.send(struct.pack(">i", length))
                if not peer.ended():
                    bench.fail(f"a frame of {length} bytes is waited for, session: {begun}")


def frames_that_never_end(bench: Bench, besieged: Besieged) -> None:
    """Each of them the longest there may be, but for its last byte, many at a time."""
    peers = []
    for number in range(24):
        peer = _session(besieged) if number % 2 else Peer(besieged.address)
        peer.send(struct.pack(">i", FRAME_BYTES_MAX) + bytes(FRAME_BYTES_MAX - 1))
        peers.append(peer)
    besieged.served("frames that never end")
    for peer in peers:
        peer.close()


def a_frame_in_crumbs(bench: Bench, besieged: Besieged) -> None:
    """A long frame of which the last bytes come one by one."""
    with _session(besieged) as peer:
        body = SetDataRequest("/big", bytes(BIG_BYTES), -1)
        frame = request(7, OpCode.SET_DATA, body)
        peer.send(frame[:-2000])
        for at in range(len(frame) - 2000, len(frame)):
            peer.send(frame[at : at + 1])
        reply = peer.reply()
        if (reply.xid, reply.err) != (7, 0):
            bench.fail(f"a frame in crumbs is answered with {reply[:3]}")


# ---- counts ----


def a_frame_of_empty_paths(bench: Bench, besieged: Besieged) -> None:
    """250,000 watches that name nothing: an event each."""
    with _session(besieged) as peer:
        nothing = ("",) * 250_000
        peer.send(request(1, OpCode.SET_WATCHES, SetWatches(0, (), (), nothing)))
        _answered(peer)


def a_multi_of_many_parts(bench: Bench, besieged: Besieged) -> None:
    """As many parts as a frame takes: all of them, or none, with an answer to each."""
    with _session(besieged) as peer:
        count = 30_000
        part = SetDataRequest("/many", b"", -1)
        reply = peer.ask(OpCode.MULTI, encode_multi_request([(OpCode.SET_DATA, part)] * count))
        if reply.err not in (0, int(ErrorCode.MARSHALLING_ERROR)):
            bench.fail(f"a multi of {count} parts is answered with {reply.err}")


def an_acl_of_many_entries(bench: Bench, besieged: Besieged) -> None:
    """A long ACL, asked for again and again, by somebody who says to be many."""
    with _session(besieged) as peer:
        for number in range(IDENTITIES):
            peer.do(OpCode.AUTH, AuthPacket(0, "digest", b"u%d:p" % number))
        acl = (*(ACL(1, Id("digest", f"v{number}:x")) for number in range(5000)), *ANYONE)
        peer.ask(OpCode.CREATE, create("/acl", b"", EPHEMERAL, acl))
        peer.send(b"".join(request(i, OpCode.GET_DATA, get_data("/acl")) for i in range(12)))
        peer.send(b"".join(request(i, OpCode.GET_ACL, PathRequest("/acl")) for i in range(12)))
        besieged.served("a long ACL")
        peer.close()


def an_acl_that_multiplies(bench: Bench, besieged: Besieged) -> None:
    """Each entry stands for everybody that the client says to be."""
    with _session(besieged) as peer:
        for number in range(IDENTITIES):
            peer.do(OpCode.AUTH, AuthPacket(0, "digest", b"u%d:p" % number))
        acl = tuple(ACL(perms, Id("auth", "")) for perms in range(40_000))
        peer.do(OpCode.CREATE, create("/auth", b"", EPHEMERAL, acl), int(ErrorCode.INVALID_ACL))


def somebody_with_many_names(bench: Bench, besieged: Besieged) -> None:
    """A connection that says to be one more, and one more."""
    with _session(besieged) as peer:
        for number in range(5000):
            try:
                reply = peer.ask(OpCode.AUTH, AuthPacket(0, "digest", b"u%d:p" % number))
            except Gone:
                break
            if reply.err == ErrorCode.AUTH_FAILED and peer.ended():
                break
        else:
            bench.fail("a connection may say to be 5000")


# ---- short requests, long answers ----


def _flood(kind: int, path: str, count: int, *, behind: bool = False, read: bool = True) -> Case:
    body = PathRequest(path) if kind in _PATHS_ONLY else get_data(path)
    head = request(1, OpCode.SET_DATA, SetDataRequest("/big", bytes(BIG_BYTES), -1))

    def case(bench: Bench, besieged: Besieged) -> None:
        with _session(besieged, receive_bytes=0 if read else 4096) as peer:
            if not read:
                peer.socket.settimeout(0.2)  # who is not read from is not waited for
            data = b"".join(request(2, kind, body) for _ in range(count))
            try:
                peer.send((head if behind else b"") + data)
            except (Gone, TimeoutError):
                return
            if read:
                _answered(peer)
            else:
                besieged.served("nobody reads")

    return case


big_data = _flood(OpCode.GET_DATA, "/big", 300)
big_data_unread = _flood(OpCode.GET_DATA, "/big", 3000, read=False)
big_data_behind_a_write = _flood(OpCode.GET_DATA, "/big", 400, behind=True)
long_lists_unread = _flood(OpCode.GET_CHILDREN2, "/many", 3000, read=False)
long_walks = _flood(OpCode.GET_ALL_CHILDREN_NUMBER, "/", 200)


def one_multi_read(bench: Bench, besieged: Besieged) -> None:
    """One frame that names a big znode again and again."""
    with _session(besieged) as peer:
        parts = [(int(OpCode.GET_DATA), get_data("/big"))] * 20_000
        peer.do(OpCode.MULTI_READ, encode_multi_request(parts), int(ErrorCode.MARSHALLING_ERROR))


def multi_reads(bench: Bench, besieged: Besieged) -> None:
    """Many that stay just below what is too much."""
    with _session(besieged, receive_bytes=4096) as peer:
        parts = encode_multi_request([(int(OpCode.GET_DATA), get_data("/big"))] * 17)
        peer.send(b"".join(request(i, OpCode.MULTI_READ, parts) for i in range(300)))
        besieged.served("multi reads")


def writes_before_the_session(bench: Bench, besieged: Besieged) -> None:
    """The first frame, and behind it, before its answer, big ones."""
    with Peer(besieged.address) as peer:
        peer.socket.settimeout(20)
        wish = struct.pack(">iiqiqi16s?", 45, 0, 0, 30_000, 0, 16, bytes(16), False)
        big = request(1, OpCode.SET_DATA, SetDataRequest("/big", bytes(BIG_BYTES), -1))
        peer.send(wish + big * 60)
        peer.frame()
        for _ in range(60):
            if (reply := peer.reply()).err:
                bench.fail(f"a write behind the first frame is answered with {reply.err}")


_NAMES = (
    "big_data", "big_data_unread", "big_data_behind_a_write", "long_lists_unread", "long_walks",
)  # fmt: skip
for _name in _NAMES:
    globals()[_name].__name__ = _name

CASES: tuple[tuple[Case, int], ...] = (
    (big_data, 32 * MIB),
    (impossible_lengths, 8 * MIB),
    (frames_that_never_end, 24 * 3 * MIB),
    (a_frame_in_crumbs, 16 * MIB),
    (a_frame_of_empty_paths, 96 * MIB),
    (a_multi_of_many_parts, 96 * MIB),
    (an_acl_of_many_entries, 96 * MIB),
    (an_acl_that_multiplies, 96 * MIB),
    (somebody_with_many_names, 16 * MIB),
    (big_data_unread, 32 * MIB),
    (big_data_behind_a_write, 288 * MIB),
    (long_lists_unread, 32 * MIB),
    (long_walks, 32 * MIB),
    (one_multi_read, 64 * MIB),
    (multi_reads, 192 * MIB),
    (writes_before_the_session, 160 * MIB),
)
QUICK = len(CASES)
FULL = 200 * len(CASES)
