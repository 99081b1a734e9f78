"""Gunicorn's hooks around each request, for who has set one of them: nobody else pays for it.

`pre_request` runs right before the application, where that runs: on the event loop, or in the thread of a WSGI
application. What it raises is answered with 500. `post_request` runs when the answer is over, once, whatever became of
the request: the application has returned, its iterable is closed, and the last byte is given to the connection, so
that `resp` says what was sent. A WSGI application's runs in one of its threads, though not always in the same, and in
the context (contextvars) that `pre_request` left.

They hang on exchanges of a kind of their own, which know their end, rather than on what the application returns: a
list stays a list and has its Content-Length, a file is sent by the kernel.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.request import target_of
from palfrey.asgi.wsgi import WsgiApp
from palfrey.asgi.wsgi.inline import InlineExchange
from palfrey.asgi.wsgi.threaded import ThreadedExchange
from palfrey.workers.gunicorn_requests import RequestView, ResponseView

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from palfrey.asgi.wsgi.pool import Pool
    from palfrey.asgi.wsgi.response import StartResponse, Write
    from palfrey.protocols.service import Service
    from palfrey.types import ASGIApp, Message, Receive, Scope, Send

HOOKS = ("pre_request", "post_request")


def install(service: Service, worker: Any) -> None:
    """Puts the hooks of this worker's configuration around what `service` serves, if there are any."""
    cfg = worker.cfg
    if all(getattr(cfg, name) == cfg.settings[name].default for name in HOOKS):
        return
    app = service.app
    if isinstance(app, WsgiApp):
        service.exchange = app.exchange = HookedThreaded if app.exchange is ThreadedExchange else HookedInline
        app.call = around_wsgi(app.call, worker)
    else:
        service.exchange = HookedExchange
        service.app = around(app, worker)


# What runs applications, and knows when all is over ------------------------------------------------------------------


class HookedExchange(Exchange):
    """An ASGI application's."""

    __slots__ = ("after",)

    after: Callable[[], None] | None
    """To be called at the end, once."""

    async def run(self, running: set[Exchange]) -> None:
        self.after = None
        try:
            await super().run(running)
        finally:
            _tell(self)


class HookedInline(InlineExchange):
    """A WSGI application's that runs on the event loop."""

    __slots__ = ("after",)

    after: Callable[[], None] | None

    def run(self, running: set[Exchange]) -> asyncio.Task[None] | None:  # type: ignore[override]
        self.after = None
        task = super().run(running)
        if task is None:
            _tell(self)
        else:
            task.add_done_callback(lambda _: _tell(self))
        return task


class HookedThreaded(ThreadedExchange):
    """A WSGI application's that runs in a thread."""

    __slots__ = ("after",)

    after: Callable[[], None] | None

    def run(self, running: set[Exchange]) -> asyncio.Task[None] | None:  # type: ignore[override]
        self.after = None
        return super().run(running)

    def end(self) -> None:
        super().end()
        after, self.after = self.after, None
        if after is not None:
            self.app.pool.hand(_Job(self.app.pool, after))


def _tell(exchange: HookedExchange | HookedInline) -> None:
    after, exchange.after = exchange.after, None  # which refers to the exchange
    if after is not None:
        after()


class _Job:
    """For the threads: see pool.py."""

    def __init__(self, pool: Pool, work: Callable[[], None]) -> None:
        self._pool = pool
        self._work = work

    def work(self) -> None:
        self._work()

    def over(self) -> None:
        self._pool.done()


# The applications, with the hooks around them ------------------------------------------------------------------------


def around(app: ASGIApp, worker: Any) -> ASGIApp:
    """The application, for a service whose exchanges are HookedExchange."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange: HookedExchange = send.__self__  # type: ignore[attr-defined]  # it is the exchange's own method
            request = _request_of(exchange)
            exchange.after = lambda: _after(worker, request, request.environ(), lambda: _response_of(exchange))
            worker.cfg.pre_request(worker, request)
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await _websocket(app, worker, scope, receive, send)
        else:
            await app(scope, receive, send)

    return run


async def _websocket(app: ASGIApp, worker: Any, scope: Scope, receive: Receive, send: Send) -> None:
    request = RequestView("GET", target_of(scope), scope["http_version"], scope["headers"], scope["client"])
    response = ResponseView()

    async def watched(message: Message) -> None:
        await send(message)
        kind = message["type"]
        if kind == "websocket.accept":
            response.begin(101, list(message.get("headers", ())))
        elif kind == "websocket.http.response.start":
            response.begin(message["status"], list(message.get("headers", ())))
        elif kind == "websocket.send":
            text = message.get("text")
            response.sent += len(message.get("bytes") or b"") if text is None else len(text.encode())
        elif kind == "websocket.close" and not response.status_code:
            response.begin(403, ())
        else:
            response.sent += len(message.get("body", b""))

    try:
        worker.cfg.pre_request(worker, request)
        await app(scope, receive, watched)
    except BaseException:
        if not response.status_code:
            response.begin(500, ())
        raise
    finally:
        _after(worker, request, request.environ(), lambda: response)


def around_wsgi(call: Any, worker: Any) -> Any:
    """What a WSGI application is called by, for a service whose exchanges are HookedInline or HookedThreaded."""

    def run(environ: dict[str, Any], start_response: StartResponse) -> Any:
        exchange: Any = start_response.__self__  # type: ignore[attr-defined]  # as above
        request = _request_of(exchange)
        said = ResponseView()

        def sent() -> ResponseView:
            response = _response_of(exchange)
            if response.status_code == said.status_code:  # what was said is what was sent, and it said it in its words
                response.status, response.headers = said.status, said.headers
            return response

        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
            write = start_response(status, headers, exc_info)
            said.status_code, said.status, said.headers = int(status[:3]), status, list(headers)
            return write

        try:
            worker.cfg.pre_request(worker, request)
        finally:
            exchange.after = partial(copy_context().run, _after, worker, request, environ, sent)
        return call(environ, begin)

    return run


def _request_of(exchange: Exchange) -> RequestView:
    return RequestView(
        exchange.method, exchange.target, exchange.http_version, exchange.request_headers, exchange.client
    )


def _response_of(exchange: Exchange) -> ResponseView:
    return ResponseView(exchange.status, exchange.response_headers, exchange.body_bytes)


def _after(worker: Any, request: RequestView, environ: dict[str, Any], response: Callable[[], ResponseView]) -> None:
    """Raises nothing, even where the application's fields are such that no view can be made of them."""
    try:
        worker.cfg.post_request(worker, request, environ, response())
    except (Exception, SystemExit):
        worker.log.exception("The hook post_request failed")
