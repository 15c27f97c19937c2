"""Java's Properties files: the syntax by example, and whatever is written comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalog.wire.properties import Property, parse_properties


def parsed(text: str) -> list[tuple[str, str]]:
    return [(entry.key, entry.value) for entry in parse_properties(text.encode("iso-8859-1"))]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("a=b", [("a", "b")]),
        ("a=b\nc=d\n", [("a", "b"), ("c", "d")]),
        ("a=b\r\nc=d\re=f", [("a", "b"), ("c", "d"), ("e", "f")]),
        ("a:b", [("a", "b")]),
        ("a b", [("a", "b")]),
        ("a\t\fb", [("a", "b")]),
        ("a = b", [("a", "b")]),
        ("a : = b", [("a", "= b")]),
        ("a  b = c", [("a", "b = c")]),
        ("  a = b  ", [("a", "b  ")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("=b", [("", "b")]),
        ("# a=b\n! c=d\n   # e=f\n\n \t\f\ng=h", [("g", "h")]),
        ("a=b # c", [("a", "b # c")]),
        ("a\\=b=c", [("a=b", "c")]),
        ("a\\:b\\ c=d", [("a:b c", "d")]),
        ("a=b\\=c", [("a", "b=c")]),
        ("a=\\t\\n\\r\\f\\\\", [("a", "\t\n\r\f\\")]),
        ("a=\\q\\\"\\'", [("a", "q\"'")]),
        ("a=\\u00e9\\u0041", [("a", "éA")]),
        ("a=\xe9", [("a", "é")]),
        ("a=b\\\nc", [("a", "bc")]),
        ("a=b\\\r\n   c", [("a", "bc")]),
        ("a=b\\\\\nc=d", [("a", "b\\"), ("c", "d")]),
        ("a=b\\\\\\\nc", [("a", "b\\c")]),
        ("a=b\\\n# c", [("a", "b# c")]),
        ("a=b\\\n\nc=d", [("a", "b"), ("c", "d")]),
        ("# a\\\nb=c", [("b", "c")]),
        ("a=b\\", [("a", "b")]),
        ("a\\\n=b", [("a", "b")]),
        ("a=b\n\\", [("a", "b"), ("", "")]),
        ("\\\n", [("", "")]),
        ("\\\r\n", []),
        ("\\\n ", []),
        ("\\\n#a=b", []),
        ("\\\n\n#a=b", []),
        ("a=1\na=2", [("a", "1"), ("a", "2")]),
    ],
)
def test_the_syntax_by_example(text, entries):
    assert parsed(text) == entries


def test_lines_are_counted_from_one_and_an_entry_is_where_it_begins():
    data = b"# head\n\na=b\\\n  c\\\n  d\ne=f\r\n\r\ng=h"
    assert parse_properties(data) == [
        Property(3, "a", "bcd"), Property(6, "e", "f"), Property(8, "g", "h"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a=\\u00", "a=b\n\nc=\\u00g0", "x\\uzzzz=1"])
def test_a_broken_escape_is_refused_with_its_line(text):
    with pytest.raises(ValueError, match=r"^line [13]: "):
        parse_properties(text.encode())


SPECIAL = "=: \t\f#!\\\n\r"
CHARACTERS = st.one_of(
    st.sampled_from(SPECIAL), st.characters(min_codepoint=0, max_codepoint=0xFFFF)
)
TEXTS = st.text(CHARACTERS, max_size=12)


def escaped(text: str, draw: st.DataObject, *, is_key: bool) -> str:
    """A text as somebody else would write it: escaped where it must be, and at times elsewhere."""
    out = []
    names = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}
    for at, character in enumerate(text):
        must = character in "\\\n\r" or (is_key and character in "=:# !\t\f")
        must = must or ord(character) > 0xFF or (at == 0 and character in " \t\f=:")
        style = draw.draw(st.integers(0, 5))
        if style == 0 or ord(character) > 0xFF:
            out.append(f"\\u{ord(character):04x}")
        elif must or (style == 1 and character not in "tnrfu"):
            out.append(names.get(character, "\\" + character))
        else:
            out.append(character)
        if style == 2:
            end = draw.draw(st.sampled_from(["\n", "\r\n", "\r"]))
            # What follows a continuation loses its blanks: the next one must be escaped.
            following = text[at + 1 : at + 2]
            if following and following not in " \t\f\n":
                out.append("\\" + end + draw.draw(st.sampled_from(["", "  ", "\t"])))
    return "".join(out)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5), st.data())
def test_what_is_written_comes_back(pairs, data):
    lines = []
    for key, value in pairs:
        separator = data.draw(st.sampled_from(["=", ":", " = ", "\t:  ", " =\f"]))
        lines.append(
            escaped(key, data, is_key=True) + separator + escaped(value, data, is_key=False)
        )
        lines.append(data.draw(st.sampled_from(["", "# no=1", "  ! no=2\\", " \t"])))
    text = data.draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines)
    assert parsed(text) == pairs


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_or_refused(data):
    try:
        entries = parse_properties(data)
    except ValueError:
        return
    assert all(entry.line >= 1 for entry in entries)
