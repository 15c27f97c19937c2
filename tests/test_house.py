"""The house stands as DESIGN drew it: floors, names of files, essays, lengths.

    F5  cli  console  benchmark  testing
    F4  server  inspect
    F3  net
    F2  storage  core
    F1  log  wire
    F0  errors  config  ids  (and the extension, through log/_binding alone)

Arrows only go down.  Each rule is a sentence, and each is shown to catch a planted violation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "stratalog"

LINES_MAX = 800

SEEN_BY_ALL = {"errors", "config", "ids"}

# Which parts a part may import, itself and those seen by all excluded.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "ids": set(),
    "log": set(),
    "wire": set(),
    "core": {"wire"},
    "storage": {"log", "wire"},
    "net": set(),
    "server": {"net", "storage", "core", "wire", "log"},
    "inspect": {"storage", "log", "wire"},
    "benchmark": {"log", "wire", "core", "storage", "net", "server", "inspect", "testing"},
    "console": {"log", "wire", "core", "storage", "net", "server", "inspect"},
    "cli": {
        "log",
        "wire",
        "core",
        "storage",
        "net",
        "server",
        "inspect",
        "console",
        "benchmark",
        "testing",
    },
    "testing": set(),
    "__init__": {"log"},
    "__main__": {"cli"},
    "_ffi_build": set(),
}

# People's floor uses the public face `import stratalog`; below it that would be an arrow upwards.
MAY_IMPORT_PACKAGE = {"cli", "console", "benchmark", "inspect", "server", "storage"}

# A machine that could look at the clock or the world could not be simulated.
IMPURE = {"asyncio", "datetime", "os", "pathlib", "random", "secrets", "select", "selectors",
          "shutil", "socket", "ssl", "subprocess", "tempfile", "threading", "time",
          "uuid"}  # fmt: skip


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of all modules that ``tree``, a module of ``package``, imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            if base == "stratalog":  # "from stratalog import errors" names parts
                yield from (f"stratalog.{alias.name}" for alias in node.names)
            else:
                yield base


def floor_faults(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one file, given by its path below ``src/stratalog``."""
    parts = path.removesuffix(".py").split("/")
    part = parts[0]
    package = ".".join(["stratalog", *parts[:-1]])
    if part not in MAY_IMPORT:
        return [f"{path}: the house has no part {part!r}; draw it in DESIGN first"]
    faults = []
    for name in imports(ast.parse(source), package):
        top, _, below = name.partition(".")
        target = below.partition(".")[0]
        if name == "stratalog._native":
            # Only log/_binding.py knows that there is C, so that lifetimes have one home.
            if path != "log/_binding.py":
                faults.append(f"{path}: imports the extension past log/_binding.py")
        elif top == "stratalog":
            # Arrows only go down: a part imports itself, what all see, and lower floors.
            public = target == "" or target not in MAY_IMPORT
            if public:
                allowed = part in MAY_IMPORT_PACKAGE
            else:
                allowed = target in {part, *SEEN_BY_ALL, *MAY_IMPORT[part]}
            if not allowed:
                faults.append(f"{path}: {part} must not import {name}")
        elif part == "core" and top in IMPURE:
            # Time, randomness, network and disk are passed in.
            faults.append(f"{path}: a pure machine must not import {top}")
    return faults


def essay_faults(path: str, source: str) -> list[str]:
    """Every file opens with its essay, and none is longer than a reader's patience."""
    faults = []
    if source.count("\n") > LINES_MAX:
        faults.append(f"{path}: {source.count(chr(10))} lines, {LINES_MAX} at most; split by noun")
    if path.endswith(".py"):
        if source.strip() and not ast.get_docstring(ast.parse(source)):
            faults.append(f"{path}: no module docstring")
    elif not source.lstrip().startswith("/*"):
        faults.append(f"{path}: does not open with a comment that says what it is")
    return faults


PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
C_FILES = sorted(
    [
        *ROOT.glob("native/**/*.[ch]"),
        *ROOT.glob("tests/native/*.[ch]"),
        *PACKAGE.rglob("*.[ch]"),
    ]
)
ALL_FILES = [*PYTHON_FILES, *C_FILES, *sorted(ROOT.glob("tests/**/*.py"))]


@pytest.mark.parametrize("file", PYTHON_FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrows_only_go_down(file):
    assert floor_faults(str(file.relative_to(PACKAGE)), file.read_text()) == []


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_opens_with_its_essay_and_ends_in_time(file):
    assert essay_faults(str(file.relative_to(ROOT)), file.read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("log/log.py", "from stratalog.wire import jute"),
        ("log/log.py", "import stratalog.storage.layout"),
        ("log/log.py", "import stratalog"),
        ("log/log.py", "from stratalog import Log"),
        ("log/log.py", "from stratalog import cli"),
        ("log/log.py", "from .. import wire"),
        ("log/log.py", "from ..wire import jute"),
        ("log/deep/log.py", "from ...wire.jute import Reader"),
        ("log/cursor.py", "from stratalog._native import ffi"),
        ("log/cursor.py", "from stratalog import _native"),
        ("core/zab.py", "def tick():\n    import time"),
        ("core/zab.py", "from asyncio import sleep"),
        ("core/zab.py", "from stratalog.storage import layout"),
        ("storage/layout.py", "from stratalog.core import zab"),
        ("net/frames.py", "from stratalog.wire import jute"),
        ("inspect/dump.py", "from stratalog.net import frames"),
        ("errors.py", "from stratalog.log import Log"),
        ("utils/misc.py", ""),
    ],
)
def test_a_planted_arrow_is_caught(path, source):
    assert floor_faults(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("log/_binding.py", "from stratalog._native import ffi, lib"),
        ("log/log.py", "from stratalog import config, errors\nfrom stratalog.log import cursor"),
        ("log/log.py", "from . import cursor\nfrom .cursor import Cursor\nimport time"),
        ("core/zab.py", "from stratalog.wire import jute\nimport enum"),
        ("storage/layout.py", "from stratalog import Log\nfrom stratalog.log import Log as L"),
        ("cli/main.py", "import stratalog\nfrom stratalog import Log, errors"),
        ("server/broker.py", "import time\nfrom stratalog.net import frames"),
    ],
)
def test_a_proper_arrow_is_not_caught(path, source):
    assert floor_faults(path, source) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.py", "x = 1\n"),
        ("a.py", '"""Essay."""\n' + "x = 1\n" * LINES_MAX),
        ("a.c", "#include <stdio.h>\n"),
        ("a.c", "/* essay */\n" + "\n" * LINES_MAX),
    ],
)
def test_a_planted_fault_of_style_is_caught(path, source):
    assert essay_faults(path, source)


def test_floors_have_no_cycle():
    done: set[str] = set()
    while open_parts := [part for part in MAY_IMPORT if part not in done]:
        free = [part for part in open_parts if MAY_IMPORT[part] <= done | SEEN_BY_ALL]
        assert free, f"a cycle among {open_parts}"
        done.update(free)
