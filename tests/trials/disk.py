"""File systems that a trial may break: images, loop devices, mounts, and devices that lie.

Everything made here is undone by leaving a ``with``: unmounted, detached, its daemons ended by
their ids, whatever happened in between.

    Image      a file with a file system in it, mounted through a loop device
    shutdown   the file system stops at once: nothing that waits in memory reaches the disk any more
    Device     an image behind nbdkit and FUSE, which can record each write or answer EIO
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number: _IOR('X', 125, __u32).
GOING_DOWN = 0x8004587D
NO_LOG_FLUSH = 2

MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
BYTES_MIN = {"ext4": 4 << 20, "xfs": 300 << 20}


class DiskError(Exception):
    """A file system could not be made or mounted: no verdict about the log."""


def command(*words: object) -> str:
    """Run a tool and return its output; DiskError when it fails."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"{' '.join(map(str, words))}: {done.stderr.strip()}"
        raise DiskError(message)
    return done.stdout.strip()


def missing(kind: str = "ext4") -> str | None:
    """Why no such file system can be mounted here, or None."""
    if os.geteuid() != 0:
        return "mounting needs root"
    for tool in (MAKE[kind][0], "losetup", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return None


def device_missing() -> str | None:
    """Why no Device can be made here, or None."""
    why = missing()
    for tool in ("nbdkit", "nbdfuse", "fusermount3"):
        if why is None and shutil.which(tool) is None:
            # fusermount3 belongs to fuse3, which nbdfuse needs too.
            why = f"{tool} is not installed"
    if why is None and not Path("/dev/fuse").exists():
        why = "there is no /dev/fuse"
    if why is None:
        probe = ["nbdkit", "--dump-plugin", "python"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            why = "nbdkit has no Python plugin here"
    return why


def make_image(path: Path, kind: str, size: int) -> None:
    """A file of ``size`` bytes with an empty file system."""
    with path.open("wb") as image:
        image.truncate(max(size, BYTES_MIN[kind]))
    command(*MAKE[kind], path)


@contextlib.contextmanager
def loop(path: Path, *options: str) -> Iterator[str]:
    """The name of a loop device over ``path``."""
    name = command("losetup", "--find", "--show", *options, path)
    try:
        yield name
    finally:
        retry("losetup", "--detach", name)


@contextlib.contextmanager
def mounted(device: object, point: Path, *options: str) -> Iterator[Path]:
    """``device`` mounted at ``point``."""
    point.mkdir(exist_ok=True)
    command("mount", *options, device, point)
    try:
        yield point
    finally:
        retry("umount", point)


@contextlib.contextmanager
def mounted_image(path: Path, point: Path) -> Iterator[Path]:
    """An image mounted through a loop device of its own."""
    with loop(path) as device, mounted(device, point) as place:
        yield place


def retry(*words: object) -> None:
    """Undo something that may be busy for a moment."""
    for attempt in range(50):
        try:
            command(*words)
        except DiskError:
            if attempt == 49:
                raise
            time.sleep(0.02)
        else:
            return


def shutdown(point: Path) -> int:
    """Stop the file system at ``point`` as a power loss would; return the moment before, in ns."""
    fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1.0)  # no other thread between the two
        dying_ns = time.monotonic_ns()
        fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        sys.setswitchinterval(interval)
        os.close(fd)
    return dying_ns


@contextlib.contextmanager
def device(place: Path, *server: object) -> Iterator[Path]:
    """A file whose reads and writes nbdkit answers; ``server``: its plugin and filters."""
    socket = place / "nbd.socket"
    point = place / "fuse"
    point.mkdir(exist_ok=True)
    target = point / "disk"
    target_name = str(point / "disk")
    socket.unlink(missing_ok=True)
    target_dir = place / "fuse"
    words = ["nbdkit", "--foreground", "--unix", socket, *server]
    daemon = subprocess.Popen([str(w) for w in words], stderr=(place / "nbdkit.err").open("wb"))
    fuse = None
    try:
        wait_for(socket, daemon, place)
        words = ["nbdfuse", target_name, "--unix", socket]
        fuse = subprocess.Popen([str(w) for w in words])
        wait_for(target, fuse, place)
        yield target
    finally:
        if fuse is not None:
            with contextlib.suppress(DiskError):
                retry("fusermount3", "-u", target_dir)
            fuse.terminate()
            fuse.wait(20)
        daemon.terminate()
        daemon.wait(20)


def wait_for(path: Path, process: subprocess.Popen, place: Path) -> None:
    """Until ``path`` is there, or its maker is gone."""
    for _ in range(500):
        if path.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    message = (
        f"{process.args[0]}: {path.name} never came: {(place / 'nbdkit.err').read_text()[-300:]}"
    )
    raise DiskError(message)
