"""Binary upgrade: this arbiter and its successor. What there is to be decided is in succession.py.

USR2 forks a process (`palfrey/master/launch.py`) that executes the original command anew
(`palfrey/system/invocation.py`), with the listeners in it and a channel between the two arbiters. The successor's end
of it is `palfrey/master/heir.py`.

    successor -> predecessor    ready     its first generation is in place: version, what it took, where its pid goes
                                failed    it will not serve: reason, detail
                                stopping  it was told to end, and has not closed its listeners yet
    predecessor -> successor    yours     the service is the successor's: pid file, socket files, service manager
                                heard     answers "stopping", once listeners of this one need not be waited for

Both accept from the same queues in between, so that there is no moment at which nobody does. The service manager is
told MAINPID by the one that it listens to, the predecessor, right before "yours"; only then does the successor speak
to it. A UNIX socket's file is removed by neither as long as the other may need it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from palfrey.master.heir import Heir
from palfrey.master.launch import Successor, launch
from palfrey.master.succession import START_MARGIN, Stage
from palfrey.version import __version__

if TYPE_CHECKING:
    from palfrey.master.actions import EndSuccessor
    from palfrey.master.desk import Desk
    from palfrey.master.signals import Command

Message = dict[str, Any]

CONTAINER_INITS = ("catatonit", "docker-init", "dumb-init", "tini", "tini-static")
"""Processes 1 that end when the child ends that they were given to start."""


class Upgrade:
    """Made with the arbiter. `heir` is the same process's other side."""

    def __init__(self, desk: Desk, pool: str) -> None:
        self.heir = Heir(desk, pool)
        self._desk = desk
        self._pool = pool
        self._state = desk.roster.succession
        self._successor: Successor | None = None
        self._failure: tuple[str, str] | None = None
        """Why the successor will not serve, in its own words or ours."""
        self._refused = False
        """In its own, and it had not been told to end."""
        self._ready: Message = {}
        self._stopped = False
        """The successor said that it was told to end."""
        desk.at_fork(self.shed)

    # Orders

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
        """Fork it."""
        desk = self._desk
        desk.hook("pre_exec", desk.view())
        self._failure, self._ready, self._stopped, self._refused = None, {}, False, False
        try:
            with desk.spawner.abandoning():
                successor = self._successor = launch(desk.house, desk.roster.pools[self._pool])
        except OSError as error:
            self._state.gone(time.monotonic())
            self._fails(f"no process could be started: {error.strerror}", "")
            return
        self._state.pid = successor.pid
        desk.ears.listen(successor.line, self._hear)
        desk.bulletin.upgrade = f"upgrading: process {successor.pid} starts"
        self._log.info("Upgrading: process %d executes %s", successor.pid, " ".join(desk.house.invocation.command))

    def _hear(self) -> None:
        if self._successor is None:
            return
        line = self._successor.line
        for message in line.receive():
            hear = _SUCCESSOR_SAYS.get(message["kind"])
            if hear is not None:
                hear(self, message)
        if line.closed:
            self._gone()

    def _say(self, kind: str) -> None:
        if self._successor is not None:
            self._successor.line.send(kind)

    def _is_ready(self, message: Message) -> None:
        if not self._state.ready(time.monotonic()):
            return
        self._ready = message
        version = str(message.get("version", "?"))
        other = f", Palfrey {version} (this is {__version__})" if version != __version__ else ""
        self._log.info("Process %d is ready%s", self._state.pid, other)
        said = self._successor.words() if self._successor is not None else ""
        if said:
            self._log.warning("It has written to standard error:\n%s", said)
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
        if self._failure is None:
            self._failure = (str(message.get("reason", "")), str(message.get("detail") or ""))
            self._refused = not self._stopped

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
        if self._stopped:
            self._say("heard")

    def end_successor(self, action: EndSuccessor) -> None:
        self._hear()  # it is not our child: what has ended may be another by now
        if self._successor is None:
            return
        if action.kill:
            self._log.error("Process %d %s: killed", action.pid, action.reason)
        elif not self._desk.roster.leaving:
            self._failure = (action.reason, "")
        fast = signal.SIGQUIT if self._desk.roster.fast else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError):
            os.kill(action.pid, signal.SIGKILL if action.kill else fast)
        if action.kill:  # what it has started may hold the line
            self._gone()

    def hand_over(self) -> None:
        """The service is the successor's from here on."""
        desk, state = self._desk, self._state
        desk.house.hand_over(set(self._ready.get("taken", ())), self._ready.get("pidfile"))
        if not desk.bulletin.hand_over(state.pid):
            self._log.error(
                "systemd does not take MAINPID=%d at NOTIFY_SOCKET: it will take the end of this process for the "
                "end of the service; start that again then",
                state.pid,
            )
        self._say("yours")
        self._log.info("Process %d takes over; the workers of this one finish what they have begun", state.pid)

    def _gone(self) -> None:
        """The successor has ended."""
        pid, stage = self._state.pid, self._state.gone(time.monotonic())
        self._desk.bulletin.upgrade = ""
        said = self._part()
        if not self._ready and not self._desk.roster.leaving:
            how = "was told to end" if self._stopped else "ended"
            reason, detail = self._failure or (f"process {pid} {how} before it was ready", "")
            self._fails(reason, detail, said)
            if self._refused:
                self._desk.roster.upgrade_refused(reason)
        elif self._desk.roster.leaving:
            self._log.info("Process %d has ended", pid)
        elif self._stopped:
            self._log.info("Process %d has ended, as it was told to; this one serves on", pid)
        else:
            self._log.error("Process %d has ended, and was not told to; this one serves on", pid)
        if stage is Stage.LEFT and not self._desk.roster.ending:
            self._desk.house.take_back(pid)
            self._desk.bulletin.take_back()

    def _part(self) -> str:
        """The successor has ended: its last words on standard error."""
        successor, self._successor = self._successor, None
        if successor is None:
            return ""
        said = successor.words()
        self._desk.ears.forget(successor.line)
        successor.close()
        return said

    def _fails(self, reason: str, detail: str, said: str = "") -> None:
        below = "\n".join(filter(None, (detail.rstrip(), said)))
        self._log.error(
            "Upgrade failed: %s%s\nThis process (%d) serves on as before; mend it and send USR2 again",
            reason,
            "\n" + below if below else "",
            os.getpid(),
        )
        self._desk.bulletin.upgrade = f"the last upgrade failed: {reason}"

    # Others

    def shed(self) -> None:
        """In a forked child: let go of what is the arbiter's alone."""
        if self._successor is not None:
            self._successor.close()

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
