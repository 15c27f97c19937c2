r"""Kafka's checkpoint files: text, one number to a line, replaced whole.

    0\n                      version
    2\n                      number of lines that follow
    orders 0 183042\n        offsets: topic, partition, offset
    orders 1 990\n

    0\n
    1\n
    4 120000\n               leader epochs: epoch, first offset written in it

    file                               where                what the number is
    recovery-point-offset-checkpoint   log directory        everything below was synced
    log-start-offset-checkpoint        log directory        first readable offset
    replication-offset-checkpoint      log directory        high watermark
    cleaner-offset-checkpoint          log directory        first offset not yet compacted
    leader-epoch-checkpoint            partition directory  see EpochEntry

An empty file stands for no entries: Kafka creates it before it first writes one. Encoder and
decoder are pure; ``read_*`` and ``write_*`` add the file. The engine reads and writes the one-line
form that an embedded log keeps in its own directory (files.c).

Source: CheckpointFile, OffsetCheckpointFile and LeaderEpochCheckpointFile of Apache Kafka.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from stratalog.errors import CorruptLogError, InvalidArgumentError, LogNotFoundError
from stratalog.storage.atomic_file import read_text, replace

VERSION: Final = 0
RECOVERY_POINT_FILE: Final = "recovery-point-offset-checkpoint"
LOG_START_FILE: Final = "log-start-offset-checkpoint"
REPLICATION_FILE: Final = "replication-offset-checkpoint"
CLEANER_FILE: Final = "cleaner-offset-checkpoint"
LEADER_EPOCH_FILE: Final = "leader-epoch-checkpoint"

_INT32_MAX: Final = (1 << 31) - 1
_INT64_MAX: Final = (1 << 63) - 1
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class TopicPartition(NamedTuple):
    """A partition by name; ``topic`` without white space, ``partition`` from 0."""

    topic: str
    partition: int


class EpochEntry(NamedTuple):
    """A leader epoch and ``start_offset``, the first offset that was written in it (inclusive)."""

    epoch: int
    start_offset: int


def encode_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """Encode an offset checkpoint, sorted by partition so that equal content is equal bytes.

    Raises:
        InvalidArgumentError: A topic is empty or holds white space, or a number is negative.
    """
    lines = []
    for (topic, partition), offset in sorted(offsets.items()):
        if not topic or re.search(r"\s", topic) or partition < 0 or offset < 0:
            raise InvalidArgumentError(f"not a checkpoint entry: {topic!r} {partition} {offset}")
        lines.append(f"{topic} {partition} {offset}\n")
    return _encode(lines)


def decode_offsets(text: str, *, path: str = "") -> dict[TopicPartition, int]:
    """Decode an offset checkpoint.

    Raises:
        CorruptLogError: Not such a file; the message quotes the line.
    """
    offsets: dict[TopicPartition, int] = {}
    for number, line in _entries(text, path):
        words = line.split()
        if len(words) != 3:
            raise _malformed(path, number, line)
        partition = _integer(words[1], _INT32_MAX, path, number, line)
        offsets[TopicPartition(words[0], partition)] = _integer(
            words[2], _INT64_MAX, path, number, line
        )
    return offsets


def encode_epochs(entries: Iterable[EpochEntry]) -> bytes:
    """Encode a leader-epoch checkpoint, in the order given.

    Raises:
        InvalidArgumentError: Epochs or offsets do not rise, or are negative.
    """
    lines = []
    last = EpochEntry(-1, -1)
    for entry in entries:
        if entry.epoch <= last.epoch or entry.start_offset < max(last.start_offset, 0):
            raise InvalidArgumentError(f"leader epochs must rise: {entry} after {last}")
        lines.append(f"{entry.epoch} {entry.start_offset}\n")
        last = entry
    return _encode(lines)


def decode_epochs(text: str, *, path: str = "") -> list[EpochEntry]:
    """Decode a leader-epoch checkpoint.

    Raises:
        CorruptLogError: Not such a file; the message quotes the line.
    """
    entries = []
    for number, line in _entries(text, path):
        words = line.split()
        if len(words) != 2:
            raise _malformed(path, number, line)
        entries.append(
            EpochEntry(
                _integer(words[0], _INT32_MAX, path, number, line),
                _integer(words[1], _INT64_MAX, path, number, line),
            )
        )
    return entries


def read_offsets(path: str | os.PathLike[str]) -> dict[TopicPartition, int]:
    """Read an offset checkpoint; a missing file has no entries.

    Raises:
        CorruptLogError: Not such a file.
        StorageError: The system refused.
    """
    try:
        return decode_offsets(read_text(path), path=os.fspath(path))
    except LogNotFoundError:
        return {}


def write_offsets(path: str | os.PathLike[str], offsets: Mapping[TopicPartition, int]) -> None:
    """Replace an offset checkpoint; durable on return.

    Raises:
        InvalidArgumentError: As ``encode_offsets``.
        StorageError: As ``atomic_file.replace``.
    """
    replace(path, encode_offsets(offsets))


def read_epochs(path: str | os.PathLike[str]) -> list[EpochEntry]:
    """Read a leader-epoch checkpoint; a missing file has no entries.

    Raises:
        CorruptLogError: Not such a file.
        StorageError: The system refused.
    """
    try:
        return decode_epochs(read_text(path), path=os.fspath(path))
    except LogNotFoundError:
        return []


def write_epochs(path: str | os.PathLike[str], entries: Iterable[EpochEntry]) -> None:
    """Replace a leader-epoch checkpoint; durable on return.

    Raises:
        InvalidArgumentError: As ``encode_epochs``.
        StorageError: As ``atomic_file.replace``.
    """
    replace(path, encode_epochs(entries))


def _encode(lines: list[str]) -> bytes:
    return f"{VERSION}\n{len(lines)}\n{''.join(lines)}".encode()


def _malformed(path: str, number: int, line: str) -> CorruptLogError:
    return CorruptLogError(f"checkpoint line {number} is malformed: {line[:80]!r}", path=path)


def _integer(word: str, limit: int, path: str, number: int, line: str) -> int:
    if not _NUMBER.fullmatch(word) or not 0 <= int(word) <= limit:
        raise _malformed(path, number, line)
    return int(word)


def _entries(text: str, path: str) -> list[tuple[int, str]]:
    """The entry lines with their numbers in the file, from 3 on; checks version and count."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) < 2:
        # Kafka makes the file before it writes it: no line, or a version alone, is no entry.
        if lines and lines[0] != str(VERSION):
            raise _malformed(path, 1, lines[0])
        return []
    if lines[0] != str(VERSION):
        raise CorruptLogError(
            f"checkpoint version {lines[0][:20]!r} is not known, only {VERSION}", path=path
        )
    count = _integer(lines[1], _INT32_MAX, path, 2, lines[1])
    entries = list(enumerate(lines[2:], start=3))
    if len(entries) != count:
        raise CorruptLogError(
            f"the checkpoint announces {count} entries and holds {len(entries)}", path=path
        )
    return entries
