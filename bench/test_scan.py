"""Reading everything in order, warm: values, full records, copies, Arrow columns, a cursor in C."""

# As in tests: arguments are fixtures, a name is its sentence, and assert is what a test does.
# ruff: noqa: ANN001, ANN201, ANN202, D103, S101
from __future__ import annotations

from dataclasses import replace

import pytest

from stratalog.benchmark.model import Durability, Operation, Workload
from stratalog.benchmark.payload import expected_crc32

ROUNDS = 5
SCAN = Workload("scan", 100, 50_000, 1_000, Durability.PROCESS, Operation.SCAN)


def _total(values):
    return sum(map(len, values))


def test_read_values(benchmark, filled_log, holds):
    log = filled_log(SCAN)
    total_bytes = benchmark.pedantic(
        lambda: _total(log.read_values()), rounds=ROUNDS, warmup_rounds=1
    )
    assert total_bytes == SCAN.measured_bytes
    assert holds(log, SCAN)


def test_read_values_copied(benchmark, filled_log, holds):
    log = filled_log(SCAN)
    total_bytes = benchmark.pedantic(
        lambda: _total(log.read_values(copy=True)), rounds=ROUNDS, warmup_rounds=1
    )
    assert total_bytes == SCAN.measured_bytes
    assert holds(log, SCAN)


def test_read(benchmark, filled_log, holds):
    log = filled_log(SCAN)

    def work():
        return sum(len(record.value) for record in log.read())

    assert benchmark.pedantic(work, rounds=ROUNDS, warmup_rounds=1) == SCAN.measured_bytes
    assert [record.offset for record in log.read()] == list(range(SCAN.records))
    assert holds(log, SCAN)


def test_columns(benchmark, filled_log):
    pyarrow = pytest.importorskip("pyarrow")
    log = filled_log(SCAN)
    table = benchmark.pedantic(lambda: pyarrow.table(log.columns()), rounds=ROUNDS)
    assert table.num_rows == SCAN.records
    assert table.column("value").to_pylist() == list(log.read_values(copy=True))


@pytest.mark.parametrize("operation", [Operation.SCAN, Operation.SCAN_TOUCHED])
def test_cursor_in_c(native, operation):
    workload = replace(SCAN, operation=operation)
    found = native("scan", workload, {"touch": int(operation is Operation.SCAN_TOUCHED)})
    assert found.records == workload.records
    assert found.extra["payload_crc32"] == expected_crc32(workload)
