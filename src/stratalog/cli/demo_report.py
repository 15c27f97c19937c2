"""How a demo says what it saw: one line a step, and an end at the first check that fails."""

from __future__ import annotations

from typing import IO

import click

from stratalog.cli import EXIT_FAILURE, complain, screen
from stratalog.cli.parameters import per_second


class CheckFailedError(click.ClickException):
    """The demo found that a promise does not hold."""

    exit_code = EXIT_FAILURE

    def show(self, file: IO[str] | None = None) -> None:  # noqa: ARG002  (click's signature)
        """Print the sentence as every other failure of ours is printed."""
        complain(self.message)


def require(holds: bool, sentence: str) -> None:
    """End the demo unless a check holds; unlike ``assert`` also under ``python -O``."""
    if not holds:
        raise CheckFailedError(f"check failed: {sentence}")


class Report:
    """The steps as they end, one line each, in columns that fit a hundred characters."""

    def __init__(self) -> None:
        self._console = screen.console()

    def say(self, sentence: str, style: str | None = None) -> None:
        """Print one line as it is."""
        self._console.print(sentence, style=style, soft_wrap=True)

    def step(
        self, name: str, what: str, *, seconds: float, records: int = 0, count_bytes: int = 0
    ) -> None:
        """Print a finished step: what was checked, how long it took and what that is a second."""
        rates = ""
        if records:
            rates = f"{per_second(records, seconds) / 1e6:6.2f} M records/s"
        if count_bytes:
            rates += f" {per_second(count_bytes, seconds) / 1e6:5.0f} MB/s"
        mark = "✓" if self._console.is_terminal else "ok"
        self._console.print(f"{mark:<2} ", style="green", end="")
        self._console.print(f"{name:<10}", style="bold", end="")
        took = f"{seconds * 1000:6.2f} ms" if seconds < 0.1 else f"{seconds:6.2f} s "
        self._console.print(f"{what:<46} {took} {rates}".rstrip(), soft_wrap=True)
