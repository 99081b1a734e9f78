"""A `palfrey.server.Server` inside the test's own process, and the means to watch it.

`serving(app)` runs one in a thread with a loop of its own and stops it when the `with` ends; nothing is left behind,
and a server that does not end fails the test. `looped` makes a test of a coroutine. `logged()` collects what is said
to palfrey.error, whatever handlers other tests have configured.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.server import Server
from palfrey.types import ASGIApp, Message, Receive, Scope, Send
from palfrey.workers.loops import make_loop
from palfrey.workers.serving import Serving
from tests.support.rawhttp import Client

PATIENCE = 60.0
"""Seconds that anything may take before the test fails; nothing waits this long when all is well."""

T = TypeVar("T")


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a coroutine test in a loop of its own, within PATIENCE."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE):
                await test(*args, **kwargs)

        asyncio.run(within())

    return run


class Records(logging.Handler):
    """What was logged, as a list."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def at(self, level: int) -> list[str]:
        """The messages of that level and above, tracebacks included."""
        return [self._formatter.format(record) for record in list(self.records) if record.levelno >= level]

    @property
    def errors(self) -> list[str]:
        return self.at(logging.ERROR)

    @property
    def warnings(self) -> list[str]:
        return self.at(logging.WARNING)


@contextmanager
def logged(name: str = "palfrey.error") -> Iterator[Records]:
    """Collects everything that goes to this logger."""
    logger = logging.getLogger(name)
    records = Records()
    level, disabled = logger.level, logger.disabled
    logger.addHandler(records)
    logger.setLevel(logging.DEBUG)
    logger.disabled = False
    try:
        yield records
    finally:
        logger.removeHandler(records)
        logger.setLevel(level)
        logger.disabled = disabled


class InThread:
    """A server in a thread. Use `serving`."""

    def __init__(self, app: ASGIApp, settings: Settings, access: AccessLog | None) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._up = threading.Event()
        self.failure: BaseException | None = None
        self.left_behind: list[str] = []
        """Tasks that were still there when the server had ended."""
        self.loop = make_loop(settings.loop)
        self.server: Server
        self._thread = threading.Thread(target=self._run, name="palfrey server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(PATIENCE), "the server did not start"

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            self.failure = error
        finally:
            self._up.set()
            self._clear()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            self.loop.close()

    def _clear(self) -> None:
        """Ends the tasks that the server should have ended, and remembers them."""
        left = asyncio.all_tasks(self.loop)
        self.left_behind = [repr(task) for task in left]
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=1))

    async def _serve(self) -> None:
        self.server = Server(self._settings, self._app, self._access)
        announcement = asyncio.ensure_future(self._announce())
        try:
            await self.server.serve()
        finally:
            announcement.cancel()
            await asyncio.wait((announcement,))

    async def _announce(self) -> None:
        await self.server.started.wait()
        self._up.set()

    @property
    def serving(self) -> Serving:
        serving = self.server._serving
        assert serving is not None
        return serving

    @property
    def address(self) -> tuple[str, int] | str:
        """Of the first listener."""
        url = self.server.urls[0]
        if url.startswith("unix:"):
            return url.removeprefix("unix:")
        host, _, port = url.partition("://")[2].rpartition(":")
        return host.strip("[]"), int(port)

    def client(self, receive_buffer: int = 0) -> Client:
        return Client.connect(self.address, receive_buffer)

    def call(self, function: Callable[[], T]) -> T:
        """Runs a function in the server's loop and returns what it returns."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns once `condition`, asked in every turn of the server's loop, holds."""

        async def wait() -> None:
            while not condition():  # noqa: ASYNC110 - any state of the server, most of which sets no event
                await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(asyncio.wait_for(wait(), PATIENCE), self.loop).result()

    def sweep(self) -> None:
        """Lets all deadlines that are set pass, and the sweep see it."""

        def age() -> None:
            service = self.serving.service
            service.clock += 1000
            service.tick()

        self.call(age)

    def begin_stop(self, at_once: bool = False) -> None:
        self.loop.call_soon_threadsafe(self.server.stop, at_once)

    def join(self) -> None:
        """Returns when the server has ended by itself or after `begin_stop`."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server did not stop"

    def stop(self) -> None:
        if self._thread.is_alive():
            try:
                self.begin_stop(at_once=True)
            except RuntimeError:  # its loop has just closed
                pass
        self.join()


@contextmanager
def serving(app: ASGIApp, *, access: AccessLog | None = None, **settings: Any) -> Iterator[InThread]:
    """Serves `app` on a free port of 127.0.0.1, or where `settings` say. Cut off when the block ends."""
    if not {"bind", "uds", "host"} & settings.keys():
        settings["bind"] = ("127.0.0.1:0",)
    server = InThread(app, Settings(**settings), access)
    server.start()
    try:
        if server.failure is not None:
            raise server.failure
        yield server
    finally:
        server.stop()
    assert server.left_behind == []
    assert server.failure is None


# Applications -------------------------------------------------------------------------------------------------------


async def read_body(receive: Receive) -> bytes:
    """The whole content of a request. Raises EOFError when the client leaves before."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def respond(
    send: Send, body: bytes = b"", status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


def http(handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """An application without lifespan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await handler(scope, receive, send)

    return app


@http
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the request's content, or its path where it has none."""
    body = await read_body(receive)
    await respond(send, body or scope["path"].encode())


def seen(messages: list[Message]) -> list[tuple[str, bytes, bool]]:
    """ASGI messages in short: (type, body, more_body)."""
    return [(message["type"], message.get("body", b""), message.get("more_body", False)) for message in messages]
