"""Writes decided: every check in Apache's order, changes on their way, digests foretold."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.core.zookeeper_kit import OPEN, acl, request

from stratalog.core.zookeeper.identity import digest_of, standard_schemes
from stratalog.core.zookeeper.prepare import Prepared, Preparer, Rules
from stratalog.core.zookeeper.sessions import Session
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import JuteError
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, OpCode
from stratalog.wire.zookeeper.txns import BODIES, Transaction, decode_body

NOW_MS = 1_700_000_000_000
ANN = Id("digest", digest_of(b"ann:1"))
GUARDED = (ACL(31, ANN),)
CREATE, CREATE2, CONTAINER, TTL = (
    OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL,
)  # fmt: skip


class Desk:
    """A tree and what is decided for it, one session asking."""

    def __init__(self, *, extended: bool = True, **rules: Any) -> None:
        self.tree = Tree(extended=extended)
        self.preparer = Preparer(self.tree, standard_schemes(), Rules(**rules))
        self.session: Session | None = Session(0x100_0000_0000_0001, 4000)
        self.identities: list[Id] = []
        self.waiting: list[Prepared] = []

    def decide(self, kind: int, *fields: Any) -> Prepared:
        """Decide a request and leave it waiting."""
        frame = request(1, kind, *fields)
        prepared = self.preparer.prepare(
            kind, frame, 8, self.session, self.identities, 1, NOW_MS + self.preparer.zxid
        )
        self.waiting.append(prepared)
        return prepared

    def close(self, session_id: int | None = None) -> Prepared:
        session_id = session_id or (self.session.session_id if self.session else 0)
        prepared = self.preparer.close_session(session_id, 0, NOW_MS)
        self.waiting.append(prepared)
        return prepared

    def apply(self, count: int = 10**6) -> list[Any]:
        """Apply the oldest that wait, from their bytes, and hold the digest against the tree."""
        results = []
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        for prepared in batch:
            txn = Transaction.decode(prepared.payload)
            head = txn.header
            assert (head.client_id, head.zxid, head.type) == (
                prepared.session_id, prepared.zxid, prepared.type,
            )  # fmt: skip
            fields = tuple(getattr(txn.body, name) for name in type(txn.body).__dataclass_fields__)
            assert fields == prepared.fields
            results.append(self.tree.apply(head.type, head.client_id, head.zxid, head.time, fields))
            assert txn.digest is not None
            assert txn.digest.tree_digest == prepared.digest == self.tree.digest
            self.preparer.applied(head.zxid)
        return results

    def code(self, kind: int, *fields: Any) -> str:
        """The error that a request is answered with; "OK" where there is none."""
        prepared = self.decide(kind, *fields)
        return ErrorCode(prepared.fields[0] if prepared.type == OpCode.ERROR else 0).name

    def make(self, *paths: str, **how: Any) -> None:
        for path in paths:
            assert self.code(CREATE, path, b"", how.get("acl", OPEN), how.get("flags", 0)) == "OK"


class TestOrderOfChecks:
    """Each request here has two faults or more: the first in Apache's order is the answer."""

    def desk(self) -> Desk:
        desk = Desk()
        desk.make("/a", "/a/b", "/e")
        desk.make("/mine", acl=(acl(0, "world", "anyone"),))
        desk.make("/eph", flags=1)
        desk.apply()
        return desk

    @pytest.mark.parametrize(
        ("kind", "fields", "code"),
        [
            # mode, session, form of the path, ACL, parent, permission, path, existence, owner
            (CREATE, ("nothing", b"", (), 7), "BAD_ARGUMENTS"),
            (CREATE, ("nothing", b"", (), -1), "BAD_ARGUMENTS"),
            (CREATE, ("nothing", b"", (), 5), "BAD_ARGUMENTS"),  # a time to live needs createTTL
            (TTL, ("nothing", b"", (), 5, 0), "BAD_ARGUMENTS"),
            (TTL, ("nothing", b"", (), 5, 1 << 40), "BAD_ARGUMENTS"),
            (TTL, ("/a/t", b"", OPEN, 0, 5), "BAD_ARGUMENTS"),
            (TTL, ("/a/t", b"", OPEN, 0, -1), "BAD_ARGUMENTS"),
            (CREATE, (None, b"", (), 0), "MARSHALLING_ERROR"),
            (CREATE, ("nothing", b"", (), 0), "BAD_ARGUMENTS"),
            (CREATE, ("/no/\0", b"", (), 0), "BAD_ARGUMENTS"),
            (CREATE, ("/no/x", b"", (), 0), "INVALID_ACL"),
            (CREATE, ("/no/x", b"", (acl(1, "nope", "x"),), 0), "INVALID_ACL"),
            (CREATE, ("/no/..", b"", OPEN, 0), "NO_NODE"),
            (CREATE, ("/mine/..", b"", OPEN, 0), "NO_AUTH"),
            (CREATE, ("/a/", b"", OPEN, 0), "BAD_ARGUMENTS"),
            (CREATE, ("/a//b", b"", OPEN, 0), "NO_NODE"),
            (CREATE, ("/a/\x01", b"", OPEN, 0), "BAD_ARGUMENTS"),
            (CREATE, ("/a/b", b"", OPEN, 1), "NODE_EXISTS"),
            (CREATE, ("/", b"", OPEN, 0), "NODE_EXISTS"),
            (CREATE, ("/eph/x", b"", OPEN, 0), "NO_CHILDREN_FOR_EPHEMERALS"),
            (CREATE, ("/zookeeper/config/x", b"", OPEN, 0), "NO_AUTH"),
            # form of the path, parent, permission, existence, version, children
            (OpCode.DELETE, (None, -1), "MARSHALLING_ERROR"),
            (OpCode.DELETE, ("nothing", 9), "BAD_ARGUMENTS"),
            (OpCode.DELETE, ("/", -1), "BAD_ARGUMENTS"),
            (OpCode.DELETE, ("/zookeeper", -1), "BAD_ARGUMENTS"),
            (OpCode.DELETE, ("/zookeeper/quota", -1), "BAD_ARGUMENTS"),
            (OpCode.DELETE, ("/zookeeper/config", -1), "BAD_ARGUMENTS"),
            (OpCode.DELETE, ("/no/x", 9), "NO_NODE"),
            (OpCode.DELETE, ("/mine/x", 9), "NO_AUTH"),
            (OpCode.DELETE, ("/a/x", 9), "NO_NODE"),
            (OpCode.DELETE, ("/a/..", -1), "NO_NODE"),
            (OpCode.DELETE, ("/a", 9), "BAD_VERSION"),
            (OpCode.DELETE, ("/a", 0), "NOT_EMPTY"),
            # path, existence, permission, version
            (OpCode.SET_DATA, (None, b"", 9), "BAD_ARGUMENTS"),
            (OpCode.SET_DATA, ("", b"", -1), "BAD_ARGUMENTS"),
            (OpCode.SET_DATA, ("/no/", b"", 9), "BAD_ARGUMENTS"),
            (OpCode.SET_DATA, ("/no", b"", 9), "NO_NODE"),
            (OpCode.SET_DATA, ("/mine", b"", 9), "NO_AUTH"),
            (OpCode.SET_DATA, ("/a", b"", 9), "BAD_VERSION"),
            (OpCode.SET_DATA, ("/zookeeper/config", b"", -1), "NO_AUTH"),
            # path, ACL, existence, permission, version
            (OpCode.SET_ACL, (None, (), 9), "BAD_ARGUMENTS"),
            (OpCode.SET_ACL, ("/a/", (), 9), "BAD_ARGUMENTS"),
            (OpCode.SET_ACL, ("/no", (), 9), "INVALID_ACL"),
            (OpCode.SET_ACL, ("/no", OPEN, 9), "NO_NODE"),
            (OpCode.SET_ACL, ("/mine", OPEN, 9), "NO_AUTH"),
            (OpCode.SET_ACL, ("/a", OPEN, 9), "BAD_VERSION"),
            # containers, which the server itself deletes
            (OpCode.DELETE_CONTAINER, ("/",), "BAD_ARGUMENTS"),
            (OpCode.DELETE_CONTAINER, ("/no",), "NO_NODE"),
            (OpCode.DELETE_CONTAINER, ("/a",), "NOT_EMPTY"),
            (OpCode.DELETE_CONTAINER, ("/eph",), "BAD_VERSION"),
            (OpCode.RECONFIG, (None, None, None, -1), "RECONFIG_DISABLED"),
        ],
    )
    def test_the_first_fault_is_the_answer(
        self, kind: int, fields: tuple[Any, ...], code: str
    ) -> None:
        desk = self.desk()
        before = desk.tree.digest
        zxid = desk.preparer.zxid
        assert desk.code(kind, *fields) == code
        # It takes a zxid, is logged, and changes nothing.
        assert desk.preparer.zxid == zxid + 1
        assert desk.preparer.outstanding == 0
        (result,) = desk.apply()
        assert (result.err, desk.tree.digest, desk.tree.last_zxid) == (
            ErrorCode[code], before, zxid + 1,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("closing", "code"), [(True, "SESSION_EXPIRED"), (None, "UNKNOWN_SESSION")]
    )
    def test_a_session_that_is_not_there(self, closing: bool | None, code: str) -> None:
        desk = self.desk()
        if closing is None:
            desk.session = None
        else:
            assert desk.session is not None
            desk.session.closing = True
        for kind, fields in (
            (CREATE, (None, b"", (), 0)), (OpCode.DELETE, (None, 0)),
            (OpCode.SET_DATA, (None, b"", 0)), (OpCode.SET_ACL, (None, (), 0)),
        ):  # fmt: skip
            assert desk.code(kind, *fields) == code
        assert desk.code(CREATE, None, b"", (), 99) == "BAD_ARGUMENTS"

    def test_times_to_live_need_extended_types(self) -> None:
        desk = Desk(extended=False)
        assert desk.code(TTL, "/t", b"", OPEN, 5, 1) == "UNIMPLEMENTED"
        assert desk.code(TTL, "/t", b"", OPEN, 6, 0) == "UNIMPLEMENTED"
        assert desk.code(CONTAINER, "/c", b"", OPEN, 4) == "OK"

    def test_reconfiguration_is_not_for_one_server(self) -> None:
        desk = Desk(reconfig_enabled=True)
        assert desk.code(OpCode.RECONFIG, None, None, None, -1) == "UNIMPLEMENTED"

    def test_without_acls_everybody_may(self) -> None:
        desk = Desk(skip_acl=True)
        desk.make("/mine", acl=(acl(0, "world", "anyone"),))
        assert desk.code(CREATE, "/mine/x", b"", OPEN, 0) == "OK"

    def test_damaged_requests_take_no_zxid(self) -> None:
        desk = Desk()
        for kind in (CREATE, OpCode.DELETE, OpCode.SET_DATA, OpCode.SET_ACL, TTL, CONTAINER):
            with pytest.raises(JuteError):
                desk.preparer.prepare(kind, bytes(8) + b"\0\0\0\x09/", 8, desk.session, (), 1, 1)
        assert desk.preparer.zxid == 0


