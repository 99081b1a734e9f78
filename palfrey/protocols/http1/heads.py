"""Whole request heads, read once: `HeadReader` puts request line and framing (head.py), fields and target together with
the limits, and remembers.

The server (request.py, reader.py) and the toolkit (palfrey/http/) both read with it; nothing here knows ASGI, a
connection or the time. A head is cut in two behind its target, and each half is looked for among those that were found
good before:

    `GET /path`                  the reader remembers targets, since a service has paths that everybody asks for
    ` HTTP/1.1` and the fields   the connection remembers its last section, since most clients say the same again. For
                                 the first request of each, the reader remembers what others began with, but nothing
                                 with credentials, which are kept with the client that sent them

Only what is new is read. What was remembered was within the limits and valid, and so is what the two make together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
from palfrey.protocols.http1.target import RequestTarget, split_target

if TYPE_CHECKING:
    from palfrey.protocols.http1.fields import FieldReader
    from palfrey.types import Header

REMEMBERED_TARGETS, TARGET_LENGTH = 1024, 128
"""Bounds of what is remembered; longer targets seldom come again."""
SECTION_LENGTH = 2048
"""Bytes of a section that a connection keeps, at most: an idle connection is to stay small."""
REMEMBERED_FIRSTS, FIRST_LENGTH = 128, 1024
"""Bounds of the sections that are remembered for all connections."""

VERSION_LINE = len(b" HTTP/1.1\r\n")

_EMPTY_LINES = re.compile(rb"(?:\r\n)++")


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


class HeadReader:
    """The limits of requests, and the memory that connections share. For one thread."""

    __slots__ = (
        "fields",
        "limit_body",
        "limit_field",
        "limit_fields",
        "limit_head",
        "limit_line",
        "limit_short",
        "sections",
        "targets",
    )

    def __init__(self, fields: FieldReader, head: int, line: int, count: int, field: int, body: int) -> None:
        """The limits are those of the whole head, of the request line, of the number of fields and of each one's
        length, in bytes (0 for all but the first: as much as a head has room for), and of the content (0: none)."""
        self.fields = fields
        self.limit_head = head
        self.limit_line = line or head
        self.limit_fields = count or head
        self.limit_field = field or head
        self.limit_body = body
        self.limit_short = min(self.limit_line, self.limit_field)
        """A head no longer than this cannot have a line that is too long."""
        self.targets: dict[bytes, RequestTarget] = {}
        """What is remembered: a request line without its version -> what it says."""
        self.sections: dict[bytes, Section] = {}
        """The same for what follows the target in the first heads of connections."""

    def check_incomplete(self, data: bytes, searched: int) -> None:
        """Raises ProtocolError for a head that is not all there and that no further byte can mend, or that is longer
        than the limit. `searched` bytes of it were looked at before."""
        refuse_early(data[: self.limit_head], self.limit_line, searched)
        if len(data) > self.limit_head:
            raise ProtocolError(431, "the head is longer than limit_request_head")

    def read_new(self, head: bytes, last: Section) -> tuple[RequestTarget, Section]:
        """A whole head, up to and with its empty line, of which at least one half was not remembered. `last` is its
        connection's last section. Raises ProtocolError."""
        if len(head) > self.limit_short:
            refuse_early(head[:-2], self.limit_line)
        try:
            line = REQUEST_LINE.match(head)
            if line is None:
                raise why_no_request(head)
            method_bytes, target, minor = line.groups()
            raw = head[line.end(2) :]
            section = last
            if section is NO_SECTION:
                section = self.sections.get(raw) or self._read_first(raw, minor, len(head))
            elif raw != section.raw:
                section = self._read_section(raw, minor, len(head))
            method = METHODS.get(method_bytes)
            if method is None:
                raise ProtocolError(501, "the method is not known")
            parts: RequestTarget = (method, *split_target(target, method))
        except ProtocolError:
            refuse_early(head[:-2], self.limit_line)  # as it would have been, had it come in parts
            raise
        if len(target) <= TARGET_LENGTH:
            if len(self.targets) >= REMEMBERED_TARGETS:
                self.targets.clear()
            self.targets[head[: line.end(2)]] = parts
        return parts, section

    def _read_first(self, raw: bytes, minor: bytes, length: int) -> Section:
        """The section of a connection's first request, which others may begin with, too."""
        section = self._read_section(raw, minor, length)
        if length <= FIRST_LENGTH and not any(name in CREDENTIALS for name, _ in section.headers):
            if len(self.sections) >= REMEMBERED_FIRSTS:
                self.sections.clear()
            self.sections[raw] = section
        return section

    def _read_section(self, raw: bytes, minor: bytes, length: int) -> Section:
        """`length` is the whole head's, in bytes."""
        text = raw[VERSION_LINE:-4]
        lines = text.split(b"\r\n") if text else []
        if length > self.limit_short or len(lines) > self.limit_fields:
            self._check_limits(lines)
        headers = self.fields.read(lines)
        special = [field for field in headers if field[0] in SPECIAL]
        forwarded = [field for field in special if field[0] in FORWARDED] if len(special) > 1 or minor == b"0" else []
        return Section(raw, "1.1" if minor == b"1" else "1.0", headers, forwarded, framing(special, minor))

    def _check_limits(self, lines: list[bytes]) -> None:
        """The slower checks, for a head that is longer than one line may be or has more fields than allowed."""
        if len(lines) > self.limit_fields:
            raise ProtocolError(431, "more header fields than limit_request_fields")
        if any(len(line) > self.limit_field for line in lines):
            raise ProtocolError(431, "a header field is longer than limit_request_field_size")


def kept(section: Section) -> Section:
    """What a connection keeps of it: NO_SECTION where it is too long."""
    return section if len(section.raw) <= SECTION_LENGTH else NO_SECTION


def empty_lines(data: bytes) -> int:
    """How many bytes of empty lines `data` begins with, which are to be ignored before a request line (RFC 9112 section
    2.2); 0 for a lone CR, which may become one. Raises ProtocolError. Called where data[0] is CR or LF."""
    if data == b"\r":
        return 0
    empty = _EMPTY_LINES.match(data)
    if empty is None:
        raise ProtocolError(400, "a bare CR or LF before the request line")
    return empty.end()
