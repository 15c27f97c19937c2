"""How a run of ``stratalog bench zk`` is shown: tables for people, a scorecard, JSON for programs.

    loads       rate, ratio to Apache's, server CPU for a request, latencies; the floor first
    figures     everything that is one number: start, tree, snapshot, watches, sessions, disk
    scorecard   what was asked, what this run saw, met or not

Every ratio divides medians of the same run, ours by Apache's. What was not measured, because Apache
cannot run here or a part was left out, is "not measured" and never "met". Times and sizes of a
quick run belong to its smaller tree; its bounds are ratios, and those it is held to. A bound on a
size that was asked for 10,000 sessions is told only where there are fewer.

What it leaves to others: every number (zookeeper.py, zookeeper_runs.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratalog.benchmark.report import rate
from stratalog.benchmark.scorecard import Line
from stratalog.benchmark.zookeeper import DISK, Options, ZooKeeperReport, failed, measure
from stratalog.benchmark.zookeeper_runs import FULL, LOADS, PARTS, Load
from stratalog.benchmark.zookeeper_servers import APACHE, ECHO, OURS

if TYPE_CHECKING:
    from stratalog.benchmark.model import Summary

__all__ = ["Options", "ZooKeeperReport", "print_report", "run", "score", "write_json"]

MIB: Final = 1 << 20


def run(options: Options, console: Console | None = None) -> ZooKeeperReport:
    """Measure, print the tables, and write the JSON that the options ask for.

    Raises:
        ValueError: a part does not exist.
        ProgramMissingError: the load generator cannot be had here.
        OSError: the directory or the JSON cannot be written.
    """
    report = measure(options)
    # Shown before anything is written: a path that cannot be written must not cost the figures.
    print_report(report, console or Console())
    if options.json_path is not None:
        write_json(report, options.json_path)
    return report


def write_json(report: ZooKeeperReport, path: Path) -> None:
    """Write the report as JSON, every single round and the scorecard included."""
    value = report.to_json() | {"scorecard": [line.to_json() for line in score(report)]}
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- tables --------------------------------------------------------------------------------------


def print_report(report: ZooKeeperReport, console: Console) -> None:
    """Print what the run was, its tables, its scorecard, and what went wrong."""
    for line in _heading(report):
        console.print(line, highlight=False, markup=False)
    for table in (_load_table(report), _figure_table(report), _scorecard_table(report)):
        if table.row_count:
            console.print(table)
    for subject, reason in report.unavailable.items():
        console.print(f"not measured: {subject}: {reason}", highlight=False, markup=False)
    for line in failed(report.failures):
        console.print(f"FAILED: {line}", highlight=False, markup=False)


def _heading(report: ZooKeeperReport) -> Iterator[str]:
    seen = report.machine
    yield (
        f"{seen.cpu_model}, {seen.cpus} CPUs, {seen.memory_bytes / (1 << 30):.1f} GiB; "
        f"{seen.kernel}; {seen.file_system} ({seen.mount_options}); {seen.python}"
    )
    kind = "quick run: a look, not a result; " if report.quick else ""
    yield f"{kind}{report.rounds} rounds, seed {report.seed}, median (min .. max)"
    for subject, told in report.settings.items():
        yield f"{subject} {report.versions.get(subject, '')}: {told}"


def _spread(summary: Summary) -> str:
    return f"{rate(summary.min)} .. {rate(summary.max)}"


def _times(ours: float | None, theirs: float | None) -> str:
    return "" if ours is None or not theirs else f"{ours / theirs:.2f} x"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _milliseconds(microseconds: float | None) -> str:
    return "" if microseconds is None else _digits(microseconds / 1e3)


def _short(load: Load) -> str:
    return f"{load.op}, {load.connections} x {load.window}"


def _load_table(report: ZooKeeperReport) -> Table:
    table = Table(
        title=(
            f"Requests a second, znodes of {report.sizes.value_bytes} B, connections x requests "
            "under way; ratio to Apache's; ms"
        ),
        title_justify="left",
    )
    table.add_column("load", no_wrap=True)
    for name in ("median", "min .. max", "ratio", "CPU us", "p50", "p99", "p99.9 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for load in LOADS:
        rows = [
            (subject, seen)
            for subject in (ECHO, APACHE, OURS)
            if (seen := report.summary(subject, f"{load.key}.per_second")) is not None
        ]
        if rows:
            table.add_section()
            table.add_row(Text(_short(load), style="bold"))
        theirs = report.median(APACHE, f"{load.key}.per_second")
        for subject, seen in rows:
            cpu = report.median(subject, f"{load.key}.cpu_us")
            table.add_row(
                f"  {subject}",
                rate(seen.median),
                _spread(seen),
                _times(seen.median, theirs) if subject == OURS else "",
                "" if cpu is None else f"{cpu:.1f}",
                *(
                    _milliseconds(report.median(subject, f"{load.key}.{name}"))
                    for name in ("p50_us", "p99_us", "p999_us")
                ),
            )
    return table


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    title: str
    divisor: float = 1.0
    unit: str = ""


_ROWS: Final = (
    _Row("start.seconds", "start", 1e-3, "ms"),
    _Row("start.resident_bytes", "resident then", MIB, "MiB"),
    _Row("tree.fill_per_second", "tree: creates a second", 1e3, "k"),
    _Row("tree.resident_bytes", "tree: resident", MIB, "MiB"),
    _Row("tree.restart_seconds", "tree: restart", 1.0, "s"),
    _Row("tree.restarted_resident_bytes", "tree: resident then", MIB, "MiB"),
    _Row("snapshot.seconds", "snapshot of the tree", 1.0, "s"),
    _Row("snapshot.idle_p99_us", "p99 of others before it", 1e3, "ms"),
    _Row("snapshot.during_p99_us", "p99 of others in it", 1e3, "ms"),
    _Row("snapshot.p99_ratio", "the one over the other", 1.0, "x"),
    _Row("snapshot.during_max_us", "longest of others in it", 1e3, "ms"),
    _Row("watches.set_seconds", "watches: all set", 1.0, "s"),
    _Row("watches.fire_seconds", "watches: all fired", 1.0, "s"),
    _Row("watches.resident_bytes", "watches: resident", MIB, "MiB"),
    _Row("sessions.open_seconds", "sessions: all open", 1.0, "s"),
    _Row("sessions.resident_bytes", "sessions: resident, idle", MIB, "MiB"),
    _Row("sessions.bytes_each", "sessions: memory of one", 1024.0, "KiB"),
    _Row("sync_100.per_second", "fdatasync, 100 B, a s", 1e3, "k"),
    _Row("sync_65536.per_second", "fdatasync, 64 KiB, a s", 1e3, "k"),
)


def _figure_table(report: ZooKeeperReport) -> Table:
    sizes = report.sizes
    table = Table(
        title=(
            f"Figures: {sizes.znodes:,} znodes, {sizes.watches:,} watches over "
            f"{sizes.watch_connections:,} connections, {sizes.sessions:,} sessions"
        ),
        title_justify="left",
    )
    table.add_column("figure", no_wrap=True)
    for name in ("", OURS, "min .. max", "Apache", "min .. max", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _ROWS:
        ours = report.summary(OURS, row.name) or report.summary(DISK, row.name)
        theirs = report.summary(APACHE, row.name)
        if ours is None and theirs is None:
            continue
        cells: list[str] = []
        for seen in (ours, theirs):
            cells += (
                ["", ""]
                if seen is None
                else [
                    _digits(seen.median / row.divisor),
                    f"{_digits(seen.min / row.divisor)} .. {_digits(seen.max / row.divisor)}",
                ]
            )
        ratio = _times(ours.median, theirs.median) if ours and theirs else ""
        table.add_row(row.title, row.unit, *cells, ratio)
    return table


def _scorecard_table(report: ZooKeeperReport) -> Table:
    table = Table(title="Scorecard: asked, seen", title_justify="left")
    table.add_column("line")
    for name in ("asked", "seen", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for line in score(report):
        bound = "at most" if line.at_most else "at least"
        asked = "" if line.asked is None else f"{bound} {line.asked:g} {line.unit}"
        seen = "" if line.seen is None else f"{line.seen:.3g} {line.unit}"
        table.add_row(line.what, asked, seen, line.verdict)
    return table


# ---- scorecard -----------------------------------------------------------------------------------

_RATES: Final = (
    ("get_pipelined", 3.0), ("set_pipelined", 2.0), ("create_pipelined", 2.0),
    ("mix_pipelined", 2.0), ("get_8", 2.0), ("create_8", 1.5), ("set_8", 1.5), ("create_64", 2.0),
)  # fmt: skip
_HALVES: Final = (
    ("get_pipelined", "cpu_us", "CPU for a request"),
    ("set_pipelined", "cpu_us", "CPU for a request"),
    ("create_pipelined", "cpu_us", "CPU for a request"),
    ("mix_pipelined", "cpu_us", "CPU for a request"),
    ("create_8", "p99_us", "p99"),
    ("set_8", "p99_us", "p99"),
)


def score(report: ZooKeeperReport) -> list[Line]:
    """Return what was asked of this server and what the run saw, parts left out excepted."""
    part_of = {load.key: "pipelined" for load in LOADS if load.window > 1}
    part_of |= {load.key: "synchronous" for load in LOADS if load.window == 1}
    lines = [
        (part, line)
        for lines_of in (_rate_lines(report), _half_lines(report))
        for key, line in lines_of
        for part in (part_of[key],)
    ]
    lines += _other_lines(report)
    return [line for part in PARTS for where, line in lines if where == part in report.parts]


def _ratio(report: ZooKeeperReport, name: str) -> float | None:
    ours, theirs = report.median(OURS, name), report.median(APACHE, name)
    return None if ours is None or not theirs else ours / theirs


def _rate_lines(report: ZooKeeperReport) -> Iterator[tuple[str, Line]]:
    titles = {load.key: load.title for load in LOADS}
    for key, asked in _RATES:
        yield key, Line(f"{titles[key]}: rate", asked, _ratio(report, f"{key}.per_second"))


def _half_lines(report: ZooKeeperReport) -> Iterator[tuple[str, Line]]:
    titles = {load.key: load.title for load in LOADS}
    for key, figure, what in _HALVES:
        seen = _ratio(report, f"{key}.{figure}")
        yield key, Line(f"{titles[key]}: {what}", 0.5, seen, at_most=True)


def _other_lines(report: ZooKeeperReport) -> list[tuple[str, Line]]:
    sizes = report.sizes

    def ours(name: str, divisor: float) -> float | None:
        seen = report.median(OURS, name)
        return None if seen is None else seen / divisor

    def at_most(part: str, what: str, asked: float | None, seen: float | None, unit: str = "x",
                ) -> tuple[str, Line]:  # fmt: skip
        return part, Line(what, asked, seen, unit, at_most=True)

    session_mib = 100.0 if sizes.sessions >= FULL.sessions else None
    return [
        at_most("start", "start to the first answer", 0.3, ours("start.seconds", 1), "s"),
        at_most("start", "resident after it", 60, ours("start.resident_bytes", MIB), "MiB"),
        at_most("tree", f"{sizes.znodes:,} znodes: resident, over Apache's", 0.5,
                _ratio(report, "tree.resident_bytes")),
        at_most("tree", "the same: restart, over Apache's", 1.0,
                _ratio(report, "tree.restart_seconds")),
        at_most("tree", "p99 of others during its snapshot, over before", 2.0,
                report.median(OURS, "snapshot.p99_ratio")),
        at_most("watches", f"{sizes.watches:,} watches set, over Apache's", None,
                _ratio(report, "watches.set_seconds")),
        at_most("watches", "the same fired, over Apache's", None,
                _ratio(report, "watches.fire_seconds")),
        at_most("sessions", f"{sizes.sessions:,} idle sessions: resident", session_mib,
                ours("sessions.resident_bytes", MIB), "MiB"),
    ]  # fmt: skip
