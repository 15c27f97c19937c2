"""From files, flags and the environment to Settings.

    weakest   JVMFLAGS behind SERVER_JVMFLAGS   -Dkey=value, as bin/zkServer.sh puts them together
              zoo.cfg, or a TOML file           zoo.cfg beats the JVM's properties at Apache's too
              STRATALOG_ZK_<KEY>                dots and capitals of the key become underscores
    strongest -Dkey=value, flags                what somebody typed wins, flags before -D

A key means the same wherever it stands, with ``zookeeper.`` in front or without.  What is only
strange is told and passed over: unknown keys, features that are not built, numbers that are none
where Apache would take its default too.  What would be unsafe to pass over stops the start: TLS or
authentication that was asked for and is not there, an ensemble, a plaintext listener that others
can reach though nobody said so.  A zoo.cfg is somebody saying so: it starts as it did.

Left to others: the keys (keys.py), the syntax of zoo.cfg (wire/properties.py), flags themselves
(the command line).

Source: ``QuorumPeerConfig.java``, ``ServerConfig.java``, ``bin/zkServer.sh``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from stratalog.core.zookeeper.identity import X509, Sasl, Scheme
from stratalog.core.zookeeper.prepare import Rules
from stratalog.core.zookeeper.sasl import SaslOptions
from stratalog.core.zookeeper.standalone import Options
from stratalog.core.zookeeper.throttle import ThrottleOptions
from stratalog.errors import ConfigurationError, InvalidArgumentError
from stratalog.server.zookeeper.keys import (
    KEYS,
    LENIENT,
    Effect,
    Key,
    Kind,
    bare,
    find,
    is_of_the_jvm,
    key_of,
    value_of,
)
from stratalog.server.zookeeper.security import tls_settings
from stratalog.server.zookeeper.settings import Settings
from stratalog.wire.properties import parse_properties
from stratalog.wire.zookeeper import jaas

ENVIRONMENT_PREFIX: Final = "STRATALOG_ZK_"
WORDS: Final = frozenset(
    (
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok",
        "srst", "srvr", "stat", "stmk", "telnet close", "wchc", "wchp", "wchs",
    )
)  # fmt: skip
"""The 4-letter words that ``*`` stands for."""

PROMETHEUS: Final = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider"
_PROVIDERS: Final = {
    "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
    "org.apache.zookeeper.metrics.impl.NullMetricsProvider",
    PROMETHEUS,
}
_AUTH: Final = "org.apache.zookeeper.server.auth."
_STANDARD_SCHEMES: Final = {
    f"{_AUTH}DigestAuthenticationProvider": "digest",
    f"{_AUTH}IPAuthenticationProvider": "ip",
}
_SASL_SCHEME: Final = f"{_AUTH}SASLAuthenticationProvider"
_X509_SCHEME: Final = f"{_AUTH}X509AuthenticationProvider"
_DIGEST_ENABLED: Final = "DigestAuthenticationProvider.enabled"
_AUDIT_LOGGER: Final = "org.apache.zookeeper.audit.Slf4jAuditLogger"
_COMPRESSIONS: Final = ("", "gz", "snappy")
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  (Apache's default, taken only where it is asked for)
_NEVER_BYTES: Final = 1 << 62
_ADMIN_PORT: Final = 8080
_METRICS_PORT: Final = 7000
_EXTRA_BYTES_MIN: Final = 1024


class Origin(Enum):
    """Where a value was written."""

    JVM_FLAGS = auto()
    ZOO_CFG = auto()
    TOML = auto()
    ENVIRONMENT = auto()
    PROPERTY = auto()
    FLAG = auto()


_JAVA: Final = frozenset((Origin.JVM_FLAGS, Origin.ZOO_CFG, Origin.PROPERTY))
"""Where texts are read by Java's rules."""
_APACHE: Final = frozenset((Origin.JVM_FLAGS, Origin.ZOO_CFG))
"""What an existing deployment has: an address there is an address that somebody chose."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value, as it was written.

    Attributes:
        name: The key, without ``zookeeper.``.
        text: Its text, without blanks around it.
        source: Where it stands, for people: ``conf/zoo.cfg:3``, ``JVMFLAGS``, ``--port``.
        origin: The same, for decisions.
    """

    name: str
    text: str
    source: str
    origin: Origin


