"""Snapshots: written aside slice by slice, synced and renamed; the newest sound one is read.

    snapshot.5f3.tmp   begin, slices, end --> fdatasync --> rename --> fsync of the directory
    snapshot.5f3       whole: its last bytes say so, its seals prove it

Nobody ever meets half a snapshot under its name, which Apache's own writer cannot say.  The suffix
says how it is compressed: none, ``.gz``, or ``.snappy``, which is snappy-java's stream and not the
framing format:

    82 "SNAPPY" 00 | version 1, 4 bytes | compatible version 1, 4 bytes | { length 4, block } ...

Source: ``FileSnap.java``, ``SnapStream.java``, snappy-java's ``SnappyOutputStream.java``.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from stratalog.errors import CorruptSnapshotError, StorageError
from stratalog.storage.zookeeper.txn_log import names_in, sync_directory, zxid_of_name
from stratalog.wire.zookeeper.records import ACL
from stratalog.wire.zookeeper.snapshot import (
    LAST_BYTES,
    SnapshotNode,
    SnapshotReader,
    SnapshotTail,
    SnapshotWriter,
    snapshot_name,
)

_PREFIX: Final = "snapshot."
_TEMPORARY: Final = ".tmp"
COMPRESSIONS: Final = ("", "gz", "snappy")
CANDIDATES_MAX: Final = 100
"""How many snapshots a restart looks at, as Apache's."""

