"""``stratalog bench``: this machine, this engine and its peers, side by side, in one run.

    stratalog bench       the embedded log        stratalog.benchmark.report
    stratalog bench zk    the coordination server stratalog.benchmark.zookeeper_report

A door and nothing more: options become the ``Options`` of those modules. What is measured, against
whom, and how it is kept fair is written in ``stratalog/benchmark``.

Exit code 1 says that a subject failed or gave back other bytes than it was given, this engine
included; a slow one, or a line of the scorecard that is not met, is no failure.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from stratalog.cli import EXIT_FAILURE, Command, LazyGroup, complain

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    examples=(
        "stratalog bench --quick --peers none",
        "stratalog bench --dir /mnt/disk/bench --peers lmdb,rocksdb --rounds 7",
        "stratalog bench --json bench.json --chart bench.png",
        "stratalog bench zk --quick",
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
    """Measure this engine, its peers and the floors beneath; with zk, the coordination server.

    Floors come first: what memory and this disk allow. Then this engine and its peers take turns
    with the same bytes and the same durability. Then come figures that no peer is asked for, and a
    scorecard: what was asked of this engine, what this run saw, met or not. Tables go to standard
    output; a note for each measurement that begins goes to standard error.
    """
    if ctx.invoked_subcommand is not None:
        given = [
            name for name in ctx.params
            if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        ]  # fmt: skip
        if given:
            raise click.UsageError(
                f"Options of zk stand behind it: stratalog bench zk ... ({given[0]})."
            )
        return
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


@bench.command(
    cls=Command,
    examples=(
        "stratalog bench zk --quick",
        "stratalog bench zk --dir /mnt/disk/bench --rounds 3 --json zk.json",
        "stratalog bench zk --parts pipelined,synchronous --peers none",
    ),
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write: on the disk that is to be measured [a temporary directory here].",
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each measurement [5; quick: 2].")
@click.option("--quick", is_flag=True, help="Less of everything: a look, not a result.")
@click.option(
    "--peers",
    type=click.Choice(["all", "none"]),
    default="all",
    show_default=True,
    help="Whether Apache ZooKeeper runs beside ours.",
)
@click.option("--parts", default="all", show_default=True, help="all, or NAME,NAME,...")
@click.option("--json", "json_path", type=FILE, help="Write every figure to this file.")
@click.option("--seed", type=click.IntRange(1), default=1, show_default=True, help="Of the keys.")
@click.pass_context
def zk(
    ctx: click.Context,
    directory: Path | None,
    rounds: int | None,
    quick: bool,
    peers: str,
    parts: str,
    json_path: Path | None,
    seed: int,
) -> None:
    """Measure the coordination server beside Apache ZooKeeper, with the same native client.

    Parts: start; pipelined and synchronous loads; a tree of a million znodes, restarted and
    snapshotted; watches; sessions. Floors run in the same rounds. A full run takes about an hour.
    """
    from stratalog.benchmark import zookeeper_report  # noqa: PLC0415
    from stratalog.benchmark.programs import ProgramMissingError  # noqa: PLC0415
    from stratalog.cli import screen  # noqa: PLC0415

    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stratalog-bench-", dir=directory or ".") as scratch:
        options = zookeeper_report.Options(
            directory=Path(scratch),
            rounds=rounds,
            quick=quick,
            apache=peers == "all",
            json_path=json_path,
            seed=seed,
            progress=lambda line: click.echo(line, err=True),
            parts=parts.split(","),
        )
        try:
            outcome = zookeeper_report.run(options, screen.console())
        except ValueError as error:
            raise click.BadParameter(f"{error}.", param_hint="--parts") from None
        except ProgramMissingError as missing:
            complain(str(missing))
            ctx.exit(EXIT_FAILURE)
    if outcome.failures:
        ctx.exit(EXIT_FAILURE)
