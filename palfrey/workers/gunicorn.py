"""Worker classes for Gunicorn: `gunicorn main:app -k palfrey.workers.PalfreyWorker`.

Gunicorn's arbiter binds, forks, reloads and supervises, by its own rules; what the forked worker does is serving.py's,
as under Palfrey's arbiter. This module is between the two: Gunicorn's configuration becomes Settings
(gunicorn_settings.py), its logger gets what Palfrey logs and its hooks are called (gunicorn_hooks.py).
docs/gunicorn.md tells operators what follows.

A life, as Gunicorn's arbiter calls it: `__init__` before the fork, in the arbiter; `init_process` in the child, which
drops privileges, loads the application, calls `post_worker_init` and then `run`. From there on a loop turns:

    TERM                      drain and exit: what the listeners' queues hold is served first
    QUIT, INT                 every connection is cut, lifespan shutdown, exit
    USR1                      reopen log files
    ABRT                      the arbiter has given this worker up: stacks to the error log, worker_abort, exit
    max_requests              as TERM, but queues are left to other workers
    another parent            as TERM: the arbiter is gone

Each quarter of `timeout`, and at least each second, the loop shows the arbiter that it turns, from the end of start-up
to the end of shutdown. The module is imported by Gunicorn's arbiter: what serves is imported in the child.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from palfrey.config.settings import Settings
from palfrey.errors import EXIT_BOOT, EXIT_ERROR, BootError, ConfigError
from palfrey.workers.gunicorn_board import Board
from palfrey.workers.gunicorn_settings import check, ineffective, settings_of, speaks_h2
from palfrey.workers.gunicorn_tls import Contexts
from palfrey.workers.steps import Steps

if TYPE_CHECKING:
    from types import FrameType

    from palfrey.protocols.service import AccessLog
    from palfrey.workers.serving import Serving

BEAT = 1.0
"""Seconds between two signs of life, at most."""
ACCESS = ("access", "access_log_enabled", "atoms", "atoms_wrapper_class", "now", "_get_user")
"""What the access log's lines are made by in Gunicorn's logger."""
HURRIED = 1.0
"""Seconds that a lifespan shutdown still has which QUIT comes upon: Gunicorn kills when two are over."""
CANCEL_GRACE = 1.0
"""Seconds that the application's own tasks have to end."""


