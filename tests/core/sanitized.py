"""The C of the coordination service under sanitizers, and with bugs planted in it.

    sanitized.py test       the tests that hold C against Python, and the simulation, under the
                            sanitizers for addresses and undefined behaviour
    sanitized.py fuzz       zookeeper_fuzz.py under the same, for --seconds
    sanitized.py mutants    each planted bug is caught: by the comparison with Python, by the count
                            of references, or by the sanitizers
    sanitized.py all        one after the other

    sources --cc--> a temporary directory --> a process of its own, in which these modules stand
                                              for those of the installed package

It compiles what CMakeLists.txt does, with its warnings as errors.  A run fails when it did not use
the modules that it made, or when those are not sanitized.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "stratalog"
FAST = PACKAGE / "core" / "zookeeper" / "fast"
MODULES: dict[str, list[Path]] = {
    "stratalog.core.zookeeper._fast": sorted(FAST.glob("*.c")),
    "stratalog.wire.zookeeper._records": [PACKAGE / "wire" / "zookeeper" / "_records.c"],
    "stratalog.server.zookeeper._line": [PACKAGE / "server" / "zookeeper" / "line.c"],
}
OTHERS = {"_native"}  # cffi's; the engine below it has its own sanitized tests

TESTS = (
    "tests/core/test_zookeeper_fast.py",
    "tests/core/test_zookeeper_fast_files.py",
    "tests/core/test_zookeeper_fast_replay.py",
    "tests/server/test_zookeeper_watched.py",
    *(
        f"tests/core/test_zookeeper_simulation.py::test_everything_holds[{n}-True]"
        for n in range(5)
    ),
    "tests/core/test_zookeeper_simulation.py::test_the_same_seed_is_the_same_run",
)
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
MUTANT_SECONDS_MAX = 60
USED = "the modules made here were used"


# ---- making them ----


def warnings() -> list[str]:
    """The warnings of native/CMakeLists.txt, -Werror among them."""
    text = (ROOT / "native" / "CMakeLists.txt").read_text()
    found = re.search(r"stratalog_add_flags\(stratalog_warnings\s([^)]*)\)", text)
    flags = found[1].split() if found else []
    if "-Werror" not in flags:
        raise SystemExit("native/CMakeLists.txt: where are the warnings of stratalog_warnings?")
    return flags


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


def is_clang() -> bool:
    answer = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True)
    return "clang" in answer.stdout


def runtime() -> str:
    """The sanitizer's library, which must be there before Python is."""
    names = ["libasan.so"]
    if is_clang():
        machine = os.uname().machine
        names = ["libclang_rt.asan.so", f"libclang_rt.asan-{machine}.so"]
    for name in names:
        answer = subprocess.run(
            [*compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True
        )
        if Path(answer.stdout.strip()).is_absolute():
            return answer.stdout.strip()
    raise SystemExit(f"{shlex.join(compiler())} has no {names[0]} (Debian: apt install libasan8)")


@dataclass(frozen=True)
class Change:
    """A bug to plant: in a source, some text becomes another."""

    source: str
    before: str
    after: str

    def apply(self, text: str) -> str:
        if text.count(self.before) != 1:
            raise SystemExit(
                f"{self.source}: {text.count(self.before)} times instead of once: {self.before}"
            )
        return text.replace(self.before, self.after)


def copied(into: Path) -> Path:
    """Copy the sources side by side, so that who changes them meanwhile does no harm."""
    into.mkdir()
    for source in (*FAST.glob("*.h"), *(one for parts in MODULES.values() for one in parts)):
        (into / source.name).write_text(source.read_text())
    return into


class Build:
    """Modules made into a directory; a second one with a bug compiles only what the bug changes.

    Args:
        directory: Where what several have in common is kept.
        sources: Where the sources are: see ``copied``.
        sanitize: Whether the sanitizers are in it.
    """

    def __init__(self, directory: Path, sources: Path, *, sanitize: bool) -> None:
        self.directory, self.sources, self.sanitize = directory, sources, sanitize
        directory.mkdir()
        cmake = (ROOT / "CMakeLists.txt").read_text()
        built = set(re.findall(r"^add_library\((\w+) MODULE", cmake, re.MULTILINE))
        if built != OTHERS | {name.rpartition(".")[2] for name in MODULES}:
            raise SystemExit(f"CMakeLists.txt makes {sorted(built)}: say here which have sources")
        include = sysconfig.get_paths()["include"]
        if not (Path(include) / "Python.h").exists():
            raise SystemExit(f"{include} has no Python.h (Debian: apt install python3-dev)")
        self._flags = [
            "-std=c11", "-g", "-fPIC", "-fvisibility=hidden", "-DPy_LIMITED_API=0x030B0000",
            "-isystem", include, f"-I{sources}", *warnings(),
            *((*SANITIZE, "-O1") if sanitize else ("-O0",)),
        ]  # fmt: skip

    def make(self, into: Path, changes: Sequence[Change] = ()) -> Path:
        """Make the modules; with changes, those that they touch."""
        into.mkdir()
        sources = {source.name for parts in MODULES.values() for source in parts}
        if unknown := {change.source for change in changes} - sources:
            raise SystemExit(f"no module is made of {sorted(unknown)}")
        jobs: list[tuple[Path, Path]] = []
        objects: dict[str, list[Path]] = {}
        for module, sources in MODULES.items():
            objects[module] = []
            for source in [self.sources / source.name for source in sources]:
                mine = [change for change in changes if change.source == source.name]
                target = (into if mine else self.directory) / f"{source.stem}.o"
                objects[module].append(target)
                if mine:
                    text = source.read_text()
                    for change in mine:
                        text = change.apply(text)
                    changed = into / source.name
                    changed.write_text(text)
                    jobs.append((changed, target))
                elif not target.exists():
                    jobs.append((source, target))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._compile, *zip(*jobs, strict=True)) if jobs else ())
        for module, parts in objects.items():
            shared = ["-shared-libasan"] if self.sanitize and is_clang() else []
            links = [*(SANITIZE if self.sanitize else ()), *shared, "-shared"]
            target = into / (module.rpartition(".")[2] + ".so")
            subprocess.run(
                [*compiler(), *links, *map(str, parts), "-o", str(target)], check=True
            )  # fmt: skip
        return into

    def _compile(self, source: Path, target: Path) -> None:
        command = [*compiler(), *self._flags, "-c", str(source), "-o", str(target)]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"{source.name} does not compile")


