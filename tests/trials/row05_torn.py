"""Row 5: the tail torn at every byte of the last 64 KiB: cut, zeros, garbage, stale batches.

torn.c does it in one process; here it gets a memory file system when there is one, for each of the
262,144 states is a recovery with its syncs.  Quick tries every 16th byte.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .bench import Bench
from .build import Bug

NUMBER = 5
TITLE = "the tail torn at every byte"
QUICK = 4 * 65_536 // 16
FULL = 4 * 65_536
BUG = Bug(
    "recovery does not check the CRC",
    "scan.c",
    'if (!sl_batch_crc_matches(data, &header)) out->fault = "CRC-32C mismatch";',
    "",
)
MEMORY = Path("/dev/shm")


def missing() -> str | None:
    """Any file system will do."""
    return None


def run(bench: Bench) -> None:
    """Run torn.c and take over its counts."""
    in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    place = Path(tempfile.mkdtemp(prefix="trials-", dir=MEMORY if in_memory else bench.place))
    try:
        step = max(1, FULL // bench.trials_wanted)
        command = [bench.programs / "torn", place / "log", bench.seed, step]
        done = subprocess.run(
            [str(a) for a in command], stdout=subprocess.PIPE, text=True, check=False
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines or not lines[-1].startswith("trials "):
        bench.fail(
            f"the program ended with {done.returncode} after {len(lines)} lines: {lines[-3:]}"
        )
        bench.fired += 1
        return
    bench.trials += int(lines[-1].split()[1])
    bench.fired += bench.trials
    for line in lines[:-1]:
        bench.fail(line)
