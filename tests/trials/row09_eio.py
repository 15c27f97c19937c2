"""Row 9: EIO from every sync, and from a device that fails.

strace answers EIO to the Nth fdatasync or fsync, for every N, while a victim in the mode "always"
works; the data stays dirty then, which is kinder than a disk.  So there are two real ones: a file
system that is shut down under the victim, and a device (nbdkit's error filter) whose writes fail
from some moment on.  After a failed sync of the log

    the call that met it is an error, and no later append or flush is acknowledged
    the same file is never synced again (Linux has marked its pages clean: it would answer 0)
    reading goes on, and the process lives
    on a healthy disk a new handle finds what was durable
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from . import disk
from .bench import Bench, Conversation
from .build import Bug
from .row02_syscalls import strace, strace_missing

NUMBER = 9
TITLE = "EIO from every sync"
QUICK = 10
FULL = 500
BUG = Bug(
    "a failed sync is ignored",
    "sync.c",
    "if (rc != 0) return poison(log, rc);",
    "",
)
QUICK_STEP = 2
SCRIPT = """create
append 20 900
append 5 900
roll
append 10 900
readall
prefix +5
append 30 900
readall
suffix -7
append 3 900
roll
append 2 900
flush
readall
close
"""
HEALTHY = """create
append 2 900
close
"""


def missing() -> str | None:
    """Strace and a file system that can be shut down; nbdkit joins in where it is."""
    return strace_missing() or disk.missing("ext4")


def run(bench: Bench) -> None:
    """Injected first, then real."""
    inject(bench)
    why = disk.device_missing()
    if why is not None:
        bench.notes["failing devices left out: " + why] = 1
    for number in range(bench.trials_wanted):
        if bench.broken:
            break
        if number % 2 and why is None:
            failing_device(bench)
        else:
            dead_file_system(bench)


def inject(bench: Bench) -> None:
    """EIO at the Nth sync, once: were it asked again it would answer 0, as Linux does."""
    script = bench.place / "script"
    script.write_text(SCRIPT)
    facts = bench.place / "facts"
    step = QUICK_STEP if bench.quick else 1
    for call in ("fdatasync", "fsync"):
        for n in range(1 + bench.random.randrange(step), 1000, step):
            directory = bench.fresh("log")
            trace = bench.place / "trace"
            injected = strace(call, f"error=EIO:when={n}", "-y", "-o", str(trace))
            victim = [bench.programs / "victim", directory, "--script", script, "--sync", "always"]
            with facts.open("wb") as out:
                done = subprocess.run(
                    [*injected, *map(str, victim), "--segment", "16384"], stdout=out, check=False
                )
            lines = trace.read_text().splitlines()
            bench.trials += 1
            what = f"EIO from {call} number {n}"
            if done.returncode != 0:
                bench.fail(f"{what}: the victim ended with {done.returncode}")
            told = [line.split(" ", 1)[1] for line in facts.read_text().splitlines()]
            hit = [i for i, line in enumerate(lines) if "(INJECTED)" in line]
            if hit:
                bench.fired += 1
                judge_calls(bench, what, call, lines, hit[0], told)
            if directory.exists():
                bench.check(directory, facts, "--continue", what=what)
            if not hit or bench.broken:
                break


def judge_calls(
    bench: Bench, what: str, call: str, lines: list[str], hit: int, told: list[str]
) -> None:
    """No second sync of the file, no acknowledgement once the log is poisoned."""
    path = re.search(r"<(.*?)>", lines[hit]).group(1)
    data = call == "fdatasync" and path.endswith(".log")
    if data:
        again = [line for line in lines[hit + 1 :] if f"<{path}>" in line]
        if again:
            bench.fail(f"{what}: {Path(path).name} was synced again: {again[0][:120]}")
        if not any("SL_E_POISONED" in fact or "SL_E_IO" in fact for fact in told):
            bench.fail(f"{what}: nobody was told of the failed sync of {Path(path).name}")
    judge_facts(bench, what, told)


def judge_facts(bench: Bench, what: str, told: list[str]) -> None:
    """What may follow the word ``poisoned``: errors, and reads that succeed."""
    if "poisoned" not in told:
        return
    after = told[told.index("poisoned") :]
    opened = [i for i, fact in enumerate(after) if fact.startswith("opened")]
    after = after[: opened[0]] if opened else after
    bad = [f for f in after if f.startswith(("appended", "start", "truncated", "done flush"))]
    if bad:
        bench.fail(f"{what}: acknowledged after the log was poisoned: {bad[0]}")
    failed = [f for f in after if f.startswith("error readall")]
    if failed:
        bench.fail(f"{what}: reading ended with the log's poisoning: {failed[0]}")


def converse(bench: Bench, victim: Conversation, break_it, what: str) -> None:
    """Appends before and after the fault; the first refused one must be the last word."""
    told: list[str] = []
    for _ in range(bench.random.randrange(2, 12)):
        told += victim.ask(f"append {bench.random.choice([1, 5, 40])} 900")
    break_it()
    for _ in range(6):
        told += victim.ask("append 5 900")
    for call in ("flush", "roll", "readall", "get +1"):
        told += victim.ask(call)
    if victim.process.poll() is not None:
        bench.fail(f"{what}: the victim ended with {victim.process.returncode}")
    if "poisoned" not in told:
        bench.fail(f"{what}: the log was never poisoned: {told[-3:]}")
    else:
        bench.fired += 1
    judge_facts(bench, what, told)


def dead_file_system(bench: Bench) -> None:
    """Shut down under the victim; every sync after that is EIO."""
    image = bench.place / "image"
    disk.make_image(image, "ext4", 16 << 20)
    facts = bench.place / "facts"
    facts.write_text("")
    point = bench.place / "mount"
    bench.trials += 1
    what = f"trial {bench.trials} (file system shut down)"
    with disk.loop(image) as device:
        with disk.mounted(device, point):
            victim = Conversation(bench, point / "log", facts, "--sync", "always")
            victim.ask("create")
            converse(bench, victim, lambda: disk.shutdown(point), what)
            victim.ask("close")
            if victim.end() != 0:
                bench.fail(f"{what}: the victim ended with {victim.process.returncode}")
        with disk.mounted(device, point):
            bench.check(point / "log", facts, "--power", "--continue", what=what)


def failing_device(bench: Bench) -> None:
    """A device whose writes fail while a trigger file exists."""
    image = bench.place / "image"
    disk.make_image(image, "ext4", 16 << 20)
    facts = bench.place / "facts"
    facts.write_text("")
    trigger = bench.place / "trigger"
    trigger.unlink(missing_ok=True)
    bench.trials += 1
    what = f"trial {bench.trials} (device with failing writes)"
    point = bench.place / "mount"
    server = ["--filter=error", "file", image, "error-pwrite=EIO", "error-pwrite-rate=100%"]
    with (
        disk.device(bench.place, *server, f"error-file={trigger}") as target,
        disk.loop(target) as name,
        disk.mounted(name, point),
    ):
        victim = Conversation(bench, point / "log", facts, "--sync", "always")
        victim.ask("create")
        converse(bench, victim, trigger.touch, what)
        victim.ask("close")
        if victim.end() != 0:
            bench.fail(f"{what}: the victim ended with {victim.process.returncode}")
        time.sleep(0.01)
        trigger.unlink()
    with disk.mounted_image(image, point):
        bench.check(point / "log", facts, "--power", "--continue", what=what)
