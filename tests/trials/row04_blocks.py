"""Row 4: power loss, by replaying the block device: lost, reordered and torn writes.

A victim works on an ext4 whose device records every write and flush (recorder.py behind nbdkit,
FUSE and a loop device).  A crash state is made from the record: all writes before some flush, then
of the writes between that flush and the crash a random part, and of those some only in part, in
sectors of 512 bytes.  That is what a disk with a volatile cache may leave.  The state is mounted,
which replays the file system's journal, and checked against the facts told before the crash.

A state that does not mount says nothing about the log: it is counted, and must stay below 1 %.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import disk
from .bench import Bench
from .build import Bug
from .recorder import HEAD

NUMBER = 4
TITLE = "power loss, block by block"
QUICK = 60
FULL = 20_000
BUG = Bug(
    "records are called durable before fdatasync",
    "sync.c",
    "rc = sl_os.sync_data(segment->fd);",
    "rc = 0;",
)
IMAGE_BYTES = 16 << 20
SECTOR = 512


@dataclass(frozen=True)
class Event:
    """One request of the device."""

    ns: int
    flush: bool
    position: int
    data: bytes


def missing() -> str | None:
    """Everything that a recording device needs."""
    return disk.device_missing()


def run(bench: Bench) -> None:
    """Workloads, most of few operations, and crash states of each."""
    states = 15 if bench.quick else 300
    unmountable = 0
    while bench.trials < bench.trials_wanted and not bench.broken:
        operations = bench.random.choice([3, 6, 12, 25, 200])
        base, events, facts, what = record(bench, operations)
        for _ in range(states):
            if bench.trials == bench.trials_wanted or bench.broken:
                break
            unmountable += not crash(bench, base, events, facts, what)
    bench.notes["states that did not mount"] += unmountable
    if unmountable * 100 > bench.trials + 99:
        bench.fail(f"{unmountable} of {bench.trials} states did not mount: nothing is shown")


def record(bench: Bench, operations: int) -> tuple[bytes, list[Event], Path, str]:
    """Run one victim on a recording device."""
    image = bench.place / "image"
    recorded = bench.place / "record"
    facts = bench.place / "facts"
    for path in (recorded, facts):
        path.unlink(missing_ok=True)
    disk.make_image(image, "ext4", IMAGE_BYTES)
    base = image.read_bytes()
    seed = bench.random.getrandbits(48)
    sync = bench.random.choice(["none", "interval", "always", "always"])
    segment = bench.random.choice([16, 64, 256]) << 10
    plugin = Path(__file__).with_name("recorder.py")
    server = ["python", plugin, f"image={image}", f"record={recorded}"]
    what = f"victim {seed}, {operations} operations, {sync}, {segment}"
    with (
        disk.device(bench.place, *server) as target,
        disk.loop(target) as name,
        disk.mounted(name, bench.place / "mount") as point,
    ):
        victim = bench.victim(
            point / "log", "--seed", seed, "--sync", sync, "--segment", segment, "--truncate",
            "--operations", operations, facts=facts,
        )  # fmt: skip
        try:
            status = victim.wait(120)
        except subprocess.TimeoutExpired:
            victim.kill()
            status = victim.wait()
        if status != 0:
            bench.fail(f"{what}: the victim ended with {status}")
    return base, read_record(recorded), facts, what


def read_record(path: Path) -> list[Event]:
    """The events of a record."""
    data = path.read_bytes()
    events = []
    at = 0
    while at < len(data):
        ns, kind, position, length = HEAD.unpack_from(data, at)
        at += HEAD.size
        events.append(Event(ns, kind == b"F", position, data[at : at + length]))
        at += length
    return events


def crash_state(
    base: bytes, events: list[Event], draw: random.Random
) -> tuple[bytearray, int, int]:
    """An image after a crash, the time of the crash, and how many writes were lost or torn."""
    cut = draw.randrange(len(events) + 1)
    flushes = [i for i in range(cut) if events[i].flush]
    barrier = flushes[-1] if flushes else 0
    image = bytearray(base)
    kept = draw.choice([0.0, 0.3, 0.7, 0.95])
    spoilt = 0
    for i, event in enumerate(events[:cut]):
        if event.flush:
            continue
        end = event.position + len(event.data)
        if i < barrier:
            image[event.position : end] = event.data
        elif draw.random() >= kept:
            spoilt += 1
        elif draw.random() < 0.25:
            spoilt += 1
            for sector in range(0, len(event.data), SECTOR):
                if draw.random() < 0.5:
                    at = event.position + sector
                    image[at : at + SECTOR] = event.data[sector : sector + SECTOR]
        else:
            image[event.position : end] = event.data
    return image, events[cut].ns if cut < len(events) else 1 << 62, spoilt


def crash(bench: Bench, base: bytes, events: list[Event], facts: Path, what: str) -> bool:
    """Make one state and check it.  False: it does not mount."""
    seed = bench.random.getrandbits(48)
    image, ns, spoilt = crash_state(base, events, random.Random(seed))
    bench.trials += 1
    bench.fired += spoilt > 0
    path = bench.place / "state"
    path.write_bytes(image)
    point = bench.place / "mount"
    try:
        with disk.mounted_image(path, point):
            log = point / "log"
            told = [f.split(" ", 2) for f in facts.read_text().splitlines()]
            durable = any(int(f[0]) <= ns and f[1] == "durable" and f[2] != "0" for f in told)
            if log.exists():
                what = f"{what}, state {seed}"
                bench.check(log, facts, "--power", "--continue", "--until", ns, what=what)
            elif durable:
                bench.fail(f"{what}, state {seed}: the directory is gone, yet records were durable")
    except disk.DiskError as error:
        bench.notes[f"first: {str(error)[-120:]}"] += 1
        return False
    return True
