"""Every key of ZooKeeper 3.9's configuration that one server can meet, and what it does here.

    WIRED       it sets a field of Settings, Options or Rules; no field here: config.py works it out
    LATER       the feature is not built yet: told by name, without effect
    ENSEMBLE    it concerns the members of an ensemble: nothing to one server, Apache's included
    JAVA        threads, caches and logs of Apache's own: there is nothing here that it could set

A key is named as in zoo.cfg; as a Java system property it is called ``zookeeper.`` and that, which
may be written everywhere.  Environment variables and TOML files may spell it in other ways, such as
``TICK_TIME`` or ``tick_time``: ``find`` takes them all.

What a text means depends on who reads it: Apache takes ``forceSync=false`` for yes, since it is not
``no``.  Its own files and flags are read by its rules (``java``), ours by plain ones.

Left to others: which source wins, and what follows from several keys together (config.py).

Source: ``QuorumPeerConfig.java``, every ``System.getProperty`` of the server, and the page
*Configuration Parameters* of its documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

PREFIX: Final = "zookeeper."


class Effect(Enum):
    """What becomes of a key."""

    WIRED = auto()
    LATER = auto()
    ENSEMBLE = auto()
    JAVA = auto()


class Kind(Enum):
    """How a text becomes a value; the Java that reads it stands beside it."""

    TEXT = "a text"
    WHOLE = "a whole number"  # Integer.parseInt: nothing else will do
    REAL = "a number"  # Double.parseDouble: nothing else will do
    NUMBER = "a number of 32 bits"  # Integer.getInteger: 0x10 and 010 too; else the default
    LONG = "a number of 64 bits"  # Long.getLong: the same
    FLAG = "true or false"  # parseBoolean of QuorumPeerConfig: nothing else will do
    TRUTH = "true or false."  # Boolean.getBoolean: whatever is not true is false
    YES = "yes or no"  # skipACL: whatever is not yes is no
    NOT_NO = "yes or no."  # forceSync: whatever is not no is yes


LENIENT: Final = frozenset((Kind.NUMBER, Kind.LONG))
"""Where Apache takes the default for a text that is no value."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    Attributes:
        name: As in zoo.cfg.
        effect: What becomes of it.
        kind: How its text is read.
        field: Where the value goes: a field of Settings, or one below ``options.`` or
            ``options.rules.``; "": config.py knows.
        scale: The field is the value times this.
        least: A smaller value becomes this one.
        most: A larger value becomes this one.
    """

    name: str
    effect: Effect
    kind: Kind = Kind.TEXT
    field: str = ""
    scale: int = 1
    least: int | None = None
    most: int | None = None


def _wired(name: str, kind: Kind, field: str = "", **limits: int) -> Key:
    return Key(name, Effect.WIRED, kind, field, **limits)


_WIRED: Final = (
    _wired("dataDir", Kind.TEXT),
    _wired("dataLogDir", Kind.TEXT),
    _wired("datadir.autocreate", Kind.TRUTH, "create_directories"),
    # who may come
    _wired("clientPort", Kind.WHOLE),
    _wired("clientPortAddress", Kind.TEXT),
    _wired("clientPortListenBacklog", Kind.WHOLE, "backlog"),
    _wired("listenPublicly", Kind.FLAG),
    _wired("maxClientCnxns", Kind.WHOLE, "connections_per_address_max"),
    _wired("maxCnxns", Kind.NUMBER, "connections_max"),
    _wired("clientTcpKeepAlive", Kind.TRUTH, "keep_alive"),
    _wired("nio.sessionlessCnxnTimeout", Kind.NUMBER, least=1),
    _wired("globalOutstandingLimit", Kind.NUMBER, "outstanding_max", least=0),
    _wired("jute.maxbuffer", Kind.NUMBER, "frame_bytes_max"),
    _wired("jute.maxbuffer.extrasize", Kind.NUMBER),
    # sessions and requests
    _wired("tickTime", Kind.WHOLE, "options.tick_ms"),
    _wired("minSessionTimeout", Kind.WHOLE),
    _wired("maxSessionTimeout", Kind.WHOLE),
    _wired("extendedTypesEnabled", Kind.TRUTH, "extended"),
    _wired("digest.enabled", Kind.TRUTH, "digests"),
    _wired("closeSessionTxn.enabled", Kind.TRUTH, "options.rules.close_session_paths"),
    _wired("enforceQuota", Kind.TRUTH, "options.rules.enforce_quota"),
    _wired("reconfigEnabled", Kind.FLAG, "options.rules.reconfig_enabled"),
    _wired("skipACL", Kind.YES, "options.rules.skip_acl"),
    _wired("DigestAuthenticationProvider.enabled", Kind.TRUTH, "digest_auth"),
    _wired("DigestAuthenticationProvider.superDigest", Kind.TEXT, "options.super_digest"),
    _wired("DigestAuthenticationProvider.digestAlg", Kind.TEXT),
    _wired("znode.container.checkIntervalMs", Kind.NUMBER, "container_check_ms"),
    _wired("znode.container.maxPerMinute", Kind.NUMBER, "container_deletes_per_minute", least=1),
    _wired(
        "znode.container.maxNeverUsedIntervalMs", Kind.LONG, "options.container_never_used_ms_max"
    ),
    # how much at once
    _wired("connection_throttle_tokens", Kind.NUMBER, "throttle.tokens"),
    _wired("connection_throttle_fill_time", Kind.NUMBER, "throttle.fill_ms", least=1),
    _wired("connection_throttle_fill_count", Kind.NUMBER, "throttle.fill_count"),
    _wired("connection_throttle_freeze_time", Kind.NUMBER, "throttle.freeze_ms"),
    _wired("connection_throttle_drop_increase", Kind.REAL, "throttle.drop_increase"),
    _wired("connection_throttle_drop_decrease", Kind.REAL, "throttle.drop_decrease"),
    _wired("connection_throttle_decrease_ratio", Kind.REAL, "throttle.decrease_ratio"),
    _wired("connection_throttle_weight_enabled", Kind.TRUTH, "throttle.weighted"),
    _wired("connection_throttle_global_session_weight", Kind.NUMBER, "throttle.weight_new"),
    _wired("connection_throttle_local_session_weight", Kind.NUMBER, "throttle.weight_local"),
    _wired("connection_throttle_renew_session_weight", Kind.NUMBER, "throttle.weight_renewed"),
    _wired("request_throttle_max_requests", Kind.NUMBER, "throttle.requests_max"),
    _wired("request_throttle_stall_time", Kind.NUMBER, "throttle.stall_ms", least=0),
    _wired("request_throttle_drop_stale", Kind.TRUTH, "throttle.drop_stale"),
    _wired("request_stale_connection_check", Kind.TRUTH, "throttle.stale_if_gone"),
    _wired("request_stale_latency_check", Kind.TRUTH, "throttle.stale_if_late"),
    _wired("throttled_op_wait_time", Kind.NUMBER, "throttle.refuse_after_ms"),
    _wired("largeRequestMaxBytes", Kind.NUMBER),
    _wired("largeRequestThreshold", Kind.NUMBER, "throttle.large_from_bytes"),
    # who they are
    _wired("java.security.auth.login.config", Kind.TEXT),
    _wired("sasl.serverconfig", Kind.TEXT),
    _wired("superUser", Kind.TEXT),
    _wired("SASLAuthenticationProvider.superPassword", Kind.TEXT),
    _wired("allowSaslFailedClients", Kind.TRUTH),
    _wired("letAnySaslUserDoX", Kind.TEXT),
    _wired("X509AuthenticationProvider.superUser", Kind.TEXT),
    _wired("sessionRequireClientSASLAuth", Kind.TRUTH),
    _wired("enforce.auth.enabled", Kind.TRUTH),
    _wired("enforce.auth.schemes", Kind.TEXT),
    # files
    _wired("preAllocSize", Kind.LONG, "reserve_bytes", scale=1024, least=0, most=2_097_148),
    _wired("forceSync", Kind.NOT_NO, "force_sync"),
    _wired("fsync.warningthresholdms", Kind.LONG, "sync_warning_ms"),
    _wired("snapCount", Kind.NUMBER, "snapshot_every", least=2),
    _wired("snapSizeLimitInKb", Kind.LONG),
    _wired("txnLogSizeLimitInKb", Kind.LONG),
    _wired("snapshot.compression.method", Kind.TEXT),
    _wired("snapshot.trust.empty", Kind.TRUTH, "trust_empty"),
    _wired("serializeLastProcessedZxid.enabled", Kind.TRUTH, "snapshots_with_zxid"),
    _wired("autopurge.snapRetainCount", Kind.WHOLE, "snapshots_kept", least=3),
    _wired("autopurge.purgeInterval", Kind.WHOLE, "purge_every_h"),
    # what it tells of itself
    _wired("4lw.commands.whitelist", Kind.TEXT),
    _wired("readonlymode.enabled", Kind.TRUTH),
    _wired("audit.enable", Kind.TRUTH, "audit"),
    _wired("audit.impl.class", Kind.TEXT),
    _wired("admin.enableServer", Kind.TEXT),
    _wired("admin.serverPort", Kind.NUMBER, least=0),
    _wired("admin.serverAddress", Kind.TEXT),
    _wired("admin.commandURL", Kind.TEXT, "admin_path"),
    _wired("admin.snapshot.enabled", Kind.TRUTH, "admin_snapshots"),
    _wired("admin.restore.enabled", Kind.TRUTH, "admin_restores"),
    _wired("admin.rateLimiterIntervalInMS", Kind.WHOLE, "admin_interval_ms"),
    _wired("admin.forceHttps", Kind.TRUTH),
    _wired("admin.needClientAuth", Kind.TRUTH),
    _wired("metricsProvider.className", Kind.TEXT),
    _wired("metricsProvider.httpHost", Kind.TEXT),
    _wired("metricsProvider.httpPort", Kind.WHOLE),
    # what would be unsafe to pass over, and which servers there are
    _wired("secureClientPort", Kind.WHOLE),
    _wired("secureClientPortAddress", Kind.TEXT),
    _wired("plaintextOnly", Kind.FLAG),
    _wired("standaloneEnabled", Kind.FLAG),
    _wired("dynamicConfigFile", Kind.TEXT),
)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TLS: Final = _names("""
    ciphersuites clientAuth crl enabledProtocols keyStore.location keyStore.password
    keyStore.passwordPath keyStore.type ocsp protocol trustStore.location trustStore.password
    trustStore.passwordPath trustStore.type
