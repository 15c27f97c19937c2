"""How bytes from files and pipes become records: the four formats of ``stratalog log append``.

    lines              one record a line; the newline is dropped and nothing else is touched;
                       with a key separator, what stands before its first occurrence is the key
    ndjson             one JSON object a line; fields name key, value, timestamp and headers
    raw                one record a file, whatever is in it
    length-delimited   +--------+-------+--------+-------+
                       | length | value | length | value | ...      length: 4 bytes, big-endian
                       +--------+-------+--------+-------+

Every format is a generator of blocks. A block is what one read returned and never waits for more:
when a slow program writes into the pipe, each of its lines is appended as it comes, while a file
is taken in blocks of a mebibyte, which keeps the native call large and memory small.

The JSON written by ``stratalog log cat --format ndjson`` is read back without loss by naming its
fields: bytes that are no UTF-8 travel in a sibling field with ``_base64`` after its name.

Left to others: batches, codecs and offsets (``log_commands``, the engine).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from stratalog.cli.parameters import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES: Final = 1 << 20
RECORD_BYTES_MAX: Final = 1 << 30  # of one record on its way in; refused before it is gathered
_LENGTH: Final = struct.Struct(">I")

Header = tuple[str, bytes | None]


class InputError(click.ClickException):
    """The input does not follow the format that was asked for; names the source and the place."""

    def show(self, file: Any = None) -> None:
        """Print the sentence as every other failure of ours is printed."""
        click.echo(f"stratalog: {self.message}", err=True, file=file)


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """Some records as columns of one length; ``None`` for a column no record has.

    A ``None`` key or value is Kafka's null. ``source_bytes`` is what the block took from its
    source, separators included, for the progress bar.
    """

    values: list[bytes | None]
    source_bytes: int
    keys: list[bytes | None] | None = None
    timestamps_ms: list[int] | None = None
    headers: list[tuple[Header, ...]] | None = None

    def cut(self, count_max: int) -> Iterator[RecordBlock]:
        """Yield pieces of at most ``count_max`` records; the first carries ``source_bytes``."""
        if len(self.values) <= count_max:
            yield self
            return
        for start in range(0, len(self.values), count_max):
            end = start + count_max
            yield RecordBlock(
                values=self.values[start:end],
                source_bytes=self.source_bytes if start == 0 else 0,
                keys=None if self.keys is None else self.keys[start:end],
                timestamps_ms=None if self.timestamps_ms is None else self.timestamps_ms[start:end],
                headers=None if self.headers is None else self.headers[start:end],
            )


@dataclass(frozen=True, slots=True)
class JsonFields:
    """Which fields of a JSON object make up its record; ``None``: none does."""

    key: str | None = None
    value: str | None = None
    timestamp: str | None = None
    headers: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One place to read from: a file, or standard input for ``-``."""

    name: str

    @property
    def size_bytes(self) -> int | None:
        """What there is to read, where that is known beforehand."""
        path = Path(self.name)
        return path.stat().st_size if self.name != "-" and path.is_file() else None

    def open(self) -> BinaryIO:
        """A stream of its bytes, the caller's to close."""
        if self.name == "-":
            return sys.stdin.buffer
        return Path(self.name).open("rb")

    def __str__(self) -> str:
        return "standard input" if self.name == "-" else self.name


def blocks(
    source: Source, form: str, *, fields: JsonFields, key_separator: bytes | None
) -> Iterator[RecordBlock]:
    """Yield the records of ``source`` as they arrive.

    Raises:
        InputError: the bytes do not follow ``form``; blocks before that place were yielded.
        OSError: the source cannot be read.
    """
    with source.open() as stream:
        if form == "lines":
            yield from _lines(source, stream, key_separator)
        elif form == "ndjson":
            yield from _ndjson(source, stream, fields)
        elif form == "raw":
            content = stream.read()
            yield RecordBlock([content], source_bytes=len(content))
        else:
            yield from _length_delimited(source, stream)


def _read_some(stream: BinaryIO) -> bytes:
    """What can be had now, up to READ_BYTES; empty at the end."""
    read_one = getattr(stream, "read1", stream.read)  # one read(2), not "until full"
    return bytes(read_one(READ_BYTES))


