"""Row 125: malformed frames to a coordination server, and files of it that lie.

Frames.  Requests of every type are made with odd values in their fields, and most of them are then
damaged: bits, lengths, counts, ends.  They go out in bursts on many connections, some before there
is a session, some as the first bytes of all.  Whatever comes, each reply belongs to one request,
has an error code that there is and, without an error, reads as the reply of its type; a connection
that got no last reply is closed.  Some frames have an answer that is known: Apache's.

Files.  ``mangled`` reads what somebody wrote who can compute checksums.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from stratalog.errors import JuteError
from stratalog.wire.zookeeper.messages import (
    REPLIES,
    REQUESTS,
    ConnectRequest,
    Empty,
    MultiHeader,
    WatcherEvent,
    decode_multi,
    encode_multi_request,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .hostile import EVENT_XID, MIB, PING_XID, Besieged, Gone, Peer, Silent, framed, request
from .mangled import mangle
from .service import Service, writers

NUMBER = 125
TITLE = "malformed frames, and files that lie"
QUICK = 12_000
FULL = 5_000_000
BUG = Bug(
    "a length below -1 is taken for null",
    "wire/jute.py",
    "            if length == -1 and self._nullable:\n",
    "            if self._nullable:\n",
)
BURST = 60
FILES_EACH = 20
"""One mangled file to so many frames."""
GROWTH_BYTES_MAX = 64 * MIB

_PATHS = (
    "/", "", "/f", "/f/a", "/f/b", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "//",
    "/.", "/f/..", "f", "/f/\0", "/f/\ud800", "/f/\u2028", "/f/\U0001f600",
    "/f/" + "x" * 3000, None,
)  # fmt: skip
_NUMBERS = (-(2**31), -8, -4, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 100, 2**31 - 1)
_IDS = (
    Id("world", "anyone"), Id("auth", ""), Id("digest", "a:b"), Id("digest", ""), Id("ip", "1.2.3"),
    Id("ip", "127.0.0.1/99"), Id("x509", "CN=x"), Id("sasl", "x"), Id("no", "x"), Id(None, None),
)  # fmt: skip
_KINDS = (*map(int, REQUESTS), int(OpCode.MULTI), int(OpCode.MULTI_READ))
_LAST_XID = 1_000_000


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Frames, then files."""
    with Besieged(bench, {"snapshot_every": 2000, "handshake_s": 20}) as besieged:
        with besieged.holds_at_most(GROWTH_BYTES_MAX, "malformed frames"):
            known_answers(bench, besieged)
            while bench.trials < bench.trials_wanted and not bench.broken:
                burst(bench, besieged)
        besieged.served("malformed frames")
        besieged.end("malformed frames")
    if not bench.broken:
        files(bench, bench.trials_wanted // FILES_EACH)


# ---- frames whose answer is known ----


def _path(text: bytes, length: int | None = None) -> bytes:
    return struct.pack(">i", len(text) if length is None else length) + text


def _acl(count: int) -> bytes:
    return struct.pack(">i", count) + ACL(31, Id("world", "anyone")).encode()


def known() -> Iterator[tuple[str, int, bytes, int | None]]:
    """What it is, its type and body, and the error of the reply; None: a closed connection."""
    bad, flags, any_version = int(ErrorCode.MARSHALLING_ERROR), bytes(4), b"\xff" * 4
    for length in (-(2**31), -2, 1000, 2**31 - 1):
        for kind in (OpCode.GET_DATA, OpCode.EXISTS, OpCode.GET_CHILDREN2, OpCode.DELETE):
            yield f"{kind.name} with a path of {length}", kind, _path(b"/f", length) + flags, bad
        data = _path(b"/f/k") + _path(b"x", length) + _acl(1) + flags
        yield f"CREATE with data of {length}", OpCode.CREATE, data, bad
        yield (
            f"SET_DATA of {length}",
            OpCode.SET_DATA,
            _path(b"/f") + _path(b"", length) + any_version,
            bad,
        )
    for count in (-2, 2, 2**24, 2**31 - 1):
        body = _path(b"/f/k") + _path(b"x") + _acl(count)
        yield f"CREATE with {count} ACLs", OpCode.CREATE, body, bad
        body = bytes(8) + struct.pack(">i", count)
        yield f"SET_WATCHES with {count} paths", OpCode.SET_WATCHES, body, bad
    yield "CREATE with no ACL", OpCode.CREATE, _path(b"/f/k") + _path(b"x") + bytes(8), -114
    yield "a MULTI without end", OpCode.MULTI, MultiHeader(13, done=False, err=-1).encode(), bad
    odd = MultiHeader(99, done=False, err=-1).encode() + bytes(40)
    yield "a MULTI with a part 99", OpCode.MULTI, odd, bad
    yield "an empty GET_DATA", OpCode.GET_DATA, b"", bad
    yield "a null path to CREATE", OpCode.CREATE, _path(b"", -1) + _path(b"") + _acl(1) + flags, bad
    yield "a relative path", OpCode.CREATE, _path(b"f") + _path(b"") + _acl(1) + flags, -8
    yield "a path with a dot", OpCode.CREATE, _path(b"/f/.") + _path(b"") + _acl(1) + flags, -8
    yield "flags 77", OpCode.CREATE, _path(b"/f/k") + _path(b"") + _acl(1) + flags[:3] + b"M", -8
    yield "type 4711", 4711, b"", int(ErrorCode.UNIMPLEMENTED)
    yield "half an AUTH", OpCode.AUTH, bytes(4), None


def known_answers(bench: Bench, besieged: Besieged) -> None:
    """Ask each; see the answer."""
    with Peer(besieged.address).begin() as peer:
        peer.do(OpCode.CREATE, REQUESTS[OpCode.CREATE]("/f", b"", (ACL(31, _IDS[0]),), 0))
    for what, kind, body, err in known():
        bench.trials += 1
        with Peer(besieged.address).begin() as peer:
            try:
                got: int | None = peer.ask(kind, body).err
            except Gone:
                got = None
            except Silent:
                bench.fail(f"{what}: neither an answer nor an end")
                continue
            bench.fired += 1
            if got != err:
                bench.fail(f"{what}: answered with {got}, not {err}")


# ---- frames at random ----


def odd_request(draw: random.Random, kind: int) -> bytes:
    """Make the body of a request: it can be read, and its fields are odd."""
    if kind in (OpCode.MULTI, OpCode.MULTI_READ):
        parts = [draw.choice((1, 2, 5, 13, 15, 4, 8, 22, 19, 21)) for _ in range(draw.randrange(5))]
        return encode_multi_request(
            [(part, _odd_record(draw, part)) for part in parts if part < 22]
        )
    return _odd_record(draw, kind).encode()


def _odd_record(draw: random.Random, kind: int):
    record = REQUESTS[kind]
    fields = []
    for name in record.__annotations__:
        if name in ("path", "prefix"):
            fields.append(draw.choice(_PATHS))
        elif name in ("data", "auth", "token"):
            fields.append(draw.choice((None, b"", b"a:b", draw.randbytes(draw.randrange(200)))))
        elif name == "acl":
            fields.append(tuple(_odd_acl(draw) for _ in range(draw.choice((0, 1, 1, 1, 3)))))
        elif name == "watch":
            fields.append(draw.random() < 0.5)
        elif name.endswith("watches"):
            paths = [path for path in _PATHS if path is not None]
            fields.append(tuple(draw.choice(paths) for _ in range(draw.randrange(4))))
        elif name in ("scheme", "joining_servers", "leaving_servers", "new_members"):
            fields.append(draw.choice((None, "", "digest", "ip", "world", "sasl", "x")))
        else:
            fields.append(draw.choice(_NUMBERS))
    return record(*fields)


def _odd_acl(draw: random.Random) -> ACL:
    open_one = draw.random() < 0.7
    return ACL(31, _IDS[0]) if open_one else ACL(draw.choice(_NUMBERS), draw.choice(_IDS))


def frame_of(draw: random.Random, xid: int, *, headers: bool) -> tuple[int, bytes]:
    """Make a frame, and the type that its reply reads as; ``headers``: damage these too."""
    kind = draw.choice(_KINDS)
    if kind == OpCode.CLOSE_SESSION and draw.random() < 0.9:
        kind = int(OpCode.PING)
    body = odd_request(draw, kind)
    way = draw.random()
    if way < 0.3:
        return kind, request(xid, kind, body)
    if way < 0.8 or not headers:
        return kind, request(xid, kind, mangle(body, draw) if body else draw.randbytes(9))
    if way < 0.98:
        return kind, framed(mangle(struct.pack(">ii", xid, kind) + body, draw))
    return kind, framed(draw.randbytes(draw.choice((0, 3, 8, 30))))


def burst(bench: Bench, besieged: Besieged) -> None:
    """One connection: what is in it, and what comes back."""
    draw = bench.random
    first = draw.random()
    with Peer(besieged.address) as peer:
        try:
            if first < 0.1:
                wish = ConnectRequest(0, draw.choice((0, 0, 2**62)), 1000, draw.choice((0, 5)), b"")
                peer.send(framed(mangle(wish.encode(), draw)))
            elif first < 0.15:
                peer.send(draw.randbytes(draw.choice((4, 5, 40))))
            else:
                peer.begin()
            whole = first >= 0.15
            count = min(BURST, bench.trials_wanted - bench.trials)
            headers = draw.random() < 0.3
            kinds = {xid: frame_of(draw, xid, headers=headers) for xid in range(1, count + 1)}
            bench.trials += count
            last = request(_LAST_XID, OpCode.EXISTS, _path(b"/f") + b"\0")
            peer.send(b"".join([*(frame for _, frame in kinds.values()), last]))
            bench.fired += count
            if not whole:  # there may be a session or none, or half a frame may be waited for
                peer.socket.settimeout(0.05)
                peer.ended()
                return
            # A damaged header may ask for anything, under any number.
            replies(peer, {} if headers else {xid: kind for xid, (kind, _) in kinds.items()})
        except Gone:
            return
        except Silent:
            bench.fail("a connection is neither answered nor closed")
        except (AssertionError, JuteError, ValueError, struct.error) as error:
            bench.fail(f"a reply makes no sense: {type(error).__name__}: {error}")


def replies(peer: Peer, kinds: dict[int, int]) -> None:
    """Take what comes, up to the last reply; hold it against the types, where they are known."""
    left = dict(kinds)
    while True:
        reply = peer.reply()
        ErrorCode(reply.err)
        if reply.xid == _LAST_XID:
            return
        if not kinds:
            continue
        if reply.xid == EVENT_XID:
            WatcherEvent.decode(reply.body)
        elif reply.xid == PING_XID:
            assert (reply.err, reply.body) == (0, b""), reply
        else:
            assert reply.xid in left, f"a reply to {reply.xid}, which nobody asked, or once more"
            kind = left.pop(reply.xid)
            if reply.err:
                assert not reply.body or kind == OpCode.SASL, reply
                continue
            if kind in (OpCode.MULTI, OpCode.MULTI_READ):
                decode_multi(reply.body, REPLIES)
            elif kind != OpCode.SYNC or reply.body != b"\xff\xff\xff\xff":
                REPLIES.get(kind, Empty).decode(reply.body)


# ---- files ----


def files(bench: Bench, count: int) -> None:
    """Let a server write a directory; mangle it and read it."""
    directory = bench.fresh("data")
    some = writers(bench, 2, data_bytes_max=200)
    service = Service(bench, directory, {"snapshot_every": 40, "reserve_bytes": 8192})
    try:
        if not service.listens():
            bench.fail(f"the server did not start: {service.said()[-300:]}")
            return
        for writer in some:
            writer.start(service.address, 60)
        for writer in some:
            writer.join()
    finally:
        service.kill()
    copy: Path = bench.fresh("copy")
    words = [directory, copy, bench.random.getrandbits(32), count]
    command = planted.command(bench.programs, "tests.trials.mangled", *words)
    done = subprocess.run(command, cwd=planted.ROOT, capture_output=True, text=True, check=False)
    shutil.rmtree(copy, ignore_errors=True)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines or not lines[-1].startswith("trials "):
        bench.fail(f"mangled ended with {done.returncode}: {done.stderr[-600:]}")
        return
    _, tried, _, refused = lines[-1].split()
    bench.trials += int(tried)
    bench.fired += int(tried)
    bench.notes["mangled files refused"] += int(refused)
    for line in lines[:-1][: bench.failures_max]:
        bench.fail(line)
