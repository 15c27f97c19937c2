"""Peers that are not Python: Chronicle Queue on the JVM; raft-wal, tidwall/wal and bbolt in Go.

A Python loop around a native log would measure the loop, so each of them is driven by a program in
its own language. The programs live in the source checkout, in bench/drivers, and are built once
into a cache:

    bench/drivers/go          go build      ->  <cache>/go-<digest>/peers
    bench/drivers/chronicle   mvn, javac    ->  <cache>/chronicle-<digest>/{lib/*.jar,classes}

``<cache>`` is $STRATALOG_PEERS or ~/.cache/stratalog/peers; ``<digest>`` is over the driver's
files, so a changed driver is built anew and an unchanged one never twice. A wheel does not carry
the drivers: there the subjects say so.

The driver gets the same bytes as everybody (payload.py, as a file), the same counts as flags, and
prints one line of JSON for each measured round. Only a JVM needs to be warm before it is measured;
WARMUP_SECONDS says for how long.

The durability classes, and how each was confirmed. Small runs under ``strace -f``, counting
fdatasync, fsync and msync over the whole life of the driver, for groups of 64 records and for
single ones, without warm-up:

    peer              50 -> 150 groups             process class      so, for each group
    Chronicle Queue   msync 54 -> 154              2                  1 msync(MS_SYNC)
    raft-wal          fsync 53 -> 153              cannot be          1 fsync
                      fdatasync 5 -> 5
    tidwall/wal       fsync 51 -> 151              1                  1 fsync
    bbolt             fdatasync 103 -> 303         1                  2 fdatasync: data, meta page
                      fsync 2, up to 7 growing     2

The msync of Chronicle Queue covers the pages written since the last one, not the pages of its
header and its index before them; what a restart after power loss makes of that is not shown here.

What it leaves to others: Python peers (peers_python.py), repetition and comparison (runner.py,
report.py).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stratalog.benchmark.child import measurement_from, run_bounded
from stratalog.benchmark.model import Durability, Measurement, SubjectFailedError, Workload
from stratalog.benchmark.payload import Payload

__all__ = [
    "DriverMissingError", "ForeignPeer", "build_step", "built", "cache_directory",
    "drivers_directory", "need_tools", "subjects",
]  # fmt: skip

WARMUP_SECONDS = 3.0
"""How long the JVM runs the same loop before the measured round, unless the caller says."""

BUILD_SECONDS_MAX = 600.0

# What Chronicle Queue needs opened in a JDK of version 17 or later; its own start scripts carry the
# same list.
JVM_EXPORTS = ("jdk.internal.ref", "jdk.internal.misc", "sun.nio.ch")
JVM_OPENS = (
    "java.io",
    "java.lang",
    "java.lang.reflect",
    "java.nio",
    "java.util",
    "jdk.internal.ref",
    "sun.nio.ch",
)
JVM_PROPERTIES = ("chronicle.analytics.disable=true", "chronicle.disk.monitor.disable=true")


def drivers_directory() -> Path | None:
    """Return bench/drivers of the source checkout this package runs from, or None in a wheel."""
    drivers = Path(__file__).resolve().parents[3] / "bench" / "drivers"
    return drivers if (drivers / "go" / "go.mod").is_file() else None


def cache_directory() -> Path:
    """Return where built drivers and downloaded libraries are kept."""
    chosen = os.environ.get("STRATALOG_PEERS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "stratalog" / "peers"


class DriverMissingError(Exception):
    """A driver cannot be had here; the message is the reason that the tables print."""


def _source(name: str) -> Path:
    drivers = drivers_directory()
    if drivers is None:
        raise DriverMissingError("drivers are in the source checkout")
    return drivers / name


def need_tools(*names: str) -> None:
    """Ask for programs on PATH.

    Raises:
        DriverMissingError: one is not there.
    """
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise DriverMissingError(f"not installed: {', '.join(missing)}")


def build_step(command: Sequence[str], cwd: Path) -> None:
    """Run one command of a build.

    Raises:
        DriverMissingError: it failed, with its reason, or did not end in time.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DriverMissingError(
            f"{command[0]} was not done after {BUILD_SECONDS_MAX:.0f} s"
        ) from error
    if done.returncode != 0:
        words = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in words if "ERROR" in line or "error" in line]
        reason = (errors or words or ["no reason given"])[0]
        raise DriverMissingError(f"{command[0]} failed: {reason[:160]}")


def built(name: str, build: Callable[[Path, Path], None]) -> Path:
    """Return the cached build of a driver, building it first if its files have changed.

    It is built beside its place and moved there when complete, so that an interrupted build leaves
    nothing half done.

    Raises:
        DriverMissingError: it cannot be built here.
    """
    source = _source(name)
    digest = hashlib.sha256()
    for file in sorted(path for path in source.iterdir() if path.is_file()):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    place = cache_directory() / f"{name}-{digest.hexdigest()[:16]}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=place.parent) as work:
        unfinished = Path(work) / "build"
        unfinished.mkdir()
        build(source, unfinished)
        try:
            unfinished.rename(place)
        except OSError:
            # Somebody else finished the same build first; theirs is as good.
            if not place.is_dir():
                raise
    return place


def _build_go(source: Path, target: Path) -> None:
    need_tools("go")
    build_step(
        ["go", "build", "-trimpath", "-buildvcs=false", "-o", str(target / "peers"), "."], source
    )


def _build_chronicle(source: Path, target: Path) -> None:
    need_tools("java", "javac", "mvn")
    pom = source / "pom.xml"
    copy = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(pom),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
    ]
    build_step([*copy, f"-DoutputDirectory={target / 'lib'}"], source)
    java = str(source / "ChronicleDriver.java")
    build_step(
        ["javac", "-cp", str(target / "lib" / "*"), "-d", str(target / "classes"), java], source
    )