class TestSequences:
    def test_names_follow_the_parents_creates(self) -> None:
        desk = Desk()
        desk.make("/q")
        names = [desk.decide(CREATE, "/q/n-", b"", OPEN, flags).fields[0] for flags in (2, 3, 2)]
        assert names == ["/q/n-0000000000", "/q/n-0000000001", "/q/n-0000000002"]
        desk.apply()
        desk.decide(OpCode.DELETE, names[2], -1)
        # Deletes do not count, nor may the name itself end in a slash's nothing.
        assert desk.decide(CREATE, "/q/", b"", OPEN, 2).fields[0] == "/q/0000000003"
        assert desk.decide(TTL, "/q/t", b"", OPEN, 6, 9).fields[0] == "/q/t0000000004"
        assert desk.decide(CREATE, "/q/plain", b"", OPEN, 0).fields[0] == "/q/plain"
        assert desk.decide(CREATE, "/q/n-", b"", OPEN, 2).fields[0] == "/q/n-0000000006"
        desk.apply()
        desk.tree.check()

    def test_numbers_overflow_as_javas_do(self) -> None:
        desk = Desk()
        desk.make("/q")
        desk.apply()
        desk.tree.nodes["/q"].cversion = 2**31 - 2
        names = [desk.decide(CREATE, "/q/n", b"", OPEN, 2).fields[0] for _ in range(4)]
        assert names == [
            "/q/n2147483646", "/q/n2147483647", "/q/n-2147483648", "/q/n-2147483647",
        ]  # fmt: skip

    def test_a_negative_number_is_as_wide(self) -> None:
        desk = Desk()
        desk.make("/q")
        desk.apply()
        desk.tree.nodes["/q"].cversion = -5
        assert desk.decide(CREATE, "/q/n", b"", OPEN, 2).fields[0] == "/q/n-000000005"


