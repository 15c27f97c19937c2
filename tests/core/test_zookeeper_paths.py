"""Which paths a znode may have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratalog.core.zookeeper import paths

FORBIDDEN = [(0, 0x1F), (0x7F, 0x9F), (0xD800, 0xF8FF), (0xFFF0, 0x10FFFF)]


@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/a/b", "/zookeeper", "/a b", "/..a", "/a..", "/.../b", "/a.", "/.a", "/é/\u2028",
     "/\u00a0", "/\ud7ff", "/\uf900", "/\uffef", "/~"],
)  # fmt: skip
def test_these_may_be(path: str) -> None:
    assert paths.is_valid(path)


@pytest.mark.parametrize(
    "path",
    ["", "a", "a/b", "/a/", "//", "/a//b", "//a", "/.", "/..", "/a/.", "/a/..", "/a/./b", "/../b",
     "/a\0", "/\x1f", "/\x7f", "/\x9f", "/\ud800", "/\ue000", "/\uf8ff", "/\ufff0", "/\uffff",
     "/\U0001f600", "/a\n"],
)  # fmt: skip
def test_these_may_not(path: str) -> None:
    assert not paths.is_valid(path)


@settings(deadline=None)
@given(st.text(st.characters(codec=None, min_codepoint=0, max_codepoint=0x10FFFF), max_size=6))
def test_it_is_a_rule_of_components_and_characters(text: str) -> None:
    path = "/" + text
    sound = all(part not in {"", ".", ".."} for part in text.split("/")) and not any(
        low <= ord(one) <= high for one in text for low, high in FORBIDDEN
    )
    assert paths.is_valid(path) == (sound or path == "/")


def test_every_edge_of_what_is_forbidden() -> None:
    for low, high in FORBIDDEN:
        for code in (low, high):
            assert not paths.is_valid("/" + chr(code))
        for code in (low - 1, high + 1):
            if 0 < code < 0x110000 and not any(a <= code <= b for a, b in FORBIDDEN):
                assert paths.is_valid("/" + chr(code))


@pytest.mark.parametrize(
    ("path", "parts"), [("/a", ("", "a")), ("/a/b", ("/a", "b")), ("/", ("", ""))]
)
def test_split(path: str, parts: tuple[str, str]) -> None:
    assert paths.split(path) == parts
