"""Forking workers: what a child has to shed before it may run the user's code, and the table of living children.

Order in the child, and why:

1. Signals are still blocked from before the fork: no moment exists in which the terminal's INT finds Python's default.
2. Everything of the arbiter's is closed: its inbox and selector, its end of this and of *every other* worker's
   channel (a copy left open here would hide the arbiter's death from the others), listeners of other generations.
3. The logs, the process's title, then the hook post_fork, then the user and group; and signals are let through.
4. The entry is imported by name and called. Only here does this process import asyncio and the application.

The child leaves through `os._exit`: no handler, `finally` or buffer of the arbiter's runs twice. Whatever is raised
on the way is reported over the channel as a failure to boot. (Python reseeds `random` in a forked child itself.)
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from palfrey.config.hooks import ServerView, WorkerView, call_hook
from palfrey.errors import EXIT_BOOT, EXIT_ERROR, PalfreyError
from palfrey.master.generations import Generation
from palfrey.master.logs import configure_logs, same_logs
from palfrey.master.signals import Inbox, blocked
from palfrey.observe.logging import LogSetup
from palfrey.observe.scoreboard import Row, Scoreboard
from palfrey.system.channel import Channel, channel_pair
from palfrey.system.process import drop_privileges, set_title

ENTRY = "palfrey.workers.worker:main"
"""What a child runs; its signature is in `_run`."""


class SpawnError(Exception):
    """A worker could not be forked for lack of something that may be there again later."""


@dataclass(slots=True)
class Child:
    """The arbiter's side of one worker process."""

    pid: int
    pool: str
    slot: int
    generation: int
    age: int
    """How many workers had been forked with it."""
    channel: Channel
    index: int
    """Of its row in the scoreboard."""
    row: Row

    @property
    def label(self) -> str:
        return f"worker {self.slot + 1}"


class Spawner:
    """Forks workers and keeps the children that have not been reaped.

    `shed` closes, in a child, what is the arbiter's alone beside inbox and channels. `entry` is "module:callable".
    """

    def __init__(
        self, scoreboard: Scoreboard, inbox: Inbox, shed: Callable[[Generation], None], entry: str = ENTRY
    ) -> None:
        self.children: dict[int, Child] = {}
        self._scoreboard = scoreboard
        self._inbox = inbox
        self._shed = shed
        self._entry = entry
        self._age = 0

    def spawn(
        self, pool: str, slot: int, generation: Generation, *, server: ServerView, logs: LogSetup, logged_as: Generation
    ) -> Child:
        """Fork a worker. Returns in the arbiter only. Raises SpawnError.

        `logs` were made by the settings of `logged_as`; a worker of other settings makes its own.
        """
        index = self._free_row()
        try:
            ours, theirs = channel_pair()
        except OSError as error:
            raise SpawnError(f"has no descriptors left: {error.strerror}") from None
        row = self._scoreboard.row(index)
        child = Child(0, pool, slot, generation.number, self._age + 1, ours, index, row)
        view = worker_view(child, generation, server)
        call_hook(generation.settings, "pre_fork", server, view, log=server.log)
        self._scoreboard.reach = max(self._scoreboard.reach, index + 1)
        _flush_stdio()  # else both processes write what is buffered
        with blocked():
            try:
                child.pid = os.fork()
            except OSError as error:
                ours.close()
                theirs.close()
                raise SpawnError(f"could not be forked: {error.strerror}") from None
            if child.pid == 0:
                replace = not same_logs(generation.settings, logged_as.settings)
                self._become(child, theirs, generation, view, server, logs, replace=replace)
        theirs.close()
        self._age += 1
        self.children[child.pid] = child
        return child

    def exits(self) -> Iterator[tuple[int, int]]:
        """(pid, wait status) of our children that have ended; as process 1, of orphans that became ours, too."""
        for pid in list(self.children):
            exit_seen = _wait_for(pid)
            if exit_seen is not None:
                yield exit_seen
        while os.getpid() == 1 and (exit_seen := _wait_for(-1)) is not None:
            yield exit_seen

    def release(self, child: Child) -> None:
        """The child has been reaped: free what it had."""
        del self.children[child.pid]
        child.channel.close()
        child.row.clear()
        self._scoreboard.reach = 1 + max((other.index for other in self.children.values()), default=-1)

    def _free_row(self) -> int:
        """The lowest free row, so that readers of all rows need not look far."""
        taken = {child.index for child in self.children.values()}
        for index in range(len(self._scoreboard)):
            if index not in taken:
                return index
        raise SpawnError(f"is one process more than the {len(self._scoreboard)} that can be kept count of")

    def _become(
        self,
        child: Child,
        channel: Channel,
        generation: Generation,
        view: WorkerView,
        server: ServerView,
        logs: LogSetup,
        *,
        replace: bool,
    ) -> NoReturn:
        """In the child, to its end."""
        status = EXIT_ERROR
        try:
            child.pid = view.pid = child.row.pid = os.getpid()
            child.row.generation = generation.number
            self._inbox.shed()
            for other in (*self.children.values(), child):
                other.channel.close()
            self._shed(generation)
            logs.after_fork(child.label)
            if replace:
                logs = configure_logs(generation.settings, child.label)
            settings = generation.settings
            set_title(f"palfrey: {child.label} [{settings.proc_name or settings.app}]")
            call_hook(settings, "post_fork", server, view, log=server.log)
            drop_privileges(settings.user, settings.group)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            status = self._run(child, channel, generation, server, logs)
        except PalfreyError as error:
            status = error.exit_status
            channel.send("failed", reason=str(error), detail=getattr(error, "detail", ""), category="boot")
        except BaseException as error:
            status = EXIT_BOOT
            reason = f"ended with {type(error).__name__}: {error}"
            channel.send("failed", reason=reason, detail=traceback.format_exc(), category="boot")
        finally:
            try:
                logs.flush()
                _flush_stdio()
            finally:
                os._exit(status & 0xFF)

    def _run(self, child: Child, channel: Channel, generation: Generation, server: ServerView, logs: LogSetup) -> int:
        module, _, name = self._entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
        return int(
            entry(
                settings=generation.settings,
                environment=generation.environment,
                listeners=generation.listeners,
                channel=channel,
                scoreboard=self._scoreboard,
                row=child.index,
                pool=child.pool,
                slot=child.slot,
                generation=generation.number,
                age=child.age,
                arbiter_pid=server.pid,
                logs=logs,
                tls=generation.tls,
            )
        )


def _wait_for(target: int) -> tuple[int, int] | None:
    """waitpid(2) without waiting: (pid, status), or None while there is nothing."""
    try:
        pid, status = os.waitpid(target, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def worker_view(child: Child, generation: Generation, server: ServerView) -> WorkerView:
    """The worker as hooks see it."""
    pid = child.pid or None
    return WorkerView(pid=pid, ppid=server.pid, age=child.age, log=server.log, settings=generation.settings)


def _flush_stdio() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, a closed pipe, a closed stream
            pass