# ---- using them ----


class Finder:
    """Finds our modules in a directory, before anybody finds the installed ones."""

    def __init__(self, directory: Path) -> None:
        self._files = {name: str(directory / (name.rpartition(".")[2] + ".so")) for name in MODULES}

    def find_spec(self, name: str, _path: Any, _target: Any = None) -> Any:
        """Find one of them."""
        file = self._files.get(name)
        if file is None:
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, file)
        return importlib.util.spec_from_file_location(name, file, loader=loader)

    def check(self, *, sanitized: bool) -> None:
        """See that they are the ones in use."""
        for name, file in self._files.items():
            used = sys.modules[name].__file__
            if used != file:
                raise SystemExit(f"{name} is {used}, not the one made here")
            if sanitized and b"__asan_report_load" not in Path(file).read_bytes():
                raise SystemExit(f"{file} is not sanitized")


def enter(directory: Path, *, sanitized: bool) -> Finder:
    """From here on, this process uses the modules of a directory."""
    if any(name in sys.modules for name in MODULES):
        raise SystemExit("too late: a module of C is there already")
    finder = Finder(directory)
    sys.meta_path.insert(0, finder)
    for path in (str(ROOT), str(PACKAGE.parent)):
        sys.path.insert(0, path)
    for name in MODULES:
        importlib.import_module(name)
    finder.check(sanitized=sanitized)
    return finder


def inside(directory: Path, what: str, rest: list[str]) -> int:
    """In a process of its own, under the sanitizers."""
    finder = enter(directory, sanitized=True)
    if what == "test":
        import pytest

        result = int(pytest.main(["-q", "-p", "no:cacheprovider", *rest]))
    elif what == "fuzz":
        from tests.core.zookeeper_fuzz import main as fuzz

        result = fuzz(rest)
    else:
        look_for_differences()
        result = 0
    finder.check(sanitized=True)
    print(f"{directory}: {USED}", flush=True)
    return result


