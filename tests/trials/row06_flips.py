"""Row 6: every bit flipped in all files of a small log, and random ones in 2 MiB.

flips.c does it in one process, in a memory file system when there is one.  The number of trials is
that of random flips in the larger log.  The small log is exhausted, but in the quick form: that
takes every bit of indexes, checkpoints and the used part of `.lock`, and samples the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .bench import Bench
from .build import Bug

NUMBER = 6
TITLE = "every bit flipped"
QUICK = 500
FULL = 100_000
BUG = Bug(
    "a cursor does not check the CRC",
    "cursor.c",
    "if ((cursor->flags & SL_READ_NO_CRC) == 0) {",
    "if ((cursor->flags & SL_READ_NO_CRC) == 0 && header->record_count > 1000) {",
)
MEMORY = Path("/dev/shm")


def missing() -> str | None:
    """Any file system will do."""
    return None


def run(bench: Bench) -> None:
    """Run flips.c and take over its counts."""
    in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    place = Path(tempfile.mkdtemp(prefix="trials-", dir=MEMORY if in_memory else bench.place))
    try:
        step = 8 if bench.quick else 1
        command = [bench.programs / "flips", place, bench.seed, step, bench.trials_wanted]
        done = subprocess.run(
            [str(a) for a in command], stdout=subprocess.PIPE, text=True, check=False
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines or not lines[-1].startswith("trials "):
        bench.fail(f"the program ended with {done.returncode}: {lines[-3:]}")
        bench.fired += 1
        return
    bench.trials += int(lines[-1].split()[1])
    bench.fired += bench.trials
    for line in lines[:-1]:
        if line.startswith("note "):
            text, _, count = line[5:].rpartition(": ")
            bench.notes[text] += int(count)
        else:
            bench.fail(line)
