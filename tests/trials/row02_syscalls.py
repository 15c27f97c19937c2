"""Row 2: kill -9 before every system call of create, append, roll, flush, truncate, close.

strace stops a scripted victim at the Nth call of one kind, for every N there is and every kind that
changes something: the call does not happen, and nothing after it.  The state before call N is the
state after call N - 1, so this is every state that the death of the process can leave on disk (up
to the stores into the map between two calls, which row 1 samples).  The checker allows the call
that was under way to be done or not done, nothing else.
"""

from __future__ import annotations

import shutil
import subprocess

from .bench import Bench
from .build import Bug

NUMBER = 2
TITLE = "kill -9 before every system call"
QUICK = 3  # every 3rd call, from a random one on
FULL = 1  # every call
BUG = Bug(
    "checkpoints are written in place instead of renamed into place",
    "files.c",
    'snprintf(temporary, sizeof temporary, "%s.tmp", name)',
    'snprintf(temporary, sizeof temporary, "%s", name)',
)
CALLS = (
    "openat", "fallocate", "ftruncate", "fdatasync", "fsync", "renameat", "unlinkat", "mkdir",
    "pwrite64", "mmap", "madvise", "munmap", "close", "mprotect", "fcntl",
)  # fmt: skip
DECIDING = ("renameat", "pwrite64")
# Every operation on a log of several segments, each beside others that it must not disturb.
SCRIPT = """create
append 20 900
roll
append 10 900
prefix +5
append 30 900
flush
suffix -7
append 3 900
roll
roll
append 2 900
prefix +45
suffix -1
append 1 10
close
create
append 2 900
suffix -3
append 5 900
close
"""


def missing() -> str | None:
    """Strace must be there and allowed to trace."""
    return strace_missing()


def strace_missing() -> str | None:
    """Why strace cannot inject faults here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=openat", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (
        None if done.returncode == 0 else f"strace cannot trace here: {done.stderr.strip()[-200:]}"
    )


def strace(calls: str, what: str, *more: str) -> list[str]:
    """The command that runs another one with ``what`` injected into ``calls``.

    Without --seccomp-bpf, which would be faster: strace 6.1 then loses injected signals at times.
    """
    return ["strace", "-f", "-e", f"trace={calls}", "-e", f"inject={calls}:{what}", *more]


def run(bench: Bench) -> None:
    """For every kind of call, raise N until the victim gets through."""
    script = bench.place / "script"
    script.write_text(SCRIPT)
    facts = bench.place / "facts"
    for call in CALLS:
        # The few calls that decide something are never skipped.
        step = QUICK if bench.quick and call not in DECIDING else FULL
        for n in range(1 + bench.random.randrange(step), 4000, step):
            directory = bench.fresh("log")
            command = strace(call, f"signal=KILL:when={n}", "-o", "/dev/null")
            victim = [bench.programs / "victim", directory, "--script", script, "--segment", 16384]
            with facts.open("wb") as out:
                done = subprocess.run(
                    [*command, *map(str, victim)], stdout=out, stderr=subprocess.PIPE, check=False
                )
            bench.trials += 1
            killed = done.returncode in {-9, 137}
            bench.fired += killed
            told = facts.read_text().splitlines()
            what = f"{call} number {n}, after {told[-1] if told else 'nothing'}"
            if not killed and done.returncode != 0:
                bench.fail(f"{what}: the victim ended with {done.returncode}")
            if directory.exists():
                bench.check(directory, facts, "--continue", what=what)
            if not killed or bench.broken:
                break
