"""Reads field lines with httptools (llhttp, in C). What it is shown, and what becomes of it, is in fields.py.

One parser serves all connections of a worker. Each time it is given a whole request, made of a request line that is
always the same and a field that says nothing of content, so that it is at its beginning again afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from palfrey.errors import ProtocolError

if TYPE_CHECKING:
    from palfrey.types import Header


class HttptoolsParser:
    """The callback only records; `read` hands the record over."""

    __slots__ = ("_field", "_parser")

    def __init__(self) -> None:
        self._field: Header | None = None
        self._parser = httptools.HttpRequestParser(self)

    def read(self, line: bytes) -> Header | None:
        """See fields.Parser."""
        self._field = None
        try:
            self._parser.feed_data(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
        except httptools.HttpParserError as error:
            self._parser = httptools.HttpRequestParser(self)
            raise ProtocolError(400, str(error) or type(error).__name__) from None
        if self._field is None:
            # No line that the scan takes comes to this; another client's request must not be what it ends.
            self._parser = httptools.HttpRequestParser(self)
        return self._field

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field = (name.lower(), value)