@dataclass(slots=True)
class Configuration:
    """What a server starts with.

    Attributes:
        settings: For the server.
        warnings: What somebody should know: keys without effect, values that were replaced.
        notes: What concerns ensembles or Java only.
        used: The values that won, by key.
    """

    settings: Settings
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: dict[str, Given] = field(default_factory=dict)


def configure(
    *,
    zoo_cfg: Path | None = None,
    toml: Path | None = None,
    properties: Sequence[str] = (),
    flags: Mapping[str, tuple[str, str]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """Read everything, and settle it.

    Args:
        zoo_cfg: A file as Apache's server reads it.
        toml: A file of ours; only one of the two.
        properties: ``key=value``, as behind ``-D``.
        flags: Texts by key, each with the flag that it came from.
        environment: Of the process.

    Raises:
        ConfigurationError: No server can start with it, or it would be unsafe.
    """
    environment = environment or {}
    given = list(_jvm_flags(environment))
    initial_config = ""
    if zoo_cfg is not None:
        data = _read(zoo_cfg)
        initial_config = data.decode("utf-8", "replace")
        given += _zoo_cfg(data, zoo_cfg)
    if toml is not None:
        given += _toml(toml)
    given += _environment(environment)
    given += [_property(text, "-D", Origin.PROPERTY) for text in properties]
    given += [Given(key, text, flag, Origin.FLAG) for key, (text, flag) in (flags or {}).items()]
    configuration = _Settling(given).settle()
    configuration.settings.initial_config = initial_config
    return configuration


# ---- sources ----


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "the configuration cannot be read", path=str(path), system_errno=error.errno or 0
        ) from None


def _zoo_cfg(data: bytes, path: Path) -> Iterator[Given]:
    """Entries of zoo.cfg, and of the file that ``dynamicConfigFile`` names."""
    try:
        entries = parse_properties(data)
    except ValueError as error:
        raise ConfigurationError(str(error), path=str(path)) from None
    for entry in entries:
        name, text = bare(entry.key.strip()), entry.value.strip()
        yield Given(name, text, f"{path}:{entry.line}", Origin.ZOO_CFG)
    dynamic = [entry.value.strip() for entry in entries if entry.key.strip() == "dynamicConfigFile"]
    if dynamic:
        named = Path(dynamic[-1])
        try:
            members = parse_properties(_read(named))
        except ValueError as error:
            raise ConfigurationError(str(error), path=str(named)) from None
        for entry in members:
            if entry.key.strip() != "version":
                source = f"{named}:{entry.line}"
                yield Given(entry.key.strip(), entry.value.strip(), source, Origin.ZOO_CFG)


def _toml(path: Path) -> Iterator[Given]:
    """Entries of a TOML file: tables are what stands before a dot, lists become commas."""
    import tomllib  # noqa: PLC0415  (most servers have no such file)

    try:
        document = tomllib.loads(_read(path).decode())
    except ValueError as error:
        raise ConfigurationError(f"this is not TOML: {error}", path=str(path)) from None
    for name, value in _flat(document, ""):
        key = find(name)
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, int | str):
            text = str(value)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            text = ",".join(value)
        else:
            raise ConfigurationError(
                f"{name} is neither text, whole number, true, false nor a list of texts",
                path=str(path),
            )
        yield Given(key, text.strip(), f"{path}: {name}", Origin.TOML)


