"""Our own subjects: the engine as a C program uses it, and as a Python program does.

One row for each way of doing a workload, as LMDB's put and putmulti are two rows:

    row                         language   process   group    record    scan   lookup
    stratalog (C) append_value  c          single             single
    stratalog (C) append        c          batches   batches
    stratalog (C) cursor        c                                       yes
    stratalog (C) get           c                                              yes
    stratalog (C) lookup_many   c                                              yes
    stratalog append            python     single             single
    stratalog append_many       python     batches   batches
    stratalog append, flush     python               batches
    stratalog read_values       python                                  yes
    stratalog read              python                                  yes
    stratalog read, copies      python                                  yes
    stratalog columns           python                                  plain
    stratalog get               python                                         yes
    stratalog lookup_many       python                                         yes

The C rows are driven by stratalog-load (native/bench/load.c) over the public C interface, the
Python rows by the bodies below in a process of their own (child.py). Every batch carries a CRC-32C
that is checked when it is read for the first time.

The durability classes, and how each was confirmed. Small runs under ``strace -f``, counting
fdatasync, fsync and msync over the whole life of the process, for groups of 64 records and for
single ones:

    class             setting                         50 -> 150 groups      so, for each group
    process           sync="none"                     fdatasync 2 -> 2      nothing
    group, record     sync="always"                   fdatasync 51 -> 151   1 fdatasync
    group             sync="none", flush() per group  fdatasync 51 -> 151   1 fdatasync

C and Python gave the same counts. The rest, and 3 fsync in every run, are creating and closing.

A read begins with a log that was filled, closed and opened anew, and with one untimed pass, so that
the pages are mapped and every batch's checksum has been looked at; the extras (extra.py) tell what
the first pass costs. "columns" adds up the lengths that stand in the Arrow column, with no Python
object for each record; it has no row where every byte is touched, because pyarrow has no CRC-32.

What it leaves to others: what only we can do (extra_bodies.py, extra.py), repetition and comparison
(runner.py, report.py).
"""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import stratalog
from stratalog.benchmark import programs
from stratalog.benchmark.child import Outcome, Stopwatch, measure_in_child, measurement_from
from stratalog.benchmark.child import run_bounded as run_program
from stratalog.benchmark.model import (
    Durability,
    Measurement,
    Operation,
    Subject,
    SubjectFailedError,
    Workload,
)
from stratalog.benchmark.payload import Payload

__all__ = ["PROGRAM", "NativeDoor", "PythonDoor", "load", "subjects"]

PROGRAM: Final = "stratalog-load"
LOOKUP_CHUNK_RECORDS: Final = 1_000

PROCESS = frozenset({Durability.PROCESS})
GROUP = frozenset({Durability.GROUP})
RECORD = frozenset({Durability.RECORD})
APPENDS = frozenset({Operation.APPEND})
SCANS = frozenset({Operation.SCAN, Operation.SCAN_TOUCHED})
LOOKUPS = frozenset({Operation.LOOKUP})


# ---- bodies of the Python rows -------------------------------------------------------------------


def _crc(values: Iterable[Any]) -> int:
    crc = 0
    for value in values:
        crc = zlib.crc32(value, crc)
    return crc


def _sync_of(workload: Workload) -> str:
    return "none" if workload.durability is Durability.PROCESS else "always"


def _appended(
    workload: Workload, directory: Path, sync: str, work: Callable[[stratalog.Log], None]
) -> Outcome:
    """Time ``work`` on an empty log, then read everything back."""
    with stratalog.Log(directory / "log", create=True, sync=sync) as log:
        syncs = log.stats().sync_count
        with Stopwatch() as watch:
            work(log)
        stats = log.stats()
        return Outcome(
            watch=watch,
            records=log.log_end_offset,
            bytes=workload.measured_bytes,
            payload_crc32=_crc(log.read_values()),
            extra={"syncs": stats.sync_count - syncs, "log_bytes": stats.log_bytes},
        )


