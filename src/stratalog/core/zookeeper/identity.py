"""Who somebody is, and what an ACL lets them do.

    scheme    an identity of a connection                  an id in an ACL
    world     nobody has it                                anyone
    ip        127.0.0.1, by its address                    127.0.0.0/8, an address or a network
    digest    user:base64(sha1("user:password"))           the same
    auth      nobody has it                                stands for the requester's own identities
    super     "", by a digest known to the server          nobody's: super may do everything
    x509      the certificate's subject                    the same
    sasl      the principal                                the same

A scheme that is *authenticated* proves who somebody is; ``auth`` in an ACL becomes those only.

Source: ``PrepRequestProcessor.java`` (fixupACL), ``ZooKeeperServer.java`` (checkACL),
``IPAuthenticationProvider.java``, ``DigestAuthenticationProvider.java``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stratalog.core.zookeeper._fast import AclCounts
from stratalog.core.zookeeper.refusal import Refused
from stratalog.wire.zookeeper.records import ACL, ErrorCode, Id, Permission
from stratalog.wire.zookeeper.snapshot import OPEN_ACL_INDEX

Acl = tuple[ACL, ...]

OPEN_ACL: Final[Acl] = (ACL(int(Permission.ALL), Id("world", "anyone")),)
READ_ONLY_ACL: Final[Acl] = (ACL(int(Permission.READ), Id("world", "anyone")),)
NOBODYS_ACL: Final[Acl] = (ACL(0, Id("unknown", "")),)
"""What a znode of a snapshot has until the log says which ACL it got: no request can ask for it."""
SUPER: Final = Id("super", "")


class Scheme(Protocol):
    """How identities of one scheme are told apart."""

    @property
    def authenticated(self) -> bool:
        """Whether it proves who somebody is."""

    def is_valid(self, expression: str) -> bool:
        """Tell whether an ACL may hold this id."""

    def matches(self, identity: str, expression: str) -> bool:
        """Tell whether an ACL's id means this identity."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Identities that are equal or are not."""

    authenticated: bool = True

    def is_valid(self, expression: str) -> bool:
        """Any but the empty one."""
        return bool(expression)

    def matches(self, identity: str, expression: str) -> bool:
        """They are equal."""
        return identity == expression


@dataclass(frozen=True, slots=True)
class Digest:
    """``user:hash`` of a password."""

    authenticated: bool = True

    def is_valid(self, expression: str) -> bool:
        """One colon, and something behind it; colons at the end do not count."""
        return expression.rstrip(":").count(":") == 1

    def matches(self, identity: str, expression: str) -> bool:
        """They are equal."""
        return identity == expression


@dataclass(frozen=True, slots=True)
class Sasl:
    """Principals: whom a SASL exchange proved.

    Attributes:
        wildcard: An ACL's id that means every principal (``letAnySaslUserDoX``).
    """

    wildcard: str | None = None
    authenticated: bool = True

    def is_valid(self, expression: str) -> bool:
        """A name, or name@realm, or name/host@realm."""
        return "@" not in expression or _principal(expression) is not None

    def matches(self, identity: str, expression: str) -> bool:
        """They are equal, or it is the principal ``super``, or anyone may."""
        return identity in (expression, "super") or expression == self.wildcard


@dataclass(frozen=True, slots=True)
class X509:
    """Subjects of certificates, as RFC 2253 writes them.

    Attributes:
        superuser: The subject that every such id means (``X509AuthenticationProvider.superUser``).
    """

    superuser: str | None = None
    authenticated: bool = True

    def is_valid(self, expression: str) -> bool:
        """Attributes and values, with commas between."""
        return expression == "" or _distinguished(expression) is not None

    def matches(self, identity: str, expression: str) -> bool:
        """They are equal, or it is the superuser."""
        return identity in (expression, self.superuser)


