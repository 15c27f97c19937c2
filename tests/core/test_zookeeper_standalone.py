"""One server as a machine, request by request: connecting, order, taking over, going away."""

from __future__ import annotations

import random

import pytest
from tests.core.zookeeper_kit import (
    ALL,
    OPEN,
    Talk,
    acl,
    connect_request,
    frames_of,
    joined,
    new_machine,
    reply_of,
    request,
    settle,
)

from stratalog.core.zookeeper.identity import digest_of
from stratalog.core.zookeeper.prepare import Rules
from stratalog.core.zookeeper.sessions import password_of
from stratalog.core.zookeeper.standalone import Farewell
from stratalog.core.zookeeper.tree import Tree
from stratalog.wire.zookeeper.messages import (
    REPLIES,
    ConnectResponse,
    decode_multi,
    encode_multi_response,
)
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode, Stat

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
RO_ACL = (acl(1, "world", "anyone"),)


class TestConnecting:
    @pytest.mark.parametrize(
        ("asked", "granted"), [(0, 6000), (-5, 6000), (7000, 7000), (10**9, 60000)]
    )
    def test_the_timeout_is_bounded(self, asked: int, granted: int) -> None:
        machine = new_machine()
        talk = joined(machine, timeout_ms=asked)
        assert talk.welcome is not None
        assert talk.welcome.timeout == granted
        assert talk.welcome.password == password_of(talk.welcome.session_id)
        assert machine.tree.sessions == {talk.welcome.session_id: granted}

    def test_no_answer_before_the_session_is_committed(self) -> None:
        machine = new_machine()
        talk = Talk(machine)
        machine.receive(talk.client, connect_request())
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        talk.send(OpCode.GET_DATA, "/a", False)
        assert talk.client.out == []
        assert [one.type for one in machine.take_proposals()] == [OpCode.CREATE_SESSION]
        machine.committed(1)
        assert talk.hear() == []
        assert talk.welcome is not None
        settle(machine)
        assert [(one.xid, one.zxid, one.err) for one in talk.hear()] == [(1, 2, 0), (2, 2, 0)]

    def test_old_clients_get_the_short_answer(self) -> None:
        machine = new_machine()
        for frame, size in ((connect_request(), 37), (connect_request()[:-1], 36)):
            client = machine.connect("::1")
            machine.receive(client, frame)
            settle(machine)
            (body,) = frames_of(client.out)
            assert len(body) == size
            whole = ConnectResponse.decode(body.ljust(37, b"\0"))
            client.out.clear()
            again = machine.connect("::1")
            resume = connect_request(session_id=whole.session_id, password=whole.password or b"")
            machine.receive(again, resume[: len(frame)])
            assert len(frames_of(again.out)[0]) == size

    @pytest.mark.parametrize("wrong", ["password", "session", "null", "closed", "closing"])
    def test_a_session_that_is_not_theirs_is_expired(self, wrong: str) -> None:
        machine = new_machine()
        mine = joined(machine).client.session_id
        session_id, password = mine, password_of(mine)
        if wrong == "password":
            password = bytes(16)
        elif wrong == "session":
            session_id += 1
        elif wrong == "null":
            password = b""
        else:
            machine.expire(mine)
            if wrong == "closed":
                settle(machine)
        talk = Talk(machine)
        machine.receive(talk.client, connect_request(session_id=session_id, password=password))
        talk.hear()
        assert talk.welcome == ConnectResponse(0, 0, 0, bytes(16))
        assert talk.client.farewell is Farewell.SESSION_EXPIRED

    def test_one_who_has_seen_more_is_turned_away_without_a_word(self) -> None:
        machine = new_machine()
        joined(machine)
        client = machine.connect("::1")
        machine.receive(client, connect_request(seen=2))
        assert (client.farewell, client.out) == (Farewell.ZXID_AHEAD, [])
        assert machine.waiting == 0
        assert machine.take_talkative() == [client]

    @pytest.mark.parametrize("frame", [b"", b"x", bytes(20), b"\x7f" * 45])
    def test_rubbish_is_no_connect_request(self, frame: bytes) -> None:
        machine = new_machine()
        client = machine.connect("::1")
        machine.receive(client, frame)
        assert (client.farewell, client.out) == (Farewell.DAMAGED_REQUEST, [])
        machine.receive(client, connect_request())
        assert machine.take_proposals() == []

    def test_one_who_leaves_before_the_answer_leaves_a_session(self) -> None:
        machine = new_machine()
        talk = Talk(machine)
        machine.receive(talk.client, connect_request())
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        machine.disconnect(talk.client)
        settle(machine)
        assert talk.client.out == []
        assert len(machine.tree.sessions) == 1
        assert "/a" not in machine.tree.nodes


