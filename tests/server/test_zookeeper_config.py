"""Configuration: every key reaches its field from every place, and what is unsafe stops the start.

One table says what each wired key sets; the tests walk it through zoo.cfg, -D, the JVM's flags, the
environment and TOML.  The table and the list of keys must name the same keys, so that a key cannot
be added without a test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from stratalog.core.zookeeper.identity import X509, Sasl
from stratalog.errors import ConfigurationError
from stratalog.server.zookeeper.config import PROMETHEUS, WORDS, Configuration, configure
from stratalog.server.zookeeper.keys import ALIASES, KEYS, Effect, Kind, find, key_of, value_of
from stratalog.server.zookeeper.settings import Settings

CLASS = "org.apache.zookeeper.server.auth."

# Key, text, what it sets: fields of Settings, dots for those of Options and Rules.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("dataDir", "/somewhere/zk", {"data_dir": Path("/somewhere/zk")}),
    ("dataLogDir", "/elsewhere/zk", {"data_log_dir": Path("/elsewhere/zk")}),
    ("datadir.autocreate", "false", {"create_directories": False}),
    ("clientPort", "2299", {"port": 2299}),
    ("clientPortListenBacklog", "77", {"backlog": 77}),
    ("maxClientCnxns", "11", {"connections_per_address_max": 11}),
    ("maxCnxns", "12", {"connections_max": 12}),
    ("clientTcpKeepAlive", "true", {"keep_alive": True}),
    ("fsync.warningthresholdms", "19", {"sync_warning_ms": 19}),
    ("nio.sessionlessCnxnTimeout", "2500", {"handshake_s": 2.5}),
    ("globalOutstandingLimit", "13", {"outstanding_max": 13}),
    ("jute.maxbuffer", "5000", {"frame_bytes_max": 5000, "options.rules.txn_bytes_max": 10_000}),
    ("jute.maxbuffer.extrasize", "2000", {"options.rules.txn_bytes_max": 0xFFFFF + 2000}),
    ("tickTime", "500", {"options.tick_ms": 500, "options.session_ms_min": 1000,
                         "options.session_ms_max": 10_000}),
    ("minSessionTimeout", "7000", {"options.session_ms_min": 7000}),
    ("maxSessionTimeout", "8000", {"options.session_ms_max": 8000}),
    ("extendedTypesEnabled", "true", {"extended": True}),
    ("digest.enabled", "false", {"digests": False}),
    ("closeSessionTxn.enabled", "false", {"options.rules.close_session_paths": False}),
    ("enforceQuota", "true", {"options.rules.enforce_quota": True}),
    ("reconfigEnabled", "true", {"options.rules.reconfig_enabled": True}),
    ("skipACL", "yes", {"options.rules.skip_acl": True}),
    ("DigestAuthenticationProvider.enabled", "false", {"digest_auth": False}),
    ("DigestAuthenticationProvider.superDigest", "super:abc=", {"options.super_digest":
                                                                "super:abc="}),
    ("DigestAuthenticationProvider.digestAlg", "SHA-256", {"options.digest_algorithm": "sha256"}),
    ("znode.container.checkIntervalMs", "1500", {"container_check_ms": 1500}),
    ("znode.container.maxPerMinute", "14", {"container_deletes_per_minute": 14}),
    ("znode.container.maxNeverUsedIntervalMs", "1600",
     {"options.container_never_used_ms_max": 1600}),
    ("preAllocSize", "128", {"reserve_bytes": 128 << 10}),
    ("forceSync", "no", {"force_sync": False}),
    ("snapCount", "15", {"snapshot_every": 15}),
    ("snapSizeLimitInKb", "16", {"log_bytes_max": 16 << 10}),
    ("txnLogSizeLimitInKb", "19", {"log_roll_bytes": 19 << 10}),
    ("snapshot.compression.method", "gz", {"snapshot_compression": "gz"}),
    ("snapshot.trust.empty", "true", {"trust_empty": True}),
    ("serializeLastProcessedZxid.enabled", "false", {"snapshots_with_zxid": False}),
    ("autopurge.snapRetainCount", "17", {"snapshots_kept": 17}),
    ("autopurge.purgeInterval", "0", {"purge_every_h": 0}),
    ("4lw.commands.whitelist", "ruok, mntr", {"commands_allowed":
                                              frozenset(("ruok", "mntr", "srvr"))}),
    ("readonlymode.enabled", "true", {"commands_allowed": frozenset(("isro", "srvr"))}),
    ("admin.enableServer", "true", {"admin_port": 8080}),
    ("admin.serverPort", "8081", {"admin_port": 8081}),
    ("admin.serverAddress", "127.0.0.2", {"admin_host": "127.0.0.2", "admin_port": 8080}),
    ("admin.commandURL", "/words", {"admin_path": "/words", "admin_port": 8080}),
    ("admin.snapshot.enabled", "false", {"admin_snapshots": False}),
    ("admin.restore.enabled", "false", {"admin_restores": False}),
    ("admin.rateLimiterIntervalInMS", "18", {"admin_interval_ms": 18}),
    ("metricsProvider.className", PROMETHEUS, {"metrics_port": 7000}),
    ("audit.enable", "true", {"audit": True}),
    ("audit.impl.class", "org.apache.zookeeper.audit.Slf4jAuditLogger", {}),
    ("connection_throttle_tokens", "30", {"throttle.tokens": 30}),
    ("connection_throttle_fill_time", "31", {"throttle.fill_ms": 31}),
    ("connection_throttle_fill_count", "32", {"throttle.fill_count": 32}),
    ("connection_throttle_freeze_time", "33", {"throttle.freeze_ms": 33}),
    ("connection_throttle_drop_increase", "0.25", {"throttle.drop_increase": 0.25}),
    ("connection_throttle_drop_decrease", "1e-1", {"throttle.drop_decrease": 0.1}),
    ("connection_throttle_decrease_ratio", ".5", {"throttle.decrease_ratio": 0.5}),
    ("connection_throttle_weight_enabled", "true", {"throttle.weighted": True}),
    ("connection_throttle_global_session_weight", "34", {"throttle.weight_new": 34}),
    ("connection_throttle_local_session_weight", "35", {"throttle.weight_local": 35}),
    ("connection_throttle_renew_session_weight", "36", {"throttle.weight_renewed": 36}),
    ("request_throttle_max_requests", "37", {"throttle.requests_max": 37}),
    ("request_throttle_stall_time", "38", {"throttle.stall_ms": 38}),
    ("request_throttle_drop_stale", "false", {"throttle.drop_stale": False}),
    ("request_stale_connection_check", "false", {"throttle.stale_if_gone": False}),
    ("request_stale_latency_check", "true", {"throttle.stale_if_late": True}),
    ("throttled_op_wait_time", "39", {"throttle.refuse_after_ms": 39}),
    ("largeRequestMaxBytes", "40", {"throttle.large_bytes_max": 40}),
    ("largeRequestThreshold", "41", {"throttle.large_from_bytes": 41}),
    ("superUser", "boss", {}),
    ("listenPublicly", "true", {}),
    ("plaintextOnly", "true", {}),
    ("letAnySaslUserDoX", "x", {}),
    ("sasl.serverconfig", "Server", {}),
    ("SASLAuthenticationProvider.superPassword", "secret", {}),
    ("X509AuthenticationProvider.superUser", "CN=a", {}),
    ("allowSaslFailedClients", "true", {}),
    ("enforce.auth.schemes", "digest", {}),
    ("standaloneEnabled", "true", {}),
]  # fmt: skip

# Keys with tests of their own below, or in the tests of TLS.
APART = {
    "clientPortAddress", "dynamicConfigFile", "metricsProvider.httpHost",
    "metricsProvider.httpPort", "admin.forceHttps", "admin.needClientAuth",
    "sessionRequireClientSASLAuth", "enforce.auth.enabled", "java.security.auth.login.config",
    "secureClientPort", "secureClientPortAddress",
}  # fmt: skip

EVERYWHERE = "0.0.0.0"  # noqa: S104  (compared, not bound)
BASE = {"dataDir": ("/data", "--data-dir")}


def reach(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def fields(settings: Settings) -> dict[str, Any]:
    """Everything that Settings say, flat."""
    found = {}
    for name in Settings.__slots__:
        value = getattr(settings, name)
        if name == "options":
            found |= {f"options.{each}": getattr(value, each) for each in value.__slots__}
        else:
            found[name] = value
    return found


def with_cfg(tmp_path: Path, text: str, **others: Any) -> Configuration:
    file = tmp_path / "zoo.cfg"
    file.write_bytes(text.encode("iso-8859-1"))
    if not re.search(r"^(zookeeper\.)?dataDir\b", text, re.MULTILINE):
        others.setdefault("flags", BASE)
    return configure(zoo_cfg=file, **others)


def variable(name: str) -> str:
    """A key as a name of the environment: dots and capitals become underscores."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return "STRATALOG_ZK_" + snake.replace(".", "_").upper()


