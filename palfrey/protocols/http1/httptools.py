"""Splits the field lines of a whole head with httptools (llhttp, in C).

One parser serves all connections of a worker, since it only ever sees whole heads: an idle connection then costs no
parser. llhttp remembers, though: after a head that promises content, asks to close, or asks for an upgrade it waits
for what follows, so it is thrown away then (a new one costs 170 ns).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.head import SPECIAL, Special

if TYPE_CHECKING:
    from palfrey.types import Header


class HttptoolsHead:
    """The parser's callbacks only record; `split` hands the record over."""

    __slots__ = ("_parser", "headers", "special")

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.special: Special = []
        self._parser = httptools.HttpRequestParser(self)

    def split(self, head: bytes) -> tuple[list[Header], Special]:
        """A whole head -> its fields with names in lower case, and the special ones among them again.

        Raises ProtocolError where llhttp is stricter than the scan before it.
        """
        headers: list[Header] = []
        special: Special = []
        self.headers, self.special = headers, special
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.forget()
        except httptools.HttpParserInvalidMethodError:
            self.forget()
            raise ProtocolError(501, "the method is not known") from None
        except httptools.HttpParserError as error:
            self.forget()
            raise ProtocolError(400, str(error) or type(error).__name__) from None
        return headers, special

    def forget(self) -> None:
        """To be called after a head that has content behind it, that ends its connection, or that was refused."""
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        field = (name, value)
        self.headers.append(field)
        if name in SPECIAL:
            self.special.append(field)
