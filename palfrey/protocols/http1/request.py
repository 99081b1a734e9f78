"""From a whole request head to the scope of its exchange: request line and framing (head.py), fields and target put
together with the limits.

The one place where HTTP/1.x facts get their ASGI names. A head is cut in two behind its target, and each half is looked
for among those that were found good before:

    `GET /path`                  the worker remembers targets, since a service has paths that everybody asks for
    ` HTTP/1.1` and the fields   the connection remembers its last section, since most clients say the same again. For
                                 the first request of each, the worker remembers what others began with, but nothing
                                 with credentials, which are kept with the client that sent them

Only what is new is read. What was remembered was within the limits and valid, and so is what the two make together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.fields import CREDENTIALS
from palfrey.protocols.http1.head import (
    FORWARDED,
    METHODS,
    REQUEST_LINE,
    SPECIAL,
    Framing,
    Special,
    framing,
    refuse_early,
    why_no_request,
)
from palfrey.protocols.http1.target import RequestTarget, split_target, with_host
from palfrey.protocols.service import ASGI_VERSIONS

if TYPE_CHECKING:
    from palfrey.asgi.proxy import Trusted
    from palfrey.protocols.service import Service
    from palfrey.types import Header, HostPort

REMEMBERED_TARGETS, TARGET_LENGTH = 1024, 128
"""Bounds of what a worker remembers; longer targets seldom come again."""
SECTION_LENGTH = 2048
"""Bytes of a section that a connection keeps, at most: an idle connection is to stay small."""
REMEMBERED_FIRSTS, FIRST_LENGTH = 128, 1024
"""Bounds of the sections that a worker remembers."""


class Section:
    """What follows the target in a head, read: `raw`, from the space before the version to the empty line."""

    __slots__ = ("forwarded", "frame", "headers", "raw", "version")

    def __init__(self, raw: bytes, version: str, headers: list[Header], forwarded: Special, frame: Framing) -> None:
        self.raw = raw
        self.version = version
        self.headers = headers
        """Never handed out: applications may change the list that they are given."""
        self.forwarded = forwarded
        self.frame = frame


NO_SECTION = Section(b"", "", [], [], Framing(0, False, False))
"""Stands for the last section of a connection that has had none, or one too long to be kept."""


class Facts(Protocol):
    """What a connection knows about itself."""

    client: HostPort | None
    server: HostPort | None
    scheme: str
    extensions: dict[str, dict[str, Any]]
    """ASGI's, as they are offered on this connection."""
    trusted: Trusted | None
    """Whose forwarded headers are believed; None when this peer's are not."""
    section: Section
    """The last one; NO_SECTION at first."""


def read_request(head: bytes, facts: Facts, service: Service) -> tuple[dict[str, Any], Framing]:
    """A whole head, up to and with its empty line -> the ASGI scope, and the framing of what follows.

    Raises ProtocolError.
    """
    end = head.find(b" HTTP/1.")
    target = service.targets.get(head[:end])
    section = facts.section
    if target is None or head[end:] != section.raw:
        target, section = _read_new(head, facts, service)
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


def _read_new(head: bytes, facts: Facts, service: Service) -> tuple[RequestTarget, Section]:
    """A head of which at least one half was not remembered. Raises ProtocolError."""
    if len(head) > service.limit_short:
        refuse_early(head[:-2], service.limit_line)
    try:
        line = REQUEST_LINE.match(head)
        if line is None:
            raise why_no_request(head)
        method_bytes, target, minor = line.groups()
        raw = head[line.end(2) :]
        section = facts.section
        if section is NO_SECTION:
            section = service.sections.get(raw) or _read_first(raw, minor, len(head), service)
        elif raw != section.raw:
            section = _read_section(raw, minor, len(head), service)
        method = METHODS.get(method_bytes)
        if method is None:
            raise ProtocolError(501, "the method is not known")
        parts: RequestTarget = (method, *split_target(target, method))
    except ProtocolError:
        refuse_early(head[:-2], service.limit_line)  # as it would have been, had it come in parts
        raise
    facts.section = section if len(raw) <= SECTION_LENGTH else NO_SECTION
    if len(target) <= TARGET_LENGTH:
        if len(service.targets) >= REMEMBERED_TARGETS:
            service.targets.clear()
        service.targets[head[: line.end(2)]] = parts
    return parts, section


def _read_first(raw: bytes, minor: bytes, length: int, service: Service) -> Section:
    """The section of a connection's first request, which others may begin with, too."""
    section = _read_section(raw, minor, length, service)
    if length <= FIRST_LENGTH and not any(name in CREDENTIALS for name, _ in section.headers):
        if len(service.sections) >= REMEMBERED_FIRSTS:
            service.sections.clear()
        service.sections[raw] = section
    return section


VERSION_LINE = len(b" HTTP/1.1\r\n")


def _read_section(raw: bytes, minor: bytes, length: int, service: Service) -> Section:
    """`length` is the whole head's, in bytes."""
    text = raw[VERSION_LINE:-4]
    lines = text.split(b"\r\n") if text else []
    if length > service.limit_short or len(lines) > service.limit_fields:
        _check_limits(lines, service)
    headers = service.fields.read(lines)
    special = [field for field in headers if field[0] in SPECIAL]
    forwarded = [field for field in special if field[0] in FORWARDED] if len(special) > 1 or minor == b"0" else []
    return Section(raw, "1.1" if minor == b"1" else "1.0", headers, forwarded, framing(special, minor))


def _check_limits(lines: list[bytes], service: Service) -> None:
    """The slower checks, for a head that is longer than one line may be or has more fields than allowed."""
    if len(lines) > service.limit_fields:
        raise ProtocolError(431, "more header fields than limit_request_fields")
    if any(len(line) > service.limit_field for line in lines):
        raise ProtocolError(431, "a header field is longer than limit_request_field_size")