def outside(
    directory: Path, what: str, rest: Sequence[str], *, quiet: bool = False
) -> tuple[int, str]:
    """Start that process; return how it ended, and what it said on its standard error."""
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime(),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONMALLOC": "malloc",
        "STRATALOG_FAST_RUNS": "12",
    }
    command = [sys.executable, str(Path(__file__)), "--inside", str(directory), what, *rest]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, check=False, capture_output=True
    )  # fmt: skip
    if not quiet:
        print(done.stdout, end="", flush=True)
        print(done.stderr, end="", file=sys.stderr, flush=True)
    used = f"{directory}: {USED}" in done.stdout
    return done.returncode or int(not used), done.stderr


# ---- planted bugs ----

VERSION = """    if (what->version != -1 && what->version != known.node->version) return SLOW;
"""
MUTANTS: dict[str, tuple[Change, ...]] = {
    "setData does not look at the version": (
        Change("write.c", VERSION + "\n    prepared *made = begin(in);\n    if (made == NULL) "
               "return FAULT;\n    unsigned before", "    prepared *made = begin(in);\n    if (made"
               " == NULL) return FAULT;\n    unsigned before"),
    ),
    "a create leaves the parent's pzxid": (
        Change("apply.c", "    parent->is.cversion = txn->version;\n    parent->is.pzxid = "
               "txn->zxid;\n", "    parent->is.cversion = txn->version;\n"),
    ),
    "reads overtake writes": (
        Change("module.c", "((queue *)client->pending)->count > 0 || (!is_read(kind)",
               "(!is_read(kind)"),
    ),
    "a closing session may write": (
        Change("module.c", "    if (who->closing) return SLOW;\n", ""),
    ),
    "a request behind a farewell is decided": (
        Change("module.c", "        if (!is_none(client->farewell)) continue;\n", ""),
    ),
    "feed looks past its bound": (
        Change("module.c", "waiting_of(client) > within->pending_max",
               "waiting_of(client) > within->pending_max + 1"),
    ),
    "nobody hears of a new child": (
        Change("apply.c", "    if (PyDict_Size(tree->child_watchers) > 0 && fire_parent(in, "
               "txn->parent, txn->zxid) < 0)\n        goto fault;\n    *made",
               "    *made"),
    ),
    "a delete leaves its ACL's use": (
        Change("apply.c", "    in->acls->open_uses--;\n", ""),
    ),
    "a control character may stand in a path": (
        Change("write.c", "path[n] < 0x20 || path[n] == 0x7f", "path[n] < 0x20"),
    ),
    "an ACL that is not open does not guard": (
        Change("read.c", "    if (!acl_is_open(in, node)) goto done;\n", ""),
    ),
    "a znode of another has children": (
        Change("write.c", "    if (parent.node->owner != 0 || ", "    if ("),
    ),
    "a walk loses what is null": (
        Change("snapshot.c", "is_none(node->is.data) ? UINT32_MAX : (uint32_t)data_bytes",
               "(uint32_t)data_bytes"),
    ),
    "a load takes znodes of any ACL": (
        Change("snapshot.c", "    if (acl != -1 && (acl != on->acls->open || on->acls->open == 0)) "
               "return SLOW;\n", ""),
    ),
    "a walk writes what comes behind it": (
        Change("apply.c", "    node->walked = parent->walked | CAME_LATER;\n", ""),
    ),
    "a walk believes a name": (
        Change("snapshot.c", " ||\n        Py_TYPE(node) != znode_type || "
               "((znode *)node)->walked != self->id)", ")"),
    ),
    "Adler-32 overflows": (
        Change("_records.c", "STRIDE = 5552", "STRIDE = 8 * 5552"),
    ),
    "a path is never let go": (
        Change("read.c", "done:\n    Py_DECREF(path);\n", "done:\n"),
    ),
    "a transaction is never let go": (
        Change("write.c", "done:\n    drop(write);\n", "done:\n"),
    ),
}  # fmt: skip
OVERRUNS: dict[str, tuple[Change, ...]] = {
    "a string's length is believed": (
        Change("shared.c", " || bytes < 0 || from->end - from->at < bytes) return false;",
               " || bytes < 0) return false;"),
    ),
    "a snapshot's end is not looked for": (
        Change("snapshot.c", "    if (at.end - at.at < (data_bytes < 0 ? 0 : data_bytes) + "
               "(Py_ssize_t)NODE_TAIL_BYTES)\n        return SLOW;\n", ""),
    ),
    "a queue is used after it was freed": (
        Change("types.c", "        PyMem_Free(self->at);\n        self->at = at;\n",
               "        PyMem_Free(self->at);\n        if (room == 4) self->at = at;\n"),
    ),
}  # fmt: skip


