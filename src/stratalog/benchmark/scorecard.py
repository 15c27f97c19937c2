"""The scorecard: what was asked of this engine, what this run saw, met or not.

    line        a sentence, a bound, and the figure that was seen
    at least    ratios to floors and peers of the same run, higher is better
    at most     times and sizes, lower is better
    told        no bound was asked; the figure stands there because hiding it would flatter

Each ratio divides medians of one run: a machine that was slow was slow for both sides. What was not
measured, because a peer is missing or a disk too small, is "not measured" and never "met". A bound
on a time or a size that was asked for 1 GiB or 1,000 logs shrinks with them in a quick run.

The floor of a batched append is a sum of times: the bytes on disk are stored into a map and their
checksum is taken, so 1 / (1 / map + 1 / CRC-32C). It is given twice, over a map whose pages were
faulted in before and over a fresh one, where the kernel makes each page on first touch; an engine
that faults pages in ahead, on another thread, lies between the two.

What it leaves to others: measuring (runner.py, extra.py), printing (report.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stratalog.benchmark import floors
from stratalog.benchmark.extra import GIB, MIB, Sizes, size_text
from stratalog.benchmark.model import OUR_PREFIX

if TYPE_CHECKING:
    from stratalog.benchmark.extra import ExtraRow
    from stratalog.benchmark.runner import Report, Row

__all__ = ["Line", "score"]

SINGLE: Final = "100 B, one at a time"
BATCHED: Final = "100 B, batches of 1,000"
SYNCED: Final = "100 B, each synced"
SCAN: Final = "scan, 100 B"
TOUCHED: Final = "scan, 100 B, every byte"
LOOKUP: Final = "lookup, 100 B"

BARE_FILE: Final = "file write"
ONE_TRANSACTION: Final = "LMDB put, one transaction"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing asked. ``asked`` None: told only; ``seen`` None: not measured."""

    what: str
    asked: float | None
    seen: float | None
    unit: str = "x"
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it was met, or None where nothing was asked or nothing was measured."""
        if self.asked is None or self.seen is None:
            return None
        return self.seen <= self.asked if self.at_most else self.seen >= self.asked

    @property
    def verdict(self) -> str:
        """What the table says."""
        if self.seen is None:
            return "not measured"
        if self.met is None:
            return "told"
        return "met" if self.met else "NOT MET"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "what": self.what,
            "asked": self.asked,
            "seen": self.seen,
            "unit": self.unit,
            "at_most": self.at_most,
            "verdict": self.verdict,
            "note": self.note,
        }


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


class _Facts:
    """The medians of a report, by name."""

    def __init__(self, report: Report) -> None:
        self._rows = report.rows
        self._floors = report.floors
        self._extras = {row.key: row for row in report.extras}

    def rows(self, workload: str, wanted: Callable[[Row], bool]) -> list[Row]:
        """Return rows of a workload, the fastest first."""
        rows = [row for row in self._rows if row.workload.name == workload and wanted(row)]
        return sorted(rows, key=lambda row: row.records_per_second.median, reverse=True)

    def row(self, workload: str, subject: str) -> Row | None:
        """Return the fastest row whose subject's name begins so."""
        rows = self.rows(workload, lambda row: row.subject.startswith(subject))
        return rows[0] if rows else None

    def ours(self, workload: str, subject: str) -> float | None:
        """Return the rate of the subject of ours that has exactly this name."""
        rows = self.rows(workload, lambda row: row.ours and row.subject == subject)
        return rows[0].records_per_second.median if rows else None

    def peer(self, workload: str, subject: str) -> float | None:
        """Return the rate of the fastest peer whose name begins so."""
        rows = self.rows(workload, lambda row: not row.ours and row.subject.startswith(subject))
        return rows[0].records_per_second.median if rows else None

    def best(self, workload: str, wanted: Callable[[Row], bool]) -> tuple[float | None, str]:
        """Return the rate and the name of the fastest peer among those wanted."""
        rows = self.rows(workload, lambda row: not row.ours and wanted(row))
        return (rows[0].records_per_second.median, rows[0].subject) if rows else (None, "")

    def floor(self, name: str, record_bytes: int = 100) -> float | None:
        """Return the median of a floor in its own unit."""
        summary = floors.median_of(self._floors, record_bytes, name)
        return summary.median if summary else None

    def append_floor(self, map_floor: str) -> float | None:
        """Return bytes a second of a map and the checksum together."""
        return floors.append_floor(self._floors, 100, map_floor=map_floor)

    def figure(self, key: str) -> float | None:
        """Return the median of one of our own figures."""
        row: ExtraRow | None = self._extras.get(key)
        return row.summary.median if row else None


def score(report: Report) -> list[Line]:
    """Return the lines of the scorecard; empty where none of our subjects ran."""
    if not any(row.subject.startswith(OUR_PREFIX) for row in report.rows) and not report.extras:
        return []
    facts = _Facts(report)
    sizes = Sizes.of(quick=report.quick, seed=report.seed)
    return [
        *_batched_appends(facts),
        *_single_appends(facts),
        *_durable(facts),
        *_reads(facts),
        *_opening(facts, sizes),
        *_growth(facts, sizes),
    ]


def _stored_bytes_per_second(facts: _Facts) -> float | None:
    """Return what the batched append in C wrote to the log: values, framing and headers."""
    row = facts.row(BATCHED, "stratalog (C) append")
    if row is None:
        return None
    stored = row.measurements[-1].extra.get("log_bytes")
    if not isinstance(stored, int | float):
        return None
    return row.records_per_second.median * stored / row.measurements[-1].records


