"""Row 8: full file systems, and ENOSPC from every call that can give it.

A tmpfs and an ext4 of a few MiB are really filled, with a ballast file in them.  The append that
does not fit must fail with SL_E_NO_SPACE and leave nothing of itself, the log must stay readable,
and once the ballast is gone writing must go on, close, and be found whole; half of the victims are
killed on the full disk instead.  Then strace answers ENOSPC to the Nth call of each kind, for every
N: whatever fails, the process lives, and what it told is there afterwards.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import disk
from .bench import Bench, Conversation
from .build import Bug
from .row02_syscalls import SCRIPT, strace, strace_missing

NUMBER = 8
TITLE = "full file systems, ENOSPC"
QUICK = 16
FULL = 400
BUG = Bug(
    "space is used though it could not be reserved",
    "os.c",
    "return write_zeros(fd, start, bytes);\n    return -errno;",
    "return write_zeros(fd, start, bytes);\n    return errno == ENOSPC ? 0 : -errno;",
)
CALLS = ("fallocate", "openat", "pwrite64", "renameat", "mkdir", "ftruncate")
QUICK_STEP = 4


def missing() -> str | None:
    """Small file systems and strace."""
    return disk.missing("ext4") or strace_missing()


def run(bench: Bench) -> None:
    """Fill, then inject."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        kind = ("tmpfs", "ext4")[bench.trials % 2]
        with small_file_system(bench, kind) as point:
            fill(bench, kind, point)
    inject(bench)


@contextlib.contextmanager
def small_file_system(bench: Bench, kind: str) -> Iterator[Path]:
    """An empty file system of a few MiB."""
    point = bench.place / "small"
    size = (3 << 20) + bench.random.randrange(0, 2 << 20, 4096)
    if kind == "tmpfs":
        with disk.mounted("trial", point, "-t", "tmpfs", "-o", f"size={size}"):
            yield point
    else:
        image = bench.place / "image"
        disk.make_image(image, "ext4", size + (4 << 20))
        with disk.mounted_image(image, point):
            yield point


def fill(bench: Bench, kind: str, point: Path) -> None:
    """Append until nothing fits, read, make room, go on, end."""
    facts = bench.place / "facts"
    facts.write_text("")
    ballast = point / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
    sync = bench.random.choice(["none", "interval", "always"])
    segment = bench.random.choice([64, 256, 1024]) << 10
    victim = Conversation(bench, point / "log", facts, "--sync", sync, "--segment", segment)
    bench.trials += 1
    what = f"trial {bench.trials} ({kind}, {sync}, segments of {segment})"
    victim.ask("create")
    refused = 0
    for _ in range(3000):
        # Many batches a call: one of them does not fit, and those before it must be undone.
        told = victim.ask(
            f"append {bench.random.choice([1, 20, 60])} {bench.random.choice([500, 900])}"
        )
        if not told or not told[-1].startswith("appended"):
            if not told or "SL_E_NO_SPACE" not in told[-1]:
                bench.fail(f"{what}: filling ended with {told[-1:]}")
                break
            refused += 1
            if refused == 12:
                break
    bench.fired += refused > 0
    for call in ("readall", "verify", "flush", "readall"):
        told = victim.ask(call)
        if not told or told[-1].startswith("error"):
            bench.fail(f"{what}: {call} on the full disk: {told[-1:]}")
    for call in ("roll", "prefix +1", "suffix -1"):
        told = victim.ask(call)
        if not told or (told[-1].startswith("error") and "SL_E_NO_SPACE" not in told[-1]):
            bench.fail(f"{what}: {call} on the full disk: {told[-1:]}")
        if told and told[-1].startswith("error truncated"):
            # Decided but not followed: by its contract only a new handle goes on.
            ballast.unlink(missing_ok=True)
            victim.ask("close")
            victim.ask("create")
    if bench.random.random() < 0.5:
        ballast.unlink(missing_ok=True)
        told = victim.ask("append 5 900")
        if not told or not told[-1].startswith("appended"):
            bench.fail(f"{what}: with room again: {told[-1:]}")
        victim.ask("close")
        status = victim.end()
    else:
        status = victim.kill()
        ballast.unlink(missing_ok=True)
    if status not in {0, -9}:
        bench.fail(f"{what}: the victim ended with {status}")
    bench.check(point / "log", facts, "--continue", what=what)


def inject(bench: Bench) -> None:
    """ENOSPC from the Nth call of a kind, and from all later ones."""
    script = bench.place / "script"
    script.write_text(SCRIPT)
    facts = bench.place / "facts"
    step = QUICK_STEP if bench.quick else 1
    for call in CALLS:
        for n in range(1 + bench.random.randrange(step), 4000, step):
            fired = 0
            for when in (f"{n}", f"{n}+"):
                directory = bench.fresh("log")
                trace = bench.place / "trace"
                injected = strace(call, f"error=ENOSPC:when={when}", "-o", str(trace))
                victim = [bench.programs / "victim", directory, "--script", script]
                with facts.open("wb") as out:
                    done = subprocess.run(
                        [*injected, *map(str, victim), "--segment", "16384"],
                        stdout=out,
                        check=False,
                    )
                fired = trace.read_text().count("(INJECTED)")
                bench.trials += 1
                bench.fired += fired > 0
                what = f"ENOSPC from {call} number {when}"
                if done.returncode != 0:
                    bench.fail(f"{what}: the victim ended with {done.returncode}")
                if directory.exists() and any(directory.iterdir()):
                    bench.check(directory, facts, "--continue", what=what)
            if fired == 0 or bench.broken:
                break
