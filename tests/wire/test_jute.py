"""Jute: golden bytes, round trips, and hostile bytes that must not pass or allocate."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalog.errors import JuteError
from stratalog.wire import jute
from stratalog.wire.jute import Bool, Buffer, Int, Long, NullableUstring, Record, Ustring


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


@given(everything)
def test_what_is_written_is_read(record: Everything) -> None:
    data = record.encode()
    assert Everything.decode(data) == record
    assert Everything.decode_from(b"\x07" + data + b"\x08", 1) == (record, 1 + len(data))


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


@given(st.text(st.characters(min_codepoint=0x10000)).filter(bool))
def test_characters_beyond_the_basic_plane_go_out_as_java_writes_them(beyond: str) -> None:
    units = struct.unpack(f">{len(beyond) * 2}H", beyond.encode("utf-16-be"))
    each = b"".join(chr(unit).encode("utf-8", "surrogatepass") for unit in units)
    assert jute.encode_ustring("a" + beyond) == b"a" + each
    assert jute.decode_ustring(each) == "\ufffd" * len(units)


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert jute.decode_ustring(b"a\xffb\xc3") == "a\ufffdb\ufffd"