def _batched_appends(facts: _Facts) -> Iterator[Line]:
    stored = _stored_bytes_per_second(facts)
    for what, name in (
        ("memcpy", "memcpy_cold"),
        ("stores into a cold map", "map_cold"),
        ("stores into a pre-faulted map", "map_prefaulted"),
    ):
        floor = facts.append_floor(name)
        note = "" if floor is None else f"floor {floor / 1e9:.2f} GB/s of bytes on disk"
        yield Line(
            f"batched append in C over the floor, {what} + CRC-32C",
            0.5,
            _over(stored, floor),
            note=note,
        )
    native = facts.ours(BATCHED, "stratalog (C) append")
    yield Line(
        "batched append in C over Chronicle Queue",
        3.0,
        _over(native, facts.peer(BATCHED, "Chronicle")),
    )
    best, name = facts.best(BATCHED, lambda row: not row.subject.startswith("Chronicle"))
    yield Line("the same over the best other peer", 1.0, _over(native, best), note=name)
    python = facts.ours(BATCHED, "stratalog append_many")
    best, name = facts.best(
        BATCHED, lambda row: row.language == "python" and not row.subject.startswith(BARE_FILE)
    )
    yield Line("append_many in Python over the best Python peer", 3.0, _over(python, best),
               note=name)  # fmt: skip
    yield Line(
        "the same over a bare file: no framing, no checksum",
        None,
        _over(python, facts.peer(BATCHED, BARE_FILE)),
    )


def _single_appends(facts: _Facts) -> Iterator[Line]:
    single = facts.ours(SINGLE, "stratalog append")
    yield Line(
        "append one at a time in Python over RocksDB's put",
        3.0,
        _over(single, facts.peer(SINGLE, "RocksDB put")),
    )
    yield Line(
        "the same over LMDB's put inside one transaction",
        1.0,
        _over(single, facts.peer(SINGLE, ONE_TRANSACTION)),
    )


def _durable(facts: _Facts) -> Iterator[Line]:
    native = facts.ours(SYNCED, "stratalog (C) append_value")
    yield Line(
        "durable, one appender in C over a bare write + fdatasync",
        0.95,
        _over(native, facts.floor("fdatasync_record")),
    )
    python = facts.ours(SYNCED, "stratalog append")
    for peer in ("LMDB", "RocksDB", "SQLite"):
        yield Line(f"the same in Python over {peer}", 1.0, _over(python, facts.peer(SYNCED, peer)))
    for what, name in (
        ("64 appenders on one event loop in C", "durable_64_tickets"),
        ("64 blocking threads in C", "durable_64"),
    ):
        one, many = facts.figure("durable_1"), facts.figure(name)
        stored, device = facts.figure(f"{name}_bytes"), facts.floor("device_write")
        target, note = None, ""
        if one and many and stored and device:
            # Asked: 0.8 of 64 times one appender, or all that the device can take.
            shared, bandwidth = 0.8 * 64 * one, device * many / stored
            target = min(shared, bandwidth)
            limit = "0.8 of 64 times one" if shared <= bandwidth else "the device's bandwidth"
            note = f"the lower limit here is {limit}"
        yield Line(
            f"durable, {what}, over 0.8 x 64 x one appender, or the device",
            1.0,
            _over(many, target),
            note=note,
        )


def _reads(facts: _Facts) -> Iterator[Line]:
    for workload, asked in ((SCAN, 1.5), (TOUCHED, None)):
        what = "scan in C over Chronicle's tailer"
        yield Line(
            what if asked else "the same, every byte touched",
            asked,
            _over(facts.ours(workload, "stratalog (C) cursor"), facts.peer(workload, "Chronicle")),
        )
    cursor = facts.peer(SCAN, "LMDB cursor")
    for what, name, asked in (
        ("values in Python over LMDB's cursor", "stratalog read_values", 1.0),
        ("full records in Python over LMDB's cursor", "stratalog read", 0.7),
        ("the same with copies", "stratalog read, copies", None),
    ):
        yield Line(what, asked, _over(facts.ours(SCAN, name), cursor))
    for what, name, asked in (
        ("point lookup in C", "stratalog (C) get", 1.5),
        ("point lookup in Python", "stratalog get", 3.0),
    ):
        seen = _over(1e6, facts.ours(LOOKUP, name))
        yield Line(what, asked, seen, "us", at_most=True, note="batches of 64 KiB")


def _scaled(asked: float, size: float, full: float) -> float:
    return asked * size / full


def _opening(facts: _Facts, sizes: Sizes) -> Iterator[Line]:
    size = sizes.recovery_bytes
    seconds = facts.figure("recovery")
    yield Line(
        f"recovery of {size_text(size)} dirty, warm",
        _scaled(300, size, GIB),
        None if seconds is None else seconds * 1e3,
        "ms",
        at_most=True,
    )
    count = sizes.open_segments
    seconds = facts.figure("open")
    yield Line(
        f"open of {count:,} clean segments",
        _scaled(50, count, 1_000),
        None if seconds is None else seconds * 1e3,
        "ms",
        at_most=True,
    )
    count = sizes.tree_logs
    seen = facts.figure("tree_open")
    yield Line(
        f"disk of {count:,} small logs, all open",
        _scaled(100, count, 1_000),
        None if seen is None else seen / MIB,
        "MiB",
        at_most=True,
    )


def _growth(facts: _Facts, sizes: Sizes) -> Iterator[Line]:
    small, large = size_text(sizes.small_log_bytes), size_text(sizes.large_log_bytes)
    for name in ("append", "get", "open"):
        yield Line(
            f"{name} at {large} over {name} at {small}, in time",
            1.2,
            _over(facts.figure(f"growth_{name}_large"), facts.figure(f"growth_{name}_small")),
            at_most=True,
        )
