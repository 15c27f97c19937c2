"""The command: runs rows, each on the sound engine and on one with its planted bug, and reports.

    python -m tests.trials ROW|all [--quick] [--seed N] [--trials N] [--json FILE]

Prints a line per row; exits 1 when a promise was broken, a fault never fired or a planted bug was
not caught, 2 for wrong arguments.  Rows that cannot run here say why.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

from .bench import Bench, temporary
from .build import Bug, Builder

PACKAGE = "tests.trials"


def rows() -> dict[int, ModuleType]:
    """All rows by number."""
    names = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"{PACKAGE}.{n}") for n in names if n.startswith("row")]
    return {module.NUMBER: module for module in modules}


def programs(row: ModuleType, builder: Builder, bug: Bug | None = None) -> Path:
    """Directory with what the row runs: the common programs unless it builds its own."""
    build = getattr(row, "build", Builder.programs)
    target: Path = build(builder, bug)
    return target


def run_row(row: ModuleType, builder: Builder, options: argparse.Namespace) -> dict:
    """One row, sound and planted.  The result is what --json keeps."""
    result = {"row": row.NUMBER, "title": row.TITLE, "seed": options.seed, "status": "skipped"}
    why = row.missing()
    if why is not None:
        return {**result, "why": why}
    wanted = options.trials or (row.QUICK if options.quick else row.FULL)
    begun = time.monotonic()
    bench = measure(row, programs(row, builder), wanted, options)
    caught = None
    if row.BUG is not None:
        # The planted engine gets the quick number: a bug that needs more is not really caught.
        planted = measure(row, programs(row, builder, row.BUG), min(wanted, row.QUICK), options, 1)
        caught = planted.failures[0] if planted.failures else ""
    passed = not bench.failures and bench.fired > 0 and caught != ""
    return {
        **result,
        "status": "passed" if passed else "FAILED",
        "trials": bench.trials,
        "fired": bench.fired,
        "failures": bench.failures,
        "notes": dict(bench.notes),
        "bug": row.BUG.sentence if row.BUG is not None else None,
        "caught": caught,
        "seconds": round(time.monotonic() - begun, 1),
    }


def measure(
    row: ModuleType,
    programs: Path,
    wanted: int,
    options: argparse.Namespace,
    failures_max: int = 20,
) -> Bench:
    """Run one row in a place that is gone afterwards."""
    place = temporary()
    bench = Bench(programs, options.seed, wanted, options.quick, place, failures_max)
    try:
        row.run(bench)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return bench


def show(result: dict) -> None:
    """Print one result for people."""
    title = f"row {result['row']:2}  {result['title']}"
    if result["status"] == "skipped":
        print(f"{title}: SKIPPED: {result['why']}", flush=True)
        return
    caught = {None: "no bug to plant", "": "NOT CAUGHT"}.get(result["caught"], "caught")
    print(
        f"{title}: {result['status']}: {result['trials']} trials, {result['fired']} faults fired, "
        f"{len(result['failures'])} failures, planted bug {caught}, {result['seconds']} s",
        flush=True,
    )
    for sentence in result["failures"]:
        print(f"          failure: {sentence}")
    if result["caught"]:
        print(f"          planted: {result['bug']}: {result['caught'][:160]}")
    for note, count in sorted(result["notes"].items()):
        print(f"          note: {note}: {count}", flush=True)


def main() -> int:
    """Parse, run, report."""
    known = rows()
    parser = argparse.ArgumentParser(prog="python -m tests.trials", description=__doc__)
    parser.add_argument("row", help="a number, several with commas, or all")
    parser.add_argument("--quick", action="store_true", help="few trials: under a minute a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=0, help="instead of the row's own number")
    parser.add_argument("--json", type=Path, help="keep the results here too")
    options = parser.parse_args()
    try:
        numbers = (
            sorted(known) if options.row == "all" else [int(n) for n in options.row.split(",")]
        )
        chosen = [known[n] for n in numbers]
    except (ValueError, KeyError):
        parser.error(f"no such row: {options.row}; there are {', '.join(map(str, sorted(known)))}")
    place = temporary()
    results = []
    try:
        builder = Builder(place)
        for row in chosen:
            results.append(run_row(row, builder, options))
            show(results[-1])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 1 if any(result["status"] == "FAILED" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
