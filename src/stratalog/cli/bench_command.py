"""``stratalog bench``: this machine, this engine and its peers, side by side, in one run.

A door and nothing more: options become ``stratalog.benchmark.report.Options``. What is measured,
against whom, and how it is kept fair is written in ``stratalog/benchmark``.

Exit code 1 says that a subject failed or gave back other bytes than it was given, this engine
included; a slow one, or a line of the scorecard that is not met, is no failure.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from stratalog.cli import EXIT_FAILURE, Command

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    cls=Command,
    examples=(
        "stratalog bench --quick --peers none",
        "stratalog bench --dir /mnt/disk/bench --peers lmdb,rocksdb --rounds 7",
        "stratalog bench --json bench.json --chart bench.png",
    ),
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write: on the disk that is to be measured [a temporary directory here].",
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each measurement [5; quick: 2].")
@click.option("--quick", is_flag=True, help="Less data, fewer rounds: a look, not a result.")
@click.option("--peers", default="all", show_default=True, help="all, none, or NAME,NAME,...")
@click.option("--json", "json_path", type=FILE, help="Write every figure to this file.")
@click.option("--chart", "chart_path", type=FILE, help="Draw into this file (.png, .svg).")
@click.option("--seed", type=int, help="Seed of the payload [1].")
@click.pass_context
def bench(
    ctx: click.Context,
    directory: Path | None,
    rounds: int | None,
    quick: bool,
    peers: str,
    json_path: Path | None,
    chart_path: Path | None,
    seed: int | None,
) -> None:
    """Measure this engine, its peers and the floors beneath.

    Floors come first: what memory and this disk allow. Then this engine and its peers take turns
    with the same bytes and the same durability. Then come figures that no peer is asked for, and a
    scorecard: what was asked of this engine, what this run saw, met or not. Tables go to standard
    output; a note for each measurement that begins goes to standard error.
    """
    from stratalog.benchmark import report  # noqa: PLC0415  (loads what only a measurement needs)
    from stratalog.cli import screen  # noqa: PLC0415  (rich is slow to import)

    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stratalog-bench-", dir=directory or ".") as scratch:
        options = report.Options(
            directory=Path(scratch),
            rounds=rounds,
            quick=quick,
            peers=peers.split(","),
            json_path=json_path,
            chart_path=chart_path,
            progress=lambda line: click.echo(line, err=True),
            **({} if seed is None else {"seed": seed}),
        )
        try:
            outcome = report.run(options, screen.console())
        except ValueError as error:
            raise click.BadParameter(f"{error}.", param_hint="--peers") from None
    if outcome.failures:
        ctx.exit(EXIT_FAILURE)
