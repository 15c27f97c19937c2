"""What Apache's DumpLogSegments prints, as data: a report whose good news is ``problems == []``.

This module promises to lose none of the tool's complaints.  That takes care, because the tool is
written for eyes.

How the dump tool hides bad news
--------------------------------
It exits 0 whatever it finds.  From its source in 3.9.1 and 4.2.0, this is where its findings go:

==============================================  ======  ============================================
finding                                         stream  when
==============================================  ======  ============================================
``isvalid: false`` on a batch line              stdout  at the batch; iteration goes on
``Found N invalid bytes at the end of FILE``    stdout  after the last whole batch of a .log
``Mismatches in :FILE`` and pairs               stderr  after all files
``Found timestamp mismatch in :FILE``           stderr  after all files
``Found out of order timestamp in :FILE``       stderr  after all files
``The following indexed offsets are not ...``   stderr  after all files; names no file
``Non-consecutive offsets in FILE`` and pairs   stderr  after all files, only with deep iteration
message of a corrupt producer snapshot          stderr  at the file; the tool goes on
an exception (a length below 14, a position     stderr  at once, exit 1: later files are not read,
beyond the log, records that do not decode)             findings in earlier ones are never printed
==============================================  ======  ============================================

Two rules follow.  First, nothing is matched against a list of bad words: every line of stderr and
every line of stdout that is not understood **is** a problem, with a short list of exceptions that
give their reasons.  Second, after an exception the tool is run again without the file it died on,
until it reports on all the others.

What the tool does not look at, and a report therefore cannot promise: index entries that are
*missing*, anything in an index behind the first zero entry, gaps between one .log and the next,
header values.

Left to others: running the tool, and the second rule (kafka.py); what a log ought to hold (tests).
Text goes in and dataclasses come out; there is no process and no file here.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")
"""The files of a partition directory that the tool can take apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class DumpedBatch:
    """One batch line of the dump tool.  ``position`` is the byte place of the batch in ``file``."""

    file: str
    base_offset: int
    last_offset: int
    count: int
    base_sequence: int
    last_sequence: int
    producer_id: int
    producer_epoch: int
    partition_leader_epoch: int
    is_transactional: bool
    is_control: bool
    position: int
    timestamp_type: str
    max_timestamp_ms: int
    size_bytes: int
    codec: str
    crc: int
    is_valid: bool


@dataclasses.dataclass(frozen=True, slots=True)
class DumpedRecord:
    """One record line.

    ``key`` and ``value`` are None when null, and when keys and values were not asked for.
    ``header_names`` is what the tool prints: the names joined by commas, so that no header and one
    header without a name look alike.  ``control`` is COMMIT or ABORT for a transaction marker,
    another word for other control records, None for data.
    """

    file: str
    offset: int
    timestamp_ms: int
    timestamp_type: str
    key_size: int
    value_size: int
    sequence: int
    header_names: str
    key: bytes | None
    value: bytes | None
    control: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class OffsetIndexEntry:
    """``offset`` is the last offset of the batch that starts at ``position``."""

    file: str
    offset: int
    position: int


