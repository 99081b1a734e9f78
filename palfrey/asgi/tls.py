"""ASGI's `tls` extension: what an application may know of the TLS connection that its request came over.

https://asgi.readthedocs.io/en/latest/specs/tls.html, version 0.2. One `TlsExtension` serves a worker; `of` is asked
once for each connection and its answer goes into the scope of every request on it. `client_cert_error` is always None:
a client whose certificate does not verify fails its handshake, so that no request comes from it.
"""

from __future__ import annotations

import ssl
from typing import Any

from palfrey.system import x509

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
"""OpenSSL's names -> the numbers on the wire (RFC 8446 section 4.2.1)."""


class TlsExtension:
    """See the module."""

    def __init__(self, context: ssl.SSLContext, certificate: str | None) -> None:
        """`certificate` is the server's own in PEM form, None where it is not known which one a client sees."""
        self._certificate = certificate
        # OpenSSL's number of a suite holds the two bytes of the registry in its lower half.
        self._suites = {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}
        self._asks_clients = context.verify_mode is not ssl.CERT_NONE

    def of(self, connection: ssl.SSLObject) -> dict[str, Any]:
        """The extension for one connection whose handshake is complete."""
        chain = _client_chain(connection) if self._asks_clients else []
        cipher = connection.cipher()
        return {
            "server_cert": self._certificate,
            "client_cert_chain": [x509.to_pem(der) for der in chain],
            "client_cert_name": _name(chain[0]) if chain else None,
            "client_cert_error": None,
            "tls_version": _VERSIONS.get(connection.version() or ""),
            "cipher_suite": self._suites.get(cipher[0]) if cipher is not None else None,
        }


def _client_chain(connection: ssl.SSLObject) -> list[bytes]:
    """The client's certificates in DER form as they were sent, its own first."""
    own = connection.getpeercert(binary_form=True)
    if own is None:
        return []
    # A resumed session remembers the client's own certificate alone.
    return _sent_chain(connection) or [own]


def _sent_chain(connection: ssl.SSLObject) -> list[bytes]:
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    inner: Any = getattr(connection, "_sslobj", None)
    if not hasattr(inner, "get_unverified_chain"):
        return []
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain() or ()]


def _name(der: bytes) -> str | None:
    try:
        return x509.subject(der)
    except (IndexError, ValueError):  # OpenSSL took the certificate; this reader is no judge
        return None
