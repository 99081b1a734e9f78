"""The rules: from what the roster knows to what is to be done next. Pure; the order of the rules is the law.

A plan is one step. The rules of the present stage are asked in order, and the first that has anything to say ends
the plan, so that each rule sees the effects of those before it. Whoever acts on a plan tells the roster what was
done and plans again, until a plan holds nothing but `WaitUntil`. Planning twice without acting gives the same plan.

A deadline is only ever looked at through `Clock.passed`, which remembers the nearest one that lies ahead: the time to
wake at cannot drift from the rules.

How a reload goes (`palfrey/master/roster.py` takes the events):

- The generation is a *candidate* and one worker of it, the canary, is forked beside the worker of slot 0. Nothing
  else changes. The canary ready: adopted. The canary failed in whatever way: refused, and the old generation, its
  settings and its worker count stand as before.
- Once adopted, slot by slot in order, one at a time: a successor is forked beside its predecessor, which retires when
  the successor is ready. Empty slots are filled with the adopted generation at once.
- A successor that fails at a later slot: the generation stays adopted, that slot keeps its old worker and is tried
  again with backoff, the slots behind it wait with their old workers.
- A second reload supersedes the first: an undecided canary and an unfinished successor are told to quit, the new
  canary decides. If it is refused, the roll-out of the generation adopted before goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from palfrey.errors import EXIT_BOOT
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
from palfrey.master.records import Candidate, Phase, Pool, Slot, Worker

if TYPE_CHECKING:
    from palfrey.master.roster import Roster

MARGIN = 5.0
"""Seconds beyond graceful_timeout that a draining worker has: its own deadline comes first, then lifespan shutdown."""
QUIT_GRACE = 5.0
"""Seconds for a worker that was told to quit, or that said that it failed, to be gone."""
ABORT_GRACE = 2.0
"""Seconds for a hanging worker to write its stack down before it is killed."""
LOST_GRACE = 1.0
"""Seconds between the end of a worker's channel and its exit: any longer, and it lives on without one."""
MAX_SURGE = 1
"""Slots that may have a successor booting beside a serving worker at one time."""
FIRST_TRIES = 3
"""Deaths of each slot, before anybody was ever ready, after which the start is given up."""


class Clock:
    """The time of one plan, and the nearest deadline ahead that any rule has asked for."""

    __slots__ = ("nearest", "now")

    def __init__(self, now: float) -> None:
        self.now = now
        self.nearest: float | None = None

    def passed(self, deadline: float) -> bool:
        if self.now >= deadline:
            return True
        if self.nearest is None or deadline < self.nearest:
            self.nearest = deadline
        return False


def make_plan(roster: Roster, now: float) -> list[Action]:
    """The next step and, last in the list, when to plan anew if nothing happens before."""
    clock = Clock(now)
    for rule in ENDING if roster.ending else RUNNING:
        actions = list(rule(roster, clock))
        if actions:
            return [*actions, WaitUntil(now)]
    return [WaitUntil(clock.nearest)]


# Rules of every stage


