"""One process without an arbiter: `palfrey.run(app)` and `Server`, for embedding, notebooks and tests.

`Server(settings, app)` runs inside a loop that is already there and touches neither signals nor logging, so that any
number of them can live in one process, in one loop or in several. `run` is the whole program: logs, signals, a loop of
its own. `palfrey/background.py` puts a `Server` into a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import sysconfig
import threading
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from palfrey.asgi.load import load_app, make_app
from palfrey.config.settings import ARBITERS, ROWS, Settings
from palfrey.config.sources import Resolved, from_arguments
from palfrey.errors import EXIT_OK, BootError, ConfigError, PalfreyError
from palfrey.master.generations import bound_addresses, server_tls
from palfrey.master.logs import configure_logs
from palfrey.observe.access import AccessLog
from palfrey.system.sockets import Listener, open_listeners
from palfrey.workers.loops import make_loop
from palfrey.workers.serving import Serving
from palfrey.workers.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Sequence

    from palfrey.types import ASGIApp

log = logging.getLogger("palfrey.error")

ENVIRONMENT = ("env_file", "raw_env")
"""Settings for a process of Palfrey's own."""

INSTALLED = tuple(os.path.join(os.path.realpath(path), "") for path in sysconfig.get_paths().values())
"""Where modules are that nobody edits."""


