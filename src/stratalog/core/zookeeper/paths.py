"""Paths of znodes.

    /                  the root, which the tree and the files also call ""
    /a/b               absolute, no "/" at the end, no empty, "." or ".." component
                       no control character, surrogate, private or special character

Characters are judged as Java does, by UTF-16 code unit: whatever lies beyond U+FFFF is a pair of
surrogates there, and so never stands in a path.

Source: ``PathUtils.java`` (validatePath), ``DataTree.java``.
"""

from __future__ import annotations

import re
from typing import Final

ROOT: Final = ""
ROOT_ALIAS: Final = "/"
SYSTEM: Final = "/zookeeper"
QUOTA: Final = "/zookeeper/quota"
CONFIG: Final = "/zookeeper/config"
SYSTEM_PREFIX: Final = "/zookeeper/"

SPECIAL: Final = frozenset((ROOT_ALIAS, SYSTEM, QUOTA, CONFIG))
"""Znodes that nobody deletes."""

_FAULT: Final = re.compile(
    r"//|/\.{1,2}(?:/|\Z)|/\Z|[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\U0010ffff]"
)


def is_valid(path: str) -> bool:
    """Tell whether a znode may have this path."""
    return path[:1] == "/" and (path == ROOT_ALIAS or _FAULT.search(path) is None)


def split(path: str) -> tuple[str, str]:
    """Return the path of the parent, "" for the root, and the name; ``path`` holds a "/"."""
    parent, _, name = path.rpartition("/")
    return parent, name
