"""Views into the log: read-only, and valid for as long as somebody holds them."""

from __future__ import annotations

import gc

import pytest

import stratalog
from stratalog import errors

VALUES = [b"%08d" % i * 100 for i in range(3000)]


@pytest.fixture
def filled(log_path):
    log = stratalog.Log(log_path, create=True, segment_bytes=1 << 19)
    log.append_many(VALUES[:1500])
    log.append_many(VALUES[1500:], codec="lz4")
    yield log
    log.close()


def ways_to_views(log):
    """Every way to get hold of the log's memory, as lists of memoryviews with what they show."""
    yield list(log.read_values()), VALUES
    yield [record.value for record in log.read()], VALUES
    yield [log.get(17).value, log.get(2017).value], [VALUES[17], VALUES[2017]]
    batches = list(log.read_batches())
    yield [batch.data for batch in batches], [bytes(batch.data) for batch in batches]


@pytest.mark.parametrize("way", range(4))
def test_views_outlive_close(filled, way):
    views, expected = list(ways_to_views(filled))[way]
    filled.close()
    gc.collect()
    assert all(isinstance(view, memoryview) and view.readonly for view in views)
    assert [bytes(view) for view in views] == expected


@pytest.mark.parametrize("way", range(4))
def test_views_outlive_truncation(filled, way):
    views, expected = list(ways_to_views(filled))[way]
    filled.truncate_suffix(100)
    filled.append_many([b"\xff" * 800] * 1000)
    filled.truncate_prefix(filled.log_end_offset)
    assert [bytes(view) for view in views] == expected


def test_one_slice_keeps_the_memory_and_the_last_one_frees_it(filled):
    assert filled.stats().pinned_bytes == 0
    part = filled.get(5).value[3:11]
    gc.collect()
    assert filled.stats().pinned_bytes > 0
    assert part == VALUES[5][3:11]
    del part
    gc.collect()
    assert filled.stats().pinned_bytes == 0


def test_nothing_stays_pinned_after_reading(filled):
    list(filled.read())
    list(filled.read(2000, end_offset=2010))
    list(filled.read_batches(end_offset=7))
    list(filled.read(copy=True))
    list(filled.read_values(copy=True))
    filled.get(3, copy=True)
    next(filled.read())
    gc.collect()
    assert filled.stats().pinned_bytes == 0


def test_views_cannot_be_written(filled):
    view = filled.get(0).value
    with pytest.raises(TypeError):
        view[0] = 1


def test_copies_are_bytes(filled):
    records = [*filled.read(copy=True, end_offset=3), filled.get(2000, copy=True)]
    assert all(type(record.value) is bytes for record in records)
    assert all(type(value) is bytes for value in filled.read_values(copy=True, end_offset=3))


def test_a_traceback_does_not_keep_the_log_open(filled, log_path):
    kept = []
    for call in (
        lambda: filled.get(99999),
        lambda: filled.read(99999),
        lambda: filled.truncate_suffix(99999),
        lambda: filled.append_batch(b"\x00" * 100),
        lambda: filled.append("text"),
    ):
        with pytest.raises(errors.StratalogError) as caught:
            call()
        kept.append(caught.value)
    filled.close()
    stratalog.Log(log_path).close()
    assert len(kept) == 5
