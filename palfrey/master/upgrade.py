"""Binary upgrade: this arbiter's successor, and its predecessor. What there is to be decided is in succession.py.

USR2 forks a process that executes the original command anew (`palfrey/system/invocation.py`) with the listeners
in it (`palfrey/system/inheritance.py`) and a channel between the two arbiters:

    successor -> predecessor    ready     its first generation is in place: version, what it took, where its pid goes
                                failed    it will not serve: reason, detail
                                stopping  it was told to end, and has not closed its listeners yet
    predecessor -> successor    yours     the service is the successor's: pid file, socket files, service manager
                                heard     answers "stopping", once listeners of this one need not be waited for

Both accept from the same queues in between, so that there is no moment at which nobody does. The service manager is
told MAINPID by the one that it listens to, the predecessor, right before "yours"; only then does the successor speak
to it. A UNIX socket's file is removed by neither as long as the other may need it.

What the successor writes to standard error before it has come to itself (a missing interpreter, a broken
installation) goes to a file without a name, and from there into our log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from palfrey.master.records import cause_of
from palfrey.master.signals import SIGNALS, blocked
from palfrey.master.succession import START_MARGIN, Predecessor, Stage
from palfrey.system.channel import Channel, channel_pair
from palfrey.system.inheritance import VARIABLE, bequeath
from palfrey.version import __version__

if TYPE_CHECKING:
    from palfrey.master.actions import EndSuccessor
    from palfrey.master.desk import Desk
    from palfrey.master.signals import Command

Message = dict[str, Any]

CONTAINER_INITS = ("catatonit", "docker-init", "dumb-init", "tini", "tini-static")
"""Processes 1 that end when the child ends that they were given to start."""
_NOT_EXECUTED = 127
"""The shell's exit status for a command that was not found."""
_LAST_WORDS = 16384
"""Bytes of a failed successor's standard error that are logged."""


