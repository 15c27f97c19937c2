"""What a server counts of itself: pure numbers, cheap to add to, made into reports elsewhere.

    Spread      count, sum, least and greatest of a value
    Summary     a spread, and how often which value came
    Traffic     packets and bytes of a connection
    Sizes       of replies
    Statistics  those of one server that are counted where things happen

Times are whole ms.  A summary keeps small values one by one and larger ones to one part in 32, so
that its percentiles are of all values since the last reset, in bounded memory; Apache's are of a
sample of 4096 of them.

Source: ``ServerStats.java``, ``ServerMetrics.java``, ``AvgMinMaxCounter.java``,
``BufferStats.java``.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

from stratalog.core.zookeeper._fast import SizeCounts, SpreadCounts, TrafficCounts
from stratalog.core.zookeeper.watches import EventType


class Spread(SpreadCounts):
    """Count, sum, least and greatest of a value; 0 where none came.  C adds (fast/types.c)."""

    __slots__ = ()

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.count = self.total = self.least = self.greatest = 0

    @property
    def average(self) -> float:
        """The average, to four places; 0 where no value came."""
        if not self.count:
            return 0.0
        exact = Decimal(self.total) / Decimal(self.count)
        return float(exact.quantize(Decimal("0.0001"), ROUND_HALF_UP))


class Summary(Spread):
    """A spread with percentiles."""

    __slots__ = ()

    _times: dict[int, int]

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._times = {}

    def percentile(self, share: float) -> int:
        """Return the value that a share of all, between 0 and 1, do not exceed; 0: none came."""
        rank = math.ceil(share * self.count)
        seen = value = 0
        for value in sorted(self._times):
            seen += self._times[value]
            if seen >= rank:
                break
        return value


class Statistics:
    """What one server counts.

    Attributes:
        latency: Of every request, ms.
        reads: Of the requests that change nothing, ms.
        updates: Of the others, from their preparation to their reply, ms.
        told: How many watchers one event went to, by kind of event.
        connection_requests: First frames.
        revalidations: Sessions resumed.
        sessions_expired: Sessions that nobody closed.
        reads_answered: Requests answered that change nothing.
        writes_logged: Transactions given to the log, those of failed requests included.
        watch_bytes: Bytes of events.
        auth_failures: Connections ended because somebody was not who they said.
        connections_rejected: Because there were too many.
        connections_dropped: Closed by their clients.
        large_requests_rejected: Because too many bytes of such were on their way.
        stale_requests: Handed on though nobody waited for them any more.
        stale_requests_dropped: Not handed on, for the same reason.
        stale_replies: Nobody was there to take them.
        throttle_waits: How often the first in the queue had to wait.
        throttle_times: How long requests were in the queue, ms.
        throttled_ops: Requests refused because they waited too long there.
        token_deficits: Tokens that were out as a session began.
        handshakes_overdue: Connections ended because no first frame came.
        batches: Transactions of one group of the log.
        syncs: From asking for a sync until it was seen to be over, ms.
        snapshots: What a snapshot took, ms.
        snapshot_errors: Snapshots that failed.
        snapshots_refused: Asked for too soon after the last.
        restores: What it took to replace the tree, ms.
        restore_errors: Attempts at that which failed.
        restores_refused: Asked for too soon after the last.
        loads: What a start took to bring everything back, ms.
        snapshot_loads: What its snapshot took, ms.
        replays: What its logs took, ms.
        replayed: How many transactions they held.
    """

    __slots__ = (
        "auth_failures", "batches", "connection_requests", "connections_dropped",
        "connections_rejected", "handshakes_overdue", "large_requests_rejected", "latency",
        "loads", "reads", "reads_answered", "replayed", "replays", "restore_errors", "restores",
        "restores_refused", "revalidations",
        "sessions_expired", "snapshot_errors", "snapshot_loads", "snapshots", "snapshots_refused",
        "stale_replies", "stale_requests", "stale_requests_dropped", "syncs", "throttle_times",
        "throttle_waits", "throttled_ops", "token_deficits", "told", "updates", "watch_bytes",
        "writes_logged",
    )  # fmt: skip

    def __init__(self) -> None:
        self.latency, self.reads, self.updates = Summary(), Summary(), Summary()
        self.batches, self.syncs, self.snapshots = Summary(), Summary(), Summary()
        self.loads, self.snapshot_loads = Summary(), Summary()
        self.replays, self.replayed = Summary(), Summary()
        self.throttle_times, self.token_deficits = Summary(), Summary()
        self.restores = Summary()
        self.told = {event: Summary() for event in EventType}
        self.reset()

    def reset(self) -> None:
        """Begin again, as the command ``srst`` wants it."""
        for summary in (
            self.latency, self.reads, self.updates, self.batches, self.syncs, self.snapshots,
            self.loads, self.snapshot_loads, self.replays, self.replayed, self.throttle_times,
            self.token_deficits, self.restores, *self.told.values(),
        ):  # fmt: skip
            summary.reset()
        self.connection_requests = self.revalidations = self.sessions_expired = 0
        self.reads_answered = self.writes_logged = self.watch_bytes = 0
        self.auth_failures = self.connections_rejected = self.handshakes_overdue = 0
        self.snapshot_errors = self.snapshots_refused = 0
        self.connections_dropped = self.large_requests_rejected = 0
        self.stale_requests = self.stale_requests_dropped = self.stale_replies = 0
        self.throttle_waits = self.throttled_ops = 0
        self.restore_errors = self.restores_refused = 0

    def triggered(self, event: EventType, watchers: int) -> None:
        """An event went to so many watchers."""
        self.told[event].add(watchers)


class Traffic(TrafficCounts):
    """What went over connections: of one, or of many together.

    Attributes:
        received: Packets that came.
        sent: Packets that left.
        received_bytes: Their bytes, each one's length included.
        sent_bytes: Theirs, without lengths.
    """

    __slots__ = ()

    def add(self, other: Traffic, sign: int = 1) -> None:
        """Add what another says, or with -1 take it away."""
        self.received += sign * other.received
        self.sent += sign * other.sent
        self.received_bytes += sign * other.received_bytes
        self.sent_bytes += sign * other.sent_bytes


class Sizes(SizeCounts):
    """The sizes of replies: the last one, the least and the greatest; -1: there was none."""

    __slots__ = ()

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.last = self.least = self.greatest = -1