_SNAPPY_HEADER: Final = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_SNAPPY_BLOCK_BYTES: Final = 32 << 10
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot on the disk."""

    path: Path
    zxid: int

    @property
    def compression(self) -> str:
        """``""``, ``"gz"`` or ``"snappy"``, by its name."""
        suffix = self.path.suffix[1:]
        return suffix if suffix in COMPRESSIONS else ""


def list_snapshots(directory: Path) -> list[SnapshotFile]:
    """Return the snapshots of a directory, the newest first, sound or not."""
    found = []
    for name in names_in(directory):
        zxid = zxid_of_name(name, _PREFIX)
        if zxid is not None and not name.endswith(_TEMPORARY):
            found.append(SnapshotFile(directory / name, zxid))
    return sorted(found, key=lambda snapshot: snapshot.zxid, reverse=True)


def looks_whole(snapshot: SnapshotFile) -> bool:
    """Tell by a few bytes whether a snapshot was finished."""
    try:
        with snapshot.path.open("rb") as file:
            head = file.read(len(_SNAPPY_HEADER))
            if snapshot.compression == "gz":
                return head.startswith(_GZIP_MAGIC)
            if snapshot.compression == "snappy":
                return head == _SNAPPY_HEADER
            if file.seek(0, os.SEEK_END) < len(LAST_BYTES):
                return False
            file.seek(-len(LAST_BYTES), os.SEEK_END)
            return file.read() == LAST_BYTES
    except OSError:
        return False


def open_snapshot(
    snapshot: SnapshotFile, *, field_bytes_max: int, digest: bool = True
) -> SnapshotReader:
    """Read a snapshot's bytes into a reader of them.

    Raises:
        CorruptSnapshotError: It cannot be decompressed.
        StorageError: The system refused.
    """
    try:
        data = snapshot.path.read_bytes()
    except OSError as error:
        raise StorageError(
            error.strerror or "cannot read", path=str(snapshot.path), system_errno=error.errno or 0
        ) from error
    try:
        data = _decompressed(data, snapshot.compression)
    except CorruptSnapshotError as error:
        raise CorruptSnapshotError(error.message, path=str(snapshot.path)) from error
    return SnapshotReader(data, field_bytes_max=field_bytes_max, digest=digest)


def unpacked(data: bytes) -> bytes:
    """Return a snapshot's bytes, decompressed if their beginning says that they are compressed.

    Raises:
        CorruptSnapshotError: They cannot be decompressed.
    """
    if data.startswith(_GZIP_MAGIC):
        return _decompressed(data, "gz")
    return _decompressed(data, "snappy" if data.startswith(_SNAPPY_HEADER) else "")


def _decompressed(data: bytes, compression: str) -> bytes:
    try:
        if compression == "gz":
            return zlib.decompress(data, wbits=31)
        if compression == "snappy":
            return b"".join(_snappy_blocks(data))
    except (zlib.error, ValueError, struct.error) as error:
        raise CorruptSnapshotError(f"cannot decompress: {error}") from error
    return data


def _snappy_blocks(data: bytes) -> Iterator[bytes]:
    import cramjam  # noqa: PLC0415  (only where a snapshot needs it)

    if data[: len(_SNAPPY_HEADER)] != _SNAPPY_HEADER:
        raise ValueError("it does not begin like a snappy-java stream")
    at = len(_SNAPPY_HEADER)
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        at += 4
        if length < 0 or at + length > len(data):
            raise ValueError(f"a block of {length} bytes at position {at}")
        try:
            yield bytes(cramjam.snappy.decompress_raw(data[at : at + length]))
        except cramjam.DecompressionError as error:
            raise ValueError(str(error)) from error
        at += length


class _Plain:
    """Bytes as they are."""

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _Gzip(_Plain):
    def __init__(self) -> None:
        self._stream = zlib.compressobj(6, zlib.DEFLATED, 31)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Snappy(_Plain):
    def __init__(self) -> None:
        import cramjam  # noqa: PLC0415  (only where a snapshot needs it)

        self._compress: Any = cramjam.snappy.compress_raw
        self._out = _SNAPPY_HEADER
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        data = self._left + data
        whole = len(data) - len(data) % _SNAPPY_BLOCK_BYTES
        self._left = data[whole:]
        return self._blocks(data[:whole])

    def finish(self) -> bytes:
        return self._blocks(self._left)

    def _blocks(self, data: bytes) -> bytes:
        pieces, self._out = [self._out], b""
        for at in range(0, len(data), _SNAPPY_BLOCK_BYTES):
            block = bytes(self._compress(data[at : at + _SNAPPY_BLOCK_BYTES]))
            pieces += [struct.pack(">i", len(block)), block]
        return b"".join(pieces)


class SnapshotTarget:
    """A snapshot that is being written: ``begin``, ``nodes`` as often as wanted, ``finish``.

    ``abandon`` removes what was written; a crash leaves a ``.tmp`` that nobody reads.

    Args:
        directory: ``version-2`` of the data directory; made if it is not there.
        zxid: What the tree holds when this begins.
        compression: One of COMPRESSIONS.
    """

    def __init__(self, directory: Path, zxid: int, *, compression: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.zxid = zxid
        suffix = f".{compression}" if compression else ""
        self.path = directory / (snapshot_name(zxid) + suffix)
        self._temporary = self.path.with_name(self.path.name + _TEMPORARY)
        self._writer = SnapshotWriter()
        self._stream = {"": _Plain, "gz": _Gzip, "snappy": _Snappy}[compression]()
        self._file: IO[bytes] = self._temporary.open("wb")

    def begin(self, sessions: Mapping[int, int], acls: Mapping[int, tuple[ACL, ...]]) -> None:
        """Write sessions and ACLs."""
        self._file.write(self._stream.feed(self._writer.begin(sessions, acls)))

    def nodes(self, nodes: Iterable[SnapshotNode]) -> None:
        """Write some znodes."""
        self._file.write(self._stream.feed(self._writer.nodes(nodes)))

    def encoded(self, nodes: bytes) -> None:
        """Write some znodes whose bytes are there already."""
        self._file.write(self._stream.feed(self._writer.encoded(nodes)))

    def sync(self) -> None:
        """Sync what is written so far: little is left for ``finish`` to do.

        Raises:
            OSError: The system refused.
        """
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def settle(self, zxid: int) -> None:
        """Let it be of another zxid than it was begun with; what is written is the same."""
        suffix = self.path.suffix if self.path.suffix[1:] in COMPRESSIONS else ""
        self.zxid, self.path = zxid, self.path.with_name(snapshot_name(zxid) + suffix)

    def finish(self, tail: SnapshotTail) -> None:
        """Write the end, and give the file its name, durably; takes as long as the disk does.

        Raises:
            OSError: The system refused; nothing has the name, or the whole snapshot has it.
        """
        self._file.write(self._stream.feed(self._writer.end(tail)) + self._stream.finish())
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self.path)
        sync_directory(self.path.parent)

    def abandon(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._file.close()  # writes what it still holds, for which there may be no room
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


def remove_unfinished(directory: Path) -> None:
    """Remove what crashes left of snapshots that were being written."""
    for name in names_in(directory):
        if name.startswith(_PREFIX) and name.endswith(_TEMPORARY):
            (directory / name).unlink()
