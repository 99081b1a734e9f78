"""A real server for tests: `with serve(app) as url:`.

It is Palfrey as in production, in a thread, on a free port, over real sockets; clients of any kind talk to it, from
synchronous tests and from asynchronous ones. Lifespan startup has completed when the block begins, and lifespan
shutdown when it ends. Nothing of the process changes: no signal, no logger's level, no event loop that is not its own.

    from palfrey.testing import serve

    def test_it():
        with serve(app) as url:
            assert httpx.get(url).status_code == 200

    def test_its_logs():
        server = serve(app, lifespan="on", limit_request_body=100)   # any setting
        with server as url:
            assert httpx.post(url, content=bytes(101)).status_code == 413
        assert server.logs.errors == []

With pytest there is the fixture `palfrey_server` (palfrey/pytest_plugin.py): `url = palfrey_server(app).url`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from palfrey.background import BackgroundServer, embedded
from palfrey.observe.access import AccessLog
from palfrey.observe.logging import ACCESS, ERROR

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["LiveServer", "Logs", "serve"]

DEFAULTS = {"graceful_timeout": 1.0}
"""What is different here: a test that ends with a request in hand has not the patience of a service."""


def serve(app: Any, **settings: Any) -> LiveServer:
    """A server for `app`, the application itself or its import string: to be entered, or started by `start()`.

    The settings are named as in the configuration file. Without an address among them it is a free port of 127.0.0.1.
    Raises ConfigError for those that do not fit.
    """
    return LiveServer(app, **settings)


class LiveServer:
    """What `serve` returns. Attributes are valid from the start on, `logs` after the end as well."""

    def __init__(self, app: Any, **settings: Any) -> None:
        name = {"app": app} if isinstance(app, str) else {}
        made = embedded({**DEFAULTS, **settings, **name})
        self.logs = Logs(lambda: self._server.within)
        self._server = BackgroundServer(
            made, None if name else app, self.logs.access_log if made.access_log else None, "palfrey test server"
        )
        self._started = self._attached = False

    @property
    def url(self) -> str:
        """Of its first address, without a slash at the end: `http://127.0.0.1:40123`, or `unix:/run/socket`."""
        urls = self._server.urls
        if not urls:
            raise RuntimeError("the server has no address before it has started: call start(), or enter it by `with`")
        return urls[0]

    @property
    def urls(self) -> list[str]:
        """Of all addresses."""
        return self._server.urls

    @property
    def ws_url(self) -> str:
        """`url` for a WebSocket's client: `ws://127.0.0.1:40123`."""
        scheme, colon, rest = self.url.partition(":")
        return scheme.replace("http", "ws") + colon + rest

    @property
    def port(self) -> int:
        """Of the first address. Raises ValueError where that is a file."""
        if self.url.startswith("unix:"):
            raise ValueError(f"{self.url} has no port")
        return int(self.url.rpartition(":")[2])

    def start(self) -> Self:
        """Returns when it serves. Once.

        Raises what keeps it from that: ConfigError, BindError, AppLoadError, or LifespanError, whose cause is the
        exception that the application raised.
        """
        if self._started:
            raise RuntimeError("a server is started once; make another")
        self._started = True
        logger = logging.getLogger(ERROR)
        logger.addHandler(self.logs)
        self._attached = True
        try:
            # dictConfig() has, by its default, disabled every logger that it does not name; this is not meant.
            logger.disabled = False
            self._server.start()
            logger.disabled = False
        except BaseException:
            self._detach()
            raise
        return self

    def stop(self, at_once: bool = False) -> None:
        """Returns when all is over. Requests in hand have `graceful_timeout` (here a second); `at_once`: no time.

        An application may call it; there it returns at once.
        """
        try:
            self._server.stop(at_once, part=True)
        finally:
            if not self._server.within:
                self._detach()

    def _detach(self) -> None:
        if self._attached:
            self._attached = False
            logging.getLogger(ERROR).removeHandler(self.logs)

    def __enter__(self) -> str:
        self.start()
        return self.url

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Requests that are in hand when a test fails are cut."""
        self.stop(at_once=kind is not None)


class Logs(logging.Handler):
    """What one server said, apart from all others in the process: in its loop, or in a thread that works for it.

    Errors and warnings go on to the loggers' own handlers too (pytest's `caplog`); info and below is here only if the
    logger "palfrey.error" has that level, which is the test's affair. Requests are logged here alone.
    """

    def __init__(self, ours: Callable[[], bool]) -> None:
        """`ours` says whether it is asked by what this server runs."""
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(lambda record: record.name == ACCESS or ours())
        self._text = logging.Formatter()
        # Not one of logging's tree: it is this server's own, and has no level to be changed.
        logger = logging.Logger(ACCESS, logging.INFO)
        logger.addHandler(self)
        self.access_log = AccessLog.to_logger(logger)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def errors(self) -> list[str]:
        """Messages of level error and above, with tracebacks."""
        return self._said(logging.ERROR)

    @property
    def warnings(self) -> list[str]:
        """Messages of level warning and above, with tracebacks."""
        return self._said(logging.WARNING)

    @property
    def access(self) -> list[str]:
        """One line for each request: `127.0.0.1:53412 - "GET / HTTP/1.1" 200`."""
        return [record.getMessage() for record in list(self.records) if record.name == ACCESS]

    def _said(self, level: int) -> list[str]:
        return [self._text.format(record) for record in list(self.records) if record.levelno >= level]
