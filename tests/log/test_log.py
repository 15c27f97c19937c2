"""The embedded log through its public API: what goes in comes out, and says where it stands."""

from __future__ import annotations

import array
import gc
import itertools
import struct
import time

import pytest

import stratalog
from stratalog import errors


def test_the_tour(log_path):
    with stratalog.Log(log_path, create=True) as log:
        offset = log.append(b"value", key=b"k")
        first = log.append_many([b"a", b"b", b"c"], codec="lz4")
        log.flush()
        assert (offset, first) == (0, 1)
        assert log.durable_offset == log.log_end_offset == 4
        assert [bytes(record.value) for record in log.read(first)] == [b"a", b"b", b"c"]
        assert log.get(0).key == b"k"
    assert log.closed


def test_a_record_has_everything_that_was_appended(log):
    headers = [("trace", b"\x00\xff"), ("trace", b""), ("null", None), ("ключ", b"v")]
    offset = log.append(b"v", key=b"k", timestamp_ms=1_700_000_000_123, headers=headers)
    record = log.get(offset, copy=True)
    assert record == (offset, 1_700_000_000_123, b"k", b"v", tuple(headers))
    assert next(log.read(copy=True)) == record


@pytest.mark.parametrize(
    "value", [b"", b"x", b"x" * 100_000, bytearray(b"ba"), memoryview(b"mv"), array.array("i", [1])]
)
def test_any_bytes_like_value(log, value):
    offset = log.append(value)
    many = log.append_many([value, value])
    expected = bytes(value)
    assert log.get(offset).value == expected
    assert [r.value for r in log.read(many)] == [expected, expected]


def test_null_and_empty_are_different(log):
    first = log.append(None, key=b"gone")
    log.append(b"", key=b"")
    log.append_many([None, b"", b"x"], keys=[b"a", None, b""])
    found = [(r.key, r.value) for r in log.read(first, copy=True)]
    assert found == [(b"gone", None), (b"", b""), (b"a", None), (None, b""), (b"", b"x")]
    assert list(log.read_values(copy=True)) == [None, b"", None, b"", b"x"]


def test_timestamps_are_the_clocks_unless_given(log):
    before = time.time_ns() // 1_000_000
    log.append(b"now")
    log.append_many([b"now"])
    log.append_many([b"then", b"later"], timestamps_ms=[5, 7])
    log.append_many([b"all", b"alike"], timestamps_ms=9)
    times = [record.timestamp_ms for record in log.read()]
    assert before <= times[0] <= times[1] <= time.time_ns() // 1_000_000
    assert times[2:] == [5, 7, 9, 9]


def test_columns_of_append_many(log):
    first = log.append_many(
        [b"a", b"bb", b"ccc"],
        keys=[b"1", None, b"3"],
        timestamps_ms=[1, 2, 3],
        headers=[(), [("h", b"x")], {"i": None}],
    )
    assert list(log.read(first, copy=True)) == [
        (first, 1, b"1", b"a", ()),
        (first + 1, 2, None, b"bb", (("h", b"x"),)),
        (first + 2, 3, b"3", b"ccc", (("i", None),)),
    ]


@pytest.mark.parametrize("make", [list, tuple, iter, lambda values: (v for v in values)])
def test_append_many_takes_any_iterable(log, make):
    values = [b"%d" % i for i in range(100)]
    log.append_many(make(values), keys=make(values))
    assert [(r.key, r.value) for r in log.read()] == [(v, v) for v in values]


def test_lengths_whose_sum_looks_uniform_are_not(log):
    values = [b"aa", b"b", b"ccc"]  # sums up to 3 x 2
    log.append_many(values)
    assert list(log.read_values()) == values


def test_append_many_of_nothing(log):
    log.append(b"one")
    assert log.append_many([]) == log.log_end_offset == 1


def test_atomic_is_one_batch(log):
    values = [b"x" * 1000] * 200
    log.append_many(values)
    assert len(list(log.read_batches())) > 1
    first = log.append_many(values, atomic=True)
    assert [batch.record_count for batch in log.read_batches(first)] == [200]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs(log_path, codec):
    values = [b"the same words again and again %d" % (i % 7) for i in range(5000)]
    with stratalog.Log(log_path, create=True, codec=codec) as log:
        log.append_many(values, keys=values)
        log.append(b"single")
        assert {batch.codec for batch in log.read_batches()} == {codec}
        assert list(log.read_values()) == [*values, b"single"]
        assert log.get(4321).value == values[4321]
        assert [record.key for batch in log.read_batches() for record in batch][:5000] == values
        assert log.verify().ok
    with stratalog.Log(log_path, mode="r") as log:
        assert list(log.read_values()) == [*values, b"single"]


def test_read_between_offsets(log):
    log.append_many([b"%d" % i for i in range(10_000)])
    assert [r.offset for r in log.read(5, end_offset=9)] == [5, 6, 7, 8]
    assert [r.offset for r in log.read(9_998)] == [9_998, 9_999]
    assert list(log.read(10_000)) == []
    assert list(log.read(7, end_offset=7)) == []
    assert len(list(log.read_values(1, end_offset=9_999))) == 9_998
    assert [bytes(v) for v in log.read_values(3_333, end_offset=3_335)] == [b"3333", b"3334"]


def test_the_end_of_a_read_is_the_end_at_the_call(log):
    log.append_many([b"a", b"b"])
    seen = 0
    for record in log.read():
        log.append(bytes(record.value))
        seen += 1
    assert seen == 2
    assert log.log_end_offset == 4


def test_segments_roll_and_are_described(log):
    values = [b"x" * 1000] * 500
    for _ in range(10):
        log.append_many(values)
    segments = log.segments()
    assert len(segments) == log.stats().segment_count > 3
    assert segments[0].base_offset == 0
    assert segments[-1].end_offset == 5000
    for before, after in itertools.pairwise(segments):
        assert before.end_offset == after.base_offset
        assert before.log_bytes <= 1 << 20
    assert sum(segment.log_bytes for segment in segments) == log.stats().log_bytes
    log.roll()
    assert len(log.segments()) == len(segments) + 1
    assert len(list(log.read())) == 5000


def test_lookup_many(log):
    log.append_many([b"v%d" % i for i in range(3000)], keys=[b"k%d" % i for i in range(3000)])
    log.append_many([None, b""], keys=[None, b""])
    wanted = [2999, 0, 17, 3000, 3001, 9999, -1]
    found = log.lookup_many(wanted)
    assert [None if r is None else (r.offset, r.key, r.value) for r in found] == [
        (2999, b"k2999", b"v2999"),
        (0, b"k0", b"v0"),
        (17, b"k17", b"v17"),
        (3000, None, None),
        (3001, b"", b""),
        None,
        None,
    ]
    assert log.lookup_many([]) == []


def test_offset_for_timestamp(log):
    log.append_many([b"x"] * 1000, timestamps_ms=[10 * i for i in range(1000)])
    assert log.offset_for_timestamp(0) == 0
    assert log.offset_for_timestamp(5001) == 501
    assert log.offset_for_timestamp(9990) == 999
    assert log.offset_for_timestamp(9991) is None


def test_truncation(log):
    for _ in range(5):
        log.append_many([b"x" * 1000] * 500)
    log.truncate_prefix(1000)
    assert (log.log_start_offset, log.log_end_offset) == (1000, 2500)
    assert next(log.read()).offset == 1000
    log.truncate_suffix(2000)
    assert log.log_end_offset == 2000
    assert log.append(b"again") == 2000
    assert [r.offset for r in log.read(1998)] == [1998, 1999, 2000]
    assert log.verify().ok


def test_reopening_finds_everything(log_path):
    with stratalog.Log(log_path, create=True, segment_bytes=1 << 16) as log:
        log.append_many([b"%d" % i for i in range(5000)])
        log.truncate_prefix(10)
    with stratalog.Log(log_path) as log:
        assert (log.log_start_offset, log.log_end_offset) == (10, 5000)
        assert log.append(b"5000") == 5000
        assert [bytes(v) for v in log.read_values()] == [b"%d" % i for i in range(10, 5001)]


