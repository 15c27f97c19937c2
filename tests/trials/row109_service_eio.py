"""Row 109: EIO from every sync of a coordination server.

strace answers EIO to the Nth fdatasync or fsync, for every N, while a client writes: those of logs
and of their heads, of snapshots, of directories.  It is asked once; a server that went on would
find the next sync answered with 0, as Linux does.  The server must answer nothing more, end with 1
and say why; all that was answered is there.
"""

from __future__ import annotations

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .row02_syscalls import strace, strace_missing
from .service import Service, begin, judge, writers

NUMBER = 109
TITLE = "EIO from every sync of a server"
QUICK = 5
FULL = 60
BUG = Bug(
    "a failed sync is not heard of",
    "server/zookeeper/server.py",
    "        try:\n            zxid = self.log.durable_zxid()\n"
    "        except StratalogError as error:\n            self._fail(error)\n            return\n",
    "        try:\n            zxid = self.log.durable_zxid()\n"
    "        except StratalogError:\n            zxid = self.log.last_zxid\n",
)
SENDS = ("sendto", "sendmsg", "write", "writev")
"""How event loops send."""


def missing() -> str | None:
    """Strace must be there and allowed to trace."""
    return strace_missing()


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """One server for each N: of fdatasync, then of fsync, which only directories get."""
    numbers = list(range(1, bench.trials_wanted + 1))
    if bench.quick:
        # The snapshot of an empty tree, the head of the first log, and what comes after.
        numbers = [1, 2, *bench.random.sample(range(3, 30), max(1, bench.trials_wanted - 3))]
    for n in numbers:
        inject(bench, "fdatasync", n)
        if bench.broken:
            return
    for n in (2,) if bench.quick else range(1, 8):
        inject(bench, "fsync", n)


def inject(bench: Bench, call: str, n: int) -> None:
    """EIO at the Nth call."""
    directory = bench.fresh("data")
    trace = bench.place / "trace"
    bench.trials += 1
    what = f"EIO from {call} number {n}"
    # One write at a time: what is sent after its sync failed can only be its reply.
    some = writers(bench, 1, window=1)
    traced = ",".join((*SENDS, "fdatasync", "fsync"))
    under = tuple(strace(call, f"error=EIO:when={n}", "-e", f"trace={traced}", "-y",
                         "-o", str(trace)))  # fmt: skip
    service = Service(bench, directory, {"snapshot_every": 300, "reserve_bytes": 1 << 20}, under)
    try:
        if service.listens():
            begin(some, service.address)
        status = service.wait()
    finally:
        service.kill()
    lines = trace.read_text().splitlines()
    hit = next((at for at, line in enumerate(lines) if "(INJECTED)" in line), None)
    if hit is None:
        bench.fail(f"{what}: it was never called so often: {service.said()[-300:]}")
        return
    # One byte of zero is how a thread wakes the event loop.
    sent = [
        line
        for line in lines[hit:]
        if "<socket:" in line or "<TCP" in line
        if any(f"{call}(" in line for call in SENDS) and '"\\0", 1' not in line
    ]
    if "/log." in lines[hit] and sent:
        bench.fail(f"{what}: answered after {lines[hit][:120]}: {sent[0][:120]}")
    bench.fired += 1
    said = service.said()
    if status != 1 or ("stopped: " not in said and "cannot start: " not in said):
        bench.fail(f"{what}: it ended with {status}: {said[-300:]}")
    judge(bench, directory, some, what)