def part_with_the_overdue(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Each phase has its patience; beyond it the worker is made to go on."""
    for worker in roster.workers.values():
        overdue = _OVERDUE.get(worker.phase)
        action = overdue(worker, clock, roster.awake_since) if overdue is not None else None
        if action is not None:
            yield action


def _overdue_booting(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    limit = worker.terms.boot_timeout
    if limit and clock.passed(max(worker.born, awake_since) + limit):
        return Abort(worker.pid, f"did not become ready within {limit:g} s")
    if worker.lost_at is not None and clock.passed(worker.lost_at + LOST_GRACE):
        return Kill(worker.pid, "closed its channel to the arbiter before it was ready")
    return None


def _overdue_serving(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    """A loop that has not turned for `timeout`. A draining worker's has to turn as well, unless it never served."""
    limit = worker.terms.timeout
    if not limit or worker.ready_at is None:
        return None
    if clock.passed(max(worker.heartbeat, worker.ready_at, awake_since) + limit):
        return Abort(worker.pid, f"has not answered for {limit:g} s")
    return None


def _overdue_draining(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    limit = worker.terms.graceful_timeout
    if clock.passed(worker.since + limit + MARGIN):
        return Kill(worker.pid, f"did not end within {limit:g} + {MARGIN:g} s of being told to drain")
    return _overdue_serving(worker, clock, awake_since)


def _overdue_quitting(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    if clock.passed(worker.since + QUIT_GRACE):
        return Kill(worker.pid, f"did not end within {QUIT_GRACE:g} s")
    return None


def _overdue_aborted(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    if clock.passed(worker.since + ABORT_GRACE):
        return Kill(worker.pid, "did not answer SIGABRT either")
    return None


_OVERDUE: dict[Phase, Callable[[Worker, Clock, float], Action | None]] = {
    Phase.BOOTING: _overdue_booting,
    Phase.READY: _overdue_serving,
    Phase.FAILED: _overdue_quitting,
    Phase.DRAINING: _overdue_draining,
    Phase.QUITTING: _overdue_quitting,
    Phase.ABORTED: _overdue_aborted,
}


# Rules while the service runs


def give_up_a_first_start(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Until somebody was ready, an application that cannot be served ends the server, and so does endless dying."""
    for pool in roster.pools.values():
        if pool.served:
            continue
        failures = [(slot, slot.last) for slot in pool.wanted() if slot.last is not None]
        for _, failure in failures:
            if failure.final:
                yield Halt(EXIT_BOOT, failure.reason, failure.detail)
                return
        if len(failures) == pool.target and all(hopeless(slot) for slot, _ in failures):
            slot, failure = failures[0]
            tries = "" if failure.hung else f" ({slot.failures - 1} times)"
            yield Halt(EXIT_BOOT, f"no worker came to serve: worker {slot.number + 1} {failure.reason}{tries}", "")
            return


def hopeless(slot: Slot) -> bool:
    """It hung, or died FIRST_TRIES times. (A failed boot starts the count at 2, see `Slot.blame`.)"""
    return slot.last is not None and (slot.last.hung or slot.failures > FIRST_TRIES)


def judge_the_canary(roster: Roster, clock: Clock) -> Iterator[Action]:
    for pool in roster.pools.values():
        candidate = pool.candidate
        if candidate is None:
            continue
        failure = candidate.failure
        if failure is not None:
            reason = failure.reason if failure.final else f"its first worker {failure.reason}"
            yield Refuse(pool.name, candidate.generation, reason, failure.detail)
        elif any(worker.phase is Phase.READY for worker in _of(roster, pool, candidate.generation)):
            yield Adopt(pool.name, candidate.generation)


def let_go(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Whoever has no place, or has a better one beside him."""
    for pool in roster.pools.values():
        for worker in _present(roster, pool):
            reason = _superfluous(roster, pool, worker, clock)
            if reason is not None:
                yield Quit(worker.pid, reason) if worker.phase is Phase.BOOTING else Retire(worker.pid, reason)


def _superfluous(roster: Roster, pool: Pool, worker: Worker, clock: Clock) -> str | None:
    """Why the worker is to go, or None."""
    keeper = _keeper(roster, pool, worker.slot, clock)
    booting = worker.phase is Phase.BOOTING
    reason = None
    if worker.slot >= pool.target:
        reason = "is one too many"
    elif _is_canary(pool, worker):
        pass
    elif worker.generation > pool.generation:
        reason = "belongs to a reload that was superseded or refused"
    elif booting and worker.generation < pool.generation:
        reason = "was superseded"
    elif booting and pool.candidate is not None and keeper is not None:
        reason = "makes way for a newer reload"
    elif not booting and worker is not keeper:
        reason = "has its successor"
    return reason


def fill(roster: Roster, clock: Clock) -> Iterator[Action]:
    """The canary first; then every empty slot; then, as far as the surge goes, successors."""
    for pool in roster.pools.values():
        if pool.candidate is not None and not any(_of(roster, pool, pool.candidate.generation)):
            yield Spawn(pool.name, 0, pool.candidate.generation)
        seats = [
            (slot, _keeper(roster, pool, slot.number, clock), _booting(roster, pool, slot)) for slot in pool.wanted()
        ]
        surging = sum(1 for _, keeper, booting in seats if keeper and booting)
        for slot, keeper, booting in seats:
            if keeper is None and not booting and clock.passed(slot.not_before):
                yield Spawn(pool.name, slot.number, pool.generation)
        if pool.candidate is None and surging < MAX_SURGE:
            slot_to_renew = _next_to_renew(pool, seats, clock)
            if slot_to_renew is not None:
                yield Spawn(pool.name, slot_to_renew.number, pool.generation)


def _next_to_renew(pool: Pool, seats: list[tuple[Slot, Worker | None, bool]], clock: Clock) -> Slot | None:
    """The first slot of an older generation, when its backoff allows it, or else the first with a tired worker."""
    for slot, keeper, booting in seats:
        if keeper is not None and not booting and keeper.generation < pool.generation:
            if clock.passed(slot.not_before):
                return slot
            break
    for slot, keeper, booting in seats:
        if keeper is None or booting or keeper.generation < pool.generation:
            continue
        if _worn(keeper, clock) and clock.passed(slot.not_before):
            return slot
    return None


def announce(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Every slot serves the generation or has failed to at least once, and at least one serves."""
    for pool in roster.pools.values():
        if pool.announced == pool.generation:
            continue
        serving = [
            slot.number
            for slot in pool.wanted()
            if (keeper := _keeper(roster, pool, slot.number, clock)) and keeper.generation == pool.generation
        ]
        tried = all(slot.number in serving or slot.failed_generation == pool.generation for slot in pool.wanted())
        if serving and tried:
            yield Announce(pool.name, pool.generation, len(serving), pool.target)


# Rules while the service ends


def close_the_listeners(roster: Roster, clock: Clock) -> Iterator[Action]:
    if not roster.listeners_closed:
        yield CloseListeners()


def tell_the_workers(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Also those that drain already: the last one to close a listener has to know that it may be the last. Who boots
    has nothing to finish."""
    for worker in roster.workers.values():
        if worker.phase not in (Phase.BOOTING, Phase.READY, Phase.DRAINING):
            continue
        if roster.fast or worker.phase is Phase.BOOTING:
            yield Quit(worker.pid, "is to end with the service")
        elif not worker.stop_told:
            yield Stop(worker.pid)


def finish(roster: Roster, clock: Clock) -> Iterator[Action]:
    if not roster.workers:
        yield Finish(roster.exit_status)


Rule = Callable[["Roster", Clock], Iterator[Action]]
RUNNING: tuple[Rule, ...] = (
    part_with_the_overdue,
    give_up_a_first_start,
    judge_the_canary,
    let_go,
    fill,
    announce,
)
ENDING: tuple[Rule, ...] = (part_with_the_overdue, close_the_listeners, tell_the_workers, finish)


# Views of the records


def _present(roster: Roster, pool: Pool) -> list[Worker]:
    """The pool's workers that boot or serve: all that nobody has given up on."""
    return [
        worker
        for worker in roster.workers.values()
        if worker.pool == pool.name and worker.phase in (Phase.BOOTING, Phase.READY)
    ]


def _of(roster: Roster, pool: Pool, generation: int) -> list[Worker]:
    return [worker for worker in _present(roster, pool) if worker.generation == generation]


def _is_canary(pool: Pool, worker: Worker) -> bool:
    candidate: Candidate | None = pool.candidate
    return candidate is not None and worker.generation == candidate.generation


def _keeper(roster: Roster, pool: Pool, number: int, clock: Clock) -> Worker | None:
    """The slot's serving worker, and of several the one to keep: of the newest generation, not worn, the youngest."""
    serving = [
        worker
        for worker in _present(roster, pool)
        if worker.slot == number and worker.phase is Phase.READY and worker.generation <= pool.generation
    ]
    return max(serving, key=lambda w: (w.generation, not _worn(w, clock), w.born, w.pid), default=None)


def _booting(roster: Roster, pool: Pool, slot: Slot) -> bool:
    return any(
        worker.slot == slot.number and worker.phase is Phase.BOOTING and not _is_canary(pool, worker)
        for worker in _present(roster, pool)
    )


def _worn(worker: Worker, clock: Clock) -> bool:
    """It asked to be replaced, or lives on without a channel."""
    return worker.tired is not None or (worker.lost_at is not None and clock.passed(worker.lost_at + LOST_GRACE))
