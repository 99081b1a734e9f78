"""Heads of responses as bytes, rendered by the server's own code (protocols/http1/render.py).

What is the protocol's business is decided here, once: whether the content has a length, comes in chunks or ends with
the connection, and whether the connection may go on afterwards. Connection, Keep-Alive and Transfer-Encoding among an
application's fields are taken for advice.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from palfrey.asgi.messages import content_length
from palfrey.asgi.stream import Framing, InvalidHeader
from palfrey.protocols.http1.render import HeadRenderer, chunk, render_informational
from palfrey.protocols.response import DefaultFields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palfrey.http.parser import Request
    from palfrey.types import Header

__all__ = ["CONTINUE", "InvalidHeader", "ResponseHead", "ResponseHeads", "chunk"]

CONTINUE = render_informational(100, ())
"""What a client that `expects_continue` waits for."""


class ResponseHead(NamedTuple):
    """A head, and what is to follow it."""

    data: bytes
    """With its empty line."""
    content: bool
    """Whether content may follow: not behind HEAD, 204 and 304 (RFC 9110 section 6.4.1)."""
    chunked: bool
    """The content is to be sent by `chunk`."""
    keep_alive: bool
    """Whether the connection may carry another request. If not, and neither length nor chunks tell, its end does."""


class ResponseHeads:
    """Renders heads, and remembers fields that come again. For one thread."""

    __slots__ = ("_defaults", "_renderer", "_second")

    def __init__(self, headers: Iterable[tuple[str, str]] = (), *, date: bool = True) -> None:
        """`headers`, and the date, are added to responses that do not have them. Raises InvalidHeader."""
        self._defaults = DefaultFields(False, date, headers)
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
        that is none of a final response, or a `length` that the headers contradict.

        `request` is what it answers; without one (a head that could not be read) it is the connection's last. `length`
        is the content's, where it is known and not among the headers. `keep_alive`: whether the server would go on.
        """
        self._keep_date()
        fields = list(headers)
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is no final response's status")
        declared = -1
        for name, value in fields:
            if name.lower() == b"content-length":
                declared = content_length(value, declared)
        if declared >= 0 and length not in (None, declared):
            raise ValueError(f"Content-Length is {declared}, and the length {length}")
        bodiless = status in (204, 304) or (request is not None and request.method == "HEAD")
        if bodiless:
            framing = Framing.NONE
        elif declared >= 0:
            framing = Framing.DECLARED
        else:
            framing = Framing.OPEN if length is None else Framing.WHOLE
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
