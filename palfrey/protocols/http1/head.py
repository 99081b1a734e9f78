"""One request head: its strict shape, its framing, and the scope's parts (RFC 9112 sections 2 to 6).

The connection hands over a whole head, up to and with its empty line. Three steps, each able to refuse it:

    SCAN       one compiled pattern over the raw bytes decides what is a request line and what are field lines. It
               stands before every parser, since no parser refuses all that could be read in two ways
    a parser   splits the field lines (http1/httptools.py)
    framing()  what the fields say of the content's length and of the connection's future

A refusal is a ProtocolError with the status that the client is owed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from palfrey.errors import ProtocolError

if TYPE_CHECKING:
    from palfrey.types import Header

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

SCAN = re.compile(
    # method SP request-target SP HTTP-version CRLF (RFC 9112 section 3); the target is visible ASCII without "#"
    rb"(" + _TOKEN + rb"{1,64}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n"
    # field-name ":" OWS field-value CRLF (section 5); no obs-fold, no controls but HTAB (RFC 9110 section 5.5). OWS
    # behind the value is legal too, but taken off before (scan): llhttp leaves it in the value
    rb"(?:" + _TOKEN + rb"++:[^\x00-\x08\x0a-\x1f\x7f]*+(?<![ \t])\r\n)*+"
    rb"\r\n\Z"
)  # fmt: skip

_REQUEST_LINE = re.compile(rb"(\S+) (\S+) HTTP/(\d)\.(\d)\r\n")

CHUNKED = -1
"""What `Framing.length` is when the content is in chunked coding."""

SPECIAL = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"upgrade",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
    )
)
"""The fields that the server itself acts upon; all others are the application's alone."""

_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)([/?].*)?")

Special = list[tuple[bytes, bytes]]


class Framing:
    """What a head says of the bytes that follow it.

    `length` is the content's length in bytes, or CHUNKED. `keep_alive` is whether the client wants and is able to
    reuse the connection. `expects_continue` is RFC 9110 section 10.1.1's expectation.
    """

    __slots__ = ("expects_continue", "keep_alive", "length")

    def __init__(self, length: int, keep_alive: bool, expects_continue: bool) -> None:
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue


def scan(head: bytes) -> re.Match[bytes]:
    """The head's match: groups 1 to 3 are method, target and the minor version's digit. Raises ProtocolError.

    Its `string` is the head that the parser is to read: without white space behind the values.
    """
    match = SCAN.match(head)
    if match is None:
        line, *fields = head.split(b"\r\n")
        match = SCAN.match(b"\r\n".join([line, *(field.rstrip(b" \t") for field in fields)]))
        if match is None:
            raise _refusal(head)
    return match


TLS_HANDSHAKE = 0x16
"""RFC 8446 section 5.1: what the first record of a client that speaks TLS begins with."""


def refuse_early(head: bytes, start: int = 0) -> None:
    """Raises ProtocolError for a head, not all there perhaps, that no further byte can mend; from `start` on.

    It would otherwise only run into its time limit. A head is refused alike whole and in parts.
    """
    if head and not 0x20 < head[0] < 0x7F:
        raise ProtocolError(400, "no method begins so" + (": is this TLS?" if head[0] == TLS_HANDSHAKE else ""))
    if head.find(b"\n\n", start) >= 0 or head.find(b"\n\r\n", start) >= 0:
        raise ProtocolError(400, "a bare LF ends a line")


def _refusal(head: bytes) -> ProtocolError:
    """Why SCAN did not match. Slow on purpose: it runs once in a connection's life."""
    refuse_early(head[:-2])
    line = _REQUEST_LINE.match(head)
    if line is None:
        return ProtocolError(400, "malformed request line")
    if line[3] != b"1":
        return ProtocolError(505, f"HTTP version {line[3].decode()}.{line[4].decode()} is not served here")
    if line[4] not in (b"0", b"1"):
        return ProtocolError(505, f"HTTP version 1.{line[4].decode()} is not served here")
    if re.fullmatch(_TOKEN + rb"+", line[1]) is None:
        return ProtocolError(400, "the method is not a token")
    if len(line[1]) > 64:
        return ProtocolError(501, "the method is not known")
    if re.fullmatch(rb"[\x21\x22\x24-\x7e]+", line[2]) is None:
        return ProtocolError(400, "the request target has characters that no URI has")
    for field in head[line.end() : -2].split(b"\r\n")[:-1]:
        name, colon, value = field.partition(b":")
        if field[:1] in (b" ", b"\t"):
            return ProtocolError(400, "obsolete line folding (RFC 9112 section 5.2)")
        if not colon or re.fullmatch(_TOKEN + rb"+", name) is None:
            return ProtocolError(400, f"malformed field name {name[:40]!r}")
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            return ProtocolError(400, f"control character in the value of {name[:40]!r}")
    return ProtocolError(400, "malformed header section")


