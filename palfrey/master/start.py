"""The arbiter's house: what stands before the first worker is forked and is cleared away after the last has gone.

The order of the set-up matters, and is this:

1. The signal inbox, so that nothing sent during a slow set-up is lost.
2. The working directory by $PWD, the umask, the logs, the hook on_starting.
3. The listeners, while still in the foreground and privileged: a busy port is told to whoever started the server.
4. The background (daemon), then what holds the final pid: the pid file, the title.

The arbiter keeps its user: as root it can open listeners, log files and the pid file again, and workers change to
`user` and `group` when they are forked. An error in any step undoes the steps before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from palfrey.config.hooks import ServerView, call_hook
from palfrey.config.settings import Settings
from palfrey.config.sources import Resolved
from palfrey.errors import EXIT_ERROR, PalfreyError
from palfrey.master.generations import Generations
from palfrey.master.logs import configure_logs
from palfrey.master.signals import Inbox
from palfrey.observe.logging import LogSetup
from palfrey.system import process, systemd
from palfrey.system.pidfile import Pidfile
from palfrey.system.sockets import backlog_notice


class House:
    """Made before anything is touched; `set_up` and `tear_down` do the work."""

    def __init__(self, resolved: Resolved) -> None:
        self.settings: Settings = resolved.settings
        """Those of the start; for the present ones ask the current generation."""
        self.inbox = Inbox()
        self.generations = Generations(systemd.listen_fds())
        self.logs: LogSetup
        self.announced = False
        """The service has been ready once."""
        self.main_pid: int | None = None
        """For the service manager, where it does not know: the daemon's."""
        self._resolved: Resolved = resolved
        self._directory = ""
        self._pidfile: Pidfile | None = None
        self._launcher: process.Launcher | None = None
        self._undo: list[Callable[[], object]] = []

    @property
    def log_is_elsewhere(self) -> bool:
        """What the log says does not reach the terminal."""
        return self.settings.errorlog != "-" or self.settings.log_config is not None

    def set_up(self, server: Callable[[], ServerView]) -> None:
        """All steps. Raises PalfreyError; `tear_down` undoes what was done."""
        settings = self.settings
        self.inbox.install()
        self._undo.append(self.inbox.uninstall)
        self._directory = os.environ["PWD"] = process.own_directory()
        self.change_directory()
        if settings.umask is not None:
            os.umask(settings.umask)
        self.logs = configure_logs(settings, "master")
        self._undo.append(self._close_logs)
        try:
            self._open(server)
        except PalfreyError as error:
            if self.log_is_elsewhere:
                self.logs.error.critical("Cannot start: %s", error)
            self.tell_launcher(error.exit_status, f"palfrey: {error}")
            raise

    def _open(self, server: Callable[[], ServerView]) -> None:
        settings = self.settings
        call_hook(settings, "on_starting", server(), log=self.logs.error)
        tls = self.generations.first(self._resolved).tls
        if tls is not None and tls.notice is not None:
            self.logs.error.warning("%s", tls.notice)
        self._undo.append(self.generations.close)
        for fd, name in self.generations.unused():
            self.logs.error.warning(
                "systemd's socket %s is not used: bind says where to listen, and does not name it", name or fd
            )
        notice = backlog_notice(settings.backlog)
        if notice is not None:
            self.logs.error.warning("%s", notice)
        if settings.daemon:
            if not self.log_is_elsewhere:
                self.logs.error.warning("What is logged in the background is lost: name a file with errorlog")
            self._launcher = process.daemonize()
            self.main_pid = os.getpid()
            self.logs.after_daemonize("master")
        if settings.pidfile is not None:
            self._pidfile = Pidfile(settings.pidfile)
            self._pidfile.create()
            self._undo.append(self._pidfile.remove)
        process.set_title(f"palfrey: master [{settings.proc_name or settings.app}]")

    def change_directory(self) -> None:
        """Go to where the server works, by name, so that a symlink that was switched is followed. ConfigError."""
        process.change_directory(self._directory)
        if self.settings.chdir is not None:
            process.change_directory(self.settings.chdir)

    def view(self, workers: int) -> ServerView:
        """The server as hooks see it."""
        current = self.generations.current if self.generations.begun else None
        settings = current.settings if current is not None else self.settings
        urls = current.urls if current is not None else settings.binds()
        return ServerView(
            pid=os.getpid(), log=self.logs.error, settings=settings, address=tuple(urls), num_workers=workers
        )

    def tell_launcher(self, status: int, text: str) -> None:
        """A daemon's start has come to its end: say how to the command that waits for it."""
        if self._launcher is None:
            return
        if status == 0:
            self._launcher.ready()
        else:
            self._launcher.failed(status, text)

    def _close_logs(self) -> None:
        self.logs.close()  # those of now, which a reload may have made

    def shed(self) -> None:
        """In a forked child: let go of what is the arbiter's alone."""
        if self._launcher is not None:
            self._launcher.close()

    def tear_down(self, server: Callable[[], ServerView]) -> None:
        """Undo the set-up, as far as it went, last step first."""
        try:
            if self.generations.begun:
                call_hook(self.generations.current.settings, "on_exit", server(), log=self.logs.error)
            self.tell_launcher(EXIT_ERROR, "palfrey: the server could not start; see its error log")
        finally:
            while self._undo:
                self._undo.pop()()
