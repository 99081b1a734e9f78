"""Splits the field lines of a whole head with httptools (llhttp, in C).

One parser serves all connections of a worker, since it only ever sees whole heads: an idle connection then costs no
parser. llhttp remembers, though: after a head that promises content, asks to close, or asks for an upgrade it waits
for what follows, so it is thrown away then (a new one costs 170 ns). Its idea of such a head is not ours (it obeys
`Proxy-Connection: close`), so a head that a used parser refuses is shown to a new one before it is refused: nothing
that one client sends may decide what becomes of another's request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.head import SPECIAL, Special, framing

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
        except httptools.HttpParserError:
            return self._split_afresh(head)
        return headers, special

    def _split_afresh(self, head: bytes) -> tuple[list[Header], Special]:
        """As `split`, by a parser that has seen nothing before; slow on purpose."""
        self.forget()
        self.headers, self.special = [], []
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.forget()
        except httptools.HttpParserError as error:
            self.forget()
            if str(error) == _BAD_CODING:
                framing(self.special, b"1")  # refuses it too, and knows whether with 400 or 501
            raise _refusal(error) from None
        return self.headers, self.special

    def forget(self) -> None:
        """To be called after a head that has content behind it, that ends its connection, or that was refused."""
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        field = (name, value)
        self.headers.append(field)
        if name in SPECIAL:
            self.special.append(field)


def _refusal(error: Exception) -> ProtocolError:
    """What llhttp found wrong, as an answer. Methods of other protocols (RTSP, HTTP/2's PRI) it names by itself."""
    reason = str(error)
    if isinstance(error, httptools.HttpParserInvalidMethodError) or reason in _FOREIGN_METHOD:
        return ProtocolError(501, "the method is not known")
    return ProtocolError(400, reason or type(error).__name__)


_BAD_CODING = "Request has invalid `Transfer-Encoding`"
_FOREIGN_METHOD = ("Invalid method for HTTP/x.x request", "Expected HTTP/2 Connection Preface")