@dataclasses.dataclass(frozen=True, slots=True)
class TimeIndexEntry:
    """``timestamp_ms`` is the largest so far, ``offset`` the last of the batch that has it."""

    file: str
    timestamp_ms: int
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing the tool complained of.  ``file`` is empty where it names none."""

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.file else self.message


@dataclasses.dataclass(slots=True)
class DumpReport:
    """All that one or more runs of the dump tool printed.  Good news is ``problems == []``."""

    version: str
    files: list[str] = dataclasses.field(default_factory=list)
    batches: list[DumpedBatch] = dataclasses.field(default_factory=list)
    records: list[DumpedRecord] = dataclasses.field(default_factory=list)
    index_entries: list[OffsetIndexEntry] = dataclasses.field(default_factory=list)
    time_index_entries: list[TimeIndexEntry] = dataclasses.field(default_factory=list)
    other_lines: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """(file, line) for .txnindex and .snapshot files, which are shown but not taken apart."""
    problems: list[Problem] = dataclasses.field(default_factory=list)

    @property
    def data_records(self) -> list[DumpedRecord]:
        """The records a consumer would be handed: all but the control records."""
        return [record for record in self.records if record.control is None]


_BATCH = re.compile(
    r"baseOffset: (?P<base_offset>-?\d+) lastOffset: (?P<last_offset>-?\d+) count: (?P<count>\d+)"
    r" baseSequence: (?P<base_sequence>-?\d+) lastSequence: (?P<last_sequence>-?\d+)"
    r" producerId: (?P<producer_id>-?\d+) producerEpoch: (?P<producer_epoch>-?\d+)"
    r" partitionLeaderEpoch: (?P<partition_leader_epoch>-?\d+)"
    r" isTransactional: (?P<is_transactional>true|false) isControl: (?P<is_control>true|false)"
    r" deleteHorizonMs: \S+ position: (?P<position>\d+)"
    r" (?P<timestamp_type>CreateTime|LogAppendTime): (?P<max_timestamp_ms>-?\d+)"
    r" size: (?P<size_bytes>\d+) magic: 2 compresscodec: (?P<codec>\w+) crc: (?P<crc>\d+)"
    r" isvalid: (?P<is_valid>true|false)"
)
_RECORD = re.compile(
    r"\| offset: (?P<offset>-?\d+) (?P<timestamp_type>CreateTime|LogAppendTime):"
    r" (?P<timestamp_ms>-?\d+)"
    r" keySize: (?P<key_size>-?\d+) valueSize: (?P<value_size>-?\d+) sequence: (?P<sequence>-?\d+)"
    r" headerKeys: \[(?P<header_names>.*)\]"
    r"(?: endTxnMarker: (?P<marker>\w+) coordinatorEpoch: -?\d+"
    r"| (?P<control>LeaderChange|SnapshotHeader|SnapshotFooter|KRaftVersion|KRaftVoters"
    r"|controlType):? .*)?"
    r"(?: key: (?P<key>[0-9a-f]*))?(?: payload: (?P<value>[0-9a-f]*))?"
)
_INDEX_ENTRY = re.compile(r"offset: (?P<offset>\d+) position: (?P<position>\d+)")
_TIME_INDEX_ENTRY = re.compile(r"timestamp: (?P<timestamp_ms>-?\d+) offset: (?P<offset>\d+)")

_FLAGS = ("is_transactional", "is_control", "is_valid")
_TEXTS = ("timestamp_type", "codec")

_HARMLESS_STDERR = (
    # The JVM says so when the environment carries options for it; it is no finding.
    re.compile(r"Picked up (JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|NOTE: )"),
)


def sections(report: DumpReport, stdout: str, names: Iterable[str]) -> dict[str, list[str]]:
    """Cut stdout at its ``Dumping FILE`` lines."""
    headings = {f"Dumping {name}": name for name in names}
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in stdout.split("\n"):
        if line in headings:
            current = found.setdefault(headings[line], [])
        elif current is not None:
            current.append(line)
        elif line:
            report.problems.append(Problem("", f"not understood: {line}"))
    return found


def parse_section(report: DumpReport, name: str, lines: list[str]) -> None:
    """Take what the tool printed about one file into the report."""
    report.files.append(name)
    for line in lines:
        if line and not _parse_line(report, name, line):
            report.problems.append(
                Problem(name, line if line.startswith("Found ") else f"not understood: {line}")
            )


def _parse_line(report: DumpReport, name: str, line: str) -> bool:
    """Take one line of a file's section into the report; False when it is not understood."""
    suffix = Path(name).suffix
    if line in (f"{name} is empty.", f"{name} passed sanity check."):
        return True
    if suffix == ".log":
        if match := _BATCH.fullmatch(line):
            fields: dict[str, object] = {
                field: text == "true" if field in _FLAGS else text if field in _TEXTS else int(text)
                for field, text in match.groupdict().items()
            }
            report.batches.append(DumpedBatch(file=name, **fields))  # type: ignore[arg-type]
            if match["is_valid"] != "true":
                report.problems.append(Problem(name, f"invalid batch: {line}"))
            return True
        if match := _RECORD.fullmatch(line):
            report.records.append(_record(name, match))
            return True
        return line == f"Log starting offset: {int(Path(name).stem)}"
    if suffix == ".index" and (match := _INDEX_ENTRY.fullmatch(line)):
        report.index_entries.append(
            OffsetIndexEntry(name, int(match["offset"]), int(match["position"]))
        )
        return True
    if suffix == ".timeindex" and (match := _TIME_INDEX_ENTRY.fullmatch(line)):
        report.time_index_entries.append(
            TimeIndexEntry(name, int(match["timestamp_ms"]), int(match["offset"]))
        )
        return True
    if suffix in (".txnindex", ".snapshot") and re.match(r"(version: 0 )?producerId: \d+ ", line):
        report.other_lines.append((name, line))
        return True
    return False


def _record(name: str, match: re.Match[str]) -> DumpedRecord:
    def data(field: str) -> bytes | None:
        return None if match[field] is None else bytes.fromhex(match[field])

    return DumpedRecord(
        file=name,
        offset=int(match["offset"]),
        timestamp_ms=int(match["timestamp_ms"]),
        timestamp_type=match["timestamp_type"],
        key_size=int(match["key_size"]),
        value_size=int(match["value_size"]),
        sequence=int(match["sequence"]),
        header_names=match["header_names"],
        key=data("key"),
        value=data("value"),
        control=match["marker"] or match["control"],
    )


def parse_stderr(report: DumpReport, stderr: str) -> None:
    """Take every line of stderr as a problem; a heading names the file of the lines under it."""
    file = ""
    for line in stderr.splitlines():
        if not line.strip() or any(harmless.match(line) for harmless in _HARMLESS_STDERR):
            continue
        if line.startswith(("Mismatches in", "Found ", "Non-consecutive", "The following")):
            named = re.search(r"(\d{20}\.\w+)$", line)
            file = named[1] if named else ""
        report.problems.append(Problem(file, line.strip()))