NO_CONTENT = Framing(0, True, False)
"""The framing of an HTTP/1.1 request that has nothing special in its head but one Host: nearly all of them."""


def framing(special: Special, minor: bytes) -> Framing:
    """Reads the special fields of a head; `minor` is its version's last digit. Raises ProtocolError."""
    if minor == b"1" and len(special) == 1 and special[0][0] == b"host":
        _check_host(special[0][1])
        return NO_CONTENT
    options: list[bytes] = []
    hosts = 0
    length: int | None = None
    chunked = expects_continue = False
    for name, value in special:
        if name == b"host":
            hosts += 1
            _check_host(value)
        elif name == b"connection":
            options += [option.strip() for option in value.lower().split(b",")]
        elif name == b"content-length":
            if length is not None:
                raise ProtocolError(400, "Content-Length is given more than once")
            length = _length(value)
        elif name == b"transfer-encoding":
            if chunked:
                raise ProtocolError(400, "Transfer-Encoding is given more than once")
            _check_coding(value, minor)
            chunked = True
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
    return Framing(length or 0, keep_alive, expects_continue and bool(length))


_HOST = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%:\[\]]*")
_seen_hosts: set[bytes] = set()
"""Hosts that were found well formed: a server has few, and asks for them with every request. Bounded below."""


def _check_host(value: bytes) -> None:
    if value in _seen_hosts:
        return
    if _HOST.fullmatch(value) is None:
        raise ProtocolError(400, "malformed Host")
    if len(value) < 128:
        if len(_seen_hosts) >= 256:
            _seen_hosts.clear()
        _seen_hosts.add(value)


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
    if all(re.fullmatch(_TOKEN + rb"+", coding) for coding in codings) and codings.count(b"chunked") <= 1:
        if codings[-1] != b"chunked" and b"chunked" in codings:
            raise ProtocolError(400, "chunked is not the final transfer coding (RFC 9112 section 6.3)")
        raise ProtocolError(501, "the transfer coding is not implemented (RFC 9112 section 6.1)")
    raise ProtocolError(400, "malformed Transfer-Encoding")


Target = tuple[str, bytes, bytes, bytes | None]
"""A request target's parts: the path decoded, path and query as they came, the host of the absolute form or None."""


def split_target(target: bytes, method: str) -> Target:
    """Splits a target of any of the four forms (RFC 9112 section 3.2). Raises ProtocolError."""
    host: bytes | None = None
    if not target.startswith(b"/"):
        if target == b"*" and method == "OPTIONS":
            return "*", b"*", b"", None
        host, target = _absolute(target, method)
    elif method == "CONNECT":
        raise ProtocolError(400, "CONNECT takes an authority (RFC 9112 section 3.2.3)")
    raw_path, _, query = target.partition(b"?")
    return decode_path(raw_path), raw_path, query, host


def _absolute(target: bytes, method: str) -> tuple[bytes, bytes]:
    """A target of the absolute form -> its host, and the rest as a target of the origin form."""
    if target == b"*":
        raise ProtocolError(400, "the asterisk form is for OPTIONS alone (RFC 9112 section 3.2.4)")
    if method == "CONNECT":
        raise ProtocolError(501, "CONNECT is not served here")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise ProtocolError(400, "the request target is of no form that RFC 9112 section 3.2 knows")
    host = absolute[1].rpartition(b"@")[2]
    if not host or host.startswith(b":"):
        raise ProtocolError(400, "the request target has an empty host (RFC 9110 section 4.2.1)")
    _check_host(host)
    rest = absolute[2] or b"/"
    return host, b"/" + rest if rest.startswith(b"?") else rest


def decode_path(raw_path: bytes) -> str:
    """Percent-decodes a path as UTF-8; octets that are not UTF-8 become U+FFFD, as every ASGI server has it."""
    if b"%" in raw_path:
        return unquote_to_bytes(raw_path).decode("utf-8", "replace")
    return raw_path.decode("ascii")


def with_host(headers: list[Header], host: bytes) -> list[Header]:
    """The fields with the absolute form's host in the place of Host's (RFC 9112 section 3.2.2)."""
    return [(b"host", host), *(field for field in headers if field[0] != b"host")]
