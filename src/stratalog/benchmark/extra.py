"""What only we are asked: codecs, many appenders, recovery, many segments, many logs, growth.

No peer stands beside these figures, because none has the thing or none has it in the same sense.
They stand beside floors of the same run instead, where one belongs to them:

    figure                                     floor
    durable, N appenders                       N times fdatasync_record: all share one sync
    the same, bytes on disk                    device_write
    first pass after an open (C)               crc32c_cold over the bytes on disk
    seek by time                               map_lookup
    append_many of text, no codec              map_prefaulted over the bytes of a record
    recovery of a dirty segment                crc32c_cold over the bytes on disk
    growth                                     the same log when it was small

A *probe* runs once a round, in an empty directory, and brings one figure or a few. Sizes are those
of the project's targets in a full run and about a fortieth of them in a quick one. Growth takes a
log to 10 GiB: once a run, and only where the disk has 25 GiB free; otherwise the run says so.

Whoever measures also checks what was stored: stratalog-load and extra_bodies.py compare every byte
read back with what went in, and fail instead of printing a figure.

What it leaves to others: the figures themselves (native/bench/load.c, extra_bodies.py), what was
asked of them (scorecard.py), how they are printed (report.py).
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from stratalog.benchmark import floors, ours, programs
from stratalog.benchmark.child import measure_in_child
from stratalog.benchmark.extra_bodies import CODECS
from stratalog.benchmark.model import Durability, Measurement, Operation, Summary, Workload

__all__ = ["Ceiling", "ExtraRow", "Figure", "Probe", "Sizes", "collect", "probes"]

MIB: Final = 1 << 20
GIB: Final = 1 << 30
RECORD_BYTES: Final = 100
TEXT_BYTES: Final = 1_024
GROWTH_SEGMENTS: Final = 100
DISK_FREE_FACTOR: Final = 2.5
"""Growth needs this many times its size free: the log, and room for what was there before."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each probe does; ``seed`` is that of the run."""

    seed: int = 1
    text_records: int = 40_000
    durable_records: int = 2_000
    """For one appender; several appenders share a multiple of it."""
    scan_records: int = 1_000_000
    seeks: int = 20_000
    recovery_bytes: int = GIB
    open_segments: int = 1_000
    tree_logs: int = 1_000
    small_log_bytes: int = 100 * MIB
    large_log_bytes: int = 10 * GIB
    growth_records: int = 100_000

    @classmethod
    def of(cls, *, quick: bool, seed: int) -> Sizes:
        """Return the sizes of a full or a quick run."""
        if not quick:
            return cls(seed=seed)
        return cls(
            seed=seed,
            text_records=1_000,
            durable_records=64,
            scan_records=50_000,
            seeks=1_000,
            recovery_bytes=32 * MIB,
            open_segments=50,
            tree_logs=40,
            small_log_bytes=4 * MIB,
            large_log_bytes=64 * MIB,
            growth_records=10_000,
        )


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The floor a figure relates to: its name, its shape, and how much of it one figure stands for.

    ``amount`` is in the floor's own unit: operations or bytes for each record of a rate, or for the
    whole of a time.
    """

    floor: str
    amount: float
    record_bytes: int = RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Figure:
    """One number from one round. ``unit`` is "/s", "B/s", "s" or "B"."""

    key: str
    what: str
    value: float
    unit: str
    note: str = ""
    ceiling: Ceiling | None = None
    cpu_seconds_per_million: float | None = None


@dataclass(frozen=True, slots=True)
class ExtraRow:
    """One figure over all rounds."""

    key: str
    what: str
    unit: str
    summary: Summary
    note: str
    ceiling: Ceiling | None
    cpu_seconds_per_million: float | None

    def share_of_floor(self, runs: Iterable[floors.FloorRun]) -> float | None:
        """Return the work done in a second over the floor's, or None without a floor."""
        if self.ceiling is None or self.summary.median <= 0:
            return None
        floor = floors.median_of(runs, self.ceiling.record_bytes, self.ceiling.floor)
        if floor is None or floor.median <= 0:
            return None
        rate = self.summary.median if self.unit.endswith("/s") else 1 / self.summary.median
        return rate * self.ceiling.amount / floor.median

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "key": self.key,
            "what": self.what,
            "unit": self.unit,
            **self.summary.to_json(),
            "note": self.note,
            "floor": self.ceiling.floor if self.ceiling else None,
            "cpu_seconds_per_million_records": self.cpu_seconds_per_million,
        }


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to be measured in an empty directory."""

    name: str
    run: Callable[[Path], list[Figure]]
    native: bool = False
    """Whether it needs stratalog-load."""
    once: bool = False
    """Once a run, not once a round."""
    disk_bytes: int = 0
    """How much room it must find."""

    def reason_to_skip(self, directory: Path) -> str | None:
        """Return why it cannot run here, in one line, or None."""
        if self.native:
            try:
                programs.locate(ours.PROGRAM)
            except programs.ProgramMissingError as missing:
                return f"{self.name}: {missing}"
        free = shutil.disk_usage(directory).free
        if free < self.disk_bytes:
            wanted, found = self.disk_bytes / GIB, free / GIB
            return f"{self.name}: needs {wanted:.1f} GiB of free disk, there are {found:.1f}"
        return None


# ---- probes --------------------------------------------------------------------------------------


def size_text(size_bytes: float) -> str:
    """Return a size in the unit that people would use."""
    for unit, one in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if size_bytes >= one:
            return f"{size_bytes / one:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def _number(measurement: Measurement, name: str) -> float:
    return float(measurement.extra[name])


def _latency_note(measurement: Measurement) -> str:
    p50, p99, p999 = (_number(measurement, f"p{name}_us") for name in ("50", "99", "999"))
    syncs = _number(measurement, "syncs")
    shared = measurement.records / syncs if syncs else 0.0
    return f"p50/p99/p99.9 {p50:.0f}/{p99:.0f}/{p999:.0f} us, {shared:.1f} records a sync"


def _rate(key: str, what: str, measurement: Measurement, **more: Any) -> Figure:
    return Figure(
        key,
        what,
        measurement.records_per_second,
        "/s",
        cpu_seconds_per_million=measurement.cpu_seconds_per_million_records,
        **more,
    )


def _child(body: str, workload: Workload, directory: Path) -> Measurement:
    return measure_in_child(
        f"stratalog.benchmark.extra_bodies:{body}", workload.name, workload, directory
    )


def _appenders_native(count: int, how: str, sizes: Sizes, directory: Path) -> list[Figure]:
    """Return what ``count`` durable appenders reach: as threads, or as tickets of one thread."""
    # More appenders get further in the same time, up to what shows in a histogram.
    records = sizes.durable_records * (1 if count == 1 else 2 if count <= 8 else 16)
    workload = Workload(
        f"{count} appenders (C {how})", RECORD_BYTES, records, 1, Durability.RECORD, seed=sizes.seed
    )
    options = {"sync": "always" if how == "threads" else "none", how: count}
    found = ours.load(workload.name, "append", workload, directory, options)
    name = f"durable_{count}" if how == "threads" else f"durable_{count}_tickets"
    place = "C threads" if how == "threads" else "C, one event loop"
    stored = _number(found, "log_bytes") / found.records
    return [
        _rate(
            name,
            f"durable, {count} appender{'s' if count > 1 else ''} ({place})",
            found,
            note=_latency_note(found),
            ceiling=Ceiling("fdatasync_record", 1 / count),
        ),
        Figure(
            f"{name}_bytes",
            "  the same, bytes on disk",
            found.records_per_second * stored,
            "B/s",
            ceiling=Ceiling("device_write", 1),
        ),
    ]


def _appenders_python(body: str, what: str, count: int, sizes: Sizes, place: Path) -> list[Figure]:
    records = sizes.durable_records * (2 if count <= 8 else 8)
    workload = Workload(what, RECORD_BYTES, records, 1, Durability.RECORD, seed=sizes.seed)
    found = _child(body, workload, place)
    ceiling = Ceiling("fdatasync_record", 1 / count)
    return [_rate(body, what, found, note=_latency_note(found), ceiling=ceiling)]


def _codec(codec: str, sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload(
        f"codec {codec}", TEXT_BYTES, sizes.text_records, 100, Durability.PROCESS, seed=sizes.seed
    )
    found = _child(f"codec_{codec}", workload, directory)
    stored = _number(found, "log_bytes") / found.bytes
    scan_seconds = _number(found, "scan_seconds")
    plain = codec == "none"
    return [
        _rate(
            f"codec_{codec}_append",
            f"append_many, text of 1 KiB, {codec}",
            found,
            note=f"{found.bytes_per_second / 1e6:,.0f} MB/s, stored as {stored:.2f} of it",
            ceiling=Ceiling("map_prefaulted", TEXT_BYTES, TEXT_BYTES) if plain else None,
        ),
        Figure(
            f"codec_{codec}_scan",
            f"read_values of it, {codec}, first pass",
            found.records / scan_seconds,
            "/s",
            f"{found.bytes / scan_seconds / 1e6:,.0f} MB/s",
            cpu_seconds_per_million=_number(found, "scan_cpu") * 1e6 / found.records,
        ),
    ]


def _first_pass(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload(
        "first pass (C)",
        RECORD_BYTES,
        sizes.scan_records,
        1_000,
        Durability.PROCESS,
        Operation.SCAN,
        seed=sizes.seed,
    )
    found = ours.load(workload.name, "scan", workload, directory, {})
    seconds = _number(found, "first_pass_seconds")
    stored = _number(found, "log_bytes") / found.records
    return [
        Figure(
            "first_pass",
            "scan after an open, every checksum looked at (C)",
            found.records / seconds,
            "/s",
            f"{found.records_per_second / 1e6:,.1f} M/s in the pass after it",
            Ceiling("crc32c_cold", stored),
            _number(found, "first_pass_cpu_seconds") * 1e6 / found.records,
        )
    ]


def _first_pass_python(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload(
        "first pass", RECORD_BYTES, sizes.scan_records, 1_000, Durability.PROCESS, seed=sizes.seed
    )
    found = _child("first_pass", workload, directory)
    return [_rate("first_pass_python", "read_values after an open, the same (Python)", found)]


def _seek(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload(
        "seek by time (C)", RECORD_BYTES, sizes.scan_records, 1_000, Durability.PROCESS,
        seed=sizes.seed,
    )  # fmt: skip
    found = ours.load(workload.name, "seek-time", workload, directory, {"lookups": sizes.seeks})
    note = f"{found.seconds / found.records * 1e6:.2f} us each"
    ceiling = Ceiling("map_lookup", 1)
    return [_rate("seek_time", "seek by time (C)", found, note=note, ceiling=ceiling)]


def _seek_python(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload(
        "seek by time",
        RECORD_BYTES,
        sizes.scan_records,
        1_000,
        Durability.PROCESS,
        Operation.LOOKUP,
        sizes.seeks,
        sizes.seed,
    )
    found = _child("seek_time", workload, directory)
    note = f"{found.seconds / found.records * 1e6:.2f} us each"
    ceiling = Ceiling("map_lookup", 1)
    return [_rate("seek_time_python", "seek by time (Python)", found, note=note, ceiling=ceiling)]


def _recovery(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload(
        "recovery", RECORD_BYTES, 10_000, 1_000, Durability.PROCESS, seed=sizes.seed
    )  # the log's size says how many there will be
    segment_bytes = sizes.recovery_bytes + sizes.recovery_bytes // 16
    found = ours.load(
        workload.name,
        "recover",
        workload,
        directory,
        {"log-bytes": sizes.recovery_bytes, "segment-bytes": segment_bytes},
    )
    return [
        Figure(
            "recovery",
            f"open after SIGKILL, {size_text(sizes.recovery_bytes)} dirty, one segment",
            found.seconds,
            "s",
            f"{_number(found, 'recovered_batches'):,.0f} batches checked, nothing lost, warm",
            Ceiling("crc32c_cold", _number(found, "log_bytes")),
        )
    ]


def _open(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload("open", RECORD_BYTES, 10, 10, Durability.PROCESS, seed=sizes.seed)
    options = {"count": sizes.open_segments}
    found = ours.load(workload.name, "open", workload, directory, options)
    what = f"open of {sizes.open_segments:,} clean segments"
    return [
        Figure("open", what, found.seconds, "s", "a writer, warm"),
        Figure(
            "open_reader",
            f"{what}, read-only",
            _number(found, "read_only_seconds"),
            "s",
            "warm",
        ),
    ]


def _tree(sizes: Sizes, directory: Path) -> list[Figure]:
    workload = Workload("tree", RECORD_BYTES, 10, 10, Durability.PROCESS, seed=sizes.seed)
    found = ours.load(workload.name, "tree", workload, directory, {"count": sizes.tree_logs})
    what = f"disk of {sizes.tree_logs:,} logs of 10 records"
    each_us = found.seconds / sizes.tree_logs * 1e6
    note = f"st_blocks, directories included; {each_us:.0f} us to make one"
    return [
        Figure("tree_open", f"{what}, all open", _number(found, "disk_bytes_open"), "B", note),
        Figure("tree_closed", f"{what}, closed", _number(found, "disk_bytes_closed"), "B"),
    ]


GROWTH: Final = (
    ("append", "append in batches of 1,000, a record"),
    ("get", "get of a random offset"),
    ("open", "open, clean, warm"),
)


def _growth(sizes: Sizes, directory: Path) -> list[Figure]:
    figures = []
    workload = Workload(
        "growth",
        RECORD_BYTES,
        sizes.growth_records,
        1_000,
        Durability.PROCESS,
        seed=sizes.seed,
    )
    # Both have segments of the same length: one of them or so, and a hundred.
    segment_bytes = max(128 << 10, sizes.large_log_bytes // GROWTH_SEGMENTS)
    for word, log_bytes in (("small", sizes.small_log_bytes), ("large", sizes.large_log_bytes)):
        place = directory / word
        place.mkdir()
        found = ours.load(
            f"growth to {size_text(log_bytes)}",
            "grow",
            workload,
            place,
            {"log-bytes": log_bytes, "segment-bytes": segment_bytes, "lookups": sizes.seeks},
        )
        segments = _number(found, "segment_count")
        shutil.rmtree(place)
        for key, what in GROWTH:
            seconds = _number(found, f"{key}_seconds")
            if key == "append":
                seconds /= sizes.growth_records
            note = (
                f"{segments:.0f} segment{'s' if segments > 1 else ''}, median of 5 in one process"
            )
            figures.append(
                Figure(f"growth_{key}_{word}", f"{what}, at {size_text(log_bytes)}", seconds, "s",
                       note)
            )  # fmt: skip
    return sorted(figures, key=lambda one: [key for key, _ in GROWTH].index(one.key.split("_")[1]))


def probes(sizes: Sizes) -> list[Probe]:
    """Return everything that only we are asked, in the order of the table."""
    python = (
        ("appenders_8", "durable, 8 appenders (Python threads)", 8),
        ("appenders_64", "durable, 64 appenders (Python threads)", 64),
        ("coroutines_64", "durable, 64 coroutines (append, await durable)", 64),
    )
    return [
        *(
            Probe(
                f"{count} appenders (C {how})",
                partial(_appenders_native, count, how, sizes),
                native=True,
            )
            for count, how in ((1, "threads"), (8, "threads"), (64, "threads"), (64, "tickets"))
        ),
        *(
            Probe(what, partial(_appenders_python, body, what, count, sizes))
            for body, what, count in python
        ),
        Probe("first pass (C)", partial(_first_pass, sizes), native=True),
        Probe("first pass (Python)", partial(_first_pass_python, sizes)),
        Probe("seek by time (C)", partial(_seek, sizes), native=True),
        Probe("seek by time (Python)", partial(_seek_python, sizes)),
        *(Probe(f"codec {codec}", partial(_codec, codec, sizes)) for codec in CODECS),
        Probe("recovery", partial(_recovery, sizes), native=True,
              disk_bytes=int(sizes.recovery_bytes * DISK_FREE_FACTOR)),
        Probe("open", partial(_open, sizes), native=True),
        Probe("tree", partial(_tree, sizes), native=True),
        Probe("growth", partial(_growth, sizes), native=True, once=True,
              disk_bytes=int(sizes.large_log_bytes * DISK_FREE_FACTOR)),
    ]  # fmt: skip


# ---- over the rounds -----------------------------------------------------------------------------


def collect(figures: Sequence[Figure]) -> list[ExtraRow]:
    """Return one row for each key, in the order of first appearance; notes are the last round's."""
    by_key: dict[str, list[Figure]] = defaultdict(list)
    for figure in figures:
        by_key[figure.key].append(figure)
    return list(_rows(by_key.values()))


def _rows(groups: Iterable[Sequence[Figure]]) -> Iterator[ExtraRow]:
    for group in groups:
        last = group[-1]
        cpu = [one.cpu_seconds_per_million for one in group]
        known = [value for value in cpu if value is not None]
        amounts = [one.ceiling.amount for one in group if one.ceiling is not None]
        ceiling = last.ceiling and replace(last.ceiling, amount=Summary.of(amounts).median)
        yield ExtraRow(
            last.key,
            last.what,
            last.unit,
            Summary.of([one.value for one in group]),
            last.note,
            ceiling,
            Summary.of(known).median if known else None,
        )
