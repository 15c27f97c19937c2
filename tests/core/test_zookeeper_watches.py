"""Who is told of what: one-shot, persistent and recursive watches, against a plain model."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from stratalog.core.zookeeper.identity import OPEN_ACL, Acl
from stratalog.core.zookeeper.watches import (
    EventType,
    Mode,
    WatcherType,
    Watches,
    WatchManager,
)

CREATED, DELETED, CHANGED, CHILDREN = EventType


@dataclass(eq=False)
class Ear:
    """A watcher that remembers."""

    name: str = ""
    heard: list[tuple[EventType, str, int]] = field(default_factory=list)

    def notify(self, event: EventType, path: str, zxid: int, acl: Acl | None) -> None:
        assert acl is OPEN_ACL
        self.heard.append((event, path, zxid))

    def take(self) -> list[tuple[EventType, str, int]]:
        heard, self.heard = self.heard, []
        return heard


def fire(manager: WatchManager, path: str, event: EventType = CHANGED, zxid: int = 1) -> None:
    manager.trigger(path, event, zxid, OPEN_ACL)
    manager.check()


def test_a_one_shot_fires_once_and_for_its_path_alone() -> None:
    manager, ear = WatchManager(), Ear()
    manager.add("/a", ear)
    manager.add("/a", ear)
    fire(manager, "/a/b")
    fire(manager, "/")
    assert ear.take() == []
    fire(manager, "/a", CREATED, 7)
    fire(manager, "/a", CHANGED, 8)
    assert ear.take() == [(CREATED, "/a", 7)]
    assert not manager
    assert manager.counts() == (0, 0, 0)


def test_a_persistent_one_stays_and_a_one_shot_beside_it_goes() -> None:
    manager, ear = WatchManager(), Ear()
    manager.add("/a", ear, Mode.PERSISTENT)
    manager.add("/a", ear, Mode.ONE_SHOT)
    for zxid in (1, 2, 3):
        fire(manager, "/a", CHANGED, zxid)
    assert ear.take() == [(CHANGED, "/a", 1), (CHANGED, "/a", 2), (CHANGED, "/a", 3)]
    assert manager.has("/a", ear, Mode.PERSISTENT)
    assert not manager.has("/a", ear, Mode.ONE_SHOT)


@pytest.mark.parametrize("top", ["/", "/a", "/a/b"])
def test_a_recursive_one_hears_of_itself_and_all_below(top: str) -> None:
    manager, ear = WatchManager(), Ear()
    manager.add(top, ear, Mode.RECURSIVE)
    heard = []
    for path in ("/", "/a", "/a/b", "/a/b/c", "/ab", "/a/bc"):
        fire(manager, path)
        heard += [one[1] for one in ear.take()]
    below = top.rstrip("/") + "/"
    assert heard == [
        path for path in ("/", "/a", "/a/b", "/a/b/c", "/ab", "/a/bc")
        if path == top or path.startswith(below)
    ]  # fmt: skip


def test_one_watcher_hears_once_whatever_it_set() -> None:
    manager, ear = WatchManager(), Ear()
    for path, mode in (("/", 4), ("/a", 4), ("/a/b", 4), ("/a/b", 2), ("/a/b", 1)):
        manager.add(path, ear, Mode(mode))
    fire(manager, "/a/b")
    assert len(ear.take()) == 1
    fire(manager, "/a")
    assert len(ear.take()) == 1


def test_those_told_already_are_not_told_again() -> None:
    watches, both, child = Watches(), Ear(), Ear()
    watches.data.add("/a", both)
    watches.children.add("/a", both)
    watches.children.add("/a", child)
    told = watches.data.trigger("/a", DELETED, 3, OPEN_ACL)
    watches.children.trigger("/a", DELETED, 3, OPEN_ACL, told)
    assert both.take() == child.take() == [(DELETED, "/a", 3)]
    assert not watches.data
    assert not watches.children


def test_the_forgotten_hear_nothing() -> None:
    watches, ear, other = Watches(), Ear(), Ear()
    for one in (ear, other):
        watches.data.add("/a", one)
        watches.add_persistent("/a", one, recursive=False)
        watches.add_persistent("/", one, recursive=True)
    watches.forget(ear)
    watches.forget(ear)
    for manager in (watches.data, watches.children):
        fire(manager, "/a")
        assert list(manager.by_watcher()) == [other]
    assert ear.take() == []
    assert len(other.take()) == 2
    watches.forget(other)
    assert watches.data.counts() == watches.children.counts() == (0, 0, 0)
    fire(watches.data, "/a/b")


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (WatcherType.CHILDREN, {"data one-shot", "persistent", "recursive"}),
        (WatcherType.DATA, {"child one-shot", "persistent", "recursive"}),
        (WatcherType.ANY, set()),
        (WatcherType.PERSISTENT, {"data one-shot", "child one-shot", "recursive"}),
        (WatcherType.PERSISTENT_RECURSIVE, {"data one-shot", "child one-shot", "persistent"}),
    ],
)
def test_removal_takes_its_kind_alone(kind: WatcherType, left: set[str]) -> None:
    watches, ear, other = Watches(), Ear(), Ear()
    for one in (ear, other):
        watches.data.add("/a", one)
        watches.children.add("/a", one)
        watches.add_persistent("/a", one, recursive=False)
        watches.add_persistent("/a", one, recursive=True)
    assert watches.has("/a", ear, kind)
    assert watches.remove("/a", ear, kind)
    assert not watches.has("/a", ear, kind)
    assert not watches.remove("/a", ear, kind)
    assert not watches.remove("/b", ear, kind)
    there = {
        "data one-shot": watches.data.has("/a", ear, Mode.ONE_SHOT),
        "child one-shot": watches.children.has("/a", ear, Mode.ONE_SHOT),
        "persistent": watches.data.has("/a", ear, Mode.PERSISTENT)
        and watches.children.has("/a", ear, Mode.PERSISTENT),
        "recursive": watches.data.has("/a", ear, Mode.RECURSIVE),
    }
    assert {name for name, is_there in there.items() if is_there} == left
    assert watches.has("/a", other, kind)
    watches.data.check()
    watches.children.check()


def test_random_watching_against_a_model() -> None:
    draw = random.Random(23)
    paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]
    for _ in range(60):
        manager, ears = WatchManager(), [Ear(str(i)) for i in range(4)]
        model: dict[tuple[str, Ear], Mode] = {}
        for zxid in range(120):
            ear, path = draw.choice(ears), draw.choice(paths)
            mode = draw.choice((Mode.ONE_SHOT, Mode.ONE_SHOT, Mode.PERSISTENT, Mode.RECURSIVE))
            action = draw.random()
            if action < 0.4:
                manager.add(path, ear, mode)
                model[path, ear] = model.get((path, ear), Mode.NONE) | mode
            elif action < 0.5:
                wanted = draw.choice((None, mode))
                before = model.get((path, ear), Mode.NONE)
                gone = before if wanted is None else before & wanted
                assert manager.remove(path, ear, wanted) == bool(gone)
                model[path, ear] = before & ~gone
            elif action < 0.53:
                manager.forget(ear)
                model = {key: modes for key, modes in model.items() if key[1] is not ear}
            else:
                told = draw.sample(ears, 1)
                manager.trigger(path, CHANGED, zxid, OPEN_ACL, told)
                for one in ears:
                    own = model.get((path, one), Mode.NONE)
                    above = [
                        modes for (top, whose), modes in model.items()
                        if whose is one and path.startswith(top.rstrip("/") + "/")
                    ]  # fmt: skip
                    hears = own or any(modes & Mode.RECURSIVE for modes in above)
                    expected = [(CHANGED, path, zxid)] if hears and one not in told else []
                    assert one.take() == expected
                    if own:
                        model[path, one] = own & ~Mode.ONE_SHOT
            manager.check()
            model = {key: modes for key, modes in model.items() if modes}
            found = {(path, ear) for ear, own in manager.by_watcher().items() for path in own}
            assert found == model.keys()
            assert bool(manager) == bool(model)
            assert manager.counts() == (
                len({ear for _, ear in model}), len({path for path, _ in model}), len(model),
            )  # fmt: skip


def test_check_catches_a_table_that_is_off() -> None:
    manager, ear = WatchManager(), Ear()
    manager.add("/a", ear, Mode.RECURSIVE)
    manager._recursive = 0
    with pytest.raises(AssertionError, match="watches differ"):
        manager.check()
    manager._recursive = 1
    manager.check()
    del manager._watchers["/a"]
    with pytest.raises(AssertionError, match="watches differ"):
        manager.check()
