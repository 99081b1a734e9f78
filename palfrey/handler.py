"""An HTTP port for a small tool, without a framework: a function that is called with a request and a response.

    def hello(request, response):
        response.data = f"Hello, {request.query.get('name', 'world')}!"

    HttpServer(8000, hello)

It is Palfrey underneath: keep-alive, limits, strict parsing, time-outs. Any number of these live in one process, each
with a port, a handler and a thread of its own. palfrey/asgi/handler/ has what handlers see.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self

from palfrey.asgi.handler import Handler, HandlerApp, Headers, Request, Response
from palfrey.background import ADDRESS, BackgroundServer, embedded
from palfrey.errors import ConfigError

if TYPE_CHECKING:
    import logging

    from palfrey.observe.access import AccessLog

__all__ = ["Handler", "Headers", "HttpServer", "Request", "Response"]

MOST_THREADS = 40
"""Requests in their handlers at a time (as many as Starlette's and anyio's thread pool has); further ones wait."""
DEFAULTS = {"limit_request_body": 16 << 20}
"""What is different here. Content is read whole before a handler is called, so it has to have a limit."""
FIXED = {"lifespan": "on", "interface": "asgi3", "ws": "none", "app": None}
"""What cannot be different."""


class HttpServer:
    """Serves one port by one handler."""

    def __init__(
        self,
        port: int,
        handler: Handler,
        args: tuple[Any, ...] = (),
        threads: bool | int = True,
        start: bool = True,
        block: bool = True,
        *,
        host: str = "127.0.0.1",
        access: AccessLog | logging.Logger | None = None,
        **settings: Any,
    ) -> None:
        """`handler(request, response, *args)` is called for each request: several at a time, in threads (up to 40, or
        as many as `threads` says), or with `threads=False` one after another.

        `start=False` waits for `start()`, or for `with`. `block=False` returns as soon as requests are taken; otherwise
        it returns when the server ends, by `stop()`. Port 0 takes a free one, which the attribute `port` then has.
        `access` is a logger for requests; `settings` are named as in the configuration file, and may say where to
        listen instead of `host` and `port`.

        Raises TypeError and ValueError for what cannot be called so, ConfigError and BindError. KeyboardInterrupt
        (Ctrl-C) while it blocks stops it and is raised.
        """
        _check(handler, args)
        if not isinstance(threads, int) or threads < 0:
            raise ValueError(f"threads is {threads!r}: it must be True, False, or how many there may be")
        for name in FIXED.keys() & settings.keys():
            raise ConfigError(f"{name} cannot be set for an HttpServer")
        address = {} if ADDRESS & settings.keys() else {"host": host, "port": port}
        self.block = block
        self._port = port
        made = embedded({**DEFAULTS, **address, **settings, **FIXED})
        app = HandlerApp(handler, tuple(args), MOST_THREADS if threads is True else threads or 1)
        self._server = BackgroundServer(made, app, access, "palfrey http server")
        self._started = self._stopped = False
        if start:
            self.start()

    @property
    def port(self) -> int:
        """What it listens on; before the start, what was asked for."""
        for url in self._server.urls:
            if url.startswith("http"):
                return int(url.rpartition(":")[2])
        return self._port

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8000`. Raises RuntimeError before it has started."""
        if not self._server.urls:
            raise RuntimeError("it has no address before it has started")
        return self._server.urls[0]

    def start(self) -> None:
        """Starts it, once. Returns when requests are taken, or, with `block`, when it has ended."""
        self._begin()
        if self.block:
            self.wait()

    def wait(self) -> None:
        """Returns when it has ended."""
        try:
            self._server.wait()
        except KeyboardInterrupt:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it: requests in hand are answered, within `graceful_timeout`. Returns when that is done.

        A handler may call it; there it returns at once. It may be called again, and before the start.
        """
        self._stopped = True
        self._server.stop(part=True)

    def __enter__(self) -> Self:
        """Starts it, if that has not been done, and never blocks. Raises RuntimeError if it has been stopped."""
        if not self._started:
            self._begin()
        elif self._stopped:
            raise RuntimeError("it has been stopped; make another")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> None:
        if self._started:
            raise RuntimeError("it has been started; make another")
        self._started = True
        self._server.start()


def _check(handler: Handler, args: tuple[Any, ...]) -> None:
    """Raises TypeError for what cannot answer, or would answer nothing without a word."""
    if not callable(handler):
        raise TypeError(f"the handler is of type {type(handler).__name__}, which cannot be called")
    for call in (handler, inspect.getattr_static(type(handler), "__call__")):
        if inspect.iscoroutinefunction(call):
            raise TypeError("the handler is asynchronous: write it as a plain `def`, or serve an ASGI application")
        if inspect.isgeneratorfunction(call):
            raise TypeError("the handler is a generator: have it set response.data to one instead")
    try:
        signature = inspect.signature(handler, follow_wrapped=False)
    except Exception:  # made in C, or annotated with what is not there
        return
    try:
        signature.bind(None, None, *args)
    except TypeError as error:
        raise TypeError(f"the handler cannot be called with request, response and {len(args)} args: {error}") from None
