"""The floors of this machine: what an append, a sync or a read costs with no log around it.

The measuring is done by a native program, ``stratalog-floors`` (native/bench/floors.c), because a
floor measured from Python would be Python's floor. It prints one JSON object; this file finds the
program, runs it, and says which of its figures is the floor of which workload:

    workload                    floor, in records per second
    append, process, single     store_record       stores into a pre-faulted map
    append, process, batches    map_prefaulted     bytes/s over the bytes of a record
    append, group               fdatasync_group    groups/s times the records of a group
    append, record              fdatasync_record
    scan, scan_touched          map_read           bytes/s over the bytes of a record
    lookup                      map_lookup

Each is a ceiling and not a forecast: it leaves out framing, checksums and indexes, and pre-faulting
is not charged to the map floors. A subject may still pass a sync floor by a little: the device is
shared and moves between rounds. The program runs in every round, so that floor and subject saw the
same weather.

A batched append both stores its bytes and takes their checksum, one after the other, so
``append_floor`` adds the times of the two: 1 / (1 / map + 1 / CRC-32C), in bytes on disk a second.

What it leaves to others: where the program is (programs.py), shares and ratios (runner.py,
scorecard.py), tables (report.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stratalog.benchmark import programs
from stratalog.benchmark.child import run_bounded
from stratalog.benchmark.model import (
    Durability,
    Operation,
    Summary,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "Floor",
    "FloorRun",
    "FloorsMissingError",
    "Shape",
    "append_floor",
    "floor_of",
    "locate",
    "median_of",
    "merge",
    "run",
    "shapes",
]

PROGRAM: Final = "stratalog-floors"
GROUP_RECORDS_DEFAULT: Final = 64


class FloorsMissingError(Exception):
    """The native program cannot be had here; the message is the reason that the report prints."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that floors depend on: one record, and the records that one sync covers."""

    record_bytes: int
    group_records: int

    def to_json(self) -> dict[str, int]:
        """Return it as JSON's own types."""
        return {"record_bytes": self.record_bytes, "group_records": self.group_records}


@dataclass(frozen=True, slots=True)
class Floor:
    """One figure; the two sync floors also have latencies, in microseconds."""

    name: str
    unit: str
    summary: Summary
    p50_us: float | None = None
    p99_us: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        value: dict[str, Any] = {"unit": self.unit, **self.summary.to_json()}
        if self.p50_us is not None and self.p99_us is not None:
            value |= {"p50_us": self.p50_us, "p99_us": self.p99_us}
        return value


@dataclass(frozen=True, slots=True)
class FloorRun:
    """All floors of one shape, from one run of the program or merged from several."""

    shape: Shape
    crc32c_implementation: str
    floors: dict[str, Floor]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FloorRun:
        """Read what the program printed."""
        floors = {
            name: Floor(
                name=name,
                unit=entry["unit"],
                summary=Summary(entry["median"], entry["min"], entry["max"], int(entry["rounds"])),
                p50_us=entry.get("p50_us"),
                p99_us=entry.get("p99_us"),
            )
            for name, entry in value["floors"].items()
        }
        shape = Shape(int(value["record_bytes"]), int(value["group_records"]))
        return cls(shape, str(value["crc32c_implementation"]), floors)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            **self.shape.to_json(),
            "crc32c_implementation": self.crc32c_implementation,
            "floors": {name: floor.to_json() for name, floor in self.floors.items()},
        }


def locate() -> Path:
    """Return the program; programs.py says where it is looked for.

    Raises:
        FloorsMissingError: it is not installed and cannot be compiled here.
    """
    try:
        return programs.locate(PROGRAM)
    except programs.ProgramMissingError as missing:
        raise FloorsMissingError(str(missing)) from missing


def run(program: Path, directory: Path, shape: Shape, *, mib: int, seconds: float) -> FloorRun:
    """Measure all floors of one shape once, with files of ``mib`` MiB in ``directory``.

    Raises:
        SubjectFailedError: the program ended with an error, a full disk for instance.
    """
    output = run_bounded(
        [
            str(program),
            *("--dir", str(directory)),
            *("--mib", str(mib)),
            *("--seconds", str(seconds)),
            *("--record-bytes", str(shape.record_bytes)),
            *("--group-records", str(shape.group_records)),
        ],
        what=PROGRAM,
    )
    return FloorRun.from_json(json.loads(output))


