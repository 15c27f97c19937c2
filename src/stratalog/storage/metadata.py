r"""Kafka's metadata files: who a partition, a log directory and its last shutdown are.

    partition.metadata      version: 0\ntopic_id: <22 characters, base64url of a UUID>
    meta.properties         Java properties
                            version=0  broker.id  cluster.id            a ZooKeeper-mode broker
                            version=1  node.id  cluster.id  directory.id     a KRaft node
    .kafka_cleanshutdown    {"version":0,"brokerEpoch":7}    its existence is what counts

Each class encodes, decodes, reads and writes one of them; all are replaced whole (atomic_file.py),
but the clean-shutdown mark, which is written once nothing else will be, and removed before a log
directory is loaded.

Source: PartitionMetadataFile, MetaProperties, PropertiesUtils, CleanShutdownFileHandler of Apache
Kafka.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from stratalog.errors import CorruptLogError, InvalidArgumentError, LogNotFoundError, StorageError
from stratalog.storage.atomic_file import read_text, replace

PARTITION_METADATA_FILE: Final = "partition.metadata"
META_PROPERTIES_FILE: Final = "meta.properties"
CLEAN_SHUTDOWN_FILE: Final = ".kafka_cleanshutdown"

_ZERO: Final = uuid.UUID(int=0)


def encode_uuid(value: uuid.UUID) -> str:
    """Write a UUID as Kafka does: 22 characters of unpadded base64url."""
    return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")


def decode_uuid(text: str) -> uuid.UUID:
    """Read a UUID of Kafka's.

    Raises:
        InvalidArgumentError: Not 16 bytes of base64url.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return uuid.UUID(bytes=data)
    except (ValueError, binascii.Error):
        raise InvalidArgumentError(f"not a Kafka UUID: {text[:40]!r}") from None


@dataclass(frozen=True, slots=True)
class PartitionMetadata:
    """``partition.metadata``: the topic's identity, which its name is not."""

    topic_id: uuid.UUID
    version: int = 0

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return f"version: {self.version}\ntopic_id: {encode_uuid(self.topic_id)}".encode()

    @classmethod
    def decode(cls, text: str, *, path: str = "") -> Self:
        """Decode the file.

        Raises:
            CorruptLogError: Not such a file, an unknown version, or the zero UUID.
        """
        fields = {}
        for number, line in enumerate(text.splitlines(), start=1):
            name, separator, value = line.partition(":")
            if not separator or name.strip() in fields:
                raise CorruptLogError(f"line {number} is malformed: {line[:80]!r}", path=path)
            fields[name.strip()] = value.strip()
        if fields.get("version") != "0":
            raise CorruptLogError(
                f"partition.metadata version {fields.get('version')!r} is not known, only 0",
                path=path,
            )
        try:
            topic_id = decode_uuid(fields.get("topic_id", ""))
        except InvalidArgumentError as error:
            raise CorruptLogError(error.message, path=path) from None
        if topic_id == _ZERO:
            raise CorruptLogError("the topic id is the zero UUID", path=path)
        return cls(topic_id)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read the file; LogNotFoundError when there is none."""
        return cls.decode(read_text(path), path=os.fspath(path))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Replace the file; durable on return."""
        replace(path, self.encode())