def look_for_differences() -> None:
    """Those of the tests that should find any bug; the first that does raises."""
    from tests.core import test_zookeeper_fast as requests
    from tests.core import test_zookeeper_fast_files as files
    from tests.core.zookeeper_pair import OPEN_ACL, Pair

    for seed in range(8):
        Pair(seed).run(200)
    checks: list[Callable[[], Any]] = [
        requests.test_versions_flags_data_and_acls,
        lambda: requests.test_odd_paths(extended=True),
        lambda: requests.test_feed_stops_where_it_says(1),
        lambda: requests.test_feed_stops_where_it_says(2),
        requests.test_hostile_lengths,
        lambda: files.test_a_walk_writes_what_python_writes(1),
        lambda: files.test_a_load_builds_the_tree_that_python_builds(1, sound=True),
        files.test_a_znode_that_goes_and_comes_back_is_written_once,
        files.test_a_table_laid_out_anew_hides_nobody,
        files.test_a_snapshot_cut_at_every_position_is_the_same_to_both,
        lambda: files.test_odd_snapshots([b"/a", b"/a/b", b"/a", b"/a/c"], {1: OPEN_ACL}),
        files.test_records_of_every_size,
        requests.test_work_leaves_nothing_behind,
    ]
    for check in checks:
        check()


def differs(directory: Path) -> str:
    """What the comparison with Python finds in a module, in a process of its own; "": nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(MUTANT_SECONDS_MAX)
        try:
            enter(directory, sanitized=False)
            try:
                look_for_differences()
            except Exception as error:  # noqa: BLE001  (whatever it is: it was found)
                where = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{where.name}: {type(error).__name__}: {error}"
                os.write(writing, " ".join(said.split())[:200].encode(errors="replace"))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        found = told.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"it ended by signal {os.WTERMSIG(status)}"
    if status:
        raise SystemExit(f"{directory}: it could not be looked at")
    return found


def mutants(directory: Path, strict: Build) -> int:
    """Plant each bug, one after the other, and see that it is caught."""
    import hypothesis  # noqa: F401  (before the processes part, so that each need not)
    import pytest  # noqa: F401

    plain = Build(directory / "plain", strict.sources, sanitize=False)
    if found := differs(plain.make(directory / "sound")):
        print(f"nothing is planted, and yet: {found}")
        return 1
    missed = 0
    for number, (name, changes) in enumerate(MUTANTS.items()):
        found = differs(plain.make(directory / f"mutant{number}", changes))
        print(f"{'caught' if found else 'MISSED'}: {name}: {found[:90]!r}", flush=True)
        missed += not found
    for number, (name, changes) in enumerate(OVERRUNS.items()):
        made = strict.make(directory / f"overrun{number}", changes)
        _, said = outside(made, "look", (), quiet=True)
        found = next((line for line in said.splitlines() if "Sanitizer: " in line), "")
        print(f"{'caught' if found else 'MISSED'}: {name}: {found[:90]!r}", flush=True)
        missed += not found
    return missed


def main() -> int:
    """Do what the command line says."""
    if sys.argv[1:2] == ["--inside"]:
        return inside(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("all", "test", "fuzz", "mutants"))
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to fuzz")
    parser.add_argument("--seed", help="of the fuzzer; else a new one")
    asked, rest = parser.parse_known_args()
    fuzzing = ["--seconds", str(asked.seconds), *(("--seed", asked.seed) if asked.seed else ())]
    with tempfile.TemporaryDirectory(prefix="stratalog-sanitized-") as name:
        build = Build(Path(name) / "strict", copied(Path(name) / "sources"), sanitize=True)
        made = build.make(Path(name) / "made")
        result = 0
        if asked.what in {"all", "test"}:
            result = outside(made, "test", [*rest, *TESTS])[0]
        if not result and asked.what in {"all", "fuzz"}:
            result = outside(made, "fuzz", [*fuzzing, *rest])[0]
        if not result and asked.what in {"all", "mutants"}:
            result = mutants(Path(name), build)
        return result


if __name__ == "__main__":
    sys.exit(main())
