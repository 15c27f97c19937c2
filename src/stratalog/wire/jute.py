"""Jute, the serialization of ZooKeeper: fields one after the other, no tags, big-endian.

    bool      1 byte, 0 or 1
    int       4 bytes            long     8 bytes              two's complement
    ustring   int length, UTF-8  buffer   int length, bytes    length -1: null
    vector    int count, items                                 count -1: null

A record is its fields in the order of their declaration.  Nothing in the bytes says which record it
is or where it ends: a reader must know, and an optional field can only be told by the end of the
frame.  A record is declared as a frozen dataclass whose annotations name the types:

    @dataclass(frozen=True, slots=True)
    class SetDataRequest(Record):
        path: Ustring
        data: Buffer
        version: Int

    SetDataRequest("/a", b"x", -1).encode()
    SetDataRequest.decode(frame)               the whole frame, or a JuteError
    SetDataRequest.decode_from(data, 0)        a record and where it ended
    packer(SetDataRequest)("/a", b"x", -1)     bytes of the fields, without a record: for hot paths
    unpacker(SetDataRequest)(data, 0)          the fields as a tuple, and where they ended

Strings.  Java writes each UTF-16 code unit on its own, so a character beyond U+FFFF goes out as two
groups of three bytes (CESU-8) and comes back, by a strict decoder, as replacement characters.  Both
are kept: files and peers must see the same bytes.

Hostile bytes.  A length is compared with what is left before anything is allocated, a count with
what its items take at least.

Speed.  The two at the end are written out for each record as straight-line Python, numbers side by
side in one struct, and compiled once.  Whatever such code does not expect, a null or bytes that end
early, it hands to the slow way, which knows every case and names the field.

Left to others: framing (net), which record comes when (zookeeper/).

Source: zookeeper-jute ``BinaryOutputArchive.java``, ``BinaryInputArchive.java``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Annotated, Any, Final, Self, TypeAlias, get_args, get_origin, get_type_hints

from stratalog.errors import JuteError

__all__ = [
    "Bool", "Buffer", "Int", "Long", "NullableUstring", "Record", "Ustring",
    "decode_ustring", "encode_ustring", "packer", "unpacker",
]  # fmt: skip

_INT: Final = struct.Struct(">i")
_NULL: Final = b"\xff\xff\xff\xff"
_FOUR_BYTE_LEAD: Final = 0xF0
_REPLACED: Final = "\ufffd".encode()
_half_pair: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


# ---- strings ----


def encode_ustring(text: str) -> bytes:
    """Encode as Java's writer does: UTF-8, but each half of a surrogate pair on its own."""
    encoded = text.encode("utf-8", "surrogatepass")
    if max(encoded, default=0) < _FOUR_BYTE_LEAD:
        return encoded
    units = text.encode("utf-16-be", "surrogatepass")
    halves = "".join(map(chr, struct.unpack(f">{len(units) // 2}H", units)))
    return halves.encode("utf-8", "surrogatepass")


