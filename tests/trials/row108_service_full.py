"""Row 108: a coordination server on a file system that fills up.

A tmpfs or an ext4 of a few MiB with a ballast file in it.  The write that finds no room is not
answered, and neither is anything after it; the server ends with 1 and says why.  What was answered
is there.  Once the ballast is gone a new server starts, and goes on.
"""

from __future__ import annotations

import os

from . import disk, planted
from .bench import Bench
from .build import Bug, Builder
from .row08_full import small_file_system
from .service import Service, begin, judge, writers

NUMBER = 108
TITLE = "a server's file system is full"
QUICK = 3
FULL = 200
BUG = Bug(
    "a group that found no room is answered before the server stops",
    "server/zookeeper/server.py",
    "        except StratalogError as error:\n"
    "            self._fail(error)\n"
    "            return False\n",
    "        except StratalogError as error:\n"
    "            self.machine.committed(proposals[-1].zxid)\n"
    "            self.speak(_monotonic_ms())\n"
    "            self._fail(error)\n"
    "            return False\n",
)


def missing() -> str | None:
    """Small file systems."""
    return disk.missing("ext4")


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Fill, judge, make room, go on."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        kind = ("tmpfs", "ext4")[bench.trials % 2]
        with small_file_system(bench, kind) as point:
            fill(bench, kind, point)


def fill(bench: Bench, kind: str, point) -> None:
    """One file system."""
    ballast = point / "ballast"
    with ballast.open("wb") as file:
        room = os.statvfs(point)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize * 6 // 10)
    numbers = {
        "snapshot_every": bench.random.choice([500, 100_000]),
        "reserve_bytes": bench.random.choice([4096, 64 << 10, 512 << 10]),
        "snapshots_kept": 3,
    }
    bench.trials += 1
    what = f"trial {bench.trials} ({kind}, {numbers})"
    data = point / "data"
    some = writers(bench, 4, window=32, data_bytes_max=8000)
    service = Service(bench, data, numbers)
    try:
        if not service.listens():
            bench.fail(f"{what}: it did not start: {service.said()[-300:]}")
            return
        begin(some, service.address)
        status = service.wait()
        full = "No space left" in service.said() or "no room" in service.said()
        bench.fired += full
        if status != 1 or not full or "stopped: " not in service.said():
            bench.fail(f"{what}: it ended with {status}: {service.said()[-300:]}")
    finally:
        service.kill()
    if not judge(bench, data, some, what):
        return
    ballast.unlink()
    service = Service(bench, data, numbers)
    try:
        if not service.listens():
            bench.fail(f"{what}: with room again: it did not start: {service.said()[-300:]}")
            return
        for writer in some:
            writer.start(service.address, 5)
        for writer in some:
            writer.join()
            if writer.answered != 5:
                bench.fail(f"{what}: with room again: {writer.answered} of 5 answered")
    finally:
        service.kill()
    judge(bench, data, some, f"{what}, with room again")