""")
"""What security.py reads."""

_TLS_LATER: Final = _names("""
    allowReverseDnsLookup clientHostnameVerification context.supplier.class
    handshakeDetectionTimeoutMillis hostnameVerification
""")

_LATER: Final = _names("""
    IPAuthenticationProvider.usexforwardedfor admin.portUnification
    client.certReload client.portUnification emulate353TTLNodes ensembleAuthName fips-mode
    kerberos.canonicalizeHostNames kerberos.minReLoginTimeMs kerberos.removeHostFromPrincipal
    kerberos.removeRealmFromPrincipal kinit metricsProvider.httpsPort requireKerberosConfig
    security.auth_to_local server.principal server.realm ssl.authProvider ssl.sslProvider
""")

_ENSEMBLE: Final = _names("""
    cnxTimeout commitLogCount commitProcessor.maxCommitBatchSize
    commitProcessor.maxReadBatchSize commitProcessor.numWorkerThreads
    commitProcessor.shutdownTimeout connectToLearnerMasterLimit controllerPort db.autocreate
    electionAlg electionPortBindRetry enableEagerACLCheck fastleader.maxNotificationInterval
    fastleader.minNotificationInterval follower.nodelay
    follower.skipLearnerRequestToNextProcessor forceSnapshotSync
    forward_learner_requests_to_commit_processor_disabled initLimit leader.ackLoggingFrequency
    leader.closeSocketAsync leader.maxConcurrentDiffSyncs leader.maxConcurrentSnapSyncs
    leader.maxTimeToWaitForEpoch leader.nodelay leaderConnectDelayDuringRetryMs leaderServes
    learner.asyncSending learner.closeSocketAsync localSessionsEnabled
    localSessionsUpgradingEnabled multiAddress.enabled multiAddress.reachabilityCheckEnabled
    multiAddress.reachabilityCheckTimeoutMs observer.election.DelayMs observer.reconnectDelayMs
    observer.syncEnabled observerMaster.sizeLimit observerMasterPort oraclePath peerType
    portUnification quorum.auth.enableSasl quorum.auth.kerberos.servicePrincipal
    quorum.auth.learner.saslLoginContext quorum.auth.learnerRequireSasl
    quorum.auth.server.saslLoginContext quorum.auth.serverRequireSasl quorum.cnxn.threads.size
    quorumCnxnTimeoutMs quorumListenOnAllIPs snapshotSizeFactor sslQuorum
    sslQuorumReloadCertFiles syncEnabled syncLimit tcpKeepAlive testingonly.initialZxid
