"""What one coordination server is told, as one record: no default of it is written anywhere else.

The defaults are Apache's, but where they would be unsafe or a time bomb: the listeners are on
127.0.0.1, the HTTP commands are off unless somebody asks for them, and old snapshots are purged.

Left to others: where the values come from (config.py), what the tree and the writes are told
(``Options`` and ``Rules`` in the core).

Source: ``ServerConfig.java``, ``QuorumPeerConfig.java``, ``ZooKeeperServer.java``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stratalog.core.zookeeper.identity import Scheme
from stratalog.core.zookeeper.standalone import Options
from stratalog.core.zookeeper.throttle import ThrottleOptions
from stratalog.server.tls import TlsSettings


@dataclass(slots=True)
class Settings:
    """What one server is told; times in ms unless named otherwise.

    Attributes:
        data_dir: Where snapshots go, and ``myid``.
        data_log_dir: Where transaction logs go; None: ``data_dir``.
        host: Address to listen on.
        port: Port to listen on; 0: one that is free.
        plaintext: Whether there is a port without TLS.
        tls: What the TLS port is told; None: there is none.
        tls_host: ``secureClientPortAddress``.
        tls_port: ``secureClientPort``; 0: one that is free.
        backlog: ``clientPortListenBacklog``; -1: as the server likes it.
        options: What the machine is told.
        extended: Whether znodes may have a time to live.
        digests: Whether digests are kept.
        frame_bytes_max: ``jute.maxbuffer``.
        unsent_bytes_max: How much may wait for a client that does not read.
        unsent_total_bytes_max: How much may wait for all of them together.
        connections_per_address_max: ``maxClientCnxns``; 0: no limit.
        connections_max: ``maxCnxns``; 0: no limit.
        outstanding_max: ``globalOutstandingLimit``: writes on their way before reading stops, and
            requests of one connection that wait behind them.
        outstanding_bytes_max: The same in bytes of requests.
        digest_auth: Whether there is the scheme ``digest``.
        schemes: Schemes beside ``ip`` and ``digest`` (``authProvider.N``).
        create_directories: ``datadir.autocreate``: whether missing directories are made.
        keep_alive: Whether TCP asks clients that are silent (``clientTcpKeepAlive``).
        handshake_s: How long a connection may be without a session.
        reserve_bytes: ``preAllocSize``: how far a log grows at a time.
        force_sync: Whether a reply waits for the disk (``forceSync``).
        sync_warning_ms: A sync that takes longer is told of (``fsync.warningthresholdms``).
        snapshot_every: ``snapCount``: transactions between snapshots, give or take a half.
        log_roll_bytes: ``txnLogSizeLimitInKb``: bytes of a log after which a new one is begun.
        log_bytes_max: ``snapSizeLimitInKb``: bytes of a log after which there is a snapshot.
        snapshot_compression: ``""``, ``"gz"`` or ``"snappy"``.
        snapshots_with_zxid: ``serializeLastProcessedZxid.enabled``.
        snapshots_kept: ``autopurge.snapRetainCount``.
        purge_every_h: ``autopurge.purgeInterval``; 0: never.
        container_check_ms: ``znode.container.checkIntervalMs``; 0: never.
        container_deletes_per_minute: ``znode.container.maxPerMinute``.
        trust_empty: ``snapshot.trust.empty``.
        commands_allowed: ``4lw.commands.whitelist``, each word spelled out.
        admin_port: ``admin.serverPort``; 0: one that is free; None: no HTTP commands.
        admin_host: ``admin.serverAddress``.
        admin_path: ``admin.commandURL``.
        admin_snapshots: ``admin.snapshot.enabled``.
        admin_restores: ``admin.restore.enabled``.
        admin_interval_ms: ``admin.rateLimiterIntervalInMS``.
        metrics_port: ``metricsProvider.httpPort``; 0: one that is free; None: no metrics page.
        metrics_host: ``metricsProvider.httpHost``.
        throttle: How much is taken at once.
        audit: Whether changes are told to the audit log.
        initial_config: The configuration file's own text, for those who ask for it.
    """

    data_dir: Path
    data_log_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 2181
    plaintext: bool = True
    tls: TlsSettings | None = None
    tls_host: str = "127.0.0.1"
    tls_port: int = 0
    backlog: int = -1
    options: Options = field(default_factory=Options)
    extended: bool = False
    digests: bool = True
    frame_bytes_max: int = 0xFFFFF
    unsent_bytes_max: int = 64 << 20
    unsent_total_bytes_max: int = 512 << 20
    connections_per_address_max: int = 60
    connections_max: int = 0
    outstanding_max: int = 1000
    outstanding_bytes_max: int = 32 << 20
    digest_auth: bool = True
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    create_directories: bool = True
    keep_alive: bool = False
    handshake_s: float = 10.0
    reserve_bytes: int = 64 << 20
    force_sync: bool = True
    sync_warning_ms: int = 1000
    snapshot_every: int = 100_000
    log_bytes_max: int = 4 << 30
    log_roll_bytes: int = 1 << 62
    snapshot_compression: str = ""
    snapshots_with_zxid: bool = True
    snapshots_kept: int = 3
    purge_every_h: float = 1.0
    container_check_ms: int = 60_000
    container_deletes_per_minute: int = 10_000
    trust_empty: bool = False
    commands_allowed: frozenset[str] = frozenset(("srvr",))
    admin_port: int | None = None
    admin_host: str = "127.0.0.1"
    admin_path: str = "/commands"
    admin_snapshots: bool = True
    admin_restores: bool = True
    admin_interval_ms: int = 300_000
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    throttle: ThrottleOptions = field(default_factory=ThrottleOptions)
    audit: bool = False
    initial_config: str = ""
