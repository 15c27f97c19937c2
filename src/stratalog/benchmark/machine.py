"""What a figure was measured on, kernel, processor, memory and file system; and settling it before.

It promises facts about the system and none about its owner: no host name, no user, no path. A mount
option that holds a path is left out.

What it leaves to others: printing (report.py).
"""

from __future__ import annotations

import mmap
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Machine", "describe", "set_settling", "settle"]

_MADV_POPULATE_WRITE = 23  # Linux 5.14; a name in the mmap module from Python 3.13 on
SETTLED_BYTES = 1 << 30
SETTLE_VARIABLE = "STRATALOG_BENCH_SETTLE"  # set to "1" by the runner, for itself and its children


@dataclass(frozen=True, slots=True)
class Machine:
    """The system a run happened on."""

    kernel: str
    architecture: str
    cpu_model: str
    cpus: int
    memory_bytes: int
    file_system: str
    mount_options: str
    python: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self)


def _first_value(path: str, key: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator and name.strip() == key:
            return value.strip()
    return None


def _unescaped(text: str) -> str:
    """Undo the octal escapes of /proc/self/mountinfo."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def file_system_of(directory: Path) -> tuple[str, str]:
    """Return the type and the mount options of the file system that holds ``directory``."""
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown", ""
    target = directory.resolve()
    best = ("unknown", "")
    best_length = -1
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, details = left.split(), right.split()
        if len(fields) < 6 or len(details) < 3:
            continue
        mount_point = Path(_unescaped(fields[4]))
        # A later line over the same place hides the earlier one, hence "not shorter".
        if target.is_relative_to(mount_point) and len(mount_point.parts) >= best_length:
            options = dict.fromkeys(f"{fields[5]},{details[2]}".split(","))
            best = (details[0], ",".join(option for option in options if "/" not in option))
            best_length = len(mount_point.parts)
    return best


def describe(directory: Path) -> Machine:
    """Return the facts of this system; ``directory`` is where the benchmark writes."""
    memory_kib = (_first_value("/proc/meminfo", "MemTotal") or "0 kB").split()[0]
    file_system, mount_options = file_system_of(directory)
    return Machine(
        kernel=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu_model=_first_value("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=int(memory_kib) * 1024,
        file_system=file_system,
        mount_options=mount_options,
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def set_settling(*, wanted: bool) -> None:
    """Say whether measurements are to begin on a settled system, here and in child processes."""
    os.environ[SETTLE_VARIABLE] = "1" if wanted else "0"


def settle() -> None:
    """Bring the system to rest before a measurement, the same for everybody, in a full run.

    What earlier ones left unwritten is written. Then memory is touched and given back: a virtual
    machine's host takes free pages away within seconds and hands them out again several times
    slower than the guest does, so that whoever came first after a pause would pay for all.
    """
    if os.environ.get(SETTLE_VARIABLE) != "1":
        return
    os.sync()
    available = int((_first_value("/proc/meminfo", "MemAvailable") or "0 kB").split()[0]) << 10
    size = min(SETTLED_BYTES, available // 4)
    if size < mmap.PAGESIZE:
        return
    with mmap.mmap(-1, size) as memory:
        try:
            memory.madvise(_MADV_POPULATE_WRITE)
        except OSError:
            for position in range(0, size, mmap.PAGESIZE):
                memory[position] = 0
