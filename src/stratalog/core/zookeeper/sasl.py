r"""SASL's DIGEST-MD5, the server's side: who knows the password without sending it.

    client                                server
      ""                        -->
                                <--       realm, nonce, charset, algorithm
      username, cnonce, response -->      response = KD(A1, nonce:nc:cnonce:qop:A2)
                                <--       rspauth: the server knows the password too
      done, or "" once more

    new -- "" --> asked -- a right response --> known
      \____________\____ anything else ___________> refused, for good

    A1 = md5(username:realm:password) : nonce : cnonce [: authzid]        (md5-sess)
    A2 = AUTHENTICATE:digest-uri, and :digest-uri in the server's answer
    KD(A, x) = hex(md5(hex(md5(A)) : x)), with A2 hashed to hex inside x

Only authentication: no integrity, no privacy (qop ``auth``), as ZooKeeper's server offers it.  The
realm is ``zk-sasl-md5`` and the digest-uri ``zookeeper/zk-sasl-md5``, for every server the same.
The mechanism is old, and its hash weak: it keeps those apart who share a network they trust.

The nonce is passed in, fresh for each connection.

Left to others: where passwords come from (wire/zookeeper/jaas.py), what an identity may do
(identity.py).

Source: RFC 2831, ``ZooKeeperSaslServer.java``, ``SaslServerCallbackHandler.java``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

REALM: Final = "zk-sasl-md5"
DIGEST_URI: Final = "zookeeper/zk-sasl-md5"
TOKEN_BYTES_MAX: Final = 4096
_FIRST_USE: Final = "00000001"
_directive: Final = re.compile(
    r"""\s* ([A-Za-z-]+) \s*=\s* (?: "((?:[^"\\]|\\.)*)" | ([^\s",]*) ) \s* (?:,|$)""",
    re.VERBOSE | re.DOTALL,
)
_escaped: Final = re.compile(r"\\(.)", re.DOTALL)


class SaslRefused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """The exchange failed; the reason is for the server's log, not for the client."""


@dataclass(frozen=True, slots=True)
class SaslOptions:
    """What a server's configuration says of SASL.

    Attributes:
        passwords: By user name.
        supers: Names that are super (``zookeeper.superUser``).
        failed_may_stay: Whether a connection outlives a failed exchange
            (``zookeeper.allowSaslFailedClients``).
    """

    passwords: Mapping[str, str] = field(repr=False)
    supers: frozenset[str] = frozenset()
    failed_may_stay: bool = False


class DigestMd5:
    """One exchange.

    Args:
        passwords: By user name.
        nonce: Never used before.
        realm: What names belong to.
        uri: The service, and the host that all servers pretend to be.

    Attributes:
        identity: Who it is, once that is known; else None.
    """

    __slots__ = ("_asked", "_nonce", "_over", "_passwords", "_realm", "_uri", "identity")

    def __init__(
        self,
        passwords: Mapping[str, str],
        nonce: str,
        *,
        realm: str = REALM,
        uri: str = DIGEST_URI,
    ) -> None:
        self._passwords = passwords
        self._nonce = nonce
        self._realm = realm
        self._uri = uri
        self._asked = False
        self._over = False
        self.identity: str | None = None

    def evaluate(self, token: bytes) -> bytes:
        """Take the client's next token; return the server's.

        Raises:
            SaslRefused: It does not fit, or it is over.
        """
        if self._over:
            raise SaslRefused("the exchange is over")
        if not self._asked:
            if token:
                self._over = True
                raise SaslRefused("DIGEST-MD5 begins with an empty token")
            self._asked = True
            return (
                f'realm="{self._realm}",nonce="{self._nonce}",charset=utf-8,algorithm=md5-sess'
            ).encode()
        self._over = True
        answer, self.identity = self._check(directives(token))
        return b"rspauth=" + answer

    def _check(self, said: Mapping[str, str]) -> tuple[bytes, str]:
        """Compare the response with ours; return our own answer and who it is."""
        for name in ("username", "nonce", "cnonce", "nc", "digest-uri", "response"):
            if not said.get(name):
                raise SaslRefused(f"no {name}")
        if said.get("charset", "utf-8").lower() != "utf-8":
            raise SaslRefused(f"charset {said['charset']!r}")
        if said.get("qop", "auth") != "auth":
            raise SaslRefused(f"qop {said['qop']!r}")
        realm = said.get("realm", "")
        if realm != self._realm:
            raise SaslRefused(f"realm {realm!r}")
        if said["nonce"] != self._nonce or said["nc"] != _FIRST_USE:
            raise SaslRefused("a nonce of another exchange")
        if said["digest-uri"].lower() != self._uri:
            raise SaslRefused(f"digest-uri {said['digest-uri']!r}")
        username = said["username"]
        password = self._passwords.get(username)
        if password is None:
            raise SaslRefused(f"no user {username!r}")
        secret = b":".join(
            (
                _md5(b":".join(map(_plain, (username, realm, password)))),
                self._nonce.encode(),
                said["cnonce"].encode(),
                *([said["authzid"].encode()] if "authzid" in said else ()),
            )
        )
        right = self._respond(secret, "AUTHENTICATE", said)
        if not hmac.compare_digest(right, said["response"].encode()):
            raise SaslRefused(f"a wrong password for {username!r}")
        return self._respond(secret, "", said), said.get("authzid") or username

    def _respond(self, secret: bytes, method: str, said: Mapping[str, str]) -> bytes:
        uri = _hex(f"{method}:{said['digest-uri']}".encode())
        middle = f"{self._nonce}:{said['nc']}:{said['cnonce']}:auth".encode()
        return _hex(b":".join((_hex(secret), middle, uri)))


def directives(token: bytes) -> dict[str, str]:
    """Return the directives of a token, ``name=value`` or ``name="value"``, by name.

    Raises:
        SaslRefused: It is none of those, or one is there twice.
    """
    if len(token) > TOKEN_BYTES_MAX:
        raise SaslRefused(f"a token of {len(token)} bytes")
    try:
        text = token.decode()
    except UnicodeDecodeError:
        raise SaslRefused("a token that is not UTF-8") from None
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _directive.match(text, at)
        if match is None:
            raise SaslRefused(f"no directive at character {at}")
        name, quoted, bare = match.groups()
        if name.lower() in found:
            raise SaslRefused(f"{name} twice")
        found[name.lower()] = bare if quoted is None else _escaped.sub(r"\1", quoted)
        at = match.end()
    return found


def _plain(text: str) -> bytes:
    """What the hash of name and password takes: ISO 8859-1 where that suffices, else UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _hex(data: bytes) -> bytes:
    return _md5(data).hex().encode()
