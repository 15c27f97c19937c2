"""Where the native programs are: in the wheel, on PATH, or compiled from the source checkout.

    stratalog-floors    native/bench/floors.c    what the machine allows            (floors.py)
    stratalog-load      native/bench/load.c      this engine under load, in C       (ours.py)
    stratalog-zkload    native/bench/zkload*.c   ZooKeeper servers under load       (zookeeper.py)

A wheel carries them in ``stratalog/_bin``. So does an editable installation, but beside the
compiled extension and not beside these files; the package's own ``__path__`` names both places.
In a bare checkout on ``PYTHONPATH`` a program is compiled once, with ``cc``, into the same cache
as the foreign peers' drivers, under a name that changes with its sources.

What it leaves to others: running them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import stratalog
from stratalog.benchmark.child import run_bounded
from stratalog.benchmark.model import SubjectFailedError
from stratalog.benchmark.peers_foreign import cache_directory

__all__ = ["ProgramMissingError", "locate"]


class ProgramMissingError(Exception):
    """A native program cannot be had here; the message is the reason that the report prints."""


def locate(program: str) -> Path:
    """Return the native program of that name, compiling it in a source checkout if need be.

    Raises:
        ProgramMissingError: it is not installed and cannot be compiled here.
    """
    for place in stratalog.__path__:
        shipped = Path(place) / "_bin" / program
        if os.access(shipped, os.X_OK):
            return shipped
    found = shutil.which(program)
    return Path(found) if found is not None else _compiled(program)


def _compiled(program: str) -> Path:
    native = Path(__file__).resolve().parents[3] / "native"
    main = native / "bench" / f"{program.removeprefix('stratalog-')}.c"
    if not main.is_file():
        raise ProgramMissingError(f"{program} is not installed")
    compiler = shutil.which("cc")
    if compiler is None:
        raise ProgramMissingError(f"{program} is not built and there is no C compiler to build it")
    parts = sorted(main.parent.glob(f"{main.stem}_*.c"))
    sources = [main, *parts, *sorted((native / "src").glob("*.c"))]
    headers = sorted(native.glob("*/*.h"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*sources, *headers]))
    place = cache_directory() / f"{program}-{digest.hexdigest()[:16]}"
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{program}-", dir=place.parent) as work:
        unfinished = Path(work) / program
        # As native/CMakeLists.txt builds it, without the hardening: nobody else uses the result.
        flags = ["-std=c11", "-O2", "-DSL_API=", f"-I{native / 'src'}", f"-I{native / 'include'}"]
        command = [compiler, *flags, *map(str, sources), "-o", str(unfinished), "-pthread", "-lm"]
        try:
            run_bounded(command, what="cc")
        except SubjectFailedError as error:
            raise ProgramMissingError(f"{program} does not compile: {error}") from error
        unfinished.rename(place)
    return place
