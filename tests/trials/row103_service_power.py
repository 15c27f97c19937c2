"""Row 103: power loss under a coordination server, by shutting its file system down.

The shutdown ioctl stops ext4 at once: what was synced is on the disk, the rest is not.  The server
meets EIO then, answers nothing more and ends with 1 and the reason, or is killed.  The image is
mounted again: every write that was answered is there, and nothing that was not sent; a new server
starts on it, and what a crash left of its logs is cut off.
"""

from __future__ import annotations

import signal
import time

from . import disk, planted
from .bench import Bench
from .build import Bug, Builder
from .service import Service, begin, judge, writers

NUMBER = 103
TITLE = "power loss under a coordination server"
QUICK = 6
FULL = 1_000
BUG = Bug(
    "nothing is ever synced, and all is called durable",
    "storage/journal.py",
    "        return checked(lib.sl_journal_append(self._live(), data, len(data), request))\n"
    "\n"
    "    def durable(self) -> int:\n"
    '        """Return the position up to which the file is on the disk.\n'
    "\n"
    "        Raises:\n"
    "            LogPoisonedError: A write or sync failed: what follows this position may be "
    "lost.\n"
    '        """\n'
    "        return checked(lib.sl_journal_durable(self._live()))\n",
    "        end = checked(lib.sl_journal_append(self._live(), data, len(data), 0))\n"
    "        os.eventfd_write(self._event_fd, 1)\n"
    "        return end\n"
    "\n"
    "    def durable(self) -> int:\n"
    "        return 1 << 62\n",
)
TRIALS_PER_IMAGE = 20


def missing() -> str | None:
    """Root, loop devices and ext4."""
    return disk.missing("ext4")


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """A fresh file system now and then, several power losses on each."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        image = bench.place / "image"
        disk.make_image(image, "ext4", 64 << 20)
        some = writers(bench, bench.random.choice([1, 4, 8]), window=64, data_bytes_max=3000)
        with disk.loop(image) as device:
            for _ in range(min(TRIALS_PER_IMAGE, bench.trials_wanted - bench.trials)):
                if not lose_power(bench, device, some):
                    break


def lose_power(bench: Bench, device: str, some: list) -> bool:
    """One server, one shutdown, one check.  False: begin anew."""
    point = bench.place / "mount"
    numbers = {
        "snapshot_every": bench.random.choice([30, 300, 100_000]),
        "reserve_bytes": bench.random.choice([4096, 1 << 20]),
    }
    bench.trials += 1
    what = f"trial {bench.trials} ({len(some)} writers, {numbers})"
    with disk.mounted(device, point):
        service = Service(bench, point / "data", numbers)
        try:
            if not service.listens():
                bench.fail(f"{what}: it did not start: {service.said()[-300:]}")
                return False
            begin(some, service.address)
            time.sleep(0.02 + bench.random.random() * bench.random.choice([0.1, 0.3]))
            # A reply that comes later is one that nobody heard: ext4, stopped amid a sync, may let
            # it return as if all were well.
            dying_ns = disk.shutdown(point)
            bench.fired += 1
            if bench.random.random() < 0.5:
                time.sleep(0.01)
                service.kill()
            elif (status := service.wait()) == -signal.SIGBUS:
                bench.notes["servers that died of SIGBUS on the dead file system"] += 1
            elif status != 1 or "stopped: " not in service.said():
                bench.fail(f"{what}: it ended with {status}: {service.said()[-300:]}")
        finally:
            service.kill()
        for writer in some:
            writer.join()
    with disk.mounted(device, point):
        return judge(bench, point / "data", some, what, dying_ns)
