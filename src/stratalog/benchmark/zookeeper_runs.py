"""What is asked of a ZooKeeper server, part by part; each on a fresh server with fresh files.

    part          what                                                     figures
    start         start to the first answer                                seconds, resident
    pipelined     4 connections, 200 requests each under way: get, set,    rate, server CPU,
                  create, 9 gets for 1 set                                 latencies
    synchronous   8 connections, one request each: get, create, set;       the same
                  64 connections: create
    tree          a million znodes made; restart on them; others while     resident, seconds,
                  a snapshot is written                                    p99 before and during
    watches       100,000 set over 100 connections, fired by 1,000 sets    seconds
    sessions      10,000 idle                                              resident

Figures are named ``key.figure``, such as ``get_pipelined.per_second``, and are one float a round.

A snapshot comes by itself, after 50,000 to 100,000 transactions with both servers' defaults. So the
tree is left until none is written, a probe of 8 synchronous connections (9 gets for 1 set) runs
undisturbed for a while, then a second client writes until a snapshot file is open, and ends; what
the probe sees from there until the file is closed is *during*. What it sees while the second client
writes counts for neither.

What it leaves to others: the bytes (native/bench/zkload*.c), rounds and order (zookeeper.py).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

from stratalog.benchmark import programs
from stratalog.benchmark.child import run_bounded
from stratalog.benchmark.model import SubjectFailedError
from stratalog.benchmark.zookeeper_servers import (
    LOAD_PROGRAM,
    Server,
    resident_bytes,
    snapshot_is_open,
)

__all__ = [
    "FULL", "LOADS", "PARTS", "PIPELINED", "QUICK", "SYNCHRONOUS", "Load", "Sizes", "run_load",
    "run_sync",
]  # fmt: skip

Figures = dict[str, float]

PROBE_CONNECTIONS: Final = 8
QUIET_SECONDS: Final = 0.5
SNAPSHOT_SECONDS_MAX: Final = 300.0
POLL_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; times in ms.

    Attributes:
        warmup_ms: Of each load, before it is measured: a JVM compiles meanwhile.
        measure_ms: Of each load.
        count: Requests of each load instead of a time; 0: by time.
        keys: Znodes that get, set and mix choose from.
        value_bytes: Of every znode.
        znodes: Of the tree.
        idle_ms: How long the probe runs undisturbed.
        trigger_sets: How many sets bring a snapshot at the latest; 0: no snapshot is asked for.
        watches: How many are set and fired.
        watch_connections: Over how many connections.
        sessions: How many are held idle.
    """

    warmup_ms: int
    measure_ms: int
    count: int
    keys: int
    value_bytes: int
    znodes: int
    idle_ms: int
    trigger_sets: int
    watches: int
    watch_connections: int
    sessions: int


FULL: Final = Sizes(5_000, 8_000, 0, 10_000, 100, 1_000_000, 8_000, 200_000, 100_000, 100, 10_000)
QUICK: Final = Sizes(1_000, 1_500, 0, 10_000, 100, 100_000, 2_000, 200_000, 10_000, 20, 1_000)


@dataclass(frozen=True, slots=True)
class Load:
    """One load: what is asked, by how many connections, how much of it at once."""

    key: str
    title: str
    op: str
    connections: int
    window: int


PIPELINED: Final = tuple(
    Load(f"{op}_pipelined", f"{title}, 4 connections x 200", op, 4, 200)
    for op, title in (
        ("get", "getData"), ("set", "setData"), ("create", "create"), ("mix", "90/10 mix"),
    )
)  # fmt: skip
SYNCHRONOUS: Final = (
    Load("get_8", "getData, 8 synchronous", "get", 8, 1),
    Load("create_8", "create, 8 synchronous", "create", 8, 1),
    Load("set_8", "setData, 8 synchronous", "set", 8, 1),
    Load("create_64", "create, 64 synchronous", "create", 64, 1),
)
LOADS: Final = PIPELINED + SYNCHRONOUS


# ---- the native program --------------------------------------------------------------------------


def _arguments(command: str, options: Mapping[str, object]) -> list[str]:
    named = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    return [str(programs.locate(LOAD_PROGRAM)), command, *named]


def _call(command: str, options: Mapping[str, object]) -> dict[str, Any]:
    said = run_bounded(_arguments(command, options), what=f"{LOAD_PROGRAM} {command}")
    value: dict[str, Any] = json.loads(said)
    return value


