"""The command line as a black box: bytes in, bytes out, an exit code.

``stratalog`` runs it as a user does, in a process of its own, and fails the test if a Python
traceback ever shows. ``invoke`` runs it within this process where a test needs hundreds of calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stratalog.cli import main

SECONDS_MAX = 60


@dataclass(frozen=True)
class Ended:
    """A process that came to its end."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Stratalog = Callable[..., Ended]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "stratalog", *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    """A terminal of no particular size and no colours that the caller's shell might force."""
    kept = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    return {**kept, "COLUMNS": "100", "PYTHONUTF8": "1"}


@pytest.fixture
def stratalog() -> Stratalog:
    def run(*arguments: object, input: bytes = b"", code: int = 0) -> Ended:  # noqa: A002
        ended = subprocess.run(
            command(*arguments),
            input=input,
            capture_output=True,
            env=environment(),
            timeout=SECONDS_MAX,
            check=False,
        )
        result = Ended(ended.returncode, ended.stdout, ended.stderr.decode())
        assert "Traceback" not in result.err, result.err
        assert result.code == code, f"exit {result.code}, not {code}: {result.err}"
        return result

    return run


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command line and leave it running; what still runs after the test is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def invoke() -> Callable[..., Result]:
    def run(*arguments: object, input: bytes = b"", code: int = 0) -> Result:  # noqa: A002
        result = CliRunner().invoke(main, [str(each) for each in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def numbers(tmp_path: Path, stratalog: Stratalog) -> Path:
    """A log of the lines 0 to 999 in segments so small that there are several."""
    directory = tmp_path / "numbers"
    lines = b"".join(b"%d\n" % number for number in range(1000))
    stratalog(
        *("log", "append", directory, "--segment-bytes", "4KiB", "--batch-records", 50),
        input=lines,
    )
    return directory
