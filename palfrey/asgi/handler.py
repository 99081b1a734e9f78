"""A function `handler(request, response)` as an ASGI 3 application: how it is called, and what goes in and comes out.

Each request's content is read whole, the handler is called in a thread (wsgi/pool.py), and what it leaves in `response`
is sent. An
iterable is asked for its next piece, in a thread again, only when the last one has gone on its way; so a slow client
holds back its producer, and no thread. `one_by_one` has each request wait for the one before: until its handler has
returned, and its iterable has ended.

An exception goes on to the exchange, which logs it and answers 500, or cuts a response that has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.wsgi.pool import Pool

if TYPE_CHECKING:
    from palfrey.types import Header, Receive, Scope, Send

log = logging.getLogger("palfrey.error")

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


class HandlerApp:
    """The application. Its lifespan is that of its threads."""

    palfrey_name = "the handler"
    """What the log calls it: whoever wrote a handler knows nothing of ASGI."""

    def __init__(self, handler: Handler, args: tuple[Any, ...], threads: int, one_by_one: bool) -> None:
        """`handler(request, response, *args)` is called in one of so many threads."""
        self._handler, self._args = handler, args
        self._threads = Threads(threads)
        self._turn: contextlib.AbstractAsyncContextManager[None] = (
            asyncio.Lock() if one_by_one else contextlib.nullcontext()
        )

    @property
    def called_from(self) -> bool:
        """Whether the calling thread is one of those that handlers run in."""
        return self._threads.within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._threads.live(receive, send)
            return
        data = await _content(receive)
        if data is None:
            return
        request = Request(scope, data)
        response = Response(request.protocol)
        async with self._turn:
            try:
                await self._threads.call(self._handler, request, response, *self._args)
            except Busy:
                log.warning("Answered 503, since too many requests wait for a thread: %r", request)
                response = Response(request.protocol)
                response.status, response.headers["Retry-After"], response.data = 503, "1", "Service Unavailable\n"
            status, fields, body = _answer(response)
            pieces: Iterator[Any] | None = None
            if body is None:
                assert response.data is not None
                pieces = await self._threads.go_on(iter, response.data)
            await send({"type": "http.response.start", "status": status, "headers": fields})
            if pieces is not None:
                await _stream(pieces, self._threads, send, scope["method"] != "HEAD")
        if body is not None:
            await send({"type": "http.response.body", "body": body})


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


async def _stream(pieces: Iterator[Any], threads: Threads, send: Send, wanted: bool) -> None:
    """Sends what an iterator gives; closes it in any case, which is how a generator learns that its client is gone."""
    step: Step | None = None
    try:
        while wanted:
            step = threads.begin(next, pieces, _END)
            piece = await step.result()
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
            await asyncio.shield(threads.go_on(_close, close, step))


_END = object()


def _close(close: Callable[[], object], step: Step | None) -> None:
    if step is not None:
        step.ended.wait()
    close()


# Threads -------------------------------------------------------------------------------------------------------------


class Busy(Exception):
    """So many wait for a thread that one more is refused."""


class Threads:
    """Where the user's code runs, by a `Pool`."""

    def __init__(self, count: int) -> None:
        self._pool = Pool(count)
        self._here = threading.local()

    @property
    def within(self) -> bool:
        """Whether the calling thread is one of these."""
        return getattr(self._here, "ours", False)

    async def live(self, receive: Receive, send: Send) -> None:
        """A lifespan: at its end the threads end, when they have done what they were given."""
        await receive()
        self._pool.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls it in a thread. What it raises comes without the frames that led to it. Raises Busy."""
        step = Step(self, function, args)
        if not self._pool.submit(step):
            raise Busy
        try:
            return await step.result()
        except asyncio.CancelledError:
            self._pool.withdraw(step)  # if it has not begun
            raise

    async def go_on(self, function: Callable[..., Any], *args: Any) -> Any:
        """The same for what is a part of work that has begun: it is not refused, and goes before what only waits."""
        return await self.begin(function, *args).result()

    def begin(self, function: Callable[..., Any], *args: Any) -> Step:
        """The same, to be awaited later."""
        step = Step(self, function, args)
        self._pool.hand(step)
        return step


class Step:
    """One call in a thread."""

    __slots__ = ("_args", "_error", "_function", "_future", "_result", "_threads", "ended")

    def __init__(self, threads: Threads, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._threads = threads
        self._function, self._args = function, args
        self._future = asyncio.get_running_loop().create_future()
        self._result: Any = None
        self._error: Exception | None = None
        self.ended = threading.Event()

    async def result(self) -> Any:
        await self._future
        if self._error is not None:
            raise self._error
        return self._result

    def work(self) -> None:
        """In the thread. Raises nothing."""
        self._threads._here.ours = True
        try:
            self._result = self._function(*self._args)
        except BaseException as error:
            inner = error.__traceback__.tb_next if error.__traceback__ is not None else None
            if isinstance(error, Exception):
                self._error = error.with_traceback(inner)
            else:  # SystemExit and its like mean to end a program, which a request must not
                self._error = RuntimeError(f"{type(error).__name__} in a handler: {error}")
                self._error.__cause__ = error.with_traceback(inner)
        self.ended.set()
        self._threads._pool.call_back(self._done)

    def _done(self) -> None:
        self._threads._pool.done()
        if not self._future.done():
            self._future.set_result(None)
