"""The roster: who is there, keyed (pool, slot), what happened to whom, and `plan(now)`, which says what to do next.

The law: events only record, `plan` only reads. An event method takes what happened and the time at which it did and
changes the records (`palfrey/master/records.py`); `plan` derives the next actions from the records alone
(`palfrey/master/plan.py`) and changes nothing. Neither forks, reads a clock or the system, nor draws chance except
from the `random.Random` given to the constructor. Who carries an action out says so: `spawned` or `spawn_failed` for
a Spawn, `did` for every other.

Events about a pid that the roster does not know are ignored: news of a worker may come in after its exit.
"""

from __future__ import annotations

import random

from palfrey.master.actions import (
    Abort,
    Action,
    Adopt,
    Announce,
    CloseListeners,
    Depart,
    Dump,
    EndSuccessor,
    Finish,
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
    WaitUntil,
)
from palfrey.master.overdue import MARGIN
from palfrey.master.plan import make_plan
from palfrey.master.records import (
    MOLD,
    STEADY,
    Birth,
    Candidate,
    Departure,
    Event,
    Failure,
    Phase,
    Pool,
    Setback,
    Slot,
    Terms,
    Worker,
    cause_of,
)
from palfrey.master.succession import END_GRACE, Predecessor, Succession

_TOLD = {Retire: Event.RETIRE, Stop: Event.STOP, Quit: Event.QUIT, Abort: Event.ABORT, Kill: Event.KILL}


