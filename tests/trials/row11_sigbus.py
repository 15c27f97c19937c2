"""Row 11: what makes a mapped page unreadable: a file that another program shortens, a full disk.

The engine asks the kernel to fault pages in (MADV_POPULATE) before it touches them and reports the
refusal as an error; it has no signal handler.  So there is a window: pages that were asked for once
are touched later without asking.  Promised, and a failure here if broken:

    a file shortened before a cursor, a lookup or verify first comes to its pages is an error
    a segment that grows on a full disk is an error (its space is reserved before it is touched)

Tried and counted apart, because nothing but a signal handler could help: a file shortened while
somebody stands in the window.  Each such way is a note: "kills" or "survives".
"""

from __future__ import annotations

import os
from pathlib import Path

from .bench import Bench, Conversation
from .build import Bug

NUMBER = 11
TITLE = "mapped files shortened by another program"
QUICK = 60
FULL = 1_000
BUG = Bug(
    "pages are touched without asking for them first",
    "segment.c",
    "int rc = sl_os.populate(segment->map + from, (size_t)(to - from), 0);",
    "int rc = 0;",
)
# What is asked for before the file is shortened, and then; True: promised to be an error.
WAYS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], bool], ...] = (
    ("cursor, first touch", "readonly", ("cursor +0",), ("next",), True),
    ("readall", "readonly", (), ("readall",), True),
    ("get, first touch", "readonly", (), ("get -3",), True),
    ("lookup, first touch", "readonly", (), ("lookup -3",), True),
    ("verify", "readonly", (), ("verify",), True),
    ("verify after reading", "readonly", ("readall",), ("verify",), True),
    ("writer: pages that recovery read", "open", (), ("readall",), False),
    ("second cursor over pages read before", "readonly", ("readall",), ("readall",), False),
    ("cursor inside its guarded MiB", "readonly", ("cursor +0", "next 1"), ("next",), False),
    ("get of a page got before", "readonly", ("get -3",), ("get -3",), False),
    ("get after verify", "readonly", ("verify",), ("get -3",), False),
    ("writer: append", "open", ("append 1 900",), ("append 1 900", "append 200 900"), False),
    ("index of a sealed segment", "readonly", ("get +1",), ("INDEX", "get +1", "time +3"), False),
)


def missing() -> str | None:
    """Files can be shortened everywhere."""
    return None


def shorten(directory: Path, suffix: str, bytes_left: int) -> None:
    """Cut every file with this suffix to at most ``bytes_left``."""
    for path in directory.glob(f"*{suffix}"):
        if path.stat().st_size > bytes_left:
            os.truncate(path, bytes_left)


def run(bench: Bench) -> None:
    """Every way again and again, cut at different places."""
    facts = bench.place / "facts"
    while bench.trials < bench.trials_wanted and not bench.broken:
        name, opening, before, after, promised = WAYS[bench.trials % len(WAYS)]
        directory = bench.fresh("log")
        facts.write_text("")
        segment = bench.random.choice([64 << 10, 4 << 20])
        victim = Conversation(bench, directory, facts, "--segment", segment)
        for command in ("create", "append 400 900", "append 100 900", "close"):
            victim.ask(command)
        for command in (opening, *before):
            victim.ask(command)
        bench.trials += 1
        left = bench.random.choice([0, 0, 4096, 8192, 20000])
        if "INDEX" not in after:
            shorten(directory, ".log", left)
        died = ""
        refused = False
        for command in after:
            if command == "INDEX":
                shorten(directory, "index", 0)
                continue
            told = victim.ask(command)
            if not told:
                died = command
                break
            refused = refused or told[-1].startswith(("error", "failed"))
        status = victim.kill() if not died else victim.end()
        bench.fired += bool(died) or refused or not promised
        if died and promised:
            bench.fail(f"{name}, cut to {left} bytes: {died!r} ended the process with {status}")
        if not promised:
            bench.notes[f"{name}: {'kills' if died else 'survives'}"] += 1
