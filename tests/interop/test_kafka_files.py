"""Files pass both ways: Apache Kafka reads what we wrote, and we read what Apache Kafka wrote.

The judge of our files is Apache's own dump tool, from the 3.9 and from the 4.2 line, and a 4.2
broker that takes a directory over.  The judge of our reader is what Apache's producer says it sent.
Neither judge shares code with us.  A judge that cannot say no is worth nothing, so the first tests
are about the judge: it is quiet on Apache's own files and speaks up at each kind of planted damage.
Those need no stratalog.

==================================================  ============================================
claim                                               test
==================================================  ============================================
the judge sees planted damage, and only that        test_dump_report_*
our reading of Kafka's index rule is Kafka's        test_apache_indexes_follow_the_rule
Apache wrote, clean stop or SIGKILL: we read it     test_we_read_what_apache_wrote
we wrote, every codec: Apache's tools accept it     test_apache_accepts_what_we_wrote
our indexes are entry for entry what Kafka writes   test_our_indexes_follow_the_rule
our writer was killed: what it left is as good      test_apache_accepts_what_recovery_left
we append to a broker's partition: it goes on       test_broker_goes_on_after_our_appends
==================================================  ============================================

Left to others: power loss (a killed process loses nothing of the page cache), compaction, the wire.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tools.peers.kafka import VERSIONS, DumpReport, KafkaBroker, TrafficRecord, dump_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

pytestmark = pytest.mark.interop

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
BROKER_VERSION = "4.2.0"

INDEX_INTERVAL_BYTES = 4096
"""Kafka's default, which the broker of these tests keeps."""

SEGMENT_BYTES = 64 << 10
"""Small, to roll many times; above the largest batch of the plan, as Kafka demands."""