def _split_lines(source: Source, stream: BinaryIO) -> Iterator[tuple[list[bytes], int]]:
    """Yield the whole lines of each read, without newlines, and the bytes they came from."""
    pieces: list[bytes] = []  # a line that no newline has ended yet
    pieces_bytes = 0
    while block := _read_some(stream):
        head, newline, tail = block.partition(b"\n")
        pieces.append(head)
        pieces_bytes += len(head)
        if pieces_bytes > RECORD_BYTES_MAX:
            raise InputError(
                f"{source}: a line is longer than {RECORD_BYTES_MAX:,} bytes; "
                "use --format raw or length-delimited for what is not text"
            )
        if not newline:
            continue
        lines = [b"".join(pieces), *tail.split(b"\n")]
        rest = lines.pop()
        yield lines, sum(map(len, lines)) + len(lines)
        pieces, pieces_bytes = [rest], len(rest)
    if pieces_bytes:
        yield [b"".join(pieces)], pieces_bytes


def _lines(source: Source, stream: BinaryIO, separator: bytes | None) -> Iterator[RecordBlock]:
    for lines, source_bytes in _split_lines(source, stream):
        values: list[bytes | None] = [*lines]
        if separator is None:
            yield RecordBlock(values, source_bytes)
            continue
        keys: list[bytes | None] = []
        for number, line in enumerate(lines):
            key, found, value = line.partition(separator)
            keys.append(key if found else None)
            if found:
                values[number] = value
        yield RecordBlock(values, source_bytes, keys=keys)


def _length_delimited(source: Source, stream: BinaryIO) -> Iterator[RecordBlock]:
    pending = bytearray()
    position = 0  # of pending[0] in the source
    while block := _read_some(stream):
        pending += block
        values: list[bytes | None] = []
        start = 0
        while len(pending) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(pending, start)
            if length > RECORD_BYTES_MAX:
                raise InputError(
                    f"{source}: the length at position {position + start} says {length:,} bytes, "
                    f"more than {RECORD_BYTES_MAX:,}; is this really length-delimited?"
                )
            end = start + _LENGTH.size + length
            if end > len(pending):
                break
            values.append(bytes(memoryview(pending)[start + _LENGTH.size : end]))
            start = end
        del pending[:start]
        position += start
        if values:
            yield RecordBlock(values, source_bytes=start)
    if pending:
        raise InputError(
            f"{source}: ends within the record at position {position}; "
            "the records before it were appended"
        )


def _ndjson(source: Source, stream: BinaryIO, fields: JsonFields) -> Iterator[RecordBlock]:
    line_number = 0
    for lines, source_bytes in _split_lines(source, stream):
        values: list[bytes | None] = []
        keys: list[bytes | None] = []
        timestamps_ms: list[int] = []
        headers: list[tuple[Header, ...]] = []
        for line in lines:
            line_number += 1
            if not line.strip():
                continue
            try:
                entry = _json_object(line)
                values.append(line if fields.value is None else _bytes_of(entry, fields.value))
                keys.append(None if fields.key is None else _bytes_of(entry, fields.key))
                timestamps_ms.append(_timestamp_of(entry, fields.timestamp))
                headers.append(_headers_of(entry, fields.headers))
            except (ValueError, click.BadParameter) as error:
                raise InputError(f"{source} line {line_number}: {error}") from None
        if values:
            yield RecordBlock(
                values,
                source_bytes,
                keys=None if fields.key is None else keys,
                timestamps_ms=None if fields.timestamp is None else timestamps_ms,
                headers=None if fields.headers is None else headers,
            )


def _json_object(line: bytes) -> dict[str, Any]:
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (of the input, not of our types)
    return entry


def _bytes_of(entry: dict[str, Any], field: str) -> bytes | None:
    """The bytes a field stands for: text as UTF-8, null as null, anything else as its JSON."""
    encoded = entry.get(f"{field}_base64")
    if field not in entry and encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (TypeError, binascii.Error) as error:
            raise ValueError(f'"{field}_base64": {error}') from None
    content = entry.get(field)
    if content is None:
        return None
    if isinstance(content, str):
        return content.encode()
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _timestamp_of(entry: dict[str, Any], field: str | None) -> int:
    """Milliseconds from a number or an ISO 8601 text; the clock's time where there is none."""
    content = entry.get(field) if field is not None else None
    if content is None:
        return time.time_ns() // 1_000_000
    if isinstance(content, int) and not isinstance(content, bool):
        return content
    if isinstance(content, str):
        return timestamp(content)
    raise ValueError(f'"{field}" is neither milliseconds nor a time: {content!r}')


def _headers_of(entry: dict[str, Any], field: str | None) -> tuple[Header, ...]:
    """Headers from an object, or from a list of ``{"name": ..., "value": ...}``."""
    content = entry.get(field) if field is not None else None
    if content is None:
        return ()
    if isinstance(content, dict):
        return tuple((name, _bytes_of(content, name)) for name in content)
    if not isinstance(content, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in content
    ):
        raise ValueError(f'"{field}" is neither an object nor a list of names and values')
    return tuple((item["name"], _bytes_of(item, "value")) for item in content)
