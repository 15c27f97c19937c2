"""How a run is shown: tables for people, JSON for programs, a chart for pages.

    floors            what the hardware allows, per record size
    process-safe      appends that survive kill -9, not the loss of power
    power-safe/group  one sync for a group of records
    power-safe/record one sync for each record
    reads             scans and lookups, warm
    extras            what only we are asked: codecs, appenders, recovery, growth ... (extra.py)
    scorecard         what was asked of us, what this run saw, met or not (scorecard.py)

A row is a subject; rows are never moved between tables, and a subject that cannot run here, or
failed, is named with its reason under the tables instead of being left out. The first line of each
workload is its floor. Ratios are the result, absolute figures are only colour: see runner.py for
what each ratio divides by what.

``run`` is the whole benchmark for a command line: measure, print, write JSON, draw.

What it leaves to others: every number (runner.py). The chart needs matplotlib (the ``bench``
extra); without it the run says so and goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratalog.benchmark.extra import MIB
from stratalog.benchmark.model import Durability, Summary, Workload
from stratalog.benchmark.runner import Options, Report, Row, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stratalog.benchmark.floors import FloorRun
    from stratalog.benchmark.scorecard import Line

__all__ = ["Options", "Report", "print_report", "run", "tables", "write_chart", "write_json"]

SECTIONS: Final[tuple[tuple[str, Callable[[Workload], bool]], ...]] = (
    (
        "Appends, process-safe: survive kill -9, not the loss of power",
        lambda w: not w.is_read and w.durability is Durability.PROCESS,
    ),
    (
        "Appends, power-safe per group: one sync for each group",
        lambda w: not w.is_read and w.durability is Durability.GROUP,
    ),
    (
        "Appends, power-safe per record: one sync for each record",
        lambda w: not w.is_read and w.durability is Durability.RECORD,
    ),
    ("Reads, warm", lambda w: w.is_read),
)


SHAPED_FLOORS: Final = frozenset(
    {
        "crc32c_record",
        "fdatasync_group",
        "fdatasync_record",
        "map_lookup",
        "pwrite_record",
        "store_record",
    }
)


def run(options: Options, console: Console | None = None) -> Report:
    """Measure, print the tables, and write the JSON and the chart that the options ask for.

    Raises:
        ValueError: ``options.peers`` names a peer that does not exist.
        OSError: the directory, the JSON or the chart cannot be written.
    """
    console = console or Console()
    report = measure(options)
    # Shown before anything is written: a path that cannot be written must not cost the figures.
    print_report(report, console)
    if options.chart_path is not None:
        reason = write_chart(report, options.chart_path)
        if reason is not None:
            report.notes.append(f"no chart: {reason}")
            console.print(report.notes[-1], highlight=False, markup=False)
    if options.json_path is not None:
        write_json(report, options.json_path)
    return report


def write_json(report: Report, path: Path) -> None:
    """Write the report as JSON, every single round included."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


# ---- figures as people read them -----------------------------------------------------------------


