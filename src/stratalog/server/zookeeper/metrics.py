"""Metrics under ZooKeeper's names: for the commands ``mntr`` and ``monitor``, and as a web page.

    mntr                                  /metrics, text format 0.0.4
    zk_znode_count          5             # TYPE znode_count gauge        znode_count 5.0
    zk_avg_readlatency      0.1           # TYPE readlatency summary
    zk_min_readlatency      0             readlatency{quantile="0.5"} 0.0
    zk_max_, zk_cnt_, zk_sum_, zk_p50_,   readlatency_count 12.0
    zk_p95_, zk_p99_, zk_p999_            readlatency_sum 1.0

Four tables say which names there are and where each comes from.  What only an ensemble has is
there, and 0: nothing of it happens on a server alone.  What this server does not measure, or does
not have, is not there: a 0 would be a lie.

Counters and summaries begin anew with the command ``srst``, gauges do not.

Source: ``ServerMetrics.java``, ``ZooKeeperServer.java`` (registerMetrics),
``DefaultMetricsProvider.java``, ``PrometheusMetricsProvider.java``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from stratalog.core.zookeeper.paths import QUOTA
from stratalog.core.zookeeper.quotas import LIMITS_NAME, STATS_NAME, Figures
from stratalog.core.zookeeper.statistics import Summary
from stratalog.core.zookeeper.watches import EventType
from stratalog.server.zookeeper import commands
from stratalog.server.zookeeper.http import HttpServer, Request, Response

if TYPE_CHECKING:
    from stratalog.server.zookeeper.server import CoordinationServer

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PATH: Final = "/metrics"

Number = int | float
NumberOf = Callable[["CoordinationServer"], Number]
SummaryOf = Callable[["CoordinationServer"], Summary]

_NOTHING: Final = Summary()


def _none(_: CoordinationServer) -> int:
    return 0


def _no_summary(_: CoordinationServer) -> Summary:
    return _NOTHING


def _watches(server: CoordinationServer) -> int:
    watches = server.machine.tree.watches
    return watches.data.counts()[2] + watches.children.counts()[2]


def _reply_bytes(server: CoordinationServer) -> int:
    """Bytes of replies without their lengths, events excepted."""
    traffic = server.traffic()
    watch_bytes = server.machine.statistics.watch_bytes
    return max(traffic.sent_bytes - watch_bytes, 0)


def _zeros(times: int) -> Summary:
    summary = Summary()
    summary.add(0, times)
    return summary


def _token_deficits(server: CoordinationServer) -> Summary:
    """Without a limit nobody counts: no token is ever out."""
    statistics = server.machine.statistics
    limited = server.settings.throttle.limits
    return statistics.token_deficits if limited else _zeros(statistics.connection_requests)


def _throttle_times(server: CoordinationServer) -> Summary:
    """Without a limit nobody counts: no request ever waits."""
    statistics = server.machine.statistics
    limited = server.settings.throttle.limits
    return statistics.throttle_times if limited else _zeros(statistics.latency.count)


GAUGES: Final[dict[str, NumberOf]] = {
    "ephemerals_count": lambda s: sum(map(len, s.machine.tree.ephemerals.values())),
    "num_alive_connections": lambda s: len(s.connections),
    "avg_latency": lambda s: s.machine.statistics.latency.average,
    "outstanding_requests": commands.outstanding,
    "znode_count": commands.node_count,
    "global_sessions": lambda s: len(s.machine.tree.sessions),
    "last_client_response_size": lambda s: s.reply_sizes.last,
    "packets_sent": lambda s: s.traffic().sent,
    "packets_received": lambda s: s.traffic().received,
    "max_client_response_size": lambda s: s.reply_sizes.greatest,
    "connection_drop_probability": lambda s: s.drop_probability,
    "watch_count": _watches,
    "auth_failed_count": lambda s: s.machine.statistics.auth_failures,
    "min_latency": lambda s: s.machine.statistics.latency.least,
    "max_file_descriptor_count": lambda _: commands.process().open_files_max,
    "approximate_data_size": commands.data_bytes,
    "open_file_descriptor_count": lambda _: commands.process().open_files,
    "local_sessions": _none,
    "uptime": lambda s: s.uptime_ms,
    "max_latency": lambda s: s.machine.statistics.latency.greatest,
    "min_client_response_size": lambda s: s.reply_sizes.least,
}

COUNTERS: Final[dict[str, NumberOf]] = {
    "watch_bytes": lambda s: s.machine.statistics.watch_bytes,
    "connection_rejected": lambda s: s.machine.statistics.connections_rejected,
    "sessionless_connections_expired": lambda s: s.machine.statistics.handshakes_overdue,
    "bytes_received_count": lambda s: s.traffic().received_bytes,
    "response_bytes": _reply_bytes,
    "connection_revalidate_count": lambda s: s.machine.statistics.revalidations,
    "unrecoverable_error_count": lambda s: int(s.failure is not None),
    "digest_mismatches_count": lambda s: s.machine.tree.mismatches,
    "snapshot_error_count": lambda s: s.machine.statistics.snapshot_errors,
    "snapshot_rate_limited_count": lambda s: s.machine.statistics.snapshots_refused,
    "connection_request_count": lambda s: s.machine.statistics.connection_requests,
    "stale_sessions_expired": lambda s: s.machine.statistics.sessions_expired,
    "sync_processor_request_queued": lambda s: s.machine.statistics.writes_logged,
    "restore_error_count": lambda s: s.machine.statistics.restore_errors,
    "restore_rate_limited_count": lambda s: s.machine.statistics.restores_refused,
    "connection_drop_count": lambda s: s.machine.statistics.connections_dropped,
    "stale_requests": lambda s: s.machine.statistics.stale_requests,
    "stale_requests_dropped": lambda s: s.machine.statistics.stale_requests_dropped,
    "stale_replies": lambda s: s.machine.statistics.stale_replies,
    "throttled_ops": lambda s: s.machine.statistics.throttled_ops,
    "request_throttle_wait_count": lambda s: s.machine.statistics.throttle_waits,
    "large_requests_rejected": lambda s: s.machine.statistics.large_requests_rejected,
    **dict.fromkeys(
        (
            "ensemble_auth_fail", "ensemble_auth_skip", "ensemble_auth_success", "diff_count",
            "snap_count", "commit_count", "proposal_count", "looking_count",
            "quit_leading_due_to_disloyal_voter", "request_commit_queued", "revalidate_count",
            "requests_not_forwarded_to_commit_processor", "learner_proposal_received_count",
            "learner_commit_received_count", "skip_learner_request_to_next_processor_count",
        ),
        _none,
    ),
}  # fmt: skip

BASIC: Final[dict[str, SummaryOf]] = {
    "node_created_watch_count": lambda s: s.machine.statistics.told[EventType.NODE_CREATED],
    "node_deleted_watch_count": lambda s: s.machine.statistics.told[EventType.NODE_DELETED],
    "node_changed_watch_count": lambda s: s.machine.statistics.told[EventType.NODE_DATA_CHANGED],
    "node_children_watch_count": lambda s: (
        s.machine.statistics.told[EventType.NODE_CHILDREN_CHANGED]
    ),
    "fsynctime": lambda s: s.machine.statistics.syncs,
    "snapshottime": lambda s: s.machine.statistics.snapshots,
    "dbinittime": lambda s: s.machine.statistics.loads,
    "startup_snap_load_time": lambda s: s.machine.statistics.snapshot_loads,
    "startup_txns_load_time": lambda s: s.machine.statistics.replays,
    "startup_txns_loaded": lambda s: s.machine.statistics.replayed,
    "sync_processor_batch_size": lambda s: s.machine.statistics.batches,
    "restore_time": lambda s: s.machine.statistics.restores,
    "connection_token_deficit": _token_deficits,
    **dict.fromkeys(
        (
            "follower_sync_time", "observer_sync_time", "election_time", "unavailable_time",
            "leader_unavailable_time", "inflight_snap_count", "inflight_diff_count",
            "proposal_process_time", "learner_request_processor_queue_size",
            "session_queues_drained", "write_commit_proc_req_queued",
            "read_commit_proc_req_queued", "commit_commit_proc_req_queued",
            "reads_issued_from_session_queue", "reads_after_write_in_session_queue",
            "requests_in_session_queue", "pending_session_queue_size",
            "write_commit_proc_issued", "read_commit_proc_issued", "commit_process_time",
            "time_waiting_empty_pool_in_commit_processor_read_ms",
            "write_batch_time_in_commit_processor",
            "concurrent_request_processing_in_commit_processor",
        ),
        _no_summary,
    ),
}  # fmt: skip

ADVANCED: Final[dict[str, SummaryOf]] = {
    "readlatency": lambda s: s.machine.statistics.reads,
    "updatelatency": lambda s: s.machine.statistics.updates,
    "request_throttle_queue_time_ms": _throttle_times,
    **dict.fromkeys(
        (
            "propagation_latency", "quorum_ack_latency", "proposal_latency",
            "proposal_ack_creation_latency", "commit_propagation_latency",
            "om_proposal_process_time_ms", "om_commit_process_time_ms",
            "read_commitproc_time_ms", "write_commitproc_time_ms",
            "local_write_committed_time_ms", "server_write_committed_time_ms",
            "read_final_proc_time_ms", "write_final_proc_time_ms",
        ),
        _no_summary,
    ),
}  # fmt: skip

_PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))
_BASIC_QUANTILES: Final = (0.5,)
_ADVANCED_QUANTILES: Final = (0.5, 0.9, 0.99)

_QUOTA_GAUGES: Final = (
    ("quota_count_limit_per_namespace", LIMITS_NAME, ("countHardLimit", "count")),
    ("quota_bytes_limit_per_namespace", LIMITS_NAME, ("byteHardLimit", "bytes")),
    ("quota_count_usage_per_namespace", STATS_NAME, ("count",)),
    ("quota_bytes_usage_per_namespace", STATS_NAME, ("bytes",)),
)


def quota_values(server: CoordinationServer) -> dict[str, dict[str, int]]:
    """Return limits and usage of quotas, by metric and by the first part of their paths."""
    values: dict[str, dict[str, int]] = {name: {} for name, _, _ in _QUOTA_GAUGES}
    if not server.machine.tree.quotas:
        return values
    for path, node in server.machine.tree.walk(QUOTA):
        parts = path.removeprefix(QUOTA).split("/")
        if len(parts) < 3 or node.children:
            continue
        figures = Figures(node.data)
        for name, leaf, keys in _QUOTA_GAUGES:
            if parts[-1] == leaf:
                known = next((figures[key] for key in keys if figures[key] > -1), -1)
                values[name][parts[1]] = values[name].get(parts[1], 0) + known
    return values


def monitor_values(server: CoordinationServer) -> dict[str, str | Number]:
    """Return what ``mntr`` and ``monitor`` tell, by name, in Apache's order of kinds."""
    values: dict[str, str | Number] = {
        "version": commands.full_version(), "server_state": commands.STATE,
    }  # fmt: skip
    values |= {name: value(server) for name, value in GAUGES.items()}
    for name, by_namespace in quota_values(server).items():
        values |= {f"{namespace}_{name}": known for namespace, known in by_namespace.items()}
    values |= {name: value(server) for name, value in COUNTERS.items()}
    for name, summary in BASIC.items():
        values |= _spread(name, summary(server))
    for name, summary in ADVANCED.items():
        known = summary(server)
        values |= _spread(name, known)
        values |= {f"{label}_{name}": known.percentile(share) for label, share in _PERCENTILES}
    return values


