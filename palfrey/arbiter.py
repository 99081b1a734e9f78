"""The arbiter: owns the listeners, obeys signals, supervises workers. Wait, hear, reap, plan, act, and again.

It decides nothing by itself: what has happened is told to the roster (`palfrey/master/roster.py`), the roster's plan
says what to do, and the arbiter does it and says so. It sleeps in one selector, over the signal inbox, each worker's
channel and whatever else was given to `Ears`, until something happens or the plan's deadline comes: no polling, no
thread, no asyncio, and never the user's application, which is imported in workers only (`palfrey/master/spawn.py`).

    SIGTERM ...        ──> Inbox ──> Orders ──┐                        ┌──> fork (Spawner), channels, kill(2)
    worker's channel   ──> Ears ───> Reports ─┼──> Roster ──> plan ────┼──> listeners (Generations)       [Hands]
    waitpid, heartbeat ───────────────────────┘                        └──> log, systemd, hooks (Voice)

What an operator does here must never end the service by accident: an error inside the loop is logged and the loop
goes on; only `Finish` ends it. If the arbiter dies all the same, the workers see their channels end, and drain.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from palfrey.config.sources import Resolved
from palfrey.errors import EXIT_ERROR
from palfrey.master.actions import Action, Finish, WaitUntil
from palfrey.master.desk import POOL, Desk
from palfrey.master.develop import Development
from palfrey.master.ears import Chore
from palfrey.master.hands import Hands
from palfrey.master.orders import CertificateWatch, Orders
from palfrey.master.records import Departure, Phase
from palfrey.master.reports import Reports
from palfrey.master.spawn import ENTRY, Child, worker_view
from palfrey.master.upgrade import Upgrade
from palfrey.system.invocation import Invocation
from palfrey.system.oom import OomKills

OVERSLEPT = 2.0
"""Seconds by which a plan's deadline may be missed before it is taken for a pause of this very process."""
AFTER_AN_ERROR = 1.0
"""Seconds until planning is tried again after an error of our own."""
LAST_ERRORS = 3
"""Turns in a row that may fail once a stop was ordered: an operator must not need SIGKILL."""
STEPS = 100
"""Plans carried out in one turn of the loop, more than any event needs: an endless chain would be an error of ours."""


