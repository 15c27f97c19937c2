"""What people look at: tables and a progress bar.

On a terminal there are colours, rules and a bar that moves; into a file or a pipe goes plain text,
PLAIN_WIDTH columns wide, and no bar. Cells are shown as they are given: nothing in a record is
ever taken for markup.

This is the only module that imports rich, and the commands import it only when they have
something to show: rich takes longer to import than a small log takes to read.

Left to others: the bytes of records (``output``), what stands in the cells (each command).
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

from rich import box
from rich import progress as bars
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

PLAIN_WIDTH: Final = 100  # characters in a line, where there is no terminal to ask
CELL_WIDTH_MAX: Final = 32  # of every column but the one that stretches
GAP: Final = 2  # blanks between two columns


class PipedConsole(Console):
    """A console that leaves a closed pipe to its caller instead of ending the process with 1."""

    def on_broken_pipe(self) -> None:
        """Let the error go on to where all of them are handled."""
        raise BrokenPipeError


def console(*, stderr: bool = False, force_terminal: bool | None = None) -> Console:
    """A rich console: as wide as the terminal, or PLAIN_WIDTH columns of plain text elsewhere."""
    stream = sys.stderr if stderr else sys.stdout
    return PipedConsole(
        file=stream,
        width=None if stream.isatty() else PLAIN_WIDTH,
        force_terminal=force_terminal,
        highlight=False,
        emoji=False,
        markup=False,
    )


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    stretch: str,
    target: Console | None = None,
) -> None:
    """Print a table: ruled on a terminal, bare columns elsewhere, one line a row.

    Args:
        columns: their names.
        rows: as many cells each as there are columns.
        right: columns of numbers, set flush right.
        stretch: the column that is cut where the table would be too wide.
        target: where to; standard output unless given.
    """
    target = target or console()
    cells = [[Text(cell) for cell in row] for row in rows]
    widths = [
        min(max(cell_len(name), *(row[number].cell_len for row in cells), 0), CELL_WIDTH_MAX)
        for number, name in enumerate(columns)
    ]
    gives_way = columns.index(stretch)
    others = sum(widths) - widths[gives_way] + GAP * (len(columns) - 1)
    widths[gives_way] = max(target.width - others, cell_len(stretch))
    table = Table(
        header_style="bold",
        box=box.SIMPLE_HEAD if target.is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1 if target.is_terminal else GAP, 0, 0),  # the box draws a column too
    )
    for name, width in zip(columns, widths, strict=True):
        table.add_column(
            name,
            justify="right" if name in right else "left",
            max_width=width,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in cells:
        table.add_row(*row)
    if target.is_terminal:
        target.print(table)
        return
    with target.capture() as captured:
        target.print(table)
    for line in captured.get().splitlines():
        target.out(line.rstrip(), highlight=False)


class Bar:
    """A progress bar, told in steps as small as a record and redrawn a few times a second."""

    _STEP: Final = 1 << 16  # told to rich at once: its bookkeeping costs more than a record does

    def __init__(self, update: Callable[[int], None]) -> None:
        """``update`` is given the number of bytes that came since it was last called."""
        self._update = update
        self._untold = 0

    def advance(self, step: int) -> None:
        """Move the bar on by ``step`` bytes."""
        self._untold += step
        if self._untold >= self._STEP:
            self.tell()

    def tell(self) -> None:
        """Let the bar show all that it was told."""
        self._update(self._untold)
        self._untold = 0


@contextlib.contextmanager
def progress(what: str, total_bytes: int | None, *, when: str = "auto") -> Iterator[Bar]:
    """A progress bar on standard error: bytes, rate, time left; gone once the step is done.

    Args:
        what: the words before the bar.
        total_bytes: the end of the bar; ``None`` when nobody knows, then it only counts.
        when: ``auto`` draws it if standard error is a terminal; ``always``; ``never``.
    """
    if not progress_wanted(when):
        yield Bar(lambda _step: None)
        return
    columns: list[bars.ProgressColumn] = [
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=30),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
    ]
    if total_bytes:
        columns += [bars.TimeRemainingColumn(compact=True), bars.TextColumn("left")]
    shown = bars.Progress(
        *columns,
        console=console(stderr=True, force_terminal=True if when == "always" else None),
        transient=True,
    )
    with shown:
        task = shown.add_task(what, total=total_bytes)
        bar = Bar(lambda step: shown.advance(task, step))
        yield bar
        bar.tell()


def progress_wanted(when: str) -> bool:
    """Whether a bar would be seen."""
    return when == "always" or (when == "auto" and sys.stderr.isatty())
