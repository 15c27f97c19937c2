"""Who somebody is: ACLs settled, asked and masked; the table of ACLs."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.core.zookeeper_kit import acl

from stratalog.core.zookeeper import identity
from stratalog.core.zookeeper.identity import (
    NOBODYS_ACL,
    OPEN_ACL,
    SUPER,
    Acl,
    AclTable,
    allows,
    digest_of,
    masked,
    settled,
    standard_schemes,
)
from stratalog.core.zookeeper.refusal import Refused
from stratalog.wire.zookeeper.records import ACL, Id, Permission

SCHEMES = {**standard_schemes(), "x509": identity.Plain(), "sasl": identity.Plain()}
HOME = Id("ip", "127.0.0.1")
ANN = Id("digest", digest_of(b"ann:1"))


def refused(entries: list[ACL], *identities: Id) -> str:
    with pytest.raises(Refused) as caught:
        settled(entries, identities, SCHEMES)
    return caught.value.code.name


def test_a_digest_is_what_apache_computes() -> None:
    # zkCli's own example: super:superpw and the documentation's user:password
    assert digest_of(b"super:test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
    assert digest_of(b"super:test", "sha256").startswith("super:")
    assert digest_of(b"no colon").startswith("no colon:")
    assert digest_of(b"a:b:c").startswith("a:")
    assert digest_of(b"").startswith(":")


class TestSettling:
    def test_the_open_one_is_the_open_one(self) -> None:
        assert settled((acl(31, "world", "anyone"),), (), SCHEMES) is OPEN_ACL

    def test_doubles_go_and_order_stays(self) -> None:
        one, two = acl(1, "world", "anyone"), acl(2, "ip", "10.0.0.0/8")
        assert settled([two, one, two, one], (), SCHEMES) == (two, one)
        assert settled([one, acl(2, "world", "anyone")], (), SCHEMES) == (
            one, acl(2, "world", "anyone"),
        )  # fmt: skip

    def test_auth_becomes_those_who_proved_it(self) -> None:
        mine = [HOME, ANN, Id("sasl", "bob"), Id("gone", "x"), SUPER]
        assert settled([acl(5, "auth", "whatever"), acl(1, "world", "anyone")], mine, SCHEMES) == (
            ACL(5, ANN), acl(5, "sasl", "bob"), acl(1, "world", "anyone"),
        )  # fmt: skip
        assert settled([acl(5, "auth", None)], [ANN], SCHEMES) == (ACL(5, ANN),)

    @pytest.mark.parametrize("mine", [(), (HOME,), (SUPER,), (Id("gone", "x"),)])
    def test_auth_of_nobody_is_refused(self, mine: tuple[Id, ...]) -> None:
        assert refused([acl(31, "auth", "")], *mine) == "INVALID_ACL"

    def test_one_bad_entry_refuses_all(self) -> None:
        good = acl(31, "world", "anyone")
        for bad in (
            acl(1, "world", "everyone"), acl(1, "world", ""), acl(1, None, "x"), acl(1, "", "x"),
            acl(1, "nope", "x"), acl(1, "super", ""), acl(1, "digest", "ann"),
            acl(1, "digest", "ann:"), acl(1, "digest", "a:b:c"), acl(1, "ip", "here"),
            acl(1, "sasl", ""),
        ):  # fmt: skip
            assert refused([good, bad]) == "INVALID_ACL"
        assert refused([good, acl(1, "digest", None)]) == "MARSHALLING_ERROR"

    def test_none_at_all_is_refused(self) -> None:
        assert refused([]) == "INVALID_ACL"


class TestAddresses:
    @pytest.mark.parametrize(
        "expression",
        ["127.0.0.1", "10.0.0.0/8", "10.1.2.3/0", "10.1.2.3/32", "::1", "::", "fe80::/10",
         "2001:db8::1/128", "1:2:3:4:5:6:7:8"],
    )  # fmt: skip
    def test_these_are_networks(self, expression: str) -> None:
        assert identity.Ip().is_valid(expression)

    @pytest.mark.parametrize(
        "expression",
        ["", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4/", "1.2.3.4/33",
         "1.2.3.4/-1", "1.2.3.4/8/8", "1.2.3.4/x", "1.2.3.4/255.0.0.0", "1", "12345", "::1/129",
         ":::", "1::2::3", "10.0.0.0/٨", "/8"],
    )  # fmt: skip
    def test_these_are_none(self, expression: str) -> None:
        assert not identity.Ip().is_valid(expression)
        assert not identity.Ip().matches("10.0.0.1", expression)

    @pytest.mark.parametrize(
        ("address", "expression", "inside"),
        [
            ("10.0.0.1", "10.0.0.1", True),
            ("10.0.0.1", "10.0.0.2", False),
            ("10.9.9.9", "10.0.0.0/8", True),
            ("11.0.0.0", "10.0.0.0/8", False),
            ("10.255.0.1", "10.1.2.3/8", True),  # bits behind the mask count nothing
            ("10.0.0.1", "0.0.0.0/0", True),
            ("10.0.0.128", "10.0.0.129/25", True),
            ("10.0.0.127", "10.0.0.129/25", False),
            ("::1", "0.0.0.0/0", False),
            ("10.0.0.1", "::/0", False),
            ("fe80::1", "fe80::/10", True),
            ("not one", "0.0.0.0/0", False),
            ("", "0.0.0.0/0", False),
        ],
    )
    def test_who_is_inside(self, address: str, expression: str, inside: bool) -> None:
        assert identity.Ip().matches(address, expression) == inside


class TestAsking:
    def test_each_permission_is_its_own(self) -> None:
        for have in Permission:
            for want in (Permission.READ, Permission.WRITE, Permission.CREATE, Permission.DELETE,
                         Permission.ADMIN):  # fmt: skip
                entries = (acl(int(have), "world", "anyone"),)
                assert allows(entries, want, (), SCHEMES) == bool(have & want)

    def test_super_may_everything(self) -> None:
        assert allows((acl(0, "world", "anyone"),), 16, [HOME, SUPER], SCHEMES)
        assert allows(NOBODYS_ACL, 16, [SUPER], SCHEMES)
        assert not allows(NOBODYS_ACL, 1, [HOME, ANN, Id("unknown", "")], SCHEMES)

    def test_an_identity_counts_within_its_scheme(self) -> None:
        entries = (ACL(1, ANN),)
        assert allows(entries, 1, [HOME, ANN], SCHEMES)
        assert not allows(entries, 2, [HOME, ANN], SCHEMES)
        assert not allows(entries, 1, [Id("sasl", ANN.id)], SCHEMES)
        assert not allows((acl(1, "sasl", ANN.id),), 1, [ANN], SCHEMES)

    def test_several_permissions_are_any_of_them(self) -> None:
        assert allows((acl(16, "world", "anyone"),), 17, (), SCHEMES)

    def test_a_scheme_nobody_knows_grants_nothing(self) -> None:
        assert not allows((acl(31, "gone", "x"),), 1, [Id("gone", "x")], SCHEMES)

    def test_an_empty_acl_guards_nothing(self) -> None:
        assert allows((), 16, (), SCHEMES)


def test_masking_hides_digests_alone() -> None:
    entries: Acl = (ACL(1, ANN), acl(2, "ip", "::1"), acl(4, "digest", "odd"))
    assert masked(entries) == (acl(1, "digest", "ann:x"), acl(2, "ip", "::1"), entries[2])


class TestTable:
    def test_it_counts_uses_as_a_plain_counter_would(self) -> None:
        draw = random.Random(7)
        some: list[Acl] = [OPEN_ACL, *((acl(perms, "ip", "::1"),) for perms in range(5))]
        table, uses, index_of = AclTable(), Counter[Acl](), dict[Acl, int]()
        for _ in range(3000):
            entries = draw.choice(some)
            if draw.random() < 0.5:
                index = table.acquire(entries)
                if uses[entries]:
                    assert index == index_of[entries]
                index_of[entries] = index
                uses[entries] += 1
            elif uses[entries]:
                table.release(index_of[entries])
                uses[entries] -= 1
            live = {index_of[one]: one for one in some if uses[one]}
            assert table.all() == live
            assert len(table) == len(live)
            assert all((one in table) == bool(uses[one]) for one in some)

    def test_what_a_snapshot_had_and_no_znode_has_goes(self) -> None:
        table = AclTable()
        kept, gone = (acl(1, "ip", "::1"),), (acl(2, "ip", "::1"),)
        table.load({3: kept, 9: gone, 4: (acl(31, "world", "anyone"),)})
        table.use(3)
        table.use(3)
        table.use(77)  # nobody's
        table.drop_unused()
        assert table.all() == {3: kept}
        assert table.acquire(gone) == 10
        assert table.acquire(OPEN_ACL) == 11
        table.release(3)
        assert table.acl(3) == kept
        table.release(3)
        table.release(3)
        with pytest.raises(KeyError):
            table.acl(3)

    def test_the_open_index_needs_no_entry(self) -> None:
        table = AclTable()
        assert table.acl(AclTable.OPEN_INDEX) is OPEN_ACL
        table.use(AclTable.OPEN_INDEX)
        table.release(AclTable.OPEN_INDEX)
        assert len(table) == 0
