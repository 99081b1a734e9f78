"""The field lines of a head -> its fields (RFC 9112 section 5): each line is looked up, and read when it is new.

Clients send the same few lines over and over: a browser's head has fifteen, of which perhaps two were never seen
before. So a worker remembers the lines that it found good, bounded in number and length, and a line that is remembered
costs a dictionary's look-up.

A line that is new, but for its value, is taken apart at its colon where that can mean one thing only: the name stood in
a line that was found good, and the value is visible ASCII and spaces. (The usual case: a request id, a cookie.) Any
other is read twice, and twice in the same way or not at all:

    SCAN      one compiled pattern decides what is a field line. It stands before every parser, since no parser refuses
              all that could be read in two ways
    a parser  splits it too (http1/httptools.py, http1/h11.py), and has to come to the same name and value

The parser is not shown the fields that it would act upon (ACTED_UPON). What those mean is decided in one place, by
`framing()`, and a parser that is told nothing of content, upgrades or the connection's end waits for none of them:
one serves all connections of a worker.
"""

from __future__ import annotations

import re
from typing import Protocol

from palfrey.errors import BootError, ProtocolError
from palfrey.protocols.http1.head import SPECIAL, TOKEN
from palfrey.types import Header

SCAN = re.compile(
    # field-name ":" OWS field-value (RFC 9112 section 5): no obs-fold, no space before the colon, no controls but
    # HTAB (RFC 9110 section 5.5). White space behind the value is legal too, but taken off before
    rb"(" + TOKEN + rb"++):[\t ]*+([\t\x20-\x7e\x80-\xff]*+)(?<![\t ])"
)

ACTED_UPON = SPECIAL | {b"proxy-connection"}
"""Those that a parser may act upon: llhttp closes for `Proxy-Connection: close`, h11 rewrites framing."""

CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
"""Never remembered (RFC 7541 section 7.1.3 has the same rule for HTTP/2's compression)."""

REMEMBERED_LINES, LINE_LENGTH = 1024, 256
"""Bounds of what is remembered: well below a megabyte. Longer lines seldom come again."""
LINES_OF_A_NAME = 64
"""So many are remembered with the same name: what has more values has a new one each time, and would only push out the
lines of others."""
REMEMBERED_NAMES, NAME_LENGTH = 512, 64

DROPPED: Header = (b"", b"")
"""Stands for a field that the setting `header_map` drops."""


class Parser(Protocol):
    """A reader of HTTP/1.1 that we did not write."""

    def read(self, line: bytes) -> Header | None:
        """One field line without its CRLF, none of ACTED_UPON's -> the field, its name in lower case.

        Returns None or raises ProtocolError for what this parser does not take.
        """


def _httptools() -> Parser:
    from palfrey.protocols.http1.httptools import HttptoolsParser

    return HttptoolsParser()


def _h11() -> Parser:
    from palfrey.protocols.http1.h11 import H11Parser

    return H11Parser()


def make_parser(name: str) -> Parser:
    """The setting `http` -> a parser; auto, and h2, are httptools where it is installed. Raises BootError, and
    ValueError for another name."""
    if name not in ("auto", "h11", "h2", "httptools"):
        raise ValueError(f"no parser is called {name!r}: auto, httptools and h11 are")
    try:
        return _h11() if name == "h11" else _httptools()
    except ImportError as error:
        if name in ("auto", "h2"):
            return _h11()
        raise BootError(f"http = {name}: {error}; install {name}, or leave http at auto") from None


class _Name:
    """A field name that stood in a good line."""

    __slots__ = ("lower", "room")

    def __init__(self, lower: bytes) -> None:
        self.lower = lower
        self.room = 0 if lower in CREDENTIALS else LINES_OF_A_NAME
        """How many more of its lines may be remembered."""


class FieldReader(dict[bytes, Header]):
    """A worker's memory of lines, which reads those that it does not have: `reader[line]`. Raises ProtocolError.

    Lines are without their CRLF; names become lower case, and there is no white space around values.
    """

    __slots__ = ("_drops", "_header_map", "_names", "_parser")

    def __init__(self, parser: Parser, header_map: str = "keep") -> None:
        """`header_map`: whether names with an underscore are to "keep", "drop" or "refuse"."""
        super().__init__()
        self._names: dict[bytes, _Name] = {}
        self._parser = parser
        self._header_map = header_map
        self._drops = header_map == "drop"

    def read(self, lines: list[bytes]) -> list[Header]:
        """All fields of a head."""
        fields = list(map(self.__getitem__, lines))
        return [field for field in fields if field is not DROPPED] if self._drops else fields

    def __missing__(self, line: bytes) -> Header:
        written, colon, value = line.partition(b":")
        name = self._names.get(written)
        value = value.strip(b" \t")
        if name is not None and colon and value.isascii() and str(value, "ascii").isprintable():
            field = (name.lower, value)
        else:
            field = self._read_twice(line)
            if self._header_map != "keep" and b"_" in field[0]:
                # Neither it nor its name is remembered, so that each comes by here.
                if self._header_map == "refuse":
                    raise ProtocolError(400, "an underscore in a field name, which header_map refuses")
                return DROPPED
            name = self._name(written, field[0])
        if name.room and len(line) <= LINE_LENGTH:
            self._remember(line, field, name)
        return field

    def _read_twice(self, line: bytes) -> Header:
        match = SCAN.fullmatch(line) or SCAN.fullmatch(line.rstrip(b" \t"))
        if match is None:
            raise _refusal(line)
        name, value = match.groups()
        name = name.lower()
        if name not in ACTED_UPON and self._parser.read(match.string) != (name, value):
            raise ProtocolError(400, f"field {name[:40]!r} can be read in two ways")
        return name, value

    def _name(self, written: bytes, lower: bytes) -> _Name:
        """The record of a name in a good line; `written` is as the client has it."""
        name = self._names.get(written)
        if name is None:
            name = _Name(lower)
            if len(self._names) >= REMEMBERED_NAMES:
                self._names.clear()
            if len(written) <= NAME_LENGTH:
                self._names[written] = name
        return name

    def _remember(self, line: bytes, field: Header, name: _Name) -> None:
        if len(self) >= REMEMBERED_LINES:
            self.clear()
            self._names.clear()
        name.room -= 1
        self[line] = field


def _refusal(line: bytes) -> ProtocolError:
    """Why SCAN did not match. Slow on purpose: it runs once in a connection's life."""
    name, colon, _ = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        return ProtocolError(400, "obsolete line folding (RFC 9112 section 5.2)")
    if not colon or re.fullmatch(TOKEN + rb"+", name) is None:
        return ProtocolError(400, f"malformed field name {name[:40]!r}")
    return ProtocolError(400, f"control character in the value of {name[:40]!r}")
