"""From a header block to what an exchange needs (RFC 9113 section 8.3): the pseudo-header fields, the fields behind
them, and the limits.

The one place where HTTP/2's facts get their ASGI names. A block that came before says the same again for as long as the
dynamic table has not changed since, so that the connection looks for it among those that it has read:

    the whole block         a client that asks for the same again
    what is behind `:path`  a client that asks for another path, with the fields that it always sends; its pseudo-header
                            fields the worker looks for among those of all connections, since a service has paths that
                            everybody asks for

Only what is new is read. What was remembered was within the limits and valid, and so is what is made of it, once their
sizes have been looked at together.

Whatever is wrong with a request, its block is decoded to the end first: the table has to stay in step.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.head import FORWARDED, METHODS
from palfrey.protocols.http1.target import check_host, decode_path
from palfrey.protocols.http2.decoder import Decoder, section_size
from palfrey.protocols.http2.fields import SPECIAL, check_value, field_too_large, malformed
from palfrey.protocols.http2.priority import UNSAID, parse_priority
from palfrey.protocols.service import ASGI_VERSIONS

if TYPE_CHECKING:
    from palfrey.protocols.service import Facts, Service
    from palfrey.types import Header

REMEMBERED_LEADS, LEAD_LENGTH = 1024, 512
"""Bounds of the pseudo-header fields that a worker remembers; the length counts as in a header list."""
REMEMBERED_BLOCKS, BLOCK_LENGTH = 16, 512
"""Bounds of the blocks, and of the tails of blocks, that a connection remembers: an idle one is to stay small."""

PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
"""A request's (section 8.3.1, RFC 8441 section 4)."""
SCHEMES = {b"http": "http", b"https": "https"}

_PATH = re.compile(rb"/[\x21\x22\x24-\x7e]*+")
"""As in HTTP/1.1's request line: visible ASCII without "#"."""

Line = tuple[str, bytes, str, bytes, bytes, str, bytes]
"""What a request line would say: method, target, path decoded, path and query as they came, scheme, protocol."""
Terms = tuple["list[Header]", int, bool, "list[Header]", int, bool]
"""What fields say: they themselves, host included, content-length or -1, whether 100 (Continue) is waited for, those of
proxies, urgency, and whether the response is of use in parts."""


class Head:
    """A request's head, read. Not to be changed: the same one is given out for the same block."""

    __slots__ = (
        "_again",
        "_scope",
        "expects_continue",
        "forwarded",
        "headers",
        "incremental",
        "length",
        "method",
        "path",
        "protocol",
        "query",
        "raw_path",
        "scheme",
        "target",
        "urgency",
    )

    def __init__(self, line: Line, terms: Terms) -> None:
        self.method, self.target, self.path, self.raw_path, self.query, self.scheme, self.protocol = line
        self.headers, self.length, self.expects_continue, self.forwarded, self.urgency, self.incremental = terms
        if self.protocol:
            self.length = -1  # what follows is no content (RFC 9110 section 9.3.6)
        self._again = False
        self._scope: dict[str, Any] | None = None
        """What the scopes have in common, once there has been a second one."""

    def scope(self, facts: Facts, service: Service) -> dict[str, Any]:
        """The ASGI scope of this request over that connection, which has to be the same one each time."""
        scope = self._scope.copy() if self._scope is not None else self._new_scope(facts, service)
        scope["headers"] = self.headers.copy()
        scope["state"] = service.state.copy()
        scope["extensions"] = facts.extensions.copy()
        if self.forwarded and facts.trusted is not None:
            facts.trusted.apply(scope, self.forwarded)
        return scope

    def _new_scope(self, facts: Facts, service: Service) -> dict[str, Any]:
        root_path = service.root_path
        path, raw_path = self.path, self.raw_path
        if root_path and path != "*":
            path, raw_path = root_path + path, service.raw_root_path + raw_path
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": ASGI_VERSIONS,
            "http_version": "2",
            "server": facts.server,
            "client": facts.client,
            "scheme": facts.scheme,
            "method": self.method,
            "root_path": root_path,
            "path": path,
            "raw_path": raw_path,
            "query_string": self.query,
        }
        if not service.shows_scope:
            scope["palfrey.target"] = self.target
        if self._again:
            self._scope = scope.copy()
        self._again = True
        return scope


class Lead:
    """The pseudo-header fields of a request, read."""

    __slots__ = ("authority", "line", "size")

    def __init__(self, line: Line, authority: bytes | None, size: int) -> None:
        self.line = line
        self.authority = authority
        self.size = size
        """As a header list's (section 6.5.2)."""


