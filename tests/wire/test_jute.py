"""Jute: golden bytes, round trips, and hostile bytes that must not pass or allocate."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.zookeeper_samples import all_records

from stratalog.errors import JuteError
from stratalog.wire import jute
from stratalog.wire.jute import (
    Bool,
    Buffer,
    Int,
    Long,
    NullableUstring,
    Record,
    Ustring,
    packer,
    unpacker,
)


@dataclass(frozen=True, slots=True)
class Point(Record):
    """Two numbers."""

    x: Int
    y: Long


@dataclass(frozen=True, slots=True)
class Everything(Record):
    """A field of each type."""

    flag: Bool
    name: Ustring
    note: NullableUstring
    data: Buffer
    names: tuple[Ustring, ...]
    points: tuple[Point, ...]
    origin: Point


GOLDEN = Everything(True, "/a", None, b"\x00\xff", ("x", "yz"), (Point(1, -1),), Point(-2, 2))
GOLDEN_BYTES = bytes.fromhex(
    "01"
    "00000002 2f61"
    "ffffffff"
    "00000002 00ff"
    "00000002 00000001 78 00000002 797a"
    "00000001 00000001 ffffffffffffffff"
    "fffffffe 0000000000000002"
)

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
# Without characters beyond U+FFFF and lone surrogates, which do not come back: see below.
text = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)))
points = st.builds(Point, int32, int64)
everything = st.builds(
    Everything,
    st.booleans(),
    text,
    st.none() | text,
    st.none() | st.binary(),
    st.lists(text).map(tuple),
    st.lists(points).map(tuple),
    points,
)


def test_golden_bytes() -> None:
    assert GOLDEN.encode() == GOLDEN_BYTES
    assert Everything.decode(GOLDEN_BYTES) == GOLDEN


@settings(deadline=None)
@given(everything)
def test_what_is_written_is_read(record: Everything) -> None:
    data = record.encode()
    assert Everything.decode(data) == record
    assert Everything.decode_from(b"\x07" + data + b"\x08", 1) == (record, 1 + len(data))


@settings(deadline=None)
@given(everything, st.data())
def test_every_cut_is_told(record: Everything, draw: st.DataObject) -> None:
    data = record.encode()
    with pytest.raises(JuteError, match="Everything"):
        Everything.decode(data[: draw.draw(st.integers(0, len(data) - 1))])


def test_bytes_that_follow_are_told() -> None:
    with pytest.raises(JuteError, match="2 bytes follow a Point") as caught:
        Point.decode(Point(1, 2).encode() + b"ab")
    assert caught.value.position == 12


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("01 00000003 2f61", "Everything.name: 3 bytes are wanted, 2 are left"),
        ("01 7fffffff 2f61", "Everything.name: 2147483647 bytes are wanted"),
        ("01 ffffffff", "Everything.name: length -1"),
        ("01 00000000 fffffffe", "Everything.note: length -2"),
        ("01 00000000 ffffffff ffffffff 00000003 0000000000000000", "names: a count of 3 items"),
        ("01 00000000 ffffffff ffffffff 7fffffff", "Everything.names: a count of 2147483647"),
        ("01 00000000 ffffffff ffffffff fffffffe", "Everything.names: a count of -2"),
    ],
)
def test_impossible_lengths_name_the_field(data: str, sentence: str) -> None:
    with pytest.raises(JuteError, match=sentence.replace(".", r"\.")):
        Everything.decode(bytes.fromhex(data))


def test_a_null_vector_has_no_items() -> None:
    data = bytearray(GOLDEN_BYTES)
    at = 1 + 6 + 4 + 6
    del data[at : at + 15]
    data[at:at] = b"\xff\xff\xff\xff"
    assert Everything.decode(bytes(data)).names == ()


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (Point(2**31, 0), "Point.x"),
        (Point(0, -(2**63) - 1), "Point.y"),
        (Point("1", 0), "Point.x"),  # type: ignore[arg-type]
        (Everything(True, None, None, None, (), (), Point(0, 0)), "Everything.name"),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_does_not_fit_names_its_field(record: Record, field: str) -> None:
    with pytest.raises(JuteError, match=field):
        record.encode()


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0x10000)).filter(bool))
def test_characters_beyond_the_basic_plane_go_out_as_java_writes_them(beyond: str) -> None:
    units = struct.unpack(f">{len(beyond) * 2}H", beyond.encode("utf-16-be"))
    each = b"".join(chr(unit).encode("utf-8", "surrogatepass") for unit in units)
    assert jute.encode_ustring("a" + beyond) == b"a" + each
    assert jute.decode_ustring(each) == "\ufffd" * len(units)


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert jute.decode_ustring(b"a\xffb\xc3") == "a\ufffdb\ufffd"


# ---- the code that is written for each record, against the slow way ----


def some_value(draw: random.Random, kind: jute._Type) -> Any:
    """A value that fits, or now and then a null where one may stand."""
    if isinstance(kind, jute._Number):
        bits = {"?": 1, "i": 32, "q": 64}[kind.code]
        if bits == 1:
            return draw.random() < 0.5
        return draw.choice((0, -1, 1, -(1 << bits - 1), (1 << bits - 1) - 1, draw.getrandbits(31)))
    if isinstance(kind, jute._Bytes):
        if kind._nullable and draw.random() < 0.2:
            return None
        if isinstance(kind, jute._Text):
            return draw.choice(("", "/a", "é/ü", "\ud7ff\ufffd", "x" * 300, "\0"))
        return draw.choice((b"", b"\0\xff", draw.randbytes(40)))
    if isinstance(kind, jute._Vector):
        return tuple(some_value(draw, kind._item) for _ in range(draw.choice((0, 1, 1, 2, 9))))
    assert isinstance(kind, jute._Nested)
    return kind._record(*some_fields(draw, kind._record))


def some_fields(draw: random.Random, record: type[Record]) -> list[Any]:
    return [some_value(draw, kind) for _, kind in jute._layout(record)]


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, or the JuteError that it ends in."""
    try:
        return function(*arguments)
    except JuteError as error:
        return error.message, error.position