@functools.lru_cache(maxsize=1)
def _go_command() -> tuple[str, ...]:
    return (str(built("go", _build_go) / "peers"),)


@functools.lru_cache(maxsize=1)
def _chronicle_command() -> tuple[str, ...]:
    place = built("chronicle", _build_chronicle)
    need_tools("java")
    return (
        "java",
        *(f"--add-exports=java.base/{package}=ALL-UNNAMED" for package in JVM_EXPORTS),
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in JVM_OPENS),
        *(f"-D{property_}" for property_ in JVM_PROPERTIES),
        "-cp",
        os.pathsep.join([str(place / "classes"), str(place / "lib" / "*")]),
        "ChronicleDriver",
    )


def _go_version(module: str) -> str:
    text = (_source("go") / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"^\s*{re.escape(module)}\s+v(\S+)", text, re.MULTILINE)
    return found[1] if found else "unknown"


def _chronicle_version() -> str:
    text = (_source("chronicle") / "pom.xml").read_text(encoding="utf-8")
    found = re.search(
        r"<artifactId>chronicle-queue</artifactId>\s*<version>([^<]+)</version>", text
    )
    return found[1] if found else "unknown"


@dataclass(frozen=True)
class ForeignPeer:
    """One row: a library behind a driver, and where it may stand in the tables."""

    name: str
    language: str
    command: Callable[[], tuple[str, ...]]
    read_version: Callable[[], str]
    settings: str
    sync_evidence: str
    driver_subject: str | None = None
    durabilities: frozenset[Durability] = frozenset(Durability)
    reads_durability: Durability = Durability.PROCESS
    """The class its store is filled in before a read; reading is the same in all classes."""
    warmup_seconds: float | None = None
    """How long the driver warms up, or None where nothing has to be warm."""

    def version(self) -> str:
        """Return the version that the driver is built with."""
        return self.read_version()

    def available(self) -> str | None:
        """Return None if the driver is built, building it if need be, else the reason why not."""
        try:
            self.command()
        except DriverMissingError as reason:
            return str(reason)
        return None

    def supports(self, workload: Workload) -> bool:
        """Return whether the library has this durability class."""
        return workload.is_read or workload.durability in self.durabilities

    def run(self, workload: Workload, directory: Path) -> Measurement:
        """Give the driver its files and flags, and take one measured round from it."""
        try:
            command = list(self.command())
        except DriverMissingError as reason:
            raise SubjectFailedError(f"{self.name}: {reason}") from reason
        payload = Payload(workload)
        data = directory / "data"
        data.mkdir()
        pool = directory / "payload"
        payload.write_pool(pool)
        durability = self.reads_durability if workload.is_read else workload.durability
        options: dict[str, object] = {
            "dir": data,
            "payload": pool,
            "record-bytes": workload.record_bytes,
            "records": workload.records,
            "batch-records": workload.batch_records,
            "durability": durability,
            "operation": workload.operation,
            "rounds": 1,
        }
        if payload.lookups:
            options["lookups"] = directory / "lookups"
            payload.write_lookups(directory / "lookups")
        if self.driver_subject is not None:
            options["subject"] = self.driver_subject
        if self.warmup_seconds is not None:
            options["warmup-seconds"] = self.warmup_seconds
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        return measurement_from(run_bounded(command, what=self.name), self.name, workload)


def _go_peer(name: str, subject: str, module: str, settings: str, evidence: str) -> ForeignPeer:
    needs_sync = subject == "raft-wal"
    return ForeignPeer(
        name=name,
        language="go",
        command=_go_command,
        read_version=functools.partial(_go_version, module),
        settings=settings,
        sync_evidence=evidence,
        driver_subject=subject,
        durabilities=frozenset({Durability.GROUP, Durability.RECORD})
        if needs_sync
        else frozenset(Durability),
        reads_durability=Durability.GROUP if needs_sync else Durability.PROCESS,
    )


def subjects(*, warmup_seconds: float = WARMUP_SECONDS) -> list[ForeignPeer]:
    """Return every foreign peer, whether it can run here or not."""
    return [
        ForeignPeer(
            name="Chronicle Queue",
            language="java",
            command=_chronicle_command,
            read_version=_chronicle_version,
            settings=(
                "default roll cycle and blocks, SyncMode.NONE (process) or SYNC with sync() per "
                f"batch, no checksum, {warmup_seconds:g} s of warm-up"
            ),
            sync_evidence=(
                "strace: 1 msync(MS_SYNC) of the pages just written per sync(); "
                "none per append in the process class"
            ),
            warmup_seconds=warmup_seconds,
        ),
        _go_peer(
            "raft-wal",
            "raft-wal",
            "github.com/hashicorp/raft-wal",
            "defaults: segments of 64 MiB, CRC-32C of each commit, always synced",
            "strace: 1 fsync per StoreLogs",
        ),
        _go_peer(
            "tidwall/wal",
            "tidwall",
            "github.com/tidwall/wal",
            "segments of 20 MB, all cached, NoSync (process), NoCopy, no checksum",
            "strace: 1 fsync per Write or WriteBatch; none with NoSync",
        ),
        _go_peer(
            "bbolt",
            "bbolt",
            "go.etcd.io/bbolt",
            (
                "8-byte keys, one transaction per batch, FillPercent 1.0, NoSync (process), "
                "no checksum of data"
            ),
            "strace: 2 fdatasync per transaction; none with NoSync",
        ),
    ]
