"""`--reload`: what a developer's server does beside serving, and how it talks.

It is the same supervisor: a change of the files is a reload like HUP's. `Development` is the arbiter's chore that has
files watched and looks after the terminal; what the plan does differently hangs on `Terms.develop` (plan.py):

- once files have changed, nobody meets the old code while the new is still getting ready: its workers hold what comes
  back (connections wait in the socket's queue) and resume if the new code is refused;
- code that cannot be started is not tried again before files change, and does not end the server, not at its start
  either;
- at the end a worker that does not answer is killed after a second, a debugger at its prompt above all.
"""

from __future__ import annotations

import os

from palfrey.master.announce import Voice, below
from palfrey.master.bulletin import Bulletin
from palfrey.master.changes import named, targets
from palfrey.master.desk import Desk
from palfrey.master.generations import Generation
from palfrey.master.orders import Orders
from palfrey.master.records import Departure, Phase, Setback
from palfrey.master.roster import Roster
from palfrey.master.spawn import Child
from palfrey.master.watch import Watcher
from palfrey.observe.logging import LogSetup


class Development:
    """A chore. Without `reload` it does nothing."""

    def __init__(self, desk: Desk, orders: Orders) -> None:
        self._desk = desk
        self._orders = orders
        self._watcher = Watcher(desk.ears, self._changed)
        self._watched: object = None
        """What was last read of the configuration when the watcher was told what to watch."""
        desk.at_fork(self._watcher.shed)

    @property
    def due(self) -> float | None:
        return self._watcher.due

    def look(self, now: float) -> None:
        desk = self._desk
        if not desk.house.settings.reload:
            return
        if desk.roster.ending:
            self._watcher.close()
            return
        if desk.resolved is not self._watched:
            self._watched = desk.resolved
            with desk.house.looking_anew():  # what was refused is watched too
                wanted = targets(desk.resolved.settings, desk.resolved.config_file)
            self._watcher.watch(wanted, desk.log)
        self._watcher.look(now)

    def voice(self) -> Voice:
        """For a developer or an operator; the house has its logs."""
        desk = self._desk
        if desk.house.settings.reload:
            return DevelopersVoice(desk.house.logs, desk.bulletin, desk.roster)
        return Voice(desk.house.logs, desk.bulletin)

    def took_leave(self, departure: Departure) -> None:
        """A worker that was killed may have left the terminal in its debugger's mode."""
        if departure.worker.phase is Phase.KILLED and self._desk.terminal is not None:
            self._desk.terminal.restore()

    def _changed(self, paths: list[str], count: int) -> None:
        if not self._desk.roster.ending:
            self._orders.reload(f"{named(paths, count, os.getcwd())} changed")


class DevelopersVoice(Voice):
    """Says what a developer wants to know of a reload, and no more."""

    def __init__(self, logs: LogSetup, bulletin: Bulletin, roster: Roster) -> None:
        super().__init__(logs, bulletin)
        self._roster = roster

    def tries(self, generation: int, stay: list[str]) -> None:
        self._says_what_stays(stay)

    def takes_over(self, before: Generation, current: Generation) -> None:
        self.bulletin.adopts()
        self._says_where(before, current)

    def refuses(self, reason: str, detail: str, serving: int) -> None:
        after = (
            f"The code from before serves on (generation {serving}) until files change"
            if any(worker.phase is Phase.READY for worker in self._roster.workers.values())
            else "Nothing serves until files change; connections wait"
        )
        self.logs.error.error("Reload refused: %s%s\n%s", reason, below(detail), after)
        self.bulletin.refuses(reason)

    def failed(self, child: Child, reason: str, detail: str, setback: Setback) -> None:
        self.logs.error.error(
            "Cannot serve: %s%s\nWaiting for files to change; connections wait, too", reason, below(detail)
        )
