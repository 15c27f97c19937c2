"""Append, process-safe: one at a time, many a call, a loop in C; 100 B, 1 KiB, 64 KiB; each codec.

Each round appends to an empty log of its own. A codec is given text, because the payload of all
other workloads cannot be compressed.
"""

# As in tests: arguments are fixtures, a name is its sentence, and assert is what a test does.
# ruff: noqa: ANN001, ANN201, ANN202, D103, S101
from __future__ import annotations

from dataclasses import replace

import pytest

from stratalog.benchmark.extra_bodies import CODECS, text_lines
from stratalog.benchmark.model import Durability, Workload
from stratalog.benchmark.payload import Payload, expected_crc32

ROUNDS = 5
WORKLOADS = [
    Workload("100 B", 100, 20_000, 1_000, Durability.PROCESS),
    Workload("1 KiB", 1_024, 10_000, 100, Durability.PROCESS),
    Workload("64 KiB", 65_536, 256, 16, Durability.PROCESS),
]
by_size = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one.name)


@by_size
def test_append(benchmark, new_log, holds, workload):
    payload = Payload(workload)
    logs = []

    def setup():
        logs.append(new_log())
        return (logs[-1],), {}

    def work(log):
        append = log.append
        for value in payload.stream():
            append(value)

    benchmark.pedantic(work, setup=setup, rounds=ROUNDS)
    benchmark.extra_info["records"] = workload.records
    assert all(holds(log, workload) for log in logs)


@by_size
def test_append_many(benchmark, new_log, holds, workload):
    payload = Payload(workload)
    logs = []

    def setup():
        logs.append(new_log())
        return (logs[-1],), {}

    def work(log):
        append_many = log.append_many
        for group in payload.groups():
            append_many(group)

    benchmark.pedantic(work, setup=setup, rounds=ROUNDS)
    benchmark.extra_info["records"] = workload.records
    assert all(holds(log, workload) for log in logs)


@by_size
def test_append_in_c(native, workload):
    found = native("append", workload, {})
    assert found.records == workload.records
    assert found.extra["payload_crc32"] == expected_crc32(workload)


def test_append_value_in_c(native):
    workload = replace(WORKLOADS[0], batch_records=1)
    found = native("append", workload, {})
    assert found.records == workload.records
    assert found.extra["payload_crc32"] == expected_crc32(workload)


@pytest.mark.parametrize("codec", CODECS)
def test_append_many_with_codec(benchmark, new_log, codec):
    lines = text_lines(seed=1, record_bytes=1_024)
    logs = []

    def setup():
        logs.append(new_log(codec=codec))
        return (logs[-1],), {}

    def work(log):
        for first in range(0, len(lines), 64):
            log.append_many(lines[first : first + 64])

    benchmark.pedantic(work, setup=setup, rounds=ROUNDS)
    benchmark.extra_info["records"] = len(lines)
    benchmark.extra_info["stored_bytes"] = logs[-1].stats().log_bytes
    assert all(list(log.read_values(copy=True)) == lines for log in logs)
