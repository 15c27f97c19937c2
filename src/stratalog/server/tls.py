"""TLS as Apache's servers are told of it: key stores and trust stores become a context.

    PEM      certificates and a key in one text, the key encrypted or not      OpenSSL reads it
    PKCS12   the same in one file, with a password                             package cryptography
    JKS      Java's own; newer Javas put PKCS12 under this name too            wire/keystore.py

A type that is not named follows from the file's name: ``.pem``, ``.p12``, ``.jks``.  Keys that
stood in a store are handed to OpenSSL in memory and never written to a disk.

Without a trust store the system's certificates are trusted, as Java trusts its own.  A client has
to show a certificate unless told otherwise; whose it is, is the id of the scheme x509.

Left to others: where the settings come from (zookeeper/security.py), what a certificate lets
somebody do.

Source: ``X509Util.java``, ``ClientX509Util.java``, ``KeyStoreFileType.java``.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stratalog.errors import InvalidArgumentError
from stratalog.wire.keystore import MAGIC, decode_jks

_TYPES: Final = {".pem": "PEM", ".p12": "PKCS12", ".jks": "JKS"}
_CLIENT_AUTH: Final = {
    "none": ssl.CERT_NONE,
    "want": ssl.CERT_OPTIONAL,
    "need": ssl.CERT_REQUIRED,
}
_VERSIONS: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class Store:
    """A file with keys or certificates.

    Attributes:
        path: Where it is.
        password: Its password; "": none.
        type: "PEM", "PKCS12", "JKS"; "": by the name of the file.
    """

    path: Path
    password: str = field(default="", repr=False)
    type: str = ""

    def kind(self) -> str:
        """Return the type, as said or by the name.

        Raises:
            InvalidArgumentError: Neither tells, or it cannot be read here.
        """
        kind = self.type.upper() or _TYPES.get(self.path.suffix.lower(), "")
        if kind not in _TYPES.values():
            known = ", ".join(_TYPES.values())
            raise InvalidArgumentError(
                f"a store of type {self.type or self.path.suffix!r}; there are {known}",
                path=str(self.path),
            )
        return kind


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a TLS port is told.

    Attributes:
        keys: The server's key and certificates.
        trust: Whose certificates are believed; None: those the system believes.
        client_auth: Whether a client shows a certificate: "need", "want" or "none".
        protocols: Versions that are spoken; none: 1.2 and 1.3.
        ciphers: Names as Java or OpenSSL has them; none: what OpenSSL likes.
    """

    keys: Store
    trust: Store | None = None
    client_auth: str = "need"
    protocols: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()


def context_of(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context for a server's port.

    Raises:
        InvalidArgumentError: A store or a setting cannot be used; the file is named.
        OSError: A file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.protocols:
        _choose_versions(context, settings.protocols)
    _choose_ciphers(context, settings.ciphers)
    _load_keys(context, settings.keys)
    mode = _CLIENT_AUTH.get(settings.client_auth.lower() or "need")
    if mode is None:
        raise InvalidArgumentError(
            f"client authentication {settings.client_auth!r}; there are {', '.join(_CLIENT_AUTH)}"
        )
    context.verify_mode = mode
    if mode is not ssl.CERT_NONE:
        if settings.trust is None:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        else:
            _load_trust(context, settings.trust)
    return context


def _choose_versions(context: ssl.SSLContext, names: Iterable[str]) -> None:
    """Speak from the oldest to the newest that is named."""
    unknown = [name for name in names if name not in _VERSIONS]
    if unknown:
        raise InvalidArgumentError(f"TLS version {unknown[0]!r}; there are {', '.join(_VERSIONS)}")
    chosen = sorted(_VERSIONS[name] for name in names)
    context.minimum_version, context.maximum_version = chosen[0], chosen[-1]


def _choose_ciphers(context: ssl.SSLContext, names: Iterable[str]) -> None:
    """Offer these below TLS 1.3, whose own are always there."""
    older = [_openssl_name(name) for name in names if "_WITH_" in name or "-" in name]
    if not older:
        return
    try:
        context.set_ciphers(":".join(older))
    except ssl.SSLError as error:
        raise InvalidArgumentError(f"OpenSSL knows none of the ciphers {', '.join(older)}") from (
            error
        )


def _openssl_name(java: str) -> str:
    """TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256."""
    exchange, with_, cipher = java.removeprefix("TLS_").partition("_WITH_")
    if not with_:
        return java
    exchange = "" if exchange == "RSA" else exchange.replace("_", "-") + "-"
    cipher = re.sub(r"AES_(\d+)", r"AES\1", cipher).replace("_CBC", "")
    cipher = re.sub(r"^CHACHA20_POLY1305_SHA256$", "CHACHA20-POLY1305", cipher)
    return exchange + cipher.replace("_", "-")


def _load_keys(context: ssl.SSLContext, store: Store) -> None:
    data = store.path.read_bytes()
    kind = store.kind()
    password: str | None = store.password
    if kind == "JKS" and data.startswith(MAGIC):
        held = decode_jks(data, store.password)
        if not held.keys:
            raise InvalidArgumentError("the key store holds no key", path=str(store.path))
        one = next(iter(held.keys.values()))
        data = _pem("PRIVATE KEY", one.key) + b"".join(
            _pem("CERTIFICATE", each) for each in one.chain
        )
        password = None
    elif kind != "PEM":
        data, password = _pkcs12_pem(store, data, with_key=True), None
    descriptor = os.memfd_create("stratalog-tls-key")
    try:
        os.write(descriptor, data)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=password or "")
    except ssl.SSLError as error:
        raise InvalidArgumentError(
            f"OpenSSL cannot use the key or its certificate: {error.reason or error}",
            path=str(store.path),
        ) from error
    finally:
        os.close(descriptor)


def _load_trust(context: ssl.SSLContext, store: Store) -> None:
    data = store.path.read_bytes()
    kind = store.kind()
    if kind == "JKS" and data.startswith(MAGIC):
        held = decode_jks(data, store.password)
        chains = [certificate for key in held.keys.values() for certificate in key.chain[:1]]
        data = b"".join(_pem("CERTIFICATE", each) for each in (*held.trusted.values(), *chains))
    elif kind != "PEM":
        data = _pkcs12_pem(store, data, with_key=False)
    try:
        context.load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgumentError(
            f"the trust store holds no certificate: {error}", path=str(store.path)
        ) from error


def _pkcs12_pem(store: Store, data: bytes, *, with_key: bool) -> bytes:
    """Return what a PKCS#12 file holds, as PEM."""
    try:
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  (optional)
            Encoding,
            NoEncryption,
            PrivateFormat,
            pkcs12,
        )
    except ModuleNotFoundError:
        raise InvalidArgumentError(
            "PKCS12 is read by the package cryptography, which is not installed: "
            "pip install 'stratalog[tls]'",
            path=str(store.path),
        ) from None
    try:
        held = pkcs12.load_pkcs12(data, store.password.encode())
    except ValueError as error:
        raise InvalidArgumentError(
            f"not a PKCS12 store, or its password is another one: {error}", path=str(store.path)
        ) from error
    pieces: list[bytes] = []
    if with_key:
        if held.key is None or held.cert is None:
            raise InvalidArgumentError("the key store holds no key", path=str(store.path))
        pieces.append(held.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if held.cert is not None:
        pieces.append(held.cert.certificate.public_bytes(Encoding.PEM))
    pieces += [each.certificate.public_bytes(Encoding.PEM) for each in held.additional_certs]
    return b"".join(pieces)


def _pem(title: str, der: bytes) -> bytes:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {title}-----\n{text}-----END {title}-----\n".encode()