def rate(value: float) -> str:
    """Return a rate with three significant digits and a unit: 12.3 k, 4.56 M."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        # A rate that would round up to 1000 of a unit is shown in the next one.
        if abs(value) >= limit * 0.9995:
            return f"{_three_digits(value / limit)}{unit}"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def _spread(summary: Summary) -> str:
    return f"{rate(summary.min)} .. {rate(summary.max)}"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if value >= 0.001 else f"{value:.1e}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{_three_digits(value)} x"


# ---- tables --------------------------------------------------------------------------------------


def _floor_table(runs: Sequence[FloorRun]) -> Table:
    implementations = ", ".join(dict.fromkeys(run.crc32c_implementation for run in runs))
    table = Table(
        title=f"Floors: what this machine allows (CRC-32C by {implementations})",
        title_justify="left",
    )
    table.add_column("floor", no_wrap=True)
    table.add_column("median", justify="right")
    table.add_column("min .. max", justify="right")
    table.add_column("p50 / p99", justify="right")
    for number, run in enumerate(runs):
        shape = run.shape
        table.add_section()
        heading = f"records of {shape.record_bytes:,} B, groups of {shape.group_records:,}"
        table.add_row(Text(heading, style="bold"))
        for floor in run.floors.values():
            # What does not depend on the shape is shown once; the JSON has all of it.
            if number > 0 and floor.name not in SHAPED_FLOORS:
                continue
            unit = "B/s" if floor.unit == "bytes_per_second" else "/s"
            latency = ""
            if floor.p50_us is not None and floor.p99_us is not None:
                latency = f"{floor.p50_us:.0f} / {floor.p99_us:.0f} us"
            median = _amount(floor.summary.median, unit)
            table.add_row(f"  {floor.name}", median, _spread(floor.summary), latency)
    return table


def _append_row(table: Table, report: Report, row: Row) -> None:
    name = Text(f"  {row.subject}", style="bold green" if row.ours else "")
    table.add_row(
        name,
        rate(row.records_per_second.median),
        _spread(row.records_per_second),
        f"{row.bytes_per_second.median / 1e6:,.1f}",
        _share(report.share_of_floor(row)),
        _times(report.ours_over(row)),
        f"{row.cpu_seconds_per_million_records.median:.2f}",
    )


def _section_table(title: str, report: Report, asked: Sequence[Workload]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("subject", overflow="fold")
    for heading in ("records/s", "min .. max", "MB/s", "of floor", "ours / it", "CPU s/M"):
        table.add_column(heading, justify="right", no_wrap=True)
    for workload in asked:
        table.add_section()
        table.add_row(Text(workload.name, style="bold"))
        floor = report.floor_of(workload)
        if floor is not None:
            megabytes = f"{floor.median * workload.record_bytes / 1e6:,.1f}"
            table.add_row(
                Text("  floor", style="dim"), rate(floor.median), _spread(floor), megabytes
            )
        for row in report.rows_of(workload):
            _append_row(table, report, row)
    return table


def tables(report: Report) -> list[Table]:
    """Return the tables of a report, floors first; a class without any row has no table."""
    shown: list[Table] = []
    if report.floors:
        shown.append(_floor_table(report.floors))
    for title, belongs in SECTIONS:
        asked = [w for w in report.workloads if belongs(w) and report.rows_of(w)]
        if asked:
            shown.append(_section_table(title, report, asked))
    if report.extras:
        shown.append(_extra_table(report))
    if lines := report.scorecard:
        shown.append(_scorecard_table(report, lines))
    return shown


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        for limit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
            if value >= limit * 0.9995:
                return f"{_three_digits(value / limit)} {name}"
        return f"{_three_digits(value * 1e9)} ns"
    if unit == "B":
        return f"{_three_digits(value / MIB)} MiB"
    text = rate(value)
    # "12.3 GB/s" and "456 B/s", "12.3 k/s" and "456 /s"
    return f"{text}{unit}" if " " in text else f"{text} {unit}"


def _extra_table(report: Report) -> Table:
    table = Table(title="Ours alone: what no peer is asked", title_justify="left")
    table.add_column("figure", overflow="fold")
    for heading in ("median", "min .. max", "of floor", "CPU s/M"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for row in report.extras:
        cpu = row.cpu_seconds_per_million
        table.add_row(
            row.what,
            _amount(row.summary.median, row.unit),
            f"{_amount(row.summary.min, row.unit)} .. {_amount(row.summary.max, row.unit)}",
            _share(row.share_of_floor(report.floors)),
            "-" if cpu is None else f"{cpu:.2f}",
            row.note,
        )
    return table


def _scorecard_table(report: Report, lines: Sequence[Line]) -> Table:
    title = "Scorecard: asked and seen, in this run"
    if report.quick:
        title += " (quick: a look, not a result)"
    table = Table(title=title, title_justify="left")
    table.add_column("what", overflow="fold")
    for heading in ("asked", "seen"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("note", overflow="fold")
    styles = {"met": "green", "NOT MET": "bold red", "not measured": "dim"}
    for line in lines:
        bound = "at most" if line.at_most else "at least"
        table.add_row(
            line.what,
            "-" if line.asked is None else f"{bound} {line.asked:.3g} {line.unit}",
            "-" if line.seen is None else f"{_three_digits(line.seen)} {line.unit}",
            Text(line.verdict, style=styles.get(line.verdict, "")),
            line.note,
        )
    return table


def _subject_table(report: Report) -> Table:
    table = Table(title="Who ran", title_justify="left")
    for heading in ("subject", "version", "settings", "syncs"):
        table.add_column(heading, overflow="fold")
    for name, version in report.versions.items():
        table.add_row(name, version, report.settings[name], report.sync_evidence[name])
    return table


def print_report(report: Report, console: Console) -> None:
    """Print everything: the machine, the tables, who ran, who could not, and what failed."""
    system = report.machine
    # No highlighting and no markup: a reason may hold brackets, and a table is quiet enough.
    console.print(
        f"{system.cpu_model}, {system.cpus} CPUs, {system.memory_bytes / 2**30:.0f} GiB; "
        f"{system.kernel} {system.architecture}; {system.file_system} ({system.mount_options}); "
        f"{system.python}",
        highlight=False,
        markup=False,
    )
    quick = " (quick: the figures say that it runs, and nothing else)" if report.quick else ""
    console.print(
        f"{report.rounds} rounds, interleaved, seed {report.seed}{quick}",
        highlight=False,
        markup=False,
    )
    for table in tables(report):
        console.print()
        console.print(table)
    console.print()
    console.print(_subject_table(report))
    lines = [f"not here: {name}: {reason}" for name, reason in report.unavailable.items()]
    lines += [
        f"FAILED: {one.workload}, round {one.round + 1}: {one.reason}" for one in report.failures
    ]
    lines += report.notes
    for line in lines:
        console.print(line, highlight=False, markup=False)


# ---- chart ---------------------------------------------------------------------------------------

OURS_COLOUR: Final = "#2a7f62"
PEER_COLOUR: Final = "#8a94a6"


def write_chart(report: Report, path: Path) -> str | None:
    """Draw one bar chart per workload into a PNG; return None, or the reason why there is none."""
    if importlib.util.find_spec("matplotlib") is None:
        return "matplotlib is not installed (pip install 'stratalog[bench]')"
    asked = [workload for workload in report.workloads if report.rows_of(workload)]
    if not asked:
        return "nothing was measured"
    # The Figure class draws without pyplot, which would look for a display.
    figure_class: Any = importlib.import_module("matplotlib.figure").Figure
    columns = min(2, len(asked))
    lines = -(-len(asked) // columns)
    tallest = [
        max(len(report.rows_of(workload)) for workload in asked[i : i + columns]) + 1.6
        for i in range(0, len(asked), columns)
    ]
    figure = figure_class(figsize=(7 * columns, 0.26 * sum(tallest)), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, height_ratios=tallest).flatten()
    for axis, workload in zip(axes, asked, strict=False):
        _draw(axis, report, workload)
    for axis in axes[len(asked) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=120, format="png")
    return None


def _class_of(workload: Workload) -> str:
    if workload.is_read:
        return "read"
    return {
        Durability.PROCESS: "append, process-safe",
        Durability.GROUP: "append, power-safe per group",
        Durability.RECORD: "append, power-safe per record",
    }[workload.durability]


def _draw(axis: Any, report: Report, workload: Workload) -> None:
    rows = report.rows_of(workload)
    summaries = [row.records_per_second for row in rows]
    medians = [summary.median for summary in summaries]
    below = [summary.median - summary.min for summary in summaries]
    above = [summary.max - summary.median for summary in summaries]
    axis.barh(
        range(len(rows)),
        medians,
        xerr=[below, above],
        color=[OURS_COLOUR if row.ours else PEER_COLOUR for row in rows],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    # A bar starts at zero, so that its length is its rate; the label says what the eye cannot.
    for place, summary in enumerate(summaries):
        axis.annotate(f" {rate(summary.median)}", (summary.max, place), va="center", fontsize=6.5)
    axis.set_xlim(0, 1.15 * max(summary.max for summary in summaries))
    axis.set_yticks(range(len(rows)), [row.subject for row in rows], fontsize=6.5)
    axis.invert_yaxis()
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    floor = report.floor_of(workload)
    limit = "" if floor is None else f", floor {rate(floor.median)}"
    axis.set_title(
        f"{_class_of(workload)}: {workload.name} (records/s{limit})", fontsize=8, loc="left"
    )
