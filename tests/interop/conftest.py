"""What the interop tests stand on: Apache's programs where they can be had, else a sentence.

The fixtures promise that a missing JDK, Maven or network skips a test with its reason and never
lets it pass, and that every directory they hand out is removed again.  Running Apache's programs is
for tools/peers; what must hold between Apache's files and ours is in the tests.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# So that `from tools.peers import kafka` finds the module, which is not installed.
sys.path.insert(0, str(ROOT))

from tools.peers import kafka  # noqa: E402  (the path above must come first)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def need_kafka() -> Callable[[str], str]:
    """Return a function that skips unless Apache Kafka of a version can run, and returns it."""

    def need(version: str) -> str:
        try:
            kafka.jars(version)
        except kafka.PeerUnavailable as reason:
            pytest.skip(f"Apache Kafka {version} is not to be had: {reason}")
        return version

    return need


@pytest.fixture(scope="session")
def stratalog() -> Any:
    """Return our package.

    Only its absence skips; a package that is there and fails to import is a failure.
    """
    try:
        return importlib.import_module("stratalog")
    except ModuleNotFoundError as missing:
        if missing.name != "stratalog":
            raise
        pytest.skip("stratalog is not installed in this environment")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory of the test's own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stratalog-interop-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def module_scratch() -> Iterator[Path]:
    """A directory that the tests of one module share, gone after the last of them."""
    with tempfile.TemporaryDirectory(prefix="stratalog-interop-") as name:
        yield Path(name)
