"""Commands over HTTP, under AdminServer's names and with its JSON: ``/commands/stat``, and others.

    GET /commands                   links to every command
    GET /commands/NAME?key=value    { ...facts..., "command" : NAME, "error" : null }
    GET /commands/snapshot          the snapshot's bytes; Authorization: digest user:password
    POST /commands/restore          a snapshot's bytes, whose tree takes the place of this one; same

A command that fails says so in ``error``, mostly with status 200.  Those that could hurt want
somebody who has all permissions on ``/``: 401 where nobody says who they are, 403 where it is not
enough, 429 where it was asked for too soon after the last time.

Left to others: the facts (commands.py), the bytes of HTTP (http.py), TLS.

Source: ``Commands.java``, ``JettyAdminServer.java``, ``JsonOutputter.java``, ``RateLimiter.java``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from stratalog.core.zookeeper.identity import SUPER, allows, digest_of
from stratalog.errors import StratalogError
from stratalog.server.zookeeper import commands, metrics
from stratalog.server.zookeeper.http import HttpServer, Request, Response
from stratalog.wire.zookeeper.records import Id, Permission
from stratalog.wire.zookeeper.txns import DIGEST_VERSION

if TYPE_CHECKING:
    from stratalog.core.zookeeper.statistics import Sizes
    from stratalog.server.zookeeper.commands import ConnectionFacts
    from stratalog.server.zookeeper.server import CoordinationServer

JSON: Final = "application/json"

_PERMISSIONS: Final = tuple(bit for bit in Permission if bit != Permission.ALL)
_LONG: Final = re.compile(r"[+-]?[0-9]{1,19}")

Facts = dict[str, Any]
Command = Callable[["CoordinationServer", Mapping[str, str]], Facts]


class Pace:
    """One in each stretch of time; the first stretch begins at once."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._began_ms = time.monotonic_ns() // 1_000_000
        self._left = 1

    def allows(self) -> bool:
        """Tell whether one more may be, and count it."""
        now_ms = time.monotonic_ns() // 1_000_000
        if now_ms > self._began_ms + self._interval_ms:
            self._began_ms, self._left = now_ms, 1
        allowed = self._left > 0
        self._left -= allowed
        return allowed


# ---- what each says ----


def _nothing(server: CoordinationServer, arguments: Mapping[str, str]) -> Facts:
    del server, arguments
    return {}