""")

_JAVA: Final = _names("""
    admin.httpVersion admin.idleTimeout bitHashCacheSize client.secure clientCnxnSocket
    console.threshold disableAutoWatchReset flushDelay intBufferStartingSizeBytes
    jmx.log4j.disable jmx.log4j.mbean jvm.pause.info-threshold.ms jvm.pause.monitor
    jvm.pause.sleep.time.ms jvm.pause.warn-threshold.ms log.dir log.file log.threshold
    maxBatchSize maxGetChildrenResponseCacheSize maxInProcessingDeadWatchers
    maxResponseCacheSize maxWriteQueuePollTime messageTracker.BufferSize messageTracker.Enabled
    metricsProvider.exportJvmInfo metricsProvider.maxQueueSize metricsProvider.numWorkerThreads
    metricsProvider.workerShutdownTimeoutMs netty.advancedFlowControl.enabled
    netty.server.earlyDropSecureConnectionHandshakes netty.server.outstandingHandshake.limit
    nio.directBufferBytes nio.numSelectorThreads nio.numWorkerThreads nio.shutdownTimeout
    pathStats.delay pathStats.enabled pathStats.initialDelay pathStats.maxDepth
    pathStats.sampleRate pathStats.slotCapacity pathStats.slotDuration pathStats.topPathMax
    request_throttler.shutdownTimeout root.logger serverCnxnFactory
    test.allowDiscontinuousProposals watchManagerName watcherCleanIntervalInSeconds
    watcherCleanThreadsNum watcherCleanThreshold
