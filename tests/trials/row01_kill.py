"""Row 1: kill -9 at random times, in every sync mode, with mixed batch sizes.

A victim appends, rolls, flushes, truncates and reopens as its seed says, until it is killed after a
random time: soon after the start (recovery and opening are shot too), or well into its work.  Then
the checker must find every record whose append had returned, and the next victim goes on from
there, so that a directory sees up to 20 deaths.
"""

from __future__ import annotations

import time

from .bench import Bench
from .build import Bug

NUMBER = 1
TITLE = "kill -9 at random times"
QUICK = 300
FULL = 20_000
BUG = Bug(
    "segments are mapped privately: stores die with the process",
    "os.c",
    "void *map = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);",
    "void *map = mmap(NULL, bytes, protection, writable ? MAP_PRIVATE : MAP_SHARED, fd, 0);",
)
DEATHS_PER_DIRECTORY = 20


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def run(bench: Bench) -> None:
    """Kill, check, go on."""
    facts = bench.place / "facts"
    while bench.trials < bench.trials_wanted and not bench.broken:
        directory = bench.fresh("log")
        facts.unlink(missing_ok=True)
        for _ in range(DEATHS_PER_DIRECTORY):
            if bench.trials == bench.trials_wanted:
                break
            seed = bench.random.getrandbits(48)
            sync = bench.random.choice(["none", "none", "interval", "always"])
            segment = bench.random.choice([16, 64, 256, 1024]) << 10
            arguments = ["--seed", seed, "--sync", sync, "--segment", segment, "--truncate"]
            victim = bench.victim(directory, *arguments, facts=facts)
            time.sleep(bench.random.choice([0.003, 0.01, 0.03]) * bench.random.random() + 0.0005)
            victim.kill()
            status = victim.wait()
            bench.trials += 1
            bench.fired += status == -9
            what = f"trial {bench.trials} (victim {seed}, {sync}, {segment})"
            if status != -9:
                bench.fail(f"{what}: the victim ended by itself with {status}")
            if not bench.check(directory, facts, "--continue", "--rewrite", facts, what=what):
                break
