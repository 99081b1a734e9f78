"""What is read from certificates, against what the cryptography package reads and writes."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Name, NameAttribute, RelativeDistinguishedName
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from palfrey.system.x509 import from_pem, subject, to_pem, validity

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
END = datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC)
"""From 2050 on dates have four digits of the year."""


def certificate(name: Name, begin: datetime.datetime = BEGIN, end: datetime.datetime = END) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(Name([])).public_key(KEY.public_key())
    builder = builder.serial_number(7).not_valid_before(begin).not_valid_after(end)
    return builder.sign(KEY, hashes.SHA256())


def der(name: Name) -> bytes:
    return certificate(name).public_bytes(Encoding.DER)


def name(**parts: str) -> Name:
    return Name([NameAttribute(getattr(NameOID, oid), value) for oid, value in parts.items()])


@pytest.mark.parametrize(
    "of",
    [
        Name([]),
        name(COUNTRY_NAME="DE", LOCALITY_NAME="Köln", ORGANIZATION_NAME="Example", COMMON_NAME="a.example"),
        name(ORGANIZATION_NAME='a,b+"c";<x>\\', COMMON_NAME=" #x "),
        name(COMMON_NAME=" "),
        name(COMMON_NAME="  "),
        name(COMMON_NAME="#日本"),
        name(STREET_ADDRESS="1 = 2", USER_ID="7", DOMAIN_COMPONENT="org"),
        Name(
            [
                RelativeDistinguishedName(
                    [NameAttribute(NameOID.COMMON_NAME, "a"), NameAttribute(NameOID.USER_ID, "7")]
                ),
                RelativeDistinguishedName([NameAttribute(NameOID.DOMAIN_COMPONENT, "org")]),
            ]
        ),
    ],
    ids=repr,
)
def test_a_name_is_written_as_rfc_4514_has_it(of: Name) -> None:
    assert subject(der(of)) == of.rfc4514_string()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_any_text_of_a_name(text: str) -> None:
    of = name(COMMON_NAME=text)
    assert subject(der(of)) == of.rfc4514_string()


def test_text_in_every_encoding() -> None:
    for kind in (_ASN1Type.BMPString, _ASN1Type.UTF8String):
        of = Name([NameAttribute(NameOID.COMMON_NAME, "é", kind)])
        assert subject(der(of)) == "CN=é"


def test_a_type_without_a_short_name_is_shown_in_numbers() -> None:
    """RFC 4514 section 2.4: its value is its encoding then."""
    assert subject(der(name(EMAIL_ADDRESS="a@b", COMMON_NAME="x"))) == "CN=x,1.2.840.113549.1.9.1=#1603614062"


def test_validity() -> None:
    assert validity(der(Name([]))) == (BEGIN.timestamp(), END.timestamp())
    old = certificate(Name([]), datetime.datetime(1951, 1, 1, tzinfo=datetime.UTC))
    assert validity(old.public_bytes(Encoding.DER))[0] == datetime.datetime(1951, 1, 1, tzinfo=datetime.UTC).timestamp()


def test_pem() -> None:
    one, two = certificate(name(COMMON_NAME="one")), certificate(name(COMMON_NAME="two"))
    pem = one.public_bytes(Encoding.PEM) + b"between\n" + two.public_bytes(Encoding.PEM)
    assert from_pem(pem) == [each.public_bytes(Encoding.DER) for each in (one, two)]
    assert to_pem(two.public_bytes(Encoding.DER)).encode() == two.public_bytes(Encoding.PEM)
    assert from_pem(b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n") == []


@pytest.mark.parametrize("odd", [b"", b"0", bytes(3), b"\x30\x03\x02\x01\x01", b"\x30\x00", b"\x30\x02\x30\x00"])
def test_what_is_no_certificate(odd: bytes) -> None:
    for read in (validity, subject):
        with pytest.raises((ValueError, IndexError)):
            read(odd)