def test_initial_offset(log_path):
    with stratalog.Log(log_path, create=True, initial_offset=1 << 40) as log:
        assert log.append(b"x") == 1 << 40
        assert log.get(1 << 40).value == b"x"


def test_verify_reads_everything(log):
    log.append_many([b"x" * 100] * 30_000)
    steps = []
    report = log.verify(steps.append)
    assert report.ok
    assert report.records == 30_000
    assert report.segments == len(log.segments()) == len(steps)
    assert sum(steps) == log.stats().log_bytes


@pytest.mark.parametrize("sync", ["none", "interval", "always"])
def test_sync_modes(log_path, sync):
    with stratalog.Log(log_path, create=True, sync=sync, sync_interval_ms=10) as log:
        offset = log.append(b"x")
        if sync == "always":
            assert log.durable_offset == offset + 1
        log.wait_durable(offset, timeout=10)
        assert log.durable_offset == offset + 1
        assert log.stats().sync_count >= 1


def test_a_reader_beside_the_writer(log, log_path):
    log.append(b"before")
    with stratalog.Log(log_path, mode="r") as reader:
        assert [r.value for r in reader.read()] == [b"before"]
        assert reader.stats().writer_alive
        log.append(b"after")
        assert [r.value for r in reader.read()] == [b"before", b"after"]
        log.append(b"last")
        reader.refresh()
        assert reader.log_end_offset == 3


def test_repr_says_what_it_is(log):
    log.append(b"x" * 100)
    assert "offsets 0 to 1" in repr(log)
    assert "100 bytes" in repr(log.get(0))
    assert "offsets 0 to 0, 1 records" in repr(next(log.read_batches()))
    log.close()
    assert "closed" in repr(log)


def test_a_log_that_is_not_closed_warns(log_path):
    log = stratalog.Log(log_path, create=True)
    log.append(b"x")
    with pytest.warns(ResourceWarning, match="unclosed"):
        del log
    with stratalog.Log(log_path) as log:
        assert log.log_end_offset == 1


def test_an_iterator_keeps_its_log(log_path):
    with stratalog.Log(log_path, create=True) as log:
        log.append_many([b"x"] * 10_000)
    log = stratalog.Log(log_path, mode="r")
    records = log.read()
    next(records)
    assert sum(1 for _ in records) == 9_999
    log.close()


def test_closing_ends_iterators_in_order(log):
    log.append_many([b"x"] * 10_000)
    records = log.read()
    assert next(records).offset == 0
    batches = log.read_batches()
    next(batches)
    log.close()
    with pytest.raises(errors.LogClosedError):
        list(records)
    with pytest.raises(errors.LogClosedError):
        list(batches)


def test_a_compacted_log_has_gaps(log, log_path, tmp_path):
    log.append_many([b"%d" % i for i in range(10)])
    raw = bytes(next(log.read_batches()).data)
    compacted = tmp_path / "compacted"
    compacted.mkdir()
    for base_offset, batches in ((0, (0, 100, 200)), (300, (300,))):
        (compacted / f"{base_offset:020d}.log").write_bytes(
            b"".join(struct.pack(">q", base) + raw[8:] for base in batches)
        )
    with stratalog.Log(compacted) as gappy:
        assert gappy.log_end_offset == 310
        assert [r.offset for r in gappy.read(5, end_offset=103)] == [5, 6, 7, 8, 9, 100, 101, 102]
        assert [bytes(v) for v in gappy.read_values(9, end_offset=101)] == [b"9", b"0"]
        assert list(gappy.read(55, end_offset=60)) == []
        assert list(gappy.read_batches(55, end_offset=60)) == []
        assert next(gappy.read(55)).offset == 100
        assert gappy.get(205).value == b"5"
        assert [r and r.offset for r in gappy.lookup_many([5, 50, 105])] == [5, None, 105]
        with pytest.raises(errors.RecordNotFoundError) as caught:
            gappy.get(50)
        assert caught.value.offset == 50
        assert gc_and_pinned(gappy) == 0


def gc_and_pinned(log):
    gc.collect()
    return log.stats().pinned_bytes
