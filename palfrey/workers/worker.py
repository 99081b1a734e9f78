"""One worker's life: boot, ready, serve, drain, exit. The child's side of a fork.

`main` is called by name in the new process (master/spawn.py), with all that the arbiter decided. The worker loads the
application, runs its lifespan, accepts, and says "ready"; from then on it obeys, the same whether an order comes over
the channel or as a signal from an operator:

    order    channel   signal  what follows
    RETIRE   retire            drain and exit; others serve on
    STOP     stop      TERM    the service ends, or may: the accept queue is emptied first, then as RETIRE. So also when
                               the channel ends, since the arbiter is gone then
    QUIT     quit      QUIT    every connection is cut, lifespan shutdown, exit

An order during boot ends the boot. INT is the terminal's and ignored: the arbiter gets it too and says what it means.
While the application is imported nothing is heard of the channel's end: for so long the worker is killed with the
arbiter (on Linux), since an import that hangs would hold the listeners for ever.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import time
import traceback
from enum import Enum
from typing import TYPE_CHECKING

from palfrey.asgi.load import load_app
from palfrey.config.hooks import ServerView, WorkerView, call_hook
from palfrey.errors import EXIT_BOOT, EXIT_ERROR, EXIT_OK, BootError
from palfrey.observe.scoreboard import State
from palfrey.system.dump import dump_on_abort, dump_on_request, write_lines
from palfrey.system.process import ending_with, keep_freed_memory, when_parent_ends
from palfrey.workers.gate import Gate
from palfrey.workers.limits import Limits
from palfrey.workers.loops import make_loop
from palfrey.workers.serving import Serving
from palfrey.workers.stacks import in_hand, note_oldest, oldest_of, waiting
from palfrey.workers.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from palfrey.config.settings import Settings
    from palfrey.observe.logging import LogSetup
    from palfrey.observe.scoreboard import Row, Scoreboard
    from palfrey.system.channel import Channel
    from palfrey.system.sockets import Listener
    from palfrey.system.tls import ServerTls
    from palfrey.types import ASGIApp

log = logging.getLogger("palfrey.error")


class Order(Enum):
    """What the worker has been told to do."""

    RETIRE = "retire"
    STOP = "stop"
    QUIT = "quit"


ORPHANED = 5.0
"""Seconds beyond graceful_timeout that a worker has without an arbiter: as many as with one."""

SIGNALS = {signal.SIGTERM: Order.STOP, signal.SIGQUIT: Order.QUIT}
"""TERM may have been sent to the whole process group, as some supervisors do, so that nobody serves on."""


def main(
    *,
    settings: Settings,
    environment: dict[str, str],
    listeners: Sequence[Listener],
    channel: Channel,
    scoreboard: Scoreboard,
    row: int,
    pool: str,
    slot: int,
    generation: int,
    age: int,
    arbiter_pid: int,
    logs: LogSetup,
    tls: ServerTls | None = None,
    app: ASGIApp | None = None,
) -> int:
    """Lives the whole life of a worker and returns its exit status.

    `environment` is put into os.environ before the application is imported. `age` counts the workers that the
    arbiter has started. `pool` and `slot` are where this worker stands in the roster, `row` its own in `scoreboard`.
    `app` is the application if a mold has imported it.
    """
    # Until the application is imported nothing has been served: whoever wants this process gone can have that at once.
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(EXIT_OK))
    os.environ.update(environment)
    os.environ["PALFREY_GENERATION"] = str(generation)
    os.environ["PALFREY_WORKER"] = str(slot + 1)
    server = ServerView(pid=arbiter_pid, log=log, settings=settings, address=tuple(each.url for each in listeners))
    gate = Gate(scoreboard, row, listeners)
    worker = Worker(settings, listeners, channel, scoreboard.row(row), logs, tls, server, age, app, gate)
    keep_freed_memory()
    loop = make_loop(settings.loop)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(worker.live())
    finally:
        logs.detach()
        try:
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


class Worker:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        channel: Channel,
        row: Row,
        logs: LogSetup,
        tls: ServerTls | None,
        server: ServerView,
        age: int,
        app: ASGIApp | None,
        gate: Gate,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._channel = channel
        self._row = row
        self._logs = logs
        self._tls = tls
        self._gate = gate
        self._server = server
        self._view = WorkerView(pid=os.getpid(), ppid=server.pid, age=age, log=log, settings=settings)
        self._app = app
        self._serving: Serving | None = None
        self._order: Order | None = None
        self._ordered = asyncio.Event()
        self._steps = Steps()
        self._limits = Limits(settings, time.monotonic(), self._tire, logs.error_fileno())
        self._next_beat = 0.0

    async def live(self) -> int:
        """The life; returns the exit status."""
        loop = asyncio.get_running_loop()
        self._obey(loop)
        self._row.state = State.BOOTING
        status = await self._boot()
        if status is None:
            log.debug("Ready")
            await self._ordered.wait()
            status = await self._end()
        self._hook("worker_exit", self._server, self._view)
        return status

    # ---------------------------------------------------------------- boot

    async def _boot(self) -> int | None:
        """Loads and starts the application. None when it serves, else the status to exit with."""
        try:
            if await self._steps.do(self._start()):
                return None
        except BootError as error:
            return self._failed(error.category, str(error), error.detail)
        except Exception as error:
            return self._failed("boot", f"{type(error).__name__}: {error}", traceback.format_exc())
        log.info("Ended while it was starting, as ordered")
        return EXIT_OK

    async def _start(self) -> None:
        settings, app = self._settings, self._app
        if app is None:
            assert settings.app is not None
            with ending_with(self._server.pid):
                app = load_app(settings.app, settings.factory, settings.app_dir, settings.interface)
        when_parent_ends(self._server.pid, self._limit_the_rest)
        self._obey_signals(asyncio.get_running_loop())
        self._logs.heed_application()
        self._logs.attach(asyncio.get_running_loop().call_later)
        serving = Serving(settings, app, self._listeners, self._logs.access, self._tls, self._beat, self._gate)
        if self._limits.requests:
            serving.service.on_request = self._count_request
        await serving.start()
        self._serving = serving
        self._row.state = State.READY
        self._view.booted = True
        self._hook("post_worker_init", self._view)
        self._channel.send("ready")

    def _failed(self, category: str, reason: str, detail: str) -> int:
        """Reports why this worker cannot serve; the arbiter says it to the operator."""
        if not self._channel.send("failed", category=category, reason=reason, detail=detail):
            log.error("%s\n%s", reason, detail)
        return EXIT_BOOT

    # ---------------------------------------------------------------- serve

    def _beat(self, serving: Serving) -> None:
        """Each sweep: the scoreboard shows that the loop turns and what it carries, and the limits are looked at."""
        row, service, now = self._row, serving.service, time.monotonic()
        oldest = oldest_of(service.running)
        row.lag = max(0.0, now - self._next_beat) if self._next_beat else 0.0
        self._next_beat = now + serving.pause
        row.heartbeat = now
        row.connections = len(service.connections)
        row.in_flight = len(service.running)
        row.websockets = service.open_websockets
        row.requests = service.requests
        note_oldest(row, oldest)
        if self._order is None:
            self._limits.look(now, service.requests, oldest)

    def _count_request(self) -> None:
        serving = self._serving
        if serving is not None and serving.service.requests >= self._limits.requests:
            serving.service.on_request = None
            self._limits.count(serving.service.requests)

    def _tire(self, reason: str, wear: float) -> None:
        self._channel.send("tired", reason=reason, wear=wear)

    # ---------------------------------------------------------------- obey

    def _obey(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._channel.fileno(), self._hear)
        loop.add_signal_handler(signal.SIGUSR1, self._logs.reopen)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        # For a worker that hangs: the stacks come first, from C, then `_show` or `_aborted` if it can.
        dump_on_abort(self._trace_fd(), lambda _, frame: self._aborted(loop, frame))
        dump_on_request(self._trace_fd(), lambda _, frame: self._show(loop, frame))

    def _obey_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Once the import is over: an import that hangs hears no loop, and the handlers of `main` do end it."""
        for number, order in SIGNALS.items():
            loop.add_signal_handler(number, self._signalled, number, order)
        dump_on_request(self._trace_fd(), lambda _, frame: self._show(loop, frame))  # the application may have had it

    def _trace_fd(self) -> int:
        """Where stacks are dumped: the error log's descriptor."""
        return self._logs.error_fileno()

    def _show(self, loop: asyncio.AbstractEventLoop, frame: FrameType | None) -> None:
        """Below the stacks, where the interpreter still turns: what they do not tell."""
        if self._serving is None:  # later the loop itself hangs, and the stack above shows where
            lines = waiting(loop)
        else:
            lines = in_hand(self._serving.service.running, frame, time.monotonic())
        write_lines(self._trace_fd(), [f"[{os.getpid()}] {line}" for line in lines])

    def _aborted(self, loop: asyncio.AbstractEventLoop, frame: FrameType | None) -> None:
        """Runs where the interpreter still turns. What the worker held is lost either way."""
        self._view.aborted = True
        self._view.alive = False
        self._show(loop, frame)
        self._hook("worker_abort", self._view)
        self._hook("worker_exit", self._server, self._view)
        self._logs.flush()
        os._exit(EXIT_ERROR)

    def _signalled(self, number: signal.Signals, order: Order) -> None:
        log.info("%s received", number.name)
        self._channel.send("stopping")
        self._take(order)

    def _hear(self) -> None:
        for message in self._channel.receive():
            kind = message["kind"]
            if kind == "reopen":
                self._logs.reopen()
            elif kind in ("hold", "resume"):
                self._hold(kind == "hold")
            else:
                self._take(Order(kind))
        if self._channel.closed:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            if self._order is None:
                log.warning("The arbiter is gone: finishing what is in hand and exiting")
                self._take(Order.STOP)

    def _limit_the_rest(self) -> None:
        """The arbiter is gone, which would have ended a worker that hangs: now that sees to itself, from C."""
        faulthandler.dump_traceback_later(self._settings.graceful_timeout + ORPHANED, exit=True, file=self._trace_fd())

    def _hold(self, hold: bool) -> None:
        """In development: new code is getting ready, or it was no good."""
        if self._serving is not None and self._order is None:
            self._serving.hold() if hold else self._serving.resume()

    def _take(self, order: Order) -> None:
        """An order. QUIT overrides what came before it; nothing else does."""
        if self._order is not None and order is not Order.QUIT:
            return
        self._row.heartbeat = time.monotonic()  # it was heard
        if order is Order.QUIT and self._order is not Order.QUIT:
            self._hook("worker_int", self._view)
        self._order = order
        self._view.alive = False
        self._ordered.set()
        self._steps.cancel()

    async def _end(self) -> int:
        serving, order = self._serving, self._order
        assert serving is not None
        self._row.state = State.DRAINING
        if order is not Order.QUIT:
            await self._steps.do(serving.drain(last=order is Order.STOP))
        if self._order is Order.QUIT:
            serving.quit()
        self._row.state = State.STOPPING
        try:
            await self._steps.do(serving.close())
        except Exception:
            log.exception("The end of this worker went wrong")
            return EXIT_ERROR
        finally:
            self._row.requests = serving.service.requests  # what it counted outlives it
        return EXIT_OK

    def _hook(self, name: str, *args: object) -> None:
        call_hook(self._settings, name, *args, log=log)