class Roster:
    def __init__(self, chance: random.Random | None = None) -> None:
        self.pools: dict[str, Pool] = {}
        self.workers: dict[int, Worker] = {}
        """By pid, all that have been forked and not yet been reaped."""
        self.births: list[Birth] = []
        """Workers that were ordered from molds and of which nothing has been heard."""
        self.ending = False
        self.fast = False
        """The end is to come at once: workers quit instead of draining."""
        self.impatient = False
        """Whoever asked for that asked again: nobody is waited for."""
        self.departs_at: float | None = None
        """When the service is going to end, `drain_delay` after it was told to; it serves on until then."""
        self.listeners_closed = False
        self.succession = Succession()
        self.predecessor: Predecessor | None = None
        """The arbiter that started this one, for as long as it is there."""
        self.exit_status = 0
        self.awake_since = 0.0
        """Since when the arbiter itself has been running without a break, see `resumed`."""
        self._chance = chance or random.Random()

    def plan(self, now: float) -> list[Action]:
        """What is to be done now, in order, with one WaitUntil at the end. Changes nothing."""
        return make_plan(self, now)

    # What the operator wants

    def add_pool(self, name: str, generation: int, terms: Terms) -> Pool:
        pool = self.pools[name] = Pool(name, generation, terms, max(1, terms.workers))
        return pool

    def scale(self, pool_name: str, by: int) -> int:
        """One worker more or fewer (any number); the highest slots go first. The new count, never below 1."""
        pool = self.pools[pool_name]
        self._set_target(pool, pool.target + by)
        return pool.target

    def reload(self, pool_name: str, generation: int, terms: Terms) -> None:
        """A new generation asks to be tried; it takes the place of one that was being tried. No-op when ending."""
        if not self.ending:
            self.pools[pool_name].candidate = Candidate(generation, terms)

    def refused(self, pool_name: str, reason: str) -> None:
        """A reload came to nothing. One that was being tried before it is given up with it: it was superseded."""
        pool = self.pools[pool_name]
        pool.candidate = None
        pool.refused, pool.suspension_told = reason, False
        if pool.terms.develop:
            # What lies on disk was found to be no good: whose slot is empty waits for better.
            taken = {worker.slot for worker in self.workers.values() if worker.phase in (Phase.BOOTING, Phase.READY)}
            for slot in pool.wanted():
                slot.waits = slot.waits or slot.number not in taken

    def upgrade_refused(self, reason: str) -> None:
        """A successor has said that it cannot serve: that is of what lies on disk, as a canary's failure is."""
        for pool in self.pools.values():
            self.refused(pool.name, reason)

    @property
    def leaving(self) -> bool:
        """The end was ordered, and may have begun."""
        return self.ending or self.departs_at is not None

    def depart(self, now: float) -> float:
        """End the service, but not before its `drain_delay`; a reload that is being tried is given up. The seconds
        until then; 0.0 when there is nothing to wait for, and it is for `stop`: also where another process serves on,
        the one that was to be succeeded or the one that has succeeded."""
        pools, before = self.pools.values(), self.predecessor
        delay = max((pool.terms.drain_delay for pool in pools if pool.served), default=0.0)
        if self.leaving or self.succession.retired or (before is not None and not before.leaving) or not delay:
            return 0.0
        self.departs_at = now + delay
        for pool in pools:
            pool.candidate = None
        return delay

    def stop(self, *, fast: bool) -> None:
        """End the service. A fast stop may follow a graceful one and speeds it up, never the other way round."""
        self.ending = True
        self.fast = self.fast or fast

    def hurry(self) -> None:
        """End the service without waiting for any worker."""
        self.stop(fast=True)
        self.impatient = True

    # What the workers report

    def ready(self, pid: int, now: float) -> bool:
        """It serves. False when that comes too late to matter."""
        worker = self.workers.get(pid)
        if worker is None or not worker.hear(Event.READY, now):
            return False
        worker.ready_at = now
        pool = self.pools[worker.pool]
        if not worker.is_mold:
            pool.served = True
        elif worker.generation == pool.generation:
            pool.recast = bool(pool.refused)
        return True

    def failed(self, pid: int, reason: str, detail: str, now: float) -> Setback | None:
        """It cannot serve, said why, and exits. None when something else will say so: for a canary its refusal, for
        the first of all the halt of the server."""
        worker = self.workers.get(pid)
        if worker is None or not worker.hear(Event.FAILED, now):
            return None
        self._blame(worker, Failure(reason, detail, final=True), now, booting=True)
        pool = self.pools[worker.pool]
        if not (pool.served or pool.terms.develop) or worker.generation > pool.generation:
            return None
        return pool.slot(worker.slot).setback(now) if worker.slot < pool.target else Setback(1, 0.0)

    def tired(self, pid: int, reason: str, wear: float = 1.0) -> bool:
        """It asks to be replaced and serves until then; `wear` as in `Worker.wear`. It may ask again when it is worse.
        False when it had asked before, or is unknown."""
        worker = self.workers.get(pid)
        if worker is None:
            return False
        asked = worker.tired is not None
        worker.tired = worker.tired or reason
        worker.wear = max(worker.wear, wear)
        return not asked

    def leaves(self, pid: int, now: float) -> bool:
        """It began to drain by itself; False when it was told to. A slot whose workers do so time and again backs off
        as for a crash."""
        worker = self.workers.get(pid)
        if worker is None or not worker.hear(Event.LEAVES, now):
            return False
        self._blame(worker, Failure("was told to end by a signal from outside"), now, booting=False)
        return True

    # What is seen of them

    def beat(self, pid: int, heartbeat: float, oldest_since: float = 0.0) -> None:
        """When the worker's loop last turned and its oldest request began, by the scoreboard."""
        worker = self.workers.get(pid)
        if worker is not None:
            worker.heartbeat = heartbeat
            worker.oldest_since = oldest_since

    def lost(self, pid: int, now: float) -> None:
        """Its channel has ended. As a rule it is dead and its exit about to be seen."""
        worker = self.workers.get(pid)
        if worker is not None and worker.lost_at is None:
            worker.lost_at = now

    def exited(self, pid: int, status: int, now: float, *, starved: bool = False) -> Departure | None:
        """It is gone; `status` and `starved` as for `cause_of`. None for a pid that is not ours."""
        worker = self.workers.get(pid)
        if worker is None:
            return None
        cause = cause_of(status, starved=starved)
        expected = worker.phase not in (Phase.BOOTING, Phase.READY)
        if not expected:
            self._blame(worker, Failure(cause), now, booting=worker.phase is Phase.BOOTING)
        del self.workers[pid]
        pool = self.pools[worker.pool]
        if pool.candidate is not None and pool.candidate.generation == worker.generation:
            expected = True  # the refusal tells of it
        cut_short = worker.phase is Phase.DRAINING and status != 0 and not worker.is_mold
        slot = pool.slots.get(worker.slot) or Slot(worker.slot)
        setback = slot.setback(now)
        return Departure(worker, cause, expected, setback.retry_in, slot.failures, setback.times, slot.waits, cut_short)

    def resumed(self, now: float) -> None:
        """The arbiter was itself stopped for a while (SIGSTOP, a suspended machine), and so, maybe, were the workers:
        nobody's silence counts from before now."""
        self.awake_since = now

    # What was done of a plan

    def ordered(self, action: Spawn, now: float) -> None:
        """A mold was told to fork it. `spawned` or `spawn_failed` follows."""
        self.births.append(Birth(action.pool, action.slot, action.generation, now))

    def spawned(self, action: Spawn, pid: int, now: float) -> Worker:
        self._no_longer_expected(action)
        pool = self.pools[action.pool]
        candidate = pool.candidate
        terms = candidate.terms if candidate and candidate.generation == action.generation else pool.terms
        worker = Worker(pid, action.pool, action.slot, action.generation, terms, born=now, since=now)
        self.workers[pid] = worker
        return worker

    def spawn_failed(self, action: Spawn, reason: str, now: float) -> Setback | None:
        """The fork itself did not succeed. For a canary that is a failure like any other: its refusal tells of it."""
        self._no_longer_expected(action)
        pool = self.pools[action.pool]
        if pool.candidate is not None and pool.candidate.generation == action.generation:
            self._fail_the_candidate(pool.candidate, Failure(reason), action.slot)
            return None
        slot = pool.slot(action.slot)
        slot.blame(Failure(reason), action.generation, now, self._chance, booting=True)
        return slot.setback(now)

    def _no_longer_expected(self, action: Spawn) -> None:
        place = (action.pool, action.slot, action.generation)
        for birth in self.births:
            if (birth.pool, birth.slot, birth.generation) == place:
                self.births.remove(birth)
                return

    def did(self, action: Action, now: float) -> None:
        """An action other than Spawn was carried out, or cannot be and need not be tried again."""
        match action:
            case Retire() | Stop() | Quit() | Dump() | Abort() | Kill():
                self._told(action, now)
            case Adopt():
                self._adopt(self.pools[action.pool])
            case TryAgain():
                self._try_again(self.pools[action.pool])
            case Hold() | Resume():
                if (held := self.workers.get(action.pid)) is not None:
                    held.held = isinstance(action, Hold)
            case Refuse():
                self.refused(action.pool, action.reason)
            case Announce():
                self.pools[action.pool].announced = action
            case Suspend():
                self.pools[action.pool].suspension_told = True
            case Halt():
                self.exit_status = action.status
                self.stop(fast=True)
            case Depart():
                self.stop(fast=False)
            case CloseListeners():
                self.listeners_closed = True
            case StartSuccessor() | HandOver() | EndSuccessor() | TellPredecessor():
                self._did_of_upgrade(action, now)
            case Spawn() | Finish() | WaitUntil():
                pass

    def _told(self, action: Retire | Stop | Quit | Dump | Abort | Kill, now: float) -> None:
        worker = self.workers.get(action.pid)
        if worker is None:
            return
        if isinstance(action, Dump):
            worker.dumped = worker.heartbeat
            return
        before = worker.phase
        worker.hear(_TOLD[type(action)], now)
        if isinstance(action, Stop):
            worker.stop_told = True
        if isinstance(action, Abort | Kill) and before in (Phase.BOOTING, Phase.READY):
            booting = before is Phase.BOOTING
            self._blame(worker, Failure(action.reason, hung=isinstance(action, Abort)), now, booting=booting)

    def _did_of_upgrade(self, action: StartSuccessor | HandOver | EndSuccessor | TellPredecessor, now: float) -> None:
        match action:
            case StartSuccessor():
                self.succession.started(now)
            case HandOver():
                self.succession.hand_over(now)
            case EndSuccessor(kill=True):
                self.succession.killed()
            case EndSuccessor():
                drains = self.ending and not self.fast
                longest = max((pool.terms.graceful_timeout for pool in self.pools.values()), default=0.0) + MARGIN
                self.succession.end(now, END_GRACE + (longest if drains else 0.0))
            case TellPredecessor():
                if self.predecessor is not None:
                    self.predecessor.told_at = now

    def _try_again(self, pool: Pool) -> None:
        if pool.candidate is not None:
            pool.candidate.failure, pool.candidate.alone = None, True

    def _adopt(self, pool: Pool) -> None:
        candidate = pool.candidate
        if candidate is None:
            return
        if candidate.terms.workers != pool.terms.workers:  # else the operator's TTIN and TTOU stand
            self._set_target(pool, candidate.terms.workers)
        pool.generation, pool.terms, pool.candidate = candidate.generation, candidate.terms, None
        pool.refused, pool.recast = "", False
        for slot in pool.slots.values():
            slot.forgive()

    def _set_target(self, pool: Pool, target: int) -> None:
        pool.target = max(1, target)
        for number in [number for number in pool.slots if number >= pool.target]:
            del pool.slots[number]

    def _fail_the_candidate(self, candidate: Candidate, failure: Failure, slot: int) -> None:
        if candidate.failure is None:
            candidate.failure = failure
            candidate.culprit = "mold" if slot == MOLD else "first worker"

    def _blame(self, worker: Worker, failure: Failure, now: float, *, booting: bool) -> None:
        pool = self.pools[worker.pool]
        if self.ending:
            return
        if pool.candidate is not None and pool.candidate.generation == worker.generation:
            self._fail_the_candidate(pool.candidate, failure, worker.slot)
            return
        if worker.generation > pool.generation or worker.slot >= pool.target:
            return
        slot = pool.slot(worker.slot)
        if any(_served_steadily(mate, slot, now) for mate in self.workers.values() if _shares_slot(mate, worker)):
            slot.forgive()
        slot.blame(failure, worker.generation, now, self._chance, booting=booting)
        slot.waits = booting and pool.terms.develop


def _shares_slot(one: Worker, other: Worker) -> bool:
    return (one.pool, one.slot) == (other.pool, other.slot)


def _served_steadily(worker: Worker, slot: Slot, now: float) -> bool:
    """It became ready after the slot's last failure and has served for long enough to end the row."""
    return worker.ready_at is not None and worker.ready_at >= slot.failed_at and now - worker.ready_at >= STEADY