class TestVersions:
    def test_each_write_expects_what_the_one_before_leaves(self) -> None:
        desk = Desk()
        desk.make("/a")
        for version in (0, 1, -1, 3):
            assert desk.code(OpCode.SET_DATA, "/a", b"", version) == "OK"
        assert desk.code(OpCode.SET_DATA, "/a", b"", 3) == "BAD_VERSION"
        assert desk.code(OpCode.SET_ACL, "/a", OPEN, 0) == "OK"
        assert desk.code(OpCode.SET_ACL, "/a", OPEN, 0) == "BAD_VERSION"
        assert desk.code(OpCode.DELETE, "/a", 3) == "BAD_VERSION"
        assert desk.code(OpCode.DELETE, "/a", 4) == "OK"
        assert desk.code(OpCode.DELETE, "/a", -1) == "NO_NODE"
        assert desk.code(CREATE, "/a", b"", OPEN, 0) == "OK"
        assert desk.code(OpCode.SET_DATA, "/a", b"", 0) == "OK"
        desk.apply(3)
        assert desk.code(OpCode.SET_DATA, "/a", b"", 1) == "OK"
        desk.apply()
        assert desk.tree.nodes["/a"].version == 2
        assert desk.preparer.outstanding == 0
        desk.tree.check()

    def test_a_new_acl_guards_once_the_tree_has_it(self) -> None:
        desk = Desk()
        desk.make("/a")
        desk.apply()
        assert desk.code(OpCode.SET_ACL, "/a", GUARDED, -1) == "OK"
        assert desk.code(OpCode.SET_DATA, "/a", b"", -1) == "OK"
        desk.apply()
        assert desk.code(OpCode.SET_DATA, "/a", b"", -1) == "NO_AUTH"
        desk.identities = [ANN]
        assert desk.code(OpCode.SET_DATA, "/a", b"", -1) == "OK"

    def test_the_acl_of_a_znode_on_its_way_guards(self) -> None:
        desk = Desk()
        desk.make("/a", acl=GUARDED)
        assert desk.code(CREATE, "/a/b", b"", OPEN, 0) == "NO_AUTH"
        assert desk.code(OpCode.DELETE, "/a", -1) == "OK"  # the parent's word counts

    def test_auth_in_an_acl_is_who_asks(self) -> None:
        desk = Desk()
        desk.identities = [Id("ip", "::1"), ANN]
        prepared = desk.decide(CREATE, "/a", b"", (acl(31, "auth", ""), acl(1, "auth", "")), 0)
        assert prepared.fields[2] == (ACL(31, ANN), ACL(1, ANN))


