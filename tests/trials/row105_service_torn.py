"""Row 105: the last log of a coordination server torn at every byte, its unsynced sectors lost.

damage.py does it, on the directory of a server that was killed; see there.  What a power loss
leaves of several transactions that were on their way is made here sector by sector: some arrived,
others did not, and sound records stand behind torn ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .service import Service, writers

NUMBER = 105
TITLE = "a server's last log torn at every byte"
QUICK = 200
FULL = 100_000
BUG = Bug(
    "replay does not check the Adler-32",
    "wire/zookeeper/txn_log.py",
    "        if zlib.adler32(payload) != checksum:\n",
    "        if False:\n",
)
MEMORY = Path("/dev/shm")


def missing() -> str | None:
    """Any file system will do."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Make directories, and damage each."""
    damage(bench, "torn", 2 if bench.quick else 4)


def damage(bench: Bench, mode: str, directories: int) -> None:
    """Run damage.py on directories of servers that were killed; take over its counts."""
    for number in range(directories):
        directory = bench.fresh(f"data{number}")
        some = writers(bench, 2, window=bench.random.choice([1, 8]), data_bytes_max=200)
        service = Service(bench, directory, {"snapshot_every": 40, "reserve_bytes": 8192})
        try:
            if not service.listens():
                bench.fail(f"the server did not start: {service.said()[-300:]}")
                return
            for writer in some:
                writer.start(service.address, 60)
            for writer in some:
                writer.join()
        finally:
            service.kill()
        count = bench.trials_wanted // directories
        in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
        place = Path(tempfile.mkdtemp(prefix="trials-", dir=MEMORY if in_memory else bench.place))
        try:
            words = [directory, place / "copy", bench.seed + number, mode, count]
            command = planted.command(bench.programs, "tests.trials.damage", *words)
            done = subprocess.run(
                command, cwd=planted.ROOT, capture_output=True, text=True, check=False
            )
        finally:
            shutil.rmtree(place, ignore_errors=True)
        lines = done.stdout.splitlines()
        if done.returncode != 0 or not lines or not lines[-1].startswith("trials "):
            bench.fail(f"the program ended with {done.returncode}: {done.stderr[-600:]}")
            return
        bench.trials += int(lines[-1].split()[1])
        bench.fired = bench.trials
        for line in lines[:-1][: bench.failures_max]:
            bench.fail(line)
