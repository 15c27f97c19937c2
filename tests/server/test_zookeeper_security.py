"""TLS and SASL as a client meets them: kazoo, and a zoo.cfg with Apache's own keys.

Certificates are made for each run (certificates.py).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)
from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState
from kazoo.security import make_acl
from tests.server.certificates import PASSWORD, Party, World, make_world

from stratalog.errors import ConfigurationError, InvalidArgumentError
from stratalog.server.tls import Store, TlsSettings, context_of
from stratalog.server.zookeeper.security import tls_settings
from stratalog.testing import ZooKeeperServer

JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_super="super_secret"
    user_bob="bob's";
};
"""


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def zoo_cfg(directory, world: World, port: int, *further: str):
    """A zoo.cfg with a TLS port, PEM stores and a password in a file."""
    (directory / "server.pem").write_bytes(
        world.server.key_pem(PASSWORD) + world.server.certificate_pem
    )
    (directory / "authority.pem").write_bytes(world.authority.certificate_pem)
    (directory / "password").write_text(PASSWORD + "\n")
    cfg = directory / "zoo.cfg"
    lines = (
        "tickTime=2000",
        f"secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        f"ssl.keyStore.location={directory}/server.pem",
        f"ssl.keyStore.passwordPath={directory}/password",
        f"ssl.trustStore.location={directory}/authority.pem",
        *further,
    )
    cfg.write_text("".join(f"{line}\n" for line in lines))
    return cfg


def talk(port: int, context: ssl.SSLContext) -> bytes:
    """A word over TLS; nothing where the server ends it, which a client may learn late."""
    answer = b""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"srvr")
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def client_context(directory, world: World, own: Party | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=world.authority.certificate_pem.decode())
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if own is not None:
        file = directory / "own.pem"
        file.write_bytes(own.key_pem() + own.certificate_pem)
        context.load_cert_chain(file)
    return context


def test_a_certificate_is_an_identity(tmp_path, world):
    port = free_port()
    cfg = zoo_cfg(tmp_path, world, port)
    (tmp_path / "client.key").write_bytes(world.client.key_pem())
    (tmp_path / "client.pem").write_bytes(world.client.certificate_pem)
    with ZooKeeperServer(tmp_path / "data", arguments=["--zoo-cfg", str(cfg)]) as server:
        secure = KazooClient(
            hosts=f"127.0.0.1:{port}", use_ssl=True, verify_certs=False,
            certfile=str(tmp_path / "client.pem"), keyfile=str(tmp_path / "client.key"),
            ca=str(tmp_path / "authority.pem"),
        )  # fmt: skip
        plain = KazooClient(hosts=server.address)
        try:
            secure.start()
            plain.start()
            mine = make_acl("x509", credential="CN=client", all=True)
            secure.create("/mine", b"x" * 300_000, acl=[mine])
            assert len(secure.get("/mine")[0]) == 300_000
            assert secure.get_acls("/mine")[0] == [mine]
            with pytest.raises(NoAuthError):
                plain.get("/mine")
        finally:
            for client in (secure, plain):
                client.stop()
                client.close()


def test_who_shows_no_certificate_or_a_strange_one_is_turned_away(tmp_path, world):
    port = free_port()
    cfg = zoo_cfg(tmp_path, world, port)
    with ZooKeeperServer(tmp_path / "data", arguments=["--zoo-cfg", str(cfg)]):
        assert b"Mode: standalone" in talk(port, client_context(tmp_path, world, world.client))
        for own in (None, world.stranger):
            assert talk(port, client_context(tmp_path, world, own)) == b""
        # Neither words in plaintext nor silence stop it for others.
        with (
            socket.create_connection(("127.0.0.1", port)) as silent,
            socket.create_connection(("127.0.0.1", port)) as plain,
        ):
            plain.settimeout(10)
            plain.sendall(b"srvr" * 10)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := plain.recv(100):
                    answer += piece
            assert b"Mode" not in answer
            assert silent.fileno() > 0
            answer = talk(port, client_context(tmp_path, world, world.client))
            assert b"Mode: standalone" in answer


def test_a_client_may_be_let_in_without_a_certificate(tmp_path, world):
    port = free_port()
    cfg = zoo_cfg(tmp_path, world, port, "ssl.clientAuth=none", "ssl.enabledProtocols=TLSv1.2")
    with ZooKeeperServer(tmp_path / "data", arguments=["--zoo-cfg", str(cfg)]):
        context = client_context(tmp_path, world, None)
        assert b"Mode: standalone" in talk(port, context)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        assert talk(port, context) == b""


def test_without_a_plaintext_port_there_is_none(tmp_path, world):
    cfg = zoo_cfg(tmp_path, world, 0, f"dataDir={tmp_path}/data")
    command = (sys.executable, "-m", "stratalog", "serve", "--zoo-cfg", str(cfg))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            port = int(process.stdout.readline().decode().rpartition(":")[2])
            assert b"Mode" in talk(port, client_context(tmp_path, world, world.client))
        finally:
            process.terminate()
    assert process.returncode == 0