class TestOwners:
    @pytest.mark.parametrize(
        ("kind", "flags", "more", "owner"),
        [
            (CREATE, 0, (), 0),
            (CREATE, 1, (), 0x100_0000_0000_0001),
            (CREATE2, 1, (), 0x100_0000_0000_0001),
            (CONTAINER, 4, (), -(1 << 63)),
            (CONTAINER, 0, (), -(1 << 63)),
            (TTL, 5, (7,), 7 - (1 << 56)),
        ],
    )
    def test_what_is_made(self, kind: int, flags: int, more: tuple[int, ...], owner: int) -> None:
        desk = Desk()
        desk.decide(kind, "/a", b"x", OPEN, flags, *more)
        desk.apply()
        assert desk.tree.nodes["/a"].owner == owner
        desk.tree.check()

    def test_closing_takes_what_is_on_its_way_too(self) -> None:
        desk = Desk()
        desk.make("/there", "/goes", flags=1)
        desk.make("/stays")
        desk.apply()
        desk.make("/comes", "/never", flags=1)
        assert desk.code(OpCode.DELETE, "/goes", -1) == "OK"
        assert desk.code(OpCode.DELETE, "/never", -1) == "OK"
        assert desk.code(OpCode.SET_DATA, "/there", b"new", -1) == "OK"
        prepared = desk.close()
        assert prepared.fields == (("/there", "/comes"),)
        desk.make("/there")  # free again
        desk.apply()
        assert {"/there", "/stays"} == {p for p in desk.tree.nodes if p.count("/") == 1} - {
            "/", "/zookeeper",
        }  # fmt: skip
        assert not desk.tree.ephemerals
        desk.tree.check()

    def test_a_path_that_changed_hands_stays(self) -> None:
        desk = Desk()
        desk.make("/a", flags=1)
        desk.apply()
        first = desk.session
        assert first is not None
        assert desk.code(OpCode.DELETE, "/a", -1) == "OK"
        desk.session = Session(77, 4000)
        desk.make("/a", flags=1)
        assert desk.close(first.session_id).fields == ((),)
        desk.apply()
        assert desk.tree.nodes["/a"].owner == 77
        assert desk.close(77).fields == (("/a",),)
        desk.apply()
        desk.tree.check()


