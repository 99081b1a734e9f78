"""Request targets and hosts (RFC 9112 section 3.2): a target of any of the four forms -> the scope's parts.

Pure. What a target is made of, visible ASCII without "#", the request line's pattern has seen to (head.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from palfrey.errors import ProtocolError

if TYPE_CHECKING:
    from palfrey.types import Header

_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)([/?].*)?")

_AUTHORITY = re.compile(
    # uri-host [ ":" port ] (RFC 9110 section 7.2, RFC 3986 section 3.2.2): an IPv6 address in brackets, or a name
    rb"(?:\[[0-9A-Fa-f]{0,4}+:[0-9A-Fa-f:.]{1,40}+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})++)(?::[0-9]{0,5}+)?"
)

REMEMBERED_HOSTS, HOST_LENGTH = 256, 128
_seen_hosts: set[bytes] = set()
"""Hosts that were found well formed: a server has few, and is asked for them with every request. Bounded."""

Target = tuple[str, bytes, bytes, bytes | None]
"""A request target's parts: the path decoded, path and query as they came, the host of the absolute form or None."""

RequestTarget = tuple[str, str, bytes, bytes, bytes | None]
"""The method, and behind it a target's parts."""


def check_host(value: bytes) -> None:
    """Raises ProtocolError for what is no host. An empty one is a request's whose target has no authority."""
    if value in _seen_hosts:
        return
    if value and _AUTHORITY.fullmatch(value) is None:
        raise ProtocolError(400, "malformed Host")
    if len(value) <= HOST_LENGTH:
        if len(_seen_hosts) >= REMEMBERED_HOSTS:
            _seen_hosts.clear()
        _seen_hosts.add(value)


def split_target(target: bytes, method: str) -> Target:
    """Splits a target of any of the four forms. Raises ProtocolError."""
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
    host = absolute[1]
    if b"@" in host:
        # RFC 9110 section 4.2.4: to be treated as an error. Readers differ on which part of it is the host.
        raise ProtocolError(400, "the request target has userinfo")
    check_host(host)
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
