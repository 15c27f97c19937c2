"""One run of the benchmark: what is asked, of whom, in which order, and the Report of it.

    round 0     floors   workload 0: A B C   workload 1: A B C   ...
    round 1     floors   workload 0: B C A   workload 1: B C A   ...
    ...

Every round is a small run of everything, so that a slow minute of the machine falls on all subjects
and on the floors alike; within a round the subjects of one workload follow each other, and who goes
first moves on by one each round. Before each measurement the file system is synced (not in a quick
run), so that nobody pays for the write-back of the one before. Every measurement gets an empty
directory, which is removed afterwards, and a fresh process (child.py, peers_foreign.py).

A measurement counts only if the checksum over every payload byte, the number of records and the
number of bytes are right. A wrong one is a failure, with the subject's name and the reason, and has
no rate.

    records/s       median, min and max over the rounds
    of floor        median over the median of the floor that belongs to the workload (floors.py)
    ours / it       the median of our best subject over its median; Python is compared to our
                    Python, native to our native where we have both

After the workloads of a round come our own extras (extra.py), which no peer is asked: only where
one of our subjects can run, and their failures are failures like any other.

What it leaves to others: tables, JSON and the chart (report.py), what was asked of us
(scorecard.py), our own subjects (ours.py, asked for its ``subjects()`` when a run starts and
reported as missing if it cannot be imported).
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stratalog.benchmark import extra, floors, machine, peers_foreign, peers_python, scorecard
from stratalog.benchmark.model import (
    OUR_PREFIX,
    ChecksumMismatchError,
    Durability,
    Measurement,
    Operation,
    Subject,
    SubjectFailedError,
    Summary,
    Workload,
)
from stratalog.benchmark.payload import expected_crc32

__all__ = [
    "Failure",
    "Options",
    "Report",
    "Row",
    "choose_peers",
    "interleaved",
    "measure",
    "verify",
    "workloads",
]

ROUNDS_DEFAULT: Final = 5
ROUNDS_QUICK: Final = 2
WARMUP_SECONDS_QUICK: Final = 0.25
SEED_DEFAULT: Final = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may choose.

    ``peers`` is "all", "none", or the beginnings of names ("lmdb", "chronicle"); upper and lower
    case are the same. ``rounds`` None means 5, or 2 in a quick run. ``progress`` is told one line
    before each measurement.
    """

    directory: Path
    rounds: int | None = None
    quick: bool = False
    peers: Sequence[str] = ("all",)
    json_path: Path | None = None
    chart_path: Path | None = None
    seed: int = SEED_DEFAULT
    progress: Callable[[str], None] | None = None

    @property
    def rounds_to_run(self) -> int:
        """How many rounds there will be."""
        if self.rounds is not None:
            return max(1, self.rounds)
        return ROUNDS_QUICK if self.quick else ROUNDS_DEFAULT