class TestTooLarge:
    def test_a_transaction_beyond_the_limit_is_refused_and_leaves_nothing(self) -> None:
        desk = Desk(txn_bytes_max=1000)
        parts = [(CREATE, f"/{i}", b"x" * 300, OPEN, 0) for i in range(5)]
        before = desk.tree.digest
        assert desk.code(OpCode.MULTI, *parts) == "MARSHALLING_ERROR"
        assert desk.preparer.outstanding == 0
        assert desk.code(CREATE, "/0", b"x", OPEN, 0) == "OK"
        assert desk.preparer.zxid == 2
        assert max(len(one.payload) for one in desk.waiting) <= 1000
        desk.apply(1)
        assert desk.tree.digest == before
        desk.apply()
        desk.tree.check()

    @pytest.mark.parametrize("listed", [True, False])
    def test_a_session_with_many_ephemerals_still_ends(self, listed: bool) -> None:
        """Its transaction must be readable: without a list, a digest could be taken for one."""
        desk = Desk(txn_bytes_max=1000, close_session_paths=listed)
        desk.make(*(f"/{'n' * 50}{i}" for i in range(40)), flags=1)
        prepared = desk.close()
        assert len(prepared.payload) < 1000
        body, _ = decode_body(OpCode.CLOSE_SESSION, prepared.payload, 32)
        assert body == BODIES[OpCode.CLOSE_SESSION](())  # type: ignore[call-arg]
        assert Transaction.decode(prepared.payload).digest is not None
        if not listed:  # as it reads
            desk.waiting[-1] = Prepared(
                prepared.type, prepared.session_id, prepared.cxid, prepared.zxid, prepared.time_ms,
                ((),), prepared.digest, prepared.payload, prepared.digests,
            )  # fmt: skip
        desk.apply()
        assert len(desk.tree) == 4
        desk.tree.check()