def _flat(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _environment(environment: Mapping[str, str]) -> Iterator[Given]:
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = find(variable.removeprefix(ENVIRONMENT_PREFIX))
            yield Given(name, text.strip(), variable, Origin.ENVIRONMENT)


def _jvm_flags(environment: Mapping[str, str]) -> Iterator[Given]:
    """The system properties that Apache's script would start Java with; its other flags are not."""
    for variable in ("SERVER_JVMFLAGS", "JVMFLAGS"):
        text = environment.get(variable, "")
        try:
            words = shlex.split(text)
        except ValueError:  # a lone quote is a character to the script
            words = text.split()
        for word in words:
            if word.startswith("-D"):
                yield _property(word[2:], variable, Origin.JVM_FLAGS)


def _property(text: str, source: str, origin: Origin) -> Given:
    name, _, value = text.partition("=")
    return Given(bare(name.strip()), value.strip(), source, origin)


# ---- settling ----


class _Settling:
    """One configuration on its way from texts to Settings."""

    def __init__(self, given: Sequence[Given]) -> None:
        self._chosen = {each.name: each for each in given}  # the strongest comes last
        self._made = Configuration(Settings(Path()))
        self._values: dict[str, Any] = {}
        self._parts: dict[str, dict[str, Any]] = {
            "": {}, "options": {}, "options.rules": {}, "throttle": {},
        }  # fmt: skip

    def settle(self) -> Configuration:
        for each in self._chosen.values():
            self._take(each)
        self._refuse_what_is_unsafe()
        self._refuse_ensembles()
        self._settle_sessions()
        self._settle_files()
        self._settle_limits()
        self._settle_identities()
        self._settle_words()
        self._settle_listener()
        self._settle_tls()
        self._settle_admin()
        self._settle_metrics()
        self._settle_audit()
        self._settle_throttle()
        parts = self._parts
        rules = Rules(**parts["options.rules"])
        parts[""]["options"] = Options(rules=rules, **parts["options"])
        parts[""]["throttle"] = ThrottleOptions(**parts["throttle"])
        self._made.settings = Settings(**parts[""])
        return self._made

    # ---- one key ----

    def _take(self, given: Given) -> None:
        """Sort one value: to its field, or to those who are told."""
        key = key_of(given.name)
        where = f"{given.name} ({given.source})"
        if key is None:
            if is_of_the_jvm(given.name):
                self._made.notes.append(f"{where} is Java's own, and without effect here")
            else:
                self._warn(f"{where} is no key of ZooKeeper 3.9: it has no effect")
        elif key.effect is Effect.LATER:
            self._warn(f"{where} is known, and without effect yet")
        elif key.effect is Effect.ENSEMBLE:
            self._made.notes.append(f"{where} concerns ensembles: one server has no use for it")
        elif key.effect is Effect.JAVA:
            self._made.notes.append(f"{where} concerns Apache's own works: nothing here is like it")
        elif given.name in KEYS:
            value = self._value(key, given)
            if value is not None:
                self._made.used[given.name] = given
                self._values[given.name] = value
                if key.field:
                    self._set(key.field, value * key.scale if key.scale != 1 else value)

    def _value(self, key: Key, given: Given) -> Any:
        """Return a value within the key's limits, None for Apache's default."""
        java = given.origin in _JAVA
        if not given.text and key.kind is not Kind.TEXT and java and key.kind in LENIENT:
            return None
        try:
            value = value_of(key.kind, given.text, java=java)
        except ValueError as error:
            if java and key.kind in LENIENT:
                self._warn(f"{given.name} ({given.source}): {error}; the default stays")
                return None
            raise ConfigurationError(f"{given.name}: {error}", path=given.source) from None
        if isinstance(value, int) and not isinstance(value, bool):
            for limit, outside in ((key.least, min), (key.most, max)):
                if limit is not None and value != limit and outside(value, limit) == value:
                    self._warn(f"{given.name}={value} ({given.source}) becomes {limit}")
                    value = limit
        return value

    def _set(self, path: str, value: Any) -> None:
        part, _, name = path.rpartition(".")
        self._parts[part][name] = value

    def _warn(self, sentence: str) -> None:
        self._made.warnings.append(sentence)

    def _stop(self, sentence: str, *names: str) -> ConfigurationError:
        """The error that ends it, with the place of the first of these keys that was given."""
        for name in names:
            if name in self._chosen:
                return ConfigurationError(sentence, path=self._chosen[name].source)
        return ConfigurationError(sentence)

    def _is_from(self, name: str, origins: frozenset[Origin]) -> bool:
        return name in self._chosen and self._chosen[name].origin in origins

    # ---- several keys together ----

    def _refuse_what_is_unsafe(self) -> None:
        values = self._values
        if values.get("secureClientPortAddress") and "secureClientPort" not in values:
            raise self._stop(
                "secureClientPortAddress is set, and secureClientPort is not",
                "secureClientPortAddress",
            )

    def _refuse_ensembles(self) -> None:
        members = [each for each in self._chosen.values() if each.name.startswith("server.")]
        members = [each for each in members if re.fullmatch(r"server\.\d+", each.name)]
        if not self._values.get("standaloneEnabled", True):
            raise self._stop(
                "standaloneEnabled=false asks for an ensemble, and this server is one alone",
                "standaloneEnabled",
            )
        observers = [each for each in members if _is_observer(each.text)]
        if len(members) > 1 or observers:
            raise self._stop(
                f"an ensemble is asked for ({', '.join(each.name for each in members)}), and this "
                "server is one alone for now", members[0].name,
            )  # fmt: skip
        if members:
            self._warn(
                f"{members[0].name} ({members[0].source}) names one server: no ensemble, as at "
                "Apache's; it has no effect"
            )

    def _settle_sessions(self) -> None:
        values = self._values
        tick_ms = values.get("tickTime", Options().tick_ms)
        if tick_ms <= 0:
            raise self._stop(f"tickTime={tick_ms} is no time", "tickTime")
        shortest, longest = values.get("minSessionTimeout", -1), values.get("maxSessionTimeout", -1)
        shortest = 2 * tick_ms if shortest == -1 else shortest
        longest = 20 * tick_ms if longest == -1 else longest
        if shortest > longest:
            raise self._stop(
                f"minSessionTimeout, {shortest} ms, is above maxSessionTimeout, {longest} ms",
                "minSessionTimeout", "maxSessionTimeout", "tickTime",
            )  # fmt: skip
        self._set("options.tick_ms", tick_ms)
        self._set("options.session_ms_min", shortest)
        self._set("options.session_ms_max", longest)

    def _settle_files(self) -> None:
        values = self._values
        if not values.get("dataDir"):
            raise ConfigurationError("dataDir is not set: say where the data is kept")
        self._set("data_dir", Path(values["dataDir"]))
        if values.get("dataLogDir"):
            self._set("data_log_dir", Path(values["dataLogDir"]))
        kilobytes = values.get("snapSizeLimitInKb")
        if kilobytes is not None:
            self._set("log_bytes_max", kilobytes * 1024 if kilobytes > 0 else _NEVER_BYTES)
        kilobytes = values.get("txnLogSizeLimitInKb", 0)
        if kilobytes > 0:
            self._set("log_roll_bytes", kilobytes * 1024)
        method = values.get("snapshot.compression.method", "").lower()
        if method not in _COMPRESSIONS:
            given = self._chosen["snapshot.compression.method"]
            self._warn(f"{given.name}={given.text} ({given.source}) is unknown: none is used")
            method = ""
        self._set("snapshot_compression", method)

    def _settle_limits(self) -> None:
        values = self._values
        frame = values.get("jute.maxbuffer", Settings(Path()).frame_bytes_max)
        extra = max(values.get("jute.maxbuffer.extrasize", frame), _EXTRA_BYTES_MIN)
        self._set("options.rules.txn_bytes_max", frame + extra)
        idle_ms = values.get("nio.sessionlessCnxnTimeout")
        if idle_ms is not None:
            self._set("handshake_s", idle_ms / 1000)

    def _settle_identities(self) -> None:
        values = self._values
        name = "DigestAuthenticationProvider.digestAlg"
        if name in values:
            algorithm = _algorithm(values[name])
            if algorithm is None:
                raise self._stop(f"{name}: there is no digest {values[name]!r}", name)
            self._set("options.digest_algorithm", algorithm)
        schemes = self._schemes()
        self._set("schemes", schemes)
        sasl = self._sasl()
        self._set("options.sasl", sasl)
        required = self._required_schemes()
        known = {"ip", *schemes, *(("digest",) if values.get(_DIGEST_ENABLED, True) else ())}
        for scheme in sorted(required - known - {"sasl"}):
            raise self._stop(
                f"clients must authenticate by {scheme!r}, and there is no such scheme",
                "enforce.auth.schemes",
            )
        if "sasl" in required and (sasl is None or not sasl.passwords):
            raise self._stop(
                "clients must authenticate by SASL, and nobody is known: name a JAAS file whose "
                "Server section has users, as java.security.auth.login.config",
                "sessionRequireClientSASLAuth", "enforce.auth.schemes",
            )  # fmt: skip
        self._set("options.required_schemes", required)

    def _schemes(self) -> dict[str, Scheme]:
        schemes: dict[str, Scheme] = {}
        superuser = self._values.get("X509AuthenticationProvider.superUser")
        for given in self._chosen.values():
            if not given.name.startswith("authProvider.") or given.text in _STANDARD_SCHEMES:
                continue
            if given.text == _SASL_SCHEME:
                schemes["sasl"] = Sasl(self._values.get("letAnySaslUserDoX"))
            elif given.text == _X509_SCHEME:
                schemes["x509"] = X509(superuser)
            else:
                where = f"{given.name} ({given.source})"
                self._warn(f"{where} names {given.text}, which is not there: it has no effect")
        if "secureClientPort" in self._values:
            schemes.setdefault("x509", X509(superuser))
        return schemes

    def _sasl(self) -> SaslOptions | None:
        """The users of the JAAS file, if there is one and it has a section for servers."""
        values = self._values
        name = "java.security.auth.login.config"
        if not values.get(name):
            return None
        path = Path(values[name])
        try:
            sections = jaas.parse(_read(path).decode())
        except InvalidArgumentError as error:
            raise ConfigurationError(error.message, path=str(path)) from None
        except UnicodeDecodeError:
            raise ConfigurationError("a login configuration is UTF-8", path=str(path)) from None
        modules = sections.get(values.get("sasl.serverconfig") or jaas.SERVER_SECTION)
        if modules is None:
            return None
        for module in modules:
            if module.name != jaas.DIGEST_MODULE:
                self._warn(f"{path} names {module.name}, which is not there: it has no effect")
        passwords = jaas.digest_users(modules)
        own = values.get("SASLAuthenticationProvider.superPassword")
        if own is not None and "super" in passwords:
            passwords["super"] = own
        supers = frozenset(
            each.text for each in self._chosen.values() if re.match(r"superUser(\.|$)", each.name)
        )
        return SaslOptions(passwords, supers, values.get("allowSaslFailedClients", False))

    def _required_schemes(self) -> frozenset[str]:
        values = self._values
        if values.get("sessionRequireClientSASLAuth"):
            return frozenset(("sasl",))
        if not values.get("enforce.auth.enabled"):
            return frozenset()
        named = values.get("enforce.auth.schemes", "").split(",")
        schemes = frozenset(scheme.strip() for scheme in named) - {""}
        if not schemes:
            raise self._stop(
                "enforce.auth.enabled wants enforce.auth.schemes too", "enforce.auth.enabled"
            )
        return schemes

    def _settle_words(self) -> None:
        words = {word.strip() for word in self._values.get("4lw.commands.whitelist", "").split(",")}
        if "*" in words:
            words = set(WORDS)
        if unknown := sorted(words - WORDS - {""}):
            given = self._chosen["4lw.commands.whitelist"]
            self._warn(f"{given.name} ({given.source}) allows {', '.join(unknown)}: no such words")
        if self._values.get("readonlymode.enabled"):
            words.add("isro")
        self._set("commands_allowed", frozenset(words & WORDS | {"srvr"}))

    def _settle_listener(self) -> None:
        port, host = self._values.get("clientPort"), self._values.get("clientPortAddress")
        member = self._client_address_of_member()
        if member is not None:
            if port is not None and port != member[1]:
                raise self._stop(
                    f"clientPort and the server's line differ: {member[1]}", "clientPort"
                )
            host, port = member
        if host is not None and port is None and self._is_from("clientPortAddress", _APACHE):
            raise self._stop("clientPortAddress is set, and clientPort is not", "clientPortAddress")
        if port is not None:
            self._set("port", self._port(port, "clientPort"))
        chosen = host is None or self._is_from("clientPortAddress", _APACHE)
        if host is None and (member or self._is_from("clientPort", _APACHE)):
            host = _EVERYWHERE
        if host is not None:
            self._set("host", host if member else self._address(host, chosen, "clientPortAddress"))

    def _settle_tls(self) -> None:
        values = self._values
        if "secureClientPort" not in values or values.get("plaintextOnly"):
            return
        self._set("tls", tls_settings(values))
        # Apache's server opens no port in plaintext that nobody asked for.
        self._set("plaintext", "port" in self._parts[""])
        self._set("tls_port", self._port(values["secureClientPort"], "secureClientPort"))
        host = values.get("secureClientPortAddress")
        if host is None and self._is_from("secureClientPort", _APACHE):
            host = _EVERYWHERE
        if host is not None:
            self._set("tls_host", host)

    def _client_address_of_member(self) -> tuple[str | None, int] | None:
        """What stands behind the semicolon of this server's own line, if there is one."""
        for each in self._chosen.values():
            if re.fullmatch(r"server\.\d+", each.name) and ";" in each.text:
                try:
                    own = (Path(self._values["dataDir"]) / "myid").read_text().strip()
                except OSError:
                    return None
                if own != each.name.removeprefix("server."):
                    return None
                host, _, port = each.text.split(";")[1].strip().rpartition(":")
                if not port.isdigit():
                    raise ConfigurationError(f"{each.text} has no client port", path=each.source)
                return host.strip("[]") or None, int(port)
        return None

    def _settle_admin(self) -> None:
        """HTTP commands are off, unless somebody says a word about them."""
        values = self._values
        said = [name for name in values if name.startswith("admin.")]
        if not said or values.get("admin.enableServer") == "false":
            return
        for name in ("admin.forceHttps", "admin.needClientAuth"):
            if values.get(name):
                raise self._stop(f"{name} asks for TLS, which is not there yet", name)
        apache = any(self._is_from(name, _APACHE) for name in said)
        chosen = apache and not self._is_from("admin.serverAddress", frozenset(Origin) - _APACHE)
        host = values.get("admin.serverAddress") or (_EVERYWHERE if apache else "127.0.0.1")
        self._set("admin_host", self._address(host, chosen, "admin.serverAddress"))
        port = values.get("admin.serverPort", _ADMIN_PORT)
        self._set("admin_port", self._port(port, "admin.serverPort"))

    def _settle_metrics(self) -> None:
        """The page of metrics is there if its provider is chosen, or its port is given by us."""
        values = self._values
        provider = values.get("metricsProvider.className")
        if provider is not None and provider not in _PROVIDERS:
            source = self._chosen["metricsProvider.className"].source
            self._warn(f"metricsProvider.className={provider} ({source}) is not there: no metrics")
        ours = "metricsProvider.httpPort" in values and not self._is_from(
            "metricsProvider.httpPort", _APACHE
        )
        if provider != PROMETHEUS and not ours:
            return
        apache = self._is_from("metricsProvider.className", _APACHE)
        chosen = apache and not self._is_from(
            "metricsProvider.httpHost", frozenset(Origin) - _APACHE
        )
        host = values.get("metricsProvider.httpHost") or (_EVERYWHERE if apache else "127.0.0.1")
        self._set("metrics_host", self._address(host, chosen, "metricsProvider.httpHost"))
        port = values.get("metricsProvider.httpPort", _METRICS_PORT)
        self._set("metrics_port", self._port(port, "metricsProvider.httpPort"))

    def _settle_audit(self) -> None:
        logger = self._values.get("audit.impl.class", _AUDIT_LOGGER)
        if self._values.get("audit.enable") and logger != _AUDIT_LOGGER:
            raise self._stop(
                f"an audit log through {logger} is asked for, and Java classes cannot be loaded; "
                f"what is here writes the lines of {_AUDIT_LOGGER}", "audit.impl.class",
            )  # fmt: skip

    def _settle_throttle(self) -> None:
        values = self._values
        large_bytes = values.get("largeRequestMaxBytes")
        if large_bytes is not None:
            if large_bytes > 0:
                self._set("throttle.large_bytes_max", large_bytes)
            else:
                self._warn(f"largeRequestMaxBytes={large_bytes} is no limit; the default stays")
        for kind in ("global", "local", "renew"):
            name = f"connection_throttle_{kind}_session_weight"
            if values.get(name, 1) <= 0:
                self._warn(f"{name}={values[name]} is no weight; the default stays")

    def _port(self, port: int, name: str) -> int:
        if not 0 <= port <= 0xFFFF:
            raise self._stop(f"{name}={port} is no port", name)
        return port

    def _address(self, host: str, chosen: bool, name: str) -> str:
        """Return an address, if others cannot reach it or somebody chose that they can.

        Raises:
            ConfigurationError: Others could reach it, unencrypted, and nobody said so.
        """
        if chosen or _is_loopback(host) or self._values.get("listenPublicly"):
            return host
        raise self._stop(
            f"{host} can be reached from other machines, without encryption; add "
            "--listen-publicly if that is meant", name,
        )  # fmt: skip


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_observer(text: str) -> bool:
    return text.partition(";")[0].strip().lower().endswith(":observer")


def _algorithm(name: str) -> str | None:
    """The name of Java's digest ``name`` here: SHA-256 is sha256, SHA3-256 is sha3_256."""
    plain = name.lower()
    if match := re.fullmatch(r"(sha3)-(\d+)", plain):
        plain = "_".join(match.groups())
    elif plain.startswith(("sha-", "sha")):
        plain = plain.replace("sha-", "sha").replace("/", "_")
    return plain if plain in hashlib.algorithms_available else None
