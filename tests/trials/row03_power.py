"""Row 3: power loss, by shutting the file system down under a running victim.

The shutdown ioctl stops ext4 or XFS at once: what was synced is on the disk, the rest of the page
cache and of the journal is not.  The victim is left running for a moment on a file system that
answers EIO to everything, then killed, and the image is mounted again.  Every record told durable
must be there; what else is there must be what was appended, without a gap.

EIO in a mapped page is a SIGBUS.  The engine asks for pages before it stores into them, but a sync
of another thread may protect them again in between: such a death is counted apart, for a power loss
ends the process anyway; any other signal is a failure.
"""

from __future__ import annotations

import shutil
import signal
import time

from . import disk
from .bench import Bench
from .build import Bug

NUMBER = 3
TITLE = "power loss on ext4 and XFS"
QUICK = 24
FULL = 5_000
BUG = Bug(
    "records are called durable before fdatasync",
    "sync.c",
    "rc = sl_os.sync_data(segment->fd);",
    "rc = 0;",
)
TRIALS_PER_IMAGE = 50


def missing() -> str | None:
    """ext4 is enough; XFS joins in where it can be made."""
    return disk.missing("ext4")


def run(bench: Bench) -> None:
    """A fresh file system now and then, many power losses on each."""
    kinds = ["ext4"] + ([] if disk.missing("xfs") else ["xfs"])
    if len(kinds) == 1:
        bench.notes["XFS left out: " + str(disk.missing("xfs"))] = 1
    per_image = min(TRIALS_PER_IMAGE, max(1, bench.trials_wanted // len(kinds)))
    while bench.trials < bench.trials_wanted and not bench.broken:
        kind = kinds[bench.trials // per_image % len(kinds)]
        image = bench.place / "image"
        disk.make_image(image, kind, 64 << 20)
        facts = bench.place / "facts"
        facts.unlink(missing_ok=True)
        with disk.loop(image) as device:
            for _ in range(per_image):
                if not lose_power(bench, device, kind, facts):
                    break


def lose_power(bench: Bench, device: str, kind: str, facts) -> bool:
    """One victim, one shutdown, one check.  False: begin anew."""
    point = bench.place / "mount"
    seed = bench.random.getrandbits(48)
    sync = bench.random.choice(["none", "interval", "always"])
    segment = bench.random.choice([16, 64, 256]) << 10
    arguments = ["--seed", seed, "--sync", sync, "--segment", segment, "--truncate"]
    bench.trials += 1
    what = f"trial {bench.trials} ({kind}, victim {seed}, {sync}, {segment})"
    with disk.mounted(device, point):
        victim = bench.victim(point / "log", *arguments, facts=facts)
        time.sleep(0.002 + bench.random.random() * bench.random.choice([0.02, 0.1]))
        dying = time.monotonic_ns()
        disk.shutdown(point)
        bench.fired += 1
        time.sleep(0.005)
        victim.kill()
        status = victim.wait()
        if status == -signal.SIGBUS:
            bench.notes[f"victims that died of SIGBUS on the dead file system ({kind})"] += 1
        elif status not in {-9, 0, 1}:
            bench.fail(f"{what}: the victim ended with {status} on the dead file system")
    with disk.mounted(device, point):
        log = point / "log"
        if not log.exists():
            if " durable" in facts.read_text():
                bench.fail(f"{what}: the directory is gone, yet records were durable")
            facts.unlink(missing_ok=True)
            return True
        arguments = ["--power", "--dying", dying, "--continue", "--rewrite", facts]
        sound = bench.check(log, facts, *arguments, what=what)
        if sound and bench.random.random() < 0.1:
            shutil.rmtree(log)
            facts.unlink()
        return sound
