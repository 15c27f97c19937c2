"""The machine with ears: what it tells, when, of whom, and that it is the same machine otherwise.

Left to others: whether Apache's server tells the same (tests/interop/test_zookeeper_audit.py).
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.core.zookeeper_kit import (
    ALL,
    OPEN,
    Talk,
    acl,
    frames_of,
    joined,
    new_machine,
    request,
    settle,
)

from stratalog.core.zookeeper.audit import Audited, Event, Result, acl_text, address_text, users_of
from stratalog.core.zookeeper.identity import standard_schemes
from stratalog.core.zookeeper.prepare import Rules
from stratalog.core.zookeeper.standalone import Options
from stratalog.core.zookeeper.tree import Tree
from stratalog.wire.zookeeper.records import Id, OpCode

NOW_MS, WALL_MS = 1_000_000, 1_700_000_000_000
GONE = "ephemeralZNodeDeletionOnSessionCloseOrExpire"


def audited(tree: Tree | None = None, **options: Any) -> tuple[Audited, list[str]]:
    """A machine with ears, and the lines that it tells."""
    lines: list[str] = []
    machine = Audited(
        tree or Tree(extended=True), Options(**options), now_ms=NOW_MS, user="zk",
        tell=lambda event: lines.append(event.line),
    )  # fmt: skip
    machine.set_clock(NOW_MS, WALL_MS)
    return machine, lines


def said(lines: list[str]) -> list[str]:
    """The lines since the last time, without session, user and address."""
    new = [" ".join(line.split("\t")[3:]) for line in lines]
    lines.clear()
    return new


def test_a_line_has_all_that_there_is_in_apaches_order() -> None:
    machine, lines = audited()
    talk = joined(machine)
    talk.auth("digest", b"me:secret")
    assert talk.create("/a") == "/a"
    session = f"0x{talk.client.session_id:x}"
    start = f"session={session}\tuser=127.0.0.1,me\tip=127.0.0.1\toperation="
    assert lines == [f"{start}create\tznode=/a\tznode_type=persistent\tresult=success"]
    lines.clear()
    talk.do(OpCode.SET_ACL, "/a", (acl(1, "world", "anyone"), acl(ALL, "auth", "")), -1)
    assert lines == [f"{start}setAcl\tznode=/a\tacl=world:anyone:rauth::cdrwa\tresult=success"]


def test_each_operation_is_told_and_no_read_is() -> None:
    machine, lines = audited()
    talk = joined(machine)
    names = [talk.create("/a", flags=0), talk.create("/s-", flags=2)]
    talk.do(OpCode.CREATE2, "/e-", b"", OPEN, 3)
    talk.do(OpCode.CREATE_CONTAINER, "/c", b"", OPEN, 4)
    talk.do(OpCode.CREATE_TTL, "/t", b"", OPEN, 5, 1000)
    assert names == ["/a", "/s-0000000001"]
    assert said(lines) == [
        "operation=create znode=/a znode_type=persistent result=success",
        "operation=create znode=/s-0000000001 znode_type=persistent_sequential result=success",
        "operation=create znode=/e-0000000002 znode_type=ephemeral_sequential result=success",
        "operation=create znode=/c znode_type=container result=success",
        "operation=create znode=/t znode_type=persistent_with_ttl result=success",
    ]
    talk.do(OpCode.SET_DATA, "/a", b"x", -1)
    talk.do(OpCode.GET_DATA, "/a", True)
    talk.do(OpCode.DELETE, "/a", -1)
    assert said(lines) == [
        "operation=setData znode=/a result=success",
        "operation=delete znode=/a result=success",
    ]


def test_a_refusal_is_told_with_the_path_that_was_asked_for() -> None:
    machine, lines = audited()
    talk = joined(machine)
    talk.fail(OpCode.CREATE, "/no/s-", b"", OPEN, 2)
    talk.fail(OpCode.DELETE, "/no", -1)
    talk.fail(OpCode.RECONFIG, None, None, None, -1)
    talk.fail(OpCode.CREATE, "/a", b"", OPEN, 9)  # no such flags: no line, as with Apache's
    assert said(lines) == [
        "operation=create znode=/no/s- znode_type=persistent_sequential result=failure",
        "operation=delete znode=/no result=failure",
        "operation=reconfig result=failure",
    ]


def test_a_multi_is_its_parts_or_one_failure() -> None:
    machine, lines = audited()
    talk = joined(machine)
    parts = (
        (OpCode.CREATE, "/a", b"", OPEN, 1), (OpCode.CREATE, "/s-", b"", OPEN, 2),
        (OpCode.CHECK, "/a", 0), (OpCode.SET_DATA, "/a", b"x", -1), (OpCode.DELETE, "/a", -1),
    )  # fmt: skip
    assert talk.ask(OpCode.MULTI, *parts).err == 0
    assert said(lines) == [
        "operation=create znode=/a znode_type=ephemeral result=success",
        "operation=create znode=/s-0000000001 result=success",
        "operation=setData znode=/a result=success",
        "operation=delete znode=/a result=success",
    ]
    assert talk.ask(OpCode.MULTI, (OpCode.DELETE, "/no", -1), *parts).err == 0
    assert said(lines) == ["operation=multiOperation result=failure"]


def test_nothing_is_told_before_it_is_committed() -> None:
    machine, lines = audited()
    talk = joined(machine)
    talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
    talk.send(OpCode.CREATE, "/b", b"", OPEN, 0)
    first, second = machine.take_proposals()
    assert lines == []
    machine.committed(first.zxid)
    assert [line.split("\t")[4] for line in lines] == ["znode=/a"]
    machine.committed(second.zxid)
    assert [line.split("\t")[4] for line in lines] == ["znode=/a", "znode=/b"]


def test_it_is_told_of_who_they_were_when_they_asked_and_also_when_they_are_gone() -> None:
    machine, lines = audited()
    talk = joined(machine)
    talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
    talk.auth("digest", b"me:secret")
    machine.disconnect(talk.client)
    settle(machine)
    assert "\tuser=127.0.0.1\t" in lines[0]


@pytest.mark.parametrize("listed", [True, False])
def test_ephemerals_go_with_their_session(listed: bool) -> None:
    machine, lines = audited(rules=Rules(close_session_paths=listed))
    talk = joined(machine)
    talk.create("/e1", flags=1)
    lines.clear()
    talk.send(OpCode.CREATE, "/e2", b"", OPEN, 1)  # on its way as the session closes
    session_id = talk.client.session_id
    assert machine.expire(session_id)
    settle(machine)
    assert [line.split("\t", 1)[1] for line in lines[1:]] == [
        f"user=zk\toperation={GONE}\tznode={path}\tresult=success" for path in ("/e1", "/e2")
    ]
    assert lines[1].startswith(f"session=0x{session_id:x}\t")


def test_ephemerals_of_a_session_that_nobody_knows_go_at_the_start() -> None:
    tree = Tree()
    tree.create("/e", b"", OPEN, 7, -1, 1, 1)
    machine, lines = audited(tree)
    assert "/e" not in machine.tree.nodes
    assert lines == [f"session=0x7\tuser=zk\toperation={GONE}\tznode=/e\tresult=success"]


def test_a_request_that_cannot_be_read_is_told_in_its_turn() -> None:
    machine, lines = audited()
    talk = joined(machine)
    cut = request(1, OpCode.CREATE, "/a", b"", OPEN, 0)[:-1]
    machine.receive(talk.client, cut)
    assert said(lines) == ["operation=create znode=/a znode_type=persistent result=failure"]
    talk.send(OpCode.CREATE, "/b", b"", OPEN, 0)
    machine.receive(talk.client, cut[:12])
    talk.send(OpCode.CREATE, "/c", b"", OPEN, 0)
    assert lines == []
    settle(machine)
    assert said(lines) == [
        "operation=create znode=/b znode_type=persistent result=success",
        "operation=create znode_type=persistent result=failure",
        "operation=create znode=/c znode_type=persistent result=success",
    ]


def test_nobody_forges_a_line() -> None:
    line = Event("delete", Result.FAILURE, "a\nb", znode="/x\tresult=success\n\u2028").line
    assert line == (
        "user=a\\x0ab\toperation=delete\tznode=/x\\x09result=success\\x0a\\u2028\tresult=failure"
    )


def test_how_things_are_written() -> None:
    assert acl_text((acl(4 | 1, None, None), acl(0, "ip", "::1"))) == "null:null:crip:::1:"
    assert address_text("::1") == "0:0:0:0:0:0:0:1"
    assert address_text("fe80::1%eth0") == "fe80:0:0:0:0:0:0:1%eth0"
    assert address_text("::ffff:10.0.0.1") == "10.0.0.1"
    assert address_text("10.0.0.1") == "10.0.0.1"
    assert address_text("somewhere") == "somewhere"
    who = [Id("ip", "::1"), Id("super", ""), Id("digest", "me:hash"), Id("gone", "x")]
    assert users_of(who, standard_schemes()) == "0:0:0:0:0:0:0:1,me"
    assert users_of(who[1:2], standard_schemes()) is None


def test_it_is_the_same_machine_otherwise() -> None:
    """One stream of requests into both: what comes back is the same, byte for byte."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    plain, (told, lines) = new_machine(), audited()
    sides = (plain, told)
    talks = [[joined(machine) for machine in sides] for _ in range(3)]
    kinds = (OpCode.CREATE, OpCode.DELETE, OpCode.SET_DATA, OpCode.GET_DATA, OpCode.MULTI)
    for number in range(400):
        pair = rng.choice(talks)
        kind, path = rng.choice(kinds), f"/{rng.randrange(6)}"
        values: dict[int, tuple[Any, ...]] = {
            OpCode.CREATE: (path, b"", OPEN, rng.randrange(4)),
            OpCode.DELETE: (path, -1),
            OpCode.SET_DATA: (path, b"x", rng.choice((-1, 0, 3))),
            OpCode.GET_DATA: (path, True),
            OpCode.MULTI: ((OpCode.DELETE, path, -1), (OpCode.CREATE, path, b"", OPEN, 1)),
        }
        frame = request(number, kind, *values[kind])
        if rng.random() < 0.05:
            frame = frame[: rng.randrange(8, len(frame))]
        for talk in pair:
            talk.machine.receive(talk.client, frame)
        if rng.random() < 0.3:
            for machine in sides:
                settle(machine)
            for left, right in talks:
                assert _out(left) == _out(right)
    for machine in sides:
        settle(machine)
    assert plain.tree.digest == told.tree.digest
    assert lines


def _out(talk: Talk) -> list[bytes]:
    frames = frames_of(talk.client.out)
    talk.client.out.clear()
    return frames
