"""One process without an arbiter: `palfrey.run(app)` and `Server`, for embedding, notebooks and tests.

`Server(settings, app).serve()` runs inside a loop that is already there and touches neither signals nor logging, so
that two of them can live in one process. `run` is the whole program: logs, signals, a loop of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

from palfrey.asgi.load import load_app
from palfrey.config.settings import ROWS, Settings
from palfrey.config.sources import Resolved, from_arguments
from palfrey.errors import EXIT_OK, ConfigError, PalfreyError
from palfrey.master.generations import bound_addresses, server_tls
from palfrey.master.logs import configure_logs
from palfrey.observe.access import AccessLog
from palfrey.system.sockets import Listener, open_listeners
from palfrey.workers.loops import make_loop
from palfrey.workers.serving import Serving

if TYPE_CHECKING:
    from palfrey.types import ASGIApp

log = logging.getLogger("palfrey.error")

ARBITERS = (
    *("workers", "max_requests", "max_memory", "max_lifetime", "request_timeout"),
    *("user", "group", "umask", "chdir", "proc_name", "daemon", "pidfile", "reload"),
)
"""Settings that an arbiter sees to, and that one process by itself would pass over: a `user` above all."""

INSTALLED = tuple(os.path.join(os.path.realpath(path), "") for path in sysconfig.get_paths().values())
"""Where modules are that nobody edits."""


class Server:
    """Serves one application until `stop()`. Attributes are valid once `started` is set."""

    def __init__(self, settings: Settings, app: ASGIApp | None = None, access: AccessLog | None = None) -> None:
        """`app` is the application itself; without it `settings.app` is imported."""
        self.settings = settings
        self.started = asyncio.Event()
        self.listeners: list[Listener] = []
        self._app = app
        self._access = access or AccessLog.off()
        self._serving: Serving | None = None
        self._stopping = asyncio.Event()
        self._quitting = False
        self._drain: asyncio.Task[None] | None = None

    @property
    def urls(self) -> list[str]:
        """Where it listens, with real ports: `http://127.0.0.1:8000`."""
        secure = self.settings.ssl_certfile is not None or self.settings.ssl_context is not None
        urls = [listener.url for listener in self.listeners]
        return [url.replace("http://", "https://", 1) for url in urls] if secure else urls

    async def serve(self) -> None:
        """Starts, serves, and returns after `stop()` when all is drained.

        Raises ConfigError, BindError, AppLoadError or LifespanError when it cannot start, with nothing left behind.
        Cancelling it is a stop at once.
        """
        settings = self.settings
        app = self._app or load_app(settings.app or "", settings.factory, settings.app_dir, settings.interface)
        tls = server_tls(settings)
        if tls is not None and tls.notice is not None:
            log.warning("%s", tls.notice)
        self.listeners = open_listeners(bound_addresses(settings), settings.backlog)
        try:
            serving = self._serving = Serving(settings, app, self.listeners, self._access, tls)
            try:
                if await self._start(serving):
                    await self._stopping.wait()
                    await self._end(serving)
            except asyncio.CancelledError:
                serving.quit()
                await serving.close()
                raise
        finally:
            for listener in self.listeners:
                listener.close(unlink=True)

    async def _start(self, serving: Serving) -> bool:
        """Starts, unless `stop()` comes before the application is ready; whether it serves."""
        start = asyncio.ensure_future(serving.start())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            start.cancel()
            stop.cancel()
            await asyncio.wait((start, stop))
        if start.cancelled():
            return False
        start.result()
        self.started.set()
        return True

    async def _end(self, serving: Serving) -> None:
        if not self._quitting:
            self._drain = asyncio.get_running_loop().create_task(serving.drain(last=True))
            await asyncio.wait((self._drain,))
        if self._quitting:
            serving.quit()
        await serving.close()

    def stop(self, at_once: bool = False) -> None:
        """Asks for the end: graceful, or `at_once`. May be called again to hurry."""
        self._quitting = self._quitting or at_once
        self._stopping.set()
        if at_once and self._drain is not None:
            self._drain.cancel()


def run(app: ASGIApp | str, **settings: Any) -> int:
    """Serves `app` until TERM or INT, and returns the exit status.

    An application object is served by this one process; an import string by an arbiter and `workers` processes, as
    on the command line. The settings are named as in the configuration file. Raises PalfreyError for what does not
    fit or cannot start.
    """
    if isinstance(app, str):
        resolved = from_arguments({"app": app, **settings}, os.getcwd())
        arbiter = importlib.import_module("palfrey.arbiter")

        def load() -> Resolved:
            if resolved.settings.reload:
                forget_neighbours(os.getcwd())
            return resolved

        status: int = arbiter.Arbiter(load, load()).run()
        return status
    resolved = from_arguments(settings, os.getcwd())
    for name in ARBITERS:
        if getattr(resolved.settings, name) != ROWS[name].default:
            raise ConfigError(f'{name} needs an import string: palfrey.run("main:app", {name}=...)')
    os.environ.update(resolved.environment)
    return _run_object(app, resolved.settings)


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


def _run_object(app: ASGIApp, settings: Settings) -> int:
    logs = configure_logs(settings, "server")
    loop = make_loop(settings.loop)
    asyncio.set_event_loop(loop)
    try:
        logs.attach(loop.call_later)
        loop.run_until_complete(_serve_with_signals(Server(settings, app, logs.access), logs.error))
    except PalfreyError as error:
        logs.error.error("%s", error)
        raise
    finally:
        logs.close()
        asyncio.set_event_loop(None)
        loop.close()
    return EXIT_OK


async def _serve_with_signals(server: Server, log: Any) -> None:
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        log.info("%s received: stopping", number.name)
        server.stop(at_once=server._stopping.is_set())

    async def announce() -> None:
        await server.started.wait()
        log.info("Palfrey serves on %s (press Ctrl-C to stop)", ", ".join(server.urls))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    announcement = loop.create_task(announce())
    try:
        await server.serve()
    finally:
        announcement.cancel()
