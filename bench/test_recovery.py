"""Recovery: open a log whose writer was killed before it flushed; 1 GiB dirty with ``--full``."""

# As in tests: arguments are fixtures, a name is its sentence, and assert is what a test does.
# ruff: noqa: ANN001, ANN201, D103, S101
from __future__ import annotations

from stratalog.benchmark.model import Durability, Workload

MIB = 1 << 20


def test_open_after_sigkill(native, full):
    dirty_bytes = 1024 * MIB if full else 32 * MIB
    workload = Workload("recovery", 100, 1_000, 1_000, Durability.PROCESS)
    options = {"log-bytes": dirty_bytes, "segment-bytes": dirty_bytes + dirty_bytes // 16}
    found = native("recover", workload, options)
    # The program has compared every byte with what was appended.
    assert found.extra["log_bytes"] >= dirty_bytes
    assert found.extra["recovered_batches"] > 0
    assert found.extra["discarded_bytes"] == 0
    assert found.extra["segment_count"] == 1
