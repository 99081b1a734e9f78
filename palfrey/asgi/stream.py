"""The port: what an exchange may ask of the connection that carries it.

`Exchange` and `WebSocket` own meaning (order of messages, lengths, what the log is told); a `Stream` owns bytes
(chunked coding and cached header lines, or flow-control windows and HPACK). Every protocol implements this class
once; on HTTP/1.1 the connection itself is the stream, on HTTP/2 and HTTP/3 it is one slotted object a stream.

The other direction is synchronous and needs no port: the protocol calls `exchange.feed(data)`, `feed_eof()` and
`disconnect()`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.types import Headers


class Framing(Enum):
    """How the end of a response's content is told to the client; the exchange decides, the stream writes."""

    DECLARED = "declared"
    """The application's own Content-Length holds, and the exchange has seen to it that it will."""
    WHOLE = "whole"
    """All of the content is in this one call: the stream adds a Content-Length."""
    OPEN = "open"
    """Unknown until the last part: chunked, DATA frames, or the end of the connection."""
    NONE = "none"
    """The response has no content: HEAD, 204, 304 (RFC 9110 section 6.4.1). No byte of it may be written."""


REASON: Final = b":reason"
"""In the place of a field's name: its value is the reason phrase of the status line. HTTP/2 has none. It is this object
that counts, not its text, by which no application's field can be named."""


class Stream(Protocol):
    """One request's way back to its client."""

    writable: bool
    """False while the client reads too slowly: `await drain()` before the next `send_*`."""

    def send_head(self, status: int, headers: Headers, body: bytes, more: bool, framing: Framing) -> None:
        """Writes the final response's head and first content in one go.

        `headers` are the application's, unchecked; a REASON among them has been checked. Raises `InvalidHeader` (a
        ValueError) before any byte has been written when one of them cannot be sent. With `more` false the response
        ends here.
        """

    def send_again(self, status: int, headers: Headers, body: bytes) -> None:
        """`send_head` for a whole response with its own Content-Length, whose `headers` are an object that comes again,
        and that nobody changes: what was made of it may be remembered."""

    def send_body(self, body: bytes, more: bool) -> None:
        """Writes content after `send_head(..., more=True)`; `more` false ends the response."""

    async def send_file(self, fd: int, offset: int, count: int, more: bool) -> None:
        """Writes `count` bytes of the file from `offset` on, without reading them into Python where it can.

        Waits for the client as it goes, and tells `exchange.file_sent` how far it is. `count` is not 0. The caller
        keeps `fd` open and sends nothing else meanwhile. Raises ClientDisconnected when the client is gone and
        OSError when the file is shorter than promised; the response can only be cut then.
        """

    def send_informational(self, status: int, headers: Headers) -> None:
        """Writes an interim (1xx) response; does nothing where the client would not understand one."""

    def send_trailers(self, headers: Headers) -> None:
        """Ends an OPEN response, whose last content was sent with `more` true, with these trailer fields."""

    async def drain(self) -> None:
        """Returns when the stream is writable again, or its client gone."""

    def waits_for_client(self) -> bool:
        """Whether the application stands still because its client does: it does not read the response, or has yet to
        send content that the application waits for."""

    def credit(self, count: int) -> None:
        """The application took `count` bytes of the request's content: as many more may be read."""

    def finished(self, exchange: Exchange) -> None:
        """The response is complete. Called once, synchronously, by the exchange."""

    def reset(self) -> None:
        """Cuts this response short so that the client can tell that it is not whole."""

    def abort(self) -> None:
        """Drops the whole connection at once."""


class ClientDisconnected(OSError):
    """Raised by `send()` when the client is gone (ASGI HTTP specification 2.4)."""


class InvalidHeader(ValueError):
    """An application's header that must not be written: it could be read as more than one (RFC 9110 section 5.5)."""


_STARLETTES = frozenset(("ClientDisconnect", "WebSocketDisconnect"))
"""Starlette's words for a disconnect that came while content or a message was awaited; there is nothing to import."""


def is_farewell(error: BaseException | None) -> bool:
    """Whether a gone client is all that went wrong: frameworks wrap what `send()` raised, or are cancelled by it."""
    from asyncio import CancelledError  # here, since palfrey.http has this module and serves programs without a loop

    while error is not None:
        if isinstance(error, (ClientDisconnected, CancelledError)) or type(error).__name__ in _STARLETTES:
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(is_farewell(inner) for inner in error.exceptions)
        error = error.__cause__ or error.__context__
    return False
