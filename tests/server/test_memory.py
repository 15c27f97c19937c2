"""The collector and the tree: what is built under its absence is frozen, what grows old is too."""

from __future__ import annotations

import gc

import pytest

from stratalog.server.zookeeper import memory


@pytest.fixture(autouse=True)
def collector_as_before():
    thresholds, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    (gc.enable if enabled else gc.disable)()


def test_what_is_built_without_the_collector_is_frozen():
    before = gc.get_freeze_count()
    with memory.collector_off():
        assert not gc.isenabled()
        built = [[n] for n in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(built)


def test_the_collector_comes_back_after_an_error():
    with pytest.raises(ValueError, match="no"), memory.collector_off():
        raise ValueError("no")
    assert gc.isenabled()


def test_only_a_tree_that_grows_is_frozen_again():
    memory.begin()
    assert gc.get_threshold() == (
        memory.YOUNG_OBJECTS, memory.YOUNG_ROUNDS, memory.OLD_ROUNDS,
    )  # fmt: skip
    gc.collect()
    gc.freeze()
    assert not memory.tend()
    frozen = gc.get_freeze_count()
    kept = [[n] for n in range(memory.YOUNG_OBJECTS * (memory.FREEZE_ROUNDS + 1))]
    assert memory.tend()
    assert gc.get_freeze_count() >= frozen + len(kept) - memory.YOUNG_OBJECTS
    assert gc.get_count()[1] < memory.FREEZE_ROUNDS


def test_znodes_are_freed_though_frozen():
    class Counted:
        alive = 0

        def __init__(self):
            Counted.alive += 1

        def __del__(self):
            Counted.alive -= 1

    with memory.collector_off():
        kept = [Counted() for _ in range(10)]
    kept.clear()
    assert Counted.alive == 0