class TestTakingOver:
    def test_the_old_connection_is_closed_and_its_writes_go_on(self) -> None:
        machine = new_machine()
        old = joined(machine)
        old.ask(OpCode.CREATE, "/w", b"", OPEN, 0)
        old.ask(OpCode.GET_DATA, "/w", True)
        old.send(OpCode.CREATE, "/a", b"1", OPEN, 1)
        old.send(OpCode.GET_DATA, "/a", False)
        new = Talk(machine).connect(
            session_id=old.client.session_id, password=password_of(old.client.session_id),
            timeout_ms=9000,
        )  # fmt: skip
        assert old.client.farewell is Farewell.SESSION_TAKEN
        assert old.client.out == []
        assert new.welcome is not None
        assert new.welcome.timeout == 9000
        machine.receive(old.client, request(9, OpCode.CREATE, "/late", b"", OPEN, 0))
        assert new.do(OpCode.GET_DATA, "/a", False).data == b"1"
        assert "/late" not in machine.tree.nodes
        machine.disconnect(old.client)
        assert machine.clients == {new.client.session_id: new.client}
        new.ask(OpCode.SET_DATA, "/w", b"", -1)
        assert old.events == new.events == []
        machine.disconnect(new.client)
        assert machine.clients == {}
        assert "/a" in machine.tree.nodes  # the session lives on

    def test_while_the_old_ones_close_is_on_its_way_it_is_expired(self) -> None:
        machine = new_machine()
        old = joined(machine)
        old.send(OpCode.CLOSE_SESSION)
        new = Talk(machine)
        machine.receive(
            new.client,
            connect_request(
                session_id=old.client.session_id, password=password_of(old.client.session_id)
            ),
        )
        new.hear()
        assert new.welcome is not None
        assert new.welcome.timeout == 0
        settle(machine)
        assert [one.err for one in old.hear()] == [0]
        assert old.client.farewell is Farewell.SESSION_CLOSED


