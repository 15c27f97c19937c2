"""What other programs read: records in five formats, and JSON.

    lines    value, newline; with a key separator key and separator stand before the value, unless
             the key is null, so that ``append`` with the same separator makes the same records
    raw      value, nothing between                  (what went in as one file comes out as one)
    ndjson   {"offset":7,"timestamp_ms":1767225600000,"key":"k","value":"v",
              "headers":[{"name":"n","value":"v"}]}, all in one line;
             a field that is no UTF-8 text is called key_base64 or value_base64 instead
    hex      one heading a record, then sixteen bytes a line with their text beside them
    table    one row a record, cut to the width of the terminal

``lines`` and ``raw`` give the bytes that were appended, whatever they are. ``hex`` and ``table``
are for eyes: control characters are escaped there, so that a record cannot steer a terminal.

Left to others: which records (``log_commands``), tables and bars (``screen``), and how a command
ends (``cli/__init__``).
"""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import click

from stratalog.cli.parameters import format_timestamp, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PREVIEW_CHARACTERS: Final = 200
TABLE_ROWS_MAX: Final = 1000  # a table is laid out as a whole, so it has a limit
WRITE_BYTES: Final = 1 << 18

Bytes = bytes | memoryview | None


class RecordLike(Protocol):
    """What the writers need to know of a record."""

    @property
    def offset(self) -> int:
        """Its number in the log."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC, -1 for none."""

    @property
    def key(self) -> Bytes:
        """Its key; ``None`` for Kafka's null."""

    @property
    def value(self) -> Bytes:
        """Its value; ``None`` for Kafka's null, which is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, Bytes]]:
        """Names and values, in order; a name may come twice."""


# ---- records -----------------------------------------------------------------------------------


class RecordWriter:
    """Writes records to a byte stream in one of the formats above.

    Bytes are gathered and written a quarter mebibyte at a time; ``flush`` sends on what is there,
    and whoever follows a log calls it whenever the log has nothing more to give.

    Raises:
        BrokenPipeError: the reader went away (expected; the command ends quietly).
    """

    def __init__(self, form: str, *, key_separator: bytes | None = None) -> None:
        self._stream: BinaryIO = sys.stdout.buffer
        self._form = form
        self._key_separator = key_separator
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._rows: list[RecordLike] = []

    def write(self, record: RecordLike) -> None:
        """Take one record."""
        if self._form == "lines":
            if self._key_separator is not None and record.key is not None:
                self._put(bytes(record.key))
                self._put(self._key_separator)
            self._put(bytes(record.value or b""))
            self._put(b"\n")
        elif self._form == "raw":
            self._put(bytes(record.value or b""))
        elif self._form == "ndjson":
            self._put(json_line(record_entry(record)).encode())
        elif self._form == "hex":
            for line in hex_lines(record):
                self._put(line.encode() + b"\n")
        else:
            self._rows.append(record)
            if len(self._rows) >= TABLE_ROWS_MAX:
                self._print_rows()

    def _put(self, piece: bytes) -> None:
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes >= WRITE_BYTES:
            self._drain()

    def _drain(self) -> None:
        block = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        if block:
            self._stream.write(block)

    def _print_rows(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            print_records(rows)

    def flush(self) -> None:
        """Send on everything taken so far."""
        self._print_rows()
        self._drain()
        self._stream.flush()


def text_field(name: str, content: Bytes) -> dict[str, str | None]:
    """``content`` as one JSON field: UTF-8 text, or base64 under a name that says so."""
    if content is None:
        return {name: None}
    try:
        return {name: str(content, "utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode("ascii")}


def record_entry(record: RecordLike) -> dict[str, Any]:
    """``record`` as the object of an ndjson line; ``input.JsonFields`` reads it back."""
    return {
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        **text_field("key", record.key),
        **text_field("value", record.value),
        "headers": [{"name": name, **text_field("value", value)} for name, value in record.headers],
    }


def json_line(entry: object) -> str:
    """``entry`` as one line of JSON, newline included."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def hex_lines(record: RecordLike) -> Iterator[str]:
    """A heading, then every byte of key, value and headers."""
    yield f"offset {record.offset}  {format_timestamp(record.timestamp_ms)}"
    parts: list[tuple[str, Bytes]] = [("key", record.key), ("value", record.value)]
    parts += [(f"header {escape(name.encode())}", value) for name, value in record.headers]
    for name, content in parts:
        if content is None:
            yield f"  {name} null"
            continue
        yield f"  {name} {plural(len(content), 'byte')}"
        for start in range(0, len(content), 16):
            row = bytes(content[start : start + 16])
            spelled = " ".join(f"{byte:02x}" for byte in row)
            text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
            yield f"    {start:08x}  {spelled:<47}  |{text}|"


def escape(content: Bytes) -> str:
    """One printable line for ``content``: its text, or hexadecimal where it is none."""
    if content is None:
        return "null"
    preview = bytes(content[: 4 * PREVIEW_CHARACTERS])
    try:
        text = preview.decode("utf-8", "strict" if len(preview) == len(content) else "ignore")
    except UnicodeDecodeError:
        return "0x" + preview.hex()
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in text
        )
    return text


def print_records(records: Iterable[RecordLike]) -> None:
    """One row a record; a long value is cut at the edge of the table."""
    from stratalog.cli import screen  # noqa: PLC0415  (rich is slow to import)

    screen.print_table(
        ("offset", "time", "key", "value", "bytes"),
        (
            (
                f"{record.offset}",
                format_timestamp(record.timestamp_ms),
                escape(record.key),
                escape(record.value),
                "-" if record.value is None else f"{len(record.value):,}",
            )
            for record in records
        ),
        right=("offset", "bytes"),
        stretch="value",
    )


def print_json(entry: object) -> None:
    """Print one JSON document: a single line, for the next program to read."""
    click.echo(json_line(entry), nl=False)