""")

KEYS: Final[dict[str, Key]] = {
    key.name: key
    for key in (
        *_WIRED,
        *(_wired(f"ssl.{name}", Kind.TEXT) for name in _TLS),
        *(Key(name, Effect.LATER) for name in (*_LATER, *(f"ssl.{name}" for name in _TLS_LATER))),
        *(
            Key(name, Effect.ENSEMBLE)
            for name in (*_ENSEMBLE, *(f"ssl.quorum.{name}" for name in (*_TLS, *_TLS_LATER)))
        ),
        *(Key(name, Effect.JAVA) for name in _JAVA),
    )
}

_FAMILIES: Final = {
    "server.": Effect.WIRED,
    "group": Effect.ENSEMBLE,
    "weight": Effect.ENSEMBLE,
    "authProvider.": Effect.WIRED,
    "superUser.": Effect.WIRED,
    "metricsProvider.": Effect.LATER,
}
"""Beginnings of names that nobody can list."""

_JVM: Final = (
    "java.", "javax.", "jdk.", "sun.", "com.sun.", "com.ibm.", "ibm.", "log4j", "logback.", "slf4j",
    "org.slf4j.", "user.", "file.", "os.", "networkaddress.", "io.netty.", "http.", "https.",
)  # fmt: skip

ALIASES: Final = {
    "host": "clientPortAddress",
    "port": "clientPort",
    "tickMs": "tickTime",
    "sessionMsMin": "minSessionTimeout",
    "sessionMsMax": "maxSessionTimeout",
    "commands": "4lw.commands.whitelist",
    "adminPort": "admin.serverPort",
    "adminHost": "admin.serverAddress",
    "metricsPort": "metricsProvider.httpPort",
    "metricsHost": "metricsProvider.httpHost",
}
"""Names of our own, for flags, TOML files and the environment."""


def _folded(name: str) -> str:
    return re.sub(r"[._-]", "", name).lower()


_FOLDED: Final = {_folded(name): name for name in KEYS} | {
    _folded(alias): name for alias, name in ALIASES.items()
}


def bare(name: str) -> str:
    """Return a name without ``zookeeper.``."""
    return name.removeprefix(PREFIX)


def find(name: str) -> str:
    """Return the name of the key that somebody spelled in their own way; as it is if there is none.

    Dots, dashes, underscores and case do not count.
    """
    plain = bare(name)
    if plain in KEYS:
        return plain
    folded = _folded(plain)
    if match := re.fullmatch(r"(server|authprovider)(\d+)", folded):
        return f"{'server' if match[1] == 'server' else 'authProvider'}.{match[2]}"
    return _FOLDED.get(folded, plain)


def key_of(name: str) -> Key | None:
    """Return the key of that exact name, ``zookeeper.`` taken away already."""
    if known := KEYS.get(name):
        return known
    for beginning, effect in _FAMILIES.items():
        if name.startswith(beginning):
            return Key(name, effect)
    return None


def is_of_the_jvm(name: str) -> bool:
    """Tell whether a system property is Java's own."""
    return name.startswith(_JVM)


