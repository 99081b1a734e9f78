"""The few facts of an X.509 certificate that are asked for here, read from its DER form.

The standard library verifies certificates and tells almost nothing about them; what it can tell it tells through
private functions and files on the disk. So this reads DER (X.690), as far as these facts need it. It judges nothing:
bytes that are no certificate raise ValueError or IndexError, and a caller whose OpenSSL took them ignores that.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import time
from collections.abc import Iterator

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)

# Tags (X.690 section 8) on the way to a certificate's validity and subject (RFC 5280 section 4.1).
_VERSION = 0xA0
_UTC_TIME = 0x17

_TEXT = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""Tag of a string type -> how its characters are encoded."""

_NAMES = {
    "2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
    "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.17": "postalCode",
    "2.5.4.42": "givenName", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier", "2.5.4.46": "dnQualifier",
    "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}  # fmt: skip
"""Attribute types that have a registered short name: RFC 4514 section 3 and RFC 4519; others are shown as numbers."""


def from_pem(pem: bytes) -> list[bytes]:
    """The certificates that PEM text holds, in DER form; none where one of them is broken."""
    try:
        return [base64.b64decode(block) for block in _PEM.findall(pem)]
    except binascii.Error:
        return []


def to_pem(der: bytes) -> str:
    """One certificate as PEM text."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))


def validity(der: bytes) -> tuple[float, float]:
    """When a certificate begins and ends to be valid, as Unix times."""
    begin, end = _elements(_fields(der)[3][1])
    return _moment(*begin), _moment(*end)


def subject(der: bytes) -> str:
    """Whose certificate it is: the distinguished name as RFC 4514 writes it, the most particular part first."""
    relative_names = list(_elements(_fields(der)[4][1]))
    return ",".join(
        "+".join(_attribute(value) for _, value in _elements(attributes)) for _, attributes in reversed(relative_names)
    )


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """Of the signed part: serial number, algorithm, issuer, validity, subject, and more that is not asked for."""
    (certificate,) = _elements(der)
    signed, *_ = _elements(certificate[1])
    fields = list(_elements(signed[1]))
    return fields[1:] if fields[0][0] == _VERSION else fields


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (tag, contents) pairs that DER bytes hold side by side."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:  # the long form: that many bytes of length follow
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        yield tag, data[at : at + length]
        at += length


def _moment(tag: int, text: bytes) -> float:
    digits = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: RFC 5280 section 4.1.2.5.1
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%SZ"))


def _attribute(pair: bytes) -> str:
    """One type=value of a name (RFC 4514 section 2.3 and 2.4)."""
    (_, identifier), (tag, value) = _elements(pair)
    number = _dotted(identifier)
    name = _NAMES.get(number)
    if name is None or tag not in _TEXT:
        encoded = pair[2 + len(identifier) :]  # tag and length of an identifier are one byte each
        return f"{number}=#{encoded.hex()}"
    return f"{name}={_escape(value.decode(_TEXT[tag]))}"


def _dotted(identifier: bytes) -> str:
    """An object identifier for people: X.690 section 8.19."""
    numbers, value = [], 0
    for byte in identifier:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _escape(text: str) -> str:
    escaped = re.sub(r'(["+,;<>\\])', r"\\\1", text).replace("\0", "\\00")
    if escaped.startswith((" ", "#")):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(text) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped
