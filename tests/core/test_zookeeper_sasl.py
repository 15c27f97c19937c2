"""DIGEST-MD5 against the RFC's own exchange, each way to be refused, and its place in a server.

The exchange of RFC 2831, section 4, is IMAP's; realm and digest-uri are passed in for it.
"""

from __future__ import annotations

import hashlib

import pytest

from stratalog.core.zookeeper.identity import SUPER, X509, Sasl
from stratalog.core.zookeeper.sasl import DigestMd5, SaslOptions, SaslRefused, directives
from stratalog.core.zookeeper.standalone import Farewell, Options, Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import InvalidArgumentError
from stratalog.wire.jute import packer
from stratalog.wire.zookeeper import jaas
from stratalog.wire.zookeeper.messages import ConnectRequest, SaslRequest
from stratalog.wire.zookeeper.records import Id, OpCode

RIGHT = "secret"
NONCE = "OA6MG9tEQGm2hh"
RESPONSE = (
    'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",'
    'nc=00000001,cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",'
    "response=d388dad90d4bbd760a152321f2143af7,qop=auth"
)


def exchange(**passwords: str) -> DigestMd5:
    one = DigestMd5(
        passwords, NONCE, realm="elwood.innosoft.com", uri="imap/elwood.innosoft.com"
    )  # fmt: skip
    one.evaluate(b"")
    return one


def test_the_exchange_of_the_rfc():
    one = DigestMd5(
        {"chris": "secret"}, NONCE, realm="elwood.innosoft.com", uri="imap/elwood.innosoft.com"
    )
    assert directives(one.evaluate(b"")) == {
        "realm": "elwood.innosoft.com", "nonce": NONCE, "charset": "utf-8",
        "algorithm": "md5-sess",
    }  # fmt: skip
    assert one.identity is None
    assert one.evaluate(RESPONSE.encode()) == b"rspauth=ea40f60335c427b5527b84dbabcdfffd"
    assert one.identity == "chris"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("d388dad9", "d388dad8"),
        ('"chris"', '"nobody"'),
        ("elwood.innosoft.com", "elsewhere"),
        ("OA6MG9tEQGm2hh", "OA6MG9tEQGm2hi"),
        ("nc=00000001", "nc=00000002"),
        ("imap/", "smtp/"),
        ("qop=auth", "qop=auth-int"),
        ("charset=utf-8", "charset=latin-1"),
        ('cnonce="OA6MHXh6VqTrRk",', ""),
        ('username="chris",', ""),
        ("nc=00000001", "nc=00000001,nc=00000001"),
        ('"chris"', '"chris'),
        ("qop=auth", "qop"),
    ],
)
def test_what_is_not_right_is_refused_for_good(old, new):
    one = exchange(chris="secret")
    assert old in RESPONSE
    with pytest.raises(SaslRefused):
        one.evaluate(RESPONSE.replace(old, new).encode())
    assert one.identity is None
    with pytest.raises(SaslRefused):
        one.evaluate(RESPONSE.encode())
    assert one.identity is None


def test_a_first_token_that_is_not_empty_is_refused():
    one = DigestMd5({"chris": "secret"}, NONCE)
    with pytest.raises(SaslRefused):
        one.evaluate(b"x")
    with pytest.raises(SaslRefused):
        one.evaluate(b"")


@pytest.mark.parametrize("token", [b"\xff=1", b"a=1," * 2000])
def test_a_token_that_is_no_text_or_too_long_is_refused(token):
    with pytest.raises(SaslRefused):
        exchange(chris="secret").evaluate(token)


def test_a_quoted_value_may_hold_quotes_and_commas():
    assert directives(rb'username="a\"b,\\c" , realm=x') == {"username": 'a"b,\\c', "realm": "x"}


# ---- login configurations ----


def test_a_login_configuration():
    sections = jaas.parse(
        """
        // kazoo's own
        Server {
            org.apache.zookeeper.server.auth.DigestLoginModule required
            user_super="super_secret" # not yet the end
            user_jaasuser="jaas \\"password\\"";
        };
        /* a client's { */
        Client { com.sun.security.auth.module.Krb5LoginModule Optional useKeyTab=true; };
        """
    )
    assert jaas.digest_users(sections["Server"]) == {
        "super": "super_secret", "jaasuser": 'jaas "password"',
    }  # fmt: skip
    (module,) = sections["Client"]
    assert (module.flag, module.options) == ("optional", {"useKeyTab": "true"})
    assert jaas.digest_users([module]) == {}
    assert jaas.parse("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "Server",
        "Server { module needed; };",
        "Server { module required user_a; };",
        'Server { module required user_a="b };',
        "Server { module required a=b; }",
        "A { }; A { };",
    ],
)
def test_what_is_no_login_configuration_names_its_line(text):
    with pytest.raises(InvalidArgumentError, match="line 2"):
        jaas.parse("\n" + text)


# ---- in a server ----


