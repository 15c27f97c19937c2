"""Fixtures of the pytest-benchmark files: one file for each canonical workload of the embedded log.

    pytest bench/ --benchmark-only              small sizes, a minute: for comparing two commits
    pytest bench/ --benchmark-only --full       1 GiB to recover, 1,000 segments to open
    pytest bench/ --benchmark-only --basetemp=/mnt/disk/bench          on the disk to be measured

Every benchmark checks what it stored: offsets, counts and the checksum over all payload bytes. None
asserts a time. pytest-benchmark keeps and compares the figures (``--benchmark-autosave``,
``--benchmark-compare``); floors and peers are in ``stratalog bench``, not here.

The payload is that of ``stratalog bench`` (stratalog.benchmark.payload): the same seed, the same
bytes. Where the loop itself is in C, the program stratalog-load does the workload and says how long
it took; pytest-benchmark's own figure then includes filling and checking, and what counts stands in
``extra_info``.

Left to others: peers, floors, ratios (src/stratalog/benchmark).
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stratalog
from stratalog.benchmark import ours, programs
from stratalog.benchmark.model import Measurement, Workload
from stratalog.benchmark.payload import Payload, expected_crc32

ROUNDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``."""
    parser.addoption("--full", action="store_true", help="sizes of the project's targets")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the sizes are those of the targets."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def new_directory(tmp_path: Path) -> Callable[[], Path]:
    """Make an empty directory at each call."""
    numbers = itertools.count()

    def make() -> Path:
        directory = tmp_path / f"round-{next(numbers)}"
        directory.mkdir()
        return directory

    return make


@pytest.fixture
def new_log(new_directory: Callable[[], Path]) -> Iterator[Callable[..., stratalog.Log]]:
    """Make an empty log at each call; all are closed in the end."""
    logs: list[stratalog.Log] = []

    def make(**options: Any) -> stratalog.Log:
        logs.append(stratalog.Log(new_directory() / "log", create=True, **options))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@pytest.fixture
def filled_log(new_log: Callable[..., stratalog.Log]) -> Callable[..., stratalog.Log]:
    """Make a log that holds the payload of a workload."""

    def make(workload: Workload, **options: Any) -> stratalog.Log:
        log = new_log(**options)
        for group in Payload(workload).groups():
            log.append_many(group)
        return log

    return make


@pytest.fixture
def holds() -> Callable[[stratalog.Log, Workload], bool]:
    """Whether a log holds exactly the payload of a workload, in its order."""

    def check(log: stratalog.Log, workload: Workload) -> bool:
        return (
            log.log_end_offset == workload.records
            and checksum(log.read_values()) == expected_crc32(workload)
            and log.verify().ok
        )

    return check


def checksum(values: Iterable[Any]) -> int:
    """Return the CRC-32 of all values in their order."""
    crc = 0
    for value in values:
        crc = zlib.crc32(value, crc)
    return crc


@pytest.fixture
def native(
    benchmark: Any, new_directory: Callable[[], Path]
) -> Callable[[str, Workload, dict[str, object]], Measurement]:
    """Benchmark one command of stratalog-load; its own clock goes into ``extra_info``."""
    try:
        programs.locate(ours.PROGRAM)
    except programs.ProgramMissingError as missing:
        pytest.skip(str(missing))

    def run(command: str, workload: Workload, options: dict[str, object]) -> Measurement:
        found: list[Measurement] = []

        def once(directory: Path) -> None:
            found.append(ours.load(workload.name, command, workload, directory, options))

        benchmark.pedantic(once, setup=lambda: ((new_directory(),), {}), rounds=ROUNDS)
        best = min(found, key=lambda one: one.seconds)
        benchmark.extra_info.update(
            seconds_min=best.seconds,
            records_per_second_max=best.records_per_second,
            cpu_seconds_per_million_records=best.cpu_seconds_per_million_records,
            **best.extra,
        )
        return best

    return run
