"""The plan's actions, carried out: forks, words to workers, signals, listeners, announcements.

One method for each kind of action, named in `_ACTS`; a new action is a class in actions.py, a rule in plan.py, an
effect in `Roster.did` and a line here. Each does what it is told and asks nothing: that was the plan's business. The
two actions that steer the loop itself, Finish and WaitUntil, are the arbiter's.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from palfrey.errors import PalfreyError
from palfrey.master.actions import (
    Abort,
    Action,
    Adopt,
    Announce,
    CloseListeners,
    Depart,
    Dump,
    EndSuccessor,
    Halt,
    HandOver,
    Hold,
    Kill,
    Quit,
    Refuse,
    Resume,
    Retire,
    Spawn,
    StartSuccessor,
    Stop,
    Suspend,
    TellPredecessor,
    TryAgain,
)
from palfrey.master.desk import Desk
from palfrey.master.generations import Generation
from palfrey.master.logs import configure_logs, same_logs
from palfrey.master.records import MOLD
from palfrey.master.reports import Reports
from palfrey.master.spawn import SpawnError
from palfrey.master.upgrade import Upgrade
from palfrey.system import dump


class Hands:
    def __init__(self, desk: Desk, reports: Reports, upgrade: Upgrade) -> None:
        self._desk = desk
        self._reports = reports
        self._upgrade = upgrade

    def carry_out(self, action: Action) -> None:
        """Do it. What raises counts as done, so that the loop does not hang on it."""
        roster = self._desk.roster
        roster.did(action, time.monotonic())
        if self._desk.safely(_ACTS[type(action)], self, action):
            return
        if isinstance(action, Spawn):
            roster.spawn_failed(action, "could not be started for an error of Palfrey's own", time.monotonic())
        elif isinstance(action, StartSuccessor):
            roster.succession.gone(time.monotonic())

    # Workers

    def _spawn(self, action: Spawn) -> None:
        desk = self._desk
        generations = desk.house.generations
        generation = generations[action.generation]
        from_mold = generation.terms.preload and action.slot != MOLD
        try:
            if from_mold:
                child = desk.spawner.order(action.pool, action.slot, generation, server=desk.view())
            else:
                child = desk.spawner.spawn(
                    action.pool,
                    action.slot,
                    generation,
                    server=desk.view(),
                    logs=desk.house.logs,
                    logged_as=generations.current,
                )
        except SpawnError as error:
            self._reports.could_not_spawn(action, str(error))
            return
        self._reports.attend(child)
        if from_mold:
            desk.roster.ordered(action, time.monotonic())
        else:
            desk.roster.spawned(action, child.pid, time.monotonic())

    def _tell(self, action: Retire | Stop | Quit) -> None:
        """Over the channel, or by the signal that says the same where nobody listens to that."""
        desk = self._desk
        child = desk.spawner.children[action.pid]
        word, signum = _WORDS[type(action)]
        if isinstance(action, Retire):
            desk.log.info("%s (%d) %s: retires", child.label.capitalize(), child.pid, action.reason)
            if desk.house.generations[child.generation].parting:
                word = "stop"  # it serves listeners that nobody else will
        if isinstance(action, Quit) and desk.roster.workers[child.pid].ready_at is None:
            # While it imports the application it turns no loop and hears signals alone. And it may be ready without
            # our knowing yet: TERM lets it finish what it has taken.
            os.kill(child.pid, signal.SIGQUIT if desk.roster.fast else signal.SIGTERM)
        elif not child.channel.send(word):
            os.kill(child.pid, signum)

    def _dump(self, action: Dump) -> None:
        child = self._desk.spawner.children[action.pid]
        self._desk.voice.suspects(child, action.reason, time.monotonic(), stopped=dump.is_stopped(child.pid))
        os.kill(child.pid, dump.DUMP)

    def _hold(self, action: Hold | Resume) -> None:
        self._desk.spawner.children[action.pid].channel.send("hold" if isinstance(action, Hold) else "resume")

    def _force(self, action: Abort | Kill) -> None:
        kill = isinstance(action, Kill)
        child = self._desk.spawner.children[action.pid]
        self._desk.voice.forces(child, action.reason, time.monotonic(), kill=kill)
        os.kill(child.pid, signal.SIGKILL if kill else signal.SIGABRT)
        if not kill:
            os.kill(child.pid, signal.SIGCONT)  # one that was stopped can show its stacks only now

    # Generations

    def _adopt(self, action: Adopt) -> None:
        generations = self._desk.house.generations
        before = generations.current
        current = generations.adopt(action.generation)
        current.enter()
        if not same_logs(before.settings, current.settings):
            self._renew_logs(current)
        self._desk.voice.takes_over(before, current)

    def _renew_logs(self, current: Generation) -> None:
        house, voice = self._desk.house, self._desk.voice
        old = house.logs
        try:
            house.logs = voice.logs = configure_logs(current.settings, "master")
        except PalfreyError as error:
            self._desk.log.error("The logs stay as they were: %s", error)
        else:
            old.close()

    def _refuse(self, action: Refuse) -> None:
        generations = self._desk.house.generations
        generations.refuse(action.generation)
        self._desk.voice.refuses(action.reason, action.detail, generations.current.number)

    def _try_again(self, action: TryAgain) -> None:
        self._desk.log.info("The old worker may have had what the new code needs (%s): trying it alone", action.reason)

    def _announce(self, action: Announce) -> None:
        desk, heir = self._desk, self._upgrade.heir
        desk.voice.serves(action, desk.house.main_pid)
        if heir.waits and action.ready < action.target:
            heir.is_short()
        else:
            desk.opens()

    def _suspend(self, action: Suspend) -> None:
        self._desk.voice.suspends(action.reason)

    # The service's beginning and end

    def _halt(self, action: Halt) -> None:
        house = self._desk.house
        self._desk.voice.gives_up(action.reason, action.detail, on_terminal=house.log_is_elsewhere)
        text = "\n".join(filter(None, (f"palfrey: {action.reason}", action.detail)))
        house.tell_launcher(action.status, text)

    def _depart(self, action: Depart) -> None:
        self._desk.voice.stops("drain_delay is over", self._desk.workers, fast=False)

    def _close_listeners(self, action: CloseListeners) -> None:
        self._desk.house.generations.close()
        self._upgrade.answer()

    # Upgrades

    def _start_successor(self, action: StartSuccessor) -> None:
        self._upgrade.start()

    def _hand_over(self, action: HandOver) -> None:
        self._upgrade.hand_over()

    def _end_successor(self, action: EndSuccessor) -> None:
        self._upgrade.end_successor(action)

    def _tell_predecessor(self, action: TellPredecessor) -> None:
        self._upgrade.heir.say_that_we_stop()


_ACTS: dict[type[Action], Callable[[Hands, Any], None]] = {
    Spawn: Hands._spawn,
    Retire: Hands._tell,
    Hold: Hands._hold,
    Resume: Hands._hold,
    Stop: Hands._tell,
    Quit: Hands._tell,
    Dump: Hands._dump,
    Abort: Hands._force,
    Kill: Hands._force,
    Adopt: Hands._adopt,
    Refuse: Hands._refuse,
    TryAgain: Hands._try_again,
    Announce: Hands._announce,
    Suspend: Hands._suspend,
    Halt: Hands._halt,
    Depart: Hands._depart,
    CloseListeners: Hands._close_listeners,
    StartSuccessor: Hands._start_successor,
    HandOver: Hands._hand_over,
    EndSuccessor: Hands._end_successor,
    TellPredecessor: Hands._tell_predecessor,
}

_WORDS: dict[type[Action], tuple[str, int]] = {
    Retire: ("retire", signal.SIGTERM),
    Stop: ("stop", signal.SIGTERM),
    Quit: ("quit", signal.SIGQUIT),
}
"""What a worker is told: over its channel, and by signal where it has lost that."""
