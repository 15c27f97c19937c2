"""Opening a log of many clean segments: 100, or 1,000 with ``--full``; a writer and a reader."""

# As in tests: arguments are fixtures, a name is its sentence, and assert is what a test does.
# ruff: noqa: ANN001, ANN201, ANN202, D103, S101
from __future__ import annotations

import pytest

import stratalog
from stratalog.benchmark.model import Durability, Workload

ROUNDS = 5
RECORDS_OF_A_SEGMENT = 10


@pytest.mark.parametrize("mode", ["a", "r"])
def test_open(benchmark, new_directory, full, mode):
    segments = 1_000 if full else 100
    path = new_directory() / "log"
    with stratalog.Log(path, create=True) as log:
        for number in range(segments):
            if number:
                log.roll()
            log.append_many([b"x" * 100] * RECORDS_OF_A_SEGMENT)
    opened = []

    def close_last():
        while opened:
            opened.pop().close()

    def work():
        opened.append(stratalog.Log(path, mode=mode))

    benchmark.pedantic(work, setup=close_last, rounds=ROUNDS, warmup_rounds=1)
    log = opened[-1]
    assert len(log.segments()) == segments
    assert log.log_end_offset == segments * RECORDS_OF_A_SEGMENT
    assert sum(1 for _ in log.read()) == log.log_end_offset
    close_last()


def test_open_in_c(native, full):
    segments = 1_000 if full else 100
    count = RECORDS_OF_A_SEGMENT
    workload = Workload("open", 100, count, count, Durability.PROCESS)
    found = native("open", workload, {"count": segments})
    assert found.extra["segment_count"] == segments
    assert found.records == segments * RECORDS_OF_A_SEGMENT
