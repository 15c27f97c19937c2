"""The command line: ``stratalog``, one group of commands over the Python API.

    stratalog log append|cat|tail|stat|verify|find|truncate DIR     (log_commands)
    stratalog demo                                                  (demo)
    stratalog serve                                                 (serve_command)
    stratalog zk [ls|get|set|create|delete|watch|...]               (zk_commands)
    stratalog bench                                                 (bench_command)

A command's module is imported when the command is named and not before: a shell script that
appends a line at a time does not pay for what the demo and the benchmarks need.

How every command ends, in one place (``_Root.invoke``):

    0     it did what it was asked; also when the reader of our output went away, as ``| head`` does
    1     it failed; one line on standard error, ``stratalog: what happened; what you can do``
          (``verify``: damage was found)
    2     the command line makes no sense; click explains
    130   Ctrl-C

A Python traceback is a bug of ours, never an answer to a user, and so none is printed for a
missing directory, a full disk or a closed pipe.

Left to others: what the commands do. This package is the top floor: nothing imports it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130

# What somebody at a shell can do, where the engine's own advice is for somebody who writes Python.
_REMEDIES: Final = {
    "LogNotFoundError": "check the path; `stratalog log append` makes a log that is not there",
    "OffsetOutOfRangeError": "`stratalog log stat` shows which offsets there are",
    "CorruptLogError": (
        "`stratalog log verify` lists all damage, `stratalog log cat --skip-corrupt` reads what is "
        "sound; restore the file from a replica or a backup"
    ),
    "LogLockedError": "wait until the other writer has closed it; reading works meanwhile",
    "TooLargeError": "use smaller records, or a larger --segment-bytes",
}


class Command(click.Command):
    """A command whose help ends with examples, shown as they are written.

    Args:
        examples: Command lines; a line that is empty or begins with spaces stays so.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, below the options."""
        super().format_epilog(ctx, formatter)
        write_examples(formatter, self._examples)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Write command lines below a heading, none of them rewrapped."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class LazyGroup(click.Group):
    """A group whose commands are named by ``module:attribute`` and imported on first use.

    Args:
        lazy: Command names and where the commands are.
        examples: As for ``Command``.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, str] | None = None,
        examples: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})
        self._examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, below the commands."""
        super().format_epilog(ctx, formatter)
        write_examples(formatter, self._examples)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, imported or not."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now if it was not before."""
        target = self._lazy.get(cmd_name)
        if target is None:
            return super().get_command(ctx, cmd_name)
        module_name, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is no click command")
        return command


class _Root(LazyGroup):
    """The outermost group: turns every way a command can end into an exit code and a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the table above for how it may end."""
        try:
            outcome = super().invoke(ctx)
            sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt):
            _hush_standard_output()
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _hush_standard_output()
            ctx.exit(0)
        except Exception as error:
            sentence = _explain(error)
            if sentence is None:
                raise
            complain(sentence)
            ctx.exit(EXIT_FAILURE)
        return outcome


def _explain(error: Exception) -> str | None:
    """The sentence for a failure that is news for the user; ``None`` for a bug of ours."""
    if isinstance(error, click.ClickException | click.exceptions.Exit):
        return None  # click's own ways to end: it knows what to do with them
    # Not at the top: a command that never met the engine cannot have met its errors.
    from stratalog.errors import StratalogError  # noqa: PLC0415

    if isinstance(error, StratalogError):
        remedy = _REMEDIES.get(type(error).__name__)
        if remedy is None:
            return str(error)
        return f"{str(error).removesuffix(f'; {error.remedy}')}; {remedy}"
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{place}"
    return None


def complain(sentence: str) -> None:
    """Print one line to standard error, after whatever standard output still holds."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hush_standard_output()
    click.echo(f"stratalog: {' '.join(sentence.split())}", err=True)


def _hush_standard_output() -> None:
    """Point standard output at nothing, so that the interpreter's own flush cannot fail again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  (slow to load)

    try:
        number = version("stratalog")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"stratalog {number}")
    ctx.exit()


@click.group(
    cls=_Root,
    lazy={
        "bench": "stratalog.cli.bench_command:bench",
        "demo": "stratalog.cli.demo:demo",
        "log": "stratalog.cli.log_commands:log",
        "serve": "stratalog.cli.serve_command:serve",
        "zk": "stratalog.cli.zk_commands:zk",
    },
    examples=(
        "stratalog demo                             see it work on a million real records",
        "seq 1000 | stratalog log append numbers    append lines, durably",
        "stratalog log cat numbers | head           read them back",
        "stratalog log verify numbers               check every byte",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and end.",
)
def main() -> None:
    """An embedded durable log whose files are Apache Kafka's."""
