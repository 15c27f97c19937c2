"""Row 101: kill -9 of a coordination server at random times, under concurrent writers.

Small logs and frequent snapshots, plain or compressed, so that rolls and snapshots are shot too,
and sometimes the start.  Every write that was answered must be back, nothing may be there that was
not sent, and the next server goes on from there: a directory sees several deaths.  Sessions live on
through them.
"""

from __future__ import annotations

import time

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .service import Service, begin, judge, writers

NUMBER = 101
TITLE = "kill -9 of a coordination server"
QUICK = 6
FULL = 1_000
BUG = Bug(
    "the last 2000 bytes are kept in memory until more come",
    "storage/zookeeper/txn_log.py",
    "        self.bytes = end = self._journal.append(records, request=True)\n",
    "        late = getattr(self, '_late', b'') + records\n"
    "        now = max(1, len(late) - 2000)\n"
    "        self._late = late[now:]\n"
    "        self.bytes = end = self._journal.append(late[:now], request=True)\n",
)
DEATHS_PER_DIRECTORY = 8


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """Kill, check, go on."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        directory = bench.fresh("data")
        some = writers(bench, bench.random.choice([1, 3, 6]))
        for _ in range(DEATHS_PER_DIRECTORY):
            if bench.trials == bench.trials_wanted:
                break
            numbers = {
                "snapshot_every": bench.random.choice([20, 200, 100_000]),
                "reserve_bytes": bench.random.choice([4096, 1 << 20]),
                "snapshot_compression": bench.random.choice(["", "gz", "snappy"]),
            }
            bench.trials += 1
            what = f"trial {bench.trials} ({len(some)} writers, {numbers})"
            service = Service(bench, directory, numbers)
            try:
                if bench.random.random() < 0.1:
                    time.sleep(bench.random.random() * 0.5)  # while it starts, or serves nobody
                elif service.listens():
                    begin(some, service.address)
                    time.sleep(bench.random.random() * bench.random.choice([0.02, 0.1, 0.4]))
                else:
                    bench.fail(f"{what}: it did not start: {service.said()[-300:]}")
                bench.fired += service.process.poll() is None
            finally:
                service.kill()
            if service.process.returncode != -9:
                bench.fail(f"{what}: it ended by itself: {service.said()[-300:]}")
            if not judge(bench, directory, some, what):
                break
