r"""Java's Properties files, which zoo.cfg is one of: text in, entries with their line numbers out.

    # a comment, and so is a line that begins with !
    dataDir=/var/lib/zookeeper          key = value       "=", ":" or blanks end the key
    clientPort : 2181                   key : value       blanks around the separator go
    maxClientCnxns 60                   key   value
    key\ with\ blanks = \u00e9\n        escapes: \t \n \r \f \uXXXX; any other character itself
    autopurge.\                         an odd number of backslashes continues the line,
        purgeInterval = 1               the blanks that open the next one go

Bytes are ISO 8859-1.  What continues a line is no comment, whatever it begins with, unless nothing
stood before the backslash.

Source: ``java.util.Properties.load``, as the Java platform documents it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_BLANKS: Final = " \t\f"
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")


@dataclass(frozen=True, slots=True)
class Property:
    """An entry of a file; ``line`` counts from 1."""

    line: int
    key: str
    value: str


def parse_properties(data: bytes) -> list[Property]:
    """Return the entries of a file, in their order; of equal keys the last counts.

    Raises:
        ValueError: A ``u`` escape without four hexadecimal digits; the message names the line.
    """
    return [_entry(line, text) for line, text in _logical_lines(data.decode("iso-8859-1"))]


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Put continued lines together; drop comments and empty lines."""
    found: list[tuple[int, str]] = []
    pending, first = "", 0
    natural = _LINE_END.split(text)
    last = len(natural)
    if natural[-1] == "" and not text.endswith("\r\n"):
        last -= 1
    for number, raw in enumerate(natural, 1):
        line = raw.lstrip(_BLANKS)
        if not pending and (not line or line[0] in "#!"):
            continue
        first = first if pending else number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending += line[:-1]
            if number < last:
                continue
        else:
            pending += line
        found.append((first, pending))  # at the end, even if a backslash is all there is
        pending = ""
    return found


def _entry(number: int, text: str) -> Property:
    at = 0
    while at < len(text) and text[at] not in "=:" + _BLANKS:
        at += 2 if text[at] == "\\" else 1
    end = min(at, len(text))
    rest = text[end:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANKS)
    return Property(number, _unescaped(number, text[:end]), _unescaped(number, rest))


def _unescaped(number: int, text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character != "\\" or at == len(text):
            out.append(character)
            continue
        character = text[at]
        at += 1
        if character != "u":
            out.append(_ESCAPES.get(character, character))
            continue
        match = _HEX.match(text, at)
        if match is None:
            raise ValueError(f"line {number}: \\u wants four hexadecimal digits")
        out.append(chr(int(match[0], 16)))
        at = match.end()
    return "".join(out)