class TestMulti:
    def test_each_part_sees_those_before_it(self) -> None:
        desk = Desk()
        desk.decide(
            OpCode.MULTI, (CREATE, "/a", b"", OPEN, 0), (CREATE, "/a/s", b"", OPEN, 2),
            (OpCode.CHECK, "/a", 0), (OpCode.SET_DATA, "/a", b"1", 0), (OpCode.CHECK, "/a", 1),
            (OpCode.DELETE, "/a/s0000000000", 0), (CONTAINER, "/c", None, OPEN, 4),
            (TTL, "/t", b"", OPEN, 5, 3), (OpCode.DELETE, "/a", 1),
        )  # fmt: skip
        (result,) = desk.apply()
        assert [part.err for part in result.parts] == [0] * 9
        assert len(desk.tree) == 6
        desk.tree.check()

    @pytest.mark.parametrize(
        ("last", "code"),
        [
            ((OpCode.CHECK, "/a", 5), "BAD_VERSION"),
            ((OpCode.CHECK, "/none", -1), "NO_NODE"),
            ((OpCode.CHECK, "/mine", -1), "NO_AUTH"),
            ((OpCode.CHECK, "bad", -1), "BAD_ARGUMENTS"),
            ((CREATE, "/x", b"", OPEN, 0), "NODE_EXISTS"),
            ((OpCode.DELETE, "/a", -1), "NOT_EMPTY"),
        ],
    )
    def test_all_or_nothing(self, last: tuple[Any, ...], code: str) -> None:
        desk = Desk()
        desk.make("/a", "/b")
        desk.make("/mine", acl=(acl(0, "world", "anyone"),))
        desk.apply(1)
        desk.decide(OpCode.SET_DATA, "/b", b"waits", 0)
        digest, waiting = desk.preparer._digest, desk.preparer.outstanding
        prepared = desk.decide(
            OpCode.MULTI, (CREATE, "/x", b"", OPEN, 1), (OpCode.SET_DATA, "/b", b"", 1),
            (CREATE, "/a/y", b"", OPEN, 2), (OpCode.SET_DATA, "/a", b"", -1), last,
            (OpCode.DELETE, "/b", -1),
        )  # fmt: skip
        assert prepared.type == OpCode.MULTI
        assert (desk.preparer._digest, desk.preparer.outstanding) == (digest, waiting)
        # What was on its way before is as it was: versions, children, names.
        assert desk.code(OpCode.SET_DATA, "/b", b"", 1) == "OK"
        assert desk.code(OpCode.SET_DATA, "/a", b"", 0) == "OK"
        assert desk.decide(CREATE, "/a/s", b"", OPEN, 2).fields[0] == "/a/s0000000000"
        assert desk.code(CREATE, "/x", b"", OPEN, 0) == "OK"
        assert desk.close().fields == ((),)
        results = desk.apply()
        failed = next(one for one in results if one.type == OpCode.MULTI)
        assert [part.err for part in failed.parts] == [0, 0, 0, 0, ErrorCode[code], -2]
        desk.tree.check()

    def test_of_nothing(self) -> None:
        desk = Desk()
        desk.decide(OpCode.MULTI)
        (result,) = desk.apply()
        assert (result.err, result.parts) == (0, [])

    @pytest.mark.parametrize(
        "tail",
        [b"", b"\0\0\0\x01", b"\0\0\0\x07\0\0\0\0\0", b"\0\0\0\x01\0\xff\xff\xff\xff\0\0\0\x50/"],
    )
    def test_one_that_cannot_be_read_is_a_failed_write(self, tail: bytes) -> None:
        desk = Desk()
        prepared = desk.preparer.prepare(
            OpCode.MULTI, bytes(8) + tail, 8, desk.session, (), 1, NOW_MS
        )
        assert (prepared.type, prepared.fields) == (OpCode.ERROR, (-5,))
        assert desk.preparer.zxid == 1


