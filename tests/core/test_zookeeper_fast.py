"""What C does with requests is what Python does: byte by byte, over random runs and one by one.

    random runs      many clients, commits that lag, frames in pieces: see zookeeper_pair.py
    one by one       every odd path, version, flag and length; each record cut at every byte
    feed             where it stops, and where it goes on
    parts            digests, Stats, queues, against a few lines of Python
    leaks            what is done again and again leaves nothing behind

A failure prints its seed: ``Pair(seed).run(steps)`` is that run again.  STRATALOG_FAST_RUNS says
how many there are; under sanitizers (sanitized.py) fewer will do.
"""

from __future__ import annotations

import gc
import os
import random
import struct
import sys
import zlib
from collections import Counter, deque
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.zookeeper_kit import connect_request, frames_of, reply_of
from tests.core.zookeeper_pair import (
    ACLS,
    DATA,
    FRAME_BYTES_MAX,
    INT_MAX,
    INT_MIN,
    ODD_PATHS,
    PLAIN,
    PLAIN_WRITES,
    READS,
    Counted,
    Pair,
    Requests,
    Setting,
    acl_bytes,
    framed,
    int32,
    text,
)

from stratalog.core.zookeeper import _fast
from stratalog.core.zookeeper._fast import Change, Prepared, Queue, Session, Write, Znode, digest_of
from stratalog.core.zookeeper.identity import OPEN_ACL
from stratalog.core.zookeeper.prepare import Rules
from stratalog.core.zookeeper.standalone import Bounds, Client
from stratalog.core.zookeeper.watches import EventType
from stratalog.core.zookeeper.znode import signed64
from stratalog.wire.jute import encode_ustring
from stratalog.wire.zookeeper.records import OpCode

RUNS = int(os.environ.get("STRATALOG_FAST_RUNS", "96"))
PER_TEST = 12
STEPS = 300
OPEN = acl_bytes(OPEN_ACL)
SOUND: dict[str, Any] = {"full": 9, "strict": False, "server_id": 1, "rules": Rules()}


def new(seed: int | str = 1, **said: Any) -> Pair:
    """A pair with one client that has its session, and znodes."""
    pair = Pair(seed, **{"furnished": True, "extended": True, "digests": True, **SOUND, **said})
    pair.connect()
    settle(pair)
    return pair


def settle(pair: Pair) -> None:
    pair.hear()
    while pair.log:
        pair.commit(len(pair.log))
        pair.hear()


def ask(pair: Pair, kind: int, body: bytes, *, xid: int = 7) -> None:
    """One request of the first client; then all is compared."""
    pair.feed(pair.links[0], framed(int32(xid) + int32(kind) + body))
    pair.hear()
    settle(pair)
    if pair.links[0][1].farewell is not None:
        pair.disconnect(pair.links[0])
        pair.connect()
        settle(pair)


# ---- random runs ----


@pytest.mark.parametrize("first", range(0, RUNS, PER_TEST))
def test_random_runs_are_the_same(first: int) -> None:
    in_c = {what: Counter[int]() for what in ("receive", "resume", "commit")}
    asked = {what: Counter[int]() for what in in_c}
    for seed in range(first, first + PER_TEST):
        pair = Pair(seed).run(STEPS)
        for what, counts in pair.in_c().items():
            in_c[what].update(counts)
            asked[what].update(pair.slow.asked[what])
    # C did a good share of it.
    for kind in PLAIN_WRITES:
        assert in_c["receive"][kind] > asked["receive"][kind] // 10 > 10
        assert in_c["commit"][kind] > asked["commit"][kind] // 10 > 10
    for kind in (*READS, OpCode.PING):
        assert in_c["receive"][kind] > 10
        assert in_c["resume"][kind] > asked["resume"][kind] // 2 > 10
    # And what is not plain it left to Python.
    for counts in in_c.values():
        assert +counts == Counter({kind: counts[kind] for kind in PLAIN if counts[kind]})


