"""The serving half of a worker: an application behind listeners, from lifespan startup to lifespan shutdown.

No signals, no arbiter, no process: `workers/worker.py` puts it under an arbiter, `palfrey.server` into a process of
the user's own. In order: `start()`, then `drain()` (or `quit()`), then `close()`.

Draining answers each connection's request in hand, or its next one, with `Connection: close`, and lets an idle
connection live until its keep-alive time is over: closing it earlier would race with the request that its client is
just sending. All of it within `graceful_timeout`; what is left then is cut, and said.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from palfrey.asgi.interface import adapt
from palfrey.asgi.lifespan import Lifespan
from palfrey.asgi.proxy import Trusted
from palfrey.asgi.tls import TlsExtension
from palfrey.asgi.wsgi import WsgiApp
from palfrey.protocols.service import Service
from palfrey.workers.accept import Acceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from palfrey.config.settings import Settings
    from palfrey.protocols.service import AccessLog, Connection
    from palfrey.system.sockets import Listener
    from palfrey.system.tls import ServerTls
    from palfrey.types import ASGIApp
    from palfrey.workers.gate import Gate

log = logging.getLogger("palfrey.error")

SWEEP = 1.0
"""Seconds between two looks at all deadlines: the one timer that a worker has. It also shows that the loop turns, so
that it is shorter where `timeout` leaves less."""
SHUTDOWN_FLOOR = 3.0
"""Seconds that lifespan shutdown is given even when draining has used up the graceful timeout, or the end is to be a
fast one. With CANCEL_GRACE it stays below what the arbiter waits beyond its workers' own deadlines."""
CANCEL_GRACE = 1.0
"""Seconds that the application's cancelled requests have to end."""
FLUSH = 2
"""Turns of the loop after which what was to be written is written, as far as the kernel takes it: HTTP/2 gathers what a
turn brings, and uvloop does."""
ON_ITS_WAY = 0.05
"""Seconds in which a request that was just being sent arrives; new code needs longer to get ready."""
NAMED_CUTS = 10
"""Cut requests that are named in the log one by one; of more, only the number is said."""