class Upgrade:
    """Made with the arbiter; `begin` when its loop is about to turn."""

    def __init__(self, desk: Desk, pool: str) -> None:
        self._desk = desk
        self._pool = pool
        self._state = desk.roster.succession
        self._line: Channel | None = None
        """To the successor."""
        self._errors: Any = None
        """The file with the successor's standard error."""
        self._failure: tuple[str, str] | None = None
        """What the successor said of why it will not serve."""
        self._ready: Message = {}
        self._stopped = False
        """The successor said that it was told to end."""
        desk.at_fork(self.shed)

    # As the successor

    def begin(self) -> None:
        """Listen to the predecessor, and go on with the number of workers that its operator has set."""
        heritage = self._desk.house.heritage
        if heritage is None:
            return
        self._desk.roster.predecessor = Predecessor(heritage.predecessor)
        self._desk.bulletin.silent = True
        self._desk.ears.listen(heritage.channel, self._hear_predecessor)
        configured, wanted = heritage.workers
        if self._desk.roster.pools[self._pool].terms.workers == configured:
            self._desk.roster.scale(self._pool, wanted - configured)
        self._log.info("Process %d goes on serving until this one is ready", heritage.predecessor)

    def _hear_predecessor(self) -> None:
        heritage, before = self._desk.house.heritage, self._desk.roster.predecessor
        assert heritage is not None
        for message in heritage.channel.receive():
            if before is None:
                continue
            if message["kind"] == "yours":
                before.leaving = True
                self._take_over(None)
            elif message["kind"] == "heard":
                before.heard = True
        if heritage.channel.closed:
            self._desk.ears.forget(heritage.channel)
            heritage.channel.close()
            self._desk.roster.predecessor = None
            if before is not None and not before.leaving and not self._desk.roster.ending:
                self._log.warning("Process %d has gone without handing over; this one is the service now", before.pid)
                self._take_over(os.getpid())
            elif before is not None:
                self._log.info("Process %d has left", before.pid)

    def _take_over(self, main_pid: int | None) -> None:
        """The service is ours: its names are, too. `main_pid` when the service manager was not told."""
        desk = self._desk
        desk.house.take_over()
        desk.bulletin.silent = False
        if desk.house.announced:
            desk.bulletin.serves(main_pid)

    def tell_predecessor(self) -> None:
        heritage = self._desk.house.heritage
        before = self._desk.roster.predecessor
        if heritage is not None and not heritage.channel.send("stopping") and before is not None:
            before.heard = True  # it is gone, or as good as

    # As the one to be succeeded: orders

    def ask(self, command: Command) -> None:
        """USR2."""
        log, state, roster = self._log, self._state, self._desk.roster
        reason = self._refusal()
        if roster.leaving:
            return
        if state.under_way:
            log.warning("%s: an upgrade is under way already (%s)", command.name, self._words())
        elif reason:
            log.error("Upgrade refused: %s", reason)
        else:
            settings = self._desk.house.generations.current.settings
            limit = settings.boot_timeout + START_MARGIN if settings.boot_timeout else 0.0
            state.ask(auto=settings.upgrade == "auto", limit=limit, now=time.monotonic())
            if any(pool.candidate is not None for pool in roster.pools.values()):
                log.info("Upgrading (%s), once the reload that is under way is decided", command.name)
            elif roster.predecessor is not None:
                log.info("Upgrading (%s), once process %d has left", command.name, roster.predecessor.pid)

    def _refusal(self) -> str:
        house, before = self._desk.house, self._desk.roster.predecessor
        if os.getpid() == 1:
            return (
                "this is process 1, and the container ends with it, whatever it has started; "
                "replace the container instead, or send HUP for new application code"
            )
        init = _container_init()
        if init:
            return (
                f"{init}, which is process 1, ends the container when this process ends; "
                "replace the container instead, or send HUP for new application code"
            )
        if not house.invocation.command:
            return "there is no command to execute anew; this server was not started from a file, module or command"
        if not house.announced:
            return "this server has not come to serve yet"
        if before is not None and not before.leaving:
            return f"process {before.pid}, which started this one, is still there: end one of the two first"
        return ""

    def withdraw(self, command: Command) -> None:
        """WINCH: also what a terminal sends when its window changes, so without a successor it means nothing."""
        if self._state.withdraw(time.monotonic()):
            self._log.info(
                "%s: the workers of this process retire, process %d serves. HUP brings them back, QUIT ends this one",
                command.name,
                self._state.pid,
            )

    def come_back(self) -> bool:
        """HUP, where it means our own workers. True when that was the meaning."""
        if not self._state.come_back(time.monotonic()):
            return False
        self._desk.bulletin.declines()
        self._log.info("The workers come back, as they were configured; TERM to process %d ends it", self._state.pid)
        return True

    def refuse_reload(self) -> bool:
        """HUP while an upgrade is under way. True when it is."""
        if self._state.under_way:
            self._desk.bulletin.declines()
            self._log.warning(
                "Not reloaded: an upgrade is under way (%s), which brings configuration and application anew",
                self._words(),
            )
        return self._state.under_way

    def leave(self, command: Command) -> bool:
        """TERM, INT or QUIT: with a successor that serves they end this process alone. True when they do."""
        if self._state.hand_over(time.monotonic()):
            self.hand_over()
        if self._state.stage is not Stage.LEFT or self._stopped:
            return False
        self._log.info(
            "%s: this process ends; process %d is the service, signal that one to stop it",
            command.name,
            self._state.pid,
        )
        return True

    def _words(self) -> str:
        seconds = time.monotonic() - self._state.since
        return _WORDS[self._state.stage].format(pid=self._state.pid, seconds=seconds)

    # The successor's life

    def start(self) -> None:
        desk = self._desk
        desk.hook("pre_exec", desk.view())
        try:
            pid = self._launch()
        except OSError as error:
            self._state.gone(time.monotonic())
            self._fails(f"no process could be started: {error.strerror}", "")
            return
        self._state.pid = pid
        assert self._line is not None
        desk.ears.listen(self._line, self._hear_successor)
        desk.bulletin.upgrade = f"upgrading: process {pid} starts"
        self._log.info("Upgrading: process %d executes %s", pid, " ".join(desk.house.invocation.command))

    def _launch(self) -> int:
        """Fork and execute; the pid. Raises OSError."""
        self._failure, self._ready, self._stopped = None, {}, False
        ours, theirs = channel_pair()
        try:
            self._errors = _file_without_name()
            with blocked():
                pid = os.fork()
                if pid == 0:
                    self._become_successor(theirs, os.getppid())
        except OSError:
            ours.close()
            self._close_errors()
            raise
        finally:
            theirs.close()
        self._line = ours
        return pid

    def _become_successor(self, channel: Channel, parent: int) -> NoReturn:
        """In the child, signals still blocked: nobody's handlers, and then another program."""
        reason, detail = "it did not come to execute anything", ""
        try:
            house, pool = self._desk.house, self._desk.roster.pools[self._pool]
            signal.set_wakeup_fd(-1)
            for signum in (*(command.signum for command in SIGNALS), signal.SIGPIPE):
                signal.signal(signum, signal.SIG_DFL)
            environment = dict(house.invocation.environment)
            _hand_on_systemd(environment, [fd for fd, _ in house.generations.inherited])
            stderr = os.dup(2)
            environment[VARIABLE] = bequeath(
                channel=channel.fileno(),
                stderr=stderr,
                generation=house.generations.count,
                workers=(pool.terms.workers, pool.target),
                pidfile=house.pidfile_path,
                listeners=house.generations.current.listeners,
                predecessor=parent,
            )
            os.dup2(self._errors.fileno(), 2)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            house.invocation.execute(environment)
        except OSError as error:
            what = f" {error.filename}" if error.filename else ""
            reason = f"cannot execute{what}: {error.strerror}"
        except BaseException:
            detail = traceback.format_exc()
        finally:
            channel.send("failed", reason=reason, detail=detail)
            os._exit(_NOT_EXECUTED)

    def _hear_successor(self) -> None:
        line = self._line
        if line is None:
            return
        for message in line.receive():
            hear = _SUCCESSOR_SAYS.get(message["kind"])
            if hear is not None:
                hear(self, message)
        if line.closed:  # and its exit is about to be seen
            self._desk.ears.forget(line)

    def _is_ready(self, message: Message) -> None:
        if not self._state.ready(time.monotonic()):
            return
        self._ready = message
        version = str(message.get("version", "?"))
        other = f", Palfrey {version} (this is {__version__})" if version != __version__ else ""
        self._log.info("Process %d is ready%s", self._state.pid, other)
        said = self._words_of_successor()
        if said:
            self._log.warning("It has written to standard error:\n%s", said)
        self._close_errors()
        if not self._state.auto:
            self._desk.bulletin.upgrade = f"process {self._state.pid} serves as well"
            self._log.info(
                "Both serve now. WINCH to this process (%d) retires its workers, HUP brings them back, QUIT ends it; "
                "QUIT to process %d undoes the upgrade",
                os.getpid(),
                self._state.pid,
            )

    def _has_failed(self, message: Message) -> None:
        """Its first word counts: what it says while it ends is less and less to the point."""
        self._failure = self._failure or (str(message.get("reason", "")), str(message.get("detail") or ""))

    def _stops(self, message: Message) -> None:
        """It was told to end: alone, or, where it is the service, with what is left of this one."""
        self._stopped = True
        if self._state.stage is Stage.LEFT:
            self._log.info("Process %d was told to stop: this one ends as well", self._state.pid)
            self._desk.roster.stop(fast=False)  # "heard" follows when the listeners are closed
        else:
            self._state.stops(time.monotonic())
            self.answer()

    def answer(self) -> None:
        """What we hold of the listeners need not be waited for."""
        if self._line is not None and self._stopped:
            self._line.send("heard")

    def end_successor(self, action: EndSuccessor) -> None:
        if action.kill:
            self._log.error("Process %d %s: killed", action.pid, action.reason)
        elif not self._desk.roster.ending:
            self._failure = (action.reason, "")
        fast = signal.SIGQUIT if self._desk.roster.fast else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError):
            os.kill(action.pid, signal.SIGKILL if action.kill else fast)

    def hand_over(self) -> None:
        """The service is the successor's from here on."""
        desk, state = self._desk, self._state
        desk.house.hand_over(set(self._ready.get("taken", ())), self._ready.get("pidfile"))
        desk.bulletin.hand_over(state.pid)
        if self._line is not None:
            self._line.send("yours")
        self._log.info("Process %d takes over; the workers of this one finish what they have begun", state.pid)

    def exited(self, pid: int, status: int) -> bool:
        """A process was reaped that is no worker. True if it was the successor."""
        if pid != self._state.pid or not self._state.under_way:
            return False
        self._hear_successor()
        stage = self._state.gone(time.monotonic())
        if self._line is not None:
            self._desk.ears.forget(self._line)
            self._line.close()
            self._line = None
        self._desk.bulletin.upgrade = ""
        cause = cause_of(status)
        if not self._ready and not self._desk.roster.ending:
            told = "was told to end" if self._stopped else cause
            self._fails(*(self._failure or (f"process {pid} {told} before it was ready", "")))
        elif self._desk.roster.ending:
            self._log.info("Process %d has ended", pid)
        elif self._stopped:
            self._log.info("Process %d has ended, as it was told to; this one serves on", pid)
        else:
            self._log.error("Process %d %s; this one serves on", pid, cause)
        if stage is Stage.LEFT and not self._desk.roster.ending:
            self._desk.house.take_back()
            self._desk.bulletin.take_back()
        self._close_errors()
        return True

    def _fails(self, reason: str, detail: str) -> None:
        said = self._words_of_successor()
        self._close_errors()
        below = "\n".join(filter(None, (detail.rstrip(), said)))
        self._log.error(
            "Upgrade failed: %s%s\nThis process (%d) serves on as before; mend it and send USR2 again",
            reason,
            "\n" + below if below else "",
            os.getpid(),
        )
        self._desk.bulletin.upgrade = f"the last upgrade failed: {reason}"

    def _words_of_successor(self) -> str:
        if self._errors is None:
            return ""
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS))
        return said.decode(errors="replace").strip()

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    # Others

    def reap(self) -> None:
        """Look whether the successor has ended."""
        if self._state.pid and self._state.under_way:
            with contextlib.suppress(ChildProcessError):  # seen by whoever waits for all
                pid, status = os.waitpid(self._state.pid, os.WNOHANG)
                if pid:
                    self.exited(pid, status)

    def shed(self) -> None:
        """In a forked child: let go of what is the arbiter's alone."""
        if self._line is not None:
            self._line.close()
        self._close_errors()

    @property
    def _log(self) -> Any:
        return self._desk.log