@dataclass(frozen=True, slots=True)
class MetaProperties:
    """``meta.properties``: which node of which cluster a log directory belongs to."""

    cluster_id: str
    node_id: int
    version: int = 1
    directory_id: uuid.UUID | None = None

    def encode(self) -> bytes:
        """Return the file's bytes: two comment lines, then the properties, sorted."""
        properties = {"version": str(self.version), "cluster.id": self.cluster_id}
        properties["broker.id" if self.version == 0 else "node.id"] = str(self.node_id)
        if self.directory_id is not None:
            properties["directory.id"] = encode_uuid(self.directory_id)
        lines = [f"{key}={_escape(value)}\n" for key, value in sorted(properties.items())]
        return ("#\n#Written by stratalog\n" + "".join(lines)).encode()

    @classmethod
    def decode(cls, text: str, *, path: str = "") -> Self:
        """Decode the file; keys that are not ours are passed over, as Kafka does.

        Raises:
            CorruptLogError: A required key is missing or no number, or the version is not known.
        """
        properties = _decode_properties(text)
        # A file without a version is of version 0, as Kafka 0.8 wrote it.
        version = _number(properties.get("version", "0"), "version", path)
        if version not in (0, 1):
            raise CorruptLogError(
                f"meta.properties version {version} is not known, only 0 and 1", path=path
            )
        key = "broker.id" if version == 0 else "node.id"
        if key not in properties:
            raise CorruptLogError(f"meta.properties has no {key}", path=path)
        directory_id = None
        if "directory.id" in properties:
            try:
                directory_id = decode_uuid(properties["directory.id"])
            except InvalidArgumentError as error:
                raise CorruptLogError(f"directory.id: {error.message}", path=path) from None
        return cls(
            cluster_id=properties.get("cluster.id", ""),
            node_id=_number(properties[key], key, path),
            version=version,
            directory_id=directory_id,
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read the file; LogNotFoundError when there is none."""
        return cls.decode(read_text(path), path=os.fspath(path))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Replace the file; durable on return."""
        replace(path, self.encode())


@dataclass(frozen=True, slots=True)
class CleanShutdown:
    """``.kafka_cleanshutdown``: every log of this directory was closed in order."""

    broker_epoch: int = -1

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return json.dumps(
            {"version": 0, "brokerEpoch": self.broker_epoch}, separators=(",", ":")
        ).encode()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self | None:
        """Return the mark, or None when there is none.

        What the file says is secondary: one that cannot be decoded (an old Kafka leaves it empty)
        is a mark without a broker epoch.
        """
        try:
            content = json.loads(read_text(path))
        except LogNotFoundError:
            return None
        except (ValueError, CorruptLogError):
            return cls()
        epoch = content.get("brokerEpoch") if isinstance(content, dict) else None
        return cls(epoch) if isinstance(epoch, int) and not isinstance(epoch, bool) else cls()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Leave the mark; durable on return."""
        replace(path, self.encode())

    @staticmethod
    def take(path: str | os.PathLike[str]) -> CleanShutdown | None:
        """Remove the mark and return it, before anything in the directory is opened for writing.

        The removal is synced: a mark that came back after a power loss would vouch for logs that
        nobody closed.

        Raises:
            StorageError: The system refused.
        """
        mark = CleanShutdown.read(path)
        if mark is None:
            return None
        file = Path(path)
        try:
            file.unlink()
            directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StorageError(
                error.strerror or "cannot remove", path=str(file), system_errno=error.errno or 0
            ) from error
        return mark


def _number(text: str, key: str, path: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CorruptLogError(f"{key} is no number: {text[:40]!r}", path=path) from None


def _escape(value: str) -> str:
    """Escape what a reader of Java properties would take for syntax."""
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    for character in "#!=:":
        escaped = escaped.replace(character, "\\" + character)
    return "\\ " + escaped[1:] if escaped.startswith(" ") else escaped


def _decode_properties(text: str) -> dict[str, str]:
    """Decode what one-line entries of Java's format need: comments, separators, escapes."""
    properties: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.lstrip(" \t\f")
        if not line or line[0] in "#!":
            continue
        key: list[str] = []
        at = 0
        while at < len(line) and line[at] not in "=: \t\f":
            if line[at] == "\\" and at + 1 < len(line):
                at += 1
            key.append(line[at])
            at += 1
        rest = line[at:].lstrip(" \t\f")
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(" \t\f")
        properties["".join(key)] = _unescape(rest)
    return properties


def _unescape(value: str) -> str:
    plain: list[str] = []
    at = 0
    named = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
    while at < len(value):
        if value[at] == "\\" and at + 1 < len(value):
            at += 1
            if value[at] == "u" and len(value) - at > 4:
                try:
                    plain.append(chr(int(value[at + 1 : at + 5], 16)))
                    at += 5
                    continue
                except ValueError:
                    pass
            plain.append(named.get(value[at], value[at]))
        else:
            plain.append(value[at])
        at += 1
    return "".join(plain)