class Serving:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        app: ASGIApp,
        listeners: Sequence[Listener],
        access: AccessLog,
        tls: ServerTls | None = None,
        on_sweep: Callable[[Serving], None] | None = None,
        gate: Gate | None = None,
        shared: bool = False,
    ) -> None:
        """To be made inside the running loop. `on_sweep` is called once a second (heartbeats). `gate`: where others
        share the listeners. `shared`: there may be others in any case."""
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        app = adapt(app, settings, shared=shared or gate is not None)  # with others, or with its successor in a reload
        self._lifespan = Lifespan(app, getattr(app, "lifespan", settings.lifespan))
        if isinstance(app, WsgiApp):
            log.info("The application is %s", app.introduction)
        trusted = None
        if settings.proxy_headers:
            trusted = Trusted(settings.forwarded_allow_ips, settings.forwarded_fields)
        self.service = Service(settings, app, self._loop, access, self._lifespan.state, trusted)
        if tls is not None:
            self.service.tls = TlsExtension(tls.context, tls.certificate)
        self._acceptor = Acceptor(self.service, listeners, tls, settings.worker_connections, gate)
        self._on_sweep = on_sweep
        self._sweeper: asyncio.TimerHandle | None = None
        self.pause = min(SWEEP, settings.timeout / 4 or SWEEP)
        """Seconds between two sweeps."""
        self._deadline = 0.0
        self._patience: asyncio.Timeout | None = None
        """What lifespan shutdown still has, while that runs."""
        self._told: list[Connection] = []
        """They were told that the end comes at once, and are still to be cut."""
        self._parting: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Lifespan startup, then accepting. Raises LifespanError, with nothing left running. So does cancelling it: an
        application that was just up then has its lifespan shutdown."""
        try:
            await self._lifespan.startup()
        except BaseException:
            await self.close()
            raise
        self._acceptor.start()
        self._sweep()

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(self.pause, self._sweep)
        self.service.tick(self.pause)
        self._acceptor.tick()
        if self._on_sweep is not None:
            self._on_sweep(self)

    def hold(self) -> None:
        """Takes nothing new until `resume`: connections wait in the listeners' queues, those with a request in hand are
        closed after its response, and idle ones after a moment in which what is on its way to them may come."""
        self._acceptor.stop()
        self.service.begin_draining()
        if self._parting is None:
            self._parting = self._loop.call_later(ON_ITS_WAY, self.part)

    def part(self) -> None:
        """Closes the connections that have nothing in hand."""
        self._parting = None
        for connection in list(self.service.connections):
            connection.part()

    def resume(self) -> None:
        """Serves on."""
        if self._parting is not None:
            self._parting.cancel()
            self._parting = None
        self.service.end_draining()
        self._acceptor.start()

    async def drain(self, last: bool, part: bool = False) -> None:
        """Stops accepting and returns when all connections are done, or cut after `graceful_timeout`.

        `last` says that nobody serves these listeners after us: their queues are emptied first. `part`: connections
        that have nothing in hand are closed.
        """
        service = self.service
        deadline = self._deadline = self._loop.time() + self._settings.graceful_timeout
        self._acceptor.stop()
        if last:
            self._acceptor.empty(self._settings.backlog)
        self._acceptor.close()
        service.begin_draining()
        service.take_leave(last)
        if part:
            self.part()
        await self._acceptor.settle(deadline - self._loop.time())
        try:
            # Not wait_for(), which until Python 3.12 forgets that it is cancelled as the last connection goes.
            async with asyncio.timeout_at(deadline):
                await service.wait_until_empty()
        except TimeoutError:
            self._cut(list(self.service.connections))
        tasks = self._tasks()
        if tasks:
            # Responses are out; what runs on is background work of the application.
            await asyncio.wait(tasks, timeout=max(0.0, deadline - self._loop.time()))

    def quit(self) -> None:
        """Stops at once: nothing more is accepted, every connection is cut. Those whose protocol has a last word, which
        can be written at once, are told it, and cut by `close`."""
        self._deadline = 0.0
        self._acceptor.close()
        self.service.begin_draining()
        self._acceptor.give_up()
        self._told = self.service.say_last_words()
        self._cut(self.service.connections.difference(self._told))

    def _cut(self, connections: Iterable[Connection]) -> None:
        cut = [what for connection in connections if (what := connection.cut()) is not None]
        for what in cut[:NAMED_CUTS]:
            log.warning("Cut short: %s", what)
        if len(cut) > NAMED_CUTS:
            log.warning("Cut short: %d more requests", len(cut) - NAMED_CUTS)

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {exchange.task for exchange in self.service.running if exchange.task is not None}

    def hurry(self, shutdown: float = SHUTDOWN_FLOOR) -> None:
        """Has lifespan shutdown, if it runs, take no more than so many seconds from now."""
        self._deadline = 0.0
        patience = self._patience
        if patience is not None and not patience.expired():
            patience.reschedule(min(patience.when() or 0.0, self._loop.time() + shutdown))

    async def close(self) -> None:
        """Cancels what still runs, then lifespan shutdown. Returns when the application is done or out of time."""
        try:
            await self._cancel_requests()
            await self._shut_down()
        finally:
            if self._sweeper is not None:
                self._sweeper.cancel()

    async def _cancel_requests(self) -> None:
        if self._told:
            for _ in range(FLUSH):
                await asyncio.sleep(0)
            self._cut(self.service.connections.intersection(self._told))
        await asyncio.sleep(0)  # a transport that was aborted closes its socket in the next turn
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=CANCEL_GRACE)
            if pending:
                log.warning("%d requests go on in the application although they were cancelled", len(pending))

    async def _shut_down(self) -> None:
        begun = self._loop.time()
        patience = self._patience = asyncio.timeout_at(max(begun + SHUTDOWN_FLOOR, self._deadline))
        try:
            async with patience:
                await self._lifespan.shutdown()
        except TimeoutError:
            given = (patience.when() or 0.0) - begun
            log.error("The application's lifespan shutdown was given up after %.3g s", given)
            await self._lifespan.cancel()
        finally:
            self._patience = None
