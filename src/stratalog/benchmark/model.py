"""The words of the harness: what is asked (Workload), of whom (Subject), what came back.

A *workload* fixes everything a fair comparison has to hold still: the operation, the size of a
record, how many records, how many of them make one group, and the durability class. Two subjects
are only ever compared on one and the same workload.

Durability classes, each a promise about a record whose append has returned:

    class     survives        one sync covers          who qualifies
    process   kill -9         nothing is synced        bytes are in the page cache, not in a buffer
    group     loss of power   batch_records records    a sync to the device for each group
    record    loss of power   one record               a sync to the device for each record

``batch_records`` is the size of what is handed over at once. In the group class it is also what one
sync covers; in the record class it is 1.

What this file leaves to others: how bytes are made (payload.py), how a child process is measured
(child.py), and what a ratio means (report.py). Nothing here touches a disk or a clock.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

__all__ = [
    "OUR_PREFIX",
    "ChecksumMismatchError",
    "Durability",
    "Measurement",
    "Operation",
    "Subject",
    "SubjectFailedError",
    "Summary",
    "Workload",
]

OUR_PREFIX = "stratalog"
"""How the names of our own subjects begin."""

Extra = str | int | float | bool
"""What a measurement may carry beside its figures; plain values, so that JSON keeps them."""


class SubjectFailedError(Exception):
    """A subject could not finish its workload; the message says why, in one printable line."""


class ChecksumMismatchError(SubjectFailedError):
    """A subject gave back other bytes than it was given; its figures mean nothing."""


class Durability(enum.StrEnum):
    """What an append has survived once it returned."""

    PROCESS = "process"
    GROUP = "group"
    RECORD = "record"


class Operation(enum.StrEnum):
    """What is timed.

    A scan hands every record over and adds up lengths; a touched scan also takes the CRC-32 of
    every payload byte inside the measurement, so that a subject which only hands out pointers pays
    for the memory they point to.
    """

    APPEND = "append"
    SCAN = "scan"
    SCAN_TOUCHED = "scan_touched"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class Workload:
    """One question, the same for every subject.

    For a read, ``records`` are first appended in groups of ``batch_records`` outside the
    measurement, then read warm. For a lookup, ``lookups`` of them are fetched by offset in one
    random order that all subjects share.
    """

    name: str
    record_bytes: int
    records: int
    batch_records: int
    durability: Durability
    operation: Operation = Operation.APPEND
    lookups: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        # Plain strings are accepted and made into members, so that JSON and callers may use either.
        object.__setattr__(self, "durability", Durability(self.durability))
        object.__setattr__(self, "operation", Operation(self.operation))
        if min(self.record_bytes, self.records, self.batch_records) < 1:
            raise ValueError(f"workload {self.name}: sizes and counts start at 1")
        if self.records % self.batch_records:
            raise ValueError(f"workload {self.name}: records must be a whole number of batches")
        if self.durability is Durability.RECORD and self.batch_records != 1:
            raise ValueError(
                f"workload {self.name}: a sync for each record means batches of one record"
            )
        if (self.operation is Operation.LOOKUP) != (self.lookups > 0):
            raise ValueError(
                f"workload {self.name}: lookups are counted for lookups, and only for them"
            )

    @property
    def is_read(self) -> bool:
        """Whether the measured part reads what was filled in before."""
        return self.operation is not Operation.APPEND

    @property
    def measured_records(self) -> int:
        """How many records the measured part appends, hands over or fetches."""
        return self.lookups if self.operation is Operation.LOOKUP else self.records

    @property
    def measured_bytes(self) -> int:
        """How many payload bytes belong to the measured records."""
        return self.measured_records * self.record_bytes

    def to_json(self) -> dict[str, Any]:
        r"""Return it as JSON\'s own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Take it back from ``to_json``."""
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one subject did with one workload, once.

    ``seconds`` is wall time and ``cpu_seconds`` is user plus system time of all threads of the
    measured process, both around the workload alone: opening, filling before a read, checking and
    closing are outside.

    ``extra["payload_crc32"]`` is the CRC-32 of every payload byte that the subject gave back, in
    the order of the records (of the lookups for a lookup). The runner compares it to the checksum
    of what was put in.
    """

    subject: str
    workload: Workload
    seconds: float
    records: int
    bytes: int
    cpu_seconds: float
    extra: Mapping[str, Extra] = field(default_factory=dict)

    @property
    def records_per_second(self) -> float:
        """The rate in records."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    @property
    def bytes_per_second(self) -> float:
        """The rate in payload bytes."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_seconds_per_million_records(self) -> float:
        """Processor time, user and system, for a million records."""
        return self.cpu_seconds * 1e6 / self.records if self.records else 0.0

    def to_json(self) -> dict[str, Any]:
        r"""Return it as JSON\'s own types."""
        return {
            "subject": self.subject,
            "workload": self.workload.name,
            "seconds": self.seconds,
            "records": self.records,
            "bytes": self.bytes,
            "cpu_seconds": self.cpu_seconds,
            "extra": dict(self.extra),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, least and greatest of the same figure over the rounds."""

    median: float
    min: float
    max: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarize the figure's values, one for each round."""
        if not values:
            raise ValueError("a summary needs at least one round")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def to_json(self) -> dict[str, Any]:
        r"""Return it as JSON\'s own types."""
        return asdict(self)


@runtime_checkable
class Subject(Protocol):
    """Something that can be asked a workload: a peer, or one door of ours.

    ``language`` is what drives it ("python", "c", "go", "java"): a ratio to ours compares Python
    with Python and native with native. ``settings`` and ``sync_evidence`` are printed with the
    tables: the first says how the subject was set up, the second how its durability class was
    confirmed.
    """

    @property
    def name(self) -> str:
        """The name in the tables, different from everybody else's."""
        ...

    @property
    def language(self) -> str:
        """What drives it: "python", "c", "go" or "java"."""
        ...

    @property
    def settings(self) -> str:
        """How it was set up, in one line."""
        ...

    @property
    def sync_evidence(self) -> str:
        """How its durability class was confirmed, in one line."""
        ...

    def version(self) -> str:
        """Return the version that will run; asked only of an available subject."""
        ...

    def available(self) -> str | None:
        """Return None if the subject can run here, else the reason why not, in one line."""
        ...

    def supports(self, workload: Workload) -> bool:
        """Return whether the subject can do exactly this, in exactly this durability class."""
        ...

    def run(self, workload: Workload, directory: Path) -> Measurement:
        """Do the workload once in an empty directory of its own.

        Raises:
            SubjectFailedError: it cannot be done.
        """
        ...