def run_load(server: Server, load: Load, sizes: Sizes, name: str, seed: int) -> Figures:
    """Put one load on a server.

    Raises:
        SubjectFailedError: an answer was wrong or an error, or a connection was closed.
    """
    options: dict[str, object] = {
        "port": server.port, "pid": server.pid, "op": load.op, "name": name, "seed": seed,
        "connections": load.connections, "window": load.window, "keys": sizes.keys,
        "value-bytes": sizes.value_bytes,
    }  # fmt: skip
    if sizes.count:
        options |= {"count": sizes.count}
    else:
        options |= {"warmup-ms": sizes.warmup_ms, "measure-ms": sizes.measure_ms}
    seen = _call("run", options)
    requests = int(seen["requests"])
    if requests < 1 or (sizes.count and requests != sizes.count):
        raise SubjectFailedError(f"{load.title}: {requests} requests were answered")
    latency = seen["latency"]
    return {
        f"{load.key}.requests": float(requests),
        f"{load.key}.per_second": requests / float(seen["seconds"]),
        f"{load.key}.cpu_us": float(seen["server_cpu_seconds"]) * 1e6 / requests,
        f"{load.key}.load_cpu_us": float(seen["load_cpu_seconds"]) * 1e6 / requests,
        **{
            f"{load.key}.{name}": float(latency[name])
            for name in ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
        },
    }


def run_sync(directory: str, sizes: Sizes, value_bytes: int) -> Figures:
    """Measure write and fdatasync, one after the other, on the disk of ``directory``."""
    options: dict[str, object] = {"dir": directory, "value-bytes": value_bytes}
    how = {"count": sizes.count} if sizes.count else {"measure-ms": sizes.measure_ms}
    seen = _call("sync", options | how)
    key = f"sync_{value_bytes}"
    return {
        f"{key}.per_second": int(seen["requests"]) / float(seen["seconds"]),
        f"{key}.p50_us": float(seen["latency"]["p50_us"]),
        f"{key}.p99_us": float(seen["latency"]["p99_us"]),
    }


# ---- parts ---------------------------------------------------------------------------------------


def start(server: Server, sizes: Sizes, seed: int) -> Figures:
    """Start to the first answer, and what is resident then."""
    del sizes, seed
    seconds = server.start()
    return {"start.seconds": seconds, "start.resident_bytes": float(resident_bytes(server.pid))}


def _loads(loads: tuple[Load, ...]) -> Callable[[Server, Sizes, int], Figures]:
    def part(server: Server, sizes: Sizes, seed: int) -> Figures:
        server.start()
        figures: Figures = {}
        for load in loads:
            figures |= run_load(server, load, sizes, load.key, seed)
        return figures

    return part


def tree(server: Server, sizes: Sizes, seed: int) -> Figures:
    """Many znodes: resident, restarted on, snapshotted."""
    server.start()
    filled = _call(
        "run",
        {
            "port": server.port, "op": "create", "name": "fill", "connections": 4, "window": 200,
            "value-bytes": sizes.value_bytes, "count": sizes.znodes,
        },
    )  # fmt: skip
    _wait_for_quiet(server)
    figures: Figures = {
        "tree.znodes": float(filled["requests"]),
        "tree.fill_per_second": int(filled["requests"]) / float(filled["seconds"]),
        "tree.resident_bytes": float(resident_bytes(server.pid)),
    }
    server.stop()
    figures["tree.restart_seconds"] = server.start()
    _wait_for_quiet(server)
    figures["tree.restarted_resident_bytes"] = float(resident_bytes(server.pid))
    if sizes.trigger_sets:
        figures |= _during_snapshot(server, sizes, seed)
    return figures


def _wait_for_quiet(server: Server) -> None:
    """Wait until no snapshot is being written, and none was for a moment."""
    end = time.monotonic() + SNAPSHOT_SECONDS_MAX
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        if time.monotonic() > end:
            raise SubjectFailedError(f"a snapshot took more than {SNAPSHOT_SECONDS_MAX:.0f} s")
        if snapshot_is_open(server.pid):
            quiet_since = time.monotonic()
        time.sleep(POLL_SECONDS)


