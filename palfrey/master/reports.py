"""What workers report over their channels, told to the roster and to the log.

A new kind of report is a line in `_REPORTS` and a method here; its sender is `palfrey/workers/worker.py`. What a
worker says is taken as news, never as an order: the roster decides what it is worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from palfrey.master.actions import Spawn
from palfrey.master.desk import Desk
from palfrey.master.records import place_name
from palfrey.master.spawn import Child

Report = dict[str, Any]


class Reports:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def attend(self, child: Child) -> None:
        """Listen to a worker from now on, until its channel ends."""
        self._desk.ears.listen(child.channel, partial(self.hear, child))

    def hear(self, child: Child) -> None:
        """Take what a worker reports; at the end of its channel, stop listening."""
        for message in child.channel.receive():
            report = _REPORTS.get(message["kind"])
            if report is not None:
                report(self, child, message)
        if child.channel.closed:
            self.leave(child)

    def leave(self, child: Child) -> None:
        """Listen to it no more: its channel has ended, or it itself has."""
        if not self._desk.ears.forget(child.channel):
            return
        if self._desk.spawner.stillborn(child):
            self.could_not_spawn(Spawn(child.pool, child.slot, child.generation), child.excuse)
        else:
            self._desk.roster.lost(child.pid, time.monotonic())

    def could_not_spawn(self, action: Spawn, reason: str) -> None:
        """For lack of something that may be there again later."""
        setback = self._desk.roster.spawn_failed(action, reason, time.monotonic())
        if setback is not None:
            self._desk.voice.cannot_fork(place_name(action.slot), reason, setback)

    def _born(self, child: Child, message: Report) -> None:
        """A worker that was ordered from a mold: its first word."""
        pid = message.get("pid")
        if isinstance(pid, int) and pid > 1 and self._desk.spawner.born(child, pid):
            self._desk.roster.spawned(Spawn(child.pool, child.slot, child.generation), pid, time.monotonic())

    def _unborn(self, child: Child, message: Report) -> None:
        """The mold could not fork it; the end of the channel follows."""
        child.excuse = str(message.get("reason", child.excuse))

    def _ready(self, child: Child, message: Report) -> None:
        if self._desk.roster.ready(child.pid, time.monotonic()):
            self._say("%s (%d) is ready, generation %d", child, child.generation)

    def _failed(self, child: Child, message: Report) -> None:
        reason, detail = str(message.get("reason", "unknown")), str(message.get("detail") or "")
        setback = self._desk.roster.failed(child.pid, reason, detail, time.monotonic())
        if setback is not None:
            self._desk.voice.failed(child, reason, detail, setback)

    def _tired(self, child: Child, message: Report) -> None:
        reason = str(message.get("reason", "no reason given"))
        wear = message.get("wear", 1.0)
        if self._desk.roster.tired(child.pid, reason, float(wear) if isinstance(wear, int | float) else 1.0):
            self._say("%s (%d) asks to be replaced: %s", child, reason)

    def _stopping(self, child: Child, message: Report) -> None:
        if self._desk.roster.leaves(child.pid, time.monotonic()):
            self._say("%s (%d) was told to end by a signal from outside", child)

    def _say(self, text: str, child: Child, *more: object) -> None:
        self._desk.log.info(text, child.label.capitalize(), child.pid, *more)


_REPORTS: dict[str, Callable[[Reports, Child, Report], None]] = {
    "born": Reports._born,
    "unborn": Reports._unborn,
    "ready": Reports._ready,
    "failed": Reports._failed,
    "tired": Reports._tired,
    "stopping": Reports._stopping,
}
"""By the message's kind."""