class Phase(Enum):
    """Where a server is in its life."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"
    ENDED = "ended"


class Server:
    """Serves one application in the loop that it is started in, once.

        async with Server(settings, app) as server:
            print(server.urls)

    is `await server.start()` and `await server.stop()`; `await server.serve()` is both, for a program that does nothing
    else. Everything but `urls` is to be called in that loop's thread.
    """

    def __init__(self, settings: Settings, app: Any = None, access: AccessLog | logging.Logger | None = None) -> None:
        """`app` is the application itself; without it `settings.app` is imported. `access`: where requests are logged,
        a logger (it gets records, see docs/logging.md) for one; None: nowhere."""
        if not isinstance(settings, Settings):
            raise TypeError("the settings come first: palfrey.Server(palfrey.Settings(port=8000), app)")
        self.settings = settings
        self.started = asyncio.Event()
        """Set once it serves."""
        self.listeners: list[Listener] = []
        self._app = app
        self._access = AccessLog.to_logger(access) if isinstance(access, logging.Logger) else access or AccessLog.off()
        self._phase = Phase.NEW
        self._serving: Serving | None = None
        self._life: asyncio.Task[None] | None = None
        """From lifespan startup to lifespan shutdown. It is nobody's but this server's, so that whoever waits may be
        cancelled and the end is a whole one."""
        self._steps = Steps()
        self._stopping = asyncio.Event()
        self._closed = asyncio.Event()
        """All is over, or will never begin."""
        self._quitting = False
        self._parting = False

    @property
    def urls(self) -> list[str]:
        """Where it listens, with real ports: `http://127.0.0.1:8000`. Empty before the start."""
        secure = self.settings.ssl_certfile is not None or self.settings.ssl_context is not None
        urls = [listener.url for listener in self.listeners]
        return [url.replace("http://", "https://", 1) for url in urls] if secure else urls

    async def start(self) -> bool:
        """Returns when the application is up and connections are taken: True. False where `stop` came first, and all
        is over.

        Raises ConfigError, BindError, AppLoadError or LifespanError when it cannot start, with nothing left behind. So
        does cancelling it.
        """
        if self._phase is not Phase.NEW:
            raise RuntimeError("a Server serves once; make another")
        if self._stopping.is_set():
            self._phase = Phase.ENDED
            return False
        self._phase = Phase.STARTING
        try:
            return await self._begin()
        except BaseException as error:
            if self._life is None:
                self._over()
            if isinstance(error, BootError) and error.detail and error.__cause__ is None:
                error.add_note(error.detail)  # which a traceback shows
            raise

    async def serve(self) -> None:
        """Starts, serves, and returns after `stop()` when all is drained.

        Raises what `start` does. Cancelling it is a stop at once.
        """
        if await self.start():
            await self.wait_stopped()

    def stop(self, at_once: bool = False, part: bool = False) -> Awaitable[None]:
        """Asks for the end: graceful, or `at_once`. May be called again to hurry. A start is given up.

        What it returns may be awaited, for everything to be over: connections drained, lifespan shut down, sockets
        closed. A graceful stop takes as long as the requests in hand, but no longer than `graceful_timeout`. Clients
        that keep a connection for later have it until `timeout_keep_alive`, since they may just be sending on it; with
        `part`, for those who know that they are not, it is closed.
        """
        self._quitting = self._quitting or at_once
        self._parting = self._parting or part
        self._stopping.set()
        if self._phase is Phase.NEW:
            self._closed.set()
        elif at_once or self._phase is Phase.STARTING:
            self._steps.cancel()
            if at_once and self._serving is not None:
                self._serving.hurry()
        elif part and self._phase is Phase.ENDING and self._serving is not None:
            self._serving.part()
        return _End(self)

    async def wait_stopped(self) -> None:
        """Returns when it has been stopped and all is over. Raises what went wrong at the end.

        Cancelling it is a stop at once, for which it waits.
        """
        try:
            await self._ended()
        except asyncio.CancelledError:
            await self._end_at_once()
            raise

    async def _ended(self) -> None:
        await self._closed.wait()
        if self.started.is_set() and self._life is not None and not self._life.cancelled():
            self._life.result()

    async def _end_at_once(self) -> None:
        """However often it is cancelled meanwhile (as anyio's scopes do in each turn): it does not last long, and what
        is cut off in the middle stays for good."""
        self.stop(at_once=True)
        while not self._closed.is_set():
            try:
                await self._closed.wait()
            except asyncio.CancelledError:
                pass

    async def __aenter__(self) -> Self:
        """Raises what `start` does."""
        if not await self.start():
            raise RuntimeError("the server was stopped before it had started")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """A block that ends well stops gracefully; one that raised, at once."""
        self.stop(at_once=kind is not None)
        await self.wait_stopped()

    async def _begin(self) -> bool:
        serving = self._serving = self._prepare()
        loop = asyncio.get_running_loop()
        up = loop.create_future()
        life = self._life = loop.create_task(self._live(serving, up), name="palfrey server")
        life.add_done_callback(self._over)
        try:
            await asyncio.wait((life, up), return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not self._stopping.is_set():
                return True
            await self._closed.wait()
        except asyncio.CancelledError:
            await self._end_at_once()
            if not life.cancelled():
                life.exception()  # nobody is left whom it would tell anything
            raise
        if not life.cancelled():
            life.result()
        return False

    def _prepare(self) -> Serving:
        """Everything that can fail before the application is asked."""
        settings = self.settings
        for name in ARBITERS:
            if getattr(settings, name) != ROWS[name].default:
                raise ConfigError(
                    f"{name} is an arbiter's affair, and here is none: start it as `palfrey`, or palfrey.run"
                )
        for name in ENVIRONMENT:
            if getattr(settings, name) != ROWS[name].default:
                raise ConfigError(f"{name} would change the environment of your program; set os.environ there")
        if self._app is not None:
            app = make_app(self._app, factory=settings.factory, interface=settings.interface)
        elif settings.app is not None:
            app = load_app(settings.app, settings.factory, settings.app_dir, settings.interface)
        else:
            raise ConfigError("no application: hand one over, or name one by the setting `app`")
        tls = server_tls(settings)
        if tls is not None and tls.notice is not None:
            log.warning("%s", tls.notice)
        self.listeners = open_listeners(bound_addresses(settings), settings.backlog)
        return Serving(settings, app, self.listeners, self._access, tls)

    async def _live(self, serving: Serving, up: asyncio.Future[None]) -> None:
        """The whole of it; `up` is told when it serves. Cancelling it is a stop at once, too."""
        drained = False
        try:
            if not self._stopping.is_set() and await self._steps.do(serving.start()):
                self._phase = Phase.SERVING
                self.started.set()
                up.set_result(None)
                await self._stopping.wait()
                if not self._quitting:
                    self._phase = Phase.ENDING
                    drained = await self._steps.do(serving.drain(last=True, part=self._parting))
        finally:
            self._phase = Phase.ENDING
            if not drained:
                serving.quit()
            await serving.close()

    def _over(self, _: object = None) -> None:
        self._phase = Phase.ENDED
        for listener in self.listeners:
            listener.close(unlink=True)
        self._closed.set()


class _End:
    """The end of a server, to be awaited or not."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    def __await__(self) -> Generator[Any, Any, None]:
        return self._server._ended().__await__()


def run(app: ASGIApp | str, **settings: Any) -> int:
    """Serves `app` until TERM or INT, and returns the exit status.

    An application object is served by this one process; an import string by an arbiter and `workers` processes, as
    on the command line. The settings are named as in the configuration file. Raises PalfreyError for what does not
    fit or cannot start. For the main thread, which hears signals; those who have a loop there await a `Server`.
    """
    _check_place()
    if isinstance(app, str):
        resolved = from_arguments({"app": app, **settings}, os.getcwd(), os.environ)
        arbiter = importlib.import_module("palfrey.arbiter")

        def load() -> Resolved:
            if resolved.settings.reload:
                forget_neighbours(os.getcwd())
            return resolved

        status: int = arbiter.Arbiter(load, load()).run()
        return status
    resolved = from_arguments(settings, os.getcwd(), os.environ)
    for name in ARBITERS:
        if getattr(resolved.settings, name) != ROWS[name].default:
            raise ConfigError(f'{name} needs an import string: palfrey.run("main:app", {name}=...)')
    os.environ.update(resolved.environment)
    known = replace(resolved.settings, env_file=None, raw_env=())
    return _run_object(app, known, [notice.message for notice in resolved.notices])


def forget_neighbours(directory: str) -> None:
    """Have the modules imported anew that the calling program has from this directory: workers are forked from it, and
    would take those that they find for what lies on disk by then."""
    below = os.path.join(os.path.realpath(directory), "")
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or name.partition(".")[0] == "palfrey":
            continue
        path = os.path.realpath(file)
        if path.startswith(below) and not path.startswith(INSTALLED):
            del sys.modules[name]


def _check_place() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("palfrey.run listens for signals, which only the main thread can; here, use palfrey.Server")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        "palfrey.run has a loop of its own, and one runs here: `await palfrey.Server(settings, app).serve()`"
    )


def _run_object(app: ASGIApp, settings: Settings, notices: Sequence[str]) -> int:
    logs = configure_logs(settings, "server")
    for notice in notices:
        logs.error.warning("%s", notice)
    try:
        with asyncio.Runner(loop_factory=lambda: make_loop(settings.loop)) as runner:
            logs.attach(runner.get_loop().call_later)
            runner.run(_serve_with_signals(Server(settings, app, logs.access), logs.error))
    except PalfreyError as error:
        logs.error.error("%s", error)
        raise
    finally:
        logs.close()
    return EXIT_OK


async def _serve_with_signals(server: Server, log: Any) -> None:
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        log.info("%s received: stopping", number.name)
        server.stop(at_once=server._stopping.is_set())

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, on_signal, number)
    try:
        if await server.start():
            log.info("Palfrey serves on %s (press Ctrl-C to stop)", ", ".join(server.urls))
            await server.wait_stopped()
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