class Arbiter:
    """One service, from its start to its end. `load` reads the configuration anew for each reload."""

    def __init__(
        self,
        load: Callable[[], Resolved],
        resolved: Resolved,
        *,
        entry: str = ENTRY,
        invocation: Invocation | None = None,
    ) -> None:
        self._desk = Desk(load, resolved, entry, invocation)
        self._house, self._roster, self._spawner = self._desk.house, self._desk.roster, self._desk.spawner
        self._upgrade = Upgrade(self._desk, POOL)
        self._orders = Orders(self._desk, self._upgrade)
        self._reports = Reports(self._desk)
        self._hands = Hands(self._desk, self._reports, self._upgrade)
        self._development = Development(self._desk, self._orders)
        self._oom_kills = OomKills()
        self._chores: list[Chore] = [CertificateWatch(self._desk, self._orders), self._development, self._oom_kills]
        self._wake: float | None = 0.0
        self._planned_at = time.monotonic()
        self._count: int | None = None
        """Of workers wanted, as the log and the hook nworkers_changed were last told."""
        self._status: int | None = None
        self._errors = 0
        """Turns of the loop that failed, in a row."""

    def run(self) -> int:
        """Serve until an ordered stop or a failed start; the exit status. Raises PalfreyError if it cannot begin."""
        try:
            self._house.set_up(self._desk.view)
            self._begin()
            while self._status is None:
                self._turn()
            return self._status
        finally:
            self._house.tear_down(self._desk.view)

    def _begin(self) -> None:
        self._desk.voice = self._development.voice()
        self._desk.ears.open()
        self._desk.ears.listen(self._house.inbox, lambda: None)  # it wakes; what it holds is taken in every turn
        generation = self._house.generations.current
        self._roster.add_pool(POOL, generation.number, generation.terms)
        self._upgrade.heir.begin()
        self._desk.voice.starts(generation)

    def _turn(self) -> None:
        """Each step and each event by itself: an error in one must not lose the others."""
        steps = (self._wait_and_hear, self._reap, self._do_chores, self._plan_and_act, self._tell_count, self._tell)
        went_well = [self._desk.safely(step) for step in steps]
        self._errors = 0 if all(went_well) else self._errors + 1
        if self._errors:
            self._wake = time.monotonic() + AFTER_AN_ERROR
        if self._errors > LAST_ERRORS and self._roster.ending:
            self._desk.log.critical("Ending in spite of errors; workers that are left drain and end by themselves")
            self._status = EXIT_ERROR
        self._house.logs.flush()

    # Wait and hear

    def _wait_and_hear(self) -> None:
        times = (self._wake, self._desk.bulletin.due, *(chore.due for chore in self._chores))
        wake = min((when for when in times if when is not None), default=None)
        timeout = None if wake is None else max(0.0, wake - time.monotonic())
        for hear in self._desk.ears.wait(timeout):
            self._desk.safely(hear)
        for command in self._house.inbox.take():
            self._desk.safely(self._orders.obey, command)

    def _do_chores(self) -> None:
        now = time.monotonic()
        for chore in self._chores:
            self._desk.safely(chore.look, now)

    # Reap

    def _reap(self) -> None:
        for pid, status in self._spawner.exits():
            child = self._spawner.children.get(pid)
            if child is None:
                continue  # an orphan that became ours
            self._desk.safely(self._reports.hear, child)  # its last words come before its death
            self._reports.leave(child)  # a process of its own may still hold the other end
            departure = self._roster.exited(pid, status, time.monotonic(), starved=self._starved(pid, status))
            self._desk.safely(self._take_leave, child, departure)
            self._spawner.release(child)
            self._house.generations.forget({child.generation for child in self._spawner.everybody})

    def _starved(self, pid: int, status: int) -> bool:
        """The kernel killed it for want of memory: nobody else may claim the kill."""
        worker = self._roster.workers.get(pid)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ordered = worker is None or worker.phase is Phase.KILLED
        return killed and not ordered and self._oom_kills.struck(time.monotonic())

    def _take_leave(self, child: Child, departure: Departure | None) -> None:
        if departure is not None:
            self._desk.voice.departs(child, departure, ending=self._roster.ending)
            self._development.took_leave(departure)
        if child.is_mold:
            return
        server = self._desk.view()
        self._desk.hook("child_exit", server, worker_view(child, self._house.generations[child.generation], server))

    # Plan and act

    def _plan_and_act(self) -> None:
        for child in self._spawner.children.values():
            self._roster.beat(child.pid, child.row.heartbeat, child.row.oldest_since)
        for _ in range(STEPS):
            actions = self._roster.plan(self._time_to_plan())
            for action in actions:
                self._act(action)
            if self._status is not None or len(actions) == 1:
                return
        self._desk.log.error("An error of Palfrey's own: the plan has no end: %s", actions)
        self._wake = time.monotonic() + AFTER_AN_ERROR

    def _time_to_plan(self) -> float:
        """Now; and if that is much later than the last plan foresaw, this process has been stopped for a while."""
        now = time.monotonic()
        if self._wake is not None and now > max(self._wake, self._planned_at) + OVERSLEPT:
            self._roster.resumed(now)
        self._planned_at = now
        return now

    def _act(self, action: Action) -> None:
        if isinstance(action, WaitUntil):
            self._wake = action.when
        elif isinstance(action, Finish):
            self._status = action.status
        else:
            self._hands.carry_out(action)

    def _tell_count(self) -> None:
        before, now = self._count, self._roster.pools[POOL].target
        if now == before:
            return
        self._count = now
        if before is not None:
            self._desk.log.info("Workers: %d, before %d", now, before)
        self._desk.hook("nworkers_changed", self._desk.view(), now, before)

    def _tell(self) -> None:
        self._desk.bulletin.tell(self._roster, time.monotonic(), self._desk.log)
