"""Where the differential test against Apache ZooKeeper once found us different, case by case.

The stream that found them needs a JVM (tests/interop); these need none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.core.zookeeper_kit import OPEN, acl, joined, new_machine, request, settle

from stratalog.core.zookeeper.identity import Digest, Ip, digest_of
from stratalog.core.zookeeper.prepare import Rules
from stratalog.core.zookeeper.quotas import Figures, Quotas
from stratalog.wire.zookeeper.messages import REPLIES, Create2Response, decode_multi
from stratalog.wire.zookeeper.records import ErrorCode, OpCode

QUOTA = "/zookeeper/quota/a"
NUMBER_BELOW = OpCode.GET_ALL_CHILDREN_NUMBER


class TestMulti:
    @pytest.mark.parametrize(
        "part",
        [
            (OpCode.CREATE, None, b"", OPEN, 0),  # no path
            (OpCode.CREATE, "/b", b"", OPEN, 7),  # no flags of a create
            (OpCode.CREATE2, "/b", b"", OPEN, 5),  # a TTL without one
            (OpCode.CREATE, "/b", b"", (acl(31, "digest", None),), 0),
            (OpCode.GET_DATA, "/a", False),
        ],
    )
    @pytest.mark.parametrize("place", [0, 1])
    def test_a_part_without_sense_fails_the_whole(self, part: tuple[Any, ...], place: int) -> None:
        talk = joined(new_machine())
        parts: list[tuple[Any, ...]] = [(OpCode.CREATE, "/a", b"", OPEN, 0)]
        parts.insert(place, part)
        reply = talk.ask(OpCode.MULTI, *parts)
        assert (reply.err, reply.body) == (ErrorCode.MARSHALLING_ERROR, b"")
        assert reply.zxid == 2  # it took one
        assert talk.fail(OpCode.EXISTS, "/a", False) == "NO_NODE"

    def test_flags_make_the_type_of_a_create(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        reply = talk.ask(
            OpCode.MULTI,
            (OpCode.CREATE, "/container", b"", OPEN, 4),
            (OpCode.CREATE_TTL, "/plain", b"", OPEN, 0, 5),
            (OpCode.CREATE_TTL, "/ttl", b"", OPEN, 5, 5),
        )
        assert [kind for kind, _ in decode_multi(reply.body, REPLIES)] == [15, 1, 15]
        assert list(machine.tree.containers) == ["/container"]
        assert list(machine.tree.ttls) == ["/ttl"]


class TestReads:
    def test_a_multi_read_leaves_no_watch(self) -> None:
        talk = joined(new_machine())
        talk.create("/a")
        talk.ask(OpCode.MULTI_READ, (OpCode.GET_DATA, "/a", True), (OpCode.GET_CHILDREN, "/", True))
        talk.do(OpCode.SET_DATA, "/a", b"x", -1)
        talk.create("/b")
        assert talk.events == []

    def test_a_null_path_fails_a_multi_read_as_a_whole(self) -> None:
        talk = joined(new_machine())
        reply = talk.ask(OpCode.MULTI_READ, (OpCode.GET_DATA, None, False))
        assert reply.err == ErrorCode.MARSHALLING_ERROR

    def test_the_root_counts_below_the_empty_path(self) -> None:
        talk = joined(new_machine())
        below = [talk.do(NUMBER_BELOW, path).total_number for path in ("/", "")]
        assert below == [3, 4]

    def test_a_null_path_is_watched_by_nobody(self) -> None:
        talk = joined(new_machine())
        talk.ask(OpCode.EXISTS, "", True)
        assert talk.fail(OpCode.CHECK_WATCHES, None, 3) == "NO_WATCHER"
        talk.do(OpCode.CHECK_WATCHES, "", 3)

    @pytest.mark.parametrize(("prefix", "found"), [(" / ", 1), ("\t", 1), ("\u3000", 0)])
    def test_what_is_blank_in_a_prefix_is_what_java_trims(self, prefix: str, found: int) -> None:
        talk = joined(new_machine())
        talk.create("/e", flags=1)
        assert len(talk.do(OpCode.GET_EPHEMERALS, prefix).names) == found


class TestIdentities:
    @pytest.mark.parametrize(
        ("scheme", "sound", "unsound"),
        [
            (
                Digest(),
                ("a:b", ":b", "a:b:", "a:b::"),
                ("", ":", "a", "a:", "a::", "a:b:c", "a::b"),
            ),
            (
                Ip(),
                ("1.2.3.4", "01.2.3.4", "+1.2.3.4", "1.2.3.4/+8", "1.2.3.4/0", "::", "::/0", "1::8",
                 "1:2:3:4:5:6:7:8/128", "1:2:3:4:5:6:7::"),
                ("", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1",
                 " 1.2.3.4", "1.2.3.4/8/8", "127.0.0.1/255.0.0.0", "1:2", "1::2::3", "12345::",
                 "::/129", "::ffff:1.2.3.4", "fe80::1%1", "1:2:3:4:5:6:7:8:9", "x.y.z.w"),
            ),
        ],
    )  # fmt: skip
    def test_ids_are_read_as_java_reads_them(
        self, scheme: Digest | Ip, sound: tuple[str, ...], unsound: tuple[str, ...]
    ) -> None:
        assert [one for one in sound if not scheme.is_valid(one)] == []
        assert [one for one in unsound if scheme.is_valid(one)] == []

    def test_addresses_match_by_their_bits(self) -> None:
        assert Ip().matches("127.0.0.1", "127.255.0.0/8")
        assert not Ip().matches("128.0.0.1", "127.0.0.0/8")
        assert Ip().matches("::1", "0:0:0:0:0:0:0:1")
        assert not Ip().matches("::1", "0.0.0.0/0")

    def test_credentials_are_text(self) -> None:
        assert digest_of(b"\xff:x") == digest_of("\ufffd:x".encode())

    def test_no_credentials_prove_nothing(self) -> None:
        machine = new_machine()
        talk = joined(machine)
        machine.receive(talk.client, request(-4, OpCode.AUTH, "digest", None))
        assert [reply.err for reply in talk.hear()] == [ErrorCode.AUTH_FAILED]
        assert talk.client.farewell is not None

    @pytest.mark.parametrize(
        ("scheme", "error"),
        [("none", "INVALID_ACL"), ("digest", "MARSHALLING_ERROR"), ("world", "MARSHALLING_ERROR")],
    )
    def test_a_null_id_is_judged_by_its_scheme(self, scheme: str, error: str) -> None:
        talk = joined(new_machine())
        assert talk.fail(OpCode.CREATE, "/a", b"", (acl(31, scheme, None),), 0) == error


class TestQuotas:
    @pytest.mark.parametrize("data", [b"", b"count=1", b"count=1,bytes=2=;x=3", b"count==5", b",;"])
    def test_figures_that_make_sense(self, data: bytes) -> None:
        assert Figures(data).sound

    @pytest.mark.parametrize(
        "data", [None, b"x", b"count=x", b"count= 5", b"count=", b"=", b",count=1"]
    )
    def test_figures_that_make_none(self, data: bytes | None) -> None:
        assert not Figures(data).sound

    def test_limits_without_sense_refuse_what_they_guard(self) -> None:
        talk = joined(new_machine(rules=Rules(enforce_quota=True)))
        for path, data in (("/a", b""), (QUOTA, b""), (f"{QUOTA}/zookeeper_limits", b"none")):
            talk.create(path, data)
        assert talk.fail(OpCode.CREATE, "/a/b", b"", OPEN, 0) == "MARSHALLING_ERROR"
        talk.create("/b")

    def test_the_stat_of_new_counts_is_of_what_was_asked_for(self) -> None:
        talk = joined(new_machine())
        talk.create(QUOTA)
        made = talk.do(OpCode.CREATE2, f"{QUOTA}/zookeeper_stats", b"x", OPEN, 0)
        assert isinstance(made, Create2Response)
        assert made.stat.data_length == 1
        read = talk.do(OpCode.GET_DATA, f"{QUOTA}/zookeeper_stats", False)
        assert read.data == b"count=0,bytes=0"

    @pytest.mark.parametrize("act", [Quotas.add, Quotas.remove])
    def test_a_subtree_begins_at_the_root(self, act: Callable[[Quotas, str], None]) -> None:
        quotas = Quotas()
        quotas.add("/x")
        act(quotas, "x")
        assert quotas.above("/x/y") == ("/x" if act is Quotas.add else None)


def test_an_unknown_request_has_no_zxid() -> None:
    machine = new_machine()
    talk = joined(machine)
    machine.receive(talk.client, request(1, OpCode.PING)[:4] + (1000).to_bytes(4, "big"))
    settle(machine)
    assert [(one.zxid, one.err) for one in talk.hear()] == [(-1, ErrorCode.UNIMPLEMENTED)]
