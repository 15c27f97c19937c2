"""Whatever is appended in whatever portions comes back, through every way of reading."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stratalog

blobs = st.binary(max_size=40) | st.binary(min_size=100, max_size=300)
headers = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3)
timestamps = st.integers(min_value=0, max_value=1 << 45)
rows = st.tuples(st.none() | blobs, st.none() | blobs, timestamps, headers.map(tuple))
codec_names = st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"])
portions = st.tuples(st.lists(rows, min_size=1, max_size=60), codec_names, st.booleans())
scripts = st.lists(portions | st.just("reopen") | st.just("roll"), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=scripts, batch_bytes=st.sampled_from([256, 4096, 65536]))
def test_round_trip(script, batch_bytes):
    with tempfile.TemporaryDirectory() as directory:
        options = {"segment_bytes": 16384, "batch_bytes": batch_bytes, "index_interval_bytes": 512}
        path = Path(directory) / "log"
        run_script(path, script, options)


def run_script(path: Path, script: list[object], options: dict[str, int]) -> None:
    expected: list[stratalog.Record] = []
    log = stratalog.Log(path, create=True, **options)
    try:
        for step in script:
            if step == "reopen":
                log.close()
                log = stratalog.Log(path, **options)
            elif step == "roll":
                log.roll()
            else:
                expected += append_portion(log, *step)
        check_all_ways(log, expected)
    finally:
        log.close()
    with stratalog.Log(path, mode="r", **options) as reader:
        check_all_ways(reader, expected)


def append_portion(log, portion, codec, single) -> list[stratalog.Record]:
    """Append one portion, record by record or in one call; return what is now expected."""
    first = log.log_end_offset
    if single:
        for value, key, timestamp_ms, record_headers in portion:
            log.append(value, key=key, timestamp_ms=timestamp_ms, headers=record_headers)
    else:
        values, keys, times, record_headers = zip(*portion, strict=True)
        offset = log.append_many(
            values, keys=keys, timestamps_ms=times, headers=record_headers, codec=codec
        )
        assert offset == first
    return [
        stratalog.Record(first + index, timestamp_ms, key, value, record_headers)
        for index, (value, key, timestamp_ms, record_headers) in enumerate(portion)
    ]


def check_all_ways(log: stratalog.Log, expected: list[stratalog.Record]) -> None:
    assert log.log_end_offset == len(expected)
    assert list(log.read(copy=True)) == expected
    assert list(log.read()) == expected  # memoryviews compare by content
    assert list(log.read_values()) == [record.value for record in expected]
    assert [record for batch in log.read_batches() for record in batch] == expected
    found = log.lookup_many(range(len(expected)))
    assert [record and record._replace(headers=()) for record in found] == [
        record._replace(headers=()) for record in expected
    ]
    for record in expected[:: max(1, len(expected) // 5)]:
        assert log.get(record.offset) == record
        assert next(log.read(record.offset)) == record
    report = log.verify()
    assert report.ok, report.problems
    assert report.records == len(expected)
