"""Append, power-safe: a sync for each record with 1, 8 and 64 appenders, and one for each group."""

# As in tests: arguments are fixtures, a name is its sentence, and assert is what a test does.
# ruff: noqa: ANN001, ANN201, ANN202, D103, S101
from __future__ import annotations

import threading
from collections import Counter

import pytest

from stratalog.benchmark.model import Durability, Workload
from stratalog.benchmark.payload import Payload

ROUNDS = 3
SYNCED = Workload("each synced", 100, 256, 1, Durability.RECORD)
GROUPS = Workload("groups of 64", 100, 6_400, 64, Durability.GROUP)
appenders = pytest.mark.parametrize("count", [1, 8, 64])


@appenders
def test_durable_appenders(benchmark, new_log, count):
    values = list(Payload(SYNCED).stream())
    logs = []

    def setup():
        logs.append(new_log(sync="always"))
        return (logs[-1],), {}

    def work(log):
        def some(first):
            for value in values[first::count]:
                log.append(value)

        threads = [threading.Thread(target=some, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    benchmark.pedantic(work, setup=setup, rounds=ROUNDS)
    benchmark.extra_info["records"] = len(values)
    benchmark.extra_info["syncs"] = logs[-1].stats().sync_count
    for log in logs:
        assert log.durable_offset == log.log_end_offset == len(values)
        assert Counter(log.read_values(copy=True)) == Counter(values)


@appenders
def test_durable_appenders_in_c(native, count):
    found = native("append", SYNCED, {"sync": "always", "threads": count})
    assert found.records == SYNCED.records  # every record once: the program has compared them
    assert 0 < found.extra["syncs"] <= SYNCED.records


def test_durable_groups(benchmark, new_log, holds):
    payload = Payload(GROUPS)
    logs = []

    def setup():
        logs.append(new_log(sync="always"))
        return (logs[-1],), {}

    def work(log):
        for group in payload.groups():
            log.append_many(group)

    benchmark.pedantic(work, setup=setup, rounds=ROUNDS)
    benchmark.extra_info["records"] = GROUPS.records
    for log in logs:
        assert log.durable_offset == GROUPS.records
        assert holds(log, GROUPS)
