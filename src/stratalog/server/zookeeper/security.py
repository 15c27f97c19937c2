"""TLS as ZooKeeper's keys ask for it: ``ssl.*`` texts become settings of a port.

    ssl.keyStore.location password passwordPath type       who the server is
    ssl.trustStore.location password passwordPath type     whom it believes
    ssl.clientAuth          need, want, none               whether clients show a certificate
    ssl.enabledProtocols    TLSv1.2,TLSv1.3                else both
    ssl.protocol            TLSv1.2                        the newest of them
    ssl.ciphersuites        names, with commas between

A password that stands in a file wins over one that stands in the text.  Revocation lists and OCSP
are not looked at here: who asks for them is refused, since a revoked certificate would pass.

Left to others: what comes of them (server/tls.py), the port (config.py).

Source: ``X509Util.java``, ``ClientX509Util.java``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stratalog.errors import ConfigurationError
from stratalog.server.tls import Store, TlsSettings

_REVOCATION: Final = ("ssl.crl", "ssl.ocsp")


def tls_settings(values: Mapping[str, Any]) -> TlsSettings:
    """Return the settings of a TLS port.

    Args:
        values: By the name of the key.

    Raises:
        ConfigurationError: There is no key store, a password cannot be read, or something is
            asked for that would not be done.
    """
    for name in _REVOCATION:
        if str(values.get(name, "")).lower() == "true":
            raise ConfigurationError(f"{name}: revoked certificates cannot be told here")
    keys = _store(values, "ssl.keyStore")
    if keys is None:
        raise ConfigurationError("a TLS port is asked for, and ssl.keyStore.location is not set")
    protocols = _list(values, "ssl.enabledProtocols")
    newest = values.get("ssl.protocol") or ""
    if not protocols and newest not in ("", "TLS", "TLSv1.3"):
        protocols = (newest,)
    return TlsSettings(
        keys=keys,
        trust=_store(values, "ssl.trustStore"),
        client_auth=values.get("ssl.clientAuth") or "need",
        protocols=protocols,
        ciphers=_list(values, "ssl.ciphersuites"),
    )


def _store(values: Mapping[str, Any], name: str) -> Store | None:
    location = values.get(f"{name}.location")
    if not location:
        return None
    password = values.get(f"{name}.password") or ""
    if file := values.get(f"{name}.passwordPath"):
        try:
            password = Path(file).read_text().splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise ConfigurationError(f"{name}.passwordPath: {error}", path=file) from None
    return Store(Path(location), password, values.get(f"{name}.type") or "")


def _list(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in (values.get(name) or "").split(",") if word.strip())
