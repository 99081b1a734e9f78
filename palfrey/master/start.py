"""The arbiter's house: what stands before the first worker is forked and is cleared away after the last has gone.

The order of the set-up matters, and is this:

1. The signal inbox, so that nothing sent during a slow set-up is lost.
2. The working directory by $PWD, the umask, the logs, the hook on_starting.
3. The listeners, while still in the foreground and privileged: a busy port is told to whoever started the server.
4. The background (daemon), then what holds the final pid: the pid file, the title.

An arbiter that was started to succeed another (`palfrey/master/upgrade.py`) is in the background already where that
is, and its pid file lies beside the other's until the service is handed over.

The arbiter keeps its user: as root it can open listeners, log files and the pid file again, and workers change to
`user` and `group` when they are forked. An error in any step undoes the steps before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from palfrey.config.hooks import ServerView, call_hook
from palfrey.config.settings import Settings
from palfrey.config.sources import Resolved
from palfrey.errors import EXIT_ERROR, PalfreyError
from palfrey.master.generations import Generations
from palfrey.master.logs import configure_logs
from palfrey.master.signals import Inbox
from palfrey.observe.logging import LogSetup
from palfrey.system import imports, inheritance, process, systemd
from palfrey.system.invocation import Invocation
from palfrey.system.pidfile import Pidfile
from palfrey.system.sockets import backlog_notice
from palfrey.version import __version__

BESIDE = ".2"
"""What is added to the pid file's name while there are two arbiters: as Gunicorn does it."""


class House:
    """Made before anything is touched; `set_up` and `tear_down` do the work."""

    def __init__(self, resolved: Resolved, invocation: Invocation | None = None) -> None:
        self.settings: Settings = resolved.settings
        """Those of the start; for the present ones ask the current generation."""
        self.inbox = Inbox()
        self.invocation = invocation or Invocation.taken()
        self.heritage = inheritance.claim()
        """What a predecessor has left to this process."""
        heirlooms, count = (self.heritage.listeners, self.heritage.generation) if self.heritage else ([], 0)
        self.generations = Generations(systemd.listen_fds(), heirlooms, count)
        self.logs: LogSetup
        self.announced = False
        """The service has been ready once."""
        self.main_pid: int | None = None
        """For the service manager, where it does not know: the daemon's."""
        self._resolved: Resolved = resolved
        self._directory = ""
        self._pidfile: Pidfile | None = None
        self._pidfile_path: str | None = None
        self._pidfile_given_away = False
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
        imports.pin("palfrey")
        self._directory = os.environ["PWD"] = process.own_directory()
        self._change_directory()
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
        for warning in self.generations.first(self._resolved).notices:
            self.logs.error.warning("%s", warning)
        self._undo.append(self.generations.close)
        for fd, name in self.generations.unused():
            self.logs.error.warning(
                "systemd's socket %s is not used: bind says where to listen, and does not name it", name or fd
            )
        notice = backlog_notice(settings.backlog)
        if notice is not None:
            self.logs.error.warning("%s", notice)
        if settings.daemon and self.heritage is None:
            if not self.log_is_elsewhere:
                self.logs.error.warning("What is logged in the background is lost: name a file with errorlog")
            self._launcher = process.daemonize()
            self.main_pid = os.getpid()
            self.logs.after_daemonize("master")
        if settings.pidfile is not None:
            path = self._pidfile_path = os.path.abspath(settings.pidfile)
            taken = self.heritage is not None and self.heritage.pidfile == path
            self._pidfile = Pidfile(path + BESIDE if taken else path)
            self._pidfile.create()
            self._undo.append(self._remove_pidfile)
        process.set_title(f"palfrey: master [{settings.proc_name or settings.app}]")

    @contextmanager
    def looking_anew(self) -> Iterator[None]:
        """Within, this process is where a start would be, by name, so that a symlink that was switched is followed.
        Afterwards, however it went, it is back where the current generation works. Raises ConfigError."""
        try:
            self._change_directory()
            yield
        finally:
            self.generations.current.enter()

    def _change_directory(self) -> None:
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
        """A daemon's or a successor's start has come to its end: say how to the command, or process, that waits."""
        if self.heritage is not None:
            self._tell_predecessor(status, text)
        launcher = self._launcher
        if launcher is None:
            return
        if status == 0:
            launcher.ready()
        else:  # when all is undone: whoever waited for the command finds nothing of the server
            self._undo.insert(0, lambda: launcher.failed(status, text))

    # Upgrades

    @property
    def pidfile_path(self) -> str | None:
        """Where the pid file is, or will be once the service is ours."""
        return self._pidfile_path

    def take_over(self) -> None:
        """The service is ours alone."""
        self.generations.shared = False
        path = self._pidfile_path
        if self._pidfile is not None and path is not None and path != self._pidfile.path:
            self._with_pidfile(lambda pidfile: pidfile.rename(path))

    def hand_over(self, taken: set[int], pidfile: str | None) -> None:
        """The service is a successor's, which has taken these descriptors and writes that pid file."""
        self.generations.hand_over(taken)
        self._pidfile_given_away = pidfile is not None and pidfile == self.pidfile_path

    def take_back(self, successor: int) -> None:
        """The successor, of that pid, has ended, or is about to: its end of the line has."""
        self.generations.take_back()
        if self._pidfile_given_away:
            self._pidfile_given_away = False
            self._with_pidfile(lambda pidfile: pidfile.create(after=successor))

    def _with_pidfile(self, act: Callable[[Pidfile], None]) -> None:
        assert self._pidfile is not None
        try:
            act(self._pidfile)
        except PalfreyError as error:
            self.logs.error.error("%s", error)

    def _remove_pidfile(self) -> None:
        if self._pidfile is not None and not self._pidfile_given_away:
            self._pidfile.remove()

    def _tell_predecessor(self, status: int, text: str) -> None:
        assert self.heritage is not None
        if status == 0:
            taken = [listener.fileno() for listener in self.generations.current.listeners]
            self.heritage.channel.send("ready", version=__version__, taken=taken, pidfile=self.pidfile_path)
        elif not self.announced:
            reason, _, detail = text.removeprefix("palfrey: ").partition("\n")
            self.heritage.failed(reason, detail)

    def _close_logs(self) -> None:
        self.logs.close()  # those of now, which a reload may have made

    def shed(self) -> None:
        """In a forked child: let go of what is the arbiter's alone."""
        if self._launcher is not None:
            self._launcher.close()
        if self.heritage is not None:
            self.heritage.channel.close()

    def tear_down(self, server: Callable[[], ServerView]) -> None:
        """Undo the set-up, as far as it went, last step first."""
        try:
            if self.generations.begun:
                call_hook(self.generations.current.settings, "on_exit", server(), log=self.logs.error)
            self.tell_launcher(EXIT_ERROR, "palfrey: the server could not start; see its error log")
        finally:
            while self._undo:
                self._undo.pop()()
