"""What all rows share: a victim with its facts, the checker, counters, temporary places.

A row is a module with ``NUMBER``, ``TITLE``, ``BUG``, ``QUICK`` and ``FULL`` (numbers of trials),
``missing()`` (why it cannot run here, or None) and ``run(bench)``.  It counts on ``bench``:

    trials     how often it was tried
    fired      faults that really happened; none is a failure
    failures   sentences, one per broken promise
    notes      what is worth saying though it is no failure, with how often
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Bench:
    """One run of one row: its programs, its randomness, its place, its counters."""

    programs: Path
    seed: int
    trials_wanted: int
    quick: bool
    place: Path
    failures_max: int = 20  # a broken engine breaks every trial: this many sentences are enough
    trials: int = 0
    fired: int = 0
    failures: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def fail(self, sentence: str) -> None:
        """A promise was broken."""
        self.failures.append(sentence)

    @property
    def broken(self) -> bool:
        """Whether going on would only repeat what is known."""
        return len(self.failures) >= self.failures_max

    def fresh(self, name: str) -> Path:
        """An empty path below the row's place."""
        path = self.place / name
        if path.is_dir():
            shutil.rmtree(path)
        return path

    def victim(self, directory: Path, *arguments: object, facts: Path, **popen) -> subprocess.Popen:
        """Start a victim whose facts are appended to a file, kept by the kernel when it dies."""
        command = [self.programs / "victim", directory, *arguments]
        with facts.open("ab") as out:
            return subprocess.Popen([str(a) for a in command], stdout=out, **popen)

    def check(self, directory: Path, facts: Path, *arguments: object, what: str) -> bool:
        """Run the checker; a failure of it is a failure of the row, told with ``what``."""
        command = [self.programs / "check", directory, facts, *arguments]
        done = subprocess.run(
            [str(a) for a in command], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode == 0:
            return True
        if done.returncode == 3:
            self.notes["inconclusive states"] += 1
            return False
        died = f"checker died by signal {-done.returncode} " if done.returncode < 0 else ""
        self.fail(f"{what}: {died}{done.stdout.strip()}{done.stderr.strip()}")
        return False


class Conversation:
    """A victim that takes its commands one at a time from us."""

    def __init__(self, bench: Bench, directory: Path, facts: Path, *arguments: object) -> None:
        command = [bench.programs / "victim", directory, "--script", "-", *arguments]
        self.facts = facts
        self.process = subprocess.Popen(
            [str(a) for a in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, command: str, last: tuple[str, ...] = ()) -> list[str]:
        """Send a command and return the facts of it; [] when the victim died in it.

        A command ends with one of ``done``, ``error``, ``failed``, ``appended``, ``opened``,
        ``start``, ``truncated``; what follows it (``durable``) is told with the next command.
        """
        ends = last or ("done", "error", "failed", "appended", "opened", "start", "truncated")
        told: list[str] = []
        try:
            self.process.stdin.write(command + "\n")
        except BrokenPipeError:
            return told
        with self.facts.open("a") as out:
            for line in self.process.stdout:
                out.write(line)
                told.append(line.split(" ", 1)[1].strip())
                if told[-1].split()[0] in ends:
                    return told
        return []

    def end(self) -> int:
        """Let it come to its end; returns its exit status, negative for a signal."""
        self.process.stdin.close()
        with self.facts.open("a") as out:
            out.writelines(self.process.stdout)
        self.process.stdout.close()
        return self.process.wait(60)

    def kill(self) -> int:
        """Kill it where it stands and keep what it had told."""
        self.process.send_signal(signal.SIGKILL)
        return self.end()


def temporary() -> Path:
    """A directory for one run; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix="trials-"))
