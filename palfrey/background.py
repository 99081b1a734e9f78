"""A `Server` in a thread with a loop of its own, for programs that have none: `palfrey.testing`, `palfrey.handler`.

The thread is a daemon, so that a program which ends without a stop does end. `start` and `stop` are called from any
other thread and return when it is done; what goes wrong in the thread is raised to whoever waits for it.

A context variable says on whose behalf code runs: it is set in the thread, hence in all that its loop runs, and goes on
to the threads that a request is handed to (Palfrey's own, the loop's executor, asyncio.to_thread, anyio, asgiref).
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from palfrey.config.sources import from_arguments
from palfrey.errors import BootError
from palfrey.server import Server
from palfrey.workers.loops import make_loop
from palfrey.workers.stacks import running, waiting

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping
    from contextvars import Context

    from palfrey.config.settings import Settings
    from palfrey.observe.access import AccessLog

ADDRESS = frozenset(("bind", "host", "port", "uds", "fd"))
"""Settings that say where to listen."""
UNWINDING = 5.0
"""Seconds for the end of a start that is given up: more than Palfrey itself gives the application for it."""

_served_by: ContextVar[BackgroundServer | None] = ContextVar("palfrey server", default=None)


def embedded(values: Mapping[str, Any]) -> Settings:
    """Settings by keyword, as in the configuration file; on a free port of 127.0.0.1 unless they say otherwise.

    Raises ConfigError.
    """
    address = {} if ADDRESS & values.keys() else {"bind": "127.0.0.1:0"}
    return from_arguments({**address, **values}, os.getcwd()).settings


class BackgroundServer:
    """One server's thread. `name` is the thread's."""

    def __init__(
        self,
        settings: Settings,
        app: Any = None,
        access: AccessLog | logging.Logger | None = None,
        name: str = "palfrey",
    ) -> None:
        self.settings = settings
        self._app = app
        self._access = access
        self._up = threading.Event()
        """It serves, or it never will."""
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._early = False
        """It was asked to end before it had begun."""
        self._told = False
        """The failure has been raised to somebody."""
        self._left = False
        """Its start could not be ended, and nobody waits long for it."""
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: Context | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def urls(self) -> list[str]:
        """Where it listens, with real ports."""
        return self._server.urls if self._server is not None else []

    @property
    def within(self) -> bool:
        """Whether the caller is run by this server: in its thread, or in one that works for it."""
        return _served_by.get() is self or threading.current_thread() is self._thread

    def start(self) -> None:
        """Returns when it serves. Raises what `Server.start` does, and BootError after `boot_timeout`. Once."""
        self._thread.start()
        try:
            ready = self._up.wait(self.settings.boot_timeout or None)
        except BaseException:  # Ctrl-C: a start is given up, and one that is just up may have requests in hand
            self.ask(part=True)
            if self._up.wait(UNWINDING):
                self._ended.wait()
            else:
                self._left = True
            raise
        if not ready:
            raise self._late()
        self._tell()

    def _late(self) -> BootError:
        """What is to be said of an application that is not ready in time; it is ended, if it lets itself."""
        place = self._whereabouts()
        self.ask(at_once=True)
        message = f"the application was not ready {self.settings.boot_timeout:g} s after its start"
        if not self._ended.wait(UNWINDING):
            message += ", and cannot be ended: its thread goes on"
            self._left = True
        error = BootError(message, place)
        if place:
            error.add_note(place)  # which a traceback shows
        return error

    def _whereabouts(self) -> str:
        """What the application runs, or what it waits for, as lines of text."""
        code = running(self._thread.ident or 0)
        if code:
            return f"It runs\n{code}"
        return "\n".join(waiting(self._loop)) if self._loop is not None else ""

    def ask(self, at_once: bool = False, part: bool = False) -> None:
        """Asks for the end and does not wait for it; see `Server.stop`."""

        def end() -> None:
            assert self._server is not None
            self._server.stop(at_once, part)

        self._early = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(end, context=self._context)
            except RuntimeError:  # closed: it has ended
                pass

    def wait(self) -> None:
        """Returns when it has ended, by whoever's doing. Raises what made it end. One whose start was given up and went
        on all the same is not waited for without end."""
        if self._ended.wait(UNWINDING if self._left else None):
            self._thread.join()
            self._tell()

    def stop(self, at_once: bool = False, part: bool = False) -> None:
        """Returns when all is over; to the application, which would wait for itself, at once. May be called again, and
        before the start. Raises what went wrong at the end."""
        if self._thread.ident is not None:
            self.ask(at_once, part)
            if self.within:
                return
            try:
                self.wait()
            except KeyboardInterrupt:
                self.ask(at_once=True)
                raise

    def _tell(self) -> None:
        if self._failure is not None and not self._told:
            self._told = True
            self._thread.join()
            raise self._failure

    def _run(self) -> None:
        try:
            _served_by.set(self)
            with asyncio.Runner(loop_factory=lambda: make_loop(self.settings.loop)) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._up.set()
            self._ended.set()

    async def _serve(self) -> None:
        server = self._server = Server(self.settings, self._app, self._access)
        loop = asyncio.get_running_loop()
        # As the loop would make it, but for the context: run_in_executor takes none there.
        executor = ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=_served_by.set, initargs=(self,))
        loop.set_default_executor(executor)
        self._context = copy_context()
        self._loop = loop  # before it is asked whether it was asked; `ask` has the opposite order
        if not self._early and await server.start():
            self._up.set()
            await server.wait_stopped()
