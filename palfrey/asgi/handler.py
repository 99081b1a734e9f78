"""A function `handler(request, response)` as an ASGI 3 application: how it is called, and what goes in and comes out.

Each request's content is read whole, the handler is called in a thread, and what it leaves in `response` is sent. An
iterable is asked for its next piece, in a thread again, only when the last one has gone on its way; so a slow client
holds back its producer, and no thread. `one_by_one` has each request wait for the one before: until its handler has
returned, and its iterable has ended.

An exception goes on to the exchange, which logs it and answers 500, or cuts a response that has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Executor, Future, wait
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from palfrey.asgi.messages import ApplicationError

if TYPE_CHECKING:
    from palfrey.types import ASGIApp, Header, Receive, Scope, Send

Handler = Callable[..., object]
"""handler(request, response, *args); what it returns is not looked at."""


class Headers(MutableMapping[str, Any]):
    """A dictionary whose names have no case; it keeps the order, and the spelling that a name was first set with.

    Of a request's repeated headers the values are joined by `, ` (cookies by `; `). In a response a list of values is
    sent as one header for each.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._items: dict[str, tuple[str, Any]] = {}
        self.update(items)

    def __getitem__(self, name: str) -> Any:
        return self._items[name.lower()][1]

    def __setitem__(self, name: str, value: Any) -> None:
        key = name.lower()
        self._items[key] = (self._items[key][0] if key in self._items else name, value)

    def __delitem__(self, name: str) -> None:
        del self._items[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._items

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._items.values()])

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._items.values())!r})"


class Request:
    """What a client asks for."""

    __slots__ = ("client", "data", "headers", "method", "path", "protocol", "query", "query_string")

    def __init__(self, scope: Scope, data: bytes) -> None:
        self.method: str = scope["method"]
        """In capitals: GET."""
        self.path: list[str] = _segments(scope)
        """Decoded segments: `/a/b%20c` is ["a", "b c"], `/` is [""], `/a/` is ["a", ""]; there is always a path[0]."""
        self.query_string: str = scope["query_string"].decode("latin-1")
        """As it came, for those to whom a name's last value is not enough."""
        self.query: dict[str, str] = dict(parse_qsl(self.query_string, keep_blank_values=True))
        """Decoded; of a name that is repeated, the last value."""
        self.protocol = f"HTTP/{scope['http_version']}"
        """HTTP/1.1"""
        self.headers = _request_headers(scope["headers"])
        self.client: tuple[str, int | None] | None = scope["client"]
        """(host, port) of the client, or of whoever a trusted proxy says that it is; None over a UNIX socket."""
        self.data = data
        """The content, b"" if there is none."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {'/'.join(['', *self.path])}>"


class Response:
    """What is answered. The handler fills it in."""

    __slots__ = ("_protocol", "data", "headers", "status")

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self.status = 200
        self.headers = Headers()
        self.data: str | bytes | Iterable[str | bytes] | None = None
        """Text (sent as UTF-8), bytes, or an iterable of either, which is sent piece by piece; None: nothing."""

    @property
    def protocol(self) -> str:
        """What it will be sent by, which is the request's."""
        return self._protocol


def handler_app(handler: Handler, args: tuple[Any, ...], pool: Executor, one_by_one: bool) -> ASGIApp:
    """An application without lifespan that calls `handler(request, response, *args)` in a thread of `pool`."""
    turn = asyncio.Lock()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        data = await _content(receive)
        if data is None:
            return
        request = Request(scope, data)
        response = Response(request.protocol)
        async with turn if one_by_one else contextlib.nullcontext():
            await _in_thread(pool, handler, request, response, *args)
            status, fields, body = _answer(response)
            pieces: Iterator[Any] | None = None
            if body is None:
                assert response.data is not None
                pieces = await _in_thread(pool, iter, response.data)
            await send({"type": "http.response.start", "status": status, "headers": fields})
            if pieces is not None:
                await _stream(pieces, pool, send, scope["method"] != "HEAD")
        if body is not None:
            await send({"type": "http.response.body", "body": body})

    return app


# In ------------------------------------------------------------------------------------------------------------------


async def _content(receive: Receive) -> bytes | None:
    """The whole of it; None when the client left before it was."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _segments(scope: Scope) -> list[str]:
    """Split before they are decoded, so that an encoded slash stays within its segment."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return [unquote(each) for each in raw.decode("latin-1").removeprefix("/").split("/")]


def _request_headers(fields: Iterable[Header]) -> Headers:
    headers = Headers()
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in headers:
            value = headers[name] + ("; " if name == "cookie" else ", ") + value
        headers[name] = value
    return headers


# Out -----------------------------------------------------------------------------------------------------------------


def _answer(response: Response) -> tuple[int, list[Header], bytes | None]:
    """Status, header fields and content; None for content that streams. Raises ApplicationError for what is neither."""
    data = response.data
    body: bytes | None = None
    if data is None:
        body = b""
    elif isinstance(data, (str, bytes, bytearray, memoryview)):
        body = _encoded(data)
    elif not isinstance(data, Iterable) or isinstance(data, Mapping):
        raise ApplicationError(
            f"response.data is {type(data).__name__}: it must be str, bytes, or an iterable of these"
        )
    fields: list[Header] = []
    for name, value in response.headers.items():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            fields.append((name.encode("latin-1"), each if isinstance(each, bytes) else str(each).encode("latin-1")))
    if isinstance(data, str) and "content-type" not in response.headers:
        fields.append((b"content-type", b"text/plain; charset=utf-8"))
    if body is not None and "content-length" not in response.headers and response.status not in (204, 304):
        fields.append((b"content-length", b"%d" % len(body)))
    return response.status, fields, body


def _encoded(piece: object) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise ApplicationError(f"response.data yielded {type(piece).__name__}: pieces are str or bytes")


async def _stream(pieces: Iterator[Any], pool: Executor, send: Send, wanted: bool) -> None:
    """Sends what an iterator gives; closes it in any case, which is how a generator learns that its client is gone."""
    step: Future[Any] | None = None
    try:
        while wanted:
            step = pool.submit(_call, next, (pieces, _END))
            piece = await _outcome(step)
            if piece is _END:
                break
            body = _encoded(piece)
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            # A step that was cancelled may still run, and a generator that runs cannot be closed.
            await asyncio.shield(_in_thread(pool, _close, close, step))


_END = object()


def _close(close: Callable[[], object], step: Future[Any] | None) -> None:
    if step is not None:
        wait((step,))
    close()


async def _in_thread(pool: Executor, function: Callable[..., Any], *args: Any) -> Any:
    """Calls it there. What it raises comes without the frames that led to it."""
    return await _outcome(pool.submit(_call, function, args))


async def _outcome(called: Future[tuple[Any, BaseException | None]]) -> Any:
    result, error = await asyncio.wrap_future(called)
    if error is not None:
        raise error
    return result


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    try:
        return function(*args), None
    except BaseException as error:
        inner = error.__traceback__.tb_next if error.__traceback__ is not None else None
        if isinstance(error, Exception):
            return None, error.with_traceback(inner)
        # SystemExit and its like mean to end a program, which a request must not.
        wrapped = RuntimeError(f"{type(error).__name__} in a handler: {error}")
        wrapped.__cause__ = error.with_traceback(inner)
        return None, wrapped
