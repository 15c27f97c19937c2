"""Transactions: what a request became once it was decided, as logged and proposed.

    +-----------+----------+-----------+-----------+----------+------------------+-------------+
    | client id | cxid     | zxid      | time ms   | type     | body by type     | TxnDigest,  |
    | 8         | 4        | 8         | 8         | 4        |                  | 12 or none  |
    +-----------+----------+-----------+-----------+----------+------------------+-------------+

Whether a digest follows shows only in whether bytes are left.  Versions in a body are the new ones,
not those asked for, so that applying a transaction again changes nothing.

Two older forms are read: a CreateTxn without parent cversion (before 3.3; -1 stands for it), and a
closeSession without the list of its ephemerals (before 3.6, and where
``closeSessionTxn.enabled=false``).  A digest alone is told from a list: read as one, it would hold
two empty paths.

Source: ``zookeeper.jute``, ``SerializeUtils.java`` (deserializeTxn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stratalog.errors import JuteError
from stratalog.wire.jute import Bool, Buffer, Int, Long, Record, Ustring, unpacker
from stratalog.wire.zookeeper.records import ACL, OpCode

DIGEST_VERSION = 2
_DIGEST_BYTES = 12
_DIGEST_HEAD = DIGEST_VERSION.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class TxnHeader(Record):
    """Who did it, when, and as which transaction; ``time`` in ms since 1970-01-01 UTC."""

    client_id: Long
    cxid: Int
    zxid: Long
    time: Long
    type: Int


@dataclass(frozen=True, slots=True)
class TxnDigest(Record):
    """The digest of the tree after the transaction."""

    version: Int
    tree_digest: Long


@dataclass(frozen=True, slots=True)
class CreateTxnV0(Record):
    """A CreateTxn of ZooKeeper before 3.3."""

    path: Ustring
    data: Buffer
    acl: tuple[ACL, ...]
    ephemeral: Bool


@dataclass(frozen=True, slots=True)
class CreateTxn(Record):
    """A znode was made; ``parent_cversion`` is the parent's from now on."""

    path: Ustring
    data: Buffer
    acl: tuple[ACL, ...]
    ephemeral: Bool
    parent_cversion: Int


@dataclass(frozen=True, slots=True)
class CreateContainerTxn(Record):
    """A container was made."""

    path: Ustring
    data: Buffer
    acl: tuple[ACL, ...]
    parent_cversion: Int


@dataclass(frozen=True, slots=True)
class CreateTTLTxn(Record):
    """A znode with a time to live was made; ``ttl`` in ms."""

    path: Ustring
    data: Buffer
    acl: tuple[ACL, ...]
    parent_cversion: Int
    ttl: Long


@dataclass(frozen=True, slots=True)
class DeleteTxn(Record):
    """A znode, or an empty container, is gone."""

    path: Ustring


@dataclass(frozen=True, slots=True)
class SetDataTxn(Record):
    """New data; ``version`` is that of the data from now on."""

    path: Ustring
    data: Buffer
    version: Int


@dataclass(frozen=True, slots=True)
class CheckVersionTxn(Record):
    """A condition of a multi held."""

    path: Ustring
    version: Int


@dataclass(frozen=True, slots=True)
class SetACLTxn(Record):
    """New ACL; ``version`` is that of the ACL from now on."""

    path: Ustring
    acl: tuple[ACL, ...]
    version: Int


@dataclass(frozen=True, slots=True)
class CreateSessionTxn(Record):
    """A session began; ``timeout`` in ms."""

    timeout: Int


@dataclass(frozen=True, slots=True)
class CloseSessionTxn(Record):
    """A session ended, and with it these ephemerals."""

    paths: tuple[Ustring, ...]


@dataclass(frozen=True, slots=True)
class ErrorTxn(Record):
    """A request that failed; it has a zxid like any other."""

    err: Int


@dataclass(frozen=True, slots=True)
class Txn(Record):
    """One part of a multi: its type and the bytes of its body."""

    type: Int
    data: Buffer


@dataclass(frozen=True, slots=True)
class MultiTxn(Record):
    """Several, under one zxid."""

    txns: tuple[Txn, ...]


BODIES: dict[int, type[Record]] = {
    OpCode.CREATE: CreateTxn,
    OpCode.CREATE2: CreateTxn,
    OpCode.CREATE_CONTAINER: CreateContainerTxn,
    OpCode.CREATE_TTL: CreateTTLTxn,
    OpCode.DELETE: DeleteTxn,
    OpCode.DELETE_CONTAINER: DeleteTxn,
    OpCode.SET_DATA: SetDataTxn,
    OpCode.RECONFIG: SetDataTxn,
    OpCode.SET_ACL: SetACLTxn,
    OpCode.CHECK: CheckVersionTxn,
    OpCode.CREATE_SESSION: CreateSessionTxn,
    OpCode.CLOSE_SESSION: CloseSessionTxn,
    OpCode.ERROR: ErrorTxn,
    OpCode.MULTI: MultiTxn,
}
"""The body that each type of transaction has."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A header, its body, and the digest if there is one."""

    header: TxnHeader
    body: Record
    digest: TxnDigest | None = None

    def encode(self) -> bytes:
        """Return the payload of a log record or a proposal."""
        out = bytearray()
        self.header.encode_into(out)
        self.body.encode_into(out)
        if self.digest is not None:
            self.digest.encode_into(out)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Transaction:
        """Decode a payload.

        Raises:
            JuteError: It is damaged, of an unknown type, or bytes follow that are no digest.
        """
        header, at = TxnHeader.decode_from(data)
        body, at = decode_body(header.type, data, at)
        digest = None
        if at < len(data):
            digest, at = TxnDigest.decode_from(data, at)
        if at != len(data):
            raise JuteError(f"{len(data) - at} bytes follow the transaction", position=at)
        return cls(header, body, digest)


def decode_body(kind: int, data: bytes, at: int = 0) -> tuple[Record, int]:
    """Decode the body of a transaction of type ``kind``; return it and where it ended.

    Raises:
        JuteError: It is damaged, or no transaction has this type.
    """
    fields, at = body_fields(kind, data, at)
    return BODIES[kind](*fields), at


def body_fields(kind: int, data: bytes, at: int = 0) -> tuple[tuple[Any, ...], int]:
    """Decode the same body into its fields, in their order.

    Raises:
        JuteError: It is damaged, or no transaction has this type.
    """
    body = BODIES.get(kind)
    if body is None:
        raise JuteError(f"{kind} is no type of a transaction", position=at)
    if body is CloseSessionTxn and (
        at == len(data) or (len(data) - at == _DIGEST_BYTES and data.startswith(_DIGEST_HEAD, at))
    ):
        return ((),), at
    if body is CreateTxn:
        old, after = unpacker(CreateTxnV0)(data, at)
        if after == len(data):
            return (*old, -1), after
    return unpacker(body)(data, at)