def _configuration(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    known = commands.configuration(server)
    return {
        "client_port": known.client_port,
        "data_dir": str(known.data_dir),
        "data_log_dir": str(known.data_log_dir),
        "tick_time": known.tick_ms,
        "max_client_cnxns": known.connections_per_address_max,
        "min_session_timeout": known.session_ms_min,
        "max_session_timeout": known.session_ms_max,
        "server_id": known.server_id,
        "client_port_listen_backlog": known.backlog,
    }


def _reset_connections(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    server.reset_connection_counts()
    return {}


def _connection(facts: ConnectionFacts, *, brief: bool) -> Facts:
    shown: Facts = {
        "remote_socket_address": f"{facts.host}:{facts.port}",
        "interest_ops": facts.interest,
        "outstanding_requests": facts.outstanding,
        "packets_received": facts.received,
        "packets_sent": facts.sent,
    }
    if not brief:
        shown |= {
            "session_id": facts.session_id,
            "last_operation": facts.operation,
            "established": facts.established_ms,
            "session_timeout": facts.timeout_ms,
            "last_cxid": facts.xid,
            "last_zxid": facts.zxid,
            "last_response_time": facts.answered_at_ms,
            "last_latency": facts.latency_ms,
            "min_latency": facts.latency_ms_min,
            "avg_latency": facts.latency_ms_average,
            "max_latency": facts.latency_ms_max,
        }
    return shown


def _connections(server: CoordinationServer, *, brief: bool) -> Facts:
    known = commands.connections(server)
    return {
        "connections": [_connection(facts, brief=brief) for facts in known if not facts.secure],
        "secure_connections": [_connection(facts, brief=brief) for facts in known if facts.secure],
    }


def _dirs(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    return {
        "datadir_size": commands.directory_bytes(server.snapshot_directory),
        "logdir_size": commands.directory_bytes(server.log_directory),
    }


def _dump(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    return {
        "expiry_time_to_session_ids": commands.session_expiry(server),
        "session_id_to_ephemeral_paths": commands.ephemerals(server),
    }


def _hash(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    log = server.machine.tree.digest_log
    return {
        "digests": [
            {"zxid": zxid, "digest": digest, "digest_version": DIGEST_VERSION}
            for zxid, digest in log
        ]
    }


def _last_snapshot(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    zxid, made_at_s = commands.last_snapshot(server)
    return {"zxid": commands.hex64(zxid), "timestamp": made_at_s}


def _server_stats(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    statistics, traffic = server.machine.statistics, server.traffic()
    return {
        "version": commands.full_version(),
        "read_only": False,
        "server_stats": {
            "packets_sent": traffic.sent,
            "packets_received": traffic.received,
            "fsync_threshold_exceed_count": server.slow_syncs,
            "client_response_stats": _sizes(server.reply_sizes),
            "provider_null": False,
            "data_dir_size": commands.directory_bytes(server.snapshot_directory),
            "log_dir_size": commands.directory_bytes(server.log_directory),
            "last_processed_zxid": server.machine.tree.last_zxid,
            "outstanding_requests": commands.outstanding(server),
            "server_state": commands.STATE,
            "avg_latency": statistics.latency.average,
            "max_latency": statistics.latency.greatest,
            "min_latency": statistics.latency.least,
            "num_alive_client_connections": len(server.connections),
            "uptime": server.uptime_ms,
            "auth_failed_count": statistics.auth_failures,
            "non_mtlsremote_conn_count": 0,
            "non_mtlslocal_conn_count": 0,
        },
        "client_response": _sizes(server.reply_sizes),
        "node_count": commands.node_count(server),
    }


def _sizes(sizes: Sizes) -> Facts:
    return {
        "last_buffer_size": sizes.last,
        "min_buffer_size": sizes.least,
        "max_buffer_size": sizes.greatest,
    }


def _set_trace_mask(server: CoordinationServer, arguments: Mapping[str, str]) -> Facts:
    wanted = arguments.get("traceMask")
    if wanted is None:
        return {"error": "setTraceMask requires long traceMask argument"}
    if not _LONG.fullmatch(wanted) or not -(1 << 63) <= int(wanted) < 1 << 63:
        return {"error": f"setTraceMask requires long traceMask argument, got {wanted}"}
    server.trace_mask = int(wanted)
    return {"tracemask": server.trace_mask}


def _reset(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    server.reset_counts()
    return {}


def _watch_summary(server: CoordinationServer, _: Mapping[str, str]) -> Facts:
    watchers, paths, watches = server.machine.tree.watches.data.counts()
    return {"num_connections": watchers, "num_paths": paths, "num_total_watches": watches}


_COMMANDS: Final[tuple[tuple[tuple[str, ...], Command], ...]] = (
    (("configuration", "conf", "config"), _configuration),
    (("connection_stat_reset", "crst"), _reset_connections),
    (("connections", "cons"), lambda s, _: _connections(s, brief=False)),
    (("dirs",), _dirs),
    (("dump",), _dump),
    (("environment", "env", "envi"), lambda *_: dict(commands.environment())),
    (("get_trace_mask", "gtmk"), lambda s, _: {"tracemask": s.trace_mask}),
    (("hash",), _hash),
    (
        ("initial_configuration", "icfg"),
        lambda s, _: {"initial_configuration": s.settings.initial_config},
    ),
    (("is_read_only", "isro"), lambda *_: {"read_only": False}),
    (("last_snapshot", "lsnp"), _last_snapshot),
    (("leader", "lead"), lambda *_: {"error": "server is not initialized"}),
    (("monitor", "mntr"), lambda s, _: dict(metrics.monitor_values(s))),
    (("observer_connection_stat_reset", "orst"), _nothing),
    (("observers", "obsr"), lambda *_: {"synced_observers": 0, "observers": []}),
    (("ruok",), _nothing),
    (("server_stats", "srvr"), _server_stats),
    (("set_trace_mask", "stmk"), _set_trace_mask),
    (("stat_reset", "srst"), _reset),
    (
        ("stats", "stat"),
        lambda s, a: {**_server_stats(s, a), **_connections(s, brief=True)},
    ),
    (("system_properties", "sysp"), lambda *_: dict(commands.system_properties())),
    (("voting_view",), lambda *_: {"current_config": {}}),
    (("watch_summary", "wchs"), _watch_summary),
    (
        ("watches", "wchc"),
        lambda s, _: {"session_id_to_watched_paths": commands.watches_by_session(s)},
    ),
    (
        ("watches_by_path", "wchp"),
        lambda s, _: {"path_to_session_ids": commands.watches_by_path(s)},
    ),
    (("zabstate",), lambda *_: {"voting": False, "zabstate": ""}),
)
_SNAPSHOT: Final = ("snapshot", "snap")
_RESTORE: Final = ("restore", "rest")
_NO_ZXID: Final = "serializeLastProcessedZxid.enabled is false"
RESTORE_BYTES_MAX: Final = 4 << 30
"""The longest snapshot that is taken: it is in memory until its tree is."""

_BY_NAME: Final = {name: (names[0], run) for names, run in _COMMANDS for name in names}
_NO_SERVER_NEEDED: Final = frozenset(
    ("environment", "get_trace_mask", "set_trace_mask", "ruok", "system_properties", "zabstate")
)
NAMES: Final = tuple(sorted((*(names[0] for names, _ in _COMMANDS), _SNAPSHOT[0], _RESTORE[0])))
"""The commands, each under its first name."""


class AdminServer(HttpServer):
    """The door of HTTP commands."""

    def __init__(self, server: CoordinationServer) -> None:
        settings = server.settings
        super().__init__(settings.admin_host, settings.admin_port or 0)
        self._server = server
        self._path = settings.admin_path.rstrip("/")
        # Apache's means ms and counts us here: 0.3 s between snapshots, not 5 minutes.
        self._pace = Pace(settings.admin_interval_ms // 1000)
        self._restore_pace = Pace(settings.admin_interval_ms)
        self._restoring = False

    def takes_body(self, request: Request) -> bool:
        """A snapshot to restore is taken."""
        return request.method == "POST" and request.path.removeprefix(f"{self._path}/") in _RESTORE

    async def respond(self, request: Request) -> Response:
        """Run a command."""
        path = request.path
        if path in {self._path, f"{self._path}/"}:
            links = [f'<a href="{self._path}/{name}">{name}</a>\n<br/>\n' for name in NAMES]
            return Response(200, "".join(links).encode(), "text/html; charset=utf-8")
        if not path.startswith(f"{self._path}/"):
            return Response.text(404, f"nothing is here; commands are at {self._path}\n")
        name = path.removeprefix(f"{self._path}/")
        if name in _SNAPSHOT or name in _RESTORE:
            return await self._guarded(name, request)
        known = _BY_NAME.get(name)
        if known is None:
            return _refusal(name, f"Unknown command: {name}")
        primary, run = known
        if not self._server.serving and primary not in _NO_SERVER_NEEDED:
            return _refusal(name, commands.NOT_SERVING)
        if request.method == "POST":
            return _refusal(primary, "this command is asked for with GET", 405)
        return _answer(primary, run(self._server, request.arguments))

    async def _guarded(self, name: str, request: Request) -> Response:
        """Run what wants all permissions on the root."""
        if not self._server.serving:
            return _refusal(name, commands.NOT_SERVING)
        credentials = request.headers.get("authorization")
        if credentials is None:
            return _refusal(name, "Auth info is missing for the command", 401)
        identities = self._identities(credentials, request.client)
        if not identities:
            return _refusal(name, "Not authenticated", 401)
        if not self._may_all(identities):
            return _refusal(name, "Not authorized", 403)
        if name in _RESTORE:
            if request.method != "POST":
                return _refusal(name, "this command is asked for with POST", 405)
            return await self._restore(request)
        if request.method == "POST":
            return _refusal(name, "this command is asked for with GET", 405)
        return await self._snapshot(request.arguments.get("streaming", "true").lower() == "true")

    def _identities(self, credentials: str, client: str) -> list[Id]:
        machine = self._server.machine
        scheme, *secrets = credentials.split(" ")
        if len(secrets) > 1 or scheme not in machine.schemes:
            return []
        if scheme == "ip":
            return [Id("ip", client)]
        if scheme != "digest" or not secrets:
            return []
        own = digest_of(secrets[0].encode(), machine.options.digest_algorithm)
        identities = [Id("digest", own)]
        if own == machine.options.super_digest:
            identities.append(SUPER)
        return identities

    def _may_all(self, identities: list[Id]) -> bool:
        machine = self._server.machine
        acl = machine.tree.acl(machine.tree.nodes["/"])
        return machine.options.rules.skip_acl or all(
            allows(acl, bit, identities, machine.schemes) for bit in _PERMISSIONS
        )

    async def _snapshot(self, streaming: bool) -> Response:
        statistics = self._server.machine.statistics
        if not self._server.settings.admin_snapshots:
            return _answer(_SNAPSHOT[0], {}, 503)
        if not self._server.settings.snapshots_with_zxid:
            return _refusal(_SNAPSHOT[0], _NO_ZXID, 500)
        if not self._pace.allows():
            statistics.snapshots_refused += 1
            return _answer(_SNAPSHOT[0], {}, 429)
        try:
            path = await self._server.take_snapshot()
        except (OSError, StratalogError) as error:
            return _refusal(_SNAPSHOT[0], str(error), 500)
        size = path.stat().st_size
        zxid = path.name.split(".")[1]
        headers = {"last_zxid": f"0x{zxid}", "snapshot_size": str(size)}
        if streaming:
            return Response(
                200, content_type="application/octet-stream", headers=headers, file=path,
                length=size,
            )  # fmt: skip
        answer = _answer(_SNAPSHOT[0], {})
        answer.headers.update(headers)
        return answer

    async def _restore(self, request: Request) -> Response:
        """Take a snapshot, and put its tree in the place of the one that is there."""
        server = self._server
        if not server.settings.admin_restores:
            return _answer(_RESTORE[0], {}, 503)
        if not server.settings.snapshots_with_zxid:
            return _refusal(_RESTORE[0], _NO_ZXID, 500)
        if self._restoring or not self._restore_pace.allows():
            server.machine.statistics.restores_refused += 1
            return _answer(_RESTORE[0], {}, 429)
        self._restoring = True
        try:
            data = b"" if request.body is None else await request.body.read(RESTORE_BYTES_MAX)
            zxid = await server.replace_tree(data)
        except (OSError, EOFError, StratalogError) as error:
            server.machine.statistics.restore_errors += 1
            return _refusal(_RESTORE[0], str(error), 500)
        finally:
            self._restoring = False
        return _answer(_RESTORE[0], {"last_zxid": zxid})


def _answer(command: str, facts: Facts, status: int = 200) -> Response:
    whole = {**facts, "command": command}
    whole.setdefault("error", None)
    return Response(status, in_json(whole).encode(), JSON)


def _refusal(command: str, reason: str, status: int = 200) -> Response:
    """Say why a command was not run; there the two keys stand the other way round."""
    return Response(status, in_json({"command": command, "error": reason}).encode(), JSON)


def in_json(value: object, depth: int = 0) -> str:
    """Write a value as AdminServer does: objects indented by two, arrays in a line, `` : ``."""
    if isinstance(value, Mapping):
        if not value:
            return "{ }"
        inner, outer = "  " * (depth + 1), "  " * depth
        pairs = ",\n".join(
            f"{inner}{json.dumps(str(key), ensure_ascii=False)} : {in_json(known, depth + 1)}"
            for key, known in value.items()
        )
        return f"{{\n{pairs}\n{outer}}}"
    if isinstance(value, list | tuple):
        items = ", ".join(in_json(item, depth) for item in value)
        return f"[ {items} ]" if items else "[ ]"
    return json.dumps(value, ensure_ascii=False)