class Section:
    """The fields behind them, read."""

    __slots__ = ("_authority", "_came", "_fields", "_host", "_rest", "_terms", "fits")

    def __init__(
        self,
        came: list[Header],
        fields: list[Header],
        host: bytes | None,
        rest: tuple[int, bool, list[Header], int, bool],
    ) -> None:
        """`came`: the fields as they were sent; `host`: that field's value; `rest`: the terms without the fields."""
        self._came = came
        self._fields = fields
        self._host = host
        self._rest = rest
        self._authority: bytes | None = None
        self._terms: Terms = (fields, *rest)
        self.fits = -1
        """The largest lead that this section has been found to be within the limits with."""

    def terms(self, authority: bytes | None) -> Terms:
        """The terms under this :authority, which is nearly always the last one. Raises ProtocolError."""
        if authority is None:
            if not self._host:
                raise ProtocolError(400, "neither :authority nor host says what was asked for")
            return (self._fields, *self._rest)
        if authority != self._authority:
            fields = self._fields
            if self._host is not None:
                if self._host != authority and self._host.lower() != authority.lower():
                    raise ProtocolError(400, "host and :authority disagree (RFC 9113 section 8.3.1)")
                fields = [field for field in fields if field[0] != b"host"]
            self._terms = ([(b"host", authority), *fields], *self._rest)
            self._authority = authority
        return self._terms

    def check_size(self, lead_size: int, limit: int) -> None:
        """Raises ProtocolError for a lead that makes this section's request too large."""
        self.fits = limit - section_size(self._came)
        if lead_size > self.fits:
            raise too_large()


class HeadReader:
    """Reads one connection's header blocks, each of which has to come by here, in their order."""

    __slots__ = ("_blocks", "_decoder", "_service", "_tails")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._decoder = Decoder()
        self._blocks: dict[bytes, Head] = {}
        self._tails: dict[bytes, Section] = {}
        """Both hold for as long as the table does not change."""

    def read(self, block: bytes) -> Head:
        """A request's whole block.

        Raises ConnectionFault for what is no HPACK, StreamFault for a malformed request, ProtocolError for one that is
        owed an answer.
        """
        head = self._blocks.get(block)
        if head is not None:
            return head
        decoder = self._decoder
        version = decoder.version
        fields, at = decoder.lead(block)
        tail = block[at:]
        # What `lead` has put into the table makes another section of the same bytes.
        section = self._tails.get(tail) if decoder.version == version else None
        if section is None:
            return self._read_new(block, fields, at, version)
        lead = self._lead(fields)
        if lead.size > section.fits:
            section.check_size(lead.size, self._service.limit_head)
        head = Head(lead.line, section.terms(lead.authority))
        if len(block) <= BLOCK_LENGTH:
            if len(self._blocks) >= REMEMBERED_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = head
        return head

    def read_trailers(self, block: bytes) -> list[Header]:
        """A trailer section's block -> its fields. Raises as `read` does."""
        version = self._decoder.version
        fields, whole = self._decoder.decode(block, 0, self._service.limit_head)
        self._forget_since(version)
        if not whole:
            raise too_large()
        return self._service.http2_memory.sieve.sift(fields)[0]

    def skip(self, block: bytes) -> None:
        """A block of any kind that nobody is interested in. Raises ConnectionFault."""
        if block not in self._blocks:
            version = self._decoder.version
            self._decoder.decode(block, 0, 0)
            self._forget_since(version)

    def forget(self) -> None:
        """Lets go of what would only be of use if the client asked again."""
        self._blocks.clear()
        self._tails.clear()

    def _forget_since(self, version: int) -> None:
        if self._decoder.version != version:
            self.forget()

    def _read_new(self, block: bytes, lead_fields: list[Header], at: int, version: int) -> Head:
        """A block with a section that was not remembered."""
        service = self._service
        room = service.limit_head - section_size(lead_fields)
        fields, whole = self._decoder.decode(block, at, room)
        self._forget_since(version)
        lead = self._lead(lead_fields)
        if not whole or room < 0:
            raise too_large()
        section = _read_section(fields, service)
        section.fits = lead.size
        head = Head(lead.line, section.terms(lead.authority))
        if self._decoder.version == version and len(block) <= BLOCK_LENGTH:
            if len(self._tails) >= REMEMBERED_BLOCKS:
                self._tails.clear()
            self._tails[block[at:]] = section
            if len(self._blocks) >= REMEMBERED_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = head
        return head

    def _lead(self, fields: list[Header]) -> Lead:
        """Raises StreamFault and ProtocolError."""
        key = tuple(fields)
        leads = self._service.http2_memory.leads
        lead = leads.get(key)
        if lead is None:
            lead = _read_lead(fields, self._service)
            if lead.size <= LEAD_LENGTH:
                if len(leads) >= REMEMBERED_LEADS:
                    leads.clear()
                leads[key] = lead
        return lead