_decimal: Final = re.compile(r"[+-]?[0-9]{1,9}").fullmatch
_hexadecimal: Final = re.compile(r"[+-]?[0-9A-Fa-f]+").fullmatch
_principal: Final = re.compile(r"([^/@]*)(/([^/@]*))?@([^/@]*)").fullmatch
_PAIR: Final = r"""\s*[A-Za-z0-9.-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|(?:[^",+\\;<>]|\\.)*)\s*"""
_distinguished: Final = re.compile(f"{_PAIR}(?:[,+;]{_PAIR})*", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Ip:
    """Addresses, IPv4 or IPv6, and networks of them."""

    authenticated: bool = False

    def is_valid(self, expression: str) -> bool:
        """An address, or address/bits."""
        return _network(expression) is not None

    def matches(self, identity: str, expression: str) -> bool:
        """The address lies in the network."""
        network, address = _network(expression), _address(identity.partition("%")[0])
        if network is None or address is None or len(network[0]) != len(address):
            return False
        host_bits = 8 * len(address) - network[1]
        return int.from_bytes(network[0]) >> host_bits == int.from_bytes(address) >> host_bits


def _network(expression: str) -> tuple[bytes, int] | None:
    """Return an address and how many of its bits count, None if it is neither."""
    text, slash, bits = expression.partition("/")
    address = _address(text)
    if address is None or not slash:
        return None if address is None else (address, 8 * len(address))
    if not _decimal(bits) or not 0 <= int(bits) <= 8 * len(address):
        return None
    return address, int(bits)


def _address(text: str) -> bytes | None:
    """Return the bytes of an address, as Apache's reads it: signs and leading zeros may stand."""
    if ":" in text:
        return _address6(text)
    parts = text.split(".")
    if len(parts) != 4 or not all(_decimal(part) and 0 <= int(part) <= 255 for part in parts):
        return None
    return bytes(map(int, parts))


def _address6(text: str) -> bytes | None:
    halves = [half.split(":") if half else [] for half in text.split("::")]
    if len(halves) == 1:
        halves.append([])
        whole = len(halves[0]) == 8
    else:
        whole = len(halves) == 2 and len(halves[0]) + len(halves[1]) < 8
    stated = [one for half in halves for one in half]
    if not whole or not all(len(one) <= 4 and _hexadecimal(one) for one in stated):
        return None
    gap = ["0"] * (8 - len(halves[0]) - len(halves[1]))
    words = [int(one, 16) & 0xFFFF for one in (*halves[0], *gap, *halves[1])]
    return b"".join(word.to_bytes(2, "big") for word in words)


def digest_of(user_and_password: bytes, algorithm: str = "sha1") -> str:
    """Return the identity of ``user:password``; it is text, and what is none is replaced first."""
    text = user_and_password.decode("utf-8", "replace")
    user = text.partition(":")[0]
    # Not ours to choose: every client computes it so.
    hashed = hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest()
    return f"{user}:{base64.b64encode(hashed).decode()}"


def standard_schemes() -> dict[str, Scheme]:
    """Return the schemes that every server knows."""
    return {"ip": Ip(), "digest": Digest()}


ENTRIES_MAX: Final = 1 << 17
"""More than a frame of the usual length can name; ``auth`` may stand for many at a time."""

IDENTITIES_MAX: Final = 128
"""How many one connection may say to be: every look at an ACL goes through all of them."""


def settled(acl: Sequence[ACL], identities: Iterable[Id], schemes: Mapping[str, Scheme]) -> Acl:
    """Return the ACL as a znode gets it: no entry twice, ``auth`` replaced by who asks.

    Raises:
        Refused: INVALID_ACL: it is empty, a scheme is unknown, an id is none of its scheme, or
            ``auth`` stands for too many; MARSHALLING_ERROR: an id is null.
    """
    if acl is OPEN_ACL or acl == OPEN_ACL:
        return OPEN_ACL
    entries: list[ACL] = []
    for entry in dict.fromkeys(acl):
        scheme, name = entry.id.scheme, entry.id.id
        if scheme is None:
            raise Refused(ErrorCode.INVALID_ACL)
        if scheme == "auth":
            own = [
                ACL(entry.perms, identity)
                for identity in identities
                if (known := schemes.get(identity.scheme or "")) and known.authenticated
            ]
            if not own or len(entries) + len(own) > ENTRIES_MAX:
                raise Refused(ErrorCode.INVALID_ACL)
            entries += own
            continue
        if name is None and (scheme == "world" or scheme in schemes):
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        if scheme != "world" or name != "anyone":
            known = schemes.get(scheme)
            if known is None or name is None or not known.is_valid(name):
                raise Refused(ErrorCode.INVALID_ACL)
        entries.append(entry)
    if not entries:
        raise Refused(ErrorCode.INVALID_ACL)
    return tuple(entries)


def allows(
    acl: Acl, permission: int, identities: Iterable[Id], schemes: Mapping[str, Scheme]
) -> bool:
    """Tell whether the ACL lets somebody with these identities do it."""
    if acl is OPEN_ACL or not acl or SUPER in identities:
        return True
    for entry in acl:
        if not entry.perms & permission:
            continue
        scheme, name = entry.id.scheme, entry.id.id
        if scheme == "world" and name == "anyone":
            return True
        known = schemes.get(scheme or "")
        if known is None or name is None:
            continue
        for identity in identities:
            if identity.scheme == scheme and known.matches(identity.id or "", name):
                return True
    return False


def masked(acl: Acl) -> Acl:
    """Return the ACL with digests hidden: what those see who may not change it."""
    return tuple(
        ACL(entry.perms, Id(entry.id.scheme, (entry.id.id or "").partition(":")[0] + ":x"))
        if entry.id.scheme == "digest" and ":" in (entry.id.id or "")
        else entry
        for entry in acl
    )


INDEX_MAX: Final = (1 << 63) - 1


class AclTable(AclCounts):
    """ACLs by index, each once, as long as a znode has it; index -1 is the open one.

    The open ACL, which nearly every znode has, also stands under an index of its own, 0 while
    nobody uses it.  C counts its uses.

    Source: ``ReferenceCountedACLCache.java``.
    """

    OPEN_INDEX: Final = OPEN_ACL_INDEX

    def __init__(self) -> None:
        self._by_index: dict[int, Acl] = {}
        self._index_of: dict[Acl, int] = {}
        self._uses: dict[int, int] = {}  # but for those of the open ACL
        self._last_index = 0

    def __len__(self) -> int:
        return len(self._by_index)

    def __contains__(self, acl: Acl) -> bool:
        return acl in self._index_of

    def acquire(self, acl: Acl) -> int:
        """Return the index of an ACL and count one more use."""
        index = self._open if acl is OPEN_ACL else self._index_of.get(acl)
        if not index:
            # A damaged snapshot may have named the last one there is; Java's goes on below, too.
            index = self._last_index + 1 if self._last_index < INDEX_MAX else -INDEX_MAX - 1
            self._last_index = index
            self._enter(index, acl)
        self.use(index)
        return index

    def use(self, index: int) -> None:
        """Count one more use of a known index."""
        if index == self._open:
            self._open_uses += 1
        elif index in self._uses:
            self._uses[index] += 1

    def release(self, index: int) -> None:
        """Count one use less; the last one's ACL is forgotten."""
        if index == self._open:
            self._open_uses -= 1
            left = self._open_uses
        elif index in self._uses:
            self._uses[index] -= 1
            left = self._uses[index]
        else:
            return
        if left <= 0:
            self._forget(index)

    def acl(self, index: int) -> Acl:
        """Return the ACL of an index; KeyError where there is none."""
        return OPEN_ACL if index == self.OPEN_INDEX else self._by_index[index]

    def all(self) -> dict[int, Acl]:
        """Return every ACL by index."""
        return dict(self._by_index)

    def load(self, acls: Mapping[int, Acl]) -> None:
        """Take the ACLs of a snapshot, none in use yet."""
        self._by_index, self._index_of, self._uses, self._open = {}, {}, {}, 0
        for index, acl in acls.items():
            self._enter(index, acl)
        self._last_index = max(acls, default=0)

    def drop_unused(self) -> None:
        """Forget what no znode of a snapshot has."""
        for index in [index for index, uses in self._uses.items() if uses == 0]:
            self._forget(index)
        if self._open and not self._open_uses:
            self._forget(self._open)

    def _enter(self, index: int, acl: Acl) -> None:
        if acl == OPEN_ACL and not self._open:
            acl, self._open, self._open_uses = OPEN_ACL, index, 0
        else:
            self._uses[index] = 0
        self._by_index[index] = OPEN_ACL if acl == OPEN_ACL else acl
        self._index_of[acl] = index

    def _forget(self, index: int) -> None:
        if index == self._open:
            self._open = 0
        acl = self._by_index.pop(index)
        if self._index_of.get(acl) == index:
            del self._index_of[acl]
        self._uses.pop(index, None)
