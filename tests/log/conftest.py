"""What the tests of the embedded log share: a log in a fresh directory, and a child process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import stratalog


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def log(log_path: Path):
    """A new log with small segments; closed at the end if the test did not."""
    opened = stratalog.Log(log_path, create=True, segment_bytes=1 << 20)
    yield opened
    opened.close()


@pytest.fixture
def run_child() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python process that runs ``code`` with ``arguments``; lines come over its stdout."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()