class TestQuotas:
    def test_hard_limits_are_enforced_where_they_are_to_be(self) -> None:
        for enforce in (True, False):
            desk = Desk(enforce_quota=enforce)
            desk.make("/app", "/zookeeper/quota/app")
            limits = b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=3"
            desk.decide(CREATE, "/zookeeper/quota/app/zookeeper_limits", limits, OPEN, 0)
            desk.decide(CREATE, "/zookeeper/quota/app/zookeeper_stats", b"", OPEN, 0)
            desk.apply()
            refusal = "QUOTA_EXCEEDED" if enforce else "OK"
            assert desk.code(CREATE, "/app/a", b"x" * 11, OPEN, 0) == refusal
            desk.apply()
            assert desk.code(CREATE, "/app/b", b"x", OPEN, 0) == "OK"
            desk.apply()
            assert desk.code(OpCode.SET_DATA, "/app/b", b"x" * 10, -1) == "OK"
            desk.apply()  # what is on its way is not counted yet
            assert desk.code(OpCode.SET_DATA, "/app/b", b"x" * 11, -1) == refusal
            assert desk.code(CREATE, "/other", b"x" * 100, OPEN, 0) == "OK"
            desk.apply()


def random_request(draw: random.Random, paths: list[str]) -> tuple[Any, ...]:
    path = draw.choice(paths)
    version = draw.choice((-1, -1, 0, 1))
    return draw.choice(
        (
            (CREATE, path, draw.choice((None, b"x")), OPEN, draw.choice((0, 0, 1, 2, 3))),
            (CREATE2, path, b"yy", (*OPEN, ACL(31, ANN)), 1),
            (CONTAINER, path, b"", OPEN, 4),
            (TTL, path, b"", OPEN, 5, 9),
            (OpCode.DELETE, path, version),
            (OpCode.DELETE, path, version),
            (OpCode.SET_DATA, path, draw.choice((None, b"", b"z" * 9)), version),
            (OpCode.CHECK, path, version),
        )
    )


@pytest.mark.parametrize("seed", range(8))
def test_foretold_digests_are_the_trees(seed: int) -> None:
    """Random streams with many writes on their way, applied late from their bytes alone."""
    draw = random.Random(seed)
    desk = Desk()
    sessions = [Session(100 + i, 4000) for i in range(3)]
    paths = ["/a", "/b", "/a/a", "/a/b", "/a/a/a", "/b/a", "/zookeeper/x"]
    logged: list[Prepared] = []
    for _ in range(700):
        desk.session = draw.choice(sessions)
        action = draw.random()
        if action < 0.03:
            desk.close(desk.session.session_id)
        elif action < 0.2:
            parts = [random_request(draw, paths) for _ in range(draw.randint(1, 4))]
            desk.decide(OpCode.MULTI, *parts)
        elif action < 0.85:
            kind, *fields = random_request(draw, paths)
            if kind != OpCode.CHECK:
                desk.decide(kind, *fields)
        elif action < 0.9:
            desk.decide(OpCode.SET_ACL, draw.choice(paths), OPEN, -1)
        else:
            count = draw.randint(0, len(desk.waiting))
            logged += desk.waiting[:count]
            desk.apply(count)
            desk.tree.check()
    logged += desk.waiting
    desk.apply()
    desk.tree.check()
    assert desk.preparer.outstanding == 0
    assert not desk.preparer._by_path
    assert desk.preparer._digest == desk.tree.digest
    # Any suffix again changes nothing but what a replay raises, which is raised already.
    nodes = list(desk.tree.snapshot_nodes())
    for start in (len(logged) - 1, len(logged) * 2 // 3, len(logged) // 3, 0):
        for one in logged[start:]:
            desk.tree.apply(one.type, one.session_id, one.zxid, one.time_ms, one.fields)
        again = {node.path: node._replace(acl_index=0) for node in desk.tree.snapshot_nodes()}
        assert again == {node.path: node._replace(acl_index=0) for node in nodes}
        desk.tree.check()
