"""A znode: data, numbers, and the names of its children.

Numbers are as they are stored; clients see two of them otherwise: ``cversion`` counts creates and
deletes there (every create but those of the children still here has its delete), and the owner of
a container or of a znode with a time to live is 0.

    ephemeral_owner    0                        persistent
                       -2^63                    container
                       0xff, 2 zero bytes,      time to live in ms, where extended types are on;
                       5 bytes                  the session of server 255 where they are off
                       any other                ephemeral: the session that it goes with

The digest of a znode is the CRC-32 of path, data and numbers; the tree's is their sum.  What lies
below /zookeeper counts nothing: servers keep that each on its own.

Source: ``DataNode.java``, ``EphemeralType.java``, ``DigestCalculator.java``.
"""

from __future__ import annotations

import struct
import zlib
from enum import Enum
from typing import Final

from stratalog.core.zookeeper.identity import Acl
from stratalog.core.zookeeper.paths import ROOT_ALIAS, SYSTEM_PREFIX
from stratalog.wire.jute import encode_ustring, packer
from stratalog.wire.zookeeper.records import Stat

CONTAINER_OWNER: Final = -(1 << 63)
TTL_MS_MAX: Final = (1 << 40) - 1
_TTL_MARK: Final = 0xFF << 56
_RESERVED: Final = 0xFFFF << 40
_WORD: Final = 1 << 64

pack_stat: Final = packer(Stat)
_digested: Final = struct.Struct(">qqqqqiiiq").pack


class Kind(Enum):
    """What an owner says of a znode."""

    PERSISTENT = "persistent"
    EPHEMERAL = "ephemeral"
    CONTAINER = "container"
    TTL = "ttl"


def kind_of(owner: int, *, extended: bool) -> Kind:
    """Tell what an ``ephemeral_owner`` means, with extended types on or off."""
    if owner == 0:
        return Kind.PERSISTENT
    if extended and (owner & _TTL_MARK) == _TTL_MARK and not owner & _RESERVED:
        return Kind.TTL
    return Kind.CONTAINER if owner == CONTAINER_OWNER else Kind.EPHEMERAL


def owner_of_ttl(ttl_ms: int) -> int:
    """Return the owner that stands for a time to live, 1 to TTL_MS_MAX."""
    return (_TTL_MARK | ttl_ms) - _WORD


def ttl_of_owner(owner: int) -> int:
    """Return the time to live in ms that an owner stands for."""
    return owner & TTL_MS_MAX


def int32(number: int) -> int:
    """Wrap as Java's int does."""
    return (number + 0x80000000 & 0xFFFFFFFF) - 0x80000000


class Znode:
    """One znode; ``children`` is None until there is one."""

    __slots__ = (
        "acl", "aversion", "children", "ctime", "cversion", "czxid", "data", "digest", "mtime",
        "mzxid", "owner", "pzxid", "version",
    )  # fmt: skip

    def __init__(self, data: bytes | None, acl: int, zxid: int, time_ms: int, owner: int) -> None:
        self.data = data
        self.acl = acl
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime = self.mtime = time_ms
        self.version = self.cversion = self.aversion = 0
        self.owner = owner
        self.children: dict[str, None] | None = None
        self.digest = 0

    def stat(self, *, extended: bool) -> bytes:
        """Return the 68 bytes of its Stat."""
        children = 0 if self.children is None else len(self.children)
        owner = self.owner
        if owner and kind_of(owner, extended=extended) is not Kind.EPHEMERAL:
            owner = 0
        data = self.data
        return pack_stat(
            self.czxid, self.mzxid, self.ctime, self.mtime, self.version,
            int32(self.cversion * 2 - children), self.aversion, owner,
            0 if data is None else len(data), children, self.pzxid,
        )  # fmt: skip


class Change:
    """What a znode will be once the transactions on their way are applied."""

    __slots__ = (
        "acl", "aversion", "children_count", "ctime", "cversion", "czxid", "data", "digest",
        "gone", "mtime", "mzxid", "owner", "path", "pzxid", "version", "zxid",
    )  # fmt: skip

    data: bytes | None
    acl: Acl
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    owner: int
    children_count: int
    digest: int

    def __init__(self, path: str, zxid: int) -> None:
        self.path = path
        self.zxid = zxid
        self.gone = False


def digest_of(path: str, node: Znode | Change) -> int:
    """Return the digest of a znode, here or to come."""
    if path.startswith(SYSTEM_PREFIX):
        return 0
    if path == ROOT_ALIAS:
        path = ""
    checksum = zlib.crc32(path.encode() if path.isascii() else encode_ustring(path))
    if node.data:
        checksum = zlib.crc32(node.data, checksum)
    return zlib.crc32(
        _digested(
            node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime, node.version,
            node.cversion, node.aversion, node.owner,
        ),
        checksum,
    )  # fmt: skip


def signed64(number: int) -> int:
    """Wrap as Java's long does."""
    return (number + (1 << 63)) % _WORD - (1 << 63)
