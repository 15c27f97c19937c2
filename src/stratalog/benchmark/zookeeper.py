"""``stratalog bench zk``: our coordination server beside Apache's, and the floors beneath, one run.

    round 1   floors   part a: ours, Apache's   part b: ours, Apache's   ...
    round 2   floors   part a: Apache's, ours   part b: Apache's, ours   ...

Both servers are asked the same by the same native client, on the same disk, each as it is shipped
and with a sync before every reply. One server runs at a time, fresh for each part, so that nobody
meets what another part has left. Who is first changes from round to round.

Floors, measured in every round: the same load against a server that answers at once and keeps
nothing, which is what client, loopback and kernel cost; and write and fdatasync of 100 B and of
64 KiB on that disk, which is what no durable write can do without.

A part that fails has no figure but a reason, in the report and in the exit code.

What it leaves to others: the parts (zookeeper_runs.py), the processes (zookeeper_servers.py), how
it is shown and what was asked (zookeeper_report.py).
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from stratalog.benchmark import machine, programs
from stratalog.benchmark.model import SubjectFailedError, Summary
from stratalog.benchmark.runner import Failure
from stratalog.benchmark.zookeeper_runs import (
    FULL,
    LOADS,
    PARTS,
    PIPELINED,
    QUICK,
    SYNCHRONOUS,
    Sizes,
    run_load,
    run_sync,
)
from stratalog.benchmark.zookeeper_servers import APACHE, ECHO, LOAD_PROGRAM, OURS, Apache, Echo
from stratalog.benchmark.zookeeper_servers import Ours as OurServer

__all__ = ["DISK", "Options", "ZooKeeperReport", "measure"]

DISK: Final = "floor: disk"
ROUNDS_DEFAULT: Final = 5
ROUNDS_QUICK: Final = 2
SYNC_BYTES: Final = (100, 65_536)
DESCRIPTORS_SPARE: Final = 200


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may choose.

    ``rounds`` None means 5, or 2 in a quick run. ``parts`` are names of zookeeper_runs.PARTS, or
    "all". ``sizes`` None means those of a full or quick run. ``progress`` is told one line before
    each measurement.
    """

    directory: Path
    rounds: int | None = None
    quick: bool = False
    apache: bool = True
    parts: Sequence[str] = ("all",)
    sizes: Sizes | None = None
    json_path: Path | None = None
    seed: int = 1
    progress: Callable[[str], None] | None = None

    @property
    def rounds_to_run(self) -> int:
        """How many rounds there will be."""
        if self.rounds is not None:
            return max(1, self.rounds)
        return ROUNDS_QUICK if self.quick else ROUNDS_DEFAULT

    @property
    def sizes_to_run(self) -> Sizes:
        """How much of everything."""
        return self.sizes or (QUICK if self.quick else FULL)


@dataclass(slots=True)
class ZooKeeperReport:
    """Everything one run found out: ``figures`` by subject and name, one value a round."""

    machine: machine.Machine
    rounds: int
    quick: bool
    seed: int
    sizes: Sizes
    parts: list[str]
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def summary(self, subject: str, name: str) -> Summary | None:
        """Return a figure over the rounds, or None if it was not measured."""
        values = self.figures.get(subject, {}).get(name)
        return Summary.of(values) if values else None

    def median(self, subject: str, name: str) -> float | None:
        """Return the median of a figure, or None if it was not measured."""
        summary = self.summary(subject, name)
        return None if summary is None else summary.median

    def add(self, subject: str, figures: dict[str, float]) -> None:
        """Keep what one round saw."""
        kept = self.figures.setdefault(subject, {})
        for name, value in figures.items():
            kept.setdefault(name, []).append(value)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types, every single round included."""
        return {
            "format": 1,
            "machine": self.machine.to_json(),
            "rounds": self.rounds,
            "quick": self.quick,
            "seed": self.seed,
            "sizes": asdict(self.sizes),
            "parts": self.parts,
            "versions": self.versions,
            "settings": self.settings,
            "figures": self.figures,
            "unavailable": self.unavailable,
            "failures": [failure.to_json() for failure in self.failures],
        }


def measure(options: Options) -> ZooKeeperReport:
    """Run every round of every part.

    Raises:
        ValueError: a part does not exist.
        ProgramMissingError: the load generator cannot be had here.
    """
    unknown = [part for part in options.parts if part not in {*PARTS, "all"}]
    if unknown:
        raise ValueError(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    programs.locate(LOAD_PROGRAM)
    sizes = options.sizes_to_run
    _allow_descriptors(sizes.sessions + DESCRIPTORS_SPARE)
    report = ZooKeeperReport(
        machine=machine.describe(options.directory),
        rounds=options.rounds_to_run,
        quick=options.quick,
        seed=options.seed,
        sizes=sizes,
        parts=[part for part in PARTS if part in options.parts or "all" in options.parts],
        versions={OURS: _own_version()},
        settings={OURS: OurServer.settings()},
    )
    servers: list[type[OurServer | Apache]] = [OurServer]
    missing = Apache.available() if options.apache else "not asked for"
    if missing is None:
        servers.append(Apache)
        report.versions[APACHE] = Apache.version()
        report.settings[APACHE] = Apache.settings()
    else:
        report.unavailable[APACHE] = missing
    for number in range(report.rounds):
        seed = options.seed + number
        _measure_floors(report, options, number, seed)
        for part in report.parts:
            for server in servers if number % 2 == 0 else reversed(servers):
                _measure_part(report, options, number, part, server)
    return report


def _measure_floors(report: ZooKeeperReport, options: Options, number: int, seed: int) -> None:
    wanted = [
        load
        for part, loads in (("pipelined", PIPELINED), ("synchronous", SYNCHRONOUS))
        if part in report.parts
        for load in loads
    ]
    if not wanted:
        return
    _tell(options, number, "floors", "echo and disk")
    # Nothing has to be warm in them.
    sizes = replace(
        report.sizes,
        warmup_ms=min(report.sizes.warmup_ms, 500),
        measure_ms=min(report.sizes.measure_ms, 2_000),
    )
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        try:
            with Echo(Path(scratch)) as server:
                server.start()
                for load in LOADS:
                    if load in wanted:
                        report.add(ECHO, run_load(server, load, sizes, load.key, seed))
            for value_bytes in SYNC_BYTES:
                report.add(DISK, run_sync(scratch, sizes, value_bytes))
        except SubjectFailedError as error:
            report.failures.append(Failure("floors", "echo and disk", number, str(error)))


def _measure_part(
    report: ZooKeeperReport,
    options: Options,
    number: int,
    part: str,
    server: type[OurServer | Apache],
) -> None:
    _tell(options, number, server.name, part)
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        os.sync()  # what the one before has left unwritten
        try:
            with server(Path(scratch)) as running:
                report.add(server.name, PARTS[part](running, report.sizes, options.seed + number))
        except SubjectFailedError as error:
            report.failures.append(Failure(server.name, part, number, str(error)))


def _tell(options: Options, number: int, subject: str, part: str) -> None:
    if options.progress is not None:
        options.progress(f"round {number + 1} of {options.rounds_to_run}: {part}: {subject}")


def _allow_descriptors(wanted: int) -> None:
    """Let the servers, which inherit it, hold as many connections as are opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _own_version() -> str:
    try:
        return version("stratalog")
    except PackageNotFoundError:
        return "not installed"


def failed(failures: Iterable[Failure]) -> list[str]:
    """Return failures as lines for people."""
    return [
        f"{one.subject}, {one.workload}, round {one.round + 1}: {one.reason}" for one in failures
    ]
