"""Server TLS contexts, made in the arbiter before the fork, and what is wrong with the files they are made from.

The key is read while privileges are still there, and workers that share a context also share the keys of its session
tickets: a client resumes with whichever worker takes it. `ssl` is imported by the call alone, so that an arbiter
without TLS never loads OpenSSL. It never prompts: a key that wants a password gets the configured one or an error.
OpenSSL's own messages name neither file nor cure; each failure is a ConfigError of one line that names the setting.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palfrey.errors import ConfigError, PalfreyError
from palfrey.system import x509

if TYPE_CHECKING:
    import ssl

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 with forward secrecy and authenticated encryption, which all clients since about 2015 have: Mozilla's
"intermediate" without finite-field DH. Python's own default adds CBC, which HTTP/2 forbids (RFC 9113 appendix A). The
three suites of TLS 1.3 are always there."""

HTTP1 = ("http/1.1",)
HTTP2 = ("h2", *HTTP1)
"""What is offered by ALPN (RFC 7301, RFC 9113 section 3.1), the best first."""

Stamps = tuple[tuple[int, ...] | None, ...]
"""What files look like from outside, one after the other: see `stamps`."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """All that a worker needs to serve TLS."""

    context: ssl.SSLContext
    handshake_timeout: float
    """Seconds."""
    certificate: str | None
    """What clients are shown, in PEM form; None where a hook made the context and it may be anything."""
    stamps: Stamps
    """The files, just before they were read."""
    notice: str | None
    """What the operator should know, although it works."""


def make_tls(
    certfile: str,
    default: Callable[[], ssl.SSLContext],
    hook: Callable[[Callable[[], ssl.SSLContext]], object] | None,
    handshake_timeout: float,
    files: Iterable[str | None],
) -> ServerTls:
    """What `default` makes of these files, or the user's `hook` in its place, with what is known of it. Raises
    ConfigError."""
    before = stamps(files)
    if hook is not None:
        return ServerTls(_ask_for_context(hook, default), handshake_timeout, None, before, None)
    context = default()
    shown = notice = None
    certificate = own_certificate(certfile)
    if certificate is not None:
        shown, notice = x509.to_pem(certificate), validity_notice(certfile, certificate)
    return ServerTls(context, handshake_timeout, shown, before, notice)


def _ask_for_context(
    hook: Callable[[Callable[[], ssl.SSLContext]], object], default: Callable[[], ssl.SSLContext]
) -> ssl.SSLContext:
    import ssl

    try:
        made = hook(default)
    except (PalfreyError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ConfigError(f"the hook ssl_context raised {type(error).__name__}: {error}") from error
    if not isinstance(made, ssl.SSLContext):
        raise ConfigError(f"the hook ssl_context returned {type(made).__name__}, not an ssl.SSLContext")
    return made


def server_context(
    certfile: str,
    keyfile: str | None = None,
    password: str | None = None,
    ca_certs: str | None = None,
    cert_reqs: int = 0,
    ciphers: str | None = None,
    minimum: str = "1.2",
    alpn: Sequence[str] = HTTP1,
) -> ssl.SSLContext:
    """A context for a server. Without a keyfile the key is in certfile, after the chain.

    `cert_reqs` is ssl's number: 0 asks clients for no certificate, 1 for an optional one, 2 demands one signed by
    `ca_certs`. `minimum` is "1.2" or "1.3". `alpn` are the protocols that clients may choose from, the best first.
    """
    import ssl

    _check_readable("ssl_certfile", certfile)
    _check_readable("ssl_keyfile", keyfile)
    _check_readable("ssl_ca_certs", ca_certs)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 9113 section 9.2.1 has no place for either, and HTTP/1.1 no use.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.minimum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[minimum]
    except KeyError:
        raise ConfigError(f"TLS version {minimum!r} is not offered; choose 1.2 or 1.3") from None
    _load_chain(context, certfile, keyfile, password)
    _set_client_checks(context, ca_certs, cert_reqs)
    try:
        context.set_ciphers(ciphers or CIPHERS)
    except ssl.SSLError:
        raise ConfigError(f"ssl_ciphers {ciphers!r}: OpenSSL knows none of these; see `openssl ciphers`") from None
    context.set_alpn_protocols(list(alpn))
    return context


def stamps(paths: Iterable[str | None]) -> Stamps:
    """What the files look like from outside (None: not there): different once one has been written or replaced.

    Symbolic links are followed, as certificates are often renewed by turning one to another file.
    """
    found: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            status = os.stat(path) if path is not None else None
        except OSError:
            status = None
        found.append(status and (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def own_certificate(certfile: str) -> bytes | None:
    """The first certificate of the file, in DER form. None: there is none that can be read here."""
    try:
        with open(certfile, "rb") as file:
            found = x509.from_pem(file.read())
    except OSError:  # gone since OpenSSL has read it
        return None
    return found[0] if found else None


def validity_notice(certfile: str, der: bytes) -> str | None:
    """What is wrong with the time in which the certificate is valid, in a line."""
    try:
        begin, end = x509.validity(der)
    except (IndexError, ValueError):  # OpenSSL took it; this reader is no judge
        return None
    now = time.time()
    if end < now:
        return f"ssl_certfile {certfile} expired on {_day(end)}: clients refuse it; renew it and send HUP"
    if begin > now:
        return f"ssl_certfile {certfile} is not valid before {_day(begin)}: clients refuse it until then"
    return None


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


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
        elif own_certificate(certfile) is not None:
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
