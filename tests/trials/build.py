"""Compiles the engine and the trial programs, as they are and with a bug planted.

A planted bug is a piece of engine source and what replaces it.  The piece must stand exactly once
in its file: when the engine changes under a bug, the trial stops loudly instead of running without
it. Objects are kept per content, so a variant costs one file and a link.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENGINE = ROOT / "native" / "src"
INCLUDE = ROOT / "native" / "include"
NATIVE_TESTS = ROOT / "tests" / "native"
FLAGS = ["-std=c11", "-O2", "-g", "-DSL_API=", f"-I{INCLUDE}", f"-I{ENGINE}", f"-I{HERE}"]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wformat=2", "-Werror"]
PROGRAMS = ("victim", "check", "torn", "flips")


class PatchError(Exception):
    """A planted bug no longer fits the engine's source."""


@dataclass(frozen=True)
class Bug:
    """A mistake that somebody could have made, as a replacement in one file of the engine."""

    sentence: str
    file: str
    old: str
    new: str


def planted_source(bug: Bug) -> str:
    """The engine's file with the bug in it."""
    source = (ENGINE / bug.file).read_text()
    count = source.count(bug.old)
    if count != 1:
        message = f"planted bug {bug.sentence!r}: {bug.old!r} stands {count} times in {bug.file}"
        raise PatchError(message)
    return source.replace(bug.old, bug.new)


class Builder:
    """Compiles into a directory of its own; ``programs(bug)`` is where the results are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.compiler = os.environ.get("CC", "cc")
        headers = [*ENGINE.glob("*.h"), *INCLUDE.glob("*.h"), *HERE.glob("*.h")]
        self.headers = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(headers)))
        # One reading for all variants: others may be editing the engine meanwhile.
        self.engine = {p.name: p.read_text() for p in sorted(ENGINE.glob("*.c"))}

    def _object(self, name: str, source: str, extra: list[str]) -> Path:
        key = self.headers.copy()
        key.update(source.encode())
        target = self.directory / f"{name}-{key.hexdigest()[:16]}.o"
        if not target.exists():
            path = target.with_suffix(".c")
            path.write_text(source)
            command = [self.compiler, *FLAGS, *extra, "-c", str(path), "-o", str(target)]
            subprocess.run(command, check=True)
        return target

    def _engine(self, bug: Bug | None, extra: list[str]) -> list[Path]:
        """Objects of the engine, sound or with ``bug`` in it."""
        sources = dict(self.engine)
        if bug is not None:
            sources[bug.file] = planted_source(bug)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda item: self._object(*item, extra), sources.items()))

    def programs(self, bug: Bug | None = None) -> Path:
        """Directory with the programs, linked with the engine, sound or with ``bug`` in it."""
        objects = self._engine(bug, [])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            mains = [(f"{name}.c", (HERE / f"{name}.c").read_text()) for name in PROGRAMS]
            strict = list(pool.map(lambda item: self._object(*item, STRICT), mains))
        key = hashlib.sha256("".join(str(o) for o in [*objects, *strict]).encode()).hexdigest()[:16]
        target = self.directory / f"programs-{key}"
        if not target.exists():
            target.mkdir()
            for name, main in zip(PROGRAMS, strict, strict=True):
                # Static: a process starts in half the time, and strace sees no loader.
                command = [self.compiler, "-static", str(main), *map(str, objects), "-pthread"]
                subprocess.run([*command, "-o", str(target / name)], check=True)
        return target

    def native_test(self, name: str, sanitizer: str, bug: Bug | None = None) -> Path:
        """Directory with one program of tests/native, built under a sanitizer."""
        flags = [f"-fsanitize={sanitizer}", "-O1", f"-I{NATIVE_TESTS}"]
        names = [f"{name}.c", "check.c", "logkit.c"]
        sources = [(one, (NATIVE_TESTS / one).read_text()) for one in names]
        kept = self.directory
        try:
            # Objects are kept by name and content, not by flags: these have a place of their own.
            self.directory = kept / sanitizer
            self.directory.mkdir(exist_ok=True)
            objects = self._engine(bug, flags) + [self._object(*one, flags) for one in sources]
        finally:
            self.directory = kept
        key = hashlib.sha256("".join(map(str, objects)).encode()).hexdigest()[:16]
        target = kept / f"{name}-{key}"
        if not target.exists():
            target.mkdir()
            command = [self.compiler, f"-fsanitize={sanitizer}", *map(str, objects), "-pthread"]
            subprocess.run([*command, "-lm", "-o", str(target / name)], check=True)
        return target
