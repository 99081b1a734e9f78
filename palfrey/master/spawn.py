"""Forking workers and molds, and the table of living children.

What a child has to shed before it may run the user's code, in this order (then `palfrey/master/child.py` goes on):

1. Signals are still blocked from before the fork: no moment exists in which the terminal's INT finds Python's default.
2. Everything of the arbiter's is closed: its inbox and selector, its end of this and of *every other* worker's
   channel (a copy left open here would hide the arbiter's death from the others), listeners of other generations.
3. The logs are made its own.

A worker of a generation that preloads is not forked here but ordered from the generation's mold. Until it says that
it is born, over the channel that was sent along, it is `unborn`: without a pid. Its exit may be there before that word
is read, so nobody unknown is waited for meanwhile.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from palfrey.config.hooks import ServerView, WorkerView, call_hook
from palfrey.master.child import ENTRY, Child, Estate, flush_stdio, run, work, worker_view
from palfrey.master.generations import Generation
from palfrey.master.logs import configure_logs, same_logs
from palfrey.master.mold import Mold
from palfrey.master.records import MOLD
from palfrey.master.signals import Inbox, blocked
from palfrey.observe.logging import LogSetup
from palfrey.observe.scoreboard import Scoreboard
from palfrey.system.channel import Channel, channel_pair
from palfrey.system.dump import dump_on_abort, dump_on_request
from palfrey.system.process import adopt_orphans

__all__ = ["ENTRY", "Child", "SpawnError", "Spawner", "worker_view"]


class SpawnError(Exception):
    """A worker could not be forked for lack of something that may be there again later."""


class Spawner:
    """Forks workers and molds, and keeps the children that have not been reaped.

    `shed` closes, in a child, what is the arbiter's alone beside inbox and channels. `entry` is "module:callable".
    """

    def __init__(
        self, scoreboard: Scoreboard, inbox: Inbox, shed: Callable[[Generation], None], entry: str = ENTRY
    ) -> None:
        self.children: dict[int, Child] = {}
        """By pid."""
        self.unborn: list[Child] = []
        """Ordered from a mold, and not heard of yet."""
        self._scoreboard = scoreboard
        self._inbox = inbox
        self._shed = shed
        self._entry = entry
        self._age = 0
        self._adopts = False

    def spawn(
        self, pool: str, slot: int, generation: Generation, *, server: ServerView, logs: LogSetup, logged_as: Generation
    ) -> Child:
        """Fork a worker, or with the slot MOLD a mold. Returns in the arbiter only. Raises SpawnError.

        `logs` were made by the settings of `logged_as`; a child of other settings makes its own.
        """
        child, theirs = self._conceive(pool, slot, generation)
        view = worker_view(child, generation, server)
        try:
            if child.is_mold:
                self._adopt_orphans()
            else:
                call_hook(generation.settings, "pre_fork", server, view, log=server.log)
            replace = not same_logs(generation.settings, logged_as.settings)
            flush_stdio()
            with blocked():
                child.pid = os.fork()
                if child.pid == 0:
                    estate = Estate(
                        generation=generation,
                        listeners=generation.listeners,
                        scoreboard=self._scoreboard,
                        server=server,
                        logs=logs,
                        entry=self._entry,
                    )
                    run(lambda: self._become(child, theirs, estate, view, replace=replace), theirs)
        except OSError as error:
            child.channel.close()
            raise SpawnError(f"could not be forked: {error.strerror}") from None
        finally:
            theirs.close()
        self._age = child.age
        self.children[child.pid] = child
        return child

    def order(self, pool: str, slot: int, generation: Generation, *, server: ServerView) -> Child:
        """Have the generation's mold fork a worker. What comes back is unborn. Raises SpawnError."""
        molds = [one for one in self.children.values() if one.is_mold and one.generation == generation.number]
        if not molds:
            raise SpawnError("has no mold to be forked from")
        child, theirs = self._conceive(pool, slot, generation)
        call_hook(generation.settings, "pre_fork", server, worker_view(child, generation, server), log=server.log)
        line = molds[-1].channel  # of several the youngest: the others are about to end
        order = {"slot": slot, "age": child.age, "index": child.index, "workers": server.num_workers}
        taken = line.send("fork", fds=[theirs.fileno(), *(each.fileno() for each in generation.listeners)], **order)
        theirs.close()
        if not taken:
            child.channel.close()
            raise SpawnError("could not be ordered from the mold, which does not listen")
        self._age = child.age
        self.unborn.append(child)
        return child

    def born(self, child: Child, pid: int) -> bool:
        """An unborn worker has said its pid. False if it was born already."""
        if child not in self.unborn:
            return False
        self.unborn.remove(child)
        child.pid = pid
        self.children[pid] = child
        return True

    def stillborn(self, child: Child) -> bool:
        """Nobody holds the other end of an unborn worker's channel any more. False if it was born."""
        if child not in self.unborn:
            return False
        self.unborn.remove(child)
        self._free(child)
        return True

    @property
    def everybody(self) -> list[Child]:
        return [*self.children.values(), *self.unborn]

    def exits(self) -> Iterator[tuple[int, int]]:
        """(pid, wait status) of our children that have ended; of orphans that became ours, too."""
        for pid in list(self.children):
            exit_seen = _wait_for(pid)
            if exit_seen is not None:
                yield exit_seen
        while self._has_orphans and not self.unborn and (exit_seen := _wait_for(-1)) is not None:
            yield exit_seen

    def release(self, child: Child) -> None:
        """The child has been reaped: free what it had."""
        del self.children[child.pid]
        self._free(child)

    def _free(self, child: Child) -> None:
        child.channel.close()
        if child.row.pid:
            self._scoreboard.fold(child.row)
        child.row.clear()
        self._scoreboard.reach = 1 + max((other.index for other in self.everybody), default=-1)

    @property
    def _has_orphans(self) -> bool:
        return self._adopts or os.getpid() == 1

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Within, orphans are not adopted. Not while a worker is unborn, who would be lost."""
        if self._adopts:
            adopt_orphans(False)
        try:
            yield
        finally:
            if self._adopts:
                adopt_orphans()

    def _adopt_orphans(self) -> None:
        if not self._adopts:
            adopt_orphans()
            self._adopts = True

    def _conceive(self, pool: str, slot: int, generation: Generation) -> tuple[Child, Channel]:
        """The record of a child to be, and its end of its channel."""
        index = self._free_row()
        try:
            ours, theirs = channel_pair()
        except OSError as error:
            raise SpawnError(f"has no descriptors left: {error.strerror}") from None
        row = self._scoreboard.row(index)
        row.pool = self._scoreboard.pool(pool)
        self._scoreboard.reach = max(self._scoreboard.reach, index + 1)
        age = self._age if slot == MOLD else self._age + 1
        return Child(0, pool, slot, generation.number, age, ours, index, row), theirs

    def _free_row(self) -> int:
        """The lowest free row, so that readers of all rows need not look far."""
        taken = {child.index for child in self.everybody}
        for index in range(len(self._scoreboard)):
            if index not in taken:
                return index
        raise SpawnError(f"is one process more than the {len(self._scoreboard)} that can be kept count of")

    def _become(self, child: Child, channel: Channel, estate: Estate, view: WorkerView, *, replace: bool) -> int:
        """In the child, to its end: its exit status."""
        child.pid = view.pid = child.row.pid = os.getpid()
        child.row.generation = child.generation
        self._inbox.shed()
        for other in (*self.everybody, child):
            other.channel.close()
        self._shed(estate.generation)
        estate.logs.after_fork(child.label)
        if replace:
            logs = configure_logs(estate.generation.settings, child.label)
            estate = dataclasses.replace(estate, logs=logs)
        trace = estate.logs.error_fileno()
        dump_on_abort(trace)  # from here on, whatever hangs: a hook, the import
        dump_on_request(trace)
        if child.is_mold:
            return Mold(child, channel, estate).live()
        return work(child, channel, estate, view)


def _wait_for(target: int) -> tuple[int, int] | None:
    """waitpid(2) without waiting: (pid, status), or None while there is nothing."""
    try:
        pid, status = os.waitpid(target, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None