def merge(runs: Sequence[FloorRun]) -> FloorRun:
    """Return one run out of several of the same shape: median of medians, extremes of extremes."""
    first = runs[0]
    if any(other.shape != first.shape for other in runs):
        raise ValueError("floors of different shapes cannot be merged")
    merged: dict[str, Floor] = {}
    for name, floor in first.floors.items():
        same = [other.floors[name] for other in runs]
        p50 = [other.p50_us for other in same if other.p50_us is not None]
        p99 = [other.p99_us for other in same if other.p99_us is not None]
        merged[name] = Floor(
            name=name,
            unit=floor.unit,
            summary=Summary(
                median=Summary.of([other.summary.median for other in same]).median,
                min=min(other.summary.min for other in same),
                max=max(other.summary.max for other in same),
                rounds=sum(other.summary.rounds for other in same),
            ),
            p50_us=Summary.of(p50).median if p50 else None,
            p99_us=Summary.of(p99).median if p99 else None,
        )
    return FloorRun(first.shape, first.crc32c_implementation, merged)


def shape_of(workload: Workload) -> Shape:
    """Return the shape whose floors belong to this workload."""
    grouped = workload.durability is Durability.GROUP
    return Shape(
        workload.record_bytes, workload.batch_records if grouped else GROUP_RECORDS_DEFAULT
    )


def shapes(workloads: Sequence[Workload]) -> list[Shape]:
    """Return the shapes that cover all workloads, without one that no workload needs."""
    needed = [shape_of(w) for w in workloads if w.durability is Durability.GROUP]
    covered = {shape.record_bytes for shape in needed}
    # Outside the group class any group size will do, so a record size already covered is enough.
    needed += [shape_of(w) for w in workloads if w.record_bytes not in covered]
    return list(dict.fromkeys(needed))


def floor_of(workload: Workload, runs: Iterable[FloorRun]) -> Summary | None:
    """Return the floor of a workload in records per second, or None if it was not measured."""
    grouped = workload.durability is Durability.GROUP and not workload.is_read
    for one in runs:
        if one.shape.record_bytes != workload.record_bytes:
            continue
        if grouped and one.shape.group_records != workload.batch_records:
            continue
        name, factor = _floor_name(workload)
        floor = one.floors.get(name)
        if floor is None:
            return None
        summary = floor.summary
        return Summary(
            summary.median * factor, summary.min * factor, summary.max * factor, summary.rounds
        )
    return None


def _floor_name(workload: Workload) -> tuple[str, float]:
    """Return the name of the floor, and what turns its unit into records per second."""
    match workload.operation:
        case Operation.SCAN | Operation.SCAN_TOUCHED:
            return "map_read", 1 / workload.record_bytes
        case Operation.LOOKUP:
            return "map_lookup", 1.0
        case Operation.APPEND:
            pass
    match workload.durability:
        case Durability.GROUP:
            return "fdatasync_group", float(workload.batch_records)
        case Durability.RECORD:
            return "fdatasync_record", 1.0
        case Durability.PROCESS:
            pass
    if workload.batch_records == 1:
        return "store_record", 1.0
    return "map_prefaulted", 1 / workload.record_bytes


def append_floor(runs: Iterable[FloorRun], record_bytes: int, *, map_floor: str) -> float | None:
    """Return how many bytes a second can be both stored and summed by CRC-32C.

    ``map_floor`` says stored how: "memcpy_cold", "map_cold" or "map_prefaulted". The
    checksum is that of memory in the cache: a batch has just been written when it is summed.
    """
    for one in runs:
        if one.shape.record_bytes == record_bytes:
            stored, summed = one.floors.get(map_floor), one.floors.get("crc32c_hot")
            if stored is None or summed is None:
                return None
            return 1 / (1 / stored.summary.median + 1 / summed.summary.median)
    return None


def median_of(runs: Iterable[FloorRun], record_bytes: int, name: str) -> Summary | None:
    """Return one floor of the shape with that record size, in its own unit, or None."""
    for one in runs:
        if one.shape.record_bytes == record_bytes and name in one.floors:
            return one.floors[name].summary
    return None
