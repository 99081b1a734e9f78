"""The protocol toolkit: HTTP/1.1 without I/O, for those who write servers and proxies of their own.

It is what Palfrey itself reads and writes with (palfrey/protocols/http1/), under names that stay. Bytes go in and come
out; sockets, loops and threads are the user's. docs/toolkit.md tells how it is used.

    RequestParser   bytes off the wire -> requests, their content as a stream; strict, and incremental at any split
    ResponseHeads   a status and fields -> the bytes of a head, and how its content is to be sent
    pieces          split_uri, parse_request_line, split_header_lines, unquote_to_wsgi

The names are imported on first use, and none of them brings asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palfrey.asgi.stream import InvalidHeader
    from palfrey.http.errors import ClientGone, ParseError, RequestError, Unsupported
    from palfrey.http.parser import Body, Limits, Memory, Request, RequestParser
    from palfrey.http.pieces import (
        RequestLine,
        Uri,
        parse_request_line,
        split_header_lines,
        split_uri,
        unquote_to_wsgi,
    )
    from palfrey.http.response import CONTINUE, ResponseHead, ResponseHeads, chunk

__all__ = [
    "CONTINUE",
    "Body",
    "ClientGone",
    "InvalidHeader",
    "Limits",
    "Memory",
    "ParseError",
    "Request",
    "RequestError",
    "RequestLine",
    "RequestParser",
    "ResponseHead",
    "ResponseHeads",
    "Unsupported",
    "Uri",
    "chunk",
    "parse_request_line",
    "split_header_lines",
    "split_uri",
    "unquote_to_wsgi",
]

_HOMES = {
    "palfrey.http.errors": ("ClientGone", "ParseError", "RequestError", "Unsupported"),
    "palfrey.http.parser": ("Body", "Limits", "Memory", "Request", "RequestParser"),
    "palfrey.http.pieces": (
        *("RequestLine", "Uri"),
        *("parse_request_line", "split_header_lines", "split_uri", "unquote_to_wsgi"),
    ),
    "palfrey.http.response": ("CONTINUE", "InvalidHeader", "ResponseHead", "ResponseHeads", "chunk"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