class _Probe:
    """A steady load, whose latencies are kept under the mark that was said last."""

    def __init__(self, server: Server, sizes: Sizes, seed: int) -> None:
        options = {
            "port": server.port, "op": "mix", "connections": PROBE_CONNECTIONS, "window": 1,
            "keys": sizes.keys, "value-bytes": sizes.value_bytes, "steer": 1, "seed": seed,
            "warmup-ms": sizes.warmup_ms,
        }  # fmt: skip
        self._process = subprocess.Popen(
            _arguments("run", options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _pipe(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise RuntimeError("the probe has no standard input")
        return self._process.stdin

    def say(self, word: bytes) -> None:
        """Change the mark, or end it."""
        try:
            self._pipe().write(word)
            self._pipe().flush()
        except BrokenPipeError:
            self.result()  # says why it ended
            raise

    def wait_until_measuring(self) -> None:
        """Return once warm-up is over."""
        if self._process.stdout is None or not self._process.stdout.readline():
            self.result()

    def result(self) -> dict[str, Any]:
        """Wait for its end; return what it saw."""
        said, complaint = self._process.communicate(timeout=SNAPSHOT_SECONDS_MAX)
        if self._process.returncode != 0:
            words = complaint.decode(errors="replace").strip()
            raise SubjectFailedError(f"the probe failed: {words[-300:]}")
        value: dict[str, Any] = json.loads(said)
        return value

    def end(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


UNDISTURBED, DURING, NEITHER = "mark_0", "mark_1", "mark_2"


def _during_snapshot(server: Server, sizes: Sizes, seed: int) -> Figures:
    probe = _Probe(server, sizes, seed)
    try:
        probe.wait_until_measuring()
        end = time.monotonic() + sizes.idle_ms / 1000
        while time.monotonic() < end and not snapshot_is_open(server.pid):
            time.sleep(POLL_SECONDS)
        probe.say(b"2")
        _provoke_snapshot(server, sizes)
        probe.say(b"1")
        begun = time.monotonic()
        while snapshot_is_open(server.pid):
            if time.monotonic() - begun > SNAPSHOT_SECONDS_MAX:
                raise SubjectFailedError(f"a snapshot took more than {SNAPSHOT_SECONDS_MAX:.0f} s")
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - begun
        probe.say(b"2")
        probe.say(b"q")
        seen = probe.result()
    finally:
        probe.end()
    idle, during = seen[UNDISTURBED], seen[DURING]
    if not idle["requests"] or not during["requests"]:
        raise SubjectFailedError("the snapshot was over before the probe saw any of it")
    return {
        "snapshot.seconds": seconds,
        "snapshot.requests": float(during["requests"]),
        "snapshot.idle_p99_us": float(idle["p99_us"]),
        "snapshot.during_p99_us": float(during["p99_us"]),
        "snapshot.idle_max_us": float(idle["max_us"]),
        "snapshot.during_max_us": float(during["max_us"]),
        "snapshot.p99_ratio": float(during["p99_us"]) / float(idle["p99_us"]),
    }


def _provoke_snapshot(server: Server, sizes: Sizes) -> None:
    """Write until a snapshot is open, then stop writing."""
    options = {
        "port": server.port, "op": "set", "connections": 1, "window": 200, "keys": sizes.keys,
        "value-bytes": sizes.value_bytes, "count": sizes.trigger_sets,
    }  # fmt: skip
    writer = subprocess.Popen(
        _arguments("run", options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while not snapshot_is_open(server.pid):
            if writer.poll() is not None:
                raise SubjectFailedError(f"no snapshot after {sizes.trigger_sets} sets")
            time.sleep(POLL_SECONDS)
    finally:
        if writer.poll() is None:
            writer.kill()
        writer.communicate()


def watches(server: Server, sizes: Sizes, seed: int) -> Figures:
    """Many watches, set and fired."""
    del seed
    server.start()
    seen = _call(
        "watches",
        {
            "port": server.port, "pid": server.pid, "count": sizes.watches,
            "connections": sizes.watch_connections, "window": 100,
            "value-bytes": sizes.value_bytes,
        },
    )  # fmt: skip
    if seen["events"] != sizes.watches:
        raise SubjectFailedError(f"{seen['events']} events for {sizes.watches} watches")
    return {
        "watches.events": float(seen["events"]),
        "watches.set_seconds": float(seen["set_seconds"]),
        "watches.fire_seconds": float(seen["fire_seconds"]),
        "watches.resident_bytes": float(resident_bytes(server.pid)),
    }


def sessions(server: Server, sizes: Sizes, seed: int) -> Figures:
    """Many sessions that do nothing."""
    del seed
    server.start()
    before = resident_bytes(server.pid)
    held = subprocess.Popen(
        _arguments("sessions", {"port": server.port, "count": sizes.sessions}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        said = held.stdout.readline() if held.stdout is not None else b""
        if not said:
            _, complaint = held.communicate()
            words = complaint.decode(errors="replace").strip()
            raise SubjectFailedError(f"{sizes.sessions} sessions: {words[-300:]}")
        seen = json.loads(said)
        resident = resident_bytes(server.pid)
        if seen["sessions"] != sizes.sessions or held.poll() is not None:
            raise SubjectFailedError(f"{seen['sessions']} of {sizes.sessions} sessions are held")
    finally:
        if held.poll() is None:
            held.kill()
            held.communicate()
    return {
        "sessions.count": float(seen["sessions"]),
        "sessions.open_seconds": float(seen["open_seconds"]),
        "sessions.resident_bytes": float(resident),
        "sessions.bytes_each": float(resident - before) / int(seen["sessions"]),
    }


PARTS: Final[Mapping[str, Callable[[Server, Sizes, int], Figures]]] = {
    "start": start,
    "pipelined": _loads(PIPELINED),
    "synchronous": _loads(SYNCHRONOUS),
    "tree": tree,
    "watches": watches,
    "sessions": sessions,
}