def base_for(name: str) -> dict[str, tuple[str, str]]:
    return {} if name == "dataDir" else BASE


# ---- every key, from everywhere ----


def test_every_wired_key_is_in_the_table():
    wired = {name for name, key in KEYS.items() if key.effect is Effect.WIRED}
    tls = {name for name in wired if name.startswith("ssl.")}
    assert {name for name, _, _ in CASES} | APART | tls == wired


def test_no_case_sets_what_is_the_default_anyhow():
    default = configure(flags=BASE).settings
    for name, _, expected in CASES:
        for path, value in expected.items():
            assert reach(default, path) != value, name


@pytest.mark.parametrize(("name", "text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_key_reaches_its_field_from_everywhere(name, text, expected, tmp_path):
    toml = tmp_path / "stratalog.toml"
    toml.write_text(f'"{name}" = "{text}"\n')
    flags = base_for(name)
    made = {
        "zoo.cfg": with_cfg(tmp_path, f"{name}={text}\n"),
        "zoo.cfg, prefix": with_cfg(tmp_path, f"zookeeper.{name} = {text}\n"),
        "-D": configure(properties=[f"{name}={text}"], flags=flags),
        "-D, prefix": configure(properties=[f"zookeeper.{name}={text}"], flags=flags),
        "JVMFLAGS": configure(environment={"JVMFLAGS": f'-Xmx1g "-D{name}={text}"'}, flags=flags),
        "SERVER_JVMFLAGS": configure(
            environment={"SERVER_JVMFLAGS": f"'-Dzookeeper.{name}={text}' -ea"}, flags=flags
        ),
        "environment": configure(environment={variable(name): text}, flags=flags),
        "TOML": configure(toml=toml, flags=flags),
        "flag": configure(flags={**flags, name: (text, "--flag")}),
    }
    for place, configuration in made.items():
        assert configuration.warnings == [], place
        for path, value in expected.items():
            assert reach(configuration.settings, path) == value, (place, path)


@pytest.mark.parametrize("name", [name for name in KEYS if KEYS[name].effect is not Effect.WIRED])
def test_a_key_without_effect_is_told_by_name_and_changes_nothing(name, tmp_path):
    file = with_cfg(tmp_path, f"{name}=1\n")
    assert fields(file.settings) | {"initial_config": ""} == fields(configure(flags=BASE).settings)
    told = file.warnings if KEYS[name].effect is Effect.LATER else file.notes
    assert len(file.warnings) + len(file.notes) == 1
    assert told[0].startswith(f"{name} ({tmp_path / 'zoo.cfg'}:1) ")


def test_an_unknown_key_is_warned_of_by_name(tmp_path):
    made = with_cfg(tmp_path, "\nsnapcount=5\n")
    assert made.warnings == [
        f"snapcount ({tmp_path / 'zoo.cfg'}:2) is no key of ZooKeeper 3.9: it has no effect"
    ]
    made = configure(
        flags=BASE, properties=["zookeeper.nonsense=1"], environment={"STRATALOG_ZK_NO_SUCH": "1"}
    )
    assert [sentence.split()[0] for sentence in made.warnings] == ["NO_SUCH", "nonsense"]


def test_javas_own_properties_are_no_news():
    flags = "-server -Djava.awt.headless=true -Dcom.sun.management.jmxremote -Dlog4j.x=1"
    made = configure(flags=BASE, environment={"JVMFLAGS": flags})
    assert made.warnings == []
    assert len(made.notes) == 3


def test_spellings_lead_to_one_key_each():
    for name in KEYS:
        assert find(name) == name
        assert find(variable(name).removeprefix("STRATALOG_ZK_")) == name
        assert find(f"zookeeper.{name}") == name
    for alias, name in ALIASES.items():
        assert find(alias) == name
        assert find(variable(alias).removeprefix("STRATALOG_ZK_")) == name
    assert find("SERVER_3") == "server.3"
    assert find("AUTH_PROVIDER_1") == "authProvider.1"
    assert key_of("nothing.of.the.kind") is None


# ---- which source wins ----


def test_the_stronger_source_wins(tmp_path):
    environment: dict[str, str] = {}
    others: dict[str, Any] = {"flags": dict(BASE), "environment": environment}

    def port(text: str) -> int:
        return with_cfg(tmp_path, text, **others).settings.port

    environment["SERVER_JVMFLAGS"] = "-Dzookeeper.clientPort=1"
    assert port("") == 1
    environment["JVMFLAGS"] = "-Dzookeeper.clientPort=2"
    assert port("") == 2
    assert port("clientPort=3\nclientPort=4") == 4
    environment["STRATALOG_ZK_CLIENT_PORT"] = "5"
    assert port("clientPort=4") == 5
    others["properties"] = ["clientPort=6", "zookeeper.clientPort=7"]
    assert port("clientPort=4") == 7
    others["flags"]["clientPort"] = ("8", "--port")
    assert port("clientPort=4") == 8


def test_a_toml_file_may_use_tables_lists_and_flags_names(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(
        """
        data_dir = "/data"
        port = 2222
        tick-ms = 100
        forceSync = false
        skipACL = true
        commands = ["ruok", "stat"]
        [autopurge]
        snapRetainCount = 9
        [znode.container]
        checkIntervalMs = 5
        """
    )
    settings = configure(toml=file).settings
    assert (settings.data_dir, settings.port, settings.options.tick_ms) == (
        Path("/data"), 2222, 100,
    )  # fmt: skip
    assert not settings.force_sync
    assert settings.options.rules.skip_acl
    assert settings.commands_allowed == {"ruok", "stat", "srvr"}
    assert (settings.snapshots_kept, settings.container_check_ms) == (9, 5)


@pytest.mark.parametrize("text", ["port = 1.5", "port = [1]", "port =", "port = 1979-05-27"])
def test_a_bad_toml_file_is_refused(text, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(str(file))):
        configure(toml=file, flags=BASE)


# ---- what texts mean ----


@pytest.mark.parametrize(
    ("kind", "text", "java", "plain"),
    [
        (Kind.NOT_NO, "no", False, False),
        (Kind.NOT_NO, "false", True, False),
        (Kind.NOT_NO, "yes", True, True),
        (Kind.YES, "yes", True, True),
        (Kind.YES, "true", False, True),
        (Kind.YES, "no", False, False),
        (Kind.TRUTH, "TRUE", True, True),
        (Kind.TRUTH, "yes", False, True),
        (Kind.TRUTH, "off", False, False),
        (Kind.TRUTH, "gibberish", False, ValueError),
        (Kind.FLAG, "True", True, True),
        (Kind.FLAG, "yes", ValueError, True),
        (Kind.FLAG, "", ValueError, ValueError),
        (Kind.WHOLE, "+12", 12, 12),
        (Kind.WHOLE, "-1", -1, -1),
        (Kind.WHOLE, "0x10", ValueError, ValueError),
        (Kind.WHOLE, "010", 10, 10),
        (Kind.WHOLE, "1_0", ValueError, ValueError),
        (Kind.WHOLE, "2147483648", ValueError, ValueError),
        (Kind.NUMBER, "0x400000", 0x400000, 0x400000),
        (Kind.NUMBER, "-#ff", -255, -255),
        (Kind.NUMBER, "010", 8, 8),
        (Kind.NUMBER, "0", 0, 0),
        (Kind.NUMBER, "08", ValueError, ValueError),
        (Kind.NUMBER, "abc", ValueError, ValueError),
        (Kind.NUMBER, "2147483647", 2147483647, 2147483647),
        (Kind.NUMBER, "-2147483649", ValueError, ValueError),
        (Kind.LONG, "2147483648", 1 << 31, 1 << 31),
        (Kind.LONG, "9223372036854775808", ValueError, ValueError),
    ],
)
def test_a_text_means_what_its_reader_makes_of_it(kind, text, java, plain):
    for as_java, expected in ((True, java), (False, plain)):
        if expected is ValueError:
            with pytest.raises(ValueError, match=r"is not|is beyond"):
                value_of(kind, text, java=as_java)
        else:
            assert value_of(kind, text, java=as_java) == expected


def test_a_number_that_is_none_leaves_apaches_default_and_is_told(tmp_path):
    made = with_cfg(tmp_path, "snapCount=many\njute.maxbuffer=\n")
    assert made.settings.snapshot_every == 100_000
    assert made.settings.frame_bytes_max == 0xFFFFF
    assert made.warnings == [
        f"snapCount ({tmp_path / 'zoo.cfg'}:1): 'many' is not a number; the default stays"
    ]


def test_a_number_that_is_none_is_refused_where_apache_refuses_it_and_where_we_are_asked(tmp_path):
    with pytest.raises(ConfigurationError, match=r"tickTime: 'x' is not .*zoo.cfg:1"):
        with_cfg(tmp_path, "tickTime=x\n")
    with pytest.raises(
        ConfigurationError, match=r"snapCount: 'x' is not .*STRATALOG_ZK_SNAP_COUNT"
    ):
        configure(flags=BASE, environment={"STRATALOG_ZK_SNAP_COUNT": "x"})
    with pytest.raises(ConfigurationError, match=r"forceSync: 'maybe' is not yes or no"):
        configure(flags=BASE, environment={"STRATALOG_ZK_FORCE_SYNC": "maybe"})


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("snapCount=1", "snapshot_every", 2),
        ("autopurge.snapRetainCount=1", "snapshots_kept", 3),
        ("globalOutstandingLimit=-1", "outstanding_max", 0),
        ("preAllocSize=4194304", "reserve_bytes", 2_097_148 << 10),
        ("snapshot.compression.method=lzma", "snapshot_compression", ""),
        ("4lw.commands.whitelist=ruok,what", "commands_allowed", {"ruok", "srvr"}),
    ],
)
def test_a_value_beyond_its_limits_is_replaced_and_told(text, path, value, tmp_path):
    made = with_cfg(tmp_path, text)
    assert reach(made.settings, path) == value
    assert len(made.warnings) == 1
    assert text.partition("=")[0] in made.warnings[0]


def test_small_rules_of_single_keys(tmp_path):
    assert with_cfg(tmp_path, "snapSizeLimitInKb=0").settings.log_bytes_max >= 1 << 60
    assert with_cfg(tmp_path, "txnLogSizeLimitInKb=-1").settings.log_roll_bytes >= 1 << 60
    assert with_cfg(tmp_path, "4lw.commands.whitelist=*").settings.commands_allowed == WORDS
    assert (
        with_cfg(tmp_path, "snapshot.compression.method=GZ").settings.snapshot_compression == "gz"
    )
    rules = with_cfg(tmp_path, "jute.maxbuffer=100\njute.maxbuffer.extrasize=1").settings.options
    assert rules.rules.txn_bytes_max == 100 + 1024
    for java, ours in (("SHA1", "sha1"), ("SHA-512", "sha512"), ("SHA3-256", "sha3_256"),
                       ("MD5", "md5"), ("sha-1", "sha1")):  # fmt: skip
        made = with_cfg(tmp_path, f"DigestAuthenticationProvider.digestAlg={java}")
        assert made.settings.options.digest_algorithm == ours


def test_the_words_are_those_that_are_answered():
    from stratalog.server.zookeeper import four_letter

    assert four_letter.WORDS == WORDS


# ---- what stops a start ----


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tickTime=0", "tickTime=0 is no time"),
        ("minSessionTimeout=9\nmaxSessionTimeout=8", "minSessionTimeout, 9 ms, is above"),
        ("minSessionTimeout=100000", "is above maxSessionTimeout, 60000 ms"),
        ("clientPort=65536", "clientPort=65536 is no port"),
        ("clientPort=-1", "clientPort=-1 is no port"),
        ("clientPort=x", "clientPort: 'x' is not a whole number"),
        ("clientPortAddress=127.0.0.1", "clientPortAddress is set, and clientPort is not"),
        ("secureClientPortAddress=127.0.0.1", "secureClientPort is not"),
        ("sessionRequireClientSASLAuth=true", "authenticate by SASL, and nobody is known"),
        ("enforce.auth.enabled=true", "enforce.auth.enabled wants enforce.auth.schemes"),
        ("enforce.auth.enabled=true\nenforce.auth.schemes=x509", "no such scheme"),
        ("DigestAuthenticationProvider.enabled=false\nenforce.auth.enabled=true\n\
enforce.auth.schemes=digest", "no such scheme"),
        ("standaloneEnabled=false", "asks for an ensemble"),
        ("standaloneEnabled=maybe", "is not true or false"),
        ("server.1=a:1:2\nserver.2=b:1:2", "an ensemble is asked for (server.1, server.2)"),
        ("server.1=a:1:2\nserver.2=b:1:2:observer", "an ensemble is asked for"),
        ("server.1=a:1:2:observer;2181", "an ensemble is asked for (server.1)"),
        ("DigestAuthenticationProvider.digestAlg=ROT13", "there is no digest 'ROT13'"),
        ("admin.serverPort=8080\nadmin.forceHttps=true", "admin.forceHttps asks for TLS"),
        ("admin.serverPort=8080\nadmin.needClientAuth=true", "admin.needClientAuth asks for TLS"),
        ("admin.serverPort=70000", "admin.serverPort=70000 is no port"),
        ("java.security.auth.login.config=/no/such/jaas.conf", "cannot be read"),
        ("connection_throttle_drop_increase=x", "'x' is not a number"),
        ("audit.enable=true\naudit.impl.class=a.Logger", "an audit log through a.Logger"),
        ("dynamicConfigFile=/no/such/zoo.cfg.dynamic", "cannot be read"),
        ("a=\\u12", "line 1: "),
    ],
)  # fmt: skip
def test_what_is_unsafe_or_makes_no_sense_is_refused(text, sentence, tmp_path):
    with pytest.raises(ConfigurationError, match=re.escape(sentence)) as caught:
        with_cfg(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert caught.value.path


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("zoo_cfg", "toml"):
        with pytest.raises(ConfigurationError, match=r"missing.*ENOENT"):
            configure(**{name: tmp_path / "missing"})


def test_a_data_directory_is_wanted(tmp_path):
    with pytest.raises(ConfigurationError, match="dataDir is not set"):
        configure()
    with pytest.raises(ConfigurationError, match="dataDir is not set"):
        with_cfg(tmp_path, "dataDir=\n")


# ---- listeners ----


def test_nobody_else_reaches_a_server_unless_somebody_said_so(tmp_path):
    assert configure(flags=BASE).settings.host == "127.0.0.1"
    for host in (EVERYWHERE, "::", "10.1.2.3", "zk.example.org"):
        with pytest.raises(ConfigurationError, match=r"without encryption.*--host"):
            configure(flags={**BASE, "clientPortAddress": (host, "--host")})
        with pytest.raises(ConfigurationError, match="without encryption"):
            with_cfg(
                tmp_path, "clientPort=1", environment={"STRATALOG_ZK_CLIENT_PORT_ADDRESS": host}
            )
        with pytest.raises(ConfigurationError, match="without encryption"):
            configure(flags=BASE, properties=["admin.serverPort=0", f"admin.serverAddress={host}"])
        flags = {**BASE, "metricsProvider.httpPort": ("0", "--metrics-port"),
                 "metricsProvider.httpHost": (host, "--metrics-host")}  # fmt: skip
        with pytest.raises(ConfigurationError, match="without encryption"):
            configure(flags=flags)
        flags["clientPortAddress"] = (host, "--host")
        settings = configure(flags={**flags, "listenPublicly": ("true", "--p")}).settings
        assert (settings.host, settings.metrics_host) == (host, host)
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        made = configure(flags={**BASE, "clientPortAddress": (host, "--host")})
        assert made.settings.host == host


def test_a_tls_port_may_be_left_out(tmp_path):
    settings = with_cfg(tmp_path, "secureClientPort=1\nplaintextOnly=true").settings
    assert settings.tls is None
    assert settings.plaintext
    with pytest.raises(ConfigurationError, match=r"ssl\.keyStore\.location is not set"):
        with_cfg(tmp_path, "secureClientPort=1\nclientPort=2")


def test_a_zoo_cfg_listens_where_apaches_server_does(tmp_path):
    settings = with_cfg(tmp_path, "clientPort=2181").settings
    assert (settings.host, settings.port) == (EVERYWHERE, 2181)
    settings = with_cfg(tmp_path, "clientPort=1\nclientPortAddress=10.0.0.1").settings
    assert (settings.host, settings.port) == ("10.0.0.1", 1)
    assert with_cfg(tmp_path, "").settings.host == "127.0.0.1"
    flags = {**BASE, "clientPortAddress": ("127.0.0.1", "--host")}
    assert with_cfg(tmp_path, "clientPort=1", flags=flags).settings.host == "127.0.0.1"


def test_http_is_off_unless_somebody_speaks_of_it(tmp_path):
    assert configure(flags=BASE).settings.admin_port is None
    assert (
        with_cfg(tmp_path, "admin.enableServer=false\nadmin.serverPort=1").settings.admin_port
        is None
    )
    settings = with_cfg(tmp_path, "admin.serverPort=8082").settings
    assert (settings.admin_port, settings.admin_host) == (8082, EVERYWHERE)
    settings = configure(flags=BASE, environment={"STRATALOG_ZK_ADMIN_PORT": "8083"}).settings
    assert (settings.admin_port, settings.admin_host) == (8083, "127.0.0.1")


def test_metrics_are_shown_where_their_provider_is_chosen(tmp_path):
    assert with_cfg(tmp_path, "metricsProvider.httpPort=1").settings.metrics_port is None
    provider = f"metricsProvider.className={PROMETHEUS}\n"
    settings = with_cfg(tmp_path, provider).settings
    assert (settings.metrics_port, settings.metrics_host) == (7000, EVERYWHERE)
    text = provider + "metricsProvider.httpPort=7001\nmetricsProvider.httpHost=127.0.0.3"
    settings = with_cfg(tmp_path, text).settings
    assert (settings.metrics_port, settings.metrics_host) == (7001, "127.0.0.3")
    flags = {**BASE, "metricsProvider.httpPort": ("7002", "--metrics-port")}
    settings = configure(flags=flags).settings
    assert (settings.metrics_port, settings.metrics_host) == (7002, "127.0.0.1")
    made = with_cfg(tmp_path, "metricsProvider.className=com.example.Mine")
    assert made.settings.metrics_port is None
    assert "com.example.Mine" in made.warnings[0]


# ---- one line of an ensemble ----


def test_one_server_is_no_ensemble(tmp_path):
    made = with_cfg(tmp_path, "clientPort=5\nserver.1=localhost:2888:3888\nauthProvider.1=\n")
    assert made.settings.port == 5
    assert "server.1" in made.warnings[0]


def test_a_dynamic_file_is_read(tmp_path):
    dynamic = tmp_path / "zoo.cfg.dynamic.100000000"
    dynamic.write_text("version=100000000\nserver.4=localhost:2888:3888:participant;127.0.0.1:2199")
    (tmp_path / "myid").write_text("4\n")
    text = f"dataDir={tmp_path}\ndynamicConfigFile={dynamic}\n"
    made = with_cfg(tmp_path, text)
    assert (made.settings.host, made.settings.port) == ("127.0.0.1", 2199)
    dynamic.write_text("server.4=localhost:2888:3888;2198")
    made = with_cfg(tmp_path, text)
    assert (made.settings.host, made.settings.port) == (EVERYWHERE, 2198)
    with pytest.raises(ConfigurationError, match="differ"):
        with_cfg(tmp_path, text + "clientPort=1\n")
    (tmp_path / "myid").write_text("5\n")
    assert with_cfg(tmp_path, text + "clientPort=1\n").settings.port == 1
    dynamic.write_text("server.4=a:1:2;3\nserver.5=b:1:2;3\n")
    with pytest.raises(ConfigurationError, match="an ensemble"):
        with_cfg(tmp_path, text)


# ---- who clients are ----


def test_users_come_from_the_jaas_file(tmp_path):
    file = tmp_path / "jaas.conf"
    file.write_text(
        "Server { org.apache.zookeeper.server.auth.DigestLoginModule required\n"
        '  user_super="one" user_bob="two"; };\n'
        'Other { org.apache.zookeeper.server.auth.DigestLoginModule required user_x="y"; };\n'
        "Kerberos { com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true; };\n"
    )
    text = f"java.security.auth.login.config={file}\n"
    text += f"authProvider.1={CLASS}SASLAuthenticationProvider\n"
    made = with_cfg(tmp_path, text)
    sasl = made.settings.options.sasl
    assert sasl is not None
    assert (sasl.passwords, sasl.supers, sasl.failed_may_stay) == (
        {"super": "one", "bob": "two"}, frozenset(), False,
    )  # fmt: skip
    assert made.settings.schemes == {"sasl": Sasl()}
    assert made.warnings == []
    text += (
        "SASLAuthenticationProvider.superPassword=three\nsuperUser=bob\nsuperUser.2=eve\n"
        "allowSaslFailedClients=true\nsessionRequireClientSASLAuth=true\nletAnySaslUserDoX=x\n"
    )
    settings = with_cfg(tmp_path, text).settings
    sasl = settings.options.sasl
    assert sasl is not None
    assert sasl.passwords == {"super": "three", "bob": "two"}
    assert sasl.supers == {"bob", "eve"}
    assert sasl.failed_may_stay
    assert settings.options.required_schemes == {"sasl"}
    assert settings.schemes == {"sasl": Sasl("x")}
    sasl = with_cfg(tmp_path, text + "sasl.serverconfig=Other\n").settings.options.sasl
    assert sasl is not None
    assert sasl.passwords == {"x": "y"}
    with pytest.raises(ConfigurationError, match="nobody is known"):
        with_cfg(tmp_path, text + "sasl.serverconfig=Kerberos\n")
    file.write_text("Server { nonsense")
    with pytest.raises(ConfigurationError, match="login configuration, line 1"):
        with_cfg(tmp_path, text)
    file.write_text("")
    with pytest.raises(ConfigurationError, match="nobody is known"):
        with_cfg(tmp_path, text)


def test_schemes_are_chosen_by_their_classes(tmp_path):
    made = with_cfg(
        tmp_path,
        f"authProvider.1={CLASS}X509AuthenticationProvider\nauthProvider.b=com.example.Mine\n"
        f"authProvider.3={CLASS}DigestAuthenticationProvider\n"
        "X509AuthenticationProvider.superUser=CN=a\n"
        "enforce.auth.enabled=true\nenforce.auth.schemes= digest , x509,\n",
    )
    assert made.settings.schemes == {"x509": X509("CN=a")}
    assert made.settings.options.required_schemes == {"digest", "x509"}
    assert len(made.warnings) == 1
    assert "authProvider.b" in made.warnings[0]
    assert "com.example.Mine" in made.warnings[0]


# ---- files of others ----


def test_the_file_that_everybody_begins_with(tmp_path):
    made = with_cfg(
        tmp_path,
        "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n"
        "dataDir=/var/lib/zookeeper\nclientPort=2181\n#maxClientCnxns=60\n",
    )
    settings = made.settings
    assert made.warnings == []
    assert settings.data_dir == Path("/var/lib/zookeeper")
    assert (settings.options.session_ms_min, settings.options.session_ms_max) == (4000, 40_000)
    assert settings.purge_every_h == 1
    assert settings.initial_config.startswith("# The number of")


def test_a_lone_quote_in_the_jvms_flags_is_a_character():
    made = configure(flags=BASE, environment={"JVMFLAGS": "-Dx.y=it's -DsnapCount=5"})
    assert made.settings.snapshot_every == 5


def test_the_environment_of_this_process_is_not_looked_at(monkeypatch):
    monkeypatch.setitem(os.environ, "JVMFLAGS", "-DsnapCount=5")
    assert configure(flags=BASE).settings.snapshot_every == 100_000


def test_the_page_names_every_key_that_does_something_and_every_one_that_will():
    page = (Path(__file__).parents[2] / "docs" / "zookeeper.md").read_text()
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    named = set(re.findall(r"`([^`\n]+)`", page))
    families = tuple(name.removesuffix("*") for name in named if name.endswith("*"))
    for name, key in KEYS.items():
        if key.effect in {Effect.WIRED, Effect.LATER}:
            assert name in named or name.startswith(families), name
    later = page.partition("Known, and without effect yet")[2].partition("\n\n##")[0]
    for name in re.findall(r"`([^`\n]+)`", later):
        alike = [key for key in KEYS if key.startswith(name.rstrip("*"))]
        assert alike, name
        assert all(KEYS[key].effect is Effect.LATER for key in alike if key == name or "*" in name)
