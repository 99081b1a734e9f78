"""Heads of responses as bytes, rendered by the server's own code (protocols/http1/render.py).

What is the protocol's business is decided here, once: whether the content has a length, comes in chunks or ends with
the connection, and whether the connection may go on afterwards. Among an application's fields `Connection: close` and
`Connection: upgrade` are taken for advice; all else in Connection, Keep-Alive and Transfer-Encoding is left out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from palfrey.asgi.messages import content_length
from palfrey.asgi.stream import Framing, InvalidHeader
from palfrey.protocols.http1.render import HeadRenderer, chunk, render_informational
from palfrey.protocols.response import DefaultFields, check_field, check_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palfrey.http.parser import Request
    from palfrey.types import Header

__all__ = ["CONTINUE", "InvalidHeader", "ResponseHead", "ResponseHeads", "chunk"]

NOT_BY_DEFAULT = frozenset((b"connection", b"content-length", b"keep-alive", b"transfer-encoding"))
"""Fields that each response has, or has not, for reasons of its own."""

CONTINUE = render_informational(100, ())
"""What a client that `expects_continue` waits for."""


class ResponseHead(NamedTuple):
    """A head, and what is to follow it."""

    data: bytes
    """With its empty line."""
    content: bool
    """Whether content may follow: not behind HEAD, 204, 205 and 304 (RFC 9110 sections 6.4.1 and 15.3.6)."""
    chunked: bool
    """The content is to be sent by `chunk`."""
    keep_alive: bool
    """Whether the connection may carry another request. If not, and neither length nor chunks tell, its end does."""


class ResponseHeads:
    """Renders heads, and remembers fields that come again. For one thread."""

    __slots__ = ("_defaults", "_renderer", "_second")

    def __init__(self, headers: Iterable[Header] = (), *, date: bool = True) -> None:
        """`headers`, and the date, are added to responses that do not have them. Raises InvalidHeader."""
        own = []
        for name, value in headers:
            check_field(name, value)
            if name.lower() in NOT_BY_DEFAULT:
                raise InvalidHeader(f"{name!r} cannot be the same in all responses: give it to render")
            own.append((name.decode("latin-1"), value.decode("latin-1")))
        self._defaults = DefaultFields(False, date, own)
        self._renderer = HeadRenderer(self._defaults)
        self._second = int(time.time())

    def render(
        self,
        status: int,
        headers: Iterable[Header] = (),
        *,
        request: Request | None = None,
        length: int | None = None,
        keep_alive: bool = True,
    ) -> ResponseHead:
        """The head of a final response. Raises InvalidHeader for a field that cannot be sent, ValueError for a status
        that is none of a final response, and for a `length` that the headers or the status contradict.

        `request` is what it answers; without one (a head that could not be read) it is the connection's last. `length`
        is the content's, where it is known and not among the headers; HEAD is told what GET's would be. `keep_alive`:
        whether the server would go on.
        """
        self._keep_date()
        fields = list(headers)
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is no final response's status")
        declared = -1
        for name, value in fields:
            check_value(name, value)
            if name.lower() == b"content-length":
                declared = content_length(value, declared)
        if length is not None and length < 0:
            raise ValueError(f"{length} is no length")
        if declared >= 0 and length not in (None, declared):
            raise ValueError(f"Content-Length is {declared}, and the length {length}")
        bodiless = request is not None and request.method == "HEAD"
        if status == 205:
            # RFC 9110 section 15.3.6: without content, and its client has to be told so, as with a 200.
            if declared > 0 or length:
                raise ValueError("a 205 has no content")
            length, bodiless = 0, True
        elif status in (204, 304):
            length, bodiless = None, True
        if declared >= 0:
            framing = Framing.DECLARED
        elif length is not None:
            framing = Framing.WHOLE
        else:
            framing = Framing.NONE if bodiless else Framing.OPEN
        keep_alive = keep_alive and request is not None and request.keep_alive
        old = request is not None and request.version == "1.0"
        data, chunked, stays = self._renderer.render(status, fields, framing, length or 0, keep_alive, old)
        return ResponseHead(data, not bodiless, chunked, stays)

    def _keep_date(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._defaults.tick()
            self._renderer.tick()
