"""ASN.1 in its distinguished encoding (DER), as far as keys and certificates need it.

    tag 1   length 1 (below 128), or 0x80+n and n bytes   value

A constructed value, such as a SEQUENCE, is a row of such elements.

    Certificate  ::= SEQUENCE { SEQUENCE { [0] version, serial, signature's algorithm, issuer,
                                           validity, subject, ... }, ... }
    Name         ::= SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, value }

``subject_of`` writes the subject as RFC 2253 has it and Java prints it, which is the id of the
scheme x509: the last part first, CN, C, L, ST, O, OU, STREET, DC and UID by name, all others as
``1.2.3=#hex``.

Left to others: whether a certificate is to be trusted (OpenSSL).

Source: X.690, RFC 2253, ``javax.security.auth.x500.X500Principal.getName``.
"""

from __future__ import annotations

from typing import Final, Self

from stratalog.errors import InvalidArgumentError

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
_VERSION: Final = 0xA0

_NAMES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
# UTF8String, PrintableString, TeletexString, IA5String, GeneralString, UniversalString, BMPString:
# Java takes the bytes of each for UTF-8, so that is what the ids in ACLs hold.
_STRINGS: Final = frozenset((0x0C, 0x13, 0x14, 0x16, 0x1B, 0x1C, 0x1E))
_ESCAPED: Final = frozenset(',=+<>#;"\\')


class DerReader:
    """The elements of a value, one after the other.

    Args:
        data: A row of elements.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether that was all."""
        return self._at >= len(self._data)

    @property
    def tag(self) -> int:
        """The tag of the next element, -1 at the end."""
        return -1 if self.at_end else self._data[self._at]

    def element(self) -> tuple[int, bytes, bytes]:
        """Take the next element: tag, value, and all of its bytes.

        Raises:
            InvalidArgumentError: There is none, or it is longer than what is there.
        """
        start = self._at
        head = self._take(2)
        length = head[1]
        if length & 0x80:
            digits = length & 0x7F
            if not 1 <= digits <= 4:
                raise InvalidArgumentError("a length that DER does not know")
            length = int.from_bytes(self._take(digits), "big")
        value = self._take(length)
        return head[0], value, self._data[start : self._at]

    def value(self, tag: int) -> bytes:
        """Take the next element, which has this tag; return its value."""
        found, value, _ = self.element()
        if found != tag:
            raise InvalidArgumentError(f"an element of tag {found:#x} where {tag:#x} belongs")
        return value

    def enter(self, tag: int) -> Self:
        """Take the next element, which has this tag; return a reader of its elements."""
        return type(self)(self.value(tag))

    def skip(self, tag: int) -> None:
        """Take the next element, which has this tag."""
        self.value(tag)

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise InvalidArgumentError("an element is longer than what is there")
        piece, self._at = self._data[self._at : end], end
        return piece


def subject_of(certificate: bytes) -> str:
    """Return the subject of a certificate, as RFC 2253 writes it.

    Raises:
        InvalidArgumentError: The bytes are no certificate.
    """
    inner = DerReader(certificate).enter(SEQUENCE).enter(SEQUENCE)
    if inner.tag == _VERSION:
        inner.skip(_VERSION)
    inner.skip(INTEGER)
    for _ in range(3):  # the signature's algorithm, issuer, validity
        inner.skip(SEQUENCE)
    name = inner.enter(SEQUENCE)
    parts: list[str] = []
    while not name.at_end:
        one = name.enter(SET)
        pairs: list[str] = []
        while not one.at_end:
            pairs.append(_pair(one.enter(SEQUENCE)))
        parts.append("+".join(pairs))
    return ",".join(reversed(parts))


def _pair(attribute: DerReader) -> str:
    number = _dotted(attribute.value(OBJECT_IDENTIFIER))
    tag, value, whole = attribute.element()
    name = _NAMES.get(number)
    if name is None or tag not in _STRINGS:
        return f"{name or number}=#{whole.hex()}"
    return f"{name}={_escape(value.decode('utf-8', 'replace'))}"


def _escape(text: str) -> str:
    body = text.strip(" ")
    if not body:
        return "\\ " * len(text)
    leading = len(text) - len(text.lstrip(" "))
    trailing = len(text) - len(text.rstrip(" "))
    pieces = [
        "\\" + each if each in _ESCAPED else "\\00" if each == "\0" else each for each in body
    ]
    return "\\ " * leading + "".join(pieces) + "\\ " * trailing


def _dotted(value: bytes) -> str:
    numbers: list[int] = []
    number = 0
    for byte in value:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if not numbers or value[-1] & 0x80:
        raise InvalidArgumentError("an object identifier that does not end")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
