"""The bytes of a snapshot, ``snapshot.<last zxid at its start, in hex>``.

    +--------+-----------+---------+
    | "ZKSN" | version 2 | dbid -1 |                       header
    | 4      | 4         | 8       |
    +--------+-----------+---------+
    | count 4 | { session id 8, timeout ms 4 } ...  |       sessions
    +---------+---------------------------------------+
    | count 4 | { index 8, vector of ACL } ...        |     ACLs, each once
    +---------+---------------------------------------+
    | { path, data buffer, ACL index 8, StatPersisted 60 } ... "/" |    znodes, a parent before its
    +--------------------------------------------------------------+    children; the root is ""
    | Adler-32 8 | "/" |                                    seal
    +------------+-----+
    | zxid 8 | version 4 | digest 8 | seal |                digest of the tree, where it is kept
    +--------+-----------+----------+------+
    | zxid 8 | seal |                                       last zxid, from 3.9 on
    +--------+------+

A seal's Adler-32 is that of every byte before it, earlier seals included.  ACL index -1 is
world:anyone with all permissions.

A snapshot is taken while the tree changes: it may hold later states of some znodes than of others,
and replaying the log from its zxid on mends that (storage).  It is written and read in pieces here,
so that neither side holds a million znodes at once.

Source: ``FileSnap.java``, ``SerializeUtils.java``, ``DataTree.java`` (serialize),
``ReferenceCountedACLCache.java``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from stratalog.errors import CorruptSnapshotError, JuteError
from stratalog.wire.jute import decode_ustring, encode_ustring
from stratalog.wire.zookeeper.records import ACL

MAGIC: Final = b"ZKSN"
VERSION: Final = 2
DBID: Final = -1
OPEN_ACL_INDEX: Final = -1
DIGEST_VERSION: Final = 2

_HEADER: Final = struct.Struct(">4siq")
_INT: Final = struct.Struct(">i")
_LONG: Final = struct.Struct(">q")
_SESSION: Final = struct.Struct(">qi")
_NODE_TAIL: Final = struct.Struct(">qqqqqiiiqq")
_DIGEST: Final = struct.Struct(">qiq")
_END_PATH: Final = b"\x00\x00\x00\x01/"
LAST_BYTES: Final = _END_PATH
"""What a finished snapshot ends with, and the cheap sign that one is finished."""


class SnapshotNode(NamedTuple):
    """A znode of a snapshot, with the numbers of a StatPersisted; ``path`` of the root is ""."""

    path: str
    data: bytes | None
    acl_index: int
    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    pzxid: int


@dataclass(frozen=True, slots=True)
class TreeDigest:
    """The digest that the tree had at ``zxid``."""

    zxid: int
    version: int
    digest: int


@dataclass(slots=True)
class SnapshotHead:
    """What stands before the znodes: sessions by id with their timeout in ms, ACLs by index."""

    sessions: dict[int, int] = field(default_factory=dict)
    acls: dict[int, tuple[ACL, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SnapshotTail:
    """What stands behind the znodes, None where it does not."""

    digest: TreeDigest | None = None
    last_zxid: int | None = None


def snapshot_name(zxid: int) -> str:
    """Return the name of the snapshot that was begun at ``zxid``."""
    return f"snapshot.{zxid & 0xFFFFFFFFFFFFFFFF:x}"


# ---- writing ----


class SnapshotWriter:
    """The bytes of a snapshot, piece by piece: ``begin``, ``nodes`` as often as wanted, ``end``.

    Each answers the bytes to write; the checksum goes along.
    """

    def __init__(self) -> None:
        self._adler = 1

    def begin(self, sessions: Mapping[int, int], acls: Mapping[int, tuple[ACL, ...]]) -> bytes:
        """Return the header, the sessions and the ACLs."""
        out = bytearray(_HEADER.pack(MAGIC, VERSION, DBID))
        out += _INT.pack(len(sessions))
        for session_id, timeout_ms in sessions.items():
            out += _SESSION.pack(session_id, timeout_ms)
        out += _INT.pack(len(acls))
        for index, entries in acls.items():
            out += _LONG.pack(index)
            out += _INT.pack(len(entries))
            for entry in entries:
                entry.encode_into(out)
        return self._counted(out)

    def nodes(self, nodes: Iterable[SnapshotNode]) -> bytes:
        """Return some znodes; a parent comes before its children."""
        out = bytearray()
        length_of = _INT.pack
        for path, data, *numbers in nodes:
            encoded = path.encode() if path.isascii() else encode_ustring(path)
            out += length_of(len(encoded))
            out += encoded
            if data is None:
                out += length_of(-1)
            else:
                out += length_of(len(data))
                out += data
            out += _NODE_TAIL.pack(*numbers)
        return self._counted(out)

    def encoded(self, nodes: bytes) -> bytes:
        """Return some znodes whose bytes are there already."""
        return self._counted(nodes)

    def end(self, tail: SnapshotTail) -> bytes:
        """Return the end of the znodes, the seals, the digest and the last zxid where given."""
        out = self._counted(bytearray(_END_PATH)) + self._seal()
        if tail.digest is not None:
            digest = tail.digest
            section = bytearray(_DIGEST.pack(digest.zxid, digest.version, digest.digest))
            out += self._counted(section) + self._seal()
        if tail.last_zxid is not None:
            out += self._counted(bytearray(_LONG.pack(tail.last_zxid))) + self._seal()
        return out

    def _counted(self, piece: bytes | bytearray) -> bytes:
        self._adler = zlib.adler32(piece, self._adler)
        return bytes(piece)

    def _seal(self) -> bytes:
        return self._counted(bytearray(_LONG.pack(self._adler) + _END_PATH))


# ---- reading ----

Take = Callable[[bytes, int, int], int]


class SnapshotReader:
    """A snapshot read from bytes, in its order: ``head``, then ``nodes``, then ``tail``.

    Args:
        data: The whole file, decompressed.
        field_bytes_max: A longer path or data is damage.
        digest: Whether a digest is expected (it stands there if its writer kept digests).
    """

    def __init__(self, data: bytes, *, field_bytes_max: int, digest: bool = True) -> None:
        self._data = data
        self._field_bytes_max = field_bytes_max
        self._with_digest = digest
        self._at = 0
        self._adler = 1
        self._summed = 0

    def head(self) -> SnapshotHead:
        """Read header, sessions and ACLs.

        Raises:
            CorruptSnapshotError: They are not what they should be.
        """
        magic, version, _dbid = self._unpack(_HEADER)
        if magic != MAGIC:
            raise CorruptSnapshotError(
                f"a snapshot begins with {MAGIC!r}, not {magic!r}", position=0
            )
        if version != VERSION:
            raise CorruptSnapshotError(f"version {version} of snapshots is unknown", position=4)
        head = SnapshotHead()
        for _ in range(self._count(_SESSION.size)):
            session_id, timeout_ms = self._unpack(_SESSION)
            head.sessions[session_id] = timeout_ms
        for _ in range(self._count(_LONG.size + _INT.size)):
            (index,) = self._unpack(_LONG)
            entries = []
            for _ in range(self._count(_INT.size)):
                try:
                    entry, self._at = ACL.decode_from(self._data, self._at)
                except JuteError as error:
                    raise CorruptSnapshotError(error.message, position=error.position) from None
                entries.append(entry)
            head.acls[index] = tuple(entries)
        return head

    def nodes(self, take: Take | None = None) -> Iterator[SnapshotNode]:
        """Read the znodes.

        Args:
            take: May take some itself: it gets all bytes, a position and ``field_bytes_max``, and
                returns the position behind those that it took, each whole.

        Raises:
            CorruptSnapshotError: One is not what it should be; those before it were yielded.
        """
        while True:
            if take is not None:
                self._at = take(self._data, self._at, self._field_bytes_max)
            path = self._field()
            if path is None:
                raise CorruptSnapshotError("a znode without a path", position=self._at)
            if path == b"/":
                return
            content = self._field()
            yield SnapshotNode(decode_ustring(path), content, *self._unpack(_NODE_TAIL))

    def tail(self) -> SnapshotTail:
        """Read what stands behind the znodes, and hold every seal against the bytes.

        Raises:
            CorruptSnapshotError: A seal does not fit, or the file ends early.
        """
        self._check_seal()
        digest = None
        if self._with_digest and self._at < len(self._data):
            digest = TreeDigest(*self._unpack(_DIGEST))
            self._check_seal()
        last_zxid = None
        if self._at < len(self._data):
            (last_zxid,) = self._unpack(_LONG)
            self._check_seal()
        if self._at != len(self._data):
            raise CorruptSnapshotError(
                f"{len(self._data) - self._at} bytes follow", position=self._at
            )
        return SnapshotTail(digest, last_zxid)

    def _check_seal(self) -> None:
        piece = memoryview(self._data)[self._summed : self._at]
        self._adler = zlib.adler32(piece, self._adler)
        self._summed = self._at
        position = self._at
        (seal,) = self._unpack(_LONG)
        if seal != self._adler:
            raise CorruptSnapshotError("Adler-32 mismatch", position=position)
        if self._field() != b"/":
            raise CorruptSnapshotError('a seal ends with "/"', position=position)

    def _unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        start = self._at
        if start + form.size > len(self._data):
            raise CorruptSnapshotError("the file ends early", position=start)
        self._at = start + form.size
        return form.unpack_from(self._data, start)

    def _count(self, least_bytes: int) -> int:
        """Read how many items follow, each of ``least_bytes`` at least."""
        position = self._at
        count: int = self._unpack(_INT)[0]
        if count < -1 or count * least_bytes > len(self._data) - self._at:
            raise CorruptSnapshotError(f"a count of {count}", position=position)
        return max(count, 0)

    def _field(self) -> bytes | None:
        position = self._at
        (length,) = self._unpack(_INT)
        if length == -1:
            return None
        end = self._at + length
        if length < 0 or length > self._field_bytes_max or end > len(self._data):
            raise CorruptSnapshotError(f"a field of {length} bytes", position=position)
        start, self._at = self._at, end
        return bytes(self._data[start:end])