def value_of(kind: Kind, text: str, *, java: bool) -> str | int | float | bool:
    """Return what a text means.

    Args:
        kind: Of the key.
        text: Without blanks around it.
        java: Apache's rules; else plain ones: yes, true, on and 1, or no, false, off and 0.

    Raises:
        ValueError: It is no value of that kind.
    """
    if kind is Kind.TEXT:
        return text
    if kind is Kind.REAL:
        return _real(text)
    if kind in (Kind.WHOLE, Kind.NUMBER, Kind.LONG):
        number = _whole(text) if kind is Kind.WHOLE else _decoded(text)
        limit = 1 << (63 if kind is Kind.LONG else 31)
        if not -limit <= number < limit:
            raise ValueError(f"{text} is beyond {kind.value}")
        return number
    if java:
        match kind:
            case Kind.TRUTH:
                return text.lower() == "true"
            case Kind.YES:
                return text == "yes"
            case Kind.NOT_NO:
                return text != "no"
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif text.lower() in _PLAIN:
        return _PLAIN[text.lower()]
    raise ValueError(f"{text!r} is not {kind.value.rstrip('.')}")


_PLAIN: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _real(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[fFdD]?", text):
        raise ValueError(f"{text!r} is not a number")
    return float(text.rstrip("fFdD"))


def _decoded(text: str) -> int:
    """As Java's ``decode``: decimal, 0x or # hexadecimal, 0 octal."""
    match = re.fullmatch(r"([+-]?)(0[xX]|#|0(?=[0-9]))?([0-9a-fA-F]+)", text)
    try:
        if match is not None:
            base = {None: 10, "0": 8}.get(match[2], 16)
            return int(match[1] + match[3], base)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a number")
