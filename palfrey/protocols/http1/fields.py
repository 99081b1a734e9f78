"""The field lines of a head -> its fields (RFC 9112 section 5): each line is looked up, and read when it is new.

Clients send the same few lines over and over: a browser's head has fifteen, of which perhaps one was never seen
before. So a worker remembers the lines that it found good, bounded in number and length, and a line that is remembered
costs a dictionary's look-up: 1 us for fifteen, against 4 us to scan and parse them.

A line that is new is read twice, and twice in the same way or not at all:

    SCAN      one compiled pattern over the new lines decides what is a field line. It stands before every parser, since
              no parser refuses all that could be read in two ways
    a parser  splits them too (http1/httptools.py, http1/h11.py), and has to come to the same names and values

The parser is not shown the fields that it would act upon (ACTED_UPON). What those mean is decided in one place, by
`framing()`, and a parser that is told nothing of content, upgrades or the connection's end waits for none of them:
one serves all connections of a worker.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from palfrey.errors import BootError, ProtocolError
from palfrey.protocols.http1.head import SPECIAL, TOKEN

if TYPE_CHECKING:
    from palfrey.types import Header

SCAN = re.compile(
    # field-name ":" OWS field-value CRLF (RFC 9112 section 5): no obs-fold, no space before the colon, no controls but
    # HTAB (RFC 9110 section 5.5). The space behind the value is gone already
    rb"(?:" + TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)++"
)

ACTED_UPON = SPECIAL | {b"proxy-connection"}
"""Those that a parser may act upon: llhttp closes for `Proxy-Connection: close`, h11 rewrites framing."""

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
"""Never remembered (RFC 7541 section 7.1.3 has the same rule for HTTP/2's compression)."""

REMEMBERED_LINES, LINE_LENGTH = 1024, 128
"""Bounds of what is remembered: half a megabyte. Longer lines seldom come again."""


class Parser(Protocol):
    """A reader of HTTP/1.1 that we did not write."""

    def split(self, section: bytes) -> list[Header]:
        """Field lines, each with its CRLF, that hold nothing of ACTED_UPON -> the fields, names in lower case.

        Raises ProtocolError for what this parser does not take.
        """


def _httptools() -> Parser:
    from palfrey.protocols.http1.httptools import HttptoolsParser

    return HttptoolsParser()


def _h11() -> Parser:
    from palfrey.protocols.http1.h11 import H11Parser

    return H11Parser()


def make_parser(name: str) -> Parser:
    """The setting `http` -> a parser; auto is httptools where it is installed. Raises BootError."""
    try:
        return _h11() if name == "h11" else _httptools()
    except ImportError as error:
        if name == "auto":
            return _h11()
        raise BootError(f"http = {name}: {error}; install {name}, or leave http at auto") from None


class FieldReader:
    """A worker's reader of field lines, with what it remembers."""

    __slots__ = ("_header_map", "_known", "_parser")

    def __init__(self, parser: Parser, header_map: str = "keep") -> None:
        """`header_map`: whether names with an underscore are to "keep", "drop" or "refuse"."""
        self._parser = parser
        self._header_map = header_map
        self._known: dict[bytes, Header] = {}

    def read(self, lines: list[bytes]) -> list[Header]:
        """Lines without their CRLF -> fields, names in lower case, no white space around values.

        A head without fields is one empty line. Raises ProtocolError.
        """
        known = self._known
        try:
            return [known[line] for line in lines]
        except KeyError:
            return self._read_new(lines) if lines != [b""] else []

    def _read_new(self, lines: list[bytes]) -> list[Header]:
        """As `read`, where at least one line is new."""
        known = self._known
        new = [line for line in lines if line not in known]
        fields = self._split([line.rstrip(b" \t") for line in new])
        if len(new) == len(lines):
            headers = fields
        else:
            following = iter(fields)
            headers = [known.get(line) or next(following) for line in lines]
        kept = self._kept(headers) if self._header_map != "keep" else headers
        for line, field in zip(new, fields, strict=True):
            if len(line) <= LINE_LENGTH and field[0] not in CREDENTIALS and (kept is headers or b"_" not in field[0]):
                if len(known) >= REMEMBERED_LINES:
                    known.clear()
                known[line] = field
        return kept

    def _kept(self, headers: list[Header]) -> list[Header]:
        """The fields that the setting lets through. A dropped name is never remembered, so that each comes by here."""
        if self._header_map == "refuse" and any(b"_" in name for name, _ in headers):
            raise ProtocolError(400, "an underscore in a field name, which header_map refuses")
        return [field for field in headers if b"_" not in field[0]]

    def _split(self, lines: list[bytes]) -> list[Header]:
        """New lines, stripped at the end, each read by the scan and by the parser."""
        if SCAN.fullmatch(b"\r\n".join([*lines, b""])) is None:
            raise _refusal(lines)
        fields: list[Header] = []
        shown: list[bytes] = []
        expected: list[Header] = []
        for line in lines:
            name, _, value = line.partition(b":")
            field = (name.lower(), value.lstrip(b" \t"))
            fields.append(field)
            if field[0] not in ACTED_UPON:
                shown.append(line)
                expected.append(field)
        if shown:
            shown.append(b"")
            if self._parser.split(b"\r\n".join(shown)) != expected:
                raise ProtocolError(400, "header fields that can be read in two ways")
        return fields


def _refusal(lines: list[bytes]) -> ProtocolError:
    """Why SCAN did not match. Slow on purpose: it runs once in a connection's life."""
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            return ProtocolError(400, "obsolete line folding (RFC 9112 section 5.2)")
        if not colon or re.fullmatch(TOKEN + rb"+", name) is None:
            return ProtocolError(400, f"malformed field name {name[:40]!r}")
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            return ProtocolError(400, f"control character in the value of {name[:40]!r}")
    return ProtocolError(400, "malformed header section")