def test_a_store_that_is_not_there_ends_the_start_with_its_name(tmp_path, world):
    cfg = zoo_cfg(tmp_path, world, 0, f"dataDir={tmp_path}/data")
    (tmp_path / "server.pem").write_bytes(b"nothing")
    command = (sys.executable, "-m", "stratalog", "serve", "--zoo-cfg", str(cfg))
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "server.pem" in done.stderr
    assert "Traceback" not in done.stderr


# ---- stores ----


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes | None:
    """A handshake in memory; return the client's certificate as the server sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    other = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    waiting = [other, one]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return one.getpeercert(binary_form=True)


@pytest.mark.parametrize("with_type", [False, True])
def test_pkcs12_stores(tmp_path, world, with_type):
    (tmp_path / "server.p12").write_bytes(world.server.pkcs12())
    (tmp_path / "trust.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(
            None, None, None, [world.authority.certificate],
            BestAvailableEncryption(PASSWORD.encode()),
        )
    )  # fmt: skip
    kind = "PKCS12" if with_type else ""
    settings = TlsSettings(
        Store(tmp_path / "server.p12", PASSWORD, kind),
        Store(tmp_path / "trust.p12", PASSWORD, kind),
        ciphers=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    )
    client = client_context(tmp_path, world, world.client)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    seen = shake_hands(context_of(settings), client)
    assert seen == world.client.certificate.public_bytes(Encoding.DER)
    with pytest.raises(InvalidArgumentError, match="password"):
        context_of(TlsSettings(Store(tmp_path / "server.p12", "wrong")))


def test_a_store_that_cannot_serve_is_named(tmp_path, world):
    good = tmp_path / "good.pem"
    good.write_bytes(world.server.key_pem() + world.server.certificate_pem)
    bare = tmp_path / "bare.pem"
    bare.write_bytes(world.server.certificate_pem)
    strange = tmp_path / "server.bcfks"
    strange.write_bytes(b"")
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    for settings in (
        TlsSettings(Store(bare)),
        TlsSettings(Store(strange)),
        TlsSettings(Store(good), Store(empty)),
    ):
        with pytest.raises(InvalidArgumentError, match=r"\.pem|bcfks"):
            context_of(settings)
    with pytest.raises(FileNotFoundError):
        context_of(TlsSettings(Store(tmp_path / "none.pem")))
    for wrong in ({"client_auth": "maybe"}, {"protocols": ("SSLv3",)}, {"ciphers": ("A-B",)}):
        with pytest.raises(InvalidArgumentError):
            context_of(TlsSettings(Store(good), **wrong))
    context_of(TlsSettings(Store(good), client_auth="want"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ssl.keyStore.location": "a.pem", "ssl.crl": "true"},
        {"ssl.keyStore.location": "a.pem", "ssl.keyStore.passwordPath": "/nonexistent"},
    ],
)
def test_what_would_not_be_done_is_refused(values):
    with pytest.raises(ConfigurationError):
        tls_settings(values)


# ---- SASL ----


def test_sasl_users_of_a_jaas_file(tmp_path):
    (tmp_path / "jaas.conf").write_text(JAAS)
    arguments = [
        f"-Djava.security.auth.login.config={tmp_path}/jaas.conf",
        "-DauthProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "-DsuperUser=super",
    ]
    clients: list[KazooClient] = []

    def client(address: str, username: str = "", password: str = "") -> KazooClient:
        sasl = {"mechanism": "DIGEST-MD5", "username": username, "password": password}
        one = KazooClient(hosts=address, sasl_options=sasl if username else None)
        clients.append(one)
        return one

    def look(one: KazooClient) -> None:
        one.start()
        one.get("/bob")

    with ZooKeeperServer(tmp_path / "data", arguments=arguments) as server:
        try:
            bob = client(server.address, "bob", "bob's")
            bob.start()
            bob.create("/bob", b"x", acl=[make_acl("sasl", credential="bob", all=True)])
            assert bob.get("/bob")[0] == b"x"
            nobody = client(server.address)
            nobody.start()
            with pytest.raises(NoAuthError):
                nobody.get("/bob")
            boss = client(server.address, "super", "super_secret")
            boss.start()
            assert boss.get("/bob")[0] == b"x"
            for username, password in (("bob", "wrong"), ("alice", "bob's")):
                stranger = client(server.address, username, password)
                # Refused at once, it may be gone before start() has seen it connected.
                with pytest.raises((AuthFailedError, KazooTimeoutError)):
                    look(stranger)
                assert stranger.client_state in {KeeperState.AUTH_FAILED, KeeperState.CLOSED}
        finally:
            for one in clients:
                one.stop()
                one.close()
