"""One measurement in one fresh Python process.

    parent                                         child
    measure_in_child("module:body", ...)   ---->   python -m stratalog.benchmark.child
        workload, directory as JSON on stdin           Payload made, body called
        Measurement                        <----   one line of JSON on stdout

A process that has just run another subject has its allocator, its garbage and its caches; the page
cache of the other one may still be dirty. So every single round gets a process of its own, and only
that process is measured.

A *body* is a function ``(workload, directory, payload) -> Outcome``. It opens its store, puts a
Stopwatch around the workload alone, checks what was stored, and returns. Wall time comes from the
monotonic clock, processor time from getrusage, user plus system of all threads: background threads
of a store work for the store and are counted.

What it leaves to others: what is measured (the bodies in peers_python.py and ours.py) and what the
figures mean. A body that raises ends the child with the reason on stderr, which comes back as
SubjectFailedError.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stratalog.benchmark import machine
from stratalog.benchmark.model import Extra, Measurement, SubjectFailedError, Workload
from stratalog.benchmark.payload import Payload

__all__ = ["Body", "Outcome", "Stopwatch", "measure_in_child"]

CHILD_SECONDS_MAX = 900.0
"""A round that takes longer is taken for hung: its process is ended and the round has failed."""


class Stopwatch:
    """Wall and processor time of a ``with`` block."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._start_ns = 0
        self._cpu_start = 0.0

    def __enter__(self) -> Self:
        machine.settle()
        self._cpu_start = _cpu_seconds()
        self._start_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = (time.perf_counter_ns() - self._start_ns) / 1e9
        self.cpu_seconds = _cpu_seconds() - self._cpu_start


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a body hands back: times, what was done, the checksum of what was read."""

    watch: Stopwatch
    records: int
    bytes: int
    payload_crc32: int
    extra: Mapping[str, Extra] = field(default_factory=dict)


Body = Callable[[Workload, Path, Payload], Outcome]


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_bounded(
    command: list[str], *, stdin: str = "", env: Mapping[str, str] | None = None, what: str
) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        SubjectFailedError: it failed, with its last words, or did not end in time.
    """
    machine.settle()
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS_MAX,
            env=None if env is None else dict(env),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SubjectFailedError(f"{what}: not finished after {CHILD_SECONDS_MAX:.0f} s") from error
    except OSError as error:
        raise SubjectFailedError(f"{what}: cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        raise SubjectFailedError(
            f"{what}: {words[-1].strip() if words else f'exit status {done.returncode}'}"
        )
    return done.stdout


def measure_in_child(body: str, subject: str, workload: Workload, directory: Path) -> Measurement:
    """Run ``body`` ("package.module:function") in a fresh process and return what it measured."""
    # The child must import the same package as its parent, wherever that came from.
    root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    path = root if not inherited else os.pathsep.join([root, inherited])
    request = json.dumps(
        {"body": body, "workload": workload.to_json(), "directory": str(directory)}
    )
    output = run_bounded(
        [sys.executable, "-m", "stratalog.benchmark.child"],
        stdin=request,
        env={**os.environ, "PYTHONPATH": path},
        what=subject,
    )
    return measurement_from(output, subject, workload)


def measurement_from(output: str, subject: str, workload: Workload) -> Measurement:
    """Take the last line of JSON out of a child's output; libraries may have printed before it."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            value: dict[str, Any] = json.loads(line)
            return Measurement(
                subject=subject,
                workload=workload,
                seconds=float(value["seconds"]),
                records=int(value["records"]),
                bytes=int(value["bytes"]),
                cpu_seconds=float(value["cpu_seconds"]),
                extra={**value.get("extra", {}), "payload_crc32": int(value["payload_crc32"])},
            )
    raise SubjectFailedError(f"{subject}: the child process printed no result")


def _main() -> None:
    request = json.loads(sys.stdin.read())
    workload = Workload.from_json(request["workload"])
    module, _, function = request["body"].partition(":")
    body: Body = getattr(importlib.import_module(module), function)
    outcome = body(workload, Path(request["directory"]), Payload(workload))
    print(
        json.dumps(
            {
                "seconds": outcome.watch.seconds,
                "cpu_seconds": outcome.watch.cpu_seconds,
                "records": outcome.records,
                "bytes": outcome.bytes,
                "payload_crc32": outcome.payload_crc32,
                "extra": dict(outcome.extra),
            }
        )
    )


if __name__ == "__main__":
    _main()
