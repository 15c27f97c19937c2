"""Row 10: an address space that ends somewhere.

A victim opens a log, then takes its own address space away up to a few KiB or MiB beyond what it
uses, and goes on: every map, thread and buffer of the engine is refused at one limit or another.  A
refused call must be an error; the process must live; the log must be whole afterwards.  (That the
Nth malloc fails is tried by the C tests, which replace the engine's allocator.)
"""

from __future__ import annotations

import subprocess

from .bench import Bench
from .build import Bug

NUMBER = 10
TITLE = "address space that ends"
QUICK = 120
FULL = 2000
BUG = Bug(
    "a map that failed is used",
    "os.c",
    "if (map == MAP_FAILED) return -errno;",
    "",
)
SCRIPTS = (
    "limit {}\ncreate\nappend 50 900\nroll\nappend 300 900\nreadall\nsuffix -20\nverify\nclose\n",
    (
        "create\nappend 50 900\nlimit {}\nappend 300 900\nroll\nappend 20 900\nreadall\n"
        "suffix -20\nappend 9 900\nget +3\nlookup +4\nprefix +60\nverify\nreadonly\n"
        "readall\nverify\nclose\n"
    ),
)


def missing() -> str | None:
    """Limits are everywhere."""
    return None


def run(bench: Bench) -> None:
    """Small steps where things are small, then larger ones: a thread's stack is 8 MiB."""
    facts = bench.place / "facts"
    script = bench.place / "script"
    while bench.trials < bench.trials_wanted and not bench.broken:
        # Half the limits below 4 MiB, in pages; the other half up to 40 MiB.
        part = bench.trials / bench.trials_wanted * 2
        pages = int(part * 1024) if part < 1 else int(1024 + (part - 1) * 9216)
        pages += bench.random.randrange(8)
        for text in SCRIPTS:
            directory = bench.fresh("log")
            script.write_text(text.format(pages * 4))
            facts.write_text("")
            victim = bench.victim(
                directory, "--script", script, "--segment", 1 << 18, "--sync", "interval",
                facts=facts, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            status = victim.wait(120)
            bench.trials += 1
            told = facts.read_text()
            errors = told.count("SL_E_NO_MEMORY")
            bench.fired += errors > 0
            what = f"limit {pages * 4} KiB beyond what is used, script {SCRIPTS.index(text)}"
            if status != 0:
                bench.fail(f"{what}: the victim ended with {status} after {told.splitlines()[-2:]}")
            if " opened" in told:
                bench.check(directory, facts, "--continue", what=what)
