"""What every part of the arbiter has at hand: one object that knows who is who, and decides nothing.

    House     what stands before the first worker (start.py): inbox, logs, generations of settings and listeners
    Roster    who is there and what is to be done (roster.py, plan.py)
    Spawner   the children (spawn.py)
    Ears      what the arbiter listens to (ears.py)
    Voice     what it says (announce.py)
    Bulletin  what systemd is told, and when (bulletin.py)

The arbiter makes it, and hands it to those who hear workers (reports.py), obey the operator (orders.py) and carry
out actions (hands.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from palfrey.config.hooks import ServerView, call_hook
from palfrey.config.sources import Resolved
from palfrey.master.announce import Voice
from palfrey.master.bulletin import Bulletin
from palfrey.master.ears import Ears
from palfrey.master.generations import Generation
from palfrey.master.roster import Roster
from palfrey.master.spawn import ENTRY, Spawner
from palfrey.master.start import House
from palfrey.observe.scoreboard import Scoreboard
from palfrey.system import process, systemd
from palfrey.system.cpus import budget
from palfrey.system.invocation import Invocation
from palfrey.system.terminal import Terminal

POOL = "app"
"""The application's workers: the one pool there is so far."""


class Desk:
    """`load` reads the configuration anew for each reload; `entry` is what a worker runs, "module:callable"."""

    voice: Voice
    """There once the house has its logs."""

    def __init__(
        self,
        load: Callable[[], Resolved],
        resolved: Resolved,
        entry: str = ENTRY,
        invocation: Invocation | None = None,
    ) -> None:
        self.load = load
        self.resolved = resolved
        """What was last read and found fit to be tried."""
        self.terminal = Terminal.of() if resolved.settings.reload else None
        self._at_fork: list[Callable[[], None]] = []
        self.house = House(resolved, invocation)
        self.roster = Roster()
        self.ears = Ears()
        self.bulletin = Bulletin()
        self.scoreboard = Scoreboard()
        self.spawner = Spawner(self.scoreboard, self.house.inbox, self._shed, entry)

    @property
    def log(self) -> logging.Logger:
        return self.house.logs.error

    @property
    def workers(self) -> int:
        """How many worker processes there are."""
        return sum(not child.is_mold for child in self.spawner.everybody)

    def safely(self, step: Callable[..., None], *arguments: object) -> bool:
        """Run it; an error of ours is logged, and False."""
        try:
            step(*arguments)
        except Exception:
            self.log.exception("An error of Palfrey's own in the arbiter, please report it; the service goes on")
            return False
        return True

    def hook(self, name: str, *arguments: object) -> None:
        """Call a hook of the current generation's."""
        call_hook(self.house.generations.current.settings, name, *arguments, log=self.log)

    def view(self) -> ServerView:
        """The arbiter as hooks see it."""
        pool = self.roster.pools.get(POOL)
        if pool is not None:
            return self.house.view(pool.target)
        wanted = self.house.settings.workers
        return self.house.view(budget().cpus if wanted == "auto" else wanted)

    def opens(self) -> None:
        """The service is up; said once, to whoever started it."""
        if not self.house.announced:
            self.house.announced = True
            self.house.tell_launcher(0, "")
            self.hook("when_ready", self.view())

    def at_fork(self, shed: Callable[[], None]) -> None:
        """What a part of the arbiter has to close in each forked child."""
        self._at_fork.append(shed)

    def _shed(self, generation: Generation) -> None:
        """In a forked child: let go of what is the arbiter's alone."""
        for shed in self._at_fork:
            shed()
        self.ears.close()
        self.house.shed()
        systemd.forget()
        generations = self.house.generations
        process.close_fds(fd for fd, _ in generations.unused())
        process.close_fds(listener.sock.detach() for listener in generations.others(generation.number))
        generations.move_in(generation.number)