class TestOrder:
    def test_reads_wait_for_writes_of_their_own_connection_alone(self) -> None:
        machine = new_machine()
        one, other = joined(machine), joined(machine)
        one.create("/a", b"0")
        one.send(OpCode.GET_DATA, "/a", False)
        assert len(one.hear()) == 1
        one.send(OpCode.SET_DATA, "/a", b"1", -1)
        one.send(OpCode.GET_DATA, "/a", False)
        one.send(OpCode.SET_DATA, "/a", b"2", -1)
        machine.receive(one.client, request(-2, OpCode.PING))
        one.send(OpCode.GET_DATA, "/a", False)
        other.send(OpCode.GET_DATA, "/a", False)
        assert [reply.body[4:5] for reply in other.hear()] == [b"0"]
        assert one.hear() == []
        proposals = machine.take_proposals()
        machine.committed(proposals[0].zxid)
        assert [(reply.xid, reply.body[4:5]) for reply in one.hear()][1:] == [(4, b"1")]
        machine.committed(proposals[1].zxid)
        assert [reply.xid for reply in one.hear()] == [5, -2, 6]

    def test_a_write_that_cannot_be_read_keeps_its_place(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        bad = request(2, OpCode.SET_DATA, "/a", b"", -1)[:-6]
        machine.receive(talk.client, bad)
        assert [(one.xid, one.err) for one in talk.hear()] == [(2, ErrorCode.MARSHALLING_ERROR)]
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        machine.receive(talk.client, bad)
        talk.send(OpCode.GET_DATA, "/a", False)
        talk.send(OpCode.CREATE, "/b", b"", OPEN, 0)
        assert talk.hear() == []
        assert len(settle(machine)) == 2
        assert [(one.xid, one.err) for one in talk.hear()] == [(1, 0), (2, -5), (2, 0), (3, 0)]

    def test_auth_overtakes(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        reply = talk.auth("digest", b"ann:1")
        assert (reply.xid, reply.zxid, reply.err) == (-4, 0, 0)

    def test_reads_before_a_close_are_answered_and_those_behind_it_are_not(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        talk.send(OpCode.CREATE, "/a", b"x", OPEN, 1)
        talk.send(OpCode.GET_DATA, "/a", False)
        talk.send(OpCode.CLOSE_SESSION)
        talk.send(OpCode.GET_DATA, "/a", False)
        talk.send(OpCode.CREATE, "/b", b"", OPEN, 0)
        settle(machine)
        assert [(one.xid, one.zxid, one.err) for one in talk.hear()] == [
            (1, 2, 0), (2, 2, 0), (3, 3, 0),
        ]  # fmt: skip
        assert talk.client.farewell is Farewell.SESSION_CLOSED
        assert not {"/a", "/b"} & machine.tree.nodes.keys()
        assert machine.tree.last_zxid == 4

    def test_an_expired_session_is_told_so_in_its_turn(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 1)
        machine.expire(talk.client.session_id)
        assert not machine.expire(talk.client.session_id)
        talk.send(OpCode.GET_DATA, "/a", False)
        machine.receive(talk.client, request(-2, OpCode.PING))
        machine.committed(2)
        assert [(one.xid, one.err) for one in talk.hear()] == [(1, 0), (2, -112), (-2, -112)]
        talk.send(OpCode.EXISTS, "/a", True)
        assert [(one.xid, one.err) for one in talk.hear()] == [(3, -112)]
        settle(machine)
        assert talk.client.farewell is Farewell.SESSION_EXPIRED
        assert "/a" not in machine.tree.nodes
        assert machine.tree.watches.data.counts() == (0, 0, 0)


class TestGoingAway:
    def test_with_writes_on_their_way(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        for i in range(3):
            talk.send(OpCode.CREATE, f"/{i}", b"", OPEN, 0)
            talk.send(OpCode.EXISTS, f"/{i}", True)
        machine.take_proposals()
        machine.committed(2)
        machine.disconnect(talk.client)
        talk.client.out.clear()
        machine.committed(99)
        assert talk.client.out == []
        assert {"/0", "/1", "/2"} <= machine.tree.nodes.keys()
        assert machine.tree.watches.data.counts() == (0, 0, 0)
        assert machine.clients == {}
        machine.disconnect(talk.client)

    @pytest.mark.parametrize("waits", [True, False])
    def test_an_unknown_request_ends_it(self, waits: bool) -> None:
        machine = new_machine()
        talk = joined(machine)
        if waits:
            talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        machine.receive(talk.client, (7).to_bytes(4, "big") + (99).to_bytes(4, "big"))
        talk.send(OpCode.EXISTS, "/", False)
        talk.send(OpCode.CREATE, "/b", b"", OPEN, 0)
        talk.send(OpCode.EXISTS, "/", False)
        settle(machine)
        heard = [(one.xid, one.err) for one in talk.hear()]
        assert heard == ([(1, 0)] if waits else []) + [(7, -6)]
        assert talk.client.farewell is Farewell.UNKNOWN_REQUEST
        machine.disconnect(talk.client)
        settle(machine)

    def test_short_frames_end_it(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        machine.receive(talk.client, b"1234567")
        assert talk.client.farewell is Farewell.DAMAGED_REQUEST
        talk.send(OpCode.EXISTS, "/", False)
        assert talk.hear() == []

    def test_time_lets_sessions_go_with_their_ephemerals(self) -> None:
        machine = new_machine(tick_ms=2000, session_ms_min=4000)
        quiet, lively = joined(machine, timeout_ms=4000), joined(machine, timeout_ms=4000)
        quiet.create("/quiet", flags=1)
        lively.create("/lively", flags=1)
        start = machine.now_ms
        for after_ms in range(1000, 7001, 1000):
            machine.set_clock(start + after_ms, start + after_ms)
            machine.receive(lively.client, request(-2, OpCode.PING))
            machine.tick()
            settle(machine)
            if after_ms < 4000:
                assert "/quiet" in machine.tree.nodes
        assert "/quiet" not in machine.tree.nodes
        assert "/lively" in machine.tree.nodes
        assert quiet.client.farewell is Farewell.SESSION_EXPIRED


class TestIdentities:
    def test_a_password_opens_what_its_digest_guards(self) -> None:
        machine = new_machine()
        ann, bob = joined(machine), joined(machine)
        ann.auth("digest", b"ann:1")
        ann.create("/a", acl=(acl(ALL, "auth", ""),))
        assert bob.fail(OpCode.GET_DATA, "/a", True) == "NO_AUTH"
        bob.auth("digest", b"ann:2")
        assert bob.fail(OpCode.GET_ACL, "/a") == "NO_AUTH"
        bob.auth("digest", b"ann:1")
        assert bob.do(OpCode.GET_ACL, "/a").acl == (ACL(ALL, Id("digest", digest_of(b"ann:1"))),)
        bob.auth("digest", b"ann:1")
        assert [one.scheme for one in bob.client.identities] == ["ip", "digest", "digest"]

    def test_without_admin_the_hashes_are_hidden(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        hidden = acl(ALL, "digest", "ann:hash")
        talk.create("/a", acl=(hidden, *RO_ACL))
        assert talk.do(OpCode.GET_ACL, "/a").acl == (acl(ALL, "digest", "ann:x"), *RO_ACL)

    def test_super_may_everything(self) -> None:
        machine = new_machine(super_digest=digest_of(b"super:test"))
        ann, boss = joined(machine), joined(machine)
        ann.create("/a", acl=(acl(0, "world", "anyone"),))
        boss.auth("digest", b"super:wrong")
        assert boss.fail(OpCode.DELETE, "/zookeeper/config", -1) == "BAD_ARGUMENTS"
        assert boss.fail(OpCode.GET_DATA, "/a", False) == "NO_AUTH"
        boss.auth("digest", b"super:test")
        boss.auth("digest", b"super:test")
        assert boss.do(OpCode.GET_DATA, "/a", False).data == b""
        assert [one.scheme for one in boss.client.identities].count("super") == 1
        assert ann.fail(OpCode.GET_DATA, "/a", False) == "NO_AUTH"

    def test_nobody_is_super_without_a_digest_for_it(self) -> None:
        machine = new_machine(super_digest=None)
        talk = joined(machine)
        for secret in (b"super:", b"", b"None"):
            talk.auth("digest", secret)
        assert {one.scheme for one in talk.client.identities} == {"ip", "digest"}

    def test_an_address_is_an_identity(self) -> None:
        machine = new_machine()
        near, far = Talk(machine, "10.1.2.3").connect(), Talk(machine, "11.0.0.1").connect()
        near.create("/a", acl=(acl(ALL, "ip", "10.0.0.0/8"),))
        assert near.do(OpCode.GET_DATA, "/a", False).data == b""
        assert far.fail(OpCode.GET_DATA, "/a", False) == "NO_AUTH"
        assert far.fail(OpCode.CREATE, "/b", b"", (acl(ALL, "auth", ""),), 0) == "INVALID_ACL"

    @pytest.mark.parametrize("scheme", ["world", "auth", "super", "nope", ""])
    def test_a_scheme_nobody_can_prove_ends_the_connection(self, scheme: str) -> None:
        machine = new_machine()
        talk = joined(machine)
        assert talk.auth(scheme, b"x").err == ErrorCode.AUTH_FAILED
        assert talk.client.farewell is Farewell.AUTH_FAILED

    def test_what_one_may_not_read_one_is_not_told(self) -> None:
        machine = new_machine()
        talk, other = joined(machine), joined(machine)
        other.auth("digest", b"o:1")
        other.create("/a")
        assert talk.do(OpCode.GET_DATA, "/a", True)
        assert talk.ask(OpCode.EXISTS, "/b", True).err == ErrorCode.NO_NODE
        other.do(OpCode.SET_ACL, "/a", (acl(ALL, "auth", ""),), -1)
        other.do(OpCode.SET_DATA, "/a", b"", -1)
        other.create("/b", acl=(acl(ALL, "auth", ""),))
        assert talk.events == []
        assert machine.tree.watches.data.counts() == (0, 0, 0)

    def test_rules_may_skip_acls(self) -> None:
        machine = new_machine(rules=Rules(skip_acl=True))
        talk = joined(machine)
        talk.create("/a", acl=(acl(0, "world", "anyone"),))
        assert talk.do(OpCode.GET_DATA, "/a", False).data == b""


class TestReplies:
    def test_of_each_write(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        wall = machine.wall_ms
        assert talk.do(OpCode.CREATE, "/a", b"1", OPEN, 0).path == "/a"
        made = talk.do(OpCode.CREATE2, "/a/s-", None, OPEN, 3)
        assert made.path == "/a/s-0000000000"
        owner = talk.client.session_id
        assert made.stat == Stat(3, 3, wall, wall, 0, 0, 0, owner, 0, 0, 3)
        assert talk.do(OpCode.CREATE_CONTAINER, "/c", b"", OPEN, 4).stat.ephemeral_owner == 0
        assert talk.do(OpCode.CREATE_TTL, "/t", b"", OPEN, 5, 7).stat.ephemeral_owner == 0
        assert talk.do(OpCode.SET_DATA, "/a", b"22", 0).stat == Stat(
            2, 6, wall, wall, 1, 1, 0, 0, 2, 1, 3
        )
        assert talk.do(OpCode.SET_ACL, "/a", RO_ACL, -1).stat.aversion == 1
        assert talk.do(OpCode.DELETE, "/t", -1)
        assert talk.fail(OpCode.DELETE, "/t", -1) == "NO_NODE"
        assert [one.zxid for one in talk.replies] == list(range(2, 10))

    def test_of_multi(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        reply = talk.ask(
            OpCode.MULTI, (OpCode.CREATE, "/a", b"", OPEN, 0), (OpCode.CREATE2, "/b", b"", OPEN, 0),
            (OpCode.CREATE_CONTAINER, "/c", b"", OPEN, 4), (OpCode.SET_DATA, "/a", b"", 0),
            (OpCode.CHECK, "/a", 1), (OpCode.DELETE, "/b", -1),
        )  # fmt: skip
        assert reply.err == 0
        assert [kind for kind, _ in decode_multi(reply.body, REPLIES)] == [1, 15, 15, 5, 13, 2]
        reply = talk.ask(
            OpCode.MULTI, (OpCode.DELETE, "/a", -1), (OpCode.CHECK, "/a", 1),
            (OpCode.CREATE, "/x", b"", OPEN, 0),
        )  # fmt: skip
        error = REPLIES[OpCode.ERROR]
        assert reply.err == 0
        assert reply.body == encode_multi_response(
            (OpCode.ERROR, error(code))
            for code in (0, -101, -2)  # type: ignore[call-arg]
        )
        assert talk.ask(OpCode.MULTI).body == encode_multi_response([])

    def test_of_each_read(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        for path in ("/a", "/a/b", "/a/b/c", "/e"):
            talk.create(path, b"x", flags=int(path == "/e"))
        assert talk.do(OpCode.EXISTS, "/a", False).stat.num_children == 1
        assert talk.do(OpCode.GET_CHILDREN, "/", False).names == ("zookeeper", "a", "e")
        assert talk.do(OpCode.GET_CHILDREN2, "/a", False).children == ("b",)
        assert talk.do(OpCode.GET_ALL_CHILDREN_NUMBER, "/a").total_number == 2
        assert talk.do(OpCode.GET_ALL_CHILDREN_NUMBER, "/").total_number == 7
        assert talk.do(OpCode.GET_EPHEMERALS, "/").names == ("/e",)
        assert talk.do(OpCode.GET_EPHEMERALS, "/x").names == ()
        assert talk.do(OpCode.SYNC, "/nowhere").path == "/nowhere"
        assert talk.ask(OpCode.WHO_AM_I).err == 0
        for kind in (OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2, OpCode.EXISTS):
            assert talk.fail(kind, "/no", True) == "NO_NODE"
        # Only exists waits for what is not there.
        assert machine.tree.watches.data.counts() == (1, 1, 1)
        assert machine.tree.watches.children.counts() == (0, 0, 0)
        assert {one.zxid for one in talk.replies[4:]} == {5}

    def test_of_multi_read_each_with_its_error(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        talk.create("/a", b"x")
        reply = talk.ask(
            OpCode.MULTI_READ, (OpCode.GET_DATA, "/a", False), (OpCode.GET_DATA, "/no", False),
            (OpCode.GET_CHILDREN, "/a", False),
        )  # fmt: skip
        parts = decode_multi(reply.body, REPLIES)
        assert [kind for kind, _ in parts] == [OpCode.GET_DATA, OpCode.ERROR, OpCode.GET_CHILDREN]

    @pytest.mark.parametrize("size", [0, 1, 3, 5, 8])
    def test_cut_reads_are_answered_and_nobody_is_hurt(self, size: int) -> None:
        machine = new_machine()
        talk = joined(machine)
        for kind in (OpCode.GET_DATA, OpCode.EXISTS, OpCode.GET_ACL, OpCode.SET_WATCHES,
                     OpCode.ADD_WATCH, OpCode.MULTI_READ, OpCode.REMOVE_WATCHES):  # fmt: skip
            head = request(1, OpCode.PING)[:4] + int(kind).to_bytes(4, "big")
            machine.receive(talk.client, head + b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff"[:size])
            (reply,) = talk.hear()
            assert reply.err == ErrorCode.MARSHALLING_ERROR
        assert talk.client.farewell is None


class TestEvents:
    def test_kinds_and_order(self) -> None:
        machine = new_machine()
        talk, doer = joined(machine), joined(machine)
        talk.ask(OpCode.EXISTS, "/a", True)
        talk.ask(OpCode.GET_CHILDREN, "/", True)
        doer.create("/a")
        assert talk.events == [(CREATED, "/a"), (CHILDREN, "/")]
        talk.ask(OpCode.GET_DATA, "/a", True)
        talk.ask(OpCode.GET_CHILDREN2, "/a", True)
        doer.do(OpCode.SET_ACL, "/a", OPEN, -1)
        doer.do(OpCode.SET_DATA, "/a", b"", -1)
        doer.create("/a/b")
        doer.do(OpCode.SET_DATA, "/a", b"", -1)
        assert talk.events[2:] == [(CHANGED, "/a"), (CHILDREN, "/a")]
        talk.ask(OpCode.GET_DATA, "/a/b", True)
        talk.ask(OpCode.GET_CHILDREN, "/a/b", True)
        doer.do(OpCode.DELETE, "/a/b", -1)
        assert talk.events[4:] == [(DELETED, "/a/b")]

    def test_ones_own_event_comes_before_the_reply(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        talk.ask(OpCode.EXISTS, "/a", True)
        talk.ask(OpCode.ADD_WATCH, "/", 1)
        talk.create("/a")
        # One event, though two watches meant it.
        assert [(one.xid, one.zxid) for one in talk.replies[-2:]] == [(-1, 2), (3, 2)]

    def test_what_a_returning_client_missed(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        for path in ("/same", "/changed", "/parent", "/gone", "/quiet"):
            talk.create(path)
        seen = machine.tree.last_zxid
        talk.do(OpCode.SET_DATA, "/changed", b"", -1)
        talk.create("/parent/child")
        talk.do(OpCode.DELETE, "/gone", -1)
        talk.create("/born")
        client = machine.connect("::1")
        machine.receive(
            client,
            connect_request(
                session_id=talk.client.session_id, password=password_of(talk.client.session_id)
            ),
        )
        client.out.clear()
        machine.receive(
            client,
            request(
                -8, OpCode.SET_WATCHES2, seen, ("/same", "/changed", "/gone"), ("/born", "/unborn"),
                ("/parent", "/quiet", "/gone"), ("/p",), ("/r",),
            ),
        )  # fmt: skip
        *events, reply = [reply_of(body) for body in frames_of(client.out)]
        assert [(one.event.type, one.event.path) for one in events if one.event] == [
            (CHANGED, "/changed"), (DELETED, "/gone"), (CREATED, "/born"), (CHILDREN, "/parent"),
            (DELETED, "/gone"),
        ]  # fmt: skip
        assert {one.zxid for one in events} == {-1}
        assert (reply.xid, reply.err) == (-8, 0)
        watches = machine.tree.watches
        assert sorted(watches.data.by_watcher()[client]) == ["/p", "/r", "/same", "/unborn"]
        assert sorted(watches.children.by_watcher()[client]) == ["/p", "/quiet"]

    def test_removing_what_is_not_there(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        for kind in (OpCode.CHECK_WATCHES, OpCode.REMOVE_WATCHES):
            for what in (1, 2, 3, 4, 5):
                assert talk.fail(kind, "/a", what) == "NO_WATCHER"
            assert talk.fail(kind, "/a", 6) == "MARSHALLING_ERROR"
        assert talk.fail(OpCode.ADD_WATCH, "/a", 2) == "MARSHALLING_ERROR"


class TestContainers:
    def test_those_go_that_were_used_and_are_empty(self) -> None:
        machine = new_machine(container_never_used_ms_max=0)
        talk = joined(machine)
        for path in ("/used", "/never", "/full"):
            talk.do(OpCode.CREATE_CONTAINER, path, b"", OPEN, 4)
        talk.do(OpCode.CREATE_TTL, "/ttl", b"", OPEN, 5, 1000)
        for path in ("/used/x", "/full/x"):
            talk.create(path)
        talk.do(OpCode.DELETE, "/used/x", -1)
        assert machine.candidates() == ["/used"]
        machine.set_clock(machine.now_ms, machine.wall_ms + 1001)
        assert machine.candidates() == ["/used", "/ttl"]
        talk.send(OpCode.CREATE, "/used/again", b"", OPEN, 0)
        for path in machine.candidates():
            machine.delete_container(path)
        settle(machine)
        # In use again before it was its turn: nothing happens to it.
        assert "/used" in machine.tree.nodes
        assert "/ttl" not in machine.tree.nodes
        machine.tree.check()

    def test_never_used_ones_go_in_time_if_so_told(self) -> None:
        machine = new_machine(container_never_used_ms_max=5000)
        talk = joined(machine)
        talk.do(OpCode.CREATE_CONTAINER, "/c", b"", OPEN, 4)
        assert machine.candidates() == []
        machine.set_clock(machine.now_ms, machine.wall_ms + 5001)
        assert machine.candidates() == ["/c"]


class TestRestart:
    def test_sessions_and_their_ephemerals_come_back(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        talk.create("/mine", flags=1)
        again = new_machine(tree=machine.tree)
        back = Talk(again).connect(
            session_id=talk.client.session_id, password=password_of(talk.client.session_id),
            seen=again.tree.last_zxid,
        )  # fmt: skip
        assert back.do(OpCode.GET_EPHEMERALS, "/").names == ("/mine",)
        assert back.create("/next") == "/next"
        assert back.replies[-1].zxid == 3

    def test_ephemerals_of_nobody_go(self) -> None:
        tree = Tree()
        tree.create("/lost", b"", OPEN, 77, -1, 1, 1)
        tree.last_zxid = 1
        assert "/lost" not in new_machine(tree=tree).tree.nodes
        tree.check()


def test_random_bytes_hurt_nobody() -> None:
    draw = random.Random(31)
    machine = new_machine(rules=Rules(txn_bytes_max=2000))
    bystander = joined(machine)
    bystander.create("/safe", b"sound")
    for _ in range(1500):
        talk = joined(machine)
        for _ in range(draw.randint(1, 4)):
            kind = draw.choice((*map(int, OpCode), 50, -50))
            frame = (5).to_bytes(4, "big") + kind.to_bytes(4, "big", signed=True)
            size = draw.choice((0, 4, 30, 300))
            body = draw.randbytes(size) if draw.random() < 0.5 else bytes(size)
            machine.receive(talk.client, frame + body)
        settle(machine)
        machine.disconnect(talk.client)
        machine.expire(talk.client.session_id)
    settle(machine)
    machine.tree.check()
    assert machine.tree.mismatches == 0
    assert bystander.do(OpCode.GET_DATA, "/safe", False).data == b"sound"
    assert len(machine.tree.sessions) == 1