def unfit(kind: jute._Type) -> list[Any]:
    """Values that a field of this type cannot have."""
    if isinstance(kind, jute._Number):
        return ["1", 1 << 70, 1.5] if kind.code != "?" else []
    if isinstance(kind, jute._Text):
        return [] if kind._nullable else [None]
    if isinstance(kind, jute._Buffer):
        return ["text"]
    return [None] if isinstance(kind, jute._Vector) else []


RECORDS = [Everything, Point, *all_records()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
class TestGeneratedCode:
    def test_packs_and_unpacks_as_the_slow_way_does(self, record: type[Record]) -> None:
        draw = random.Random(record.__name__)
        for _ in range(60):
            fields = some_fields(draw, record)
            data = packer(record)(*fields)
            assert data == jute._pack_slowly(record, *fields) == record(*fields).encode()
            before = draw.randbytes(draw.randrange(3))
            there = before + data + draw.randbytes(2)
            read = unpacker(record)(there, len(before))
            assert read == jute._unpack_slowly(record, there, len(before))
            assert read == (tuple(fields), len(before) + len(data))

    def test_hostile_bytes_end_in_the_same_error(self, record: type[Record]) -> None:
        draw = random.Random(record.__name__)
        for _ in range(150):
            data = bytearray(packer(record)(*some_fields(draw, record)))
            for _ in range(draw.randrange(3)):
                if data:
                    data[draw.randrange(len(data))] = draw.choice((0, 1, 0x7F, 0xFF, 0xC3))
            cut = bytes(data[: draw.randint(0, len(data))] if draw.random() < 0.5 else data)
            at = draw.choice((0, 0, 0, 1, len(cut), len(cut) + 3))
            fast = outcome(unpacker(record), cut, at)
            assert fast == outcome(jute._unpack_slowly, record, cut, at)
            if isinstance(fast[0], str):
                assert fast[0].startswith(f"{record.__name__}.")
                with pytest.raises(JuteError, match=record.__name__):
                    record.decode(cut[at:])

    def test_values_that_do_not_fit_end_in_the_same_error(self, record: type[Record]) -> None:
        draw = random.Random(record.__name__)
        layout = jute._layout(record)
        for index, (name, kind) in enumerate(layout):
            for value in unfit(kind):
                fields = some_fields(draw, record)
                fields[index] = value
                fast = outcome(packer(record), *fields)
                assert fast == outcome(jute._pack_slowly, record, *fields)
                assert isinstance(fast, tuple), f"{value!r} was packed"
                assert fast[0].startswith(f"{record.__name__}.{name}: ")


def test_kept_vectors_are_never_taken_for_others() -> None:
    """The last vector is kept beside its bytes, read and written: others come between."""
    draw = random.Random(17)
    kind = jute._layout(Everything)[4][1]
    pool = [tuple(draw.choices(("", "a", "ab", "abc", "é", "x" * 90), k=n)) for n in range(5)] * 3
    encoded = {names: jute._Vector(jute._Text(nullable=False)).encoded(names) for names in pool}
    for _ in range(500):
        names = draw.choice(pool)
        assert kind.encoded(names) == kind.encoded(list(names)) == encoded[names]
        data = b"#" + encoded[names] + draw.choice((b"", b"\0" * 9, encoded[draw.choice(pool)]))
        assert kind.read(data, 1) == (names, 1 + len(encoded[names]))
        cut = data[: draw.randint(1, len(encoded[names]))]
        with pytest.raises(JuteError):
            kind.read(cut, 1)


def test_a_null_vector_after_a_kept_one_is_empty() -> None:
    kind = jute._layout(Everything)[4][1]
    kind.read(kind.encoded(("a",)), 0)
    assert kind.read(b"\xff\xff\xff\xff", 0) == ((), 4)
    assert kind.read(bytes(4), 0) == ((), 4)
    assert kind.read(kind.encoded(("a",)), 0)[0] == ("a",)
    with pytest.raises(JuteError):
        kind.read(b"\0\0", 0)
