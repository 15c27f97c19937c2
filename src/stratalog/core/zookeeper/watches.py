"""Watches: who wants to hear of which znode, once or for good.

                     data watches                       child watches
    exists, getData  one-shot
    getChildren                                         one-shot
    addWatch 0       persistent                         persistent
    addWatch 1       persistent recursive: for the
                     znode and all below it

One watcher hears of one transaction once a manager, whatever it set.  Persistent ones stay; a
one-shot one beside it, on the same path, goes on its own.

A watcher is whatever has ``notify``; here it is a connection, and what it may not read it is not
told.

Source: ``WatchManager.java``, ``WatcherMode.java``, ``DataTree.java``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from stratalog.core.zookeeper.identity import Acl


class EventType(IntEnum):
    """What happened."""

    NODE_CREATED = 1
    NODE_DELETED = 2
    NODE_DATA_CHANGED = 3
    NODE_CHILDREN_CHANGED = 4


class Mode(IntFlag):
    """How long a watch lasts, and what it covers."""

    NONE = 0
    ONE_SHOT = 1
    PERSISTENT = 2
    RECURSIVE = 4


class WatcherType(IntEnum):
    """What checkWatches and removeWatches mean."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5


NO_ZXID: Final = -1
"""The zxid of an event that no transaction of now caused."""


class Watcher(Protocol):
    """Somebody who watches."""

    def notify(self, event: EventType, path: str, zxid: int, acl: Acl | None) -> None:
        """Hear of an event; ``acl`` is the znode's, None: it may be told to anybody."""

    def __hash__(self) -> int: ...


class WatchManager:
    """Watches of one kind, by path and by watcher."""

    def __init__(self) -> None:
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._paths: dict[Watcher, dict[str, Mode]] = {}
        self._recursive = 0
        self.on_trigger: Callable[[EventType, int], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._watchers)

    @property
    def watchers(self) -> dict[str, dict[Watcher, None]]:
        """The watchers of each path, as they change."""
        return self._watchers

    def add(self, path: str, watcher: Watcher, mode: Mode = Mode.ONE_SHOT) -> None:
        """Watch a path."""
        self._watchers.setdefault(path, {})[watcher] = None
        paths = self._paths.setdefault(watcher, {})
        before = paths.get(path, Mode.NONE)
        paths[path] = before | mode
        if mode & Mode.RECURSIVE and not before & Mode.RECURSIVE:
            self._recursive += 1

    def has(self, path: str, watcher: Watcher, mode: Mode | None = None) -> bool:
        """Tell whether a watcher watches a path, in this mode or in any."""
        modes = self._paths.get(watcher, {}).get(path, Mode.NONE)
        return bool(modes if mode is None else modes & mode)

    def remove(self, path: str, watcher: Watcher, mode: Mode | None = None) -> bool:
        """Stop watching a path, in this mode or in all; tell whether there was anything to stop."""
        before = self._paths.get(watcher, {}).get(path, Mode.NONE)
        gone = before if mode is None else before & mode
        if not gone:
            return False
        self._set(path, watcher, before, before & ~gone)
        return True

    def forget(self, watcher: Watcher) -> None:
        """Stop all watching of a watcher: its connection is gone."""
        for path, modes in self._paths.pop(watcher, {}).items():
            watchers = self._watchers[path]
            watchers.pop(watcher, None)
            if not watchers:
                del self._watchers[path]
            if modes & Mode.RECURSIVE:
                self._recursive -= 1

    def trigger(
        self,
        path: str,
        event: EventType,
        zxid: int,
        acl: Acl,
        told: Collection[Watcher] = (),
    ) -> Collection[Watcher]:
        """Tell those who watch a path, but for those ``told`` already; return who was meant."""
        if not self._watchers:
            return ()
        meant: list[Watcher] = []
        for watcher in list(self._watchers.get(path, ())):
            meant.append(watcher)
            before = self._paths[watcher][path]
            if before & Mode.ONE_SHOT:
                self._set(path, watcher, before, before & ~Mode.ONE_SHOT)
        if self._recursive:
            meant += self._recursive_above(path, meant)
        if meant and self.on_trigger is not None:
            self.on_trigger(event, len(meant))
        if told:
            told = set(told)  # or ten thousand watchers would be looked for ten thousand times
        for watcher in meant:
            if watcher not in told:
                watcher.notify(event, path, zxid, acl)
        return meant

    def _recursive_above(self, path: str, known: list[Watcher]) -> list[Watcher]:
        found = dict.fromkeys(known)
        while path not in {"", "/"}:
            path = path.rpartition("/")[0] or "/"
            for watcher in self._watchers.get(path, ()):
                if self._paths[watcher][path] & Mode.RECURSIVE:
                    found[watcher] = None
        return list(found)[len(known) :]

    def _set(self, path: str, watcher: Watcher, before: Mode, after: Mode) -> None:
        if before & Mode.RECURSIVE and not after & Mode.RECURSIVE:
            self._recursive -= 1
        paths = self._paths[watcher]
        if after:
            paths[path] = after
            return
        del paths[path]
        if not paths:
            del self._paths[watcher]
        watchers = self._watchers[path]
        watchers.pop(watcher, None)
        if not watchers:
            del self._watchers[path]

    # ---- reports ----

    def counts(self) -> tuple[int, int, int]:
        """Return how many watchers, paths and watches there are."""
        watches = sum(len(paths) for paths in self._paths.values())
        return len(self._paths), len(self._watchers), watches

    def by_path(self) -> dict[str, list[Watcher]]:
        """Return the watchers of each path."""
        return {path: list(watchers) for path, watchers in self._watchers.items()}

    def by_watcher(self) -> dict[Watcher, list[str]]:
        """Return the paths of each watcher."""
        return {watcher: list(paths) for watcher, paths in self._paths.items()}

    def check(self) -> None:
        """Hold the two tables against each other; AssertionError where they differ."""
        forth = {(p, w) for p, watchers in self._watchers.items() for w in watchers}
        back = {(p, w) for w, paths in self._paths.items() for p, modes in paths.items() if modes}
        recursive = sum(
            bool(modes & Mode.RECURSIVE)
            for paths in self._paths.values()
            for modes in paths.values()
        )
        # Every watch stands in both tables, under a mode; none is empty.
        if forth != back or recursive != self._recursive or not all(self._paths.values()):
            raise AssertionError(f"watches differ: {forth ^ back}, {recursive} recursive")


