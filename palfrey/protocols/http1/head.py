"""One request head's line, and what its fields say of the bytes that follow (RFC 9112 sections 2, 3 and 6).

A whole head, up to and with its empty line, takes three steps, each able to refuse it with the status that its client
is owed (ProtocolError). request.py puts them together:

    REQUEST_LINE  one compiled pattern: what is not method, target and version of HTTP/1.x is no request
    fields.py     the field lines, scanned before any parser sees them
    framing()     the content's length and the connection's future
"""

from __future__ import annotations

import re

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.target import check_host

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

REQUEST_LINE = re.compile(
    # method SP request-target SP HTTP-version CRLF (RFC 9112 section 3); the target is visible ASCII without "#"
    rb"(" + TOKEN + rb"++) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n"
)

_REGISTERED = """
ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR
MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH
TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
"""
"""The registry of RFC 9110 section 16.1.1, without the PRI of HTTP/2's preface, which no request has."""
_UNREGISTERED = "M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE SOURCE"
"""What llhttp takes besides: those of UPnP, caches and Icecast."""

METHODS = {name.encode(): name for name in (_REGISTERED + _UNREGISTERED).split()}
"""Every method that is served, whatever the parser: one that is not here is answered with 501 (section 9.1)."""

CHUNKED = -1
"""What `Framing.length` is when the content is in chunked coding."""

FORWARDED = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
    )
)
"""Those of a proxy (asgi/proxy.py)."""
SPECIAL = FORWARDED | {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
"""The fields that the server itself acts upon; all others are the application's alone."""

Special = list[tuple[bytes, bytes]]


class Framing:
    """What a head says of the bytes that follow it.

    `length` is the content's length in bytes, or CHUNKED. `keep_alive` is whether the client wants and is able to
    reuse the connection. `expects_continue` is RFC 9110 section 10.1.1's expectation. `upgrade` is what the client
    would like to speak behind this request, if it says so as section 7.8 wants it: protocol names in lower case.
    """

    __slots__ = ("expects_continue", "keep_alive", "length", "upgrade")

    def __init__(self, length: int, keep_alive: bool, expects_continue: bool, upgrade: tuple[bytes, ...] = ()) -> None:
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.upgrade = upgrade


TLS_HANDSHAKE = 0x16
"""RFC 8446 section 5.1: what the first record of a client that speaks TLS begins with."""


def refuse_early(head: bytes, limit_line: int, start: int = 0) -> None:
    """Raises ProtocolError for a head, not all there perhaps, that no further byte can mend.

    It would otherwise only run into its time limit. What a client is told must not depend on how its bytes were cut
    into reads, so the checks stand in the order in which single bytes would fail them. Line ends are looked at from
    `start` on.
    """
    if head and not 0x20 < head[0] < 0x7F:
        raise ProtocolError(400, "no method begins so" + (": is this TLS?" if head[0] == TLS_HANDSHAKE else ""))
    if len(head) > limit_line + 1 and head.find(b"\n", 0, limit_line + 2) < 0:  # its CR may be here already
        raise ProtocolError(414, "the request line is longer than limit_request_line")
    if head.find(b"\n\n", start) >= 0 or head.find(b"\n\r\n", start) >= 0:
        raise ProtocolError(400, "a bare LF ends a line")


_ANY_LINE = re.compile(rb"(\S+) (\S+) HTTP/(\d)\.(\d)\r\n")


def why_no_request(head: bytes) -> ProtocolError:
    """Why REQUEST_LINE did not match. Slow on purpose: it runs once in a connection's life."""
    line = _ANY_LINE.match(head)
    if line is None:
        return ProtocolError(400, "malformed request line")
    if line[3] != b"1" or line[4] not in (b"0", b"1"):
        return ProtocolError(505, f"HTTP version {line[3].decode()}.{line[4].decode()} is not served here")
    if re.fullmatch(TOKEN + rb"+", line[1]) is None:
        return ProtocolError(400, "the method is not a token")
    return ProtocolError(400, "the request target has characters that no URI has")


NO_CONTENT = Framing(0, True, False)
"""The framing of an HTTP/1.1 request that has nothing special in its head but one Host: nearly all of them."""

_OPTIONS = {b"keep-alive": (b"keep-alive",), b"Keep-Alive": (b"keep-alive",), b"close": (b"close",)}
"""Connection's values as nearly all of them are."""


def framing(special: Special, minor: bytes) -> Framing:
    """Reads the special fields of a head (fields.py); `minor` is its version's last digit. Raises ProtocolError."""
    if minor == b"1" and len(special) == 1 and special[0][0] == b"host":
        check_host(special[0][1])
        return NO_CONTENT
    options: list[bytes] = []
    protocols: list[bytes] = []
    hosts = 0
    length: int | None = None
    chunked = expects_continue = False
    for name, value in special:
        if name == b"host":
            hosts += 1
            check_host(value)
        elif name == b"connection":
            options += _OPTIONS.get(value) or [option.strip() for option in value.lower().split(b",")]
        elif name == b"content-length":
            if length is not None:
                raise ProtocolError(400, "Content-Length is given more than once")
            length = _length(value)
        elif name == b"transfer-encoding":
            if chunked:
                raise ProtocolError(400, "Transfer-Encoding is given more than once")
            _check_coding(value, minor)
            chunked = True
        elif name == b"upgrade":
            protocols += [protocol.strip() for protocol in value.lower().split(b",")]
        elif name == b"expect" and minor == b"1":
            # RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is to be ignored.
            expects_continue = value.lower() == b"100-continue"
    if hosts > 1 or (hosts == 0 and minor == b"1"):
        raise ProtocolError(400, "a request has exactly one Host (RFC 9112 section 3.2)")
    # RFC 9112 section 9.3: close wins over everything, and an HTTP/1.0 client has to ask for more.
    keep_alive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    if chunked:
        if length is not None:
            raise ProtocolError(400, "Content-Length beside Transfer-Encoding (RFC 9112 section 6.1)")
        return Framing(CHUNKED, keep_alive, expects_continue)
    # RFC 9110 section 7.8: what is not named in Connection too was meant for another hop, and HTTP/1.0 cannot ask.
    upgrade = tuple(protocols) if protocols and b"upgrade" in options and minor == b"1" else ()
    return Framing(length or 0, keep_alive, expects_continue and bool(length), upgrade)


def _length(value: bytes) -> int:
    # 18 digits: no file system or client has more, and every reader of the request agrees on what they mean.
    if not value.isdigit() or len(value) > 18:
        raise ProtocolError(400, "malformed Content-Length")
    return int(value)


def _check_coding(value: bytes, minor: bytes) -> None:
    codings = [coding.strip().lower() for coding in value.split(b",")]
    if minor == b"0":
        raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
    if codings == [b"chunked"]:
        return
    if all(re.fullmatch(TOKEN + rb"+", coding) for coding in codings) and codings.count(b"chunked") <= 1:
        if codings[-1] != b"chunked" and b"chunked" in codings:
            raise ProtocolError(400, "chunked is not the final transfer coding (RFC 9112 section 6.3)")
        raise ProtocolError(501, "the transfer coding is not implemented (RFC 9112 section 6.1)")
    raise ProtocolError(400, "malformed Transfer-Encoding")
