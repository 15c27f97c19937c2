"""Single records: by offset in batches of 64 KiB, many offsets a call, and seeking by time."""

# As in tests: arguments are fixtures, a name is its sentence, and assert is what a test does.
# ruff: noqa: ANN001, ANN201, ANN202, D103, S101
from __future__ import annotations

import zlib

from stratalog.benchmark.model import Durability, Operation, Workload
from stratalog.benchmark.payload import Payload, expected_crc32

ROUNDS = 5
FIRST_TIMESTAMP_MS = 1_700_000_000_000
LOOKUP = Workload("lookup", 100, 50_000, 1_000, Durability.PROCESS, Operation.LOOKUP, 2_000)


def _checksum(records):
    crc = 0
    for record in records:
        crc = zlib.crc32(record.value, crc)
    return crc


def test_get(benchmark, filled_log):
    log = filled_log(LOOKUP)
    wanted = Payload(LOOKUP).lookups

    def work():
        return [log.get(offset) for offset in wanted]

    records = benchmark.pedantic(work, rounds=ROUNDS, warmup_rounds=1)
    assert [record.offset for record in records] == wanted
    assert _checksum(records) == expected_crc32(LOOKUP)


def test_lookup_many(benchmark, filled_log):
    log = filled_log(LOOKUP)
    wanted = Payload(LOOKUP).lookups
    records = benchmark.pedantic(lambda: log.lookup_many(wanted), rounds=ROUNDS, warmup_rounds=1)
    assert [record.offset for record in records] == wanted
    assert _checksum(records) == expected_crc32(LOOKUP)


def test_get_in_c(native):
    found = native("get", LOOKUP, {})
    assert found.records == LOOKUP.lookups
    assert found.extra["payload_crc32"] == expected_crc32(LOOKUP)


def test_lookup_many_in_c(native):
    found = native("get", LOOKUP, {"many": 1})
    assert found.records == LOOKUP.lookups
    assert found.extra["payload_crc32"] == expected_crc32(LOOKUP)


def test_seek_by_time(benchmark, new_log):
    payload = Payload(LOOKUP)
    log = new_log()
    for first, group in zip(range(0, LOOKUP.records, 1_000), payload.groups(), strict=True):
        start_ms = FIRST_TIMESTAMP_MS + first
        log.append_many(group, timestamps_ms=range(start_ms, start_ms + len(group)))

    def work():
        return [log.offset_for_timestamp(FIRST_TIMESTAMP_MS + i) for i in payload.lookups]

    found = benchmark.pedantic(work, rounds=ROUNDS, warmup_rounds=1)
    assert found == payload.lookups
    assert log.offset_for_timestamp(FIRST_TIMESTAMP_MS + LOOKUP.records) is None


def test_seek_by_time_in_c(native):
    found = native("seek-time", LOOKUP, {})
    assert found.records == LOOKUP.lookups  # each compared with its offset by the program