def too_large() -> ProtocolError:
    """A header list over the limit (section 6.5.2)."""
    return ProtocolError(431, "the header fields are larger than limit_request_head")


def _read_lead(fields: list[Header], service: Service) -> Lead:
    """The pseudo-header fields (RFC 9113 section 8.3.1). Raises StreamFault and ProtocolError."""
    pseudo = dict(fields)
    if len(pseudo) != len(fields):
        raise malformed("a pseudo-header field is repeated")
    if not pseudo.keys() <= PSEUDO:
        raise malformed("a pseudo-header field that no request has")
    for value in pseudo.values():
        if not value:
            raise malformed("an empty pseudo-header field")
        check_value(value)
    method_bytes, scheme_bytes = pseudo.get(b":method"), pseudo.get(b":scheme")
    path, authority, protocol = pseudo.get(b":path"), pseudo.get(b":authority"), pseudo.get(b":protocol", b"")
    if method_bytes is None:
        raise malformed("no :method")
    if protocol and method_bytes != b"CONNECT":
        raise malformed(":protocol without CONNECT (RFC 8441 section 4)")
    if method_bytes == b"CONNECT" and not protocol:
        if scheme_bytes is not None or path is not None or authority is None:
            raise malformed("CONNECT takes :authority alone (RFC 9113 section 8.5)")
        raise ProtocolError(501, "CONNECT is not served here")
    if scheme_bytes is None or path is None:
        raise malformed("no :scheme or no :path")
    if len(path) > service.limit_line:
        raise ProtocolError(414, "the path is longer than limit_request_line")
    method = METHODS.get(method_bytes)
    if method is None:
        raise ProtocolError(501, "the method is not known")
    if protocol not in (b"", b"websocket"):
        raise ProtocolError(501, "no protocol but websocket is served here (RFC 9220 section 3)")
    scheme = SCHEMES.get(scheme_bytes.lower())
    if scheme is None:
        raise ProtocolError(400, "no scheme but http and https is served here")
    if authority is not None:
        if len(b"host: ") + len(authority) > service.limit_field:
            raise field_too_large()
        check_host(authority)  # userinfo, which section 8.3.1 forbids, fits no host
    parts = _split_path(path, method)
    return Lead((method, path, *parts, scheme, protocol), authority, section_size(fields))


def _split_path(path: bytes, method: str) -> tuple[str, bytes, bytes]:
    """The path decoded, path and query as they came. Raises ProtocolError."""
    if path == b"*" and method == "OPTIONS":
        return "*", b"*", b""
    if _PATH.fullmatch(path) is None:
        raise ProtocolError(400, "malformed :path (RFC 9113 section 8.3.1)")
    raw_path, _, query = path.partition(b"?")
    return decode_path(raw_path), raw_path, query


def _read_section(came: list[Header], service: Service) -> Section:
    """All but the pseudo-header fields. Raises StreamFault and ProtocolError."""
    fields, new = service.http2_memory.sieve.sift(came)
    host: bytes | None = None
    length = -1
    expects_continue = False
    crumbs: list[bytes] = []
    priorities: list[bytes] = []
    forwarded: list[Header] = []
    for field in new:
        name, value = field
        if name not in SPECIAL:
            continue
        if name == b"cookie":
            crumbs.append(value)
        elif name == b"priority":
            priorities.append(value)
        elif name in FORWARDED:
            forwarded.append(field)
        elif name == b"host":
            if host is not None:
                raise ProtocolError(400, "a request has exactly one host")
            check_host(value)
            host = value
        elif name == b"content-length":
            # 18 digits, as in http1/head.py.
            if length >= 0 or not value.isdigit() or len(value) > 18:
                raise malformed("content-length is malformed, or given more than once")
            length = int(value)
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
    if len(crumbs) > 1:
        cookie = b"; ".join(crumbs)
        if len(b"cookie: ") + len(cookie) > service.limit_field:
            raise field_too_large()
        fields = _with_whole_cookie(fields, cookie)
    if len(fields) + (host is None) > service.limit_fields:
        raise ProtocolError(431, "more header fields than limit_request_fields")
    urgency, incremental = parse_priority(b", ".join(priorities)) if priorities else UNSAID
    return Section(came, fields, host, (length, expects_continue and length != 0, forwarded, urgency, incremental))


def _with_whole_cookie(fields: list[Header], cookie: bytes) -> list[Header]:
    """The fields with the crumbs put together in the place of the first (RFC 9113 section 8.2.3)."""
    first = next(at for at, field in enumerate(fields) if field[0] == b"cookie")
    rest = [field for field in fields[first:] if field[0] != b"cookie"]
    return [*fields[:first], (b"cookie", cookie), *rest]
