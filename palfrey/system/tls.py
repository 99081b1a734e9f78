"""Server TLS contexts, made in the arbiter before the fork, and what is wrong with the files they are made from.

The key is read while privileges are still there, and workers that share a context also share its session tickets.
`ssl` is imported by the call alone, so that an arbiter without TLS never loads OpenSSL. It never prompts: a key that
wants a password gets the configured one or an error. OpenSSL's own messages name neither file nor cure; each failure
here is a ConfigError of one line that names the setting.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import time
from typing import TYPE_CHECKING

from palfrey.errors import ConfigError

if TYPE_CHECKING:
    import ssl

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)

# DER tags (X.690 section 8) that lead to a certificate's validity (RFC 5280 section 4.1).
_VERSION = 0xA0
_UTC_TIME = 0x17


def server_context(
    certfile: str,
    keyfile: str | None = None,
    password: str | None = None,
    ca_certs: str | None = None,
    cert_reqs: int = 0,
    ciphers: str | None = None,
    minimum: str = "1.2",
) -> ssl.SSLContext:
    """A context that serves HTTP/1.1 by ALPN. Without a keyfile the key is in certfile, after the chain.

    `cert_reqs` is ssl's number: 0 asks clients for no certificate, 1 for an optional one, 2 demands one signed by
    `ca_certs`. `minimum` is "1.2" or "1.3". An expired certificate is refused too: no client would take it.
    """
    import ssl

    _check_readable("ssl_certfile", certfile)
    _check_readable("ssl_keyfile", keyfile)
    _check_readable("ssl_ca_certs", ca_certs)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[minimum]
    except KeyError:
        raise ConfigError(f"TLS version {minimum!r} is not offered; choose 1.2 or 1.3") from None
    _load_chain(context, certfile, keyfile, password)
    _check_validity(certfile)
    _set_client_checks(context, ca_certs, cert_reqs)
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            raise ConfigError(f"ssl_ciphers {ciphers!r}: OpenSSL knows none of these; see `openssl ciphers`") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_readable(setting: str, path: str | None) -> None:
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None


def _load_chain(context: ssl.SSLContext, certfile: str, keyfile: str | None, password: str | None) -> None:
    import ssl

    asked = False

    def answer() -> str:
        # Given always: without a callback OpenSSL would ask on the terminal.
        nonlocal asked
        asked = True
        return password or ""

    key = f"ssl_keyfile {keyfile}" if keyfile is not None else f"ssl_certfile {certfile} (without ssl_keyfile)"
    try:
        context.load_cert_chain(certfile, keyfile, answer)
    except ssl.SSLError as error:
        if asked and not password:
            reason = f"the key in {keyfile or certfile} is encrypted; set ssl_keyfile_password"
        elif asked:
            reason = f"ssl_keyfile_password does not open the key in {keyfile or certfile}"
        elif error.reason == "KEY_VALUES_MISMATCH":
            reason = f"{key} does not belong to the first certificate in {certfile}; the server's own comes first"
        elif _certificates(certfile):
            reason = f"{key} holds no private key that can be used ({_openssl(error)})"
        else:
            reason = f"ssl_certfile {certfile} holds no certificate in PEM form ({_openssl(error)})"
        raise ConfigError(reason) from None
    except (OSError, ValueError) as error:  # ValueError: a password longer than OpenSSL's buffer
        raise ConfigError(f"cannot load {certfile} and its key: {error}") from None


def _set_client_checks(context: ssl.SSLContext, ca_certs: str | None, cert_reqs: int) -> None:
    import ssl

    try:
        context.verify_mode = ssl.VerifyMode(cert_reqs)
    except ValueError:
        raise ConfigError(f"ssl_cert_reqs is {cert_reqs}; it is 0 (none), 1 (optional) or 2 (required)") from None
    if ca_certs is None:
        if cert_reqs:
            raise ConfigError(f"ssl_cert_reqs is {cert_reqs}; set ssl_ca_certs to who may sign clients' certificates")
        return
    try:
        context.load_verify_locations(ca_certs)
    except ssl.SSLError as error:
        raise ConfigError(f"ssl_ca_certs {ca_certs} holds no certificates in PEM form ({_openssl(error)})") from None


def _openssl(error: ssl.SSLError) -> str:
    return f"OpenSSL: {(error.reason or 'unknown error').lower().replace('_', ' ')}"


# Validity -----------------------------------------------------------------------------------------------------------


def _check_validity(certfile: str) -> None:
    """Refuse a chain whose first certificate has expired. One that is not valid yet passes: clocks start wrong."""
    for der in _certificates(certfile)[:1]:
        try:
            until = _not_after(der)
        except (IndexError, ValueError):  # OpenSSL took it; this reader is no judge
            return
        if until < time.time():
            day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(until))
            raise ConfigError(f"ssl_certfile {certfile} expired on {day} UTC; renew it")


def _certificates(certfile: str) -> list[bytes]:
    """The certificates of a PEM file in DER form."""
    with open(certfile, "rb") as file:
        blocks = _PEM.findall(file.read())
    try:
        return [base64.b64decode(block) for block in blocks]
    except binascii.Error:
        return []


def _not_after(der: bytes) -> float:
    """When a certificate ends, as a Unix time. The standard library reads this only with private functions."""
    (certificate,) = _elements(der)
    parts = _elements(_elements(certificate[1])[0][1])
    if parts[0][0] == _VERSION:
        del parts[0]
    _serial, _algorithm, _issuer, validity = parts[:4]
    tag, text = _elements(validity[1])[1]
    digits = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: RFC 5280 section 4.1.2.5.1
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%SZ"))


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """The (tag, contents) pairs that DER bytes hold side by side."""
    found = []
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:  # the long form: that many bytes of length follow
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        found.append((tag, data[at : at + length]))
        at += length
    return found