def server(**options) -> Standalone:
    sasl = SaslOptions({"bob": "secret"}, **options.pop("sasl", {}))
    return Standalone(Tree(), Options(sasl=sasl, **options), now_ms=0)


def frames(client) -> list[bytes]:
    out, client.out = client.out, []
    return out


def connected(machine: Standalone):
    client = machine.connect("127.0.0.1", nonce=NONCE)
    machine.receive(client, ConnectRequest(0, 0, 10_000, 0, bytes(16)).encode())
    machine.committed(machine.take_proposals()[-1].zxid)
    frames(client)
    return client


def send(machine, client, token: bytes) -> tuple[int, bytes]:
    """One step; the code and the rest of the reply."""
    header = (7).to_bytes(4, "big") + int(OpCode.SASL).to_bytes(4, "big")
    machine.receive(client, header + packer(SaslRequest)(token))
    (reply,) = frames(client)
    assert reply[4:16] == (7).to_bytes(4, "big") + bytes(8)
    return int.from_bytes(reply[16:20], "big", signed=True), reply[20:]


def right_answer(password: str = RIGHT) -> bytes:
    """What a client answers, computed apart from the code under test."""

    def md5(data: bytes) -> str:
        return raw(data).hex()

    def raw(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    uri = "zookeeper/zk-sasl-md5"
    a1 = raw(f"bob:zk-sasl-md5:{password}".encode()) + f":{NONCE}:c".encode()
    response = md5(
        f"{md5(a1)}:{NONCE}:00000001:c:auth:{md5(f'AUTHENTICATE:{uri}'.encode())}".encode()
    )
    return (
        f'username="bob",realm="zk-sasl-md5",nonce="{NONCE}",nc=00000001,cnonce="c",qop=auth,'
        f'digest-uri="{uri}",response={response}'
    ).encode()


def test_a_right_answer_adds_an_identity():
    machine = server()
    client = connected(machine)
    code, body = send(machine, client, b"")
    assert code == 0
    assert b'realm="zk-sasl-md5"' in body
    assert client.identities == [Id("ip", "127.0.0.1")]
    code, body = send(machine, client, right_answer())
    assert code == 0
    assert body[4:].startswith(b"rspauth=")
    assert client.identities == [Id("ip", "127.0.0.1"), Id("sasl", "bob")]
    assert client.farewell is None


def test_a_configured_name_is_super():
    machine = server(sasl={"supers": frozenset({"bob"})})
    client = connected(machine)
    send(machine, client, b"")
    send(machine, client, right_answer())
    assert SUPER in client.identities


def test_a_wrong_answer_ends_the_connection():
    machine = server()
    client = connected(machine)
    send(machine, client, b"")
    assert send(machine, client, right_answer("wrong")) == (-115, b"\xff" * 4)
    assert client.farewell is Farewell.AUTH_FAILED


def test_a_wrong_answer_may_be_forgiven():
    machine = server(sasl={"failed_may_stay": True})
    client = connected(machine)
    send(machine, client, b"")
    assert send(machine, client, right_answer("wrong")) == (0, b"\xff" * 4)
    assert client.farewell is None
    assert client.identities == [Id("ip", "127.0.0.1")]


def test_a_server_without_sasl_answers_nothing():
    machine = Standalone(Tree(), Options(), now_ms=0)
    assert send(machine, connected(machine), b"") == (0, b"\xff" * 4)


def test_where_sasl_is_required_nothing_is_done_without():
    machine = server(required_schemes=frozenset({"sasl"}))
    client = connected(machine)
    ping = (-2).to_bytes(4, "big", signed=True) + int(OpCode.PING).to_bytes(4, "big")
    machine.receive(client, ping)
    assert frames(client)[0][16:20] == (-124).to_bytes(4, "big", signed=True)
    assert client.farewell is Farewell.AUTH_MISSING
    client = connected(machine)
    send(machine, client, b"")
    assert send(machine, client, right_answer("wrong"))[0] == -124
    client = connected(machine)
    send(machine, client, b"")
    send(machine, client, right_answer())
    machine.receive(client, ping)
    assert frames(client)[0][16:20] == bytes(4)


def test_ids_of_sasl_and_x509():
    sasl, x509 = Sasl(wildcard="any"), X509(superuser="CN=root")
    assert sasl.is_valid("bob")
    assert sasl.is_valid("zookeeper/host@REALM")
    assert not sasl.is_valid("a@b@c")
    assert sasl.matches("bob", "bob")
    assert sasl.matches("super", "bob")
    assert sasl.matches("bob", "any")
    assert not sasl.matches("bob", "alice")
    assert not Sasl().matches("bob", "any")
    assert x509.is_valid(r"CN=client,O=a\,b,1.2.3=\#04")
    assert not x509.is_valid("client")
    assert x509.matches("CN=a", "CN=a")
    assert x509.matches("CN=root", "CN=a")
    assert not x509.matches("CN=b", "CN=a")
    assert not X509().matches("CN=root", "CN=a")