def append(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    def work(log: stratalog.Log) -> None:
        one = log.append
        for value in payload.stream():
            one(value)

    return _appended(workload, directory, _sync_of(workload), work)


def append_many(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    def work(log: stratalog.Log) -> None:
        many = log.append_many
        for group in payload.groups():
            many(group)

    return _appended(workload, directory, _sync_of(workload), work)


def append_flush(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    def work(log: stratalog.Log) -> None:
        one, flush = log.append, log.flush
        for group in payload.groups():
            for value in group:
                one(value)
            flush()

    return _appended(workload, directory, "none", work)


@contextmanager
def _filled(directory: Path, payload: Payload) -> Iterator[stratalog.Log]:
    """Fill a log, and lend it opened anew, as a reader finds it, after one untimed pass."""
    with stratalog.Log(directory / "log", create=True) as writer:
        for group in payload.groups():
            writer.append_many(group)
    with stratalog.Log(directory / "log", mode="r") as log:
        for _ in log.read_values():
            pass
        yield log


def read_values(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    records = total_bytes = crc = 0
    with _filled(directory, payload) as log:
        with Stopwatch() as watch:
            if workload.operation is Operation.SCAN_TOUCHED:
                for value in log.read_values():
                    crc = zlib.crc32(value, crc)  # type: ignore[arg-type]
                    total_bytes += len(value)  # type: ignore[arg-type]
                    records += 1
            else:
                for value in log.read_values():
                    total_bytes += len(value)  # type: ignore[arg-type]
                    records += 1
        if workload.operation is Operation.SCAN:
            crc = _crc(log.read_values())
    return Outcome(watch, records, total_bytes, crc)


def read_copies(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    return read(workload, directory, payload, copy=True)


def read(workload: Workload, directory: Path, payload: Payload, *, copy: bool = False) -> Outcome:
    records = total_bytes = crc = 0
    with _filled(directory, payload) as log:
        with Stopwatch() as watch:
            if workload.operation is Operation.SCAN_TOUCHED:
                for record in log.read(copy=copy):
                    crc = zlib.crc32(record.value, crc)  # type: ignore[arg-type]
                    total_bytes += len(record.value)  # type: ignore[arg-type]
                    records += 1
            else:
                for record in log.read(copy=copy):
                    total_bytes += len(record.value)  # type: ignore[arg-type]
                    records += 1
        if workload.operation is Operation.SCAN:
            crc = _crc(record.value for record in log.read(copy=copy))
    return Outcome(watch, records, total_bytes, crc)


def columns(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del workload  # the payload says it all
    reader = importlib.import_module("pyarrow").RecordBatchReader
    records = total_bytes = crc = 0
    with _filled(directory, payload) as log:
        with Stopwatch() as watch:
            for batch in reader.from_stream(log.columns()):
                values = batch.column("value")
                # A binary view is four 32-bit words, the first of which is the length.
                words = memoryview(values.buffers()[1]).cast("i")
                first = 4 * values.offset
                total_bytes += sum(words[first : first + 4 * len(values) : 4])
                records += len(values)
        for batch in reader.from_stream(log.columns()):
            crc = zlib.crc32(b"".join(batch.column("value").to_pylist()), crc)
    return Outcome(watch, records, total_bytes, crc)


def get(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del workload
    records = total_bytes = crc = 0
    with _filled(directory, payload) as log:
        one = log.get
        for offset in payload.lookups:
            crc = zlib.crc32(one(offset).value, crc)  # type: ignore[arg-type]
        with Stopwatch() as watch:
            for offset in payload.lookups:
                total_bytes += len(one(offset).value)  # type: ignore[arg-type]
                records += 1
    return Outcome(watch, records, total_bytes, crc)


def lookup_many(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del workload
    records = total_bytes = 0
    wanted = payload.lookups
    size = LOOKUP_CHUNK_RECORDS
    chunks = [wanted[i : i + size] for i in range(0, len(wanted), size)]
    with _filled(directory, payload) as log:
        many = log.lookup_many
        crc = _crc(record.value for chunk in chunks for record in many(chunk) if record)
        with Stopwatch() as watch:
            for chunk in chunks:
                for record in many(chunk):
                    total_bytes += len(record.value)  # type: ignore[union-attr, arg-type]
                    records += 1
    return Outcome(watch, records, total_bytes, crc)


# ---- the C program -------------------------------------------------------------------------------


def load(
    subject: str, command: str, workload: Workload, directory: Path, options: Mapping[str, object]
) -> Measurement:
    """Run one command of stratalog-load in an empty directory and return what it measured.

    Record and batch sizes, counts, lookups and the payload are the workload's; ``options`` add to
    them or replace them.

    Raises:
        SubjectFailedError: the program is missing, or gave its reason.
    """
    try:
        program = programs.locate(PROGRAM)
    except programs.ProgramMissingError as missing:
        raise SubjectFailedError(f"{subject}: {missing}") from missing
    payload = Payload(workload)
    payload.write_pool(directory / "payload")
    data = directory / "data"
    data.mkdir()
    chosen: dict[str, object] = {
        "dir": data,
        "payload": directory / "payload",
        "record-bytes": workload.record_bytes,
        "batch-records": workload.batch_records,
        "records": workload.records,
        "seed": workload.seed,
    }
    if payload.lookups:
        payload.write_lookups(directory / "lookups")
        chosen["lookups-file"] = directory / "lookups"
    line = [str(program), command]
    for option, value in {**chosen, **options}.items():
        line += [f"--{option}", str(value)]
    return measurement_from(run_program(line, what=subject), subject, workload)


# ---- the subjects --------------------------------------------------------------------------------


def _fits(
    workload: Workload,
    operations: frozenset[Operation],
    single: frozenset[Durability],
    batched: frozenset[Durability],
) -> bool:
    if workload.operation not in operations:
        return False
    if workload.is_read:
        return True
    return workload.durability in (single if workload.batch_records == 1 else batched)


@dataclass(frozen=True)
class NativeDoor:
    """A row of the C interface."""

    name: str
    command: str
    settings: str
    sync_evidence: str
    operations: frozenset[Operation] = APPENDS
    single: frozenset[Durability] = frozenset()
    """The classes it appends single records in."""
    batched: frozenset[Durability] = frozenset()
    """The classes it appends batches in."""
    many: bool = False
    """Whether a lookup asks for many offsets a call."""
    language: str = "c"

    def version(self) -> str:
        """Return the version of the engine."""
        return f"stratalog {stratalog.__version__}"

    def available(self) -> str | None:
        """Return None if the program is there, compiling it if need be, else the reason."""
        try:
            programs.locate(PROGRAM)
        except programs.ProgramMissingError as missing:
            return str(missing)
        return None

    def supports(self, workload: Workload) -> bool:
        """Return whether this way of calling answers the workload."""
        return _fits(workload, self.operations, self.single, self.batched)

    def run(self, workload: Workload, directory: Path) -> Measurement:
        """Run the program once."""
        options: dict[str, object] = {}
        if not workload.is_read:
            options["sync"] = _sync_of(workload)
        if workload.operation is Operation.SCAN_TOUCHED:
            options["touch"] = 1
        if self.many:
            options["many"] = 1
        return load(self.name, self.command, workload, directory, options)


@dataclass(frozen=True)
class PythonDoor:
    """A row of the Python interface."""

    name: str
    body: Callable[[Workload, Path, Payload], Outcome]
    settings: str
    sync_evidence: str
    operations: frozenset[Operation] = APPENDS
    single: frozenset[Durability] = frozenset()
    batched: frozenset[Durability] = frozenset()
    package: str | None = None
    """A package that has to be installed beside ours."""
    language: str = "python"

    def version(self) -> str:
        """Return the version of the engine."""
        return f"stratalog {stratalog.__version__}"

    def available(self) -> str | None:
        """Return None, or the name of the package that is missing."""
        if self.package is None or importlib.util.find_spec(self.package) is not None:
            return None
        return f"the Python package {self.package} is not installed"

    def supports(self, workload: Workload) -> bool:
        """Return whether this way of calling answers the workload."""
        return _fits(workload, self.operations, self.single, self.batched)

    def run(self, workload: Workload, directory: Path) -> Measurement:
        """Run the body in a process of its own."""
        return measure_in_child(f"{__name__}:{self.body.__name__}", self.name, workload, directory)


def subjects() -> list[Subject]:
    """Return every way into our engine that a canonical workload can take."""
    settings = "defaults; sync none (process) or always; CRC-32C of each batch"
    evidence = "strace: 1 fdatasync per call with sync always; none with sync none"
    a_read, no_sync = "opened anew, warm, batches checked once", "a read: nothing to sync"
    single, batched = PROCESS | RECORD, PROCESS | GROUP
    return [
        NativeDoor(
            "stratalog (C) append_value", "append", settings, evidence, APPENDS, single=single
        ),
        NativeDoor("stratalog (C) append", "append", settings, evidence, APPENDS, batched=batched),
        NativeDoor("stratalog (C) cursor", "scan", a_read, no_sync, SCANS),
        NativeDoor("stratalog (C) get", "get", a_read, no_sync, LOOKUPS),
        NativeDoor(
            "stratalog (C) lookup_many",
            "get",
            f"{a_read}, 1,000 offsets a call",
            no_sync,
            LOOKUPS,
            many=True,
        ),
        PythonDoor("stratalog append", append, settings, evidence, APPENDS, single=single),
        PythonDoor("stratalog append_many", append_many, settings, evidence, batched=batched),
        PythonDoor(
            "stratalog append, flush",
            append_flush,
            "defaults; sync none, single appends and one flush() for the group",
            "strace: 1 fdatasync per flush()",
            batched=GROUP,
        ),
        PythonDoor("stratalog read_values", read_values, a_read, no_sync, SCANS),
        PythonDoor("stratalog read", read, f"{a_read}, full records", no_sync, SCANS),
        PythonDoor(
            "stratalog read, copies",
            read_copies,
            f"{a_read}, full records of bytes",
            no_sync,
            SCANS,
        ),
        PythonDoor(
            "stratalog columns",
            columns,
            f"{a_read}, Arrow columns by pyarrow",
            no_sync,
            frozenset({Operation.SCAN}),
            package="pyarrow",
        ),
        PythonDoor("stratalog get", get, a_read, no_sync, LOOKUPS),
        PythonDoor(
            "stratalog lookup_many",
            lookup_many,
            f"{a_read}, 1,000 offsets a call, copied",
            no_sync,
            LOOKUPS,
        ),
    ]