class Seen(NamedTuple):
    """A record as any of the parties sees it, in a form that compares."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def seen_by_apache(records: Iterable[TrafficRecord]) -> list[Seen]:
    return sorted(Seen(r.offset, r.timestamp_ms, r.key, r.value, r.headers) for r in records)


def seen_by_us(log: Any) -> list[Seen]:
    def data(view: memoryview | None) -> bytes | None:
        return None if view is None else bytes(view)

    return [
        Seen(
            r.offset,
            r.timestamp_ms,
            data(r.key),
            data(r.value),
            tuple((n, data(v)) for n, v in r.headers),
        )
        for r in log.read(log.log_start_offset)
    ]


def as_dumped(seen: Iterable[Seen]) -> list[tuple[int, int, bytes | None, bytes | None, str]]:
    """Only what the dump tool prints of a record: of the headers it prints the names."""
    return [
        (s.offset, s.timestamp_ms, s.key, s.value, ",".join(name for name, _ in s.headers))
        for s in seen
    ]


def dumped(report: DumpReport) -> list[tuple[int, int, bytes | None, bytes | None, str]]:
    return [(r.offset, r.timestamp_ms, r.key, r.value, r.header_names) for r in report.data_records]


# ---- what Apache wrote ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Partition:
    """A partition directory that a broker left, and what its producers say is in it."""

    path: Path
    sent: list[TrafficRecord]


@pytest.fixture(scope="module")
def apache_wrote(need_kafka: Callable[[str], str], module_scratch: Path) -> dict[str, Partition]:
    """Three directories of a 4.2 broker: "clean", "stamped" (LogAppendTime) and "killed".

    "clean" and "stamped" were closed by an orderly stop.  "killed" is the first one after more
    traffic, the last of it an unfinished transaction, and a SIGKILL: its indexes are still as long
    as Kafka preallocates them.
    """
    broker = KafkaBroker(need_kafka(BROKER_VERSION), module_scratch / "broker")
    with broker:
        events = broker.produce(
            "events", seed=1, records=200, topic_configs={"segment.bytes": str(1 << 20)}
        )
        stamped = broker.produce(
            "stamped",
            seed=2,
            records=20,
            transactions=False,
            topic_configs={"message.timestamp.type": "LogAppendTime"},
        )
    clean = shutil.copytree(broker.partition_dir("events"), module_scratch / "clean")
    with broker:
        events_later = broker.produce("events", seed=3, records=20, leave_open=True)
        broker.kill()
    assert {record.outcome for record in events_later} == {"none", "commit", "abort", "open"}
    return {
        "clean": Partition(clean, events),
        "stamped": Partition(broker.partition_dir("stamped"), stamped),
        "killed": Partition(broker.partition_dir("events"), events + events_later),
    }


def digest(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
    }


# ---- the judge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["clean", "stamped", "killed"])
@pytest.mark.parametrize("version", VERSIONS)
def test_dump_report_agrees_with_apaches_producer(
    version: str, which: str, need_kafka: Callable[[str], str], apache_wrote: dict[str, Partition]
) -> None:
    partition = apache_wrote[which]
    report = dump_log(need_kafka(version), partition.path)
    assert report.problems == []
    assert dumped(report) == as_dumped(seen_by_apache(partition.sent))
    # The traffic must have had all that the other tests are about, or they prove less than they
    # say.
    assert {batch.codec for batch in report.batches} == set(CODECS)
    if which != "stamped":
        assert len({batch.file for batch in report.batches}) > 1
        assert {record.control for record in report.records} == {None, "COMMIT", "ABORT"}


def _first(directory: Path, suffix: str) -> Path:
    return min(directory.glob(f"*{suffix}"))


def _flip(suffix: str, position: int, bits: int = 1) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        with _first(directory, suffix).open("r+b") as file:
            file.seek(position)
            before = file.read(1)[0]
            file.seek(position)
            file.write(bytes([before ^ bits]))

    return damage


def _cut_log(directory: Path) -> None:
    log = _first(directory, ".log")
    os.truncate(log, log.stat().st_size - 3)


def _zero_tail(directory: Path) -> None:
    with _first(directory, ".log").open("ab") as file:
        file.write(bytes(4096))


DAMAGES = {
    # damage: (how, the file that must be named or "" where the tool names none, what must be said)
    "a byte inside a batch": (_flip(".log", 70), ".log", "invalid batch"),
    "the length of a batch": (_flip(".log", 8, 0x7F), ".log", "invalid bytes at the end"),
    "the base offset of a batch": (_flip(".log", 6), ".log", "is followed by"),
    "the end of the log cut off": (_cut_log, ".log", "invalid bytes at the end"),
    "zeros after the last batch": (_zero_tail, ".log", "CorruptRecordException"),
    "the offset of an index entry": (_flip(".index", 3), ".index", "Index offset"),
    "the position of an index entry": (_flip(".index", 7), ".index", "the tool died"),
    "a position beyond the log": (_flip(".index", 4, 0x7F), ".index", "the tool died"),
    "the timestamp of a time index entry": (_flip(".timeindex", 7), ".timeindex", "log timestamp"),
    "the offset of a time index entry": (_flip(".timeindex", 11), "", "found log offset"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("version", VERSIONS)
def test_dump_report_sees_planted_damage(
    version: str,
    damage: str,
    need_kafka: Callable[[str], str],
    apache_wrote: dict[str, Partition],
    scratch: Path,
) -> None:
    """Change one thing in files that were in order, and the tool must say what and where."""
    plant, suffix, words = DAMAGES[damage]
    original = apache_wrote["clean"].path
    for path in (_first(original, suffix) for suffix in (".log", ".index", ".timeindex")):
        shutil.copy(path, scratch)
    assert any(scratch.glob("*.log"))
    plant(scratch)
    report = dump_log(need_kafka(version), scratch)
    assert any(
        problem.file.endswith(suffix) and words in problem.message for problem in report.problems
    ), report.problems
    assert len(report.files) == 3, (
        "a tool that dies on one file must still be asked about the others"
    )


# ---- the index rule ------------------------------------------------------------------------------


def check_indexes(report: DumpReport, interval_bytes: int) -> int:
    """Compare every index with what Kafka's rule makes of the batches; return how many entries.

    The dump tool finds entries that are wrong but never one that is missing; this does.  The rule,
    from Kafka's LogSegment: before a batch is counted, if more than ``interval_bytes`` have come in
    since the last entry, put (its last offset, its position) into .index, and into .timeindex the
    largest timestamp so far with the last offset of the first batch that had it, provided that it
    is larger than the one of the last entry.  When the segment is rolled or closed the time index
    gets its last entry by the same proviso.

    It holds for a segment written in one go: a log opened again counts from where it resumed.
    """
    entries = 0
    for log_file, group in itertools.groupby(report.batches, key=lambda batch: batch.file):
        stem = Path(log_file).stem
        index: list[tuple[int, int]] = []
        time_index: list[tuple[int, int]] = []
        largest = (-1, 0)
        indexed_position = 0

        def add_time(
            largest: tuple[int, int], time_index: list[tuple[int, int]] = time_index
        ) -> None:
            if largest[0] > (time_index[-1][0] if time_index else -1):
                time_index.append(largest)

        for batch in group:
            if batch.max_timestamp_ms > largest[0]:
                largest = (batch.max_timestamp_ms, batch.last_offset)
            if batch.position - indexed_position > interval_bytes:
                index.append((batch.last_offset, batch.position))
                add_time(largest)
                indexed_position = batch.position
        add_time(largest)
        assert [
            (e.offset, e.position) for e in report.index_entries if e.file == f"{stem}.index"
        ] == index
        assert [
            (e.timestamp_ms, e.offset)
            for e in report.time_index_entries
            if e.file == f"{stem}.timeindex"
        ] == time_index
        entries += len(index) + len(time_index)
    return entries


def test_apache_indexes_follow_the_rule(
    need_kafka: Callable[[str], str], apache_wrote: dict[str, Partition]
) -> None:
    report = dump_log(need_kafka(BROKER_VERSION), apache_wrote["clean"].path)
    assert check_indexes(report, INDEX_INTERVAL_BYTES) > 20


# ---- Apache wrote, we read -----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["clean", "stamped", "killed"])
def test_we_read_what_apache_wrote(
    which: str, stratalog: Any, apache_wrote: dict[str, Partition]
) -> None:
    partition = apache_wrote[which]
    before = digest(partition.path)
    with stratalog.Log(partition.path, mode="r") as log:
        # Control batches hold offsets and are no records: the offsets of what is read have gaps at
        # the markers.
        assert seen_by_us(log) == seen_by_apache(partition.sent)
        assert log.log_start_offset == 0
        if which == "stamped":
            assert log.log_end_offset == len(partition.sent)
        assert [str(problem) for problem in log.verify().problems] == []
    assert digest(partition.path) == before, "a reader changed a file of Apache's"


# ---- what we write -------------------------------------------------------------------------------


class Planned(NamedTuple):
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: list[tuple[str, bytes | None]]


def plan(seed: int) -> Iterator[Planned]:
    """Records without end, the same for the same seed.

    With nulls and empties, headers, times that rise, fall and repeat, now and then a long value.
    """
    draw = random.Random(seed)
    clock_ms = 1_700_000_000_000

    def data(null_share: float, length_max: int) -> bytes | None:
        if draw.random() < null_share:
            return None
        length = draw.randrange(length_max + 1)
        return (
            draw.randbytes(length)
            if draw.random() < 0.5
            else (b"stratum %d\n" % draw.randrange(10) * length)[:length]
        )

    for number in itertools.count():
        clock_ms += draw.randrange(30)
        timestamp_ms = clock_ms - draw.randrange(3_000) if draw.random() < 0.1 else clock_ms
        names = draw.choices(["trace", "größe", "", "trace"], k=max(0, draw.randrange(6) - 2))
        yield Planned(
            key=data(0.3, 24),
            value=draw.randbytes(5_000) if number % 97 == 96 else data(0.1, 300),
            timestamp_ms=timestamp_ms,
            headers=[(name, data(0.3, 20)) for name in names],
        )


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit: slow, and independent of every implementation under test."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def control_batch(producer_id: int, *, commit: bool, timestamp_ms: int) -> bytes:
    """Return the 78 bytes of a transaction marker, as a broker would write it, at base offset 0.

    A marker is a batch with the transactional and the control bit and one record, whose key is
    (version 0, type: 1 commit or 0 abort) and whose value is (version 0, coordinator epoch).
    """
    key, value = struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0)
    # attributes, timestamp delta, offset delta, key length 4 and value length 6 as zig-zag varints,
    # no headers
    record = b"\0\0\0" + b"\x08" + key + b"\x0c" + value + b"\0"
    record = bytes([len(record) * 2]) + record
    head = struct.pack(">hiqqqhii", 0x30, 0, timestamp_ms, timestamp_ms, producer_id, 0, -1, 1)
    body = head + record
    return struct.pack(">qiibI", 0, 9 + len(body), 0, 2, crc32c(body)) + body


def append_planned(
    log: Any, records: Iterator[Planned], count: int, codec: str, draw: random.Random
) -> list[Seen]:
    """Append records one by one and in batches by turns; return what must be read back."""
    expected: list[Seen] = []
    while len(expected) < count:
        batch = list(itertools.islice(records, min(draw.randrange(1, 40), count - len(expected))))
        first = log.log_end_offset
        if draw.random() < 0.4:
            for number, record in enumerate(batch):
                offset = log.append(
                    record.value,
                    key=record.key,
                    timestamp_ms=record.timestamp_ms,
                    headers=record.headers,
                )
                assert offset == first + number
        else:
            assert first == log.append_many(
                [record.value for record in batch],
                keys=[record.key for record in batch],
                timestamps_ms=[record.timestamp_ms for record in batch],
                headers=[record.headers for record in batch],
                codec=codec,
            )
        assert log.log_end_offset == first + len(batch)
        for number, (key, value, timestamp_ms, headers) in enumerate(batch):
            assert timestamp_ms is not None
            expected.append(Seen(first + number, timestamp_ms, key, value, tuple(headers)))
    return expected


@dataclasses.dataclass(frozen=True)
class OurDirectory:
    path: Path
    records: list[Seen]
    controls: list[tuple[int, str]]


@pytest.fixture(scope="module", params=CODECS)
def we_wrote(request: pytest.FixtureRequest, stratalog: Any, module_scratch: Path) -> OurDirectory:
    """A directory written through the public API alone, in one go, in one codec.

    There are transaction markers among the records.
    """
    codec: str = request.param
    path = module_scratch / f"ours-{codec}"
    draw, records = random.Random(codec), plan(CODECS.index(codec))
    expected: list[Seen] = []
    controls: list[tuple[int, str]] = []
    with stratalog.Log(
        path,
        create=True,
        segment_bytes=SEGMENT_BYTES,
        index_interval_bytes=INDEX_INTERVAL_BYTES,
        codec=codec,
    ) as log:
        for turn in range(10):
            expected += append_planned(log, records, 250, codec, draw)
            controls.append((log.log_end_offset, "COMMIT" if turn % 2 else "ABORT"))
            marker = control_batch(
                4711, commit=turn % 2 == 1, timestamp_ms=expected[-1].timestamp_ms
            )
            log.append_batch(marker)
            assert log.log_end_offset == controls[-1][0] + 1
        # One record whose time is the log's own choice; that it chose at all is checked by the
        # comparison below.
        log.append(b"now")
        assert seen_by_us(log)[:-1] == expected
        last = seen_by_us(log)[-1]
        assert last.value == b"now"
        assert last.timestamp_ms > expected[-1].timestamp_ms
        log.flush()
    return OurDirectory(path, [*expected, last], controls)


@pytest.mark.parametrize("version", VERSIONS)
def test_apache_accepts_what_we_wrote(
    version: str, we_wrote: OurDirectory, need_kafka: Callable[[str], str]
) -> None:
    report = dump_log(need_kafka(version), we_wrote.path)
    assert report.problems == []
    assert dumped(report) == as_dumped(we_wrote.records)
    assert [(r.offset, r.control) for r in report.records if r.control] == we_wrote.controls
    assert len({batch.file for batch in report.batches}) > 5, "the plan is meant to roll many times"
    # The tool compares offsets within a file; from one file to the next there must be no gap
    # either.
    for before, after in itertools.pairwise(report.batches):
        assert after.base_offset == before.last_offset + 1
    # A broker asks this of an index before it trusts it.
    assert (
        dump_log(version, we_wrote.path, print_data_log=False, index_sanity_check=True).problems
        == []
    )


def test_our_indexes_follow_the_rule(
    we_wrote: OurDirectory, need_kafka: Callable[[str], str]
) -> None:
    report = dump_log(need_kafka(BROKER_VERSION), we_wrote.path, print_data_log=False)
    assert check_indexes(report, INDEX_INTERVAL_BYTES) > 20


# ---- our writer killed ---------------------------------------------------------------------------


def _append_until_killed(path: str, seed: int, acknowledged: Connection) -> None:
    """Run in a process of its own: append for ever, telling each log end offset afterwards."""
    stratalog: Any = importlib.import_module("stratalog")

    draw, records = random.Random(seed), plan(seed)
    with stratalog.Log(Path(path), create=True, segment_bytes=SEGMENT_BYTES) as log:
        for codec in itertools.cycle(CODECS):
            append_planned(log, records, draw.randrange(1, 60), codec, draw)
            acknowledged.send(log.log_end_offset)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_apache_accepts_what_recovery_left(
    seed: int, stratalog: Any, need_kafka: Callable[[str], str], scratch: Path
) -> None:
    """Kill a writer in the middle of its appends, open the log again, append, close.

    Nothing acknowledged is gone, and Apache has no complaint.
    """
    path = scratch / "killed"
    processes = multiprocessing.get_context("spawn")
    reader, writer = processes.Pipe(duplex=False)
    child = processes.Process(target=_append_until_killed, args=(str(path), seed, writer))
    child.start()
    writer.close()
    acknowledged = 0
    try:
        while acknowledged < 3_000:
            assert reader.poll(60), "the writer has stopped making progress"
            acknowledged = reader.recv()
    finally:
        if child.pid is not None and child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        child.join()
    # What it said before it died and nobody had read yet was acknowledged all the same.
    try:
        while reader.poll():
            acknowledged = reader.recv()
    except EOFError:
        pass

    with stratalog.Log(path, segment_bytes=SEGMENT_BYTES) as log:
        survived = seen_by_us(log)
        assert len(survived) >= acknowledged
        # More than was acknowledged may have survived, but it must be the next of the plan and
        # nothing else.
        for number, (got, want) in enumerate(zip(survived, plan(seed), strict=False)):
            assert got == Seen(
                number, want.timestamp_ms or 0, want.key, want.value, tuple(want.headers)
            )
        assert [str(problem) for problem in log.verify().problems] == []
        draw, records = random.Random(seed), itertools.islice(plan(seed), len(survived), None)
        survived += append_planned(log, records, 500, "lz4", draw)
    for version in VERSIONS:
        report = dump_log(need_kafka(version), path)
        assert report.problems == []
        assert dumped(report) == as_dumped(survived)


# ---- one partition, two writers in turn ----------------------------------------------------------


def test_broker_goes_on_after_our_appends(
    stratalog: Any, need_kafka: Callable[[str], str], scratch: Path
) -> None:
    """Append to the partition of a stopped broker: it starts, serves it all, and appends after us.

    The last leg takes the mark of the clean stop and the recovery points away, so that the broker
    reads every batch of every segment again, ours among them, and rebuilds the indexes from them.
    """
    broker = KafkaBroker(need_kafka(BROKER_VERSION), scratch / "broker")
    with broker:
        everything = seen_by_apache(
            broker.produce(
                "shared", seed=5, records=20, topic_configs={"segment.bytes": str(1 << 20)}
            )
        )
    draw, records = random.Random(5), plan(5)
    with stratalog.Log(broker.partition_dir("shared"), segment_bytes=SEGMENT_BYTES) as log:
        for codec in CODECS:
            everything += append_planned(log, records, 300, codec, draw)
    with broker:
        assert seen_by_apache(broker.consume("shared")) == everything
        everything += seen_by_apache(
            broker.produce("shared", seed=6, records=5, transactions=False)
        )
        assert seen_by_apache(broker.consume("shared")) == everything
    assert broker.warnings() == []

    (broker.log_dir / ".kafka_cleanshutdown").unlink()
    (broker.log_dir / "recovery-point-offset-checkpoint").unlink()
    with broker:
        assert seen_by_apache(broker.consume("shared")) == everything
    assert broker.warnings() == []
    report = dump_log(BROKER_VERSION, broker.partition_dir("shared"))
    assert report.problems == []
    assert dumped(report) == as_dumped(everything)