@pytest.mark.parametrize("name", ["digests", "extended", "furnished", "quotas", "strict"])
@pytest.mark.parametrize("on", [True, False])
def test_every_setting_is_met(name: str, on: bool) -> None:
    """Settings are drawn from seeds; here each is said."""
    Pair(f"{name} {on}", **{name: on}).run(STEPS // 2)


def test_a_difference_is_seen() -> None:
    """Whatever is changed in one of the two, the comparison does not pass."""

    def break_node(pair: Pair) -> None:
        pair.fast.tree.nodes["/a"].pzxid += 1

    def break_count(pair: Pair) -> None:
        pair.fast.tree.acls._open_uses += 1

    def break_bytes(pair: Pair) -> None:
        pair.fast.tree.data_bytes += 1

    def break_bucket(pair: Pair) -> None:
        pair.fast.tracker.touch(pair.fast.tracker.all()[0], pair.now_ms + 2000)

    def break_out(pair: Pair) -> None:
        pair.links[0][0].out.append(b"x")

    def break_statistics(pair: Pair) -> None:
        pair.fast.statistics.reads_answered += 1

    def break_watch(pair: Pair) -> None:
        pair.fast.tree.watches.data.add("/a", pair.links[0][0])

    def break_changes(pair: Pair) -> None:
        pair.fast.preparer._digest ^= 1

    for plant in (
        break_node, break_count, break_bytes, break_bucket, break_out, break_statistics,
        break_watch, break_changes,
    ):  # fmt: skip
        pair = new()
        pair.check()
        plant(pair)
        with pytest.raises(AssertionError, match="seed 1, "):
            pair.check()


# ---- one by one ----


def bodies(path: str | bytes | None) -> list[tuple[int, bytes]]:
    """A plain request of each kind about a path."""
    name = text(path)
    return [
        (OpCode.CREATE, name + text(b"data") + OPEN + int32(0)),
        (OpCode.CREATE2, name + text(b"data") + OPEN + int32(0)),
        *((kind, name + b"\1") for kind in READS),
        (OpCode.SET_DATA, name + text(b"more") + int32(-1)),
        (OpCode.DELETE, name + int32(-1)),
    ]  # fmt: skip


@pytest.mark.parametrize("extended", [True, False])
def test_odd_paths(extended: bool) -> None:
    pair = new(extended=extended)
    for path in (*ODD_PATHS, "/plain", "/a/b/c", "/shut", "/look", "/fading", "/worn", "/é"):
        for kind, body in bodies(path):
            ask(pair, kind, body)
        for flags in (2, 3):
            ask(pair, OpCode.CREATE2, text(path) + text(None) + OPEN + int32(flags))
    pair.check()
    assert pair.in_c()["commit"][OpCode.CREATE2] > 10


@pytest.mark.parametrize("behind", [True, False])
def test_records_cut_at_every_byte(behind: bool) -> None:
    """Alone, and behind a write that is not committed."""
    pair = new()
    for kind, body in bodies("/cut"):
        for whole in (True, False):
            if whole:
                ask(pair, OpCode.CREATE, text("/cut") + text(b"") + OPEN + int32(0))
            for end in range(len(body) + 1):
                if behind:
                    write = text("/a") + text(b"%d" % end) + int32(-1)
                    pair.feed(pair.links[0], framed(int32(1) + int32(OpCode.SET_DATA) + write))
                ask(pair, kind, body[:end])
        ask(pair, kind, body + b"\0")
        ask(pair, kind, body + bytes(100))
        pair.check()
    for end in range(9):
        ask(pair, 0, (int32(5) + int32(OpCode.PING))[:end])
    pair.check()


def test_hostile_lengths() -> None:
    """Every field of four bytes that may be a length says something else."""
    pair = new()
    for kind, body in bodies("/cut"):
        for at, length in product(range(len(body) - 3), (-2, -1, INT_MIN, INT_MAX, 0, 1, 5)):
            ask(pair, kind, body[:at] + int32(length) + body[at + 4 :])
        pair.check()


def test_versions_flags_data_and_acls() -> None:
    pair = new()
    versions = (-1, 0, 1, 2, -2, INT_MIN, INT_MAX)
    for path, data, version in product(
        ("/a", "/worn", "/below", "/spent", "/full", "/shut"), DATA, versions
    ):
        ask(pair, OpCode.SET_DATA, text(path) + text(data) + int32(version))
    for kind, flags, data, acl in product(
        (OpCode.CREATE, OpCode.CREATE2), (*range(-1, 9), INT_MIN, INT_MAX), (None, b"x"), ACLS
    ):
        ask(pair, kind, text("/a/n") + text(data) + acl_bytes(acl) + int32(flags))
        ask(pair, OpCode.DELETE, text("/a/n") + int32(-1))
    for path, version in product(("/a/b", "/a/b/c", "/worn", "/below", "/spent", "/bob"), versions):
        ask(pair, OpCode.DELETE, text(path) + int32(version))
    pair.check()


@pytest.mark.parametrize("full", [INT_MAX - 1, INT_MAX, -1, -2, INT_MIN])
def test_cversions_that_wrap(full: int) -> None:
    pair = new(full=full)
    for flags in (0, 2, 2, 3, 1, 2):
        ask(pair, OpCode.CREATE2, text(f"/full/{flags}") + text(b"") + OPEN + int32(flags))
        pair.check()


@pytest.mark.parametrize("skip_acl", [True, False])
def test_acls_that_change_in_between(skip_acl: bool) -> None:
    """A setACL is on its way when the next request is decided, and when it is applied."""
    pair = new(rules=Rules(skip_acl=skip_acl))
    wanted = [
        (OpCode.CREATE, text("/p") + text(b"") + OPEN + int32(0)),
        (OpCode.SET_ACL, text("/p") + acl_bytes(ACLS[3]) + int32(-1)),
        (OpCode.CREATE, text("/p/x") + text(b"") + OPEN + int32(0)),
        (OpCode.SET_DATA, text("/p") + text(b"2") + int32(-1)),
        (OpCode.GET_DATA, text("/p") + b"\1"),
        (OpCode.SET_ACL, text("/p") + OPEN + int32(-1)),
        (OpCode.SET_DATA, text("/p") + text(b"3") + int32(-1)),
        (OpCode.GET_CHILDREN2, text("/p") + b"\1"),
        (OpCode.DELETE, text("/p/x") + int32(-1)),
        (OpCode.DELETE, text("/p") + int32(-1)),
    ]
    for lag in range(len(wanted)):
        for number, (kind, body) in enumerate(wanted):
            pair.feed(pair.links[0], framed(int32(number) + int32(kind) + body))
            pair.hear()
            pair.commit(len(pair.log) - lag)
        settle(pair)
        pair.check()


def test_the_last_open_acl_goes_and_comes_back() -> None:
    """The table forgets it with its last znode; a new znode brings a new index."""
    pair = new(furnished=False)
    for _ in range(3):
        ask(pair, OpCode.CREATE, text("/only") + text(b"") + OPEN + int32(0))
        pair.check()
        ask(pair, OpCode.CREATE, text("/only/x") + text(b"") + OPEN + int32(0))
        ask(pair, OpCode.DELETE, text("/only/x") + int32(-1))
        ask(pair, OpCode.DELETE, text("/only") + int32(0))
        pair.check()
    assert pair.fast.tree.acls._open == 0


def test_a_closing_session_takes_ephemerals_along_that_are_on_their_way() -> None:
    pair = new()
    link = pair.links[0]
    for lag in range(7):
        pair.connect()
        settle(pair)
        link = pair.links[-1]
        frames = [
            *((OpCode.CREATE2, text(f"/a/e{n}") + text(b"") + OPEN + int32(1)) for n in range(3)),
            (OpCode.DELETE, text("/a/e1") + int32(-1)),
            (OpCode.CREATE, text("/a/s") + text(b"") + OPEN + int32(3)),
            (OpCode.CLOSE_SESSION, b""),
            (OpCode.SET_DATA, text("/a/e0") + text(b"late") + int32(-1)),
            (OpCode.GET_DATA, text("/a/e0") + b"\0"),
            (OpCode.PING, b""),
        ]
        for number, (kind, body) in enumerate(frames):
            pair.feed(link, framed(int32(number) + int32(kind) + body))
            pair.feed(pair.links[0], framed(int32(number) + int32(4) + text("/a/e2") + b"\1"))
            pair.hear()
            pair.commit(len(pair.log) - lag)
        settle(pair)
        pair.check()
        pair.disconnect(link)
        assert not pair.fast.tree.ephemerals


def test_quotas_set_while_writes_are_on_their_way() -> None:
    """Decided without a quota, applied with one: C leaves it to Python then."""
    for hard, commits in product((False, True), range(9)):
        pair = new(rules=Rules(enforce_quota=hard))
        data = b"count=2,bytes=5" + (b"=;countHardLimit=2;byteHardLimit=9" if hard else b"")
        quota = [("/zookeeper/quota/a", b""), ("/zookeeper/quota/a/zookeeper_limits", data),
                 ("/zookeeper/quota/a/zookeeper_stats", b"")]  # fmt: skip
        wanted = [(OpCode.CREATE, text("/a/q") + text(b"123456") + OPEN + int32(0))]
        wanted += [(OpCode.CREATE, text(one) + text(two) + OPEN + int32(0)) for one, two in quota]
        wanted += [
            (OpCode.CREATE2, text("/a/r") + text(b"") + OPEN + int32(0)),
            (OpCode.SET_DATA, text("/a/q") + text(b"1") + int32(-1)),
            (OpCode.DELETE, text("/a/q") + int32(-1)),
            (OpCode.CREATE, text("/a/q") + text(b"1234567890") + OPEN + int32(0)),
        ]
        for number, (kind, body) in enumerate(wanted):
            if number == commits:
                settle(pair)
            pair.feed(pair.links[0], framed(int32(number) + int32(kind) + body))
        settle(pair)
        pair.check()


def test_a_session_whose_id_means_a_container() -> None:
    """A snapshot may hold one; its znodes are containers, whoever makes them."""
    pair = new()
    container = -(1 << 63)
    for machine in pair.machines:
        machine.tree.sessions[container] = 9000
        machine.tracker.track(container, 9000, pair.now_ms)
    pair.connect(session_id=container)
    pair.feed(pair.links[1], framed(int32(1) + int32(1) + text("/e") + text(b"") + OPEN + int32(1)))
    settle(pair)
    pair.check()


def test_a_znode_whose_path_holds_a_nul() -> None:
    """No request makes one, a snapshot may hold one."""
    pair = new()
    for machine in pair.machines:
        machine.tree.create("/a/\0", b"", OPEN_ACL, 0, -1, 1, 1)
        machine.preparer._digest = machine.tree.digest
    for kind, body in bodies("/a/\0"):
        ask(pair, kind, body)
    pair.check()


PATHS = st.one_of(
    st.text("/ab.\0\x1f \x7fé\u0800", max_size=8).map(lambda name: "/" + name),
    st.text(max_size=5),
    st.sampled_from(["/a", "/a/b", "/a/b/c", "/", "", "/shut", "/zookeeper", "/n/日本"]),
    st.binary(max_size=6),
    st.none(),
)


@given(
    wanted=st.lists(
        st.tuples(
            st.sampled_from(PLAIN), PATHS, st.none() | st.binary(max_size=9),
            st.sampled_from((-1, 0, 1, 2, 3, 4)), st.integers(0, 3), st.booleans(),
        ),
        max_size=12,
    )
)  # fmt: skip
@settings(max_examples=150)
@example(wanted=[(OpCode.CREATE, "/a/\0", b"", 2, 0, True)])
def test_whatever_is_asked(
    wanted: list[tuple[int, str | bytes | None, bytes | None, int, int, bool]],
) -> None:
    pair = new()
    for number, (kind, path, data, small, cut, wait) in enumerate(wanted):
        body = text(path)
        if kind in {OpCode.CREATE, OpCode.CREATE2}:
            body += text(data) + OPEN + int32(small)
        elif kind == OpCode.SET_DATA:
            body += text(data) + int32(small)
        elif kind == OpCode.DELETE:
            body += int32(small)
        elif kind != OpCode.PING:
            body += bytes([small & 1])
        frame = framed(int32(number) + int32(kind) + body)
        pair.feed(pair.links[0], frame[: len(frame) - cut])
        pair.feed(pair.links[0], frame[len(frame) - cut :])
        pair.hear()
        if not wait:
            settle(pair)
    settle(pair)
    pair.check()


# ---- feed ----


def fed_by_hand(
    machine: Counted, client: Client, data: bytes, at: int, bounds: Bounds
) -> tuple[int, int, int, bool]:  # fmt: skip
    """What ``feed`` says it does, where no request is plain."""
    frames = slow = answered = 0
    last, bounded = at, False
    while len(data) - at >= 4 and not bounded and slow < bounds.slow_max:
        (length,) = struct.unpack_from(">i", data, at)
        if not 0 <= length <= bounds.frame_bytes_max or at + 4 + length > len(data):
            break
        last, at = at + 4, at + 4 + length
        frames += 1
        if client.farewell is not None:
            continue
        slow += 1
        before = len(client.out)
        machine.receive(client, data[last:at])
        answered += sum(map(len, client.out[before:]))
        waiting = len(client.pending) + len(client.held or ())
        bounded = answered > bounds.answer_bytes_max or waiting > bounds.pending_max
    return at, frames, last, bounded


def some_stream(seed: int) -> tuple[Setting, bytes]:
    """Frames of one client, the last of them not whole."""
    draw = random.Random(seed)
    setting = Setting(draw, **{"furnished": True, "quotas": False, **SOUND})
    machine = setting.machine(fast=False)
    requests = Requests(draw, machine, quotas=False)
    frames = [framed(connect_request()), *(requests.some() for _ in range(40))]
    return setting, b"".join(frames)[:-3]


def feed_all(
    machine: Counted, client: Client, data: bytes, bounds: Bounds, by_hand: bool
) -> list[Any]:
    """Feed it all, committing now and then; return what ``feed`` said, and what was answered."""
    at, trace = 0, []
    while True:
        if by_hand:
            fed = fed_by_hand(machine, client, data, at, bounds)
        else:
            fed = machine.feed(client, data, at, bounds)
        trace.append(tuple(fed))
        if fed[1] == 0:
            return [*trace, b"".join(client.out), client.farewell]
        at = fed[0]
        if len(trace) % 2:
            for prepared in machine.take_proposals():
                machine.committed(prepared.zxid)


@pytest.mark.parametrize("seed", range(20))
def test_feed_stops_where_it_says(seed: int) -> None:
    setting, data = some_stream(seed)
    every = 1 << 62
    for bounds in (
        Bounds(FRAME_BYTES_MAX),
        *(Bounds(FRAME_BYTES_MAX, most) for most in (0, 19, 20, 83, 84, 500, 6000)),
        *(Bounds(FRAME_BYTES_MAX, pending_max=most) for most in (0, 1, 2, 7)),
        *(Bounds(FRAME_BYTES_MAX, slow_max=most) for most in (1, 2, 5)),
        *(Bounds(most) for most in (0, 8, 45, 60, 100)),
        Bounds(200, 100, 2, 3),
    ):
        done = []
        for fast, by_hand in ((False, True), (False, False), (True, False)):
            machine = setting.machine(fast=fast)
            client = machine.connect("10.0.0.1")
            how = bounds if fast is False else bounds._replace(slow_max=every)
            done.append(feed_all(machine, client, data, how, by_hand))
        assert done[0] == done[1], (seed, bounds)
        if bounds.slow_max == every:
            assert done[1] == done[2], (seed, bounds)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("slow_max", [1, 2, 3])
def test_feed_takes_so_many_that_are_not_plain(seed: int, slow_max: int) -> None:
    setting, data = some_stream(seed)
    machine, whole = setting.machine(fast=True), setting.machine(fast=True)
    client, other = machine.connect("10.0.0.1"), whole.connect("10.0.0.1")
    bounds = Bounds(FRAME_BYTES_MAX, slow_max=slow_max)
    taken: Counter[int] = Counter()
    at = 0
    while (fed := machine.feed(client, data, at, bounds)).frames:
        asked = machine.asked["receive"].total()
        assert asked - taken["slow"] <= slow_max
        left = machine.feed(client, data, fed.at, Bounds(0)).frames
        assert left == 0
        if asked - taken["slow"] < slow_max:
            assert len(data) - fed.at < 4 + int.from_bytes(data[fed.at : fed.at + 4], "big")
        taken["slow"], taken["frames"], at = asked, taken["frames"] + fed.frames, fed.at
    once = whole.feed(other, data, 0, Bounds(FRAME_BYTES_MAX))
    assert (once.at, once.frames) == (at, taken["frames"])
    assert b"".join(client.out) == b"".join(other.out)
    assert whole.asked == machine.asked


def test_feed_refuses_what_is_no_position() -> None:
    machine = Pair(1).fast
    client = machine.connect("10.0.0.1")
    for at in (-1, 4):
        with pytest.raises(ValueError, match="outside"):
            machine.feed(client, b"abc", at, Bounds(9))
    assert machine.feed(client, b"abc", 3, Bounds(9)) == (3, 0, 3, False)


def test_reads_behind_a_write_are_parted_with_when_they_ask_for_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stratalog.core.zookeeper.standalone.ANSWERS_BYTES_MAX", 500_000)
    pair = new()
    ask(pair, OpCode.SET_DATA, text("/a") + text(bytes(70_000)) + int32(-1))
    read = framed(int32(3) + int32(OpCode.GET_DATA) + text("/a") + b"\0")
    write = framed(int32(2) + int32(OpCode.SET_DATA) + text("/n") + text(b"") + int32(-1))
    pair.feed(pair.links[0], write + read * 12)
    settle(pair)
    assert "too much" in pair.links[0][0].farewell.value
    pair.check()


# ---- order: C alone, against the rules themselves ----


def test_replies_come_in_the_order_of_requests() -> None:
    pair = new()
    machine, client = pair.fast, pair.links[0][0]
    kinds = (OpCode.SET_DATA, OpCode.GET_DATA, OpCode.PING, OpCode.EXISTS) * 5
    data = b""
    for number, kind in enumerate(kinds):
        body = {5: text("/a") + text(b"%d" % number) + int32(-1), 11: b""}.get(
            kind, text("/a") + b"\0"
        )
        data += framed(int32(number) + int32(kind) + body)
    machine.feed(client, data, 0, Bounds(FRAME_BYTES_MAX))
    assert client.out == []
    for prepared in machine.take_proposals():
        machine.committed(prepared.zxid)
    replies = [reply_of(body) for body in frames_of(client.out)]
    assert [one.xid for one in replies] == [
        -2 if kind == OpCode.PING else number for number, kind in enumerate(kinds)
    ]
    assert machine.asked["commit"][OpCode.SET_DATA] == 0


# ---- parts ----

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
INTS = st.integers(INT_MIN, INT_MAX)


@given(
    path=st.text(max_size=20) | st.sampled_from(["", "/", "/zookeeper", "/zookeeper/x", "/a/b"]),
    data=st.none() | st.binary(max_size=70),
    longs=st.tuples(*[LONGS] * 6),
    ints=st.tuples(*[INTS] * 3),
    children=st.integers(0, 5),
    extended=st.booleans(),
)
@example("/a", b"", (1, 2, 3, 4, 5, -(1 << 63)), (0, INT_MIN, 0), 2, True)
@example("/a", b"", (1, 2, 3, 4, 5, (0xFF << 56 | 7) - (1 << 64)), (0, INT_MAX, 0), 2, True)
@example("/\ud800", b"12345678", (1, 2, 3, 4, 5, 0x7F << 56), (0, 5, 0), 0, True)
def test_digests_and_stats(
    path: str,
    data: bytes | None,
    longs: tuple[int, ...],
    ints: tuple[int, ...],
    children: int,
    extended: bool,
) -> None:
    czxid, mzxid, pzxid, ctime, mtime, owner = longs
    version, cversion, aversion = ints
    node = Znode(data, -1, czxid, ctime, owner)
    change = Change(path, 1)
    for one in (node, change):
        one.data, one.czxid, one.mzxid, one.pzxid = data, czxid, mzxid, pzxid
        one.ctime, one.mtime, one.owner = ctime, mtime, owner
        one.version, one.cversion, one.aversion = ints
    numbers = struct.pack(
        ">qqqqqiiiq", czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner
    )
    name = b"" if path == "/" else encode_ustring(path)
    digest = zlib.crc32(name + (data or b"") + numbers)
    if path.startswith("/zookeeper/"):
        digest = 0
    assert digest_of(path, node) == digest_of(path, change) == digest
    if children:
        node.children = dict.fromkeys(map(str, range(children)))
    seen = (cversion * 2 - children + (1 << 31)) % (1 << 32) - (1 << 31)
    ttl = extended and owner >> 40 == -(1 << 16)
    shown = 0 if ttl or owner == -(1 << 63) else owner
    assert node.stat(extended) == struct.pack(
        ">qqqqiiiqiiq", czxid, mzxid, ctime, mtime, version, seen, aversion, shown,
        len(data or b""), children, pzxid,
    )  # fmt: skip


def test_digests_of_every_length() -> None:
    """The sum goes by eight bytes at a time, from wherever the data lies."""
    data = random.Random(5).randbytes(5000)
    for length in (*range(70), 255, 256, 257, 4095, 4096, 4097, 5000):
        node = Znode(data[:length], -1, 0, 0, 0)
        assert digest_of("", node) == zlib.crc32(data[:length] + bytes(60))


@given(st.lists(st.sampled_from(["append", "popleft", "pop", "clear"]) | st.integers(0, 60)))
def test_a_queue_is_a_deque(steps: list[str | int]) -> None:
    queue: Queue[int] = Queue()
    model: deque[int] = deque()
    for number, step in enumerate(steps):
        for one in range(step if isinstance(step, int) else 0):
            queue.append(one)
            model.append(one)
        if step == "append":
            queue.append(number)
            model.append(number)
        elif step == "clear":
            queue.clear()
            model.clear()
        elif isinstance(step, str):
            if model:
                assert getattr(queue, step)() == getattr(model, step)()
            else:
                with pytest.raises(IndexError):
                    getattr(queue, step)()
        assert len(queue) == len(model)
        assert list(queue) == list(model)
        if model:
            assert (queue[0], queue[-1], queue[len(model) - 1]) == (model[0], model[-1], model[-1])
    for out in (len(model), -len(model) - 1):
        with pytest.raises(IndexError):
            queue[out]


def test_types_take_what_they_must() -> None:
    node, change = Znode(b"", -1, 0, 0, 0), Change("/a", 1)
    for one in (node, change):
        for wrong in ("text", 5, bytearray()):
            with pytest.raises(TypeError):
                one.data = wrong  # type: ignore[assignment]
        with pytest.raises(TypeError):
            del one.data
    with pytest.raises(TypeError):
        node.children = []  # type: ignore[assignment]
    with pytest.raises(TypeError):
        digest_of("/a", object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Prepared(1, 2, 3, 4, 5, [], None, b"", {})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Write(None, 1, 1, object(), 0)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        change.acl  # noqa: B018  (it has none yet)
    prepared = Prepared(1, 2, 3, 4, 5, (6,), -7, b"p", {"/a": 8})
    assert (prepared.type, prepared.fields, prepared.digest) == (1, (6,), -7)
    assert (prepared.payload, prepared.digests) == (b"p", {"/a": 8})
    assert Prepared(1, 2, 3, 4, 5, (6,), None, b"p", {}).digest is None
    assert signed64(prepared.digest or 0) == -7


def test_a_machine_whose_parts_are_not_what_they_must_be_is_refused() -> None:
    for name, wrong in (
        ("tree", object()), ("preparer", None), ("_waiting", []), ("_proposals", ()),
        ("_talkative", {}),
    ):  # fmt: skip
        machine = Pair(1).fast
        client = machine.connect("10.0.0.1")
        setattr(machine, name, wrong)
        with pytest.raises(TypeError, match="not what it must be"):
            _fast.feed(machine, client, b"", 0, *Bounds(9))
        with pytest.raises(TypeError, match="not what it must be"):
            _fast.commit(machine, 1)
    machine = Pair(1).fast
    for wrong in (object(), None, 5):
        with pytest.raises(TypeError):
            _fast.feed(machine, wrong, b"", 0, *Bounds(9))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            _fast.commit(wrong, 1)  # type: ignore[arg-type]


# ---- leaks ----

COUNTED = (
    None, True, False, OPEN_ACL, b"", "", (), *EventType, Znode, Change, Session, Prepared, Write,
    Queue,
)  # fmt: skip


def references() -> list[int]:
    """How often things are held that every object would hold, the types of ours among them."""
    gc.collect()
    return [sys.getrefcount(one) for one in COUNTED]


def rounds_of_work() -> Any:
    """A function that does the same work each time, and leaves everything as it was."""
    machine = new(furnished=False).fast
    frames = b""
    for kind, body in (
        *bodies("/r"), *bodies("/r"), *bodies("/zookeeper/x"), *bodies("/é"), *bodies(b"\xff"),
        *bodies("/r")[:-1],
        (OpCode.PING, b""),
        (OpCode.CREATE2, text("/r/e") + text(b"e" * 900) + OPEN + int32(1)),
        (OpCode.CREATE, text("/r/s") + text(None) + OPEN + int32(3)),
        (OpCode.GET_CHILDREN2, text("/r") + b"\1"), (OpCode.GET_DATA, text("/r/e") + b"\1"),
        (OpCode.SET_DATA, text("/r/e") + text(b"f" * 2000) + int32(0)),
        (OpCode.SET_DATA, text("/r/e") + text(b"") + int32(77)), (OpCode.DELETE, text("/r/e")),
        (OpCode.CREATE, text("/r/acl") + text(b"") + acl_bytes(ACLS[5]) + int32(0)),
        (OpCode.DELETE, text("/r/acl") + int32(-1)), (OpCode.DELETE, text("/r/e") + int32(-1)),
    ):  # fmt: skip
        frames += framed(int32(1) + int32(kind) + body)
    tail = framed(int32(1) + int32(OpCode.CLOSE_SESSION))
    again = framed(int32(2) + int32(OpCode.DELETE) + text("/r") + int32(-1))

    def commit(look: bool) -> None:
        for prepared in machine.take_proposals():
            if look:
                assert isinstance(prepared.fields, tuple)
                assert isinstance(prepared.digests, dict)
            machine.committed(prepared.zxid)
        machine.take_talkative()

    def work(times: int) -> None:
        for number in range(times):
            client = machine.connect("10.0.0.1")
            for data in (framed(connect_request()), frames, tail if number % 3 else b""):
                machine.feed(client, data, 0, Bounds(FRAME_BYTES_MAX))
                if number % 2 or data is not frames:
                    commit(look=number % 4 < 2)
            session_id = client.session_id
            machine.disconnect(client)
            machine.expire(session_id)
            commit(look=False)
            client = machine.connect("10.0.0.1")
            for data in (framed(connect_request()), again, tail):
                machine.feed(client, data, 0, Bounds(FRAME_BYTES_MAX))
                commit(look=False)
            machine.disconnect(client)
        machine.tree.digest_log.clear()

    return machine, work


def test_work_leaves_nothing_behind() -> None:
    """What leaks, leaks each time; what caches grow by, they do not always."""
    machine, work = rounds_of_work()
    work(50)
    nodes, rounds = len(machine.tree.nodes), 100
    seen = []
    for _ in range(5):
        seen.append((*references(), sys.getallocatedblocks()))
        work(rounds)
    assert len(machine.tree.nodes) == nodes
    assert in_c_of(machine) > 1000
    names = [*(getattr(one, "__name__", repr(one)) for one in COUNTED), "blocks of memory"]
    for name, counts in zip(names, zip(*seen, strict=True), strict=True):
        least = min(after - before for before, after in pairwise(counts))
        assert least < rounds // 2, (name, counts)  # one a round would be `rounds`


def in_c_of(machine: Counted) -> int:
    """How many writes C applied."""
    return machine.tree.last_zxid - machine.asked["commit"].total()


def test_machines_of_their_own_leave_nothing_behind() -> None:
    """Znodes, sessions and transactions go with their machine, once its connections are gone."""

    def work() -> None:
        for seed in range(6):
            machine, one = rounds_of_work()
            one(3 + seed % 2)
            machine.feed(machine.connect("x"), framed(connect_request()), 0, Bounds(99))
            for client in list(machine.clients.values()):
                machine.disconnect(client)
            machine.take_talkative()

    work()
    before = references()
    work()
    after = references()
    more = [b - a for a, b in zip(before, after, strict=True)]
    assert max(more) < 6, dict(zip(map(str, COUNTED), more, strict=True))
