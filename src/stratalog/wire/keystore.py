"""Java's key stores (JKS): private keys with their certificates, and certificates that are trusted.

    magic fe ed fe ed   version 4   entries 4
    entry   tag 4 (1 key, 2 certificate)   alias 2+n   date 8
      key          protected key 4+n   certificates 4 { type 2+n, DER 4+n }
      certificate  type 2+n   DER 4+n
    sha1(password, "Mighty Aphrodite", all of the above) 20

Lengths are big-endian; the password counts as UTF-16, high byte first.  A protected key is DER,
``SEQUENCE { algorithm, OCTET STRING { salt 20, key xor stream, sha1(password, key) 20 } }``, and
the stream is sha1(password, salt), then each time sha1(password, the last 20 bytes of it).

The cipher is no better than the password; keep such a file where only the server reads it.

Left to others: PEM and PKCS#12, which OpenSSL and the package cryptography know (server/tls.py).

Source: ``JavaKeyStore.java`` and ``KeyProtector.java`` of OpenJDK.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from stratalog.errors import InvalidArgumentError
from stratalog.wire.der import INTEGER, OCTET_STRING, SEQUENCE, DerReader

MAGIC: Final = b"\xfe\xed\xfe\xed"
_WHITENER: Final = b"Mighty Aphrodite"
_HASH_BYTES: Final = 20
_KEY: Final = 1
_CERTIFICATE: Final = 2


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key (PKCS#8, DER) and its certificates (DER), its own first."""

    key: bytes = field(repr=False)
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeyStore:
    """What a store holds, by alias."""

    keys: dict[str, PrivateKey]
    trusted: dict[str, bytes]


def decode_jks(data: bytes, password: str) -> KeyStore:
    """Return what a store holds.

    Raises:
        InvalidArgumentError: It is none, it is damaged, or the password is another one.
    """
    secret = password.encode("utf-16-be")
    body, seal = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if body[: len(MAGIC)] != MAGIC:
        raise InvalidArgumentError("not a Java key store")
    if not hmac.compare_digest(_sha1(secret + _WHITENER + body), seal):
        raise InvalidArgumentError("the key store is damaged, or its password is another one")
    reader = _Reader(body, len(MAGIC))
    version = reader.number(4)
    if version not in (1, 2):
        raise InvalidArgumentError(f"a Java key store of version {version}")
    keys: dict[str, PrivateKey] = {}
    trusted: dict[str, bytes] = {}
    for _ in range(reader.number(4)):
        tag = reader.number(4)
        alias = reader.piece(2).decode("utf-8", "replace")
        reader.take(8)
        if tag == _KEY:
            protected = reader.piece(4)
            chain = tuple(reader.certificate(version) for _ in range(reader.number(4)))
            keys[alias] = PrivateKey(_uncover(protected, secret), chain)
        elif tag == _CERTIFICATE:
            trusted[alias] = reader.certificate(version)
        else:
            raise InvalidArgumentError(f"an entry of kind {tag} in a Java key store")
    return KeyStore(keys, trusted)


class _Reader:
    """Numbers and pieces, one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise InvalidArgumentError("the key store ends too early")
        piece, self._at = self._data[self._at : end], end
        return piece

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def piece(self, length_bytes: int) -> bytes:
        return self.take(self.number(length_bytes))

    def certificate(self, version: int) -> bytes:
        if version > 1:
            self.piece(2)
        return self.piece(4)


def _uncover(protected: bytes, secret: bytes) -> bytes:
    """Return the key that a password protects."""
    outer = DerReader(protected).enter(SEQUENCE)
    outer.skip(SEQUENCE)
    covered = outer.value(OCTET_STRING)
    salt, middle = covered[:_HASH_BYTES], covered[_HASH_BYTES:-_HASH_BYTES]
    stream, block = bytearray(), salt
    while len(stream) < len(middle):
        block = _sha1(secret + block)
        stream += block
    key = bytes(left ^ right for left, right in zip(middle, stream, strict=False))
    if not hmac.compare_digest(_sha1(secret + key), covered[-_HASH_BYTES:]):
        raise InvalidArgumentError("a key of the key store has another password")
    DerReader(key).enter(SEQUENCE).skip(INTEGER)
    return key


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