class PalfreyWorker(Worker):  # type: ignore[misc]  # Gunicorn has no types
    """Serves with uvloop and httptools, where Gunicorn's own settings do not say otherwise (asgi_loop, http_parser)."""

    settings: ClassVar[dict[str, Any]] = {}
    """Palfrey's settings, by their names, for those that Gunicorn has no words for: a subclass may set them."""
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}
    """The same, as subclasses of uvicorn's worker have it; `settings` win."""

    _board: ClassVar[Board | None] = None
    _contexts: ClassVar[Contexts] = Contexts()

    def __init__(self, *args: Any, **more: Any) -> None:
        """In the arbiter, before the fork. What is wrong here is raised in the child: it would end the arbiter."""
        super().__init__(*args, **more)
        if PalfreyWorker._board is None:
            PalfreyWorker._board = Board()
        self._row = PalfreyWorker._board.give(self.tmp)
        self._wrong: Exception | None = None
        try:
            self._settings: Settings = settings_of(self.cfg, self._own())
            self._tls = self._contexts.give(self.cfg, self._settings, self.log)
        except Exception as error:
            self._wrong = error

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Gunicorn's arbiter asks once, before the first fork. Raises RuntimeError, which it shows and ends."""
        own = cls._own()
        try:
            check(cfg)
            settings = settings_of(cfg, own)
            cls._contexts.give(cfg, settings, log)
        except ConfigError as error:
            raise RuntimeError(str(error)) from None
        for line in ineffective(cfg, own):
            log.warning("%s", line)
        if speaks_h2(cfg) and settings.http != "h2":
            log.warning("http_protocols: there is no h2, since %s has http = %s", cls.__name__, settings.http)

    @classmethod
    def _own(cls) -> dict[str, Any]:
        return {**cls.CONFIG_KWARGS, **cls.settings}

    def init_process(self) -> None:
        """In the child. Returns when the worker has ended."""
        if isinstance(self._wrong, ConfigError):
            self.log.error("%s", self._wrong)
            sys.exit(EXIT_BOOT)
        if self._wrong is not None:
            raise self._wrong
        self._quick = False
        self._aborted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ordered = asyncio.Event()
        self._steps = Steps()
        self._serving: Serving | None = None
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        self._arm()

    def load_wsgi(self) -> None:
        try:
            self.wsgi = self.app.wsgi()
        except SyntaxError as error:
            if not self.cfg.reload:
                raise
            self.log.exception(error)
            if self.reloader is not None and error.filename is not None:
                self.reloader.add_extra_file(error.filename)
            from palfrey.protocols.service import plain_answer

            self.wsgi = plain_answer(500, f"The application cannot be loaded: {error}")
        self._check_app()

    def _check_app(self) -> None:
        """What could answer no request is refused here, as it is by Palfrey's own workers."""
        from palfrey.asgi.interface import speaks

        if self._settings.interface == "auto" and speaks(self.wsgi) is None:
            name = getattr(self.wsgi, "__qualname__", None) or type(self.wsgi).__name__
            self.log.error(
                "%s cannot be called as an ASGI or a WSGI application is; if it makes the application, write `%s()`",
                *(name, name),
            )
            sys.exit(EXIT_BOOT)

    def run(self) -> None:
        self.booted = False  # until it serves: what fails before that would fail again and again
        from palfrey.workers.loops import make_loop

        signal.set_wakeup_fd(-1)  # the loop has its own
        self._hand_on_logs()
        loop = self._loop = make_loop(self._settings.loop)
        asyncio.set_event_loop(loop)
        try:
            status = loop.run_until_complete(self._live(loop))
        except BaseException:
            if not self._aborted:
                raise
            # What hung is still in the middle of something: it is left there rather than wound up.
            atexit.register(_leave, self, asyncio.all_tasks(loop))
            sys.exit(EXIT_ERROR)
        loop.run_until_complete(_clear())
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        self._loop = None
        _close(loop)
        if status:
            sys.exit(status)

    # ---------------------------------------------------------------- life

    async def _live(self, loop: asyncio.AbstractEventLoop) -> int:
        """Serves until told to stop; the exit status."""
        from palfrey.asgi.interface import speaks
        from palfrey.system.sockets import Address, Listener
        from palfrey.workers.gate import Gate
        from palfrey.workers.gunicorn_hooks import install
        from palfrey.workers.gunicorn_requests import below
        from palfrey.workers.serving import Serving

        self._obey(loop)
        if not self.alive:  # told so while the application was loaded
            return 0
        self._beat(loop)
        listeners = [Listener(each.sock, Address(kind="fd", fd=each.fileno())) for each in self.sockets]
        gate = None
        if self._row is not None and self._board is not None:
            gate = Gate(self._board.scoreboard, self._row, listeners)
        app = self.wsgi
        if (prefix := os.environ.get("SCRIPT_NAME")) and speaks(app) == "wsgi":
            app = below(prefix, app)
        serving = Serving(self._settings, app, listeners, self._access(), self._tls, gate=gate, shared=True)
        if self.cfg.threads > 1 and serving.service.exchange.kind != "WSGI":
            self.log.warning("threads has no effect: the application is no WSGI application")
        self._serving = serving
        serving.service.on_request = self._count
        install(serving.service, self)
        try:
            if not await self._steps.do(serving.start()):
                return 0
        except BootError as error:
            self.log.error("%s%s", error, f"\n{error.detail}" if error.detail else "")
            return EXIT_BOOT  # Gunicorn's WORKER_BOOT_ERROR, too: it then gives up, rather than fork for ever
        self.booted = True
        self.notify()
        await self._ordered.wait()
        return await self._end(serving)

    async def _end(self, serving: Serving) -> int:
        if not self._quick:
            await self._steps.do(serving.drain(last=self.nr < self.max_requests))
        if self._quick:
            serving.quit()
        try:
            await serving.close()
        except Exception:
            self.log.exception("The end of this worker went wrong")
            return EXIT_ERROR
        return 0

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.booted:  # until the first sign of life Gunicorn waits: a start may block the loop, to load a model, say
            self.notify()
        if not self._ordered.is_set() and os.getppid() != self.ppid:
            self.log.warning("The arbiter is gone: finishing what is in hand and exiting")
            self._stop()
        loop.call_later(min(BEAT, self.cfg.timeout / 4 or BEAT), self._beat, loop)

    def _count(self) -> None:
        self.nr += 1
        if self.nr == self.max_requests:
            self.log.info("Served %d requests (max_requests): finishing what is in hand and exiting", self.nr)
            self._stop()

    # ---------------------------------------------------------------- orders

    def _obey(self, loop: asyncio.AbstractEventLoop) -> None:
        self._arm()  # an import may have had the signal, or the log's files opened again
        loop.add_signal_handler(signal.SIGTERM, self._told)
        for number in (signal.SIGQUIT, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, True)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen)
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        with contextlib.suppress(BlockingIOError):
            while os.read(self.PIPE[0], 4096):  # what signals have left there before, USR1 among them
                pass
        loop.add_reader(self.PIPE[0], self._told)  # Gunicorn's reloader has seen a change

    def _arm(self) -> None:
        """Not by the loop, which hangs when this is for use."""
        from palfrey.system.dump import dump_on_abort

        dump_on_abort(self._error_fd(), self._abort)

    def _abort(self, number: int, frame: FrameType | None) -> None:
        """What hangs is ended by SystemExit. Where that is caught (a request is answered with 500), the loop ends."""
        self._aborted = True
        if self._loop is not None:
            self._loop.stop()
        self.handle_abort(number, frame)

    def _error_fd(self) -> int:
        for handler in getattr(getattr(self.log, "error_log", None), "handlers", ()):
            try:
                return int(handler.stream.fileno())
            except (AttributeError, OSError, ValueError):  # no file, or one that is not open
                continue
        return 2

    def _reopen(self) -> None:
        self.log.reopen_files()
        self._arm()

    def _told(self) -> None:
        if not self._ordered.is_set():  # Gunicorn says it each second
            self.log.info("Told to end: finishing what is in hand")
            self._stop()

    def _stop(self, quick: bool = False) -> None:
        """The worker is to end. QUIT overrides what came before it; nothing else does."""
        if self._ordered.is_set() and (not quick or self._quick):
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self.PIPE[0])
        if quick:
            self._quick = True
            try:
                self.cfg.worker_int(self)
            except (Exception, SystemExit):
                self.log.exception("The hook worker_int failed")
            if self._serving is not None:
                self._serving.hurry(HURRIED)
        self._ordered.set()
        self._steps.cancel()

    # ---------------------------------------------------------------- logs and hooks

    def _hand_on_logs(self) -> None:
        """What Palfrey says goes where Gunicorn's error log goes, unless the user's logging configuration has it."""
        ours, theirs = logging.getLogger("palfrey"), getattr(self.log, "error_log", None)
        if theirs is None or ours.handlers or logging.getLogger("palfrey.error").handlers:
            return
        ours.handlers = theirs.handlers
        ours.setLevel(theirs.level)
        ours.propagate = False

    def _access(self) -> AccessLog:
        """Gunicorn's access log: its logger's handlers, by lines of ours. Or by its own `access`, where a logger class
        has a hand in it, or where the format asks for an environ."""
        from palfrey.observe.access import AccessLog
        from palfrey.observe.formats import line_for, websocket_line

        kind, text = type(self.log), self.cfg.access_log_format
        theirs = [name for name in ACCESS if getattr(kind, name, None) is not getattr(Logger, name, None)]
        if "access" not in theirs and not getattr(self.log, "access_log_enabled", True):  # a property since Gunicorn 25
            return AccessLog.off()
        if theirs or "}e)" in text or not hasattr(kind, "access_log_enabled"):
            from palfrey.workers.gunicorn_requests import LoggerAccess

            return LoggerAccess(self.log)  # which may count requests where no log is kept, as the one for statsd does
        line = line_for(text)
        return AccessLog.to_logger(self.log.access_log, line, websocket_line(text, line))


class PalfreyH11Worker(PalfreyWorker):
    """Serves with asyncio's own loop and h11: Python throughout."""

    settings: ClassVar[dict[str, Any]] = {"loop": "asyncio", "http": "h11"}


async def _clear() -> None:
    """Ends what the application has left running: nothing runs behind `worker_exit`."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=CANCEL_GRACE)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """An order may come once more, to the process group and from the arbiter: nor must that end us before our time.

    Closing the loop gives signals their usual effect again.
    """
    orders = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)
    loop.close()
    for number in orders:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, orders)


def _leave(*kept: object) -> None:
    """Ends the process, behind Gunicorn's own farewell (worker_exit). `kept` would otherwise complain of its end."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(EXIT_ERROR)