@dataclass(frozen=True, slots=True)
class Failure:
    """A measurement that has no figure, and why."""

    subject: str
    workload: str
    round: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "subject": self.subject,
            "workload": self.workload,
            "round": self.round,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One subject on one workload, over all rounds."""

    subject: str
    language: str
    ours: bool
    workload: Workload
    measurements: tuple[Measurement, ...]

    @property
    def records_per_second(self) -> Summary:
        """Median and extremes of the rate."""
        return Summary.of([one.records_per_second for one in self.measurements])

    @property
    def bytes_per_second(self) -> Summary:
        """Median and extremes of the payload bytes a second."""
        return Summary.of([one.bytes_per_second for one in self.measurements])

    @property
    def cpu_seconds_per_million_records(self) -> Summary:
        """Median and extremes of processor time, user and system."""
        return Summary.of([one.cpu_seconds_per_million_records for one in self.measurements])


@dataclass(slots=True)
class Report:
    """Everything one run found out."""

    machine: machine.Machine
    rounds: int
    quick: bool
    seed: int
    workloads: list[Workload]
    rows: list[Row]
    floors: list[floors.FloorRun]
    versions: dict[str, str]
    settings: dict[str, str]
    sync_evidence: dict[str, str]
    unavailable: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extras: list[extra.ExtraRow] = field(default_factory=list)

    @property
    def scorecard(self) -> list[scorecard.Line]:
        """What was asked of us, and what this run saw."""
        return scorecard.score(self)

    def rows_of(self, workload: Workload) -> list[Row]:
        """Return the rows of one workload, the fastest first."""
        rows = [row for row in self.rows if row.workload == workload]
        return sorted(rows, key=lambda row: row.records_per_second.median, reverse=True)

    def floor_of(self, workload: Workload) -> Summary | None:
        """Return the floor of a workload in records per second, or None."""
        return floors.floor_of(workload, self.floors)

    def share_of_floor(self, row: Row) -> float | None:
        """Return the row's median over the floor's median, or None without a floor."""
        floor = self.floor_of(row.workload)
        if floor is None or floor.median <= 0:
            return None
        return row.records_per_second.median / floor.median

    def ours_over(self, row: Row) -> float | None:
        """Return how many times as fast our best subject is, or None if we have none to compare."""
        ours = [other for other in self.rows if other.ours and other.workload == row.workload]
        same_kind = [other for other in ours if _kind(other) == _kind(row)]
        rates = [other.records_per_second.median for other in same_kind or ours]
        median = row.records_per_second.median
        return max(rates) / median if rates and median > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types, every single round included."""
        return {
            "format": 1,
            "machine": self.machine.to_json(),
            "settings": {"rounds": self.rounds, "quick": self.quick, "seed": self.seed},
            "subjects": {
                name: {
                    "version": version,
                    "settings": self.settings[name],
                    "sync_evidence": self.sync_evidence[name],
                }
                for name, version in self.versions.items()
            },
            "workloads": [workload.to_json() for workload in self.workloads],
            "floors": [run.to_json() for run in self.floors],
            "results": [self._row_json(row) for row in self.rows],
            "extras": [
                {**row.to_json(), "share_of_floor": row.share_of_floor(self.floors)}
                for row in self.extras
            ],
            "scorecard": [line.to_json() for line in self.scorecard],
            "unavailable": self.unavailable,
            "failures": [failure.to_json() for failure in self.failures],
            "notes": self.notes,
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        return {
            "subject": row.subject,
            "language": row.language,
            "ours": row.ours,
            "workload": row.workload.name,
            "records_per_second": row.records_per_second.to_json(),
            "bytes_per_second": row.bytes_per_second.to_json(),
            "cpu_seconds_per_million_records": row.cpu_seconds_per_million_records.to_json(),
            "share_of_floor": self.share_of_floor(row),
            "ours_over_it": self.ours_over(row),
            "rounds": [one.to_json() for one in row.measurements],
        }


def _kind(row: Row) -> str:
    return "python" if row.language == "python" else "native"


# ---- what is asked -------------------------------------------------------------------------------


def workloads(*, quick: bool = False, seed: int = SEED_DEFAULT) -> list[Workload]:
    """Return the workloads of a run, by durability class, the reads last."""

    def make(
        name: str,
        record_bytes: int,
        records: int,
        batch_records: int,
        durability: Durability,
        operation: Operation = Operation.APPEND,
        lookups: int = 0,
    ) -> Workload:
        if quick:
            records = max(batch_records, records // 40 // batch_records * batch_records)
            lookups = min(lookups, 5_000)
        return Workload(
            name, record_bytes, records, batch_records, durability, operation, lookups, seed
        )

    process, group, record = Durability.PROCESS, Durability.GROUP, Durability.RECORD
    return [
        make("100 B, one at a time", 100, 200_000, 1, process),
        make("100 B, batches of 1,000", 100, 1_000_000, 1_000, process),
        make("1 KiB, one at a time", 1_024, 100_000, 1, process),
        make("1 KiB, batches of 100", 1_024, 200_000, 100, process),
        make("64 KiB, batches of 16", 65_536, 4_096, 16, process),
        make("100 B, groups of 64", 100, 25_600, 64, group),
        make("100 B, groups of 1,000", 100, 200_000, 1_000, group),
        make("1 KiB, groups of 64", 1_024, 25_600, 64, group),
        make("100 B, each synced", 100, 2_000, 1, record),
        make("1 KiB, each synced", 1_024, 2_000, 1, record),
        make("scan, 100 B", 100, 1_000_000, 1_000, process, Operation.SCAN),
        make("scan, 100 B, every byte", 100, 1_000_000, 1_000, process, Operation.SCAN_TOUCHED),
        make("scan, 1 KiB, every byte", 1_024, 200_000, 100, process, Operation.SCAN_TOUCHED),
        make("lookup, 100 B", 100, 1_000_000, 1_000, process, Operation.LOOKUP, 200_000),
    ]


# ---- of whom -------------------------------------------------------------------------------------


def choose_peers(everybody: Sequence[Subject], choice: Sequence[str]) -> list[Subject]:
    """Return the peers that a choice names, in their usual order.

    Raises:
        ValueError: a word of the choice names nobody.
    """
    words = [word.strip().lower() for word in choice if word.strip()]
    if "all" in words:
        return list(everybody)
    words = [word for word in words if word != "none"]
    for word in words:
        if not any(subject.name.lower().startswith(word) for subject in everybody):
            known = ", ".join(dict.fromkeys(subject.name.split()[0] for subject in everybody))
            raise ValueError(f"no peer is called {word!r}; there are: {known}")
    return [
        subject
        for subject in everybody
        if any(subject.name.lower().startswith(word) for word in words)
    ]


def our_subjects() -> tuple[list[Subject], str | None]:
    """Return our own subjects, or none and the reason why they cannot be imported."""
    try:
        ours = importlib.import_module("stratalog.benchmark.ours")
    except ImportError as error:
        return [], str(error)
    return list(ours.subjects()), None


# ---- in which order ------------------------------------------------------------------------------


def interleaved(subjects: Sequence[Subject], rounds: int) -> Iterator[list[Subject]]:
    """Yield the subjects once a round, the first one moving on by one each round."""
    for number in range(rounds):
        shift = number % max(1, len(subjects))
        yield [*subjects[shift:], *subjects[:shift]]


def verify(measurement: Measurement) -> None:
    """Check that everything which was put in came back.

    Raises:
        ChecksumMismatchError: records, bytes or the checksum are not what the workload says.
    """
    workload = measurement.workload
    expected = (workload.measured_records, workload.measured_bytes, expected_crc32(workload))
    found = (measurement.records, measurement.bytes, measurement.extra.get("payload_crc32"))
    names = ("records", "bytes", "payload CRC-32")
    for what, should, did in zip(names, expected, found, strict=True):
        if should != did:
            raise ChecksumMismatchError(
                f"{measurement.subject}: {what} should be {should}, found {did}"
            )


@contextlib.contextmanager
def _fresh_directory(parent: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="stratalog-bench-", dir=parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def measure_once(subject: Subject, workload: Workload, directory: Path) -> Measurement:
    """Run one workload once in an empty directory below ``directory`` and verify the result.

    Raises:
        SubjectFailedError: it could not be done, or not truthfully.
    """
    with _fresh_directory(directory) as place:
        measurement = subject.run(workload, place)
    verify(measurement)
    return measurement


def _measure_floors(
    options: Options, asked: Sequence[Workload], program: Path
) -> list[floors.FloorRun]:
    mib, seconds = (8, 0.5) if options.quick else (64, 4.0)
    return [
        floors.run(program, options.directory, shape, mib=mib, seconds=seconds)
        for shape in floors.shapes(asked)
    ]


def measure(
    options: Options,
    *,
    subjects: Sequence[Subject] | None = None,
    ours: Sequence[Subject] | None = None,
    asked: Sequence[Workload] | None = None,
    probes: Sequence[extra.Probe] | None = None,
) -> Report:
    """Run everything and return what came back; prints nothing.

    ``subjects`` (peers), ``ours``, ``asked`` (workloads) and ``probes`` (our extras) replace the
    usual ones, for tests.
    Ctrl-C ends it between two measurements or in one; what was measured until then is lost.
    """
    progress = options.progress or (lambda _line: None)
    options.directory.mkdir(parents=True, exist_ok=True)
    machine.set_settling(wanted=not options.quick)
    asked = workloads(quick=options.quick, seed=options.seed) if asked is None else list(asked)
    report = Report(
        machine=machine.describe(options.directory),
        rounds=options.rounds_to_run,
        quick=options.quick,
        seed=options.seed,
        workloads=list(asked),
        rows=[],
        floors=[],
        versions={},
        settings={},
        sync_evidence={},
    )
    if ours is None:
        ours, reason = our_subjects()
        if reason is not None:
            report.unavailable["stratalog"] = reason
    if subjects is None:
        warmup = WARMUP_SECONDS_QUICK if options.quick else peers_foreign.WARMUP_SECONDS
        everybody: list[Subject] = [
            *peers_python.subjects(),
            *peers_foreign.subjects(warmup_seconds=warmup),
        ]
        subjects = choose_peers(everybody, options.peers)
    our_names = {subject.name for subject in ours}
    present = _present([*ours, *subjects], report, progress)
    if probes is None:
        sizes = extra.Sizes.of(quick=options.quick, seed=options.seed)
        ours_present = any(subject.name.startswith(OUR_PREFIX) for subject in present)
        probes = extra.probes(sizes) if ours_present else []
    runnable = _runnable(probes, options.directory, report)
    collected = _all_rounds(options, report, present, asked, runnable)
    for (subject_name, workload), measurements in collected.items():
        language = next(one.language for one in present if one.name == subject_name)
        report.rows.append(
            Row(subject_name, language, subject_name in our_names, workload, tuple(measurements))
        )
    return report


def _without_paths(reason: str, directory: Path) -> str:
    """Take this machine's directories out of a message that others may read in the JSON."""
    for place, name in ((directory.resolve(), "DIR"), (directory, "DIR"), (Path.home(), "~")):
        if len(str(place)) > 1:
            reason = reason.replace(str(place), name)
    return reason


def _present(
    everybody: Sequence[Subject], report: Report, progress: Callable[[str], None]
) -> list[Subject]:
    """Return those who can run here; note who cannot, and the versions of the others."""
    present: list[Subject] = []
    for subject in everybody:
        progress(f"looking for {subject.name}")
        reason = subject.available()
        if reason is not None:
            report.unavailable[subject.name] = reason
            continue
        present.append(subject)
        report.versions[subject.name] = subject.version()
        report.settings[subject.name] = subject.settings
        report.sync_evidence[subject.name] = subject.sync_evidence
    return present


def _runnable(probes: Sequence[extra.Probe], directory: Path, report: Report) -> list[extra.Probe]:
    """Return the probes that can run here; note why the others cannot."""
    runnable = []
    for probe in probes:
        reason = probe.reason_to_skip(directory)
        if reason is None:
            runnable.append(probe)
        else:
            report.notes.append(f"skipped: {reason}")
    return runnable


def _extras_round(
    options: Options,
    report: Report,
    probes: Sequence[extra.Probe],
    number: int,
    figures: list[extra.Figure],
) -> None:
    progress = options.progress or (lambda _line: None)
    for probe in probes:
        # A quick run is a look: once is enough.
        if number > 0 and (probe.once or options.quick):
            continue
        progress(f"round {number + 1} of {report.rounds}: {probe.name}")
        with _fresh_directory(options.directory) as place:
            try:
                figures += probe.run(place)
            except SubjectFailedError as error:
                reason = _without_paths(str(error), options.directory)
                report.failures.append(Failure(OUR_PREFIX, probe.name, number, reason))


def _all_rounds(
    options: Options,
    report: Report,
    present: Sequence[Subject],
    asked: Sequence[Workload],
    probes: Sequence[extra.Probe],
) -> dict[tuple[str, Workload], list[Measurement]]:
    progress = options.progress or (lambda _line: None)
    figures: list[extra.Figure] = []
    collected: dict[tuple[str, Workload], list[Measurement]] = defaultdict(list)
    floor_runs: dict[floors.Shape, list[floors.FloorRun]] = defaultdict(list)
    program: Path | None = None
    try:
        program = floors.locate()
    except floors.FloorsMissingError as missing:
        report.unavailable["floors"] = str(missing)
    for number, subjects in enumerate(interleaved(present, report.rounds)):
        label = f"round {number + 1} of {report.rounds}"
        if program is not None:
            progress(f"{label}: floors")
            try:
                for run in _measure_floors(options, asked, program):
                    floor_runs[run.shape].append(run)
            except SubjectFailedError as error:
                reason = _without_paths(str(error), options.directory)
                report.failures.append(Failure("floors", "all", number, reason))
        for workload in asked:
            for subject in subjects:
                if not subject.supports(workload):
                    continue
                progress(f"{label}: {workload.name}: {subject.name}")
                try:
                    measurement = measure_once(subject, workload, options.directory)
                except SubjectFailedError as error:
                    reason = _without_paths(str(error), options.directory)
                    report.failures.append(Failure(subject.name, workload.name, number, reason))
                else:
                    collected[subject.name, workload].append(measurement)
        _extras_round(options, report, probes, number, figures)
    report.extras = extra.collect(figures)
    report.floors = [floors.merge(runs) for runs in floor_runs.values()]
    return collected
