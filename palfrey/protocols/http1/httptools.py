"""Splits field lines with httptools (llhttp, in C). What it is shown, and what becomes of it, is in fields.py.

One parser serves all connections of a worker. Each time it is given a whole request, made of a request line that is
always the same and field lines that say nothing of content, so that it is at its beginning again afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from palfrey.errors import ProtocolError

if TYPE_CHECKING:
    from palfrey.types import Header

_LINE = b"GET / HTTP/1.1\r\n"


class HttptoolsParser:
    """The callback only records; `split` hands the record over."""

    __slots__ = ("_fields", "_parser")

    def __init__(self) -> None:
        self._fields: list[Header] = []
        self._parser = httptools.HttpRequestParser(self)

    def split(self, section: bytes) -> list[Header]:
        """See fields.Parser."""
        fields = self._fields = []
        try:
            self._parser.feed_data(b"%b%b\r\n" % (_LINE, section))
        except httptools.HttpParserError as error:
            self._parser = httptools.HttpRequestParser(self)
            raise ProtocolError(400, str(error) or type(error).__name__) from None
        return fields

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))
