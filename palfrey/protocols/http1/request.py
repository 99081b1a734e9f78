"""From a whole request head to the scope of its exchange: request line and framing (head.py), fields and target put
together with the limits.

The one place where HTTP/1.x facts get their ASGI names. Pure but for the reader of fields, which is the worker's and
remembers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.head import (
    METHODS,
    REQUEST_LINE,
    SPECIAL,
    Framing,
    framing,
    refuse_early,
    why_no_request,
)
from palfrey.protocols.http1.target import split_target, with_host
from palfrey.protocols.service import ASGI_VERSIONS

if TYPE_CHECKING:
    from palfrey.asgi.proxy import Trusted
    from palfrey.protocols.service import Service
    from palfrey.types import HostPort


class Facts(Protocol):
    """What a connection knows about itself."""

    client: HostPort | None
    server: HostPort | None
    scheme: str
    extensions: dict[str, dict[str, Any]]
    """ASGI's, as they are offered on this connection."""
    trusted: Trusted | None
    """Whose forwarded headers are believed; None when this peer's are not."""


def read_request(head: bytes, facts: Facts, service: Service) -> tuple[dict[str, Any], Framing]:
    """A whole head, up to and with its empty line -> the ASGI scope, and the framing of what follows.

    Raises ProtocolError.
    """
    if len(head) > service.limit_short:
        refuse_early(head[:-2], service.limit_line)
    try:
        line = REQUEST_LINE.match(head)
        if line is None:
            raise why_no_request(head)
        method_bytes, target, minor = line.groups()
        section = head[line.end() : -4]
        lines = section.split(b"\r\n") if section else []
        if len(head) > service.limit_short or len(lines) > service.limit_fields:
            _check_limits(lines, service)
        headers = service.fields.read(lines)
        special = [field for field in headers if field[0] in SPECIAL]
        frame = framing(special, minor)
        method = METHODS.get(method_bytes)
        if method is None:
            raise ProtocolError(501, "the method is not known")
        path, raw_path, query, host = split_target(target, method)
    except ProtocolError:
        refuse_early(head[:-2], service.limit_line)  # as it would have been, had it come in parts
        raise
    if host is not None:
        headers = with_host(headers, host)
    root_path = service.root_path
    if root_path and path != "*":
        path, raw_path = root_path + path, service.raw_root_path + raw_path
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": ASGI_VERSIONS,
        "http_version": "1.1" if minor == b"1" else "1.0",
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
    if facts.trusted is not None and (len(special) > 1 or minor == b"0"):
        facts.trusted.apply(scope, special)
    return scope, frame


def _check_limits(lines: list[bytes], service: Service) -> None:
    """The slower checks, for a head that is longer than one line may be or has more fields than allowed."""
    if len(lines) > service.limit_fields:
        raise ProtocolError(431, "more header fields than limit_request_fields")
    if any(len(line) > service.limit_field for line in lines):
        raise ProtocolError(431, "a header field is longer than limit_request_field_size")
