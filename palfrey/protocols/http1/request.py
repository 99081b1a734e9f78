"""From a whole request head to the scope of its exchange.

The one place where HTTP/1.x facts get their ASGI names. What was read before is looked up here, which is what nearly
all requests come to; what is new is read by heads.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from palfrey.protocols.http1.heads import NO_SECTION, SECTION_LENGTH, kept
from palfrey.protocols.http1.target import with_host
from palfrey.protocols.service import ASGI_VERSIONS, Facts

if TYPE_CHECKING:
    from palfrey.protocols.http1.head import Framing
    from palfrey.protocols.http1.heads import Section
    from palfrey.protocols.service import Service


class Remembering(Facts, Protocol):
    """A connection that keeps its last section, or request."""

    section: Section
    """The last one; NO_SECTION at first."""
    last: Last
    """The same for requests whose scope stays with the server; NOTHING otherwise."""


Last = tuple[bytes, dict[str, Any], "Framing"]
"""A head, and what `read_again` has made of it."""

NOTHING: Last = (b"", {}, NO_SECTION.frame)


def read_request(head: bytes, facts: Remembering, service: Service) -> tuple[dict[str, Any], Framing]:
    """A whole head, up to and with its empty line -> the ASGI scope, and the framing of what follows.

    Raises ProtocolError.
    """
    end = head.find(b" HTTP/1.")
    target = service.targets.get(head[:end])
    section = facts.section
    if target is None or head[end:] != section.raw:
        target, section = service.heads.read_new(head, section)
        facts.section = kept(section)
    method, path, raw_path, query, host = target
    headers = section.headers.copy() if host is None else with_host(section.headers, host)
    root_path = service.root_path
    if root_path and path != "*":
        path, raw_path = root_path + path, service.raw_root_path + raw_path
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": ASGI_VERSIONS,
        "http_version": section.version,
        "server": facts.server,
        "client": facts.client,
        "scheme": facts.scheme,
        "method": method,
        "root_path": root_path,
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
        "state": service.state.copy(),
        "extensions": facts.extensions.copy(),
    }
    if section.forwarded and facts.trusted is not None:
        facts.trusted.apply(scope, section.forwarded)
    return scope, section.frame


def read_again(head: bytes, facts: Remembering, service: Service) -> tuple[dict[str, Any], Framing]:
    """The same where no application is given the scope (WSGI): a client that says again just what it said before, as
    programs do, has the scope that was made for it then."""
    before, scope, frame = facts.last
    if head != before:
        scope, frame = read_request(head, facts, service)
        scope["palfrey.target"] = head[len(scope["method"]) + 1 : head.find(b" HTTP/1.")]
        facts.last = (head, scope, frame) if len(head) <= SECTION_LENGTH else NOTHING
    return scope, frame