def _container_init(parent: Callable[[], int] = os.getppid) -> str:
    """The name of our parent, if that is a container's process 1 that lives for its one child; else ""."""
    if parent() != 1:
        return ""
    try:
        with open("/proc/1/comm", encoding="utf-8") as file:
            name = file.read().strip()
    except (OSError, ValueError):
        return ""
    return name if name in CONTAINER_INITS else ""


def _file_without_name() -> Any:
    """In memory where the system can do that: a service may have no directory to write to."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("palfrey"), "rb")
    return tempfile.TemporaryFile()


def _hand_on_systemd(environment: dict[str, str], fds: list[int]) -> None:
    """What systemd addressed to one pid is meant for the service, and so for this process."""
    pid = str(os.getpid())
    if "WATCHDOG_PID" in environment:
        environment["WATCHDOG_PID"] = pid
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
    except OSError:  # a reload has closed it
        fds = []
    if fds:
        environment["LISTEN_PID"] = pid
    else:
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environment.pop(name, None)


_SUCCESSOR_SAYS: dict[str, Callable[[Upgrade, Message], None]] = {
    "ready": Upgrade._is_ready,
    "failed": Upgrade._has_failed,
    "stopping": Upgrade._stops,
}

_WORDS = {
    Stage.WANTED: "it waits for what is under way",
    Stage.BOOTING: "process {pid} has been starting for {seconds:.0f} s",
    Stage.BESIDE: "process {pid} serves beside this one",
    Stage.ASIDE: "process {pid} serves, and this one is set aside",
    Stage.PARTING: "process {pid} is ending",
    Stage.LEFT: "process {pid} has taken over",
}