class Watches:
    """Both managers, and what requests do to them."""

    def __init__(self) -> None:
        self.data = WatchManager()
        self.children = WatchManager()

    def add_persistent(self, path: str, watcher: Watcher, *, recursive: bool) -> None:
        """Watch for good: addWatch."""
        if recursive:
            self.data.add(path, watcher, Mode.RECURSIVE)
        else:
            self.data.add(path, watcher, Mode.PERSISTENT)
            self.children.add(path, watcher, Mode.PERSISTENT)

    def has(self, path: str, watcher: Watcher, kind: WatcherType) -> bool:
        """Tell whether a watcher has a watch of this kind: checkWatches."""
        return any(
            manager.has(path, watcher, mode) for manager, mode in self._meant(kind, check=True)
        )

    def remove(self, path: str, watcher: Watcher, kind: WatcherType) -> bool:
        """Remove the watches of this kind; tell whether there were any: removeWatches."""
        gone = [manager.remove(path, watcher, mode) for manager, mode in self._meant(kind)]
        return any(gone)

    def _meant(
        self, kind: WatcherType, *, check: bool = False
    ) -> list[tuple[WatchManager, Mode | None]]:
        if kind is WatcherType.CHILDREN:
            return [(self.children, Mode.ONE_SHOT)]
        if kind is WatcherType.DATA:
            return [(self.data, Mode.ONE_SHOT)]
        if kind is WatcherType.PERSISTENT_RECURSIVE:
            return [(self.data, Mode.RECURSIVE)]
        if kind is WatcherType.PERSISTENT:
            both = [(self.children, Mode.PERSISTENT), (self.data, Mode.PERSISTENT)]
            return [*both[1:]] if check else [*both]
        return [(self.children, None), (self.data, None)]

    def forget(self, watcher: Watcher) -> None:
        """A watcher is gone."""
        self.data.forget(watcher)
        self.children.forget(watcher)
