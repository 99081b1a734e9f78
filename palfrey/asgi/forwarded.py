"""What proxies write into X-Forwarded-* and Forwarded (RFC 7239), as values. Pure: whom to believe is proxy.py's.

Every reader takes one value as it came and returns None for what is malformed. What is accepted ends up in the scope,
where applications build links, cookies and log lines of it: so a host has the characters of a host and no others, and
an address is one.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from palfrey.types import HostPort

HIDDEN: Final[HostPort] = ("", None)
"""The node that its proxy will not name: `unknown` and `_names` (RFC 7239 sections 6.2 and 6.3)."""

_OBFUSCATED = re.compile(r"_[A-Za-z0-9._-]+")

SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
"""Proxies that say ws and wss mean the connection that the WebSocket is opened on."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def read_node(text: bytes) -> HostPort | None:
    """`192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711` -> (host, port), the port 0 where not said.

    HIDDEN for those without a name. RFC 7239 would have IPv6 in brackets; X-Forwarded-For knows no such rule.
    """
    host, port = text.decode("latin-1"), ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or ":" not in host or port[:1] not in ("", ":"):
            return None
        port = port[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if host.lower() == "unknown" or _OBFUSCATED.fullmatch(host):
        return HIDDEN
    # An IPv6 zone means nothing on another machine, and ip_address() takes any text for one.
    if "%" in host:
        return None
    try:
        ip_address(host)
    except ValueError:
        return None
    return (host, read_port(port.encode("latin-1")) or 0)


def read_port(text: bytes) -> int | None:
    """A port, 1 to 65535. Bounded before int(), which raises for numbers of thousands of digits."""
    port = int(text) if len(text) <= 5 and text.isdigit() else 0
    return port if 0 < port < 65536 else None


_AUTHORITY = re.compile(
    rb"([A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9._])?"  # a name or an IPv4 address
    rb"|\[[0-9A-Fa-f:.]{2,45}\])"
    rb"(?::(\d{1,5}))?"
)


def read_authority(text: bytes) -> tuple[bytes, int | None] | None:
    """`example.org`, `example.org:8443`, `[2001:db8::1]:8443` -> (host as written, port or None)."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    host, digits = match.groups()
    port = None if digits is None else read_port(digits)
    if (digits is not None and port is None) or (host.startswith(b"[") and read_node(host) is None):
        return None
    return host, port


_PREFIX = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)*+/?")
_ESCAPED_DELIMITER = re.compile(rb"%(?:2e|2f|5c)", re.IGNORECASE)


def read_prefix(text: bytes) -> bytes | None:
    """`/shop` or `/a/b/` -> the path without its last slash; `/` -> empty.

    Not `//evil.example/`, which a browser would take for another site, and nothing that climbs (`..`).
    """
    if not text or _PREFIX.fullmatch(text) is None or _ESCAPED_DELIMITER.search(text):
        return None
    return text.rstrip(b"/")


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# RFC 7239 section 4, but that addresses with a port or brackets pass without the quotes that they should have.
_VALUE = rb'(?:[!#$%&\'*+\-.^_`|~0-9A-Za-z:\[\]]++|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+")'
_PAIR = re.compile(rb"(" + _TOKEN + rb")=(" + _VALUE + rb")")
_ELEMENT = re.compile(
    rb"[ \t]*+(?:" + _TOKEN + rb"=" + _VALUE + rb")?+(?:[ \t]*+;[ \t]*+(?:" + _TOKEN + rb"=" + _VALUE + rb")?+)*+"
    rb"[ \t]*+(?:,|\Z)"
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)

Element = dict[bytes, bytes]
"""One proxy's words: names in lower case, values without their quotes."""


def read_elements(value: bytes) -> list[Element | None]:
    """One Forwarded field line -> its elements, the client's end first; None for each that is malformed.

    After a malformed one it goes on behind the next comma, be that between quotes or not: a client that sends a lone
    quote in front must not swallow what its proxy appended.
    """
    elements: list[Element | None] = []
    at = 0
    while at < len(value):
        match = _ELEMENT.match(value, at)
        if match is None:
            elements.append(None)
            at = value.find(b",", at) + 1 or len(value)
            continue
        at = match.end()
        pairs = _PAIR.findall(match[0])
        if pairs:  # RFC 9110 section 5.6.1.2: empty elements do not count
            element = {name.lower(): _unquote(text) for name, text in pairs}
            elements.append(element if len(element) == len(pairs) else None)
    return elements


def _unquote(text: bytes) -> bytes:
    return _QUOTED_PAIR.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text