def decode_ustring(data: bytes) -> str:
    """Decode as Java's reader does: what is not UTF-8 becomes U+FFFD, half a pair one of them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _half_pair.sub(_REPLACED, data).decode("utf-8", "replace")


# ---- types: each writes a value behind others and reads it from a position ----


class _Type:
    """How one field stands in the bytes."""

    least_bytes: int = 0

    def write(self, out: bytearray, value: Any) -> None:
        raise NotImplementedError

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        raise NotImplementedError

    def encoded(self, value: Any) -> bytes:
        out = bytearray()
        self.write(out, value)
        return bytes(out)


class _Number(_Type):
    def __init__(self, code: str) -> None:
        self.code = code
        self._struct = struct.Struct(">" + code)
        self.least_bytes = self._struct.size

    def write(self, out: bytearray, value: Any) -> None:
        try:
            out += self._struct.pack(value)
        except struct.error as error:
            raise JuteError(f"{value!r} does not fit its field: {error}") from error

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        try:
            (value,) = self._struct.unpack_from(data, at)
        except struct.error:
            raise JuteError(_short(data, at, self.least_bytes), position=at) from None
        return value, at + self.least_bytes


def _short(data: bytes, at: int, wanted_bytes: int) -> str:
    left = max(0, len(data) - at)
    return f"{wanted_bytes} bytes are wanted, {left} are left"


class _Bytes(_Type):
    """Length and bytes; ``nullable`` says whether length -1 is a value."""

    least_bytes = 4

    def __init__(self, *, nullable: bool) -> None:
        self._nullable = nullable

    def _read(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        if len(data) - at < self.least_bytes:
            raise JuteError(_short(data, at, 4), position=at)
        (length,) = _INT.unpack_from(data, at)
        start = at + 4
        if length < 0:
            if length == -1 and self._nullable:
                return None, start
            raise JuteError(f"length {length}", position=at)
        end = start + length
        if end > len(data):
            raise JuteError(_short(data, start, length), position=at)
        return bytes(data[start:end]), end

    def _write(self, out: bytearray, value: bytes | None) -> None:
        if value is None:
            if not self._nullable:
                raise JuteError("null in a field that must have a value")
            out += _NULL
            return
        out += _INT.pack(len(value))
        out += value


class _Buffer(_Bytes):
    def write(self, out: bytearray, value: Any) -> None:
        self._write(out, value)

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        return self._read(data, at)


class _Text(_Bytes):
    def write(self, out: bytearray, value: Any) -> None:
        self._write(out, None if value is None else encode_ustring(value))

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        value, end = self._read(data, at)
        return None if value is None else decode_ustring(value), end


class _Vector(_Type):
    """Count and items; null reads as no items, which is what every reader makes of it.

    The last short one read and the last one written are kept beside their bytes: nearly all ACLs of
    a server are the same.  No encoding is the beginning of another, so bytes that begin with the
    kept ones are the same vector.
    """

    least_bytes = 4
    _KEPT_BYTES_MAX = 256

    def __init__(self, item: _Type) -> None:
        self._item = item
        self._read: tuple[tuple[Any, ...], bytes] = ((), bytes(4))
        self._written: tuple[tuple[Any, ...], bytes] = ((), bytes(4))

    def write(self, out: bytearray, value: Any) -> None:
        out += _INT.pack(len(value))
        for item in value:
            self._item.write(out, item)

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        if len(data) - at < self.least_bytes:
            raise JuteError(_short(data, at, 4), position=at)
        items_kept, bytes_kept = self._read
        if data.startswith(bytes_kept, at):
            return items_kept, at + len(bytes_kept)
        (count,) = _INT.unpack_from(data, at)
        start = at
        at += 4
        if count == -1:
            return (), at
        if count < 0 or count * max(1, self._item.least_bytes) > len(data) - at:
            raise JuteError(
                f"a count of {count} items, {len(data) - at} bytes left", position=start
            )
        items = []
        for _ in range(count):
            item, at = self._item.read(data, at)
            items.append(item)
        values = tuple(items)
        if at - start <= self._KEPT_BYTES_MAX:
            self._read = values, bytes(data[start:at])
        return values, at

    def encoded(self, value: Any) -> bytes:
        items_kept, bytes_kept = self._written
        if value is items_kept:
            return bytes_kept
        encoded = super().encoded(value)
        if isinstance(value, tuple) and len(encoded) <= self._KEPT_BYTES_MAX:
            self._written = value, encoded
        return encoded


class _Nested(_Type):
    def __init__(self, record: type[Record]) -> None:
        self._record = record
        self.least_bytes = sum(kind.least_bytes for _, kind in _layout(record))

    def write(self, out: bytearray, value: Any) -> None:
        value.encode_into(out)

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        return self._record.decode_from(data, at)


Bool: TypeAlias = Annotated[bool, _Number("?")]
Int: TypeAlias = Annotated[int, _Number("i")]
Long: TypeAlias = Annotated[int, _Number("q")]
Ustring: TypeAlias = Annotated[str, _Text(nullable=False)]
NullableUstring: TypeAlias = Annotated[str | None, _Text(nullable=True)]
Buffer: TypeAlias = Annotated[bytes | None, _Buffer(nullable=True)]


# ---- records ----


class Record:
    """A record of Jute: a frozen dataclass whose annotations are the types above.

    A field may also be another record, or a ``tuple[item, ...]``, which is a vector.
    """

    __slots__ = ()

    def encode_into(self, out: bytearray) -> None:
        """Append the record's bytes to ``out``.

        Raises:
            JuteError: A value does not fit its field; names the field.
        """
        for name, kind in _layout(type(self)):
            try:
                kind.write(out, getattr(self, name))
            except (JuteError, TypeError) as error:
                raise JuteError(f"{type(self).__name__}.{name}: {error}") from error

    def encode(self) -> bytes:
        """Return the record's bytes; raises JuteError as above."""
        record = type(self)
        return packer(record)(*(getattr(self, name) for name, _ in _layout(record)))

    @classmethod
    def decode_from(cls, data: bytes, at: int = 0) -> tuple[Self, int]:
        """Decode the record at position ``at``; return it and the position after it.

        Raises:
            JuteError: The bytes end early, or a length or count cannot be; names the field.
        """
        values, at = unpacker(cls)(data, at)
        return cls(*values), at

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode a record that is all of ``data``.

        Raises:
            JuteError: As above, or bytes follow.
        """
        value, end = cls.decode_from(data)
        if end != len(data):
            raise JuteError(f"{len(data) - end} bytes follow a {cls.__name__}", position=end)
        return value


# ---- records without records: fields from bytes and back ----

Packer: TypeAlias = Callable[..., bytes]
Unpacker: TypeAlias = Callable[[bytes, int], tuple[tuple[Any, ...], int]]


def packer(record: type[Record]) -> Packer:
    """Return the function that makes a record's bytes from its fields, in their order.

    It raises JuteError, naming the field, where a value does not fit.
    """
    return _compiled(record)[0]


def unpacker(record: type[Record]) -> Unpacker:
    """Return the function that reads the fields at a position: ``(fields, position after them)``.

    It raises JuteError, naming the field, where the bytes end early or cannot be.
    """
    return _compiled(record)[1]


def _unpack_slowly(record: type[Record], data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
    values = []
    for name, kind in _layout(record):
        try:
            value, at = kind.read(data, at)
        except JuteError as error:
            raise JuteError(
                f"{record.__name__}.{name}: {error.message}", position=error.position
            ) from None
        values.append(value)
    return tuple(values), at


def _pack_slowly(record: type[Record], *values: Any) -> bytes:
    out = bytearray()
    record(*values).encode_into(out)
    return bytes(out)


_compilations: Final[dict[type[Record], tuple[Packer, Unpacker]]] = {}


def _compiled(record: type[Record]) -> tuple[Packer, Unpacker]:
    known = _compilations.get(record)
    if known is None:
        known = _compilations[record] = _compile(record)
    return known


def _compile(record: type[Record]) -> tuple[Packer, Unpacker]:
    layout = _layout(record)
    names: dict[str, Any] = {
        "fault": (struct.error, JuteError, UnicodeDecodeError),
        "ustring": _ascii_or_ustring,
        "join": b"".join,
        "unpack_slowly": lambda data, at: _unpack_slowly(record, data, at),
        "pack_slowly": lambda *values: _pack_slowly(record, *values),
    }
    source = _source_of_unpack(layout, names) + _source_of_pack(layout, names)
    exec(compile(source, f"<jute {record.__name__}>", "exec"), names)  # noqa: S102  (of our layout)
    return names["pack"], names["unpack"]


def _source_of_unpack(layout: tuple[tuple[str, _Type], ...], names: dict[str, Any]) -> str:
    """Write ``unpack(data, at)``: numbers, and the length behind them, by one struct each time."""
    body: list[str] = []
    codes, targets = "", ""

    def numbers() -> None:
        nonlocal codes, targets
        if codes:
            form = struct.Struct(">" + codes)
            names[f"read_{len(body)}"] = form.unpack_from
            body.append(f"{targets} = read_{len(body)}(data, at); at += {form.size}")
        codes, targets = "", ""

    for index, (_, kind) in enumerate(layout):
        if isinstance(kind, _Number):
            codes += kind.code
            targets += f"v{index}, "
        elif isinstance(kind, _Bytes):
            codes += "i"
            targets += "n, "
            numbers()
            body.append("start = at; at += n")
            body.append("if n < 0 or at > len(data): return unpack_slowly(data, begin)")
            decode = ".decode()" if isinstance(kind, _Text) else ""
            body.append(f"v{index} = data[start:at]{decode}")
        else:
            numbers()
            names[f"read_of_{index}"] = kind.read
            body.append(f"v{index}, at = read_of_{index}(data, at)")
    numbers()
    values = "".join(f"v{index}, " for index in range(len(layout)))
    lines = "".join(f"        {line}\n" for line in body)
    return (
        "def unpack(data, at):\n"
        "    begin = at\n"
        "    try:\n"
        f"{lines}"
        f"        return ({values}), at\n"
        "    except fault:\n"
        "        return unpack_slowly(data, begin)\n"
    )


def _source_of_pack(layout: tuple[tuple[str, _Type], ...], names: dict[str, Any]) -> str:
    """Write ``pack(*fields)``."""
    pieces: list[str] = []
    codes, sources = "", ""

    def numbers() -> None:
        nonlocal codes, sources
        if codes:
            names[f"write_{len(pieces)}"] = struct.Struct(">" + codes).pack
            pieces.append(f"write_{len(pieces)}({sources})")
        codes, sources = "", ""

    before: list[str] = []
    for index, (_, kind) in enumerate(layout):
        if isinstance(kind, _Number):
            codes += kind.code
            sources += f"v{index}, "
        elif isinstance(kind, _Bytes):
            if isinstance(kind, _Text):
                before.append(f"v{index} = ustring(v{index})")
            else:
                before.append(f"if v{index} is None: return pack_slowly({{arguments}})")
            codes += "i"
            sources += f"len(v{index}), "
            numbers()
            pieces.append(f"v{index}")
        else:
            numbers()
            names[f"bytes_of_{index}"] = kind.encoded
            pieces.append(f"bytes_of_{index}(v{index})")
    numbers()
    arguments = ", ".join(f"v{index}" for index in range(len(layout)))
    # Nulls are looked for before anything is changed, so that the slow way sees what came.
    before.sort(key=lambda line: not line.startswith("if"))
    lines = "".join(f"        {line.format(arguments=arguments)}\n" for line in before)
    joined = f"join(({', '.join(pieces)},))" if pieces else "b''"
    given = "".join(f"v{index}, " for index in range(len(layout)))
    return (
        f"def pack({arguments}):\n"
        f"    given = ({given})\n"
        "    try:\n"
        f"{lines}"
        f"        return {joined}\n"
        "    except (*fault, TypeError, AttributeError):\n"
        "        return pack_slowly(*given)\n"
    )


def _ascii_or_ustring(text: str) -> bytes:
    return text.encode() if text.isascii() else encode_ustring(text)


_layouts: Final[dict[type[Record], tuple[tuple[str, _Type], ...]]] = {}


def _layout(record: type[Record]) -> tuple[tuple[str, _Type], ...]:
    """Names and types of the fields, in their order."""
    known = _layouts.get(record)
    if known is None:
        hints = get_type_hints(record, include_extras=True)
        known = tuple((name, _type_of(hint)) for name, hint in hints.items())
        _layouts[record] = known
    return known


def _type_of(hint: Any) -> _Type:
    if get_origin(hint) is Annotated:
        for note in get_args(hint)[1:]:
            if isinstance(note, _Type):
                return note
    if get_origin(hint) is tuple:
        return _Vector(_type_of(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, Record):
        return _Nested(hint)
    raise TypeError(f"{hint!r} is no type of Jute")
