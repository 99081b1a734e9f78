"""The arbiter: owns the listeners, obeys signals, supervises workers. Wait, hear, reap, plan, act, and again.

It decides nothing by itself: what has happened is told to the roster (`palfrey/master/roster.py`), the roster's plan
says what to do, and the arbiter does it and says so. It sleeps in one selector, over the signal inbox and each
worker's channel, until something happens or the plan's deadline comes: no polling, no thread, no asyncio, and never
the user's application, which is imported in workers only (`palfrey/master/spawn.py`).

    SIGTERM ...        ──> Inbox ───┐                        ┌──> fork (Spawner), channels, kill(2)
    worker's channel   ──> reports ─┼──> Roster ──> plan ────┼──> listeners (Generations)
    waitpid, heartbeat ─────────────┘                        └──> log, systemd, hooks (Voice)

What an operator does here must never end the service by accident: an error inside the loop is logged and the loop
goes on; only `Finish` ends it. If the arbiter dies all the same, the workers see their channels end, and drain.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from palfrey.config.hooks import ServerView, call_hook
from palfrey.config.sources import Resolved
from palfrey.errors import EXIT_ERROR, PalfreyError
from palfrey.master.actions import (
    Abort,
    Action,
    Adopt,
    Announce,
    CloseListeners,
    Finish,
    Halt,
    Kill,
    Quit,
    Refuse,
    Retire,
    Spawn,
    Stop,
    WaitUntil,
)
from palfrey.master.announce import Voice
from palfrey.master.generations import Generation
from palfrey.master.logs import configure_logs, same_logs
from palfrey.master.records import Departure
from palfrey.master.renewal import Renewal
from palfrey.master.roster import Roster
from palfrey.master.signals import Command
from palfrey.master.spawn import ENTRY, Child, Spawner, SpawnError, worker_view
from palfrey.master.start import House
from palfrey.observe.scoreboard import Scoreboard
from palfrey.system import process

POOL = "app"
"""The application's workers: the one pool there is so far."""
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

    def __init__(self, load: Callable[[], Resolved], resolved: Resolved, *, entry: str = ENTRY) -> None:
        self._load = load
        self._house = House(resolved)
        self._roster = Roster()
        self._renewal = Renewal()
        self._spawner = Spawner(Scoreboard(), self._house.inbox, self._shed, entry)
        self._selector: selectors.BaseSelector
        self._voice: Voice
        self._wake: float | None = 0.0
        self._planned_at = time.monotonic()
        self._count: int | None = None
        """Of workers wanted, as the log and the hook nworkers_changed were last told."""
        self._status: int | None = None
        self._errors = 0
        """Turns of the loop that failed, in a row."""
        self._acts: dict[type[Action], Callable[[Any], None]] = {
            Spawn: self._spawn,
            Retire: self._tell,
            Stop: self._tell,
            Quit: self._tell,
            Abort: self._force,
            Kill: self._force,
            Adopt: self._adopt,
            Refuse: self._refuse,
            Announce: self._announce,
            Halt: self._halt,
            CloseListeners: self._close_listeners,
            Finish: self._finish,
            WaitUntil: self._wait_until,
        }

    def run(self) -> int:
        """Serve until an ordered stop or a failed start; the exit status. Raises PalfreyError if it cannot begin."""
        try:
            self._house.set_up(self._server)
            self._begin()
            while self._status is None:
                self._turn()
            return self._status
        finally:
            self._house.tear_down(self._server)

    def _begin(self) -> None:
        self._voice = Voice(self._house.logs)
        # After the daemon's forks: a kqueue does not survive one.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._house.inbox, selectors.EVENT_READ)
        generation = self._house.generations.current
        self._roster.add_pool(POOL, generation.number, generation.terms)
        self._voice.starts(generation)

    def _turn(self) -> None:
        """Each step and each event by itself: an error in one must not lose the others."""
        went_well = [
            self._safely(step) for step in (self._wait, self._reap, self._renew, self._plan_and_act, self._tell_count)
        ]
        self._errors = 0 if all(went_well) else self._errors + 1
        if self._errors:
            self._wake = time.monotonic() + AFTER_AN_ERROR
        if self._errors > LAST_ERRORS and self._roster.ending:
            self._log.critical("Ending in spite of errors; workers that are left drain and end by themselves")
            self._status = EXIT_ERROR
        self._house.logs.flush()

    def _safely(self, step: Callable[..., None], *arguments: object) -> bool:
        """Run it; an error of ours is logged, and False."""
        try:
            step(*arguments)
        except Exception:
            self._log.exception("An error of Palfrey's own in the arbiter, please report it; the service goes on")
            return False
        return True

    # Wait and hear

    def _wait(self) -> None:
        wake = min((when for when in (self._wake, self._renewal.due) if when is not None), default=None)
        timeout = None if wake is None else max(0.0, wake - time.monotonic())
        happened = self._selector.select(timeout)
        for key, _ in happened:
            if isinstance(key.data, Child):
                self._safely(self._hear, key.data)
        for command in self._house.inbox.take():
            self._log.debug("Received %s", command.name)
            self._safely(getattr(self, f"_on_{command.handler}"), command)

    def _hear(self, child: Child) -> None:
        """Take what a worker reports; at the end of its channel, stop listening."""
        for message in child.channel.receive():
            report = _REPORTS.get(message["kind"])
            if report is not None:
                report(self, child, message)
        if child.channel.closed:
            self._listen_no_more(child)

    def _listen_no_more(self, child: Child) -> None:
        if child.channel in self._selector.get_map():
            self._selector.unregister(child.channel)
            self._roster.lost(child.pid, time.monotonic())

    def _on_ready(self, child: Child, message: dict[str, Any]) -> None:
        if self._roster.ready(child.pid, time.monotonic()):
            self._log.info("%s (%d) is ready, generation %d", child.label.capitalize(), child.pid, child.generation)

    def _on_failed(self, child: Child, message: dict[str, Any]) -> None:
        reason, detail = str(message.get("reason", "unknown")), str(message.get("detail") or "")
        if self._roster.failed(child.pid, reason, detail, time.monotonic()):
            self._voice.failed(child, reason, detail)

    def _on_tired(self, child: Child, message: dict[str, Any]) -> None:
        reason = str(message.get("reason", "no reason given"))
        self._log.info("%s (%d) asks to be replaced: %s", child.label.capitalize(), child.pid, reason)
        self._roster.tired(child.pid, reason)

    def _on_stopping(self, child: Child, message: dict[str, Any]) -> None:
        if self._roster.leaves(child.pid, time.monotonic()):
            self._log.info("%s (%d) was told to end by a signal from outside", child.label.capitalize(), child.pid)

    # The operator's signals, by palfrey.master.signals.SIGNALS

    def _on_stop(self, command: Command) -> None:
        self._stop(command, fast=False)

    def _on_quit(self, command: Command) -> None:
        self._stop(command, fast=True)

    def _stop(self, command: Command, *, fast: bool) -> None:
        if not self._roster.ending or (fast and not self._roster.fast):
            self._voice.stops(command.name, len(self._spawner.children), fast=fast)
        self._roster.stop(fast=fast)

    def _on_reload(self, command: Command) -> None:
        self._reload()

    def _renew(self) -> None:
        """Certificates that were renewed are taken as if HUP had come."""
        if self._renewal.wants_reload(self._house.generations.current, time.monotonic(), self._log):
            self._reload()

    def _reload(self) -> None:
        if self._roster.ending:
            return
        self._voice.reloads()
        generations = self._house.generations
        try:
            self._house.change_directory()
            resolved = self._load()
            candidate, stay = generations.propose(resolved)
        except PalfreyError as error:
            self._voice.refuses(str(error), getattr(error, "detail", ""), generations.current.number)
            return
        except Exception as error:
            self._voice.refuses(
                f"an error of Palfrey's own, {error!r}", traceback.format_exc(), generations.current.number
            )
            return
        for notice in resolved.notices:
            self._log.warning("%s", notice.message)
        if candidate.tls is not None and candidate.tls.notice is not None:
            self._log.warning("%s", candidate.tls.notice)
        call_hook(candidate.settings, "on_reload", self._server(), log=self._log)
        self._voice.tries(candidate.number, stay)
        self._roster.reload(POOL, candidate.number, candidate.terms)

    def _on_more(self, command: Command) -> None:
        self._scale(+1)

    def _on_fewer(self, command: Command) -> None:
        self._scale(-1)

    def _scale(self, by: int) -> None:
        if not self._roster.ending:
            self._roster.scale(POOL, by)

    def _on_reopen(self, command: Command) -> None:
        if self._house.logs.reopen():
            self._log.info("Log files opened anew")
        for child in self._spawner.children.values():
            child.channel.send("reopen")

    def _on_upgrade(self, command: Command) -> None:
        self._log.warning("%s: the binary upgrade is not available yet; nothing was done", command.name)

    def _on_child(self, command: Command) -> None:
        """It woke the loop, which reaps at every turn."""

    # Reap

    def _reap(self) -> None:
        for pid, status in self._spawner.exits():
            child = self._spawner.children.get(pid)
            if child is None:
                continue
            self._safely(self._hear, child)  # its last words come before its death
            self._listen_no_more(child)  # a process of its own may still hold the other end
            departure = self._roster.exited(pid, status, time.monotonic())
            self._safely(self._take_leave, child, departure)
            self._spawner.release(child)
            self._house.generations.forget({child.generation for child in self._spawner.children.values()})

    def _take_leave(self, child: Child, departure: Departure | None) -> None:
        if departure is not None:
            self._voice.departs(child, departure, ending=self._roster.ending)
        server = self._server()
        self._hook("child_exit", server, worker_view(child, self._house.generations[child.generation], server))

    # Plan and act

    def _plan_and_act(self) -> None:
        for child in self._spawner.children.values():
            self._roster.beat(child.pid, child.row.heartbeat)
        for _ in range(STEPS):
            actions = self._roster.plan(self._time_to_plan())
            for action in actions:
                self._act(action)
            if self._status is not None or len(actions) == 1:
                return
        self._log.error("An error of Palfrey's own: the plan has no end: %s", actions)
        self._wake = time.monotonic() + AFTER_AN_ERROR

    def _time_to_plan(self) -> float:
        """Now; and if that is much later than the last plan foresaw, this process has been stopped for a while."""
        now = time.monotonic()
        if self._wake is not None and now > max(self._wake, self._planned_at) + OVERSLEPT:
            self._roster.resumed(now)
        self._planned_at = now
        return now

    def _act(self, action: Action) -> None:
        """Carry it out. What raises counts as done, so that the loop does not hang on it."""
        self._roster.did(action, time.monotonic())
        if not self._safely(self._acts[type(action)], action) and isinstance(action, Spawn):
            self._roster.spawn_failed(action, "could not be started for an error of Palfrey's own", time.monotonic())

    def _spawn(self, action: Spawn) -> None:
        generations = self._house.generations
        generation = generations[action.generation]
        server = self._server()
        try:
            child = self._spawner.spawn(
                action.pool,
                action.slot,
                generation,
                server=server,
                logs=self._house.logs,
                logged_as=generations.current,
            )
        except SpawnError as error:
            self._log.error("Worker %d %s; trying again later", action.slot + 1, error)
            self._roster.spawn_failed(action, str(error), time.monotonic())
            return
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        self._roster.spawned(action, child.pid, time.monotonic())

    def _tell(self, action: Retire | Stop | Quit) -> None:
        """Over the channel, or by the signal that says the same where nobody listens to that."""
        child = self._spawner.children[action.pid]
        word, signum = _WORDS[type(action)]
        if isinstance(action, Retire):
            self._log.info("%s (%d) %s: retires", child.label.capitalize(), child.pid, action.reason)
            if self._house.generations[child.generation].parting:
                word = "stop"  # it serves listeners that nobody else will
        if isinstance(action, Quit) and self._roster.workers[child.pid].ready_at is None:
            # While it imports the application it turns no loop and hears signals alone. And it may be ready without
            # our knowing yet: TERM lets it finish what it has taken.
            os.kill(child.pid, signal.SIGQUIT if self._roster.fast else signal.SIGTERM)
        elif not child.channel.send(word):
            os.kill(child.pid, signum)

    def _force(self, action: Abort | Kill) -> None:
        kill = isinstance(action, Kill)
        self._voice.forces(self._spawner.children[action.pid], action.reason, kill=kill)
        os.kill(action.pid, signal.SIGKILL if kill else signal.SIGABRT)

    def _adopt(self, action: Adopt) -> None:
        before = self._house.generations.current
        current = self._house.generations.adopt(action.generation)
        if not same_logs(before.settings, current.settings):
            self._renew_logs(current)
        self._voice.takes_over(before, current)

    def _renew_logs(self, current: Generation) -> None:
        old = self._house.logs
        try:
            self._house.logs = self._voice.logs = configure_logs(current.settings, "master")
        except PalfreyError as error:
            self._log.error("The logs stay as they were: %s", error)
        else:
            old.close()

    def _refuse(self, action: Refuse) -> None:
        generations = self._house.generations
        generations.refuse(action.generation)
        self._voice.refuses(action.reason, action.detail, generations.current.number)

    def _announce(self, action: Announce) -> None:
        self._voice.serves(action.generation, action.ready, action.target, self._house.main_pid)
        if not self._house.announced:
            self._house.announced = True
            self._house.tell_launcher(0, "")
            self._hook("when_ready", self._server())

    def _halt(self, action: Halt) -> None:
        self._voice.gives_up(action.reason, action.detail, on_terminal=self._house.log_is_elsewhere)
        text = "\n".join(filter(None, (f"palfrey: {action.reason}", action.detail)))
        self._house.tell_launcher(action.status, text)

    def _close_listeners(self, action: CloseListeners) -> None:
        self._house.generations.close()

    def _finish(self, action: Finish) -> None:
        self._status = action.status

    def _wait_until(self, action: WaitUntil) -> None:
        self._wake = action.when

    # Small things

    @property
    def _log(self) -> Any:
        return self._house.logs.error

    def _tell_count(self) -> None:
        before, now = self._count, self._roster.pools[POOL].target
        if now == before:
            return
        self._count = now
        if before is not None:
            self._log.info("Workers: %d, before %d", now, before)
        self._hook("nworkers_changed", self._server(), now, before)

    def _hook(self, name: str, *arguments: object) -> None:
        call_hook(self._house.generations.current.settings, name, *arguments, log=self._log)

    def _server(self) -> ServerView:
        """The arbiter as hooks see it."""
        pool = self._roster.pools.get(POOL)
        return self._house.view(pool.target if pool is not None else self._house.settings.workers)

    def _shed(self, generation: Generation) -> None:
        """In a forked child: let go of what is the arbiter's alone."""
        self._selector.close()
        self._house.shed()
        process.close_fds(listener.sock.detach() for listener in self._house.generations.others(generation.number))


_REPORTS: dict[str, Callable[[Arbiter, Child, dict[str, Any]], None]] = {
    "ready": Arbiter._on_ready,
    "failed": Arbiter._on_failed,
    "tired": Arbiter._on_tired,
    "stopping": Arbiter._on_stopping,
}
"""What a worker reports, by the message's kind."""

_WORDS: dict[type[Action], tuple[str, int]] = {
    Retire: ("retire", signal.SIGTERM),
    Stop: ("stop", signal.SIGTERM),
    Quit: ("quit", signal.SIGQUIT),
}
"""What a worker is told: over its channel, and by signal where it has lost that."""
