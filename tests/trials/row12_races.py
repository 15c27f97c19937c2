"""Row 12: readers racing roll, truncation and close, under ThreadSanitizer.

The race is tests/native/test_threads.c, compiled here with the engine under
`-fsanitize=thread`: its own checks and the sanitizer's reports both count.  The planted bug is a
tail that is published without release: on x86 no test could see it, the sanitizer does.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from .bench import Bench
from .build import Bug, Builder

NUMBER = 12
TITLE = "readers racing under ThreadSanitizer"
QUICK = 1
FULL = 20
BUG = Bug(
    "the tail is published without release",
    "append.c",
    "    atomic_store_explicit(&segment->tail, tail, memory_order_release);\n"
    "    atomic_store_explicit(&log->log_end_offset, log_end_offset, memory_order_release);\n",
    "    atomic_store_explicit(&segment->tail, tail, memory_order_relaxed);\n"
    "    atomic_store_explicit(&log->log_end_offset, log_end_offset, memory_order_relaxed);\n",
)
REPORT = "WARNING: ThreadSanitizer"


def steady() -> list[str]:
    """Run without a randomised address space: the sanitizer's shadow needs fixed places."""
    command = ["setarch", platform.machine(), "-R"]
    if shutil.which("setarch") is None:
        return []
    works = subprocess.run([*command, "true"], check=False).returncode == 0
    return command if works else []


def missing() -> str | None:
    """A compiler that has the sanitizer, and a kernel that lets it run."""
    with tempfile.TemporaryDirectory() as place:
        source, program = Path(place) / "probe.c", Path(place) / "probe"
        source.write_text("int main(void) { return 0; }\n")
        compiler = os.environ.get("CC", "cc")
        build = [compiler, "-fsanitize=thread", str(source), "-o", str(program)]
        for command in (build, [*steady(), str(program)]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return f"ThreadSanitizer does not work here: {done.stderr.strip()[:160]}"
    return None


def build(builder: Builder, bug: Bug | None = None) -> Path:
    """The test and the engine, both seen by the sanitizer."""
    return builder.native_test("test_threads", "thread", bug)


def run(bench: Bench) -> None:
    """Run it and look for reports."""
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=0 exitcode=66"}
    for _ in range(bench.trials_wanted):
        done = subprocess.run(
            [*steady(), str(bench.programs / "test_threads")],
            capture_output=True, text=True, env=environment, cwd=bench.place, check=False,
        )  # fmt: skip
        bench.trials += 1
        bench.fired += 1
        if done.returncode != 0:
            output = done.stdout + done.stderr
            reports = output.count(REPORT)
            bench.fail(f"ended with {done.returncode}, {reports} reports: {output.strip()[:600]}")
