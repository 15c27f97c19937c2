"""Java's key stores and the names in certificates: what Java wrote, and what is damaged."""

from __future__ import annotations

import base64

import pytest

from stratalog.errors import InvalidArgumentError
from stratalog.wire.der import SEQUENCE, DerReader, subject_of
from stratalog.wire.keystore import decode_jks

# keytool -genkeypair -alias k -keyalg EC -dname CN=client -storetype JKS, of OpenJDK 17.
STORE = base64.b64decode(
    """
    /u3+7QAAAAIAAAABAAAAAQABawAAAaH+G31yAAAAfzB9MA4GCisGAQQBKgIRAQEFAARrcKVEgrpPH/QLBj3A+AfIMw
    lsEyNWQ84tNhoXvIvp5HRKNshN43jVxMjHfBmNA+BQzpuyRtFRI/WLVnKodRitsa9NmZQFjmMdvDRYNdr39cQkKWRn
    B6NBOEx/zRKNvXS89w4wFZrlMfzwPNsAAAABAAVYLjUwOQAAAT8wggE7MIHioAMCAQICCQCw69DG55U+MjAKBggqhk
    jOPQQDAjARMQ8wDQYDVQQDEwZjbGllbnQwIBcNMjYxMTIxMTIzNjE2WhgPMjA4MTA4MjQxMjM2MTZaMBExDzANBgNV
    BAMTBmNsaWVudDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMvJZvAv8HAK+s+Tsc1OqARsFAS+vjzrpNEK2cnPrr
    tTVxzd7Xq4cqOJDZ5aIM6YxJx7zCT8nZf000s6vDL5rtGjITAfMB0GA1UdDgQWBBTJbb0f6RoBUnxSvx7rcDoAJMJ5
    8zAKBggqhkjOPQQDAgNIADBFAiAjrO1XalyWutULRZGQYNVlU2p2XgReuU+p89nYbdCMUAIhAK0FWYMY9EvJ0wkR0r
    b5drm/O2zjLlnz3WpkfNNj6bB+oIex52m7wh0JUnIABSF5jOqqUN0=
    """
)
PASSWORD = "apassword"  # noqa: S105


def test_a_key_and_its_certificate():
    store = decode_jks(STORE, PASSWORD)
    assert store.trusted == {}
    (key,) = store.keys.values()
    assert list(store.keys) == ["k"]
    assert DerReader(key.key).enter(SEQUENCE).tag == 0x02
    (certificate,) = key.chain
    assert subject_of(certificate) == "CN=client"


@pytest.mark.parametrize("password", ["", "apasswore", "APASSWORD"])
def test_another_password_is_told(password):
    with pytest.raises(InvalidArgumentError, match="password"):
        decode_jks(STORE, password)


def test_every_flipped_byte_and_every_cut_is_told():
    for at in range(len(STORE)):
        damaged = bytearray(STORE)
        damaged[at] ^= 1
        with pytest.raises(InvalidArgumentError):
            decode_jks(bytes(damaged), PASSWORD)
        with pytest.raises(InvalidArgumentError):
            decode_jks(STORE[:at], PASSWORD)


def element(tag: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    if len(value) < 0x80:
        return bytes((tag, len(value))) + value
    return bytes((tag, 0x82)) + len(value).to_bytes(2, "big") + value


def certificate(*rdns: bytes) -> bytes:
    """As much of one as there is in front of its subject, and that."""
    integer, nothing = element(0x02, b"\x05"), element(SEQUENCE)
    inner = (element(0xA0, integer), integer, nothing, nothing, nothing, element(SEQUENCE, *rdns))
    return element(SEQUENCE, element(SEQUENCE, *inner))


def rdn(*pairs: tuple[bytes, int, bytes]) -> bytes:
    return element(
        0x31,
        *(element(SEQUENCE, element(0x06, oid), element(tag, text)) for oid, tag, text in pairs),
    )


CN, OU, SURNAME = b"\x55\x04\x03", b"\x55\x04\x0b", b"\x55\x04\x04"
EMAIL = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"


@pytest.mark.parametrize(
    ("rdns", "name"),
    [
        ((), ""),
        ((rdn((OU, 0x0C, b"a")), rdn((CN, 0x13, b"b"))), "CN=b,OU=a"),
        ((rdn((CN, 0x0C, b"a"), (OU, 0x0C, b"b")),), "CN=a+OU=b"),
        ((rdn((CN, 0x0C, b' ,=+<>#;"\\ ')),), r"CN=\ \,\=\+\<\>\#\;\"\\\ "),
        ((rdn((CN, 0x0C, b" ")),), "CN=\\ "),
        ((rdn((CN, 0x0C, b"a  b\x01\x00c")),), "CN=a  b\x01\\00c"),
        ((rdn((CN, 0x0C, "Über 漢".encode())),), "CN=Über 漢"),
        ((rdn((CN, 0x1E, "b\xe9".encode("utf-16-be"))),), "CN=\\00b\\00\ufffd"),
        ((rdn((SURNAME, 0x0C, b"sn")),), "2.5.4.4=#0c02736e"),
        ((rdn((EMAIL, 0x16, b"a@b")),), "1.2.840.113549.1.9.1=#1603614062"),
        ((rdn((CN, 0x04, b"x")),), "CN=#040178"),
    ],
)
def test_a_subject_is_written_as_java_prints_it(rdns, name):
    assert subject_of(certificate(*rdns)) == name


def test_what_is_no_certificate_is_told():
    whole = certificate(rdn((CN, 0x0C, b"a" * 200)))
    assert subject_of(whole) == "CN=" + "a" * 200
    for at in range(len(whole)):
        with pytest.raises(InvalidArgumentError):
            subject_of(whole[:at])
    for wrong in (b"\x30\x80", b"\x30\x85\x00\x00\x00\x00\x01", b"\x02\x01\x05"):
        with pytest.raises(InvalidArgumentError):
            subject_of(wrong)
