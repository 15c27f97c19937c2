"""A znode: data, numbers, and its children by path.

Numbers are as they are stored; clients see two of them otherwise: ``cversion`` counts creates and
deletes there (every create but those of the children still here has its delete), and the owner of
a container or of a znode with a time to live is 0.

    ephemeral_owner    0                        persistent
                       -2^63                    container
                       0xff, 2 zero bytes,      time to live in ms, where extended types are on;
                       5 bytes                  the session of server 255 where they are off
                       any other                ephemeral: the session that it goes with

``Znode`` is one of the tree; ``children`` is None until there is one, and its keys are those of the
tree's table, so that no znode costs a name as well.  ``Change`` is what one will be once the
transactions on their way are applied.  Both lie in C (fast/types.c), where the requests that come
in numbers are handled, and so does ``digest_of``.

Source: ``DataNode.java``, ``EphemeralType.java``.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from stratalog.core.zookeeper._fast import Change, Znode, digest_of

__all__ = [
    "CONTAINER_OWNER", "TTL_MS_MAX", "Change", "Kind", "Znode", "digest_of", "int32", "kind_of",
    "owner_of_ttl", "signed64", "ttl_of_owner",
]  # fmt: skip

CONTAINER_OWNER: Final = -(1 << 63)
TTL_MS_MAX: Final = (1 << 40) - 1
_TTL_MARK: Final = 0xFF << 56
_RESERVED: Final = 0xFFFF << 40
_WORD: Final = 1 << 64


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


def signed64(number: int) -> int:
    """Wrap as Java's long does."""
    return (number + (1 << 63)) % _WORD - (1 << 63)
