"""Quotas: how many znodes and bytes a subtree may hold, and how many it holds.

    /zookeeper/quota/app/zookeeper_limits    count=10,bytes=1000              soft: logged
                                             count=10,bytes=1000=;byteHardLimit=2000;countHardLimit=20
    /zookeeper/quota/app/zookeeper_stats     count=3,bytes=120                kept by the server

A limit of -1 is none.  Limits are set by creating the znode; what it says later counts too.  The
odd ``=;`` keeps parsers from before hard limits away from what follows.

The deepest quota above a path is the one that counts; there is none on the root.

Source: ``StatsTrack.java``, ``Quotas.java``, ``PathTrie.java``, ``ZooKeeperServer.java``
(checkQuota).
"""

from __future__ import annotations

import re
from typing import Final

from stratalog.core.zookeeper.paths import QUOTA

LIMITS_NAME: Final = "zookeeper_limits"
STATS_NAME: Final = "zookeeper_stats"

_BETWEEN: Final = re.compile("[,;]+")
_number: Final = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
_FIRST: Final = ("count", "bytes")


def limits_path(path: str) -> str:
    """Return where the limits of a subtree stand."""
    return f"{QUOTA}{path}/{LIMITS_NAME}"


def stats_path(path: str) -> str:
    """Return where the counts of a subtree stand."""
    return f"{QUOTA}{path}/{STATS_NAME}"


class Figures:
    """What a limits or stats znode says; -1 where it says nothing.

    Attributes:
        sound: All of it made sense; what did not is left out.
    """

    __slots__ = ("_values", "sound")

    def __init__(self, data: bytes | None = b"") -> None:
        self._values: dict[str, int] = {}
        self.sound = data is not None
        text = (data or b"").decode("utf-8", "replace").rstrip(",;")
        for pair in _BETWEEN.split(text) if text else ():
            key, equals, value = pair.rstrip("=").partition("=")
            number = value.partition("=")[0]
            if _number(number) or (equals and not number):
                self._values[key] = int(number or "-1")
            else:
                self.sound = False

    def __getitem__(self, key: str) -> int:
        return self._values.get(key, -1)

    def __setitem__(self, key: str, value: int) -> None:
        self._values[key] = value

    def encode(self) -> bytes:
        """Return the znode's data."""
        text = f"count={self['count']},bytes={self['bytes']}"
        others = sorted(key for key in self._values if key not in _FIRST)
        if others:
            text += "=" + "".join(f";{key}={self._values[key]}" for key in others)
        return text.encode()


class Quotas:
    """The subtrees that have one."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._paths)

    @property
    def paths(self) -> set[str]:
        """Them, as they change."""
        return self._paths

    def add(self, path: str) -> None:
        """The subtree at ``path`` has a quota from now on."""
        if path:
            self._paths.add(path if path[0] == "/" else f"/{path}")

    def remove(self, path: str) -> None:
        """It has none any more."""
        self._paths.discard(path if path[:1] == "/" else f"/{path}")

    def clear(self) -> None:
        """None has one."""
        self._paths.clear()

    def above(self, path: str) -> str | None:
        """Return the deepest subtree with a quota that ``path`` lies in or is; None: none."""
        if not self._paths:
            return None
        while path:
            if path in self._paths:
                return path
            path = path.rpartition("/")[0]
        return None


def exceeds(limits: Figures, stats: Figures, *, bytes_more: int, znodes_more: int) -> bool:
    """Tell whether a change goes beyond a hard limit.

    Soft limits only warn; this machine leaves the warning to whoever logs.
    """
    checks = (("count", "countHardLimit", znodes_more), ("bytes", "byteHardLimit", bytes_more))
    return any(
        more != 0 and limits[hard] > -1 and stats[kind] + more > limits[hard]
        for kind, hard, more in checks
    )