def _spread(name: str, summary: Summary) -> dict[str, Number]:
    return {
        f"avg_{name}": summary.average,
        f"min_{name}": summary.least,
        f"max_{name}": summary.greatest,
        f"cnt_{name}": summary.count,
        f"sum_{name}": summary.total,
    }


# ---- the page ----


def page(server: CoordinationServer) -> str:
    """Return all metrics in Prometheus' text format."""
    return "".join(f"{line}\n" for line in _lines(server))


def _lines(server: CoordinationServer) -> Iterator[str]:
    for name, value in GAUGES.items():
        yield from _single(name, "gauge", value(server))
    for name, by_namespace in quota_values(server).items():
        yield from _head(name, "gauge")
        for namespace, known in by_namespace.items():
            yield f'{name}{{key="{_escaped(namespace)}"}} {_shown(known)}'
    for name, value in COUNTERS.items():
        yield from _single(name, "counter", value(server))
    for table, quantiles in ((BASIC, _BASIC_QUANTILES), (ADVANCED, _ADVANCED_QUANTILES)):
        for name, summary in table.items():
            yield from _summary(name, summary(server), quantiles)
    facts = commands.process()
    for name, kind, value_now in (
        ("process_cpu_seconds_total", "counter", facts.cpu_s),
        ("process_start_time_seconds", "gauge", facts.started_at_s),
        ("process_open_fds", "gauge", facts.open_files),
        ("process_max_fds", "gauge", facts.open_files_max),
        ("process_virtual_memory_bytes", "gauge", facts.virtual_bytes),
        ("process_resident_memory_bytes", "gauge", facts.resident_bytes),
    ):
        yield from _single(name, kind, value_now)


def _head(name: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {name}", f"# TYPE {name} {kind}"


def _single(name: str, kind: str, value: Number) -> Iterator[str]:
    yield from _head(name, kind)
    yield f"{name} {_shown(value)}"


def _summary(name: str, summary: Summary, quantiles: tuple[float, ...]) -> Iterator[str]:
    yield from _head(name, "summary")
    for share in quantiles:
        known = summary.percentile(share) if summary.count else math.nan
        yield f'{name}{{quantile="{share}"}} {_shown(known)}'
    yield f"{name}_count {_shown(summary.count)}"
    yield f"{name}_sum {_shown(summary.total)}"


def _shown(value: Number) -> str:
    return "NaN" if math.isnan(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsServer(HttpServer):
    """The page, for whoever collects metrics."""

    def __init__(self, server: CoordinationServer) -> None:
        settings = server.settings
        super().__init__(settings.metrics_host, settings.metrics_port or 0)
        self._server = server

    async def respond(self, request: Request) -> Response:
        """Show the page at its path."""
        if request.path != PATH:
            return Response.text(404, f"nothing is here; metrics are at {PATH}\n")
        if request.method == "POST":
            return Response.text(405, "metrics are read with GET\n", {"Allow": "GET, HEAD"})
        return Response(200, page(self._server).encode(), CONTENT_TYPE)
